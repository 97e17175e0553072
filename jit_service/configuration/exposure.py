"""What on the disk is open to others, or lies where the database cannot be kept whole: told or mended, not refused."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_NETWORK: Final = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs")
_MOUNTS: Final = Path("/proc/self/mountinfo")
_BESIDE: Final = ("", "-wal", "-shm")


def exposed(data_dir: Path, database: Path | None) -> Iterator[str]:
    """Yields a line for each thing that others on this machine may read or change, and for a network file system.

    `database` is SQLite's file, None for PostgreSQL.
    """
    if data_dir.exists() and (mode := _mode(data_dir)) & stat.S_IWOTH:
        yield f"everybody may make and remove files in {data_dir} (mode {mode:04o}); chmod o-rwx it"
    if database is None:
        return
    for path in (Path(f"{database}{suffix}") for suffix in _BESIDE):
        if path.exists() and (mode := _mode(path)) & (stat.S_IROTH | stat.S_IWOTH) and _is_reachable(path.parent):
            yield f"{path} is open to everybody (mode {mode:04o}); chmod o-rwx it"
    if system := file_system(database.parent):
        yield f"{database} is on a network file system ({system}), where SQLite's WAL can be damaged; use PostgreSQL"


def tighten(database: Path | None) -> Iterator[str]:
    """Takes SQLite's files from everybody, as a copy or a backup may have left them, and yields a line for each.

    New files beside the database get its mode from SQLite. What is another user's stays, and `exposed` tells it.
    """
    for path in (Path(f"{database}{suffix}") for suffix in _BESIDE if database is not None):
        if not path.exists() or not (mode := _mode(path)) & stat.S_IRWXO:
            continue
        try:
            path.chmod(mode & ~stat.S_IRWXO)
        except OSError:
            continue
        yield f"{path} was open to everybody (mode {mode:04o}), and is not any more"


def file_system(path: Path, mounts: Path = _MOUNTS) -> str:
    """Returns the type of the network file system that the path is on, or nothing if it is on another one."""
    if not sys.platform.startswith("linux") or not mounts.exists():
        return ""
    lines = (line.split(" ") for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines())
    # proc(5): the fifth field is where it is mounted, and the type comes after a hyphen.
    found = [(line[4], line[line.index("-") + 1]) for line in lines if "-" in line]
    real = os.path.realpath(path)
    _, kind = max(
        ((at, kind) for at, kind in found if real == at or real.startswith(at.rstrip("/") + "/")),
        key=lambda mount: len(mount[0]),
        default=("", ""),
    )
    return kind if kind in _NETWORK else ""


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _is_reachable(directory: Path) -> bool:
    """Returns whether everybody may reach what is in the directory, as far as its own mode says."""
    return bool(_mode(directory) & stat.S_IXOTH)
