"""What a service says of how to log in to it: its protected resource metadata (RFC 9728)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from jitaccess.errors import Misconfigured, Unavailable

SECONDS: Final = 10.0
"""For how long a service or a provider may take to answer."""
_WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, kw_only=True)
class Resource:
    """How to log in to the service at `url`. What the service does not say is empty."""

    url: str
    issuer: str
    client_id: str
    scopes: str
    audience: str
    grpc_address: str

    @property
    def address(self) -> str:
        """Where gRPC clients connect, HOST:PORT."""
        return self.grpc_address or host_and_port(self.url)

    @property
    def token_audience(self) -> str:
        """For whom a platform must issue a job's token."""
        return self.audience or self.url

    def demand_login(self) -> None:
        """Raises Misconfigured where the service does not say where people log in, or as which client."""
        missing = [
            name
            for name, value in (("authorization_servers", self.issuer), ("jit_cli_client_id", self.client_id))
            if not value
        ]
        if missing:
            raise Misconfigured(
                f"{self.url} offers no login: its metadata has no {' and no '.join(missing)}; whoever runs it sets "
                "cli_client_id of the issuer",
                reason="LOGIN_NOT_OFFERED",
            )


def describe(url: str, *, ca_file: Path | None = None) -> Resource:
    """Asks the service at the URL how to log in to it. `ca_file` has the authorities of its certificate.

    Raises Misconfigured for a URL that is none, metadata of another service (RFC 9728, 3.3) or such that cannot be
    read, and Unavailable where the service does not answer.
    """
    from jitaccess.jose.fetching import Documents

    parts = urlsplit(demand_url(url))
    where = f"{parts.scheme}://{parts.netloc}{_WELL_KNOWN}{parts.path.rstrip('/')}"
    try:
        answer = Documents(where, seconds=SECONDS, ca_file=ca_file).ask(where)
    except (OSError, ValueError) as fault:
        raise Unavailable(f"no answer from {where}: {fault}", reason="SERVICE_UNAVAILABLE") from None
    if answer.status >= 500:
        raise Unavailable(f"{where} answers {answer.status}", reason="SERVICE_UNAVAILABLE")
    if answer.status != 200 or not isinstance(answer.body, dict):
        raise Misconfigured(
            f"{where} answers {answer.status} and no metadata of a service (RFC 9728); is {url} the service's URL?",
            reason="LOGIN_NOT_OFFERED",
        )
    found = _read(answer.body)
    if _canonical(found.url) != _canonical(url):
        raise Misconfigured(
            f"the service at {url} says that it is {found.url or 'no resource'}; log in there: jit login {found.url}",
            reason="RESOURCE_MISMATCH",
        )
    return found


def demand_url(url: str) -> str:
    """Returns the URL of a service. Raises Misconfigured for one that is malformed, or over which tokens leak."""
    from jitaccess.jose.fetching import is_safe_url

    if "?" in url or "#" in url or not is_safe_url(url):
        raise Misconfigured(
            f"{url!r} is no URL to log in at: it must be https://HOST, or http://HOST:PORT on loopback",
            reason="URL_INVALID",
        )
    return url


def host_and_port(url: str) -> str:
    """Returns HOST:PORT of the URL."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or _PORTS[parts.scheme]}"


def _read(body: Mapping[str, Any]) -> Resource:
    servers = body.get("authorization_servers")
    issuers = [issuer for issuer in servers if isinstance(issuer, str)] if isinstance(servers, list) else []
    return Resource(
        url=_text(body, "resource"),
        issuer=issuers[0] if issuers else "",
        client_id=_text(body, "jit_cli_client_id"),
        scopes=_scopes(body),
        audience=_text(body, "jit_audience"),
        grpc_address=_text(body, "jit_grpc_address"),
    )


def _scopes(body: Mapping[str, Any]) -> str:
    given = body.get("jit_scopes")
    if isinstance(given, list):
        return " ".join(scope for scope in given if isinstance(scope, str))
    return _text(body, "jit_scopes")


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str) or not (value.isascii() and value.isprintable()):
        raise Misconfigured(f"the service's metadata: {name} must be a text of ASCII", reason="LOGIN_NOT_OFFERED")
    return value


def _canonical(url: str) -> tuple[str, str, str]:
    """Returns what two spellings of one URL have in common (RFC 3986, 6.2.3)."""
    parts = urlsplit(url)
    return (parts.scheme, host_and_port(url) if parts.scheme in _PORTS else "", parts.path.rstrip("/"))
