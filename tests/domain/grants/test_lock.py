"""Locks: on whom they are, for how long, and what they take: answers, reviews and tokens."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from jit_service.domain.audit.event import EventType
from jit_service.domain.caller import Caller, Origin, Right
from jit_service.domain.checks import decision, http_request
from jit_service.domain.checks.decision import Decision, Reason
from jit_service.domain.checks.evidence import Evidence
from jit_service.domain.checks.http_request import Stream
from jit_service.domain.errors import InvalidField, Locked, NotApprover, WrongState
from jit_service.domain.frozen import replace
from jit_service.domain.grants import approval, terms
from jit_service.domain.grants import lock as rules
from jit_service.domain.grants.grant import Grant, GrantState
from jit_service.domain.grants.lock import NO_LOCKS, Lock, Locks, NewLock, Target
from jit_service.domain.language import name
from jit_service.domain.person import Account
from jit_service.domain.policies.policy import PrincipalSet
from jit_service.domain.tokens import token
from tests.domain.factories import (
    ALICE,
    BOB,
    BOT,
    CAROL,
    DAVE,
    HOUR,
    NOON,
    TICK,
    admin,
    approve,
    approved,
    bob,
    caller,
    carol,
    erin,
    in_place_of,
    pending,
    policy,
    question,
    step,
)
from tests.domain.grants.test_grant import refused


def lock(principal: str = "", **target: str) -> Lock:
    return Lock(
        name="locks/l1",
        target=Target(principal=principal, **target),
        comment="left",
        creator="user:admin@example.com",
        created_at=NOON,
    )


def locks(principal: str = "", **target: str) -> Locks:
    return Locks([lock(principal, **target)])


def decided(*grants: Grant, under: Locks, above: tuple[Grant, ...] = (), **asked: Any) -> Decision:
    given = {grant.name: grant for grant in above}
    return decision.decide(
        question(**asked), grants=grants, evidence=Evidence(policies=(), now=NOON, above=given, locks=under)
    )


# On whom


def test_a_lock_on_a_principal_holds_in_any_letter_case() -> None:
    assert locks(ALICE.upper().replace("USER:", "user:")).on(ALICE, frozenset())
    assert locks(ALICE).on("user:Alice@Example.com", frozenset())
    assert not locks(ALICE).on(BOB, frozenset())


def test_a_lock_on_a_group_holds_for_who_is_or_may_be_in_it() -> None:
    contractors = locks(group="contractors")

    assert contractors.on(ALICE, frozenset({"contractors"}))
    assert contractors.on(ALICE, None)
    assert not contractors.on(ALICE, frozenset({"engineering"}))


def test_a_lock_on_a_token_is_on_its_calls_alone() -> None:
    one = locks(token_id="t1")
    by_it = Caller(principal=ALICE, origin=Origin(token_id="t1"))

    assert one.on_caller(by_it)
    assert not one.on_caller(Caller(principal=ALICE))
    assert not one.on(ALICE, None)


def test_a_lock_stands_to_exactly_before_its_end() -> None:
    ending = replace(lock(ALICE), expires_at=NOON + HOUR)

    assert ending.stands(NOON + HOUR - TICK)
    assert not ending.stands(NOON + HOUR)
    assert Locks([ending]).at(NOON + HOUR - TICK)
    assert not Locks([ending]).at(NOON + HOUR)


def test_locks_are_the_same_until_one_of_them_ends() -> None:
    both = Locks([replace(lock(ALICE), expires_at=NOON + HOUR), replace(lock(BOB), name="locks/l2")])

    assert both.at(NOON) is both
    assert [left.name for left in both.at(NOON + HOUR)] == ["locks/l2"]


def test_locks_are_equal_where_they_are_the_same_ones() -> None:
    assert locks(ALICE) == locks(ALICE) != locks(BOB)
    assert hash(locks(ALICE)) == hash(locks(ALICE))
    assert len({locks(ALICE), locks(BOB), locks(ALICE)}) == 2
    assert len({hash(locks(principal)) for principal in (ALICE, BOB, CAROL, DAVE)}) > 1
    assert locks(ALICE) != (lock(ALICE),)


def test_whoever_reviews_is_locked_by_name_group_or_account() -> None:
    account = Account("https://login.example.com", "7")
    renamed = Locks([replace(lock(ALICE), accounts=(account,))])

    assert locks(BOB).on_right(Right(holder=BOB, groups=frozenset()))
    assert locks(group="owners").on_right(Right(holder=BOB, groups=frozenset({"owners"})))
    assert renamed.on_right(Right(holder=BOB, groups=frozenset(), account=account))
    assert not renamed.on_right(Right(holder=BOB, groups=frozenset({"owners"})))


def test_a_lock_that_is_on_no_principal_has_no_names() -> None:
    assert lock(ALICE).principals == (ALICE,)
    assert replace(lock(ALICE), also=(BOB,)).principals == (ALICE, BOB)
    assert lock(group="owners").principals == ()


def test_whom_a_lock_is_on_is_told_in_words() -> None:
    targets = (Target(principal=ALICE), Target(group="owners"), Target(token_id="t1"))

    assert [str(target) for target in targets] == [ALICE, "the group owners", "the token t1"]


def test_a_caller_is_locked_under_another_name_of_its_account() -> None:
    account = Account("https://login.example.com", "7")
    renamed = Caller(principal=BOB, origin=Origin(issuer=account.issuer, issuer_subject=account.subject))

    assert Locks([replace(lock(ALICE), accounts=(account,))]).on_caller(renamed)
    assert not locks(ALICE).on_caller(renamed)


def test_a_lock_on_a_group_is_not_on_who_proved_other_groups() -> None:
    contractors = locks(group="contractors")

    assert not contractors.on_right(Right(holder=BOB, groups=frozenset({"owners"})))
    rules.demand_unlocked(contractors, BOB, frozenset({"owners"}))
    error = refused(Locked, lambda: rules.demand_unlocked(contractors, BOB, frozenset({"contractors"})))
    assert error.message == f"{BOB} is locked by locks/l1, which is on the group contractors"


@pytest.mark.parametrize(
    "on",
    [locks(ALICE), locks(BOT), locks(group="engineering")],
    ids=["requester", "holder", "a group of the requester"],
)
def test_a_grant_is_locked_with_who_asked_for_it_and_who_holds_it(on: Locks) -> None:
    for_bot = PrincipalSet(groups=("engineering",), principals=(BOT,))
    asked = pending(policy(eligible=for_bot), subject=BOT)

    rules.demand_unlocked_people(locks(BOB), asked)
    refused(Locked, lambda: rules.demand_unlocked_people(on, asked))


def test_a_grant_is_not_locked_with_a_group_that_its_people_proved_not_to_be_in() -> None:
    rules.demand_unlocked_people(locks(group="contractors"), pending())


def test_a_call_of_the_locked_is_refused_with_the_lock() -> None:
    rules.demand_unlocked_caller(NO_LOCKS, bob())
    rules.demand_unlocked_caller(locks(ALICE), bob())

    error = refused(Locked, lambda: rules.demand_unlocked_caller(locks(BOB), bob()))
    assert (error.message, error.metadata) == (f"{BOB} is locked by locks/l1", {"lock": "locks/l1"})


@pytest.mark.parametrize(
    ("groups", "doubt"),
    [
        (frozenset({"owners"}), ""),
        (None, f": nobody proved which groups {BOB} is in, so it may be in that one"),
    ],
)
def test_a_lock_on_a_group_says_which_and_whether_it_is_proved(groups: frozenset[str] | None, doubt: str) -> None:
    by = bob()._replace(groups=groups)

    error = refused(Locked, lambda: rules.demand_unlocked_caller(locks(group="owners"), by))

    assert error.message == f"{BOB} is locked by locks/l1, which is on the group owners{doubt}"


# Made and lifted


def wanted(**changes: Any) -> NewLock:
    return NewLock(**({"target": Target(principal=ALICE), "comment": "left"} | changes))


def created(by: Caller | None = None, **changes: Any) -> Lock:
    return rules.create(wanted(**changes), lock_name="locks/l1", by=by or admin(), now=NOON)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"target": Target()}, "lock"),
        ({"target": Target(principal=ALICE, group="contractors")}, "lock"),
        ({"target": Target(principal="alice")}, "lock.principal"),
        ({"target": Target(principal="service:jit-service")}, "lock.principal"),
        ({"target": Target(token_id="a\nb")}, "lock.jti"),
        ({"target": Target(token_id="a"), "end_grants": True}, "lock.end_grants"),
        ({"comment": " "}, "lock.comment"),
        ({"expires_at": NOON}, "lock.expire_time"),
    ],
)
def test_what_is_no_lock_is_refused(changes: dict[str, Any], field: str) -> None:
    error = refused(InvalidField, lambda: created(**changes))

    assert isinstance(error, InvalidField)
    assert error.field == field


def test_a_token_is_named_as_calls_by_it_are_recorded() -> None:
    long = created(target=Target(token_id="t" * 300))
    by_it = Caller(principal=ALICE, origin=Origin(token_id=name.foreign_id("t" * 300)))

    assert Locks([long]).on_caller(by_it)


def test_nobody_locks_themselves() -> None:
    by = caller("user:rita@example.com", "responders")

    for target in (Target(principal="user:RITA@example.com"), Target(group="responders")):
        assert refused(InvalidField, lambda target=target: created(by, target=target))


def test_a_lock_is_lifted_once_and_not_when_it_is_over() -> None:
    gone, event = rules.lift(lock(ALICE), by=admin(), now=NOON)

    assert (event.type, event.lock, event.subject) == (EventType.LOCK_DELETED, "locks/l1", ALICE)
    assert not gone.stands(NOON)
    refused(WrongState, lambda: rules.lift(gone, by=admin(), now=NOON))
    refused(WrongState, lambda: rules.lift(replace(lock(ALICE), expires_at=NOON), by=admin(), now=NOON))


def test_what_a_lock_ends_is_revoked_or_denied_and_names_it() -> None:
    revoked, its_event = rules.end_grant(lock(ALICE), approved(), by=admin(), now=NOON)
    denied, _ = rules.end_grant(lock(ALICE), pending(), by=admin(), now=NOON)

    assert revoked.state(NOON) is GrantState.REVOKED
    assert denied.state(NOON) is GrantState.DENIED
    assert (its_event.type, its_event.lock) == (EventType.GRANT_REVOKED, "locks/l1")


@pytest.mark.parametrize(("end", "span"), [(None, None), (NOON + HOUR, HOUR)])
def test_making_a_lock_is_recorded_with_on_whom_why_and_how_long(end: datetime | None, span: timedelta | None) -> None:
    made = replace(lock(group="owners"), expires_at=end)

    event = rules.creation_event(made, by=admin())

    assert (event.type, event.at, event.lock, event.duration) == (EventType.LOCK_CREATED, NOON, "locks/l1", span)
    assert (event.principal, event.origin, event.message) == (admin().principal, admin().origin, "left")
    assert (event.subject, event.groups, event.token_id) == ("", ("owners",), "")


def test_a_lock_that_ran_out_is_recorded_as_the_services_act() -> None:
    event = rules.expiry_event(lock(ALICE), now=NOON + HOUR)

    assert (event.type, event.at, event.lock) == (EventType.LOCK_EXPIRED, NOON + HOUR, "locks/l1")
    assert (event.principal, event.subject, event.message) == ("service:jit-service", ALICE, "its time ran out")


def test_lifting_and_ending_are_recorded_with_who_did_it_and_what_is_told() -> None:
    gone, lifted = rules.lift(lock(token_id="t1"), by=admin(), now=NOON)
    over, ended = rules.end_grant(lock(ALICE), pending(), by=admin(), now=NOON)

    assert (gone.deleted_at, lifted.at, lifted.principal, lifted.message) == (NOON, NOON, admin().principal, "lifted")
    assert (lifted.origin, lifted.token_id, lifted.groups) == (admin().origin, "t1", ())
    assert (ended.type, ended.at, ended.principal) == (EventType.GRANT_DENIED, NOON, admin().principal)
    assert (ended.message, ended.grant, ended.lock) == ("locks/l1: left", over.name, "locks/l1")
    assert over.end is not None
    assert (over.end.comment, over.end.by, over.end.at) == ("locks/l1: left", admin().principal, NOON)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": Target()}, "lock: must have exactly one of principal, group and jti"),
        ({"comment": " "}, "lock.comment: is required: say why"),
        ({"expires_at": NOON}, "lock.expire_time: is 2026-03-02T12:00:00+00:00; it must be after now"),
        (
            {"target": Target(token_id="a"), "end_grants": True},
            "lock.end_grants: does not go with jti: a token holds no grants; lock its principal",
        ),
        ({"target": Target(token_id="a" * 513)}, "lock.jti: must be at most 512 printable characters"),
        (
            {"target": Target(principal="service:jit-service")},
            "lock.principal: 'service:jit-service' is the service itself, and nobody else",
        ),
    ],
)
def test_what_is_no_lock_is_told_why(changes: dict[str, Any], message: str) -> None:
    assert refused(InvalidField, lambda: created(**changes)).message == message


def test_a_lock_is_what_was_wanted_and_who_made_it() -> None:
    account = Account("https://login.example.com", "7")
    asked = wanted(target=Target(group="owners"), expires_at=NOON + TICK, end_grants=True, comment="e\u0301")

    made = rules.create(asked, lock_name="locks/l9", by=admin(), now=NOON, accounts=[account], also=[BOB])

    assert made == Lock(
        name="locks/l9",
        target=Target(group="owners"),
        comment="\u00e9",
        creator=admin().principal,
        created_at=NOON,
        expires_at=NOON + TICK,
        end_grants=True,
        accounts=(account,),
        also=(BOB,),
    )


def test_the_longest_token_id_may_be_locked() -> None:
    assert created(target=Target(token_id="a" * 512)).target.token_id


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"comment": "a\0b"}, "lock.comment"), ({"target": Target(group="a*")}, "lock.group")],
)
def test_a_malformed_text_of_a_lock_is_named(changes: dict[str, Any], field: str) -> None:
    assert refused(InvalidField, lambda: created(**changes)).metadata == {"field": field}


def test_what_is_lifted_or_over_already_is_told_so() -> None:
    gone, over = replace(lock(ALICE), deleted_at=NOON), replace(lock(ALICE), expires_at=NOON)

    told = [refused(WrongState, lambda one=one: rules.lift(one, by=admin(), now=NOON)) for one in (gone, over)]

    assert [error.message for error in told] == ["locks/l1 is lifted already", "locks/l1 is over already"]
    assert [error.metadata for error in told] == [{"lock": "locks/l1"}] * 2


def test_who_would_lock_itself_is_told_so() -> None:
    by = caller("user:rita@example.com", "responders")

    error = refused(InvalidField, lambda: created(by, target=Target(group="responders")))

    assert error.message == (
        f"lock: on {Target(group='responders')} would lock user:rita@example.com, who creates it; "
        "let somebody else do it"
    )


# What it takes


def test_every_question_about_the_locked_is_a_no() -> None:
    answer = decided(approved(), under=locks("user:ALICE@example.com"))

    assert (answer.reason, answer.message) == (Reason.LOCKED, f"{ALICE} is locked by locks/l1")
    assert decided(under=locks(ALICE)).reason is Reason.LOCKED
    assert decided(approved(), under=locks(BOB)).allowed


def test_a_no_names_the_lock_and_nothing_else_does() -> None:
    others = replace(approved(), requester=BOB)
    above = replace(approved(), name="grants/a")
    child = replace(approved(), name="grants/c", subject=BOT, requester=ALICE, chain=("grants/a",))

    assert decided(under=locks(ALICE)).lock == "locks/l1"
    assert decided(others, under=locks(group="contractors")).lock == "locks/l1"
    assert decided(child, under=locks(ALICE), above=(above,), subject=BOT).lock == "locks/l1"
    assert decided(approved(), under=locks(BOB)).lock == ""
    assert decided(under=locks(BOB)).lock == ""


def test_a_locked_group_counts_as_the_grant_or_the_call_knows_it() -> None:
    assert decided(approved(), under=locks(group="engineering")).reason is Reason.LOCKED
    assert decided(approved(), under=locks(group="new"), groups=frozenset({"new"})).reason is Reason.LOCKED
    assert decided(approved(), under=locks(group="new")).allowed


def test_groups_that_nobody_proved_may_be_the_locked_one() -> None:
    others = replace(approved(), requester=BOB)

    answer = decided(others, under=locks(group="contractors"))

    assert answer.reason is Reason.LOCKED
    assert "nobody proved which groups" in answer.message


def test_what_came_from_the_locked_is_locked() -> None:
    above = replace(approved(), name="grants/a")
    child = replace(approved(), name="grants/c", subject=BOT, requester=ALICE, chain=("grants/a",))

    answer = decided(child, under=locks(ALICE), above=(above,), subject=BOT)

    assert (answer.reason, "came from grants/a" in answer.message) == (Reason.LOCKED, True)
    assert decided(child, under=locks(DAVE), above=(above,), subject=BOT).allowed


TWO = policy(steps=(step("owners", needed=2),))
NAMED = policy(steps=(step("owners", principals=(CAROL,), needed=2),))


def test_an_approval_of_the_locked_does_not_count_while_the_lock_stands() -> None:
    once = approve(pending(TWO), under=TWO)

    def second(under: Locks) -> GrantState:
        given = approval.approve(once, policy=TWO, by=erin(), comment="", now=NOON, locks=under)[0]
        return given.state(NOON)

    assert second(locks(BOB.upper().replace("USER:", "user:"))) is GrantState.PENDING
    assert second(locks(DAVE)) is GrantState.ACTIVE


def test_an_approval_in_place_of_the_locked_does_not_count() -> None:
    once = approve(pending(NAMED), by=in_place_of(caller(DAVE), bob()), under=NAMED)

    for under in (locks(BOB), locks(DAVE)):
        given = approval.approve(once, policy=NAMED, by=carol(), comment="", now=NOON, locks=under)[0]
        assert given.state(NOON) is GrantState.PENDING


def test_an_approval_with_a_locked_token_does_not_count_while_the_lock_stands() -> None:
    by = bob()._replace(origin=Origin(token_id="t1"))
    once = approve(pending(TWO), by=by, under=TWO)

    def second(under: Locks) -> GrantState:
        given = approval.approve(once, policy=TWO, by=erin(), comment="", now=NOON, locks=under)[0]
        return given.state(NOON)

    assert second(locks(token_id="t1")) is GrantState.PENDING
    assert second(locks(token_id="t2")) is GrantState.ACTIVE


def test_an_offer_of_the_locked_is_not_accepted() -> None:
    offered = approval.counter(
        pending(), terms.Edits(duration=HOUR / 2), policy=policy(), by=bob(), comment="", now=NOON
    )[0]
    taken = approval.with_offered_terms(offered, by=caller(ALICE), now=NOON)

    refused(
        NotApprover,
        lambda: approval.accept(taken, policy=policy(), by=caller(ALICE), comment="", now=NOON, locks=locks(BOB)),
    )


def test_no_token_carries_what_the_locked_hold() -> None:
    for under in (locks(ALICE), locks(group="engineering")):
        refused(
            Locked,
            lambda under=under: token.demand_carriable(approved(), above={}, policies=(), now=NOON, locks=under),
        )


def test_what_runs_by_a_locked_token_is_over() -> None:
    running = Stream(asked=question(), grant="grants/g7", ends_at=NOON + HOUR, revision=1, token_id="t1")

    def why(under: Locks) -> str:
        return http_request.why_over(
            running,
            grants=(approved(),),
            evidence=Evidence(policies=(), now=NOON, locks=under),
        )

    assert "locked by locks/l1" in why(locks(token_id="t1"))
    assert "locked by locks/l1" in why(locks(ALICE))
    assert why(locks(token_id="t2")) == ""


def test_a_no_by_a_lock_names_whom_it_is_on_and_what_is_known_of_the_groups() -> None:
    held = approved()
    by_the_call = decided(held, under=locks(group="new"), groups=frozenset({"new"}))
    by_the_grant = decided(held, under=locks(group="engineering"))

    assert by_the_call.message == f"{ALICE} is locked by locks/l1, which is on the group new"
    assert (by_the_call.grant, by_the_call.findings) == (None, ())
    assert by_the_grant.message == f"{ALICE} is locked by locks/l1, which is on the group engineering"
    assert by_the_grant.grant == held
    assert [finding.grant for finding in by_the_grant.findings] == [held]


def test_a_no_by_a_lock_above_names_whom_it_is_on_and_by_which_group() -> None:
    above = replace(approved(), name="grants/a")
    of_bot = {"subject": BOT, "requester": BOT, "requester_groups": frozenset[str]()}
    child = replace(approved(), name="grants/c", chain=("grants/a",), **of_bot)

    def answer(on: Locks) -> Decision:
        return decided(child, under=on, above=(above,), subject=BOT)

    assert answer(locks(ALICE)).message == f"grants/c came from grants/a: {ALICE} is locked by locks/l1"
    assert answer(locks(group="engineering")).message == (
        f"grants/c came from grants/a: {ALICE} is locked by locks/l1, which is on the group engineering"
    )
    assert answer(locks(group="contractors")).allowed


PASSABLE = policy(steps=(step("owners"), step("security")))


def test_a_lock_on_who_passed_a_step_takes_the_request_back_to_that_step() -> None:
    passed, under = approve(pending(PASSABLE), under=PASSABLE), {"policy": PASSABLE, "now": NOON}
    half = terms.Edits(duration=HOUR / 2)
    acts = (
        lambda by, on: approval.approve(passed, by=by, comment="", locks=on, **under),
        lambda by, on: approval.deny(passed, by=by, comment="", locks=on, **under),
        lambda by, on: approval.counter(passed, half, by=by, comment="", locks=on, **under),
    )

    for act in acts:
        assert act(carol(), NO_LOCKS)
        assert refused(NotApprover, lambda act=act: act(carol(), locks(BOB))).message.startswith(
            "grants/g7 waits for step 1 of policies/orders"
        )
        assert act(erin(), locks(BOB))
    assert approval.is_reviewable(passed, by=carol(), locks=NO_LOCKS, **under)
    assert not approval.is_reviewable(passed, by=carol(), locks=locks(BOB), **under)


def test_a_place_that_was_found_before_the_lock_is_no_way_round_it() -> None:
    passed = approve(pending(PASSABLE), under=PASSABLE)
    place = approval.demand_reviewer(passed, policy=PASSABLE, by=carol(), now=NOON)

    def approved_at(on: Locks) -> datetime | None:
        given = approval.approve(passed, policy=PASSABLE, by=carol(), comment="", now=NOON, place=place, locks=on)[0]
        return given.approved_at

    assert approved_at(NO_LOCKS) == NOON
    refused(NotApprover, lambda: approved_at(locks(BOB)))


def test_an_approval_beside_that_of_the_locked_does_not_start_the_next_steps_clock() -> None:
    under = policy(steps=(step("owners", needed=2), step("security")))
    once = approve(pending(under), under=under)

    def clock(on: Locks) -> datetime | None:
        later = NOON + TICK
        return approval.approve(once, policy=under, by=erin(), comment="", now=later, locks=on)[0].step_since

    assert clock(NO_LOCKS) == NOON + TICK
    assert clock(locks(BOB)) == NOON


def test_an_offer_beside_the_approval_of_the_locked_is_not_the_last_that_is_needed() -> None:
    once = approve(pending(TWO), under=TWO)
    edits = terms.Edits(duration=HOUR / 2)
    offered = approval.counter(once, edits, policy=TWO, by=erin(), comment="", now=NOON)[0]
    taken = approval.with_offered_terms(offered, by=caller(ALICE), now=NOON)

    def accepted(on: Locks) -> Grant:
        return approval.accept(taken, policy=TWO, by=caller(ALICE), comment="", now=NOON + TICK, locks=on)[0]

    assert accepted(NO_LOCKS).state(NOON + TICK) is GrantState.ACTIVE
    locked = accepted(locks(BOB))
    assert (locked.state(NOON + TICK), locked.step_since) == (GrantState.PENDING, NOON)


def test_a_denial_of_the_locked_does_not_count() -> None:
    under = policy(steps=(replace(step("owners"), denials_needed=2),))
    once = approval.deny(pending(under), policy=under, by=bob(), comment="no", now=NOON)[0]

    def second(on: Locks) -> GrantState:
        return approval.deny(once, policy=under, by=erin(), comment="no", now=NOON, locks=on)[0].state(NOON)

    assert second(NO_LOCKS) is GrantState.DENIED
    assert second(locks(BOB)) is GrantState.PENDING


def test_an_approval_counts_unless_a_lock_is_on_its_people_under_whatever_name_or_on_a_group_they_proved() -> None:
    bob_is, dave_is = Account("https://login.example.com", "bob"), Account("https://login.example.com", "dave")
    right = Right(holder=BOB, groups=bob().groups, delegation="delegations/d0", account=bob_is)
    origin = Origin(issuer=dave_is.issuer, issuer_subject=dave_is.subject)
    once = approve(pending(TWO), by=caller(DAVE)._replace(origin=origin, delegated=(right,)), under=TWO)

    def second(on: Locks) -> GrantState:
        return approval.approve(once, policy=TWO, by=erin(), comment="", now=NOON, locks=on)[0].state(NOON)

    for account in (bob_is, dave_is):
        assert second(Locks([replace(lock(CAROL), accounts=(account,))])) is GrantState.PENDING
    assert second(locks(group="owners")) is GrantState.PENDING
    assert second(locks(group="contractors")) is GrantState.ACTIVE


def test_a_step_that_is_waited_for_again_since_the_lock_is_passed_when_it_is_approved_again() -> None:
    passed, later = approve(pending(PASSABLE), under=PASSABLE), NOON + TICK

    again = approval.approve(passed, policy=PASSABLE, by=erin(), comment="", now=later, locks=locks(BOB))[0]

    assert again.step_since == later
