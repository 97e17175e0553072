"""One fault at a time under load, and what its clients saw of it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from math import inf
from random import Random
from typing import Generic, Protocol, TypeVar

from jit_service.runtime.dev_issuer import DevIssuer
from jit_service.runtime.service import utc_now
from jitaccess import JitClient
from tests.soak import pace
from tests.soak.asking import Board
from tests.soak.clients import answers
from tests.soak.crowd import Crowd
from tests.soak.people import ADMIN, GATEWAY
from tests.soak.place import Place
from tests.soak.told import Told

RECOVERY_SECONDS = 5.0
"""Within how long after the fault is over the service must answer on each way again, without a restart."""
_GIVE_UP_SECONDS = 60.0
_PROBE_SECONDS = 0.05
_PROBE_TIMEOUT = 1.0
_PROBED = timedelta(hours=1)
_HOLD_SECONDS = 3.0
_BEFORE_SECONDS, _AFTER_SECONDS = 1.0, 1.0
DRIVERS, READERS = 4, 4
_OF_FAULTS = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL", "UNKNOWN", "RESOURCE_EXHAUSTED")
P = TypeVar("P")
T = TypeVar("T")


class Stage(Place, Protocol):
    """Where clients of a trial call. Each trial has an end of its own."""

    stopping: threading.Event


@dataclass(frozen=True, kw_only=True)
class Fault(Generic[P]):
    """What breaks. `do` breaks it, yields, heals it, yields, and then puts back what no client notices.

    Between the first two yields, it stays broken for `hold` seconds. `sees` is what clients are told meanwhile.
    """

    name: str
    do: Callable[[P], Generator[None]]
    sees: str
    hold: float = _HOLD_SECONDS
    needs_network: bool = False


@dataclass(frozen=True, order=True)
class Part:
    """One of so many parts of a run, each of which is a run of some minutes: 2 of 3, say."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Part:
        """Reads 2/3. Raises ValueError."""
        number, _, count = text.partition("/")
        part = cls(int(number), int(count))
        if not 1 <= part.number <= part.count:
            raise ValueError(f"there is no part {part}")
        return part

    def of(self, everything: Sequence[T]) -> Sequence[T]:
        """Returns what belongs to this part; each thing belongs to one."""
        return everything[self.number - 1 :: self.count]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


WHOLE = Part()


@dataclass
class Outcome:
    """What came of a fault: the seconds from its begin until healed, and from then until each way answered."""

    name: str
    told: Told
    sees: str = ""
    broken: float = 0.0
    recovered: dict[str, float] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    problem: str = ""

    @property
    def seconds(self) -> float:
        """The seconds until the last way answered; infinite where one never did."""
        return max(self.recovered.values(), default=0.0)


class Trials(Generic[P]):
    """Does faults, one after the other, each with clients and a record of their own.

    `rate`: calls a second of all clients, 0 for as many as are answered.
    """

    def __init__(
        self, stand: P, place: Stage, seed: int, forger: DevIssuer, say: Callable[[str], None], *, rate: float = 0
    ) -> None:
        self._stand = stand
        self._place = place
        self._seed = seed
        self._forger = forger
        self._say = say
        self._rate = rate
        self.outcomes: list[Outcome] = []

    def rounds(self, faults: Sequence[Fault[P]], *, until: float, part: Part) -> None:
        """Does each fault of the part once, in an order by the seed, and begins another round while there is time."""
        random = Random(f"{self._seed} order")
        is_first = True
        while is_first or time.monotonic() < until:
            mine = part.of(random.sample(faults, len(faults)))
            for fault in mine:
                if is_first or time.monotonic() < until:
                    self.do(fault, of=len(mine))
            is_first = False

    def do(self, fault: Fault[P], *, of: int) -> None:
        """Does one fault, under load from before it until after it."""
        outcome = Outcome(name=fault.name, told=Told(), sees=fault.sees)
        self.outcomes.append(outcome)
        self._place.stopping = threading.Event()

        def random(who: str) -> Random:
            # A text, since an int would take in the hash of the interpreter.
            return Random(f"{self._seed} {fault.name} {who}")

        crowd = Crowd(
            self._place,
            outcome.told,
            Board(),
            random,
            self._forger,
            drivers=DRIVERS,
            readers=READERS,
            prefix=f"t{len(self.outcomes)}-",
            pace=pace.of(self._rate, self._place, outcome.told),
        )
        with crowd:
            time.sleep(_BEFORE_SECONDS)
            self._happen(fault, outcome)
            time.sleep(_AFTER_SECONDS)
        outcome.told.settle_all()
        self._say(f"{len(self.outcomes)} of {of}: {fault.name}: {describe(outcome)}")

    def _happen(self, fault: Fault[P], outcome: Outcome) -> None:
        steps = fault.do(self._stand)
        before, began = outcome.told.endings.copy(), time.monotonic()
        try:
            next(steps)
            time.sleep(fault.hold)
            next(steps, None)
            healed = time.monotonic()
            outcome.broken = healed - began
            outcome.recovered = self._recovered(healed)
            outcome.seen = outcome.told.endings - before
            for _ in steps:
                pass
        except Exception as problem:
            # The next faults are still worth trying, and the clients must end.
            outcome.problem = f"{type(problem).__name__}: {problem}"
            steps.close()
            outcome.seen = outcome.told.endings - before
            outcome.recovered = self._recovered(time.monotonic())

    def _recovered(self, healed: float) -> dict[str, float]:
        """Waits until each way answers, all at the same time."""
        found: dict[str, float] = {}

        def wait(way: str) -> None:
            found[way] = seconds_until_it_answers(self._place, way, healed)

        threads = [threading.Thread(target=wait, args=(way,)) for way in self._place.ways]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found


def seconds_until_it_answers(place: Place, way: str, since: float) -> float:
    """Returns how long it took until clients that connect anew had a check and a write answered."""

    def ask(client: JitClient) -> object:
        return client.check(GATEWAY.principal, "read", "auto/nobody")

    def write(client: JitClient) -> object:
        return client.set_signal("signals/probe", "on", expire_time=utc_now() + _PROBED)

    def answer() -> bool:
        return all(
            answers(place, person, way, call, timeout=_PROBE_TIMEOUT)
            for person, call in ((GATEWAY, ask), (ADMIN, write))
        )

    while not answer():
        if time.monotonic() - since > _GIVE_UP_SECONDS:
            return inf
        time.sleep(_PROBE_SECONDS)
    return time.monotonic() - since


def describe(outcome: Outcome) -> str:
    """Returns an outcome in one line, for people who wait."""
    words = f"{seen(outcome)}; again after {outcome.seconds:.2f} s"
    return f"{words}; {outcome.problem}" if outcome.problem else words


def seen(outcome: Outcome) -> str:
    """Returns what its clients saw while it was broken, without refusals that have another cause."""
    unanswered = {ending: count for ending, count in outcome.seen.items() if ending.split()[0] in _OF_FAULTS}
    words = [f"{count:,} {ending}" for ending, count in sorted(unanswered.items(), key=lambda item: -item[1])]
    return ", ".join([f"{outcome.seen['OK']:,} answered", *words])
