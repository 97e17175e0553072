"""Every requirement of the AuthZEN certification scenario, through real Envoy. `make authzen` tells the results."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from jit_service.domain.caller import Role
from tests.rest.authzen_scenario import REQUIREMENTS
from tests.world import ACCESS, GRANTS, POLICIES, Grpc, Person, World

requirement = pytest.mark.requirement
ALICE, BOB = Person("user:alice"), Person("user:bob")
PEP = Person("service:pep", roles=(Role.CHECKER,))
ADMIN = Person("user:admin", roles=(Role.ADMIN,))

EVALUATION, EVALUATIONS = "/access/v1/evaluation", "/access/v1/evaluations"
SUBJECTS, RESOURCES, ACTIONS = (f"/access/v1/search/{side}" for side in ("subject", "resource", "action"))
CONTEXT = {"time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1"}


def user(name: str, **properties: Any) -> dict[str, Any]:
    return {"type": "user", "id": name} | ({"properties": properties} if properties else {})


def record(number: int, **properties: Any) -> dict[str, Any]:
    return {"type": "record", "id": f"record-{number}"} | ({"properties": properties} if properties else {})


def action(name: str, **properties: Any) -> dict[str, Any]:
    return {"name": name} | ({"properties": properties} if properties else {})


def question(subject: Any, verb: Any, resource: Any, **more: Any) -> dict[str, Any]:
    return {"subject": subject, "action": verb, "resource": resource} | more


USER, RECORD = {"type": "user"}, {"type": "record"}
ALICE_READS = question(user("alice"), action("read"), record(1))
WHO_READS = question(USER, action("read"), record(1))
WHERE_ALICE_READS = question(user("alice"), action("read"), RECORD)
WHAT_ALICE_DOES = {"subject": user("alice"), "resource": record(1)}

# One policy each, without approvals: whom it is for, what it gives, and what a check of it demands.
FIXTURE = {
    "az-read": ([ALICE, BOB], ["record/record-1"], ["read"], ""),
    "az-write": (
        [ALICE],
        ["record/record-1", "record/record-2"],
        ["write"],
        '!has(context.resource_properties.status) || context.resource_properties.status != "archived"',
    ),
    "az-admin": (
        [BOB],
        ["record/record-2"],
        ["write"],
        '!has(context.subject_properties.role) || context.subject_properties.role == "admin"',
    ),
    "az-delete": (
        [ALICE],
        ["record/record-1"],
        ["delete"],
        "has(context.action_properties.soft) && context.action_properties.soft == true",
    ),
}


class Answer(NamedTuple):
    status: int
    body: Any
    headers: http.client.HTTPMessage


class Pdp:
    """The service, as a policy enforcement point sees it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def send(self, verb: str, path: str, content: bytes | None, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection(self._world.http.host, self._world.http.port, timeout=20)
        try:
            connection.request(verb, path, body=content, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, json.loads(response.read()), response.headers)
        finally:
            connection.close()

    def post(self, path: str, body: Any, *, by: Person = PEP, **headers: str) -> Answer:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        usual = {"content-type": "application/json", "authorization": f"Bearer {self._world.token(by)}"}
        return self.send(
            "POST", path, content, usual | {key.replace("_", "-"): value for key, value in headers.items()}
        )

    def must(self, path: str, body: Any) -> Any:
        answer = self.post(path, body)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer
        return answer.body

    def decides(self, body: Any) -> bool:
        decision: bool = self.must(EVALUATION, body)["decision"]
        return decision

    def decide_all(self, body: Any) -> list[bool]:
        return [one["decision"] for one in self.must(EVALUATIONS, body)["evaluations"]]

    def finds(self, path: str, body: Any) -> list[Any]:
        results: list[Any] = self.must(path, body)["results"]
        return results


@pytest.fixture(scope="session")
def set_up_at() -> dict[World, datetime]:
    """When the scenario's fixture was made in each world, by the world's clock."""
    return {}


@pytest.fixture
def pdp(world: World, set_up_at: dict[World, datetime]) -> Pdp:
    """The fixture of the scenario, made again only when time has passed, since no test of it changes anything."""
    if set_up_at.get(world) != world.clock():
        set_up(world)
        set_up_at[world] = world.clock()
    return Pdp(world)


def set_up(world: World) -> None:
    """Makes the scenario's policies, and a live grant under each."""
    calls = Grpc(world)

    def must(person: Person, method: str, body: dict[str, Any]) -> None:
        outcome = calls.call(method, body, token=world.token(person))
        assert outcome.code in ("OK", "ALREADY_EXISTS"), outcome

    for policy, (people, resources, actions, condition) in FIXTURE.items():
        document = {
            "name": f"policies/{policy}",
            "eligible": {"principals": [person.principal for person in people]},
            "resources": resources,
            "actions": actions,
            "maxDuration": "3600s",
            "checkCondition": condition,
        }
        must(ADMIN, POLICIES + "CreatePolicy", {"policy": document})
        for person in people:
            wanted = {"policy": f"policies/{policy}", "resources": resources, "actions": actions, "duration": "3600s"}
            must(person, GRANTS + "EnsureGrant", wanted)


def test_every_requirement_has_its_test(request: pytest.FixtureRequest) -> None:
    tested = {
        name
        for item in vars(request.module).values()
        for mark in getattr(item, "pytestmark", [])
        if mark.name == "requirement"
        for name in mark.args
    }

    assert tested == set(REQUIREMENTS)


@requirement("c-1-4")
@pytest.mark.parametrize(
    ("asked", "decision"),
    [
        (ALICE_READS, True),
        (question(user("alice"), action("write"), record(1)), True),
        (question(user("bob"), action("read"), record(1)), True),
        (question(user("bob"), action("write"), record(1)), False),
        (question(user("alice"), action("write"), record(2, status="archived")), False),
        (question(user("bob", role="admin"), action("write"), record(2, status="archived")), True),
        (question(user("alice"), action("delete", soft=True), record(1)), True),
        (question(user("alice"), action("delete", soft=False), record(1)), False),
    ],
)
def test_the_eight_decisions_of_the_fixture(pdp: Pdp, asked: Any, decision: bool) -> None:
    assert pdp.decides(asked) is decision


@requirement("c-1-5")
@pytest.mark.parametrize(
    ("path", "asked", "found"),
    [
        (SUBJECTS, WHO_READS, [user("alice"), user("bob")]),
        (RESOURCES, WHERE_ALICE_READS, [record(1)]),
        (ACTIONS, WHAT_ALICE_DOES, [action("read"), action("write")]),
        (SUBJECTS, question(USER, action("write"), record(2, status="archived")), [user("bob")]),
        (RESOURCES, question(user("bob", role="admin"), action("write"), RECORD), [record(2)]),
        (ACTIONS, {"subject": user("bob", role="admin"), "resource": record(2, status="archived")}, [action("write")]),
    ],
)
def test_the_searches_of_the_fixture(pdp: Pdp, path: str, asked: Any, found: list[Any]) -> None:
    results = pdp.finds(path, asked)

    assert [one for one in found if one not in results] == []


@requirement("c-2-1", "c-2-2-1", "c-2-3-1", "c-2-3-2")
def test_a_permit(pdp: Pdp) -> None:
    answer = pdp.must(EVALUATION, ALICE_READS)

    assert answer["decision"] is True
    assert isinstance(answer["context"], dict)


@requirement("c-2-2-2", "c-2-3-1", "c-2-3-2")
def test_a_deny_is_200_with_decision_false(pdp: Pdp) -> None:
    answer = pdp.must(EVALUATION, question(user("bob"), action("write"), record(1)))

    assert answer["decision"] is False
    assert isinstance(answer["context"], dict)


@requirement("c-2-2-3")
def test_context_is_accepted(pdp: Pdp) -> None:
    assert pdp.decides(ALICE_READS | {"context": CONTEXT}) is True


@requirement("c-2-2-4")
def test_a_deny_by_the_properties_of_the_resource(pdp: Pdp) -> None:
    assert pdp.decides(question(user("alice"), action("write"), record(2, status="archived"))) is False
    assert pdp.decides(question(user("alice"), action("write"), record(2, status="active"))) is True


@requirement("c-2-2-5")
def test_a_permit_by_the_properties_of_the_subject(pdp: Pdp) -> None:
    archived = record(2, status="archived")

    assert pdp.decides(question(user("bob", role="admin"), action("write"), archived)) is True
    assert pdp.decides(question(user("bob", role="guest"), action("write"), archived)) is False


@requirement("c-2-2-6")
def test_a_permit_by_the_properties_of_the_action(pdp: Pdp) -> None:
    assert pdp.decides(question(user("alice"), action("delete", soft=True), record(1))) is True


@requirement("c-2-2-7")
def test_a_deny_by_the_properties_of_the_action(pdp: Pdp) -> None:
    assert pdp.decides(question(user("alice"), action("delete", soft=False), record(1))) is False


@requirement("c-2-2-8")
def test_additional_properties_are_accepted(pdp: Pdp) -> None:
    subject = user("alice", department="Sales", role="manager")

    assert pdp.decides(question(subject, action("read", method="GET"), record(1, status="active", owner="bob"))) is True


@requirement("c-2-2-9")
def test_unknown_fields_are_ignored(pdp: Pdp) -> None:
    unknown = {"foo": "bar", "futureField": {"nested": True}}
    subject = user("alice") | {"futureField": 1}

    assert pdp.decides(ALICE_READS | unknown | {"subject": subject}) is True


@requirement("c-2-4-1")
@pytest.mark.parametrize("field", ["subject", "action", "resource"])
def test_a_missing_field_is_400(pdp: Pdp, field: str) -> None:
    answer = pdp.post(EVALUATION, {key: value for key, value in ALICE_READS.items() if key != field})

    assert (answer.status, answer.body["details"][0]["metadata"]) == (400, {"field": field})


@requirement("c-2-4-2")
@pytest.mark.parametrize(
    ("entity", "field"),
    [("subject", "type"), ("subject", "id"), ("action", "name"), ("resource", "type"), ("resource", "id")],
)
@pytest.mark.parametrize("path", [EVALUATION, EVALUATIONS])
def test_a_missing_sub_field_is_400(pdp: Pdp, path: str, entity: str, field: str) -> None:
    incomplete = {key: value for key, value in ALICE_READS[entity].items() if key != field}
    answer = pdp.post(path, ALICE_READS | {entity: incomplete})

    assert (answer.status, answer.body["details"][0]["metadata"]) == (400, {"field": f"{entity}.{field}"})


@requirement("c-2-4-3")
@pytest.mark.parametrize(
    "kind", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "application/json5", "text/json", ""]
)
@pytest.mark.parametrize("path", [EVALUATION, EVALUATIONS, SUBJECTS, RESOURCES, ACTIONS])
def test_another_content_type_is_400(pdp: Pdp, path: str, kind: str) -> None:
    assert pdp.post(path, WHO_READS | ALICE_READS, content_type=kind).status == 400


@requirement("c-2-4-4")
@pytest.mark.parametrize(
    "content",
    [
        b"{bad",
        b'{"subject":',
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        json.dumps(ALICE_READS).encode() + b"x",
        json.dumps(ALICE_READS).encode()[:-1] + b', "context": {"a": NaN}}',
        json.dumps(ALICE_READS).encode()[:-1] + b', "context": {"a": 1e999}}',
        json.dumps(ALICE_READS).encode()[:-1] + b', "context": {"a": 1, "a": 2}}',
        json.dumps(ALICE_READS).encode()[:-1] + b', "context": {"a": "\\ud800"}}',
        json.dumps(ALICE_READS).encode()[:-1] + b', "context": ' + b'{"a":' * 60 + b"1" + b"}" * 60 + b"}",
        b"[" * 5000,
    ],
)
def test_malformed_json_is_400(pdp: Pdp, content: bytes) -> None:
    assert pdp.post(EVALUATION, content).status == 400


@requirement("c-2-4-5")
@pytest.mark.parametrize("path", [EVALUATION, EVALUATIONS, SUBJECTS, RESOURCES, ACTIONS])
def test_an_empty_body_is_400(pdp: Pdp, path: str) -> None:
    assert pdp.post(path, b"").status == 400


@requirement("c-2-4-6")
@pytest.mark.parametrize(
    "changed",
    [
        {"subject": "alice"},
        {"subject": None},
        {"subject": ["alice"]},
        {"action": action(123)},  # type: ignore[arg-type]
        {"action": {"name": True}},
        {"action": "read"},
        {"resource": {"type": "record", "id": 1}},
        {"resource": {"type": "record", "id": None}},
        {"resource": {"type": "record", "id": ""}},
        {"resource": record(1) | {"properties": "none"}},
        {"context": []},
        {"context": None},
    ],
)
def test_a_mistyped_field_is_400(pdp: Pdp, changed: Any) -> None:
    assert pdp.post(EVALUATION, ALICE_READS | changed).status == 400


@requirement("c-2-5-1")
@pytest.mark.parametrize("identifier", ["bfe9eb29-ab87-4ca3-be83-a1d5d8305716", "any text at all", "x" * 200])
@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (EVALUATION, ALICE_READS, 200),
        (EVALUATION, {}, 400),
        (EVALUATIONS, ALICE_READS, 200),
        (SUBJECTS, WHO_READS, 200),
    ],
)
def test_the_request_id_comes_back(pdp: Pdp, path: str, body: Any, status: int, identifier: str) -> None:
    answer = pdp.post(path, body, x_request_id=identifier)

    assert (answer.status, answer.headers.get_all("x-request-id")) == (status, [identifier])


@requirement("c-2-5-2")
def test_the_request_id_may_be_absent(pdp: Pdp) -> None:
    assert pdp.post(EVALUATION, ALICE_READS).status == 200


@requirement("c-2-6")
def test_the_same_request_has_the_same_decision(pdp: Pdp) -> None:
    no = question(user("bob"), action("write"), record(1))

    assert [pdp.decides(ALICE_READS) for _ in range(5)] == [True] * 5
    assert [pdp.decides(no) for _ in range(5)] == [False] * 5


@requirement("c-3-1", "c-3-2-1", "c-3-3-1", "c-3-3-3", "c-3-3-4")
def test_an_array_of_evaluations(pdp: Pdp) -> None:
    shared = {"subject": user("alice"), "action": action("read")}
    answer = pdp.must(EVALUATIONS, shared | {"evaluations": [{"resource": record(1)}, {"resource": record(2)}]})

    assert [type(one["decision"]) for one in answer["evaluations"]] == [bool, bool]
    assert "decision" not in answer


@requirement("c-3-2-2", "c-3-3-2")
def test_the_decisions_of_the_fixture_in_their_order(pdp: Pdp) -> None:
    shared = {"subject": user("bob"), "resource": record(1)}
    read, write = {"action": action("read")}, {"action": action("write")}

    assert pdp.decide_all(shared | {"evaluations": [read, write]}) == [True, False]
    assert pdp.decide_all(shared | {"evaluations": [write, read]}) == [False, True]


@requirement("c-3-2-3")
def test_resource_properties_of_each_item(pdp: Pdp) -> None:
    shared = {"subject": user("alice"), "action": action("write")}
    items = [{"resource": record(1, status="active")}, {"resource": record(2, status="archived")}]

    assert pdp.decide_all(shared | {"evaluations": items}) == [True, False]


@requirement("c-3-2-4")
def test_subject_properties_of_each_item(pdp: Pdp) -> None:
    shared = {"action": action("write"), "resource": record(2, status="archived")}
    items = [{"subject": user("alice")}, {"subject": user("bob", role="admin")}]

    assert pdp.decide_all(shared | {"evaluations": items}) == [False, True]


@requirement("c-3-2-5")
def test_evaluations_without_defaults(pdp: Pdp) -> None:
    items = [ALICE_READS, question(user("bob"), action("write"), record(1))]

    assert pdp.decide_all({"evaluations": items}) == [True, False]


@requirement("c-3-2-6")
def test_context_is_inherited(pdp: Pdp) -> None:
    shared = {"subject": user("alice"), "action": action("read"), "context": CONTEXT}
    items = [{"resource": record(1)}, {"resource": record(2), "context": {"source": "batch-override"}}]

    assert pdp.decide_all(shared | {"evaluations": items}) == [True, False]


@requirement("c-3-2-7")
def test_entities_are_inherited_whole(pdp: Pdp) -> None:
    shared = question(user("alice"), action("write"), record(1, status="active"))
    items = [{}, {"resource": record(2, status="archived")}]

    assert pdp.decide_all(shared | {"evaluations": items}) == [True, False]


@requirement("c-3-4-1")
def test_a_faulty_evaluation_is_decision_false(pdp: Pdp) -> None:
    shared = {"subject": user("alice"), "action": action("read"), "options": {"evaluations_semantic": "execute_all"}}
    answer = pdp.must(EVALUATIONS, shared | {"evaluations": [{"resource": record(1)}, {}, {"resource": {"id": "x"}}]})

    assert [one["decision"] for one in answer["evaluations"]] == [True, False, False]
    assert answer["evaluations"][1]["context"]["error"]["status"] == 400


@requirement("c-3-4-2")
def test_without_evaluations_it_is_a_single_one(pdp: Pdp) -> None:
    assert pdp.must(EVALUATIONS, ALICE_READS)["decision"] is True


@requirement("c-3-4-3")
def test_with_an_empty_array_it_is_a_single_one(pdp: Pdp) -> None:
    assert pdp.must(EVALUATIONS, ALICE_READS | {"evaluations": []})["decision"] is True


@requirement("c-4-1", "c-4-2-1")
def test_subject_search(pdp: Pdp) -> None:
    found = pdp.finds(SUBJECTS, WHO_READS)

    assert found == [user("alice"), user("bob")]


@requirement("c-4-2-2")
def test_subject_search_with_context(pdp: Pdp) -> None:
    assert pdp.finds(SUBJECTS, WHO_READS | {"context": CONTEXT}) == pdp.finds(SUBJECTS, WHO_READS)


@requirement("c-4-2-3")
def test_subject_search_passes_an_id_over(pdp: Pdp) -> None:
    for subject in (user("alice"), USER | {"id": 5}):
        assert pdp.finds(SUBJECTS, WHO_READS | {"subject": subject}) == pdp.finds(SUBJECTS, WHO_READS)


@requirement("c-4-2-4")
def test_subject_search_with_resource_properties(pdp: Pdp) -> None:
    found = pdp.finds(SUBJECTS, question(USER, action("write"), record(2, status="archived")))

    assert found == [user("bob")]


@requirement("c-4-1", "c-4-3-1")
def test_resource_search(pdp: Pdp) -> None:
    assert pdp.finds(RESOURCES, WHERE_ALICE_READS) == [record(1)]


@requirement("c-4-3-2")
def test_resource_search_with_context(pdp: Pdp) -> None:
    assert pdp.finds(RESOURCES, WHERE_ALICE_READS | {"context": CONTEXT}) == [record(1)]


@requirement("c-4-3-3")
def test_resource_search_passes_an_id_over(pdp: Pdp) -> None:
    assert pdp.finds(RESOURCES, WHERE_ALICE_READS | {"resource": record(9)}) == [record(1)]


@requirement("c-4-3-4")
def test_resource_search_with_subject_properties(pdp: Pdp) -> None:
    assert pdp.finds(RESOURCES, question(user("bob", role="admin"), action("write"), RECORD)) == [record(2)]


@requirement("c-4-1", "c-4-4-1")
def test_action_search(pdp: Pdp) -> None:
    assert pdp.finds(ACTIONS, WHAT_ALICE_DOES) == [action("read"), action("write")]


@requirement("c-4-4-2")
def test_action_search_with_context(pdp: Pdp) -> None:
    assert pdp.finds(ACTIONS, WHAT_ALICE_DOES | {"context": CONTEXT}) == [action("read"), action("write")]


@requirement("c-4-4-3")
def test_action_search_with_properties(pdp: Pdp) -> None:
    asked = {"subject": user("bob", role="admin"), "resource": record(2, status="archived")}

    assert pdp.finds(ACTIONS, asked) == [action("write")]


@requirement("c-4-5-1", "c-4-5-2", "c-4-5-3")
def test_pages_of_one_hold_everything_once(pdp: Pdp) -> None:
    first = pdp.must(SUBJECTS, WHO_READS | {"page": {"limit": 1}})
    second = pdp.must(SUBJECTS, WHO_READS | {"page": {"token": first["page"]["next_token"]}})

    assert (first["results"], first["page"]["count"]) == ([user("alice")], 1)
    assert (second["results"], second["page"]) == ([user("bob")], {"next_token": "", "count": 1})


@requirement("c-4-5-4")
@pytest.mark.parametrize("page", [{}, {"limit": 0}, {"limit": 5000}, {"properties": {"sort": "id"}}, {"token": ""}])
def test_without_a_limit_all_results_come(pdp: Pdp, page: Any) -> None:
    answer = pdp.must(SUBJECTS, WHO_READS | {"page": page})

    assert (len(answer["results"]), answer["page"]["next_token"]) == (2, "")


@requirement("c-4-6-1")
@pytest.mark.parametrize("name", ["nonexistent-user", "not a name of ours", "*", "a/../b"])
@pytest.mark.parametrize(
    ("path", "asked"),
    [
        (ACTIONS, lambda name: {"subject": user(name), "resource": record(1)}),
        (RESOURCES, lambda name: question(user(name), action("read"), RECORD)),
        (SUBJECTS, lambda name: question(USER, action("read"), {"type": "record", "id": name})),
        (SUBJECTS, lambda name: question(USER, action(name), record(1))),
    ],
)
def test_an_unknown_id_finds_nothing(pdp: Pdp, path: str, asked: Callable[[str], Any], name: str) -> None:
    assert pdp.finds(path, asked(name)) == []


@requirement("c-4-6-2")
@pytest.mark.parametrize("kind", ["spaceship", "not a type", "a/b", "*", "**"])
@pytest.mark.parametrize(
    ("path", "asked"),
    [
        (SUBJECTS, lambda kind: question({"type": kind}, action("read"), record(1))),
        (SUBJECTS, lambda kind: question(USER, action("read"), {"type": kind, "id": "record-1"})),
        (RESOURCES, lambda kind: question(user("alice"), action("read"), {"type": kind})),
        (RESOURCES, lambda kind: question({"type": kind, "id": "alice"}, action("read"), RECORD)),
        (ACTIONS, lambda kind: {"subject": {"type": kind, "id": "alice"}, "resource": record(1)}),
    ],
)
def test_an_unknown_type_finds_nothing(pdp: Pdp, path: str, asked: Callable[[str], Any], kind: str) -> None:
    assert pdp.finds(path, asked(kind)) == []


@requirement("c-4-7-1")
@pytest.mark.parametrize(
    ("path", "asked", "field"),
    [
        (SUBJECTS, {"subject": USER, "resource": record(1)}, "action"),
        (RESOURCES, {"action": action("read"), "resource": RECORD}, "subject"),
        (ACTIONS, {"subject": user("alice")}, "resource"),
    ],
)
def test_a_search_without_a_field_is_400(pdp: Pdp, path: str, asked: Any, field: str) -> None:
    answer = pdp.post(path, asked)

    assert (answer.status, answer.body["details"][0]["metadata"]) == (400, {"field": field})


@requirement("c-4-7-2")
@pytest.mark.parametrize(
    ("path", "asked", "field"),
    [
        (SUBJECTS, question(USER, action("read"), RECORD), "resource.id"),
        (RESOURCES, question(USER, action("read"), RECORD), "subject.id"),
        (ACTIONS, {"subject": USER, "resource": record(1)}, "subject.id"),
        (SUBJECTS, question({}, action("read"), record(1)), "subject.type"),
        (RESOURCES, question(user("alice"), action("read"), {}), "resource.type"),
    ],
)
def test_a_search_without_a_sub_field_is_400(pdp: Pdp, path: str, asked: Any, field: str) -> None:
    answer = pdp.post(path, asked)

    assert (answer.status, answer.body["details"][0]["metadata"]) == (400, {"field": field})


@requirement("c-5")
def test_json_with_its_charset_is_json(pdp: Pdp) -> None:
    answer = pdp.post(
        EVALUATION, ALICE_READS | {"new": 1}, content_type="application/json; charset=utf-8", x_request_id="r"
    )

    assert (answer.status, answer.body["decision"], answer.headers["x-request-id"]) == (200, True, "r")


@requirement("c-6-1", "c-6-2", "c-6-3", "c-6-4", "c-6-5", "c-6-6")
def test_the_metadata_say_where_everything_is(pdp: Pdp) -> None:
    answer = pdp.send("GET", "/.well-known/authzen-configuration", None, {})

    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    base = answer.body.pop("policy_decision_point")
    assert base == "https://jit.example.com"
    paths = {name: urlsplit(url) for name, url in answer.body.items() if name.endswith("_endpoint")}
    assert {f"{url.scheme}://{url.netloc}" for url in paths.values()} == {base}
    assert [paths[f"access_{name}_endpoint"].path for name in ("evaluation", "evaluations")] == [
        EVALUATION,
        EVALUATIONS,
    ]
    searches = [paths[f"search_{side}_endpoint"].path for side in ("subject", "resource", "action")]
    assert searches == [SUBJECTS, RESOURCES, ACTIONS]


def test_what_authzen_decides_is_what_check_decides(world: World, pdp: Pdp) -> None:
    properties = {"subject_properties": {}, "action_properties": {}, "resource_properties": {"status": "archived"}}
    asked = {"subject": "user:alice", "action": "write", "resource": "record/record-2", "context": properties}

    checked = Grpc(world).call(ACCESS + "CheckAccess", asked, token=world.token(PEP)).message
    answer = pdp.must(EVALUATION, question(user("alice"), action("write"), record(2, status="archived")))

    assert (answer["decision"], answer["context"]["reason"]) == (checked.allowed, "CONDITION_NOT_MET")
    assert answer["context"]["message"] == checked.message
