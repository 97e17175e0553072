"""A real PgBouncer in transaction mode before a test's PostgreSQL."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.storage.servers import Server, owner_of

_START_SECONDS = 10.0


@contextmanager
def pooled(server: Server, *, connections: int = 4) -> Iterator[str]:
    """Runs PgBouncer, which gives each transaction one of so many sessions. Yields the URL of a database through it.

    Skips the test where PgBouncer is not installed.
    """
    binary = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if binary is None:
        pytest.skip("needs PgBouncer; `make postgresql` installs Debian's")
    directory = Path(tempfile.mkdtemp(prefix="jit-pool-"))
    user = owner_of(directory)
    (directory / "users").write_text('"jit" ""\n')
    settings = directory / "pgbouncer.ini"
    settings.write_text(
        f"""[databases]
* = host={server.socket.parent} user=jit
[pgbouncer]
listen_addr =
unix_socket_dir = {directory}
auth_type = trust
auth_file = {directory}/users
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 200
logfile = {directory}/log
server_round_robin = 1
"""
    )
    process = subprocess.Popen(
        [binary, "-q", str(settings)], user=user, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(directory / ".s.PGSQL.6432", process)
        yield f"postgresql+psycopg://jit@/jit?host={directory}&port=6432"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(directory)


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as tried:
            tried.connect(str(path))
            return
        time.sleep(0.02)
    pytest.fail(f"PgBouncer does not listen: {(path.parent / 'log').read_text()}")
