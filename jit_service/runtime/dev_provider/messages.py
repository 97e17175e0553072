"""Requests and responses of the provider, and the faults that it answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

_MAX_FIELDS = 40
NO_STORE = ("cache-control", "no-store")


class OAuthFault(Exception):
    """A request is refused by one of OAuth's error codes (RFC 6749, sections 4.1.2.1 and 5.2)."""

    def __init__(self, code: str, description: str, *, status: int = 400) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request. The names of headers are in lower case; `parameters` are of the query, or of a POST's form."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)

    def cookie(self, name: str) -> str:
        """Returns the cookie's value, empty where there is none."""
        for part in self.headers.get("cookie", "").split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                return value
        return ""


@dataclass(frozen=True, kw_only=True)
class Response:
    """One HTTP response."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def with_headers(self, *more: tuple[str, str]) -> Response:
        """Returns the response with more headers."""
        return Response(status=self.status, headers=(*self.headers, *more), body=self.body)


def json_response(value: Mapping[str, Any], *, status: int = 200) -> Response:
    """Returns a JSON document that nobody caches."""
    return Response(
        status=status, headers=(("content-type", "application/json"), NO_STORE), body=json.dumps(value).encode()
    )


def fault_response(fault: OAuthFault) -> Response:
    """Returns the fault as RFC 6749, section 5.2, has it."""
    return json_response({"error": fault.code, "error_description": fault.description}, status=fault.status)


def redirect(uri: str, **parameters: str) -> Response:
    """Returns a redirect to the URI with these parameters in its query; those without a value are left out."""
    query = urlencode({name: value for name, value in parameters.items() if value})
    separator = ("&" if "?" in uri else "?") if query else ""
    return Response(status=303, headers=(("location", f"{uri}{separator}{query}"), NO_STORE))


def parameters_in(text: str) -> dict[str, str]:
    """Returns the parameters of a query or form. Raises OAuthFault: none may stand twice (RFC 6749, section 3.1)."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise OAuthFault("invalid_request", "the parameters are not NAME=VALUE&…, in UTF-8") from None
    found = dict(pairs)
    if len(found) < len(pairs):
        raise OAuthFault("invalid_request", "a parameter stands twice")
    return found
