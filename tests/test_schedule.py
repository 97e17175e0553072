"""One worker has all tests that share what takes long to start, and what is long does not come last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import schedule
from tests.conftest import pytest_collection_modifyitems
from tests.schedule import LONG, TOGETHER, Schedule

ROOT = Path(__file__).parent.parent
LOGIN = [f"tests/login/test_{part}.py::test_{number}" for part in ("commands", "renewal") for number in range(40)]
CONSOLE = [f"tests/console/test_stories.py::test_{number}[360-light]" for number in range(20)]
OTHERS = [f"tests/domain/test_bounds.py::test_{number}" for number in range(200)]


class Worker:
    """Stands for a process of xdist, which takes the indices of tests."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.shutting_down = False
        self.waiting: list[int] = []
        self.ran: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.waiting += indices

    def shutdown(self) -> None:
        self.shutting_down = True


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("xdist.scheduler.loadscope.parse_tx_spec_config", lambda _: ["popen"] * 3)
    return SimpleNamespace(option=SimpleNamespace(loadscopereorder=True))


def run(config: Any, collected: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Runs all, each worker a test in turn. Yields each worker with its tests, in their order."""
    made = Schedule(config)
    workers = [Worker(f"gw{number}") for number in range(3)]
    for worker in workers:
        made.add_node(worker)  # type: ignore[arg-type]
        made.add_node_collection(worker, collected)  # type: ignore[arg-type]
    made.schedule()
    while any(worker.waiting for worker in workers):
        for worker in [worker for worker in workers if worker.waiting]:
            index = worker.waiting.pop(0)
            worker.ran.append(index)
            made.mark_test_complete(worker, index)  # type: ignore[arg-type]
            assert made.has_pending or not any(each.waiting for each in workers)
    assert all(worker.shutting_down for worker in workers)
    for worker in workers:
        yield worker.gateway.id, [collected[index] for index in worker.ran]


def test_those_that_share_what_is_started_run_on_one_worker_without_others_between(config: Any) -> None:
    collected = [*OTHERS[:100], *LOGIN, *CONSOLE, *OTHERS[100:]]

    ran = dict(run(config, collected))

    assert sorted(each for tests in ran.values() for each in tests) == sorted(collected)
    for group in (LOGIN, CONSOLE):
        (tests,) = [tests for tests in ran.values() if group[0] in tests]
        begin = tests.index(group[0])
        assert tests[begin : begin + len(group)] == group


def test_the_others_are_for_whichever_worker_is_free(config: Any) -> None:
    ran = dict(run(config, OTHERS))

    assert all(60 <= len(tests) <= 70 for tests in ran.values())


def test_a_long_test_comes_before_the_short_ones_and_the_others_stay_in_their_order() -> None:
    long = f"{LONG[0]}::TestGrantMachine::runTest"
    items: Any = [SimpleNamespace(nodeid=each) for each in (*OTHERS, long)]

    pytest_collection_modifyitems(items)

    assert [item.nodeid for item in items] == [long, *OTHERS]


@pytest.mark.parametrize("place", TOGETHER + LONG)
def test_each_place_is_there(place: str) -> None:
    assert (ROOT / place).exists()
    assert (ROOT / place).is_dir() == place.endswith("/")


def test_pytest_still_forgets_what_xdist_writes(request: pytest.FixtureRequest) -> None:
    """Once this fails, `--dist loadgroup` groups by marks again, and could replace this schedule."""
    assert not hasattr(request.node, "_nodeid")
    assert schedule.unit_of(request.node.nodeid) == request.node.nodeid
