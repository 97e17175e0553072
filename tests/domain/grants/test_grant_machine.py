"""A small world in which anything may happen, told twice: by the domain, and by the reference model beside it.

After every step both must agree on every state, on who may do what, on every check, and on the log.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from jit_service.domain.audit.event import Event
from jit_service.domain.caller import Caller, Role
from jit_service.domain.checks.decision import Question, decide
from jit_service.domain.checks.evidence import Evidence
from jit_service.domain.errors import JitError
from jit_service.domain.grants import approval, request
from jit_service.domain.grants import grant as rules
from jit_service.domain.grants.grant import Grant, GrantState
from jit_service.domain.grants.request import Ask
from jit_service.domain.policies.policy import Policy, PrincipalSet
from tests.domain.factories import ALICE, BOB, BOT, CAROL, ERIN, HOUR, NOON, TICK, deny_policy, policy, step
from tests.model.facts import ACTIONS, LIVE, OK, RESOURCES, Entry, Line, Person, Thing
from tests.model.world import World

ALIAS = "user:Alice@example.com"
"""Of an issuer whose letter case counts: somebody else wherever that would permit; alice wherever it would forbid."""
ADMIN = "user:admin@example.com"
GROUPS_AT_FIRST = {
    ALICE: {"engineering"},
    ALIAS: {"engineering", "owners"},
    BOB: {"engineering", "owners"},
    ERIN: {"owners"},
    CAROL: {"security"},
    BOT: set[str](),
    ADMIN: set[str](),
}
GROUPS = ("engineering", "owners", "security", "contractors")
# Asker, holder, resource, action and policy of requests that the policies below give at first.
GIVEN = (
    (ALICE, ALICE, "db/a/x", "read", "policies/one"),
    (ALICE, ALICE, "db/a/*", "rows.*", "policies/two"),
    (ALICE, BOT, "db/b/x", "read", "policies/two"),
    (BOB, BOB, "db/**", "read", "policies/one"),
    (ALIAS, ALIAS, "db/a/*", "rows.add", "policies/self"),
    (ERIN, ERIN, "db/a/x", "rows.*", "policies/self"),
    (BOB, BOB, "db/a/x", "read", ""),
    (ALICE, ALICE, "db/b/x", "rows.add", ""),
    (ALICE, ALICE, "db/a/**", "read", "policies/one"),
)
STEPS = (
    (step("owners"),),
    (step("owners", needed=2),),
    (step("owners"), step("security")),
    (step("owners", "security", principals=(ALICE,), needed=2),),
    (step("engineering", needed=2), step("owners", "security")),
    (step("security", needed=2),),
    (step(principals=(CAROL, ERIN, ALIAS), needed=2),),
    (),
)
POLICIES = (
    policy(name="policies/one", resources=("db/**",), actions=("**",), steps=STEPS[0]),
    policy(
        name="policies/two",
        eligible=PrincipalSet(principals=(BOT,), groups=("engineering",)),
        resources=("db/a/*", "db/b/x"),
        actions=("read", "rows.*"),
        steps=STEPS[2],
        priority=1,
        request_ttl=2 * HOUR,
    ),
    policy(
        name="policies/self",
        eligible=PrincipalSet(groups=("engineering", "owners")),
        resources=("db/a/*",),
        actions=("**",),
        steps=(step("engineering", "owners", needed=2),),
        allow_self_approval=True,
        default_duration=timedelta(),
    ),
    policy(name="policies/none", resources=("db/a/x",), actions=("read",), steps=(), priority=2),
    deny_policy(name="policies/no-contractors", resources=("db/a/*",)),
)
FORBIDDEN = "policies/forbidden"
"""The name of a deny policy that comes, goes and changes."""
# Changes that turn who must approve, and what would still be given.
TURNS: tuple[dict[str, Any], ...] = (
    *({"steps": steps} for steps in STEPS),
    {"allow_self_approval": True},
    {"allow_self_approval": False},
    {"resources": ("db/b/x",)},
    {"resources": ("db/**",)},
)
CHANGES: tuple[dict[str, Any], ...] = (
    {"max_duration": HOUR / 2, "default_duration": TICK},
    {"min_duration": 2 * HOUR, "max_duration": 4 * HOUR, "default_duration": timedelta()},
    {"min_duration": timedelta(), "max_duration": 4 * HOUR},
    {"resources": ("db/a/x",)},
    {"actions": ("read",)},
    {"actions": ("**",)},
    {"eligible": PrincipalSet(principals=(ALICE,), groups=("security",))},
    {"eligible": PrincipalSet(principals=(BOT, BOB), groups=("engineering",))},
    {"disabled": True},
    {"disabled": False},
    {"deleted_at": NOON},
    {"deleted_at": None},
    {"priority": 3},
)


@dataclass
class Domain:
    """The domain behind the least of a service: what the use cases do, without a store."""

    policies: dict[str, Policy]
    grants: dict[str, Grant] = field(default_factory=dict)
    log: list[Event] = field(default_factory=list)

    def ask(self, name: str, by: Caller, wanted: Ask, now: datetime) -> None:
        checked = request.normalize(wanted, now=now, exact=by.exact)
        judged = request.judge_request(checked, policies=self.policies.values(), by=by, grant_name=name, now=now)
        self.save(*approval.open_request(judged, by=by, now=now))

    def approved(self, grant: Grant, by: Caller, now: datetime) -> tuple[Grant, Event]:
        current = self.policies[grant.policy]
        approved = approval.approve(grant, policy=current, by=by, comment="", now=now)
        request.judge_again(grant, policy=current, policies=self.policies.values(), now=now)
        return approved

    def denied(self, grant: Grant, by: Caller, now: datetime) -> tuple[Grant, Event]:
        return approval.deny(grant, policy=self.policies[grant.policy], by=by, comment="", now=now)

    def withdrawn(self, grant: Grant, by: Caller, now: datetime) -> tuple[Grant, Event]:
        return approval.withdraw(grant, by=by, comment="", now=now)

    def released(self, grant: Grant, by: Caller, now: datetime) -> tuple[Grant, Event]:
        return rules.release(grant, by=by, comment="", now=now)

    def revoked(self, grant: Grant, by: Caller, now: datetime) -> tuple[Grant, Event]:
        return approval.revoke(grant, policy=self.policies[grant.policy], by=by, comment="over", now=now)

    def save(self, grant: Grant, event: Event) -> None:
        self.grants[grant.name] = grant
        self.log.append(event)


def verdict(act: Callable[[], object]) -> str:
    """The word for what came of it: OK, or the fact for which it was refused."""
    try:
        act()
    except JitError as error:
        return type(error).__name__
    return OK


def line(event: Event) -> Line:
    return Line(event.type, event.grant, event.principal, event.at, event.decision, event.held)


names = st.sampled_from(sorted(GROUPS_AT_FIRST))
endings = st.sampled_from(("deny", "withdraw", "release", "revoke"))
acts = st.just("approve") | endings
leads = st.sampled_from((None, None, timedelta(), TICK, HOUR))
lengths = st.sampled_from((None, None, TICK, HOUR / 2, HOUR, 4 * HOUR, 4 * HOUR + TICK))


class GrantMachine(RuleBasedStateMachine):
    """A small world: several grants at once."""

    at_once: ClassVar = 4
    grants = Bundle("grants")

    def __init__(self) -> None:
        super().__init__()
        self.groups = {name: set(groups) for name, groups in GROUPS_AT_FIRST.items()}
        self.policies = {policy.name: policy for policy in POLICIES}
        self.world = World(now=NOON, policies=self.policies)
        self.domain = Domain(policies=self.policies)
        self.final: dict[str, GrantState] = {}

    # What may happen

    @initialize(
        target=grants,
        asked=st.lists(st.tuples(st.sampled_from(GIVEN), leads, lengths), min_size=2, max_size=3),
    )
    def begin(self, asked: list[tuple[tuple[str, str, str, str, str], timedelta | None, timedelta | None]]) -> Any:
        """Every run has something to act on."""
        names = [self.request(given, lead, length) for given, lead, length in asked[: self.at_once]]
        return multiple(*(name for name in names if name is not None))

    @precondition(lambda self: self.room_for_another())
    @rule(target=grants, given=st.sampled_from(GIVEN), lead=leads, length=lengths)
    def ask_what_is_given(self, given: tuple[str, str, str, str, str], lead: timedelta | None, length: Any) -> Any:
        name = self.request(given, lead, length)
        return multiple() if name is None else name

    @precondition(lambda self: self.room_for_another())
    @rule(
        target=grants,
        asker=names,
        for_bot=st.booleans(),
        resource=st.sampled_from(("db/a/x", "db/b/x", "db/a/*", "db/a/**", "db/**")),
        action=st.sampled_from(("read", "rows.add", "rows.*")),
        named=st.sampled_from(("", *(policy.name for policy in POLICIES))),
        lead=leads,
        length=lengths,
    )
    def ask(
        self, asker: str, for_bot: bool, resource: str, action: str, named: str, lead: timedelta | None, length: Any
    ) -> Any:
        """Whoever, whatever; refusals included."""
        name = self.request((asker, BOT if for_bot else asker, resource, action, named), lead, length)
        return multiple() if name is None else name

    @rule(name=grants, who=names, act=acts)
    def try_to(self, name: str, who: str, act: str) -> None:
        """Whoever, whatever; refusals included."""
        self.act(act, self.world.entries[name], self.person(who))

    @rule(name=grants, data=st.data())
    def approve_as_somebody_who_may(self, name: str, data: st.DataObject) -> None:
        self.act_as_somebody_who_may("approve", name, data)

    @rule(name=grants, change=st.sampled_from(TURNS), data=st.data())
    def approve_and_turn_the_policy(self, name: str, change: dict[str, Any], data: st.DataObject) -> None:
        """What an approval still counts for is told by what the next one would lead to."""
        self.act_as_somebody_who_may("approve", name, data)
        self.change_policy(self.world.entries[name].policy, change)

    @rule(name=grants, act=endings, data=st.data())
    def end_as_somebody_who_may(self, name: str, act: str, data: st.DataObject) -> None:
        self.act_as_somebody_who_may(act, name, data)

    @rule(name=st.sampled_from([policy.name for policy in POLICIES]), change=st.sampled_from(CHANGES + TURNS))
    def change_a_policy(self, name: str, change: dict[str, Any]) -> None:
        self.change_policy(name, change)

    @rule(name=grants, change=st.sampled_from(TURNS))
    def change_the_policy_of_a_grant(self, name: str, change: dict[str, Any]) -> None:
        self.change_policy(self.world.entries[name].policy, change)

    @rule(
        principals=st.sampled_from(((), (ALICE,), (BOT, BOB))),
        groups=st.lists(st.sampled_from(GROUPS), min_size=1, max_size=2).map(tuple),
        resource=st.sampled_from(("db/**", "db/a/*", "db/a/x")),
        action=st.sampled_from(("**", "rows.*", "read")),
    )
    def forbid(self, principals: tuple[str, ...], groups: tuple[str, ...], resource: str, action: str) -> None:
        people = PrincipalSet(principals=principals, groups=() if principals else groups)
        self.policies[FORBIDDEN] = deny_policy(
            name=FORBIDDEN, eligible=people, resources=(resource,), actions=(action,)
        )

    @rule()
    def forbid_no_longer(self) -> None:
        self.policies.pop(FORBIDDEN, None)

    @rule(who=names, group=st.sampled_from(GROUPS))
    def join_or_leave(self, who: str, group: str) -> None:
        self.groups[who] ^= {group}

    @rule(span=st.sampled_from((TICK, HOUR / 4, HOUR / 2, HOUR)))
    def wait(self, span: timedelta) -> None:
        self.world.wait(span)

    @rule(name=grants, off=st.sampled_from((-TICK, timedelta(), TICK)))
    def wait_for_a_boundary(self, name: str, off: timedelta) -> None:
        boundary = self.world.entries[name].boundary()
        if boundary is not None and boundary + off > self.world.now:
            self.world.wait(boundary + off - self.world.now)

    @rule()
    def sweep(self) -> None:
        for name in self.world.sweep():
            self.domain.log.append(rules.run_out_event(self.domain.grants[name], now=self.world.now))

    # What must hold

    @invariant()
    def states_and_held_times_agree(self) -> None:
        for name, entry in self.world.entries.items():
            grant = self.domain.grants[name]
            assert (grant.state(self.world.now), grant.held) == (entry.status, entry.held)
            assert (grant.starts_at, grant.expires_at) == (entry.begins, entry.finishes)

    @invariant()
    def final_states_absorb(self) -> None:
        for name, grant in self.domain.grants.items():
            state = grant.state(self.world.now)
            assert self.final.get(name, state) is state
            if state not in LIVE:
                self.final[name] = state

    @invariant()
    def everybody_may_do_what_the_model_says(self) -> None:
        for name, entry in self.world.entries.items():
            for who in self.groups:
                for act in ("approve", "deny", "withdraw", "release", "revoke"):
                    assert self.foreseen(act, name, who) == self.expected_of(act, entry, who), (act, who, name)

    @invariant()
    def everybody_sees_what_the_model_says(self) -> None:
        for name, entry in self.world.entries.items():
            grant, current = self.domain.grants[name], self.policies[entry.policy]
            for who in self.groups:
                by, person = self.caller(who), self.person(who)
                could = self.world.review_verdict(entry, person) == OK
                assert approval.is_reviewable(grant, policy=current, by=by, now=self.world.now) == could
                assert approval.is_visible(grant, current, by) == self.world.sees(entry, person)

    @invariant()
    def checks_answer_what_the_model_says(self) -> None:
        holders = {entry.holder for entry in self.world.entries.values()} | {ALICE}
        for holder in holders:
            for groups in (None, frozenset(self.groups[holder])):
                for action in ACTIONS:
                    for resource in RESOURCES:
                        self.check(Question(subject=holder, action=action, resource=resource, groups=groups))

    @invariant()
    def the_log_has_one_line_for_each_transition(self) -> None:
        assert [line(event) for event in self.domain.log] == self.world.log
        once = Counter((event.grant, event.type) for event in self.domain.log if event.type != "GRANT_APPROVED")
        assert set(once.values()) <= {1}

    @invariant()
    def nobody_reviews_twice(self) -> None:
        for grant in self.domain.grants.values():
            reviewers = [review.reviewer.lower() for review in grant.reviews]
            assert len(set(reviewers)) == len(reviewers)

    # How it is done

    def person(self, name: str) -> Person:
        return Person(name, frozenset(self.groups[name]), is_admin=name == ADMIN)

    def caller(self, name: str) -> Caller:
        roles = frozenset({Role.ADMIN} if name == ADMIN else ())
        return Caller(principal=name, groups=frozenset(self.groups[name]), roles=roles, exact=(ALIAS,))

    def expected(self, act: str, entry: Entry, who: Person) -> str:
        verdicts = {
            "approve": self.world.approve_verdict,
            "deny": self.world.review_verdict,
            "withdraw": self.world.withdraw_verdict,
            "release": self.world.release_verdict,
            "revoke": self.world.revoke_verdict,
        }
        return verdicts[act](entry, who)

    def transition(self, act: str, grant: Grant, by: Caller) -> tuple[Grant, Event]:
        transitions = {
            "approve": self.domain.approved,
            "deny": self.domain.denied,
            "withdraw": self.domain.withdrawn,
            "release": self.domain.released,
            "revoke": self.domain.revoked,
        }
        return transitions[act](grant, by, self.world.now)

    def change_policy(self, name: str, change: dict[str, Any]) -> None:
        before = self.policies[name]
        self.policies[name] = replace(before, **change, revision=before.revision + 1)

    def room_for_another(self) -> bool:
        live = [entry for entry in self.world.entries.values() if entry.status in LIVE]
        return len(live) < self.at_once and len(self.world.entries) < 8

    def request(
        self, given: tuple[str, str, str, str, str], lead: timedelta | None, length: timedelta | None
    ) -> str | None:
        """Asks both tellings, and returns the grant's name if both give it."""
        asker, holder, resource, action, named = given
        name, now = f"grants/g{len(self.domain.log)}", self.world.now
        start = None if lead is None else now + lead
        wanted = Ask(
            subject=holder, resources=(resource,), actions=(action,), policy=named, duration=length, start_at=start
        )
        thing = Thing(holder=holder, resource=resource, action=action, policy=named, length=length, start=start)
        expected = self.world.ask_verdict(self.person(asker), thing)
        assert verdict(lambda: self.domain.ask(name, self.caller(asker), wanted, now)) == expected
        if expected != OK:
            return None
        self.world.ask(name, self.person(asker), thing)
        return name

    def act_as_somebody_who_may(self, act: str, name: str, data: st.DataObject) -> None:
        entry = self.world.entries[name]
        able = [who for who in sorted(self.groups) if self.expected(act, entry, self.person(who)) == OK]
        if able:
            self.act(act, entry, self.person(data.draw(st.sampled_from(able))))

    def foreseen(self, act: str, name: str, who: str) -> tuple[str, timedelta | None] | str:
        """What would come of it: a refusal, or a state and a held time. Transitions are pure, so nothing does."""
        try:
            changed, _ = self.transition(act, self.domain.grants[name], self.caller(who))
        except JitError as error:
            return type(error).__name__
        return changed.state(self.world.now), changed.held

    def expected_of(self, act: str, entry: Entry, who: str) -> tuple[str, timedelta | None] | str:
        verdict = self.expected(act, entry, self.person(who))
        return self.world.foresee(act, entry, self.person(who)) if verdict == OK else verdict

    def act(self, act: str, entry: Entry, who: Person) -> None:
        if self.expected(act, entry, who) != OK:
            # That the domain refuses it too, and in the same word, is checked after every step.
            return
        grant = self.domain.grants[entry.name]
        changed, event = self.transition(act, grant, self.caller(who.name))
        self.domain.save(changed, event)
        getattr(self.world, act)(entry, who)
        if changed.starts_at is not None and grant.starts_at is None:
            self.demand_other_peoples_approvals(changed)

    def demand_other_peoples_approvals(self, grant: Grant) -> None:
        """Access that just began has as many different approvers as its policy asks for, none of them its own people
        unless the policy allows that."""
        current = self.policies[grant.policy]
        approvers = {review.reviewer.lower() for review in grant.reviews if review.decision == "APPROVED"}
        if not current.allow_self_approval:
            approvers -= {grant.requester.lower(), grant.subject.lower()}
        assert len(approvers) >= sum(step.approvals_needed for step in current.steps) > 0

    def check(self, asked: Question) -> None:
        decision = decide(
            asked,
            grants=self.domain.grants.values(),
            evidence=Evidence(policies=list(self.policies.values()), now=self.world.now),
        )
        expected = self.world.answers(asked.subject, asked.action, asked.resource, asked.groups)
        assert decision.reason in expected, asked
        assert decision.allowed == (expected == {"ALLOWED"})


class OneGrantMachine(GrantMachine):
    """One grant at a time, so that everything that happens happens to it."""

    at_once = 1


# `make machines` walks longer.
EXAMPLES = int(os.environ.get("EXAMPLES", "15"))

TestGrantMachine = GrantMachine.TestCase
TestGrantMachine.settings = settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None)
TestOneGrantMachine = OneGrantMachine.TestCase
TestOneGrantMachine.settings = settings(max_examples=2 * EXAMPLES, stateful_step_count=40, deadline=None)
