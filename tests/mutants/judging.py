"""A pytest plugin for `make mutants`: runs the tests once as they are, then against each mutant without a verdict.

The tests are collected once; each mutant is judged in a fork, by the tests that reach its function, until one fails. A
verdict is written down as soon as it is there, so that a run can be stopped and taken up again.

tests/mutants/verdicts.py says which verdicts stand.
"""

from __future__ import annotations

import gc
import hashlib
import inspect
import json
import os
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import HealthCheck, Phase, settings
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state

from tests.mutants.verdicts import Verdict, Verdicts

# The same examples in every run. No shrinking: one example that fails is enough to kill a mutant.
settings.register_profile(
    "mutants",
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
# A test against a mutant may take so many times the processor's time that it takes without one, and `seconds` more.
TIMES = 20
MEMORY = 6 << 30
SAY_EVERY = 30


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    settings.load_profile("mutants")


@dataclass(frozen=True)
class Test:
    """A test, what tells whether it changed, and how long it takes."""

    item: pytest.Item
    digest: str
    seconds: float
    properties: bool


def digest(item: pytest.Item) -> str:
    """Returns what differs when the test has another name or another source."""
    function = getattr(item, "obj", None)
    function = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    source = inspect.getsource(function) if callable(function) else ""
    return hashlib.sha256(f"{item.nodeid}\n{source}".encode()).hexdigest()[:8]


def run_one(item: pytest.Item, following: pytest.Item | None) -> bool:
    """Runs the test, and returns whether it passed."""
    return not any(report.failed for report in runtestprotocol(item, log=False, nextitem=following))


def each_with_next(items: Sequence[pytest.Item]) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    return zip(items, [*items[1:], None], strict=True)


def in_fork(body: Any, *arguments: Any) -> tuple[int, int]:
    """Starts `body(out, *arguments)` in a fork, where `out` is a pipe's end; returns its id and the other end."""
    out_of, into = os.pipe()
    pid = os.fork()
    if pid:
        os.close(into)
        return pid, out_of
    os.close(out_of)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    try:
        body(into, *arguments)
    finally:
        os._exit(9)


def measure(out: int, items: Sequence[pytest.Item]) -> NoReturn:
    """Runs all tests without a mutant, and writes what each reaches and how long it takes; or the one that fails."""
    set_mutant_under_test("stats")
    reached: dict[str, list[int]] = defaultdict(list)
    seconds = []
    for at, (item, following) in enumerate(each_with_next(items)):
        began = time.process_time()
        passed = run_one(item, following)
        seconds.append(time.process_time() - began)
        if not passed:
            _write(out, {"failed": item.nodeid})
            os._exit(1)
        for function in state()._stats:
            reached[function].append(at)
        state()._stats.clear()
    _write(out, {"reached": reached, "seconds": seconds})
    os._exit(0)


def judge(out: int, mutant: str, tests: Sequence[Test], seconds: float) -> NoReturn:
    """Runs the tests against the mutant until one fails or takes too long, and writes which."""
    set_mutant_under_test(mutant)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.RLIM_INFINITY))

    def end(status: str, test: Test | None) -> NoReturn:
        judged = {"by": test.item.nodeid, "judged": test.digest} if test else {"by": "", "judged": ""}
        _write(out, {"status": status, **judged})
        os._exit(0)

    for test, (item, following) in zip(tests, each_with_next([test.item for test in tests]), strict=True):
        allowed = seconds + TIMES * test.seconds
        signal.signal(signal.SIGPROF, lambda *_, test=test: end("timeout", test))
        signal.setitimer(signal.ITIMER_PROF, allowed)
        # Where Python does not come to run the handler, or waits for ever.
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + allowed) + 10, resource.RLIM_INFINITY))
        signal.alarm(60 + 10 * int(allowed))
        if not run_one(item, following):
            signal.setitimer(signal.ITIMER_PROF, 0)
            end("killed", test)
    signal.setitimer(signal.ITIMER_PROF, 0)
    end("survived", None)


def _write(out: int, told: dict[str, Any]) -> None:
    with os.fdopen(out, "w") as pipe:
        json.dump(told, pipe)


def _read(out_of: int) -> dict[str, Any]:
    with os.fdopen(out_of) as pipe:
        text = pipe.read()
    return dict(json.loads(text)) if text else {}


@dataclass
class Judges:
    """The tests, by the function that they reach, and what has come of them."""

    tests: list[Test]
    reached: dict[str, list[int]]
    verdicts: Verdicts
    kills: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _digests: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for verdict in self.verdicts.known.values():
            self._count(verdict)

    def of(self, function: str) -> list[Test]:
        """Returns the tests that reach the function, in the order in which they are likely to be worth their time.

        Those that killed most of its mutants go first, then those of its module, each the quickest first.
        """
        kills, own = self.kills[function], f"test_{function.split('.')[-2]}"
        tests = [self.tests[at] for at in self.reached.get(function, ())]
        return sorted(
            tests,
            key=lambda test: (-kills[test.item.nodeid], test.item.path.stem != own, test.properties, test.seconds),
        )

    def digests(self, function: str) -> dict[str, str]:
        """Returns the digests of the tests that reach the function."""
        if function not in self._digests:
            tests = [self.tests[at] for at in self.reached.get(function, ())]
            self._digests[function] = {test.item.nodeid: test.digest for test in tests}
        return self._digests[function]

    def waiting(self, mutants: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Returns the mutants without a verdict that stands. One that no test reaches survives at once."""
        left = []
        for mutant, source in mutants:
            digests = self.digests(_function(mutant))
            if not digests:
                self.seen(mutant, source, {"status": "survived"})
            elif self.verdicts.still_to_run(mutant, source, digests):
                left.append((mutant, source))
        return left

    def still_to_run(self, mutant: str, source: str) -> list[Test]:
        """Returns the tests that have not judged the mutant as it is."""
        function = _function(mutant)
        wanted = self.verdicts.still_to_run(mutant, source, self.digests(function))
        return [test for test in self.of(function) if test.item.nodeid in wanted]

    def seen(self, mutant: str, source: str, told: dict[str, Any]) -> str:
        """Writes the verdict down, and returns it."""
        status = str(told.get("status", "timeout"))
        if status == "survived":
            told["judged"] = " ".join(sorted(self.digests(_function(mutant)).values()))
        verdict = Verdict(mutant, source, status, told.get("by", ""), told.get("judged", ""))
        self._count(verdict)
        self.verdicts.add(verdict)
        return status

    def _count(self, verdict: Verdict) -> None:
        if verdict.status == "killed":
            self.kills[_function(verdict.mutant)][verdict.by] += 1


def _function(mutant: str) -> str:
    return mutant.partition("__mutmut_")[0]


def judge_all(judges: Judges, left: list[tuple[str, str]], *, processes: int, seconds: float) -> None:
    """Judges the mutants, so many at a time."""
    running: dict[int, tuple[str, str, int]] = {}
    counts: Counter[str] = Counter()
    began = said = time.monotonic()
    gc.freeze()
    try:
        for mutant, source in [*left, *[("", "")] * processes]:
            while len(running) >= processes or (not mutant and running):
                pid, _ = os.wait()
                name, its_source, pipe = running.pop(pid)
                counts[judges.seen(name, its_source, _read(pipe))] += 1
            if mutant:
                pid, pipe = in_fork(judge, mutant, judges.still_to_run(mutant, source), seconds)
                running[pid] = (mutant, source, pipe)
            if time.monotonic() - said > SAY_EVERY:
                said = time.monotonic()
                _say(f"{counts.total()} of {len(left)} after {said - began:.0f} s: {dict(counts)}")
    finally:
        for pid in running:
            os.kill(pid, signal.SIGKILL)
    _say(f"judged {counts.total()} in {time.monotonic() - began:.0f} s: {dict(counts)}")


def _say(words: str) -> None:
    print(words, file=sys.__stderr__, flush=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Judges instead of running the tests."""
    if session.testsfailed:
        raise session.Interrupted(f"{session.testsfailed} errors during collection")
    plan = json.loads(Path(os.environ["MUTANTS_PLAN"]).read_text())
    # Measured in a fork, too: what the domain caches at its first call must not be there when a mutant is judged.
    pid, out_of = in_fork(measure, session.items)
    told = _read(out_of)
    os.waitpid(pid, 0)
    if "reached" not in told:
        session.testsfailed = 1
        _say(f"without any mutant this test fails: {told.get('failed', 'it ended the process')}")
        return True
    tests = [
        Test(item, digest(item), seconds, getattr(getattr(item, "obj", None), "is_hypothesis_test", False))
        for item, seconds in zip(session.items, told["seconds"], strict=True)
    ]
    judges = Judges(tests, told["reached"], Verdicts(Path(plan["verdicts"])))
    left = judges.waiting((name, source) for name, source in plan["mutants"])
    _say(f"{len(tests)} tests in {sum(told['seconds']):.0f} s; {len(left)} of {len(plan['mutants'])} mutants to judge")
    judge_all(judges, left, processes=plan["processes"], seconds=plan["seconds"])
    return True
