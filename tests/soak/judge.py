"""The judge of a run: each property with its trials and what violated it. It reads no clock and calls nobody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.soak.memory import Growth
from tests.soak.told import SHOWN, Ack, Found, Told

LAST = frozenset(
    {"GRANT_DENIED", "GRANT_WITHDRAWN", "GRANT_REVOKED", "GRANT_RELEASED", "GRANT_EXPIRED", "GRANT_LAPSED"}
)
"""The events after which nothing more befalls a grant."""
RECOVERY_SECONDS = 60.0
"""Within how long what was killed must answer again."""


WRONG, LOST = "wrong", "lost"


@dataclass(frozen=True, kw_only=True)
class Property:
    """What must hold, which invariants it is, how often it was tried, and how often it did not.

    `harm` says what a violation is: WRONG, LOST, or neither.
    """

    name: str
    invariants: str
    trials: int
    violations: int
    examples: tuple[str, ...] = ()
    harm: str = ""

    @property
    def bound(self) -> float | None:
        """With 95 % confidence the rate is below this: 3/N where N trials had no violation."""
        return 3 / self.trials if self.trials and not self.violations else None


@dataclass
class Log:
    """What the audit log has: the transitions, who ended how often, the decisions, and what its chain says."""

    transitions: Counter[Ack] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    decisions: dict[str, bool] = field(default_factory=dict)
    records: int = 0
    problem: str = ""

    def add(self, event: str, about: str, request_id: str) -> None:
        """Takes in a record of a transition."""
        self.transitions[Ack(event, about, request_id)] += 1
        if event in LAST:
            self.ends[about] += 1


def judge(
    told: Told,
    log: Log,
    *,
    states: Mapping[str, str],
    recoveries: Sequence[float],
    growths: Sequence[Growth],
    verified: Sequence[str] = (),
) -> list[Property]:
    """Returns every property. `states` are the grants' own by name.

    `verified` is what each look at the chain during the run said: nothing where it was whole. Recoveries are seconds,
    infinite where nothing came back.
    """
    return [
        _property(
            "a check sees what was acknowledged before it began, and no end is undone", "I2, I12", told.history, WRONG
        ),
        _property("no yes by a grant whose time was over when it was asked", "I1, I12", told.expired, WRONG),
        _property("an acknowledged transition is in the audit log exactly once", "I3, I19", _recorded(told, log), LOST),
        _property("no grant ends twice", "I8", _ended_once(log)),
        _property("a grant is in the state that was acknowledged", "I19, I20", _kept(told, states), LOST),
        _property("an acknowledged STRONG check has its audit record", "I3, I19", _decided(told, log), LOST),
        _property("the audit chain is whole", "I4, I20", _whole(log, verified)),
        _property("no call ends INTERNAL or UNKNOWN", "I26", told.codes),
        _property("who must be refused is refused", "I1, I7, I17, I18", told.refused, WRONG),
        _property("a watch tells every change of its grants once, in order", "", told.watched),
        _property(f"what was killed answers within {RECOVERY_SECONDS:g} s", "", _recovered(recoveries)),
        _property("memory does not grow without bound", "", _bounded(growths)),
    ]


def _property(name: str, invariants: str, found: Found, harm: str = "") -> Property:
    return Property(
        harm=harm,
        name=name,
        invariants=invariants,
        trials=found.trials,
        violations=found.violations,
        examples=tuple(found.examples[:SHOWN]),
    )


def _of(verdicts: Iterable[str]) -> Found:
    found = Found()
    for verdict in verdicts:
        found.tried(verdict)
    return found


def _recorded(told: Told, log: Log) -> Found:
    counts = ((ack, log.transitions[ack]) for ack in sorted(told.acks))
    return _of("" if count == 1 else f"{ack} is in the log {count} times" for ack, count in counts)


def _ended_once(log: Log) -> Found:
    return _of("" if count == 1 else f"{grant} ended {count} times" for grant, count in log.ends.items())


def _kept(told: Told, states: Mapping[str, str]) -> Found:
    pairs = ((name, wanted, states.get(name, "not there")) for name, wanted in told.states.items())
    return _of("" if is_ == wanted else f"{name} is {is_}, and {wanted} was told" for name, wanted, is_ in pairs)


def _decided(told: Told, log: Log) -> Found:
    found = Found()
    for decision, allowed in told.decisions.items():
        recorded = log.decisions.get(decision)
        wrong = "has no record" if recorded is None else f"is on record as {_word(recorded)}"
        found.tried("" if recorded is allowed else f"{decision}, told as {_word(allowed)}, {wrong}")
    return found


def _word(allowed: bool) -> str:
    return "ALLOWED" if allowed else "DENIED"


def _whole(log: Log, verified: Sequence[str]) -> Found:
    found = _of(verified)
    found.trials += log.records
    if log.problem:
        found.violated(log.problem)
    return found


def _recovered(recoveries: Sequence[float]) -> Found:
    return _of("" if took <= RECOVERY_SECONDS else f"it took {took:.1f} s" for took in recoveries)


def _bounded(growths: Sequence[Growth]) -> Found:
    return _of("" if growth.is_bounded else str(growth) for growth in growths)
