"""A small world in which anything may happen to grants, told by the reference model and by services beside it.

The services are of any kind: the domain alone, or the use cases on a store. After every step each must have given the
model's answer, in the same word, and must hold the same facts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from jit_service.domain.approval import Edits
from jit_service.domain.caller import Caller, Origin, Role
from jit_service.domain.decision import Decision, Question
from jit_service.domain.delegation import Wanted
from jit_service.domain.errors import InvalidField, JitError
from jit_service.domain.event import Event, EventType
from jit_service.domain.grant import Grant, Justification
from jit_service.domain.policy import BreakGlassRule, ExtensionRule, Policy, PrincipalSet, Step, checked
from jit_service.domain.request import Ask
from tests.domain.factories import ALICE, BOB, BOT, CAROL, ERIN, HOUR, NOON, TICK, deny_policy, policy, step
from tests.domain.reference import (
    ACTIONS,
    CALM,
    LIVE,
    LONG,
    OK,
    RESOURCES,
    Changes,
    Entry,
    Line,
    Loan,
    Person,
    Thing,
    World,
)

ALIAS = "user:Alice@example.com"
"""Looks like alice, and is somebody else wherever that would permit; the same wherever it would forbid."""
ADMIN = "user:admin@example.com"
AGENT = "service:agent"
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
MINUTE = HOUR / 60
OWNERS, SECURITY = PrincipalSet(groups=("owners",)), PrincipalSet(groups=("security",))
ESCALATES = Step(approvers=OWNERS, timeout=HOUR / 2, escalate_to=SECURITY)
LAPSES = Step(approvers=OWNERS, timeout=HOUR / 2)
STEPS = (
    (step("owners"),),
    (step("owners", "security", needed=2),),
    (ESCALATES, step("security", "owners")),
    (replace(ESCALATES, approvals_needed=2, denials_needed=2),),
    (LAPSES, replace(LAPSES, approvers=SECURITY)),
    (step(principals=(CAROL, ERIN, ALIAS), needed=2),),
    (Step(approvers=PrincipalSet(principals=(ALICE,)), timeout=HOUR / 2, escalate_to=PrincipalSet(principals=(BOB,))),),
    (),
    (replace(step("owners"), condition=CALM), step("security", "owners")),
    (replace(step("security"), condition=LONG), replace(step("owners"), condition=CALM)),
    (replace(LAPSES, condition=LONG), replace(ESCALATES, condition=CALM), replace(step("security"), condition=LONG)),
)
MORE = ExtensionRule(max_extensions=2, max_total_duration=4 * HOUR)
GLASS = BreakGlassRule(eligible=PrincipalSet(groups=("engineering",)), max_duration=HOUR, review_within=HOUR / 2)
FORBIDDEN = "policies/forbidden"
POLICIES = (
    policy(
        name="policies/one", resources=("db/**",), actions=("**",), steps=STEPS[0], extension=MORE, max_child_depth=2
    ),
    policy(
        name="policies/two",
        eligible=PrincipalSet(principals=(BOT,), groups=("engineering",)),
        resources=("db/a/*", "db/b/x"),
        actions=("read", "rows.*"),
        steps=STEPS[2],
        priority=1,
        request_ttl=2 * HOUR,
        idle_timeout=HOUR / 2,
        extension=MORE,
        max_child_depth=1,
    ),
    policy(
        name="policies/self",
        eligible=PrincipalSet(groups=("engineering", "owners")),
        resources=("db/a/*",),
        actions=("**",),
        steps=(replace(step("engineering", "owners", needed=2), denials_needed=2),),
        allow_self_approval=True,
        default_duration=timedelta(),
        extension=MORE,
    ),
    policy(
        name="policies/none",
        resources=("db/a/*",),
        actions=("read", "rows.*"),
        steps=(),
        max_uses=3,
        activation_window=HOUR / 2,
        idle_timeout=HOUR / 4,
        max_child_depth=2,
        extension=MORE,
    ),
    policy(
        name="policies/glass",
        resources=("db/**",),
        actions=("**",),
        steps=STEPS[4],
        break_glass=GLASS,
        max_active_per_subject=2,
        check_condition=CALM,
    ),
    deny_policy(name=FORBIDDEN, eligible=PrincipalSet(groups=("contractors",)), resources=("db/a/*",)),
)
NAMES = tuple(each.name for each in POLICIES if not each.deny)
# Asker, holder, resource, action and policy of requests that the policies give at first.
GIVEN = (
    (ALICE, ALICE, "db/a/x", "read", "policies/one"),
    (ALICE, ALICE, "db/a/*", "rows.*", "policies/two"),
    (ALICE, BOT, "db/b/x", "read", "policies/two"),
    (BOB, BOB, "db/**", "read", "policies/one"),
    (ALIAS, ALIAS, "db/a/*", "rows.add", "policies/self"),
    (BOB, BOB, "db/a/*", "rows.*", "policies/none"),
    (ALICE, ALICE, "db/a/*", "read", "policies/none"),
    (ALICE, ALICE, "db/a/*", "read", "policies/glass"),
    (ALICE, ALICE, "db/b/x", "rows.add", ""),
)
CHANGES: tuple[dict[str, Any], ...] = (
    *({"steps": steps} for steps in STEPS),
    {"allow_self_approval": True},
    {"allow_self_approval": False},
    {"resources": ("db/a/*",)},
    {"resources": ("db/**",)},
    {"max_duration": HOUR, "default_duration": TICK},
    {"min_duration": HOUR, "max_duration": 4 * HOUR, "default_duration": timedelta()},
    {"min_duration": timedelta(), "max_duration": 4 * HOUR},
    {"actions": ("read",)},
    {"actions": ("**",)},
    {"eligible": PrincipalSet(principals=(ALICE,), groups=("security",))},
    {"eligible": PrincipalSet(principals=(BOT, BOB), groups=("engineering",))},
    {"disabled": True},
    {"disabled": False},
    {"priority": 3},
    {"request_ttl": HOUR},
    {"extension": None},
    {"extension": MORE},
    {"max_uses": 2, "idle_timeout": HOUR / 4},
    {"max_uses": 0, "idle_timeout": timedelta(), "activation_window": timedelta()},
    {"break_glass": None},
    {"break_glass": GLASS},
    {"max_child_depth": 0},
    {"max_child_depth": 2},
    {"max_active_per_subject": 1},
    {"check_condition": CALM},
    {"check_condition": ""},
    {"request_condition": CALM},
    {"request_condition": LONG},
    {"request_condition": ""},
)
EDITS = (
    Changes(),
    Changes(),
    Changes(length=HOUR / 2),
    Changes(length=4 * HOUR),
    Changes(resource="db/a/x"),
    Changes(resource="db/**"),
    Changes(action="rows.add"),
    Changes(length=MINUTE, resource="db/a/x"),
)
ENDS_ACCESS = ("withdraw", "release", "revoke")
ACTS = ("approve", "deny", "counter", "accept", "decline", "extend", "complete", *ENDS_ACCESS)


class Service(Protocol):
    """What is held against the model. Every refusal is a JitError."""

    def ask(self, name: str, by: Caller, asked: Ask) -> object: ...
    def rehearse(self, by: Caller, asked: Ask) -> object: ...
    def ensure(self, name: str, by: Caller, asked: Ask) -> str: ...
    def act(self, act: str, name: str, by: Caller, *, edits: Edits, more: timedelta) -> object: ...
    def check(self, by: Caller, question: Question) -> Decision: ...
    def delegate(self, name: str, by: Caller, wanted: Wanted) -> object: ...
    def end_delegation(self, name: str, by: Caller) -> object: ...
    def put_policy(self, policy: Policy) -> object: ...
    def put_signal(self, value: bool, expires_at: datetime) -> object: ...
    def drop_signal(self) -> object: ...
    def sweep(self) -> object: ...
    def revoke_all_of(self, holder: str, by: Caller) -> int: ...
    def inbox(self, by: Caller) -> set[str]: ...
    def grants(self) -> dict[str, Grant]: ...
    def log(self) -> Iterable[Event]: ...


def verdict(act: Callable[[], Any]) -> tuple[str, Any]:
    """The word for what came of it, OK or the fact for which it was refused, and the answer."""
    try:
        return OK, act()
    except JitError as error:
        return type(error).__name__, None


people = st.sampled_from(sorted(GROUPS_AT_FIRST))
leads = st.sampled_from((None, None, None, timedelta(), HOUR / 2))
lengths = st.sampled_from((None, None, TICK, HOUR / 2, HOUR, 4 * HOUR, 4 * HOUR + TICK))
spans = st.sampled_from((MINUTE, HOUR / 2, HOUR))
edits = st.sampled_from(EDITS)


class LifecycleMachine(RuleBasedStateMachine):
    """Several grants at once, in every service."""

    names = Bundle("names")

    def __init__(self, services: Mapping[str, Service], set_clock: Callable[[datetime], None]) -> None:
        super().__init__()
        self.services = services
        self.set_clock = set_clock
        self.groups = {name: set(groups) for name, groups in GROUPS_AT_FIRST.items()}
        self.world = World(now=NOON, policies={})
        self.count = 0
        self.stamp = ("", "")
        set_clock(NOON)
        for each in POLICIES:
            self.put_policy(replace(each, disabled=each.deny))

    # What may happen

    @initialize(target=names, given=st.lists(st.sampled_from(GIVEN), min_size=2, max_size=3))
    def begin(self, given: list[tuple[str, str, str, str, str]]) -> Any:
        """Every run has something to act on."""
        return multiple(*(name for each in given if (name := self.ask(self.thing(each), each[0]))))

    @precondition(lambda self: self.has_room())
    @rule(
        target=names,
        given=st.sampled_from(GIVEN),
        lead=leads,
        length=lengths,
        uses=st.sampled_from((0, 0, 1, 2)),
        emergency=st.sampled_from((False, False, True)),
        ensure=st.booleans(),
    )
    def ask_what_is_given(
        self, given: tuple[str, str, str, str, str], lead: Any, length: Any, uses: int, emergency: bool, ensure: bool
    ) -> Any:
        thing = replace(self.thing(given, lead=lead, length=length), uses=uses, emergency=emergency)
        if emergency:
            thing = replace(thing, holder=given[0], policy="policies/glass")
        name = self.ask(thing, given[0], ensure=ensure)
        return name if name else multiple()

    @precondition(lambda self: self.has_room())
    @rule(
        target=names,
        asker=people,
        holder=people,
        resource=st.sampled_from(("db/a/x", "db/b/x", "db/a/*", "db/**")),
        action=st.sampled_from(("read", "rows.add", "rows.*")),
        named=st.sampled_from(("", *NAMES)),
        emergency=st.booleans(),
    )
    def ask_for_anything(self, asker: str, holder: str, resource: str, action: str, named: str, emergency: bool) -> Any:
        thing = replace(self.thing((asker, holder, resource, action, named)), emergency=emergency)
        name = self.ask(thing, asker)
        return name if name else multiple()

    @precondition(lambda self: self.has_room())
    @rule(
        target=names,
        parent=names,
        holder=st.sampled_from((BOT, AGENT, "")),
        by_holder=st.sampled_from((True, True, True, False)),
        narrower=st.booleans(),
        length=st.sampled_from((None, None, MINUTE, HOUR)),
        uses=st.sampled_from((0, 0, 1, 2)),
    )
    def pass_on(self, parent: str, holder: str, by_holder: bool, narrower: bool, length: Any, uses: int) -> Any:
        above = self.world.entries[parent]
        asker = above.holder if by_holder else above.asker.name
        resource, action = ("db/a/x", "rows.add") if narrower else (above.terms.resource, above.terms.action)
        thing = Thing(
            holder=holder or above.holder,
            resource=resource,
            action=action,
            policy="",
            length=length,
            start=None,
            uses=uses,
            parent=parent,
        )
        name = self.ask(thing, asker)
        return name if name else multiple()

    @precondition(lambda self: self.has_room())
    @rule(
        target=names,
        given=st.sampled_from(GIVEN),
        order=st.permutations((None, HOUR / 2, HOUR)),
        length=st.sampled_from((None, HOUR / 2, HOUR)),
        ensure=st.booleans(),
    )
    def ask_for_now_and_for_later(
        self, given: tuple[str, str, str, str, str], order: list[Any], length: Any, ensure: bool
    ) -> Any:
        """The same for several starts: what covers which, and how many there may be."""
        things = [self.thing(given, lead=lead, length=length) for lead in order]
        return multiple(*(name for thing in things if (name := self.ask(thing, given[0], ensure=ensure))))

    @rule(
        target=names,
        name=names,
        named=st.booleans(),
        lead=leads,
        length=lengths,
        uses=st.sampled_from((0, 0, 1)),
        emergency=st.sampled_from((False, False, False, True)),
    )
    def ensure_what_is_there(self, name: str, named: bool, lead: Any, length: Any, uses: int, emergency: bool) -> Any:
        """Wants what somebody has asked for already, or something near it."""
        entry = self.world.entries[name]
        where, what, policy = entry.terms.resource, entry.terms.action, entry.policy if named else ""
        given = (entry.asker.name, entry.holder, where, what, policy)
        thing = replace(self.thing(given, lead=lead, length=length), uses=uses, emergency=emergency)
        wanted = self.world.ensured(self.person(entry.asker.name), thing)
        if not wanted and not self.has_room():
            return multiple()
        new = self.ask(thing, entry.asker.name, ensure=True)
        return new if new else multiple()

    @rule(
        name=names, who=st.lists(people, min_size=3, max_size=3), act=st.sampled_from(ACTS), changes=edits, span=spans
    )
    def try_to(self, name: str, who: list[str], act: str, changes: Changes, span: timedelta) -> None:
        """Whoever, whatever; refusals included."""
        for each in who:
            self.act(act, name, each, changes, span)

    @rule(changes=edits, span=spans, data=st.data())
    def do_what_may_be_done(self, changes: Changes, span: timedelta, data: st.DataObject) -> None:
        self.do_one_of(ACTS[:-3], changes, span, data)

    @rule(changes=edits, span=spans, data=st.data())
    def do_more_that_may_be_done(self, changes: Changes, span: timedelta, data: st.DataObject) -> None:
        for _ in range(3):
            self.do_one_of(("approve", "deny", "extend", "counter", "accept"), changes, span, data)

    @rule(data=st.data())
    def end_what_may_be_ended(self, data: st.DataObject) -> None:
        self.do_one_of(ENDS_ACCESS, Changes(), HOUR, data)

    @rule(name=names, changes=edits, span=spans, data=st.data())
    def extend_and_approve(self, name: str, changes: Changes, span: timedelta, data: st.DataObject) -> None:
        self.act_if_anybody_may("extend", name, changes, span, data)
        self.act_if_anybody_may("approve", name, Changes(), span, data)

    @rule(name=names, changes=edits, turn=st.sampled_from(CHANGES), data=st.data())
    def counter_turn_and_accept(self, name: str, changes: Changes, turn: dict[str, Any], data: st.DataObject) -> None:
        """What an offer still counts for when the policy has changed since."""
        self.act_if_anybody_may("counter", name, changes, HOUR, data)
        if data.draw(st.booleans()):
            self.turn(self.world.entries[name].policy, turn)
        self.act("accept", name, self.world.entries[name].asker.name, Changes(), HOUR)

    @rule(name=names, resource=st.sampled_from(RESOURCES), action=st.sampled_from(ACTIONS), itself=st.booleans())
    def check(self, name: str, resource: str, action: str, itself: bool) -> None:
        holder = self.world.entries[name].holder
        groups = frozenset(self.groups.get(holder, ())) if itself else None
        expected = self.world.answers(holder, action, resource, groups)
        chosen = self.world.chosen(holder, action, resource, groups)
        question = Question(
            subject=holder, action=action, resource=resource, groups=groups, principal=holder if itself else ADMIN
        )

        answers = {kind: each.check(self.caller(holder), question) for kind, each in self.services.items()}

        reasons = {kind: answer.reason for kind, answer in answers.items()}
        assert set(reasons.values()) <= expected, (reasons, expected)
        assert len(set(reasons.values())) == 1, reasons
        for answer in answers.values():
            assert answer.allowed == (chosen is not None)
            assert not answer.allowed or (answer.grant and chosen and answer.grant.name == chosen.name)
        if chosen is not None:
            self.world.use(chosen)

    @precondition(lambda self: len(self.world.loans) < 4)
    @rule(
        giver=people,
        to=people,
        lead=st.sampled_from((timedelta(), timedelta(), HOUR / 2)),
        span=spans,
        only=st.sampled_from(((), (), NAMES[:2], NAMES[2:])),
    )
    def delegate(self, giver: str, to: str, lead: timedelta, span: timedelta, only: tuple[str, ...]) -> None:
        name, begins = f"delegations/d{len(self.world.loans)}", self.world.now + lead
        wanted = Wanted(delegate=to, starts_at=begins, expires_at=begins + span, policies=only)
        expected = "InvalidField" if giver.lower() == to.lower() else OK
        self.everywhere(expected, lambda each: each.delegate(name, self.caller(giver), wanted))
        if expected == OK:
            self.world.loans[name] = Loan(name, self.person(giver), to, frozenset(only), begins, begins + span)

    @precondition(lambda self: self.world.loans)
    @rule(data=st.data())
    def end_a_delegation(self, data: st.DataObject) -> None:
        loan = self.world.loans[data.draw(st.sampled_from(sorted(self.world.loans)))]
        expected = "WrongState" if loan.over or loan.ends <= self.world.now else OK
        self.everywhere(expected, lambda each: each.end_delegation(loan.name, self.caller(loan.giver.name)))
        if expected == OK:
            self.world.end_loan(loan.name)

    @rule(name=st.sampled_from(NAMES), change=st.sampled_from(CHANGES))
    def change_a_policy(self, name: str, change: dict[str, Any]) -> None:
        self.turn(name, change)

    @rule(name=names, change=st.sampled_from(CHANGES))
    def change_the_policy_of_a_grant(self, name: str, change: dict[str, Any]) -> None:
        self.turn(self.world.entries[name].policy, change)

    @rule(
        eligible=st.sampled_from(
            (PrincipalSet(groups=("contractors",)), PrincipalSet(principals=(ALICE,)), PrincipalSet(principals=(BOT,)))
        ),
        resource=st.sampled_from(("db/**", "db/a/x")),
        action=st.sampled_from(("**", "rows.*", "read")),
        disabled=st.booleans(),
    )
    def forbid_or_not(self, eligible: PrincipalSet, resource: str, action: str, disabled: bool) -> None:
        self.turn(
            FORBIDDEN, {"eligible": eligible, "resources": (resource,), "actions": (action,), "disabled": disabled}
        )

    @rule(who=people, group=st.sampled_from(GROUPS))
    def join_or_leave(self, who: str, group: str) -> None:
        self.groups[who] ^= {group}

    @rule(value=st.booleans(), span=spans)
    def put_signal(self, value: bool, span: timedelta) -> None:
        ends = self.world.now + span
        for each in self.services.values():
            each.put_signal(value, ends)
        self.world.signals["calm"] = (value, ends)

    @precondition(lambda self: self.world.signals)
    @rule()
    def drop_signal(self) -> None:
        for each in self.services.values():
            each.drop_signal()
        self.world.signals.clear()

    @rule(span=st.sampled_from((TICK, MINUTE, HOUR / 4, HOUR / 2, HOUR)))
    def wait(self, span: timedelta) -> None:
        self.world.wait(span)
        self.set_clock(self.world.now)

    @rule(off=st.sampled_from((-TICK, timedelta(), TICK)), data=st.data())
    def wait_for_a_boundary(self, off: timedelta, data: st.DataObject) -> None:
        ahead = [at + off for at in self.world.boundaries() if self.world.now < at + off < self.world.now + 9 * HOUR]
        if ahead:
            self.wait(data.draw(st.sampled_from(ahead)) - self.world.now)

    @rule()
    def sweep(self) -> None:
        for each in self.services.values():
            each.sweep()
        self.world.sweep()

    @rule(holder=people)
    def revoke_all_of(self, holder: str) -> None:
        counted = {kind: each.revoke_all_of(holder, self.caller(ADMIN)) for kind, each in self.services.items()}
        expected = self.world.revoke_all_of(holder, self.person(ADMIN))
        assert set(counted.values()) == {expected}, (counted, expected)

    @rule(who=people)
    def look_into_the_inbox(self, who: str) -> None:
        person = self.person(who)
        expected = {
            name for name, entry in self.world.entries.items() if self.world.review_verdict(entry, person) == OK
        }
        assert {kind: each.inbox(self.caller(who)) for kind, each in self.services.items()} == dict.fromkeys(
            self.services, expected
        )

    # What must hold

    @invariant()
    def all_hold_the_same_facts(self) -> None:
        expected = {name: self.facts_of(entry) for name, entry in self.world.entries.items()}
        for kind, each in self.services.items():
            found = {name: self.facts(grant) for name, grant in each.grants().items()}
            assert found == expected, kind

    def teardown(self) -> None:
        """Every log has the model's lines, grant by grant."""
        expected = by_grant(self.world.log)
        for kind, each in self.services.items():
            told = (event for event in each.log() if event.grant and event.type is not EventType.ACCESS_CHECKED)
            assert by_grant([line(event) for event in told]) == expected, kind

    # How it is done

    def facts(self, grant: Grant) -> dict[str, Any]:
        now = self.world.now
        pending = grant.state(now) == "PENDING"
        extending = grant.extension_state(now) == "PENDING" and grant.extension is not None
        return {
            "state": grant.state(now).value,
            "span": (grant.starts_at, grant.expires_at, grant.held),
            "terms": (grant.resources[0], grant.actions[0], grant.duration, grant.start_at),
            "until": grant.request_expires_at if pending else None,
            "reviews": len(grant.reviews),
            "offer": grant.offer is not None and pending,
            "use": (grant.usage.count, grant.usage.last_at),
            "limits": None if pending else (grant.limits.max_uses, grant.is_metered),
            "more": (grant.extension_state(now) or "", grant.round, grant.extension_count),
            "more until": grant.extension.expires_at if extending and grant.extension else None,
            "owes": grant.owes_review,
            "above": grant.chain,
        }

    def facts_of(self, entry: Entry) -> dict[str, Any]:
        pending, more = entry.status == "PENDING", entry.more_status(self.world.now)
        return {
            "state": entry.status,
            "span": (entry.begins, entry.finishes, entry.held),
            "terms": (entry.terms.resource, entry.terms.action, entry.terms.length, entry.terms.start),
            "until": entry.wait_until if pending else None,
            "reviews": len(entry.votes),
            "offer": entry.offer is not None and pending,
            "use": (entry.uses, entry.last_use),
            "limits": None if pending else (entry.most_uses, entry.counts_uses),
            "more": (more, entry.round, entry.lengthened),
            "more until": entry.more.until if entry.more and more == "PENDING" else None,
            "owes": entry.review_due is not None and not entry.use_reviewed,
            "above": entry.above,
        }

    def person(self, name: str) -> Person:
        return Person(name, frozenset(self.groups.get(name, ())), is_admin=name == ADMIN)

    def caller(self, name: str) -> Caller:
        roles = frozenset({Role.ADMIN} if name == ADMIN else ())
        request_id, digest = self.stamp
        return Caller(
            principal=name,
            groups=frozenset(self.groups.get(name, ())),
            roles=roles,
            origin=Origin(request_id=request_id),
            request_digest=digest,
        )

    def has_room(self) -> bool:
        live = [entry for entry in self.world.entries.values() if entry.status in LIVE]
        return len(live) < 5 and len(self.world.entries) < 9

    def everywhere(self, expected: str, act: Callable[[Any], Any]) -> dict[str, Any]:
        """Does it in every service, each of which must say what the model expects. Returns their answers."""
        said, answers = {}, {}
        for kind, each in self.services.items():
            said[kind], answers[kind] = verdict(lambda each=each: act(each))  # type: ignore[misc]
        assert said == dict.fromkeys(self.services, expected)
        return answers

    def thing(
        self, given: tuple[str, str, str, str, str], *, lead: timedelta | None = None, length: timedelta | None = None
    ) -> Thing:
        _, holder, resource, action, named = given
        start = None if lead is None else self.world.now + lead
        return Thing(holder=holder, resource=resource, action=action, policy=named, length=length, start=start)

    def ask(self, thing: Thing, asker: str, *, ensure: bool = False) -> str | None:
        """Asks everywhere, after a dry run that says the same, and returns the new grant's name if all give it.

        With `ensure` only where nothing that is there covers it.
        """
        person, name = self.person(asker), f"grants/g{self.count}"
        self.count += 1
        if thing.parent:
            expected = self.world.child_verdict(person, thing)
        else:
            expected = self.world.ask_verdict(person, thing)
            expected = self.world.room_verdict(person, thing) if expected == OK else expected
        wanted = Ask(
            subject=thing.holder,
            resources=(thing.resource,),
            actions=(thing.action,),
            policy=thing.policy,
            duration=thing.length,
            start_at=thing.start,
            max_uses=thing.uses,
            break_glass=thing.emergency,
            parent=thing.parent,
            justification=Justification(text="because"),
        )
        self.everywhere(expected, lambda each: each.rehearse(self.caller(asker), wanted))
        if ensure and (found := self.world.ensured(person, thing)):
            answers = {each.ensure(name, self.caller(asker), wanted) for each in self.services.values()}
            assert answers <= found, (answers, found)
            assert len(answers) == 1, answers
            return None
        ask: Callable[[Service], object] = lambda each: (each.ensure if ensure else each.ask)(  # noqa: E731
            name, self.caller(asker), wanted
        )
        self.everywhere(expected, ask)
        if expected != OK:
            return None
        (self.world.pass_on if thing.parent else self.world.ask)(name, person, thing)
        return name

    def expected(self, act: str, entry: Entry, who: Person, changes: Changes, span: timedelta) -> str:
        if not self.world.sees(entry, who):
            return "NotVisible"
        match act:
            case "approve":
                return self.world.approve_verdict(entry, who, changes)
            case "deny":
                return self.world.review_verdict(entry, who)
            case "counter":
                return self.world.counter_verdict(entry, who, changes)
            case "extend":
                return self.world.extend_verdict(entry, who, span)
            case _:
                found: str = getattr(self.world, f"{act}_verdict")(entry, who)
                return found

    def act(self, act: str, name: str, who: str, changes: Changes, span: timedelta) -> None:
        entry, person = self.world.entries[name], self.person(who)
        expected = self.expected(act, entry, person, changes, span)
        given = edits_of(changes)
        self.everywhere(expected, lambda each: each.act(act, name, self.caller(who), edits=given, more=span))
        if expected == OK:
            self.happen(act, entry, person, changes, span)

    def happen(self, act: str, entry: Entry, person: Person, changes: Changes, span: timedelta) -> None:
        """Lets the act happen in the model."""
        if act in ("approve", "counter"):
            getattr(self.world, act)(entry, person, changes)
        elif act == "extend":
            self.world.extend(entry, person, span)
        else:
            getattr(self.world, act)(entry, person)

    def act_if_anybody_may(self, act: str, name: str, changes: Changes, span: timedelta, data: st.DataObject) -> None:
        entry = self.world.entries[name]
        able = [who for who in sorted(self.groups) if self.expected(act, entry, self.person(who), changes, span) == OK]
        if able:
            self.act(act, name, data.draw(st.sampled_from(able)), changes, span)

    def do_one_of(self, acts: Sequence[str], changes: Changes, span: timedelta, data: st.DataObject) -> None:
        """Lets somebody do something to some grant, if there is anything that anybody may do."""
        may = {
            act: [
                (name, who)
                for name, entry in self.world.entries.items()
                for who in (*sorted(self.groups), AGENT)
                if self.expected(act, entry, self.person(who), changes, span) == OK
            ]
            for act in acts
        }
        possible = [act for act in acts if may[act]]
        if possible:
            act = data.draw(st.sampled_from(possible))
            self.act(act, *data.draw(st.sampled_from(may[act])), changes, span)

    def turn(self, name: str, change: dict[str, Any]) -> None:
        try:
            changed = checked(replace(self.world.policies[name], **{"deleted_at": None, **change}))
        except InvalidField:
            return
        self.put_policy(changed)

    def put_policy(self, changed: Policy) -> None:
        for each in self.services.values():
            each.put_policy(changed)
        self.world.policies[changed.name] = changed


def edits_of(changes: Changes) -> Edits:
    return Edits(
        resources=(changes.resource,) if changes.resource else (),
        actions=(changes.action,) if changes.action else (),
        duration=changes.length,
        start_at=changes.start,
    )


def line(event: Event) -> Line:
    return Line(event.type, event.grant, event.principal, event.at, event.decision, event.held)


def by_grant(lines: Sequence[Line]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = defaultdict(list)
    for each in lines:
        found[each.grant].append(each)
    return dict(found)
