"""Refusals become exceptions, and only what is safe is tried again."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import grpc
import pytest

from jitaccess import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    Internal,
    InvalidArgument,
    JitClient,
    JitError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Retry,
    Unauthenticated,
    Unavailable,
)
from jitaccess.v1 import access_pb2, grant_pb2
from tests.client.conftest import Ask
from tests.client.service import Refusal, Service

AWAY = Refusal(code=grpc.StatusCode.UNAVAILABLE, reason="STORE_UNAVAILABLE")
CHECK = ("user:s", "read", "a/b")


class Never(Retry):
    """Waits longer than any deadline before the next attempt."""

    def delays(self) -> Iterator[float]:
        yield 1e9


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, Unauthenticated),
        (grpc.StatusCode.PERMISSION_DENIED, PermissionDenied),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidArgument),
        (grpc.StatusCode.OUT_OF_RANGE, InvalidArgument),
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.ALREADY_EXISTS, AlreadyExists),
        (grpc.StatusCode.FAILED_PRECONDITION, FailedPrecondition),
        (grpc.StatusCode.ABORTED, Aborted),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ResourceExhausted),
        (grpc.StatusCode.UNAVAILABLE, Unavailable),
        (grpc.StatusCode.CANCELLED, Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
        (grpc.StatusCode.INTERNAL, Internal),
        (grpc.StatusCode.UNKNOWN, Internal),
        (grpc.StatusCode.UNIMPLEMENTED, Internal),
        (grpc.StatusCode.DATA_LOSS, Internal),
    ],
)
def test_each_status_has_its_exception(ask: Ask, service: Service, code: grpc.StatusCode, kind: type) -> None:
    service.will_answer("GetGrant", Refusal(code=code, message="what is", reason="SOME_REASON"))

    with pytest.raises(JitError) as caught:
        ask("get_grant", "x1")

    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.reason, caught.value.message) == (code.name, "SOME_REASON", "what is")


def test_an_exception_bears_the_details_of_the_refusal(ask: Ask, service: Service) -> None:
    refusal = Refusal(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        message="duration: must be above 0",
        reason="INVALID_FIELD",
        metadata={"field": "duration"},
        violations={"duration": "must be above 0"},
    )
    service.will_answer("RequestGrant", refusal)

    with pytest.raises(InvalidArgument) as caught:
        ask("request", "a/b", "read")

    assert str(caught.value) == "duration: must be above 0 (INVALID_FIELD)"
    assert caught.value.metadata == {"field": "duration"}
    assert caught.value.field_violations == (FieldViolation("duration", "must be above 0"),)
    assert caught.value.status is not None


@pytest.mark.parametrize("trailer", [b"", b"\xff\xff\xff", b"\x08\x05\x12\x05other"])
def test_details_that_cannot_be_read_or_disagree_are_no_details(ask: Ask, service: Service, trailer: bytes) -> None:
    service.will_answer("GetGrant", Refusal(code=grpc.StatusCode.ABORTED, message="raced", trailer=trailer))

    with pytest.raises(Aborted) as caught:
        ask("get_grant", "x1")

    assert (caught.value.message, caught.value.reason, caught.value.status) == ("raced", "ABORTED", None)


def test_a_service_that_comes_back_is_asked_again_with_the_same_request_id(ask: Ask, service: Service) -> None:
    service.will_answer("RequestGrant", AWAY, AWAY, grant_pb2.Grant(name="grants/x1"))

    grant = ask("request", "a/b", "read")

    first, second, third = (message.request_id for message in service.sent("RequestGrant"))
    assert grant.name == "grants/x1"
    assert first == second == third != ""


def test_a_check_is_asked_again_too(ask: Ask, service: Service) -> None:
    service.will_answer("CheckAccess", AWAY, access_pb2.CheckAccessResponse(allowed=True))

    assert ask("check", *CHECK)


def test_a_service_that_stays_away_raises_after_the_last_attempt(ask: Ask, service: Service) -> None:
    service.will_answer("CheckAccess", AWAY)

    with pytest.raises(Unavailable) as caught:
        ask("check", *CHECK, options={"retry": Retry(attempts=3, first_delay=0)})

    assert caught.value.reason == "STORE_UNAVAILABLE"
    assert len(service.received) == 3


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.CANCELLED,
    ],
)
def test_nothing_but_unavailable_is_tried_again(ask: Ask, service: Service, code: grpc.StatusCode) -> None:
    service.will_answer("ApproveGrant", Refusal(code=code))

    with pytest.raises(JitError):
        ask("approve", "x1")

    assert len(service.received) == 1


def test_no_attempt_is_made_that_would_begin_after_the_deadline(ask: Ask, service: Service) -> None:
    service.will_answer("CheckAccess", AWAY)

    with pytest.raises(Unavailable):
        ask("check", *CHECK, options={"retry": Never()})

    assert len(service.received) == 1


def test_every_call_has_a_deadline_and_ten_seconds_is_the_default(ask: Ask, service: Service) -> None:
    ask("check", *CHECK)
    ask("check", *CHECK, options={"timeout": 3600})

    default, long = (call.time_remaining for call in service.received)
    # gRPC rounds a timeout up to what its header can say.
    assert 0 < default <= 11
    assert 11 < long <= 4000


def test_a_service_that_is_silent_until_the_deadline_has_its_own_exception(ask: Ask, service: Service) -> None:
    service.is_silent = True

    with pytest.raises(DeadlineExceeded) as caught:
        ask("check", *CHECK, options={"timeout": 0.2})

    assert service.address in caught.value.message


def test_where_nobody_listens_the_call_raises_and_names_the_address(ask: Ask) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"

        with pytest.raises(Unavailable, match=address):
            ask("check", *CHECK, options={"address": address})


def test_a_closed_client_makes_no_calls(service: Service) -> None:
    client = JitClient(service.address, token="t")
    client.close()

    with pytest.raises(ValueError, match="closed"):
        client.check(*CHECK)


def test_the_docstring_draws_every_exception() -> None:
    import jitaccess.errors as module

    tree = (module.__doc__ or "").split("JitError\n", 1)[1]
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, JitError)]

    assert all(f"─ {kind.__name__} " in tree for kind in kinds if kind is not JitError)


def test_retry_waits_are_jittered_between_nothing_and_a_bound_that_doubles() -> None:
    retry = Retry(attempts=6, first_delay=0.1, max_delay=0.5)

    for bound, delay in zip([0.1, 0.2, 0.4, 0.5, 0.5], retry.delays(), strict=True):
        assert 0 <= delay <= bound
