"""The view of what is live: as the store is, moved by revision, never back in time, refusing where it cannot know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from jit_service import grants, policies, signals
from jit_service.check import LiveView, Sight
from jit_service.check.index import Held
from jit_service.domain.decision import Question, covers
from jit_service.domain.errors import StoreUnavailable
from jit_service.domain.grant import GrantState, Limits
from jit_service.domain.live import LiveGrant, live
from jit_service.domain.signal import Signal
from jit_service.storage import Store
from jit_service.sweeper import record_run_out
from tests.conftest import HOUR, TICK, Clock
from tests.domain.factories import deny_policy
from tests.storage.people import ADMIN, ALICE, BOB, CAROL, add_policy, approve, ask, policy

WHO = ALICE.principal


@pytest.fixture
def view(store: Store) -> Iterator[LiveView]:
    view = LiveView(store, clock=store.clock, bound=timedelta(hours=1))
    yield view
    view.stop()


def names(view: LiveView, subject: str = WHO) -> list[str]:
    return [grant.name for grant in view.strong([subject]).held[subject].grants]


def requestable(sight: Sight) -> tuple[str, ...]:
    return sight.book.requestable(
        subject=CAROL.principal, groups=ALICE.groups, resource="database/orders/eu", action="read"
    )


def test_what_is_live_at_start_is_there(store: Store) -> None:
    add_policy(store, steps=policy().steps)
    ended = approve(store, ask(store))
    grants.revoke(store, BOB, ended.name, comment="over", etag="")
    given, asked = approve(store, ask(store)), ask(store, resource="database/orders/us")

    view = LiveView(store, clock=store.clock, bound=HOUR)

    assert sorted(names(view)) == sorted([given.name, asked.name])
    view.stop()


def test_each_fact_is_as_the_grant_has_it(store: Store, view: LiveView) -> None:
    add_policy(store, check_condition="context.mfa == true", priority=1)
    grant = approve(store, ask(store))

    (held,) = view.strong([WHO]).held[WHO].grants

    assert held == live(grant)


def test_a_grant_that_counts_its_checks_is_known_as_one(store: Store, view: LiveView) -> None:
    add_policy(store, max_uses=1)
    approve(store, ask(store))

    (held,) = view.strong([WHO]).held[WHO].grants

    assert held.is_metered
    assert not view.strong([WHO]).is_sufficient(held)


def test_every_change_is_seen_by_the_next_strong_look(store: Store, view: LiveView) -> None:
    add_policy(store)
    grant = ask(store)
    states = [view.strong([WHO]).held[WHO].grants[0].state(store.clock())]
    approve(store, grant)
    states.append(view.strong([WHO]).held[WHO].grants[0].state(store.clock()))
    grants.release(store, ALICE, grant.name, comment="", etag="")

    assert states == [GrantState.PENDING, GrantState.ACTIVE]
    assert names(view) == []


def test_policies_and_signals_are_of_the_same_revision(store: Store, view: LiveView) -> None:
    created = add_policy(store)
    policies.create(store, ADMIN, deny_policy(name="policies/never", revision=0))
    signals.put(store, ADMIN, Signal(name="signals/incident", value="on", expires_at=store.clock() + HOUR), etag="")
    first = view.strong([WHO])
    policies.delete(store, ADMIN, created.name, etag="")
    signals.delete(store, ADMIN, "signals/incident", etag="")

    second = view.strong([WHO])

    assert [found.name for found in first.book.denying] == ["policies/never"]
    assert first.signals.live == {"incident": "on"}
    assert requestable(first) == (created.name,)
    assert [found.name for found in second.book.denying] == ["policies/never"]
    assert second.signals.live == {}
    assert requestable(second) == ()


def test_another_process_is_followed_too(store: Store, database_url: str, view: LiveView) -> None:
    add_policy(store)
    other = Store(database_url, clock=store.clock)

    grant = approve(other, ask(other))

    assert names(view) == [grant.name]
    other.close()


def test_a_bounded_look_does_not_ask_the_store(store: Store, view: LiveView) -> None:
    add_policy(store)
    view.strong([WHO])
    approve(store, ask(store))

    sight = view.bounded([WHO])

    assert sight.held[WHO].grants == ()
    assert sight.staleness is not None
    assert timedelta() <= sight.staleness < HOUR


def test_past_its_bound_a_bounded_look_asks(store: Store) -> None:
    view = LiveView(store, clock=store.clock, bound=timedelta())
    add_policy(store)
    grant = approve(store, ask(store))

    sight = view.bounded([WHO])

    assert [held.name for held in sight.held[WHO].grants] == [grant.name]
    view.stop()


def test_an_expiry_that_is_recorded_leaves_the_view(store: Store, clock: Clock, view: LiveView) -> None:
    add_policy(store)
    approve(store, ask(store, duration=HOUR))
    assert names(view)
    clock.advance(HOUR)
    record_run_out(store)

    assert names(view) == []


def test_ended_grants_explain_and_are_read_once(store: Store, view: LiveView) -> None:
    add_policy(store)
    assert view.past(WHO) == ()
    grant = approve(store, ask(store))
    grants.revoke(store, BOB, grant.name, comment="over", etag="")
    view.strong([WHO])

    first = view.past(WHO)

    assert [ended.name for ended in first] == [grant.name]
    assert view.past(WHO) is first
    assert view.past(CAROL.principal) == ()


def test_ended_grants_are_read_again_after_a_change(store: Store, view: LiveView) -> None:
    add_policy(store)
    for _ in range(2):
        grants.revoke(store, BOB, approve(store, ask(store)).name, comment="over", etag="")
        view.strong([WHO])
        view.past(WHO)

    assert len(view.past(WHO)) == 2


def test_a_clock_stepped_back_moves_nothing_back(store: Store, clock: Clock, view: LiveView) -> None:
    before = view.strong([WHO]).now
    clock.advance(HOUR)
    latest = view.strong([WHO]).now
    clock.advance(-HOUR)

    assert (view.strong([WHO]).now, latest) == (before + HOUR, before + HOUR)


def test_the_stores_latest_instant_counts_for_a_new_view(store: Store, clock: Clock) -> None:
    clock.advance(HOUR)
    store.append([b'{"type":"CALL_REFUSED","at":"2026-03-02T13:00:00Z","principal":""}'], at=clock.now)
    clock.advance(-HOUR)

    view = LiveView(store, clock=clock, bound=HOUR)

    assert view.strong([WHO]).now == clock.now + HOUR
    view.stop()


def test_a_store_that_is_away_refuses_and_comes_back(
    store: Store, view: LiveView, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise StoreUnavailable("away")

    add_policy(store)
    with monkeypatch.context() as broken:
        broken.setattr(view._reader, "moved", away)
        with pytest.raises(StoreUnavailable):
            view.strong([WHO])
    grant = approve(store, ask(store))

    assert names(view) == [grant.name]


def test_a_store_that_went_back_is_read_anew(store: Store, view: LiveView) -> None:
    """As when a backup is put in its place under a running service."""
    add_policy(store)
    before = approve(store, ask(store))
    with store.snapshot() as snapshot:
        revision = snapshot.revision
    after = approve(store, ask(store, resource="database/orders/us"))
    assert sorted(names(view)) == sorted([before.name, after.name])
    with store.engine.begin() as connection:
        connection.execute(text("DELETE FROM review WHERE grant_name = :name"), {"name": after.name})
        connection.execute(text("DELETE FROM access_grant WHERE name = :name"), {"name": after.name})
        connection.execute(text("UPDATE head SET revision = :revision"), {"revision": revision})

    assert names(view) == [before.name]


def test_what_a_live_grant_says_of_its_state_is_what_the_grant_says(store: Store, clock: Clock) -> None:
    add_policy(store)
    grant = approve(store, ask(store, start_at=clock.now + HOUR))

    for at in (clock.now, clock.now + HOUR - TICK, clock.now + HOUR, clock.now + 9 * HOUR):
        assert live(grant).state(at) is grant.state(at)
    assert live(replace(grant, limits=Limits(max_uses=1))).is_metered


def scopes() -> st.SearchStrategy[tuple[str, ...]]:
    texts = st.sampled_from(["a/1", "a/2", "a/1/x", "a/*", "a/**", "*/1", "**", "b/1"])
    return st.lists(texts, min_size=1, max_size=3, unique=True).map(tuple)


@given(st.lists(st.tuples(scopes(), st.sampled_from(["read", "write", "*"])), max_size=6), st.data())
def test_a_subjects_grants_are_found_as_if_each_were_looked_at(
    held: list[tuple[tuple[str, ...], str]], data: st.DataObject
) -> None:
    grants_ = tuple(
        LiveGrant(f"grants/{number}", WHO, "policies/p", 1, resources, (action,), HOUR)
        for number, (resources, action) in enumerate(held)
    )
    prepared = Held(grants_)

    for _ in range(2):
        asked = Question(
            subject=WHO,
            action=data.draw(st.sampled_from(["read", "write"])),
            resource=data.draw(st.sampled_from(["a/1", "a/2", "a/1/x", "b/1", "c/1"])),
        )
        assert prepared.covering(asked) == [grant for grant in grants_ if covers(grant, asked)]


def test_what_is_held_is_looked_at_without_asking_the_store(store: Store, view: LiveView) -> None:
    add_policy(store, steps=policy().steps)
    view.strong([WHO])
    given = approve(store, ask(store))

    before = view.held([WHO])
    view.strong(())
    after = view.held([WHO])

    assert before.held[WHO].grants == ()
    assert before.staleness is not None
    assert timedelta() < before.staleness < timedelta(minutes=1)
    assert [grant.name for grant in after.held[WHO].grants] == [given.name]


def test_what_is_replaced_is_another_object_and_what_is_not_is_the_same(store: Store, view: LiveView) -> None:
    """What runs is judged anew only where that says so (running.py)."""
    add_policy(store, steps=policy().steps)
    given = approve(store, ask(store))
    first = view.strong([WHO])
    signals.put(store, ADMIN, Signal(name="signals/elsewhere", value="on", expires_at=store.clock() + HOUR), etag="")
    second = view.strong([WHO])
    policies.create(store, ADMIN, deny_policy(name="policies/never", revision=0))
    third = view.strong([WHO])
    grants.revoke(store, BOB, given.name, comment="over", etag="")
    fourth = view.strong([WHO])

    assert second.held[WHO] is first.held[WHO]
    assert second.book is first.book
    assert third.book is not second.book
    assert fourth.held[WHO] is not third.held[WHO]
