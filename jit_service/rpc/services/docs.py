"""The servicer of DocsService: it serves files of this package and of the bundled Swagger UI unchanged."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

import grpc
from google.api.httpbody_pb2 import HttpBody

from jit_service.domain.errors import AssetNotFound
from jit_service.domain.language.name import harmless
from jit_service.rpc.http_caching import answer_unless_cached
from jit_service.rpc.media_types import JSON
from jitaccess.v1 import docs_pb2
from jitaccess.v1.docs_pb2_grpc import DocsServiceServicer

_OURS: Final = Path(__file__).parents[2] / "pages"
_CONTRACT: Final = ("openapi.json", JSON)
_PAGE: Final = ("docs.html", "text/html; charset=utf-8")
_ASSETS: Final = {
    "docs.js": "text/javascript; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "LICENSE": "text/plain; charset=utf-8",
}
_SECURITY: Final = (
    # The page runs only its own scripts, and calls only this service.
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
)


class _File(NamedTuple):
    body: HttpBody
    etag: str


class DocsServicer(DocsServiceServicer):
    """The contract, for programs and for people."""

    def GetOpenApi(self, request: docs_pb2.GetOpenApiRequest, context: grpc.ServicerContext) -> HttpBody:
        return _answer(context, *_CONTRACT)

    def GetDocsPage(self, request: docs_pb2.GetDocsPageRequest, context: grpc.ServicerContext) -> HttpBody:
        return _answer(context, *_PAGE)

    def GetDocsAsset(self, request: docs_pb2.GetDocsAssetRequest, context: grpc.ServicerContext) -> HttpBody:
        if request.asset not in _ASSETS:
            known = ", ".join(_ASSETS)
            raise AssetNotFound(f"there is no file {harmless(request.asset, 100)!a}; there are {known}")
        return _answer(context, request.asset, _ASSETS[request.asset])


def _answer(context: grpc.ServicerContext, name: str, kind: str) -> HttpBody:
    body, etag = _read(name, kind)
    return answer_unless_cached(context, body, etag=etag, headers=(("cache-control", "no-cache"), *_SECURITY))


@cache
def _read(name: str, kind: str) -> _File:
    own = _OURS / name
    data = (own if own.exists() else _swagger_ui() / name).read_bytes()
    return _File(HttpBody(content_type=kind, data=data), f'"{hashlib.sha256(data).hexdigest()[:32]}"')


def _swagger_ui() -> Path:
    """Returns the folder with the files of the distribution swagger-ui-py, without running its code."""
    spec = find_spec("swagger_ui")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the distribution swagger-ui-py is not installed")
    return Path(spec.origin).parent / "static"
