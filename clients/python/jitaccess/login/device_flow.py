"""Logging in by another device, for machines without a browser: RFC 8628."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import sleep
from typing import Any, Final

from jitaccess.errors import Misconfigured, Unauthenticated, Unavailable
from jitaccess.jose.fetching import is_safe_url
from jitaccess.login.claims import number
from jitaccess.login.provider import Provider, Refused, Registration
from jitaccess.login.tokens import Tokens, read_answer

_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_INTERVAL: Final = 5.0
_SLOWER: Final = 5.0
_MAX_INTERVAL: Final = 60.0
_MAX_SECONDS: Final = 1800.0


@dataclass(frozen=True, kw_only=True)
class Invitation:
    """What a person is told: where to go, and the code to type. `complete_url` has the code in it, or is empty."""

    url: str
    code: str
    complete_url: str
    seconds: float


def log_in(
    provider: Provider,
    registration: Registration,
    *,
    show: Callable[[Invitation], None],
    clock: Callable[[], float] = time.time,
) -> Tokens:
    """Returns the tokens of whoever takes up the invitation that `show` is given.

    Raises Unauthenticated where somebody says no or nobody comes in time, and Unavailable. Nothing was kept then.
    """
    if not provider.device_authorization_endpoint:
        raise Misconfigured(
            f"the provider {provider.issuer} offers no login by another device; leave out --device",
            reason="DEVICE_NOT_OFFERED",
        )
    try:
        body = provider.post(provider.device_authorization_endpoint, registration.asked(provider))
    except Refused as refused:
        raise provider.refusal(refused) from None
    invitation, device_code, interval = _read(provider, body)
    show(invitation)
    form = {"grant_type": _GRANT, "device_code": device_code, "client_id": registration.client_id}
    answer = _polled(provider, form, interval=interval, seconds=invitation.seconds)
    return read_answer(
        answer, issuer=provider.issuer, client_id=registration.client_id, nonce=None, now=clock(), fresh=True
    )


def _polled(provider: Provider, form: Mapping[str, str], *, interval: float, seconds: float) -> Mapping[str, Any]:
    """Returns the answer once there is one; RFC 8628, 3.5 says how often to ask."""
    waited = 0.0
    while waited < seconds:
        sleep(interval)
        waited += interval
        try:
            return provider.post(provider.token_endpoint, form)
        except Unavailable:
            interval = min(2 * interval, _MAX_INTERVAL)
        except Refused as refused:
            if refused.code == "slow_down":
                interval = min(interval + _SLOWER, _MAX_INTERVAL)
            elif refused.code == "access_denied":
                raise Unauthenticated("the login was refused on the other device", reason="LOGIN_DENIED") from None
            elif refused.code in ("expired_token", "invalid_grant"):
                break
            elif refused.code != "authorization_pending":
                raise provider.refusal(refused) from None
    raise Unauthenticated(
        "the code for the other device has expired before anybody logged in with it; log in again",
        reason="DEVICE_CODE_EXPIRED",
    )


def _read(provider: Provider, body: Mapping[str, Any]) -> tuple[Invitation, str, float]:
    # Some providers say verification_url, from before the RFC.
    url = body.get("verification_uri", body.get("verification_url"))
    complete, code, device_code = (
        body.get(name, "") for name in ("verification_uri_complete", "user_code", "device_code")
    )
    texts = (url, complete, code, device_code)
    if not all(isinstance(text, str) for text in texts) or not (url and code and device_code):
        raise Unauthenticated(
            f"the provider {provider.issuer} answers a login by another device with no code", reason="LOGIN_REFUSED"
        )
    if not is_safe_url(str(url)) or (complete and not is_safe_url(complete)):
        raise Misconfigured(
            f"the provider {provider.issuer}: its verification_uri is neither https nor http on loopback",
            reason="PROVIDER_INVALID",
        )
    seconds = min(number(body, "expires_in") or _MAX_SECONDS, _MAX_SECONDS)
    interval = min(max(number(body, "interval") or _INTERVAL, 1.0), _MAX_INTERVAL)
    return Invitation(url=str(url), code=code, complete_url=complete, seconds=seconds), device_code, interval
