"""Exports of the audit log, written as they come; a file has its name only once it is whole."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import typer

from jitaccess.cli.progress import bar, tell

_BLOCK = 64 << 10


def to_stdout(parts: Iterable[bytes]) -> None:
    """Writes the parts to the standard output."""
    for part in parts:
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
                for part in parts:
                    count += part.count(b"\n")
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise
    except OSError as error:
        raise _unwritable(path, error) from error
    return count


def onto_file(parts: Iterable[bytes], path: Path) -> int:
    """Adds the parts to a file, which is made with mode 0600 where there is none. Returns the number of lines.

    What breaks it off leaves whole lines, after which the next one goes on. Raises BadParameter where the file cannot
    be written.
    """
    count = 0
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            whole = file.seek(_end_of_lines(file))
            file.truncate()
            try:
                for part in parts:
                    file.write(part)
                    file.flush()
                    count += part.count(b"\n")
                    whole += len(part)
            finally:
                file.truncate(whole)
                os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(path, error) from error
    return count


def last_seq(path: Path) -> int:
    """Returns the place in the log of a file's last whole event, of any format; 0 where there is none.

    Raises BadParameter for a file that is no export.
    """
    try:
        with path.open("rb") as file:
            end = _end_of_lines(file)
            line = _line_before(file, end)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}", param_hint="--to") from error
    if not line:
        return 0
    try:
        return _seq_of(json.loads(line))
    except (KeyError, ValueError, TypeError, RecursionError):
        raise typer.BadParameter(f"the last line of {path} is no event of an export", param_hint="--to") from None


def holds_something(path: Path) -> bool:
    """Returns whether the file is there and not empty."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def shown(parts: Iterable[bytes], start_seq: int, end_seq: int) -> Iterator[bytes]:
    """Yields the parts, and shows how far it is of the records after `start_seq` up to `end_seq`."""
    count = 0
    try:
        tell(_so_far(0, start_seq, start_seq, end_seq))
        for part in parts:
            yield part
            count += part.count(b"\n")
            last = _seq_of(json.loads(part.splitlines()[-1]))
            tell(_so_far(count, last, start_seq, end_seq))
    finally:
        tell("")


def _so_far(count: int, last: int, start_seq: int, end_seq: int) -> str:
    return f"{bar(last - start_seq, end_seq - start_seq)}  {count:,} events"


def _seq_of(event: Any) -> int:
    """Returns the place in the log of an event as one of the formats has it. Raises ValueError, TypeError."""
    if not isinstance(event, dict):
        raise TypeError("it is no object")
    if "specversion" in event:
        event = event["data"]
    seq = event["metadata"]["sequence"] if "metadata" in event else event["seq"]
    return int(seq)


def _end_of_lines(file: BinaryIO) -> int:
    """Returns where the last whole line ends, before what a write that broke off has left."""
    return _line_break_before(file, file.seek(0, os.SEEK_END)) + 1


def _line_before(file: BinaryIO, end: int) -> bytes:
    start = _line_break_before(file, end - 1) + 1
    file.seek(start)
    return file.read(max(0, end - start))


def _line_break_before(file: BinaryIO, end: int) -> int:
    """Returns where the last line break before `end` is, -1 where there is none."""
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        if (found := file.read(end - start).rfind(b"\n")) >= 0:
            return start + found
        end = start
    return -1


def _unwritable(path: Path, error: OSError) -> typer.BadParameter:
    return typer.BadParameter(f"{path} cannot be written: {error.strerror}", param_hint="--to")
