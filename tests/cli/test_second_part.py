"""Dry runs, ensure, context, signals and ending many grants: what is sent, shown and said by the exit code."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Value

from jitaccess.v1 import access_pb2, grant_pb2, policy_pb2, signal_pb2
from tests.cli.conftest import Jit
from tests.cli.samples import grant, soon, step
from tests.client.service import Refusal, Service

ASK = ("request", "database/orders/eu", "--action", "read")


def preview(**fields: Any) -> grant_pb2.Preview:
    shown = grant_pb2.StepPreview(
        display_name="owners",
        approvers=policy_pb2.PrincipalSet(principals=["user:bob@example.com"]),
        excluded=["user:alice@example.com"],
        approvals_needed=1,
    )
    return grant_pb2.Preview(**({"satisfiable": True, "steps": [shown]} | fields))


def test_a_dry_run_asks_for_nothing_and_says_who_could_approve(jit: Jit, service: Service) -> None:
    service.will_answer("RequestGrant", grant("", preview=preview()))

    ran = jit(*ASK, "--dry-run")

    assert ran.code == 0
    assert service.received[-1].message.validate_only
    assert "1 of user:bob@example.com; not user:alice@example.com" in ran.out
    assert "satisfiable" in ran.out


def test_a_dry_run_of_what_nobody_could_approve_is_a_no(jit: Jit, service: Service) -> None:
    service.will_answer("RequestGrant", grant("", preview=preview(satisfiable=False, shortfall="1 more is needed")))

    ran = jit(*ASK, "--dry-run")

    assert (ran.code, "no: 1 more is needed" in ran.out) == (1, True)


def test_context_is_json_where_it_is_json(jit: Jit, service: Service) -> None:
    service.will_answer("RequestGrant", grant())
    service.will_answer("CheckAccess", access_pb2.CheckAccessResponse(allowed=True, reason="ALLOWED"))
    facts = ("--context", "build=42", "--context", "branch=main", "--context", "ok=true")

    assert jit(*ASK, *facts).code == 0
    assert jit("check", "user:a", "read", "a/b", *facts).code == 0

    for received in service.received:
        assert MessageToDict(received.message.context) == {"build": 42, "branch": "main", "ok": True}


def test_a_fact_without_a_value_is_a_usage_error(jit: Jit) -> None:
    assert jit(*ASK, "--context", "build").code == 2


def test_ensure_asks_only_where_nothing_is_there(jit: Jit, service: Service) -> None:
    service.will_answer("EnsureGrant", grant(state=grant_pb2.Grant.ACTIVE, expire_time=soon(minutes=5)))

    assert jit(*ASK, "--ensure").code == 0

    assert service.received[-1].rpc.endswith("EnsureGrant")
    assert jit(*ASK, "--ensure", "--dry-run").code == 2


def test_a_skipped_step_is_shown_as_such(jit: Jit, service: Service) -> None:
    skipped = step("security", needed=1, remaining=0)
    skipped.skipped = True
    service.will_answer("RequestGrant", grant(steps=[skipped]))

    assert "step 1 (security): not needed here" in jit(*ASK).out


def signal(value: object, *, stale: bool = False) -> signal_pb2.Signal:
    return signal_pb2.Signal(
        name="signals/incident",
        value=ParseDict(value, Value()),  # type: ignore[arg-type]
        expire_time=soon(hours=-1 if stale else 4),
        stale=stale,
        setter="user:admin@example.com",
        update_time=soon(hours=-2),
    )


@pytest.mark.parametrize(("given", "value"), [("on", "on"), ("true", True), ("3", 3), ('{"level": 2}', {"level": 2})])
def test_a_signal_is_set_for_a_while(jit: Jit, service: Service, given: str, value: object) -> None:
    service.will_answer("SetSignal", signal(value))

    ran = jit("signal", "set", "incident", given, "--for", "4h")

    assert ran.code == 0
    sent = service.received[-1].message.signal
    assert (sent.name, MessageToDict(sent.value)) == ("signals/incident", value)
    assert sent.expire_time.seconds > 0
    assert json.dumps(value) in ran.out


def test_a_signal_needs_an_end(jit: Jit) -> None:
    assert jit("signal", "set", "incident", "on").code == 2


def test_signals_are_listed_shown_and_deleted(jit: Jit, service: Service) -> None:
    service.will_answer("ListSignals", signal_pb2.ListSignalsResponse(signals=[signal("on"), signal("x", stale=True)]))
    service.will_answer("GetSignal", signal("on"))
    service.will_answer("DeleteSignal", signal("on"))

    listed = jit("signal", "ls").out
    assert "until" in listed
    assert "stale since" in listed
    assert '"on"' in jit("signal", "show", "incident").out
    assert "is deleted" in jit("signal", "rm", "incident").out
    assert json.loads(jit("signal", "show", "incident", "-o", "json").out)["value"] == "on"


MATCHING = ("revoke", "--matching", "--subject", "user:alice@example.com", "--label", "team=a", "--comment", "leak")


def plan(count: int, *, executed: bool = False) -> grant_pb2.RevokeGrantsResponse:
    return grant_pb2.RevokeGrantsResponse(plan_id="p1", count=count, sample=[grant()], executed=executed)


def test_many_are_ended_by_the_plan_that_was_made(jit: Jit, service: Service) -> None:
    service.will_answer("RevokeGrants", plan(3, executed=True))

    ran = jit(*MATCHING, "--yes")

    assert (ran.code, ran.out) == (0, "3 grants ended\n")
    planned, executed = (received.message for received in service.received)
    assert (planned.plan_id, executed.plan_id, executed.comment) == ("", "p1", "leak")
    assert planned.subject == executed.subject == "user:alice@example.com"
    assert dict(executed.labels) == {"team": "a"}


def test_where_nobody_can_be_asked_yes_must_be_said(jit: Jit, service: Service) -> None:
    service.will_answer("RevokeGrants", plan(3))

    assert jit(*MATCHING).code == 2
    assert [received.message.plan_id for received in service.received] == [""]


def test_nothing_that_matches_is_nothing_to_do(jit: Jit, service: Service) -> None:
    service.will_answer("RevokeGrants", plan(0))

    ran = jit(*MATCHING)

    assert (ran.code, ran.out) == (0, "no live grant matches\n")
    assert len(service.received) == 1


def test_a_stale_plan_is_a_conflict(jit: Jit, service: Service) -> None:
    service.will_answer("RevokeGrants", Refusal(code=grpc.StatusCode.ABORTED, reason="STALE_PLAN"))

    assert jit(*MATCHING, "--yes").code == 6


def test_a_reached_limit_is_a_conflict(jit: Jit, service: Service) -> None:
    service.will_answer("RequestGrant", Refusal(code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="TOO_MANY_ACTIVE"))

    ran = jit(*ASK)

    assert (ran.code, "hint: " in ran.err) == (6, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("revoke", "--comment", "x"),
        ("revoke", "abc", "--matching", "--comment", "x"),
        ("revoke", "abc", "--subject", "user:a", "--comment", "x"),
    ],
)
def test_one_grant_or_many_never_both(jit: Jit, service: Service, arguments: tuple[str, ...]) -> None:
    assert jit(*arguments).code == 2
    assert not service.received
