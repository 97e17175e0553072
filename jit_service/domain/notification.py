"""Notifications: which events a receiver wants to be told of, and when a delivery that failed is tried again.

`Subscription` says who is told, `Message` what one of them is told. The transaction of an event leaves a notification
for each receiver and addressee (`storage/outbox.py`); `notifications/delivery.py` delivers them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from jit_service.domain.audit.event import Event, EventType, RecordedEvent
from jit_service.domain.errors import InvalidField
from jit_service.domain.grants.grant import Grant, GrantState

NEVER: Final = frozenset({EventType.ACCESS_CHECKED})
"""Events that are never notified: there are too many of them, and each caller has had its answer."""
ONLY_BY_NAME: Final = frozenset({EventType.CALL_REFUSED})
"""Events that `*` leaves out: anybody can cause them, even without a token."""
CROWD: Final = 5
"""From so many messages on that wait for one addressee, they are one digest."""
LARGEST_CROWD: Final = 50
"""How many messages one digest has at most."""
NEVER_IN_A_DIGEST: Final = frozenset({EventType.BREAK_GLASS_USED, EventType.REVIEW_OVERDUE, EventType.LOCK_CREATED})
"""What must not drown among others."""
DEFAULT_EVENTS: Final = (
    "BREAK_GLASS_USED",
    "REVIEW_OVERDUE",
    "GRANT_REQUESTED:PENDING",
    "GRANT_APPROVED",
    "GRANT_DENIED",
    "EXTENSION_REQUESTED",
    "STEP_ESCALATED",
    "GRANT_EXPIRES_SOON",
    "DELEGATION_CREATED",
    "LOCK_CREATED",
)
_ID: Final = re.compile(r"evt_([0-9]{1,18})_[0-9a-f]{16}")
GROWTH: Final = 4
"""By what the wait before the next attempt is multiplied."""


@dataclass(frozen=True, kw_only=True)
class Interest:
    """A kind of event; with a decision, only where the event has it."""

    type: EventType
    decision: str = ""

    def covers(self, event: Event) -> bool:
        """Returns whether the event is of the kind."""
        return event.type is self.type and self.decision in ("", event.decision)


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """What a receiver wants to be told of.

    Each of the `addressees` gets a notification of its own. They are addresses in the receiver's own form (an e-mail
    address, a channel of Slack); the empty one leaves the choice to the receiver.
    """

    receiver: str
    interests: frozenset[Interest]
    addressees: tuple[str, ...] = ("",)

    def wants(self, event: Event) -> bool:
        """Returns whether the receiver is to be told of the event."""
        return any(interest.covers(event) for interest in self.interests)


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How often a delivery is tried: `first` is the wait after the first attempt, each next one is longer."""

    attempts: int = 12
    first: timedelta = timedelta(seconds=5)
    longest: timedelta = timedelta(hours=4)

    def wait_after(self, attempts: int) -> timedelta | None:
        """Returns how long to wait after so many attempts, or None where that was the last."""
        if attempts >= self.attempts:
            return None
        wait = self.first
        for _ in range(attempts - 1):
            wait = min(wait * GROWTH, self.longest)
        return min(wait, self.longest)


@dataclass(frozen=True, kw_only=True)
class Message:
    """What one addressee of a receiver is told.

    `id` is the same at every attempt; `at` is when this attempt is made. `grant` is the one that the event is about, as
    it is now: if it was decided meanwhile, an old request says so. `earlier` is the reference that the receiver
    returned for the message about the same grant that this addressee got before. `crowd` are others, which wait for the
    same addressee, and are told with it as one digest.
    """

    id: str
    at: datetime
    recorded: RecordedEvent
    grant: Grant | None = None
    addressee: str = ""
    earlier: str = ""
    crowd: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Receipt:
    """What a receiver calls a message that it has, so that the next one about the same grant can change it."""

    reference: str


@dataclass(frozen=True)
class Failure:
    """Why a message was not delivered, without a word that the receiver chose.

    `final`: it wants no more of it. `retry_after`: it wants nothing at all for so long.
    """

    fault: str
    final: bool = False
    retry_after: timedelta = timedelta()


def interests(texts: Iterable[str]) -> frozenset[Interest]:
    """Returns the interests of `TYPE`, `TYPE:DECISION` and `*`. Raises ValueError, which names what is allowed."""
    found: set[Interest] = set()
    for text in texts:
        found |= _everything() if text == "*" else {_interest(text)}
    if not found:
        raise ValueError("names no event, so the receiver would never be told anything")
    return frozenset(found)


def message_id(seq: int, hash_: bytes) -> str:
    """Returns the id of every message about the record: of its place in the log, and of this log alone."""
    return f"evt_{seq}_{hash_.hex()[:16]}"


def seq_of(id_: str) -> int:
    """Returns the place in the log of the record that the message is about. Raises InvalidField."""
    found = _ID.fullmatch(id_)
    if found is None:
        raise InvalidField("id", f"is {id_!a}, not evt_SEQ_HASH as listed")
    return int(found[1])


def _everything() -> set[Interest]:
    return {Interest(type=type_) for type_ in EventType if type_ not in NEVER | ONLY_BY_NAME}


def _interest(text: str) -> Interest:
    kind, colon, decision = text.partition(":")
    allowed = [type_.value for type_ in EventType if type_ not in NEVER]
    if kind not in allowed:
        raise ValueError(f"{kind!a} is no event that can be notified; those are *, {', '.join(allowed)}")
    if colon and decision not in list(GrantState):
        raise ValueError(f"{text!a} names no state of a grant; those are {', '.join(GrantState)}")
    return Interest(type=EventType(kind), decision=decision)
