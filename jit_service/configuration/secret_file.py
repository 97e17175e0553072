"""Files that hold secrets: the one check of their mode, and how a setting that should name one is shown.

People put the secret itself where the file's name belongs, and then it must not stand in the log.
"""

from __future__ import annotations

import shutil
import stat
from pathlib import Path
from typing import Final

_EVERYBODY: Final = stat.S_IROTH | stat.S_IWOTH
_WITHHELD: Final = "the given file (not shown: nothing is there, so it may be the secret itself)"


def demand_private(path: Path) -> None:
    """Raises ValueError if everybody on this machine may read or change the file, and OSError if it is not there.

    Its group may read it, so that root can own the file.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _EVERYBODY:
        raise ValueError(f"{path} is open to everybody (mode {mode:04o}); chmod o-rwx it")


def ascii_in(path: Path, field: str) -> str:
    """Returns what a file with secrets holds. Raises ValueError, which names the field, not what the file holds."""
    try:
        demand_private(path)
        return path.read_text(encoding="ascii")
    except OSError as fault:
        raise ValueError(f"{field}: {shown_path(path)} cannot be read: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{field}: {path} is not ASCII") from None
    except ValueError as fault:
        raise ValueError(f"{field}: {fault}") from None


def shown_path(path: Path) -> str:
    """Returns the path for a message, or words instead of one where nothing shows that it is a path.

    It is one if the file is there, or a directory above it.
    """
    try:
        is_path = path.exists() or any(above.is_dir() for above in path.parents if above.name)
    except (OSError, ValueError):
        # Too long for a path, or with a zero byte in it.
        is_path = False
    return str(path) if is_path else _WITHHELD


def program_of(command: str) -> str:
    """Returns the first word of a command if that is a program; an assignment or a password may stand there."""
    word = command.split(maxsplit=1)[0] if command.strip() else ""
    return word if word and shutil.which(word) else ""
