"""What a client asks of the authorization endpoint (RFC 6749, RFC 7636, OpenID Connect Core 1.0, section 3.1.2.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from jit_service.runtime.dev_provider.clients import Client, Clients
from jit_service.runtime.dev_provider.messages import OAuthFault
from jit_service.runtime.dev_provider.sessions import Session

SCOPES: Final = ("openid", "offline_access")
PROMPTS: Final = ("none", "login", "consent", "select_account")
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_ACR: Final = re.compile(r"[!-~]{1,256}")
_MAX_TEXT: Final = 1024


class Step(Enum):
    """What the browser's user has to do before the client gets its code."""

    PICK = auto()
    CONFIRM = auto()


class ReturnedFault(OAuthFault):
    """A fault that the client is told of by a redirect, since it is known that the redirect URI is its own."""

    def __init__(self, fault: OAuthFault, *, redirect_uri: str, state: str) -> None:
        super().__init__(fault.code, fault.description)
        self.redirect_uri = redirect_uri
        self.state = state


@dataclass(frozen=True, kw_only=True)
class AuthorizationRequest:
    """A sound request. `max_age` is in seconds."""

    client: Client
    redirect_uri: str
    scope: tuple[str, ...]
    state: str
    nonce: str
    challenge: str
    prompts: frozenset[str]
    max_age: int | None
    acr_values: tuple[str, ...]

    @property
    def is_silent(self) -> bool:
        """Whether nobody may be asked."""
        return "none" in self.prompts

    def step(self, session: Session | None, *, interaction: str, now: float) -> Step | None:
        """Returns what is still to be done for it in the interaction, with the session as it is."""
        if session is None:
            return Step.PICK
        is_proved_now = session.proved_in == interaction
        if self.prompts & {"login", "select_account"} and not is_proved_now:
            return Step.PICK
        if self.acr_values and session.acr not in self.acr_values:
            return Step.CONFIRM
        is_old = self.max_age is not None and now - session.auth_time.timestamp() > self.max_age
        if (is_old or self.max_age == 0) and not is_proved_now:
            return Step.CONFIRM
        return None


def read_request(given: Mapping[str, str], clients: Clients) -> AuthorizationRequest:
    """Returns the request. Raises ReturnedFault, or OAuthFault if it is not known whom the redirect would reach."""
    client = clients.named(given.get("client_id", ""))
    redirect_uri = given.get("redirect_uri", "")
    if not client.may_return_to(redirect_uri):
        raise OAuthFault("invalid_request", f"redirect_uri is none of the client {client.id}")
    try:
        return _read(given, client, redirect_uri)
    except OAuthFault as fault:
        state = given.get("state", "") if len(given.get("state", "")) <= _MAX_TEXT else ""
        raise ReturnedFault(fault, redirect_uri=redirect_uri, state=state) from None


def _read(given: Mapping[str, str], client: Client, redirect_uri: str) -> AuthorizationRequest:
    _demand_code_flow(given)
    prompts = frozenset(given.get("prompt", "").split())
    if prompts - set(PROMPTS) or ("none" in prompts and len(prompts) > 1):
        raise OAuthFault("invalid_request", f"prompt must be of {', '.join(PROMPTS)}; none must be alone")
    acr_values = tuple(given.get("acr_values", "").split())
    if not all(_ACR.fullmatch(acr) for acr in acr_values):
        raise OAuthFault("invalid_request", "acr_values must be ASCII words of at most 256 characters")
    for name in ("state", "nonce"):
        if len(given.get(name, "")) > _MAX_TEXT:
            raise OAuthFault("invalid_request", f"{name} is longer than {_MAX_TEXT} characters")
    return AuthorizationRequest(
        client=client,
        redirect_uri=redirect_uri,
        scope=known_scopes(given),
        state=given.get("state", ""),
        nonce=given.get("nonce", ""),
        challenge=given["code_challenge"],
        prompts=prompts,
        max_age=_max_age(given.get("max_age", "")),
        acr_values=acr_values,
    )


def known_scopes(given: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the scopes asked for that there are; others have no effect (RFC 6749, section 3.3)."""
    asked = given.get("scope", "").split()
    return tuple(scope for scope in SCOPES if scope in asked)


def _demand_code_flow(given: Mapping[str, str]) -> None:
    if given.get("response_type") != "code":
        raise OAuthFault("unsupported_response_type", "response_type must be code")
    if given.get("response_mode", "query") != "query":
        raise OAuthFault("invalid_request", "response_mode must be query")
    for name, code in (("request", "request_not_supported"), ("request_uri", "request_uri_not_supported")):
        if name in given:
            raise OAuthFault(code, f"{name} is not supported")
    if given.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(given.get("code_challenge", "")):
        raise OAuthFault("invalid_request", "PKCE is required: code_challenge, with code_challenge_method S256")


def _max_age(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise OAuthFault("invalid_request", "max_age must be a number of seconds")
    return int(text)
