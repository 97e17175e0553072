"""The one check of the mode of every file that holds a secret."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

_EVERYBODY: Final = stat.S_IROTH | stat.S_IWOTH


def demand_private(path: Path) -> None:
    """Raises ValueError if everybody on this machine may read or change the file, and OSError if it is not there.

    Its group may read it, so that root can own the file.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _EVERYBODY:
        raise ValueError(f"{path} is open to everybody (mode {mode:04o}); chmod o-rwx it")
