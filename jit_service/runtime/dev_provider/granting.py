"""The token endpoint: codes and refresh tokens, each of which counts once (RFC 6749, RFC 7636, RFC 9700)."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from jit_service.runtime.dev_issuer import AUDIENCE, PEOPLE, DevIssuer
from jit_service.runtime.dev_provider.authorization import AuthorizationRequest
from jit_service.runtime.dev_provider.clients import Client, Clients
from jit_service.runtime.dev_provider.devices import Devices
from jit_service.runtime.dev_provider.expiring import Expiring
from jit_service.runtime.dev_provider.messages import OAuthFault
from jit_service.runtime.dev_provider.sessions import Session

CODE_LIFETIME: Final = timedelta(minutes=1)
TOKEN_LIFETIME: Final = timedelta(minutes=10)
REFRESH_LIFETIME: Final = timedelta(hours=12)
"""How long a log-in can be renewed in all."""
DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"
# A used code is remembered, so that its second use is seen.
_CODE_MEMORY: Final = timedelta(hours=1)
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")


@dataclass(frozen=True, kw_only=True)
class _Code:
    request: AuthorizationRequest
    session: Session
    ends_at: datetime
    is_used: bool = False
    family: str = ""


@dataclass(frozen=True, kw_only=True)
class _Family:
    """The refresh tokens of one log-in, one after another. Only the latest, `FAMILY.secret`, counts."""

    client: Client
    session: Session
    scope: tuple[str, ...]
    secret: str


class Granting:
    """Gives tokens for codes, refresh tokens and device codes."""

    def __init__(
        self, issuer: DevIssuer, url: str, clients: Clients, devices: Devices, clock: Callable[[], datetime]
    ) -> None:
        self._issuer = issuer
        self._url = url
        self._clients = clients
        self._devices = devices
        self._clock = clock
        self._codes: Expiring[_Code] = Expiring(_CODE_MEMORY, clock)
        self._families: Expiring[_Family] = Expiring(REFRESH_LIFETIME, clock)

    def code_for(self, request: AuthorizationRequest, session: Session) -> str:
        """Returns a code, valid for a minute."""
        return self._codes.add(_Code(request=request, session=session, ends_at=self._clock() + CODE_LIFETIME))

    def answer(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Returns the answer of the token endpoint. Raises OAuthFault."""
        client = self._clients.named(form.get("client_id", ""))
        kind = form.get("grant_type", "")
        if kind == "authorization_code":
            return self._for_code(client, form)
        if kind == "refresh_token":
            return self._for_refresh_token(client, form)
        if kind == DEVICE_CODE:
            device, session = self._devices.redeem(form.get("device_code", ""), client)
            return self._tokens(client, session, device.scope, self._new_family(client, session, device.scope))
        raise OAuthFault(
            "unsupported_grant_type", f"grant_type must be authorization_code, refresh_token or {DEVICE_CODE}"
        )

    def revoke(self, client: Client, token: str) -> None:
        """Ends the log-in that the client's refresh token is of (RFC 7009). Access tokens end by themselves."""
        name, _, _ = token.partition(".")
        family = self._families.get(name)
        if family is not None and family.client != client:
            raise OAuthFault("invalid_grant", "the token is another client's")
        self._families.remove(name)

    def end(self, client: Client, session: Session) -> None:
        """Ends the log-ins that the client got from the session."""
        self._families.remove_where(lambda family: family.client == client and family.session.id == session.id)

    def _for_code(self, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        name = form.get("code", "")
        code = self._codes.get(name)
        if code is None or code.request.client != client:
            raise OAuthFault("invalid_grant", "the code is over, or never was")
        if code.is_used:
            # Somebody else has it too (RFC 6749, section 4.1.2).
            self._families.remove(code.family)
            raise OAuthFault("invalid_grant", "the code was used already, so what it gave is revoked")
        self._codes.update(name, replace(code, is_used=True))
        if self._clock() >= code.ends_at:
            raise OAuthFault("invalid_grant", "the code is over, or never was")
        if form.get("redirect_uri", "") != code.request.redirect_uri:
            raise OAuthFault("invalid_grant", "redirect_uri is not that of the code")
        _demand_verifier(form.get("code_verifier", ""), code.request.challenge)
        family = self._new_family(client, code.session, code.request.scope)
        self._codes.update(name, replace(code, is_used=True, family=family))
        return self._tokens(client, code.session, code.request.scope, family, nonce=code.request.nonce)

    def _for_refresh_token(self, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        name, _, secret = form.get("refresh_token", "").partition(".")
        family = self._families.get(name)
        if family is None or family.client != client:
            raise OAuthFault("invalid_grant", "the refresh token is over, was revoked, or never was")
        if not secrets.compare_digest(secret.encode(), family.secret.encode()):
            # Its owner or a thief has the next one: nobody knows who (RFC 9700, section 4.14.2).
            self._families.remove(name)
            raise OAuthFault("invalid_grant", "the refresh token was used already, so its log-in is revoked")
        asked = form.get("scope", "").split()
        if set(asked) - set(family.scope):
            raise OAuthFault("invalid_scope", "scope has more than was granted")
        self._families.update(name, replace(family, secret=secrets.token_urlsafe(32)))
        return self._tokens(client, family.session, tuple(asked) or family.scope, name)

    def _new_family(self, client: Client, session: Session, scope: tuple[str, ...]) -> str:
        if "offline_access" not in scope:
            return ""
        return self._families.add(
            _Family(client=client, session=session, scope=scope, secret=secrets.token_urlsafe(32))
        )

    def _tokens(
        self, client: Client, session: Session, scope: tuple[str, ...], family: str, *, nonce: str = ""
    ) -> dict[str, Any]:
        principal, groups, roles = PEOPLE[session.who]
        proof = {
            "iss": self._url,
            "sub": principal,
            "auth_time": int(session.auth_time.timestamp()),
            "acr": session.acr,
            "amr": list(session.amr),
            "sid": session.id,
        }
        rights = {"client_id": client.id, "scope": " ".join(scope), "groups": list(groups), "roles": list(roles)}
        access = self._signed(proof | rights | {"aud": AUDIENCE}, typ="at+jwt")
        answer: dict[str, Any] = {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": int(TOKEN_LIFETIME.total_seconds()),
            "scope": " ".join(scope),
        }
        if "openid" in scope:
            told = {"nonce": nonce} if nonce else {}
            answer["id_token"] = self._signed(proof | told | {"aud": client.id, "name": session.who}, typ="JWT")
        if held := self._families.get(family):
            answer["refresh_token"] = f"{family}.{held.secret}"
        return answer

    def _signed(self, claims: Mapping[str, Any], *, typ: str) -> str:
        return self._issuer.signed(claims, now=self._clock(), ttl=TOKEN_LIFETIME, typ=typ)


def _demand_verifier(verifier: str, challenge: str) -> None:
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    if not _VERIFIER.fullmatch(verifier) or not secrets.compare_digest(digest, challenge):
        raise OAuthFault("invalid_grant", "code_verifier is not that of the code")
