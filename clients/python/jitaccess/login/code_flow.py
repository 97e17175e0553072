"""Logging in by a browser: the authorization code with PKCE (RFC 6749, RFC 7636, RFC 8252, RFC 9700)."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode

from jitaccess.errors import Misconfigured, Unauthenticated
from jitaccess.login.loopback import listening
from jitaccess.login.provider import Provider, Refused, Registration
from jitaccess.login.tokens import Tokens, read_answer

WAIT_SECONDS: Final = 300.0
"""For how long the browser may be away."""


def log_in(
    provider: Provider,
    registration: Registration,
    *,
    show: Callable[[str], None],
    port: int = 0,
    asking: Mapping[str, str] | None = None,
    seconds: float = WAIT_SECONDS,
    clock: Callable[[], float] = time.time,
) -> Tokens:
    """Returns the tokens of whoever logs in at the address that `show` is given.

    The browser comes back to `port` of 127.0.0.1, one that the system chooses where it is 0. `asking` has further
    parameters, such as `prompt` and `max_age` (OpenID Connect Core 1.0, 3.1.2.1). Raises Unauthenticated and
    Unavailable; nothing was kept then.
    """
    if not provider.authorization_endpoint:
        raise Misconfigured(f"the provider {provider.issuer} has no authorization_endpoint", reason="PROVIDER_INVALID")
    verifier, state, nonce = (secrets.token_urlsafe(32) for _ in range(3))
    with listening(port) as loopback:
        asked: dict[str, str] = registration.asked(provider) | {
            "response_type": "code",
            "redirect_uri": loopback.redirect_uri,
            "state": state,
            "nonce": nonce,
            "code_challenge": _challenge(verifier),
            "code_challenge_method": "S256",
        }
        separator = "&" if "?" in provider.authorization_endpoint else "?"
        show(f"{provider.authorization_endpoint}{separator}{urlencode({**asked, **(asking or {})})}")
        code = _code(loopback.wait(seconds), provider, state=state)
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": loopback.redirect_uri,
        "client_id": registration.client_id,
        "code_verifier": verifier,
    } | registration.for_audience()
    return _exchanged(provider, registration, form, nonce=nonce, now=clock)


def _exchanged(
    provider: Provider, registration: Registration, form: Mapping[str, str], *, nonce: str, now: Callable[[], float]
) -> Tokens:
    try:
        body = provider.post(provider.token_endpoint, form)
    except Refused as refused:
        if refused.code == "invalid_grant":
            raise Unauthenticated(
                f"the provider {provider.issuer} does not take the code of this login: it has expired or was used "
                "already; log in again",
                reason="CODE_EXPIRED",
            ) from None
        raise provider.refusal(refused) from None
    tokens = read_answer(
        body, issuer=provider.issuer, client_id=registration.client_id, nonce=nonce, now=now(), fresh=True
    )
    if not tokens.id_token and "openid" in registration.asked(provider)["scope"].split():
        raise Unauthenticated("the provider's answer has no ID token; nothing was kept", reason="ID_TOKEN_INVALID")
    return tokens


def _code(answer: Mapping[str, str], provider: Provider, *, state: str) -> str:
    """Returns the code of an answer that is this login's and this provider's."""
    if not secrets.compare_digest(answer["state"].encode(), state.encode()):
        raise Unauthenticated(
            "the browser came back with the answer to another login (its state is not the one that was sent); nothing "
            "was kept; log in again, and use only the address that this login shows",
            reason="STATE_MISMATCH",
        )
    # RFC 9207: another provider may have been made to answer in place of this one.
    if answer.get("iss", "" if provider.names_itself else provider.issuer) != provider.issuer:
        raise Unauthenticated(
            f"the answer in the browser is not from the provider {provider.issuer} (iss); nothing was kept",
            reason="ISSUER_MISMATCH",
        )
    if error := answer.get("error"):
        words = answer.get("error_description", "")
        if error == "access_denied":
            raise Unauthenticated(f"the login was refused or cancelled: {words or error}", reason="LOGIN_DENIED")
        raise provider.refusal(Refused(error, words))
    if not answer.get("code"):
        raise Unauthenticated("the answer in the browser has no code; log in again", reason="LOGIN_REFUSED")
    return answer["code"]


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
