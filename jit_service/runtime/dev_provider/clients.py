"""The two clients of the provider, which are public (RFC 6749, section 2.1), and where they may be sent back to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from jit_service.runtime.dev_provider.messages import OAuthFault
from jit_service.settings import Address

CLI: Final = "jit-cli"
CONSOLE: Final = "jit-console"
_CONSOLE_PATHS: Final = ("/console/", "/console/callback")
# Any port, and nothing else may differ (RFC 8252, sections 7.3 and 8.4).
_LOOPBACK: Final = re.compile(r"http://(?:127\.0\.0\.1|\[::1\]):([1-9][0-9]{0,4})/callback")


@dataclass(frozen=True)
class Client:
    """A client, with the redirect URIs that are its own beside loopback ports."""

    id: str
    name: str
    redirect_uris: frozenset[str] = frozenset()
    any_loopback_port: bool = False

    def may_return_to(self, uri: str) -> bool:
        """Whether the URI is exactly one of the client's."""
        if uri in self.redirect_uris:
            return True
        found = _LOOPBACK.fullmatch(uri) if self.any_loopback_port else None
        return found is not None and int(found[1]) <= 65535


class Clients:
    """The clients of a service whose edge is at `http`, by its address or any other name of loopback."""

    def __init__(self, http: Address) -> None:
        names = ("127.0.0.1", "localhost", "[::1]")
        self.authorities = frozenset({str(http), *(f"{name}:{http.port}" for name in names)})
        """How a browser on this machine may name the edge."""
        self.origins = frozenset(f"http://{authority}" for authority in self.authorities)
        """The origins at which the console runs."""
        returns = frozenset(origin + path for origin in self.origins for path in _CONSOLE_PATHS)
        self._known = _by_id(
            (Client(CLI, "jit", any_loopback_port=True), Client(CONSOLE, "the console", redirect_uris=returns))
        )

    def named(self, client_id: str) -> Client:
        """Returns the client. Raises OAuthFault."""
        if client_id not in self._known:
            raise OAuthFault("invalid_client", f"client_id must be one of {', '.join(self._known)}", status=401)
        return self._known[client_id]


def _by_id(clients: Iterable[Client]) -> dict[str, Client]:
    return {client.id: client for client in clients}
