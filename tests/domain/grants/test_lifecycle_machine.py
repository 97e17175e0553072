"""The domain alone against the reference model, in a world in which anything may happen."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from jit_service.domain.audit.event import Event
from jit_service.domain.caller import Caller
from jit_service.domain.checks.decision import Decision, Question, decide
from jit_service.domain.checks.evidence import Evidence
from jit_service.domain.conditions import signal
from jit_service.domain.conditions.signal import Signal, Signals
from jit_service.domain.errors import (
    NotVisible,
    TooManyActive,
    Unsatisfiable,
)
from jit_service.domain.grants import (
    approval,
    break_glass,
    children,
    coverage,
    deadlines,
    misfit,
    more_time,
    preview,
    request,
    terms,
)
from jit_service.domain.grants import delegation as delegations
from jit_service.domain.grants import grant as rules
from jit_service.domain.grants import lock as locks
from jit_service.domain.grants.delegation import Delegation, NewDelegation
from jit_service.domain.grants.grant import ExtensionState, Grant, GrantState
from jit_service.domain.grants.lock import NO_LOCKS, Locks, Target
from jit_service.domain.grants.lock import NewLock as LockWanted
from jit_service.domain.grants.more_time import MoreTime
from jit_service.domain.grants.request import Ask
from jit_service.domain.grants.terms import Edits
from jit_service.domain.policies.policy import Policy
from tests.domain.factories import NOON
from tests.model.facts import LIVE, RUNNING
from tests.model.lifecycle import LifecycleMachine


@dataclass
class Alone:
    """The domain behind the least of a service: what the use cases do, without a store."""

    now: datetime = NOON
    policies: dict[str, Policy] = field(default_factory=dict)
    kept: dict[str, Grant] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    delegations: dict[str, Delegation] = field(default_factory=dict)
    calm: Signal | None = None
    run_out: set[str] = field(default_factory=set)
    overdue: set[str] = field(default_factory=set)
    escalated: set[tuple[str, datetime | None]] = field(default_factory=set)
    locks: Locks = NO_LOCKS

    def ask(self, name: str, by: Caller, asked: Ask) -> object:
        wanted = request.normalize(asked, now=self.now, exact=by.exact)
        if wanted.parent:
            return self.pass_on(name, by, wanted)
        policies = self.policies.values()
        grant = request.judge_request(
            wanted, policies=policies, by=by, grant_name=name, now=self.now, signals=self.signals()
        )
        self.demand_unlocked(grant)
        under = self.policies[grant.policy]
        self.demand_satisfiable(grant, under)
        mine = [kept for kept in self.kept.values() if kept.held_by.is_same(grant.held_by)]
        live = [kept for kept in mine if kept.policy == under.name and kept.state(self.now) in LIVE and not kept.chain]
        if not grant.emergency and 0 < under.max_active_per_subject <= len(live):
            raise TooManyActive("")
        if grant.emergency and under.break_glass:
            owed = [kept for kept in self.kept.values() if kept.owes_review and kept.held_by.is_same(grant.held_by)]
            break_glass.demand_no_debt(grant.subject, owed, most=under.break_glass.most_unreviewed, now=self.now)
        return self.save(*approval.open_request(grant, by=by, now=self.now))

    def rehearse(self, by: Caller, asked: Ask) -> object:
        return replace(self, kept=dict(self.kept), events=list(self.events)).ask("grants/dry", by, asked)

    def ensure(self, name: str, by: Caller, asked: Ask) -> Grant:
        wanted, policies = request.normalize(asked, now=self.now, exact=by.exact), self.policies.values()
        there = [
            kept
            for kept in self.kept.values()
            if kept.subject == wanted.subject
            and kept.is_of(by.person)
            and kept.state(self.now) in (("ACTIVE",) if wanted.break_glass else LIVE)
            and coverage.is_covered_by(wanted, kept, policies=policies, now=self.now)
        ]
        if not there:
            self.ask(name, by, asked)
            return self.kept[name]
        return max(there, key=lambda kept: (LIVE.index(kept.state(self.now)), kept.expires_at or self.now))

    def pass_on(self, name: str, by: Caller, wanted: Ask) -> object:
        parent = self.kept[wanted.parent]
        if not approval.is_visible(parent, self.policies[parent.policy], by):
            raise NotVisible("")
        for above in parent.chain:
            rules.demand_state(self.kept[above], self.now, GrantState.ACTIVE)
        policies = self.policies.values()
        child = children.judge_child(wanted, parent, policies=policies, by=by, grant_name=name, now=self.now)
        self.demand_unlocked(child)
        return self.save(*approval.open_child(child, by=by, now=self.now))

    def act(self, act: str, name: str, by: Caller, *, edits: Edits, more: timedelta) -> object:
        by, grant = self.with_rights(by), self.kept[name]
        policy, now = self.policies[grant.policy], self.now
        if not approval.is_visible(grant, policy, by):
            raise NotVisible("")
        match act:
            case "approve":
                place = approval.demand_reviewer(self.waiting(grant, policy), policy=policy, by=by, now=now)
                edited = terms.apply_edits(grant, edits, policy=policy, now=now)
                judged, given = self.judged_again(edited, policy), terms.changed_terms(grant, edited)
                changed = approval.approve(judged, policy=policy, by=by, comment="", now=now, given=given, place=place)
            case "deny":
                changed = approval.deny(self.waiting(grant, policy), policy=policy, by=by, comment="", now=now)
            case "counter":
                changed = approval.counter(
                    self.waiting(grant, policy), edits, policy=policy, by=by, comment="", now=now
                )
                self.judged_again(terms.edit(grant, edits, now=now), policy)
            case "accept":
                changed = self.accepted(grant, policy, by)
            case "decline":
                changed = approval.decline(grant, by=by, comment="", now=now)
            case "extend":
                asked = more_time.with_extension(grant, MoreTime(duration=more), policy=policy, by=by, now=now)
                judged = request.judge_extension(
                    asked, policy=policy, policies=self.policies.values(), now=now, signals=self.signals()
                )
                self.demand_satisfiable(judged, policy)
                changed = approval.open_extension(judged, policy=policy, by=by, now=now)
            case "complete":
                changed = break_glass.complete_review(grant, policy=policy, by=by, comment="so", now=now)
            case "withdraw":
                changed = approval.withdraw(grant, by=by, comment="", now=now)
            case "release":
                changed = rules.release(grant, by=by, comment="", now=now)
            case _:
                changed = approval.revoke(grant, policy=policy, by=by, comment="so", now=now)
        return self.save(*changed)

    def accepted(self, grant: Grant, policy: Policy, by: Caller) -> tuple[Grant, Event]:
        judged = self.judged_again(approval.with_offered_terms(grant, by=by, now=self.now), policy)
        usable = [name for name, lent in self.delegations.items() if lent.is_active(self.now)]
        return approval.accept(judged, policy=policy, by=by, comment="", now=self.now, delegations=usable)

    def judged_again(self, grant: Grant, policy: Policy) -> Grant:
        return request.judge_again(
            grant, policy=policy, policies=self.policies.values(), now=self.now, signals=self.signals()
        )

    def waiting(self, grant: Grant, policy: Policy) -> Grant:
        return request.refresh_steps(
            grant, policy=policy, policies=self.policies.values(), now=self.now, signals=self.signals()
        )

    def demand_satisfiable(self, grant: Grant, policy: Policy) -> None:
        if preview.preview(grant, allow_self_approval=policy.allow_self_approval).shortfall:
            raise Unsatisfiable("")

    def with_rights(self, by: Caller) -> Caller:
        lent = [
            each
            for each in self.delegations.values()
            if each.delegate == by.principal
            and each.is_active(self.now)
            and self.locks.on(each.delegator, each.delegator_groups) is None
        ]
        return by._replace(delegated=tuple(each.right for each in lent))

    def check(self, by: Caller, question: Question) -> Decision:  # noqa: ARG002
        mine = sorted((kept for kept in self.kept.values() if kept.subject == question.subject), key=_name)
        policies = list(self.policies.values())
        decision = decide(
            question,
            grants=mine,
            evidence=Evidence(
                policies=policies, now=self.now, signals=self.signals(), above=self.kept, locks=self.locks
            ),
        )
        if decision.allowed and decision.grant:
            until: datetime | None = None
            for name in (*decision.grant.chain, decision.grant.name):
                before = self.kept[name]
                count = rules.with_use(before, now=self.now, until=until) if before.is_metered else before
                self.kept[name] = rules.with_expiry(count, until=until)
                until = self.kept[name].expires_at
        return decision

    def delegate(self, name: str, by: Caller, wanted: NewDelegation) -> object:
        self.delegations[name], _ = delegations.create(wanted, delegation_name=name, by=by, now=self.now)
        return self.delegations[name]

    def end_delegation(self, name: str, by: Caller) -> object:
        self.delegations[name], _ = delegations.delete(self.delegations[name], by=by, now=self.now)
        return self.delegations[name]

    def put_policy(self, by: Caller, policy: Policy) -> object:
        self.policies[policy.name] = policy
        for grant in sorted(self.kept.values(), key=_name):
            looked_at = policy.deny or grant.policy == policy.name
            why = misfit.misfit(grant, policies=self.policies) if looked_at else ""
            if why and grant.state(self.now) is GrantState.SCHEDULED:
                self.save(*rules.revoke_as_misfit(grant, why=why, by=by, now=self.now))
        return policy

    def put_signal(self, by: Caller, value: bool, expires_at: datetime) -> object:  # noqa: ARG002
        self.calm = Signal(name="signals/calm", value=value, expires_at=expires_at)
        return self.calm

    def drop_signal(self, by: Caller) -> object:  # noqa: ARG002
        self.calm = None
        return None

    def lock(self, by: Caller, whom: str) -> object:
        wanted = LockWanted(target=Target(principal=whom), comment="left")
        self.locks = Locks([locks.create(wanted, lock_name="locks/l", by=by, now=self.now)])
        return self.locks

    def unlock(self, by: Caller) -> object:  # noqa: ARG002
        self.locks = NO_LOCKS
        return self.locks

    def demand_unlocked(self, grant: Grant) -> None:
        for person in (grant.held_by, grant.asker):
            locks.demand_unlocked(self.locks, person.principal, frozenset())

    def signals(self) -> Signals:
        return signal.at([self.calm] if self.calm else [], self.now)

    def sweep(self) -> object:
        for grant in list(self.kept.values()):
            more = grant.extension
            lapsed = grant.end is None and grant.extension_state(self.now) is ExtensionState.LAPSED
            if more and more.decided is None and lapsed:
                self.save(*approval.lapse_extension(grant, now=self.now))
            if grant.state(self.now) in (GrantState.EXPIRED, GrantState.LAPSED) and grant.name not in self.run_out:
                self.run_out.add(grant.name)
                self.events.append(rules.run_out_event(grant, now=self.now))
            use = grant.emergency
            overdue = use is not None and grant.owes_review and use.review_due_at <= self.now
            if overdue and grant.name not in self.overdue:
                self.overdue.add(grant.name)
                self.events.append(break_glass.review_overdue_event(grant, now=self.now))
            step = grant.name, deadlines.escalates_at(grant)
            if deadlines.has_escalated(grant, now=self.now) and step not in self.escalated:
                self.escalated.add(step)
                self.events.append(deadlines.escalated_event(grant, now=self.now))
        return None

    def revoke_all_of(self, holder: str, by: Caller) -> int:
        before = self.running()
        for grant in [kept for kept in before if kept.subject.lower() == holder.lower()]:
            if self.kept[grant.name].state(self.now) in RUNNING:
                self.save(*approval.revoke(grant, policy=None, by=by, comment="leak", now=self.now))
        return len(before) - len(self.running())

    def running(self) -> list[Grant]:
        return sorted((kept for kept in self.kept.values() if kept.state(self.now) in RUNNING), key=_name)

    def inbox(self, by: Caller) -> set[str]:
        by = self.with_rights(by)
        return {
            name
            for name, grant in self.kept.items()
            if approval.is_reviewable(
                self.waiting(grant, self.policies[grant.policy]),
                policy=self.policies[grant.policy],
                by=by,
                now=self.now,
                locks=self.locks,
            )
        }

    def grants(self) -> dict[str, Grant]:
        return self.kept

    def log(self) -> Iterable[Event]:
        return self.events

    def save(self, grant: Grant, event: Event) -> Grant:
        self.kept[grant.name] = grant
        self.events.append(event)
        if grant.end is not None:
            by = Caller(principal=event.principal)
            for child in self.running():
                if grant.name in child.chain and self.kept[child.name].end is None:
                    self.save(*rules.revoke_with_parent(child, parent=grant, by=by, now=self.now))
        return grant


def _name(grant: Grant) -> str:
    return grant.name


EXAMPLES = int(os.environ.get("EXAMPLES", "50"))


def test_the_domain_gives_the_models_answers() -> None:
    def machine() -> LifecycleMachine:
        alone = Alone()

        def set_clock(now: datetime) -> None:
            alone.now = now

        return LifecycleMachine({"domain": alone}, set_clock)

    run_state_machine_as_test(
        machine,  # type: ignore[arg-type]
        settings=settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None),
    )
