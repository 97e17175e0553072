"""How far long work is: on a terminal, on one line of the standard error that the next one replaces."""

from __future__ import annotations

import sys
from typing import Final

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
