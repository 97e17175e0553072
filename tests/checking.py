"""A Checker over a test's store, as the service puts one together: made when it is first asked, one for each store."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

from jit_service.check import AuditMode, DecisionCache, GrantCache, Recorder
from jit_service.check.checker import Checker
from jit_service.check.deciding import Caching, Deciding
from jit_service.check.recording import CheckResult, Recording
from jit_service.domain.caller import Caller
from jit_service.domain.checks.decision import Question
from jit_service.rpc.services.access_messages import encoded_decision
from jit_service.storage import Store

_MAKING = threading.Lock()
_RUNNING: dict[int, tuple[Checker, GrantCache, Recorder]] = {}


def checker_over(store: Store, grants: GrantCache, recorder: Recorder) -> Checker:
    """Returns a checker put together as the service does it, with a cache of decisions of its own."""
    return Checker(store, grants, Recording(Caching(Deciding(encoded_decision), DecisionCache()), recorder))


def checker(store: Store, mode: AuditMode = AuditMode.COMMITTED) -> Checker:
    """Returns the store's checker, the same one for all threads."""
    with _MAKING:
        if id(store) not in _RUNNING:
            view = GrantCache(store, clock=store.clock, bound=timedelta(seconds=1))
            recorder = Recorder(store, mode)
            recorder.start()
            _RUNNING[id(store)] = checker_over(store, view, recorder), view, recorder
        return _RUNNING[id(store)][0]


def check(store: Store, caller: Caller, asked: Question, **options: Any) -> CheckResult:
    """Asks the store's checker."""
    return checker(store).check(caller, asked, **options)


def stop(store: Store) -> None:
    """Ends the store's checker, if there is one."""
    if running := _RUNNING.pop(id(store), None):
        _, view, recorder = running
        recorder.stop()
        view.stop()


def stop_all() -> None:
    """Ends every checker that a test has left."""
    while _RUNNING:
        _, (_, view, recorder) = _RUNNING.popitem()
        recorder.stop()
        view.stop()
