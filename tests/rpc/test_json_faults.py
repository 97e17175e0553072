"""What is wrong with a REST request that the transcoder refuses: each fault with its JSON path and the right form."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jit_service.rpc.json_faults import MAX_FAULTS, find_faults
from jit_service.rpc.services.edge import explain
from tests.rpc.malformed import BODIES, QUERIES, Malformed


@pytest.mark.parametrize("case", [*BODIES, *QUERIES], ids=str)
def test_a_fault_has_its_path_and_the_right_form(case: Malformed) -> None:
    faults = find_faults(case.verb, case.target, case.body.encode())

    assert [fault.path for fault in faults] == [case.path]
    assert case.words in faults[0].text


SOUND = {
    "resources": ["database/orders/eu"],
    "actions": ["read"],
    "duration": "600s",
    "start_time": "2026-01-31T12:00:00+01:00",
    "justification": {"text": "fix", "ticket": None},
    "labels": {"team": "a"},
    "context": {"any": [1, None, {"thing": True}]},
    "maxUses": "3",
    "breakGlass": False,
}


def test_a_sound_request_has_no_faults() -> None:
    assert find_faults("POST", "/v1/grants", json.dumps(SOUND).encode()) == []
    assert find_faults("GET", "/v1/grants?pageSize=5&view=mine&orderBy=name", b"") == []
    assert find_faults("PATCH", "/v1/policies/a?updateMask=maxDuration", b'{"maxDuration": "1.5s"}') == []


def test_all_faults_are_told_at_once_and_no_more_than_so_many() -> None:
    body = {"duration": "10m", "justification": "fix", "resources": list(range(100))}

    faults = find_faults("POST", "/v1/grants", json.dumps(body).encode())

    assert [fault.path for fault in faults[:3]] == ["duration", "justification", "resources[0]"]
    assert len(faults) == MAX_FAULTS


@pytest.mark.parametrize(
    ("verb", "target"), [("GET", "/v1/nope"), ("PUT", "/v1/grants"), ("POST", "/access/v1/evaluation")]
)
def test_what_is_not_of_the_contract_is_not_explained(verb: str, target: str) -> None:
    assert find_faults(verb, target, b'{"duration": 5}') == []
    assert explain(f"{verb} {target}\n{{}}".encode()) == b""


def test_a_body_that_is_not_json_has_no_field() -> None:
    for body in (b"{bad", b"\xff", b"[" * 100_000, b"[]", b'"x"'):
        (fault,) = find_faults("POST", "/v1/grants", body)

        assert fault.path == ""
        assert fault.text.startswith("the body is ")


def test_the_error_is_one_of_the_services() -> None:
    answer = json.loads(explain(b'POST /v1/grants\n{"duration": "10m", "actions": 5}'))

    info, bad_request = answer["details"]
    assert (answer["code"], answer["message"]) == (3, f"duration: {bad_request['fieldViolations'][0]['description']}")
    assert (info["reason"], info["domain"], info["metadata"]) == (
        "MALFORMED_REQUEST",
        "jitaccess",
        {"field": "duration"},
    )
    assert [violation["field"] for violation in bad_request["fieldViolations"]] == ["duration", "actions"]


def test_a_name_of_any_length_is_bounded() -> None:
    answer = json.loads(explain(b"POST /v1/grants\n" + json.dumps({"x" * 10_000: 1, "labels": {"\u202e": 5}}).encode()))

    fields = [violation["field"] for violation in answer["details"][1]["fieldViolations"]]
    assert len(fields[0]) < 300
    assert fields[1] == "labels.\\u202e"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["resources", "duration", "steps", "labels", "justification", "text", "x"]), inner
        )
    ),
    max_leaves=8,
)


@given(JSON)
def test_any_json_is_explained_or_sound(body: object) -> None:
    for target in ("/v1/grants", "/v1/policies?policyId=a", "/v1/policies:apply"):
        for fault in find_faults("POST", target, json.dumps(body).encode()):
            assert fault.text


@given(st.binary())
def test_any_bytes_are_explained_or_not(request: bytes) -> None:
    with contextlib.suppress(UnicodeEncodeError):
        explain(request)
        explain(b"POST /v1/grants\n" + request)
