"""What is told of by itself: that a grant ends soon, and that a step has escalated. Both are derived from the facts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from jit_service.domain.audit.event import EventType
from jit_service.domain.errors import WrongState
from jit_service.domain.grants.deadlines import (
    ends_soon,
    escalated_event,
    escalates_at,
    expires_soon_event,
    has_escalated,
    warns_at,
)
from jit_service.domain.policies.policy import PrincipalSet
from tests.domain.factories import (
    CAROL,
    HOUR,
    NOON,
    TICK,
    approve,
    deny,
    erin,
    extending,
    extension,
    pending,
    policy,
    release,
    step,
    withdraw,
)

MINUTE = timedelta(minutes=1)
WARNS = policy(warn_before=10 * MINUTE)
ESCALATES = replace(step("owners"), timeout=HOUR, escalate_to=PrincipalSet(principals=(CAROL,)))
UNDER = policy(steps=(ESCALATES,))
TWICE = policy(steps=(ESCALATES, ESCALATES))


def test_a_grant_ends_soon_from_exactly_so_long_before_its_end() -> None:
    grant = approve(pending(WARNS), under=WARNS)
    due = NOON + HOUR - 10 * MINUTE

    assert warns_at(grant) == due
    assert not ends_soon(grant, now=due - TICK)
    assert ends_soon(grant, now=due)
    assert ends_soon(grant, now=NOON + HOUR - TICK)
    assert not ends_soon(grant, now=NOON + HOUR)


def test_the_event_is_the_services_and_says_when_it_ends() -> None:
    grant = approve(pending(WARNS), under=WARNS)

    event = expires_soon_event(grant, now=NOON + 55 * MINUTE)

    assert (event.type, event.principal) == (EventType.GRANT_EXPIRES_SOON, "service:jit-service")
    assert (event.grant, event.decision, event.held) == (grant.name, "ACTIVE", None)
    assert event.message == "it ends at 2026-03-02T13:00:00+00:00 at the latest"
    with pytest.raises(WrongState, match="grants/g7 does not end soon") as refused:
        expires_soon_event(grant, now=NOON)
    assert refused.value.metadata == {"grant": "grants/g7", "state": "ACTIVE"}


def test_a_grant_that_is_given_for_no_longer_is_not_warned_of() -> None:
    under = policy(warn_before=HOUR)

    assert warns_at(approve(pending(under), under=under)) is None
    longer = approve(pending(under, duration=HOUR + TICK), under=under)
    assert warns_at(longer) == NOON + TICK


def test_only_what_runs_is_warned_of() -> None:
    grant = approve(pending(WARNS), under=WARNS)

    assert warns_at(pending(WARNS)) is None
    assert warns_at(release(grant)) is None
    assert warns_at(approve(pending())) is None
    assert warns_at(replace(grant, chain=("grants/g1",))) is None


def test_more_time_is_warned_of_anew_under_the_policy_of_now() -> None:
    under = extending(warn_before=10 * MINUTE)
    grant = approve(pending(under), under=under)
    later = replace(under, warn_before=5 * MINUTE)

    longer = approve(extension(grant, under=under), under=later)

    assert warns_at(longer) == NOON + 2 * HOUR - 5 * MINUTE


def test_uses_do_not_move_the_warning() -> None:
    under = policy(warn_before=10 * MINUTE, idle_timeout=5 * MINUTE)
    grant = approve(pending(under), under=under)

    assert grant.expires_at == NOON + 5 * MINUTE
    assert warns_at(grant) == NOON + 50 * MINUTE


def test_a_step_escalates_at_exactly_its_timeout() -> None:
    waiting = pending(UNDER)

    assert escalates_at(waiting) == NOON + HOUR
    assert not has_escalated(waiting, now=NOON + HOUR - TICK)
    assert has_escalated(waiting, now=NOON + HOUR)
    assert not has_escalated(waiting, now=NOON + 8 * HOUR)


def test_the_event_of_an_escalation_says_which_step() -> None:
    waiting = approve(pending(TWICE), under=TWICE, at=NOON + MINUTE)

    event = escalated_event(waiting, now=NOON + HOUR + MINUTE)

    assert (event.type, event.principal) == (EventType.STEP_ESCALATED, "service:jit-service")
    assert event.message == "step 2 was not decided by 2026-03-02T13:01:00+00:00, so others may decide it too"
    with pytest.raises(WrongState, match="grants/g7 waits for no step that has escalated") as refused:
        escalated_event(waiting, now=NOON + HOUR + MINUTE - TICK)
    assert refused.value.metadata == {"grant": "grants/g7"}


def test_what_is_decided_or_lapses_instead_does_not_escalate() -> None:
    lapses = policy(steps=(replace(ESCALATES, escalate_to=None),))

    assert escalates_at(pending(lapses)) is None
    assert escalates_at(pending()) is None
    assert escalates_at(approve(pending(UNDER), under=UNDER)) is None
    assert escalates_at(deny(pending(UNDER))) is None
    assert escalates_at(withdraw(pending(UNDER))) is None


def test_more_time_that_waits_escalates_too() -> None:
    under = extending(steps=(ESCALATES,))
    grant = approve(pending(under, duration=2 * HOUR), under=under)

    asked = extension(grant, under=under, at=NOON + MINUTE)

    assert escalates_at(grant) is None
    assert escalates_at(asked) == NOON + HOUR + MINUTE
    assert has_escalated(asked, now=NOON + HOUR + MINUTE)
    assert escalates_at(approve(asked, by=erin(), under=under, at=NOON + MINUTE)) is None
    assert escalates_at(release(asked, at=NOON + MINUTE)) is None
