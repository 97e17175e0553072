"""What a condition of a policy sees of a request and of a request for more time: each fact by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jit_service.domain.audit.event import Event
from jit_service.domain.caller import Caller
from jit_service.domain.conditions.signal import Signals
from jit_service.domain.errors import ConditionError, ConditionNotMet, NotApprover, PolicyNoLongerAllows
from jit_service.domain.frozen import replace
from jit_service.domain.grants import more_time, request, reviewing
from jit_service.domain.grants.grant import Grant
from jit_service.domain.grants.more_time import MoreTime
from jit_service.domain.grants.reviewing import ReviewRules
from jit_service.domain.grants.terms import Edits
from jit_service.domain.policies.policy import Policy, PrincipalSet
from tests.domain.factories import (
    ALICE,
    BOT,
    HOUR,
    NOON,
    alice,
    approved,
    ask,
    bob,
    caller,
    countered,
    extending,
    policy,
    step,
)

OPEN = Signals(live={"open": True})
SHUT = Signals(live={"open": False})
OF_A_REQUEST = [
    f'subject == "{ALICE}"',
    f'principal == "{ALICE}"',
    'resource == "database/orders/eu" && resources == ["database/orders/eu"]',
    'action == "read" && actions == ["read"]',
    'duration == duration("3600s")',
    'context.ticket == "T-1"',
    'context.source_ip == "192.0.2.7"',
    "claims.level == 2",
    '"engineering" in groups',
    'now == timestamp("2026-03-02T12:00:00Z")',
    "signals.open",
]
OF_MORE_TIME = [
    f'principal == "{ALICE}"',
    'duration == duration("1800s")',
    'context.source_ip == "192.0.2.9"',
    "claims.level == 3",
    'groups == ["engineering", "new"]',
    'now == timestamp("2026-03-02T12:00:00Z")',
    "signals.open",
]


def by(level: int, *groups: str, address: str = "192.0.2.7") -> Caller:
    one = caller(ALICE, "engineering", *groups)
    return one._replace(claims={"level": level}, origin=replace(one.origin, source_address=address))


def judged(under: Policy, *, signals: Signals = OPEN, now: Any = NOON) -> Grant:
    wanted = request.normalize(ask(context={"ticket": "T-1"}), now=NOON)
    return request.judge_request(wanted, policies=[under], by=by(2), grant_name="grants/g7", now=now, signals=signals)


def of_more_time(under: Policy, asker: Caller | None = None, *, signals: Signals = OPEN) -> Grant:
    asker = asker or by(3, "new", address="192.0.2.9")
    more = MoreTime(duration=HOUR / 2)
    wanted = more_time.with_extension(approved(), more, policy=under, by=asker, now=NOON)
    return request.judge_extension(wanted, policy=under, policies=[under], now=NOON, signals=signals)


@pytest.mark.parametrize("text", OF_A_REQUEST)
def test_a_request_is_judged_by_what_was_asked_for_by_whom_from_where_and_when(text: str) -> None:
    needless = replace(step("owners"), condition=f"!({text})")

    assert judged(policy(request_condition=text)).context == {"ticket": "T-1"}
    assert judged(policy(steps=(step("security"), needless))).skipped == {1}
    with pytest.raises(ConditionNotMet):
        judged(policy(request_condition=f"!({text})"))


@pytest.mark.parametrize("text", OF_MORE_TIME)
def test_more_time_is_judged_by_what_is_asked_for_then(text: str) -> None:
    assert of_more_time(extending(request_condition=text))
    with pytest.raises(ConditionNotMet):
        of_more_time(extending(request_condition=f"!({text})"))


def test_more_time_that_another_asks_for_is_judged_without_the_claims_and_groups_of_the_other() -> None:
    bot_asks = {"eligible": PrincipalSet(principals=(BOT, ALICE), groups=("engineering",))}
    under = extending(request_condition="has(claims.level)", **bot_asks)
    of_alice = replace(approved(), requester=BOT)
    wanted = more_time.with_extension(
        of_alice, MoreTime(duration=HOUR), policy=under, by=caller(BOT)._replace(claims={"level": 9}), now=NOON
    )

    with pytest.raises(ConditionError):
        request.judge_extension(wanted, policy=under, policies=[under], now=NOON)


def test_a_condition_that_cannot_be_judged_is_named() -> None:
    def told(under: Policy) -> str:
        with pytest.raises(ConditionError) as refused:
            judged(under)
        return refused.value.message

    bad = replace(step("owners"), condition="context.missing")

    assert told(policy(request_condition="context.missing")).startswith(
        "the request_condition of policies/orders cannot be judged: "
    )
    assert told(policy(steps=(step("owners"), bad))).startswith(
        "the condition of step 2 of policies/orders cannot be judged: "
    )


# Judged again, as things are now


WHILE_OPEN = 'signals.open && now < timestamp("2026-03-02T12:30:00Z")'


def as_now(under: Policy, signals: Signals = OPEN) -> ReviewRules:
    return ReviewRules(policy=under, policies=[under], signals=signals)


@pytest.mark.parametrize(("signals", "later"), [(SHUT, 0 * HOUR), (OPEN, HOUR)])
def test_every_decision_judges_the_request_by_the_signals_and_the_time_of_it(signals: Signals, later: Any) -> None:
    under, half = policy(request_condition=WHILE_OPEN), Edits(duration=HOUR / 2)
    asked = judged(under)
    offered = countered(asked, under=under, duration=HOUR / 2)

    def acts(rules: ReviewRules, now: Any) -> list[Any]:
        return [
            lambda: reviewing.approve(asked, rules=rules, by=bob(), comment="", now=now),
            lambda: reviewing.counter(asked, half, rules=rules, by=bob(), comment="", now=now),
            lambda: reviewing.accept(offered, rules=rules, by=alice(), comment="", now=now),
        ]

    for act in acts(as_now(under), NOON):
        assert act()
    for act in acts(as_now(under, signals), NOON + later):
        with pytest.raises(PolicyNoLongerAllows):
            act()


@pytest.mark.parametrize(("signals", "later"), [(SHUT, 0 * HOUR), (OPEN, HOUR * 3 / 4)])
def test_more_time_is_judged_by_the_signals_and_the_time_of_the_decision(signals: Signals, later: Any) -> None:
    under = extending(request_condition=WHILE_OPEN)
    more = MoreTime(duration=HOUR)
    asked, _ = reviewing.extend(approved(), more, rules=as_now(under), by=alice(), now=NOON)
    shown = reviewing.Shown(extension_round=1)

    def approve(rules: ReviewRules, now: Any) -> Grant:
        return reviewing.approve(asked, rules=rules, by=bob(), comment="", now=now, shown=shown)[0]

    assert approve(as_now(under), NOON).extension_count == 1
    with pytest.raises(PolicyNoLongerAllows):
        approve(as_now(under, signals), NOON + later)
    with pytest.raises(ConditionNotMet):
        reviewing.extend(approved(), more, rules=as_now(under, signals), by=alice(), now=NOON + later)


def counter(grant: Grant, **now: Any) -> tuple[Grant, Event]:
    return reviewing.counter(grant, Edits(duration=HOUR / 2), **now)


@pytest.mark.parametrize("decide", [reviewing.approve, reviewing.deny, counter])
@pytest.mark.parametrize("skipped", [frozenset({0}), frozenset()], ids=["not needed", "needed"])
def test_a_step_is_waited_for_as_the_signals_and_the_time_of_the_decision_have_it(
    decide: Callable[..., tuple[Grant, Event]], skipped: frozenset[int]
) -> None:
    """Also where it was needed at the request and is not now, or the other way round."""
    at_night = replace(step("security"), condition=f"!({WHILE_OPEN})")
    under = policy(steps=(at_night, step("owners")))
    waiting = replace(judged(under), skipped=skipped)

    decided, _ = decide(waiting, rules=as_now(under), by=bob(), comment="", now=NOON)

    assert [one.step for one in (*decided.reviews, decided.offer) if one is not None] == [1]
    for signals, now in ((SHUT, NOON), (OPEN, NOON + HOUR)):
        with pytest.raises(NotApprover, match="waits for step 1"):
            decide(waiting, rules=as_now(under, signals), by=bob(), comment="", now=now)


def test_more_time_that_the_holder_asks_for_is_asked_for_by_the_holder() -> None:
    under = extending(request_condition=f'principal == "{ALICE}"')
    of_bot = replace(approved(), requester=BOT)
    wanted = more_time.with_extension(of_bot, MoreTime(duration=HOUR), policy=under, by=alice(), now=NOON)

    assert request.judge_extension(wanted, policy=under, policies=[under], now=NOON)
