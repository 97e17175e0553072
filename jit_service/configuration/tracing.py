"""The settings of traces: a part of `Settings`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from jit_service.configuration.secret_file import ascii_in

BY_ENVIRONMENT: Final = "otel"
"""Stands for the endpoint that OTEL_EXPORTER_OTLP_ENDPOINT names."""
_FORM: Final = f"http://HOST:PORT or https://HOST:PORT, or `{BY_ENVIRONMENT}`"
_ENDPOINT: Final = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]{1,253}/?")
_HEADER: Final = re.compile(r"([a-z0-9_.-]{1,64}): ?([\x21-\x7e](?:[\x20-\x7e]{0,4094}[\x21-\x7e])?)")


class TracingSettings(BaseSettings):
    """Where traces of calls go, and of which calls."""

    traces: str = Field(
        default="",
        description="The collector to which traces of calls are exported, by OTLP over gRPC; none by default. With "
        f"`{BY_ENVIRONMENT}` the endpoint is that of OTEL_EXPORTER_OTLP_ENDPOINT.",
        json_schema_extra={"form": _FORM},
    )
    traces_ratio: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="The share of the calls without a traceparent that begin a trace. Of the others the caller's flag "
        "decides.",
        json_schema_extra={"form": "a number, 0 to 1"},
    )
    traces_headers_file: Path | None = Field(
        default=None,
        description="A file with headers for the collector, such as its token: a line each, `name: value`.",
    )

    @field_validator("traces")
    @classmethod
    def _collector(cls, endpoint: str) -> str:
        if not endpoint or endpoint == BY_ENVIRONMENT:
            return endpoint
        try:
            sound = _ENDPOINT.fullmatch(endpoint) is not None and bool(urlsplit(endpoint).port)
        except ValueError:
            sound = False
        if not sound:
            raise ValueError(f"must be {_FORM}")
        return endpoint


def headers_in(path: Path) -> dict[str, str]:
    """Returns the headers in the file. Raises ValueError, without any part of what it holds."""
    about, headers = "JIT_TRACES_HEADERS_FILE", {}
    lines = [line.strip() for line in ascii_in(path, about).splitlines() if line.strip()]
    for number, line in enumerate(lines, start=1):
        if (found := _HEADER.fullmatch(line)) is None:
            raise ValueError(f"{about}: {path} must have lines `name: value`, in lower case; line {number} is none")
        headers[found[1]] = found[2]
    return headers
