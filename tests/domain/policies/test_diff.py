"""Changes of policies: what the server keeps, what people choose, and the event of each change."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from jit_service.domain.audit.event import EventType
from jit_service.domain.errors import InvalidField, StaleEtag
from jit_service.domain.language import etag
from jit_service.domain.policies import diff
from jit_service.domain.policies.diff import ChangeType, PolicyChange, PolicyDraft
from jit_service.domain.policies.policy import JustificationRule, Policy, PrincipalSet
from tests.domain.factories import HOUR, NOON, TICK, admin, policy, step

STORED = policy(revision=5, created_at=NOON, updated_at=NOON)
LATER = NOON + HOUR


def test_a_new_policy_has_its_instants_and_no_revision_yet() -> None:
    new, _ = diff.create(policy(revision=99, deleted_at=NOON), replaces=None, by=admin(), now=NOON)

    assert new == policy(revision=0, created_at=NOON, updated_at=NOON)


def test_a_new_policy_with_a_deleted_ones_name_goes_on_from_its_revision() -> None:
    gone = replace(STORED, deleted_at=NOON)

    new, _ = diff.create(policy(priority=7), replaces=gone, by=admin(), now=LATER)

    assert new == policy(priority=7, revision=5, created_at=LATER, updated_at=LATER)
    assert new.in_force


def test_an_update_changes_what_was_chosen_and_keeps_what_is_the_servers() -> None:
    wanted = policy(name="policies/other", priority=7, revision=99, created_at=LATER, deleted_at=LATER)

    new, _ = diff.update(STORED, wanted, by=admin(), now=LATER)

    assert new == replace(STORED, priority=7, updated_at=LATER)


def test_an_update_does_not_bring_a_deleted_policy_back() -> None:
    gone = replace(STORED, deleted_at=NOON)

    assert diff.update(gone, policy(), by=admin(), now=LATER)[0].deleted_at == NOON


def test_a_deleted_policy_is_out_of_force_and_otherwise_as_it_was() -> None:
    gone, _ = diff.delete(STORED, by=admin(), now=LATER)

    assert gone == replace(STORED, updated_at=LATER, deleted_at=LATER)
    assert not gone.in_force


def test_each_change_leaves_its_event() -> None:
    create = diff.create(policy(), replaces=None, by=admin(), now=LATER)[1]
    update = diff.update(STORED, policy(priority=7, disabled=True), by=admin(), now=LATER)[1]
    delete = diff.delete(STORED, by=admin(), now=LATER)[1]

    assert [event.type for event in (create, update, delete)] == [
        EventType.POLICY_CREATED,
        EventType.POLICY_UPDATED,
        EventType.POLICY_DELETED,
    ]
    assert [event.message for event in (create, update, delete)] == ["created", "changed priority, disabled", "deleted"]


def test_the_event_of_a_change_says_who_changed_what_and_when() -> None:
    event = diff.delete(STORED, by=admin(), now=LATER)[1]

    assert (event.principal, event.origin, event.at) == (admin().principal, admin().origin, LATER)
    assert (event.policy, event.resources, event.actions) == (STORED.name, STORED.resources, STORED.actions)


def test_the_event_of_an_update_has_the_new_resources_and_actions() -> None:
    wider = policy(resources=("database/**",), actions=("**",))

    event = diff.update(STORED, wider, by=admin(), now=LATER)[1]

    assert (event.resources, event.actions) == (("database/**",), ("**",))


def test_an_update_that_changes_nothing_says_so() -> None:
    assert diff.update(STORED, policy(), by=admin(), now=LATER)[1].message == "changed nothing"


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
    assert diff.changed_fields(policy(), policy(**{field: value})) == (field,)


def test_what_the_server_sets_is_no_change() -> None:
    assert diff.changed_fields(policy(), replace(STORED, updated_at=LATER, deleted_at=LATER)) == ()


def test_changed_fields_are_named_in_the_policys_order() -> None:
    changed = diff.changed_fields(policy(), policy(deny=True, priority=7, actions=("**",), name="policies/x"))

    order = [field.name for field in fields(Policy)]
    assert changed == ("name", "actions", "priority", "deny")
    assert sorted(changed, key=order.index) == list(changed)


# The difference that a whole set makes


def made(
    *wanted: Policy | PolicyDraft, stored: tuple[Policy, ...] = (STORED,), prune: bool = False
) -> list[PolicyChange]:
    sent = [one if isinstance(one, PolicyDraft) else PolicyDraft(policy=one) for one in wanted]
    return diff.difference(stored, sent, prune=prune)


def test_a_set_creates_updates_and_leaves_alone_by_name() -> None:
    other, same = replace(STORED, name="policies/z"), policy(name="policies/z")

    changes = made(same, policy(priority=7), policy(name="policies/a"), stored=(STORED, other))

    assert [(change.name, change.type) for change in changes] == [
        ("policies/a", ChangeType.CREATED),
        ("policies/orders", ChangeType.UPDATED),
        ("policies/z", ChangeType.UNCHANGED),
    ]
    assert [change.before for change in changes] == [None, STORED, other]
    assert changes[1].changed_fields == ("priority",)
    assert changes[0].changed_fields == ()
    assert changes[2].after == other


def test_only_pruning_deletes_what_is_not_in_the_set() -> None:
    gone = replace(STORED, name="policies/gone", deleted_at=NOON)

    assert made(stored=(STORED, gone)) == []
    (deleted,) = made(stored=(STORED, gone), prune=True)
    assert deleted == PolicyChange(name=STORED.name, type=ChangeType.DELETED, before=STORED, after=None)
    assert deleted.changed_fields == ()
    assert [change.type for change in made(policy(), prune=True)] == [ChangeType.UNCHANGED]


def test_a_deleted_policy_in_the_set_is_created_anew() -> None:
    gone = replace(STORED, deleted_at=NOON)

    (change,) = made(policy(priority=7), stored=(gone,))

    assert (change.type, change.before) == (ChangeType.CREATED, None)


def test_a_set_has_each_name_once_and_a_thousand_at_most() -> None:
    with pytest.raises(InvalidField, match=r"policies\[1\].name: policies/orders is in the set twice"):
        made(policy(), policy(priority=7))
    many = [policy(name=f"policies/p{number}") for number in range(1001)]
    assert len(made(*many[:1000])) == 1000
    with pytest.raises(InvalidField, match="has 1001 policies; at most 1000"):
        made(*many)


def test_a_fault_in_a_set_says_in_which_policy_it_is() -> None:
    with pytest.raises(InvalidField) as refused:
        made(policy(), policy(name="policies/b", resources=()))

    assert refused.value.field == "policies[1].resources"


def test_a_set_that_was_read_before_a_change_is_stale() -> None:
    current = etag.etag(STORED.name, 5)

    assert made(PolicyDraft(policy=policy(priority=7), etag=current))
    with pytest.raises(StaleEtag):
        made(PolicyDraft(policy=policy(priority=7), etag=etag.etag(STORED.name, 4)))
    with pytest.raises(StaleEtag):
        made(PolicyDraft(policy=policy(name="policies/new"), etag=current))


def test_an_etag_of_a_policy_that_is_not_there_is_stale() -> None:
    draft = PolicyDraft(policy=policy(), etag=etag.etag("policies/orders", 1))

    with pytest.raises(StaleEtag):
        diff.difference([], [draft], prune=False)


def test_a_change_is_recorded_at_its_instant() -> None:
    _, created = diff.create(policy(), replaces=None, by=admin(), now=LATER)
    _, updated = diff.update(STORED, policy(priority=7), by=admin(), now=LATER)

    assert (created.at, updated.at) == (LATER, LATER)


def test_every_fault_of_a_set_is_told_at_once_and_in_which_policy_it_is() -> None:
    with pytest.raises(InvalidField) as refused:
        made(
            policy(resources=("a//b", "database/**/x"), max_uses=-1),
            policy(name="policies/b", steps=(step("owners", needed=21),)),
            policy(name="policies/c"),
            policy(name="policies/c"),
        )

    assert [fault.field for fault in refused.value.each] == [
        "policies[0].resources[0]",
        "policies[0].resources[1]",
        "policies[0].max_uses",
        "policies[1].steps[0].approvals_needed",
        "policies[3].name",
    ]
    assert "(and 4 more)" in refused.value.message


def test_what_a_set_does_not_name_stays() -> None:
    other, third = policy(name="policies/other"), policy(name="policies/third")
    changes = diff.difference([STORED, other], [PolicyDraft(policy=policy(priority=7)), PolicyDraft(policy=third)],
                              prune=False)  # fmt: skip

    after = diff.outcome([STORED, other], changes)

    assert {found.name: found.priority for found in after} == {STORED.name: 7, other.name: 0, third.name: 0}
    assert diff.outcome([STORED], diff.difference([STORED], [], prune=True)) == []
