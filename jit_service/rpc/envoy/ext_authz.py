"""The servicer of Envoy's external authorization: decode, admit, encode (docs/adr/0024-protect-apis-behind-envoy.md).

Every answer that is not a clear yes denies, and Envoy does not pass the request on. A fault ends the call with an
error, and then Envoy itself answers 503.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final
from urllib.parse import quote

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.json_format import MessageToJson
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from jit_service.check.checker import Checker
from jit_service.check.recording import CheckResult
from jit_service.domain.caller import Caller
from jit_service.domain.checks.http_request import HttpRequest, Route, parse_route
from jit_service.domain.errors import JitError, Unauthenticated
from jit_service.domain.language.ip_address import canonical
from jit_service.proxy import admission
from jit_service.proxy.admission import Admission
from jit_service.refusal_log import RefusalLog
from jit_service.rpc import errors
from jit_service.rpc.admission import with_identity
from jit_service.rpc.authentication import Authenticator, bearer
from jit_service.rpc.envoy.ext_proc import stream_metadata
from jit_service.rpc.envoy.generated import external_auth_pb2 as wire
from jit_service.rpc.envoy.generated.external_auth_pb2_grpc import AuthorizationServicer as AuthorizationServicerBase
from jit_service.rpc.interceptor import current_caller
from jit_service.rpc.media_types import JSON
from jit_service.rpc.origins import trace_id, user_agent
from jit_service.rpc.quota import Quota
from jit_service.rpc.services.access_messages import check_message
from jit_service.storage import Store
from jit_service.use_cases.signing_keys import Issuing
from jitaccess.jose import jws
from jitaccess.jose.jws import BadToken
from jitaccess.jose.tokens import GrantToken, is_of_grant
from jitaccess.naming import rfc3339

GRANT: Final = "x-jit-grant"
SUBJECT: Final = "x-jit-subject"
EXPIRES: Final = "x-jit-expires"
# Envoy's router ends any stream to the upstream after so many milliseconds.
STREAM_DURATION: Final = "x-envoy-upstream-stream-duration-ms"
_SET_HERE: Final = (GRANT, SUBJECT, EXPIRES, STREAM_DURATION)
# With these headers an upstream, or Envoy's router, would take the request for another one than was checked. So would
# every header with one of the prefixes below, except those that Envoy itself sets.
_BELIEVED: Final = frozenset(
    {
        "forwarded",
        *(f"x-{what}{over}" for what in ("host", "http-host", "method", "http-method") for over in ("", "-override")),
        *(
            f"{x}{what}"
            for x in ("", "x-")
            for what in ("proxy-url", "proxy-host", "request-uri", "base-url", "http-url")
        ),
        *("x-override-url", "x-real-url", "x-real-host", "x-http-destinationurl"),
        STREAM_DURATION,
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-upstream-rq-per-try-timeout-ms",
        "x-envoy-max-retries",
        "x-envoy-retry-on",
        "x-envoy-retry-grpc-on",
        "x-envoy-hedge-on-per-try-timeout",
    }
)
_BELIEVED_PREFIXES: Final = ("x-jit-", "x-forwarded-", "x-original-", "x-rewrite-", "x-envoy-original-")
_KEPT: Final = frozenset({*_SET_HERE, "x-forwarded-for", "x-forwarded-proto", "x-forwarded-client-cert"})
# A CGI-like upstream reads every other character in a header's name as an underscore.
_SEPARATOR: Final = re.compile("[^0-9a-z]")
_HTTP: Final = {
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
}
_CANNOT_BE_SURE: Final = 503
_refusals = RefusalLog(logging.getLogger(__name__))


class AuthorizationServicer(AuthorizationServicerBase):
    """External authorization. A trusted proxy calls it; the token in the request proves whose request it is."""

    def __init__(
        self, store: Store, checker: Checker, authenticator: Authenticator, issuing: Issuing | None, quota: Quota
    ) -> None:
        self._store = store
        self._checker = checker
        self._authenticator = authenticator
        self._issuing = issuing
        self._quota = quota

    def Check(self, request: wire.CheckRequest, context: grpc.ServicerContext) -> wire.CheckResponse:
        attributes = request.attributes
        try:
            configured = parse_route(attributes.context_extensions)
            http_request = _http_request(attributes)
            caller, grant_token = self._authenticate(attributes, http_request, configured)
            self._quota.demand(caller, writes=False)
            answer = admission.admit(self._checker, caller, http_request, configured, grant_token)
        except JitError as refusal:
            return _refusal_response(refusal)
        return _response(answer, configured, attributes.request.http.headers)

    def _authenticate(
        self, attributes: wire.AttributeContext, http_request: HttpRequest, configured: Route
    ) -> tuple[Caller, GrantToken | None]:
        """Returns the caller that the request's token proves, and the token if it is a grant's."""
        headers = attributes.request.http.headers
        caller = _unauthenticated(attributes)
        authorization = [headers["authorization"]] if "authorization" in headers else []
        token = bearer(authorization)
        if self._issuing is not None and _is_of_grant(token):
            audience = http_request.audience(configured)
            return admission.grant_token_caller(self._store, self._issuing, caller, token, audience=audience)
        return with_identity(caller, self._authenticator.identify(authorization)), None


def _http_request(attributes: wire.AttributeContext) -> HttpRequest:
    http = attributes.request.http
    return HttpRequest(method=http.method, host=http.host, path=http.path)


def _unauthenticated(attributes: wire.AttributeContext) -> Caller:
    """Returns a caller without a principal, with the origin that the proxy sends."""
    headers = attributes.request.http.headers
    origin = replace(
        current_caller().origin,
        source_address=canonical(attributes.source.address.socket_address.address),
        user_agent=user_agent(headers.get("user-agent", "")),
        trace_id=trace_id(headers.get("traceparent", "")),
    )
    return Caller(principal="", origin=origin)


def _is_of_grant(token: str) -> bool:
    """Returns whether to verify it as the token of a grant. Nothing in it is trusted yet."""
    try:
        return is_of_grant(jws.decoded(token)[1])
    except BadToken:
        return False


def _response(answer: Admission, configured: Route, sent: Mapping[str, str]) -> wire.CheckResponse:
    checked = answer.checked
    grant = checked.decision.grant
    if not checked.decision.allowed or grant is None or answer.ends_at is None or answer.stream is None:
        return _denied_response(403, _denial_status(checked))
    headers = {
        GRANT: grant.name,
        # Headers are ASCII, and names need not be.
        SUBJECT: quote(checked.question.subject, safe=":@/+=,$!&'();~"),
        EXPIRES: rfc3339.to_seconds(answer.ends_at),
        # To Envoy, zero means no end.
        STREAM_DURATION: str(max(1, answer.lasts // timedelta(milliseconds=1))),
    }
    removed = sorted(_spoofed(sent) | (set() if configured.forward_authorization else {"authorization"}))
    ok = wire.OkHttpResponse(headers=_header_options(headers.items()), headers_to_remove=removed)
    return wire.CheckResponse(status=Status(), ok_response=ok, dynamic_metadata=stream_metadata(answer.stream))


def _spoofed(sent: Iterable[str]) -> set[str]:
    """Returns the client's headers that the upstream, or the router, would trust."""
    return {header for header in map(str.lower, sent) if header not in _KEPT and _is_believed(header)}


def _is_believed(header: str) -> bool:
    word = _SEPARATOR.sub("-", header)
    return word in _BELIEVED or word.startswith(_BELIEVED_PREFIXES)


def _denial_status(checked: CheckResult) -> Status:
    """Returns the denial as google.rpc.Status, with the reason, the requestable policies and the whole answer."""
    question, decision = checked.question, checked.decision
    metadata = {"subject": question.subject, "action": question.action, "resource": question.resource}
    message = decision.message
    if checked.requestable:
        metadata["requestable_policies"] = ",".join(checked.requestable)
        message += f"; it can be asked for under {', '.join(checked.requestable)}"
    info, answer = Any(), Any()
    info.Pack(ErrorInfo(reason=decision.reason, domain=errors.DOMAIN, metadata=metadata))
    answer.Pack(check_message(checked, explain=False))
    return Status(code=grpc.StatusCode.PERMISSION_DENIED.value[0], message=message, details=[info, answer])


def _refusal_response(refusal: JitError) -> wire.CheckResponse:
    http = _HTTP.get(errors.status_code(refusal), _CANNOT_BE_SURE)
    if http == _CANNOT_BE_SURE:
        _refusals.warning("a request is not admitted", refusal)
    more = {"www-authenticate": 'Bearer realm="jitaccess"'} if isinstance(refusal, Unauthenticated) else {}
    return _denied_response(http, errors.status(refusal), more)


def _denied_response(http: int, status: Status, more: Mapping[str, str] | None = None) -> wire.CheckResponse:
    """Returns a denial. Its status must not be OK, since Envoy passes on every request with an OK status."""
    headers = {"content-type": JSON, "cache-control": "no-store"} | dict(more or {})
    denied = wire.DeniedHttpResponse(
        status=wire.HttpStatus(code=http), headers=_header_options(headers.items()), body=_json(status)
    )
    return wire.CheckResponse(status=Status(code=status.code, message=status.message), denied_response=denied)


def _json(status: Status) -> str:
    return MessageToJson(status, indent=None, always_print_fields_with_no_presence=True)


def _header_options(headers: Iterable[tuple[str, str]]) -> list[wire.HeaderValueOption]:
    overwrite = wire.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    return [
        wire.HeaderValueOption(header=wire.HeaderValue(key=key, value=value), append_action=overwrite)
        for key, value in headers
    ]
