"""Tables and records: readable where they are shown, and never more than text."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from jitaccess.cli.screen import Screen, screen_on

COLUMNS = ("ID", "STATE", "RESOURCES", "EMPTY")
LONG = "database/orders/a-rather-long-name/with/many/segments"
ROWS = [("abc", "ACTIVE", LONG, ""), ("def", "PENDING", "database/x", "")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(width: int, *, colour: bool = False) -> Screen:
    console = Console(
        file=Terminal(),
        force_terminal=True,
        color_system="standard" if colour else None,
        width=width,
        markup=False,
        emoji=False,
        highlight=False,
    )
    return Screen(console=console, now=datetime.now(UTC), zone=UTC)


def written(screen: Screen) -> str:
    assert isinstance(screen.console.file, io.StringIO)
    return screen.console.file.getvalue()


def test_a_pipe_gets_whole_lines_without_colour_or_padding() -> None:
    screen = screen_on(io.StringIO())

    screen.table(COLUMNS, [("abc", "ACTIVE", "x" * 500, ""), ("def", "PENDING", "y", "")])

    assert written(screen).splitlines() == [
        "ID   STATE    RESOURCES",
        "abc  ACTIVE   " + "x" * 500,
        "def  PENDING  y",
    ]


def test_a_column_without_values_is_left_out() -> None:
    screen = terminal(100)

    screen.table(COLUMNS, ROWS)

    assert "EMPTY" not in written(screen)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_table_that_fits_wraps_and_loses_nothing(width: int) -> None:
    screen = terminal(width)

    screen.table(COLUMNS, ROWS)

    shown = written(screen)
    assert shown.startswith("ID ")
    assert all(len(line.rstrip()) <= width for line in shown.splitlines())
    assert LONG.replace("/", "") in "".join(line[14:] for line in shown.splitlines()).replace(" ", "").replace("/", "")


def test_where_the_window_is_too_narrow_each_row_is_a_record() -> None:
    screen = terminal(24)

    screen.table(COLUMNS, ROWS)

    lines = [line.rstrip() for line in written(screen).splitlines()]
    assert lines[0] == "ID         abc"
    assert lines[1] == "STATE      ACTIVE"
    assert "" in lines
    assert all(len(line) <= 24 for line in lines)


def test_text_from_the_service_is_never_markup_nor_a_command_to_the_terminal() -> None:
    screen = terminal(100, colour=True)
    evil = "[red]x[/red] :smile: \x1b[2J https://e.example"

    screen.say(evil)
    screen.table(("ID", "WHY"), [("abc", evil)])
    screen.fields([("why", evil + "\nsecond line")])

    shown = written(screen)
    assert shown.count("[red]x[/red] :smile: \\x1b[2J https://e.example") == 3
    assert "\x1b[2J" not in shown


def test_states_are_coloured_and_other_text_is_not() -> None:
    screen = terminal(100, colour=True)

    screen.table(("ID", "STATE", "WHY"), [("abc", "ACTIVE", "ACTIVE")])

    assert written(screen).splitlines()[1].count("\x1b[32m") == 1


def test_a_list_says_when_it_is_empty_and_when_there_is_more() -> None:
    screen = terminal(100)

    screen.listing(COLUMNS, [], none="no grants", more=False)
    screen.listing(COLUMNS, ROWS, none="no grants", more=True)

    assert written(screen).startswith("no grants\nID ")
    assert "more than these 2" in written(screen)


@pytest.mark.parametrize(
    ("variable", "value", "coloured"), [("NO_COLOR", "1", False), ("NO_COLOR", "", True), ("TERM", "dumb", False)]
)
def test_colour_is_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, coloured: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv(variable, value)
    screen = screen_on(Terminal())

    screen.table(("ID", "STATE"), [("abc", "ACTIVE")])

    assert ("\x1b" in written(screen)) is coloured


def test_a_pipe_is_never_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    screen = screen_on(io.StringIO())

    screen.table(("ID", "STATE"), [("abc", "ACTIVE")])

    assert "\x1b" not in written(screen)
