"""One person is one in the store too, by the folded name and by account; and in what was stored before that was so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from jit_service.domain.caller import Caller, Origin
from jit_service.domain.errors import NotVisible, ReviewOverdue, TooManyActive
from jit_service.domain.grants.delegation import NewDelegation
from jit_service.domain.grants.grant import GrantState, Justification
from jit_service.domain.policies import diff
from jit_service.domain.policies.policy import BreakGlassRule, PrincipalSet, Step
from jit_service.storage import Store
from jit_service.storage.migrate import migrate
from jit_service.use_cases import bulk_revocation, delegations, grants
from jit_service.use_cases.bulk_revocation import GrantSelector
from jit_service.use_cases.grants import GrantView
from tests.conftest import HOUR, NOON, Clock
from tests.storage.people import BOB, add_policy, approve, ask
from tests.storage.test_migrations import downgrade

ENGINEERS = PrincipalSet(groups=("engineering",))


def engineer(principal: str, sub: str = "") -> Caller:
    """An engineer, of an issuer whose letter case counts; known by account where the issuer calls her something."""
    origin = Origin(issuer="https://idp.example.com", issuer_subject=sub) if sub else Origin()
    return Caller(principal=principal, groups=frozenset({"engineering"}), origin=origin, exact=("",))


SAME = {
    "in other letters": (engineer("user:alice@example.com"), engineer("user:Alice@example.com")),
    "without an address": (engineer("user:alice"), engineer("user:ALICE")),
    "under a new name": (engineer("user:alice@example.com", "00u1"), engineer("user:alice.new@example.com", "00u1")),
}
same = pytest.mark.parametrize(("before", "after"), SAME.values(), ids=SAME)
STRANGER = engineer("user:mallory@example.com", "00u9")


@same
def test_one_person_has_the_places_of_one(store: Store, before: Caller, after: Caller) -> None:
    add_policy(store, max_active_per_subject=1)
    ask(store, caller=before)

    with pytest.raises(TooManyActive):
        ask(store, caller=after)
    assert ask(store, caller=STRANGER)


@same
def test_one_person_owes_the_reviews_of_one(store: Store, clock: Clock, before: Caller, after: Caller) -> None:
    rule = BreakGlassRule(eligible=ENGINEERS, max_duration=HOUR, review_within=HOUR)
    add_policy(store, break_glass=rule)
    why = Justification(text="the site is down")
    ask(store, caller=before, break_glass=True, justification=why)
    clock.now += HOUR

    with pytest.raises(ReviewOverdue):
        ask(store, caller=after, break_glass=True, justification=why)
    assert ask(store, caller=STRANGER, break_glass=True, justification=why)


def test_a_bulk_revocation_finds_a_subject_in_any_letter_case(store: Store) -> None:
    add_policy(store, steps=())
    spelt = [ask(store, caller=engineer(f"user:{name}@example.com")).name for name in ("alice", "Alice")]
    ask(store, caller=STRANGER)

    plan = bulk_revocation.plan(store, GrantSelector(subject="user:ALICE@example.com"))

    assert [grant.name for grant in plan.grants] == sorted(spelt)


def test_who_was_renamed_lists_sees_and_gives_back_what_she_holds(store: Store) -> None:
    before, after = SAME["under a new name"]
    add_policy(store, steps=())
    held = ask(store, caller=before)

    (listed,) = grants.list_page(
        store, after, view=GrantView.MINE, filter_text="", order_by="", page_size=0, page_token=""
    ).grants
    released = grants.release(store, after, held.name, comment="", etag="").grant

    assert listed.name == held.name
    assert released.state(NOON) is GrantState.RELEASED
    with pytest.raises(NotVisible):
        grants.get(store, STRANGER, held.name)


def test_accounts_are_kept_with_requests_reviews_and_delegations(store: Store) -> None:
    before, after = SAME["under a new name"]
    owner = BOB._replace(origin=Origin(issuer="https://idp.example.com", issuer_subject="b"))
    add_policy(store)
    approved = approve(store, ask(store, caller=before), by=owner)
    lent = delegations.create(store, before, NewDelegation(delegate="user:carol@example.com", expires_at=NOON + HOUR))

    with store.snapshot() as snapshot:
        stored, kept = snapshot.grant(approved.name), snapshot.delegation(lent.delegation.name)

    assert stored is not None
    assert kept is not None
    assert (stored.requester_account, stored.reviews[0].account) == (before.account, owner.account)
    assert kept.delegator_account == before.account
    assert [each.name for each in delegations.list_page(store, after, page_size=0, page_token="").delegations] == [
        kept.name
    ]


def test_ones_own_right_under_another_name_is_no_second_one(store: Store) -> None:
    before, after = SAME["under a new name"]
    delegations.create(store, before, NewDelegation(delegate=after.principal, expires_at=NOON + HOUR))

    with store.snapshot() as snapshot:
        assert delegations.with_delegations(snapshot, after).delegated == ()
        stranger = after._replace(origin=Origin())
        assert len(delegations.with_delegations(snapshot, stranger).delegated) == 1


def test_what_is_stored_already_is_folded(database_url: str, clock: Clock) -> None:
    store = Store(database_url, clock=clock)
    written = engineer("user:Alice@Example.com")
    people = PrincipalSet(principals=(written.principal,))
    labels = {"requester": "user:Alice@Example.com"}
    steps = (Step(approvers=people),)
    add_policy(store)
    with store.transaction() as tx:
        stored = tx.policy("policies/orders")
        assert stored is not None
        changed = replace(stored, eligible=people, steps=steps, labels=labels, allow_self_approval=True)
        tx.save_policy(*diff.update(stored, changed, by=written, now=tx.now))
    held = approve(store, ask(store, caller=written), by=written)
    store.close()
    downgrade(database_url, "0012")

    migrate(database_url)

    again = Store(database_url, clock=clock)
    again.seal_existing()
    alice = Caller(principal="user:alice@example.com", groups=frozenset())
    (grant,) = grants.list_page(
        again, alice, view=GrantView.MINE, filter_text="", order_by="", page_size=0, page_token=""
    ).grants
    with again.snapshot() as snapshot:
        policy = snapshot.policy("policies/orders")
    with again.engine.connect() as connection:
        keys = connection.execute(text("SELECT subject_key FROM access_grant")).scalars().all()
    again.close()
    assert (grant.name, grant.subject, grant.requester) == (held.name, alice.principal, alice.principal)
    assert grant.reviews[0].reviewer == alice.principal
    assert grant.steps[0].approvers.principals == (alice.principal,)
    assert policy is not None
    assert policy.eligible.principals == (alice.principal,)
    assert policy.labels == labels
    assert keys == [alice.principal]
