"""Use cases of notifications: deliver what commits put into the outbox, list what is undelivered, retry it.

A notification is delivered at least once. After a crash between the event's commit and the delivery, or between the
delivery and its record, the service attempts it again with the same id. Each addressee has the notifications about one
grant in their order: a later one waits until the earlier ones are delivered or given up.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from jit_service.background import BackgroundThread
from jit_service.domain.audit.event import RecordedEvent
from jit_service.domain.grants.grant import Grant
from jit_service.domain.notification import Failure, Message, Receipt, Retries, message_id
from jit_service.metrics.catalogue import DELIVERIES
from jit_service.storage import Store
from jit_service.storage.outbox import Claim, Undelivered
from jit_service.tracing import spans

LEASE: Final = timedelta(minutes=2)
"""How long a claim of a notification by one process lasts, in addition to the receiver's timeout."""
_POLL_INTERVAL: Final = timedelta(seconds=0.5)
_PATIENCE: Final = timedelta(seconds=2)
_log = logging.getLogger(__name__)


class Wire(Protocol):
    """Sends messages to one receiver. Each kind of receiver has one."""

    def send(self, message: Message) -> Failure | Receipt | None:
        """Returns the failure, or, once the receiver has acknowledged the message, its receipt or None."""

    def interrupt(self) -> None:
        """Makes the attempt that is under way, and every later one, a failure."""


@dataclass
class Pause:
    """Until when this process sends a receiver nothing, because it asked for that."""

    until: datetime | None = None

    def holds(self, now: datetime) -> bool:
        """Returns whether nothing is to be sent at `now`."""
        return self.until is not None and now < self.until


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A receiver, the wire to it, and its limits.

    `timeout` is for one attempt. With `for_people`, messages have the grant as it is at the attempt. With
    `digests`, many that wait for one addressee are one message.
    """

    receiver: str
    wire: Wire
    timeout: timedelta
    retries: Retries
    for_people: bool = False
    digests: bool = False
    pause: Pause = field(default_factory=Pause)


def deliver_next(store: Store, channel: Channel) -> bool:
    """Attempts the receiver's next due notification. Returns whether there was one."""
    with store.snapshot() as snapshot:
        if channel.pause.holds(snapshot.now) or not snapshot.is_due(channel.receiver):
            return False
    lease = channel.timeout + LEASE
    with store.outbox() as outbox:
        claim = outbox.claim(channel.receiver, lease=lease)
        crowd = outbox.claim_crowd(claim, lease=lease) if claim is not None and channel.digests else []
    if claim is None:
        return False
    outcome = _attempt(store, channel, claim, crowd)
    for each in (claim, *crowd):
        _settle(store, channel, each, outcome)
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
        "addressee": waiting.addressee,
        "eventType": waiting.type,
        "eventTime": waiting.at.isoformat(),
        "attempts": waiting.attempts,
        "dueTime": None if gave_up else waiting.due_at.isoformat(),
        "gaveUpTime": gave_up.isoformat() if gave_up else None,
        "fault": waiting.fault,
    }


def _settle(store: Store, channel: Channel, claim: Claim, outcome: Failure | Receipt | None) -> None:
    """Removes what was delivered, and keeps what was not."""
    if isinstance(outcome, Failure):
        _keep(store, channel, claim, outcome)
        return
    DELIVERIES.add(channel.receiver, "delivered")
    with store.outbox() as outbox:
        outbox.remove(claim)
        if outcome is not None and claim.about:
            outbox.keep_reference(claim, outcome.reference)
    _log.info("notified %s of %s", channel.receiver, _what(claim))


def _attempt(store: Store, channel: Channel, claim: Claim, crowd: Sequence[Claim]) -> Failure | Receipt | None:
    if claim.recorded is None:
        return Failure("the audit log has no such record that can be read", final=True)
    try:
        message = _message(store, channel, claim, claim.recorded)
        others = tuple(_message(store, channel, each, each.recorded) for each in crowd if each.recorded is not None)
        with spans.delivery(claim.recorded.event.origin.trace_id, channel.receiver) as traced:
            outcome = channel.wire.send(replace(message, crowd=others))
            if traced is not None and isinstance(outcome, Failure):
                traced.settle("UNAVAILABLE", "not_delivered")
            return outcome
    except Exception:
        # Any fault counts as a failed attempt, so that the receiver's other notifications do not wait.
        _log.exception("an attempt to notify %s raised a fault of the service", channel.receiver)
        return Failure("a fault of the service; its log has more")


def _message(store: Store, channel: Channel, claim: Claim, recorded: RecordedEvent) -> Message:
    return Message(
        id=_id(recorded),
        at=claim.at,
        recorded=recorded,
        grant=_grant(store, claim) if channel.for_people else None,
        addressee=claim.addressee,
        earlier=claim.earlier,
    )


def _grant(store: Store, claim: Claim) -> Grant | None:
    if not claim.about:
        return None
    with store.snapshot() as snapshot:
        return snapshot.grant(claim.about)


def _keep(store: Store, channel: Channel, claim: Claim, failure: Failure) -> None:
    wait = None if failure.final else channel.retries.wait_after(claim.attempts)
    # A receiver that asks for longer than its own longest wait is asked again after that.
    asked_for = min(failure.retry_after, channel.retries.longest)
    if wait is not None:
        wait = max(wait, asked_for)
    what = f"{channel.receiver} of {_what(claim)} (attempt {claim.attempts}): {failure.fault}"
    with store.outbox() as outbox:
        if wait is None:
            outbox.give_up(claim, failure.fault)
        else:
            outbox.put_off(claim, failure.fault, until=outbox.now + wait)
        if asked_for:
            channel.pause.until = outbox.now + asked_for
    DELIVERIES.add(channel.receiver, "given_up" if wait is None else "failed")
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
