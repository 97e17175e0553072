"""Envoy's configuration names every service of the contract: for REST, and for gRPC through it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2

ENVOY = Path(__file__).parents[2] / "envoy"
CONFIGURATION = yaml.safe_load((ENVOY / "envoy.yaml").read_text())
DESCRIPTORS = descriptor_pb2.FileDescriptorSet.FromString((ENVOY / "jitaccess.binpb").read_bytes())


def found(key: str, within: Any = CONFIGURATION) -> Iterator[Any]:
    """Yields whatever stands under the key, however deep."""
    if isinstance(within, dict):
        for name, value in within.items():
            if name == key:
                yield value
            yield from found(key, value)
    elif isinstance(within, list):
        for value in within:
            yield from found(key, value)


def services() -> dict[str, list[str]]:
    """Returns the methods of each service that REST has too."""
    return {
        f"{file.package}.{service.name}": [method.name for method in service.method]
        for file in DESCRIPTORS.file
        for service in file.service
        if any(method.options.HasExtension(annotations_pb2.http) for method in service.method)
    }


def test_every_service_is_transcoded() -> None:
    (transcoded,) = [names for names in found("services") if names]

    assert sorted(transcoded) == sorted(services())


def test_every_method_has_a_route_for_grpc() -> None:
    routes = [match["regex"] for match in found("safe_regex") if match["regex"].startswith("/")]

    for service, methods in services().items():
        for method in methods:
            assert any(re.fullmatch(route, f"/{service}/{method}") for route in routes), f"{service}/{method}"
