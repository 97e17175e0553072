"""Checks answered in this process, by a replica that the service feeds.

A yes here is one that the service would have given at some instant within `max_age`, and given the grant's time, now.
Nothing of it reaches the service's audit log, but for the questions that are passed on to it: `on_decision` is the
place to record the others.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, NamedTuple, Self

import grpc

from jitaccess import _watch
from jitaccess._faults import from_call
from jitaccess.client import JitClient, Stream
from jitaccess.contract.calls import access as calls
from jitaccess.contract.model import CheckItem, CheckReason, Decision
from jitaccess.errors import InvalidArgument, JitError, Unavailable
from jitaccess.naming import rfc3339
from jitaccess.replica.after_no import SECONDS, AfterNo
from jitaccess.replica.decision import Judgement, LocalReason
from jitaccess.replica.state import SILENCE, Replica, first_silence, steady_ns

MAX_AGE = timedelta(seconds=10)
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
_JOIN_SECONDS = 5.0
_FINAL = ("PERMISSION_DENIED", "UNAUTHENTICATED", "INVALID_ARGUMENT", "INTERNAL")


class LocalDecision(NamedTuple):
    """The answer to a check; true where it is a yes.

    `age` is for how long, at most, the state it rests on may have been another, in seconds; None where there is no
    state. `remote` is the service's own answer, where the question was passed on.
    """

    allowed: bool
    reason: CheckReason | LocalReason
    grant: str
    expire_time: datetime | None
    revision: int
    age: float | None
    denied_by: str = ""
    remote: Decision | None = None

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def message(self) -> str:
        """The reason in words."""
        if self.remote is not None:
            return self.remote.message
        match self.reason:
            case CheckReason.ALLOWED:
                return f"{self.grant} allows it until {_exact(self.expire_time)}"
            case CheckReason.DENIED_BY_POLICY:
                return f"{self.denied_by} denies it"
            case CheckReason.LOCKED:
                return f"{self.denied_by} locks whoever would have it"
            case CheckReason.EXPIRED:
                return f"{self.grant} expired at {_exact(self.expire_time)}"
            case CheckReason.NOT_YET_STARTED:
                return f"{self.grant} has not started"
            case LocalReason.STALE:
                return f"nothing was heard from the service for {self.age:.1f} s" if self.age else "no state yet"
            case LocalReason.NEEDS_CHECK:
                return "only the service can tell"
            case _:
                return "no grant covers it"


OnDecision = Callable[[CheckItem, LocalDecision], None]


def _exact(instant: datetime | None) -> str:
    return "" if instant is None else rfc3339.exact(instant)


class LocalState:
    """What both checkers have in common: the replica behind its lock, the last fault, and the pauses after faults."""

    def __init__(self, *, max_age: timedelta, on_decision: OnDecision | None, ask_after_no: bool) -> None:
        nanoseconds = max_age // timedelta(microseconds=1) * 1000
        if nanoseconds <= 0:
            raise InvalidArgument(f"max_age: is {max_age}; it must be above 0", reason="INVALID_FIELD")
        self._replica = Replica(max_age=nanoseconds)
        self._lock = threading.Lock()
        self._on_decision = on_decision
        self.after_no = AfterNo(wanted=ask_after_no)
        self._failures = 0
        self.fault: Exception | None = None

    @property
    def age(self) -> timedelta | None:
        """How old, at most, the state is that answers; None before the first."""
        with self._lock:
            age = self._replica.age(steady_ns())
        return None if age is None else timedelta(microseconds=age // 1000)

    @property
    def revision(self) -> int:
        """The store's commit counter that the state is of."""
        return self._replica.revision

    @property
    def is_ready(self) -> bool:
        """Whether it answers: where not, each answer is a no with the reason STALE."""
        with self._lock:
            return self._replica.is_fresh(steady_ns())

    def __len__(self) -> int:
        """How many grants it holds."""
        return len(self._replica)

    def reached(self, revision: int) -> bool:
        """Returns whether there is a state, of the revision or a later one."""
        return self._replica.has_state and self._replica.revision >= revision

    def open(self) -> Any:
        """Returns the call of the next stream; it must be sent after this."""
        with self._lock:
            return self._replica.open(steady_ns())

    def take(self, told: Any) -> bool:
        """Takes an update, and returns whether the state is newer by it."""
        with self._lock:
            is_newer = self._replica.take(told)
        if is_newer:
            self._failures, self.fault = 0, None
        return is_newer

    def measure_again(self) -> bool:
        """Returns whether it is time to open the stream anew."""
        return self._replica.measure_again(steady_ns())

    def pause_after(self, fault: Exception) -> float:
        """Returns the seconds to wait before the next stream: next to none after one that brought an update."""
        if isinstance(fault, JitError) and fault.reason == "TOKEN_EXPIRED" and not self._failures:
            # A stream ends with the token it was opened with; the next one has the token as it is then.
            fault = _watch.ended()
        if isinstance(fault, InvalidArgument) and any(
            violation.field == "start_revision" for violation in fault.field_violations
        ):
            # The store is another one, or was restored from a backup.
            self._replica.begin_anew()
            fault = Unavailable(f"the service does not know revision {self.revision}; its state is read anew")
        self.fault = fault
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        return random.uniform(longest / 2, longest)  # noqa: S311  # Not a secret.

    def judge(self, subject: str, action: str, resource: str) -> LocalDecision:
        """Answers from the replica's state."""
        now = steady_ns()
        with self._lock:
            judgement, age = self._replica.judge(subject, action, resource, now)
            revision = self._replica.revision
        return _decision(judgement, revision, age)

    def is_live(self, *, subject: str, grant: str) -> bool:
        """Returns whether a token of the subject's grant still counts, as `verify_token` wants it of a checker.

        It does while the grant is active and no deny policy reaches into it. Raises Unavailable where only the service
        can tell (STALE, or NEEDS_CHECK for a grant that was passed on, or about to start or end).
        """
        with self._lock:
            answer = self._replica.is_live(subject, grant, steady_ns())
        if isinstance(answer, LocalReason):
            raise Unavailable(f"whether {grant} is live cannot be told here", reason=answer)
        return answer

    def told(self, question: CheckItem, decision: LocalDecision) -> LocalDecision:
        """Returns the decision, once it has been handed to whoever records it. What that raises, the check raises."""
        if self._on_decision is not None:
            self._on_decision(question, decision)
        return decision


def _decision(judgement: Judgement, revision: int, age: int | None) -> LocalDecision:
    reason, grant, by = judgement
    return LocalDecision(
        reason is CheckReason.ALLOWED,
        reason,
        grant.name if grant is not None else "",
        grant.expire_time if grant is not None else None,
        revision,
        age / 1e9 if age is not None else None,
        by,
    )


def remote_decision(answer: Decision) -> LocalDecision:
    """Returns the service's answer as a local one."""
    return LocalDecision(
        bool(answer), answer.reason, answer.grant, answer.expire_time, answer.revision, 0.0, remote=answer
    )


def not_there(revision: int, timeout: float, fault: Exception | None) -> JitError:
    """Returns what says that the state did not come in so many seconds: the last fault where that is a call's."""
    if isinstance(fault, JitError):
        return fault
    what = f"at revision {revision}" if revision else "ready"
    why = f": {fault}" if fault is not None else ""
    return Unavailable(f"the replica was not {what} after {timeout:g} s{why}")


class LocalChecker(LocalState):
    """Answers checks in this process. Thread-safe; a context manager, fed by a thread of its own while it is open.

    The client's token needs the role `checker`. What the replica cannot judge alone (a condition, limits, what was
    passed on, names outside of ASCII under a wildcard, the instants around start and expiry) is asked of the service
    where `ask_service`, and is else a no with the reason NEEDS_CHECK. A state older than `max_age` answers nothing but
    no, with the reason STALE. With `ask_after_no` a no of its own is asked of the service too, for a second at most;
    the service's answer, which names the policies to ask under, is given where it comes. `on_decision` is called with
    every question and its answer, before the answer is given.
    """

    def __init__(
        self,
        client: JitClient,
        *,
        max_age: timedelta = MAX_AGE,
        ask_service: bool = True,
        ask_after_no: bool = False,
        on_decision: OnDecision | None = None,
    ) -> None:
        super().__init__(max_age=max_age, on_decision=on_decision, ask_after_no=ask_after_no)
        self._client = client
        self._ask_service = ask_service
        self._changed = threading.Condition(self._lock)
        self._closed = threading.Event()
        self._stream: Stream | None = None
        self._thread = threading.Thread(target=self._follow, name="jitaccess-replica", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the stream; from then on the state grows stale."""
        self._closed.set()
        stream = self._stream
        if stream is not None:
            stream.close()
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)

    def wait_ready(self, timeout: float = 10.0) -> Self:
        """Returns once it has a state to answer by.

        Raises the service's fault, else Unavailable, where it has none within `timeout` seconds.
        """
        return self.wait_for(0, timeout)

    def wait_for(self, revision: int, timeout: float = 10.0) -> Self:
        """Returns once its state is of the revision or a later one: what was written before is known from then on.

        Raises as `wait_ready` does.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.reached(revision) or is_final(self.fault), timeout)
            if self.reached(revision):
                return self
        raise not_there(revision, timeout, self.fault)

    def check(
        self,
        subject: str,
        action: str,
        resource: str,
        *,
        context: Mapping[str, object] | None = None,
        source_ip: str = "",
    ) -> LocalDecision:
        """Returns whether a grant lets the subject do the action on the resource; true where it does.

        `context` is for conditions, which only the service reads, and so is `source_ip`, where the subject is. Raises
        what `JitClient.check` does where the service is asked, and what `on_decision` raises.
        """
        decision = self.judge(subject, action, resource)
        if decision.reason is LocalReason.NEEDS_CHECK and self._ask_service:
            asked = self._client.check(subject, action, resource, context=context, source_ip=source_ip)
            decision = remote_decision(asked)
        elif self.after_no.is_worth(decision.reason):
            call = calls.check(subject, action, resource, context=context, source_ip=source_ip)
            with self.after_no.asking() as may_ask:
                if may_ask:
                    decision = remote_decision(self._client.send(call, timeout=SECONDS))
        if self._on_decision is not None:
            return self.told(CheckItem(subject, action, resource, context=context, source_ip=source_ip), decision)
        return decision

    def _follow(self) -> None:
        while not self._closed.is_set():
            try:
                fault: Exception | None = self._read()
            except grpc.RpcError as error:
                silent = self._stream is not None and self._stream.was_silent
                fault = _watch.silent(SILENCE) if silent else from_call(error, address=self._client.address)
            # The token comes from the program, which may raise anything; a thread that ends would tell nobody.
            except Exception as error:
                fault = error
            if isinstance(fault, Unavailable):
                self._client.turn()
            if fault is not None:
                pause = self.pause_after(fault)
                self._tell()
                self._closed.wait(pause)

    def _tell(self) -> None:
        """Wakes the threads that wait for a state or a fault."""
        with self._changed:
            self._changed.notify_all()

    def _read(self) -> JitError | None:
        """Reads one stream to its end. Returns why it is over; None where it is only to be opened anew."""
        call = self.open()
        first = first_silence(call.request)
        self._stream = stream = Stream(self._client.open_stream(call), silence=SILENCE, first=first)
        try:
            for told in stream:
                if self._closed.is_set():
                    return None
                if self.take(told):
                    self._tell()
                    if self.measure_again():
                        return None
        finally:
            stream.close()
        return _watch.ended()


def is_final(fault: Exception | None) -> bool:
    """Returns whether waiting a little longer is of no use: who asks may not, or cannot be told."""
    return isinstance(fault, JitError) and fault.code in _FINAL
