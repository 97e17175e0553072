"""What files say, read anew after they have changed, so that nobody has to restart the service for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
_log = logging.getLogger(__name__)


class FreshFile(Generic[T]):
    """The content of a file, which may rest on others `beside` it. Any thread may ask for it.

    While a new content is broken, or the file is away, the content before it holds, and the log says so once.
    """

    def __init__(self, path: Path, read: Callable[[Path], T], *, beside: Sequence[Path] = ()) -> None:
        """Reads the file for the first time. Raises what `read` raises; later, only OSError and ValueError are caught.

        `read` must not put any part of a secret into its errors.
        """
        self._path = path
        self._read = read
        self._lock = threading.Lock()
        self._fault = ""
        self._all = (path, *beside)
        self._version = _version_of(self._all) if all(each.exists() for each in self._all) else None
        self._content = read(path)

    def content(self) -> T:
        """Returns what the file says now, or what it said before it was broken."""
        with self._lock:
            try:
                version = _version_of(self._all)
                # A broken content is tried again each time: to mend a mode does not change the version.
                if version != self._version or self._fault:
                    self._content, self._version = self._read(self._path), version
                    self._tell("")
            except (OSError, ValueError) as fault:
                self._tell(" ".join(str(fault).split()))
            return self._content

    def _tell(self, fault: str) -> None:
        if fault and fault != self._fault:
            _log.warning("%s was changed and is not taken, what it said before holds: %s", self._path, fault)
        elif not fault:
            _log.info("%s was changed, and is taken as it is now", self._path)
        self._fault = fault


def _version_of(paths: Sequence[Path]) -> tuple[int, ...]:
    facts = [path.stat() for path in paths]
    return tuple(part for each in facts for part in (each.st_mtime_ns, each.st_size, each.st_ino))
