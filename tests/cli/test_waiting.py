"""Asking and waiting for the decision: what is sent, what is shown meanwhile, and what the exit code says."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping

import grpc
import pytest

from jitaccess import Grant
from jitaccess.cli import waiting
from jitaccess.contract.convert import decode
from jitaccess.v1 import grant_pb2
from tests import prepared
from tests.cli.conftest import COMMAND, Jit
from tests.cli.samples import FULL_ID, active, grant, listed, soon, step
from tests.cli.terminal import terminal
from tests.client.service import Held, Refusal, Service

ASK = ("request", "database/orders/eu", "--action", "read")
STATE = grant_pb2.Grant.State


def told(kind: str, after: grant_pb2.Grant) -> grant_pb2.WatchGrantsResponse:
    """Returns the event of a watch that leaves the grant so."""
    event_type = grant_pb2.WatchGrantsResponse.EventType.Value(kind)
    return grant_pb2.WatchGrantsResponse(event_type=event_type, grant=after, revision=after.revision)


def ended(state: str) -> grant_pb2.Grant:
    return grant(state=STATE.Value(state), revision=13, end_time=soon(minutes=-1), ended_by="user:bob@example.com")


def test_uses_break_glass_and_parent_are_sent(jit: Jit, service: Service) -> None:
    service.will_answer("ListGrants", listed(active()))
    service.will_answer("RequestGrant", active())

    ran = jit(*ASK, "--max-uses", "3", "--break-glass", "--parent", "abcd", "--justification", "on fire")

    assert ran.code == 0, ran.err
    [sent] = service.sent("RequestGrant")
    assert (sent.max_uses, sent.break_glass, sent.parent) == (3, True, f"grants/{FULL_ID}")


def test_ensure_takes_them_too(jit: Jit, service: Service) -> None:
    service.will_answer("EnsureGrant", active())

    jit(*ASK, "--ensure", "--max-uses", "3", "--break-glass", "--parent", FULL_ID)

    [sent] = service.sent("EnsureGrant")
    assert (sent.max_uses, sent.break_glass, sent.parent) == (3, True, f"grants/{FULL_ID}")


def test_what_is_given_at_once_is_not_waited_for(jit: Jit, service: Service) -> None:
    service.will_answer("RequestGrant", active())

    ran = jit(*ASK, "--wait")

    assert ran.code == 0
    assert service.sent("WatchGrants") == []


def test_it_waits_until_the_last_approval_and_shows_the_grant_as_it_is_then(jit: Jit, service: Service) -> None:
    service.will_answer("RequestGrant", grant(steps=[step("owners", needed=2, remaining=2)]))
    one_missing = grant(steps=[step("owners", needed=2, remaining=1)], revision=13)
    last = told("GRANT_APPROVED", active(revision=14))
    service.will_stream("WatchGrants", [told("GRANT_APPROVED", one_missing), last, Held()])

    ran = jit(*ASK, "--wait", "-o", "json")

    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["state"] == "ACTIVE"
    [watched] = service.sent("WatchGrants")
    assert (watched.grant, watched.start_revision) == (f"grants/{FULL_ID}", 12)
    assert [line.partition("approvals")[0] for line in ran.err.splitlines()] == [
        f"waiting for grants/{FULL_ID}: step 1 (owners): {given} of 2 " for given in (0, 1)
    ]


def test_who_waits_is_told_at_once_for_what_who_can_decide_and_until_when(jit: Jit, service: Service) -> None:
    service.will_answer("RequestGrant", grant())
    service.will_stream("WatchGrants", [told("GRANT_APPROVED", active(revision=14)), Held()])

    [line] = jit(*ASK, "--wait").err.splitlines()

    assert line.startswith(f"waiting for grants/{FULL_ID}: step 1 (owners of the data): 0 of 1 approvals, by group ")
    assert "by group database-owners; the request lapses " in line
    assert line.endswith(f"41 min left; approve it with: jit approve {FULL_ID}") or "42 min left; " in line


@pytest.mark.parametrize("quiet", ["-q", "--quiet"])
def test_who_wants_quiet_is_told_nothing_while_it_waits(jit: Jit, service: Service, quiet: str) -> None:
    service.will_answer("RequestGrant", grant())
    service.will_stream("WatchGrants", [told("GRANT_APPROVED", active(revision=14)), Held()])

    ran = jit(*ASK, "--wait", quiet)

    assert (ran.code, ran.err) == (0, "")


def test_it_is_said_again_every_minute_and_when_something_has_changed(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = iter([0.0, 0.0, 59.9, 60.0, 119.9, 120.0, 121.0])
    progress = waiting.Progress(quiet=False, clock=lambda: next(seconds))
    pending = decode(Grant, grant())
    less = decode(Grant, grant(steps=[step("owners", needed=2, remaining=1)]))
    told = []

    for given in (pending, pending, pending, pending, pending, less):
        progress.tell(given)
        told.append(capsys.readouterr().err.partition("grants/")[0])

    assert told == ["waiting for ", "", "waiting for 1 min for ", "", "waiting for 2 min for ", "waiting for "]


def test_what_is_scheduled_says_when_it_starts(jit: Jit, service: Service) -> None:
    scheduled = active(state=STATE.Value("SCHEDULED"), start_time=soon(hours=1), revision=13)
    service.will_answer("RequestGrant", scheduled)
    service.will_stream("WatchGrants", [told("GRANT_RELEASED", ended("RELEASED")), Held()])

    assert f"waiting for grants/{FULL_ID}: it starts " in jit(*ASK, "--wait").err


def test_an_offer_that_is_waited_with_says_how_to_answer_it(jit: Jit, service: Service) -> None:
    offer = grant_pb2.CounterOffer(reviewer="user:bob@example.com", terms=grant_pb2.AccessTerms(actions=["read"]))
    service.will_answer("RequestGrant", grant(counter_offer=offer))
    service.will_stream("WatchGrants", [told("GRANT_DENIED", ended("DENIED")), Held()])

    assert f"`jit accept {FULL_ID}` or `jit decline {FULL_ID}` answers" in jit(*ASK, "--wait").err


@pytest.mark.parametrize(("flags", "said"), [((), 1), (("-q",), 0)])
def test_ensure_says_what_a_pending_request_waits_for(
    jit: Jit, service: Service, flags: tuple[str, ...], said: int
) -> None:
    service.will_answer("EnsureGrant", grant())

    lines = jit(*ASK, "--ensure", "-o", "json", *flags).err.splitlines()

    assert len(lines) == said
    assert all(line.startswith(f"pending: grants/{FULL_ID}: step 1 ") for line in lines)


def test_ensure_says_nothing_of_what_is_there(jit: Jit, service: Service) -> None:
    service.will_answer("EnsureGrant", active())

    assert jit(*ASK, "--ensure").err == ""


@pytest.mark.parametrize("state", ["DENIED", "WITHDRAWN", "LAPSED", "REVOKED", "RELEASED", "EXPIRED"])
def test_what_can_never_be_used_is_a_no(jit: Jit, service: Service, state: str) -> None:
    service.will_answer("RequestGrant", grant())
    service.will_stream("WatchGrants", [told("GRANT_DENIED", ended(state)), Held()])

    ran = jit(*ASK, "--wait")

    assert (ran.code, state in ran.out) == (1, True)


def test_what_is_scheduled_is_waited_for_until_it_has_started(jit: Jit, service: Service) -> None:
    scheduled = active(state=STATE.Value("SCHEDULED"), start_time=soon(seconds=-2), revision=13)
    service.will_answer("RequestGrant", grant())
    service.will_stream("WatchGrants", [told("GRANT_APPROVED", scheduled), Held()])
    service.will_answer("GetGrant", active(revision=13))

    ran = jit(*ASK, "--wait")

    assert ran.code == 0, ran.err
    assert "ACTIVE" in ran.out


@pytest.mark.usefixtures("time_passes")
def test_who_waited_too_long_gets_8_and_the_request_stays(jit: Jit, service: Service) -> None:
    service.will_answer("RequestGrant", grant())
    service.will_stream("WatchGrants", [Held()])

    ran = jit(*ASK, "--wait", "--wait-timeout", "30m")

    assert (ran.code, "PENDING" in ran.out) == (8, True)
    assert ran.err.splitlines()[-1] == (
        f"waited 30 min: grants/{FULL_ID} is still pending; withdraw it with: jit withdraw {FULL_ID}"
    )
    assert service.sent("WithdrawGrant") == []


def test_a_watch_that_is_refused_is_an_error(jit: Jit, service: Service) -> None:
    service.will_answer("RequestGrant", grant())
    service.will_stream("WatchGrants", [Refusal(code=grpc.StatusCode.UNAUTHENTICATED, reason="TOKEN_EXPIRED")])

    ran = jit(*ASK, "--wait")

    assert (ran.code, "TOKEN_EXPIRED" in ran.err) == (3, True)


@pytest.mark.parametrize(
    "flags",
    [
        ("--wait", "--dry-run"), ("--wait-timeout", "5m"), ("--wait", "--wait-timeout", "0s"), ("--max-uses", "-1"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_a_usage_error(jit: Jit, service: Service, flags: tuple[str, ...]) -> None:
    assert jit(*ASK, *flags).code == 2
    assert service.received == []


def test_on_a_terminal_it_says_what_it_waits_for_and_each_change(
    environment: Mapping[str, str], service: Service
) -> None:
    service.will_answer("RequestGrant", grant(steps=[step("owners", needed=2, remaining=2)]))
    one_missing = grant(steps=[step("owners", needed=2, remaining=1)], revision=13)
    service.will_stream("WatchGrants", [told("GRANT_APPROVED", one_missing), Held()])

    with terminal([*COMMAND, *ASK, "--wait"], env=dict(environment) | {"TERM": "dumb"}, columns=400) as person:
        person.read_until("0 of 2 approvals, by group database-owners")
        person.read_until("1 of 2 approvals, by group database-owners")
        person.process.send_signal(signal.SIGINT)
        person.read_all()

        assert person.code() == 130
        assert "Traceback" not in person.seen


def test_an_interrupt_while_waiting_leaves_the_request(environment: Mapping[str, str], service: Service) -> None:
    service.will_answer("RequestGrant", grant())
    streamed = Streaming(service)
    process = subprocess.Popen(
        [prepared.command("jit"), *ASK, "--wait"], env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    streamed.wait()

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert (process.returncode, out) == (130, b"")
    assert err.decode().splitlines()[1:] == [
        f"interrupted: grants/{FULL_ID} is still pending; withdraw it with: jit withdraw {FULL_ID}"
    ]
    assert [call.rpc for call in service.received] == ["RequestGrant", "WatchGrants"]


class Streaming:
    """A stream of nothing, and the instant at which it was asked for."""

    def __init__(self, service: Service) -> None:
        self._service = service
        service.will_stream("WatchGrants", [Held()])

    def wait(self) -> None:
        while not self._service.sent("WatchGrants"):
            self._service.was_asked.clear()
            if not self._service.sent("WatchGrants"):
                assert self._service.was_asked.wait(timeout=50)
