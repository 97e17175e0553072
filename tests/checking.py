"""A Checker over a test's store, as the service puts one together: made when it is first asked, one for each store."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from jit_service.check import AuditMode, LiveView, Recorder
from jit_service.check.checker import Checked, Checker
from jit_service.domain.caller import Caller
from jit_service.domain.checks.decision import Question
from jit_service.storage import Store

_RUNNING: dict[int, tuple[Checker, LiveView, Recorder]] = {}


def checker(store: Store, mode: AuditMode = AuditMode.COMMITTED) -> Checker:
    """Returns the store's checker."""
    if id(store) not in _RUNNING:
        view = LiveView(store, clock=store.clock, bound=timedelta(seconds=1))
        recorder = Recorder(store, mode)
        recorder.start()
        _RUNNING[id(store)] = Checker(store, view, recorder), view, recorder
    return _RUNNING[id(store)][0]


def check(store: Store, caller: Caller, asked: Question, **options: Any) -> Checked:
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
