"""Every kind of guard: through with a live grant, and never through when it is not sure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from jitaccess import (
    CheckReason,
    DeadlineExceeded,
    Internal,
    JitClient,
    LocalReason,
    Misconfigured,
    PermissionDenied,
    ResourceExhausted,
    Retry,
    Unauthenticated,
    Unavailable,
)
from jitaccess.guards import Guard, Incoming, bearer_token, fixed_subject, subject_of_grant_token
from jitaccess.testing import MemoryService
from tests.guards.doors import DOORS, ON_A_LOOP, Call, Told

ALICE = "user:alice@example.com"
SECRET = "10.1.2.3:443 s3cret"
AUDIENCE = "https://orders.example.com"


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def knocks(door: str, guard: Guard, region: str = "eu", token: str | None = None) -> Told:
    with DOORS[door](guard) as call:
        told: Told = call(region, token)
        return told


def by_check(asks: Any, **options: Any) -> Guard:
    return Guard.by_check(asks, **({"subject": fixed_subject(ALICE)} | options))


@pytest.fixture
def jit() -> MemoryService:
    return MemoryService()


def granted(jit: MemoryService, **options: Any) -> Any:
    return jit.grant(ALICE, "database/orders/eu", ["rows.create", "rows.purge"], **options)


# Through, or why not


def test_a_live_grant_lets_through_to_what_it_covers(door: str, jit: MemoryService) -> None:
    granted(jit)
    with DOORS[door](by_check(jit.client)) as call:
        assert call("eu").through
        told = call("us")

    assert (told.through, told.code, told.reason) == (False, "PERMISSION_DENIED", "NO_GRANT")


def test_a_no_says_why_and_what_could_be_asked_for(door: str, jit: MemoryService) -> None:
    jit.requestable("policies/orders", "database/**", "**", groups=["engineering"])
    jit.requestable("policies/alice", "database/**", "**", principals=[ALICE])
    grant = granted(jit)
    jit.revoke(grant)

    told = knocks(door, by_check(jit.client))

    assert (told.code, told.reason) == ("PERMISSION_DENIED", "REVOKED")
    assert told.message.startswith(f"{grant.name} was revoked at ")
    assert told.metadata is not None
    assert told.metadata["requestable_policies"] == "policies/alice,policies/orders"
    assert told.metadata["resource"] == "database/orders/eu"
    assert (told.metadata["subject"], told.metadata["grant"]) == (ALICE, grant.name)


def test_an_asynchronous_client_answers_on_a_loop_and_nowhere_else(door: str, jit: MemoryService) -> None:
    granted(jit)

    told = knocks(door, by_check(jit.async_client))

    assert told.through is (door in ON_A_LOOP)
    assert told.code == ("" if told.through else "INTERNAL")


# Not sure: never through

FAULTS = {
    "unavailable": Unavailable(SECRET),
    "too late": DeadlineExceeded(SECRET),
    "too many": ResourceExhausted(SECRET),
    "internal": Internal(SECRET),
    "the guard may not ask": PermissionDenied(SECRET, reason="ROLE_REQUIRED"),
    "the guard's token is over": Unauthenticated(SECRET, reason="TOKEN_EXPIRED"),
    "misconfigured": Misconfigured(SECRET),
    "a bug": ZeroDivisionError(SECRET),
    "an exit of a library": KeyError(SECRET),
    "a timeout": TimeoutError(SECRET),
}


def decision(**changes: Any) -> SimpleNamespace:
    good = {"allowed": True, "reason": CheckReason.ALLOWED, "grant": "grants/g", "expire_time": None, "message": SECRET}
    return SimpleNamespace(**(good | changes))


ANSWERS = {
    "nothing": None,
    "True": True,
    "a text": "yes",
    "an object": object(),
    "allowed by a number": decision(allowed=1),
    "allowed by a text": decision(allowed="true"),
    "allowed for no reason": decision(reason=CheckReason.UNKNOWN),
    "allowed against its reason": decision(reason=CheckReason.NO_GRANT),
    "allowed with an error": decision(error=Internal("half an answer")),
    "neither": decision(allowed=None),
    "a no that says allowed": decision(allowed=False),
    "stale": decision(allowed=False, reason=LocalReason.STALE),
    "needs a check": decision(allowed=False, reason=LocalReason.NEEDS_CHECK),
    "a no without a reason": decision(allowed=False, reason=CheckReason.UNKNOWN),
}


class Asks:
    """Answers what a test gave it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def check(self, *_: Any, **__: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class AsksLater(Asks):
    """The same, asynchronously."""

    async def check(self, *_: Any, **__: Any) -> Any:
        return super().check()


def is_unsure(told: Told) -> bool:
    unsure = told.code in ("UNAVAILABLE", "INTERNAL")
    return not told.through and unsure and SECRET not in f"{told.message}{told.metadata}"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_check_that_fails_lets_nobody_through(door: str, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert is_unsure(knocks(door, by_check(Asks(FAULTS[fault]))))
        if door in ON_A_LOOP:
            assert is_unsure(knocks(door, by_check(AsksLater(FAULTS[fault]))))

    assert "lets nobody through" in caplog.text


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_is_not_exactly_a_yes_is_none(door: str, answer: str) -> None:
    assert is_unsure(knocks(door, by_check(Asks(ANSWERS[answer]))))
    if door in ON_A_LOOP:
        assert is_unsure(knocks(door, by_check(AsksLater(ANSWERS[answer]))))


def test_a_yes_is_exactly_a_yes(door: str) -> None:
    """So that the table above is of what it changes."""
    assert knocks(door, by_check(Asks(decision()))).through


def test_a_service_that_is_away_lets_nobody_through(door: str) -> None:
    with JitClient("127.0.0.1:1", token="t", timeout=1, retry=Retry(attempts=1)) as client:
        told = knocks(door, by_check(client))

    assert is_unsure(told)
    assert told.reason == "CHECK_FAILED"


@pytest.mark.parametrize("door", ON_A_LOOP)
def test_a_check_that_hangs_lets_nobody_through(door: str) -> None:
    class Hangs:
        async def check(self, *_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

    told = knocks(door, by_check(Hangs(), timeout=0.05))

    assert is_unsure(told)
    assert told.reason == "DEADLINE_EXCEEDED"


def who_without_a_header(incoming: Incoming) -> str:
    return incoming.headers.nothing_of_the_kind("x-user")  # type: ignore[attr-defined, no-any-return]


def test_a_bug_of_the_subject_function_says_misconfigured_and_the_log_names_it(
    door: str, jit: MemoryService, caplog: pytest.LogCaptureFixture
) -> None:
    granted(jit)

    told = knocks(door, by_check(jit.client, subject=who_without_a_header))

    assert (told.through, told.code, told.reason) == (False, "INTERNAL", "SUBJECT_FAULT")
    assert "misconfigured" in told.message
    assert "try again" not in told.message
    assert "subject function tests.guards.test_doors.who_without_a_header raised AttributeError" in caplog.text
    assert "Traceback" in caplog.text


# Who is it?


def test_a_header_is_found_in_any_letter_case_and_two_of_them_are_not_one() -> None:
    once = Incoming.with_headers([(b"X-User", b"user:a"), ("Accept", "x"), ("accept", "y")], None).headers

    assert (once.get("x-USER"), once["X-User"], "X-USER" in once) == ("user:a", "user:a", True)
    assert (once.get("none"), once.get("none", "else"), "none" in once) == (None, "else", False)
    assert (once["accept"], once.get_all("Accept")) == ("x, y", ("x", "y"))
    assert dict(once) == {"x-user": "user:a", "accept": "x, y"} == dict(once.items())
    with pytest.raises(KeyError):
        once["none"]


def test_headers_are_still_pairs() -> None:
    incoming = Incoming((("X-User", "user:a"),))  # type: ignore[arg-type]

    assert [value for name, value in incoming.headers if name == "x-user"] == ["user:a"]
    assert incoming.headers == (("x-user", "user:a"),)
    assert incoming.headers[0] == ("x-user", "user:a")


@pytest.mark.parametrize("kind", ["job", "async job"])
def test_the_guard_of_an_http_app_says_in_a_job_what_is_wrong(kind: str, jit: MemoryService) -> None:
    told = knocks(kind, by_check(jit.client, subject=lambda incoming: incoming.headers.get("x-user")))

    assert (told.code, told.reason) == ("UNAUTHENTICATED", "IDENTITY_MISSING")
    assert "a job has no headers" in told.message
    assert 'subject=lambda i: i.source.arguments["by"]' in told.message
    assert knocks(kind, by_check(jit.client, subject=bearer_token)).message.count("a job has no headers") == 1


@pytest.mark.parametrize("subject", ["", None, 7, b"user:alice", ["user:alice"]])
def test_without_an_identity_nobody_is_let_through(door: str, jit: MemoryService, subject: Any) -> None:
    granted(jit)

    told = knocks(door, by_check(jit.client, subject=lambda _: subject))

    assert (told.through, told.code, told.reason) == (False, "UNAUTHENTICATED", "IDENTITY_MISSING")


def raising(error: Exception) -> Any:
    def subject(_: Any) -> str:
        raise error

    return subject


@pytest.mark.parametrize("error", [ZeroDivisionError(SECRET), Unavailable(SECRET), Internal(SECRET), KeyError(SECRET)])
def test_an_identity_that_cannot_be_had_lets_nobody_through(door: str, jit: MemoryService, error: Exception) -> None:
    granted(jit)

    assert is_unsure(knocks(door, by_check(jit.client, subject=raising(error))))


def test_who_is_refused_by_the_program_hears_its_reason(door: str, jit: MemoryService) -> None:
    told = knocks(door, by_check(jit.client, subject=raising(Unauthenticated("log in", reason="SESSION_OVER"))))

    assert (told.code, told.reason, told.message) == ("UNAUTHENTICATED", "SESSION_OVER", "log in")


def test_who_it_is_may_take_its_time(door: str, jit: MemoryService) -> None:
    async def subject(_: Any) -> str:
        await asyncio.sleep(0)
        return ALICE

    granted(jit)

    assert knocks(door, by_check(jit.client, subject=subject)).through is (door in ON_A_LOOP)


def test_a_subject_that_is_none_is_no_subject(door: str, jit: MemoryService) -> None:
    told = knocks(door, by_check(jit.client, subject=fixed_subject("alice")))

    assert (told.through, told.code, told.metadata) == (False, "PERMISSION_DENIED", {"field": "subject"})


# Names

ODD = ["..", ".", "*", "**", "a%2Fb", "a%252Fb", "a%5Cb", "%2e%2e", "a%00b", "a%20", "%2A", "a%2F..%2Fb", "..%2Fb"]


@pytest.mark.parametrize("door", ["fastapi", "asgi"])
@pytest.mark.parametrize("region", ODD)
def test_a_path_adds_no_segment_and_no_wildcard(door: str, jit: MemoryService, region: str) -> None:
    jit.grant(ALICE, ["database/**", "**"], ["**"])
    with DOORS[door](by_check(jit.client)) as call:
        assert call("a-b").through
        try:
            told = call(region)
        except (KeyError, ValueError):
            # No route is this one: the handler was not reached either.
            return

    assert (told.through, told.code) == (False, "PERMISSION_DENIED")


@pytest.mark.parametrize("door", ["grpc", "grpc.aio", "job", "async job"])
@pytest.mark.parametrize("region", ["..", ".", "*", "**", "a/b", "a%2Fb", "a\\b", "", "a ", "a\0b", "a\u200bb", "../b"])
def test_a_field_adds_no_segment_and_no_wildcard(door: str, jit: MemoryService, region: str) -> None:
    jit.grant(ALICE, ["database/**", "**"], ["**"])
    with DOORS[door](by_check(jit.client)) as call:
        assert call("a-b").through
        told = call(region)

    assert (told.through, told.code, told.reason) == (False, "PERMISSION_DENIED", "INVALID_FIELD")


# By token


@pytest.fixture(params=["fastapi", "asgi", "grpc", "grpc.aio"])
def token_door(request: pytest.FixtureRequest, jit: MemoryService) -> Iterator[Call]:
    with DOORS[request.param](by_token(jit, checker=jit)) as call:
        yield call


def by_token(jit: MemoryService, **options: Any) -> Guard:
    return Guard.by_token(jit.tokens.keys, issuer=jit.tokens.issuer, audience=AUDIENCE, clock=jit.now, **options)


def test_a_token_lets_through_to_what_its_grant_covers(token_door: Call, jit: MemoryService) -> None:
    token = jit.tokens.issue(granted(jit), audience=AUDIENCE)

    assert token_door("eu", token).through
    told = token_door("us", token)
    assert (told.code, told.reason) == ("PERMISSION_DENIED", "NOT_COVERED")


def test_a_token_is_over_with_its_grant(token_door: Call, jit: MemoryService) -> None:
    grant = granted(jit)
    token = jit.tokens.issue(grant, audience=AUDIENCE)
    jit.revoke(grant)

    told = token_door("eu", token)

    assert (told.through, told.code, told.reason) == (False, "PERMISSION_DENIED", "GRANT_OVER")


def test_a_token_that_is_none_is_no_identity(token_door: Call, jit: MemoryService) -> None:
    wrong = jit.tokens.issue(granted(jit), audience="https://other.example.com")
    other = MemoryService()
    forged = other.tokens.issue(granted(other), audience=AUDIENCE)

    for token, reason in (
        (None, "TOKEN_MISSING"),
        ("x", "MALFORMED"),
        (wrong, "WRONG_AUDIENCE"),
        (forged, "BAD_SIGNATURE"),
        (f"{wrong} {wrong}", "TOKEN_INVALID"),
    ):
        told = token_door("eu", token)
        assert (told.through, told.code, told.reason) == (False, "UNAUTHENTICATED", reason)


def test_a_checker_that_is_away_ends_no_token_and_lets_none_through(token_door: Call, jit: MemoryService) -> None:
    token = jit.tokens.issue(granted(jit), audience=AUDIENCE)
    jit.is_away = True

    told = token_door("eu", token)

    assert (told.through, told.code) == (False, "UNAVAILABLE")


@pytest.mark.parametrize("answer", [None, 1, "yes", object(), ValueError(SECRET)])
@pytest.mark.parametrize("kind", ["grpc", "fastapi"])
def test_a_checker_that_says_neither_lets_nobody_through(kind: str, jit: MemoryService, answer: Any) -> None:
    class Live:
        def is_live(self, **_: Any) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

    token = jit.tokens.issue(granted(jit), audience=AUDIENCE)

    assert not knocks(kind, by_token(jit, checker=Live()), "eu", token).through


def test_the_subject_of_a_token_is_asked_about(jit: MemoryService) -> None:
    token = jit.tokens.issue(granted(jit), audience=AUDIENCE)
    who = subject_of_grant_token(jit.tokens.keys, issuer=jit.tokens.issuer, audience=AUDIENCE, clock=jit.now)
    guard = by_check(jit.client, subject=who)

    assert knocks("grpc", guard, "eu", token).through
    assert knocks("fastapi", guard, "eu", token).through
    assert knocks("fastapi", guard, "eu").code == "UNAUTHENTICATED"
    assert knocks("fastapi", guard, "eu", "x").code == "UNAUTHENTICATED"


def test_no_header_but_a_token_says_who_calls(jit: MemoryService) -> None:
    from jitaccess.guards import Incoming

    for headers in (
        [("x-user", ALICE)],
        [("authorization", ALICE)],
        [("authorization", f"Basic {ALICE}")],
        [("authorization", "Bearer a"), ("Authorization", "Bearer b")],
        [("authorization", "Bearer a,Bearer b")],
        [("authorization", "Bearer ")],
        [("authorization", "Bearer a b")],
    ):
        with pytest.raises(Unauthenticated):
            bearer_token(Incoming.with_headers(headers, None))
    assert bearer_token(Incoming.with_headers([(b"Authorization", b"bearer a")], None)) == "a"


def test_a_job_by_its_token_ends_with_its_grant(jit: MemoryService) -> None:
    grant = granted(jit, duration=timedelta(hours=1))
    token = jit.tokens.issue(grant, audience=AUDIENCE)
    guard = by_token(jit, checker=jit, token=lambda _: token)

    assert knocks("job", guard).through
    assert knocks("async job", guard).through
    jit.release(grant)
    assert knocks("job", guard).reason == "GRANT_OVER"
    assert knocks("job", by_token(jit, token=lambda _: "")).reason == "TOKEN_MISSING"
    assert knocks("job", by_token(jit)).code == "UNAUTHENTICATED"
