"""The provider at which people log in: OpenID Connect Discovery 1.0, and its token endpoint (RFC 6749)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from jitaccess.errors import JitError, Misconfigured, Unauthenticated, Unavailable
from jitaccess.login.resource import SECONDS

_OPENID: Final = "/.well-known/openid-configuration"
_OAUTH: Final = "/.well-known/oauth-authorization-server"
_ENDPOINTS: Final = ("authorization_endpoint", "token_endpoint", "device_authorization_endpoint", "revocation_endpoint")
_MAX_WORDS: Final = 500


class Refused(Exception):
    """An error of OAuth (RFC 6749, 5.2): its code, and the provider's own words, which may be empty."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(f"{code}: {words}" if words else code)
        self.code = code
        self.words = words


@dataclass(frozen=True, kw_only=True)
class Registration:
    """As which client to log in at a provider, and what for. `scopes` has spaces between."""

    issuer: str
    client_id: str
    scopes: str = ""
    audience: str = ""

    def asked(self, provider: Provider) -> dict[str, str]:
        """Returns the parameters of a request for authorization, by a browser or a device.

        The audience goes as `audience`, and as `resource` (RFC 8707) where it is a URL: a provider knows one of them.
        """
        form = {"client_id": self.client_id, "scope": self.scopes or provider.usual_scopes} | self.for_audience()
        return {name: value for name, value in form.items() if value}

    def for_audience(self) -> dict[str, str]:
        """Returns the parameters that name the audience."""
        named = {"audience": self.audience} if self.audience else {}
        return named | ({"resource": self.audience} if urlsplit(self.audience).scheme else {})


@dataclass(frozen=True, kw_only=True)
class Provider:
    """What a provider says of itself. An endpoint that it does not have is empty."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    device_authorization_endpoint: str
    revocation_endpoint: str
    names_itself: bool
    """Whether its answers in the browser always have `iss` (RFC 9207)."""
    usual_scopes: str
    """What to ask for where the service does not say: who it is, and a refresh token."""

    def post(self, endpoint: str, form: Mapping[str, str]) -> Mapping[str, Any]:
        """Returns the answer to a form. Raises Refused for an OAuth error, Unavailable where there is no answer."""
        from jitaccess.jose.fetching import Documents

        try:
            answer = Documents(self.issuer, seconds=SECONDS).ask(endpoint, form)
        except (OSError, ValueError) as fault:
            raise self.away(str(fault)) from None
        body = answer.body if isinstance(answer.body, dict) else {}
        if answer.status == 200:
            return body
        code = body.get("error")
        if isinstance(code, str) and code not in ("server_error", "temporarily_unavailable"):
            words = body.get("error_description", "")
            raise Refused(code[:_MAX_WORDS], words[:_MAX_WORDS] if isinstance(words, str) else "")
        raise self.away(f"it answers {answer.status}")

    def revoke(self, token: str, *, kind: str, client_id: str) -> None:
        """Revokes a token (RFC 7009); `kind` is refresh_token or access_token. Raises as `post` does."""
        self.post(self.revocation_endpoint, {"token": token, "token_type_hint": kind, "client_id": client_id})

    def away(self, fault: str) -> Unavailable:
        """Returns the error for a provider that does not answer."""
        return Unavailable(f"the provider {self.issuer} is away: {fault}", reason="PROVIDER_UNAVAILABLE")

    def refusal(self, error: Refused) -> JitError:
        """Returns the error for what the provider refused and no rule foresaw."""
        return Unauthenticated(f"the provider {self.issuer} refuses: {error}", reason="LOGIN_REFUSED")


def discover(issuer: str) -> Provider:
    """Returns what the provider says of itself, by OpenID Connect Discovery 1.0 or RFC 8414.

    Raises Misconfigured where it says what cannot be or is not safe, Unavailable where it does not answer.
    """
    from jitaccess.jose.fetching import Documents, is_safe_url

    if not is_safe_url(issuer):
        raise Misconfigured(
            f"the issuer {issuer!r} is neither https nor http on loopback, so nobody can log in there safely",
            reason="PROVIDER_INVALID",
        )
    for where in (issuer.rstrip("/") + _OPENID, _by_rfc8414(issuer)):
        try:
            answer = Documents(issuer, seconds=SECONDS).ask(where)
        except (OSError, ValueError) as fault:
            raise Unavailable(
                f"the provider {issuer} is away: {fault}; whoever is logged in goes on until the token ends",
                reason="PROVIDER_UNAVAILABLE",
            ) from None
        if answer.status == 200 and isinstance(answer.body, dict):
            return _read(issuer, answer.body)
        if answer.status >= 500:
            break
    if answer.status >= 500:
        raise Unavailable(f"the provider {issuer} is away: it answers {answer.status}", reason="PROVIDER_UNAVAILABLE")
    raise Misconfigured(
        f"the issuer {issuer} has no discovery document: it answers {answer.status}", reason="PROVIDER_INVALID"
    )


def _by_rfc8414(issuer: str) -> str:
    parts = urlsplit(issuer)
    return f"{parts.scheme}://{parts.netloc}{_OAUTH}{parts.path.rstrip('/')}"


def _read(issuer: str, body: Mapping[str, Any]) -> Provider:
    from jitaccess.jose.fetching import is_safe_url

    if body.get("issuer") != issuer:
        raise Misconfigured(f"the discovery document of {issuer} is of another issuer", reason="PROVIDER_INVALID")
    endpoints = {name: body.get(name, "") for name in _ENDPOINTS}
    for name, url in endpoints.items():
        if not isinstance(url, str) or (url and not is_safe_url(url)):
            raise Misconfigured(
                f"the provider {issuer}: its {name} is neither https nor http on loopback", reason="PROVIDER_INVALID"
            )
    if not endpoints["token_endpoint"]:
        raise Misconfigured(f"the provider {issuer} has no token_endpoint", reason="PROVIDER_INVALID")
    methods = body.get("code_challenge_methods_supported")
    if isinstance(methods, list) and "S256" not in methods:
        raise Misconfigured(f"the provider {issuer} does not support PKCE with S256", reason="PROVIDER_INVALID")
    scopes = body.get("scopes_supported")
    offline = isinstance(scopes, list) and "offline_access" in scopes
    return Provider(
        issuer=issuer,
        **endpoints,
        names_itself=body.get("authorization_response_iss_parameter_supported") is True,
        usual_scopes="openid offline_access" if offline else "openid",
    )
