"""One host of `make faults`: `jit-service up` on a disk, a clock and a way to its database that break on command."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from jit_service.settings import Settings
from tests.notifications.webhooks import Hook, facts, hook
from tests.reliability.clock import FakeClock
from tests.reliability.disk import Disk
from tests.reliability.packages import binaries
from tests.reliability.proxy import Proxy
from tests.soak.site import Site
from tests.storage.servers import Server, newest

_PATIENCE = "-c max_connections=60 -c restart_after_crash=on"


@dataclass(frozen=True)
class OneHost:
    """All that a fault can take hold of. On SQLite there are neither server nor proxy."""

    site: Site
    disk: Disk
    clock: FakeClock
    hook: Hook
    server: Server | None = None
    proxy: Proxy | None = None

    @property
    def settings(self) -> Settings:
        """What reads the store at the end."""
        return Settings.load(data_dir=self.site.data_dir, database_url=self.server.url if self.server else "")

    @property
    def postgresql(self) -> Server:
        assert self.server is not None
        return self.server

    @property
    def way(self) -> Proxy:
        assert self.proxy is not None
        return self.proxy

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds SQLite's write lock, as an operator's shell would."""
        with closing(sqlite3.connect(self.site.data_dir / "jit.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")


@contextmanager
def running(directory: Path, database: str) -> Iterator[OneHost]:
    """Runs one host. Only the main thread may: the kernel ends the service with that."""
    with ExitStack() as stack:
        disk, clock, receiver = Disk(directory), FakeClock(directory), stack.enter_context(hook())
        url, server, proxy = "", None, None
        environment = disk.environment
        if database == "postgresql":
            server, proxy = _postgresql(directory, disk, stack)
            url = f"postgresql://jit@/jit?host={proxy.directory}"
            # It is PostgreSQL whose disk breaks then.
            environment = {}
        environment = clock.added_to(environment)
        environment["JIT_NOTIFICATIONS"] = json.dumps([facts(directory, receiver.url)])
        site = Site(directory, transport="grpcio", database_url=url, data_dir=disk.path / "d", environment=environment)
        stack.callback(site.kill)
        stack.callback(site.stopping.set)
        site.start()
        yield OneHost(site, disk, clock, receiver, server, proxy)


def _postgresql(directory: Path, disk: Disk, stack: ExitStack) -> tuple[Server, Proxy]:
    home = disk.path / "pg"
    home.mkdir()
    server = Server(binaries() or newest(), home, options=_PATIENCE, environment=disk.environment)
    stack.callback(server.stop)
    proxy = Proxy(directory / "proxy", home)
    stack.callback(proxy.close)
    return server, proxy
