"""Answers that a caller may have already (RFC 9110, If-None-Match)."""

from __future__ import annotations

import grpc
from google.api.httpbody_pb2 import HttpBody


def answer_unless_cached(
    context: grpc.ServicerContext, body: HttpBody, *, etag: str, headers: tuple[tuple[str, str], ...]
) -> HttpBody:
    """Returns the body with its headers, or an empty one that Envoy makes 304 of. `etag` is quoted."""
    named = (*headers, ("etag", etag))
    if not _has_cached(context, etag):
        context.send_initial_metadata(named)
        return body
    context.send_initial_metadata((*named, ("x-jit-not-modified", "1")))
    return HttpBody(content_type=body.content_type)


def _has_cached(context: grpc.ServicerContext, etag: str) -> bool:
    told = [str(value) for key, value in context.invocation_metadata() if key == "if-none-match"]
    given = {part.strip().removeprefix("W/") for value in told for part in value.split(",")}
    return etag in given or "*" in given
