"""What breaks under one host of the service: on either database, on SQLite, on PostgreSQL."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, suppress
from math import inf
from pathlib import Path
from random import Random

import psutil
import psycopg

from jit_service.storage.engine import open_engine
from jit_service.storage.migrate import is_current, migrate
from tests.reliability.disk import Mode
from tests.reliability.one_host import OneHost
from tests.reliability.program import wait_until
from tests.reliability.trial import Fault, seconds_until_it_answers
from tests.soak.asking import Board
from tests.soak.bystanders import dead_clients, flood, slow_clients
from tests.soak.site import ENVOY, PARENT, worker
from tests.soak.told import Told
from tests.test_commands import SERVICE

Do = Callable[[OneHost], Generator[None]]
_LONG = 8.0
_DISK = "UNAVAILABLE until the disk is well"
_ALL_SEE = "UNAVAILABLE"


def during(block: Callable[[OneHost], AbstractContextManager[None]]) -> Do:
    """Returns what breaks for the time of a block."""

    def do(host: OneHost) -> Generator[None]:
        with block(host):
            yield
        yield

    return do


def kill_worker(host: OneHost) -> Generator[None]:
    """The parent starts a new one, which takes as long as it takes; the other one serves meanwhile."""
    host.site.signal(worker(0), signal.SIGKILL)
    yield
    wait_until(lambda: seconds_until_it_answers(host.site, worker(0), time.monotonic()) < inf, "a new worker")
    yield


def kill_all(host: OneHost) -> Generator[None]:
    """Parent, workers and Envoy at once; whoever watches over the service starts it again."""
    host.site.kill()
    yield
    host.site.start()
    yield


def kill_parent(host: OneHost) -> Generator[None]:
    """The kernel ends its workers and Envoy with it."""
    host.site.signal(PARENT, signal.SIGKILL)
    yield
    host.site.reap()
    host.site.start()
    yield


def kill_envoy(host: OneHost) -> Generator[None]:
    """The service then ends in order, and is started again."""
    host.site.signal(ENVOY, signal.SIGKILL)
    yield
    host.site.reap()
    host.site.start()
    yield


def restart(host: OneHost) -> Generator[None]:
    """In order, as for an upgrade, while watchers and replicas hold streams open."""
    host.site.end()
    yield
    host.site.start()
    yield


def pause(*roles: str) -> Do:
    """Stops processes where they stand, with what they have begun."""

    def do(host: OneHost) -> Generator[None]:
        for role in roles:
            host.site.signal(role, signal.SIGSTOP)
        yield
        for role in roles:
            host.site.signal(role, signal.SIGCONT)
        yield

    return do


def no_descriptors(host: OneHost) -> Generator[None]:
    """The workers have as many files open as they may."""
    workers = [psutil.Process(pid) for role, pid in host.site.roles().items() if role.startswith("worker")]
    before = [process.rlimit(psutil.RLIMIT_NOFILE) for process in workers]
    for process, (_, hard) in zip(workers, before, strict=True):
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds(), hard))
    yield
    for process, limits in zip(workers, before, strict=True):
        process.rlimit(psutil.RLIMIT_NOFILE, limits)
    yield


def overrun(clients: Callable[..., None]) -> Do:
    """Lets clients misbehave, as in the long run."""

    def do(host: OneHost) -> Generator[None]:
        clients(host.site, Told(), Board(), Random(0))
        yield
        yield

    return do


def silent_receiver(host: OneHost) -> Generator[None]:
    host.hook.hang()
    yield
    host.hook.released.set()
    yield


def no_key_set(host: OneHost) -> Generator[None]:
    """The file with the issuer's keys is away: nobody can say which tokens count."""
    keys = host.site.data_dir / "dev" / "jwks.json"
    away = keys.with_suffix(".away")
    keys.rename(away)
    yield
    away.rename(keys)
    yield


def killed_migration(host: OneHost) -> Generator[None]:
    """`jit-service migrate` is killed at several moments, on a database of its own, and then ends well."""
    with tempfile.TemporaryDirectory(prefix="jit-migrate-") as directory:
        command: list[str | Path] = [SERVICE, "migrate", "--data-dir", directory]
        for number in range(4):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.5 + 0.25 * number)
            process.kill()
            process.wait()
        yield
        url = f"sqlite:///{Path(directory) / 'jit.db'}"
        migrate(url)
        engine = open_engine(url)
        if not is_current(engine):
            raise RuntimeError("the schema is not whole after migrations that were killed")
        engine.dispose()
        yield


def stopped_server(host: OneHost) -> Generator[None]:
    """PostgreSQL ends at once, with no word to anybody, and is started again."""
    host.postgresql.stop()
    yield
    host.postgresql.start()
    yield


def full_disk_of_postgresql(host: OneHost) -> Generator[None]:
    """PostgreSQL ends itself where it cannot write its log, and is started again once there is room."""
    with host.disk.full():
        yield
    _started_again(host)
    yield


def broken_disk_of_postgresql(mode: Mode) -> Do:
    """PostgreSQL ends itself after an fsync that failed, recovers from its log, and starts anew."""

    def do(host: OneHost) -> Generator[None]:
        with host.disk.broken(mode):
            yield
        _started_again(host)
        yield

    return do


def _started_again(host: OneHost) -> None:
    """Waits until PostgreSQL answers, and starts it where it gave up."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            host.postgresql.sql("SELECT 1")
        except psycopg.OperationalError:
            with suppress(subprocess.CalledProcessError):
                host.postgresql.start()
            time.sleep(0.2)
        else:
            return
    raise RuntimeError("PostgreSQL did not come back")


def read_only_server(host: OneHost) -> Generator[None]:
    host.postgresql.take_no_writes()
    yield
    host.postgresql.take_writes()
    yield


def ended_sessions(host: OneHost) -> Generator[None]:
    host.postgresql.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'jit'")
    yield
    yield


def cut_commits(host: OneHost) -> Generator[None]:
    """The connections of COMMITs are cut when they are on their way: nobody knows whether they happened."""
    host.way.cut_at_commits(20)
    yield
    host.way.cut_at_commits(0)
    yield


def no_connections_left(host: OneHost) -> Generator[None]:
    """Others have taken every connection that the server allows."""
    taken: list[psycopg.Connection[tuple[object, ...]]] = []
    host.way.cut()
    with suppress(psycopg.OperationalError):
        while len(taken) < 100:
            taken.append(psycopg.connect(host.postgresql.url.replace("+psycopg", "")))
    yield
    for connection in taken:
        connection.close()
    yield


def locked_head(host: OneHost) -> Generator[None]:
    """Somebody else's transaction holds the row that all writes need."""
    with psycopg.connect(host.postgresql.url.replace("+psycopg", "")) as other:
        other.execute("SELECT * FROM head FOR UPDATE")
        yield
        other.rollback()
        yield


ON_BOTH: tuple[Fault[OneHost], ...] = (
    Fault(name="kill -9 of a worker", do=kill_worker, sees="no answer from that worker", hold=0.0),
    Fault(name="kill -9 of the parent", do=kill_parent, sees="no answer"),
    Fault(name="kill -9 of all processes", do=kill_all, sees="no answer"),
    Fault(name="kill -9 of Envoy", do=kill_envoy, sees="no answer"),
    Fault(name="restart while streams are open", do=restart, sees="no answer until it serves again"),
    Fault(name="SIGSTOP of a worker", do=pause(worker(0)), sees="no answer from that worker"),
    Fault(name="SIGSTOP of all workers", do=pause(worker(0), worker(1)), sees="no answer"),
    Fault(name="SIGSTOP of Envoy", do=pause(ENVOY), sees="no answer over REST"),
    Fault(name="out of file descriptors", do=no_descriptors, sees=_ALL_SEE),
    Fault(name="flood of calls", do=overrun(flood), sees="RESOURCE_EXHAUSTED for some", hold=0.0),
    Fault(name="connections that stay silent or are reset", do=overrun(dead_clients), sees="nothing", hold=0.0),
    Fault(name="watchers that do not read", do=overrun(slow_clients), sees="nothing", hold=0.0),
    Fault(name="webhook receiver that does not answer", do=silent_receiver, sees="nothing"),
    Fault(name="issuer's key file away", do=no_key_set, sees="UNAVAILABLE"),
    Fault(name="kill -9 during migrate", do=killed_migration, sees="nothing: it is another database", hold=0.0),
)
CLOCKS: tuple[Fault[OneHost], ...] = (
    Fault(name="clock three minutes ahead", do=during(lambda host: host.clock.stepped(180)), sees=_ALL_SEE),
    Fault(name="clock three minutes back", do=during(lambda host: host.clock.stepped(-180)), sees=_ALL_SEE),
    Fault(name="clock a year ahead", do=during(lambda host: host.clock.stepped(365 * 86400)), sees=_ALL_SEE),
)
FULL_DISK = Fault[OneHost](name="disk full", do=during(lambda host: host.disk.full()), sees=_DISK)
FULL_DISK_OF_POSTGRESQL = Fault[OneHost](name="disk of PostgreSQL full", do=full_disk_of_postgresql, sees=_DISK)


def disk(name: str, mode: Mode, *, hold: float = 3.0) -> Fault[OneHost]:
    """Returns a fault of the disk that SQLite is on."""
    return Fault(name=name, do=during(lambda host: host.disk.broken(mode)), sees=_DISK, hold=hold)


DISKS_OF_SQLITE = (
    disk("file system read-only", Mode.READ_ONLY),
    disk("fsync fails (EIO)", Mode.FSYNC_FAILS),
    disk("slow disk (300 ms an fsync)", Mode.SLOW),
    disk("disk that hangs", Mode.HANGS, hold=_LONG),
)
ON_SQLITE: tuple[Fault[OneHost], ...] = (
    Fault(
        name="write lock held by another program",
        do=during(lambda host: host.locked()),
        sees=_ALL_SEE,
        hold=_LONG,
    ),
)
DISKS_OF_POSTGRESQL: tuple[Fault[OneHost], ...] = (
    Fault(name="fsync of PostgreSQL fails (EIO)", do=broken_disk_of_postgresql(Mode.FSYNC_FAILS), sees=_DISK),
    Fault(name="file system of PostgreSQL read-only", do=broken_disk_of_postgresql(Mode.READ_ONLY), sees=_DISK),
    Fault(
        name="slow disk of PostgreSQL (300 ms an fsync)", do=broken_disk_of_postgresql(Mode.SLOW), sees="slow answers"
    ),
    Fault(name="disk of PostgreSQL hangs", do=broken_disk_of_postgresql(Mode.HANGS), sees=_DISK, hold=_LONG),
)
ON_POSTGRESQL: tuple[Fault[OneHost], ...] = (
    Fault(name="PostgreSQL stopped at once", do=stopped_server, sees=_ALL_SEE),
    Fault(name="PostgreSQL read-only", do=read_only_server, sees=_ALL_SEE),
    Fault(name="all sessions terminated", do=ended_sessions, sees="UNAVAILABLE for some", hold=0.5),
    Fault(name="connections cut at COMMIT", do=cut_commits, sees="UNAVAILABLE; the outcome is unknown"),
    Fault(name="no connection left", do=no_connections_left, sees=_ALL_SEE),
    Fault(name="head row locked by another transaction", do=locked_head, sees=_ALL_SEE, hold=_LONG),
    Fault(name="connections refused", do=during(lambda host: host.way.refusing()), sees=_ALL_SEE),
    Fault(name="nothing passes, nothing closes", do=during(lambda host: host.way.holding()), sees=_ALL_SEE, hold=_LONG),
    Fault(name="50 ms more for each packet", do=during(lambda host: host.way.slow(0.05)), sees="slow answers"),
)
