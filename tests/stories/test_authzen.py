"""Stories of AuthZEN's API: what its scenario leaves open, over gRPC and over REST."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.world import Outcome, Person, Story

AUTHZEN = "/authzen.v1.AuthorizationService/"


def call(story: Story, method: str, body: Any, *, by: Person | None = None, kind: str = "application/json") -> Outcome:
    data = base64.b64encode(body if isinstance(body, bytes) else json.dumps(body).encode()).decode()
    return story.call(by or story.gateway, AUTHZEN + method, {"body": {"contentType": kind, "data": data}})


def answer(story: Story, method: str, body: Any, **more: Any) -> Any:
    outcome = call(story, method, body, **more)
    assert outcome.code == "OK", outcome
    return json.loads(outcome.message.data)


def question(story: Story, **changes: Any) -> dict[str, Any]:
    """Alice reads the story's resource."""
    kind, _, name = story.resource.partition("/")
    subject = {"type": "user", "id": story.alice.principal.removeprefix("user:")}
    return {"subject": subject, "action": {"name": "read"}, "resource": {"type": kind, "id": name}} | changes


def decisions(told: Any) -> list[bool]:
    return [one["decision"] for one in told["evaluations"]]


def test_a_grant_is_a_permit_until_it_is_released(story: Story) -> None:
    story.create_policy()
    grant = story.granted()

    yes = answer(story, "Evaluate", question(story))
    story.must(story.alice, "/jitaccess.v1.GrantService/ReleaseGrant", {"name": grant.name})
    no = answer(story, "Evaluate", question(story))

    assert (yes["decision"], yes["context"]["grant"]) == (True, grant.name)
    assert (no["decision"], no["context"]["reason"]) == (False, "RELEASED")


def test_every_evaluation_is_recorded_as_a_check_with_its_context(story: Story) -> None:
    subject = question(story)["subject"] | {"properties": {"role": "x"}}
    told = answer(story, "Evaluate", question(story, subject=subject, context={"site": "plant"}))

    (record,) = story.audit(f'principal = "{story.gateway.principal}"')

    assert (record.decision_id, record.decision) == (told["context"]["evaluation_id"], "DENIED")
    assert (record.subject, list(record.resources)) == (story.alice.principal, [story.resource])
    assert record.context["site"] == "plant"
    assert dict(record.context["subject_properties"]) == {"role": "x"}


@pytest.mark.parametrize(
    "changed",
    [
        {"subject": {"type": "spaceship", "id": "enterprise"}},
        {"subject": {"type": "user", "id": "a  b"}},
        {"subject": {"type": "user:alice", "id": "x"}},
        {"resource": {"type": "database/orders", "id": "eu"}},
        {"resource": {"type": "database", "id": "../orders"}},
        {"resource": {"type": "database", "id": "**"}},
        {"action": {"name": "*"}},
    ],
)
def test_what_nothing_of_ours_is_named_is_a_no_that_is_recorded(story: Story, changed: Any) -> None:
    told = answer(story, "Evaluate", question(story, **changed))

    assert (told["decision"], told["context"]["reason"]) == (False, "NO_GRANT")
    (record,) = story.audit(f'principal = "{story.gateway.principal}"')
    assert (record.decision, record.reason) == ("REFUSED", "INVALID_FIELD")


def test_asking_about_others_needs_the_role_checker(story: Story) -> None:
    assert answer(story, "Evaluate", question(story), by=story.alice)["decision"] is False
    assert call(story, "Evaluate", question(story), by=story.bob).reason == "ROLE_REQUIRED"
    for method in ("SearchSubject", "SearchResource", "SearchAction"):
        assert call(story, method, question(story), by=story.bob).reason == "ROLE_REQUIRED"
    told = answer(story, "EvaluateAll", {"evaluations": [question(story)]}, by=story.bob)
    assert told["evaluations"][0]["context"]["error"]["status"] == 403


def test_a_context_cannot_say_what_comes_from_elsewhere(story: Story) -> None:
    properties = call(story, "Evaluate", question(story, context={"subject_properties": "10.0.0.1"}))
    own = call(story, "Evaluate", question(story, context={"source_ip": "10.0.0.1"}), by=story.alice)

    assert (properties.code, properties.fields) == ("INVALID_ARGUMENT", ("context.subject_properties",))
    assert (own.code, own.fields) == ("INVALID_ARGUMENT", ("context.source_ip",))


def test_where_the_subject_is_the_context_says_and_nothing_else(story: Story) -> None:
    story.create_policy(checkCondition='context.source_ip.inCidr("10.0.0.0/8")')
    story.granted()
    here, there = {"context": {"source_ip": "10.1.2.3"}}, {"context": {"source_ip": "127.0.0.1"}}
    kind = story.resource.partition("/")[0]

    told = answer(story, "EvaluateAll", {"evaluations": [question(story, **context) for context in (here, there, {})]})
    found = [
        answer(story, method, question(story, **sought, **context))["results"]
        for method, sought in (
            ("SearchSubject", {"subject": {"type": "user"}}),
            ("SearchResource", {"resource": {"type": kind}}),
            ("SearchAction", {"action": {"name": ""}}),
        )
        for context in (here, there, {})
    ]

    assert [one["context"]["reason"] for one in told["evaluations"]] == [
        "ALLOWED",
        "CONDITION_NOT_MET",
        "CONDITION_ERROR",
    ]
    assert [len(results) for results in found] == [1, 0, 0] * 3
    bad = call(story, "Evaluate", question(story, context={"source_ip": "office"}))
    assert (bad.code, bad.fields) == ("INVALID_ARGUMENT", ("context.source_ip",))


def test_the_first_deny_or_permit_ends_what_stops_at_it(story: Story) -> None:
    story.create_policy()
    story.granted()
    yes, no, faulty = question(story), question(story, action={"name": "write"}), {"subject": {}}

    def told(semantic: str, *items: Any) -> list[bool]:
        options = {"evaluations_semantic": semantic}
        return decisions(answer(story, "EvaluateAll", {"evaluations": items, "options": options}))

    assert told("execute_all", yes, no, faulty, yes) == [True, False, False, True]
    assert told("deny_on_first_deny", yes, yes, no, yes) == [True, True, False]
    assert told("deny_on_first_deny", yes, faulty, yes) == [True, False]
    assert told("deny_on_first_deny", yes, yes) == [True, True]
    assert told("permit_on_first_permit", no, faulty, yes, no) == [False, False, True]
    assert told("permit_on_first_permit", no, no) == [False, False]


def test_what_comes_after_the_end_uses_up_nothing(story: Story) -> None:
    story.create_policy(maxUses=1)
    story.granted()
    no, yes = question(story, action={"name": "write"}), question(story)
    options = {"evaluations_semantic": "deny_on_first_deny"}

    answer(story, "EvaluateAll", {"evaluations": [no, yes], "options": options})

    assert story.check().allowed


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"options": {"evaluations_semantic": "any"}}, "options.evaluations_semantic"),
        ({"options": {"evaluations_semantic": 1}}, "options.evaluations_semantic"),
        ({"options": []}, "options"),
        ({"evaluations": {}}, "evaluations"),
        ({"evaluations": None}, "evaluations"),
        ({"evaluations": [1]}, "evaluations[0]"),
        ({"evaluations": [{}] * 1001}, "evaluations"),
        ({"evaluations": [{}], "subject": "alice"}, "subject"),
    ],
)
def test_a_fault_of_the_whole_batch_is_400(story: Story, changed: Any, field: str) -> None:
    outcome = call(story, "EvaluateAll", question(story) | changed)

    assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", (field,))


def test_a_wildcard_is_no_entity_but_is_told_beside_them(story: Story) -> None:
    story.create_policy()
    pattern = f"database/{story.id}/**"
    story.granted(resources=[pattern, f"database/{story.id}/eu"])

    told = answer(story, "SearchResource", question(story))

    assert told["results"] == [{"type": "database", "id": f"{story.id}/eu"}]
    assert told["context"]["patterns"] == [{"pattern": pattern, "exceptions": []}]


def test_a_pattern_whose_type_is_a_beginning_is_told_where_it_may_be_the_type(story: Story) -> None:
    pattern = f"data*/{story.id}/**"
    story.create_policy(resources=[pattern])
    story.granted(resources=[pattern])

    told = answer(story, "SearchResource", question(story))

    assert told["context"]["patterns"] == [{"pattern": pattern, "exceptions": []}]


@pytest.mark.parametrize(
    ("page", "field"),
    [
        ({"limit": -1}, "page.limit"),
        ({"limit": "1"}, "page.limit"),
        ({"limit": True}, "page.limit"),
        ({"limit": 1.5}, "page.limit"),
        ({"token": 1}, "page.token"),
        ({"token": "x"}, "page.token"),
        ({"token": "1.x"}, "page_token"),
        ([], "page"),
    ],
)
def test_a_page_with_a_fault_names_the_field(story: Story, page: Any, field: str) -> None:
    outcome = call(story, "SearchSubject", question(story, page=page))

    assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", (field,))


def test_a_page_token_goes_with_its_search_and_limit_only(story: Story) -> None:
    story.create_policy()
    story.granted()
    story.approves(story.ben, story.asks(story.bob))
    first = answer(story, "SearchSubject", question(story, page={"limit": 1}))
    token = first["page"]["next_token"]

    assert call(story, "SearchSubject", question(story, page={"limit": 2, "token": token})).fields == ("page.limit",)
    other = question(story, page={"token": token}, action={"name": "write"})
    assert call(story, "SearchSubject", other).fields == ("page_token",)
    assert (
        answer(story, "SearchSubject", question(story, page={"limit": 1, "token": token}))["page"]["next_token"] == ""
    )


@pytest.mark.parametrize("kind", ["text/plain", "", "application/json; charset=latin-1"])
def test_another_content_type_is_refused(story: Story, kind: str) -> None:
    assert call(story, "Evaluate", question(story), kind=kind).fields == ("content-type",)


# What COAZ-MCP asks where a tool declares no mapping of its own: the action, the resource, and its name here.
SERVER = "https://mcp.example.com"
MCP = [
    ("initialize", "mcp_server", SERVER, "mcp_server/https:/%/mcp.example.com"),
    ("tools/list", "mcp_server", f"{SERVER}/", "mcp_server/https:/%/mcp.example.com/%"),
    ("tools/call", "tool", "get_customer", "tool/get_customer"),
    ("tools/call", "tool", "repo/get file", "tool/repo/get file"),
    ("resources/read", "resource", "file:///home/alice/notes.md", "resource/file:/%/%/home/alice/notes.md"),
    ("resources/read", "resource", f"{SERVER}/a//b?q=1/2#f", "resource/https:/%/mcp.example.com/a/%/b?q=1/2#f"),
    ("resources/subscribe", "resource", "urn:isbn:0451450523", "resource/urn:isbn:0451450523"),
    ("prompts/get", "prompt", "code-review", "prompt/code-review"),
    ("completion/complete", "resource", "file:///{path}", "resource/file:/%/%/{path}"),
    ("logging/setLevel", "mcp_server", SERVER, "mcp_server/https:/%/mcp.example.com"),
    ("tasks/get", "task", "786512e2-9e0d-44bd-8f29-789f320fe840", "task/786512e2-9e0d-44bd-8f29-789f320fe840"),
    ("read", "storage_object", "/bucket/reports/q1.pdf", "storage_object/%/bucket/reports/q1.pdf"),
]


def identity(story: Story) -> dict[str, str]:
    return {"type": "identity", "id": story.alice.principal.removeprefix("user:")}


@pytest.mark.parametrize(("action", "kind", "identifier", "name"), MCP)
def test_what_coaz_mcp_asks_is_answered_and_found_again(
    story: Story, action: str, kind: str, identifier: str, name: str
) -> None:
    asked = {
        "subject": identity(story),
        "action": {"name": action},
        "resource": {"type": kind, "id": identifier},
        "context": {"agent": "http://agentprovider.com/agent-app-id"},
    }
    before = answer(story, "Evaluate", asked)
    story.create_policy("mcp", resources=[name], actions=[action])
    story.granted(resources=[name], actions=[action])

    assert before["decision"] is False
    assert answer(story, "Evaluate", asked)["decision"] is True
    sought = asked | {"resource": {"type": kind}}
    assert answer(story, "SearchResource", sought)["results"] == [asked["resource"]]
    found = answer(story, "SearchSubject", asked | {"subject": {"type": "identity"}})["results"]
    assert asked["subject"] in found
    assert {one["type"] for one in found} == {"identity"}
    assert {"name": action} in answer(story, "SearchAction", asked)["results"]


def test_an_identity_is_a_user_and_nobody_else(story: Story) -> None:
    story.create_policy()
    story.granted()
    name = story.alice.principal.removeprefix("user:")

    def decision(kind: str, identifier: str) -> bool:
        told = answer(story, "Evaluate", question(story, subject={"type": kind, "id": identifier}))
        return bool(told["decision"])

    assert decision("identity", name)
    assert not any(decision("identity", f"{kind}:{name}") for kind in ("user", "identity", "service"))
    assert not decision("service", name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://h/x", "https:/h/x"),
        ("https://h/x", "https:/%/h/x"),
        ("https://h/", "https://h"),
        ("a//b", "a/b"),
        ("a//b", "a/%/b"),
        ("/a", "a"),
        ("file:///a", "file://a"),
    ],
)
def test_no_two_ids_are_one_resource(story: Story, one: str, other: str) -> None:
    kind = f"r{story.id}"
    name = f"{kind}/" + "/".join(part or "%" for part in one.split("/"))
    story.create_policy("ids", resources=[name], actions=["read"])
    story.granted(resources=[name], actions=["read"])

    def decision(identifier: str) -> bool:
        told = answer(
            story, "Evaluate", question(story, subject=identity(story), resource={"type": kind, "id": identifier})
        )
        return bool(told["decision"])

    assert (decision(one), decision(other)) == (True, False)
