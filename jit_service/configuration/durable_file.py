"""Writes files that have their names only once they are whole and on the disk, and that only this user may read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

PART: Final = ".part"
"""How the name of a file ends that was not finished; whoever is killed while it writes leaves one."""


def write(path: Path, content: bytes) -> None:
    """Writes the file, in place of one that is there. Raises OSError."""
    _part_of(path, content).rename(path)
    synchronize(path.parent)


def write_new(path: Path, content: bytes) -> None:
    """Writes the file, and replaces none: raises FileExistsError, also for one that came meanwhile; OSError."""
    part = _part_of(path, content)
    try:
        os.link(part, path)
    finally:
        part.unlink()
    synchronize(path.parent)


def synchronize(path: Path) -> None:
    """Waits until the file, or the names in the directory, are on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _part_of(path: Path, content: bytes) -> Path:
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return part
