"""examples/policies.yaml does what its comments say, over gRPC and REST."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from jit_service.domain.caller import Caller
from jit_service.rpc.admission import Admission
from jit_service.runtime.dev_issuer import PEOPLE
from jit_service.runtime.envoy import share
from jitaccess.v1.access_pb2 import CheckAccessResponse
from tests.conftest import Clock
from tests.world import ACCESS, GRANTS, POLICIES, SIGNALS, Grpc, Outcome, Person, Rest, World, running_world

Reason = CheckAccessResponse.Reason


@pytest.fixture(scope="module")
def example_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world of its own, since the examples are named for everybody."""
    directory = tmp_path_factory.mktemp("x")
    clock = Clock(datetime(2026, 3, 2, 12, tzinfo=UTC))
    with running_world(directory, clock, f"sqlite:///{directory / 'jit.db'}") as world:
        world.service.apply_policies(share("examples") / "policies.yaml")
        yield world


class Team:
    """The people of `--dev`."""

    def __init__(self, world: World, surface: Grpc | Rest) -> None:
        self.world, self.surface = world, surface

    def call(self, who: str, method: str, body: dict[str, Any]) -> Outcome:
        return self.surface.call(method, body, token=self.world.token(Person(*PEOPLE[who])))

    def asks(self, resource: str, action: str, **changes: Any) -> Outcome:
        body = {"resources": [resource], "actions": [action]} | changes
        return self.call("alice", GRANTS + "RequestGrant", body)

    def check(self, resource: str, action: str) -> Any:
        question = {"subject": "user:alice@example.com", "action": action, "resource": resource}
        return self.call("gateway", ACCESS + "CheckAccess", question).message


@pytest.fixture(params=[Grpc, Rest], ids=["grpc", "rest"])
def team(example_world: World, request: pytest.FixtureRequest) -> Team:
    return Team(example_world, request.param(example_world))


def test_orders_are_read_at_once_and_changed_after_an_approval(team: Team) -> None:
    resource = f"database/orders/{uuid.uuid4().hex}"
    assert team.asks(resource, "read").message.policy == "policies/orders-read"
    assert team.asks(resource, "rows.create").fields == ("justification.text",)
    asked = team.asks(resource, "rows.create", justification={"text": "why"}).message
    assert team.call("bob", GRANTS + "ApproveGrant", {"name": asked.name}).code == "OK"
    assert team.check(resource, "rows.create").allowed
    assert not team.check(resource, "rows.delete").allowed


def test_production_needs_a_ticket_and_two_teams(team: Team) -> None:
    resource = f"http/admin.internal/{uuid.uuid4().hex}"
    assert team.asks(resource, "http.post").fields == ("justification.ticket",)
    asked = team.asks(resource, "http.post", justification={"ticket": "OPS-7"}).message
    for who in ("bob", "carol"):
        assert not team.check(resource, "http.post").allowed
        assert team.call(who, GRANTS + "ApproveGrant", {"name": asked.name}).code == "OK"
    assert team.check(resource, "http.post").allowed


def test_the_ledger_is_for_the_office_network(team: Team) -> None:
    assert team.asks("database/ledger/2026", "read").reason == "CONDITION_NOT_MET"


@pytest.mark.parametrize(
    ("address", "hour", "reason"),
    [
        ("10.1.2.3", 12, ""),
        ("10.1.2.3", 6, "CONDITION_NOT_MET"),
        ("10.1.2.3", 7, ""),
        ("10.1.2.3", 17, "CONDITION_NOT_MET"),
        ("192.0.2.1", 12, "CONDITION_NOT_MET"),
    ],
)
def test_the_ledger_is_for_office_hours_in_berlin(
    example_world: World, monkeypatch: pytest.MonkeyPatch, address: str, hour: int, reason: str
) -> None:
    """In winter Berlin is an hour ahead of UTC."""
    unauthenticated = Admission.unauthenticated

    def elsewhere(*call: Any) -> Caller:
        caller = unauthenticated(*call)
        return caller._replace(origin=replace(caller.origin, source_address=address))

    monkeypatch.setattr(Admission, "unauthenticated", elsewhere)
    clock = example_world.clock
    tomorrow = (clock.now + timedelta(days=1)).replace(hour=hour)
    clock.now = tomorrow

    assert Team(example_world, Grpc(example_world)).asks("database/ledger/2026", "read").reason == reason


def test_services_are_restarted_only_during_an_incident(team: Team) -> None:
    def signal(value: str) -> None:
        expires = (team.world.clock() + timedelta(hours=4)).isoformat().replace("+00:00", "Z")
        body = {"signal": {"name": "signals/incident", "value": value, "expireTime": expires}}
        assert team.call("admin", SIGNALS + "SetSignal", body).code == "OK"

    signal("off")
    assert team.asks("service/shop", "restart").reason == "CONDITION_NOT_MET"
    signal("on")
    assert team.asks("service/shop", "restart").code == "OK"
    assert team.check("service/shop", "restart").allowed
    signal("off")
    assert team.check("service/shop", "restart").reason == Reason.CONDITION_NOT_MET


def test_writing_to_the_catalogue_needs_a_second_factor(team: Team) -> None:
    assert team.asks("database/catalogue/books", "read").code == "OK"
    assert team.asks("database/catalogue/books", "write").reason == "CONDITION_NOT_MET"


def test_payments_escalate_extend_and_break_the_glass(team: Team) -> None:
    resource = f"service/payments/{uuid.uuid4().hex}"
    why = {"justification": {"text": "refund stuck"}}
    asked = team.asks(resource, "write", **why).message
    assert team.call("carol", GRANTS + "ApproveGrant", {"name": asked.name}).reason == "NOT_APPROVER"
    team.world.clock.advance(timedelta(minutes=30))
    assert team.call("carol", GRANTS + "ApproveGrant", {"name": asked.name}).code == "OK"
    assert team.call("alice", GRANTS + "ExtendGrant", {"name": asked.name, "duration": "5401s", **why}).code != "OK"
    assert team.call("alice", GRANTS + "ExtendGrant", {"name": asked.name, "duration": "1800s", **why}).code == "OK"
    emergency = team.asks(resource, "write", breakGlass=True, **why).message
    assert team.check(resource, "write").allowed
    review = {"name": emergency.name, "comment": "justified"}
    assert team.call("bob", GRANTS + "CompleteReview", review).code == "OK"


def test_a_deployment_is_used_once_and_soon(team: Team) -> None:
    used, late = (f"deployment/{uuid.uuid4().hex}" for _ in range(2))
    for resource in (used, late):
        asked = team.asks(resource, "apply").message
        assert team.call("bob", GRANTS + "ApproveGrant", {"name": asked.name}).code == "OK"
    assert [team.check(used, "apply").allowed for _ in range(2)] == [True, False]
    team.world.clock.advance(timedelta(minutes=10))
    assert team.check(late, "apply").reason == Reason.EXPIRED


def test_an_agent_gets_part_of_its_users_access(team: Team) -> None:
    whole, part = "notebook/alice/**", "notebook/alice/report"
    held = team.asks(whole, "run").message
    agent = {"subject": "service:agent", "parent": held.name, "duration": "600s"}
    assert team.asks(part, "run", **agent).code == "OK"
    question = {"subject": "service:agent", "action": "run", "resource": part}
    assert team.call("gateway", ACCESS + "CheckAccess", question).message.allowed
    team.call("alice", GRANTS + "ReleaseGrant", {"name": held.name})
    assert not team.call("gateway", ACCESS + "CheckAccess", question).message.allowed


def test_the_cases_beside_the_policies_come_out_as_they_say(team: Team) -> None:
    for tested in yaml.safe_load((share("examples") / "policies.test.yaml").read_text())["tests"]:
        body = {"name": tested["policy"], "cases": tested["cases"]}
        answer = team.call("auditor", POLICIES + "TestPolicy", body).message
        assert answer.failed_count == 0, answer
        assert answer.passed_count == len(tested["cases"])


def test_the_file_is_where_the_readme_says() -> None:
    assert (Path(__file__).parents[2] / "examples" / "policies.yaml").exists()


@pytest.mark.parametrize(
    "file", [share("examples"), share("envoy") / "examples" / "protect"], ids=["general", "protect"]
)
def test_whoever_may_ask_for_all_below_a_host_may_ask_for_its_root(file: Path) -> None:
    """A browser asks for `/` first."""
    listed = [policy["resources"] for policy in yaml.safe_load((file / "policies.yaml").read_text())["policies"]]

    for resources in listed:
        hosts = {resource.removesuffix("/**") for resource in resources if resource.startswith("http/")}
        assert hosts <= set(resources)
