"""Everybody who calls the service during a run, each in a thread of their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from random import Random
from threading import Thread
from types import TracebackType

from jit_service.runtime.dev_issuer import DevIssuer
from jitaccess import LocalChecker
from tests.soak.asking import Board, Reader
from tests.soak.bystanders import Intruder, Newcomer, Watcher
from tests.soak.clients import Clients, open_client
from tests.soak.pace import AtOnce, Pace
from tests.soak.people import ADMIN, DRIVERS, GATEWAY
from tests.soak.place import Place
from tests.soak.stories import Driver
from tests.soak.told import Told

READERS = 6
WATCHERS = 2


class Crowd:
    """Works from the beginning of a `with` block to its end, where it waits until all have ended.

    A driver whose write has no outcome yet goes on asking for it, so the service must answer again at the end.
    `random` makes the choices of somebody by name. `new` is how many questions a second each process is asked that
    nobody asked before.
    """

    def __init__(
        self,
        site: Place,
        told: Told,
        board: Board,
        random: Callable[[str], Random],
        forger: DevIssuer,
        *,
        drivers: int = DRIVERS,
        readers: int = READERS,
        prefix: str = "",
        pace: Pace | None = None,
        new: float = 0,
    ) -> None:
        self._site = site
        self._told = told
        self._board = board
        self._random = random
        self._forger = forger
        self._counts = drivers, readers
        self._prefix = prefix
        self._pace = pace or AtOnce()
        self._new = new
        self._open = ExitStack()
        self._threads: list[Thread] = []

    def __enter__(self) -> Crowd:
        drivers, readers = self._counts
        replica = self._replica()
        for number in range(drivers):
            random = self._random(f"driver {number}")
            driver = Driver(self._site, self._told, self._board, number, random, prefix=self._prefix)
            self._start(lambda driver=driver: driver.run(self._pace))  # type: ignore[misc]
        for number in range(readers):
            clients = Clients(self._site, self._told, self._random(f"reader {number}"))
            reader = Reader(self._site, self._told, clients, replica)
            self._start(lambda reader=reader: reader.run(self._board, self._pace))  # type: ignore[misc]
        for way in self._site.ways[:WATCHERS]:
            client = open_client(self._site, self._site.token(ADMIN), way)
            self._open.callback(client.close)
            self._start(Watcher(self._site, self._told, client).run)
        intruder = Intruder(self._site, self._told, self._board, self._random("intruder"), self._forger)
        self._start(lambda: intruder.run(self._pace))
        for way in self._site.ways[:-1] if self._new else ():
            self._start(Newcomer(self._site, self._told, self._random(f"newcomer at {way}"), way, self._new).run)
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._site.stopping.set()
        # What ends the streams of those who watch.
        self._open.close()
        for thread in self._threads:
            thread.join()

    def _replica(self) -> LocalChecker:
        client = open_client(self._site, self._site.token(GATEWAY), self._site.ways[0])
        self._open.enter_context(client)
        return self._open.enter_context(LocalChecker(client))

    def _start(self, target: Callable[[], None]) -> None:
        thread = Thread(target=target)
        thread.start()
        self._threads.append(thread)
