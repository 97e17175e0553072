"""Over REST the faults of fields have JSON's names; over gRPC the proto's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.rest.test_edge import send
from tests.world import GRANTS, Grpc, Rest, Story, World


@pytest.fixture
def story(world: World) -> Story:
    return Story(world, Rest(world))


CASES = [
    ({"requestId": "x"}, "requestId", "request_id"),
    ({"startTime": "2000-01-01T00:00:00Z"}, "startTime", "start_time"),
    ({"justification": {"ticket": "x" * 300}}, "justification.ticket", "justification.ticket"),
    ({"labels": {"my_key": "a b"}}, "labels.my_key", "labels.my_key"),
]


@pytest.mark.parametrize(("more", "written", "declared"), CASES)
def test_a_fault_names_its_field_as_its_caller_wrote_it(
    world: World, story: Story, more: dict[str, Any], written: str, declared: str
) -> None:
    body = {"resources": [story.resource], "actions": ["read"]} | more

    _, answer = Rest(world).send("POST", "/v1/grants", json.dumps(body), token=world.token(story.alice))
    over_grpc = Grpc(world).call(GRANTS + "RequestGrant", body, token=world.token(story.alice))

    assert answer["message"].startswith(f"{written}: ")
    assert answer["details"][1]["fieldViolations"][0]["field"] == written
    assert over_grpc.fields == (declared,)


def test_the_record_of_a_refusal_has_the_protos_names_however_it_came(world: World, story: Story) -> None:
    body = {"resources": [story.resource], "actions": ["read"], "requestId": "x"}
    story.call(story.alice, GRANTS + "RequestGrant", body)
    Grpc(world).call(GRANTS + "RequestGrant", body, token=world.token(story.alice))

    records = story.audit(f'principal = "{story.alice.principal}" AND event_type = "CALL_REFUSED"')

    assert {record.message.partition(":")[0] for record in records} == {"request_id"}


def test_the_fields_of_a_filter_are_named_in_json_too(story: Story) -> None:
    _, answer = send(story, "GET", "/v1/grants?filter=create_by%3Da")

    assert "found 'create_by'; expected one of" in answer["message"]
    assert "coversAction, createTime, expireTime" in answer["message"]


def test_the_metadata_of_the_error_names_the_same_field(story: Story) -> None:
    _, answer = send(story, "GET", "/v1/grants?pageSize=-1")

    assert answer["details"][0]["metadata"] == {"field": "pageSize"}
    assert answer["details"][1]["fieldViolations"][0]["field"] == "pageSize"
