"""Switching somebody off: what is sent, shown and said by the exit code."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from jitaccess.v1 import lock_pb2
from tests.cli.conftest import Jit
from tests.cli.samples import soon
from tests.client.service import Refusal, Service


def lock(**fields: Any) -> lock_pb2.Lock:
    whole: dict[str, Any] = {
        "name": "locks/l1",
        "principal": "user:alice@example.com",
        "comment": "left",
        "creator": "user:rita@example.com",
        "active": True,
    }
    return lock_pb2.Lock(**({} if {"group", "jti"} & fields.keys() else whole) | {"name": "locks/l1"} | fields)


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (("user:alice@example.com",), lock_pb2.Lock(principal="user:alice@example.com", comment="left")),
        (("--group", "contractors"), lock_pb2.Lock(group="contractors", comment="left")),
        (("--jti", "7f3a"), lock_pb2.Lock(jti="7f3a", comment="left")),
        (
            ("user:alice@example.com", "--end-grants"),
            lock_pb2.Lock(principal="user:alice@example.com", comment="left", end_grants=True),
        ),
    ],
)
def test_lock_says_in_its_message_what_the_flags_say(
    jit: Jit, service: Service, flags: tuple[str, ...], wanted: lock_pb2.Lock
) -> None:
    service.will_answer("CreateLock", lock(end_grants=True, ended_grant_count=2))

    ran = jit("lock", *flags, "--comment", "left")

    assert ran.code == 0, ran.err
    assert [sent.lock for sent in service.sent("CreateLock")] == [wanted]
    for part in ("locks/l1", "user:alice@example.com", "until lifted", "2 grants", "user:rita@example.com", "left"):
        assert part in ran.out


def test_a_lock_for_a_time_ends_by_itself(jit: Jit, service: Service) -> None:
    service.will_answer("CreateLock", lock(expire_time=soon(minutes=42)))

    ran = jit("lock", "user:alice@example.com", "--for", "24h", "--comment", "left")

    assert "42 min left" in ran.out
    assert service.sent("CreateLock")[0].lock.HasField("expire_time")


@pytest.mark.parametrize(
    "flags",
    [
        ("user:alice@example.com",),
        ("--comment", "left"),
        ("user:alice@example.com", "--group", "g", "--comment", "left"),
        ("user:alice@example.com", "--for", "x", "--comment", "left"),
    ],
)
def test_whom_and_why_must_be_said(jit: Jit, service: Service, flags: tuple[str, ...]) -> None:
    assert jit("lock", *flags).code == 2
    assert service.received == []


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, ("user:alice@example.com", "until lifted")),
        ({"group": "contractors", "active": True}, ("group contractors",)),
        ({"jti": "7f3a", "active": True}, ("token 7f3a",)),
        ({"delete_time": soon(minutes=-1), "active": False}, ("lifted",)),
        ({"expire_time": soon(minutes=-1), "active": False}, ("ended",)),
    ],
)
def test_locks_are_listed_with_how_they_stand(
    jit: Jit, service: Service, fields: dict[str, Any], shown: tuple[str, ...]
) -> None:
    service.will_answer("ListLocks", lock_pb2.ListLocksResponse(locks=[lock(**fields)]))

    _, row = jit("locks", "--all").out.splitlines()

    assert all(part in row for part in shown)
    assert service.sent("ListLocks")[0].show_deleted


def test_no_locks_say_so(jit: Jit, service: Service) -> None:
    service.will_answer("ListLocks", lock_pb2.ListLocksResponse())

    assert jit("locks").out == "no locks\n"


@pytest.mark.parametrize("name", ["l1", "locks/l1"])
def test_unlock_lifts_it(jit: Jit, service: Service, name: str) -> None:
    service.will_answer("DeleteLock", lock(active=False))

    assert jit("unlock", name).out == "locks/l1 is lifted\n"
    assert service.sent("DeleteLock")[0].name == "locks/l1"


def test_unlock_lifts_every_lock_on_a_principal_in_any_letter_case(jit: Jit, service: Service) -> None:
    others = lock(name="locks/l2", principal="user:bob@example.com")
    service.will_answer("ListLocks", lock_pb2.ListLocksResponse(locks=[others, lock()]))
    service.will_answer("DeleteLock", lock(active=False))

    assert jit("unlock", "user:Alice@example.com").out == "locks/l1 is lifted\n"
    assert [sent.name for sent in service.sent("DeleteLock")] == ["locks/l1"]


def test_a_principal_that_is_not_locked_is_not_found(jit: Jit, service: Service) -> None:
    service.will_answer("ListLocks", lock_pb2.ListLocksResponse())

    assert jit("unlock", "user:alice@example.com").code == 5


def test_whoever_is_locked_is_told_so(jit: Jit, service: Service) -> None:
    service.will_answer(
        "ListLocks",
        Refusal(code=grpc.StatusCode.PERMISSION_DENIED, message="user:x is locked by locks/l1", reason="LOCKED"),
    )

    ran = jit("locks")

    assert ran.code == 4
    assert "is locked by locks/l1" in ran.err


def test_a_lock_is_found_by_how_its_id_begins(jit: Jit, service: Service) -> None:
    full = "abcd" + "e" * 22
    service.will_answer("ListLocks", lock_pb2.ListLocksResponse(locks=[lock_pb2.Lock(name=f"locks/{full}")]))

    jit("unlock", "abcd")

    assert [sent.name for sent in service.sent("DeleteLock")] == [f"locks/{full}"]
