"""`make kill`: kill -9 of the service at random moments under load, again and again, on the same data."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from jit_service.runtime.dev_issuer import DevIssuer
from jit_service.runtime.service import utc_now
from jit_service.settings import Address, Settings
from jit_service.storage.migrate import migrate
from jitaccess import Unavailable
from tests import prepared
from tests.reliability import results
from tests.soak.asking import Board
from tests.soak.clients import open_client
from tests.soak.crowd import Crowd
from tests.soak.judge import LOST, WRONG, judge
from tests.soak.people import AUDITOR, write_policies
from tests.soak.run import read_store, running_database
from tests.soak.told import Told
from tests.world import Person

COUNTS = {"sqlite": 300, "postgresql": 100}
_ALIVE_SECONDS = (0.05, 0.8)
_VERIFY_EVERY = 20
_SAY_EVERY = 10
_PATIENCE_SECONDS = 30.0
_DRIVERS, _READERS = 4, 3


class Alone:
    """One process of the service, without Envoy, on the same port after each start."""

    def __init__(self, directory: Path, database_url: str) -> None:
        self.stopping = threading.Event()
        self.settings = Settings.load(data_dir=directory / "d", database_url=database_url)
        self.settings.data_dir.mkdir(mode=0o700, parents=True)
        self.issuer = DevIssuer(self.settings.data_dir)
        self._log = directory / "service.log"
        self._policies = write_policies(directory / "policies.yaml")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.grpc = Address("127.0.0.1", free.getsockname()[1])
        self.http = self.grpc
        self._environment = {
            **os.environ,
            "JIT_DATABASE_URL": database_url,
            "JIT_ISSUERS": json.dumps([self.issuer.issuer().model_dump(mode="json")]),
            "JIT_TOKEN_ISSUER": "http://127.0.0.1",
        }
        self._process: prepared.Started | None = None
        migrate(self.settings.store_url)

    @property
    def ways(self) -> tuple[str, ...]:
        return "a connection", "another connection"

    def address_of(self, way: str) -> str:  # noqa: ARG002 (there is one process)
        return str(self.grpc)

    def token(self, person: Person) -> str:
        """Returns a token that is valid for a day."""
        return self.issuer.token(person.principal, groups=person.groups, roles=person.roles, now=utc_now())

    def start(self) -> None:
        """Starts it, and returns when it serves."""
        options = ["--data-dir", str(self.settings.data_dir), "--grpc", str(self.grpc)]
        process = prepared.start(
            "jit-service", "serve", *options, "--policies", str(self._policies), env=self._environment
        )
        self._process = process
        # Its log goes on for as long as it does; a pipe that nobody reads would stop it.
        threading.Thread(target=self._take_log, args=(process,), daemon=True).start()
        if not process.stdout.readline():
            raise RuntimeError(f"the service did not start; its log is {self._log}")

    def kill(self) -> None:
        """Kills it, and waits for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=30)

    def _take_log(self, process: prepared.Started) -> None:
        with self._log.open("a") as log:
            shutil.copyfileobj(process.stderr, log)


@dataclass
class Kills:
    """How it went so far."""

    count: int = 0
    starts: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def run(database: str, count: int, seed: int, directory: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Kills it so often, and returns the result."""
    command = results.Command(
        text=f"make kill DATABASE={database} COUNT={count} SEED={seed}", seed=seed, at=results.now()
    )
    kills, told = Kills(), Told()
    with running_database(database, directory) as url:
        service = Alone(directory, url)
        try:
            service.start()
            _under_load(service, told, kills, count, seed, directory, say)
            # The last expiries are recorded by the service's own clock.
            time.sleep(2)
        finally:
            service.kill()
        told.settle_all()
        log, states = read_store(service.settings)
    properties = judge(told, log, states=states, recoveries=(), growths=(), verified=kills.problems)
    return {
        "passed": not any(each.violations for each in properties),
        **results.about(command, {}),
        "database": database,
        "kills": kills.count,
        "checks": len(told.decisions),
        "transitions": len(told.acks),
        "slowest": round(max(kills.starts), 2),
        "lost": sum(each.violations for each in properties if each.harm == LOST),
        "wrong": sum(each.violations for each in properties if each.harm == WRONG),
        "chain": log.problem or f"whole, {log.records:,} records",
        "properties": [
            {"name": each.name, "trials": each.trials, "violations": each.violations, "examples": each.examples}
            for each in properties
            if each.trials
        ],
    }


def _under_load(
    service: Alone, told: Told, kills: Kills, count: int, seed: int, directory: Path, say: Callable[[str], None]
) -> None:
    random, board = Random(f"{seed} kill"), Board()
    crowd = Crowd(
        service,
        told,
        board,
        lambda who: Random(f"{seed} {who}"),
        DevIssuer(directory / "forger"),
        drivers=_DRIVERS,
        readers=_READERS,
    )
    with crowd:
        while kills.count < count:
            time.sleep(random.uniform(*_ALIVE_SECONDS))
            began = time.monotonic()
            service.kill()
            kills.count += 1
            service.start()
            kills.starts.append(time.monotonic() - began)
            told.settle(time.monotonic())
            if kills.count % _VERIFY_EVERY == 0:
                kills.problems.append(_verified(service))
            if kills.count % _SAY_EVERY == 0:
                say(f"{kills.count} of {count} kills; {told.calls:,} calls, {len(told.acks):,} acked transitions")


def _verified(service: Alone) -> str:
    """Returns what is wrong with the chain; nothing where it is whole."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            with open_client(service, service.token(AUDITOR), service.ways[0], timeout=60) as client:
                verdict = client.verify_audit_log()
                return "" if verdict.valid else verdict.problem
        except Unavailable:
            # gRPC remembers for a moment that nobody listened at the address.
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
