"""Conditional answers: a body is not sent again to a caller that has it (RFC 9110, If-None-Match)."""

from __future__ import annotations

import grpc
from google.api.httpbody_pb2 import HttpBody


def answer_unless_cached(
    context: grpc.ServicerContext, body: HttpBody, *, etag: str, headers: tuple[tuple[str, str], ...]
) -> HttpBody:
    """Returns the body with its headers, or an empty body that Envoy answers as 304. `etag` is in quotes."""
    named = (*headers, ("etag", etag))
    if not _has_cached(context, etag):
        context.send_initial_metadata(named)
        return body
    context.send_initial_metadata((*named, ("x-jit-not-modified", "1")))
    return HttpBody(content_type=body.content_type)


def _has_cached(context: grpc.ServicerContext, etag: str) -> bool:
    sent = [str(value) for key, value in context.invocation_metadata() if key == "if-none-match"]
    given = {part.strip().removeprefix("W/") for value in sent for part in value.split(",")}
    return etag in given or "*" in given
