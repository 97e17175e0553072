"""What nobody delivers any more is forgotten after JIT_NOTIFICATION_RETENTION, and the log says so."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest

from jit_service.domain.notification import Subscription, interests
from jit_service.notifications import forgetting
from jit_service.runtime.retention import Retention, bounds_of
from jit_service.settings import Settings
from jit_service.storage import Store, outbox
from tests.conftest import TICK, Clock
from tests.storage.people import add_policy, ask

DAYS = timedelta(days=90)
IN_SETTINGS = ("oncall",)


@pytest.fixture
def store(database_url: str, clock: Clock) -> Iterator[Store]:
    """A store that told two receivers of a request, of which the settings have one today."""
    told = [Subscription(receiver=name, interests=interests(["GRANT_REQUESTED"])) for name in ("oncall", "pager")]
    store = Store(database_url, clock=clock, subscriptions=told)
    add_policy(store)
    ask(store)
    yield store
    store.close()


def give_up(store: Store, receiver: str) -> None:
    with store.outbox() as waiting:
        claim = waiting.claim(receiver, lease=timedelta(minutes=1))
        assert claim is not None
        waiting.give_up(claim, "said 500")


def undelivered(store: Store) -> list[str]:
    with store.outbox() as waiting:
        return [each.receiver for each in waiting.waiting()]


def forget(store: Store) -> dict[str, int]:
    if not forgetting.is_due(store, DAYS, IN_SETTINGS):
        return {}
    return dict(forgetting.forget(store, DAYS, IN_SETTINGS))


def test_what_a_receiver_outside_the_settings_waits_for_is_forgotten_after_the_retention(
    store: Store, clock: Clock
) -> None:
    clock.advance(DAYS)
    assert forget(store) == {}

    clock.advance(TICK)

    assert forget(store) == {"pager": 1}
    assert undelivered(store) == ["oncall"]


def test_what_was_given_up_is_forgotten_after_the_retention(store: Store, clock: Clock) -> None:
    clock.advance(timedelta(days=1))
    give_up(store, "oncall")
    clock.advance(DAYS)
    assert forget(store) == {"pager": 1}

    clock.advance(TICK)

    assert forget(store) == {"oncall": 1}
    assert not forgetting.is_due(store, DAYS, IN_SETTINGS)


def test_what_waits_for_a_receiver_in_the_settings_is_never_forgotten(store: Store, clock: Clock) -> None:
    clock.advance(20 * DAYS)

    forget(store)

    assert undelivered(store) == ["oncall"]


def test_records_of_a_receiver_that_is_gone_do_not_stay_for_ever(store: Store, clock: Clock) -> None:
    with store.outbox() as waiting:
        claim = waiting.claim("oncall", lease=timedelta(minutes=1))
        assert claim is not None
        waiting.remove(claim)
    with store.snapshot() as snapshot:
        assert snapshot.first_notification_seq() is not None

    clock.advance(DAYS + TICK)
    forget(store)

    with store.snapshot() as snapshot:
        assert snapshot.first_notification_seq() is None


def test_what_is_remembered_of_a_sent_message_is_forgotten_after_the_retention(store: Store, clock: Clock) -> None:
    both = ("oncall", "pager")
    with store.outbox() as waiting:
        claim = waiting.claim("oncall", lease=timedelta(minutes=1))
        assert claim is not None
        waiting.remove(claim)
        waiting.keep_reference(claim, "C1 1700000000.000100")
    clock.advance(DAYS)
    assert not forgetting.is_due(store, DAYS, both)

    clock.advance(TICK)

    assert forgetting.is_due(store, DAYS, both)
    assert forgetting.forget(store, DAYS, both) == {}
    assert not forgetting.is_due(store, DAYS, both)


def test_many_are_forgotten_a_batch_at_a_time_and_the_log_says_how_many(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox, "FORGOTTEN_AT_ONCE", 2)
    for number in range(4):
        ask(store, resource=f"database/orders/{number}")
    clock.advance(DAYS + TICK)

    with caplog.at_level(logging.INFO):
        Retention(store, bounds_of(store, Settings(), None)).work()

    assert undelivered(store) == []
    assert sum("notifications that were never delivered" in line for line in caplog.messages) == 5
    assert "2 of pager, a receiver that the settings do not have" in caplog.text
