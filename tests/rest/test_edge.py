"""What holds at Envoy, with the real service behind it."""

from __future__ import annotations

import http.client
import itertools
import json
import selectors
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from google.protobuf.json_format import ParseDict
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from jit_service.runtime.envoy import EdgeError, Envoy, Rates, binary, render, share
from jit_service.settings import Address
from jitaccess.v1 import grant_pb2, grant_pb2_grpc
from tests.conftest import Clock
from tests.world import ACCESS, GRANTS, Grpc, Rest, Story, World, running_world


@pytest.fixture
def story(world: World) -> Story:
    return Story(world, Rest(world))


def send(story: Story, verb: str, path: str, content: str | bytes | None = None, **headers: str) -> tuple[int, Any]:
    surface = Rest(story.world)
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return surface.send(verb, path, content, token=story.world.token(story.alice), headers=named)


def raw(address: Address, request: bytes) -> tuple[int, bytes]:
    """Sends bytes that no client library would. Returns the status and the rest."""
    with socket.create_connection((address.host, address.port), timeout=10) as connection:
        connection.sendall(request)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.read()


UNKNOWN = [
    ("GET", "/"),
    ("GET", "/nope"),
    ("GET", "/v1/nope"),
    ("GET", "/v1"),
    ("GET", "/v2/grants"),
    ("PUT", "/v1/grants"),
    ("DELETE", "/v1/grants"),
    ("GET", "/v1/grants/a/b"),
    ("POST", "/v1/grants/a:explode"),
    ("GET", "/v1/GRANTS"),
    ("POST", "/jitaccess.v1.GrantService/Nothing"),
    ("POST", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
    ("POST", "/grpc.health.v1.Health/Check"),
    ("GET", "/stats"),
    ("GET", "/admin"),
]


@pytest.mark.parametrize(("verb", "path"), UNKNOWN)
def test_what_is_not_in_the_contract_is_not_there(story: Story, verb: str, path: str) -> None:
    status, answer = send(story, verb, path)

    assert (status, answer["code"]) == (404, 5)
    assert answer["details"][0]["reason"] == "UNKNOWN_PATH"


@pytest.mark.parametrize(
    ("verb", "path", "content"),
    [
        ("POST", "/v1/grants", "{bad"),
        ("POST", "/v1/grants", '{"resources": 5}'),
        ("POST", "/v1/grants", '{"resources": {"a": 1}}'),
        ("POST", "/v1/grants", '{"duration": "an hour"}'),
        ("POST", "/v1/grants", '{"startTime": "tomorrow"}'),
        ("POST", "/v1/grants", '{"labels": []}'),
        ("POST", "/v1/grants", "[" * 200),
        ("GET", "/v1/grants?foo=1", None),
        ("GET", "/v1/grants?view=EVERYTHING", None),
        ("GET", "/v1/grants?pageSize=many", None),
        ("POST", "/v1/grants/a:approve", '{"name": "grants/b"}'),
    ],
)
def test_a_malformed_request_is_400_and_says_why(story: Story, verb: str, path: str, content: str | None) -> None:
    status, answer = send(story, verb, path, content)

    assert (status, answer["code"]) == (400, 3)
    assert answer["message"]
    assert answer["details"][0]["reason"] == "MALFORMED_REQUEST"


NOTHING = {
    "no word of a body": b"",
    "no bytes, as of JSON": b"content-type: application/json\r\ncontent-length: 0\r\n",
    "no bytes, as of a form": b"content-type: application/x-www-form-urlencoded\r\ncontent-length: 0\r\n",
    "no chunk": b"content-type: application/json\r\ntransfer-encoding: chunked\r\n",
    "no chunk of nothing": b"transfer-encoding: chunked\r\n",
    "{}": b"content-type: application/json\r\ncontent-length: 2\r\n",
}


@pytest.mark.parametrize("headers", NOTHING.values(), ids=NOTHING)
def test_a_post_without_a_body_is_one_with_an_empty_object(world: World, story: Story, headers: bytes) -> None:
    story.create_policy()
    grant = story.asks()
    body = {b"chunked" in headers: b"0\r\n\r\n", b"length: 2" in headers: b"{}"}.get(True, b"")
    token = world.token(story.bob).encode()
    head = f"POST /v1/{grant.name}:approve HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ".encode() + token + b"\r\n"

    status, answer = raw(world.http, head + headers + b"\r\n" + body)

    assert (status, json.loads(answer)["state"]) == (200, "ACTIVE"), answer


@pytest.mark.parametrize("ends_with_data", [False, True])
def test_over_http2_too(world: World, story: Story, ends_with_data: bool) -> None:
    story.create_policy()
    grant = story.asks()
    headers = {":method": "POST", ":scheme": "http", ":path": f"/v1/{grant.name}:approve", ":authority": "a"}
    headers["authorization"] = f"Bearer {world.token(story.bob)}"

    answer = over_http2(world.http, headers, ends_with_data=ends_with_data)

    assert json.loads(answer)["state"] == "ACTIVE"


def over_http2(address: Address, headers: dict[str, str], *, ends_with_data: bool) -> bytes:
    """Sends a request without a body, which ends with its headers or with an empty DATA frame. Returns the answer's."""

    def text(value: str) -> bytes:
        """A string as HPACK has it, not Huffman-encoded (RFC 7541, section 5)."""
        size, encoded = len(value), b""
        if size < 127:
            return bytes([size]) + value.encode()
        size -= 127
        while size >= 128:
            encoded, size = encoded + bytes([size % 128 + 128]), size // 128
        return b"\x7f" + encoded + bytes([size]) + value.encode()

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    data, head, settings = 0, 1, 4
    end_stream, end_headers = 1, 4
    block = b"".join(b"\0" + text(key) + text(value) for key, value in headers.items())
    sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(settings, 0, 0, b"")
    sent += frame(head, end_headers | (0 if ends_with_data else end_stream), 1, block)
    sent += frame(data, end_stream, 1, b"") if ends_with_data else b""
    body = b""
    with socket.create_connection((address.host, address.port), timeout=10) as connection:
        connection.sendall(sent)
        stream = connection.makefile("rb")
        while True:
            prefix = stream.read(9)
            assert len(prefix) == 9, "the connection ended before the answer did"
            payload = stream.read(int.from_bytes(prefix[:3], "big"))
            of_ours = struct.unpack(">I", prefix[5:9])[0] == 1
            body += payload if of_ours and prefix[3] == data else b""
            if of_ours and prefix[3] in (data, head) and prefix[4] & end_stream:
                return body


@pytest.mark.parametrize("query", ["name=grants/evil", "na%6De=grants/evil", "name=grants/x&name=grants/evil"])
def test_a_query_cannot_name_another_resource_than_the_path(story: Story, query: str) -> None:
    status, answer = send(story, "GET", f"/v1/grants/mine?{query}")

    assert status == 400
    assert answer["details"][0]["metadata"] == {"field": "name"}


@pytest.mark.parametrize(
    "path",
    ["/v1/grants/a%2Fb", "/v1/grants/..%2fpolicies", "/v1/grants/a%5Cb", "/v1/grants%2Fa"],
)
def test_an_escaped_slash_is_refused(story: Story, path: str) -> None:
    assert send(story, "GET", path)[0] == 400


@pytest.mark.parametrize(
    "path", ["/v1/../v1/grants", "/v1//grants", "//v1/grants", "/v1/./grants", "/v1/%67rants", "/v1/grants/"]
)
def test_another_spelling_of_a_path_is_that_path_or_nothing(story: Story, path: str) -> None:
    status, answer = send(story, "GET", path)

    assert (status, answer) in [(200, {"grants": [], "nextPageToken": ""}), (404, answer)]


@pytest.mark.parametrize("size", [1 << 20, 10 << 20])
def test_a_body_over_1_mib_is_413(story: Story, size: int) -> None:
    """It is refused while it is still being sent, so a client must listen while it sends, as curl does."""
    address, token = story.world.http, story.world.token(story.alice)
    head = f"POST /v1/grants HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-length: {size + 1}\r\n\r\n"
    with (
        socket.create_connection((address.host, address.port), timeout=10) as connection,
        selectors.DefaultSelector() as answers,
    ):
        answers.register(connection, selectors.EVENT_READ)
        connection.sendall(head.encode())
        sent = 0
        while sent <= size and not answers.select(0):
            sent += connection.send(b"x" * min(65536, size + 1 - sent) or b"x")
        response = http.client.HTTPResponse(connection)
        response.begin()
        answer = json.load(response)

    assert (response.status, answer["details"][0]["reason"]) == (413, "BODY_TOO_LARGE")


LOST = [
    ("an unknown name", '{"duraton": "60s"}', "duraton"),
    ("an unknown name deep within", '{"justification": {"txt": "x"}}', "justification.txt"),
    ("an escaped name", '{"\\u0064uration": "60s"}', "?u0064uration"),
    ("a name that stands twice", '{"duration": "60s", "duration": "14400s"}', "duration"),
    ("a name in the wrong case", '{"Duration": "60s"}', "Duration"),
    ("an empty name", '{"": 1}', ""),
    ("a name in both spellings", '{"request_id": "", "requestId": ""}', "requestId"),
]


@pytest.mark.parametrize(("content", "field"), [case[1:] for case in LOST], ids=[case[0] for case in LOST])
def test_json_that_the_transcoder_would_lose_is_refused(story: Story, content: str, field: str) -> None:
    story.create_policy()
    wanted = json.dumps({"resources": [story.resource], "actions": ["read"]})

    status, answer = send(story, "POST", "/v1/grants", wanted[:-1] + ", " + content[1:])

    assert status == 400
    assert answer["code"] == 3
    assert not story.must(story.alice, GRANTS + "ListGrants", {}).grants
    assert field in answer["message"]


@pytest.mark.parametrize(
    "content",
    [
        '{"labels": {"a.b": "1", "duraton": "x"}}',
        '{ "justification" : { "text" : "a \\"quoted\\", {\\"x\\": 1} \\\\" } }',
        '{"start_time": null, "duration": "60s"}',
        '{"justification": {}, "labels": {}}',
    ],
)
def test_json_that_means_what_it_says_is_accepted(story: Story, content: str) -> None:
    story.create_policy()
    wanted = json.dumps({"resources": [story.resource], "actions": ["read"]})

    status, answer = send(story, "POST", "/v1/grants", wanted[:-1] + ", " + content[1:])

    assert (status, answer.get("state")) == (200, "PENDING"), answer


def test_names_within_a_body_field_are_checked_too(story: Story) -> None:
    token = story.world.token(story.admin)
    document = json.dumps(story.policy() | {"steps": [{"approver": {"groups": ["a"]}}]})

    status, answer = Rest(story.world).send("POST", "/v1/policies", document, token=token)

    assert status == 400
    assert answer["details"][0]["metadata"] == {"field": "policy.steps.approver"}


def test_more_names_than_can_be_checked_are_refused(story: Story) -> None:
    labels = json.dumps({"labels": {f"name-{number}": "x" for number in range(5000)}})

    assert send(story, "POST", "/v1/grants", labels)[0] == 400


def test_json_shows_empty_fields_names_in_camel_case_and_64_bits_as_text(story: Story) -> None:
    story.create_policy()
    story.asks()

    _, answer = send(story, "GET", "/v1/grants?view=mine&orderBy=create_time+desc")

    (grant,) = answer["grants"]
    assert grant["endComment"] == ""
    assert grant["reviews"] == []
    assert isinstance(grant["revision"], str)
    assert grant["state"] == "PENDING"


SPOOFED = [
    "x-envoy-external-address",
    "x-envoy-original-path",
    "x-envoy-original-method",
    "x-forwarded-for",
    "x-forwarded-client-cert",
    "x-jit-subject",
    "x-jit-json-names",
    "x-envoy-max-retries",
]


@pytest.mark.parametrize("header", SPOOFED)
@pytest.mark.parametrize("surface", ["rest", "grpc"])
def test_a_header_that_the_service_believes_does_not_come_from_a_client(
    world: World, story: Story, header: str, surface: str
) -> None:
    spoofed = {header.replace("-", "_"): "203.0.113.9"}
    if surface == "rest":
        outcome = story.call(story.alice, ACCESS + "CheckAccess", story.question(), **spoofed)
    else:
        with grpc.insecure_channel(str(world.http)) as channel:
            through = Grpc(world)
            through._world = type("Edge", (), {"channel": channel})()
            outcome = through.call(ACCESS + "CheckAccess", story.question(), token=world.token(story.alice), **spoofed)

    assert outcome.code == "OK", outcome
    assert story.audit(f'principal = "{story.alice.principal}"')[-1].source_address == "127.0.0.1"


def test_native_grpc_goes_through_with_its_details(world: World, story: Story) -> None:
    with grpc.insecure_channel(str(world.http)) as channel:
        stub = grant_pb2_grpc.GrantServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.ListGrants(grant_pb2.ListGrantsRequest())

    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "grpc-status-details-bin" in dict(refused.value.trailing_metadata())


def test_native_grpc_that_is_too_large_is_resource_exhausted(world: World, story: Story) -> None:
    with grpc.insecure_channel(str(world.http)) as channel:
        stub = grant_pb2_grpc.GrantServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.ListGrants(grant_pb2.ListGrantsRequest(filter="x" * (10 << 20)))

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_reflection_does_not_go_through(world: World) -> None:
    with grpc.insecure_channel(str(world.http)) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            list(stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")])))

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_grpc_web_is_served(world: World, story: Story) -> None:
    message = grant_pb2.ListGrantsRequest().SerializeToString()
    connection = http.client.HTTPConnection(world.http.host, world.http.port, timeout=10)
    headers = {
        "content-type": "application/grpc-web+proto",
        "authorization": f"Bearer {world.token(story.alice)}",
        "x-grpc-web": "1",
    }
    connection.request("POST", GRANTS + "ListGrants", b"\0" + struct.pack(">I", len(message)) + message, headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()

    assert response.status == 200
    assert b"grpc-status:0" in content.replace(b" ", b"")


def test_two_authorization_headers_are_refused(world: World, story: Story) -> None:
    token = world.token(story.alice).encode()
    header = b"authorization: Bearer " + token + b"\r\n"

    status, _ = raw(world.http, b"GET /v1/grants HTTP/1.1\r\nhost: a\r\n" + header + header + b"\r\n")

    assert status in (400, 401)


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /v1/grants HTTP/1.1\r\nhost: a\r\nx_jit_subject: a\r\n\r\n",
        b"GET http:// HTTP/9\r\n\r\n",
        b"\0\1\2\r\n\r\n",
    ],
    ids=["an underscore in a header", "another protocol", "no HTTP"],
)
def test_what_is_not_proper_http_is_refused(world: World, request_line: bytes) -> None:
    assert raw(world.http, request_line)[0] in (400, 426)


@pytest.mark.parametrize(
    "header",
    [
        b"&x: 1",
        b"x-bin: %%",
        b"grpc-trace-bin: %%",
        b"grpc-timeout: soon",
        b"grpc-encoding: nope",
        b"grpc-previous-rpc-attempts: -1",
        b"grpc-internal-encoding-request: x",
        b"x: \xff",
    ],
)
def test_a_header_that_grpc_cannot_read_is_no_internal_error(world: World, story: Story, header: bytes) -> None:
    token = b"authorization: Bearer " + world.token(story.alice).encode()

    status, _ = raw(world.http, b"GET /v1/grants HTTP/1.1\r\nhost: a\r\n" + token + b"\r\n" + header + b"\r\n\r\n")

    assert status == 200


def test_healthz_needs_no_token(world: World) -> None:
    connection = http.client.HTTPConnection(world.http.host, world.http.port, timeout=10)
    connection.request("GET", "/healthz")

    assert connection.getresponse().status == 200


@pytest.fixture
def lonely_envoy(tmp_path: Path) -> Iterator[Envoy]:
    """An Envoy whose service is not there."""
    config = render(http=Address("127.0.0.1", 0), upstream=tmp_path / "nobody.sock", directory=tmp_path)
    envoy = Envoy(config, directory=tmp_path)
    yield envoy
    envoy.stop()


def test_without_a_service_it_is_not_ready_and_answers_503(lonely_envoy: Envoy, world: World, story: Story) -> None:
    with pytest.raises(EdgeError, match="not ready"):
        lonely_envoy.start(timeout=1)
    address = lonely_envoy._listening()
    assert address is not None

    for path in ("/v1/grants", "/healthz"):
        status, content = raw(address, f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
        assert status == 503
        assert json.loads(content)["code"] == 14


def test_a_taken_port_is_an_error_of_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = render(http=Address("127.0.0.1", port), upstream=tmp_path / "s.sock", directory=tmp_path)
        envoy = Envoy(config, directory=tmp_path)

        with pytest.raises(EdgeError) as fault:
            envoy.start(timeout=10)

        envoy.stop()
        assert str(port) in str(fault.value)
        assert "\n" not in str(fault.value)


FEW = Rates(total=10, per_address=1)


@contextmanager
def another_edge(world: World, directory: Path, rates: Rates = FEW, **changes: Any) -> Iterator[Address]:
    """Runs an Envoy of its own before the world's service: few calls a second, and these changes of its listener."""
    upstream = world.settings.data_dir / "s.sock"
    config = render(http=Address("127.0.0.1", 0), upstream=upstream, directory=directory, rates=rates)
    told = yaml.safe_load(config.read_text())
    told["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"].update(changes)
    config.write_text(yaml.safe_dump(told, sort_keys=False))
    envoy = Envoy(config, directory=directory)
    try:
        yield envoy.start(timeout=30)
    finally:
        envoy.stop()


class Knocking:
    """A client at one of this machine's addresses, which asks for what needs no token."""

    def __init__(self, edge: Address, *, source: str = "127.0.0.1", **headers: str) -> None:
        self._edge = edge
        self._source = source
        self._headers = {key.replace("_", "-"): value for key, value in headers.items()}

    def once(self) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(
            self._edge.host, self._edge.port, timeout=20, source_address=(self._source, 0)
        )
        connection.request("GET", "/openapi.json", headers=self._headers)
        return connection.getresponse()

    def floods(self) -> http.client.HTTPResponse:
        """Goes on until it is refused, and then far beyond what all together may. Returns the first refusal."""
        for _ in range(1000):
            answer = self.once()
            if answer.status == 429:
                break
        else:
            pytest.fail("nobody refuses it")
        for _ in range(40):
            self.once()
        return answer


def test_a_flood_from_one_address_leaves_the_others_their_answers(world: World, tmp_path: Path) -> None:
    with another_edge(world, tmp_path) as edge:
        refused = Knocking(edge).floods()
        others = [Knocking(edge, source=f"127.0.0.{number}").once().status for number in (2, 3)]

    assert others == [200, 200]
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    told = ParseDict(json.load(refused), status_pb2.Status())
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert [told.details[0].Unpack(info), told.details[1].Unpack(retry)] == [True, True]
    assert (told.code, info.reason, retry.retry_delay.seconds) == (8, "RATE_LIMITED", 1)


def test_were_there_one_bucket_for_all_the_flood_would_take_it(world: World, tmp_path: Path) -> None:
    """The test above could not tell a bound for each from none at all."""
    with another_edge(world, tmp_path, Rates(total=1, per_address=100_000)) as edge:
        Knocking(edge).floods()
        other = Knocking(edge, source="127.0.0.2").floods()

    assert other.status == 429


def test_no_header_gives_a_client_a_bucket_more(world: World, tmp_path: Path) -> None:
    with another_edge(world, tmp_path) as edge:
        Knocking(edge).floods()
        told = ({"x_forwarded_for": "198.51.100.7"}, {"forwarded": "for=198.51.100.7"}, {"x_real_ip": "198.51.100.7"})
        answers = [Knocking(edge, **headers).floods().status for headers in told]

    assert answers == [429, 429, 429]


def test_behind_a_proxy_each_of_its_clients_has_a_bucket(world: World, tmp_path: Path) -> None:
    with another_edge(world, tmp_path, xff_num_trusted_hops=1) as edge:
        Knocking(edge, x_forwarded_for="198.51.100.7").floods()
        other = Knocking(edge, x_forwarded_for="198.51.100.8").once()
        Knocking(edge, x_forwarded_for="2001:db8:0:1::1").floods()
        neighbour = Knocking(edge, x_forwarded_for="2001:db8:0:1:ffff::2").floods()

    assert (other.status, neighbour.status) == (200, 429)


def test_all_together_are_bounded_too(world: World, tmp_path: Path) -> None:
    with another_edge(world, tmp_path) as edge:
        everybody = [Knocking(edge, source=f"127.0.1.{number}").once().status for number in range(1, 255)]

    assert set(everybody) == {200, 429}


def test_to_grpc_a_rate_that_is_too_high_is_resource_exhausted(world: World, tmp_path: Path) -> None:
    with another_edge(world, tmp_path) as edge, grpc.insecure_channel(str(edge)) as channel:
        stub = grant_pb2_grpc.GrantServiceStub(channel)

        def code() -> grpc.StatusCode:
            with pytest.raises(grpc.RpcError) as refused:
                stub.ListGrants(grant_pb2.ListGrantsRequest(), timeout=10)
            return refused.value.code()

        codes = {code() for _ in range(40)}

    assert codes == {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED}


def test_an_external_address_that_came_along_is_not_believed_of_internal_clients_either(
    world: World, story: Story, tmp_path: Path
) -> None:
    """Envoy leaves it to those whom an operator calls internal."""
    loopback = {"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]}
    token = world.token(story.alice)
    with another_edge(world, tmp_path, internal_address_config=loopback) as edge:
        connection = http.client.HTTPConnection(edge.host, edge.port, timeout=20)
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        headers["x-envoy-external-address"] = "203.0.113.9"
        connection.request("POST", "/v1/access:check", json.dumps(story.question()), headers)
        answer = connection.getresponse()

    assert answer.status == 200, answer.read()
    assert "203.0.113.9" not in str(story.audit(f'principal = "{story.alice.principal}"')[-1])


def validate(*arguments: str) -> None:
    command = [binary(), "--mode", "validate", "--log-level", "error", *arguments]
    done = subprocess.run(command, cwd=share("envoy").parent, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_shipped_configuration_is_valid() -> None:
    validate("--config-path", "envoy/envoy.yaml")


def merged(base: Any, overlay: Any) -> Any:
    """Merges as envoy/tls.yaml says: mappings by key, listeners and filter chains by place."""
    if isinstance(base, dict) and isinstance(overlay, dict):
        return {key: merged(base.get(key), overlay.get(key)) for key in {**base, **overlay}}
    if isinstance(base, list) and isinstance(overlay, list):
        return [merged(left, right) for left, right in itertools.zip_longest(base, overlay)]
    return base if overlay is None else overlay


def test_the_tls_overlay_is_valid(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start + timedelta(days=3650))
    (tmp_path / "tls.crt").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "tls.key").write_bytes(private)
    overlay = (share("envoy") / "tls.yaml").read_text().replace("/etc/jitaccess", str(tmp_path))
    config = merged(yaml.safe_load((share("envoy") / "envoy.yaml").read_text()), yaml.safe_load(overlay))
    (tmp_path / "envoy.yaml").write_text(yaml.safe_dump(config))

    validate("--config-path", str(tmp_path / "envoy.yaml"))


@pytest.mark.parametrize(
    ("method", "path", "reason"),
    [
        ("GET", "/.well-known/authzen-configuration", "NO_PUBLIC_URL"),
        ("GET", "/.well-known/oauth-authorization-server", "TOKENS_OFF"),
    ],
)
def test_without_a_token_issuer_what_rests_on_it_says_so(tmp_path: Path, method: str, path: str, reason: str) -> None:
    with running_world(tmp_path, Clock(), f"sqlite:///{tmp_path / 'jit.db'}", token_issuer="") as world:
        connection = http.client.HTTPConnection(world.http.host, world.http.port, timeout=10)
        connection.request(method, path)

        answer = json.loads(connection.getresponse().read())

    assert answer["details"][0]["reason"] == reason
