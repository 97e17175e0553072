"""Delegations: who may give whose right to whom, for how long, and who ends and sees that."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from jit_service.domain.audit.event import EventType
from jit_service.domain.caller import Caller
from jit_service.domain.errors import InvalidField, NotYours, WrongState
from jit_service.domain.grants import delegation as rules
from jit_service.domain.grants.delegation import Delegation, NewDelegation
from tests.domain.factories import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    HOUR,
    NOON,
    TICK,
    admin,
    alice,
    auditor,
    bob,
    caller,
    carol,
    dave,
    in_place_of,
)
from tests.domain.grants.test_grant import refused

DAY = timedelta(days=1)


def created(by: Caller | None = None, **changes: Any) -> Delegation:
    facts: dict[str, Any] = {"delegate": DAVE, "expires_at": NOON + DAY}
    return rules.create(NewDelegation(**(facts | changes)), delegation_name="delegations/d1", by=by or bob(), now=NOON)[
        0
    ]


def fault(by: Caller | None = None, **changes: Any) -> str:
    error = refused(InvalidField, lambda: created(by, **changes))
    assert isinstance(error, InvalidField)
    return error.field


def test_a_delegation_holds_from_its_start_to_exactly_before_its_end() -> None:
    delegation = created(starts_at=NOON + HOUR, expires_at=NOON + 2 * HOUR)

    assert not delegation.is_active(NOON + HOUR - TICK)
    assert delegation.is_active(NOON + HOUR)
    assert delegation.is_active(NOON + 2 * HOUR - TICK)
    assert not delegation.is_active(NOON + 2 * HOUR)


def test_without_a_start_a_delegation_holds_at_once() -> None:
    assert created().is_active(NOON)


def test_what_is_delegated_is_the_right_that_the_delegators_token_proved() -> None:
    right = created(policies=("policies/orders", "orders", "users")).right

    assert (right.holder, right.groups, right.delegation) == (BOB, bob().groups, "delegations/d1")
    assert right.policies == {"policies/orders", "policies/users"}


def test_what_was_delegated_to_the_delegator_stays_with_it() -> None:
    right = created(by=in_place_of(dave(), bob()), delegate=CAROL).right

    assert (right.holder, right.groups) == (DAVE, frozenset())


def test_the_delegates_own_right_comes_before_those_of_others() -> None:
    by = carol()._replace(delegated=(created(policies=("policies/orders",)).right,))

    assert [right.holder for right in by.rights("policies/orders")] == [CAROL, BOB]
    assert [right.holder for right in by.rights("policies/users")] == [CAROL]


def test_nobody_delegates_to_itself_in_any_letter_case() -> None:
    assert fault(delegate=BOB) == "delegation.delegate"
    assert fault(delegate="user:BOB@example.com") == "delegation.delegate"
    with pytest.raises(InvalidField):
        rules.create(
            NewDelegation(delegate="user:Bob", expires_at=NOON + DAY),
            delegation_name="d",
            by=caller("user:bob"),
            now=NOON,
        )


def test_a_delegation_starts_from_now_to_thirty_days_ahead() -> None:
    assert created(starts_at=NOON).starts_at == NOON
    assert created(starts_at=NOON + 30 * DAY, expires_at=NOON + 31 * DAY).starts_at == NOON + 30 * DAY
    assert fault(starts_at=NOON - TICK) == "delegation.start_time"
    assert fault(starts_at=NOON + 30 * DAY + TICK, expires_at=NOON + 31 * DAY) == "delegation.start_time"


def test_a_delegation_ends_after_its_start_by_at_most_thirty_days() -> None:
    assert created(expires_at=NOON + TICK).expires_at == NOON + TICK
    assert created(expires_at=NOON + 30 * DAY).expires_at == NOON + 30 * DAY
    assert fault(expires_at=NOON) == "delegation.expire_time"
    assert fault(expires_at=NOON + 30 * DAY + TICK) == "delegation.expire_time"


def test_a_delegation_is_for_at_most_a_hundred_policies() -> None:
    many = tuple(f"policies/p{index}" for index in range(101))

    assert len(created(policies=many[:100]).policies) == 100
    assert fault(policies=many) == "delegation.policies"


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("delegation.delegate", {"delegate": "dave"}),
        ("delegation.policies[1]", {"policies": ("policies/a", "policies/A")}),
        ("delegation.comment", {"comment": "\x1b[2J"}),
    ],
)
def test_a_malformed_field_is_named(field: str, changes: dict[str, Any]) -> None:
    assert fault(**changes) == field


def test_the_event_of_a_delegation_says_who_lets_whom_for_how_long() -> None:
    wanted = NewDelegation(delegate=DAVE, expires_at=NOON + DAY, comment="holidays")

    _, event = rules.create(wanted, delegation_name="delegations/d1", by=bob(), now=NOON)

    assert (event.type, event.principal, event.subject) == (EventType.DELEGATION_CREATED, BOB, DAVE)
    assert (event.delegation, event.duration, event.message) == ("delegations/d1", DAY, "holidays")


def test_the_delegator_and_admins_end_a_delegation_at_once() -> None:
    for by in (bob(), admin()):
        gone, event = rules.delete(created(), by=by, now=NOON + HOUR)

        assert not gone.is_active(NOON + HOUR)
        assert (gone.deleted_at, event.type, event.principal) == (
            NOON + HOUR,
            EventType.DELEGATION_DELETED,
            by.principal,
        )


@pytest.mark.parametrize(
    "by", [dave(), alice(), auditor(), caller("user:BOB@example.com")], ids=lambda by: by.principal
)
def test_nobody_else_ends_a_delegation(by: Caller) -> None:
    refused(NotYours, lambda: rules.delete(created(), by=by, now=NOON))


def test_a_delegation_that_is_over_is_not_ended_again() -> None:
    gone, _ = rules.delete(created(), by=bob(), now=NOON)

    refused(WrongState, lambda: rules.delete(gone, by=bob(), now=NOON))
    refused(WrongState, lambda: rules.delete(created(), by=bob(), now=NOON + DAY))
    assert rules.delete(created(), by=bob(), now=NOON + DAY - TICK)


def test_a_delegation_is_seen_by_its_people_auditors_and_admins() -> None:
    seen_by = [by.principal for by in (alice(), bob(), dave(), admin(), auditor()) if created().is_visible_to(by)]

    assert seen_by == [BOB, DAVE, admin().principal, auditor().principal]
    assert ALICE not in seen_by


def test_a_right_ends_when_its_delegator_comes_without_the_group_that_gave_it() -> None:
    """A delegator who is dismissed left the right to review with somebody else for up to sixty days."""
    delegation, without = created(), caller(BOB, "engineering")

    gone, event = rules.end_lost(delegation, by=without, now=NOON + HOUR)

    assert rules.lost_groups(delegation, without) == ("owners",)
    assert not gone.is_active(NOON + HOUR)
    assert (event.type, event.principal, event.message) == (
        EventType.DELEGATION_DELETED,
        BOB,
        f"{BOB} came without owners",
    )
    refused(WrongState, lambda: rules.end_lost(gone, by=without, now=NOON + HOUR))


def test_who_brings_all_of_the_groups_or_none_that_are_known_ends_nothing() -> None:
    for by in (bob(), caller(BOB, "engineering", "owners", "new"), caller(BOB)._replace(groups=None), dave()):
        assert rules.lost_groups(created(), by) == ()
        refused(WrongState, lambda by=by: rules.end_lost(created(), by=by, now=NOON))  # type: ignore[misc]
    left_out = created(by=bob()._replace(groups=None))

    assert rules.lost_groups(left_out, caller(BOB)) == ()


def test_a_delegation_of_the_locked_ends_and_says_by_which_lock() -> None:
    gone, event = rules.end_by_lock(created(), lock="locks/l1", by=admin(), now=NOON + HOUR)

    assert gone.deleted_at == NOON + HOUR
    assert (event.type, event.at, event.delegation) == (EventType.DELEGATION_DELETED, NOON + HOUR, gone.name)
    assert (event.principal, event.subject, event.lock) == (admin().principal, DAVE, "locks/l1")
    assert event.message == f"{BOB} is locked by locks/l1"
