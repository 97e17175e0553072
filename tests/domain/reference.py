"""A second telling of the rules, to hold the domain against.

Written the other way round on purpose: each grant stores its status, time moves from one boundary to the next, patterns
are tables written by hand, and every refusal is a word that is looked up before anything changes. It shares only plain
facts with the domain (a policy's fields), none of its functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from jit_service.domain.policy import Policy, PrincipalSet, Step

OK = "OK"
LIVE = ("PENDING", "SCHEDULED", "ACTIVE")

RESOURCES = ("db/a", "db/a/x", "db/a/x/1", "db/b/x")
ACTIONS = ("read", "rows.add")
WITHIN = {
    "db/**": {"db/**", "db/a/**", "db/a/*", "db/a", "db/a/x", "db/a/x/1", "db/b/x"},
    "db/a/**": {"db/a/**", "db/a/*", "db/a/x", "db/a/x/1"},
    "db/a/*": {"db/a/*", "db/a/x"},
    "db/a/x": {"db/a/x"},
    "db/b/x": {"db/b/x"},
    "**": {"**", "read", "rows.*", "rows.add"},
    "rows.*": {"rows.*", "rows.add"},
    "read": {"read"},
    "rows.add": {"rows.add"},
}
"""What lies within each pattern of this small world."""


@dataclass(frozen=True)
class Person:
    name: str
    groups: frozenset[str]
    is_admin: bool = False


@dataclass(frozen=True)
class Thing:
    """What is asked for. An empty policy and no length leave the choice to the rules."""

    holder: str
    resource: str
    action: str
    policy: str
    length: timedelta | None
    start: datetime | None


@dataclass
class Vote:
    who: Person
    step: int


@dataclass
class Entry:
    """One grant, its status stored."""

    name: str
    asker: Person
    holder: str
    policy: str
    resource: str
    action: str
    length: timedelta
    wait_until: datetime
    wanted_start: datetime | None
    status: str = "PENDING"
    begins: datetime | None = None
    finishes: datetime | None = None
    over_at: datetime | None = None
    held: timedelta | None = None
    votes: list[Vote] = field(default_factory=list)
    ran_out_recorded: bool = False

    def boundary(self) -> datetime | None:
        """The next instant at which time alone changes the status."""
        return {"PENDING": self.wait_until, "SCHEDULED": self.begins, "ACTIVE": self.finishes}.get(self.status)

    def pass_boundary(self) -> None:
        self.status = {"PENDING": "LAPSED", "SCHEDULED": "ACTIVE", "ACTIVE": "EXPIRED"}[self.status]
        if self.status == "EXPIRED":
            self.over_at = self.finishes

    def own(self, who: str) -> bool:
        return who.lower() in (self.asker.name.lower(), self.holder.lower())


@dataclass(frozen=True)
class Line:
    """One line of the log."""

    event: str
    grant: str
    by: str
    at: datetime
    status: str
    held: timedelta | None


@dataclass
class World:
    """All there is: a clock, the policies as they are now, the grants, and what was recorded."""

    now: datetime
    policies: dict[str, Policy]
    entries: dict[str, Entry] = field(default_factory=dict)
    log: list[Line] = field(default_factory=list)

    # Time

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

    def sweep(self) -> list[str]:
        """Records what ran out since the last time, and says which grants those are."""
        found = [
            entry
            for entry in self.entries.values()
            if entry.status in ("EXPIRED", "LAPSED") and not entry.ran_out_recorded
        ]
        for entry in found:
            entry.ran_out_recorded = True
            held = entry.length if entry.status == "EXPIRED" else None
            self._record(f"GRANT_{entry.status}", entry, "service:jit-service", held)
        return [entry.name for entry in found]

    # Asking

    def ask_verdict(self, asker: Person, thing: Thing) -> str:
        chosen = self._chosen(asker, thing)
        if chosen is None:
            return "NotEligible"
        proved = asker.groups if thing.holder == asker.name else None
        if self._forbidden(thing.holder, proved, thing.resource, thing.action):
            return "DeniedByPolicy"
        return OK if chosen.min_duration <= length_of(thing, chosen) <= chosen.max_duration else "InvalidField"

    def ask(self, name: str, asker: Person, thing: Thing) -> None:
        chosen = self._chosen(asker, thing)
        assert chosen is not None
        entry = Entry(
            name=name,
            asker=asker,
            holder=thing.holder,
            policy=chosen.name,
            resource=thing.resource,
            action=thing.action,
            length=length_of(thing, chosen),
            wait_until=self.now + chosen.request_ttl,
            wanted_start=thing.start,
        )
        self.entries[name] = entry
        if not chosen.steps:
            self._start(entry)
        self._record("GRANT_REQUESTED", entry, asker.name)

    def _chosen(self, asker: Person, thing: Thing) -> Policy | None:
        fitting = [
            policy
            for policy in self.policies.values()
            if thing.policy in ("", policy.name)
            and self._usable(policy)
            and self._reaches(policy, thing.resource, thing.action)
            and self._may_ask(policy, asker, thing.holder)
        ]
        return min(fitting, key=lambda policy: (-policy.priority, policy.name), default=None)

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
            if holder in policy.eligible.principals:
                return True
            if policy.eligible.groups and (groups is None or groups & set(policy.eligible.groups)):
                return True
        return False

    # Reviewing

    def review_verdict(self, entry: Entry, who: Person) -> str:
        policy = self.policies[entry.policy]
        if entry.own(who.name) and not policy.allow_self_approval:
            return "SelfApproval"
        if not any(in_set(who, step.approvers) for step in policy.steps):
            return "NotApprover"
        if entry.status != "PENDING":
            return "WrongState"
        if who.name.lower() in {vote.who.name.lower() for vote in entry.votes}:
            return "AlreadyReviewed"
        return OK if in_set(who, policy.steps[self.waiting_step(entry)].approvers) else "NotApprover"

    def approve_verdict(self, entry: Entry, who: Person) -> str:
        verdict = self.review_verdict(entry, who)
        return "PolicyNoLongerAllows" if verdict == OK and not self._still_gives(entry) else verdict

    def approve(self, entry: Entry, who: Person) -> None:
        entry.votes.append(Vote(who, self.waiting_step(entry)))
        if all(self.tally(entry, index) >= step.approvals_needed for index, step in self._steps(entry)):
            self._start(entry)
        self._record("GRANT_APPROVED", entry, who.name)

    def deny(self, entry: Entry, who: Person) -> None:
        self._end(entry, "DENIED", who)

    def waiting_step(self, entry: Entry) -> int:
        """The first step that still needs somebody; the last one where none does."""
        *_, last = (index for index, _ in self._steps(entry))
        return next(
            (index for index, step in self._steps(entry) if self.tally(entry, index) < step.approvals_needed), last
        )

    def tally(self, entry: Entry, index: int) -> int:
        """How many people's approvals the step has, by the policy as it is now."""
        policy = self.policies[entry.policy]
        return len(
            {
                vote.who.name.lower()
                for vote in entry.votes
                if vote.step == index
                and in_set(vote.who, policy.steps[index].approvers)
                and (policy.allow_self_approval or not entry.own(vote.who.name))
            }
        )

    def _steps(self, entry: Entry) -> Iterator[tuple[int, Step]]:
        return enumerate(self.policies[entry.policy].steps)

    def _still_gives(self, entry: Entry) -> bool:
        policy = self.policies[entry.policy]
        proved = entry.asker.groups if entry.asker.name == entry.holder else None
        return (
            self._usable(policy)
            and self._reaches(policy, entry.resource, entry.action)
            and self._may_ask(policy, entry.asker, entry.holder)
            and policy.min_duration <= entry.length <= policy.max_duration
            and not self._forbidden(entry.holder, proved, entry.resource, entry.action)
        )

    # Ending

    def withdraw_verdict(self, entry: Entry, who: Person) -> str:
        if who.name not in (entry.asker.name, entry.holder):
            return "NotYours"
        return OK if entry.status == "PENDING" else "WrongState"

    def withdraw(self, entry: Entry, who: Person) -> None:
        self._end(entry, "WITHDRAWN", who)

    def release_verdict(self, entry: Entry, who: Person) -> str:
        if who.name != entry.holder:
            return "NotYours"
        return OK if entry.status in ("SCHEDULED", "ACTIVE") else "WrongState"

    def release(self, entry: Entry, who: Person) -> None:
        self._end(entry, "RELEASED", who)

    def revoke_verdict(self, entry: Entry, who: Person) -> str:
        if not (who.is_admin or who.name in (entry.asker.name, entry.holder) or self._reviews(entry, who)):
            return "NotApprover"
        return OK if entry.status in ("SCHEDULED", "ACTIVE") else "WrongState"

    def revoke(self, entry: Entry, who: Person) -> None:
        self._end(entry, "REVOKED", who)

    def _reviews(self, entry: Entry, who: Person) -> bool:
        voted = who.name in {vote.who.name for vote in entry.votes}
        return voted or any(in_set(who, step.approvers) for _, step in self._steps(entry))

    def _end(self, entry: Entry, status: str, who: Person) -> None:
        if entry.status == "ACTIVE" and entry.begins is not None and entry.begins < self.now:
            entry.held = self.now - entry.begins
        if status == "DENIED":
            entry.votes.append(Vote(who, -1))
        entry.status, entry.over_at = status, self.now
        self._record(f"GRANT_{status}", entry, who.name, entry.held)

    def _start(self, entry: Entry) -> None:
        later = entry.wanted_start is not None and entry.wanted_start > self.now
        entry.begins = entry.wanted_start if later else self.now
        assert entry.begins is not None
        entry.finishes = entry.begins + entry.length
        entry.status = "SCHEDULED" if later else "ACTIVE"

    def foresee(self, act: str, entry: Entry, who: Person) -> tuple[str, timedelta | None]:
        """The status and held time that the act would lead to, tried on a copy."""
        trial, tried = World(self.now, self.policies), replace(entry, votes=list(entry.votes))
        getattr(trial, act)(tried, who)
        return tried.status, tried.held

    # Reading

    def sees(self, entry: Entry, who: Person) -> bool:
        return who.is_admin or who.name in (entry.asker.name, entry.holder) or self._reviews(entry, who)

    def answers(self, holder: str, action: str, resource: str, groups: frozenset[str] | None) -> set[str]:
        """The reasons that a check may give: one, or several where two grants ended in the same instant."""
        mine = [
            entry
            for entry in self.entries.values()
            if entry.holder == holder and resource in WITHIN[entry.resource] and action in WITHIN[entry.action]
        ]
        active = [entry for entry in mine if entry.status == "ACTIVE"]
        if any(not self._overruled(entry, action, resource, groups) for entry in active):
            return {"ALLOWED"}
        if active:
            return {"DENIED_BY_POLICY"}
        statuses = {entry.status for entry in mine}
        for status, reason in (("SCHEDULED", "NOT_YET_STARTED"), ("PENDING", "PENDING")):
            if status in statuses:
                return {reason}
        past = [entry for entry in mine if entry.status in ("EXPIRED", "REVOKED", "RELEASED") and entry.over_at]
        latest = max((entry.over_at for entry in past if entry.over_at), default=None)
        return {entry.status for entry in past if entry.over_at == latest} or {"NO_GRANT"}

    def _overruled(self, entry: Entry, action: str, resource: str, groups: frozenset[str] | None) -> bool:
        proofs = [] if groups is None else [groups]
        if entry.asker.name == entry.holder:
            proofs.append(entry.asker.groups)
        proved = frozenset(group for proof in proofs for group in proof) if proofs else None
        return self._forbidden(entry.holder, proved, resource, action)

    def _record(self, event: str, entry: Entry, by: str, held: timedelta | None = None) -> None:
        self.log.append(Line(event, entry.name, by, self.now, entry.status, held))


def in_set(who: Person, people: PrincipalSet) -> bool:
    return who.name in people.principals or any(group in people.groups for group in who.groups)


def length_of(thing: Thing, policy: Policy) -> timedelta:
    return thing.length or policy.default_duration or policy.max_duration
