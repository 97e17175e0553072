"""The decision: allowed only by one active grant that covers the question and that no deny policy overrules (I1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jit_service.domain.caller import Caller
from jit_service.domain.checks.decision import Decision, Question, Reason, decide
from jit_service.domain.checks.evidence import Evidence
from jit_service.domain.conditions.kept_claims import told
from jit_service.domain.grants import children
from jit_service.domain.grants import grant as rules
from jit_service.domain.grants.grant import End, Grant, GrantState
from jit_service.domain.policies.policy import Policy, PrincipalSet
from tests.domain.factories import (
    ALICE,
    BOB,
    BOT,
    HOUR,
    NOON,
    TICK,
    alice,
    approve,
    approved,
    ask,
    bob,
    caller,
    deny,
    deny_policy,
    erin,
    named,
    pending,
    policy,
    question,
    release,
    revoke,
    withdraw,
)
from tests.examples import examples

WITH_BOT = policy(eligible=PrincipalSet(principals=(BOT,), groups=("engineering",)))
BY_NAME = deny_policy(eligible=PrincipalSet(principals=(ALICE,)))
NOBODYS_GROUPS = frozenset[str]()


def answer(
    *grants: Grant, denies: Sequence[Policy] = (), at: datetime = NOON, asked: Question | None = None
) -> Decision:
    return decide(asked or question(), grants=grants, evidence=Evidence(policies=denies, now=at))


def contractors_grant() -> Grant:
    """Of alice, whose token said that she is a contractor when she asked."""
    contractor = caller(ALICE, "engineering", "contractors")
    return approve(pending(by=contractor))


# Allowed


def test_an_active_grant_that_covers_the_question_allows_it() -> None:
    grant = approved()

    decision = answer(grant)

    assert decision.allowed
    assert (decision.reason, decision.grant) == (Reason.ALLOWED, grant)
    assert decision.message == "grants/g7 allows it until 2026-03-02T13:00:00Z"


def test_access_begins_exactly_at_its_start() -> None:
    grant = approved(start_at=NOON + HOUR)

    assert not answer(grant, at=NOON + HOUR - TICK).allowed
    assert answer(grant, at=NOON + HOUR).allowed


def test_access_ends_exactly_at_its_expiry() -> None:
    grant = approved(ttl=HOUR)

    assert answer(grant, at=NOON + HOUR - TICK).allowed
    assert not answer(grant, at=NOON + HOUR).allowed


def test_of_several_grants_that_allow_it_the_longest_is_named() -> None:
    short, long = named(approved(ttl=HOUR), "grants/short"), named(approved(ttl=2 * HOUR), "grants/long")

    assert answer(short, long).grant == long
    assert answer(long, short).grant == long


def test_an_explanation_never_hides_a_grant_that_allows_it() -> None:
    others = [pending(), approved(start_at=NOON + HOUR), revoke(approved()), contractors_grant()]

    assert answer(*others, approved(), denies=[deny_policy()]).allowed
    assert answer(approved(), *others, denies=[deny_policy()]).allowed


# Not covered


def test_without_a_grant_nothing_is_allowed() -> None:
    decision = answer()

    assert (decision.allowed, decision.reason, decision.grant) == (False, Reason.NO_GRANT, None)
    assert decision.message == f"no grant lets {ALICE} read on database/orders/eu"
    assert decision.findings == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": BOB},
        {"subject": "user:Alice@example.com"},
        {"action": "write"},
        {"action": "Read"},
        {"action": "read.all"},
        {"resource": "database/orders/us"},
        {"resource": "database/orders/EU"},
        {"resource": "database/orders"},
        {"resource": "database/orders/eu/rows"},
    ],
    ids=lambda changes: next(iter(changes.values())),
)
def test_a_grant_allows_nothing_else(changes: dict[str, str]) -> None:
    assert answer(approved(), asked=question(**changes)).reason is Reason.NO_GRANT


def test_letter_case_counts_in_checks() -> None:
    assert not answer(approved(), asked=question(subject="user:Alice@example.com")).allowed
    assert not answer(approved(), asked=question(action="READ")).allowed
    assert not answer(approved(), asked=question(resource="database/orders/EU")).allowed


def test_a_grant_of_part_of_a_path_gives_nothing_below_it() -> None:
    one_level = approved(resources=("database/orders/*",))

    assert answer(one_level).allowed
    assert not answer(one_level, asked=question(resource="database/orders/eu/1")).allowed


def test_a_grant_is_its_subjects_not_its_requesters() -> None:
    grant = approve(pending(WITH_BOT, subject=BOT), under=WITH_BOT)

    assert answer(grant, asked=question(subject=BOT)).allowed
    assert answer(grant, asked=question(subject=ALICE)).reason is Reason.NO_GRANT


def test_a_grant_of_patterns_allows_what_they_cover() -> None:
    grant = approved(resources=("database/orders/**",), actions=("rows.*",))

    assert answer(grant, asked=question(action="rows.create", resource="database/orders/eu/1")).allowed
    assert not answer(grant, asked=question(action="rows", resource="database/orders/eu")).allowed
    assert not answer(grant, asked=question(action="rows.create", resource="database/orders")).allowed


def test_two_grants_do_not_add_up() -> None:
    reads_us = approved(resources=("database/orders/us",), actions=("read",))
    creates_eu = approved(resources=("database/orders/eu",), actions=("rows.create",))

    assert answer(reads_us, creates_eu).reason is Reason.NO_GRANT


# Why not


def test_a_scheduled_grant_explains_when_it_starts() -> None:
    decision = answer(approved(start_at=NOON + HOUR))

    assert decision.reason is Reason.NOT_YET_STARTED
    assert decision.message == "grants/g7 starts at 2026-03-02T13:00:00Z"


def test_a_pending_request_explains_until_when_it_waits() -> None:
    decision = answer(pending())

    assert decision.reason is Reason.PENDING
    assert decision.message == "grants/g7 waits for approval until 2026-03-02T20:00:00Z"


def test_an_expired_grant_explains_since_when() -> None:
    decision = answer(approved(at=NOON - 2 * HOUR))

    assert decision.reason is Reason.EXPIRED
    assert decision.message == "grants/g7 expired at 2026-03-02T11:00:00Z"


def test_instants_in_messages_are_cut_to_the_second() -> None:
    assert answer(approved(at=NOON - TICK)).message == "grants/g7 allows it until 2026-03-02T12:59:59Z"


def test_a_revoked_grant_explains_since_when() -> None:
    decision = answer(revoke(approved()))

    assert decision.reason is Reason.REVOKED
    assert decision.message == "grants/g7 was revoked at 2026-03-02T12:00:00Z"


def test_a_released_grant_explains_since_when() -> None:
    decision = answer(release(approved()))

    assert decision.reason is Reason.RELEASED
    assert decision.message == "grants/g7 was released at 2026-03-02T12:00:00Z"


def test_what_was_never_access_explains_nothing() -> None:
    never = [deny(pending()), withdraw(pending()), pending(at=NOON - 8 * HOUR)]

    assert [grant.state(NOON) for grant in never] == ["DENIED", "WITHDRAWN", "LAPSED"]
    assert answer(*never).reason is Reason.NO_GRANT


def test_of_several_explanations_the_most_helpful_is_given() -> None:
    denied, scheduled = contractors_grant(), approved(start_at=NOON + HOUR)
    asked_for, expired = pending(), approved(at=NOON - 2 * HOUR)
    best_first = [denied, scheduled, asked_for, expired]

    reasons = [answer(*reversed(best_first[n:]), denies=[deny_policy()]).reason for n in range(4)]

    assert reasons == [Reason.DENIED_BY_POLICY, Reason.NOT_YET_STARTED, Reason.PENDING, Reason.EXPIRED]


def test_of_several_past_grants_the_one_that_ended_last_explains() -> None:
    expired = approved(at=NOON - 2 * HOUR, ttl=HOUR)
    revoked = revoke(approved(at=NOON - 2 * HOUR, ttl=4 * HOUR), at=NOON - HOUR - TICK)
    released = release(approved(at=NOON - 2 * HOUR, ttl=4 * HOUR), at=NOON - HOUR + TICK)

    assert answer(expired, revoked).reason is Reason.EXPIRED
    assert answer(revoked, released, expired).reason is Reason.RELEASED


def test_every_grant_that_was_looked_at_is_in_the_findings() -> None:
    active, expired = named(approved(), "grants/a"), named(approved(at=NOON - 2 * HOUR), "grants/b")
    others = [approved(resources=("database/orders/us",)), withdraw(pending())]

    findings = answer(active, expired, *others).findings

    assert [(finding.name, finding.reason) for finding in findings] == [
        ("grants/a", Reason.ALLOWED),
        ("grants/b", Reason.EXPIRED),
    ]
    assert [finding.grant for finding in findings] == [active, expired]


# Deny policies


def test_a_deny_beats_every_grant() -> None:
    decision = answer(contractors_grant(), contractors_grant(), denies=[policy(priority=99), deny_policy()])

    assert decision.reason is Reason.DENIED_BY_POLICY
    assert decision.message == f"policies/no-contractors denies {ALICE} read on database/orders/eu"
    assert [finding.name for finding in decision.findings] == ["policies/no-contractors"] * 2


def test_a_deny_by_name_applies_to_that_subject_only() -> None:
    bobs = approve(pending(by=bob()), by=erin())

    assert answer(approved(), denies=[BY_NAME]).reason is Reason.DENIED_BY_POLICY
    assert answer(bobs, denies=[BY_NAME], asked=question(subject=BOB)).allowed


def test_a_deny_by_name_forbids_in_any_letter_case() -> None:
    for denied in ("user:ALICE@example.com", "user:Alice@Example.Com"):
        deny = deny_policy(eligible=PrincipalSet(principals=(denied,)))

        assert answer(approved(), denies=[deny]).reason is Reason.DENIED_BY_POLICY


def test_a_deny_for_a_group_that_the_subject_is_not_in_denies_nothing() -> None:
    assert answer(approved(), denies=[deny_policy()]).allowed
    assert answer(approved(), denies=[deny_policy()], asked=question(groups=frozenset({"engineering"}))).allowed


def test_a_deny_not_in_force_denies_nothing() -> None:
    assert answer(approved(), denies=[replace(BY_NAME, disabled=True)]).allowed
    assert answer(approved(), denies=[replace(BY_NAME, deleted_at=NOON)]).allowed


def test_a_deny_of_something_else_denies_nothing() -> None:
    assert answer(approved(), denies=[replace(BY_NAME, resources=("database/orders/us",))]).allowed
    assert answer(approved(), denies=[replace(BY_NAME, actions=("rows.*",))]).allowed


def test_a_deny_of_part_of_what_a_grant_gives_denies_that_part_only() -> None:
    grant = approved(resources=("database/orders/*",))
    of_us = replace(BY_NAME, resources=("database/orders/us",))

    assert answer(grant, denies=[of_us]).allowed
    assert not answer(grant, denies=[of_us], asked=question(resource="database/orders/us")).allowed


def test_a_deny_sees_the_groups_that_this_call_proves() -> None:
    asked = question(groups=frozenset({"engineering", "contractors"}))

    assert answer(approved(), denies=[deny_policy()], asked=asked).reason is Reason.DENIED_BY_POLICY


def test_a_deny_still_sees_the_groups_of_the_request_where_this_call_proves_others() -> None:
    asked = question(groups=NOBODYS_GROUPS)

    assert answer(contractors_grant(), denies=[deny_policy()], asked=asked).reason is Reason.DENIED_BY_POLICY


def test_a_deny_for_any_group_applies_where_nobody_proved_the_subjects_groups() -> None:
    grant = approve(pending(WITH_BOT, subject=BOT), under=WITH_BOT)

    decision = answer(grant, denies=[deny_policy()], asked=question(subject=BOT))

    assert decision.reason is Reason.DENIED_BY_POLICY


def test_a_deny_for_a_group_does_not_apply_once_the_subject_proves_its_groups() -> None:
    grant = approve(pending(WITH_BOT, subject=BOT), under=WITH_BOT)

    assert answer(grant, denies=[deny_policy()], asked=question(subject=BOT, groups=NOBODYS_GROUPS)).allowed


def test_a_deny_by_name_alone_needs_no_groups() -> None:
    grant = approve(pending(WITH_BOT, subject=BOT), under=WITH_BOT)

    assert answer(grant, denies=[BY_NAME], asked=question(subject=BOT)).allowed


def test_a_deny_judges_each_grant_by_the_groups_of_its_own_request() -> None:
    """Judged by the groups of all grants together, removing one could turn a no into a yes (I14)."""
    clean = named(approved(), "grants/clean")

    decision = answer(contractors_grant(), clean, denies=[deny_policy()])

    assert (decision.reason, decision.grant) == (Reason.ALLOWED, clean)


# Parts of a segment


def test_a_deny_of_the_beginning_of_a_segment_denies_whatever_begins_so() -> None:
    wide = replace(approved(), resources=("k8s/**",))
    deny = deny_policy(eligible=PrincipalSet(principals=(wide.subject,)), resources=("k8s/prod-*", "k8s/prod-*/**"))

    def reason(resource: str) -> Reason:
        return answer(wide, denies=[deny], asked=question(resource=resource)).reason

    for denied in ("k8s/prod-", "k8s/prod-eu", "k8s/prod-eu/secrets"):
        assert reason(denied) is Reason.DENIED_BY_POLICY
    for allowed in ("k8s/prod", "k8s/Prod-eu", "k8s/test/prod-eu"):
        assert reason(allowed) is Reason.ALLOWED


def test_a_grant_of_the_beginning_of_a_segment_ends_with_the_segment() -> None:
    given = replace(approved(), resources=("k8s/prod-*",), actions=("pods/*",))

    def reason(action: str, resource: str) -> Reason:
        return answer(given, asked=question(action=action, resource=resource)).reason

    assert reason("pods/exec", "k8s/prod-eu") is Reason.ALLOWED
    assert reason("pods/exec", "k8s/prod-eu/secrets") is Reason.NO_GRANT
    assert reason("pods/exec.all", "k8s/prod-eu") is Reason.NO_GRANT
    assert reason("pods", "k8s/prod-eu") is Reason.NO_GRANT


# Broken facts


@pytest.mark.parametrize("state", [GrantState.ACTIVE, GrantState.SCHEDULED])
def test_a_grant_without_its_instants_decides_nothing(state: GrantState) -> None:
    broken = replace(pending(), end=End(state=state, at=NOON, by=ALICE, comment=""))

    with pytest.raises(AssertionError, match="without its instants"):
        answer(broken)


# Properties

TARGETS = ("database/a/x", "database/a/y", "database/b/x")
VERBS = ("read", "rows.create")
# What each pattern matches of this small world, written by hand, so that it does not rest on the code's own matching.
RESOURCE_REACH = {
    "**": TARGETS,
    "database/**": TARGETS,
    "database/*/x": ("database/a/x", "database/b/x"),
    "database/a/*": ("database/a/x", "database/a/y"),
    "database/a/x": ("database/a/x",),
    "database/*": (),
    "database/a/x*": ("database/a/x",),
    "database/a*/x": ("database/a/x",),
    "data*/**": TARGETS,
    "database/a*": (),
    "database/a/x/**": (),
}
ACTION_REACH = {
    "**": VERBS,
    "*": ("read",),
    "read": ("read",),
    "re*": ("read",),
    "rows.*": ("rows.create",),
    "rows.**": ("rows.create",),
    "rows.c*": ("rows.create",),
}
# What reaches widest stands several times, so that grants, denies and questions often meet.
RESOURCE_PATTERNS = ("**", "database/**", "database/a/*") * 3 + tuple(RESOURCE_REACH)
ACTION_PATTERNS = ("**",) * 4 + tuple(ACTION_REACH)

people = st.sampled_from((ALICE,) * 6 + (BOB, BOT))
crowds = st.sampled_from(("engineering", "contractors", "owners"))
memberships = st.frozensets(crowds, max_size=2)
instants = st.integers(-3, 3).map(lambda ticks: NOON + ticks * TICK)


def some(elements: Sequence[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(elements), min_size=1, max_size=2).map(tuple)


@st.composite
def grants(draw: st.DrawFn) -> Grant:
    """Any facts around NOON, those that no transition leads to included."""
    subject, requester = draw(people), draw(st.none() | people | st.just(BOB))
    starts_at = draw(st.sampled_from((None, *(NOON + ticks * TICK for ticks in (-2, -1, -1, 0, 0, 1)))))
    expires_at = None if starts_at is None else starts_at + draw(st.integers(1, 3)) * TICK
    ends = (GrantState.REVOKED, GrantState.RELEASED) if starts_at else (GrantState.DENIED, GrantState.WITHDRAWN)
    ended = st.builds(End, state=st.sampled_from(ends), at=instants, by=people, comment=st.just(""))
    end = draw(ended) if draw(st.integers(0, 3)) == 3 else None
    return replace(
        pending(by=alice()),
        subject=subject,
        requester=requester or subject,
        requester_groups=draw(memberships | st.none()),
        resources=draw(some(RESOURCE_PATTERNS)),
        actions=draw(some(ACTION_PATTERNS)),
        request_expires_at=draw(instants),
        starts_at=starts_at,
        expires_at=expires_at,
        end=end,
    )


@st.composite
def denying(draw: st.DrawFn) -> Policy:
    """A policy that mostly denies, and mostly is in force."""
    named_people = draw(st.sampled_from(((), (), (), (ALICE,), (BOB, BOT))))
    crowd = draw(st.lists(crowds, min_size=0 if named_people else 1, max_size=2).map(tuple))
    return deny_policy(
        eligible=PrincipalSet(principals=named_people, groups=crowd),
        resources=draw(some(RESOURCE_PATTERNS)),
        actions=draw(some(ACTION_PATTERNS)),
        deny=draw(st.integers(0, 4)) > 0,
        disabled=draw(st.integers(0, 6)) == 0,
        deleted_at=draw(st.sampled_from((None,) * 6 + (NOON,))),
    )


questions = st.builds(
    Question,
    subject=people,
    action=st.sampled_from(VERBS),
    resource=st.sampled_from(TARGETS),
    groups=st.none() | memberships,
    context=st.just({}),
).map(lambda asked: asked._replace(groups=None) if asked.groups_left_out else asked)


def in_reach(of: Grant | Policy, asked: Question) -> bool:
    reached = any(asked.resource in RESOURCE_REACH[pattern] for pattern in of.resources)
    return reached and any(asked.action in ACTION_REACH[pattern] for pattern in of.actions)


def forbids(rule: Policy, grant: Grant, asked: Question) -> bool:
    """Said the other way round: is there no way that the deny might be meant for this subject?"""
    if not rule.deny or rule.disabled or rule.deleted_at or not in_reach(rule, asked):
        return False
    proofs = [asked.groups]
    if grant.requester == grant.subject:
        proofs.append(grant.requester_groups)
    known = [proof for proof in proofs if proof is not None]
    unknown = asked.groups_left_out or not known
    might_be_in = set(rule.eligible.groups) if unknown else {group for proof in known for group in proof}
    return asked.subject in rule.eligible.principals or any(group in rule.eligible.groups for group in might_be_in)


def allowed_by_i1(asked: Question, held: Sequence[Grant], rules: Sequence[Policy], now: datetime) -> bool:
    """Invariant I1, word for word: one ACTIVE grant covers it, started, not over, not ended; no deny covers it."""
    for grant in held:
        mine = grant.subject == asked.subject and in_reach(grant, asked)
        running = (
            grant.starts_at is not None and grant.expires_at is not None and grant.starts_at <= now < grant.expires_at
        )
        if mine and running and grant.end is None and not any(forbids(rule, grant, asked) for rule in rules):
            return True
    return False


worlds = st.tuples(questions, st.lists(grants(), max_size=4), st.lists(denying(), max_size=3))


@settings(max_examples=examples(80))
@given(worlds)
def test_the_decision_is_what_i1_says(world: tuple[Question, list[Grant], list[Policy]]) -> None:
    asked, held, rules = world

    decision = decide(asked, grants=held, evidence=Evidence(policies=rules, now=NOON))

    assert decision.allowed == allowed_by_i1(asked, held, rules, NOON)


@settings(max_examples=examples(50))
@given(worlds)
def test_a_yes_rests_on_a_grant_that_is_its_own_proof(world: tuple[Question, list[Grant], list[Policy]]) -> None:
    asked, held, rules = world

    decision = decide(asked, grants=held, evidence=Evidence(policies=rules, now=NOON))

    if decision.allowed:
        assert decision.grant is not None
        assert allowed_by_i1(asked, [decision.grant], rules, NOON)


@settings(max_examples=examples(50))
@given(worlds, denying())
def test_adding_a_deny_never_turns_a_no_into_a_yes(
    world: tuple[Question, list[Grant], list[Policy]], added: Policy
) -> None:
    asked, held, rules = world
    before = decide(asked, grants=held, evidence=Evidence(policies=rules, now=NOON))

    after = decide(asked, grants=held, evidence=Evidence(policies=[added, *rules], now=NOON))

    assert before.allowed or not after.allowed


@settings(max_examples=examples(50))
@given(worlds, st.integers(0, 3))
def test_removing_a_grant_never_turns_a_no_into_a_yes(
    world: tuple[Question, list[Grant], list[Policy]], removed: int
) -> None:
    asked, held, rules = world
    before = decide(asked, grants=held, evidence=Evidence(policies=rules, now=NOON))

    after = decide(asked, grants=held[:removed] + held[removed + 1 :], evidence=Evidence(policies=rules, now=NOON))

    assert before.allowed or not after.allowed


@settings(max_examples=examples(50))
@given(worlds, crowds)
def test_proving_one_group_more_never_turns_a_no_into_a_yes(
    world: tuple[Question, list[Grant], list[Policy]], group: str
) -> None:
    asked, held, rules = world
    proved = asked._replace(groups=asked.groups or NOBODYS_GROUPS, groups_left_out=False)
    before = decide(proved, grants=held, evidence=Evidence(policies=rules, now=NOON))

    after = decide(
        proved._replace(groups=frozenset({group, *(proved.groups or ())})),
        grants=held,
        evidence=Evidence(policies=rules, now=NOON),
    )

    assert before.allowed or not after.allowed


def over_at(decision: Decision) -> datetime | None:
    grant = decision.grant
    return None if grant is None else grant.end.at if grant.end is not None else grant.expires_at


@settings(max_examples=examples(30))
@given(worlds)
def test_the_order_of_grants_and_policies_changes_no_answer(
    world: tuple[Question, list[Grant], list[Policy]],
) -> None:
    asked, held, rules = world

    forwards = decide(asked, grants=held, evidence=Evidence(policies=rules, now=NOON))
    backwards = decide(asked, grants=held[::-1], evidence=Evidence(policies=rules[::-1], now=NOON))

    assert forwards.allowed == backwards.allowed
    if forwards.reason is not backwards.reason:
        # Of two that ended in the same instant, either explains.
        assert {forwards.reason, backwards.reason} <= {Reason.EXPIRED, Reason.REVOKED, Reason.RELEASED}
        assert over_at(forwards) == over_at(backwards)


@settings(max_examples=examples(30))
@given(worlds, st.timedeltas(timedelta(), timedelta(days=400)))
def test_what_is_over_is_over_for_ever(world: tuple[Question, list[Grant], list[Policy]], later: timedelta) -> None:
    asked, held, rules = world
    over = [grant for grant in held if grant.end is not None or (grant.expires_at and grant.expires_at <= NOON)]

    assert not decide(asked, grants=over, evidence=Evidence(policies=rules, now=NOON + later)).allowed


# Uses


def limited(uses: int) -> Grant:
    return pending(policy(max_uses=uses, steps=()))


def used(grant: Grant, times: int = 1) -> Grant:
    for _ in range(times):
        grant = rules.with_use(grant, now=NOON)
    return grant


def test_a_grant_allows_exactly_as_many_checks_as_it_may() -> None:
    assert answer(used(limited(2), 1)).allowed
    exhausted = answer(used(limited(2), 2))
    assert exhausted.reason is Reason.USES_EXHAUSTED
    assert exhausted.message == "grants/g7 has been used 2 times, as often as it may be"


def test_a_grant_without_a_limit_is_never_used_up() -> None:
    assert answer(used(limited(0), 5)).allowed


def test_a_check_spares_the_uses_where_another_grant_allows_it_too() -> None:
    counted, free = named(replace(limited(2), duration=2 * HOUR, expires_at=NOON + 2 * HOUR), "grants/a"), approved()

    for grants in ((counted, free), (free, counted)):
        assert answer(*grants).grant == free


def test_a_used_up_grant_does_not_hide_another() -> None:
    assert answer(used(limited(1)), named(approved(), "grants/a")).allowed


# What it was passed on from


UNDER = policy(steps=(), max_child_depth=3, max_uses=3, idle_timeout=HOUR / 2)
BOTS = question(subject=BOT)


def family() -> tuple[Grant, Grant, Grant]:
    """alice's access, what she passed on to a service, and what that passed on to itself again."""
    first = named(pending(UNDER), "grants/a")
    second = child_of(first, alice())
    return first, second, named(child_of(second, caller(BOT)), "grants/c")


def child_of(parent: Grant, by: Caller) -> Grant:
    wanted = ask(subject=BOT, parent=parent.name)
    return children.judge_child(wanted, parent, policies=[UNDER], by=by, grant_name="grants/b", now=NOON)


def passed_on_answer(*above: Grant, child: Grant, denies: Sequence[Policy] = (), at: datetime = NOON) -> Decision:
    return decide(
        BOTS, grants=[child], evidence=Evidence(policies=denies, now=at, above={grant.name: grant for grant in above})
    )


def test_what_was_passed_on_allows_while_all_above_it_do() -> None:
    first, second, third = family()

    decision = passed_on_answer(first, second, child=third)

    assert (decision.allowed, decision.grant) == (True, third)


def test_what_was_passed_on_is_over_once_anything_above_it_is() -> None:
    first, second, third = family()

    revoked = passed_on_answer(revoke(first), second, child=third)
    released = passed_on_answer(first, release(second, by=caller(BOT)), child=third)

    assert (revoked.reason, released.reason) == (Reason.REVOKED, Reason.RELEASED)
    assert revoked.message == "grants/c came from grants/a: grants/a is not ACTIVE"
    assert (revoked.grant, revoked.findings[0].name) == (third, "grants/a")


def test_what_was_passed_on_is_over_exactly_when_what_is_above_it_runs_out() -> None:
    first, second, third = family()
    longer = replace(third, expires_at=NOON + HOUR)

    assert passed_on_answer(first, second, child=longer, at=NOON + HOUR / 2 - TICK).allowed
    assert passed_on_answer(first, second, child=longer, at=NOON + HOUR / 2).reason is Reason.EXPIRED


def test_what_was_passed_on_from_something_unknown_allows_nothing() -> None:
    first, second, third = family()

    assert passed_on_answer(second, child=third).reason is Reason.NO_GRANT
    assert passed_on_answer(first, child=third).reason is Reason.NO_GRANT
    assert passed_on_answer(withdraw(named(pending(), "grants/a")), second, child=third).reason is Reason.NO_GRANT


def test_uses_of_what_is_above_are_used_up_for_what_was_passed_on() -> None:
    first, second, third = family()

    decision = passed_on_answer(used(first, 3), second, child=third)

    assert decision.reason is Reason.USES_EXHAUSTED
    assert decision.message == "grants/c came from grants/a: grants/a has been used 3 times, as often as it may be"


def test_a_deny_of_whoever_is_above_denies_what_was_passed_on() -> None:
    first, second, third = family()

    decision = passed_on_answer(first, second, child=third, denies=[BY_NAME])

    assert decision.reason is Reason.DENIED_BY_POLICY
    assert decision.message == f"grants/c came from grants/a: policies/no-contractors denies it to {ALICE}"
    elsewhere = replace(BY_NAME, resources=("http/**",))
    assert passed_on_answer(first, second, child=third, denies=[elsewhere]).allowed


def test_a_deny_sees_the_groups_that_the_one_above_proved() -> None:
    by = caller(ALICE, "engineering", "contractors")
    first = named(pending(UNDER, by=by), "grants/a")
    of_contractors = deny_policy(eligible=PrincipalSet(groups=("contractors",)))
    to_herself = children.judge_child(
        ask(subject=ALICE, parent="grants/a"), first, policies=[UNDER], by=alice(), grant_name="grants/b", now=NOON
    )

    def reason(denies: Sequence[Policy]) -> Reason:
        return decide(
            question(), grants=[to_herself], evidence=Evidence(policies=denies, now=NOON, above={"grants/a": first})
        ).reason

    assert reason([]) is Reason.ALLOWED
    assert reason([of_contractors]) is Reason.DENIED_BY_POLICY


def test_a_group_that_the_holder_proves_now_proves_nothing_of_whoever_is_above() -> None:
    """Else a call that proves any group at all would let what was passed on past a deny for a group."""
    by_other = policy(steps=(), max_child_depth=3, eligible=PrincipalSet(principals=(BOT,), groups=("engineering",)))
    first = named(pending(by_other, subject=BOT), "grants/a")
    second = children.judge_child(
        ask(subject=BOT, parent="grants/a"), first, policies=[by_other], by=caller(BOT), grant_name="grants/b", now=NOON
    )
    asked = question(subject=BOT, groups=frozenset({"builders"}))
    of_contractors = deny_policy(eligible=PrincipalSet(groups=("contractors",)))
    known = replace(second, requester=BOT, requester_groups=frozenset({"builders"}))
    assert (first.subject_groups, known.subject_groups) == (None, {"builders"})

    def reason(denies: Sequence[Policy]) -> Reason:
        return decide(
            asked, grants=[known], evidence=Evidence(policies=denies, now=NOON, above={"grants/a": first})
        ).reason

    assert reason([]) is Reason.ALLOWED
    assert reason([of_contractors]) is Reason.DENIED_BY_POLICY


def test_a_finding_names_what_above_refuses_and_why() -> None:
    first, second, third = family()

    used_up = passed_on_answer(used(first, 3), second, child=third)
    denied = passed_on_answer(first, second, child=third, denies=[BY_NAME])

    assert [finding.name for finding in used_up.findings] == ["grants/a"]
    assert [finding.name for finding in denied.findings] == ["policies/no-contractors"]


@pytest.mark.parametrize("claim", ["claims.amr == ['mfa']", "'mfa' in claims.amr"])
def test_a_condition_reads_the_claims_of_the_subject_and_of_nobody_else(claim: str) -> None:
    """Whoever asked for somebody else must not lend it their second factor."""
    under = policy(steps=(), check_condition=claim)
    by = alice()._replace(claims={"amr": ["mfa"]})
    own = pending(under, by=by)
    for_bot = replace(own, subject=BOT)
    assert told(for_bot.claims) == {"amr": ["mfa"]}

    assert answer(own).allowed
    assert (
        decide(question(subject=BOT), grants=[for_bot], evidence=Evidence(policies=[], now=NOON)).reason
        is Reason.CONDITION_ERROR
    )


def test_each_refusal_of_an_active_grant_names_itself_the_grant_and_why() -> None:
    denied = answer(approved(), denies=[BY_NAME])
    used_up = answer(used(limited(1)))
    unmet = answer(pending(policy(steps=(), check_condition="false")))
    unjudged = answer(pending(policy(steps=(), check_condition="signals.window")))

    for decision in (denied, used_up, unmet, unjudged):
        assert decision.grant is not None
        assert decision.grant.name == "grants/g7"
        assert [finding.grant for finding in decision.findings] == [decision.grant]
    assert [decision.findings[0].name for decision in (denied, used_up, unmet, unjudged)] == [
        "policies/no-contractors",
        "grants/g7",
        "grants/g7",
        "grants/g7",
    ]
    assert used_up.message == "grants/g7 has been used once, as often as it may be"
    assert unmet.message == "the check_condition of grants/g7 is not met: false"
    assert unjudged.message.startswith("the check_condition of grants/g7 cannot be judged: ")


def test_a_token_that_leaves_out_its_groups_says_nothing_of_those_of_whom_the_access_came_from() -> None:
    parent = named(approved(), "grants/p")
    child = replace(approved(), subject=BOT, requester=BOT, requester_groups=NOBODYS_GROUPS, chain=("grants/p",))

    decision = decide(
        question(subject=BOT, groups=NOBODYS_GROUPS),
        grants=[child],
        evidence=Evidence(policies=[deny_policy()], now=NOON, above={"grants/p": parent}),
    )

    assert decision.allowed
