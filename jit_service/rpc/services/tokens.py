"""The servicer of TokenService: decode, call, encode. OAuth's forms and JSON documents are raw HTTP bodies."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import grpc
from google.api.httpbody_pb2 import HttpBody

from jit_service.domain.errors import InvalidField
from jit_service.domain.language import name
from jit_service.domain.tokens.token import TokenRequest
from jit_service.rpc.http_caching import answer_unless_cached
from jit_service.rpc.interceptor import current_caller
from jit_service.rpc.mapping import Decoder, Encoder
from jit_service.rpc.media_types import FORM, JSON, is_utf8
from jit_service.rpc.protected_resource import ProtectedResource
from jit_service.storage import Store
from jit_service.use_cases import signing_keys, tokens
from jit_service.use_cases.signing_keys import MAX_CACHED, Issuing, demand_issuing
from jit_service.use_cases.tokens import IssuedToken
from jitaccess.v1 import token_pb2
from jitaccess.v1.token_pb2_grpc import TokenServiceServicer

_MAX_FORM: Final = 32 << 10
_MAX_FIELDS: Final = 16
_KNOWN: Final = ("token", "token_type_hint")
_NOT_IN_A_FORM: Final = re.compile(r"[^\x21-\x7e]")

_ENCODE: Final = Encoder(
    token_pb2.IssueTokenResponse, IssuedToken, {"token": "text", "token_id": "token.id"}, within=("token",)
)
_DECODE: Final = Decoder(token_pb2.IssueTokenRequest, TokenRequest)


class TokenServicer(TokenServiceServicer):
    """Tokens of grants. Without `issuing` there are none."""

    def __init__(self, store: Store, issuing: Issuing | None, resource: ProtectedResource) -> None:
        self._store = store
        self._resource = resource
        self._maybe_issuing = issuing

    @property
    def _issuing(self) -> Issuing:
        return demand_issuing(self._maybe_issuing)

    def IssueToken(
        self, request: token_pb2.IssueTokenRequest, context: grpc.ServicerContext
    ) -> token_pb2.IssueTokenResponse:
        grant = name.grant_name(request.name, "name")
        issued = tokens.issue(self._store, self._issuing, current_caller(), grant, _DECODE(request))
        _forbid_caching(context)
        return _ENCODE(issued)

    def GetKeySet(self, request: token_pb2.GetKeySetRequest, context: grpc.ServicerContext) -> HttpBody:
        keys = signing_keys.key_set(self._store, self._issuing)
        cached = (("cache-control", f"public, max-age={MAX_CACHED.seconds}"),)
        body = HttpBody(content_type=JSON, data=keys.body)
        return answer_unless_cached(context, body, etag=keys.etag, headers=cached)

    def IntrospectToken(self, request: token_pb2.IntrospectTokenRequest, context: grpc.ServicerContext) -> HttpBody:
        answer = tokens.introspect(self._store, self._issuing, current_caller(), _token_in(request.body))
        _forbid_caching(context)
        return _json(answer)

    def RevokeToken(self, request: token_pb2.RevokeTokenRequest, context: grpc.ServicerContext) -> HttpBody:
        tokens.revoke(self._store, self._issuing, current_caller(), _token_in(request.body))
        _forbid_caching(context)
        return _json({})

    def GetAuthorizationServerMetadata(
        self, request: token_pb2.GetAuthorizationServerMetadataRequest, context: grpc.ServicerContext
    ) -> HttpBody:
        return _json(tokens.metadata(self._issuing))

    def GetProtectedResourceMetadata(
        self, request: token_pb2.GetProtectedResourceMetadataRequest, context: grpc.ServicerContext
    ) -> HttpBody:
        return _json(self._resource.metadata())


def _json(value: Mapping[str, Any]) -> HttpBody:
    return HttpBody(content_type=JSON, data=json.dumps(value).encode())


def _forbid_caching(context: grpc.ServicerContext) -> None:
    context.send_initial_metadata((("cache-control", "no-store"),))


def _token_in(body: HttpBody) -> str:
    """Returns the form's `token` (RFC 7662, RFC 7009). Raises InvalidField.

    Unknown names are ignored, as RFC 6749 demands. A known name must not occur twice.
    """
    _check_content_type(body.content_type)
    if body.extensions:
        raise InvalidField("body.extensions", "must be empty")
    if len(body.data) > _MAX_FORM:
        raise InvalidField("body.data", f"has {len(body.data)} bytes; at most {_MAX_FORM} are allowed")
    fields = _fields(body.data)
    for known in _KNOWN:
        if sum(field == known for field, _ in fields) > 1:
            raise InvalidField(f"body.{known}", "stands twice in the form")
    token = dict(fields).get("token", "")
    if not token:
        raise InvalidField("body.token", "is required in the form")
    return token


def _check_content_type(text: str) -> None:
    if not is_utf8(text, FORM):
        raise InvalidField("body.content_type", f"is {name.harmless(text, 100)!a}; it must be {FORM}, in UTF-8")


def _fields(data: bytes) -> list[tuple[str, str]]:
    try:
        text = data.decode("ascii")
        if _NOT_IN_A_FORM.search(text):
            raise ValueError
        return parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise InvalidField("body.data", f"is not a form: NAME=VALUE&…, with at most {_MAX_FIELDS} fields") from None
