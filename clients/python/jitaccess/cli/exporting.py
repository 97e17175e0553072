"""Exports of the audit log, written as they come; a file has its name only once it is whole."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

import typer


def to_stdout(parts: Iterable[bytes]) -> None:
    """Writes the parts to the standard output."""
    for part in _told(parts, sys.stderr):
        sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()


def to_file(parts: Iterable[bytes], path: Path) -> int:
    """Writes the parts to a file, in place of one of that name. Returns the number of lines.

    Whatever breaks it off leaves things as they were. Raises BadParameter where the file cannot be written.
    """
    count = 0
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for part in _told(parts, sys.stderr):
                    count += part.count(b"\n")
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}", param_hint="--to") from error
    return count


def _told(parts: Iterable[bytes], to: TextIO) -> Iterator[bytes]:
    """Yields the parts, and shows how far it is."""
    count = 0
    for part in parts:
        yield part
        count += part.count(b"\n")
        if to.isatty():
            to.write(f"\r{count} events")
            to.flush()
    if count and to.isatty():
        to.write("\r\x1b[K")
