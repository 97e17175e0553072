"""Changes of policies: what the server keeps, what people choose, and the event of each change."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from jit_service.domain import policy_change
from jit_service.domain.event import EventType
from jit_service.domain.policy import JustificationRule, Policy, PrincipalSet
from tests.domain.factories import HOUR, NOON, TICK, admin, policy, step

STORED = policy(revision=5, created_at=NOON, updated_at=NOON)
LATER = NOON + HOUR


def test_a_new_policy_has_its_instants_and_no_revision_yet() -> None:
    new, _ = policy_change.created(policy(revision=99, deleted_at=NOON), replaces=None, by=admin(), now=NOON)

    assert new == policy(revision=0, created_at=NOON, updated_at=NOON)


def test_a_new_policy_with_a_deleted_ones_name_goes_on_from_its_revision() -> None:
    gone = replace(STORED, deleted_at=NOON)

    new, _ = policy_change.created(policy(priority=7), replaces=gone, by=admin(), now=LATER)

    assert new == policy(priority=7, revision=5, created_at=LATER, updated_at=LATER)
    assert new.in_force


def test_an_update_changes_what_was_chosen_and_keeps_what_is_the_servers() -> None:
    wanted = policy(name="policies/other", priority=7, revision=99, created_at=LATER, deleted_at=LATER)

    new, _ = policy_change.updated(STORED, wanted, by=admin(), now=LATER)

    assert new == replace(STORED, priority=7, updated_at=LATER)


def test_an_update_does_not_bring_a_deleted_policy_back() -> None:
    gone = replace(STORED, deleted_at=NOON)

    assert policy_change.updated(gone, policy(), by=admin(), now=LATER)[0].deleted_at == NOON


def test_a_deleted_policy_is_out_of_force_and_otherwise_as_it_was() -> None:
    gone, _ = policy_change.deleted(STORED, by=admin(), now=LATER)

    assert gone == replace(STORED, updated_at=LATER, deleted_at=LATER)
    assert not gone.in_force


def test_each_change_leaves_its_event() -> None:
    create = policy_change.created(policy(), replaces=None, by=admin(), now=LATER)[1]
    update = policy_change.updated(STORED, policy(priority=7, disabled=True), by=admin(), now=LATER)[1]
    delete = policy_change.deleted(STORED, by=admin(), now=LATER)[1]

    assert [event.type for event in (create, update, delete)] == [
        EventType.POLICY_CREATED,
        EventType.POLICY_UPDATED,
        EventType.POLICY_DELETED,
    ]
    assert [event.message for event in (create, update, delete)] == ["created", "changed priority, disabled", "deleted"]


def test_the_event_of_a_change_says_who_changed_what_and_when() -> None:
    event = policy_change.deleted(STORED, by=admin(), now=LATER)[1]

    assert (event.principal, event.origin, event.at) == (admin().principal, admin().origin, LATER)
    assert (event.policy, event.resources, event.actions) == (STORED.name, STORED.resources, STORED.actions)


def test_the_event_of_an_update_has_the_new_resources_and_actions() -> None:
    wider = policy(resources=("database/**",), actions=("**",))

    event = policy_change.updated(STORED, wider, by=admin(), now=LATER)[1]

    assert (event.resources, event.actions) == (("database/**",), ("**",))


def test_an_update_that_changes_nothing_says_so() -> None:
    assert policy_change.updated(STORED, policy(), by=admin(), now=LATER)[1].message == "changed nothing"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("display_name", "Orders"),
        ("eligible", PrincipalSet(groups=("sales",))),
        ("resources", ("database/**",)),
        ("actions", ("**",)),
        ("min_duration", TICK),
        ("max_duration", HOUR),
        ("default_duration", TICK),
        ("request_ttl", HOUR),
        ("justification", JustificationRule(required=True)),
        ("steps", (step("security"),)),
        ("allow_self_approval", True),
        ("priority", 7),
        ("disabled", True),
        ("deny", True),
        ("labels", {"team": "orders"}),
    ],
)
def test_a_field_that_was_chosen_differently_is_named(field: str, value: object) -> None:
    assert policy_change.changed_fields(policy(), policy(**{field: value})) == (field,)


def test_what_the_server_sets_is_no_change() -> None:
    assert policy_change.changed_fields(policy(), replace(STORED, updated_at=LATER, deleted_at=LATER)) == ()


def test_changed_fields_are_named_in_the_policys_order() -> None:
    changed = policy_change.changed_fields(policy(), policy(deny=True, priority=7, actions=("**",), name="policies/x"))

    order = [field.name for field in fields(Policy)]
    assert changed == ("name", "actions", "priority", "deny")
    assert sorted(changed, key=order.index) == list(changed)
