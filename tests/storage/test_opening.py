"""Connections to SQLite are made although another one holds the database: a starting worker among those that run."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy.exc import OperationalError

from jit_service.storage import engine as engines
from jit_service.storage.engine import for_writing, open_engine
from tests.domain.test_sown_bugs import Twin, demand_caught


class Held:
    """The exclusive lock of a database, as a recovery or a change of the journal's mode takes it, for a while."""

    def __init__(self, url: str) -> None:
        self._connection = sqlite3.connect(
            url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._connection.execute("BEGIN EXCLUSIVE")
        self._connection.execute("UPDATE head SET seq = seq")
        self._timer = threading.Timer(0.2, self.release)
        self._timer.start()

    def release(self) -> None:
        self._connection.close()

    def join(self) -> None:
        self._timer.join()


@pytest.fixture
def held(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    # SQLite waits by itself in most cases; in some it says at once that it is locked, as here in all.
    monkeypatch.setattr(engines, "_BUSY_SECONDS", 0)
    held = Held(sqlite_url)
    yield held
    held.join()


@pytest.mark.usefixtures("held")
def test_a_connection_waits_for_whoever_holds_the_database(sqlite_url: str) -> None:
    engine = open_engine(sqlite_url)

    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM head").scalar_one() == 1
    engine.dispose()


@pytest.mark.usefixtures("held")
def test_a_connection_that_writes_waits_too(sqlite_url: str) -> None:
    engine = for_writing(open_engine(sqlite_url))

    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE head SET seq = seq")
    engine.dispose()


def test_no_twin_survives(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def caught_by() -> None:
        monkeypatch.setattr(engines, "_BUSY_SECONDS", 0)
        held = Held(sqlite_url)
        try:
            test_a_connection_waits_for_whoever_holds_the_database(sqlite_url)
        except OperationalError as fault:
            pytest.fail(str(fault))
        finally:
            held.join()

    caught_by()
    bug = ("if not _is_busy(fault) or", "if True or")
    demand_caught(Twin("a connection that gives up at once", engines._patiently, *bug, caught_by), monkeypatch)
