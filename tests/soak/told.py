"""What the clients of a run were told, taken down from any thread; `judge` says what of it must not have been."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, TypeVar

from bench.results import quantile
from jitaccess import JitError
from tests.faults.history import Kind, Operation, Violation, violations

T = TypeVar("T")
UNANSWERED = ("UNAVAILABLE", "CANCELLED")
SHOWN = 50
"""How many violations of a property are kept; all are counted."""
_SETTLED_SECONDS = 30.0


class Ack(NamedTuple):
    """A transition that a client was told of: the audit log must have it exactly once."""

    event: str
    about: str
    request_id: str

    def __str__(self) -> str:
        return f"{self.event} of {self.about or 'many'} (request_id {self.request_id or 'none'})"


@dataclass
class Found:
    """Trials of a property, and what violated it."""

    trials: int = 0
    violations: int = 0
    examples: list[str] = field(default_factory=list)

    def tried(self, violation: str = "") -> None:
        """Counts one trial, and its violation if there is one."""
        self.trials += 1
        if violation:
            self.violated(violation)

    def violated(self, what: str) -> None:
        self.violations += 1
        if len(self.examples) < SHOWN:
            self.examples.append(what)


class Span(NamedTuple):
    """How long the calls of a kind took within some seconds: in milliseconds."""

    answers: int
    p50: float
    p99: float


@dataclass
class Told:
    """Everything that is needed to judge a run. What is settled is forgotten, so that a run may last."""

    history: Found = field(default_factory=Found)
    expired: Found = field(default_factory=Found)
    codes: Found = field(default_factory=Found)
    refused: Found = field(default_factory=Found)
    watched: Found = field(default_factory=Found)
    acks: set[Ack] = field(default_factory=set)
    states: dict[str, str] = field(default_factory=dict)
    decisions: dict[str, bool] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    apart: int = 0
    """How many of the calls were made by somebody who keeps a pace of their own."""
    _operations: defaultdict[str, list[Operation]] = field(default_factory=lambda: defaultdict(list))
    _closed: dict[str, float] = field(default_factory=dict)
    _forgotten: set[str] = field(default_factory=set)
    _took: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def calls(self) -> int:
        """How many calls were answered, be it by a refusal."""
        return self.codes.trials

    def call(self, kind: str, do: Callable[[], T]) -> T:
        """Makes a call, and counts its outcome and time. Raises what it raises."""
        began = time.monotonic()
        try:
            answer = do()
        except JitError as fault:
            self._ended(kind, fault.code, str(fault), reason=fault.reason)
            raise
        self._ended(kind, "OK", "", time.monotonic() - began)
        return answer

    def _ended(self, kind: str, code: str, text: str, seconds: float | None = None, *, reason: str = "") -> None:
        with self._lock:
            self.outcomes[f"{kind}: {code}"] += 1
            self.endings[code if reason in ("", code) else f"{code} {reason}"] += 1
            if code not in UNANSWERED:
                self.codes.tried(f"{kind} ended {code}: {text}" if code in ("INTERNAL", "UNKNOWN") else "")
            if seconds is not None:
                self._took[kind].append(seconds * 1000)

    def counted(self, kind: str, code: str, text: str = "", *, apart: bool = False) -> None:
        """Counts the outcome of a call that somebody else made; `apart` if they keep a pace of their own."""
        self._ended(kind, code, text)
        if apart and code not in UNANSWERED:
            with self._lock:
                self.apart += 1

    def acked(self, event: str, about: str, request_id: str = "", *, state: str = "") -> None:
        """Notes a transition; `state` is what the grant is in from then on, where that is its last."""
        with self._lock:
            self.acks.add(Ack(event, about, request_id))
            if state:
                self.states[about] = state

    def decided(self, decision_id: str, allowed: bool) -> None:
        """Notes a decision that must be on record."""
        with self._lock:
            self.decisions[decision_id] = allowed

    def wrote(self, key: str, value: bool, began: float, ended: float, by: str = "a driver") -> None:
        """Notes that access was given or taken away."""
        self._take(Operation(key=key, kind=Kind.WRITE, value=value, began=began, ended=ended, by=by))

    def saw(self, key: str, value: bool, began: float, ended: float, by: str) -> None:
        """Notes the answer to a check."""
        self._take(Operation(key=key, kind=Kind.READ, value=value, began=began, ended=ended, by=by))

    def _take(self, operation: Operation) -> None:
        with self._lock:
            if operation.key not in self._forgotten:
                self._operations[operation.key].append(operation)

    def not_expired(self, asked_at: datetime, expires_at: datetime | None, by: str) -> None:
        """Judges a yes by the end of the grant that it names, as the answer tells it."""
        late = expires_at is not None and asked_at > expires_at
        with self._lock:
            self.expired.tried(f"{by} was asked at {asked_at} and allowed until {expires_at}" if late else "")

    def must_refuse(self, what: str, was_allowed: bool) -> None:
        """Notes an attempt that nobody may have had a yes to."""
        with self._lock:
            self.refused.tried(f"{what} was allowed" if was_allowed else "")

    def watch_told(self, violation: str = "") -> None:
        """Notes an event of a watch stream."""
        with self._lock:
            self.watched.tried(violation)

    def close(self, key: str) -> None:
        """Says that the key is off for good: its history is judged once no read of it can be under way."""
        with self._lock:
            self._closed.setdefault(key, time.monotonic())

    def forget(self, key: str) -> None:
        """Drops a key, for good, of which nobody knows what became."""
        with self._lock:
            self._forgotten.add(key)
            self._operations.pop(key, None)

    def settle(self, now: float) -> None:
        """Judges the histories that are complete, and forgets them. Later reads must find the key off, as at first."""
        with self._lock:
            ready = [key for key, at in self._closed.items() if now - at > _SETTLED_SECONDS]
            histories = [self._operations.pop(key, []) for key in ready]
            for key in ready:
                del self._closed[key]
        self._judge(histories)

    def settle_all(self) -> None:
        """Judges the histories that are left."""
        with self._lock:
            histories = list(self._operations.values())
            self._operations.clear()
            self._closed.clear()
        self._judge(histories)

    def _judge(self, histories: list[list[Operation]]) -> None:
        for history in histories:
            found: list[Violation] = violations(history)
            with self._lock:
                self.history.trials += sum(operation.kind is Kind.READ for operation in history)
                for violation in found:
                    self.history.violated(str(violation))

    def spans(self) -> dict[str, Span]:
        """Returns how long the calls since the last time took, by kind."""
        with self._lock:
            took, self._took = self._took, defaultdict(list)
        return {kind: _span(sorted(times)) for kind, times in took.items()}


def _span(ordered: list[float]) -> Span:
    return Span(len(ordered), quantile(ordered, 0.5), quantile(ordered, 0.99))
