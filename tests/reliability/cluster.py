"""The cluster of `make cluster`, and what breaks in it."""

from __future__ import annotations

import signal
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.reliability.database import Database, Member
from tests.reliability.hosts import HOSTS, ServiceHosts
from tests.reliability.network import Network
from tests.reliability.program import wait_until
from tests.reliability.trial import Fault

_PAUSE_SECONDS = 8.0
_SLOW = "128kbit"
_REFUSED = "UNAVAILABLE until there is a primary"


@dataclass(frozen=True)
class Cluster:
    """All of it."""

    network: Network
    database: Database
    site: ServiceHosts


@contextmanager
def running(directory: Path, logs: Path, *, is_real: bool) -> Iterator[Cluster]:
    """Runs a cluster in the directory, which must be one that all users can enter. Only the main thread may."""
    with ExitStack() as stack:
        network = Network(is_real=is_real)
        stack.callback(network.close)
        database = Database(network, directory, logs)
        stack.callback(database.close)
        database.start()
        site = ServiceHosts(network, directory, logs, database.url)
        stack.callback(site.close)
        site.start()
        yield Cluster(network, database, site)


def _follows(cluster: Cluster, old: Member) -> bool:
    """Whether another member than the old one takes writes."""
    known = cluster.database.cluster_of(cluster.database.others(old))
    leaders = [name for name, each in known.items() if each.get("role") == "leader" and each.get("state") == "running"]
    return leaders != [] and leaders != [old.name] and cluster.database.takes_writes()


def switchover(cluster: Cluster) -> Generator[None]:
    """The primary hands over in order, as for an upgrade."""
    database = cluster.database
    old, new = database.primary(), database.standby()
    old.asked("/switchover", {"leader": old.name, "candidate": new.name})
    yield
    database.wait_until_it_takes_writes()
    yield
    database.wait_until_whole()


def kill_postgresql(cluster: Cluster) -> Generator[None]:
    """PostgreSQL alone dies; Patroni starts it again, or has another one follow."""
    cluster.database.primary().kill_postgresql()
    yield
    cluster.database.wait_until_it_takes_writes()
    yield
    cluster.database.wait_until_whole()


def kill_primary(cluster: Cluster) -> Generator[None]:
    """The host of the primary is gone, and comes back later as a standby."""
    old = cluster.database.primary()
    old.kill()
    yield
    wait_until(lambda: _follows(cluster, old), "a new primary")
    yield
    old.start()
    cluster.database.wait_until_whole()


def cut_off_from_etcd(cluster: Cluster) -> Generator[None]:
    """The primary cannot show that it is the primary any more, and steps down; clients still reach it."""
    old = cluster.database.primary()
    with old.host.cut_off_from(cluster.database.etcd_host):
        yield
        wait_until(lambda: _follows(cluster, old), "a new primary")
        yield
    cluster.database.wait_until_whole()


def cut_off_from_all(cluster: Cluster) -> Generator[None]:
    """The primary is alone, and what was under way at it has no end."""
    old, database = cluster.database.primary(), cluster.database
    others = [each.host for each in database.others(old)]
    with old.host.cut_off_from(database.etcd_host, database.proxy_host, *others):
        yield
        wait_until(lambda: _follows(cluster, old), "a new primary")
        yield
    database.wait_until_whole()


def pause_primary(cluster: Cluster) -> Generator[None]:
    """The primary stands still until another one follows, and then goes on as if it were still the primary."""
    old = cluster.database.primary()
    old.signal(signal.SIGSTOP)
    yield
    wait_until(lambda: _follows(cluster, old), "a new primary")
    old.signal(signal.SIGCONT)
    yield
    cluster.database.wait_until_whole()


def lagging_standby_takes_over(cluster: Cluster) -> Generator[None]:
    """The standby has what was acknowledged, but has not replayed it when the primary dies."""
    database = cluster.database
    standby = database.standby()
    standby.sql("SELECT pg_wal_replay_pause()")
    time.sleep(2)
    yield from kill_primary(cluster)


def slow_standby(cluster: Cluster) -> Generator[None]:
    """Little gets through to the synchronous standby, so every write waits for it."""
    with cluster.database.standby().host.slowed(_SLOW):
        yield
    yield
    cluster.database.wait_until_whole()


def pause_standby(cluster: Cluster) -> Generator[None]:
    """The synchronous standby stands still; Patroni takes the other one instead."""
    standby = cluster.database.standby()
    standby.signal(signal.SIGSTOP)
    yield
    cluster.database.wait_until_it_takes_writes()
    yield
    standby.signal(signal.SIGCONT)
    cluster.database.wait_until_whole()


def no_standby(cluster: Cluster) -> Generator[None]:
    """No standby is left, and nothing may be acknowledged that only one host has."""
    database = cluster.database
    gone = database.others(database.primary())
    for member in gone:
        member.kill()
    yield
    for member in gone:
        member.start()
    database.wait_until_it_takes_writes()
    yield
    database.wait_until_whole()


def no_etcd(cluster: Cluster) -> Generator[None]:
    """Nobody can show that they are the primary, so nobody is."""
    with cluster.database.without(cluster.database.etcd):
        yield
    cluster.database.wait_until_it_takes_writes()
    yield
    cluster.database.wait_until_whole()


def no_haproxy(cluster: Cluster) -> Generator[None]:
    with cluster.database.without(cluster.database.haproxy):
        yield
    cluster.database.wait_until_it_takes_writes()
    yield


def no_pgbouncer(cluster: Cluster) -> Generator[None]:
    """Every connection of the service ends, and no new one is taken; the primary is well."""
    with cluster.database.without(cluster.database.pgbouncer):
        yield
    yield


def restart_pgbouncer(cluster: Cluster) -> Generator[None]:
    """It lets the transactions under way end, as for an upgrade, and then ends every connection."""
    pooler = cluster.database.pgbouncer
    pooler.signal(signal.SIGINT)
    pooler.reap()
    yield
    pooler.start()
    yield


def no_envoy(cluster: Cluster) -> Generator[None]:
    cluster.site.kill_envoy()
    yield
    cluster.site.start_envoy()
    yield


def kill_host(number: int) -> Fault[Cluster]:
    """A host of the service is gone, and is started again."""

    def do(cluster: Cluster) -> Generator[None]:
        service = cluster.site.services[number - 1]
        service.kill()
        yield
        service.start()
        cluster.site.wait_until_ready(number)
        yield

    return Fault(name=f"kill -9 of service host {number}", do=do, sees="no answer from that host; the others answer")


def pause_host(cluster: Cluster) -> Generator[None]:
    """A host of the service stands still, with locks and transactions that it has begun."""
    service = cluster.site.services[0]
    service.signal(signal.SIGSTOP)
    yield
    service.signal(signal.SIGCONT)
    yield


def host_cut_off(cluster: Cluster) -> Generator[None]:
    """A host of the service does not reach the database; clients still reach the host."""
    with cluster.site.hosts[HOSTS - 1].cut_off_from(cluster.database.proxy_host):
        yield
    yield


FAULTS: tuple[Fault[Cluster], ...] = (
    Fault(name="switchover", do=switchover, sees=_REFUSED),
    Fault(name="kill -9 of PostgreSQL on the primary", do=kill_postgresql, sees=_REFUSED),
    Fault(name="kill -9 of the primary's host", do=kill_primary, sees=_REFUSED),
    Fault(name="primary cut off from etcd", do=cut_off_from_etcd, sees=_REFUSED, needs_network=True),
    Fault(name="primary cut off from all", do=cut_off_from_all, sees=_REFUSED, needs_network=True),
    Fault(name="primary paused (SIGSTOP), back after the failover", do=pause_primary, sees=_REFUSED),
    Fault(name="standby that replays late takes over", do=lagging_standby_takes_over, sees=_REFUSED),
    Fault(
        name=f"network of the synchronous standby at {_SLOW}/s",
        do=slow_standby,
        sees="slow answers, or UNAVAILABLE",
        needs_network=True,
        hold=_PAUSE_SECONDS,
    ),
    Fault(
        name="synchronous standby paused (SIGSTOP)",
        do=pause_standby,
        sees="UNAVAILABLE until Patroni takes another standby",
    ),
    Fault(
        name="no standby (strict)",
        do=no_standby,
        sees="UNAVAILABLE: a write waits for a standby",
        hold=_PAUSE_SECONDS,
    ),
    Fault(name="etcd gone", do=no_etcd, sees="UNAVAILABLE once the primary has stepped down", hold=_PAUSE_SECONDS),
    Fault(name="HAProxy killed", do=no_haproxy, sees="UNAVAILABLE"),
    Fault(name="PgBouncer killed", do=no_pgbouncer, sees="UNAVAILABLE"),
    Fault(name="PgBouncer restarted", do=restart_pgbouncer, sees="UNAVAILABLE for a moment", hold=0.5),
    Fault(name="Envoy killed", do=no_envoy, sees="no answer over REST; gRPC goes on"),
    *(kill_host(number) for number in range(1, HOSTS + 1)),
    Fault(name="service host paused (SIGSTOP)", do=pause_host, sees="no answer from that host; the others answer"),
    Fault(
        name="service host cut off from the database",
        do=host_cut_off,
        sees="UNAVAILABLE from that host; the others answer",
        needs_network=True,
        hold=_PAUSE_SECONDS,
    ),
)
SHORT = ("switchover", "kill -9 of PostgreSQL on the primary")
"""What `make test` does of it."""
