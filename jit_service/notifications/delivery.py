"""Use cases of notifications: deliver what commits have left in the outbox, list what is stuck, try it again.

A notification is delivered at least once. A crash between the event's commit and the delivery, or between the delivery
and its record, makes for another attempt with the same id.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from jit_service.background import BackgroundThread
from jit_service.domain.audit.event import RecordedEvent
from jit_service.domain.notification import Failure, Message, Retries, message_id
from jit_service.storage import Store
from jit_service.storage.outbox import Claim, Undelivered

LEASE: Final = timedelta(minutes=2)
"""How long a notification is one process's to deliver, besides the receiver's own timeout."""
_POLL_INTERVAL: Final = timedelta(seconds=0.5)
_PATIENCE: Final = timedelta(seconds=2)
_log = logging.getLogger(__name__)


class Wire(Protocol):
    """What carries messages to a receiver."""

    def send(self, message: Message) -> Failure | None:
        """Returns None once the receiver has said that it has the message."""

    def interrupt(self) -> None:
        """Ends the attempt that is under way, and every later one, as a failure."""


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A receiver, by what it is reached, and how patiently. `timeout` is of one attempt."""

    receiver: str
    wire: Wire
    timeout: timedelta
    retries: Retries
    encode: Callable[[RecordedEvent], bytes]


def deliver_next(store: Store, channel: Channel) -> bool:
    """Tries the receiver's next notification that is due. Returns whether there was one."""
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
        _log.info("told %s of %s", channel.receiver, _what(claim))
        return True
    _keep(store, channel, claim, failure)
    return True


def list_waiting(store: Store, *, only_given_up: bool = False) -> list[Undelivered]:
    """Lists what is not delivered, the oldest first."""
    with store.outbox() as outbox:
        return outbox.waiting(only_given_up=only_given_up)


def retry(store: Store, *, receivers: Collection[str] = (), seqs: Collection[int] = ()) -> int:
    """Makes what has failed due again, all of it or what is named. Returns how many."""
    with store.outbox() as outbox:
        return outbox.retry(receivers=receivers, seqs=seqs)


def _attempt(channel: Channel, claim: Claim) -> Failure | None:
    if claim.recorded is None:
        return Failure("the audit log has no such record that can be read", final=True)
    try:
        body = channel.encode(claim.recorded)
        return channel.wire.send(Message(id=_id(claim.recorded), body=body, at=claim.at))
    except Exception:
        # Whatever this is, the other notifications of the receiver must not wait for it.
        _log.exception("an attempt to notify %s ended in a fault of ours", channel.receiver)
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
        _log.error("gave up telling %s; see jit-service notifications", what)
    else:
        _log.warning("could not tell %s; next in %s", what, wait)


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
            undone=f"{channel.receiver} is told nothing",
            patience=_PATIENCE,
        )
        self._store = store
        self._channel = channel

    def work(self) -> None:
        """Delivers all that is due."""
        while not self.stopping.is_set() and deliver_next(self._store, self._channel):
            pass

    def interrupt(self) -> None:
        """Ends the attempt that is under way; it counts as failed, and is made again later."""
        self._channel.wire.interrupt()
