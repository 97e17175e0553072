"""The keys that tokens are signed with, and when each does what.

A key is published from its creation, signs from `signs_at` until another one does, and stays published until the last
token that it signed is over. Which of these it is, is derived from the facts and `now`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Caller
from jitaccess.naming import rfc3339


class KeyState(StrEnum):
    """What a key is for."""

    PUBLISHED = "PUBLISHED"
    SIGNING = "SIGNING"
    RETIRED = "RETIRED"


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """The facts of a key. `sealed` is the private key, encrypted; `last_expires_at` the end of the last token by it.

    `sealing_key` is the id of the key that must open it: the one that sealed the state of the store it was read in.
    """

    kid: str
    created_at: datetime
    signs_at: datetime
    sealed: bytes = field(repr=False)
    sealing_key: str = ""
    last_expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """A key signs for `every`; it is published `ahead` of that, so that no verifier meets a key it cannot know."""

    every: timedelta
    ahead: timedelta


def signing(keys: Iterable[SigningKey], now: datetime) -> SigningKey | None:
    """Returns the key that signs at `now`: of those that may, the one that began last."""
    able = [key for key in keys if key.signs_at <= now]
    return max(able, key=lambda key: (key.signs_at, key.created_at, key.kid), default=None)


def state(key: SigningKey, keys: Sequence[SigningKey], now: datetime) -> KeyState:
    """Returns what the key is for at `now`, among all the keys."""
    if key.signs_at > now:
        return KeyState.PUBLISHED
    return KeyState.SIGNING if key == signing(keys, now) else KeyState.RETIRED


def next_signs_at(keys: Sequence[SigningKey], rotation: Rotation, now: datetime) -> datetime | None:
    """Returns when a key that is made now shall sign, or None while none is due. The first one signs at once."""
    current = signing(keys, now)
    if current is None:
        return None if keys else now
    if any(key.signs_at > now for key in keys) or now < current.signs_at + rotation.every - rotation.ahead:
        return None
    return now + rotation.ahead


def over(keys: Sequence[SigningKey], now: datetime) -> list[SigningKey]:
    """Returns the retired keys of which no token is valid any more."""
    retired = [key for key in keys if state(key, keys, now) is KeyState.RETIRED]
    return [key for key in retired if key.last_expires_at is None or key.last_expires_at <= now]


def added_event(key: SigningKey, *, by: Caller, now: datetime) -> Event:
    """Returns the event of a new key."""
    return _event(
        EventType.SIGNING_KEY_ADDED, f"{key.kid} signs from {rfc3339.to_seconds(key.signs_at)}", by=by, now=now
    )


def removed_event(key: SigningKey, *, why: str, by: Caller, now: datetime) -> Event:
    """Returns the event of a key that is gone."""
    return _event(EventType.SIGNING_KEY_REMOVED, f"{key.kid}: {why}", by=by, now=now)


def _event(type_: EventType, message: str, *, by: Caller, now: datetime) -> Event:
    return Event(type=type_, at=now, principal=by.principal, origin=by.origin, message=message)
