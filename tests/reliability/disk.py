"""A disk that breaks on command: a real one that can be full, and a library that is preloaded and lets writes fail."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

from tests.reliability import sandbox

_MIB = 1 << 20
_CAPACITY = 512 * _MIB


class Mode(IntEnum):
    """How the disk is broken, as disk_faults.c has it."""

    WHOLE = 0
    FSYNC_FAILS = 1
    READ_ONLY = 2
    FULL = 3
    SLOW = 4
    HANGS = 5


def has_compiler() -> bool:
    return shutil.which("cc") is not None


def preloadable(source: str, directory: Path) -> Path | None:
    """Compiles a source of this room into a library in the directory. Returns it; None where there is no compiler."""
    if not has_compiler():
        return None
    library = directory / Path(source).with_suffix(".so")
    command: list[str | Path] = ["cc", "-O2", "-shared", "-fPIC", "-o", library, Path(__file__).parent / source, "-ldl"]
    subprocess.run(command, check=True)
    return library


class Disk:
    """A directory whose disk breaks. `environment` is for the processes that are to notice it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "disk"
        self.path.mkdir()
        if sandbox.is_inside():
            size = f"size={_CAPACITY},mode=755"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", self.path], check=True)
        self._control = directory / "disk-mode"
        self._control.write_bytes(bytes([Mode.WHOLE]))
        self._control.chmod(0o644)
        self._library = preloadable("disk_faults.c", directory)

    @property
    def environment(self) -> dict[str, str]:
        if self._library is None:
            return {}
        return {
            "LD_PRELOAD": str(self._library),
            "DISK_FAULTS_CONTROL": str(self._control),
            "DISK_FAULTS_UNDER": str(self.path.resolve()) + "/",
        }

    @contextmanager
    def broken(self, mode: Mode) -> Iterator[None]:
        """Breaks it for the time of the block."""
        self._set(mode)
        try:
            yield
        finally:
            self._set(Mode.WHOLE)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Fills it to the last byte for the time of the block."""
        filler = self.path / "filler"
        try:
            with filler.open("wb", buffering=0) as file:
                chunk = bytes(_MIB)
                while chunk:
                    try:
                        file.write(chunk)
                    except OSError:
                        chunk = chunk[: len(chunk) // 2]
            yield
        finally:
            filler.unlink(missing_ok=True)

    def _set(self, mode: Mode) -> None:
        # In place: processes have the file mapped.
        with self._control.open("r+b") as file:
            file.write(bytes([mode]))
