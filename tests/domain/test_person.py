"""Who is the same person (I29): by the name in any letter case, and by what the issuer of the tokens calls somebody."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from jit_service.domain.caller import Caller, Origin, Role
from jit_service.domain.errors import AlreadyReviewed, NotYours, SelfApproval
from jit_service.domain.grants import approval, break_glass, delegation, quorum, request
from jit_service.domain.grants import grant as rules
from jit_service.domain.grants.delegation import NewDelegation
from jit_service.domain.grants.grant import Grant, GrantState
from jit_service.domain.person import Account, Person, count_distinct
from jit_service.domain.policies import diff, proposal
from jit_service.domain.policies.diff import PolicyDraft
from jit_service.domain.policies.policy import BreakGlassRule, PrincipalSet
from tests.domain.factories import ALICE, BOB, CAROL, HOUR, NOON, caller, policy, step

IDP = "https://idp.example.com"
NEW_NAME = "user:alice.new@example.com"


def known(principal: str, sub: str, *groups: str, issuer: str = IDP) -> Caller:
    """Somebody by that name, whom the issuer calls `sub`."""
    return caller(principal, *groups)._replace(origin=Origin(issuer=issuer, issuer_subject=sub))


def alice(*groups: str) -> Caller:
    return known(ALICE, "00u1", "engineering", *groups)


def renamed(*groups: str) -> Caller:
    """The same person after a marriage."""
    return known(NEW_NAME, "00u1", "engineering", *groups)


def asked(**changes: object) -> Grant:
    return judged(policy(**changes))


def judged(under: object, **changes: object) -> Grant:
    wanted = request.Ask(subject=ALICE, resources=("database/orders/eu",), actions=("read",), **changes)  # type: ignore[arg-type]
    grant = request.judge_request(wanted, policies=[under], by=alice(), grant_name="grants/g7", now=NOON)  # type: ignore[list-item]
    return approval.open_request(grant, by=alice(), now=NOON)[0]


def held() -> Grant:
    return asked(steps=())


@pytest.mark.parametrize("issuer", [IDP, ""])
def test_an_account_is_of_one_issuer(issuer: str) -> None:
    here = Person(ALICE, Account(IDP, "00u1"))

    assert here.is_same(Person(NEW_NAME, Account(IDP, "00u1")))
    assert not here.is_same(Person(NEW_NAME, Account("https://other.example.com", "00u1")))
    assert not here.is_same(Person(NEW_NAME, Account(issuer, "00u2")))


def test_one_name_in_any_letter_case_is_one_person() -> None:
    assert Person("user:bob").is_same(Person("user:Bob"))
    assert not Person("user:bob").is_same(Person("user:bo"))


def test_who_has_no_account_is_nobody_elses_person() -> None:
    assert not Person(ALICE).is_same(Person(BOB))
    assert not Person(ALICE).has_account(None)


def test_people_count_once_under_all_their_names_and_accounts() -> None:
    account = Account(IDP, "00u1")

    assert count_distinct([]) == 0
    assert count_distinct([Person(ALICE), Person(BOB), Person(ALICE.upper())]) == 2
    assert count_distinct([Person(ALICE), Person(NEW_NAME, account), Person(ALICE, account), Person(BOB)]) == 2
    assert count_distinct([Person(ALICE, account), Person(NEW_NAME, account)]) == 1


def test_nobody_approves_its_own_request_under_a_new_name() -> None:
    with pytest.raises(SelfApproval):
        approval.approve(asked(), policy=policy(), by=renamed("owners"), comment="", now=NOON)

    other = known(NEW_NAME, "00u2", "owners")
    assert approval.approve(asked(), policy=policy(), by=other, comment="", now=NOON)[0].approved_at == NOON


def test_nobody_approves_its_own_request_in_place_of_itself_under_a_new_name() -> None:
    right = replace(alice("owners").rights("policies/orders")[0], delegation="delegations/d")
    carol = caller(CAROL)._replace(delegated=(replace(right, holder=NEW_NAME),))

    with pytest.raises(SelfApproval):
        approval.approve(asked(), policy=policy(), by=carol, comment="", now=NOON)


def test_nobody_reviews_twice_under_two_names() -> None:
    two = policy(steps=(step("owners", needed=2),))
    once, _ = approval.approve(asked(steps=two.steps), policy=two, by=known(BOB, "b", "owners"), comment="", now=NOON)

    with pytest.raises(AlreadyReviewed):
        approval.approve(once, policy=two, by=known("user:robert@example.com", "b", "owners"), comment="", now=NOON)


def test_two_approvals_of_one_person_under_two_names_count_once() -> None:
    two = policy(steps=(step("owners", needed=2),))
    once, _ = approval.approve(asked(steps=two.steps), policy=two, by=known(BOB, "b", "owners"), comment="", now=NOON)
    (review,) = once.reviews

    twice = (review, replace(review, reviewer="user:robert@example.com"))

    assert quorum.approvals_missing(two.steps, twice) == [1]


def test_who_was_renamed_sees_and_gives_back_its_access() -> None:
    released, _ = rules.release(held(), by=renamed(), comment="", now=NOON)

    assert approval.is_visible(held(), policy(), renamed())
    assert released.state(NOON) is GrantState.RELEASED
    with pytest.raises(NotYours):
        rules.release(held(), by=known(NEW_NAME, "00u2"), comment="", now=NOON)
    assert not approval.is_visible(held(), policy(), known(NEW_NAME, "00u1", issuer="https://other.example.com"))


def test_who_was_renamed_takes_its_request_back() -> None:
    withdrawn, _ = approval.withdraw(asked(), by=renamed(), comment="", now=NOON)

    assert withdrawn.state(NOON) is GrantState.WITHDRAWN


def test_the_account_of_who_asked_is_not_that_of_another_who_holds_it() -> None:
    for_bob = replace(held(), subject=BOB)

    assert for_bob.is_of(renamed().person)
    assert not for_bob.is_held_by(renamed().person)


def test_nobody_reviews_its_own_emergency_under_a_new_name() -> None:
    rule = BreakGlassRule(
        eligible=PrincipalSet(groups=("engineering",)), max_duration=HOUR, review_within=timedelta(days=1)
    )
    under = policy(break_glass=rule)
    taken = judged(under, break_glass=True, justification=request.Justification(text="the site is down"))

    with pytest.raises(SelfApproval):
        break_glass.complete_review(taken, policy=under, by=renamed("owners"), comment="fine", now=NOON)


def test_nobody_approves_its_own_proposal_under_a_new_name() -> None:
    admin, again = (who._replace(roles=frozenset({Role.ADMIN})) for who in (alice(), renamed()))
    changes = tuple(diff.difference([], [PolicyDraft(policy=policy())], prune=False))
    made, _ = proposal.propose(changes, comment="", proposal_name="policyProposals/p", by=admin, now=NOON)

    with pytest.raises(SelfApproval):
        proposal.approve(made, current={}, by=again, comment="", now=NOON)


def test_who_was_renamed_ends_its_delegation() -> None:
    lent, _ = delegation.create(
        NewDelegation(delegate=BOB, expires_at=NOON + HOUR), delegation_name="delegations/d", by=alice(), now=NOON
    )

    assert lent.is_visible_to(renamed())
    assert delegation.delete(lent, by=renamed(), now=NOON)[0].deleted_at == NOON
    with pytest.raises(NotYours):
        delegation.delete(lent, by=known(NEW_NAME, "00u2"), now=NOON)
