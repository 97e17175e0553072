"""Who is told: whoever may decide what waits, whoever asked, and at the end whoever was told that it waits."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Caller
from jit_service.domain.grants import approval, break_glass, deadlines
from jit_service.domain.grants import grant as rules
from jit_service.domain.grants.delegation import Delegation
from jit_service.domain.grants.grant import Grant, Justification
from jit_service.domain.grants.terms import Edits
from jit_service.domain.notification import interests
from jit_service.domain.policies.policy import BreakGlassRule, Policy, PrincipalSet
from jit_service.domain.routing import Address, Route, Told, told_of
from tests.domain.factories import (
    ALICE,
    BOB,
    BOT,
    CAROL,
    DAVE,
    ERIN,
    HOUR,
    NOON,
    alice,
    approve,
    bob,
    carol,
    erin,
    extending,
    extension,
    pending,
    policy,
    step,
)

EVERYBODY = Route(receiver="mail", whom=PrincipalSet(principals=("user:*@example.com",)))
OWNERS = Route(receiver="chat", addressees=("#owners",), whom=PrincipalSet(groups=("owners",)), edits=True)
SECURITY = Route(receiver="chat", addressees=("#security",), whom=PrincipalSet(groups=("security",)), edits=True)
ROUTES = (EVERYBODY, OWNERS, SECURITY)
TWO_STEPS = policy(steps=(step("owners"), step("security")))
TO_ALICE = ("mail", ALICE)
TO_OWNERS = ("chat", "#owners")
TO_SECURITY = ("chat", "#security")


def told(
    made: tuple[Grant, Event], *, under: Policy | None = None, routes: Any = ROUTES, before: Any = ()
) -> list[tuple[str, str]]:
    return sorted(address[:2] for address in all_told(made, under=under, routes=routes, before=before).addresses)


def all_told(
    made: tuple[Grant, Event],
    *,
    under: Policy | None = None,
    routes: Any = ROUTES,
    before: Any = (),
    delegations: Any = (),
) -> Told:
    grant, event = made
    return told_of(event, routes, grant=grant, policy=under or policy(), before=before, delegations=delegations)


def asked(under: Policy | None = None, **asked: Any) -> tuple[Grant, Event]:
    by = asked.pop("by", alice())
    grant = pending(under, by=by, **asked)
    return approval.open_request(grant, by=by, now=NOON)


def approving(grant: Grant, *, by: Caller | None = None, under: Policy | None = None) -> tuple[Grant, Event]:
    return approval.approve(grant, policy=under or policy(), by=by or bob(), comment="", now=NOON)


def denying(grant: Grant) -> tuple[Grant, Event]:
    return approval.deny(grant, policy=policy(), by=bob(), comment="no", now=NOON)


# Who decides


def test_the_approvers_of_the_step_that_waits_are_told_when_it_begins() -> None:
    assert told(asked(TWO_STEPS), under=TWO_STEPS) == [TO_OWNERS]


def test_the_next_steps_approvers_are_told_when_it_comes_and_the_requester_of_the_decision() -> None:
    first = approving(pending(TWO_STEPS), under=TWO_STEPS)

    assert told(first, under=TWO_STEPS) == [TO_SECURITY, TO_ALICE]


def test_one_of_two_approvals_in_a_step_tells_its_approvers_nothing_new() -> None:
    under = policy(steps=(step("owners", needed=2),))

    assert told(approving(pending(under), under=under), under=under) == [TO_ALICE]


def test_the_escalated_are_told_when_it_escalates_and_not_before() -> None:
    escalates = replace(step("owners"), timeout=HOUR, escalate_to=PrincipalSet(principals=(CAROL,)))
    under = policy(steps=(escalates,))
    waiting = pending(under)

    event = deadlines.escalated_event(waiting, now=NOON + HOUR)

    assert told(asked(under), under=under) == [TO_OWNERS]
    assert told((waiting, event), under=under) == [("mail", CAROL)]


def test_who_asks_for_more_time_has_the_approvers_told() -> None:
    under = extending()
    longer = extension(approve(pending(under), under=under), under=under)
    event = rules.event(EventType.EXTENSION_REQUESTED, longer, by=alice(), now=NOON, message="")

    assert told((longer, event), under=under) == [TO_OWNERS]


def test_named_approvers_are_told_but_for_those_who_may_not_decide() -> None:
    """The requester, the holder, and whoever has had a say in the round."""
    under = policy(
        steps=(step(principals=(ALICE, BOT, BOB, ERIN, CAROL), needed=2), step(principals=(ERIN, BOB, ALICE)))
    )
    first = approve(pending(under), under=under)
    second = approving(first, by=erin(), under=under)

    assert told(asked(under), under=under) == [("mail", BOB), ("mail", CAROL), ("mail", ERIN)]
    assert told(second, under=under) == [TO_ALICE]
    assert all_told(second, under=under).kept == ()


def test_where_a_policy_lets_one_approve_ones_own_the_requester_is_asked_too() -> None:
    under = policy(steps=(step("owners"), step(principals=(ALICE,))), allow_self_approval=True)

    made = approving(pending(under), under=under)

    assert all_told(made, under=under).kept == (Address("mail", ALICE, ALICE),)


def test_nobody_is_told_where_a_rule_approved() -> None:
    assert told(asked(policy(steps=()))) == []


# Delegates


def lent(**changes: Any) -> Delegation:
    """Bob's right to review as one of the owners, in Dave's hands."""
    facts: dict[str, Any] = {
        "name": "delegations/d",
        "delegator": BOB,
        "delegator_groups": frozenset({"owners"}),
        "delegate": DAVE,
        "policies": (),
        "starts_at": NOON,
        "expires_at": NOON + HOUR,
        "comment": "",
        "created_at": NOON,
    }
    return Delegation(**(facts | changes))


def told_delegates(made: tuple[Grant, Event], *delegations: Delegation, under: Policy | None = None) -> list[str]:
    addresses = all_told(made, under=under, delegations=delegations).addresses
    return sorted(address.principal for address in addresses if address.principal)


def test_whoever_may_decide_in_an_approvers_place_is_told_too_and_of_the_end() -> None:
    result = all_told(asked(), delegations=[lent(policies=(policy().name,))])

    assert sorted(address[:2] for address in result.addresses) == [TO_OWNERS, ("mail", DAVE)]
    assert result.kept == result.addresses


def test_a_delegate_is_told_once_whoever_it_decides_for() -> None:
    under = policy(steps=(step(principals=(BOB, CAROL, DAVE)),))
    delegations = lent(), lent(name="delegations/e", delegator=CAROL)

    assert told_delegates(asked(under), *delegations, under=under) == [BOB, CAROL, DAVE]


@pytest.mark.parametrize(
    "changes",
    [
        {"policies": ("policies/other",)},
        {"starts_at": NOON + timedelta(microseconds=1)},
        {"expires_at": NOON},
        {"deleted_at": NOON},
        {"delegator_groups": frozenset({"security"})},
        {"delegator_groups": None},
        {"delegate": ALICE},
        {"delegator": ALICE},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_whoever_may_not_decide_by_a_delegation_is_not_told(changes: dict[str, Any]) -> None:
    assert told_delegates(asked(), lent(**changes)) == []


def test_where_the_policy_forbids_delegation_no_delegate_is_told() -> None:
    under = policy(forbid_delegation=True)

    assert told_delegates(asked(under), lent(), under=under) == []


def test_the_next_steps_delegates_are_told_but_for_those_of_whoever_had_a_say() -> None:
    under = policy(steps=(step("owners"), step("owners", "security")))
    of_carol = lent(delegator=CAROL, delegator_groups=frozenset({"security"}), delegate=ERIN)

    made = approving(pending(under), under=under)

    assert told_delegates(made, lent(), of_carol, under=under) == [ALICE, ERIN]


def test_the_delegates_of_the_escalated_are_told_when_it_escalates() -> None:
    escalates = replace(step("owners"), timeout=HOUR, escalate_to=PrincipalSet(principals=(CAROL,)))
    under = policy(steps=(escalates,))
    late = NOON + HOUR
    of_carol = lent(delegator=CAROL, expires_at=late + HOUR)
    made = pending(under), deadlines.escalated_event(pending(under), now=late)

    assert told_delegates(made, lent(expires_at=late + HOUR), of_carol, under=under) == [CAROL, DAVE]


# Requesters and holders


def test_the_requester_is_told_of_every_decision() -> None:
    waiting = pending()
    given = Edits(duration=HOUR / 2)
    offered = approval.counter(waiting, given, policy=policy(), by=bob(), comment="", now=NOON)

    for made in (approving(waiting), denying(waiting), offered):
        assert told(made) == [TO_ALICE]


def test_the_requester_and_the_holder_are_told_that_the_request_lapsed_and_that_the_end_is_near() -> None:
    under = policy(warn_before=HOUR / 4)
    waiting, running = pending(under), approve(pending(under), under=under)
    lapsed = waiting, rules.run_out_event(waiting, now=NOON + 8 * HOUR)
    soon = running, deadlines.expires_soon_event(running, now=NOON + HOUR - HOUR / 4)
    for_bob = replace(running, subject=BOB), soon[1]

    assert told(lapsed) == [TO_ALICE]
    assert told(soon) == [TO_ALICE]
    assert told(for_bob) == [TO_ALICE, ("mail", BOB)]


def test_nobody_is_told_what_they_did_themselves() -> None:
    grant = approve(pending())
    mine = approval.revoke(grant, policy=policy(), by=alice(), comment="done", now=NOON)
    another = approval.revoke(grant, policy=policy(), by=bob(), comment="over", now=NOON)

    assert told(mine) == []
    assert told(another) == [TO_ALICE]


def test_who_made_the_offer_is_told_that_it_was_accepted() -> None:
    given = Edits(duration=HOUR / 2)
    offered = approval.counter(pending(), given, policy=policy(), by=bob(), comment="", now=NOON)[0]
    taken = approval.with_offered_terms(offered, by=alice(), now=NOON)

    made = approval.accept(taken, policy=policy(), by=alice(), comment="", now=NOON)

    assert told(made) == [("mail", BOB)]


def test_what_was_passed_on_ends_silently_with_its_grant() -> None:
    child = replace(approve(pending()), chain=("grants/g1",))
    revoked = approval.revoke(child, policy=policy(), by=bob(), comment="over", now=NOON)

    assert told(revoked) == []


# Ends


BEFORE = [Address("chat", "#owners"), Address("mail", ERIN, ERIN)]


def withdrawn() -> tuple[Grant, Event]:
    return approval.withdraw(pending(), by=alice(), comment="", now=NOON)


def lapsed() -> tuple[Grant, Event]:
    waiting = pending()
    return waiting, rules.run_out_event(waiting, now=NOON + 8 * HOUR)


def revoked() -> tuple[Grant, Event]:
    return approval.revoke(approve(pending()), policy=policy(), by=bob(), comment="over", now=NOON)


@pytest.mark.parametrize("end", [withdrawn, lapsed, revoked, lambda: approving(pending()), lambda: denying(pending())])
def test_who_was_told_of_a_request_is_told_of_its_end_whoever_ended_it(end: Any) -> None:
    assert {TO_OWNERS, ("mail", ERIN)} <= set(told(end(), before=BEFORE))


def test_a_decision_that_leaves_the_request_waiting_is_no_end() -> None:
    under = policy(steps=(step("owners", needed=2),))

    assert told(approving(pending(under), under=under), under=under, before=BEFORE) == [TO_ALICE]


def test_what_ends_no_request_is_not_told_to_those_who_were_asked() -> None:
    under = policy(warn_before=HOUR / 4)
    running = approve(pending(under), under=under)
    soon = running, deadlines.expires_soon_event(running, now=NOON + HOUR - HOUR / 4)

    assert told(soon, before=BEFORE) == [TO_ALICE]


def test_a_message_that_can_be_changed_is_changed_for_whoever_decided_too() -> None:
    before = [Address("mail", BOB, BOB), Address("chat", "U1", BOB)]

    assert told(approving(pending()), before=before) == [("chat", "U1"), TO_ALICE]


def test_where_the_receiver_is_gone_nobody_is_told() -> None:
    assert told(withdrawn(), before=[Address("pager", "")]) == []


def test_those_who_are_asked_are_kept_until_the_grant_is_over() -> None:
    grant, event = asked()
    released = rules.release(approve(grant), by=alice(), comment="", now=NOON)

    assert all_told((grant, event)) == Told((Address("chat", "#owners"),), (Address("chat", "#owners"),), False)
    assert all_told(approving(pending())).kept == ()
    assert not all_told(approving(pending())).is_over
    assert all_told(released).is_over
    assert all_told(withdrawn()).is_over


# Emergencies, and what somebody must know


GLASS = policy(
    break_glass=BreakGlassRule(
        eligible=PrincipalSet(groups=("engineering",)), max_duration=HOUR, review_within=timedelta(days=1)
    )
)
WATCH = Route(receiver="pager", addressees=("",), must_know=interests(["BREAK_GLASS_USED", "LOCK_CREATED"]))


def emergency() -> tuple[Grant, Event]:
    return asked(GLASS, break_glass=True, duration=HOUR, justification=Justification(text="fire"))


def test_an_emergency_goes_to_its_reviewers_and_to_those_who_must_know() -> None:
    assert told(emergency(), under=GLASS, routes=(*ROUTES, WATCH)) == [TO_OWNERS, ("pager", "")]


def test_they_are_told_too_that_it_was_reviewed() -> None:
    used = emergency()
    kept = all_told(used, under=GLASS, routes=(*ROUTES, WATCH)).kept

    reviewed = break_glass.complete_review(used[0], policy=GLASS, by=bob(), comment="seen", now=NOON)

    assert told(reviewed, under=GLASS, routes=(*ROUTES, WATCH), before=kept) == [TO_OWNERS, TO_ALICE, ("pager", "")]


def test_an_emergency_under_a_policy_that_is_gone_goes_to_those_who_must_know_and_so_does_its_end() -> None:
    used, event = emergency()

    gone = told_of(event, (*ROUTES, WATCH), grant=used, policy=None)

    assert gone.addresses == gone.kept == (Address("pager", ""),)


def test_who_must_know_that_somebody_asks_is_told_of_the_end_where_somebody_is_to_decide() -> None:
    asks = replace(WATCH, must_know=interests(["GRANT_REQUESTED"]))

    assert [kept.receiver for kept in all_told(asked(), routes=(OWNERS, asks)).kept] == ["chat", "pager"]
    assert all_told(asked(), routes=[asks]).kept == ()


def test_an_overdue_review_goes_to_its_reviewers_and_to_whoever_owes_it() -> None:
    used, _ = emergency()
    late = used, break_glass.review_overdue_event(used, now=NOON + timedelta(days=1))

    assert told(late, under=GLASS) == [TO_OWNERS, TO_ALICE]
    assert not all_told(late, under=GLASS).is_over


def test_a_lock_goes_to_those_who_must_know_and_to_nobody_else() -> None:
    event = Event(type=EventType.LOCK_CREATED, at=NOON, principal=CAROL, subject=ALICE, lock="locks/l1")
    of_one_policy = replace(WATCH, policies=("policies/orders",))

    addresses = told_of(event, (*ROUTES, WATCH, of_one_policy)).addresses

    assert addresses == (Address("pager", ""),)
    assert told_of(event, [replace(EVERYBODY, must_know=WATCH.must_know)]).addresses == ()
    named = replace(EVERYBODY, whom=PrincipalSet(principals=(DAVE,)), must_know=WATCH.must_know)
    assert told_of(event, [named]).addresses == (Address("mail", DAVE, DAVE),)


def test_a_delegate_is_told() -> None:
    event = Event(type=EventType.DELEGATION_CREATED, at=NOON, principal=BOB, subject=DAVE, delegation="delegations/d")

    assert told_of(event, ROUTES).addresses == (Address("mail", DAVE, DAVE),)


# What routes are


def test_the_first_route_that_applies_to_a_person_or_a_group_is_taken() -> None:
    under = policy(steps=(step("owners", principals=(ERIN,)),))
    chat = Route(receiver="chat", addressees=("U2",), whom=PrincipalSet(principals=(ERIN,), groups=("owners",)))

    assert told(asked(under), under=under, routes=(chat, EVERYBODY, OWNERS)) == [("chat", "U2")]
    assert told(asked(under), under=under, routes=(EVERYBODY, chat, OWNERS)) == [("chat", "U2"), ("mail", ERIN)]


@pytest.mark.parametrize(
    ("narrowed", "applies"),
    [
        ({"policies": ("policies/orders",)}, True),
        ({"policies": ("policies/ord*",)}, True),
        ({"policies": ("policies/orders*",)}, True),
        ({"policies": ("policies/orders-*",)}, False),
        ({"policies": ("policies/order",)}, False),
        ({"labels": {"team": "red"}}, True),
        ({"labels": {"team": "red", "env": "prod"}}, False),
        ({"interests": interests(["GRANT_REQUESTED:PENDING"])}, True),
        ({"interests": interests(["GRANT_APPROVED"])}, False),
    ],
)
def test_a_route_is_narrowed_by_policy_label_and_event(narrowed: dict[str, Any], applies: bool) -> None:
    route = replace(OWNERS, **narrowed)

    assert told(asked(labels={"team": "red"}), routes=[route]) == ([TO_OWNERS] if applies else [])


@pytest.mark.parametrize(
    ("pattern", "principal", "is_meant"),
    [
        ("user:*", ALICE, True),
        ("user:*", BOT, False),
        ("user:*@example.com", ALICE, True),
        ("user:*@example.com", "user:a@example.com", True),
        ("user:*@example.com", "user:@example.com", False),
        ("user:*@example.com", "user:x@example.com.evil.org", False),
        ("user:a*a", "user:a", False),
        ("user:Alice@example.com", ALICE, True),
        (ALICE, "user:Alice@example.com", False),
        (ALICE, BOB, False),
    ],
)
def test_principals_of_a_route_are_named_whole_or_by_how_they_end(pattern: str, principal: str, is_meant: bool) -> None:
    assert Route(receiver="mail", whom=PrincipalSet(principals=(pattern,))).has(principal) is is_meant


def test_two_groups_at_one_address_are_told_once() -> None:
    both = policy(steps=(step("owners", "security"),))
    one_place = [OWNERS, replace(SECURITY, addressees=("#owners",))]

    assert told(asked(both), under=both, routes=one_place) == [TO_OWNERS]


def test_an_approver_is_told_by_name_what_its_group_is_told_elsewhere() -> None:
    """The service cannot know that carol is in security."""
    under = policy(steps=(step("security", principals=(CAROL,)),))

    assert told(asked(under), under=under) == [TO_SECURITY, ("mail", CAROL)]
    assert carol().groups == {"security"}
