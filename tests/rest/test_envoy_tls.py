"""A real Envoy with TLS at its listener, and mTLS to the service, by what `jit-service envoy-config` writes."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from jit_service.commands.envoy import envoy_config
from jit_service.runtime.envoy import EdgeError, Envoy
from tests.certificates import Authority
from tests.conftest import Clock
from tests.secured import Secure, started

ENVOY = "spiffe://example.org/envoy"


@pytest.fixture
def secure(sqlite_url: str, tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Secure]]:
    """Starts the service. Envoy's certificate is on the list, which nobody should do, so that a mistake would show."""
    principals = [{"uri": ENVOY, "principal": "service:envoy", "roles": ["admin"]}]
    with ExitStack() as stack:
        yield partial(started, stack, tmp_path, sqlite_url, clock, principals=principals)


def written(running: Secure, directory: Path, *, authority: Path | None = None, name: str = "localhost") -> Path:
    """Writes the configuration as the command does, and returns its path."""
    edge = running.authority.sign("edge", dns=["localhost"])
    own = running.clients.sign("envoy", uris=[ENVOY])
    envoy_config(
        directory,
        tls_cert=edge.chain,
        tls_key=edge.key,
        upstream_ca=authority or running.authority.file,
        upstream_name=name,
        upstream_cert=own.chain,
        upstream_key=own.key,
        grpc=str(running.address),
        http="127.0.0.1:0",
    )
    return directory / "envoy.yaml"


def asked(address: Any, authority: Authority, *headers: tuple[str, str]) -> tuple[int, Any]:
    trusting = ssl.create_default_context(cafile=authority.file)
    connection = http.client.HTTPSConnection("localhost", address.port, timeout=10, context=trusting)
    connection.request("GET", "/v1/whoami", headers=dict(headers))
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_calls_go_by_tls_all_the_way_and_envoys_certificate_proves_no_caller(
    secure: Callable[..., Secure], tmp_path: Path
) -> None:
    running = secure()
    envoy = Envoy(written(running, tmp_path / "envoy"), directory=tmp_path, tls=True)
    running.stack.callback(envoy.stop)
    address = envoy.start(timeout=30)

    status, who = asked(address, running.authority, running.token("user:alice"))
    refused, why = asked(address, running.authority)

    assert (status, who["principal"], who["clientCertificate"]) == (200, "user:alice", "")
    assert (refused, why["details"][0]["reason"]) == (401, "TOKEN_MISSING")


@pytest.mark.parametrize(
    ("name", "signed"), [("other.internal", True), ("localhost", False)], ids=["name", "authority"]
)
def test_envoy_talks_to_no_other_service(
    secure: Callable[..., Secure], tmp_path: Path, name: str, signed: bool
) -> None:
    running = secure()
    authority = running.authority.file if signed else Authority(tmp_path, "strangers").file
    envoy = Envoy(written(running, tmp_path / "envoy", authority=authority, name=name), directory=tmp_path, tls=True)
    running.stack.callback(envoy.stop)

    with pytest.raises(EdgeError, match="is not ready"):
        envoy.start(timeout=3)


def test_a_renewed_certificate_is_served_by_the_running_envoy(secure: Callable[..., Secure], tmp_path: Path) -> None:
    running = secure()
    envoy = Envoy(written(running, tmp_path / "envoy"), directory=tmp_path, tls=True)
    running.stack.callback(envoy.stop)
    address = envoy.start(timeout=30)

    renewed = running.authority.sign("edge", dns=["localhost"]).chain.read_text()

    deadline = time.monotonic() + 20
    while ssl.get_server_certificate((address.host, address.port)) != renewed:
        assert time.monotonic() < deadline, "Envoy still has the first certificate"


def test_without_tls_there_is_a_warning_and_a_host_may_have_a_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    envoy_config(tmp_path, grpc="jit.internal:8081", http="127.0.0.1:0")

    config = yaml.safe_load((tmp_path / "envoy.yaml").read_text())

    assert "warning: the way to jit.internal:8081 has no TLS" in capsys.readouterr().err
    assert {cluster["type"] for cluster in config["static_resources"]["clusters"]} == {"STRICT_DNS"}
