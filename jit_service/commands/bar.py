"""How far long work is, for whoever looks at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer


@contextmanager
def bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yields what shows on a terminal what is done, and how much of how much is done."""
    is_shown = False

    def show(what: str, done: int, of: int) -> None:
        nonlocal is_shown
        if sys.stderr.isatty():
            is_shown = True
            typer.echo(f"\r\033[K{what} {100 * done // max(of, 1)} %", nl=False, err=True)

    try:
        yield show
    finally:
        if is_shown:
            typer.echo("\r\033[K", nl=False, err=True)
