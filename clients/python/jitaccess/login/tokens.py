"""The tokens of somebody who is logged in, as a provider's token endpoint gives them (RFC 6749, 5.1)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from jitaccess.errors import Unauthenticated
from jitaccess.login.claims import lifetime, number, read_claims

SKEW_SECONDS: Final = 60
"""By how much two clocks may differ, as the service has it."""
_UNSAID_LIFETIME: Final = 300.0
_MAX_LIFETIME: Final = 10 * 365 * 86400.0


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What somebody holds who is logged in. Instants are seconds since 1970 by this machine's clock.

    `expires_at` is counted from when the tokens came here, so a clock that is wrong does not end them early.
    """

    access_token: str
    id_token: str = ""
    refresh_token: str = ""
    obtained_at: float
    expires_at: float

    @property
    def bearer(self) -> str:
        """The token that the service is called with.

        That is the access token, or, where that is none that anybody could read, the ID token.
        """
        return self.id_token if self.id_token and not read_claims(self.access_token) else self.access_token

    @property
    def renew_at(self) -> float:
        """From when on to renew: two minutes before the end, or after four fifths of a short life."""
        return self.expires_at - min(120.0, (self.expires_at - self.obtained_at) / 5)


def read_answer(
    body: Mapping[str, Any],
    *,
    issuer: str,
    client_id: str,
    nonce: str | None,
    now: float,
    fresh: bool,
    refresh_token: str = "",
) -> Tokens:
    """Returns the tokens of an answer; `refresh_token` goes on where the answer brings no new one (RFC 6749, 6).

    Raises Unauthenticated for an answer without a bearer token, and for one whose ID token is not of this login
    (`check_id_token`).
    """
    access, kind = body.get("access_token"), body.get("token_type")
    if not isinstance(access, str) or not access:
        raise _bad("has no access_token")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise _bad(f"has a token_type that is not Bearer: {json.dumps(kind)[:40]}")
    texts = {name: body.get(name, "") for name in ("id_token", "refresh_token")}
    if not all(isinstance(value, str) for value in texts.values()):
        raise _bad("has an id_token or a refresh_token that is no text")
    tokens = Tokens(
        access_token=access,
        id_token=texts["id_token"],
        refresh_token=texts["refresh_token"] or refresh_token,
        obtained_at=now,
        expires_at=now,
    )
    if tokens.id_token:
        check_id_token(tokens.id_token, issuer=issuer, client_id=client_id, nonce=nonce, now=now, fresh=fresh)
    return _with_end(tokens, number(body, "expires_in"))


def _with_end(tokens: Tokens, expires_in: float | None) -> Tokens:
    own = lifetime(tokens.bearer)
    spans = [own] if tokens.bearer is tokens.id_token else [expires_in, own]
    known = [span for span in spans if span is not None and span > 0]
    span = min(known) if known else _UNSAID_LIFETIME
    return replace(tokens, expires_at=tokens.obtained_at + min(span, _MAX_LIFETIME))


def check_id_token(token: str, *, issuer: str, client_id: str, nonce: str | None, now: float, fresh: bool) -> None:
    """Raises Unauthenticated unless the ID token is of this login: OpenID Connect Core 1.0, 3.1.3.7.

    It came from the token endpoint over TLS, which stands for its signature there (rule 6). `nonce` None is a login
    without one, as by a device. With `fresh` it was issued just now, so that it tells how the clocks differ.
    """
    claims = read_claims(token)
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if claims.get("iss") != issuer:
        raise _foreign("of another issuer")
    if client_id not in audiences or claims.get("azp", client_id) != client_id:
        raise _foreign("for another client")
    if nonce is not None and claims.get("nonce") != nonce:
        raise _foreign("the answer to another login: its nonce is not the one that was sent")
    if not isinstance(claims.get("sub"), str) or not claims["sub"]:
        raise _foreign("without a sub")
    issued, ends = number(claims, "iat"), number(claims, "exp")
    if issued is None or ends is None:
        raise _foreign("without iat or exp")
    if fresh and (issued > now + SKEW_SECONDS or now >= ends + SKEW_SECONDS):
        raise _clock(issuer, issued=issued, now=now)


def _clock(issuer: str, *, issued: float, now: float) -> Unauthenticated:
    way = "behind" if issued > now else "ahead of"
    here = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    differ = timedelta(seconds=round(abs(issued - now)))
    return Unauthenticated(
        f"this machine's clock is {differ} (h:mm:ss) {way} that of the provider {issuer}: it is {here} here; set it "
        "right, then log in again",
        reason="CLOCK_SKEW",
    )


def _foreign(fault: str) -> Unauthenticated:
    return Unauthenticated(f"the provider's ID token is {fault}; nothing was kept", reason="ID_TOKEN_INVALID")


def _bad(fault: str) -> Unauthenticated:
    return Unauthenticated(f"the provider's answer {fault}; nothing was kept", reason="LOGIN_REFUSED")
