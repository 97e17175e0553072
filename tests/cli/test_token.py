"""`jit token`: the token alone on stdout, so that a script can take it."""

from __future__ import annotations

import json

import grpc

from jitaccess.v1 import token_pb2
from tests.cli.conftest import Jit
from tests.cli.samples import FULL_ID, grant, soon
from tests.client.service import Refusal, Service


def issued(**fields: object) -> token_pb2.IssueTokenResponse:
    told = {
        "token": "head.body.signature",
        "token_id": "t1",
        "grant": f"grants/{FULL_ID}",
        "expire_time": soon(minutes=5),
    }
    return token_pb2.IssueTokenResponse(**(told | fields))  # type: ignore[arg-type]


def test_it_prints_the_token_and_nothing_else(jit: Jit, service: Service) -> None:
    service.will_answer("GetGrant", grant())
    service.will_answer("IssueToken", issued())

    ran = jit("token", FULL_ID, "--audience", "https://a.example.com", "--audience", "b", "--ttl", "5m")

    assert (ran.code, ran.out, ran.err) == (0, "head.body.signature\n", "")
    sent = service.received[-1].message
    assert (sent.name, list(sent.audience), sent.ttl.seconds) == (
        f"grants/{FULL_ID}",
        ["https://a.example.com", "b"],
        300,
    )


def test_without_options_the_service_decides(jit: Jit, service: Service) -> None:
    service.will_answer("GetGrant", grant())
    service.will_answer("IssueToken", issued())

    assert jit("token", FULL_ID).code == 0

    sent = service.received[-1].message
    assert (list(sent.audience), sent.HasField("ttl")) == ([], False)


def test_as_json_it_is_the_answer_of_the_service(jit: Jit, service: Service) -> None:
    service.will_answer("GetGrant", grant())
    service.will_answer("IssueToken", issued())

    ran = jit("token", FULL_ID, "-o", "json")

    assert (ran.code, json.loads(ran.out)["tokenId"]) == (0, "t1")


def test_what_no_token_can_carry_is_a_wrong_state(jit: Jit, service: Service) -> None:
    service.will_answer("GetGrant", grant())
    service.will_answer("IssueToken", Refusal(code=grpc.StatusCode.FAILED_PRECONDITION, reason="TOKEN_NOT_POSSIBLE"))

    ran = jit("token", FULL_ID)

    assert (ran.code, ran.out) == (6, "")
