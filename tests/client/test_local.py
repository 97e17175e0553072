"""Both checkers, before a service that does what a test told it to, and that does not always feed them well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest

from jitaccess import (
    AsyncJitClient,
    AsyncLocalChecker,
    CheckReason,
    Internal,
    InvalidArgument,
    JitClient,
    LocalChecker,
    LocalReason,
    PermissionDenied,
    Unavailable,
)
from jitaccess.v1 import access_pb2, grant_pb2
from tests.client.service import Held, Refusal, Service

Told = grant_pb2.WatchGrantsResponse
QUESTION = ("user:alice", "read", "database/eu")
AWAY = Refusal(code=grpc.StatusCode.UNAVAILABLE)
NOON = 1772452800
HOUR = 3600

Answers = Callable[..., list[Any]]


def grant(revision: int, *, state: str = "ACTIVE", needs_check: bool = False) -> Told:
    told = Told(event_type=Told.CURRENT if state == "ACTIVE" else Told.GRANT_REVOKED, revision=revision)
    held = told.replica.grant
    held.name, held.subject, held.needs_check = "grants/a", QUESTION[0], needs_check
    held.state = grant_pb2.Grant.State.Value(state)
    held.actions.append("read")
    held.resources.append("database/*")
    held.start_time.seconds, held.expire_time.seconds = NOON - HOUR, NOON + HOUR
    held.subject_groups.SetInParent()
    return told


def denies(revision: int) -> Told:
    told = Told(event_type=Told.DENY_POLICIES, revision=revision)
    told.replica.SetInParent()
    return told


def heartbeat(revision: int) -> Told:
    told = Told(event_type=Told.HEARTBEAT, revision=revision)
    told.replica.read_time.seconds = NOON
    told.replica.elapsed_duration.SetInParent()
    return told


@pytest.fixture(params=["sync", "async"])
def answers(request: pytest.FixtureRequest, service: Service) -> Answers:
    """Asks once each of the revisions has come."""
    both = {"sync": _answers_sync, "async": _answers_async}

    def answers(*revisions: int, **options: Any) -> list[Any]:
        return both[request.param](service.address, revisions, options)

    return answers


def _answers_sync(address: str, revisions: tuple[int, ...], options: dict[str, Any]) -> list[Any]:
    with JitClient(address, token="t") as client, LocalChecker(client, **options) as checker:
        return [checker.wait_for(revision, 5).check(*QUESTION) for revision in revisions]


def _answers_async(address: str, revisions: tuple[int, ...], options: dict[str, Any]) -> list[Any]:
    async def main() -> list[Any]:
        async with AsyncJitClient(address, token="t") as client, AsyncLocalChecker(client, **options) as checker:
            return [await (await checker.wait_for(revision, 5)).check(*QUESTION) for revision in revisions]

    return asyncio.run(main())


def starts(service: Service) -> list[int]:
    return [sent.start_revision for sent in service.sent("WatchGrants")]


@pytest.mark.parametrize("broken", [[AWAY], [], [Told(event_type=Told.OVERRUN, revision=5)]])
def test_a_stream_that_ends_is_taken_up_after_the_last_whole_state(
    answers: Answers, service: Service, broken: list[Any]
) -> None:
    revoked = grant(6, state="REVOKED")
    service.will_stream(
        "WatchGrants",
        [grant(0), denies(4), heartbeat(4), revoked, *broken],
        [denies(4), revoked, heartbeat(6), Held()],
    )

    yes, no = answers(4, 6)

    assert (yes.reason, no.reason) == (CheckReason.ALLOWED, CheckReason.NO_GRANT)
    assert starts(service)[:2] == [0, 4]
    assert all(sent.replica for sent in service.sent("WatchGrants"))


def test_a_load_that_breaks_begins_again(answers: Answers, service: Service) -> None:
    service.will_stream("WatchGrants", [grant(0), AWAY], [denies(4), heartbeat(4), Held()])

    assert [answer.reason for answer in answers(4)] == [CheckReason.NO_GRANT]
    assert starts(service) == [0, 0]


def test_a_store_that_lacks_the_revision_is_read_anew(answers: Answers, service: Service) -> None:
    lost = Refusal(code=grpc.StatusCode.INVALID_ARGUMENT, reason="INVALID_FIELD", violations={"start_revision": "is 9"})
    service.will_stream("WatchGrants", [grant(0), denies(4), heartbeat(4)], [lost], [denies(5), heartbeat(5), Held()])

    # The state of before goes on to answer until the other one is there.
    assert [answer.reason for answer in answers(4, 5)][-1] is CheckReason.NO_GRANT
    assert starts(service) == [0, 4, 0]


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        ([Refusal(code=grpc.StatusCode.PERMISSION_DENIED, reason="ROLE_REQUIRED")], PermissionDenied),
        ([Refusal(code=grpc.StatusCode.INVALID_ARGUMENT, reason="INVALID_FIELD")], InvalidArgument),
        ([heartbeat(4)], Internal),
        ([Told(event_type=Told.GRANT_REVOKED, revision=4)], Internal),
    ],
)
def test_a_service_that_feeds_no_replica_is_said_at_once(
    answers: Answers, service: Service, stream: list[Any], error: type[Exception]
) -> None:
    service.will_stream("WatchGrants", stream)

    with pytest.raises(error):
        answers(0)


def test_a_token_that_cannot_be_had_is_a_fault_and_not_the_end(service: Service) -> None:
    service.will_stream("WatchGrants", [denies(4), heartbeat(4), Held()])
    faults = iter([OSError("the token's disk is away")])

    def token() -> str:
        for fault in faults:
            raise fault
        return "t"

    with JitClient(service.address, token=token) as client, LocalChecker(client) as checker:
        assert checker.wait_ready(5).is_ready


def test_what_needs_a_check_is_asked_with_its_context(service: Service) -> None:
    service.will_stream("WatchGrants", [grant(0, needs_check=True), denies(4), heartbeat(4), Held()])
    service.will_answer("CheckAccess", access_pb2.CheckAccessResponse(allowed=True, reason=1), AWAY)

    with JitClient(service.address, token="t", timeout=0.5) as client, LocalChecker(client) as checker:
        checker.wait_ready(5)
        told = checker.check(*QUESTION, context={"build": "green"}, source_ip="192.0.2.7")
        assert told.remote is not None
        with pytest.raises(Unavailable):
            checker.check(*QUESTION)

    assert dict(service.sent("CheckAccess")[0].context) == {"build": "green", "source_ip": "192.0.2.7"}
    assert not service.sent("CheckAccess")[1].HasField("context")


def test_without_a_state_everything_is_stale(service: Service) -> None:
    service.will_stream("WatchGrants", [Held()])

    with JitClient(service.address, token="t") as client, LocalChecker(client) as checker:
        answer = checker.check(*QUESTION)
        assert (answer.allowed, answer.reason, answer.age, checker.age) == (False, LocalReason.STALE, None, None)
        with pytest.raises(Unavailable, match="not ready after"):
            checker.wait_ready(0.05)


def test_closing_ends_the_call(service: Service) -> None:
    held = Held()
    service.will_stream("WatchGrants", [denies(4), heartbeat(4), held])

    with JitClient(service.address, token="t") as client:
        with LocalChecker(client) as checker:
            checker.wait_ready(5)

        assert held.left.wait(10)


def test_a_bound_of_nothing_is_refused(service: Service) -> None:
    with JitClient(service.address, token="t") as client, pytest.raises(InvalidArgument, match="max_age"):
        LocalChecker(client, max_age=timedelta())


@pytest.mark.parametrize("reason", [*LocalReason, *CheckReason])
def test_every_answer_has_words(service: Service, reason: Any) -> None:
    from jitaccess import LocalDecision

    assert LocalDecision(False, reason, "grants/a", None, 4, 12.0, "policies/no").message
