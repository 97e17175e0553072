"""Access that is passed on: to whom, how deep, and never more than what it came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from jit_service.domain.audit.event import EventType
from jit_service.domain.caller import Caller
from jit_service.domain.conditions.kept_claims import told
from jit_service.domain.errors import (
    ChildNotAllowed,
    DeniedByPolicy,
    ExtensionCap,
    InvalidField,
    NotYours,
    WrongState,
)
from jit_service.domain.grants import approval, children, coverage, more_time
from jit_service.domain.grants import grant as rules
from jit_service.domain.grants.grant import Grant, GrantState, Justification
from jit_service.domain.policies.policy import Policy, PrincipalSet
from tests.domain.factories import (
    ALICE,
    BOB,
    BOT,
    HOUR,
    NOON,
    TICK,
    admin,
    alice,
    approve,
    approved,
    ask,
    bob,
    caller,
    deny_policy,
    extending,
    pending,
    policy,
    release,
    revoke,
)
from tests.domain.grants.test_grant import refused

AGENT = "service:agent"
MINUTE = HOUR / 60
DEEP = policy(max_child_depth=2)


def parent(under: Policy = DEEP, **asked: Any) -> Grant:
    """alice's access to part of the orders, for an hour."""
    wide: dict[str, Any] = {"resources": ("database/orders/*",), "actions": ("read", "rows.*"), "duration": HOUR}
    return approve(pending(under, **(wide | asked)), under=under)


def passed_on(
    above: Grant,
    *others: Policy,
    under: Policy = DEEP,
    by: Caller | None = None,
    at: datetime = NOON,
    **asked: Any,
) -> Grant:
    wanted = ask(**({"subject": BOT, "parent": above.name} | asked))
    return children.judge_child(
        wanted, above, policies=[under, *others], by=by or alice(), grant_name="grants/g8", now=at
    )


def fault(act: Callable[[], object]) -> str:
    error = refused(InvalidField, act)
    assert isinstance(error, InvalidField)
    return error.field


# Who and how deep


def test_what_is_passed_on_is_active_at_once_and_says_where_it_came_from() -> None:
    child = passed_on(parent(), duration=MINUTE)

    assert (child.state(NOON), child.expires_at) == (GrantState.ACTIVE, NOON + MINUTE)
    assert (child.requester, child.subject, child.chain, child.parent) == (ALICE, BOT, ("grants/g7",), "grants/g7")
    assert (child.policy, child.steps, child.reviews) == ("policies/orders", (), ())
    assert parent().parent == ""


def test_only_the_holder_passes_it_on() -> None:
    for_bot = policy(eligible=PrincipalSet(principals=(BOT,), groups=("engineering",)), max_child_depth=2)
    held_by_bot = parent(for_bot, subject=BOT)

    refused(NotYours, lambda: passed_on(parent(), by=bob()))
    refused(NotYours, lambda: passed_on(parent(), by=admin()))
    refused(NotYours, lambda: passed_on(parent(), by=caller("user:ALICE@example.com")))
    refused(NotYours, lambda: passed_on(held_by_bot, by=alice(), subject=AGENT))
    assert passed_on(held_by_bot, by=caller(BOT), subject=AGENT, under=for_bot).requester == BOT


def test_it_is_passed_on_to_services_and_to_oneself() -> None:
    assert passed_on(parent(), subject=AGENT).subject == AGENT
    assert passed_on(parent(), subject=ALICE).subject == ALICE
    refused(ChildNotAllowed, lambda: passed_on(parent(), subject=BOB))


def test_it_is_passed_on_as_deep_as_the_policy_lets_it() -> None:
    child = replace(passed_on(parent()), name="grants/g8")
    grandchild = replace(passed_on(child, by=caller(BOT), subject=AGENT), name="grants/g9")

    assert grandchild.chain == ("grants/g7", "grants/g8")
    error = refused(ChildNotAllowed, lambda: passed_on(grandchild, by=caller(AGENT)))
    assert error.message == "grants/g9 may not be passed on: policies/orders allows 2 below a grant of its own"


def test_a_policy_passes_nothing_on_unless_it_says_so() -> None:
    refused(ChildNotAllowed, lambda: passed_on(parent(), under=policy()))
    refused(ChildNotAllowed, lambda: passed_on(parent(), under=replace(DEEP, disabled=True)))
    refused(ChildNotAllowed, lambda: passed_on(parent(), under=replace(DEEP, name="policies/other")))


def test_only_active_access_is_passed_on() -> None:
    refused(WrongState, lambda: passed_on(pending(DEEP)))
    refused(WrongState, lambda: passed_on(approved(start_at=NOON + TICK)))
    refused(WrongState, lambda: passed_on(revoke(parent())))
    refused(WrongState, lambda: passed_on(parent(), at=NOON + HOUR))
    assert passed_on(parent(), at=NOON + HOUR - TICK).expires_at == NOON + HOUR


def test_a_deny_beats_what_is_passed_on() -> None:
    of_bot = deny_policy(eligible=PrincipalSet(principals=(BOT,)))
    of_contractors = deny_policy()

    refused(DeniedByPolicy, lambda: passed_on(parent(), of_bot))
    refused(DeniedByPolicy, lambda: passed_on(parent(), of_contractors))
    assert passed_on(parent(), of_contractors, subject=ALICE)
    assert passed_on(parent(), deny_policy(eligible=PrincipalSet(principals=(BOB,))))


# Never more


@pytest.mark.parametrize("wider", ["database/orders/**", "database/orders/eu/x", "database/users"])
def test_what_is_passed_on_is_not_wider_in_resources(wider: str) -> None:
    error = refused(InvalidField, lambda: passed_on(parent(), resources=("database/orders/eu", wider)))

    assert error.message == f"resources[1]: {wider} is not within grants/g7"
    assert passed_on(parent(), resources=("database/orders/*",)).resources == ("database/orders/*",)


def test_what_is_passed_on_is_not_wider_in_actions() -> None:
    assert fault(lambda: passed_on(parent(), actions=("**",))) == "actions[0]"
    assert fault(lambda: passed_on(parent(), actions=("read", "write"))) == "actions[1]"
    assert passed_on(parent(), actions=("rows.*", "read")).actions == ("rows.*", "read")


def test_what_is_passed_on_lasts_no_longer() -> None:
    later = NOON + HOUR / 2

    assert passed_on(parent(), at=later, duration=HOUR / 2).expires_at == NOON + HOUR
    error = refused(InvalidField, lambda: passed_on(parent(), at=later, duration=HOUR / 2 + TICK))
    assert error.message == "duration: is 1800.000001s; grants/g7 lasts 1800s more"


def test_without_a_duration_it_lasts_as_long_as_what_it_came_from() -> None:
    assert passed_on(parent(), at=NOON + HOUR / 2).expires_at == NOON + HOUR


def test_a_child_of_a_child_lasts_no_longer_than_either() -> None:
    child = passed_on(parent(), duration=MINUTE)

    assert passed_on(child, by=caller(BOT), subject=AGENT).expires_at == NOON + MINUTE
    assert fault(lambda: passed_on(child, by=caller(BOT), subject=AGENT, duration=MINUTE + TICK)) == "duration"


def test_what_is_passed_on_has_no_more_uses_than_are_left() -> None:
    under = replace(DEEP, max_uses=3)
    used_once = rules.with_use(parent(under), now=NOON)

    assert passed_on(used_once, under=under).limits.max_uses == 2
    assert passed_on(used_once, under=under, max_uses=2).limits.max_uses == 2
    assert passed_on(used_once, under=under, max_uses=1).limits.max_uses == 1
    error = refused(InvalidField, lambda: passed_on(used_once, under=under, max_uses=3))
    assert error.message == "max_uses: is 3; grants/g7 has 2 left"


def test_what_is_used_up_is_not_passed_on() -> None:
    under = replace(DEEP, max_uses=1)

    assert fault(lambda: passed_on(rules.with_use(parent(under), now=NOON), under=under)) == "max_uses"


def test_of_unlimited_access_any_number_of_uses_is_passed_on() -> None:
    assert passed_on(parent()).limits.max_uses == 0
    assert passed_on(parent(), max_uses=5).limits.max_uses == 5


def test_a_child_ends_no_later_than_its_parent_does_unless_that_is_used() -> None:
    under = replace(DEEP, activation_window=MINUTE)
    unused = parent(under)

    child = passed_on(unused, under=under)

    assert (child.expires_at, child.latest_end) == (NOON + MINUTE, NOON + HOUR)
    assert child.limits.activation_window == HOUR * 0


def test_a_child_keeps_the_idle_timeout_and_the_condition() -> None:
    under = replace(DEEP, idle_timeout=10 * MINUTE, check_condition="claims.mfa")

    child = passed_on(parent(under), under=under)

    assert (child.limits.idle_timeout, child.expires_at) == (10 * MINUTE, NOON + 10 * MINUTE)
    assert (child.check_condition, child.claims) == ("claims.mfa", {})


def test_a_child_for_oneself_has_the_claims_that_its_condition_may_read() -> None:
    under = replace(DEEP, check_condition="claims.mfa")
    by = alice()._replace(claims={"mfa": True})

    assert told(passed_on(parent(under), under=under, by=by, subject=ALICE).claims) == {"mfa": True}
    assert passed_on(parent(), by=by, subject=ALICE).claims == {}


# What does not go together


def test_what_is_passed_on_is_under_the_same_policy_at_once_and_no_emergency() -> None:
    assert passed_on(parent(), policy="policies/orders").policy == "policies/orders"
    assert fault(lambda: passed_on(parent(), policy="policies/other")) == "policy"
    assert fault(lambda: passed_on(parent(), start_at=NOON)) == "parent"
    assert fault(lambda: passed_on(parent(), break_glass=True)) == "parent"


def test_what_is_passed_on_is_not_extended() -> None:
    more = more_time.MoreTime(duration=MINUTE)

    error = refused(
        ExtensionCap,
        lambda: more_time.with_extension(passed_on(parent()), more, policy=extending(), by=caller(BOT), now=NOON),
    )

    assert error.message == "grants/g8 was passed on, and ends with grants/g7 at the latest"


def test_asking_for_the_same_part_again_is_answered_with_it() -> None:
    child = passed_on(parent())

    assert coverage.is_covered_by(ask(subject=BOT, parent="grants/g7"), child, policies=[DEEP], now=NOON)
    assert not coverage.is_covered_by(ask(subject=BOT, parent="grants/g6"), child, policies=[DEEP], now=NOON)


def test_a_grant_with_fewer_uses_left_than_are_asked_for_does_not_cover_it() -> None:
    limited = pending(policy(max_uses=2, steps=()))
    used_once, used_up = (
        rules.with_use(limited, now=NOON),
        rules.with_use(rules.with_use(limited, now=NOON), now=NOON),
    )

    assert coverage.is_covered_by(ask(max_uses=2), limited, policies=[], now=NOON)
    assert not coverage.is_covered_by(ask(max_uses=2), used_once, policies=[], now=NOON)
    assert coverage.is_covered_by(ask(), used_once, policies=[], now=NOON)
    assert not coverage.is_covered_by(ask(), used_up, policies=[], now=NOON)


# Its record, and its end with the parent


def test_the_event_says_what_was_passed_on_and_why() -> None:
    child = passed_on(parent(), justification=Justification(text="nightly job"))
    silent = passed_on(parent())

    _, event = approval.open_child(child, by=alice(), now=NOON)

    assert (event.type, event.principal, event.subject, event.chain) == (
        EventType.GRANT_REQUESTED,
        ALICE,
        BOT,
        ("grants/g7",),
    )
    assert (event.decision, event.message, event.groups) == ("ACTIVE", "nightly job", ("engineering",))
    assert approval.open_child(silent, by=alice(), now=NOON)[1].message == "passed on from grants/g7"


def test_what_ends_above_ends_what_was_passed_on() -> None:
    above = release(parent(), at=NOON + MINUTE)

    child, event = rules.revoke_with_parent(passed_on(parent()), parent=above, by=alice(), now=NOON + MINUTE)

    assert child.state(NOON + MINUTE) is GrantState.REVOKED
    assert (event.type, event.principal, event.held) == (EventType.GRANT_REVOKED, ALICE, MINUTE)
    assert event.message == "grants/g7 was released, and this one came from it"
    assert event.at == NOON + MINUTE
    assert child.end is not None
    assert child.end.comment == event.message


def test_what_ran_out_above_ends_what_was_passed_on_by_that_name() -> None:
    _, event = rules.revoke_with_parent(passed_on(parent()), parent=parent(), by=alice(), now=NOON + HOUR)

    assert event.message == "grants/g7 was expired, and this one came from it"


def test_a_child_is_released_by_its_holder_and_revoked_by_who_passed_it_on() -> None:
    assert release(passed_on(parent()), by=caller(BOT)).end
    assert revoke(passed_on(parent()), by=alice()).end
    refused(NotYours, lambda: release(passed_on(parent()), by=alice()))
