"""Clients that flood, give up, die or send too much: what others are promised holds on each transport (I26)."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from jit_service.domain.errors import GrantNotFound
from jit_service.use_cases import grants
from jitaccess.v1 import grant_pb2
from tests.faults.conftest import Rig, Serve
from tests.world import ACCESS, GRANTS, Story

SOON = 10
"""Seconds within which what must happen has happened, on a machine that is busy."""


class Gate:
    """A use case that does not end before the test lets it."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.calls = 0

    def __call__(self, *_: object) -> Any:
        self.calls += 1
        self.entered.release()
        assert self.open.wait(SOON * 2)
        raise GrantNotFound("there is no such grant")


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setattr(grants, "get", gate)
    yield gate
    gate.open.set()


def begin(rig: Rig, story: Story, *, timeout: float = SOON * 3, channel: grpc.Channel | None = None) -> Any:
    """Begins a call that waits at the gate. Returns its future."""
    stub = (channel or rig.channel).unary_unary(
        GRANTS + "GetGrant",
        request_serializer=grant_pb2.GetGrantRequest.SerializeToString,
        response_deserializer=grant_pb2.Grant.FromString,
    )
    metadata = [("authorization", f"Bearer {rig.token(story.alice)}")]
    return stub.future(grant_pb2.GetGrantRequest(name="grants/a"), metadata=metadata, timeout=timeout)


def code_of(call: Any) -> str:
    """Waits for the end of the call. Returns its status."""
    call.exception(timeout=SOON * 3)
    return str(call.code().name)


def eventually(fact: Callable[[], bool], *, seconds: float = SOON) -> bool:
    """Waits until it is so; False when it is not for too long."""
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_flood_is_refused_at_once_and_leaves_nothing_behind(serve: Serve, gate: Gate) -> None:
    rig = serve(rpc_threads=1, watch_streams=1)
    story = rig.story()

    calls = [begin(rig, story) for _ in range(100)]

    assert eventually(lambda: sum(call.done() for call in calls) >= 100 - 34)
    assert {code_of(call) for call in calls if call.done()} == {"RESOURCE_EXHAUSTED"}
    gate.open.set()
    assert {code_of(call) for call in calls} == {"RESOURCE_EXHAUSTED", "NOT_FOUND"}
    assert gate.calls <= 34
    assert story.call(story.alice, GRANTS + "ListGrants", {}).code == "OK"


def test_a_flood_is_told_why_and_does_not_make_the_service_look_ill(serve: Serve, gate: Gate) -> None:
    rig = serve(rpc_threads=1)
    calls = [begin(rig, rig.story()) for _ in range(60)]
    assert eventually(lambda: any(call.done() for call in calls))

    answer = health_pb2_grpc.HealthStub(rig.channel).Check(health_pb2.HealthCheckRequest(), timeout=SOON)

    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    refused = next(call for call in calls if call.done())
    status = status_pb2.Status.FromString(dict(refused.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == "TOO_MANY_CALLS"


def test_calls_that_send_no_message_hold_no_thread(serve: Serve) -> None:
    """They need no token: sixteen of them stopped a service on grpcio, for as long as they liked."""
    rig = serve(rpc_threads=1)
    story = rig.story()
    spoken = threading.Event()

    def nothing() -> Iterator[bytes]:
        spoken.wait()
        yield from ()

    begun = [rig.channel.stream_unary(GRANTS + "GetGrant").future(nothing()) for _ in range(20)]
    begun += [rig.channel.stream_unary(GRANTS + "WatchGrants").future(nothing()) for _ in range(90)]

    assert story.call(story.alice, GRANTS + "ListGrants", {}).code == "OK"
    assert not any(call.done() for call in begun)
    spoken.set()


def test_a_deadline_ends_the_wait_and_the_thread_is_used_again(serve: Serve, gate: Gate) -> None:
    rig = serve(rpc_threads=1)
    story = rig.story()

    begun = time.monotonic()
    assert code_of(begin(rig, story, timeout=0.3)) == "DEADLINE_EXCEEDED"

    assert time.monotonic() - begun < SOON
    gate.open.set()
    assert story.call(story.alice, GRANTS + "ListGrants", {}).code == "OK"


def test_a_call_that_was_cancelled_in_the_queue_is_not_made(serve: Serve, gate: Gate) -> None:
    rig = serve(rpc_threads=1)
    story = rig.story()
    first = begin(rig, story)
    assert gate.entered.acquire(timeout=SOON)
    waiting = [begin(rig, story) for _ in range(20)]
    time.sleep(0.3)
    for call in waiting:
        call.cancel()
    time.sleep(0.3)

    gate.open.set()

    assert code_of(first) == "NOT_FOUND"
    assert story.call(story.alice, GRANTS + "ListGrants", {}).code == "OK"
    assert gate.calls == 1


def test_calls_that_are_cancelled_at_once_do_not_fail_those_of_others(serve: Serve) -> None:
    rig = serve(rpc_threads=2)
    story = rig.story()
    other = rig.connect(str(rig.grpc))
    stopping = threading.Event()

    def cancel_without_end() -> int:
        count = 0
        while not stopping.is_set():
            begin(rig, story, channel=other).cancel()
            count += 1
        return count

    with ThreadPoolExecutor(1) as pool:
        cancelled = pool.submit(cancel_without_end)
        codes = [story.call(story.alice, GRANTS + "ListGrants", {}).code for _ in range(50)]
        stopping.set()

    assert codes == ["OK"] * 50
    assert cancelled.result() > 10


@pytest.mark.parametrize("size", [(1 << 20) + 1, 8 << 20])
def test_a_message_that_is_too_large_ends_its_call_alone(serve: Serve, size: int) -> None:
    rig = serve()
    story = rig.story()

    large = grant_pb2.ListGrantsRequest(filter="x" * size)
    refused = story.call(story.alice, GRANTS + "ListGrants", large)

    assert refused.code == "RESOURCE_EXHAUSTED"
    assert story.call(story.alice, GRANTS + "ListGrants", {}).code == "OK"


def test_metadata_that_is_too_large_ends_its_call_alone(serve: Serve) -> None:
    rig = serve()
    story = rig.story()

    refused = story.call(story.alice, GRANTS + "ListGrants", {}, x_large="x" * (100 << 10))

    # The native transport answers HTTP 431, which gRPC's clients call UNKNOWN.
    assert refused.code in ("RESOURCE_EXHAUSTED", "UNKNOWN")
    assert story.call(story.alice, GRANTS + "ListGrants", {}).code == "OK"


def test_a_second_authorization_is_refused(serve: Serve) -> None:
    rig = serve()
    story = rig.story()

    outcome = story.call(story.alice, GRANTS + "ListGrants", {}, authorization=f"Bearer {rig.token(story.bob)}")

    assert outcome.code == "UNAUTHENTICATED"


CLIENT = """
import sys, grpc
channel = grpc.insecure_channel(sys.argv[1])
watch = channel.unary_stream("/jitaccess.v1.GrantService/WatchGrants")
stream = watch(b"", metadata=[("authorization", "Bearer " + sys.stdin.readline().strip())])
next(stream)
print("watching", flush=True)
list(stream)
"""


def test_a_watcher_that_is_killed_leaves_its_place(serve: Serve) -> None:
    rig = serve(watch_streams=1)
    story = rig.story()
    command = [sys.executable, "-c", CLIENT, str(rig.grpc)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(rig.token(story.alice) + "\n")
        client.stdin.flush()
        assert client.stdout.readline() == "watching\n"
        assert watch_code(rig, story) == "RESOURCE_EXHAUSTED"

        client.kill()

    assert eventually(lambda: watch_code(rig, story) == "OK")


def watch_code(rig: Rig, story: Story) -> str:
    """Opens a watch and leaves it. Returns how that went."""
    watch = rig.channel.unary_stream(
        GRANTS + "WatchGrants", response_deserializer=grant_pb2.WatchGrantsResponse.FromString
    )
    stream = watch(b"", metadata=[("authorization", f"Bearer {rig.token(story.alice)}")], timeout=SOON)
    try:
        next(stream)
    except grpc.RpcError as refused:
        return str(refused.code().name)  # type: ignore[attr-defined]
    stream.cancel()
    return "OK"


def test_watchers_take_no_thread_from_calls(serve: Serve) -> None:
    rig = serve(rpc_threads=1, watch_streams=8, watch_streams_reserved=0)
    story = rig.story()
    watch = rig.channel.unary_stream(
        GRANTS + "WatchGrants", response_deserializer=grant_pb2.WatchGrantsResponse.FromString
    )
    streams = [watch(b"", metadata=[("authorization", f"Bearer {rig.token(story.alice)}")]) for _ in range(8)]
    for stream in streams:
        next(stream)

    outcome = story.call(story.gateway, ACCESS + "CheckAccess", story.question())

    assert outcome.code == "OK"
    for stream in streams:
        stream.cancel()


def test_open_reflection_takes_no_thread_from_calls(serve: Serve) -> None:
    """It needs no token, so anybody could take all threads."""
    rig = serve(rpc_threads=2)
    closed = threading.Event()

    def ask_nothing() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        closed.wait(SOON * 2)
        yield from ()

    stub = reflection_pb2_grpc.ServerReflectionStub(rig.channel)
    streams = [stub.ServerReflectionInfo(ask_nothing()) for _ in range(5)]
    time.sleep(0.3)

    story = rig.story()
    outcome = story.call(story.gateway, ACCESS + "CheckAccess", story.question())

    closed.set()
    for stream in streams:
        stream.cancel()
    assert outcome.code == "OK"


def test_a_call_under_way_is_answered_when_the_service_stops_and_a_new_one_is_not_begun(
    serve: Serve, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As long as the test itself waits, however slow the machine is.
    monkeypatch.setattr("jit_service.runtime.service.STOP_SECONDS", SOON)
    rig = serve()
    story = rig.story()
    under_way = begin(rig, story)
    assert gate.entered.acquire(timeout=SOON)

    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(rig.service.stop)
        assert eventually(lambda: story.call(story.alice, GRANTS + "ListGrants", {}).code == "UNAVAILABLE")
        gate.open.set()

        assert code_of(under_way) == "NOT_FOUND"
        stopped.result(timeout=SOON)


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\xff"])
def test_bytes_that_are_no_health_check_are_never_an_unknown_fault(serve: Serve, data: bytes) -> None:
    check = serve().channel.unary_unary("/grpc.health.v1.Health/Check")

    with pytest.raises(grpc.RpcError) as refused:
        check(data, timeout=SOON)

    assert refused.value.code() is not grpc.StatusCode.UNKNOWN


def test_health_is_asked_not_watched(serve: Serve) -> None:
    """A stream that anybody may hold, without a token, would be a thread that anybody may take."""
    stub = health_pb2_grpc.HealthStub(serve().channel)

    with pytest.raises(grpc.RpcError) as refused:
        next(stub.Watch(health_pb2.HealthCheckRequest(), timeout=SOON))

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
