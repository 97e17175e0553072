"""What a transition writes down, field by field: the review, the child, the delegation, more time, and the event."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from jit_service.domain.audit.event import SERVICE, Event, EventType
from jit_service.domain.caller import Caller, Origin, Role
from jit_service.domain.conditions.kept_claims import keep, told
from jit_service.domain.errors import JitError, NotApprover, NotYours, StaleEtag, WrongState
from jit_service.domain.frozen import replace
from jit_service.domain.grants import approval, children, more_time, quorum, request
from jit_service.domain.grants import delegation as delegations
from jit_service.domain.grants import grant as rules
from jit_service.domain.grants.delegation import Delegation, NewDelegation
from jit_service.domain.grants.grant import (
    ExtensionState,
    Grant,
    GrantState,
    Justification,
    Limits,
    Review,
    ReviewDecision,
    Terms,
)
from jit_service.domain.grants.more_time import MoreTime
from jit_service.domain.grants.quorum import ReviewPlace
from jit_service.domain.grants.terms import Edits
from jit_service.domain.person import Account, Person
from jit_service.domain.policies.policy import CommentRule, Policy, Step
from tests.domain.factories import (
    ALICE,
    BOB,
    BOT,
    CAROL,
    DAVE,
    HOUR,
    NOON,
    accepted,
    alice,
    approve,
    approved,
    ask,
    bob,
    caller,
    carol,
    countered,
    dave,
    erin,
    extending,
    extension,
    in_place_of,
    pending,
    policy,
    step,
)
from tests.domain.grants.test_grant import refused

MINUTE = timedelta(minutes=1)
LATER = NOON + MINUTE
TWO = policy(steps=(step("owners", needed=2),))
TWO_STEPS = policy(steps=(step("owners"), step("security")))
# Asked for in whole, so that every field has a value of its own.
WIDE: dict[str, Any] = {"resources": ("database/orders/*",), "actions": ("read", "rows.*"), "duration": 2 * HOUR}
HALF = Terms(resources=("database/orders/*",), actions=("read", "rows.*"), duration=HOUR, start_at=None)


def known(by: Caller) -> Caller:
    """The caller, with a token of an issuer that has a name for it and for the token."""
    origin = replace(by.origin, issuer="https://login.example.com", issuer_subject="7", token_id="t1")
    return by._replace(origin=origin, claims={"level": 2})


ACCOUNT = Account("https://login.example.com", "7")


def recorded(event: Event) -> tuple[EventType, Any, str, Origin, str]:
    return event.type, event.at, event.principal, event.origin, event.message


# Reviews


def test_a_denial_is_recorded_with_who_gave_it_and_by_what() -> None:
    step_ = replace(step("owners"), denials_needed=2, condition='duration > duration("1s")')
    under = policy(steps=(step_,))

    denied, event = approval.deny(pending(under), policy=under, by=known(bob()), comment="not now", now=LATER)

    assert denied.reviews == (
        Review(
            reviewer=BOB,
            groups=bob().groups,
            decision=ReviewDecision.DENIED,
            step=0,
            comment="not now",
            at=LATER,
            account=ACCOUNT,
            holder_account=ACCOUNT,
            token_id="t1",
        ),
    )
    assert recorded(event) == (EventType.GRANT_DENIED, LATER, BOB, known(bob()).origin, "not now")


def test_an_offer_is_recorded_with_its_terms_and_whose_right_it_uses() -> None:
    asked = pending(**WIDE)
    by = in_place_of(known(dave()), bob())

    offered, event = approval.counter(
        asked,
        Edits(duration=HOUR, actions=("read",), resources=("database/orders/eu",)),
        policy=policy(),
        by=by,
        comment="less",
        now=LATER,
    )

    terms = replace(HALF, actions=("read",), resources=("database/orders/eu",))
    assert offered.offer == Review(
        reviewer=DAVE,
        groups=bob().groups,
        decision=ReviewDecision.APPROVED,
        step=0,
        comment="less",
        at=LATER,
        on_behalf_of=BOB,
        delegation="delegations/d0",
        terms=terms,
        account=ACCOUNT,
        token_id="t1",
    )
    assert recorded(event) == (EventType.GRANT_COUNTERED, LATER, DAVE, by.origin, "less")
    assert (event.resources, event.actions, event.duration) == (terms.resources, terms.actions, terms.duration)
    assert event.delegation == "delegations/d0"


def test_an_accepted_offer_is_recorded_with_the_delegation_that_it_used() -> None:
    offered = countered(pending(**WIDE), by=in_place_of(dave(), bob()), duration=HOUR)
    taken = approval.with_offered_terms(offered, by=alice(), now=NOON)

    _, event = approval.accept(
        taken, policy=policy(), by=alice(), comment="fine", now=NOON, delegations=["delegations/d0"]
    )

    assert recorded(event) == (EventType.COUNTER_OFFER_ACCEPTED, NOON, ALICE, alice().origin, "fine")
    assert event.delegation == "delegations/d0"


@pytest.mark.parametrize("by", [in_place_of(dave(), erin()), bob()])
def test_an_offer_does_not_count_where_its_maker_or_the_rights_holder_has_reviewed_since(by: Caller) -> None:
    offered = countered(pending(TWO, **WIDE), under=TWO, by=in_place_of(dave(), bob()), duration=HOUR)
    reviewed = approve(offered, under=TWO, by=by)

    with pytest.raises(JitError, match="has already reviewed grants/g7"):
        accepted(reviewed, under=TWO, delegations=["delegations/d0"])


RULE = policy(review_comment=CommentRule(required_to_approve=True, required_to_deny=True))


@pytest.mark.parametrize(
    "act",
    [
        lambda: approval.approve(pending(RULE), policy=RULE, by=bob(), comment=" ", now=NOON),
        lambda: approval.deny(pending(RULE), policy=RULE, by=bob(), comment=" ", now=NOON),
        lambda: approval.counter(pending(RULE), Edits(duration=MINUTE), policy=RULE, by=bob(), comment=" ", now=NOON),
    ],
)
def test_a_comment_that_is_missing_is_told_with_the_policy_that_asks_for_it(act: Callable[[], object]) -> None:
    with pytest.raises(JitError, match="comment: is required by policies/orders"):
        act()


# Steps and their clocks


def test_the_next_steps_clock_starts_when_an_offer_passes_the_one_before() -> None:
    offered = countered(pending(TWO_STEPS, **WIDE), under=TWO_STEPS, duration=HOUR)

    assert accepted(offered, under=TWO_STEPS, at=LATER).step_since == LATER


def test_an_approval_that_passes_no_step_leaves_the_clock_where_it_was() -> None:
    under = policy(steps=(step("owners"), step("security", needed=2)))
    passed = approve(pending(under), under=under, at=LATER)

    assert approve(passed, by=carol(), under=under, at=LATER + MINUTE).step_since == LATER


def test_a_step_that_the_given_terms_make_needless_is_passed_with_the_approval() -> None:
    """The next step's time is not shortened by what the needless one has waited."""
    long = replace(step("owners", needed=2), condition='duration > duration("1h")')
    under = policy(steps=(long, step("security")))
    asked = pending(under, **WIDE)

    place = approval.demand_reviewer(asked, policy=under, by=bob(), now=LATER)

    def given(grant: Grant) -> Grant:
        return approval.approve(grant, policy=under, by=bob(), comment="", now=LATER, place=place)[0]

    assert given(replace(asked, duration=HOUR, skipped=frozenset({0}))).step_since == LATER
    assert given(asked).step_since == NOON


def test_steps_that_are_not_needed_hold_nothing_up() -> None:
    never = replace(step("security"), condition='duration > duration("3h")')
    last, first = policy(steps=(step("owners"), never)), policy(steps=(never, step("owners")))

    for under in (last, first):
        assert approve(pending(under), under=under).state(NOON) is GrantState.ACTIVE


def test_who_approves_out_of_turn_is_told_which_step_comes_first() -> None:
    place = ReviewPlace(step=1, right=carol().rights("policies/orders")[0], escalated=False)

    error = refused(
        NotApprover,
        lambda: approval.approve(pending(TWO_STEPS), policy=TWO_STEPS, by=carol(), comment="", now=NOON, place=place),
    )

    assert error.message == (
        f"grants/g7 would wait for step 1 of policies/orders with these terms, and {CAROL} approves step 2"
    )
    assert error.metadata == {"grant": "grants/g7"}


def test_who_may_not_decide_is_told_the_condition_or_why_it_cannot_be_judged() -> None:
    def told(text: str) -> JitError:
        under = policy(steps=(Step(approvers=step("owners").approvers, condition=text),))
        return refused(NotApprover, lambda: approve(pending(under), under=under))

    not_met, unknown = told('reviewer.principal == "user:zoe"'), told("reviewer.nothing")

    prefix = f"{BOB} may not decide step 1 of policies/orders, whose condition "
    assert not_met.message == f'{prefix}is not met: reviewer.principal == "user:zoe"'
    assert unknown.message.startswith(f"{prefix}cannot be judged: ")
    assert not_met.metadata == unknown.metadata == {"grant": "grants/g7"}


def test_a_decision_names_the_request_that_waits_and_no_other_that_is_over() -> None:
    longer = approve(extension(approved()), under=extending())
    assert (longer.round, longer.extension_state(NOON)) == (1, ExtensionState.APPROVED)

    approval.demand_shown(longer, extension_round=0, etag="", now=NOON)
    refused(StaleEtag, lambda: approval.demand_shown(longer, extension_round=1, etag="", now=NOON))


# Requests, ends and more time


def test_a_request_is_recorded_with_the_context_that_was_asserted() -> None:
    wanted = ask(context={"ticket": "T-1"})
    judged = request.judge_request(wanted, policies=[policy()], by=alice(), grant_name="grants/g7", now=NOON)

    _, event = approval.open_request(judged, by=alice(), now=LATER)

    assert (event.context, event.at) == ({"ticket": "T-1"}, LATER)


def test_an_end_is_recorded_with_its_instant_and_why() -> None:
    grant, responder = approved(), caller("user:rita@example.com", roles=[Role.RESPONDER])

    _, withdrawn = approval.withdraw(pending(), by=alice(), comment="done", now=LATER)
    _, revoked = approval.revoke(grant, policy=policy(), by=responder, comment="stop", now=LATER)
    ended, misfit = rules.revoke_as_misfit(grant, why="it is gone", by=bob(), now=LATER)

    assert recorded(withdrawn) == (EventType.GRANT_WITHDRAWN, LATER, ALICE, alice().origin, "done")
    assert recorded(revoked) == (
        EventType.GRANT_REVOKED,
        LATER,
        responder.principal,
        responder.origin,
        "stop",
    )
    why = "the policies were changed: it is gone"
    assert recorded(misfit) == (EventType.GRANT_REVOKED, LATER, BOB, bob().origin, why)
    assert ended.end is not None
    assert (ended.end.comment, ended.end.at) == (why, LATER)


def test_whoever_reviewed_under_another_name_of_its_account_revokes() -> None:
    grant = approve(pending(), by=known(bob()))
    renamed = known(caller("user:robert@example.com"))

    assert approval.revoke(grant, policy=None, by=renamed, comment="over", now=NOON)[0].end


def test_more_time_is_recorded_with_who_asked_from_where_and_until_when_it_waits() -> None:
    by = known(alice())

    wanted = more_time.with_extension(
        approved(), MoreTime(duration=HOUR), policy=extending(request_ttl=MINUTE), by=by, now=NOON
    )

    assert wanted.extension == more_time.Extension(
        round=1,
        requester=ALICE,
        requester_groups=alice().groups,
        claims={},
        source_address="192.0.2.7",
        duration=HOUR,
        justification=Justification(),
        created_at=NOON,
        lapses_at=NOON + MINUTE,
        expires_at=NOON + MINUTE,
        requester_account=ACCOUNT,
    )


def more(grant: Grant, under: Policy, *, at: datetime = LATER, **asked: Any) -> tuple[Grant, Event]:
    """More time under a policy without steps, given at once."""
    wanted = more_time.with_extension(grant, MoreTime(duration=HOUR, **asked), policy=under, by=alice(), now=at)
    judged = request.judge_extension(wanted, policy=under, policies=[under], now=at)
    return approval.open_extension(judged, policy=under, by=alice(), now=at)


def test_more_time_without_a_ticket_is_recorded_with_the_text_alone() -> None:
    longer, event = more(approved(), extending(steps=()), justification=Justification(text="not done"))

    assert recorded(event) == (EventType.EXTENSION_REQUESTED, LATER, ALICE, alice().origin, "not done")
    assert longer.expires_at == NOON + 2 * HOUR


def test_limits_that_come_with_more_time_count_from_when_it_is_given() -> None:
    idle, free = extending(steps=(), idle_timeout=HOUR), extending(steps=())

    first, _ = more(approved(), idle, at=NOON)

    assert first.limits == Limits(idle_timeout=HOUR, since=NOON)
    assert more(first, idle)[0].limits == Limits(idle_timeout=HOUR, since=NOON)
    assert more(first, free)[0].limits == Limits()


def test_a_lapse_of_more_time_is_the_services_own_act() -> None:
    waiting = extension(approved())

    _, event = approval.lapse_extension(waiting, now=NOON + HOUR)
    error = refused(WrongState, lambda: approval.lapse_extension(waiting, now=NOON))

    assert (event.principal, event.message) == (SERVICE, "nobody decided in time")
    assert error.metadata == {"grant": "grants/g7"}


@pytest.mark.parametrize(
    ("act", "fact"),
    [
        (lambda: accepted(countered(pending(**WIDE), duration=HOUR), by=dave()), NotYours),
        (lambda: approval.decline(pending(), by=alice(), comment="", now=NOON), WrongState),
        (
            lambda: more_time.with_extension(
                approved(), MoreTime(duration=HOUR), policy=extending(), by=dave(), now=NOON
            ),
            NotYours,
        ),
        (
            lambda: children.judge_child(
                ask(subject=BOT), approved(), policies=[policy()], by=bob(), grant_name="grants/g8", now=NOON
            ),
            NotYours,
        ),
        (
            lambda: children.judge_child(
                ask(subject=BOT), approved(), policies=[policy()], by=alice(), grant_name="grants/g8", now=NOON
            ),
            JitError,
        ),
    ],
)
def test_a_refusal_tells_programs_the_grant(act: Callable[[], object], fact: type[JitError]) -> None:
    assert refused(fact, act).metadata == {"grant": "grants/g7"}


# What is passed on


def test_what_is_passed_on_is_recorded_whole() -> None:
    under = policy(max_child_depth=2, check_condition="claims.level >= 1", max_uses=5, revision=9)
    parent = approve(pending(under, by=known(alice()), **WIDE), under=replace(under, revision=7))
    wanted = ask(
        subject=ALICE,
        duration=MINUTE,
        max_uses=2,
        justification=Justification(text="a job"),
        labels={"team": "orders"},
        context={"run": 7},
    )

    child = children.judge_child(wanted, parent, policies=[under], by=known(alice()), grant_name="grants/g8", now=LATER)

    expected = Grant(
        name="grants/g8",
        requester=ALICE,
        requester_groups=alice().groups,
        requester_account=ACCOUNT,
        subject=ALICE,
        policy="policies/orders",
        policy_revision=9,
        steps=(),
        resources=("database/orders/eu",),
        actions=("read",),
        duration=MINUTE,
        justification=Justification(text="a job"),
        created_at=LATER,
        request_expires_at=LATER + 8 * HOUR,
        request_ttl=8 * HOUR,
        limits=Limits(max_uses=2),
        chain=("grants/g7",),
        labels={"team": "orders"},
        context={"run": 7},
        claims=keep({"level": 2}, frozenset({"level"})),
        source_address="192.0.2.7",
        check_condition="claims.level >= 1",
        approved_at=LATER,
        starts_at=LATER,
        expires_at=LATER + MINUTE,
    )
    assert child == expected


def test_a_child_of_idle_access_counts_its_own_idleness_from_its_start() -> None:
    under = extending(max_child_depth=1, idle_timeout=HOUR, steps=())
    parent, _ = more(approved(), under, at=NOON)
    assert parent.limits.since == NOON

    child = children.judge_child(
        ask(subject=BOT), parent, policies=[under], by=alice(), grant_name="grants/g8", now=LATER
    )

    assert child.limits == Limits(idle_timeout=HOUR)


def test_the_last_use_may_be_passed_on_and_none_after_it() -> None:
    under = policy(max_child_depth=1, max_uses=1)
    parent = approve(pending(under), under=under)
    used = rules.with_use(parent, now=NOON)

    def passed_on(above: Grant) -> Grant:
        return children.judge_child(
            ask(subject=BOT), above, policies=[under], by=alice(), grant_name="grants/g8", now=NOON
        )

    assert passed_on(parent).limits.max_uses == 1
    with pytest.raises(JitError, match="max_uses: is 1; grants/g7 has 0 left"):
        passed_on(used)


# Delegations


def test_a_delegation_and_its_ends_are_recorded_whole() -> None:
    by = known(bob())._replace(exact=("user:Dave",))
    wanted = NewDelegation(delegate="user:Dave@example.com", expires_at=NOON + HOUR, comment="on leave")

    made, created = delegations.create(wanted, delegation_name="delegations/d1", by=by, now=LATER)
    _, deleted = delegations.delete(made, by=by, now=LATER)
    lost = replace(made, delegator_groups=frozenset({"b", "a"}))
    _, ended = delegations.end_lost(lost, by=caller(BOB), now=LATER)

    assert made == Delegation(
        name="delegations/d1",
        delegator=BOB,
        delegator_groups=bob().groups,
        delegator_account=ACCOUNT,
        delegate="user:Dave@example.com",
        policies=(),
        starts_at=LATER,
        expires_at=NOON + HOUR,
        comment="on leave",
        created_at=LATER,
    )
    assert made.right.account == ACCOUNT
    assert recorded(created) == (EventType.DELEGATION_CREATED, LATER, BOB, by.origin, "on leave")
    assert recorded(deleted) == (EventType.DELEGATION_DELETED, LATER, BOB, by.origin, "deleted")
    assert recorded(ended) == (
        EventType.DELEGATION_DELETED,
        LATER,
        BOB,
        caller(BOB).origin,
        f"{BOB} came without a, b",
    )


def test_one_person_counts_once_under_another_name_of_its_account_also_in_anothers_place() -> None:
    reviewed = approve(pending(TWO), under=TWO, by=in_place_of(known(dave()), bob()))

    assert quorum.has_reviewed(reviewed, Person("user:david@example.com", ACCOUNT))
    assert not quorum.has_reviewed(reviewed, Person("user:david@example.com"))


def test_more_time_that_its_holder_asks_for_leaves_the_claims_of_access_that_another_asked_for() -> None:
    under = extending(steps=(), check_condition="claims.level >= 2")
    of_bot = replace(approved(), requester=BOT, requester_groups=frozenset())
    wanted = more_time.with_extension(of_bot, MoreTime(duration=HOUR), policy=under, by=known(alice()), now=NOON)

    assert wanted.extension is not None
    assert told(wanted.extension.claims) == {"level": 2}
    assert more_time.lengthen(wanted, under, now=NOON).claims == {}
