"""Several workers over one store, as real processes: replaced when they die, and linearizable together (I2)."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from jit_service.runtime import workers
from jit_service.runtime.service import ServiceError, passing_socket
from jit_service.runtime.workers import Workers
from jit_service.settings import Address, Settings
from jit_service.storage.migrate import migrate
from jitaccess import JitClient
from tests import prepared
from tests.conftest import copy_of
from tests.faults import test_calls
from tests.faults.history import Recorder, violations
from tests.protected import HOST, UPLOAD, Exchange, running_gate
from tests.test_commands import ANY, failing, running, token, up

ALICE = "user:alice@example.com"
SOON = 30
REPLACED = 90
"""Seconds for a new worker on a busy machine: it loads everything, after a pause that grows with each that ended."""
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "policies.yaml"
PROTECTED = ROOT / "envoy" / "examples" / "protect" / "policies.yaml"
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="SO_REUSEPORT spreads on Linux alone")


@dataclass
class Running:
    """A service with several workers."""

    process: prepared.Started
    data_dir: Path
    grpc: str
    http: str

    def workers(self) -> dict[int, int]:
        """Returns the process of each worker that listens, by its socket's number."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess):  # it may die while it is looked at
                if "worker" in child.cmdline():
                    sockets = [each.laddr for each in child.net_connections("unix")]
                    found |= {number: child.pid for number in range(8) if str(self.socket(number)) in sockets}
        return found

    def socket(self, number: int) -> Path:
        return self.data_dir / f"grpc-{number}.sock"

    @property
    def each_gets_calls(self) -> bool:
        """Whether Envoy sends calls to each worker. One that was gone waits a second for its next ones."""
        commands = [child.cmdline() for child in psutil.Process(self.process.pid).children()]
        (envoy,) = [words for words in commands if "--config-yaml" in words]
        admin = json.loads(envoy[envoy.index("--config-yaml") + 1])["admin"]["address"]["pipe"]["path"]
        with httpx.Client(transport=httpx.HTTPTransport(uds=admin), base_url="http://envoy") as client:
            clusters = client.get("/clusters", params={"format": "json"}).json()["cluster_statuses"]
        hosts = [host for each in clusters if each["name"].startswith("jit_service") for host in each["host_statuses"]]
        return [host["health_status"] for host in hosts] == [{"eds_health_status": "HEALTHY"}] * 4

    def client(self, name: str, worker: int) -> JitClient:
        """Returns a client of this one worker."""
        return JitClient(f"unix:{self.socket(worker)}", token=token(self.data_dir, name))

    def status(self, path: str) -> int:
        address = self.http.removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=10)
        try:
            connection.request("GET", path, headers={"authorization": f"Bearer {token(self.data_dir, 'alice')}"})
            return connection.getresponse().status
        finally:
            connection.close()


Shared = Callable[..., Running]


eventually = partial(test_calls.eventually, seconds=REPLACED)


@contextmanager
def several(directory: Path, transport: str, *arguments: str) -> Iterator[Running]:
    with up(directory, "--workers", "2", "--transport", transport, *arguments) as (process, ready):
        yield Running(process, directory, ready["grpc"], ready["http"])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Shared]:
    """One service with two workers for each transport and database, with the policies of what Envoy protects too.

    A test may end a worker: it is replaced, and the next test gets the service when both serve again.
    """
    policies = tmp_path_factory.mktemp("policies") / "policies.yaml"
    policies.write_text(EXAMPLES.read_text() + PROTECTED.read_text().partition("policies:\n")[2])
    with ExitStack() as stack:

        @cache
        def started(transport: str, database: str) -> Running:
            directory = tmp_path_factory.mktemp("w")
            arguments = ["--policies", str(policies)]
            if database == "postgresql":
                template = request.getfixturevalue("postgresql_server").format("template")
                arguments += ["--database-url", stack.enter_context(copy_of(template, directory))]
            return stack.enter_context(several(directory, transport, *arguments))

        def shared(transport: str, database: str = "sqlite") -> Running:
            service = started(transport, database)
            assert eventually(lambda: set(service.workers()) == {0, 1})
            return service

        yield shared


def test_they_share_the_port_and_each_serves(tmp_path: Path, transport: str) -> None:
    with several(tmp_path, transport) as service:
        assert set(service.workers()) == {0, 1}
        for number in (0, 1):
            with service.client("alice", number) as client:
                assert client.request([f"database/orders/{number}"], ["read"]).state == "ACTIVE"
        with JitClient(service.grpc, token=token(tmp_path, "auditor")) as client:
            assert client.verify_audit_log().valid
        pids = service.workers().values()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=SOON) == 0
        assert not any(psutil.pid_exists(pid) for pid in pids)


def test_one_that_is_killed_is_replaced_while_the_other_serves(shared: Shared, transport: str) -> None:
    service = shared(transport)
    # The other is one that serves in Envoy's eyes too: the test before this one may have ended it.
    assert eventually(lambda: service.each_gets_calls)
    with service.client("alice", 0) as client:
        grant = client.request(["database/orders/eu"], ["read"])
    before = service.workers()

    os.kill(before[0], signal.SIGKILL)
    statuses = [(service.status("/healthz"), service.status("/v1/grants")) for _ in range(20)]

    # A call that the dead one had begun may be lost; the others are answered by the one that lives.
    assert sum(status == (200, 200) for status in statuses) >= 18, statuses
    assert eventually(lambda: set(service.workers()) == {0, 1})
    after = service.workers()
    assert after[1] == before[1]
    assert after[0] != before[0]
    with service.client("gateway", 0) as client:
        assert client.check(ALICE, "read", "database/orders/eu").grant == grant.name


def test_none_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    with several(tmp_path, "native") as service:
        pids = list(service.workers().values())

        service.process.kill()

        psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=SOON)
        assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_each_expiry_is_recorded_once(shared: Shared, database: str) -> None:
    """Every worker has a recorder of expiries, and they do not get into each other's way."""
    service = shared("grpcio", database)
    with service.client("alice", 0) as alice:
        from datetime import timedelta

        names = [
            alice.request([f"database/orders/{number}"], ["read"], duration=timedelta(milliseconds=1)).name
            for number in range(10)
        ]
        with service.client("auditor", 1) as auditor:

            def recorded() -> list[str]:
                expired = auditor.list_audit_events(filter="event_type = GRANT_EXPIRED")
                return [event.grant for event in expired if event.grant in names]

            assert eventually(lambda: len(recorded()) >= len(names))
            time.sleep(1.5)
            assert sorted(recorded()) == sorted(names)
            assert auditor.verify_audit_log().valid


Check = Callable[[str], bool]


class Clients:
    """Drivers that give access and take it away, and readers; each says on which worker, and all is taken down."""

    def __init__(
        self, service: Running, recorder: Recorder, stack: ExitStack, cached: Callable[[Check], Check]
    ) -> None:
        def client(name: str, worker: int) -> JitClient:
            return stack.enter_context(service.client(name, worker))

        self.recorder = recorder
        self.alices = [client("alice", worker) for worker in (0, 1)]
        self.admins = [client("admin", worker) for worker in (0, 1)]
        self.checks = [cached(asking(client("gateway", worker))) for worker in (0, 1)]
        self.current = ["", ""]
        self.stopping = False

    def read(self, resource: str, worker: int) -> None:
        self.recorder.read(resource, lambda: self.checks[worker](resource), by=f"a reader of worker {worker}")

    def give_and_take(self, resource: str, worker: int) -> None:
        """Asks on every worker right after each ack, so that a stale answer has no time to become right."""
        other, by = 1 - worker, f"the driver on worker {worker}"
        grant = self.recorder.write(resource, True, lambda: self.alices[worker].request([resource], ["read"]), by=by)
        self.read(resource, other)
        self.read(resource, worker)
        by = f"the driver on worker {other}"
        self.recorder.write(resource, False, lambda: self.admins[other].revoke(grant.name, comment="over"), by=by)
        self.read(resource, worker)
        self.read(resource, other)

    def drive(self, driver: int, rounds: int) -> None:
        for number in range(rounds):
            self.current[driver] = f"database/orders/{driver}-{number}"
            self.give_and_take(self.current[driver], (driver + number) % 2)

    def watch(self, number: int) -> None:
        for driver in cycle((0, 1)):
            if self.stopping:
                return
            if resource := self.current[driver]:
                self.read(resource, number % 2)


def asking(gateway: JitClient) -> Check:
    return lambda resource: bool(gateway.check(ALICE, "read", resource))


def linearizability(service: Running, cached: Callable[[Check], Check], *, rounds: int) -> Recorder:
    """Two drivers and two readers on two workers, for a number of rounds. Returns their history."""
    recorder = Recorder()
    with ExitStack() as stack:
        clients = Clients(service, recorder, stack, cached)
        with ThreadPoolExecutor(4) as pool:
            readers = [pool.submit(clients.watch, number) for number in (0, 1)]
            drivers = [pool.submit(clients.drive, number, rounds) for number in (0, 1)]
            try:
                for driver in drivers:
                    driver.result()
            finally:
                clients.stopping = True
            for reader in readers:
                reader.result()
    return recorder


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_after_the_ack_of_a_revoke_no_worker_allows(shared: Shared, transport: str, database: str) -> None:
    service = shared(transport, database)
    recorder = linearizability(service, lambda check: check, rounds=6)
    with service.client("auditor", 0) as auditor:
        assert auditor.verify_audit_log().valid

    assert len(recorder.operations) >= 2 * 6 * 6
    assert not "\n".join(map(str, violations(recorder.operations)))


def test_a_twin_that_remembers_answers_is_caught(shared: Shared) -> None:
    """The same run with a memory of half a second before Check, and no barrier: its stale answers must be found."""

    def remembering(check: Check) -> Check:
        known: dict[str, tuple[float, bool]] = {}

        def ask(resource: str) -> bool:
            at, answer = known.get(resource, (0.0, False))
            if time.monotonic() - at > 0.5:
                answer = check(resource)
                known[resource] = (time.monotonic(), answer)
            return answer

        return ask

    recorder = linearizability(shared("grpcio"), remembering, rounds=3)

    assert violations(recorder.operations)


def settings_of(directory: Path, **changes: Any) -> Settings:
    issuers = [{"issuer": "i", "audience": "a", "jwks_file": str(directory / "jwks.json")}]
    usual = {"data_dir": directory, "grpc": Address("127.0.0.1", 0), "workers": 2, "issuers": issuers}
    return Settings.load(**(usual | changes))


def test_a_worker_that_cannot_start_is_said_why(tmp_path: Path) -> None:
    started = Workers(settings_of(tmp_path, workers=1))

    with pytest.raises(ServiceError, match="jit-service migrate"):
        started.start()

    started.stop()


def test_a_port_that_others_have_is_refused_though_it_could_be_shared(tmp_path: Path, shared: Shared) -> None:
    service = shared("grpcio")

    line = failing("up", "--dev", "--data-dir", str(tmp_path), "--grpc", service.grpc, "--workers", "2")

    assert service.grpc in line


def test_so_is_one_for_what_passes(tmp_path: Path) -> None:
    with socket.socket() as of_others:
        of_others.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        of_others.bind(("127.0.0.1", 0))
        of_others.listen()
        address = Address(*of_others.getsockname())

        with pytest.raises(ServiceError, match=f"cannot listen on {address}"):
            Workers(settings_of(tmp_path, passing=address))


def test_one_that_does_not_last_is_started_again_ever_later(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, workers=1)
    migrate(settings.store_url)
    started = Workers(settings)
    started.start()
    slot, now, pauses = started._slots[0], time.monotonic(), []
    for _ in range(3):
        assert slot._run is not None
        slot._run.process.kill()
        slot._run.process.wait()
        slot.tend(now)
        pauses.append(slot._due_at - now)
        slot.tend(slot._due_at - 0.001)
        assert slot.has_ended
        now = slot._due_at
        slot.tend(now)
        assert not slot.has_ended
    started.stop()

    assert pauses == pytest.approx([0.1, 0.2, 0.4])


def test_without_any_that_serves_the_service_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path)
    migrate(settings.store_url)
    started = Workers(settings)
    started.start()
    for slot in started._slots:
        assert slot._run is not None
        slot._run.process.kill()
        slot._run.process.wait()
    started.tend()
    monkeypatch.setattr(workers, "START_SECONDS", -1.0)

    with pytest.raises(ServiceError, match="no worker has served"):
        started.tend()

    started.stop()


def test_serve_has_workers_too(tmp_path: Path) -> None:
    issuers = json.dumps([{"issuer": "i", "audience": "a", "jwks_file": str(tmp_path / "jwks.json")}])
    environment = {"JIT_ISSUERS": issuers, "JIT_WORKERS": "2", "JIT_TRANSPORT": "native"}
    migrate(f"sqlite:///{tmp_path / 'jit.db'}")

    with running("serve", "--data-dir", str(tmp_path), "--grpc", ANY, environment=environment) as (process, ready):
        assert len(psutil.Process(process.pid).children()) == 2
        assert not ready["grpc"].endswith(":0")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=SOON) == 0


@contextmanager
def running_upload(service: Running, directory: Path) -> Iterator[tuple[Exchange, str]]:
    """Yields what passed by a grant of alice's at worker 0 and is watched by worker 1, and the grant's name."""
    with service.client("alice", 0) as alice, service.client("bob", 0) as bob:
        grant = alice.request([f"http/{HOST}/refunds"], ["http.post"], justification="order 4711")
        bob.approve(grant.name)
    edits = {"resource: payments/refunds": f"resource: http/{HOST}/refunds", "refunds.{method}": "http.{method}"}
    passing = passing_socket(service.socket(1))
    with running_gate(service.socket(0), directory, passing=passing, edits=edits) as gate:
        exchange = Exchange(gate, "/refunds", token(service.data_dir, "alice"), UPLOAD)
        exchange.wait_until_it_runs()
        yield exchange, grant.name
        exchange.leave()


def test_a_revocation_at_one_cuts_what_another_watches(tmp_path: Path, shared: Shared, transport: str) -> None:
    service = shared(transport)
    with running_upload(service, tmp_path) as (exchange, grant):
        time.sleep(0.5)
        assert exchange.runs

        with service.client("bob", 0) as bob:
            bob.revoke(grant, comment="over")

        exchange.wait_until_cut(SOON)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_what_one_watches_is_cut_when_that_one_is_no_more(
    tmp_path: Path, shared: Shared, transport: str, how: signal.Signals
) -> None:
    service = shared(transport)
    with running_upload(service, tmp_path) as (exchange, _):
        watching = service.workers()[1]
        os.kill(watching, how)

        exchange.wait_until_cut(SOON)
        with suppress(ProcessLookupError):
            os.kill(watching, signal.SIGCONT)
