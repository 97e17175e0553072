"""`make rolling`: hosts behind one Envoy are restarted one after the other under load, and no call fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import yaml

from jit_service.runtime.dev_issuer import DevIssuer
from jit_service.runtime.envoy import Envoy, Rates, render
from jit_service.runtime.service import utc_now
from jit_service.settings import Address, Settings
from jit_service.storage.migrate import migrate
from jitaccess import JitClient, JitError, Retry, View
from tests import prepared
from tests.reliability import results
from tests.reliability.program import wait_until
from tests.soak.clients import RestClient
from tests.soak.people import AUDITOR, GATEWAY, requester, write_policies
from tests.soak.place import REST
from tests.soak.run import read_store, running_database
from tests.world import Person

HOSTS, CALLERS = 3, 64
DRAIN_DELAY = "10s"
"""As deploy/ has it."""
_FAR_ABOVE = Rates(total=100_000, per_address=100_000)
_ENVOY_SECONDS = 60.0
_PATIENCE_SECONDS = 60.0
_STEADY_CALLS = 20
_STEADY_SECONDS = 300.0
# A slow answer is an answer; Envoy itself waits for one no longer.
_CALL_SECONDS = 15.0


class Behind:
    """Hosts of the service on one store behind one Envoy: what its callers know of it. They all call Envoy.

    Only the main thread may start it: the kernel ends Envoy with that.
    """

    def __init__(self, directory: Path, database_url: str, *, hosts: int, transport: str = "grpcio") -> None:
        self.stopping = threading.Event()
        self.settings = Settings.load(data_dir=directory / "d", database_url=database_url)
        self.settings.data_dir.mkdir(mode=0o700, parents=True)
        self.issuer = DevIssuer(self.settings.data_dir)
        policies = write_policies(directory / "policies.yaml")
        environment = {
            **os.environ,
            # What is on a command line, everybody on the machine can read.
            "JIT_DATABASE_URL": self.settings.store_url,
            "JIT_ISSUERS": json.dumps([self.issuer.issuer().model_dump(mode="json")]),
            "JIT_TOKEN_ISSUER": "https://jit.example.com",
            "JIT_DRAIN_DELAY": DRAIN_DELAY,
            "JIT_TRANSPORT": transport,
            "JIT_POLICIES": str(policies),
        }
        addresses = [Address("127.0.0.1", _free_port()) for _ in range(hosts)]
        self.hosts = [
            RestartedHost(each, self.settings.data_dir, directory / f"host-{number}.log", environment)
            for number, each in enumerate(addresses, start=1)
        ]
        self._directory = directory
        self._envoy: Envoy | None = None
        self.http = self.grpc = Address("127.0.0.1", 0)

    def start(self, *, health_interval: str = "") -> None:
        """Brings the database up to date and starts all of it. Envoy asks for health as shipped, or that often."""
        migrate(self.settings.store_url)
        for host in self.hosts:
            host.start()
        upstream = [host.address for host in self.hosts]
        config = render(http=self.http, upstream=upstream, directory=self._directory, rates=_FAR_ABOVE)
        if health_interval:
            _ask_each(config, health_interval)
        self._envoy = Envoy(config, directory=self._directory)
        self.http = self.grpc = self._envoy.start(timeout=_ENVOY_SECONDS)

    def close(self) -> None:
        """Ends all of it."""
        self.stopping.set()
        if self._envoy is not None:
            self._envoy.stop()
        for host in self.hosts:
            host.kill()

    def restart(self, host: RestartedHost, *, more_calls: Callable[[], None] | None = None) -> int:
        """Restarts a host as an operator does, under calls, and returns its exit code once it gets calls again.

        With `more_calls`, which waits for some more of them, the delay is cut short as soon as none reach the host.
        Envoy's threads learn of a host's health up to a second after it is known, since Envoy gathers such news.
        """
        self._await_call(host)
        host.signal(signal.SIGTERM)
        wait_until(lambda: not self._is_healthy(host), "Envoy's word that the host drains")
        if more_calls is not None:
            sent = None
            while (now := self._calls_to(host)) != sent:
                sent = now
                more_calls()
            host.signal(signal.SIGTERM)
        code = host.ended()
        host.start()
        self._await_call(host)
        return code

    @property
    def ways(self) -> tuple[str, ...]:
        return "gRPC", REST

    def address_of(self, way: str) -> str:  # noqa: ARG002 (all ways lead through Envoy)
        return str(self.http)

    def token(self, person: Person) -> str:
        """Returns a token that is valid for a day."""
        return self.issuer.token(person.principal, groups=person.groups, roles=person.roles, now=utc_now())

    def _await_call(self, host: RestartedHost) -> None:
        before = self._calls_to(host)
        wait_until(lambda: self._calls_to(host) > before, "a call for the host")

    def _is_healthy(self, host: RestartedHost) -> bool:
        return bool(self._status_of(host)["health_status"] == {"eds_health_status": "HEALTHY"})

    def _calls_to(self, host: RestartedHost) -> int:
        """Returns how many calls Envoy has sent to the host."""
        return next(int(each.get("value", 0)) for each in self._status_of(host)["stats"] if each["name"] == "rq_total")

    def _status_of(self, host: RestartedHost) -> dict[str, Any]:
        """Returns what Envoy knows of the host."""
        assert self._envoy is not None
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self._envoy._admin)), base_url="http://envoy") as admin:
            clusters = admin.get("/clusters", params={"format": "json"}).json()["cluster_statuses"]
        (statuses,) = [each["host_statuses"] for each in clusters if each["name"] == "jit_service"]
        (found,) = [each for each in statuses if each["address"]["socket_address"]["port_value"] == host.address.port]
        return dict(found)


class RestartedHost:
    """One host: `jit-service serve` at the same address after each start."""

    def __init__(self, address: Address, data_dir: Path, log: Path, environment: dict[str, str]) -> None:
        self.address = address
        self._data_dir = data_dir
        self._log = log
        self._environment = environment
        self._process: prepared.Started | None = None

    def start(self) -> None:
        """Starts it, and returns when it serves."""
        arguments = ["serve", "--data-dir", str(self._data_dir), "--grpc", str(self.address)]
        self._process = prepared.start("jit-service", *arguments, env=self._environment)
        # Its log goes on for as long as it does; a pipe that nobody reads would stop it.
        threading.Thread(target=self._take_log, args=(self._process,), daemon=True).start()
        if not self._process.stdout.readline():
            raise RuntimeError(f"the service did not start; its log is {self._log}")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def ended(self) -> int:
        """Waits for its end, and returns its exit code."""
        assert self._process is not None
        return self._process.wait(_PATIENCE_SECONDS)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(_PATIENCE_SECONDS)

    def _take_log(self, process: prepared.Started) -> None:
        with self._log.open("a") as log:
            shutil.copyfileobj(process.stderr, log)


@dataclass
class Heard:
    """What callers and watchers were told. A list or a counter takes what any thread adds."""

    calls: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    watched: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def count(self) -> int:
        """How many calls were answered."""
        return self.calls.total()

    @property
    def missed(self) -> set[str]:
        """The grants whose end was acknowledged, and which no watch has told."""
        return set(self.ended) - set(self.watched)

    @property
    def told_twice(self) -> int:
        """How many ends were told more than once."""
        return len(self.watched) - len(set(self.watched))

    def answered(self, what: str) -> None:
        """Counts a call."""
        with self.lock:
            self.calls[what] += 1


@contextmanager
def callers(place: Behind, heard: Heard, number: int) -> Generator[None]:
    """Has so many callers call until the end, each call once: half over REST, half over gRPC; and one who watches.

    One begins after the other: all at once would wait for each other's first writes, at hosts that have just started.
    """
    watcher = threading.Thread(target=_watch, args=(place, heard), daemon=True)
    threads: list[threading.Thread] = []
    try:
        watcher.start()
        for each in range(number):
            threads.append(threading.Thread(target=_call, args=(place, heard, each), daemon=True))
            done = heard.count
            threads[-1].start()
            wait_until(lambda: heard.failures or heard.count > done, "an answer after a caller more")  # noqa: B023
        steady = heard.count + number * _STEADY_CALLS
        wait_until(lambda: heard.failures or heard.count >= steady, "calls from everybody", seconds=_STEADY_SECONDS)
        yield
        done = heard.count
        wait_until(lambda: heard.failures or heard.count >= done + number, "calls after the last restart")
    finally:
        place.stopping.set()
        for thread in threads:
            thread.join(_PATIENCE_SECONDS)
    wait_until(lambda: not heard.missed, "what the watch is to tell")


def _call(place: Behind, heard: Heard, number: int) -> None:
    """Asks and checks, ends and checks, again and again. A call that fails is not made again."""
    who = requester(number)
    with _client(place, who, number) as person, _client(place, GATEWAY, number) as gateway:
        for turn in count():
            if place.stopping.is_set():
                return
            try:
                resource = f"auto/{number}/{turn}"
                grant = person.request([resource], ["read"])
                heard.answered("request")
                for _ in range(3):
                    if not gateway.check(who.principal, "read", resource).allowed:
                        raise ValueError(f"{grant.name} is not allowed")
                    heard.answered("check")
                person.release(grant.name)
                heard.ended.append(grant.name)
                heard.answered("release")
                if gateway.check(who.principal, "read", resource).allowed:
                    raise ValueError(f"{grant.name} is allowed after its end")
                heard.answered("check")
            except (JitError, ValueError) as fault:
                heard.failures.append(f"{time.strftime('%H:%M:%S')} {fault!r}")


def _client(place: Behind, person: Person, number: int) -> JitClient:
    if number % 2:
        return RestClient(place, place.token(person), timeout=_CALL_SECONDS)
    return JitClient(
        str(place.http), token=place.token(person), insecure=True, retry=Retry(attempts=1), timeout=_CALL_SECONDS
    )


def _watch(place: Behind, heard: Heard) -> None:
    """Watches by the client, which resumes where its stream breaks."""
    with JitClient(str(place.http), token=place.token(AUDITOR), insecure=True) as client:
        try:
            for event in client.watch_grants(view=View.ALL):
                if event.event_type == "GRANT_RELEASED" and event.grant is not None:
                    heard.watched.append(event.grant.name)
        except JitError as fault:
            if not place.stopping.is_set():
                heard.failures.append(f"the watch: {fault!r}")


def run(database: str, seed: int, directory: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Restarts three hosts in turn under 64 callers, and returns the result."""
    command = results.Command(text=f"make rolling DATABASE={database}", seed=seed, at=results.now())
    heard, codes = Heard(), []
    with running_database(database, directory) as url:
        place = Behind(directory, url, hosts=HOSTS)
        try:
            place.start()
            with callers(place, heard, CALLERS):
                for number, host in enumerate(place.hosts, start=1):
                    codes.append(place.restart(host))
                    say(f"host {number} of {HOSTS} is restarted; {heard.count:,} calls, {len(heard.failures)} failed")
        finally:
            place.close()
        log, _ = read_store(place.settings)
    return {
        "passed": codes == [0] * HOSTS and not (heard.failures or heard.missed or heard.told_twice or log.problem),
        **results.about(command, {}),
        "database": database,
        "hosts": HOSTS,
        "callers": CALLERS,
        "delay": DRAIN_DELAY,
        "calls": heard.count,
        "failed": len(heard.failures),
        "examples": heard.failures[: results.SHOWN],
        "watched": len(set(heard.watched)),
        "missed": len(heard.missed),
        "twice": heard.told_twice,
        "chain": log.problem or f"whole, {log.records:,} records",
        "properties": _properties(heard, codes),
    }


def _properties(heard: Heard, codes: Sequence[int]) -> list[dict[str, Any]]:
    of = (
        ("no call fails, and none is told what is not so", heard.count, len(heard.failures)),
        ("the watch resumes without a gap", len(heard.ended), len(heard.missed)),
        ("the watch tells nothing twice", len(heard.watched), heard.told_twice),
        ("a host that drained exits with 0", len(codes), sum(code != 0 for code in codes)),
    )
    return [{"name": name, "trials": trials, "violations": violations} for name, trials, violations in of]


def _ask_each(config: Path, interval: str) -> None:
    """Has Envoy ask for health that often."""
    written = yaml.safe_load(config.read_text())
    for cluster in written["static_resources"]["clusters"]:
        for check in cluster["health_checks"]:
            check |= dict.fromkeys(("interval", "no_traffic_interval", "unhealthy_interval"), interval)
    config.write_text(yaml.safe_dump(written, sort_keys=False))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
