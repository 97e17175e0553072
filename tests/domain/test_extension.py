"""More time: who may ask for it, its cap, and what is judged anew."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from jit_service.domain import request
from jit_service.domain.caller import Caller
from jit_service.domain.errors import (
    ConditionError,
    ConditionNotMet,
    DeniedByPolicy,
    ExtensionCap,
    InvalidField,
    NotEligible,
    NotYours,
    PolicyNoLongerAllows,
    WrongState,
)
from jit_service.domain.grant import ExtensionState, Grant, Justification
from jit_service.domain.policy import JustificationRule, Policy, PrincipalSet, Step
from jit_service.domain.request import MoreTime
from jit_service.domain.signal import Signals
from tests.domain.factories import (
    ALICE,
    BOT,
    HOUR,
    NOON,
    TICK,
    alice,
    approve,
    approved,
    bob,
    caller,
    deny,
    deny_policy,
    extending,
    extension,
    pending,
    policy,
    revoke,
    withdraw,
)
from tests.domain.test_grant import refused

DAY = timedelta(days=1)
FOR_BOT = extending(eligible=PrincipalSet(principals=(BOT,), groups=("engineering",)))


def more(duration: timedelta = HOUR, **justification: str) -> MoreTime:
    return MoreTime(duration=duration, justification=Justification(**justification))


def extended(grant: Grant, *, by: Caller | None = None, at: datetime = NOON, **changes: Any) -> Grant:
    return request.extended(grant, more(), policy=extending(**changes), by=by or alice(), now=at)


def judged(
    under: Policy,
    *others: Policy,
    wanted: MoreTime | None = None,
    by: Caller | None = None,
    signals: Signals | None = None,
) -> Grant:
    asked = request.extended(approved(), wanted or more(), policy=under, by=by or alice(), now=NOON)
    return request.judge_extension(
        asked, policy=under, policies=[under, *others], now=NOON, signals=signals or Signals()
    )


def fault(act: Callable[[], object]) -> str:
    error = refused(InvalidField, act)
    assert isinstance(error, InvalidField)
    return error.field


# Asking


def test_more_time_is_above_zero_and_at_most_thirty_days() -> None:
    assert request.checked_more(more(TICK)).duration == TICK
    assert request.checked_more(more(30 * DAY)).duration == 30 * DAY
    assert fault(lambda: request.checked_more(more(timedelta()))) == "duration"
    assert fault(lambda: request.checked_more(more(30 * DAY + TICK))) == "duration"


def test_the_why_is_brought_to_canonical_form() -> None:
    assert request.checked_more(more(text="e\u0301")).justification.text == "é"
    assert fault(lambda: request.checked_more(more(ticket="\x00"))) == "justification.ticket"


def test_who_asked_for_or_holds_a_grant_asks_for_more_time() -> None:
    grant = approve(pending(FOR_BOT, subject=BOT), under=FOR_BOT)

    assert [extended(grant, by=by).extension_state(NOON) for by in (alice(), caller(BOT))] == ["PENDING"] * 2
    refused(NotYours, lambda: extended(grant, by=bob()))
    refused(NotYours, lambda: extended(grant, by=caller("user:ALICE@example.com")))


@pytest.mark.parametrize(
    "grant", [pending(), withdraw(pending()), deny(pending()), revoke(approved()), approved(at=NOON - HOUR)]
)
def test_only_live_access_gets_more_time(grant: Grant) -> None:
    refused(WrongState, lambda: extended(grant))


def test_access_gets_more_time_until_exactly_its_end() -> None:
    assert extended(approved(), at=NOON + HOUR - TICK).extension
    refused(WrongState, lambda: extended(approved(), at=NOON + HOUR))
    assert extended(approved(start_at=NOON + HOUR)).extension


def test_one_request_for_more_time_is_open_at_a_time() -> None:
    first = extension(approved())

    refused(WrongState, lambda: extended(first))
    assert extended(withdraw(first)).round == 2
    assert extended(deny(first)).round == 2


def test_a_request_for_more_time_lapses_with_the_grant_at_the_latest() -> None:
    soon = extended(approved(), request_ttl=HOUR / 2).extension
    late = extended(approved()).extension

    assert soon is not None
    assert late is not None
    assert (soon.expires_at, late.expires_at) == (NOON + HOUR / 2, NOON + HOUR)


# The cap


def test_a_policy_without_an_extension_rule_gives_none() -> None:
    error = refused(ExtensionCap, lambda: judged(policy()))

    assert error.message == "policies/orders lets no grant be extended"


def test_a_grant_lasts_no_longer_in_all_than_the_cap() -> None:
    assert judged(extending(most=4 * HOUR), wanted=more(3 * HOUR)).extension
    error = refused(ExtensionCap, lambda: judged(extending(most=4 * HOUR), wanted=more(3 * HOUR + TICK)))

    assert error.message == "grants/g7 would last 14400.000001s in all; policies/orders allows 14400s"
    assert error.metadata == {"grant": "grants/g7", "policy": "policies/orders"}


def test_the_cap_counts_from_the_start_and_with_what_was_added_before() -> None:
    under = extending(most=3 * HOUR)
    longer = approve(extension(approved(), under=under), under=under)

    assert extension(longer, HOUR, under=under).extension
    refused(ExtensionCap, lambda: extension(longer, HOUR + TICK, under=under, at=NOON + HOUR))


def test_a_grant_is_extended_as_often_as_the_policy_says() -> None:
    under = extending(max_extensions=1)
    once = approve(extension(approved(), under=under), under=under)

    error = refused(ExtensionCap, lambda: extension(once, TICK, under=under))

    assert error.message == "grants/g7 was extended 1 times; policies/orders allows 1"


def test_only_what_was_given_counts_as_an_extension() -> None:
    under = extending(max_extensions=1)
    denied = deny(extension(approved(), under=under))

    assert approve(extension(denied, under=under), under=under).extension_count == 1


def test_a_cap_that_was_lowered_stops_the_approval() -> None:
    asked = extension(approved())
    lower = extending(most=2 * HOUR - TICK, max_duration=HOUR)

    error = refused(PolicyNoLongerAllows, lambda: request.judge_again(asked, policy=lower, policies=[lower], now=NOON))

    assert "would last 7200s in all" in error.message
    assert request.judge_again(asked, policy=extending(), policies=[extending()], now=NOON) == asked


# Judged anew


def test_more_time_is_judged_by_the_policy_as_it_is() -> None:
    refused(NotEligible, lambda: judged(extending(disabled=True)))
    refused(NotEligible, lambda: judged(extending(resources=("database/users/**",))))
    refused(NotEligible, lambda: judged(extending(eligible=PrincipalSet(groups=("security",)))))


def test_more_time_is_for_who_is_eligible_now() -> None:
    refused(NotEligible, lambda: judged(extending(), by=caller(ALICE)))
    assert judged(extending(), by=caller(ALICE, "engineering", "new")).extension


def test_a_deny_that_came_after_the_request_gives_no_more_time() -> None:
    contractor = caller(ALICE, "engineering", "contractors")

    refused(DeniedByPolicy, lambda: judged(extending(), deny_policy(), by=contractor))
    assert judged(extending(), deny_policy()).extension


def test_a_deny_for_any_group_applies_where_another_asks_for_more_time() -> None:
    grant = approve(pending(FOR_BOT, subject=BOT), under=FOR_BOT)
    asked = request.extended(grant, more(), policy=FOR_BOT, by=alice(), now=NOON)

    refused(
        DeniedByPolicy,
        lambda: request.judge_extension(asked, policy=FOR_BOT, policies=[FOR_BOT, deny_policy()], now=NOON),
    )
    assert request.judge_extension(asked, policy=FOR_BOT, policies=[FOR_BOT], now=NOON)


def test_more_time_needs_a_why_where_the_policy_asks_for_one() -> None:
    under = extending(justification=JustificationRule(required=True))

    assert judged(under, wanted=more(text="not done")).extension
    assert fault(lambda: judged(under)) == "justification.text"


def test_the_condition_sees_how_much_more_is_asked_for_and_by_whom() -> None:
    under = extending(request_condition=f"duration <= duration('3600s') && principal == '{ALICE}'")

    assert judged(under).extension
    refused(ConditionNotMet, lambda: judged(under, wanted=more(HOUR + TICK)))
    refused(ConditionError, lambda: judged(extending(request_condition="signals.window")))
    assert judged(extending(request_condition="signals.window"), signals=Signals(live={"window": True})).extension


def test_the_condition_sees_the_claims_of_who_asks_for_more_time() -> None:
    under = extending(request_condition="claims.mfa")

    assert judged(under, by=alice()._replace(claims={"mfa": True})).extension
    refused(ConditionError, lambda: judged(under))


def test_steps_whose_condition_does_not_hold_now_are_skipped() -> None:
    short = extending(
        steps=(Step(approvers=PrincipalSet(groups=("owners",)), condition="duration > duration('3600s')"),)
    )

    assert extension(approved(), under=short).extension_state(NOON) is ExtensionState.APPROVED
    assert extension(approved(), HOUR + TICK, under=short).extension_state(NOON) is ExtensionState.PENDING


def test_a_grant_without_its_facts_is_not_judged() -> None:
    """No transition leads there."""
    with pytest.raises(AssertionError, match="a fact is missing"):
        request.judge_extension(approved(), policy=extending(), policies=[], now=NOON)
