"""The token of somebody who is logged in, renewed before it ends: once for all processes that use the login."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from jitaccess.errors import JitError, Unauthenticated, Unavailable
from jitaccess.login import provider
from jitaccess.login.claims import read_claims
from jitaccess.login.keeping import Keep, Login
from jitaccess.login.provider import Refused
from jitaccess.login.tokens import Tokens, read_answer

_AGAIN_SECONDS: Final = 15.0
"""How long to leave a provider alone that was away, while the token at hand still counts."""


class Renewed:
    """A source of tokens. Thread-safe; two processes that renew at once send the refresh token once."""

    def __init__(self, keep: Keep, *, clock: Callable[[], float] = time.time) -> None:
        self._keep = keep
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: Tokens | None = None
        self._leave_alone_until = 0.0

    @property
    def goes_on(self) -> bool:
        """Whether it is renewed when it ends, as far as is known without asking the provider."""
        return self._tokens is not None and bool(self._tokens.refresh_token)

    def at_hand(self) -> str | None:
        """Returns the token where nothing has to be read or asked for, which may take seconds; else None."""
        tokens, now = self._tokens, self._clock()
        return tokens.bearer if tokens is not None and self._is_good(tokens, now) else None

    def __call__(self) -> str:
        """Returns a token that counts.

        Raises Unauthenticated where nobody is logged in or the login is over, and Unavailable where the provider is
        away and the last token has ended.
        """
        with self._lock:
            token = self.at_hand()
            if token is None:
                self._read()
                token = self.at_hand() or self._renewed()
            return token

    def _is_good(self, tokens: Tokens, now: float) -> bool:
        # A clock that was set back would make a token last longer than it does.
        if now < tokens.obtained_at - 1:
            return False
        return now < tokens.renew_at or (now < min(self._leave_alone_until, tokens.expires_at))

    def _read(self) -> Login:
        """Returns the login as it is kept now, whose token is at hand from then on."""
        login = self._keep.read()
        # Whoever logged out must not go on with what was at hand here.
        self._tokens = None if login is None else login.tokens
        if login is None:
            raise Unauthenticated(f"nobody is logged in to the context {self._keep.context}", reason="NOT_LOGGED_IN")
        return login

    def _renewed(self) -> str:
        """Returns a new token, or the one at hand as long as it counts where another cannot be had for now."""
        try:
            with self._keep.alone():
                # Another process may have renewed it while this one waited.
                login = self._read()
                return self.at_hand() or self._renewed_alone(login)
        except JitError as fault:
            return self._go_on(self._tokens, fault)

    def _renewed_alone(self, login: Login) -> str:
        # What cannot be written would be lost, and with it the login: its refresh token counts once.
        self._keep.write(login)
        self._tokens = renew(login, now=self._clock)
        self._keep.write(replace(login, tokens=self._tokens))
        return self._tokens.bearer

    def _go_on(self, tokens: Tokens | None, fault: JitError) -> str:
        """Returns the token at hand as long as it counts, else raises why there is no other."""
        now = self._clock()
        if tokens is None:
            raise fault
        if tokens.obtained_at - 1 <= now < tokens.expires_at:
            self._leave_alone_until = now + _AGAIN_SECONDS
            return tokens.bearer
        if isinstance(fault, Unavailable):
            ended = datetime.fromtimestamp(tokens.expires_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            raise Unavailable(f"{fault.message}; the last token ended {ended}", reason=fault.reason) from fault
        raise fault


def renew(login: Login, *, now: Callable[[], float]) -> Tokens:
    """Returns new tokens for the refresh token (RFC 6749, 6; OpenID Connect Core 1.0, 12).

    Raises Unauthenticated where the provider does not take it any more, Unavailable where it is away.
    """
    registration, held = login.registration, login.tokens
    if not held.refresh_token:
        raise _over(registration.issuer, "the provider gave no refresh token")
    at = provider.discover(registration.issuer)
    form = {
        "grant_type": "refresh_token",
        "refresh_token": held.refresh_token,
        "client_id": registration.client_id,
    } | registration.for_audience()
    try:
        body = at.post(at.token_endpoint, form)
    except Refused as refused:
        if refused.code == "invalid_grant":
            raise _over(registration.issuer, refused.words or "it was ended, or used elsewhere") from None
        raise at.refusal(refused) from None
    tokens = read_answer(
        body,
        issuer=at.issuer,
        client_id=registration.client_id,
        nonce=None,
        now=now(),
        fresh=False,
        refresh_token=held.refresh_token,
    )
    if tokens.id_token:
        _demand_same_person(tokens, held)
    return tokens


def _demand_same_person(tokens: Tokens, held: Tokens) -> None:
    before = read_claims(held.id_token).get("sub")
    if before is not None and read_claims(tokens.id_token).get("sub") != before:
        raise Unauthenticated(
            "the provider renewed the login as somebody else; log in again", reason="ID_TOKEN_INVALID"
        )


def _over(issuer: str, fault: str) -> Unauthenticated:
    return Unauthenticated(f"the login at {issuer} is over: {fault}", reason="LOGIN_ENDED")
