"""The log is lines for people or one JSON object a line, with what is known of the call."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from jit_service.configuration import logs
from jit_service.configuration.logs import LogFormat, LogLevel
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.errors import StoreUnavailable
from jit_service.refusal_log import EVERY_SECONDS, RefusalLog

ALICE = Caller(principal="user:alice@example.com", origin=Origin(method="/x/Check", trace_id="4bf92f"))


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the root logger writes; its own handlers and level are put back."""
    root, text = logging.getLogger(), io.StringIO()
    before, level = root.handlers[:], root.level
    root.handlers[:] = [logging.StreamHandler(text)]
    try:
        yield text
    finally:
        root.handlers[:] = before
        root.setLevel(level)


def test_a_line_for_people_has_time_with_zone_level_process_and_call(written: io.StringIO) -> None:
    logs.set_up(who="worker 1")

    RefusalLog(logging.getLogger("x")).warning("a call cannot be answered", StoreUnavailable("away"), ALICE)

    line = written.getvalue().strip()
    time, rest = line.split(" ", 1)
    assert time.endswith("+00:00")
    assert rest == (
        "WARNING worker 1: x: a call cannot be answered: away "
        "method=/x/Check trace_id=4bf92f principal=user:alice@example.com"
    )


def test_programs_get_one_object_a_line_also_of_a_traceback(written: io.StringIO) -> None:
    logs.set_up(LogFormat.JSON)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("x").exception("it failed")
    RefusalLog(logging.getLogger("x")).warning("a call cannot be answered", StoreUnavailable("away"), ALICE)

    first, second = map(json.loads, written.getvalue().splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("error", "x", "it failed")
    assert "ValueError: two" in first["exception"]
    assert (second["method"], second["trace_id"], second["principal"]) == ("/x/Check", "4bf92f", ALICE.principal)


def test_less_than_the_level_is_left_out(written: io.StringIO) -> None:
    logs.set_up(level=LogLevel.WARNING)

    logging.getLogger("x").info("all is well")
    logging.getLogger("x").warning("it is not")

    assert "all is well" not in written.getvalue()
    assert "it is not" in written.getvalue()


def test_what_every_call_meets_is_logged_once_in_some_seconds_with_the_count(written: io.StringIO) -> None:
    logs.set_up()
    now = 100.0
    refusals = RefusalLog(logging.getLogger("x"), clock=lambda: now)

    for n in range(300):
        refusals.warning("a call cannot be answered", StoreUnavailable(f"away {n}"))
    now += EVERY_SECONDS
    refusals.warning("a call cannot be answered", StoreUnavailable("still away"))
    refusals.warning("the locks cannot be read", StoreUnavailable("away"))

    first, second, other = written.getvalue().splitlines()
    assert first.endswith("a call cannot be answered: away 0")
    assert second.endswith("a call cannot be answered: still away; 299 more since the last such line")
    assert other.endswith("the locks cannot be read: away")
