"""What the sweeper records as it comes near: ends of grants, and steps that escalate. Each once, by however many."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from jit_service.domain.audit.event import EventType, RecordedEvent
from jit_service.domain.grants.grant import GrantState
from jit_service.domain.grants.more_time import MoreTime
from jit_service.domain.notification import Subscription, interests
from jit_service.domain.policies.policy import ExtensionRule, PrincipalSet, Step
from jit_service.notifications import delivery
from jit_service.runtime import sweeper
from jit_service.storage import Store
from jit_service.use_cases import audit, grants
from tests.conftest import HOUR, NOON, TICK, Clock
from tests.storage.people import ADMIN, ALICE, add_policy, approve, ask


@pytest.fixture
def store(database_url: str, clock: Clock) -> Iterator[Store]:
    everything = Subscription(receiver="oncall", interests=interests(["*"]))
    store = Store(database_url, clock=clock, subscriptions=[everything])
    yield store
    store.close()


def recorded(store: Store, type_: EventType) -> list[RecordedEvent]:
    page = audit.list_page(
        store, ADMIN, filter_text=f"event_type = {type_}", order_by="seq", page_size=9, page_token=""
    )
    return list(page.events)


def swept(store: Store) -> None:
    """Sweeps as several processes do at once."""
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: sweeper.record_run_out(store), range(3)))


def test_an_end_that_is_near_is_recorded_and_told_once(store: Store, clock: Clock) -> None:
    add_policy(store, warn_before=HOUR / 4)
    grant = approve(store, ask(store))
    clock.advance(HOUR - HOUR / 4 - TICK)
    swept(store)
    assert recorded(store, EventType.GRANT_EXPIRES_SOON) == []
    clock.advance(TICK)

    swept(store)
    clock.advance(TICK)
    assert sweeper.record_run_out(store) == 0

    (record,) = recorded(store, EventType.GRANT_EXPIRES_SOON)
    assert (record.event.grant, record.event.at) == (grant.name, NOON + HOUR - HOUR / 4)
    assert [left.type for left in delivery.list_waiting(store)].count("GRANT_EXPIRES_SOON") == 1
    assert grants.get(store, ALICE, grant.name).grant == grant
    assert not audit.verify(store).problem


def test_more_time_is_warned_of_anew(store: Store, clock: Clock) -> None:
    add_policy(
        store, warn_before=HOUR / 4, extension=ExtensionRule(max_extensions=1, max_total_duration=4 * HOUR), steps=()
    )
    grant = ask(store)
    clock.advance(HOUR - HOUR / 4)
    swept(store)
    grants.extend(store, ALICE, grant.name, MoreTime(duration=HOUR), etag="")
    swept(store)
    clock.advance(HOUR - TICK)
    swept(store)
    assert len(recorded(store, EventType.GRANT_EXPIRES_SOON)) == 1
    clock.advance(TICK)

    swept(store)

    assert [found.event.at for found in recorded(store, EventType.GRANT_EXPIRES_SOON)] == [
        NOON + HOUR - HOUR / 4,
        NOON + 2 * HOUR - HOUR / 4,
    ]


def test_what_ended_before_is_not_warned_of(store: Store, clock: Clock) -> None:
    add_policy(store, warn_before=HOUR / 4)
    grants.release(store, ALICE, approve(store, ask(store)).name, comment="", etag="")
    late = approve(store, ask(store))
    clock.advance(HOUR)

    swept(store)

    assert recorded(store, EventType.GRANT_EXPIRES_SOON) == []
    assert [found.event.grant for found in recorded(store, EventType.GRANT_EXPIRED)] == [late.name]


def test_a_step_that_escalates_is_recorded_and_told_once_for_each_step(store: Store, clock: Clock) -> None:
    owners, security = PrincipalSet(groups=("owners",)), PrincipalSet(groups=("security",))
    step = Step(approvers=owners, timeout=HOUR / 2, escalate_to=security)
    add_policy(store, steps=(step, step))
    grant = ask(store)
    clock.advance(HOUR / 2)
    swept(store)
    swept(store)
    approve(store, grant)
    clock.advance(HOUR / 2)

    swept(store)

    told = recorded(store, EventType.STEP_ESCALATED)
    assert [(found.event.at, found.event.message[:6]) for found in told] == [
        (NOON + HOUR / 2, "step 1"),
        (NOON + HOUR, "step 2"),
    ]
    assert grants.get(store, ALICE, grant.name).grant.state(clock()) is GrantState.PENDING
