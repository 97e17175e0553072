"""What people read: lines, tables, and records where a table does not fit. Only this module knows rich.

All text goes through `safe` or `safe_lines` and is never read as markup. Colour and the width of the window matter
on a terminal only; elsewhere nothing is cut, wrapped or coloured.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jitaccess.cli import text
from jitaccess.naming.printable import safe, safe_lines

_UNBOUNDED = 1_000_000
_READABLE = 12  # A column squeezed below this is no longer read, so the table becomes records.
_COLOURED = ("state", "decision", "change")
_STYLES = {
    "ACTIVE": "green",
    "ALLOWED": "green",
    "APPROVED": "green",
    "CREATED": "green",
    "PENDING": "yellow",
    "SCHEDULED": "yellow",
    "UPDATED": "yellow",
    "DENIED": "red",
    "REVOKED": "red",
    "REFUSED": "red",
    "DELETED": "red",
}


@dataclass(frozen=True, kw_only=True)
class Screen:
    """Where a command shows its answer, and when and where the reader is. `zone` None is the local one."""

    console: Console
    now: datetime
    zone: tzinfo | None = None

    @property
    def is_terminal(self) -> bool:
        """Returns whether the output is a terminal."""
        return self.console.is_terminal

    def moment(self, at: datetime | None) -> str:
        """Returns the instant in words, with how far it is; nothing for none."""
        return text.moment(at, now=self.now, zone=self.zone) if at else ""

    def clock(self, at: datetime | None) -> str:
        """Returns the instant in words; nothing for none."""
        return text.clock(at, now=self.now, zone=self.zone) if at else ""

    def span(self, length: timedelta | None) -> str:
        """Returns the length of time in words; nothing for none."""
        return text.span(length) if length is not None else ""

    def say(self, line: str) -> None:
        """Shows one line of text."""
        self._print(Text(safe(line)), soft_wrap=True)

    def fields(self, fields: Sequence[tuple[str, str]]) -> None:
        """Shows labelled values, one under another; those without a value are left out."""
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold")
        for label, value in fields:
            if value:
                grid.add_row(Text(label), _cell(label, safe_lines(value)))
        self._print(grid)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Shows a table without its empty columns, or each row as a record where the window is too narrow for it."""
        kept = [index for index in range(len(columns)) if any(row[index] for row in rows)]
        shown = [columns[index] for index in kept]
        cells = [[safe(row[index]) for index in kept] for row in rows]
        if self._fits(shown, cells):
            self._print(_table(shown, cells))
            return
        for number, row in enumerate(cells):
            if number:
                self.say("")
            self.fields(list(zip(shown, row, strict=True)))

    def listing(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, none: str, more: bool) -> None:
        """Shows a table, or a line where it has no rows, and says when there is more than it shows."""
        if rows:
            self.table(columns, rows)
        else:
            self.say(none)
        if more:
            self.say(f"... and more than these {len(rows)}; --limit 0 shows all")

    def _fits(self, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> bool:
        widths = [max(cell_len(cell) for cell in column) for column in zip(columns, *cells, strict=True)]
        # The first column is an id: it does not wrap.
        needed = widths[0] + sum(min(width, _READABLE) for width in widths[1:]) if widths else 0
        return needed + 2 * (len(widths) - 1) <= self.console.width

    def _print(self, shown: Table | Text, *, soft_wrap: bool = False) -> None:
        """Writes what rich makes of it.

        Rich itself would end the process with 1, our "no", when the reader of a pipe has gone.
        """
        with self.console.capture() as capture:
            self.console.print(shown, soft_wrap=soft_wrap)
        lines = capture.get().split("\n")[:-1]
        # Cells are padded to their column's width; whoever reads a pipe has no use for that at a line's end.
        kept = lines if self.is_terminal else [line.rstrip() for line in lines]
        self.console.file.write("".join(f"{line}\n" for line in kept))


def screen_on(file: TextIO) -> Screen:
    """Returns a screen for the file: as wide as the window on a terminal, unbounded elsewhere."""
    terminal = file.isatty()
    plain = not terminal or bool(os.environ.get("NO_COLOR"))
    console = Console(
        file=file,
        force_terminal=terminal,
        color_system=None if plain else "auto",
        width=None if terminal else _UNBOUNDED,
        markup=False,
        emoji=False,
        highlight=False,
    )
    return Screen(console=console, now=datetime.now(UTC))


def _table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(Text(column), overflow="fold", no_wrap=index == 0)
    for row in cells:
        table.add_row(*(_cell(column, value) for column, value in zip(columns, row, strict=True)))
    return table


def _cell(label: str, value: str) -> Text:
    """Returns the value, coloured where its label says that it is a state."""
    return Text(value, style=_STYLES.get(value, "") if label.lower() in _COLOURED else "")
