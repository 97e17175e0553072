"""Asking through the use cases: what a dry run says, and what there must be for nothing to be asked."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from jit_service.domain.checks.decision import Question
from jit_service.domain.errors import TooManyActive
from jit_service.domain.grants.grant import Grant, GrantState
from jit_service.domain.grants.more_time import MoreTime
from jit_service.domain.grants.request import Ask
from jit_service.domain.policies.policy import ExtensionRule
from jit_service.storage import Store
from jit_service.use_cases import grants
from tests import checking
from tests.conftest import HOUR, NOON, TICK, Clock
from tests.storage.people import ALICE, BOB, CAROL, add_policy, ask

RESOURCE = "database/orders/eu"


def wanted(**changes: Any) -> Ask:
    facts: dict[str, Any] = {"subject": ALICE.principal, "resources": (RESOURCE,), "actions": ("read",)}
    return Ask(**(facts | changes))


def test_a_dry_run_refuses_who_has_as_many_as_the_policy_allows(store: Store) -> None:
    add_policy(store, max_active_per_subject=1)
    ask(store)

    with pytest.raises(TooManyActive):
        grants.preview(store, ALICE, wanted())
    with pytest.raises(TooManyActive):
        grants.ask(store, ALICE, wanted())


# What covers what is wanted for later, or for now


def ensured(store: Store, start_at: datetime | None = None) -> Grant:
    return grants.ensure(store, ALICE, wanted(duration=HOUR, start_at=start_at)).grant


@pytest.mark.parametrize("after", [TICK, HOUR, 5 * HOUR])
def test_access_that_is_over_before_what_is_wanted_does_not_cover_it(store: Store, after: timedelta) -> None:
    add_policy(store, steps=())
    active = ensured(store)

    assert ensured(store, NOON).name == active.name
    assert ensured(store, NOON + after).name != active.name


def test_access_that_starts_later_than_it_is_wanted_does_not_cover_it(store: Store) -> None:
    add_policy(store, steps=())
    later = ensured(store, NOON + 5 * HOUR)

    assert ensured(store, NOON + 5 * HOUR).name == later.name
    assert ensured(store, NOON + 5 * HOUR - TICK).name != later.name
    assert ensured(store).state(NOON) is GrantState.ACTIVE


def test_a_request_for_a_later_start_does_not_cover_what_is_wanted_now(store: Store) -> None:
    add_policy(store)
    later = ensured(store, NOON + 5 * HOUR)

    assert ensured(store, NOON + 5 * HOUR).name == later.name
    assert ensured(store).name != later.name


# More time for access that is in use


@pytest.mark.parametrize("limit", ["idle_timeout", "activation_window"])
def test_a_request_for_more_time_waits_as_long_as_the_access_is_kept_alive(
    store: Store, clock: Clock, limit: str
) -> None:
    more = ExtensionRule(max_extensions=1, max_total_duration=8 * HOUR)
    add_policy(store, extension=more, **{limit: HOUR / 4})
    asked = ask(store)
    grants.approve(store, BOB, asked.name, comment="", etag="")
    grants.extend(store, ALICE, asked.name, MoreTime(duration=HOUR), etag="")
    clock.advance(HOUR / 4 - TICK)
    question = Question(subject=ALICE.principal, action="read", resource=RESOURCE)
    assert checking.check(store, CAROL, question).decision.allowed
    clock.advance(TICK)

    approved = grants.approve(store, BOB, asked.name, comment="", etag="", extension_round=1).grant

    assert approved.extension_count == 1
