"""Optional parts of the distributions: where one is missing, one line says what to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_OURS: Final = ("jitaccess", "jit_service")


class ExtraMissing(ImportError):
    """A package is missing that an extra brings; the message is one line that names the extra."""


@contextmanager
def needed_for(use: str, extra: str) -> Iterator[None]:
    """Within it, an import of a missing package raises ExtraMissing. `extra` is such as `jitaccess[tokens]`."""
    try:
        yield
    except ImportError as fault:
        if (fault.name or "").partition(".")[0] in _OURS:
            raise
        # A package without a library of the system that it needs names nothing (psycopg without libpq).
        missing = f"{fault.name}, which is not installed" if fault.name else "what is not installed"
        raise ExtraMissing(f"{use} needs {missing}; install {extra}", name=fault.name) from None
