"""Records of checks: committed before the answer, many in one transaction, none lost silently."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from jit_service.check import AuditMode, Recorder, questions
from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.errors import StoreUnavailable
from jit_service.storage import Outline, Store, payload_of
from jit_service.use_cases import audit
from tests import checking
from tests.conftest import NOON, Clock
from tests.storage.people import ADMIN, ALICE, BOB, GATEWAY, add_policy, approve, ask


def payload(number: int = 1) -> bytes:
    return payload_of(Event(type=EventType.ACCESS_CHECKED, at=NOON, principal=f"user:u{number}"))


def recorded(store: Store) -> list[Event]:
    page = audit.list_page(
        store, ADMIN, filter_text="event_type = ACCESS_CHECKED", order_by="seq", page_size=1000, page_token=""
    )
    return [found.event for found in page.events]


class Held:
    """A store whose appending a test holds back, or lets fail."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.began = threading.Event()
        self.go_on = threading.Event()
        self.fails = False
        self.failures = 0
        self.groups: list[int] = []

    def append(self, payloads: Sequence[bytes], *, at: datetime, outline: Outline | None) -> None:
        self.began.set()
        assert self.go_on.wait(timeout=10)
        if self.fails:
            self.failures += 1
            raise StoreUnavailable("away")
        self.groups.append(len(payloads))
        self._store.append(payloads, at=at, outline=outline)


@pytest.fixture
def held(store: Store) -> Held:
    return Held(store)


def recorder(store: Store | Held, mode: AuditMode = AuditMode.COMMITTED) -> Recorder:
    recorder = Recorder(store, mode)  # type: ignore[arg-type]
    recorder.start()
    return recorder


@pytest.fixture
def committing(held: Held) -> Iterator[Recorder]:
    recorder_ = recorder(held)
    yield recorder_
    held.go_on.set()
    recorder_.stop()


def test_a_record_is_committed_before_the_answer(store: Store) -> None:
    writing = recorder(store)

    writing.record([payload()], at=NOON)

    assert [event.principal for event in recorded(store)] == ["user:u1"]
    writing.stop()


def test_an_answer_waits_for_its_record(held: Held, committing: Recorder) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(committing.record, [payload()], at=NOON)
        assert held.began.wait(timeout=10)

        with pytest.raises(TimeoutError):
            answer.result(timeout=0.2)

        held.go_on.set()
        answer.result(timeout=10)


def test_those_who_wait_together_share_a_transaction(held: Held, committing: Recorder, store: Store) -> None:
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(committing.record, [payload(0)], at=NOON)
        assert held.began.wait(timeout=10)
        others = [pool.submit(committing.record, [payload(n)], at=NOON) for n in range(1, 9)]
        while committing.waiting < 8:
            pass
        held.go_on.set()
        for answer in (first, *others):
            answer.result(timeout=10)

    assert held.groups == [1, 8]
    assert len(recorded(store)) == 9
    assert not audit.verify(store).problem


def test_where_the_record_cannot_be_written_there_is_no_answer(held: Held, committing: Recorder) -> None:
    held.fails = True
    held.go_on.set()

    with pytest.raises(StoreUnavailable):
        committing.record([payload()], at=NOON)

    held.fails = False
    committing.record([payload()], at=NOON)


def test_buffered_answers_do_not_wait_and_lose_nothing_at_a_stop(held: Held, store: Store) -> None:
    writing = recorder(held, AuditMode.BUFFERED)
    for number in range(5):
        writing.record([payload(number)], at=NOON)
    assert recorded(store) == []
    held.go_on.set()

    writing.stop()

    assert [event.principal for event in recorded(store)] == [f"user:u{number}" for number in range(5)]


def test_a_full_buffer_makes_answers_wait(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jit_service.check.recorder.MAX_BUFFERED", 1)
    writing = recorder(held, AuditMode.BUFFERED)
    writing.record([payload()], at=NOON)
    assert held.began.wait(timeout=10)
    writing.record([payload()], at=NOON)
    with ThreadPoolExecutor(1) as pool:
        third = pool.submit(writing.record, [payload()], at=NOON)
        with pytest.raises(TimeoutError):
            third.result(timeout=0.2)
        held.go_on.set()
        third.result(timeout=10)
    writing.stop()


def test_buffered_records_are_tried_again_until_they_are_written(held: Held, store: Store) -> None:
    held.fails = True
    held.go_on.set()
    writing = recorder(held, AuditMode.BUFFERED)
    writing.record([payload()], at=NOON)
    while held.failures < 2:
        pass
    held.fails = False
    writing.stop()

    assert len(recorded(store)) == 1


def test_after_a_stop_nothing_is_taken(store: Store) -> None:
    writing = recorder(store)
    writing.stop()

    with pytest.raises(StoreUnavailable):
        writing.record([payload()], at=NOON)


@pytest.mark.parametrize(
    ("mode", "yes", "no"),
    [(AuditMode.COMMITTED, 1, 1), (AuditMode.BUFFERED, 1, 1), (AuditMode.DENIED, 0, 1), (AuditMode.OFF, 0, 0)],
)
def test_each_mode_records_what_it_says(store: Store, clock: Clock, mode: AuditMode, yes: int, no: int) -> None:
    add_policy(store)
    approve(store, ask(store))
    checker = checking.checker(store, mode)
    for action in ("read", "rows.drop"):
        asked = questions.question(GATEWAY, subject=ALICE.principal, action=action, resource="database/orders/eu")
        checker.check(GATEWAY, asked)
    checking.stop(store)

    decisions = [event.decision for event in recorded(store)]

    assert (decisions.count("ALLOWED"), decisions.count("DENIED")) == (yes, no)
    assert not audit.verify(store).problem


def test_a_use_that_is_counted_is_recorded_in_every_mode(store: Store) -> None:
    add_policy(store, max_uses=1)
    approve(store, ask(store), by=BOB)
    checker = checking.checker(store, AuditMode.OFF)
    asked = questions.question(GATEWAY, subject=ALICE.principal, action="read", resource="database/orders/eu")

    answers = [checker.check(GATEWAY, asked).decision.allowed for _ in range(2)]

    assert answers == [True, False]
    assert [event.decision for event in recorded(store)] == ["ALLOWED", "DENIED"]


def test_leading_is_handed_on_though_the_next_was_written_meanwhile(
    held: Held, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    """In a full buffer the thread of its own and those who wait write by turns, and nobody is left waiting."""
    monkeypatch.setattr("jit_service.check.recorder.MAX_BUFFERED", 1)
    held.go_on.set()
    writing = recorder(held, AuditMode.BUFFERED)

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(writing.record, [payload(number)], at=NOON) for number in range(400)]
        for answer in answers:
            answer.result(timeout=10)
    writing.stop()

    assert len(recorded(store)) == 400
