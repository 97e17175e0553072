"""Whose word counts for the caller's address, for every way to reach the service and each transport."""

from __future__ import annotations

import stat
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from jit_service.settings import Address
from tests.faults.conftest import Rig, Serve
from tests.world import ACCESS

TOLD = "203.0.113.9"


def source(rig: Rig, target: str) -> str:
    """Calls on the target with an address that Envoy would tell. Returns what is on record."""
    rig.channel = rig.connect(target)
    story = rig.story()
    story.call(story.alice, ACCESS + "CheckAccess", story.question(), x_envoy_external_address=TOLD)
    (event,) = story.audit(f'principal = "{story.alice.principal}"')
    return str(event.source_address)


@pytest.mark.parametrize(
    ("listen", "target", "recorded"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("::1", "[::1]", "::1"),
        ("::", "[::1]", "::1"),
        ("::", "127.0.0.1", "127.0.0.1"),
    ],
)
def test_over_tcp_the_address_is_that_of_the_connection(serve: Serve, listen: str, target: str, recorded: str) -> None:
    rig = serve(listen=Address(listen, 0))

    assert source(rig, f"{target}:{rig.grpc.port}") == recorded


@pytest.mark.parametrize(
    ("listen", "target", "trusted"),
    [("127.0.0.1", "127.0.0.1", "127.0.0.1"), ("::1", "[::1]", "::1"), ("::", "127.0.0.1", "127.0.0.0/8")],
)
def test_a_proxy_that_is_trusted_by_its_address_tells_its_clients(
    serve: Serve, listen: str, target: str, trusted: str
) -> None:
    rig = serve(listen=Address(listen, 0), trusted_proxies=(trusted,))

    assert source(rig, f"{target}:{rig.grpc.port}") == TOLD


@pytest.mark.parametrize(("trusted", "recorded"), [(("unix",), TOLD), ((), "")])
def test_envoy_on_the_unix_socket_tells_its_clients_where_it_is_trusted(
    serve: Serve, tmp_path: Path, trusted: tuple[str, ...], recorded: str
) -> None:
    path = tmp_path / "s"
    rig = serve(unix=path, trusted_proxies=trusted)

    assert source(rig, f"unix:{path}") == recorded


def test_the_unix_socket_is_for_this_user_alone(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "s"
    serve(unix=path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_taken_port_is_refused(serve: Serve) -> None:
    rig = serve()

    with pytest.raises(Exception, match=f"cannot listen on {rig.grpc}"):
        serve(listen=rig.grpc)


def test_reflection_and_unknown_methods_are_answered(serve: Serve) -> None:
    rig = serve()
    stub = reflection_pb2_grpc.ServerReflectionStub(rig.channel)

    (answer,) = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=10)

    assert "jitaccess.v1.AccessService" in {service.name for service in answer.list_services_response.service}
    with pytest.raises(grpc.RpcError) as refused:
        rig.channel.unary_unary("/jitaccess.v1.AccessService/Nothing")(b"", timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_without_reflection_there_is_none(serve: Serve) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(serve(reflection=False).channel)

    with pytest.raises(grpc.RpcError) as refused:
        list(stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=10))

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
