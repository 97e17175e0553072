"""Which of Debian's packages a run needs, and which are not here."""

from __future__ import annotations

import shutil
from pathlib import Path

_PROGRAMS = {
    "postgresql": "pg_ctl",
    "patroni": "patroni",
    "etcd-server": "etcd",
    "haproxy": "haproxy",
    "pgbouncer": "pgbouncer",
    "iproute2": "ip",
}
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_DEBIAN = Path("/usr/lib/postgresql")


def binaries() -> Path | None:
    """Returns where the newest PostgreSQL of Debian has its programs."""
    found = sorted(_DEBIAN.glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def program(name: str) -> str:
    """Returns where a program is, also one that only root has in PATH; empty where it is not here."""
    return shutil.which(name) or next((f"{place}/{name}" for place in _SBIN if Path(place, name).exists()), "")


def missing() -> list[str]:
    """Returns the packages of a cluster that are not installed."""
    there = {package for package, name in _PROGRAMS.items() if program(name)}
    if binaries() is not None:
        there.add("postgresql")
    return [package for package in _PROGRAMS if package not in there]
