"""The servicer of ConsoleService: it serves the built files of clients/console, which `make proto` puts beside it."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import grpc
from google.api.httpbody_pb2 import HttpBody

from jit_service.domain.errors import AssetNotFound
from jit_service.domain.language.name import harmless
from jit_service.rpc.http_caching import answer_unless_cached
from jit_service.rpc.protected_resource import ProtectedResource
from jitaccess.v1 import console_pb2
from jitaccess.v1.console_pb2_grpc import ConsoleServiceServicer

PAGES: Final = Path(__file__).parents[2] / "pages" / "console"
_PAGE: Final = "console.html"
_KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
# The page runs and shows only what it brought along, and calls only this service and where its user logs in.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src {sources}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
_SECURITY: Final = (
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
_FOR_EVER: Final = ("cache-control", "public, max-age=31536000, immutable")
_ASK_AGAIN: Final = ("cache-control", "no-cache")


class _File(NamedTuple):
    plain: HttpBody
    packed: HttpBody
    digest: str


class ConsoleServicer(ConsoleServiceServicer):
    """The console, whose users log in where the resource says."""

    def __init__(self, resource: ProtectedResource) -> None:
        self._resource = resource

    def GetConsolePage(self, request: console_pb2.GetConsolePageRequest, context: grpc.ServicerContext) -> HttpBody:
        sources = " ".join(["'self'", *sorted({origin(server) for server in self._resource.authorization_servers})])
        policy = ("content-security-policy", _POLICY.format(sources=sources))
        return _answer(context, PAGES / _PAGE, policy, _ASK_AGAIN)

    def GetConsoleAsset(self, request: console_pb2.GetConsoleAssetRequest, context: grpc.ServicerContext) -> HttpBody:
        if request.asset not in _assets():
            raise AssetNotFound(f"there is no file {harmless(request.asset, 100)!a}; reload the page")
        return _answer(context, PAGES / "assets" / request.asset, _FOR_EVER)


def origin(url: str) -> str:
    """Returns the origin of an issuer's URL, as a source of a Content-Security-Policy: `https://login.example.com`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


@cache
def _assets() -> frozenset[str]:
    return frozenset(path.name for path in (PAGES / "assets").iterdir())


def _answer(context: grpc.ServicerContext, path: Path, *headers: tuple[str, str]) -> HttpBody:
    file = _read(path)
    is_packed = _accepts_gzip(context)
    encoding = (("content-encoding", "gzip"),) if is_packed else ()
    return answer_unless_cached(
        context,
        file.packed if is_packed else file.plain,
        # What differs in its bytes has another strong ETag (RFC 9110, section 8.8.3.3).
        etag=f'"{file.digest}-gzip"' if is_packed else f'"{file.digest}"',
        headers=(*headers, *_SECURITY, ("vary", "accept-encoding"), *encoding),
    )


def _accepts_gzip(context: grpc.ServicerContext) -> bool:
    """Says whether the caller named gzip (RFC 9110, section 12.5.3); one that gives it a weight of nothing did not."""
    sent = ",".join(str(value) for key, value in context.invocation_metadata() if key == "accept-encoding")
    offered = {part.replace(" ", "").lower() for part in sent.split(",")}
    return any(part == "gzip" or (part.startswith("gzip;") and part.rstrip("0.") != "gzip;q=") for part in offered)


@cache
def _read(path: Path) -> _File:
    data, kind = path.read_bytes(), _KINDS[path.suffix]
    packed = gzip.compress(data, compresslevel=9, mtime=0)
    return _File(HttpBody(content_type=kind, data=data), HttpBody(content_type=kind, data=packed), _digest(data))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
