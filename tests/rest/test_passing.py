"""What has passed and still runs: it is cut when the grant is over that it passed by, and nothing else is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from jit_service.rpc.envoy.generated import external_processor_pb2 as wire
from jit_service.runtime.service import passing_socket
from tests.conftest import Clock
from tests.protected import DOWNLOAD, HOST, UPLOAD, WEBSOCKET, Exchange, Fake, Gate, Kind, Protected, running_gate
from tests.world import GRANTS, World, running_world

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
KINDS = {"download": DOWNLOAD, "websocket": WEBSOCKET, "upload": UPLOAD}
# What a deny policy has not.
DENY: dict[str, Any] = {"deny": True} | dict.fromkeys(
    ("steps", "requestTtl", "minDuration", "defaultDuration", "maxDuration")
)
# The promise is about a second from the acknowledgement; the machine may be busy.
SOON = 10
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


class Runs:
    """Opens what lasts, and closes it after the test."""

    def __init__(self, story: Protected) -> None:
        self.story = story
        self._open: list[Exchange] = []

    def __call__(self, path: str, kind: Kind = DOWNLOAD, *, gate: Gate | None = None, token: str = "") -> Exchange:
        story = self.story
        exchange = Exchange(gate or story.gate, path, token or story.world.token(story.alice), kind)
        self._open.append(exchange)
        exchange.wait_until_it_runs()
        return exchange

    def close(self) -> None:
        for exchange in self._open:
            exchange.leave()


@pytest.fixture
def story(world: World, gate: Gate) -> Protected:
    world.settle()
    return Protected(world, gate)


@pytest.fixture
def runs(story: Protected) -> Iterator[Runs]:
    runs = Runs(story)
    yield runs
    runs.close()


def revoke(story: Protected, grant: Any) -> None:
    story.must(story.bob, GRANTS + "RevokeGrant", {"name": grant.name, "comment": "over"})


def release(story: Protected, grant: Any) -> None:
    story.must(story.alice, GRANTS + "ReleaseGrant", {"name": grant.name})


def deny(story: Protected, _: Any) -> None:
    story.create_policy("never", **DENY, resources=[f"http/{HOST}{story.path}"], actions=["http.*"])


def expire(story: Protected, _: Any) -> None:
    story.world.clock.advance(timedelta(seconds=3600))


def lock(story: Protected, _: Any) -> None:
    story.locks(story.alice)


ENDS: dict[str, Callable[[Protected, Any], None]] = {
    "revoked": revoke,
    "released": release,
    "denied by a policy": deny,
    "expired": expire,
    "locked": lock,
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@every_kind
def test_what_runs_is_cut_when_its_grant_is_over(
    story: Protected, runs: Runs, kind: Kind, end: Callable[[Protected, Any], None]
) -> None:
    grant = story.opens(story.path, "http.get", "http.post", duration="3600s")
    running = runs(story.path, kind)
    time.sleep(0.3)
    assert running.runs, "cut before its time"

    end(story, grant)

    running.wait_until_cut(SOON)


def test_what_runs_may_run_until_its_grant_ends(story: Protected, runs: Runs) -> None:
    """Also on a route that has words of its own, and does not say so itself."""
    path = f"/api/v4/projects/{story.id}%2Fweb"
    story.create_policy("projects", resources=[f"http/{HOST}{path}"], actions=["http.*"])
    grants = [story.opens(duration="3000s"), story.opens(path, duration="2000s")]
    runs(story.path)
    runs(path)

    open_ = story.world.service.open_requests._open
    ends = {request.stream.grant: request.stream.ends_at for request in open_}
    assert [ends[grant.name] for grant in grants] == [
        grant.expire_time.ToDatetime(tzinfo=story.world.clock().tzinfo) for grant in grants
    ]


CUTS = {
    "revoked": (revoke, " (REVOKED by user:bob", "was ended before its time"),
    "released": (release, " (RELEASED by user:alice", "was ended before its time"),
    "denied by a policy": (deny, "-never denies", "-never denies"),
    "expired": (expire, "the token that it passed with has expired", "the token that it passed with has expired"),
}


@pytest.mark.parametrize(("end", "logged", "told"), CUTS.values(), ids=CUTS)
def test_a_cut_is_logged_with_its_reason(
    story: Protected,
    runs: Runs,
    caplog: pytest.LogCaptureFixture,
    end: Callable[[Protected, Any], None],
    logged: str,
    told: str,
) -> None:
    """In the service's log, and in the access log of Envoy."""
    caplog.set_level("INFO", "jit_service.proxy.cut_log")
    grant = story.opens(duration="7200s")
    running = runs(story.path)

    end(story, grant)

    running.wait_until_cut(SOON)
    assert told.replace(" ", "_") in story.gate.access(story.path)[-1]["details"]
    (line,) = [text for text in caplog.messages if grant.name in text]
    assert line.startswith(f"cut http.get on http/{HOST}{story.path} of {story.alice.principal}, ")
    assert logged in line


def test_what_runs_by_other_grants_goes_on(story: Protected, runs: Runs) -> None:
    over = story.opens()
    story.opens(f"{story.path}/other")
    story.opens(story.path, "http.post")
    cut, other, upload = runs(story.path), runs(f"{story.path}/other", WEBSOCKET), runs(f"{story.path}", UPLOAD)

    revoke(story, over)

    cut.join(SOON + 2)
    assert cut.ended_at
    assert other.runs
    assert upload.is_alive()


def test_another_grant_for_the_same_does_not_carry_on_what_passed_by_the_first(story: Protected, runs: Runs) -> None:
    """The upstream was told the first; who connects again is told the other."""
    first = story.opens(duration="7200s")
    running = runs(story.path)
    second = story.opens(duration="600s")

    revoke(story, first)

    running.wait_until_cut(SOON)
    story.gate.api.seen.clear()
    assert story.sends().status == 200
    assert dict(story.gate.api.seen[-1][2])["x-jit-grant"] == second.name


def test_what_runs_ends_when_its_condition_stops_being_true(story: Protected, runs: Runs) -> None:
    path = f"/{story.id}-office/a"
    resources = [f"http/{HOST}{path}"]
    condition = f"signals.incident_{story.id} == true"
    story.create_policy("incident", resources=resources, actions=["http.*"], checkCondition=condition)
    story.signals("incident", True)
    story.granted(resources=resources, actions=["http.get"])
    running = runs(path)
    time.sleep(0.3)
    assert running.runs

    story.signals("incident", False)

    running.wait_until_cut(SOON)


def test_the_last_use_of_a_grant_is_not_cut_for_being_the_last(story: Protected, runs: Runs) -> None:
    grant = story.opens(maxUses=1)
    running = runs(story.path)
    time.sleep(0.5)

    assert story.sends().reason == "USES_EXHAUSTED"
    assert running.runs
    revoke(story, grant)
    running.wait_until_cut(SOON)


def test_an_extension_or_a_change_elsewhere_cuts_nothing(story: Protected, runs: Runs) -> None:
    story.opens()
    running = runs(story.path)

    for number in range(3):
        story.opens(f"{story.path}/{number}")
        story.create_policy(f"other{number}", **DENY, resources=[f"http/{HOST}/x"], actions=["**"])
        time.sleep(0.15)

    assert running.runs


def test_a_grants_token_lets_nothing_run_on_either(story: Protected, runs: Runs) -> None:
    grant = story.opens()
    issued = story.must(
        story.alice, "/jitaccess.v1.TokenService/IssueToken", {"name": grant.name, "audience": [f"https://{HOST}"]}
    )
    running = runs(story.path, token=issued.token)
    time.sleep(0.3)
    assert running.runs

    revoke(story, grant)

    running.wait_until_cut(SOON)


def test_a_request_that_is_refused_is_told_so_where_its_answer_has_not_begun(story: Protected, runs: Runs) -> None:
    grant = story.opens(story.path, "http.post")
    running = runs(story.path, UPLOAD)

    revoke(story, grant)

    running.wait_until_cut(SOON)
    head, _, body = running.got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    (detail,) = json.loads(body)["details"]
    assert detail["reason"] == "PASSAGE_OVER"
    assert "was_ended_before_its_time" in detail["metadata"]["details"]


def test_no_header_of_a_client_keeps_its_request_running(story: Protected, runs: Runs) -> None:
    """Which passage it is, ext_authz says in metadata; a client has no word in it."""
    other = story.opens(f"{story.path}/other")
    grant = story.opens()
    spoofed = (
        ("x-jit-grant", other.name),
        ("x-jit-passage", json.dumps({"grant": other.name})),
        ("x-jit-proxy", "ext-authz"),
        ("x-envoy-upstream-stream-duration-ms", "0"),
    )
    running = runs(story.path, (*DOWNLOAD, *spoofed))

    revoke(story, grant)

    running.wait_until_cut(SOON)


def test_what_ends_by_itself_is_watched_no_more(story: Protected, runs: Runs) -> None:
    story.opens()
    runs(story.path, WEBSOCKET).leave()
    for _ in range(5):
        assert story.sends().status == 200

    deadline = time.monotonic() + 10
    while len(story.world.service.open_requests):
        assert time.monotonic() < deadline, "a place is lost"
        time.sleep(0.01)


class TestWithoutTheService:
    """Whatever is wrong with who watches, nothing runs on for longer than its route's bound."""

    def test_what_runs_ends_when_the_service_stops(self, tmp_path: Path, transport: str) -> None:
        url = f"sqlite:///{tmp_path / 'jit.db'}"
        with running_world(tmp_path, Clock(), url, transport=transport) as world:
            with running_gate(tmp_path / "s.sock", tmp_path) as gate:
                story = Protected(world, gate)
                story.opens()
                running = Exchange(gate, story.path, world.token(story.alice), WEBSOCKET)
                running.wait_until_it_runs()

                world.service._ext_proc_server.stop(None)

                running.wait_until_cut(SOON)
                running.leave()

    def test_nothing_passes_beyond_the_limit(self, tmp_path: Path, transport: str) -> None:
        url = f"sqlite:///{tmp_path / 'jit.db'}"
        with running_world(tmp_path, Clock(), url, transport=transport, passing_streams=1) as world:
            with running_gate(tmp_path / "s.sock", tmp_path) as gate:
                story = Protected(world, gate)
                story.opens(f"{story.path}/*")
                first = Exchange(gate, f"{story.path}/1", world.token(story.alice), WEBSOCKET)
                first.wait_until_it_runs()

                second = Exchange(gate, f"{story.path}/2", world.token(story.alice), DOWNLOAD)

                second.join(SOON + 2)
                assert second.ended_at
                assert first.runs
                first.leave()
                second.leave()
                deadline = time.monotonic() + 10
                while gate.send(f"{story.path}/3", token=world.token(story.alice)).status != 200:
                    assert time.monotonic() < deadline, "its place is not free again"

    @every_kind
    @pytest.mark.parametrize("fault", ["error", "garbage"])
    def test_a_watcher_that_fails_ends_what_runs(
        self, story: Protected, tmp_path: Path, kind: Kind, fault: str
    ) -> None:
        fake = Fake()

        def fails(context: grpc.ServicerContext, send: Callable[[Any], None]) -> None:
            if fault == "garbage":
                send(b"\xff\xff\xff\xff")
            else:
                context.set_code(grpc.StatusCode.UNKNOWN)
                send(None)

        fake.watching = fails
        story.opens(story.path, "http.*")
        with running_gate(story.world.settings.data_dir / "s.sock", tmp_path, passing=fake.address) as gate:
            running = Exchange(gate, story.path, story.world.token(story.alice), kind)
            running.join(SOON + 2)
            assert running.ended_at
            running.leave()
        fake.stop()

    def test_nobody_to_watch_ends_what_runs(self, story: Protected, tmp_path: Path) -> None:
        story.opens()
        service = story.world.settings.data_dir / "s.sock"
        with running_gate(service, tmp_path, passing=tmp_path / "nobody.sock") as gate:
            running = Exchange(gate, story.path, story.world.token(story.alice), WEBSOCKET)
            running.join(SOON + 2)
            assert running.ended_at
            running.leave()

    @pytest.mark.parametrize("kind", [DOWNLOAD, WEBSOCKET], ids=["download", "websocket"])
    @pytest.mark.parametrize("how", ["asleep", "ends in order"])
    def test_a_watcher_that_says_nothing_ends_it_within_the_routes_bound(
        self, story: Protected, runs: Runs, tmp_path: Path, kind: Kind, how: str
    ) -> None:
        fake = Fake()
        if how == "ends in order":
            fake.watching = lambda _, send: send(None)
        refunds = {"resources": ["payments/refunds"], "actions": [f"refunds.{story.id}", "refunds.get"]}
        story.create_policy("words", **refunds)
        grant = story.granted(**refunds)
        service, edits = story.world.settings.data_dir / "s.sock", {"max_stream: grant": "max_stream: 2s"}
        with running_gate(service, tmp_path, passing=fake.address, edits=edits) as gate:
            running = runs("/refunds", kind, gate=gate)
            revoke(story, grant)

            running.wait_until_cut(10)
        fake.stop()


def told(**changes: Any) -> wire.ProcessingRequest:
    """Returns what Envoy would tell of a passage that nobody has granted."""
    passage = {
        "subject": "user:a@example.com",
        "action": "http.get",
        "resource": "http/h/p",
        "groups": None,
        "groups_left_out": False,
        "principal": "user:a@example.com",
        "context": {},
        "source_address": "",
        "grant": "grants/none",
        "ends_at": "2999-01-01T00:00:00+00:00",
        "revision": 0,
        "token_id": "",
    } | changes
    request = wire.ProcessingRequest(observability_mode=True)
    namespace = request.metadata_context.filter_metadata["envoy.filters.http.ext_authz"]
    namespace.fields["jit_passage"].string_value = json.dumps(passage)
    return request


def watched(
    target: str,
    request: wire.ProcessingRequest | bytes,
    metadata: tuple[tuple[str, str], ...],
    *,
    stays: bool = True,
    timeout: float = 5,
) -> grpc.StatusCode:
    """Calls as Envoy does, which stays, and waits for the end."""

    def requests() -> Iterator[bytes]:
        yield request if isinstance(request, bytes) else request.SerializeToString()
        if stays:
            time.sleep(timeout)

    with grpc.insecure_channel(target) as channel:
        call: Any = channel.stream_stream(PROCESS)(requests(), metadata=metadata, timeout=timeout)
        with pytest.raises(grpc.RpcError):
            list(call)
        code: grpc.StatusCode = call.code()
        return code


PROXY = (("x-jit-proxy", "ext-authz"),)


class TestWhoMayWatch:
    """Only a trusted proxy, at the address for that; and what it says must make sense."""

    @pytest.fixture
    def socket(self, world: World) -> str:
        return f"unix:{passing_socket(world.settings.data_dir / 's.sock')}"

    def test_a_call_ends_with_an_error_where_the_grant_is_not_there(self, socket: str) -> None:
        assert watched(socket, told(), PROXY) is grpc.StatusCode.PERMISSION_DENIED

    def test_over_the_socket_one_must_say_that_one_is_a_proxy(self, socket: str) -> None:
        assert watched(socket, told(), ()) is grpc.StatusCode.PERMISSION_DENIED

    def test_the_socket_is_for_this_user_alone(self, world: World) -> None:
        assert passing_socket(world.settings.data_dir / "s.sock").stat().st_mode & 0o777 == 0o600

    def test_over_tcp_only_a_trusted_proxy_may(self, tmp_path: Path) -> None:
        for trusted, code in (((), "PERMISSION_DENIED"), (("127.0.0.1",), "UNAVAILABLE")):
            directory = tmp_path / str(len(trusted))
            directory.mkdir()
            url = f"sqlite:///{directory / 'jit.db'}"
            with running_world(directory, Clock(), url, trusted_proxies=trusted or ("unix",)) as world:
                # Not observed: what comes after the question who asks.
                assert watched(str(world.passing), wire.ProcessingRequest(), PROXY).name == code

    def test_whoever_is_not_trusted_holds_no_thread(self, tmp_path: Path) -> None:
        """It is refused before it has said anything."""
        with running_world(tmp_path, Clock(), f"sqlite:///{tmp_path / 'jit.db'}") as world:
            with grpc.insecure_channel(str(world.passing)) as channel:

                def silence() -> Iterator[bytes]:
                    time.sleep(5)
                    yield b""

                calls: list[Any] = [channel.stream_stream(PROCESS)(silence(), timeout=4) for _ in range(20)]
                assert {call.code().name for call in calls} == {"PERMISSION_DENIED"}

    def test_no_client_can_call_it_at_the_services_own_address(self, world: World) -> None:
        for target in (str(world.grpc), str(world.http)):
            assert watched(target, told(), PROXY, stays=False) is grpc.StatusCode.UNIMPLEMENTED

    @pytest.mark.parametrize(
        "request_",
        [
            b"",
            b"\xff\xff",
            wire.ProcessingRequest(observability_mode=True),
            wire.ProcessingRequest(
                observability_mode=True, protocol_config=wire.ProtocolConfiguration(response_body_mode=1)
            ),
            told(groups=7),
            told(groups=[[]]),
            told(ends_at="soon"),
            told(ends_at=7),
            told(revision="x"),
            told(subject=None),
            told(subject=[]),
            told(grant=7),
            told(context=7),
            told(context="x"),
        ],
    )
    def test_what_makes_no_sense_ends_the_request(self, socket: str, request_: wire.ProcessingRequest | bytes) -> None:
        assert watched(socket, request_, PROXY).name in ("UNAVAILABLE", "INVALID_ARGUMENT")

    def test_a_passage_of_a_revision_that_never_comes_is_ended(self, socket: str) -> None:
        assert watched(socket, told(revision=1 << 40), PROXY) is grpc.StatusCode.UNAVAILABLE
