"""Three hosts of the service on one database, behind one Envoy: what the clients of `make cluster` call."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from jit_service.runtime.dev_issuer import DevIssuer
from jit_service.runtime.envoy import Envoy, Rates, render
from jit_service.runtime.service import utc_now
from jit_service.settings import Address
from jit_service.use_cases.keyring import make_key_file
from tests.reliability.network import OUTSIDE, Host, Network
from tests.reliability.program import Program, wait_until
from tests.soak.people import write_policies
from tests.soak.place import REST
from tests.test_commands import SERVICE
from tests.world import Person

HOSTS = 3
_PORT = 8081
_ENVOY_SECONDS = 60.0
_ALL_RATES = Rates(total=4000, per_address=4000)
"""All clients are at one address."""


def host_way(number: int) -> str:
    """Returns the way to one host, by gRPC."""
    return f"host {number}"


class ServiceHosts:
    """The hosts, Envoy, and who may call them. Only the main thread may start it: the kernel ends Envoy with that."""

    def __init__(self, network: Network, directory: Path, logs: Path, database_url: str) -> None:
        self.stopping = threading.Event()
        self.issuer = DevIssuer(directory)
        self._network = network
        self._directory = directory
        self.key = directory / "sealing.key"
        make_key_file(self.key)
        self._environment = self._settings(database_url)
        policies = write_policies(directory / "policies.yaml")
        self.hosts = [network.host(f"host-{number}", 30 + number) for number in range(1, HOSTS + 1)]
        self.services = [self._service(host, policies, logs / f"{host.name}.log") for host in self.hosts]
        self._envoy: Envoy | None = None

    def start(self) -> None:
        """Brings the database up to date, and starts all of it."""
        command: list[str | Path] = [SERVICE, "migrate", "--data-dir", self._directory]
        subprocess.run(command, env={**os.environ, **self._environment}, check=True, stdout=sys.stderr)
        for service in self.services:
            service.start()
        self.start_envoy()
        # Envoy answers as soon as one of them does.
        for number, _ in enumerate(self.services, 1):
            self.wait_until_ready(number)

    def start_envoy(self) -> None:
        """Starts Envoy, and returns when the service answers through it."""
        upstream = [Address(host.address, _PORT) for host in self.hosts]
        config = render(http=self.http, upstream=upstream, directory=self._directory, rates=_ALL_RATES)
        self._envoy = Envoy(config, directory=self._directory)
        self._envoy.start(timeout=_ENVOY_SECONDS)

    def kill_envoy(self) -> None:
        if self._envoy is not None:
            self._envoy.stop(timeout=0)
        self._envoy = None

    def wait_until_ready(self, number: int) -> None:
        """Waits until a host that was started answers."""

        def listens() -> bool:
            with suppress(OSError), socket.create_connection((self.hosts[number - 1].address, _PORT), timeout=1):
                return True
            return False

        wait_until(listens, self.hosts[number - 1].name)

    def close(self) -> None:
        """Kills all of it."""
        self.stopping.set()
        self.kill_envoy()
        for service in self.services:
            service.kill()

    @property
    def ways(self) -> tuple[str, ...]:
        return (*(host_way(number) for number in range(1, HOSTS + 1)), REST)

    @property
    def http(self) -> Address:
        return Address(self._network.address(OUTSIDE), 8080)

    @property
    def grpc(self) -> Address:
        return Address(self.hosts[0].address, _PORT)

    def address_of(self, way: str) -> str:
        return f"{self.hosts[self.ways.index(way)].address}:{_PORT}"

    def token(self, person: Person) -> str:
        """Returns a token that is valid for a day."""
        return self.issuer.token(person.principal, groups=person.groups, roles=person.roles, now=utc_now())

    def _settings(self, database_url: str) -> dict[str, str]:
        issuer = self.issuer.issuer().model_dump(mode="json")
        return {
            # What is on a command line, everybody on the machine can read.
            "JIT_DATABASE_URL": database_url,
            "JIT_KEY_FILE": str(self.key),
            "JIT_ISSUERS": json.dumps([issuer]),
            "JIT_TOKEN_ISSUER": "https://jit.example.com",
            # The network is the run's own.
            "JIT_INSECURE_LISTEN": "true",
        }

    def _service(self, host: Host, policies: Path, log: Path) -> Program:
        directory = self._directory / host.name
        directory.mkdir(mode=0o700)
        command: list[str | Path] = [SERVICE, "serve", "--data-dir", directory, "--grpc", f"{host.address}:{_PORT}"]
        return Program([*command, "--policies", policies], host=host, log=log, environment=self._environment)
