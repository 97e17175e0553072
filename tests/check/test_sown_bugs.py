"""Vulnerable twins of what makes Check linearizable and its records whole: each must be caught by a rule's test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jit_service.check import Barrier, GrantCache, Recorder, questions
from jit_service.check.deciding import Deciding
from jit_service.check.index import Index, SubjectGrants
from jit_service.storage import Store, audit_append
from jit_service.storage.grant_decoder import GrantDecoder
from jit_service.storage.grant_loader import GrantLoader
from jit_service.storage.head import Head
from tests import checking
from tests.check import test_barrier, test_grant_cache, test_histories, test_recorder
from tests.conftest import Clock
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.storage.people import ALICE, BOB, GATEWAY, add_policy, approve, ask


class Bench:
    """A fresh store for each test that a twin is held against; on SQLite, which every twin concerns."""

    def __init__(self, template: Path, directory: Path) -> None:
        self._template = template
        self._directory = directory
        self._made = 0

    def store(self) -> tuple[Store, Clock]:
        self._made += 1
        path = self._directory / f"{self._made}.db"
        shutil.copyfile(self._template, path)
        clock = Clock()
        return Store(f"sqlite:///{path}", clock=clock), clock


@pytest.fixture
def bench(sqlite_template: Path, tmp_path: Path) -> Bench:
    return Bench(sqlite_template, tmp_path)


def with_view(test: Callable[[Store, GrantCache], None]) -> Callable[[Bench], None]:
    def run(bench: Bench) -> None:
        store, _ = bench.store()
        view = GrantCache(store, clock=store.clock, bound=timedelta(hours=1))
        try:
            test(store, view)
        finally:
            view.stop()
            store.close()

    return run


def alone(test: Callable[[], None]) -> Callable[[Bench], None]:
    return lambda _: test()


def of_clock(bench: Bench) -> None:
    store, clock = bench.store()
    view = GrantCache(store, clock=clock, bound=timedelta(hours=1))
    test_grant_cache.test_a_clock_stepped_back_moves_nothing_back(store, clock, view)


def recorded_first(bench: Bench) -> None:
    held = test_recorder.Held(bench.store()[0])
    committing = test_recorder.recorder(held)
    test_recorder.test_an_answer_waits_for_its_record(held, committing)


def refused_unwritten(bench: Bench) -> None:
    held = test_recorder.Held(bench.store()[0])
    test_recorder.test_where_the_record_cannot_be_written_there_is_no_answer(held, test_recorder.recorder(held))


def revoked_by_another_process(bench: Bench) -> None:
    """A use case over the whole Checker: given by one store, revoked by another, asked of the first."""
    from jit_service.use_cases import grants

    store, _ = bench.store()
    other = Store(str(store.engine.url), clock=store.clock)
    add_policy(other)
    grant = approve(other, ask(other))
    asked = questions.question(GATEWAY, subject=ALICE.principal, action="read", resource="database/orders/eu")
    try:
        assert checking.check(store, GATEWAY, asked).decision.allowed
        grants.revoke(other, BOB, grant.name, comment="over", etag="")
        assert not checking.check(store, GATEWAY, asked).decision.allowed
    finally:
        checking.stop(store)
        other.close()


def forked(bench: Bench) -> None:
    test_histories.test_a_strong_check_is_of_the_history_that_the_store_has(bench.store()[0], more=4)


def at_start(bench: Bench) -> None:
    test_grant_cache.test_each_fact_is_as_the_grant_has_it_at_start_too(*bench.store())


def broken_off(bench: Bench) -> None:
    store, _ = bench.store()
    view = GrantCache(store, clock=store.clock, bound=timedelta(hours=1))
    with pytest.MonkeyPatch.context() as patch:
        test_grant_cache.test_what_could_not_be_read_to_its_end_is_not_there_and_is_read_anew(store, view, patch)
    view.stop()


def counted_once(bench: Bench) -> None:
    store, _ = bench.store()
    test_recorder.test_a_use_that_is_counted_is_recorded_in_every_mode(store)


TWINS: list[tuple[str, Any, str, str, Callable[[Bench], None]]] = [
    (
        "an index that takes the beginning of a segment for a name",
        SubjectGrants._prepare,
        'if "*" not in resource:',
        'if "*" not in resource.split("/") and not resource.endswith("**"):',
        alone(test_grant_cache.test_a_subjects_grants_are_found_as_if_each_were_looked_at),
    ),
    (
        "a barrier that takes a look which had begun",
        Barrier._pass,
        "if self._done > came:",
        "if self._done >= came and came:",
        alone(test_barrier.test_a_look_that_had_begun_does_not_count_for_who_comes_later),
    ),
    (
        "a barrier that notes too late when it was come to",
        Barrier._pass,
        "if self._done > came:",
        "if self._begun > came - 1 and self._begun:",
        alone(test_barrier.test_who_waited_for_a_look_that_failed_looks_again),
    ),
    (
        "a barrier that counts a look before it has ended",
        Barrier._pass,
        "self._look()",
        "self._done = number\n        self._look()",
        alone(test_barrier.test_who_waited_for_a_look_that_failed_looks_again),
    ),
    (
        "a view without a barrier",
        GrantCache.strong,
        "self._barrier.pass_()",
        "pass",
        revoked_by_another_process,
    ),
    (
        "an index that skips a revision",
        GrantLoader.since,
        "revision = self._head(connection, place), place.revision",
        "revision = self._head(connection, place), place.revision + 1",
        with_view(test_grant_cache.test_every_change_is_seen_by_the_next_strong_look),
    ),
    (
        "a view that goes on in another history",
        GrantLoader._head,
        "if place != since and",
        "if revision < since.revision and",
        forked,
    ),
    (
        "a view that takes another history's commits for news",
        Head.is_followed_by,
        "hash_there == self.hash",
        "hash_there is not None",
        forked,
    ),
    (
        "an index that keeps what has ended",
        Index._replace,
        "others = tuple(grant for grant in others if grant.name != name)",
        "pass",
        with_view(test_grant_cache.test_every_change_is_seen_by_the_next_strong_look),
    ),
    (
        "an index that is filled with the last piece only",
        Index.fill,
        "for grant in piece:",
        "by_name.clear(); gathered.clear()\n        for grant in piece:",
        alone(test_grant_cache.test_what_is_there_at_start_is_held_as_if_each_had_come_alone),
    ),
    (
        "an index that holds what it was told of though the rest was not read",
        Index.fill,
        "for grant in piece:",
        "self.revision = everything.head.revision\n        for grant in piece:",
        broken_off,
    ),
    (
        "a reader that has every grant last its whole time",
        GrantDecoder.live,
        "expires == starts + duration:",
        "expires:",
        at_start,
    ),
    (
        "a reader that gives another's groups to the subject",
        GrantDecoder.live,
        "groups[proved]",
        "groups[proved or '[\"engineering\"]']",
        at_start,
    ),
    (
        "an index that forgets how late it was",
        Index.look,
        "max(self._clock(), self._latest)",
        "self._clock()",
        of_clock,
    ),
    (
        "policies that stay as they were",
        Index.apply,
        "self._set_policies(delta.policies)",
        "self._policies or self._set_policies(delta.policies)",
        with_view(test_grant_cache.test_policies_and_signals_are_of_the_same_revision),
    ),
    (
        "signals that stay as they were",
        GrantLoader.since,
        "policies, signals, ended",
        "policies, None, ended",
        with_view(test_grant_cache.test_policies_and_signals_are_of_the_same_revision),
    ),
    (
        "a reader that has seen what it did not read",
        GrantLoader.moved,
        "if version is not None and version == self._seen:",
        "if version is not None:",
        revoked_by_another_process,
    ),
    (
        "an answer before its record",
        Recorder.record,
        "if self.mode is AuditMode.BUFFERED and",
        "if self.mode is not AuditMode.BUFFERED and",
        recorded_first,
    ),
    (
        "an answer without its record",
        Recorder._write,
        "raise StoreUnavailable(message) from fault",
        "pass",
        refused_unwritten,
    ),
    (
        "a counted use that is judged from memory",
        Deciding.decide,
        "if view.is_sufficient(grant)",
        "if True",
        counted_once,
    ),
    (
        "a record that is not chained to the one before",
        audit_append._chained,
        "link(previous, seq, payload)",
        "link(bytes(32), seq, payload)",
        lambda bench: test_recorder.test_each_mode_records_what_it_says(
            *bench.store(), test_recorder.AuditMode.COMMITTED, 1, 1
        ),
    ),
]


@pytest.fixture(autouse=True)
def _no_checker_is_left() -> Iterator[None]:
    yield
    checking.stop_all()


@pytest.mark.parametrize(("name", "function", "sound", "bug", "caught_by"), TWINS, ids=[twin[0] for twin in TWINS])
def test_no_twin_survives(
    name: str,
    function: Any,
    sound: str,
    bug: str,
    caught_by: Callable[[Bench], None],
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caught_by(bench)  # Without the bug it passes.
    demand_caught(Twin(name, function, sound, bug, lambda: caught_by(bench)), monkeypatch)
