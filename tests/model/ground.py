"""The model's clock and facts, and what holds for everybody: patterns, denials, conditions, rights, the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from jit_service.domain.policies.policy import Policy, Step
from tests.model.facts import (
    CALM,
    LONG,
    OK,
    RUNNING,
    WITHIN,
    Change,
    Entry,
    Line,
    Loan,
    Person,
    deciders,
    in_set,
)


@dataclass
class Ground:
    """A clock, the policies as they are now, the grants, and what was recorded."""

    now: datetime
    policies: dict[str, Policy]
    entries: dict[str, Entry] = field(default_factory=dict)
    log: list[Line] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    loans: dict[str, Loan] = field(default_factory=dict)
    signals: dict[str, tuple[bool, datetime]] = field(default_factory=dict)
    locked: str = ""
    """Who is locked now, in any letter case."""

    def wait(self, span: timedelta) -> None:
        """Walks from boundary to boundary, so that each status change happens at its own instant."""
        until = self.now + span
        while (following := self._next_boundary()) is not None and following <= until:
            self.now = max(self.now, following)
            for entry in self.entries.values():
                if entry.boundary() == following:
                    entry.pass_boundary()
        self.now = until

    def _next_boundary(self) -> datetime | None:
        return min((at for entry in self.entries.values() if (at := entry.boundary()) is not None), default=None)

    def boundaries(self) -> list[datetime]:
        """Every instant ahead at which something ends, begins, escalates or is owed by itself."""
        found: list[datetime | None] = [at for loan in self.loans.values() for at in (loan.begins, loan.ends)]
        found += [ends for _, ends in self.signals.values()]
        for entry in self.entries.values():
            found += [entry.boundary(), entry.review_due, entry.more.until if entry.more else None]
            found += [entry.clock + step.timeout for step in entry.steps if entry.clock and step.timeout]
        return sorted({at for at in found if at is not None and at > self.now})

    def sweep(self) -> list[str]:
        """Records what ran out since the last time, and says which grants those are."""
        for entry in self.entries.values():
            more = entry.more
            over = entry.status == "EXPIRED" or (more and more.until <= self.now and entry.status in RUNNING)
            if more and more.status == "PENDING" and over:
                more.status = "LAPSED"
                self._record("EXTENSION_LAPSED", entry, "service:jit-service")
        found = [
            entry
            for entry in self.entries.values()
            if entry.status in ("EXPIRED", "LAPSED") and not entry.ran_out_recorded
        ]
        for entry in found:
            entry.ran_out_recorded = True
            expired = entry.status == "EXPIRED" and entry.finishes and entry.begins
            held = entry.finishes - entry.begins if expired and entry.finishes and entry.begins else None
            self._record(f"GRANT_{entry.status}", entry, "service:jit-service", held)
        for entry in self.entries.values():
            owed = entry.review_due is not None and entry.review_due <= self.now and not entry.use_reviewed
            if owed and not entry.overdue_recorded:
                entry.overdue_recorded = True
                # Of the grant nothing changes, so nobody who watches is told.
                self._note("REVIEW_OVERDUE", entry, "service:jit-service")
            waits = entry.status == "PENDING" or (entry.more is not None and entry.more.status == "PENDING")
            escalated = waits and entry.escalates is not None and entry.escalates <= self.now
            if escalated and entry.escalation_recorded != entry.escalates:
                entry.escalation_recorded = entry.escalates
                self._note("STEP_ESCALATED", entry, "service:jit-service")
        return [entry.name for entry in found]

    def is_locked(self, *names: str) -> bool:
        """Whether one of them is."""
        return bool(self.locked) and self.locked.lower() in map(str.lower, names)

    def _usable(self, policy: Policy) -> bool:
        return not (policy.deny or policy.disabled or policy.deleted_at)

    def _reaches(self, policy: Policy, resource: str, action: str) -> bool:
        return any(resource in WITHIN[pattern] for pattern in policy.resources) and any(
            action in WITHIN[pattern] for pattern in policy.actions
        )

    def _may_ask(self, policy: Policy, asker: Person, holder: str) -> bool:
        return in_set(asker, policy.eligible) and (holder == asker.name or holder in policy.eligible.principals)

    def _forbidden(self, holder: str, groups: frozenset[str] | None, resource: str, action: str) -> bool:
        for policy in self.policies.values():
            if not policy.deny or policy.disabled or policy.deleted_at or not self._reaches(policy, resource, action):
                continue
            if holder.lower() in map(str.lower, policy.eligible.principals):
                return True
            if policy.eligible.groups and (groups is None or groups & set(policy.eligible.groups)):
                return True
        return False

    def _met(self, condition: str, length: timedelta) -> bool | None:
        """Whether a condition is met; None where it cannot be judged."""
        if condition == CALM:
            value, ends = self.signals.get("calm", (False, self.now))
            return value if self.now < ends else None
        return length > timedelta(minutes=30) if condition == LONG else True

    def condition_verdict(self, policy: Policy, steps: tuple[Step, ...], length: timedelta) -> str:
        asked = self._met(policy.request_condition, length)
        if asked is None or (asked and any(self._met(step.condition, length) is None for step in steps)):
            return "ConditionError"
        return OK if asked else "ConditionNotMet"

    def _spared(self, steps: tuple[Step, ...], length: timedelta) -> frozenset[int]:
        return frozenset(index for index, step in enumerate(steps) if not self._met(step.condition, length))

    def _could_pass(self, policy: Policy, involved: set[str], patience: timedelta, length: timedelta) -> bool:
        """Tries every way to give each place of the steps that name people a person of its own."""
        barred = set() if policy.allow_self_approval else involved
        spared = self._spared(policy.steps, length)
        needed = [step for index, step in enumerate(policy.steps) if index not in spared]
        in_time = [(step, deciders(step) if step.timeout < patience else (step.approvers,)) for step in needed]
        places = [
            {name.lower() for people in deciding for name in people.principals} - barred
            for step, deciding in in_time
            if not any(people.groups for people in deciding)
            for _ in range(step.approvals_needed)
        ]

        def filled(left: list[set[str]], taken: frozenset[str]) -> bool:
            return not left or any(filled(left[1:], taken | {name}) for name in left[0] - taken)

        return filled(places, frozenset())

    def rights(self, who: Person, policy: str) -> list[tuple[Person, str]]:
        """By whose rights somebody may review, its own first, each with the loan it has it by."""
        lent = [
            (loan.giver, loan.name)
            for loan in sorted(self.loans.values(), key=lambda loan: loan.name)
            if loan.to == who.name and loan.holds(self.now) and (not loan.policies or policy in loan.policies)
            if not self.is_locked(loan.giver.name)
        ]
        return [(who, "")] if self.policies[policy].forbid_delegation else [(who, ""), *lent]

    def _ever(self, policy: Policy, who: Person) -> bool:
        return any(in_set(who, people) for step in policy.steps for people in deciders(step))

    def _reviews(self, entry: Entry, who: Person, *, lent: bool = True) -> bool:
        policy = self.policies[entry.policy]
        rights = self.rights(who, policy.name) if lent else [(who, "")]
        voted = who.name in {vote.who.name for vote in entry.votes}
        return voted or any(self._ever(policy, holder) for holder, _ in rights)

    def sees(self, entry: Entry, who: Person, *, lent: bool = True) -> bool:
        return who.is_admin or entry.of(who.name) or self._reviews(entry, who, lent=lent)

    def would_see(self, change: Change, who: Person) -> bool:
        """Whether somebody is told of a change: by what was so then, and by the policies and rights of now."""
        entry, policy = self.entries[change.grant], self.policies[self.entries[change.grant].policy]
        by_right = any(self._ever(policy, holder) for holder, _ in self.rights(who, policy.name))
        return who.is_admin or entry.of(who.name) or who.name in change.voters or by_right

    def _record(self, event: str, entry: Entry, by: str, held: timedelta | None = None) -> None:
        self._note(event, entry, by, held)
        self._tell(event, entry)

    def _note(self, event: str, entry: Entry, by: str, held: timedelta | None = None) -> None:
        self.log.append(Line(event, entry.name, by, self.now, entry.status, held))

    def _tell(self, event: str, entry: Entry) -> None:
        self.changes.append(Change(event, entry.name, entry.status, frozenset(vote.who.name for vote in entry.votes)))
