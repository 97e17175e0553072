"""A small world in which anything may happen to grants, told by the reference model and by services beside it.

The services are of any kind: the domain alone, or the use cases on a store. After every step each must have given the
model's answer, in the same word, and must hold the same facts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Caller, Role
from jit_service.domain.checks.decision import Decision, Question
from jit_service.domain.errors import InvalidField, JitError
from jit_service.domain.grants.delegation import NewDelegation
from jit_service.domain.grants.grant import Grant, Justification
from jit_service.domain.grants.request import Ask
from jit_service.domain.grants.terms import Edits
from jit_service.domain.policies.policy import Policy, normalize
from tests.domain.factories import NOON
from tests.model.facts import (
    LIVE,
    OK,
    Changes,
    Entry,
    Line,
    Person,
    Thing,
)
from tests.model.small_world import (
    ADMIN,
    AGENT,
    ALIAS,
    GROUPS_AT_FIRST,
    OTHER_ADMIN,
    POLICIES,
    STRONG,
)
from tests.model.world import World


class Service(Protocol):
    """What is held against the model. Every refusal is a JitError."""

    def ask(self, name: str, by: Caller, asked: Ask) -> object: ...
    def rehearse(self, by: Caller, asked: Ask) -> object: ...
    def ensure(self, name: str, by: Caller, asked: Ask) -> Grant: ...
    def act(self, act: str, name: str, by: Caller, *, edits: Edits, more: timedelta) -> object: ...
    def check(self, by: Caller, question: Question) -> Decision: ...
    def delegate(self, name: str, by: Caller, wanted: NewDelegation) -> object: ...
    def end_delegation(self, name: str, by: Caller) -> object: ...
    def put_policy(self, by: Caller, policy: Policy) -> object: ...
    def put_signal(self, by: Caller, value: bool, expires_at: datetime) -> object: ...
    def drop_signal(self, by: Caller) -> object: ...
    def lock(self, by: Caller, whom: str) -> object: ...
    def unlock(self, by: Caller) -> object: ...
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


class Acting(RuleBasedStateMachine):
    """How each act is done everywhere, and what must hold after it."""

    def __init__(self, services: Mapping[str, Service], set_clock: Callable[[datetime], None]) -> None:
        super().__init__()
        self.services = services
        self.set_clock = set_clock
        self.groups = {name: set(groups) for name, groups in GROUPS_AT_FIRST.items()}
        self.world = World(now=NOON, policies={})
        self.count = 0
        set_clock(NOON)
        for each in POLICIES:
            self.put_policy(replace(each, disabled=each.deny))

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
            "limits": None if pending else (grant.limits.max_uses, grant.is_metered, grant.check_condition),
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
            "limits": None
            if pending
            else (entry.most_uses, entry.counts_uses, entry.signal and f"signals.{entry.signal}"),
            "more": (more, entry.round, entry.lengthened),
            "more until": entry.more.until if entry.more and more == "PENDING" else None,
            "owes": entry.review_due is not None and not entry.use_reviewed,
            "above": entry.above,
        }

    def person(self, name: str) -> Person:
        groups = frozenset(self.groups.get(name, ()))
        return Person(name, groups, is_admin=name in (ADMIN, OTHER_ADMIN), is_strong=name in STRONG)

    def caller(self, name: str) -> Caller:
        roles = frozenset({Role.ADMIN} if name in (ADMIN, OTHER_ADMIN) else ())
        claims = {"acr": "strong"} if name in STRONG else {}
        groups = frozenset(self.groups.get(name, ()))
        return Caller(principal=name, groups=groups, roles=roles, claims=claims, exact=(ALIAS,))

    def has_room(self) -> bool:
        live = [entry for entry in self.world.entries.values() if entry.status in LIVE]
        return len(live) < 5 and len(self.world.entries) < 9

    def everywhere(self, expected: str, act: Callable[[Any], Any]) -> dict[str, Any]:
        """Does it in every service, each of which must say what the model expects. Returns their answers."""
        said, answers = {}, {}
        for kind, each in self.services.items():
            said[kind], answers[kind] = verdict(lambda each=each: act(each))  # type: ignore[misc]
        assert said == dict.fromkeys(self.services, expected), (said, expected)
        return answers

    def written(
        self,
        who: str,
        expected: str,
        act: Callable[[Any, Caller], Any],
        *,
        seen_by: Callable[[Person], bool] = lambda _: True,  # noqa: ARG002
    ) -> dict[str, Any]:
        """Lets somebody write everywhere. Whom `seen_by` leaves out may not even know of what is written."""
        return self.everywhere(expected, lambda each: act(each, self.caller(who)))

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
        expected = self.world.child_verdict(person, thing) if thing.parent else self.world.ask_verdict(person, thing)
        if expected == OK and self.world.is_locked(asker, thing.holder):
            expected = "Locked"
        if expected == OK and not thing.parent:
            expected = self.world.room_verdict(person, thing)
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

        def ask(each: Service, by: Caller) -> object:
            return (each.ensure if ensure else each.ask)(name, by, wanted)

        if ensure and (found := self.world.ensured(person, thing)):
            answers = {grant.name for grant in self.written(asker, OK, ask).values()}
            assert answers <= found, (answers, found)
            assert len(answers) == 1, answers
            return None
        self.written(asker, expected, ask)
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
        self.written(
            who,
            expected,
            lambda each, by: each.act(act, name, by, edits=given, more=span),
            seen_by=lambda person: self.world.sees(entry, person),
        )
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
            changed = normalize(replace(self.world.policies[name], **{"deleted_at": None, **change}), exact=(ALIAS,))
        except InvalidField:
            return
        self.put_policy(changed)

    @contextmanager
    def locked(self, whom: str) -> Iterator[None]:
        """Locks somebody meanwhile."""
        self.everywhere(OK, lambda each: each.lock(self.caller(ADMIN), whom))
        self.world.locked = whom
        yield
        self.everywhere(OK, lambda each: each.unlock(self.caller(ADMIN)))
        self.world.locked = ""

    def set_calm(self, value: bool, ends: datetime) -> None:
        self.written(ADMIN, OK, lambda each, by: each.put_signal(by, value, ends))
        self.world.signals["calm"] = (value, ends)

    def drop_calm(self) -> None:
        self.written(ADMIN, OK, lambda each, by: each.drop_signal(by))
        self.world.signals.clear()

    def end_loan(self, name: str) -> None:
        loan = self.world.loans[name]
        expected = "WrongState" if loan.over or loan.ends <= self.world.now else OK
        self.written(loan.giver.name, expected, lambda each, by: each.end_delegation(name, by), seen_by=loan.concerns)
        if expected == OK:
            self.world.end_loan(name)

    def put_policy(self, changed: Policy) -> None:
        self.written(ADMIN, OK, lambda each, by: each.put_policy(by, changed))
        self.world.policies[changed.name] = changed
        self.world.end_misfits([changed.name], self.person(ADMIN))


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
