"""What PostgreSQL promises of what it acknowledged, by its settings and its standbys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jit_service.storage.inspection import promise_fault_of
from tests.storage.servers import Server, newest, running
from tests.storage.test_postgresql import soon


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(newest()) as server:
        yield server


@pytest.fixture
def told(server: Server) -> Iterator[Server]:
    """The server, whose settings of a test end with it."""
    yield server
    # In this order: commits wait for a standby until the server has read its settings again.
    server.sql("ALTER SYSTEM RESET ALL")
    server.sql("SELECT pg_reload_conf()")
    server.sql("ALTER DATABASE jit RESET ALL")


def set_names(server: Server, names: str) -> None:
    server.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
    server.sql("SELECT pg_reload_conf()")


def test_one_server_is_told_to_be_one(told: Server) -> None:
    assert promise_fault_of(told.url) == "PostgreSQL is one server without a standby: what it loses is lost"


def test_a_synchronous_standby_that_is_away_is_told(told: Server) -> None:
    set_names(told, "*")

    assert soon(
        lambda: promise_fault_of(told.url).startswith(
            "no synchronous standby is connected (synchronous_standby_names is '*')"
        )
    )


@pytest.mark.parametrize(("level", "lost"), [("off", "a crash of PostgreSQL loses"), ("local", "a failover loses")])
def test_commits_that_wait_for_no_standby_are_told(told: Server, level: str, lost: str) -> None:
    told.sql(f"ALTER DATABASE jit SET synchronous_commit = '{level}'")
    set_names(told, "*")

    assert soon(lambda: f"synchronous_commit is {level}" in promise_fault_of(told.url))
    assert lost in promise_fault_of(told.url)


def test_standbys_are_told_as_they_are(told: Server) -> None:
    """An asynchronous one is told, a synchronous one is not; who may not see which it is judges by the settings."""
    told.sql("CREATE ROLE app LOGIN")
    as_app = told.url.replace("jit@", "app@")
    with told.standby():
        assert soon(lambda: promise_fault_of(told.url).startswith("no standby of PostgreSQL is synchronous"))
        assert promise_fault_of(told.url) == promise_fault_of(as_app)

        set_names(told, "*")

        assert soon(lambda: promise_fault_of(told.url) == "")
        assert promise_fault_of(as_app) == ""
