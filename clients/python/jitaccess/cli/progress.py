"""How far long work is: on a terminal, on one line of the standard error that the next one replaces."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Annotated, Final, TypeVar

import typer

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Do not show on stderr how far it is.")]
Told = TypeVar("Told")
_WIDTH: Final = 30


def tell(progress: str) -> None:
    """Shows how far it is, where the standard error is a terminal; an empty text takes the line away."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{progress}")
        sys.stderr.flush()


def bar(done: int, total: int) -> str:
    """Returns a bar that is as full as the work is done, with the share in percent."""
    share = min(done / total, 1.0) if total > 0 else 1.0
    full = int(share * _WIDTH)
    return f"[{'#' * full}{'-' * (_WIDTH - full)}] {int(share * 100):3} %"


def last_of(told: Iterable[Told], line: Callable[[Told], str], *, quiet: bool) -> Told | None:
    """Shows how far it is, unless `quiet`, and returns the last that was told; None if nothing was."""
    last: Told | None = None
    try:
        for last in told:
            if not quiet:
                tell(line(last))
    finally:
        if not quiet:
            tell("")
    return last
