"""Lending one's right to review: what is sent, shown and said by the exit code."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from jitaccess.v1 import delegation_pb2
from tests.cli.conftest import Jit
from tests.cli.samples import instant, soon
from tests.client.service import Refusal, Service


def delegation(**fields: Any) -> delegation_pb2.Delegation:
    whole: dict[str, Any] = {
        "name": "delegations/d1",
        "delegator": "user:bob@example.com",
        "delegate": "user:dave@example.com",
        "start_time": soon(minutes=-1),
        "expire_time": soon(minutes=42),
        "comment": "on holiday",
        "active": True,
    }
    return delegation_pb2.Delegation(**(whole | fields))


def test_delegate_says_in_its_message_what_the_flags_say(jit: Jit, service: Service) -> None:
    service.will_answer("CreateDelegation", delegation())

    ran = jit(
        "delegate", "user:dave@example.com", "--for", "14d", "--policy", "orders-write", "--policy", "policies/b",
        "--start", "2026-12-24T09:00:00+01:00", "--comment", "on holiday",
    )  # fmt: skip

    assert ran.code == 0, ran.err
    start = datetime(2026, 12, 24, 8, tzinfo=UTC)
    assert [sent.delegation for sent in service.sent("CreateDelegation")] == [
        delegation_pb2.Delegation(
            delegate="user:dave@example.com",
            policies=["policies/orders-write", "policies/b"],
            start_time=instant(start),
            expire_time=instant(start + timedelta(days=14)),
            comment="on holiday",
        )
    ]
    for part in ("delegations/d1", "user:bob@example.com", "user:dave@example.com", "all", "42 min left", "on holiday"):
        assert part in ran.out


@pytest.mark.parametrize("flags", [("--for", "1d"), ("--comment", "x"), ("--for", "x", "--comment", "x")])
def test_how_long_and_why_must_be_said(jit: Jit, service: Service, flags: tuple[str, ...]) -> None:
    assert jit("delegate", "user:dave@example.com", *flags).code == 2
    assert service.received == []


@pytest.mark.parametrize(
    ("fields", "standing"),
    [
        ({}, "until"),
        ({"active": False, "start_time": soon(hours=1)}, "starts"),
        ({"active": False, "expire_time": soon(hours=-1)}, "ended"),
        ({"active": False, "delete_time": soon(hours=-1)}, "taken back"),
    ],
)
def test_delegations_are_listed_with_how_they_stand(
    jit: Jit, service: Service, fields: dict[str, Any], standing: str
) -> None:
    listed = delegation(policies=["policies/a"], **fields)
    service.will_answer("ListDelegations", delegation_pb2.ListDelegationsResponse(delegations=[listed]))

    header, row = jit("delegations").out.splitlines()

    assert header.split() == ["ID", "FROM", "TO", "POLICIES", "STANDING", "WHY"]
    assert row.startswith("d1  user:bob@example.com  user:dave@example.com  a ")
    assert standing in row


def test_no_delegations_say_so(jit: Jit, service: Service) -> None:
    assert jit("delegations").out == "no delegations\n"


@pytest.mark.parametrize("name", ["d1", "delegations/d1"])
def test_undelegate_ends_it(jit: Jit, service: Service, name: str) -> None:
    service.will_answer("DeleteDelegation", delegation(active=False))

    ran = jit("undelegate", name)

    assert ran.out == "delegations/d1 is ended: user:dave@example.com reviews no more\n"
    assert service.sent("DeleteDelegation")[0].name == "delegations/d1"


def test_a_delegation_that_is_not_there_is_not_found(jit: Jit, service: Service) -> None:
    service.will_answer("DeleteDelegation", Refusal(code=grpc.StatusCode.NOT_FOUND, reason="DELEGATION_NOT_FOUND"))

    assert jit("undelegate", "d1").code == 5


def test_a_delegation_is_found_by_how_its_id_begins(jit: Jit, service: Service) -> None:
    first, second, ended = ("abcd" + "e" * 22, "abce" + "e" * 22, "abca" + "e" * 22)
    listed = [delegation(name=f"delegations/{first}"), delegation(name=f"delegations/{second}")]
    over = delegation(name=f"delegations/{ended}", active=False, delete_time=soon(hours=-1))
    service.will_answer("ListDelegations", delegation_pb2.ListDelegationsResponse(delegations=[*listed, over]))

    found, several = jit("undelegate", "delegations/abcd"), jit("undelegate", "abc")

    assert (found.code, [sent.name for sent in service.sent("DeleteDelegation")]) == (0, [f"delegations/{first}"])
    assert (several.code, "several delegations begin with abc; give more of the id" in several.err) == (2, True)


def test_a_full_id_is_not_looked_up(jit: Jit, service: Service) -> None:
    jit("undelegate", "a" * 26)

    assert service.sent("ListDelegations") == []
