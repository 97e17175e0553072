"""Calls of TokenService: tokens of grants, and what verifies them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from urllib.parse import urlencode

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message

from jitaccess.contract.calls.call import Call, one
from jitaccess.contract.calls.fields import duration_message, fill, grant_name, new_request_id, texts
from jitaccess.contract.model import Grant, IssuedToken
from jitaccess.v1 import token_pb2


def issue_token(
    grant: Grant | str,
    *,
    audience: str | Iterable[str] = (),
    ttl: timedelta | None = None,
    request_id: str | None = None,
) -> Call[IssuedToken]:
    """Issues a token of one's own active grant, for the audience or else for the service's own gateway.

    It is valid for `ttl`, whole seconds; without it as long as the grant lasts and the service allows.
    """
    message = fill(
        token_pb2.IssueTokenRequest,
        name=grant_name(grant),
        audience=texts(audience),
        ttl=duration_message(ttl),
        request_id=new_request_id(request_id),
    )
    return one("TokenService/IssueToken", message, token_pb2.IssueTokenResponse, IssuedToken)


def get_key_set() -> Call[Mapping[str, object]]:
    """Returns the JWK set that tokens verify by, as `verify_token` takes it."""
    return _json_call("GetKeySet", token_pb2.GetKeySetRequest())


def get_authorization_server_metadata() -> Call[Mapping[str, object]]:
    """Returns where keys, introspection and revocation are (RFC 8414)."""
    return _json_call("GetAuthorizationServerMetadata", token_pb2.GetAuthorizationServerMetadataRequest())


def get_protected_resource_metadata() -> Call[Mapping[str, object]]:
    """Returns where people log in to call the service, and as which client (RFC 9728)."""
    return _json_call("GetProtectedResourceMetadata", token_pb2.GetProtectedResourceMetadataRequest())


def introspect_token(token: str) -> Call[Mapping[str, object]]:
    """Answers what the service says of a token now (RFC 7662): its claims, or just `{"active": False}`."""
    return _json_call("IntrospectToken", token_pb2.IntrospectTokenRequest(body=_form(token)))


def revoke_token(token: str) -> Call[None]:
    """Revokes a token before its time (RFC 7009); one that is none or over is no error."""
    message = token_pb2.RevokeTokenRequest(body=_form(token))
    return Call(rpc="TokenService/RevokeToken", request=message, answer=HttpBody, read=lambda _: None)


def _form(token: str) -> HttpBody:
    return HttpBody(content_type="application/x-www-form-urlencoded", data=urlencode({"token": token}).encode())


def _json_call(rpc: str, message: Message) -> Call[Mapping[str, object]]:
    return Call(rpc=f"TokenService/{rpc}", request=message, answer=HttpBody, read=_json_object)


def _json_object(body: HttpBody) -> Mapping[str, object]:
    value = json.loads(body.data or b"{}")
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value
