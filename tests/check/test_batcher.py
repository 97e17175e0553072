"""Threads that come with the same errand: one runs it for all, each gets its own answer, and nobody is left waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from jit_service.check import AuditMode, Batcher
from jit_service.check.checker import Checker
from jit_service.check.questions import question
from jit_service.domain.errors import StoreUnavailable
from jit_service.storage import Store
from tests import checking
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.storage.people import ALICE, GATEWAY, add_policy, approve, ask

SOON = 10


class Errand:
    """Doubles numbers, and is held back until it may go on."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.began, self.go_on = threading.Event(), threading.Event()
        self.fault: BaseException | None = None

    def __call__(self, items: Sequence[int]) -> Sequence[int]:
        self.groups.append(list(items))
        self.began.set()
        assert self.go_on.wait(SOON)
        if self.fault is not None:
            raise self.fault
        return [2 * item for item in items]


def bring(
    errand: Errand, batcher: Batcher[int, int], first: int, others: Sequence[int]
) -> tuple[Future[int], list[Future[int]]]:
    """Has the first run, and the others wait in this order until it has."""
    pool = ThreadPoolExecutor(1 + len(others))
    begun = pool.submit(batcher.submit, first)
    assert errand.began.wait(SOON)
    waiting = []
    for number, item in enumerate(others):
        waiting.append(pool.submit(batcher.submit, item))
        while len(batcher) <= number:
            pass
    pool.shutdown(wait=False)
    return begun, waiting


def test_those_who_wait_meanwhile_are_served_together_each_with_its_own_answer() -> None:
    errand = Errand()
    batcher = Batcher(errand, most=64)

    first, others = bring(errand, batcher, 1, [2, 3, 4])
    errand.go_on.set()

    assert first.result(SOON) == 2
    assert [other.result(SOON) for other in others] == [4, 6, 8]
    assert errand.groups == [[1], [2, 3, 4]]


def test_no_more_go_together_than_may_but_a_single_one_always_goes() -> None:
    errand = Errand()
    batcher = Batcher(errand, most=5, weight=lambda item: item)

    first, others = bring(errand, batcher, 1, [3, 2, 9, 1, 4, 1])
    errand.go_on.set()

    assert [each.result(SOON) for each in (first, *others)] == [2, 6, 4, 18, 2, 8, 2]
    assert errand.groups == [[1], [3, 2], [9], [1, 4], [1]]


def test_a_fault_is_that_of_all_who_went_together_and_of_nobody_else() -> None:
    errand = Errand()
    batcher = Batcher(errand, most=2)
    errand.fault = StoreUnavailable("away")

    first, others = bring(errand, batcher, 1, [2, 3])
    errand.go_on.set()
    assert [type(each.exception(SOON)) for each in (first, *others)] == [StoreUnavailable] * 3
    errand.fault = None

    assert batcher.submit(4) == 8


@pytest.mark.parametrize("wrong", [lambda _: 1 / 0, lambda _: [], lambda items: [*items, 1]])
def test_what_fails_without_a_reason_to_give_is_an_error_of_the_service(
    wrong: Callable[[Sequence[int]], list[int]],
) -> None:
    with pytest.raises(RuntimeError) as failed:
        Batcher(wrong, most=2).submit(1)

    assert failed.value.__cause__ is not None


def test_an_interrupted_leader_leaves_nobody_waiting() -> None:
    errand = Errand()
    batcher = Batcher(errand, most=2)
    errand.fault = KeyboardInterrupt()

    first, others = bring(errand, batcher, 1, [2, 3, 4])
    errand.go_on.set()

    assert isinstance(first.exception(SOON), KeyboardInterrupt)
    assert sorted(type(each.exception(SOON)).__name__ for each in others) == [
        "KeyboardInterrupt", "KeyboardInterrupt", "RuntimeError",
    ]  # fmt: skip


def test_whoever_does_not_get_its_turn_in_time_gives_up_and_its_errand_is_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jit_service.check.batcher.WAIT_SECONDS", 0.05)
    errand = Errand()
    batcher = Batcher(errand, most=2)

    first, (late,) = bring(errand, batcher, 1, [2])
    assert isinstance(late.exception(SOON), StoreUnavailable)
    errand.go_on.set()

    assert first.result(SOON) == 2
    assert batcher.submit(3) == 6
    assert errand.groups == [[1], [3]]


def test_after_a_crowd_one_waits_a_little_for_it_to_come_back_and_the_next_does_not() -> None:
    delays: list[float] = []
    errand = Errand()
    batcher = Batcher(errand, most=64, sleep=delays.append)
    first, others = bring(errand, batcher, 1, range(2, 10))
    errand.go_on.set()
    for each in (first, *others):
        each.result(SOON)
    assert not delays

    batcher.submit(10)
    waited = len(delays)
    batcher.submit(11)

    assert sum(delays) <= 0.002
    assert waited == len(delays) > 0


def test_leading_is_handed_on_and_nobody_is_left_waiting() -> None:
    errand = Errand()
    errand.go_on.set()
    batcher = Batcher(errand, most=3)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(batcher.submit, range(2000))) == [2 * number for number in range(2000)]

    assert sorted(item for group in errand.groups for item in group) == list(range(2000))


def test_checks_at_the_same_time_share_a_look_and_a_commit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add_policy(store)
    approve(store, ask(store))
    checker = checking.checker(store, AuditMode.COMMITTED)
    began, go_on, groups = threading.Event(), threading.Event(), list[int]()
    append = store.append

    def held(payloads: Sequence[bytes], **more: Any) -> None:
        groups.append(len(payloads))
        began.set()
        assert go_on.wait(SOON)
        append(payloads, **more)

    monkeypatch.setattr(store, "append", held)
    asked = [
        question(GATEWAY, subject=ALICE.principal, action=action, resource="database/orders/eu")
        for action in ("read", "rows.drop", "read", "rows.drop")
    ]
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(checker.check, GATEWAY, asked[0])
        assert began.wait(SOON)
        others = [pool.submit(checker.check, GATEWAY, each) for each in asked[1:]]
        while _waiting(checker) < 3:
            pass
        go_on.set()
        answers = [each.result(SOON) for each in (first, *others)]

    assert groups == [1, 3]
    assert [answer.question for answer in answers] == asked
    assert [answer.decision.allowed for answer in answers] == [True, False, True, False]
    assert len({answer.decision_id for answer in answers}) == 4


def _waiting(checker: Checker) -> int:
    return sum(len(batcher) for batcher in checker._batchers.values())


TWINS: list[tuple[str, Any, str, str, Callable[[pytest.MonkeyPatch], None]]] = [
    (
        "another's answer",
        Batcher._settle,
        "zip(group, answers, strict=True)",
        "zip(group, answers[::-1], strict=True)",
        lambda _: test_those_who_wait_meanwhile_are_served_together_each_with_its_own_answer(),
    ),
    (
        "a fault that nobody hears of",
        Batcher._settle,
        "entry.answer, entry.fault, entry.is_settled = answer, fault, True",
        "entry.answer, entry.fault, entry.is_settled = answer, None, True",
        lambda _: test_a_fault_is_that_of_all_who_went_together_and_of_nobody_else(),
    ),
    (
        "an errand of one who has given up",
        Batcher._gave_up,
        "self._entries.remove(entry)",
        "pass",
        test_whoever_does_not_get_its_turn_in_time_gives_up_and_its_errand_is_not_run,
    ),
    (
        "a crowd that is waited for for ever",
        Batcher._settle,
        "if len(group) >= _CROWD else 0",
        "if len(group) >= _CROWD else 9",
        lambda _: test_after_a_crowd_one_waits_a_little_for_it_to_come_back_and_the_next_does_not(),
    ),
]


@pytest.mark.parametrize(("name", "function", "sound", "bug", "caught_by"), TWINS, ids=[twin[0] for twin in TWINS])
def test_no_twin_survives(
    name: str,
    function: Any,
    sound: str,
    bug: str,
    caught_by: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    demand_caught(Twin(name, function, sound, bug, lambda: caught_by(monkeypatch)), monkeypatch)
