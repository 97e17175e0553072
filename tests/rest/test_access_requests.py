"""Access requests over AuthZEN (draft), through real Envoy: denied, asked for, approved, evaluated again."""

from __future__ import annotations

import http.client
import json
from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from tests.world import GRANTS, Grpc, Person, Story, World, form

EVALUATION, REQUESTS = "/access/v1/evaluation", "/access/v1/requests"
PROBLEM = "urn:openid:authzen:access-request:error:"


class Answer(NamedTuple):
    status: int
    body: Any
    headers: http.client.HTTPMessage


@pytest.fixture
def story(world: World) -> Story:
    story = Story(world, Grpc(world))
    story.create_policy()
    return story


def send(story: Story, verb: str, path: str, body: Any = None, *, by: Person | None = None, **headers: str) -> Answer:
    connection = http.client.HTTPConnection(story.world.http.host, story.world.http.port, timeout=20)
    sent = {"authorization": f"Bearer {story.world.token(by or story.alice)}", "content-type": "application/json"}
    try:
        connection.request(verb, path, json.dumps(body) if body is not None else None, sent | headers)
        response = connection.getresponse()
        return Answer(response.status, json.loads(response.read()), response.headers)
    finally:
        connection.close()


def question(story: Story, **changes: Any) -> dict[str, Any]:
    subject = {"type": "user", "id": story.alice.principal.removeprefix("user:")}
    resource = {"type": "database", "id": f"{story.id}/eu"}
    return {"subject": subject, "action": {"name": "read"}, "resource": resource} | changes


def evaluate(story: Story, asked: Any, *, by: Person | None = None) -> Any:
    answer = send(story, "POST", EVALUATION, asked, by=by)
    assert answer.status == 200, answer
    return answer.body


def denial(story: Story, asked: Any, *, by: Person | None = None) -> dict[str, Any]:
    """Evaluates, and returns what a request must tell of the denial."""
    context = evaluate(story, asked, by=by)["context"]
    hint = context["access_request"]
    return {
        "evaluation_id": context["evaluation_id"],
        "expires_at": hint["expires_at"],
        "binding_token": hint["binding_token"],
    }


def ask(story: Story, **changes: Any) -> Answer:
    asked = question(story)
    return send(story, "POST", REQUESTS, asked | {"denial": denial(story, asked)} | changes)


def task_path(answer: Answer) -> str:
    return f"{REQUESTS}/{answer.body['task']['id']}"


def approval_of(story: Story, answer: Answer) -> Any:
    result = send(story, "GET", task_path(answer)).body["result"]
    assert result["mode"] == "reevaluate"
    return result["approval"]


def test_denied_asked_for_approved_and_evaluated_again(story: Story) -> None:
    denied = evaluate(story, question(story))
    hint = denied["context"]["access_request"]
    asked = ask(story, context={"business_justification": "renewal"})
    story.must(story.bob, GRANTS + "ApproveGrant", {"name": f"grants/{asked.body['task']['id']}"})
    done = send(story, "GET", task_path(asked))
    approval = done.body["result"]["approval"]
    again = evaluate(story, question(story, context={"approval": approval}))

    assert denied["decision"] is False
    assert hint["endpoint"] == "https://jit.example.com" + REQUESTS
    assert (asked.status, asked.body["task"]["status"], asked.headers["retry-after"]) == (202, "pending", "5")
    assert asked.headers["location"] == asked.body["task"]["status_endpoint"]
    assert "result" not in asked.body
    assert (done.status, done.body["task"]["status"]) == (200, "approved")
    assert again["decision"] is True
    assert again["context"]["approval"] == approval
    told = story.must(story.alice, GRANTS + "GetGrant", {"name": f"grants/{asked.body['task']['id']}"})
    assert told.justification.text == "renewal"


def test_a_denial_that_nobody_could_approve_says_nothing_of_asking(story: Story) -> None:
    asked = question(story, action={"name": "drop"})

    assert "access_request" not in evaluate(story, asked)["context"]


def test_what_needs_no_approval_is_approved_at_once(story: Story) -> None:
    story.create_policy("auto", steps=[], actions=["write"])
    asked = question(story, action={"name": "write"})

    answer = send(story, "POST", REQUESTS, asked | {"denial": denial(story, asked)})

    assert (answer.status, answer.body["task"]["status"]) == (201, "approved")
    assert evaluate(story, asked | {"context": {"approval": answer.body["result"]["approval"]}})["decision"] is True


def test_the_access_lasts_until_it_was_requested(story: Story) -> None:
    until = (story.world.clock() + timedelta(minutes=30)).isoformat().replace("+00:00", "Z")
    answer = ask(story, requested_access={"requested_until": until})

    grant = story.must(story.alice, GRANTS + "GetGrant", {"name": f"grants/{answer.body['task']['id']}"})
    assert grant.duration.ToTimedelta() == timedelta(minutes=30)


@pytest.mark.parametrize(
    ("act", "by", "status"), [("DenyGrant", "bob", "denied"), ("WithdrawGrant", "alice", "cancelled")]
)
def test_a_task_that_ends_otherwise_has_no_result(story: Story, act: str, by: str, status: str) -> None:
    answer = ask(story)
    story.must(getattr(story, by), GRANTS + act, {"name": f"grants/{answer.body['task']['id']}", "comment": "no"})

    told = send(story, "GET", task_path(answer)).body

    assert (told["task"]["status"], "result" in told) == (status, False)


def test_a_task_that_nobody_decides_expires(story: Story) -> None:
    answer = ask(story)
    story.world.clock.advance(timedelta(hours=9))

    assert send(story, "GET", task_path(answer)).body["task"]["status"] == "expired"


def test_whoever_asked_may_cancel_while_it_waits(story: Story) -> None:
    answer = ask(story)
    path = f"{task_path(answer)}:cancel"

    assert answer.body["task"]["links"]["cancel"] == "https://jit.example.com" + path
    assert send(story, "POST", path, {}, by=story.ben).status == 403
    cancelled = send(story, "POST", path, {"comment": "no more"})
    again = send(story, "POST", path, {})

    assert (cancelled.status, cancelled.body["task"]["status"]) == (200, "cancelled")
    assert (again.status, again.body["type"]) == (409, PROBLEM + "invalid_task_state")
    assert again.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "changed",
    [
        {"subject": {"type": "user", "id": "mallory"}},
        {"resource": {"type": "database", "id": "other"}},
        {"resource": {"type": "database", "id": "other", "properties": {"a": 1}}},
        {"action": {"name": "write"}},
        {"action": {"name": "read", "properties": {"soft": True}}},
        {"context": {"site": "home"}},
        {"context": {}},
    ],
)
def test_what_was_not_denied_cannot_be_asked_for(story: Story, changed: Any) -> None:
    asked = question(story, context={"site": "plant", "time": "now"})
    told = denial(story, asked)

    answer = send(story, "POST", REQUESTS, asked | {"denial": told} | changed)

    assert (answer.status, answer.body["type"]) == (400, PROBLEM + "invalid_denial_binding")
    assert not story.must(story.alice, GRANTS + "ListGrants", {}).grants
    (refusal,) = story.audit(f'principal = "{story.alice.principal}" AND event_type = "CALL_REFUSED"')
    assert refusal.reason == "DENIAL_NOT_BOUND"


def test_where_the_subject_was_denied_is_not_where_it_asks_from(story: Story) -> None:
    """The gateway says where alice is; her own request comes from where it is seen to."""
    asked = question(story, context={"source_ip": "10.1.2.3", "site": "plant"})
    told = denial(story, asked, by=story.gateway)

    moved = send(
        story, "POST", REQUESTS, asked | {"denial": told, "context": {"source_ip": "10.9.9.9", "site": "plant"}}
    )
    assert moved.body["type"] == PROBLEM + "invalid_denial_binding"
    assert send(story, "POST", REQUESTS, asked | {"denial": told}).status == 202
    (grant,) = story.must(story.alice, GRANTS + "ListGrants", {}).grants
    assert dict(grant.context)["site"] == "plant"
    assert "source_ip" not in dict(grant.context)


def test_time_and_the_justification_are_no_part_of_what_was_denied(story: Story) -> None:
    asked = question(story, context={"site": "plant", "time": "now"})
    told = denial(story, asked)
    context = {"site": "plant", "time": "later", "business_justification": "why"}

    assert send(story, "POST", REQUESTS, asked | {"denial": told, "context": context}).status == 202


def forged(story: Story, token: str) -> list[str]:
    header, payload, signature = token.split(".")
    grant = story.approves(story.bob, story.asks(story.alice, actions=["write"]))
    issued = story.must(story.alice, "/jitaccess.v1.TokenService/IssueToken", {"name": grant.name}).token
    return ["x", f"{header}.{payload}.{signature[:-4]}AAAA", f"{header}.{payload}.", issued, token + "=", ""]


def test_a_denial_that_the_service_did_not_sign_is_none(story: Story) -> None:
    asked = question(story)
    told = denial(story, asked)

    for token in forged(story, told["binding_token"]):
        answer = send(story, "POST", REQUESTS, asked | {"denial": told | {"binding_token": token}})
        assert (answer.status, answer.body["type"]) == (400, PROBLEM + "invalid_denial_binding"), token
    assert send(story, "POST", REQUESTS, asked | {"denial": {}}).status == 400
    assert send(story, "POST", REQUESTS, asked).body["details"][0]["metadata"] == {"field": "denial"}


def test_a_binding_token_opens_nothing_else(story: Story) -> None:
    token = denial(story, question(story))["binding_token"]

    introspected = story.must(story.gateway, "/jitaccess.v1.TokenService/IntrospectToken", form(token))

    assert json.loads(introspected.data) == {"active": False}
    assert Grpc(story.world).call(GRANTS + "ListGrants", {}, token=token).code == "UNAUTHENTICATED"


def test_a_denial_is_too_old_exactly_at_its_expiry(story: Story) -> None:
    asked = question(story)
    told = denial(story, asked)
    story.world.clock.advance(timedelta(minutes=10))

    answer = send(story, "POST", REQUESTS, asked | {"denial": told})

    assert (answer.status, answer.body["type"]) == (410, PROBLEM + "expired_denial")


def test_the_same_key_has_the_same_task_and_another_body_is_a_conflict(story: Story) -> None:
    asked = question(story)
    body = asked | {"denial": denial(story, asked)}
    key = {"idempotency-key": f"k-{story.id}"}

    other_order = dict(reversed(body.items()))
    first, second = (send(story, "POST", REQUESTS, same, **key) for same in (body, other_order))
    other = send(story, "POST", REQUESTS, body | {"context": {"business_justification": "other"}}, **key)

    assert first.body["task"]["id"] == second.body["task"]["id"]
    assert (other.status, other.body["type"]) == (409, PROBLEM + "duplicate_request")


def test_a_task_is_for_those_who_may_see_its_grant(story: Story) -> None:
    path = task_path(ask(story))

    assert send(story, "GET", path, by=story.ben).status == 200
    for person, where in ((story.dave, path), (story.alice, f"{REQUESTS}/none")):
        answer = send(story, "GET", where, by=person)
        assert (answer.status, answer.body["type"]) == (404, PROBLEM + "unknown_task")


def test_asking_for_others_is_as_hard_as_anywhere(story: Story) -> None:
    asked = question(story)
    body = asked | {"denial": denial(story, asked)}

    assert send(story, "POST", REQUESTS, body, by=story.gateway).status == 403


def test_an_approval_by_itself_allows_nothing(story: Story) -> None:
    answer = ask(story)
    task = answer.body["task"]["id"]

    def told(approval: Any, **changes: Any) -> tuple[Any, ...]:
        answered = evaluate(story, question(story, context={"approval": approval}, **changes))
        context = answered["context"]
        return answered["decision"], context["reason"], context["next_action"]

    assert told({"id": task}) == (False, "grant_pending", "retry")
    assert told({"id": "unknown"}) == (False, "approval_unverifiable", "none")
    assert told({"id": "../x"}) == (False, "approval_unverifiable", "none")
    assert told("text") == (False, "approval_unverifiable", "none")
    story.approves(story.bob, story.must(story.alice, GRANTS + "GetGrant", {"name": f"grants/{task}"}))
    approval = approval_of(story, answer)
    assert told(approval, resource={"type": "database", "id": f"{story.id}/us"}) == (False, "out_of_scope", "request")
    deny = {"deny": True} | dict.fromkeys(("steps", "minDuration", "defaultDuration", "maxDuration", "requestTtl"))
    story.create_policy("deny", **deny)
    assert told(approval) == (False, "policy_denied", "none")


def test_an_approval_of_somebody_else_is_none(story: Story) -> None:
    task = ask(story).body["task"]["id"]
    asked = question(story, subject={"type": "user", "id": story.bob.principal.removeprefix("user:")})

    told = evaluate(story, asked | {"context": {"approval": {"id": task}}}, by=story.bob)

    assert told["context"]["reason"] == "approval_unverifiable"


def test_an_approval_is_over_when_its_grant_is(story: Story) -> None:
    answer = ask(story)
    name = f"grants/{answer.body['task']['id']}"
    story.must(story.bob, GRANTS + "ApproveGrant", {"name": name})
    approval = approval_of(story, answer)
    story.must(story.alice, GRANTS + "ReleaseGrant", {"name": name})

    told = evaluate(story, question(story, context={"approval": approval}))

    assert (told["decision"], told["context"]["reason"], told["context"]["next_action"]) == (
        False,
        "approval_expired",
        "request",
    )
    assert "access_request" in told["context"]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"items": []}, "items"),
        ({"denial": "x"}, "denial"),
        ({"requested_access": []}, "requested_access"),
        ({"requested_access": {"requested_until": "tomorrow"}}, "requested_access.requested_until"),
        ({"requested_access": {"requested_until": "2020-01-01T00:00:00Z"}}, "requested_access.requested_until"),
        ({"requested_access": {"emergency": "yes"}}, "requested_access.emergency"),
        ({"context": {"business_justification": 1}}, "context.business_justification"),
        ({"subject": {"type": "user"}}, "subject.id"),
    ],
)
def test_a_request_with_a_fault_names_the_field(story: Story, changed: Any, field: str) -> None:
    answer = ask(story, **changed)

    assert (answer.status, answer.body["details"][0]["metadata"]) == (400, {"field": field})
