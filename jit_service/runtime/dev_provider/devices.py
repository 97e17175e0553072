"""Devices without a browser, which wait until somebody says elsewhere who they are (RFC 8628)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from jit_service.runtime.dev_provider.clients import Client
from jit_service.runtime.dev_provider.expiring import Expiring
from jit_service.runtime.dev_provider.messages import OAuthFault
from jit_service.runtime.dev_provider.sessions import Session

LIFETIME: Final = timedelta(minutes=10)
INTERVAL: Final = timedelta(seconds=1)
_SLOWER: Final = timedelta(seconds=5)
# No vowels, so no words; no letters and digits that look alike (RFC 8628, section 6.1).
_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device that waits. `session` is who it is for; `is_denied` says that somebody refused it."""

    client: Client
    scope: tuple[str, ...]
    user_code: str
    interval: timedelta = INTERVAL
    asked_at: datetime | None = None
    session: Session | None = None
    is_denied: bool = False


class Devices:
    """The devices that wait, each for 10 minutes."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._waiting: Expiring[Device] = Expiring(LIFETIME, clock)
        self._codes: Expiring[str] = Expiring(LIFETIME, clock)

    def add(self, client: Client, scope: tuple[str, ...]) -> tuple[str, Device]:
        """Returns a new device, and the device code by which it asks."""
        letters = "".join(secrets.choice(_LETTERS) for _ in range(8))
        device = Device(client=client, scope=scope, user_code=f"{letters[:4]}-{letters[4:]}")
        code = self._waiting.add(device)
        self._codes.put(letters, code)
        return code, device

    def waiting(self, user_code: str) -> Device | None:
        """Returns the device that shows this code and still waits for a decision, however the code is written."""
        device = self._waiting.get(self._codes.get(_letters(user_code)) or "")
        return None if device is None or device.session is not None or device.is_denied else device

    def decide(self, user_code: str, session: Session | None) -> None:
        """Lets the device act for the session's person, or refuses it. Raises OAuthFault if it does not wait."""
        device = self.waiting(user_code)
        if device is None:
            raise OAuthFault("invalid_request", "no device waits with this code any more")
        code = self._codes.get(_letters(user_code)) or ""
        self._waiting.update(code, replace(device, session=session, is_denied=session is None))

    def redeem(self, device_code: str, client: Client) -> tuple[Device, Session]:
        """Returns the device and who it is for, once. Raises OAuthFault, as RFC 8628, section 3.5, says."""
        device = self._waiting.get(device_code)
        if device is None or device.client != client:
            raise OAuthFault("expired_token", "the device code is over, was used, or never was")
        if device.is_denied or device.session is not None:
            self._waiting.remove(device_code)
        if device.is_denied:
            raise OAuthFault("access_denied", "the log-in was refused")
        if device.session is not None:
            return device, device.session
        now = self._clock()
        is_early = device.asked_at is not None and now < device.asked_at + device.interval
        interval = device.interval + _SLOWER if is_early else device.interval
        self._waiting.update(device_code, replace(device, asked_at=now, interval=interval))
        if is_early:
            raise OAuthFault("slow_down", f"ask again after {interval.seconds} s")
        raise OAuthFault("authorization_pending", "nobody has decided yet")


def _letters(user_code: str) -> str:
    return "".join(letter for letter in user_code.upper() if letter in _LETTERS)
