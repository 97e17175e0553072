"""Whether a token still counts, as a replica says it: never where the service would not issue one now."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jit_service.domain.audit.event import EventType
from jit_service.domain.errors import JitError
from jit_service.domain.grants.grant import Grant
from jit_service.domain.policies.policy import Policy
from jit_service.domain.tokens import token
from jit_service.feeds.grants import ControlEvent
from jitaccess.replica import decision
from jitaccess.replica import state as replica
from jitaccess.replica.checker import LocalState
from jitaccess.replica.decision import LocalReason
from jitaccess.replica.state import Replica
from tests.domain.factories import ALICE, BOB, HOUR, NOON, TICK
from tests.domain.test_sown_bugs import Twin, sown
from tests.examples import examples
from tests.replica.feeding import MAX_AGE, OPENED, SECOND, current, fed, update
from tests.replica.test_agreement import denies, plain, worlds
from tests.replica.test_replica import NO_ALICE, REVOKED


def live(replica: Replica, grant: str = "grants/g", *, subject: str = ALICE, after: int = 0) -> bool | LocalReason:
    return replica.is_live(subject, grant, OPENED + after)


def test_a_token_counts_while_its_grant_is_active() -> None:
    assert live(fed(current(plain()))) is True
    assert live(fed(current())) is False
    assert live(fed(current(plain(end=REVOKED)))) is False
    assert live(fed(current(plain(starts_at=NOON + HOUR, expires_at=NOON + 2 * HOUR)))) is False


def test_a_token_ends_with_a_revocation() -> None:
    held = fed(current(plain()))

    held.take(update(EventType.GRANT_REVOKED, 8, grant=plain(end=REVOKED)))
    held.take(update(ControlEvent.HEARTBEAT, 8))

    assert live(held) is False


def test_a_token_is_its_subjects() -> None:
    assert live(fed(current(plain())), subject=BOB) is False


def test_a_token_is_not_known_to_be_live_beside_its_end() -> None:
    def at(before: timedelta) -> bool | LocalReason:
        return live(fed(current(plain(starts_at=NOON - HOUR, expires_at=NOON + before))))

    assert at(2 * TICK) is True
    assert at(TICK) is LocalReason.NEEDS_CHECK
    assert at(timedelta()) is False


def test_a_token_is_not_known_to_be_live_beside_its_start() -> None:
    assert live(fed(current(plain(starts_at=NOON + TICK))), after=SECOND) is LocalReason.NEEDS_CHECK


def test_what_was_passed_on_is_not_known_to_be_live() -> None:
    assert live(fed(current(plain(chain=("grants/above",))))) is LocalReason.NEEDS_CHECK


def test_a_stale_replica_knows_of_no_token() -> None:
    held = fed(current(plain()))

    assert live(held, after=MAX_AGE - SECOND) is True
    assert live(held, after=MAX_AGE) is LocalReason.STALE
    assert live(Replica(max_age=MAX_AGE)) is LocalReason.STALE


def test_a_deny_that_reaches_into_the_grant_ends_its_token() -> None:
    assert live(fed(current(plain(resources=("**",)), denies=[NO_ALICE]))) is False
    assert live(fed(current(plain(resources=("http/x",)), denies=[NO_ALICE]))) is True


def test_a_checker_that_cannot_be_sure_says_so() -> None:
    state = LocalState(max_age=timedelta(seconds=10), on_decision=None, ask_after_no=False)

    with pytest.raises(Exception, match="cannot be told here") as unsure:
        state.is_live(subject=ALICE, grant="grants/g")

    assert getattr(unsure.value, "reason", "") == "STALE"


@settings(
    max_examples=examples(100), derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
@given(held=worlds, policies=st.lists(denies, max_size=2), age=st.sampled_from((0, 3 * SECOND)))
def test_a_token_counts_only_where_the_service_would_issue_it(
    held: tuple[Grant, ...], policies: list[Policy], age: int
) -> None:
    replica = fed(current(*held, denies=policies))

    for grant in held:
        if live(replica, grant.name, subject=grant.subject, after=age) is True:
            at = NOON + timedelta(microseconds=age // 1000)
            assert is_carriable(grant, policies, at)


def is_carriable(grant: Grant, policies: list[Policy], at: datetime) -> bool:
    try:
        token.demand_carriable(grant, above={}, policies=policies, now=at)
    except JitError:
        return False
    return True


TWINS = [
    Twin(
        "a token of somebody else's",
        decision.is_live,
        "grant.subject != subject or",
        "",
        test_a_token_is_its_subjects,
    ),
    Twin(
        "a token at its end",
        decision.is_live,
        "latest >= grant.expire:",
        "latest > grant.expire:",
        test_a_token_is_not_known_to_be_live_beside_its_end,
    ),
    Twin(
        "a token before its start",
        decision.is_live,
        "earliest < grant.start or",
        "",
        test_a_token_is_not_known_to_be_live_beside_its_start,
    ),
    Twin(
        "a token that outlives what it was passed on from",
        decision.is_live,
        "grant.needs_check or",
        "",
        test_what_was_passed_on_is_not_known_to_be_live,
    ),
    Twin(
        "a token that no deny ends",
        decision.is_live,
        "not denies.reach_into(grant)",
        "True",
        test_a_deny_that_reaches_into_the_grant_ends_its_token,
    ),
    Twin(
        "a token of a stale replica",
        replica.Replica.is_live,
        "mark is None or (age := mark.age(now)) >= self._max_age",
        "mark is None or (age := mark.age(now)) < 0",
        test_a_stale_replica_knows_of_no_token,
    ),
    Twin(
        "a checker that takes not knowing for a yes",
        LocalState.is_live,
        "if isinstance(answer, LocalReason):",
        "if False:",
        test_a_checker_that_cannot_be_sure_says_so,
    ),
]


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_no_twin_survives(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin.function, "__code__", sown(twin))

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        twin.caught_by()
