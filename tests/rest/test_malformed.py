"""What the transcoder refuses is explained by the service, through the real Envoy: the field, and how it is written."""

from __future__ import annotations

import pytest

from tests.rest.test_edge import send
from tests.rpc.malformed import BODIES, QUERIES, Malformed
from tests.world import Rest, Story, World


@pytest.fixture
def story(world: World) -> Story:
    return Story(world, Rest(world))


@pytest.mark.parametrize("case", [*BODIES, *QUERIES], ids=str)
def test_a_malformed_request_names_its_field_and_the_right_form(story: Story, case: Malformed) -> None:
    status, answer = send(story, case.verb, case.target, case.body or None)

    info, bad_request = answer["details"]
    (violation,) = bad_request["fieldViolations"]
    assert (status, answer["code"], info["reason"], info["domain"]) == (400, 3, "MALFORMED_REQUEST", "jitaccess")
    assert bad_request["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert violation["field"] == info["metadata"]["field"] == case.path
    assert case.words in violation["description"]
    assert answer["message"] == f"{case.path}: {violation['description']}"


def test_all_faults_are_told_at_once(story: Story) -> None:
    _, answer = send(story, "POST", "/v1/grants", '{"justification": "fix", "duration": "10m", "resource": "a/b"}')

    fields = [violation["field"] for violation in answer["details"][1]["fieldViolations"]]
    assert fields == ["justification", "duration", "resource"]


def test_a_body_of_any_size_is_explained(story: Story) -> None:
    padding = "x" * 900_000

    _, answer = send(story, "POST", "/v1/grants", f'{{"comment": "{padding}", "duration": "10m"}}')

    assert [violation["field"] for violation in answer["details"][1]["fieldViolations"]] == ["comment", "duration"]


def test_who_asks_the_service_directly_through_the_edge_is_told_nothing(story: Story) -> None:
    status, answer = send(story, "POST", "/jitaccess.edge/ExplainRequest", "POST /v1/grants\n{}")

    assert (status, answer["details"][0]["reason"]) == (404, "UNKNOWN_PATH")
