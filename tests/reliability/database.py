"""PostgreSQL as teams have it: members under Patroni and etcd, behind HAProxy and PgBouncer."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import psycopg
import yaml

from tests.reliability.network import Host, Network
from tests.reliability.packages import binaries, program
from tests.reliability.program import Program, owned_by, send, tree, wait_until

MEMBERS = 3
PATRONI_SECONDS = {"ttl": 20, "loop_wait": 1, "retry_timeout": 3}
"""Patroni's own times: a primary that vanished without a word is followed after `ttl`, which is 20 at least."""
_USER = "postgres"
_HAPROXY = """
global
  maxconn 2000
defaults
  mode tcp
  timeout connect 1s
  timeout check 1s
  timeout client 1h
  timeout server 1h
listen primary
  bind {address}:5000
  option httpchk OPTIONS /primary
  http-check expect status 200
  default-server inter 500ms fastinter 200ms fall 2 rise 1 on-marked-down shutdown-sessions
"""
_PGBOUNCER = """
[databases]
* = host={address} port=5000 user={user}
[pgbouncer]
listen_addr = {address}
listen_port = 6432
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_client_conn = 500
default_pool_size = 40
server_login_retry = 1
server_connect_timeout = 2
query_wait_timeout = 4
"""


class Member:
    """One PostgreSQL and the Patroni that cares for it."""

    def __init__(self, host: Host, directory: Path, config: Path, log: Path) -> None:
        self.host = host
        self._data = directory / "data"
        self._patroni = Program([program("patroni"), config], host=host, log=log, user=_USER)

    @property
    def name(self) -> str:
        return self.host.name

    def start(self) -> None:
        self._patroni.start()

    def kill(self) -> None:
        """Kills all of it at once, as where the host is gone."""
        self.signal(signal.SIGKILL)
        self._patroni.reap()
        wait_until(lambda: not tree(self._postmaster()), f"the end of {self.name}")

    def kill_postgresql(self) -> None:
        """Kills PostgreSQL alone; Patroni lives."""
        send(tree(self._postmaster()), signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to Patroni and PostgreSQL; Patroni first, so that it does nothing about it."""
        self._patroni.signal(number)
        send(tree(self._postmaster()), number)

    def asked(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Returns what Patroni answers on its port. Raises OSError where it does not."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.host.address}:8008{path}", data=content)
        with urllib.request.urlopen(request, timeout=2 if body is None else 30) as answer:
            text = answer.read()
        return json.loads(text) if body is None else text.decode()

    def sql(self, statement: str) -> Any:
        """Runs a statement on this member, whatever its role. Returns the first row, if there is one."""
        with psycopg.connect(
            host=self.host.address, user=_USER, dbname="postgres", autocommit=True, connect_timeout=2
        ) as connection:
            answer = connection.execute(statement)
            return answer.fetchone() if answer.description else None

    def _postmaster(self) -> int:
        try:
            return int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return -1


class Database:
    """The members with all that is around them.

    `url` is the service's way to the primary, through PgBouncer and HAProxy; `writable_url` leaves PgBouncer out.
    """

    def __init__(self, network: Network, directory: Path, logs: Path) -> None:
        self._directory = directory
        self._logs = logs
        self.etcd_host = network.host("etcd", 10)
        self.proxy_host = network.host("proxy", 20)
        self.etcd = self._etcd()
        self.members = [self._member(network.host(f"pg-{number}", 10 + number)) for number in range(1, MEMBERS + 1)]
        self.haproxy = self._haproxy()
        self.pgbouncer = self._pgbouncer()
        self.url = f"postgresql://{_USER}@{self.proxy_host.address}:6432/jit"
        self.writable_url = f"postgresql://{_USER}@{self.proxy_host.address}:5000/jit"
        self.direct = f"host={self.proxy_host.address} port=5000 user={_USER} dbname=postgres connect_timeout=1"

    def start(self) -> None:
        """Starts all of it, and returns when a database is there and every standby follows."""
        self.etcd.start()
        for member in self.members:
            member.start()
        self.haproxy.start()
        self.pgbouncer.start()
        self.wait_until_whole(seconds=120)
        self.primary().sql("CREATE DATABASE jit")
        self.primary().sql("CREATE TABLE probe (number int); INSERT INTO probe VALUES (0)")

    def cluster(self) -> dict[str, dict[str, Any]]:
        """Returns what Patroni says of each member, asked of whoever answers."""
        return self.cluster_of(self.members)

    def cluster_of(self, members: Sequence[Member]) -> dict[str, dict[str, Any]]:
        """Returns what the first of these members that answers says of each member."""
        for member in members:
            with suppress(OSError, HTTPException, ValueError):
                return {each["name"]: each for each in member.asked("/cluster")["members"]}
        return {}

    def primary(self) -> Member:
        """Returns the primary, once there is one."""
        wait_until(self._primary, "a primary")
        found = self._primary()
        assert found is not None
        return found

    def _primary(self) -> Member | None:
        known = self.cluster()
        for member in self.members:
            about = known.get(member.name, {})
            if about.get("role") == "leader" and about.get("state") == "running":
                return member
        return None

    def standby(self) -> Member:
        """Returns the synchronous standby."""
        wait_until(self._standby, "a synchronous standby")
        found = self._standby()
        assert found is not None
        return found

    def _standby(self) -> Member | None:
        known = self.cluster()
        return next((each for each in self.members if known.get(each.name, {}).get("role") == "sync_standby"), None)

    def others(self, than: Member) -> list[Member]:
        return [member for member in self.members if member is not than]

    def takes_writes(self) -> bool:
        """Whether there is a primary behind HAProxy that takes a write, and a synchronous standby that follows it."""
        try:
            with psycopg.connect(self.direct, autocommit=True, options="-c statement_timeout=1000") as connection:
                connection.execute("SET lock_timeout = 500")
                # To wait for a standby has no timeout, and the probe must end.
                connection.execute("SET synchronous_commit = local")
                waiting = connection.execute(
                    "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'"
                ).fetchone()
                if not waiting or not waiting[0]:
                    return False
                connection.execute("UPDATE probe SET number = number + 1")
                return True
        except psycopg.Error:
            return False

    def wait_until_it_takes_writes(self) -> None:
        wait_until(self.takes_writes, "a primary that takes writes")

    def wait_until_whole(self, *, seconds: float = 90) -> None:
        """Waits until there is a primary, and every other member follows, one of them synchronously."""

        def is_whole() -> bool:
            known = self.cluster()
            roles = sorted(each["role"] for each in known.values() if each["state"] in ("running", "streaming"))
            return roles == ["leader", *["replica"] * (MEMBERS - 2), "sync_standby"] and self._follows(known)

        wait_until(is_whole, "a whole cluster", seconds=seconds)

    def _follows(self, known: dict[str, dict[str, Any]]) -> bool:
        leader = next(each for each in known.values() if each["role"] == "leader")
        return all(each.get("timeline") == leader["timeline"] for each in known.values())

    def close(self) -> None:
        """Kills all of it."""
        for each in (self.pgbouncer, self.haproxy, self.etcd):
            each.kill()
        for member in self.members:
            member.kill()

    @contextmanager
    def without(self, each: Program) -> Iterator[None]:
        """Kills a program, and starts it again after the block."""
        each.kill()
        try:
            yield
        finally:
            each.start()

    def _etcd(self) -> Program:
        address, directory = self.etcd_host.address, owned_by(_USER, self._directory / "etcd")
        client, peer = f"http://{address}:2379", f"http://{address}:2380"
        command: list[str | Path] = [
            program("etcd"),
            "--name",
            "etcd",
            "--data-dir",
            directory / "data",
            "--log-level",
            "warn",
        ]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
        command += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"etcd={peer}"]
        return Program(command, host=self.etcd_host, log=self._logs / "etcd.log", user=_USER)

    def _member(self, host: Host) -> Member:
        directory = owned_by(_USER, self._directory / host.name)
        config = directory / "patroni.yaml"
        config.write_text(yaml.safe_dump(self._patroni(host, directory)))
        config.chmod(0o644)
        return Member(host, directory, config, self._logs / f"{host.name}.log")

    def _patroni(self, host: Host, directory: Path) -> dict[str, Any]:
        network = host.address.rpartition(".")[0] + ".0/24"
        return {
            "scope": "jit",
            "name": host.name,
            "restapi": {"listen": f"{host.address}:8008", "connect_address": f"{host.address}:8008"},
            "etcd3": {"host": f"{self.etcd_host.address}:2379"},
            "bootstrap": {
                "dcs": PATRONI_SECONDS
                | {
                    "synchronous_mode": True,
                    # Without a standby that has it, nothing is acknowledged.
                    "synchronous_mode_strict": True,
                    "maximum_lag_on_failover": 1 << 20,
                    "postgresql": {"use_pg_rewind": True, "parameters": _PARAMETERS},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums"],
            },
            "postgresql": {
                "listen": f"{host.address}:5432",
                "connect_address": f"{host.address}:5432",
                "data_dir": str(directory / "data"),
                "bin_dir": str(binaries()),
                "pgpass": str(directory / "pgpass"),
                "authentication": {
                    "superuser": {"username": _USER},
                    "replication": {"username": _USER},
                    "rewind": {"username": _USER},
                },
                "parameters": {"unix_socket_directories": str(directory)},
                # Nobody else reaches the run's network.
                "pg_hba": [f"{kind} all {network} trust" for kind in ("host all", "host replication")]
                + ["local all all trust"],
            },
        }

    def _haproxy(self) -> Program:
        servers = "".join(
            f"  server {each.name} {each.host.address}:5432 maxconn 500 check port 8008\n" for each in self.members
        )
        path = self._directory / "haproxy.cfg"
        path.write_text(_HAPROXY.format(address=self.proxy_host.address) + servers)
        return Program(
            [program("haproxy"), "-db", "-f", path], host=self.proxy_host, log=self._logs / "haproxy.log", user=_USER
        )

    def _pgbouncer(self) -> Program:
        path = self._directory / "pgbouncer.ini"
        path.write_text(_PGBOUNCER.format(address=self.proxy_host.address, user=_USER))
        return Program([program("pgbouncer"), path], host=self.proxy_host, log=self._logs / "pgbouncer.log", user=_USER)


_PARAMETERS = {
    "max_connections": 200,
    "shared_buffers": "64MB",
    # A peer that vanished counts as gone after that; the defaults are a minute.
    "wal_sender_timeout": "3s",
    "wal_receiver_timeout": "3s",
    "tcp_user_timeout": "3s",
}


def versions() -> dict[str, str]:
    """Returns the versions of what a cluster is made of."""
    found = {}
    for name, command in {
        "postgresql": [f"{binaries()}/postgres", "--version"],
        "patroni": [program("patroni"), "--version"],
        "etcd": [program("etcd"), "--version"],
        "haproxy": [program("haproxy"), "-v"],
        "pgbouncer": [program("pgbouncer"), "--version"],
    }.items():
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\n")[0]
        found[name] = next((word for word in said.split() if word[0].isdigit()), said)
    return found
