"""Use cases of notifications: deliver what commits put into the outbox, list what is undelivered, retry it.

A notification is delivered at least once. After a crash between the event's commit and the delivery, or between the
delivery and its record, the service attempts it again with the same id.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol

from jit_service.background import BackgroundThread
from jit_service.domain.audit.event import RecordedEvent
from jit_service.domain.notification import Failure, Message, Retries, message_id
from jit_service.storage import Store
from jit_service.storage.outbox import Claim, Undelivered

LEASE: Final = timedelta(minutes=2)
"""How long a claim of a notification by one process lasts, in addition to the receiver's timeout."""
_POLL_INTERVAL: Final = timedelta(seconds=0.5)
_PATIENCE: Final = timedelta(seconds=2)
_log = logging.getLogger(__name__)


class Wire(Protocol):
    """Sends messages to one receiver."""

    def send(self, message: Message) -> Failure | None:
        """Returns None once the receiver has acknowledged the message, else the failure."""

    def interrupt(self) -> None:
        """Makes the attempt that is under way, and every later one, a failure."""


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A receiver, the wire to it, and its limits. `timeout` is for one attempt."""

    receiver: str
    wire: Wire
    timeout: timedelta
    retries: Retries
    encode: Callable[[RecordedEvent], bytes]


def deliver_next(store: Store, channel: Channel) -> bool:
    """Attempts the receiver's next due notification. Returns whether there was one."""
    with store.snapshot() as snapshot:
        if not snapshot.is_due(channel.receiver):
            return False
    with store.outbox() as outbox:
        claim = outbox.claim(channel.receiver, lease=channel.timeout + LEASE)
    if claim is None:
        return False
    failure = _attempt(channel, claim)
    if failure is None:
        with store.outbox() as outbox:
            outbox.remove(claim)
        _log.info("notified %s of %s", channel.receiver, _what(claim))
        return True
    _keep(store, channel, claim, failure)
    return True


def list_waiting(store: Store, *, only_given_up: bool = False) -> list[Undelivered]:
    """Lists the undelivered notifications, the oldest first."""
    with store.outbox() as outbox:
        return outbox.waiting(only_given_up=only_given_up)


def retry(store: Store, *, receivers: Collection[str] = (), seqs: Collection[int] = ()) -> int:
    """Makes failed notifications due again: all, or those of the receivers and seqs given. Returns how many."""
    with store.outbox() as outbox:
        return outbox.retry(receivers=receivers, seqs=seqs)


def told(waiting: Undelivered) -> dict[str, Any]:
    """Returns what operators are told of an undelivered notification, as JSON values."""
    gave_up = waiting.gave_up_at
    return {
        "id": waiting.id,
        "receiver": waiting.receiver,
        "eventType": waiting.type,
        "eventTime": waiting.at.isoformat(),
        "attempts": waiting.attempts,
        "dueTime": None if gave_up else waiting.due_at.isoformat(),
        "gaveUpTime": gave_up.isoformat() if gave_up else None,
        "fault": waiting.fault,
    }


def _attempt(channel: Channel, claim: Claim) -> Failure | None:
    if claim.recorded is None:
        return Failure("the audit log has no such record that can be read", final=True)
    try:
        body = channel.encode(claim.recorded)
        return channel.wire.send(Message(id=_id(claim.recorded), body=body, at=claim.at))
    except Exception:
        # Any fault counts as a failed attempt, so that the receiver's other notifications do not wait.
        _log.exception("an attempt to notify %s raised a fault of the service", channel.receiver)
        return Failure("a fault of the service; its log has more")


def _keep(store: Store, channel: Channel, claim: Claim, failure: Failure) -> None:
    wait = None if failure.final else channel.retries.wait_after(claim.attempts)
    what = f"{channel.receiver} of {_what(claim)} (attempt {claim.attempts}): {failure.fault}"
    with store.outbox() as outbox:
        if wait is None:
            outbox.give_up(claim, failure.fault)
        else:
            outbox.put_off(claim, failure.fault, until=outbox.now + wait)
    if wait is None:
        _log.error("gave up notifying %s; see jit-service notifications", what)
    else:
        _log.warning("could not notify %s; the next attempt is in %s", what, wait)


def _id(recorded: RecordedEvent) -> str:
    return message_id(recorded.seq, recorded.hash)


def _what(claim: Claim) -> str:
    return f"{claim.recorded.event.type} {_id(claim.recorded)}" if claim.recorded else f"record {claim.seq}"


class Deliverer(BackgroundThread):
    """Delivers one receiver's notifications: each receiver has its own thread, so that none waits for another."""

    def __init__(self, store: Store, channel: Channel) -> None:
        super().__init__(
            name=f"deliverer-{channel.receiver}",
            interval=_POLL_INTERVAL,
            undone=f"{channel.receiver} is not notified",
            patience=_PATIENCE,
        )
        self._store = store
        self._channel = channel

    def work(self) -> None:
        """Delivers all due notifications."""
        while not self.stopping.is_set() and deliver_next(self._store, self._channel):
            pass

    def interrupt(self) -> None:
        """Ends the attempt that is under way; it counts as failed, and is repeated later."""
        self._channel.wire.interrupt()
