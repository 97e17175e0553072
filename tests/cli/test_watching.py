"""`jit ls --watch`: a line for each change, as it happens."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping

import grpc
import pytest
import yaml

from jitaccess.v1 import grant_pb2
from tests import prepared
from tests.cli.conftest import Jit
from tests.cli.samples import FULL_ID, active, grant
from tests.cli.test_waiting import told
from tests.client.service import Held, Refusal, Service

AWAY = Refusal(code=grpc.StatusCode.UNAVAILABLE)
OVER = Refusal(code=grpc.StatusCode.UNAUTHENTICATED, reason="TOKEN_INVALID")
APPROVED = told("GRANT_APPROVED", active(revision=13))


def current(after: grant_pb2.Grant) -> grant_pb2.WatchGrantsResponse:
    return told("CURRENT", after)


def test_each_change_is_a_line_under_one_header(jit: Jit, service: Service) -> None:
    service.will_stream("WatchGrants", [current(grant()), APPROVED, OVER])

    header, first, second = jit("ls", "--watch").out.splitlines()

    assert header.split() == ["TIME", "ID", "STATE", "WHO", "WHAT"]
    for row, state, what in ((first, "PENDING", "CURRENT"), (second, "ACTIVE", "GRANT_APPROVED")):
        assert row.index(FULL_ID) == header.index("ID")
        assert row.index(state) == header.index("STATE")
        assert f"user:alice@example.com    {what}: read, write on database/orders/eu; " in row


@pytest.mark.parametrize(("view", "number"), [("mine", 1), ("visible", 4), ("all", 3)])
def test_the_view_is_passed_on(jit: Jit, service: Service, view: str, number: int) -> None:
    service.will_stream("WatchGrants", [OVER])

    ran = jit("ls", "--watch", "--view", view)

    assert (ran.code, service.sent("WatchGrants")[0].view) == (3, number)


def test_json_is_one_object_a_line(jit: Jit, service: Service) -> None:
    service.will_stream("WatchGrants", [current(grant()), APPROVED, OVER])

    objects = [json.loads(line) for line in jit("ls", "--watch", "-o", "json").out.splitlines()]

    assert [item["eventType"] for item in objects] == ["CURRENT", "GRANT_APPROVED"]
    assert [item["grant"]["name"] for item in objects] == [f"grants/{FULL_ID}"] * 2


def test_yaml_is_one_document_each(jit: Jit, service: Service) -> None:
    service.will_stream("WatchGrants", [current(grant()), APPROVED, OVER])

    documents = list(yaml.safe_load_all(jit("ls", "--watch", "-o", "yaml").out))

    assert [item["eventType"] for item in documents] == ["CURRENT", "GRANT_APPROVED"]


def test_a_stream_that_breaks_is_taken_up_where_it_was(jit: Jit, service: Service) -> None:
    service.will_stream("WatchGrants", [APPROVED, AWAY], [told("GRANT_REVOKED", grant(revision=14)), OVER])

    ran = jit("ls", "--watch")

    assert "GRANT_REVOKED" in ran.out
    assert [sent.start_revision for sent in service.sent("WatchGrants")] == [0, 13]


@pytest.mark.parametrize("flags", [("--filter", 'state = "ACTIVE"'), ("--order-by", "create_time")])
def test_a_list_cannot_be_filtered_or_ordered_while_it_is_watched(
    jit: Jit, service: Service, flags: tuple[str, ...]
) -> None:
    assert jit("ls", "--watch", *flags).code == 2
    assert service.received == []


def test_a_line_comes_when_it_happens_and_an_interrupt_ends_it_cleanly(
    environment: Mapping[str, str], service: Service
) -> None:
    service.will_stream("WatchGrants", [APPROVED, Held()])
    process = subprocess.Popen(
        [prepared.command("jit"), "ls", "--watch", "-o", "json"],
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["eventType"] == "GRANT_APPROVED"

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert (process.returncode, out, err) == (130, b"", b"")


def test_a_reader_that_goes_away_ends_the_watch_quietly(environment: Mapping[str, str], service: Service) -> None:
    held = Held()
    service.will_stream("WatchGrants", [APPROVED, held, APPROVED, APPROVED])
    process = subprocess.Popen(
        [prepared.command("jit"), "ls", "--watch"],
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    held.released.set()

    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), errors) == (141, b"")
