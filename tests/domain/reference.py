"""A second telling of the rules, to hold the domain and the service against.

Written the other way round on purpose: each grant stores its status, time moves from one boundary to the next, patterns
are tables written by hand, and every refusal is a word that is looked up before anything changes. It shares only plain
facts with the domain (a policy's fields), none of its functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from jit_service.domain.policy import Policy, PrincipalSet, Step

OK = "OK"
LIVE = ("PENDING", "SCHEDULED", "ACTIVE")
RUNNING = ("SCHEDULED", "ACTIVE")

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
REACHING = {
    "db": {"db/**", "db/a/**", "db/a/*", "db/a/x", "db/b/x"},
    "db/a": {"db/**", "db/a/**", "db/a/*", "db/a/x"},
    "db/a/x": {"db/**", "db/a/**", "db/a/*", "db/a/x"},
    "db/b/x": {"db/**", "db/b/x"},
}
"""The patterns of grants that reach into a resource or below it."""
CALM, LONG = "signals.calm", 'duration > duration("30m")'
"""The conditions of this small world; its policies have no other."""


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
    uses: int = 0
    emergency: bool = False
    parent: str = ""


@dataclass(frozen=True)
class Changes:
    """What a reviewer gives instead."""

    resource: str = ""
    action: str = ""
    length: timedelta | None = None
    start: datetime | None = None


@dataclass(frozen=True)
class Terms:
    resource: str
    action: str
    length: timedelta
    start: datetime | None


@dataclass(frozen=True)
class Vote:
    """`who` decided by the right of `holder`, which may be its own; `late` if that is one only after an escalation."""

    who: Person
    step: int
    holder: Person
    yes: bool = True
    round: int = 0
    late: bool = False
    loan: str = ""

    def uses(self, *names: str) -> bool:
        mine = (self.who.name.lower(), self.holder.name.lower())
        return any(name.lower() in mine for name in names)


@dataclass(frozen=True)
class Offer:
    vote: Vote
    terms: Terms


@dataclass
class More:
    """A request for more time, its status stored."""

    asker: Person
    length: timedelta
    latest: datetime
    until: datetime
    status: str = "PENDING"
    recorded: bool = False


@dataclass
class Loan:
    """A delegation."""

    name: str
    giver: Person
    to: str
    policies: frozenset[str]
    begins: datetime
    ends: datetime
    over: bool = False

    def holds(self, now: datetime) -> bool:
        return not self.over and self.begins <= now and not self.ends <= now


@dataclass
class Entry:
    """One grant, its status stored."""

    name: str
    asker: Person
    holder: str
    policy: str
    terms: Terms
    asked_at: datetime
    patience: timedelta
    wait_until: datetime
    status: str = "PENDING"
    begins: datetime | None = None
    finishes: datetime | None = None
    over_at: datetime | None = None
    held: timedelta | None = None
    votes: list[Vote] = field(default_factory=list)
    ran_out_recorded: bool = False
    steps: tuple[Step, ...] = ()
    clock: datetime | None = None
    offer: Offer | None = None
    most_uses: int = 0
    window: timedelta = timedelta()
    idle: timedelta = timedelta()
    uses: int = 0
    last_use: datetime | None = None
    more: More | None = None
    round: int = 0
    lengthened: int = 0
    review_due: datetime | None = None
    use_reviewed: bool = False
    above: tuple[str, ...] = ()
    signal: str = ""
    spared: frozenset[int] = frozenset()
    """The steps that were not needed when somebody last acted."""

    def boundary(self) -> datetime | None:
        """The next instant at which time alone changes the status."""
        return {"PENDING": self.wait_until, "SCHEDULED": self.begins, "ACTIVE": self.finishes}.get(self.status)

    def pass_boundary(self) -> None:
        self.status = {"PENDING": "LAPSED", "SCHEDULED": "ACTIVE", "ACTIVE": "EXPIRED"}[self.status]
        if self.status == "EXPIRED":
            self.over_at = self.finishes

    def more_status(self, now: datetime) -> str:
        if self.more is None:
            return ""
        if self.more.status == "PENDING" and (self.status not in RUNNING or self.more.until <= now):
            return "LAPSED"
        return self.more.status

    def own(self, who: str) -> bool:
        return who.lower() in (self.asker.name.lower(), self.holder.lower())

    def of(self, who: str) -> bool:
        return who in (self.asker.name, self.holder)

    @property
    def counts_uses(self) -> bool:
        return bool(self.most_uses or self.window or self.idle)

    @property
    def used_up(self) -> bool:
        return self.most_uses > 0 and self.uses == self.most_uses


@dataclass(frozen=True)
class Line:
    """One line of the log."""

    event: str
    grant: str
    by: str
    at: datetime
    status: str
    held: timedelta | None


@dataclass(frozen=True)
class Change:
    """What a watcher is told: the status it led to, and who had a say in the grant by then."""

    event: str
    grant: str
    status: str
    voters: frozenset[str]


@dataclass
class World:
    """All there is: a clock, the policies as they are now, the grants, and what was recorded."""

    now: datetime
    policies: dict[str, Policy]
    entries: dict[str, Entry] = field(default_factory=dict)
    log: list[Line] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    loans: dict[str, Loan] = field(default_factory=dict)
    signals: dict[str, tuple[bool, datetime]] = field(default_factory=dict)

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
        return [entry.name for entry in found]

    # Asking

    def ask_verdict(self, asker: Person, thing: Thing) -> str:
        """What the rules say; those that need to know of other grants are in `room_verdict`."""
        chosen = self._chosen(asker, thing)
        if chosen is None:
            return "NotEligible"
        proved = asker.groups if thing.holder == asker.name else None
        if self._forbidden(thing.holder, proved, thing.resource, thing.action):
            return "DeniedByPolicy"
        if thing.emergency:
            rule = chosen.break_glass
            assert rule is not None
            if (thing.length or timedelta()) > rule.max_duration or thing.start is not None:
                return "InvalidField"
            return self.condition_verdict(chosen, (), length_of(thing, chosen))
        if not chosen.min_duration <= length_of(thing, chosen) <= chosen.max_duration:
            return "InvalidField"
        return self.condition_verdict(chosen, chosen.steps, length_of(thing, chosen))

    def room_verdict(self, asker: Person, thing: Thing) -> str:
        chosen = self._chosen(asker, thing)
        assert chosen is not None
        involved = {asker.name.lower(), thing.holder.lower()}
        length = length_of(thing, chosen)
        if not thing.emergency and not self._could_pass(chosen, involved, chosen.request_ttl, length):
            return "Unsatisfiable"
        mine = [entry for entry in self.entries.values() if entry.holder == thing.holder]
        under = [entry for entry in mine if entry.policy == chosen.name and entry.status in LIVE and not entry.above]
        if not thing.emergency and 0 < chosen.max_active_per_subject <= len(under):
            return "TooManyActive"
        owed = [entry for entry in mine if entry.review_due and not entry.use_reviewed and entry.review_due <= self.now]
        return "ReviewOverdue" if thing.emergency and owed else OK

    def ensured(self, asker: Person, thing: Thing) -> set[str]:
        """The grants, any of which is the answer to whoever wants it there; none where it must be asked for."""
        there = [entry for entry in self.entries.values() if self._is_there(entry, asker, thing)]
        best = max((LIVE.index(entry.status) for entry in there), default=0)
        found = [entry for entry in there if LIVE.index(entry.status) == best]
        last = max((entry.finishes or self.now for entry in found), default=self.now)
        return {entry.name for entry in found if (entry.finishes or self.now) == last}

    def _is_there(self, entry: Entry, asker: Person, thing: Thing) -> bool:
        if entry.status not in LIVE or entry.holder != thing.holder or not entry.of(asker.name):
            return False
        if thing.emergency and entry.status != "ACTIVE":
            return False
        if thing.policy not in ("", entry.policy) or (thing.parent and entry.above[-1:] != (thing.parent,)):
            return False
        if entry.most_uses and entry.most_uses - entry.uses < max(1, thing.uses):
            return False
        reached = thing.resource in WITHIN[entry.terms.resource] and thing.action in WITHIN[entry.terms.action]
        if not reached or not self._covers_time(entry, thing):
            return False
        proved = entry.asker.groups if entry.asker.name == entry.holder else None
        return not self._forbidden(thing.holder, proved, thing.resource, thing.action)

    def _covers_time(self, entry: Entry, thing: Thing) -> bool:
        begins = entry.begins or max(self.now, entry.terms.start or self.now)
        wanted = thing.length or timedelta()
        if thing.start is None:
            return begins <= self.now and entry.terms.length >= wanted
        left = begins + entry.terms.length - thing.start
        return begins <= thing.start and left > timedelta() and left >= wanted

    def ask(self, name: str, asker: Person, thing: Thing) -> None:
        chosen = self._chosen(asker, thing)
        assert chosen is not None
        entry = Entry(
            name=name,
            asker=asker,
            holder=thing.holder,
            policy=chosen.name,
            terms=Terms(thing.resource, thing.action, length_of(thing, chosen), thing.start),
            asked_at=self.now,
            patience=chosen.request_ttl,
            wait_until=self.now + chosen.request_ttl,
            steps=() if thing.emergency else chosen.steps,
            most_uses=thing.uses,
        )
        self._take_limits(entry)
        self.entries[name] = entry
        if thing.emergency:
            assert chosen.break_glass is not None
            entry.review_due = self.now + chosen.break_glass.review_within
        entry.spared = self._spared(entry.steps, entry.terms.length)
        if len(entry.spared) < len(entry.steps):
            self._restart(entry)
        else:
            self._start(entry)
        self._record("BREAK_GLASS_USED" if thing.emergency else "GRANT_REQUESTED", entry, asker.name)

    def child_verdict(self, asker: Person, thing: Thing) -> str:
        parent = self.entries[thing.parent]
        policy = self.policies[parent.policy]
        if not self.sees(parent, asker, lent=False):
            return "NotVisible"
        if any(self.entries[name].status != "ACTIVE" for name in parent.above):
            return "WrongState"
        if asker.name != parent.holder:
            return "NotYours"
        if parent.status != "ACTIVE":
            return "WrongState"
        if thing.policy not in ("", parent.policy) or thing.start is not None or thing.emergency:
            return "InvalidField"
        if policy.disabled or policy.deleted_at or len(parent.above) >= policy.max_child_depth:
            return "ChildNotAllowed"
        if thing.holder != parent.holder and not thing.holder.startswith("service:"):
            return "ChildNotAllowed"
        if thing.resource not in WITHIN[parent.terms.resource] or thing.action not in WITHIN[parent.terms.action]:
            return "InvalidField"
        if self._forbidden(
            thing.holder, asker.groups if thing.holder == asker.name else None, thing.resource, thing.action
        ):
            return "DeniedByPolicy"
        assert parent.begins is not None
        if thing.length is not None and self.now + thing.length > parent.begins + parent.terms.length:
            return "InvalidField"
        return "InvalidField" if parent.most_uses and parent.uses + (thing.uses or 1) > parent.most_uses else OK

    def pass_on(self, name: str, asker: Person, thing: Thing) -> None:
        parent = self.entries[thing.parent]
        assert parent.begins is not None
        left = parent.begins + parent.terms.length - self.now
        entry = Entry(
            name=name,
            asker=asker,
            holder=thing.holder,
            policy=parent.policy,
            terms=Terms(thing.resource, thing.action, thing.length or left, None),
            asked_at=self.now,
            patience=parent.patience,
            wait_until=self.now + parent.patience,
            most_uses=thing.uses or (parent.most_uses - parent.uses if parent.most_uses else 0),
            idle=parent.idle,
            above=(*parent.above, parent.name),
            signal=parent.signal,
        )
        self.entries[name] = entry
        self._start(entry)
        self._record("GRANT_REQUESTED", entry, asker.name)

    def _chosen(self, asker: Person, thing: Thing) -> Policy | None:
        fitting = [
            policy
            for policy in self.policies.values()
            if thing.policy in ("", policy.name)
            and self._usable(policy)
            and self._reaches(policy, thing.resource, thing.action)
            and (
                self._may_break(policy, asker, thing) if thing.emergency else self._may_ask(policy, asker, thing.holder)
            )
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

    def _may_break(self, policy: Policy, asker: Person, thing: Thing) -> bool:
        return bool(policy.break_glass and thing.holder == asker.name and in_set(asker, policy.break_glass.eligible))

    def _forbidden(self, holder: str, groups: frozenset[str] | None, resource: str, action: str) -> bool:
        for policy in self.policies.values():
            if not policy.deny or policy.disabled or policy.deleted_at or not self._reaches(policy, resource, action):
                continue
            if holder in policy.eligible.principals:
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

    def spared_now(self, entry: Entry) -> frozenset[int]:
        """The steps that what is asked for does not need now; as they were, where it could not pass."""
        terms = self.changed(entry, Changes())
        if terms is None or not self._still_gives(entry, terms):
            return entry.spared
        return self._spared(self.policies[entry.policy].steps, terms.length)

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

    # Reviewing

    def rights(self, who: Person, policy: str) -> list[tuple[Person, str]]:
        """By whose rights somebody may review, its own first, each with the loan it has it by."""
        lent = [
            (loan.giver, loan.name)
            for loan in sorted(self.loans.values(), key=lambda loan: loan.name)
            if loan.to == who.name and loan.holds(self.now) and (not loan.policies or policy in loan.policies)
        ]
        return [(who, ""), *lent]

    def place(self, entry: Entry, who: Person) -> Vote | str:
        """The vote that somebody has now, or why it has none."""
        policy = self.policies[entry.policy]
        if entry.own(who.name) and not policy.allow_self_approval:
            return "SelfApproval"
        able = [right for right in self.rights(who, policy.name) if self._ever(policy, right[0])]
        if not able:
            return "NotApprover"
        able = [right for right in able if policy.allow_self_approval or not entry.own(right[0].name)]
        if not able:
            return "SelfApproval"
        if entry.status != "PENDING" and entry.more_status(self.now) != "PENDING":
            return "WrongState"
        if any(vote.uses(who.name) for vote in self._said(entry)):
            return "AlreadyReviewed"
        index = self.waiting_step(entry, self.spared_now(entry))
        step, spent = policy.steps[index], False
        since = entry.clock or entry.asked_at
        for holder, loan in able:
            first = in_set(holder, step.approvers)
            escalated = bool(step.timeout) and self.now - since >= step.timeout
            if first or (escalated and step.escalate_to is not None and in_set(holder, step.escalate_to)):
                if not loan or not any(vote.uses(holder.name) for vote in self._said(entry)):
                    return Vote(who, index, holder, round=entry.round, late=not first, loan=loan)
                spent = True
        return "AlreadyReviewed" if spent else "NotApprover"

    def review_verdict(self, entry: Entry, who: Person) -> str:
        vote = self.place(entry, who)
        return vote if isinstance(vote, str) else OK

    def approve_verdict(self, entry: Entry, who: Person, changes: Changes | None = None) -> str:
        verdict = self.review_verdict(entry, who)
        if verdict != OK:
            return verdict
        vote, terms = self.place(entry, who), self.changed(entry, changes or Changes())
        assert not isinstance(vote, str)
        if terms is None or self._too_short(entry, terms):
            return "InvalidField"
        if not self._still_gives(entry, terms):
            return "PolicyNoLongerAllows"
        spared = self._spared(self.policies[entry.policy].steps, terms.length)
        return "NotApprover" if self.waiting_step(entry, spared) < vote.step else OK

    def _too_short(self, entry: Entry, terms: Terms) -> bool:
        """Whether a reviewer chose a length that the policy does not give."""
        policy = self.policies[entry.policy]
        chosen = entry.more is None and terms.length != entry.terms.length
        return chosen and not policy.min_duration <= terms.length <= policy.max_duration

    def approve(self, entry: Entry, who: Person, changes: Changes | None = None) -> None:
        vote = self.place(entry, who)
        terms = self.changed(entry, changes or Changes())
        assert not isinstance(vote, str)
        assert terms is not None
        event = "EXTENSION_APPROVED" if entry.more else "GRANT_APPROVED"
        self._count_yes(entry, vote, terms)
        self._record(event, entry, who.name)

    def deny(self, entry: Entry, who: Person) -> None:
        vote = self.place(entry, who)
        assert not isinstance(vote, str)
        entry.spared = self.spared_now(entry)
        self._add(entry, Vote(who, vote.step, vote.holder, yes=False, round=vote.round, late=vote.late))
        final = self._voters(entry, vote.step, yes=False) >= self.policies[entry.policy].steps[vote.step].denials_needed
        if entry.more is not None:
            if final:
                entry.more.status = "DENIED"
            self._record("EXTENSION_DENIED", entry, who.name)
        elif final:
            self._end(entry, "DENIED", who)
        else:
            self._record("GRANT_DENIED", entry, who.name)

    def counter_verdict(self, entry: Entry, who: Person, changes: Changes) -> str:
        verdict = self.review_verdict(entry, who)
        if verdict != OK:
            return verdict
        if entry.status != "PENDING":
            return "WrongState"
        terms = self.changed(entry, changes)
        if terms is None or terms == entry.terms or self._too_short(entry, terms):
            return "InvalidField"
        return OK if self._still_gives(entry, terms) else "PolicyNoLongerAllows"

    def counter(self, entry: Entry, who: Person, changes: Changes) -> None:
        vote, terms = self.place(entry, who), self.changed(entry, changes)
        assert not isinstance(vote, str)
        assert terms is not None
        entry.spared = self.spared_now(entry)
        entry.offer = Offer(vote, terms)
        self._record("GRANT_COUNTERED", entry, who.name)

    def decline_verdict(self, entry: Entry, who: Person) -> str:
        if not entry.of(who.name):
            return "NotYours"
        return OK if entry.status == "PENDING" and entry.offer else "WrongState"

    def decline(self, entry: Entry, who: Person) -> None:
        entry.offer = None
        self._record("COUNTER_OFFER_DECLINED", entry, who.name)

    def accept_verdict(self, entry: Entry, who: Person) -> str:
        verdict = self.decline_verdict(entry, who)
        if verdict != OK or entry.offer is None:
            return verdict
        if not self._still_gives(entry, entry.offer.terms):
            return "PolicyNoLongerAllows"
        vote, policy = entry.offer.vote, self.policies[entry.policy]
        if vote.loan and not self.loans[vote.loan].holds(self.now):
            return "NotApprover"
        if vote.step >= len(policy.steps) or not self._counts(vote, policy.steps[vote.step]):
            return "NotApprover"
        taken = any(earlier.uses(vote.who.name, vote.holder.name) for earlier in self._said(entry))
        return "AlreadyReviewed" if taken else OK

    def accept(self, entry: Entry, who: Person) -> None:
        assert entry.offer is not None
        vote, terms = entry.offer.vote, entry.offer.terms
        entry.offer = None
        if terms.start is not None and terms.start < self.now:
            terms = Terms(terms.resource, terms.action, terms.length, self.now)
        self._count_yes(entry, vote, terms)
        self._record("COUNTER_OFFER_ACCEPTED", entry, who.name)

    def changed(self, entry: Entry, changes: Changes) -> Terms | None:
        """The terms with a reviewer's changes; None for one that would give more."""
        if entry.more is not None:
            if changes.resource or changes.action or changes.start is not None:
                return None
            length = entry.more.length if changes.length is None else changes.length
            given = Terms(entry.terms.resource, entry.terms.action, length, entry.terms.start)
            return given if timedelta() < length <= entry.more.length else None
        resource, action = changes.resource or entry.terms.resource, changes.action or entry.terms.action
        length = entry.terms.length if changes.length is None else changes.length
        start = changes.start or entry.terms.start
        if resource not in WITHIN[entry.terms.resource] or action not in WITHIN[entry.terms.action]:
            return None
        if not timedelta() < length <= entry.terms.length:
            return None
        sooner = changes.start is not None and (
            changes.start < self.now or changes.start < (entry.terms.start or self.now)
        )
        return None if sooner else Terms(resource, action, length, start)

    def _count_yes(self, entry: Entry, vote: Vote, terms: Terms) -> None:
        if entry.more is not None:
            entry.more.length = terms.length
        else:
            if terms != entry.terms:
                entry.offer = None
            entry.terms = terms
            self._take_limits(entry)
        entry.spared = self._spared(self.policies[entry.policy].steps, terms.length)
        self._add(entry, vote)
        if not any(self._lacks(entry, index, step, entry.spared) for index, step in self._steps(entry)):
            if entry.more is not None:
                self._lengthen(entry)
            else:
                self._start(entry)

    def _add(self, entry: Entry, vote: Vote) -> None:
        step = self.policies[entry.policy].steps[vote.step]
        missing = self._lacks(entry, vote.step, step, entry.spared)
        entry.votes.append(vote)
        entry.steps = self.policies[entry.policy].steps
        passed = missing and not self._lacks(entry, vote.step, step, entry.spared)
        self._restart(entry, since=self.now if passed else entry.clock or entry.asked_at)

    def _restart(self, entry: Entry, since: datetime | None = None) -> None:
        """Winds the clock of the step that is waited for."""
        entry.clock = since or self.now
        step = entry.steps[self.waiting_step(entry, entry.spared)]
        ends = [entry.more.latest if entry.more else entry.asked_at + entry.patience]
        if step.timeout and step.escalate_to is None:
            ends.append(entry.clock + step.timeout)
        if entry.more:
            entry.more.until = min(ends)
        else:
            entry.wait_until = min(ends)
            if entry.status == "PENDING" and entry.wait_until <= self.now:
                entry.status = "LAPSED"

    def waiting_step(self, entry: Entry, spared: frozenset[int]) -> int:
        """The first step that still needs somebody; the last one where none does."""
        *_, last = (index for index, _ in self._steps(entry))
        return next((index for index, step in self._steps(entry) if self._lacks(entry, index, step, spared)), last)

    def _lacks(self, entry: Entry, index: int, step: Step, spared: frozenset[int]) -> bool:
        return index not in spared and self.tally(entry, index) < step.approvals_needed

    def tally(self, entry: Entry, index: int) -> int:
        """How many people's approvals the step has, by the policy as it is now."""
        return self._voters(entry, index, yes=True)

    def _voters(self, entry: Entry, index: int, *, yes: bool) -> int:
        policy = self.policies[entry.policy]
        return len(
            {
                vote.holder.name.lower()
                for vote in self._said(entry)
                if vote.yes == yes
                and vote.step == index
                and self._counts(vote, policy.steps[index])
                and (policy.allow_self_approval or not vote.uses(entry.asker.name, entry.holder))
            }
        )

    def _said(self, entry: Entry) -> list[Vote]:
        return [vote for vote in entry.votes if vote.round == entry.round]

    def _counts(self, vote: Vote, step: Step) -> bool:
        escalated = vote.late and step.escalate_to is not None and in_set(vote.holder, step.escalate_to)
        return in_set(vote.holder, step.approvers) or escalated

    def _ever(self, policy: Policy, who: Person) -> bool:
        return any(in_set(who, people) for step in policy.steps for people in deciders(step))

    def _steps(self, entry: Entry) -> Iterator[tuple[int, Step]]:
        return enumerate(self.policies[entry.policy].steps)

    def _still_gives(self, entry: Entry, terms: Terms) -> bool:
        policy = self.policies[entry.policy]
        asker = entry.more.asker if entry.more else entry.asker
        given = (
            self._usable(policy)
            and self._reaches(policy, terms.resource, terms.action)
            and self._may_ask(policy, asker, entry.holder)
            and not self._forbidden(
                entry.holder, asker.groups if asker.name == entry.holder else None, terms.resource, terms.action
            )
        )
        given = given and self.condition_verdict(policy, policy.steps, terms.length) == OK
        if entry.more:
            return given and self._within_cap(entry, terms.length)
        return given and policy.min_duration <= terms.length <= policy.max_duration

    # More time

    def extend_verdict(self, entry: Entry, who: Person, length: timedelta) -> str:
        policy = self.policies[entry.policy]
        if not entry.of(who.name):
            return "NotYours"
        if entry.status not in RUNNING or entry.more_status(self.now) == "PENDING":
            return "WrongState"
        if entry.above or not self._within_cap(entry, length):
            return "ExtensionCap"
        reached = self._reaches(policy, entry.terms.resource, entry.terms.action)
        if not (self._usable(policy) and reached and self._may_ask(policy, who, entry.holder)):
            return "NotEligible"
        proved = who.groups if who.name == entry.holder else None
        if self._forbidden(entry.holder, proved, entry.terms.resource, entry.terms.action):
            return "DeniedByPolicy"
        if (verdict := self.condition_verdict(policy, policy.steps, length)) != OK:
            return verdict
        involved = {entry.asker.name.lower(), entry.holder.lower()}
        patience = self._last_moment(entry) - self.now
        return OK if self._could_pass(policy, involved, patience, length) else "Unsatisfiable"

    def _last_moment(self, entry: Entry) -> datetime:
        """When a request for more time that is made now lapses at the latest."""
        assert entry.begins is not None
        return min(self.now + self.policies[entry.policy].request_ttl, entry.begins + entry.terms.length)

    def extend(self, entry: Entry, who: Person, length: timedelta) -> None:
        policy = self.policies[entry.policy]
        latest = self._last_moment(entry)
        entry.more = More(who, length, latest, latest)
        entry.round += 1
        entry.steps = policy.steps
        entry.spared = self._spared(policy.steps, length)
        if len(entry.spared) < len(entry.steps):
            self._restart(entry)
        else:
            self._lengthen(entry)
        self._record("EXTENSION_REQUESTED", entry, who.name)

    def _within_cap(self, entry: Entry, length: timedelta) -> bool:
        rule = self.policies[entry.policy].extension
        return (
            rule is not None
            and entry.lengthened < rule.max_extensions
            and entry.terms.length + length <= rule.max_total_duration
        )

    def _lengthen(self, entry: Entry) -> None:
        assert entry.more is not None
        entry.more.status = "APPROVED"
        old = entry.terms
        entry.terms = Terms(old.resource, old.action, old.length + entry.more.length, old.start)
        entry.lengthened += 1
        self._set_finish(entry)

    # Delegation, emergencies, uses

    def end_loan(self, name: str) -> None:
        self.loans[name].over = True

    def complete_verdict(self, entry: Entry, who: Person) -> str:
        if entry.own(who.name):
            return "SelfApproval"
        policy = self.policies[entry.policy]
        able = [holder for holder, _ in self.rights(who, policy.name) if self._ever(policy, holder)]
        if not who.is_admin:
            if not able:
                return "NotApprover"
            if all(entry.own(holder.name) for holder in able):
                return "SelfApproval"
        if entry.review_due is None:
            return "WrongState"
        return "AlreadyReviewed" if entry.use_reviewed else OK

    def complete(self, entry: Entry, who: Person) -> None:
        entry.use_reviewed = True
        self._record("REVIEW_COMPLETED", entry, who.name)

    def use(self, entry: Entry) -> None:
        """A check that the grant allowed: those above are used too, and none outlives what it came from."""
        for name in (*entry.above, entry.name):
            used = self.entries[name]
            before = used.finishes
            if used.counts_uses:
                used.uses += 1
                used.last_use = self.now
            self._set_finish(used)
            if used.counts_uses or used.finishes != before:
                self._tell("ACCESS_CHECKED", used)

    # Ending

    def withdraw_verdict(self, entry: Entry, who: Person) -> str:
        if not entry.of(who.name):
            return "NotYours"
        undecided = entry.status == "PENDING" or entry.more_status(self.now) == "PENDING"
        return OK if undecided else "WrongState"

    def withdraw(self, entry: Entry, who: Person) -> None:
        if entry.more is not None:
            entry.more.status = "WITHDRAWN"
            self._record("EXTENSION_WITHDRAWN", entry, who.name)
        else:
            self._end(entry, "WITHDRAWN", who)

    def release_verdict(self, entry: Entry, who: Person) -> str:
        if who.name != entry.holder:
            return "NotYours"
        return OK if entry.status in RUNNING else "WrongState"

    def release(self, entry: Entry, who: Person) -> None:
        self._end(entry, "RELEASED", who)

    def revoke_verdict(self, entry: Entry, who: Person) -> str:
        if not (who.is_admin or entry.of(who.name) or self._reviews(entry, who)):
            return "NotApprover"
        return OK if entry.status in RUNNING else "WrongState"

    def revoke(self, entry: Entry, who: Person) -> None:
        self._end(entry, "REVOKED", who)

    def ending(self, holder: str, policy: str, resource: str) -> set[str]:
        """What would end: all that runs and matches, and all that came from it."""
        matching = {
            name
            for name, entry in self.entries.items()
            if entry.status in RUNNING
            and holder in ("", entry.holder)
            and policy in ("", entry.policy)
            and (not resource or entry.terms.resource in REACHING[resource])
        }
        below = {name for name, entry in self.entries.items() if matching & set(entry.above)}
        return matching | {name for name in below if self.entries[name].status in RUNNING}

    def end_all(self, names: set[str], who: Person) -> None:
        for name in sorted(names):
            if self.entries[name].status in RUNNING:
                self._end(self.entries[name], "REVOKED", who)

    def revoke_all_of(self, holder: str, who: Person) -> int:
        """Ends all that somebody holds, and all that came from it. Says how many that were."""
        before = sum(entry.status in RUNNING for entry in self.entries.values())
        for name in sorted(self.entries):
            if self.entries[name].holder == holder and self.entries[name].status in RUNNING:
                self._end(self.entries[name], "REVOKED", who)
        return before - sum(entry.status in RUNNING for entry in self.entries.values())

    def _reviews(self, entry: Entry, who: Person, *, lent: bool = True) -> bool:
        policy = self.policies[entry.policy]
        rights = self.rights(who, policy.name) if lent else [(who, "")]
        voted = who.name in {vote.who.name for vote in entry.votes}
        return voted or any(self._ever(policy, holder) for holder, _ in rights)

    def _end(self, entry: Entry, status: str, who: Person) -> None:
        if entry.status == "ACTIVE" and entry.begins is not None and entry.begins < self.now:
            entry.held = self.now - entry.begins
        entry.status, entry.over_at, entry.offer = status, self.now, None
        self._record(f"GRANT_{status}", entry, who.name, entry.held)
        for child in list(self.entries.values()):
            if entry.name in child.above and child.status in RUNNING:
                self._end(child, "REVOKED", who)

    def _start(self, entry: Entry) -> None:
        wanted = entry.terms.start
        later = wanted is not None and wanted > self.now
        entry.begins = wanted if later else self.now
        entry.offer = None
        entry.status = "SCHEDULED" if later else "ACTIVE"
        self._set_finish(entry)

    def _set_finish(self, entry: Entry) -> None:
        assert entry.begins is not None
        ends = [entry.begins + entry.terms.length]
        if entry.window and entry.last_use is None:
            ends.append(entry.begins + entry.window)
        if entry.idle:
            ends.append((entry.last_use or entry.begins) + entry.idle)
        if entry.above:
            above = self.entries[entry.above[-1]].finishes
            assert above is not None
            ends.append(above)
        entry.finishes = min(ends)

    def _take_limits(self, entry: Entry) -> None:
        policy = self.policies[entry.policy]
        bounds = [uses for uses in (entry.most_uses, policy.max_uses) if uses]
        entry.most_uses = min(bounds, default=0)
        entry.window, entry.idle = policy.activation_window, policy.idle_timeout
        entry.signal = policy.check_condition.removeprefix("signals.")

    def foresee(self, act: str, entry: Entry, who: Person) -> tuple[str, timedelta | None]:
        """The status and held time that the act would lead to, tried on a copy."""
        tried = replace(entry, votes=list(entry.votes), more=copy(entry.more))
        trial = replace(self, entries={**self.entries, entry.name: tried}, log=[], changes=[])
        getattr(trial, act)(tried, who)
        return tried.status, tried.held

    # Reading

    def sees(self, entry: Entry, who: Person, *, lent: bool = True) -> bool:
        return who.is_admin or entry.of(who.name) or self._reviews(entry, who, lent=lent)

    def answers(self, holder: str, action: str, resource: str, groups: frozenset[str] | None) -> set[str]:
        """The reasons that a check may give: one, or several where two grants ended in the same instant."""
        found = self._found(holder, action, resource, groups)
        if "ALLOWED" in found.values():
            return {"ALLOWED"}
        for reason in (
            "DENIED_BY_POLICY",
            "CONDITION_NOT_MET",
            "SIGNAL_STALE",
            "CONDITION_ERROR",
            "USES_EXHAUSTED",
            "NOT_YET_STARTED",
            "PENDING",
        ):
            if reason in found.values():
                return {reason}
        over = {name: self._over(self.entries[name]) for name in found}
        latest = max(over.values(), default=None)
        return {found[name] for name, at in over.items() if at == latest} or {"NO_GRANT"}

    def chosen(self, holder: str, action: str, resource: str, groups: frozenset[str] | None) -> Entry | None:
        """The grant that an allowed check rests on: one that it does not use up, then the longest, then by name."""
        found = self._found(holder, action, resource, groups)
        allowing = [self.entries[name] for name in sorted(found) if found[name] == "ALLOWED"]
        allowing.sort(key=lambda entry: entry.name)
        return max(allowing, key=lambda entry: (not entry.most_uses, entry.finishes), default=None)

    def _found(self, holder: str, action: str, resource: str, groups: frozenset[str] | None) -> Mapping[str, str]:
        """What each grant says that has anything to say."""
        found = {}
        for entry in self.entries.values():
            terms = entry.terms
            if entry.holder != holder or resource not in WITHIN[terms.resource] or action not in WITHIN[terms.action]:
                continue
            reason = self._says(entry, action, resource, groups)
            if reason:
                found[entry.name] = reason
        return found

    def _says(self, entry: Entry, action: str, resource: str, groups: frozenset[str] | None) -> str:
        if entry.status != "ACTIVE":
            explained = {"SCHEDULED": "NOT_YET_STARTED"} | {
                status: status for status in ("PENDING", "EXPIRED", "REVOKED", "RELEASED")
            }
            return explained.get(entry.status, "")
        if self._overruled(entry, action, resource, groups):
            return "DENIED_BY_POLICY"
        if entry.used_up:
            return "USES_EXHAUSTED"
        if entry.signal:
            if entry.signal not in self.signals:
                return "CONDITION_ERROR"
            value, ends = self.signals[entry.signal]
            if ends <= self.now:
                return "SIGNAL_STALE"
            if not value:
                return "CONDITION_NOT_MET"
        for name in entry.above:
            above = self.entries[name]
            if above.status != "ACTIVE":
                return above.status
            if above.used_up:
                return "USES_EXHAUSTED"
            if self._overruled(above, action, resource, None):
                return "DENIED_BY_POLICY"
        return "ALLOWED"

    def _over(self, entry: Entry) -> datetime:
        at = entry.over_at or entry.finishes
        assert at is not None
        return at

    def _overruled(self, entry: Entry, action: str, resource: str, groups: frozenset[str] | None) -> bool:
        proofs = [] if groups is None else [groups]
        if entry.asker.name == entry.holder:
            proofs.append(entry.asker.groups)
        proved = frozenset(group for proof in proofs for group in proof) if proofs else None
        return self._forbidden(entry.holder, proved, resource, action)

    def _record(self, event: str, entry: Entry, by: str, held: timedelta | None = None) -> None:
        self.log.append(Line(event, entry.name, by, self.now, entry.status, held))
        self._tell(event, entry)

    def _tell(self, event: str, entry: Entry) -> None:
        self.changes.append(Change(event, entry.name, entry.status, frozenset(vote.who.name for vote in entry.votes)))

    def would_see(self, change: Change, who: Person) -> bool:
        """Whether somebody is told of a change: by what was so then, and by the policies and rights of now."""
        entry, policy = self.entries[change.grant], self.policies[self.entries[change.grant].policy]
        by_right = any(self._ever(policy, holder) for holder, _ in self.rights(who, policy.name))
        return who.is_admin or entry.of(who.name) or who.name in change.voters or by_right


def in_set(who: Person, people: PrincipalSet) -> bool:
    return who.name in people.principals or any(group in people.groups for group in who.groups)


def deciders(step: Step) -> list[PrincipalSet]:
    return [people for people in (step.approvers, step.escalate_to) if people is not None]


def length_of(thing: Thing, policy: Policy) -> timedelta:
    usual = policy.default_duration or policy.max_duration
    if thing.emergency and policy.break_glass is not None:
        usual = min(usual, policy.break_glass.max_duration)
    return thing.length or usual
