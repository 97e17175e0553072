"""The faults of a run, by its seed: what is killed, stopped or overrun, when, and how long until it answers again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import Any

from tests.soak.asking import Board
from tests.soak.bystanders import dead_clients, flood, slow_clients
from tests.soak.clients import answers
from tests.soak.judge import RECOVERY_SECONDS
from tests.soak.people import GATEWAY
from tests.soak.place import REST
from tests.soak.site import ENVOY, Site, worker
from tests.soak.told import Told

_PROBE_SECONDS = 0.02
KILL_WORKER, KILL_SERVICE, KILL_ENVOY = "kill -9 worker", "kill -9 service", "kill -9 Envoy"
STOP_WORKER, STOP_ENVOY = "SIGSTOP worker", "SIGSTOP Envoy"
FLOOD, DEAD, SLOW = "flood", "dead clients", "slow clients"
ALL = (KILL_WORKER, KILL_WORKER, KILL_SERVICE, KILL_SERVICE, KILL_ENVOY, STOP_WORKER, STOP_ENVOY, FLOOD, DEAD, SLOW)
SPARING = (KILL_WORKER, KILL_WORKER, STOP_WORKER, STOP_ENVOY, FLOOD, DEAD, SLOW)
"""Those that leave the parent, Envoy and one worker alive, so that their memory can be followed."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What was done, when in the run, and the seconds until each of those that it hit answered again."""

    name: str
    at: float
    recovered: dict[str, float] = field(default_factory=dict)

    @property
    def is_kill(self) -> bool:
        return self.name.startswith("kill")

    def __str__(self) -> str:
        times = ", ".join(f"{who} again after {took:.2f} s" for who, took in self.recovered.items())
        return f"{self.name}{': ' if times else ''}{times}"


class Chaos:
    """Does the faults. Its thread must be the one that made the site, which it starts again."""

    def __init__(self, site: Site, told: Told, board: Board, random: Random, *, began: float) -> None:
        self._site = site
        self._told = told
        self._board = board
        self._random = random
        self._began = began
        self.faults: list[Fault] = []

    def do(self, name: str, *, spared: int | None = None) -> Fault:
        """Does one fault to whichever worker the seed says, but for the spared one."""
        number = self._random.randrange(2)
        number = 1 - number if number == spared else number
        at = time.monotonic()
        recovered = self._faults()[name](number, at)
        fault = Fault(name=name, at=at - self._began, recovered=recovered)
        self.faults.append(fault)
        return fault

    def _faults(self) -> dict[str, Callable[[int, float], dict[str, float]]]:
        return {
            KILL_WORKER: self._kill_worker,
            KILL_SERVICE: self._kill_service,
            KILL_ENVOY: self._kill_envoy,
            STOP_WORKER: lambda number, at: self._stop(worker(number), at),
            STOP_ENVOY: lambda _, at: self._stop(ENVOY, at, REST),
            FLOOD: lambda _number, _at: self._by(flood),
            DEAD: lambda _number, _at: self._by(dead_clients),
            SLOW: lambda _number, _at: self._by(slow_clients),
        }

    def _by(self, clients: Callable[..., None]) -> dict[str, float]:
        clients(self._site, self._told, self._board, self._random)
        return {}

    def _kill_worker(self, number: int, at: float) -> dict[str, float]:
        """The other one serves meanwhile; the parent starts a new one."""
        if not self._site.signal(worker(number), signal.SIGKILL):
            return {}
        return self._recovered(at, REST, worker(number))

    def _kill_service(self, _: int, at: float) -> dict[str, float]:
        """Workers, parent and Envoy at once; whoever watches over the service starts it again."""
        self._site.kill()
        self._site.start()
        return self._recovered(at, worker(0), worker(1), REST)

    def _kill_envoy(self, _: int, at: float) -> dict[str, float]:
        """The service then ends by itself, in order, and is started again."""
        if not self._site.signal(ENVOY, signal.SIGKILL):
            return {}
        self._site.reap()
        self._site.start()
        return self._recovered(at, REST, worker(0), worker(1))

    def _stop(self, role: str, at: float, way: str = "") -> dict[str, float]:
        """Stops a process where it stands for a while; it goes on with what it had begun."""
        if not self._site.signal(role, signal.SIGSTOP):
            return {}
        time.sleep(self._random.uniform(0.3, 3))
        at = time.monotonic()
        self._site.signal(role, signal.SIGCONT)
        return self._recovered(at, way or role)

    def _recovered(self, at: float, *ways: str) -> dict[str, float]:
        return {way: self._seconds_until_it_answers(at, way) for way in ways}

    def _seconds_until_it_answers(self, at: float, way: str) -> float:
        def ask(client: Any) -> object:
            return client.check(GATEWAY.principal, "read", "auto/nobody")

        while not answers(self._site, GATEWAY, way, ask):
            if time.monotonic() - at > RECOVERY_SECONDS:
                return inf
            time.sleep(_PROBE_SECONDS)
        return time.monotonic() - at


def schedule(random: Random, *, seconds: float, pauses: tuple[float, float]) -> list[tuple[float, str, bool]]:
    """Returns when each fault is due, which it is, and whether it spares: all do in the second half.

    What comes while another is under way waits for its end.
    """
    due, planned = random.uniform(*pauses), []
    while due < seconds:
        spares = due >= seconds / 2
        planned.append((due, random.choice(SPARING if spares else ALL), spares))
        due += random.uniform(*pauses)
    return planned
