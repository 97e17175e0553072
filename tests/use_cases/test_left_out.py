"""Groups that a token left out stay unknown wherever they are kept: in rows, in memory and in the feed of replicas."""

from __future__ import annotations

from jit_service.domain.checks.cached_grant import CachedGrant
from jit_service.domain.checks.decision import Question, Reason
from jit_service.domain.grants.delegation import NewDelegation
from jit_service.domain.policies.policy import Policy, PrincipalSet, Step
from jit_service.feeds.replica import checkable
from jit_service.storage import Store
from jit_service.use_cases import delegations, policies
from tests import checking
from tests.conftest import HOUR, NOON
from tests.storage.people import ADMIN, ALICE, BOB, CAROL, GATEWAY, add_policy, approve, ask

LEFT_OUT = ALICE._replace(groups=None)
OWNER = BOB._replace(groups=None)
BY_NAME = PrincipalSet(principals=(ALICE.principal,), groups=("engineering",))
ASKED = Question(subject=ALICE.principal, action="read", resource="database/orders/eu", principal=GATEWAY.principal)


def add_deny(store: Store) -> Policy:
    denied = PrincipalSet(groups=("contractors",))
    deny = Policy(name="policies/deny", deny=True, eligible=denied, resources=("database/**",), actions=("**",))
    return policies.create(store, ADMIN, deny)


def held_in_memory(store: Store) -> list[CachedGrant]:
    reader = store.grant_loader()
    try:
        with reader.load(lambda _read, _total: None) as everything:
            return [grant for piece in everything.grants for grant in piece]
    finally:
        reader.close()


def test_a_grant_keeps_that_the_groups_of_its_request_are_not_known(store: Store) -> None:
    add_policy(store, eligible=BY_NAME, steps=())

    asked = ask(store, caller=LEFT_OUT)

    with store.snapshot() as snapshot:
        (kept,) = snapshot.live_grants(ALICE.principal)
        (change,) = snapshot.changes(after=0, limit=9)
        told = checkable(kept, NOON, GATEWAY)
    assert (kept.name, kept.requester_groups, change.grant.requester_groups) == (asked.name, None, None)
    assert [grant.subject_groups for grant in held_in_memory(store)] == [None]
    assert told is not None
    assert told.groups is None


def test_a_deny_for_any_group_stands_against_a_grant_that_was_asked_for_so(store: Store) -> None:
    add_policy(store, eligible=BY_NAME, steps=())
    ask(store, caller=LEFT_OUT)
    assert checking.check(store, GATEWAY, ASKED).decision.allowed

    add_deny(store)

    assert checking.check(store, GATEWAY, ASKED).decision.reason is Reason.DENIED_BY_POLICY


def test_an_answer_to_known_groups_is_not_given_again_to_groups_left_out(store: Store) -> None:
    add_policy(store, steps=())
    ask(store)
    add_deny(store)
    own = ASKED._replace(principal=ALICE.principal, groups=ALICE.groups)
    assert checking.check(store, ALICE, own).decision.allowed

    again = checking.check(store, LEFT_OUT, own._replace(groups=None, groups_left_out=True))

    assert again.decision.reason is Reason.DENIED_BY_POLICY


def test_a_review_keeps_that_its_groups_are_not_known(store: Store) -> None:
    named = Step(approvers=PrincipalSet(principals=(BOB.principal,), groups=("owners",)))
    add_policy(store, steps=(named,))

    approved = approve(store, ask(store), by=OWNER)

    with store.snapshot() as snapshot:
        stored = snapshot.grant(approved.name)
    assert stored is not None
    assert [review.groups for review in stored.reviews] == [None]


def test_what_is_delegated_without_known_groups_is_no_right_by_group(store: Store) -> None:
    add_policy(store)
    delegations.create(store, OWNER, NewDelegation(delegate=CAROL.principal, expires_at=NOON + HOUR))

    with store.snapshot() as snapshot:
        (lent,) = snapshot.delegations_to(CAROL.principal)

    assert lent.delegator_groups is None
    assert not Step(approvers=PrincipalSet(groups=("owners",))).has(lent.delegator, lent.right.groups, escalated=False)
