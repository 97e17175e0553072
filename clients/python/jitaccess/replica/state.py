"""What a replica holds: grants, deny policies and locks as of one committed state, and how old that is. It does no I/O.

Updates are staged until the heartbeat that says they belong together. How old the state is follows from two steady
clocks: the stream was opened by this machine's before the service's began to count, so that at `elapsed` on the
service's no less than `elapsed` had passed here. Neither machine's wall clock comes into it. Steady instants are in
nanoseconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from jitaccess.contract.calls.call import Call
from jitaccess.contract.calls.grants import replicate
from jitaccess.errors import Internal
from jitaccess.naming.names import canonical
from jitaccess.naming.pattern import Patterns
from jitaccess.replica.decision import (
    NO_LOCKS,
    Denies,
    Deny,
    HeldGrant,
    Judgement,
    LocalReason,
    Lock,
    Locks,
    is_live,
    judge,
)
from jitaccess.v1 import grant_pb2, lock_pb2, policy_pb2
from jitaccess.v1.grant_pb2 import WatchGrantsResponse

SILENCE = 10.0  # Seconds; a heartbeat comes every 5.
LOADING = 300.0
"""For so many seconds a service may let a replica wait until it sends the first grant of all: few load at once."""
MEASURE_AGAIN = 600 * 10**9
"""After so long a stream is opened anew: the two steady clocks are not the same one."""
_DRIFT = 2000  # One part in so many, 500 ppm: NTP slews a clock no faster.
_LIVE = (grant_pb2.Grant.SCHEDULED, grant_pb2.Grant.ACTIVE)
_STALE = Judgement(LocalReason.STALE)

Told = WatchGrantsResponse


def steady_ns() -> int:
    """Returns a monotonic clock, one that goes on while the machine sleeps where the system has it."""
    return time.clock_gettime_ns(_STEADY) if _STEADY is not None else time.monotonic_ns()


_STEADY: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


class _Mark(NamedTuple):
    """A heartbeat: the state at `revision` was complete when the service's clock showed `read` microseconds."""

    revision: int
    history: str
    read: int
    opened: int
    elapsed: int

    def age(self, now: int) -> int:
        """Returns for how long, at most, the state may have been another; nanoseconds."""
        since = now - self.opened
        return max(0, since + since // _DRIFT - self.elapsed)


class Replica:
    """The state of a replica, and its age. Not thread-safe: a caller that shares it locks it."""

    def __init__(self, *, max_age: int) -> None:
        self._max_age = max_age
        self._grants: dict[str, HeldGrant] = {}
        self._of_subject: dict[str, tuple[HeldGrant, ...]] = {}
        self._denies = Denies()
        self._locks = NO_LOCKS
        self._mark: _Mark | None = None
        self._begin_anew = False
        self._staged: list[grant_pb2.ReplicaGrant] = []
        self._staged_denies: Denies | None = None
        self._staged_locks: Locks | None = None
        self._open_at(0)

    @property
    def revision(self) -> int:
        """The store's commit counter that the state is of; 0 while there is none."""
        return self._mark.revision if self._mark is not None else 0

    @property
    def has_state(self) -> bool:
        """Whether it has had a whole state."""
        return self._mark is not None

    def age(self, now: int) -> int | None:
        """Returns how old the state may be, in nanoseconds; None while there is none."""
        return self._mark.age(now) if self._mark is not None else None

    def is_fresh(self, now: int) -> bool:
        """Returns whether it may answer."""
        return self._mark is not None and self._mark.age(now) < self._max_age

    def __len__(self) -> int:
        return len(self._grants)

    def open(self, now: int) -> Call[WatchGrantsResponse]:
        """Returns the call that goes on after the state; it must not have been sent before `now`.

        Updates of the stream before it that no heartbeat followed are dropped; they come again.
        """
        self._open_at(now)
        mark = None if self._begin_anew else self._mark
        return replicate(mark.revision, mark.history) if mark is not None else replicate(0, "")

    def measure_again(self, now: int) -> bool:
        """Returns whether the stream has been open for so long that the clocks may have drifted apart."""
        return now - self._opened > MEASURE_AGAIN

    def begin_anew(self) -> None:
        """Makes the next call begin with what there is then: the service does not know the revision."""
        self._begin_anew = True

    def take(self, told: WatchGrantsResponse) -> bool:
        """Takes an update, and returns whether the state is newer by it. Raises Internal for a malformed one."""
        kind = told.event_type
        if told.replica.HasField("grant"):
            self._staged.append(told.replica.grant)
        elif kind == Told.DENY_POLICIES:
            self._staged_denies = Denies(_deny(policy) for policy in told.replica.deny_policies)
        elif kind == Told.LOCKS:
            self._staged_locks = Locks(_lock(lock) for lock in told.replica.locks)
        elif kind == Told.HEARTBEAT:
            self._settle(told)
            return True
        elif kind != Told.OVERRUN:
            raise Internal("the service told a replica what it did not ask for", reason="REPLICA_UNSUPPORTED")
        return False

    def judge(self, subject: str, action: str, resource: str, now: int) -> tuple[Judgement, int | None]:
        """Answers a question at the steady instant, and says how old the state may be.

        A stale replica says STALE, whatever is asked.
        """
        mark = self._mark
        if mark is None:
            return _STALE, None
        age = mark.age(now)
        if age >= self._max_age:
            return _STALE, age
        judgement = judge(
            subject,
            action,
            resource,
            grants=self._of_subject,
            denies=self._denies,
            earliest=mark.read,
            latest=mark.read + age // 1000 + 1,
            locks=self._locks,
        )
        return judgement, age

    def is_live(self, subject: str, grant: str, now: int) -> bool | LocalReason:
        """Says at the steady instant whether a token of the subject's grant counts; else why that is not known."""
        mark = self._mark
        if mark is None or (age := mark.age(now)) >= self._max_age:
            return LocalReason.STALE
        latest = mark.read + age // 1000 + 1
        return is_live(
            self._grants.get(grant),
            subject,
            denies=self._denies,
            earliest=mark.read,
            latest=latest,
            locks=self._locks,
        )

    def _open_at(self, now: int) -> None:
        self._opened = now
        self._staged = []
        self._staged_denies = None
        # A service that has never had a lock sends none.
        self._staged_locks = None
        # Deny policies come first on each stream; a service that does not send them feeds no replica.
        self._denies_told = False

    def _settle(self, told: WatchGrantsResponse) -> None:
        update = told.replica
        self._denies_told = self._denies_told or self._staged_denies is not None
        if not (self._denies_told and update.HasField("read_time") and update.HasField("elapsed_duration")):
            raise Internal("the service does not feed replicas", reason="REPLICA_UNSUPPORTED")
        if self._mark is None or self._begin_anew:
            self._grants, self._of_subject = _loaded(self._staged)
            self._locks = NO_LOCKS
            self._begin_anew = False
        else:
            for grant in self._staged:
                self._put(grant)
        if self._staged_denies is not None:
            self._denies = self._staged_denies
        if self._staged_locks is not None:
            self._locks = self._staged_locks
        self._staged, self._staged_denies, self._staged_locks = [], None, None
        self._mark = _Mark(
            told.revision,
            told.history,
            _micros(update.read_time),
            self._opened,
            update.elapsed_duration.ToNanoseconds(),
        )

    def _put(self, message: grant_pb2.ReplicaGrant) -> None:
        known = self._grants.pop(message.name, None)
        if known is not None:
            self._set(known.subject, (held for held in self._of_subject[known.subject] if held is not known))
        if message.state in _LIVE:
            held = _held(message)
            self._grants[held.name] = held
            self._set(held.subject, (*self._of_subject.get(held.subject, ()), held))

    def _set(self, subject: str, grants: Iterable[HeldGrant]) -> None:
        left = tuple(grants)
        if left:
            self._of_subject[subject] = left
        else:
            self._of_subject.pop(subject, None)


def _loaded(
    messages: Sequence[grant_pb2.ReplicaGrant],
) -> tuple[dict[str, HeldGrant], dict[str, tuple[HeldGrant, ...]]]:
    grants = {message.name: _held(message) for message in messages if message.state in _LIVE}
    lists: dict[str, list[HeldGrant]] = {}
    for held in grants.values():
        lists.setdefault(held.subject, []).append(held)
    return grants, {subject: tuple(found) for subject, found in lists.items()}


def _held(message: grant_pb2.ReplicaGrant) -> HeldGrant:
    return HeldGrant(
        name=message.name,
        subject=message.subject,
        resources=Patterns(message.resources, "/"),
        actions=Patterns(message.actions, "."),
        start=_micros(message.start_time),
        expire=_micros(message.expire_time),
        expire_time=message.expire_time.ToDatetime(tzinfo=UTC),
        groups=frozenset(message.subject_groups.groups) if message.HasField("subject_groups") else None,
        needs_check=message.needs_check,
    )


def _deny(policy: policy_pb2.Policy) -> Deny:
    return Deny(
        name=policy.name,
        principals=frozenset(map(canonical, policy.eligible.principals)),
        groups=frozenset(policy.eligible.groups),
        resources=Patterns(policy.resources, "/"),
        actions=Patterns(policy.actions, "."),
    )


def _lock(lock: lock_pb2.Lock) -> Lock:
    return Lock(
        name=lock.name,
        principal=lock.principal,
        group=lock.group,
        until=_micros(lock.expire_time) if lock.HasField("expire_time") else None,
    )


def _micros(instant: Timestamp) -> int:
    return instant.seconds * 10**6 + instant.nanos // 1000


def first_silence(request: grant_pb2.WatchGrantsRequest) -> float:
    """Returns for how many seconds a stream may say nothing at first: one that begins anew waits for its turn."""
    return SILENCE if request.start_revision else LOADING
