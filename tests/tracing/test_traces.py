"""Traces of calls, as a real collector gets them: joined to the caller's trace, with what each call waited for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as collector_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

from jit_service.configuration.tracing import headers_in
from jit_service.domain.caller import Origin
from jit_service.domain.errors import StoreUnavailable
from jit_service.metrics.catalogue import SPANS
from jit_service.notifications import delivery
from jit_service.runtime.channels import channels_of
from jit_service.runtime.tracing import Tracing
from jit_service.settings import Settings, SettingsError
from jit_service.storage import Store
from jit_service.tracing import otlp, spans, traceparent
from jit_service.tracing.otlp import OtlpExporter
from jit_service.use_cases import policies
from tests.conftest import Clock
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.notifications.webhooks import facts, hook
from tests.storage.people import ADMIN, policy
from tests.test_commands import eventually
from tests.world import ACCESS, GRANTS, Grpc, Story, World

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
Spans = list[trace_pb2.Span]


@dataclass
class Collector:
    """An OTLP receiver on loopback, and what came. It answers with `status` if that is not OK."""

    port: int = 0
    status: grpc.StatusCode = grpc.StatusCode.OK
    came: Spans = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    resources: list[dict[str, str]] = field(default_factory=list)

    def Export(
        self, request: collector.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> collector.ExportTraceServiceResponse:
        if self.status is not grpc.StatusCode.OK:
            context.abort(self.status, "no")
        self.metadata.append(dict(context.invocation_metadata()))
        for resource in request.resource_spans:
            self.resources.append({each.key: each.value.string_value for each in resource.resource.attributes})
            for scope in resource.scope_spans:
                self.came.extend(scope.spans)
        return collector.ExportTraceServiceResponse()


@pytest.fixture
def receiver() -> Iterator[Collector]:
    server, running = grpc.server(ThreadPoolExecutor(2)), Collector()
    collector_grpc.add_TraceServiceServicer_to_server(running, server)
    running.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield running
    server.stop(None)


@pytest.fixture
def export(receiver: Collector) -> Iterator[Callable[..., OtlpExporter]]:
    """Has this process export to the collector; what was on is put back."""
    made: list[OtlpExporter] = []

    def on(ratio: float = 0, **headers: str) -> OtlpExporter:
        made.append(OtlpExporter(f"http://127.0.0.1:{receiver.port}", ratio=ratio, headers=headers))
        spans.use(made[-1])
        return made[-1]

    yield on
    spans.use(None)
    for exporter in made:
        exporter.stop()


def arrived(exporter: OtlpExporter, receiver: Collector, name: str, count: int = 1) -> Spans:
    """Returns the spans of the name, once there are as many. A check is answered first, and its span ends then."""

    def found() -> Spans:
        exporter._queue.force_flush()
        return [span for span in receiver.came if span.name == name]

    assert eventually(lambda: len(found()) >= count), [span.name for span in receiver.came]
    return found()


def below(span: trace_pb2.Span, receiver: Collector) -> dict[str, trace_pb2.Span]:
    """Returns the children by their names."""
    return {each.name: each for each in receiver.came if each.parent_span_id == span.span_id}


def attributes(span: trace_pb2.Span) -> dict[str, str]:
    return {each.key: each.value.string_value for each in span.attributes}


def ask_for(story: Story) -> dict[str, Any]:
    return {"resources": [story.resource], "actions": ["read"]}


ASK, CHECK = (GRANTS + "RequestGrant").removeprefix("/"), (ACCESS + "CheckAccess").removeprefix("/")


@pytest.mark.parametrize("transport", ["grpcio", "native"])
def test_a_call_is_a_span_of_its_callers_trace_with_what_it_waited_for(
    story: Story, receiver: Collector, export: Callable[..., OtlpExporter]
) -> None:
    """Over REST a real Envoy passes the traceparent on."""
    story.create_policy()
    exporter = export()

    grant = story.call(
        story.alice, GRANTS + "RequestGrant", {"resources": [story.resource], "actions": ["read"]}, traceparent=SAMPLED
    )

    (call,) = arrived(exporter, receiver, ASK)
    parts = below(call, receiver)
    assert (call.trace_id.hex(), call.parent_span_id.hex()) == (TRACE, PARENT)
    assert call.kind == trace_pb2.Span.SPAN_KIND_SERVER
    assert attributes(call) == {"rpc.system.name": "grpc", "rpc.method": ASK, "rpc.response.status_code": "OK"}
    assert {"admit", "store.write"} <= set(parts)
    assert "commit" in below(parts["store.write"], receiver)
    for part in parts.values():
        assert (
            call.start_time_unix_nano <= part.start_time_unix_nano <= part.end_time_unix_nano <= call.end_time_unix_nano
        )
    (record,) = story.audit(f'grant="{grant.message.name}"')
    assert record.trace_id == TRACE


@pytest.mark.parametrize("transport", ["grpcio", "native"])
def test_checks_that_are_answered_together_have_barrier_and_commit_in_each_trace(
    story: Story, receiver: Collector, export: Callable[..., OtlpExporter]
) -> None:
    story.create_policy()
    story.granted()
    story.check()
    exporter = export()

    for _ in range(3):
        assert story.call(story.gateway, ACCESS + "CheckAccess", story.question(), traceparent=SAMPLED).message.allowed
    story.check()

    calls = arrived(exporter, receiver, CHECK, 3)
    assert len(calls) == 3
    for call in calls:
        assert (call.trace_id.hex(), call.parent_span_id.hex()) == (TRACE, PARENT)
        assert {"barrier", "commit"} <= set(below(call, receiver))


def test_no_span_names_who_asked_or_what_for(
    story: Story, receiver: Collector, export: Callable[..., OtlpExporter]
) -> None:
    story.create_policy()
    exporter = export(ratio=1, authorization="Bearer x")

    story.granted()
    story.call(story.dave, GRANTS + "RequestGrant", ask_for(story))

    arrived(exporter, receiver, ASK, 2)
    told = str(receiver.came)
    for secret in (story.id, "user:", "database/", story.world.token(story.alice)):
        assert secret not in told
    assert receiver.metadata[0]["authorization"] == "Bearer x"
    assert receiver.resources[0]["service.name"] == "jit-service"


def test_the_caller_decides_whether_its_call_is_sampled_and_the_ratio_where_it_has_no_trace(
    story: Story, receiver: Collector, export: Callable[..., OtlpExporter]
) -> None:
    exporter = export(ratio=0)
    story.call(story.alice, GRANTS + "ListGrants", {})
    story.call(story.alice, GRANTS + "ListGrants", {}, traceparent=NOT_SAMPLED)
    story.call(story.alice, GRANTS + "ListGrants", {}, traceparent=f"00-{'0' * 32}-{PARENT}-01")
    story.call(story.alice, GRANTS + "ListGrants", {}, traceparent=SAMPLED, tracestate="==,=,A=1,a=b")
    exporter.ratio = 1
    story.call(story.alice, GRANTS + "ListGrants", {}, traceparent=NOT_SAMPLED)
    refused = story.call(story.alice, GRANTS + "GetGrant", {"name": "grants/none"})

    (listed,) = arrived(exporter, receiver, "jitaccess.v1.GrantService/ListGrants")
    (got,) = arrived(exporter, receiver, "jitaccess.v1.GrantService/GetGrant")
    assert listed.trace_id.hex() == TRACE
    assert (got.parent_span_id, attributes(got)["rpc.response.status_code"]) == (b"", refused.code)
    assert attributes(got)["error.type"] == refused.reason != ""
    assert got.status.code == trace_pb2.Status.STATUS_CODE_UNSET


def test_a_refused_call_and_its_line_in_the_log_have_one_trace(
    story: Story,
    receiver: Collector,
    export: Callable[..., OtlpExporter],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A call that comes without a trace has the one that begins with it in the log too."""
    exporter = export(ratio=1)

    def away() -> object:
        raise StoreUnavailable("the store does not answer")

    monkeypatch.setattr(story.world.service.store, "snapshot", away)
    monkeypatch.setattr("jit_service.refusal_log.EVERY_SECONDS", -1.0)
    assert story.call(story.alice, GRANTS + "ListGrants", {}).reason == "STORE_UNAVAILABLE"

    (call,) = arrived(exporter, receiver, "jitaccess.v1.GrantService/ListGrants")
    lines = [vars(record)["call"] for record in caplog.records if "a call cannot be answered" in record.getMessage()]
    assert attributes(call)["error.type"] == "STORE_UNAVAILABLE"
    assert call.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    assert {line["trace_id"] for line in lines} == {call.trace_id.hex()}


def test_a_stream_is_a_span_that_ends_with_it(
    world: World, receiver: Collector, export: Callable[..., OtlpExporter]
) -> None:
    exporter, story = export(), Story(world, Grpc(world))

    story.call(story.alice, GRANTS + "WatchGrants", {}, traceparent=SAMPLED)

    (call,) = arrived(exporter, receiver, "jitaccess.v1.GrantService/WatchGrants")
    assert (call.trace_id.hex(), attributes(call)["rpc.response.status_code"]) == (TRACE, "CANCELLED")


def test_a_notification_is_below_the_call_that_caused_it(
    receiver: Collector, export: Callable[..., OtlpExporter], sqlite_url: str, clock: Clock, tmp_path: Path
) -> None:
    exporter = export()
    by = ADMIN._replace(origin=Origin(method="/x/Create", trace_id=TRACE))
    with hook() as there:
        there.status = 500
        given = facts(tmp_path, f"{there.url}/hunter2", events=["*"], allow_private=True)
        settings = Settings.load(data_dir=tmp_path, database_url=sqlite_url, notifications=[given])
        store = Store(sqlite_url, clock=clock, subscriptions=[settings.notifications[0].subscription])
        with spans.call("/x/Create", [("traceparent", SAMPLED)]):
            policies.create(store, by, policy())
        assert delivery.deliver_next(store, channels_of(settings)[0])
        store.close()

    (call,), (told,) = arrived(exporter, receiver, "x/Create"), arrived(exporter, receiver, "notify")
    assert (told.trace_id, told.parent_span_id) == (call.trace_id, call.span_id)
    assert told.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    assert attributes(told)["jit.receiver"] == "oncall"
    assert "hunter2" not in str(receiver.came)


def grown(outcome: str) -> Callable[[], float]:
    def now() -> float:
        return sum(sum(numbers) for labels, numbers in SPANS.samples() if outcome in labels)

    before = now()
    return lambda: now() - before


def test_a_collector_that_is_away_costs_no_call_and_one_line(
    story: Story, receiver: Collector, export: Callable[..., OtlpExporter], caplog: pytest.LogCaptureFixture
) -> None:
    failed, exported = grown("failed"), grown("exported")
    receiver.status = grpc.StatusCode.PERMISSION_DENIED
    exporter = export(ratio=1)

    for _ in range(3):
        assert story.call(story.alice, GRANTS + "ListGrants", {}).code == "OK"
        exporter._queue.force_flush()
    receiver.status = grpc.StatusCode.OK
    story.call(story.alice, GRANTS + "ListGrants", {})
    arrived(exporter, receiver, "jitaccess.v1.GrantService/ListGrants")

    lines = [record.getMessage() for record in caplog.records if "traces are not exported" in record.getMessage()]
    assert lines[0] == "traces are not exported for now: the collector says PERMISSION_DENIED"
    assert [line for line in lines if "recovered" not in line] == lines[:1]
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]
    assert failed() >= 6
    assert exported() >= 2


def test_what_finds_the_queue_full_is_dropped_and_counted(
    receiver: Collector, export: Callable[..., OtlpExporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = grown("dropped")
    export(ratio=1)
    monkeypatch.setattr(otlp, "_MOST_WAITING", 2)

    for _ in range(5):
        with spans.call("/x/Y", ()):
            pass

    assert dropped() >= 1


def test_no_caller_has_more_calls_traced_than_a_process_traces(
    receiver: Collector, export: Callable[..., OtlpExporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = grown("dropped")
    monkeypatch.setattr(otlp, "_MOST_A_SECOND", 2)
    exporter = export()

    begun = [exporter.call("/x/Y", None, "", began_at=at * 1_000_000_000) for at in (1, 1, 1, 2)]

    assert [span is not None for span in begun] == [True, True, False, True]
    assert dropped() == 1


def test_who_traces_nothing_does_not_load_opentelemetry() -> None:
    program = "import sys, jit_service.__main__; sys.exit('opentelemetry.sdk' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
    assert spans.part("x") is spans.call("/x/Y", ()) is spans.stream("/x/Y", ())


@pytest.mark.parametrize(
    "value",
    [
        "collector:4317",
        "http://collector",
        "https://u:hunter2@c:4317",
        "http://c:4317/v1/traces",
        "ftp://c:1",
        "http://c:x",
    ],
)
def test_a_collector_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.load(traces=value)

    assert str(refused.value) == "JIT_TRACES: must be http://HOST:PORT or https://HOST:PORT, or `otel`"


def test_headers_for_the_collector_are_in_a_file_of_their_own(
    receiver: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{receiver.port}")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "access")
    path = tmp_path / "headers"
    path.write_text("x-api-key: hunter2\n\nx-team: a b\n")
    path.chmod(0o600)
    tracing = Tracing(Settings.load(traces="otel", traces_ratio=1, traces_headers_file=path))

    tracing.start()
    with spans.call("/x/Y", ()):
        pass
    tracing.stop()

    assert (receiver.metadata[0]["x-api-key"], receiver.metadata[0]["x-team"]) == ("hunter2", "a b")
    assert receiver.resources[0]["service.name"] == "access"


@pytest.mark.parametrize(
    ("content", "told"), [("hunter2", "line 1 is none"), ("a: b\nX-Key: hunter2", "line 2 is none")]
)
def test_a_headers_file_that_is_none_is_refused_and_not_shown(content: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "headers"
    path.write_text(content)
    path.chmod(0o600)

    with pytest.raises(ValueError, match=told) as refused:
        headers_in(path)

    assert "hunter2" not in str(refused.value)


def _callers_flag() -> None:
    assert spans._begun(_Never(), "/x", [("traceparent", NOT_SAMPLED)], 0, None) is None


def _no_trace_of_zeros() -> None:
    assert traceparent.parse(f"00-{'0' * 32}-{PARENT}-01") is None
    assert traceparent.parse(SAMPLED) == (TRACE, PARENT, True)


class _Never:
    ratio = 1.0

    def call(self, *_: object, **__: object) -> Any:
        raise AssertionError("this call is not sampled")

    def delivery(self, *_: object) -> None:
        return None


def _what_a_part_is_within() -> None:
    work = spans._Work()
    with spans.Part(work, "outer"), spans.Part(work, "inner"):
        pass
    with spans.Part(work, "after"):
        pass
    assert [(part.name, part.within and part.within.name) for part in work.parts] == [
        ("outer", None),
        ("inner", "outer"),
        ("after", None),
    ]


TWINS = [
    Twin("a caller that is sampled although it said no", spans._begun, "parent.sampled if", "True if", _callers_flag),
    Twin(
        "a part that never ends for those after it",
        spans.Part.__exit__,
        "self._work.inmost = self.within",
        "self._work.inmost = self",
        _what_a_part_is_within,
    ),
]


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_no_twin_survives(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    twin.caught_by()
    demand_caught(twin, monkeypatch)


def test_a_trace_of_zeros_is_none() -> None:
    _no_trace_of_zeros()
