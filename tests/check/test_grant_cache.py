"""The view of what is live: as the store is, moved by revision, never back in time, refusing where it cannot know."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import text

from jit_service.check import GrantCache, View, grant_cache
from jit_service.check.grant_cache import IDLE_AFTER_SECONDS, IDLE_POLL_SECONDS, POLL_SECONDS
from jit_service.check.index import Index, SubjectGrants
from jit_service.domain.checks.cached_grant import CachedGrant, condense
from jit_service.domain.checks.decision import Question, covers
from jit_service.domain.conditions.signal import Signal
from jit_service.domain.errors import StoreUnavailable
from jit_service.domain.grants.grant import GrantState, Limits
from jit_service.domain.grants.request import Ask
from jit_service.domain.policies.policy import PrincipalSet
from jit_service.runtime.sweeper import record_run_out
from jit_service.storage import Store, grant_loader
from jit_service.storage.grant_decoder import GrantChanged
from jit_service.storage.grant_loader import Delta, FullLoad, GrantLoader, HeadState
from jit_service.storage.head import Head as Place
from jit_service.use_cases import grants, policies, signals
from tests.conftest import HOUR, NOON, TICK, Clock
from tests.domain.factories import deny_policy
from tests.storage.histories import put_back, tables
from tests.storage.people import ADMIN, ALICE, BOB, CAROL, add_policy, approve, ask, policy

WHO = ALICE.principal


@pytest.fixture
def view(store: Store) -> Iterator[GrantCache]:
    view = GrantCache(store, clock=store.clock, bound=timedelta(hours=1))
    yield view
    view.stop()


def names(view: GrantCache, subject: str = WHO) -> list[str]:
    return [grant.name for grant in view.strong([subject]).held[subject].grants]


def requestable(known: View) -> tuple[str, ...]:
    return known.book.requestable(
        Question(subject=CAROL.principal, groups=ALICE.groups, resource="database/orders/eu", action="read")
    )


def test_what_is_live_at_start_is_there(store: Store) -> None:
    add_policy(store, steps=policy().steps)
    ended = approve(store, ask(store))
    grants.revoke(store, BOB, ended.name, comment="over", etag="")
    given, asked = approve(store, ask(store)), ask(store, resource="database/orders/us")

    view = GrantCache(store, clock=store.clock, bound=HOUR)

    assert sorted(names(view)) == sorted([given.name, asked.name])
    view.stop()


def test_each_fact_is_as_the_grant_has_it(store: Store, view: GrantCache) -> None:
    add_policy(store, check_condition="context.mfa == true", priority=1)
    grant = approve(store, ask(store))

    (held,) = view.strong([WHO]).held[WHO].grants

    assert held == condense(grant)


def test_each_fact_is_as_the_grant_has_it_at_start_too(store: Store, clock: Clock) -> None:
    """Also where it ends sooner than its time after its start, and where nobody has proved the subject's groups."""
    jobs = PrincipalSet(principals=("service:job",), groups=("engineering",))
    add_policy(store, eligible=jobs, check_condition="context.mfa == true", max_child_depth=1, idle_timeout=2 * HOUR)
    given = approve(store, ask(store, start_at=clock.now + HOUR, duration=3 * HOUR))
    parent = approve(store, ask(store, resource="database/orders/us"))
    there = [given, parent, ask(store, resource="database/orders/fr")]
    clock.advance(TICK)
    for subject, under in (("service:job", ""), (WHO, parent.name)):
        wanted = Ask(subject=subject, resources=("database/orders/us",), actions=("read",), parent=under)
        there.append(grants.ask(store, ALICE, wanted).grant)

    view = GrantCache(store, clock=clock, bound=HOUR)

    known = view.strong([WHO, "service:job"])
    found = [grant for held in known.held.values() for grant in held.grants]
    assert sorted(found) == sorted(condense(grant) for grant in there)
    assert len({grant.expires_at for grant in found}) > 2
    view.stop()


class Told:
    """What is there at the start, in pieces, and the same as changes one by one."""

    def __init__(self, found: list[CachedGrant], size: int) -> None:
        self.head = HeadState(Place(7, 9, bytes(32)), NOON)
        self._found = found
        self._size = size

    def at_once(self) -> Index:
        index, found, size = Index(lambda: NOON), self._found, self._size
        pieces = (found[at : at + size] for at in range(0, len(found), size))
        index.fill(FullLoad(self.head, pieces, [deny_policy()], [], frozenset({WHO})))
        return index

    def one_by_one(self) -> Index:
        index = Index(lambda: NOON)
        changes = [GrantChanged(grant.name, grant.subject, grant) for grant in self._found]
        index.apply(Delta(self.head, changes, [deny_policy()], [], frozenset({WHO})))
        return index


@given(st.permutations(range(9)), st.integers(1, 9))
def test_what_is_there_at_start_is_held_as_if_each_had_come_alone(order: list[int], size: int) -> None:
    chains = ((), ("grants/0",))
    found = [
        CachedGrant(f"grants/{n}", f"user:{n % 3}", "policies/p", 1, ("a",), ("read",), HOUR, chain=chains[n % 4 == 3])
        for n in order
    ]
    told, subjects = Told(found, size), [f"user:{n}" for n in range(3)]

    filled, changed = told.at_once(), told.one_by_one()

    for index in (filled, changed):
        assert len(index) == 9
        assert index.known_past(WHO) is None
    looks = [index.look(subjects) for index in (filled, changed)]
    assert [look.above.keys() for look in looks] == [{"grants/0"}] * 2
    assert [look.book.denying for look in looks] == [(deny_policy(),)] * 2
    assert [look.revision for look in looks] == [7, 7]
    by_name = [{subject: held.grants for subject, held in look.held.items()} for look in looks]
    assert by_name[0] == by_name[1]
    assert all(list(held) == sorted(held) for held in by_name[0].values())


def test_what_could_not_be_read_to_its_end_is_not_there_and_is_read_anew(
    store: Store, view: GrantCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_policy(store)
    given = [approve(store, ask(store, resource=f"database/orders/{n}")).name for n in range(3)]
    assert len(names(view)) == 3
    view._place = view._place._replace(hash=bytes(32))
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE head SET time = time + 1"))
    monkeypatch.setattr(grant_loader, "_CHUNK", 1)
    pieces = GrantLoader._read_grants

    def broken_off(*told: Any) -> Iterator[list[CachedGrant]]:
        yield next(pieces(*told))
        raise StoreUnavailable("away")

    with monkeypatch.context() as broken:
        broken.setattr(GrantLoader, "_read_grants", broken_off)
        with pytest.raises(StoreUnavailable):
            view.strong([WHO])
    assert view.held([WHO]).held[WHO].grants == ()

    assert names(view) == sorted(given)


def test_a_long_start_tells_how_far_it_is(store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    add_policy(store)
    over = approve(store, ask(store))
    grants.revoke(store, BOB, over.name, comment="over", etag="")
    approve(store, ask(store, duration=HOUR))
    clock.advance(HOUR)
    record_run_out(store)
    approve(store, ask(store))
    ask(store, resource="database/orders/us")
    monkeypatch.setattr(grant_loader, "_CHUNK", 1)
    told: list[tuple[int, int]] = []
    reader = store.grant_loader()

    with reader.load(lambda read, total: told.append((read, total))) as everything:
        list(everything.grants)

    assert told == [(1, 2), (2, 2)]
    reader.close()


def test_a_grant_that_counts_its_checks_is_known_as_one(store: Store, view: GrantCache) -> None:
    add_policy(store, max_uses=1)
    approve(store, ask(store))

    (held,) = view.strong([WHO]).held[WHO].grants

    assert held.is_metered
    assert not view.strong([WHO]).is_sufficient(held)


def test_every_change_is_seen_by_the_next_strong_look(store: Store, view: GrantCache) -> None:
    add_policy(store)
    grant = ask(store)
    states = [view.strong([WHO]).held[WHO].grants[0].state(store.clock())]
    approve(store, grant)
    states.append(view.strong([WHO]).held[WHO].grants[0].state(store.clock()))
    grants.release(store, ALICE, grant.name, comment="", etag="")

    assert states == [GrantState.PENDING, GrantState.ACTIVE]
    assert names(view) == []


@pytest.mark.parametrize("step", ["_policies", "_signals", "_locks"])
def test_a_connection_that_breaks_within_a_look_spoils_no_later_one(
    store: Store, view: GrantCache, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """As in a failover: what was read before the break is read again, and its seals must not be counted twice."""
    add_policy(store)
    view.strong([WHO])
    grant = approve(store, ask(store))

    def breaks(*_: object) -> None:
        raise StoreUnavailable("the store does not answer")

    with monkeypatch.context() as broken, pytest.raises(StoreUnavailable):
        broken.setattr(GrantLoader, step, breaks)
        view.strong([WHO])

    assert names(view) == [grant.name]


def test_policies_and_signals_are_of_the_same_revision(store: Store, view: GrantCache) -> None:
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


def test_another_process_is_followed_too(store: Store, database_url: str, view: GrantCache) -> None:
    add_policy(store)
    other = Store(database_url, clock=store.clock)

    grant = approve(other, ask(other))

    assert names(view) == [grant.name]
    other.close()


def test_a_bounded_look_does_not_ask_the_store(store: Store, view: GrantCache) -> None:
    add_policy(store)
    view.strong([WHO])
    approve(store, ask(store))

    known = view.bounded([WHO])

    assert known.held[WHO].grants == ()
    assert known.staleness is not None
    assert timedelta() <= known.staleness < HOUR


def test_past_its_bound_a_bounded_look_asks(store: Store) -> None:
    view = GrantCache(store, clock=store.clock, bound=timedelta())
    add_policy(store)
    grant = approve(store, ask(store))

    known = view.bounded([WHO])

    assert [held.name for held in known.held[WHO].grants] == [grant.name]
    view.stop()


def test_an_expiry_that_is_recorded_leaves_the_view(store: Store, clock: Clock, view: GrantCache) -> None:
    add_policy(store)
    approve(store, ask(store, duration=HOUR))
    assert names(view)
    clock.advance(HOUR)
    record_run_out(store)

    assert names(view) == []


def test_ended_grants_explain_and_are_read_once(store: Store, view: GrantCache) -> None:
    add_policy(store)
    assert view.past(WHO) == ()
    grant = approve(store, ask(store))
    grants.revoke(store, BOB, grant.name, comment="over", etag="")
    view.strong([WHO])

    first = view.past(WHO)

    assert [ended.name for ended in first] == [grant.name]
    assert view.past(WHO) is first
    assert view.past(CAROL.principal) == ()


def test_ended_grants_are_read_again_after_a_change(store: Store, view: GrantCache) -> None:
    add_policy(store)
    for _ in range(2):
        grants.revoke(store, BOB, approve(store, ask(store)).name, comment="over", etag="")
        view.strong([WHO])
        view.past(WHO)

    assert len(view.past(WHO)) == 2


def test_a_clock_stepped_back_moves_nothing_back(store: Store, clock: Clock, view: GrantCache) -> None:
    before = view.strong([WHO]).now
    clock.advance(HOUR)
    latest = view.strong([WHO]).now
    clock.advance(-HOUR)

    assert (view.strong([WHO]).now, latest) == (before + HOUR, before + HOUR)


def test_the_stores_latest_instant_counts_for_a_new_view(store: Store, clock: Clock) -> None:
    clock.advance(HOUR)
    store.append([b'{"type":"CALL_REFUSED","at":"2026-03-02T13:00:00Z","principal":""}'], at=clock.now)
    clock.advance(-HOUR)

    view = GrantCache(store, clock=clock, bound=HOUR)

    assert view.strong([WHO]).now == clock.now + HOUR
    view.stop()


def test_a_store_that_is_away_refuses_and_comes_back(
    store: Store, view: GrantCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Place) -> None:
        raise StoreUnavailable("away")

    add_policy(store)
    with monkeypatch.context() as broken:
        broken.setattr(view._reader, "moved", away)
        with pytest.raises(StoreUnavailable):
            view.strong([WHO])
    grant = approve(store, ask(store))

    assert names(view) == [grant.name]


def test_a_store_that_went_back_is_read_anew(store: Store, view: GrantCache) -> None:
    """As when a backup is put in its place under a running service."""
    add_policy(store)
    before = approve(store, ask(store))
    backup = tables(store)
    after = approve(store, ask(store, resource="database/orders/us"))
    assert sorted(names(view)) == sorted([before.name, after.name])
    put_back(store, backup)

    assert names(view) == [before.name]


def test_what_a_live_grant_says_of_its_state_is_what_the_grant_says(store: Store, clock: Clock) -> None:
    add_policy(store)
    grant = approve(store, ask(store, start_at=clock.now + HOUR))

    for at in (clock.now, clock.now + HOUR - TICK, clock.now + HOUR, clock.now + 9 * HOUR):
        assert condense(grant).state(at) is grant.state(at)
    assert condense(replace(grant, limits=Limits(max_uses=1))).is_metered


def scopes() -> st.SearchStrategy[tuple[str, ...]]:
    texts = st.sampled_from(["a/1", "a/2", "a/1/x", "a/*", "a/**", "*/1", "**", "b/1", "a/1*", "b*/1"])
    return st.lists(texts, min_size=1, max_size=3, unique=True).map(tuple)


@given(st.lists(st.tuples(scopes(), st.sampled_from(["read", "write", "*", "re*"])), max_size=6))
@example([(("a/1*",), "read"), (("b*/1",), "re*"), (("a/**",), "*")])
def test_a_subjects_grants_are_found_as_if_each_were_looked_at(held: list[tuple[tuple[str, ...], str]]) -> None:
    grants_ = tuple(
        CachedGrant(f"grants/{number}", WHO, "policies/p", 1, resources, (action,), HOUR)
        for number, (resources, action) in enumerate(held)
    )
    prepared = SubjectGrants(grants_)

    for action in ("read", "write"):
        for resource in ("a/1", "a/2", "a/1/x", "b/1", "c/1", "a/12", "bc/1"):
            asked = Question(subject=WHO, action=action, resource=resource)
            assert prepared.covering(asked) == [grant for grant in grants_ if covers(grant, asked)]


def test_what_is_held_is_looked_at_without_asking_the_store(store: Store, view: GrantCache) -> None:
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


@pytest.mark.parametrize("rest_on", [lambda view: view.bounded([WHO]), lambda view: view.held([WHO])])
def test_the_store_is_polled_often_only_while_somebody_rests_on_what_is_held(
    view: GrantCache, rest_on: Callable[[GrantCache], View], monkeypatch: pytest.MonkeyPatch
) -> None:
    instant = time.monotonic()
    monkeypatch.setattr(grant_cache, "time", SimpleNamespace(monotonic=lambda: instant))
    view.strong([WHO])
    assert view.poll_seconds == IDLE_POLL_SECONDS

    rest_on(view)
    assert view.poll_seconds == POLL_SECONDS
    instant += IDLE_AFTER_SECONDS
    assert view.poll_seconds == POLL_SECONDS
    instant += 0.001
    assert view.poll_seconds == IDLE_POLL_SECONDS


def test_what_is_replaced_is_another_object_and_what_is_not_is_the_same(store: Store, view: GrantCache) -> None:
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
