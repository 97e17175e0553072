"""A clock that is set on command: a library that is preloaded into the service shifts its wall clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from struct import pack

from tests.reliability.disk import preloadable


class FakeClock:
    """The wall clock of the service. Its other clocks go on, as where somebody sets the time."""

    def __init__(self, directory: Path) -> None:
        self._library = preloadable("clock_faults.c", directory)
        self._file = directory / "clock"
        self._file.write_bytes(bytes(8))

    def added_to(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Returns the environment of processes that have this clock, and whatever was preloaded into them before."""
        if self._library is None:
            return dict(environment)
        preloaded = [str(self._library), *filter(None, [environment.get("LD_PRELOAD")])]
        return {**environment, "LD_PRELOAD": ":".join(preloaded), "CLOCK_FAULTS": str(self._file)}

    @contextmanager
    def stepped(self, seconds: int) -> Iterator[None]:
        """Sets it ahead, or back, for the time of the block."""
        self._set(seconds)
        try:
            yield
        finally:
            self._set(0)

    def _set(self, seconds: int) -> None:
        # In place: processes have the file mapped.
        with self._file.open("r+b") as file:
            file.write(pack("=q", seconds))
