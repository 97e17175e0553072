"""More time: who may ask for it, its cap, and what is judged anew."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from jit_service.domain.caller import Caller
from jit_service.domain.conditions import kept_claims
from jit_service.domain.conditions.signal import Signals
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
from jit_service.domain.frozen import replace
from jit_service.domain.grants import approval, more_time, request
from jit_service.domain.grants.grant import ExtensionState, Grant, Justification, with_use
from jit_service.domain.grants.more_time import MoreTime
from jit_service.domain.policies.policy import JustificationRule, Policy, PrincipalSet, Step
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
    erin,
    extending,
    extension,
    pending,
    policy,
    revoke,
    step,
    withdraw,
)
from tests.domain.grants.test_grant import refused

DAY = timedelta(days=1)
FOR_BOT = extending(eligible=PrincipalSet(principals=(BOT,), groups=("engineering",)))


def more(duration: timedelta = HOUR, **justification: str) -> MoreTime:
    return MoreTime(duration=duration, justification=Justification(**justification))


def extended(grant: Grant, *, by: Caller | None = None, at: datetime = NOON, **changes: Any) -> Grant:
    return more_time.with_extension(grant, more(), policy=extending(**changes), by=by or alice(), now=at)


def judged(
    under: Policy,
    *others: Policy,
    wanted: MoreTime | None = None,
    by: Caller | None = None,
    signals: Signals | None = None,
) -> Grant:
    asked = more_time.with_extension(approved(), wanted or more(), policy=under, by=by or alice(), now=NOON)
    return request.judge_extension(
        asked, policy=under, policies=[under, *others], now=NOON, signals=signals or Signals()
    )


def fault(act: Callable[[], object]) -> str:
    error = refused(InvalidField, act)
    assert isinstance(error, InvalidField)
    return error.field


# Asking


def test_more_time_is_above_zero_and_at_most_thirty_days() -> None:
    assert more_time.normalize_more(more(TICK)).duration == TICK
    assert more_time.normalize_more(more(30 * DAY)).duration == 30 * DAY
    assert fault(lambda: more_time.normalize_more(more(timedelta()))) == "duration"
    assert fault(lambda: more_time.normalize_more(more(30 * DAY + TICK))) == "duration"


def test_the_why_is_brought_to_canonical_form() -> None:
    assert more_time.normalize_more(more(text="e\u0301")).justification.text == "é"
    assert fault(lambda: more_time.normalize_more(more(ticket="\x00"))) == "justification.ticket"


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
    asked = more_time.with_extension(grant, more(), policy=FOR_BOT, by=alice(), now=NOON)

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


# What it is given under

TIGHTER = extending(check_condition="signals.incident == 'on'", max_uses=1, idle_timeout=HOUR / 12, revision=4)


def test_more_time_is_given_under_the_condition_and_limits_of_now() -> None:
    """Seen: ALLOWED with the incident off, and uncounted, in time that was given after both were forbidden."""
    at = NOON + HOUR / 2

    longer = approve(extension(approved(), under=TIGHTER, at=at), under=TIGHTER, at=at)

    assert (longer.check_condition, longer.limits.max_uses) == ("signals.incident == 'on'", 1)
    assert (longer.limits.idle_timeout, longer.policy_revision) == (HOUR / 12, 4)
    assert longer.is_metered
    assert (longer.duration, longer.expires_at) == (2 * HOUR, at + HOUR / 12)


def test_more_time_without_a_step_is_given_under_the_terms_of_now_too() -> None:
    under = extending(steps=(), check_condition="false", max_uses=3, revision=4)

    longer = extension(approved(), under=under)

    assert (longer.check_condition, longer.limits.max_uses, longer.policy_revision) == ("false", 3, 4)


def test_what_was_loosened_is_looser_for_more_time() -> None:
    tighter = replace(TIGHTER, max_uses=0)
    strict = approve(pending(tighter), under=tighter)

    longer = approve(extension(strict), under=extending())

    assert (longer.check_condition, longer.is_metered, longer.expires_at) == ("", False, NOON + 2 * HOUR)


def test_more_time_gives_no_more_uses() -> None:
    """Fewer may have been asked for than the policy gave."""
    twice = approve(pending(extending(max_uses=5), max_uses=2), under=extending(max_uses=5))
    under = extending(max_uses=9)

    assert approve(extension(twice, under=under), under=under).limits.max_uses == 2


@pytest.mark.parametrize("steps", [(step("owners"),), ()])
def test_what_has_no_use_left_gets_no_more_time(steps: tuple[Step, ...]) -> None:
    under = extending(steps=steps, max_uses=2)
    grant = with_use(with_use(approve(pending(extending(max_uses=5)), under=extending(max_uses=5)), now=NOON), now=NOON)

    error = refused(PolicyNoLongerAllows, lambda: extension(grant, under=under))

    assert error.message == "grants/g7 was used 2 times; policies/orders would let it be used 2 times in all"
    assert extension(grant, under=replace(under, max_uses=3)).extension


def test_until_more_time_is_given_the_grant_is_what_it_was() -> None:
    """Also after a part of the approvals, a denial, a withdrawal, or where nobody decided."""
    under = replace(TIGHTER, steps=(step("owners", needed=2),))
    before = approved()
    asked = extension(before, under=under)
    half = approve(asked, under=under)

    for grant in (asked, half, deny(asked), withdraw(half)):
        assert (grant.check_condition, grant.limits, grant.policy_revision) == ("", before.limits, 3)
        assert (grant.duration, grant.expires_at) == (HOUR, NOON + HOUR)
    assert approve(half, by=erin(), under=under).policy_revision == 4


def test_the_record_of_a_review_of_more_time_says_by_which_revision_it_was_judged() -> None:
    under = replace(TIGHTER, steps=(step("owners", needed=2),))
    asked = extension(approved(), under=under)

    _, half = approval.approve(asked, policy=under, by=bob(), comment="", now=NOON)
    _, no = approval.deny(asked, policy=under, by=bob(), comment="", now=NOON)

    assert (half.policy_revision, no.policy_revision) == (4, 4)


def test_limits_of_now_count_from_the_approval_of_more_time() -> None:
    """A grant that nobody counted so far has not been idle, nor left unused."""
    at = NOON + HOUR / 2
    for under, ends in (
        (extending(idle_timeout=HOUR / 4), at + HOUR / 4),
        (extending(activation_window=HOUR / 4), at + HOUR / 4),
    ):
        longer = approve(extension(approved(), under=under, at=at), under=under, at=at)

        assert longer.expires_at == ends
        assert with_use(longer, now=at + TICK).expires_at == (
            NOON + 2 * HOUR if under.activation_window else at + TICK + HOUR / 4
        )


def test_limits_that_stay_go_on_counting() -> None:
    under = extending(idle_timeout=HOUR / 2)
    grant = with_use(approve(pending(under), under=under), now=NOON + HOUR / 4)

    longer = approve(extension(grant, under=under, at=NOON + HOUR / 2), under=under, at=NOON + HOUR / 2)

    assert (longer.limits, longer.expires_at) == (grant.limits, NOON + 3 * HOUR / 4)


def test_limits_that_are_given_for_later_count_from_the_start() -> None:
    under = extending(idle_timeout=HOUR / 4)
    later = approved(start_at=NOON + HOUR)

    assert approve(extension(later, under=under), under=under).expires_at == NOON + HOUR + HOUR / 4


def test_the_condition_of_now_sees_the_claims_of_now() -> None:
    under = extending(check_condition="claims.mfa")
    asked = more_time.with_extension(
        approved(), more(), policy=under, by=alice()._replace(claims={"mfa": True}), now=NOON
    )
    longer = more_time.lengthen(asked, under, now=NOON)
    bots = approve(pending(FOR_BOT, subject=BOT), under=FOR_BOT)
    by_another = more_time.with_extension(
        bots, more(), policy=under, by=alice()._replace(claims={"mfa": True}), now=NOON
    )

    assert kept_claims.told(longer.claims) == {"mfa": True}
    assert more_time.lengthen(by_another, under, now=NOON).claims == {}


def test_a_grant_without_its_facts_is_not_judged() -> None:
    """No transition leads there."""
    with pytest.raises(AssertionError, match="a fact is missing"):
        request.judge_extension(approved(), policy=extending(), policies=[], now=NOON)


def test_a_cap_tells_programs_the_grant_and_the_policy() -> None:
    for under in (policy(), extending(most=HOUR), extending(max_extensions=0)):
        with pytest.raises(ExtensionCap) as refused:
            extension(approved(), under=under)
        assert refused.value.metadata == {"grant": "grants/g7", "policy": "policies/orders"}


def test_a_deny_of_the_holder_by_name_gives_no_more_time() -> None:
    under = extending()
    wanted = more_time.with_extension(approved(), MoreTime(duration=HOUR), policy=under, by=alice(), now=NOON)
    deny = deny_policy(eligible=PrincipalSet(principals=(ALICE,)))

    with pytest.raises(DeniedByPolicy) as refused:
        request.judge_extension(wanted, policy=under, policies=[under, deny], now=NOON)
    assert refused.value.message == f"policies/no-contractors denies {ALICE} read on database/orders/eu"
