"""The things of the model, each with its status stored, and the patterns of its small world as tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from jit_service.domain.policies.policy import Policy, PrincipalSet, Step

OK = "OK"
LIVE = ("PENDING", "SCHEDULED", "ACTIVE")
RUNNING = ("SCHEDULED", "ACTIVE")

RESOURCES = ("db/a", "db/a/x", "db/a/x/1", "db/b/x")
ACTIONS = ("read", "rows.add")
WITHIN = {
    "db/**": {"db/**", "db/a/**", "db/a/*", "db/a/x*", "db/a", "db/a/x", "db/a/x/1", "db/b/x"},
    "db/a/**": {"db/a/**", "db/a/*", "db/a/x*", "db/a/x", "db/a/x/1"},
    "db/a/*": {"db/a/*", "db/a/x*", "db/a/x"},
    "db/a/x*": {"db/a/x*", "db/a/x"},
    "db/a/x": {"db/a/x"},
    "db/b/x": {"db/b/x"},
    "**": {"**", "read", "rows.*", "rows.add"},
    "rows.*": {"rows.*", "rows.add"},
    "read": {"read"},
    "rows.add": {"rows.add"},
}
"""What lies within each pattern of this small world."""
REACHING = {
    "db": {"db/**", "db/a/**", "db/a/*", "db/a/x*", "db/a/x", "db/b/x"},
    "db/a": {"db/**", "db/a/**", "db/a/*", "db/a/x*", "db/a/x"},
    "db/a/x": {"db/**", "db/a/**", "db/a/*", "db/a/x*", "db/a/x"},
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
    is_strong: bool = False
    """Whether it logged in as this world's policies ask, where they ask."""


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
    strong: bool = False
    """Whether it was cast after a strong log-in, while the policy asked for one."""

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

    def concerns(self, who: Person) -> bool:
        return who.is_admin or who.name in (self.giver.name, self.to)


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
    escalates: datetime | None = None
    escalation_recorded: datetime | None = None
    offer: Offer | None = None
    most_uses: int = 0
    window: timedelta = timedelta()
    idle: timedelta = timedelta()
    counts_from: datetime | None = None
    uses: int = 0
    last_use: datetime | None = None
    more: More | None = None
    round: int = 0
    lengthened: int = 0
    review_due: datetime | None = None
    use_reviewed: bool = False
    overdue_recorded: bool = False
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


def in_set(who: Person, people: PrincipalSet) -> bool:
    return who.name in people.principals or any(group in people.groups for group in who.groups)


def deciders(step: Step) -> list[PrincipalSet]:
    return [people for people in (step.approvers, step.escalate_to) if people is not None]


def length_of(thing: Thing, policy: Policy) -> timedelta:
    usual = policy.default_duration or policy.max_duration
    if thing.emergency and policy.break_glass is not None:
        usual = min(usual, policy.break_glass.max_duration)
    return thing.length or usual
