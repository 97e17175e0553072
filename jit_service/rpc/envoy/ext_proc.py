"""The servicer of Envoy's external processing: it ends a request when its grant is over.

Envoy opens one call for each admitted request, and resets the request when the call ends with an error
(docs/adr/0031-cut-streams-on-revocation.md). ext_authz has described the request in Envoy's dynamic metadata, which no
client can set.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import grpc
from google.protobuf.struct_pb2 import Struct

from jit_service.domain.checks.decision import Question
from jit_service.domain.checks.http_request import Stream
from jit_service.domain.errors import JitError, RouteMisconfigured
from jit_service.proxy.open_requests import OpenRequests
from jit_service.rpc import errors
from jit_service.rpc.envoy.generated import external_processor_pb2 as wire
from jit_service.rpc.envoy.generated.external_processor_pb2_grpc import (
    ExternalProcessorServicer as ExternalProcessorServicerBase,
)

# Envoy keeps the dynamic metadata of an ext_authz server under the name of that filter.
_NAMESPACE: Final = "envoy.filters.http.ext_authz"
_KEY: Final = "jit_passage"


class ExternalProcessorServicer(ExternalProcessorServicerBase):
    """External processing, used only to end requests."""

    def __init__(self, running: OpenRequests) -> None:
        self._running = running

    def Process(  # type: ignore[override]
        self, request: wire.ProcessingRequest, context: grpc.ServicerContext, send: Callable[[object], None]
    ) -> None:
        """Returns at once; the call stays open until Envoy ends it, or the grant is over.

        The interceptor has read the first message; no other is needed (rpc/interceptor.py).
        """
        run = self._running.add(_stream_of(request), lambda fault: _end_call(context, send, fault))
        if not context.add_callback(lambda: self._running.forget(run)):
            self._running.forget(run)


def stream_metadata(stream: Stream) -> Struct:
    """Returns the dynamic metadata by which `Process` later knows the stream."""
    question = stream.asked
    fields = {
        "subject": question.subject,
        "action": question.action,
        "resource": question.resource,
        "groups": None if question.groups is None else sorted(question.groups),
        "groups_left_out": question.groups_left_out,
        "principal": question.principal,
        "context": question.context,
        "source_address": question.source_address,
        "grant": stream.grant,
        "ends_at": stream.ends_at.isoformat(),
        "ends_by": stream.ends_by,
        "revision": stream.revision,
        "token_id": stream.token_id,
    }
    struct = Struct()
    struct.fields[_KEY].string_value = json.dumps(fields, separators=(",", ":"))
    return struct


def _stream_of(request: wire.ProcessingRequest) -> Stream:
    if not request.observability_mode:
        raise RouteMisconfigured("ext_proc waits for answers, and none is sent; set observability_mode: true")
    if request.protocol_config.request_body_mode or request.protocol_config.response_body_mode:
        raise RouteMisconfigured(
            "ext_proc sends bodies, which nobody reads; set request_body_mode and response_body_mode: NONE"
        )
    text = request.metadata_context.filter_metadata[_NAMESPACE].fields[_KEY].string_value
    try:
        return _stream_from_json(json.loads(text))
    except (ValueError, KeyError, TypeError):
        raise RouteMisconfigured(
            "ext_proc sends no metadata of an admitted request; put it behind ext_authz, with the forwarding namespace "
            f"{_NAMESPACE}"
        ) from None


def _stream_from_json(fields: dict[str, Any]) -> Stream:
    """Returns the stream that `stream_metadata` described. Raises ValueError, KeyError, TypeError."""
    groups = fields["groups"]
    question = Question(
        subject=_text(fields["subject"]),
        action=_text(fields["action"]),
        resource=_text(fields["resource"]),
        groups=None if groups is None else frozenset(map(_text, groups)),
        principal=_text(fields["principal"]),
        context=dict(fields["context"]),
        source_address=_text(fields["source_address"]),
        groups_left_out=fields["groups_left_out"] is True,
    )
    ends_at = datetime.fromisoformat(fields["ends_at"]).astimezone(UTC)
    return Stream(
        asked=question,
        grant=_text(fields["grant"]),
        ends_at=ends_at,
        # Absent where a worker of an older version admitted it.
        ends_by=_text(fields.get("ends_by", Stream.ends_by)),
        revision=int(fields["revision"]),
        token_id=_text(fields["token_id"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} is no text")
    return value


def _end_call(context: grpc.ServicerContext, send: Callable[[object], None], fault: JitError) -> None:
    """Ends the call with the error; any thread may do it. Without an error Envoy would let the request go on."""
    context.set_code(errors.status_code(fault))
    context.set_details(errors.status(fault).message)
    send(None)
