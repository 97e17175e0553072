"""What the service says of itself to whoever has no token yet: OAuth 2.0 protected resource metadata (RFC 9728)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from jit_service.domain.errors import NoPublicUrl, TokenMissing, Unauthenticated
from jit_service.issuers import Issuer, login_issuer
from jit_service.settings import Address

PATH: Final = "/.well-known/oauth-protected-resource"
_PORTS: Final = {"https": 443, "http": 80}


class ProtectedResource:
    """The service at `url` (empty if it is not known), whose callers log in at one of the `issuers` as they are now.

    `grpc` is where clients reach gRPC; by default it is the URL's host and port, since Envoy serves both there.
    """

    def __init__(self, url: str, grpc: Address | None, issuers: Callable[[], Sequence[Issuer]]) -> None:
        self._url = url
        self._grpc = grpc or _address_of(url)
        self._issuers = issuers

    def metadata(self) -> Mapping[str, Any]:
        """Returns the metadata (RFC 9728, section 2), without the members that have no value. Raises NoPublicUrl."""
        if not self._url:
            raise NoPublicUrl("the service does not know its URL: set JIT_PUBLIC_URL")
        login = login_issuer(self._issuers())
        scopes = list(login.login_scopes) if login is not None else []
        members = {
            "resource": self._url,
            "authorization_servers": [login.issuer] if login is not None else [],
            "scopes_supported": scopes,
            "bearer_methods_supported": ["header"],
            "jit_cli_client_id": login.cli_client_id if login is not None else "",
            "jit_console_client_id": login.console_client_id if login is not None else "",
            "jit_scopes": scopes,
            "jit_audience": login.login_audience if login is not None else "",
            "jit_grpc_address": str(self._grpc),
        }
        return {name: value for name, value in members.items() if value}

    @property
    def authorization_servers(self) -> Sequence[str]:
        """The URLs of the issuers at which people log in, as they are now."""
        login = login_issuer(self._issuers())
        return () if login is None else (login.issuer,)

    def challenge(self, refusal: Unauthenticated) -> str:
        """Returns the `WWW-Authenticate` of a 401 (RFC 9728, section 5.1; RFC 6750, section 3).

        It names the metadata if the URL is known, and an error unless no token came.
        """
        said = [f'resource_metadata="{self._url}{PATH}"'] if self._url else []
        if not isinstance(refusal, TokenMissing):
            said.append('error="invalid_token"')
        return f"Bearer {', '.join(said)}".rstrip()


def _address_of(url: str) -> Address | None:
    parts = urlsplit(url)
    return Address(parts.hostname, parts.port or _PORTS[parts.scheme]) if parts.hostname else None
