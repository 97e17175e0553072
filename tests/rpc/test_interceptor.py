"""What the interceptor refuses and believes, whatever let the call through."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from jit_service.rpc import errors
from jit_service.rpc.origins import _host
from jit_service.use_cases import grants
from jitaccess.v1 import access_pb2, grant_pb2, policy_pb2
from tests.world import ACCESS, GRANTS, POLICIES, Grpc, Rest, Story, World


@pytest.fixture
def story(world: World) -> Story:
    return Story(world, Grpc(world))


def send(story: Story, method: str, data: bytes, **metadata: str) -> Any:
    surface = Grpc(story.world)
    return surface.send(method, data, grant_pb2.Grant, token=story.world.token(story.alice), **metadata)


@pytest.mark.parametrize(
    "data",
    [b"\xff", b"\x0a\xff", b"\x0a\x02\xff\xfe", b"\x1a" + b"\xff" * 9 + b"\x01", bytes(range(256))],
    ids=["a lone byte", "a length beyond the end", "not UTF-8", "a huge length", "every byte"],
)
def test_bytes_that_are_no_message_are_invalid_never_internal(story: Story, data: bytes) -> None:
    outcome = send(story, GRANTS + "RequestGrant", data)

    assert (outcome.code, outcome.reason) == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")


@pytest.mark.parametrize(
    ("data", "field"),
    [(b"\xf8\x06\x01", "111"), (b"\x3a\x03\xf8\x06\x01", "justification.111")],
    ids=["in the message", "within it"],
)
def test_a_field_that_this_version_does_not_know_is_refused(story: Story, data: bytes, field: str) -> None:
    outcome = send(story, GRANTS + "RequestGrant", data)

    assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", (field,))


def test_an_unknown_enum_value_is_refused(story: Story) -> None:
    listed = story.call(story.alice, GRANTS + "ListGrants", grant_pb2.ListGrantsRequest(view=99))  # type: ignore[arg-type]
    item = access_pb2.CheckAccessRequest(consistency=7)  # type: ignore[arg-type]
    batch = access_pb2.BatchCheckAccessRequest(items=[access_pb2.CheckAccessRequest(), item])

    assert listed.fields == ("view",)
    assert story.call(story.gateway, ACCESS + "BatchCheckAccess", batch).fields == ("items[1].consistency",)


def test_a_message_over_the_limit_is_refused(story: Story) -> None:
    outcome = send(story, GRANTS + "RequestGrant", b"\x0a" + b"\x80\x80\x80\x05" + b"x" * (10 << 20))

    assert outcome.code == "RESOURCE_EXHAUSTED"


def test_a_fault_of_ours_says_nothing_of_itself(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: object, **__: object) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(grants, "get", fault)

    outcome = story.call(story.alice, GRANTS + "GetGrant", {"name": "grants/a"})

    assert (outcome.code, outcome.reason, outcome.text) == ("INTERNAL", "INTERNAL", errors.INTERNAL_MESSAGE)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        (GRANTS + "GetGrant", "/v1/grants/other", {"name": "grants/mine"}),
        (GRANTS + "GetGrant", "/v1/grants/mine/", {"name": "grants/mine"}),
        (GRANTS + "ApproveGrant", "/v1/grants/mine:deny", {"name": "grants/mine"}),
        (GRANTS + "ApproveGrant", "/v1/grants/mine%3Aapprove:approve", {"name": "grants/mine"}),
        (POLICIES + "DeletePolicy", "/v1/policies/other?name=policies/mine", {"name": "policies/mine"}),
    ],
)
def test_the_message_must_name_what_the_path_names(story: Story, method: str, path: str, body: dict[str, Any]) -> None:
    outcome = story.call(story.admin, method, body, x_envoy_original_path=path)

    assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", ("name",))


def test_a_path_that_agrees_is_accepted(story: Story) -> None:
    outcome = story.call(
        story.admin, GRANTS + "GetGrant", {"name": "grants/a"}, x_envoy_original_path="/v1/grants/a?x=1"
    )

    assert outcome.reason == "GRANT_NOT_FOUND"


def test_an_update_must_name_what_its_path_names(story: Story) -> None:
    policy = policy_pb2.UpdatePolicyRequest(policy=policy_pb2.Policy(name="policies/mine"))

    outcome = story.call(story.admin, POLICIES + "UpdatePolicy", policy, x_envoy_original_path="/v1/policies/other")

    assert outcome.fields == ("policy.name",)


def test_a_transcoded_body_whose_names_nobody_tells_is_refused(story: Story) -> None:
    path = {"x_envoy_original_path": "/v1/access:check"}

    refused = story.call(story.gateway, ACCESS + "CheckAccess", story.question(), **path)
    told = story.call(story.gateway, ACCESS + "CheckAccess", story.question(), x_jit_json_names=",subject", **path)

    assert refused.code == "INVALID_ARGUMENT"
    assert told.code == "OK"


def source_of(story: Story, call: Callable[[], object]) -> str:
    before = len(story.audit(f'principal = "{story.alice.principal}"'))
    call()
    events = story.audit(f'principal = "{story.alice.principal}"')
    assert len(events) == before + 1
    address: str = events[-1].source_address
    return address


@pytest.mark.parametrize("header", ["x_envoy_external_address", "x_forwarded_for", "x_real_ip", "forwarded"])
def test_a_direct_caller_cannot_choose_its_address(story: Story, header: str) -> None:
    spoofed = {header: "203.0.113.9"}

    address = source_of(story, lambda: story.call(story.alice, ACCESS + "CheckAccess", story.question(), **spoofed))

    assert address == "127.0.0.1"


@pytest.mark.parametrize("header", ["x_envoy_external_address", "x_forwarded_for", "x_real_ip", "forwarded"])
def test_a_caller_behind_envoy_cannot_choose_its_address(story: Story, header: str) -> None:
    rest = Story(story.world, Rest(story.world), id=story.id)
    spoofed = {header: "203.0.113.9"}

    address = source_of(story, lambda: rest.call(story.alice, ACCESS + "CheckAccess", story.question(), **spoofed))

    assert address == "127.0.0.1"


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", ""),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", ""),
        ("nonsense", ""),
    ],
)
def test_the_trace_id_is_that_of_a_valid_traceparent(story: Story, given: str, recorded: str) -> None:
    story.call(story.alice, ACCESS + "CheckAccess", story.question(), traceparent=given)

    assert story.audit(f'principal = "{story.alice.principal}"')[-1].trace_id == recorded


@pytest.mark.parametrize(
    ("address", "host"),
    [("127.0.0.1:80", "127.0.0.1"), ("%5B::1%5D:80", "::1"), ("[2001:db8::1]:80", "2001:db8::1")],
)
def test_a_peer_is_its_host(address: str, host: str) -> None:
    assert _host(address) == host


def test_the_same_request_by_grpc_and_rest_has_the_same_answer_and_record(world: World) -> None:
    """I23."""
    answers, records = [], []
    for surface in (Grpc(world), Rest(world)):
        story = Story(world, surface, id="a" + uuid.uuid4().hex[:11])
        story.create_policy()
        asked = {"duration": "600s", "justification": {"text": "why", "ticket": "T-1"}, "labels": {"a": "b"}}
        grant = story.asks(**asked)
        refused = story.call(story.alice, GRANTS + "ApproveGrant", {"name": grant.name})
        approved = story.approves(story.bob, grant, comment="ok")
        checked = story.check()
        told = [str(message) for message in (grant, refused, approved, checked)]
        answers.append([_without_accidents(text, story.id) for text in told])
        events = story.audit(f'subject = "{story.alice.principal}" OR grant = "{grant.name}"')
        records.append([_without_accidents(str(event), story.id) for event in events])

    assert answers[0] == answers[1]
    assert records[0] == records[1]
    assert len(records[0]) == 4


def _without_accidents(text: str, story: str) -> str:
    """Leaves out what differs between any two calls: ids, instants, places in the log, the client's own name."""
    import re

    text = text.replace(story, "STORY")
    text = re.sub(r"grants/[a-z2-7]{26}", "GRANT", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "INSTANT", text)
    accidents = (
        r"(?m)^\s*(name|hash|user_agent|etag|decision_id|token_id|seq|revision|policy_revision|seconds|nanos): .*\n"
    )
    return re.sub(accidents, "", text)
