"""Draining: health says no at once while calls are answered, and then streams are told to go on elsewhere."""

from __future__ import annotations

import signal
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc

from jit_service.domain.caller import Caller
from jit_service.domain.errors import ServiceStopping
from jit_service.rpc.server import EXT_PROC_SERVICE, SERVICES
from jit_service.rpc.streams import StreamLimits, Streams
from jitaccess.v1 import audit_pb2, audit_pb2_grpc
from tests.faults.conftest import Serve
from tests.faults.test_calls import SOON, eventually
from tests.test_commands import token, up
from tests.world import of_error

LONG = "10m"


def health(channel: grpc.Channel, service: str) -> str:
    asked = health_pb2.HealthCheckRequest(service=service)
    answer = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=10)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def test_health_says_no_for_all_and_calls_are_answered(serve: Serve) -> None:
    rig = serve()
    before = {health(rig.channel, service) for service in ("", *SERVICES)}

    rig.service.drain()

    assert before == {"SERVING"}
    assert {health(rig.channel, service) for service in ("", *SERVICES)} == {"NOT_SERVING"}
    rig.story().create_policy()


def test_envoy_beside_the_service_is_told_to_go_on_asking_it(serve: Serve) -> None:
    rig = serve()

    rig.service.drain()

    assert health(rig.channel, "jitaccess.edge") == "SERVING"


def test_proxies_that_watch_what_passes_are_told_too(serve: Serve, tmp_path: Path) -> None:
    rig = serve(unix=tmp_path / "grpc.sock")
    channel = rig.connect(f"unix:{tmp_path / 'grpc.passing'}")
    before = health(channel, EXT_PROC_SERVICE)

    rig.service.drain()

    assert (before, health(channel, EXT_PROC_SERVICE)) == ("SERVING", "NOT_SERVING")


def test_a_tail_goes_on_and_ends_with_word_when_to_come_again(serve: Serve) -> None:
    rig = serve()
    story = rig.story()
    stub = audit_pb2_grpc.AuditServiceStub(rig.channel)
    metadata = (("authorization", f"Bearer {rig.token(story.auditor)}"),)
    told = stub.TailAuditEvents(audit_pb2.TailAuditEventsRequest(), metadata=metadata, timeout=SOON)
    start = next(told).seq

    rig.service.drain()
    story.create_policy()
    assert next(told).seq == start + 1
    rig.service.stop()

    with pytest.raises(grpc.RpcError) as ended:
        list(told)
    status = Status.FromString(dict(ended.value.trailing_metadata())["grpc-status-details-bin"])
    assert (of_error(ended.value).code, of_error(ended.value).reason) == ("UNAVAILABLE", "SERVICE_STOPPING")
    assert [detail.Is(RetryInfo.DESCRIPTOR) for detail in status.details] == [False, True]


def test_a_stream_that_waits_for_nothing_ends_too() -> None:
    streams = Streams(StreamLimits(1))
    told = streams.carry(None, iter(range(100)), by=Caller(principal="user:alice"))  # type: ignore[arg-type]
    next(told)

    streams.stop()

    with pytest.raises(ServiceStopping, match="go on after what came last"):
        next(told)


def test_up_with_workers_drains_behind_its_envoy_until_it_is_told_not_to_wait(tmp_path: Path) -> None:
    with up(tmp_path, "--workers", "2", "--drain-delay", LONG) as (process, ready):
        children = psutil.Process(process.pid).children()
        headers = {"authorization": f"Bearer {token(tmp_path, 'alice')}"}

        def asked(path: str) -> httpx.Response:
            return httpx.get(f"{ready['http']}{path}", headers=headers, timeout=SOON)

        process.send_signal(signal.SIGTERM)

        assert eventually(lambda: asked("/healthz").status_code == 503)
        for number in (0, 1):
            with grpc.insecure_channel(f"unix:{tmp_path / f'grpc-{number}.sock'}") as channel:
                assert eventually(lambda channel=channel: health(channel, "") == "NOT_SERVING")
        answers = [asked("/v1/grants") for _ in range(10)]
        assert {answer.status_code for answer in answers} == {200}
        # A client that keeps its connection goes elsewhere too.
        assert {answer.headers["connection"] for answer in answers} == {"close"}
        assert process.poll() is None

        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=SOON) == 0
        assert not [child for child in children if child.is_running()]
        assert "health says no" in process.stderr.read()
