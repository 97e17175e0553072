"""The ways to ask whether access is given, and what each answer says about the history of the access.

A STRONG answer is a read between its question and its answer. One that says how old its view may be is a read that
began so much earlier. One that only says that it cannot tell is none.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from jit_service.runtime.service import utc_now
from jitaccess import CheckItem, Consistency, Decision, JitClient, JitError, LocalChecker, LocalReason
from tests.soak.clients import Clients
from tests.soak.pace import Pace
from tests.soak.people import GATEWAY, STRANGER
from tests.soak.place import REST, Place
from tests.soak.told import Told

CLOCKS = 0.005
"""Seconds by which an instant of the service's clock may lie elsewhere on that of the run."""
SLACK = timedelta(seconds=CLOCKS)
BATCH = 8
_PAUSE_SECONDS = 0.05


@dataclass(kw_only=True)
class Life:
    """The access of one subject to one resource, and what is known of it."""

    resource: str
    subject: str
    grant: str = ""
    token: str = ""


class Board:
    """The lives that readers ask about: the latest, whether they are over or not."""

    def __init__(self) -> None:
        self._lives: deque[Life] = deque(maxlen=24)

    def add(self, life: Life) -> None:
        self._lives.append(life)

    def pick(self, random: Random, count: int) -> list[Life]:
        """Returns so many different lives at most."""
        lives = list(self._lives)
        return random.sample(lives, min(count, len(lives)))


class Reader:
    """Asks, and takes down what it was told. All raise JitError where there is no answer."""

    def __init__(self, site: Place, told: Told, clients: Clients, replica: LocalChecker | None = None) -> None:
        self._site = site
        self._told = told
        self._clients = clients
        self._replica = replica
        self.random = clients.random

    def run(self, board: Board, pace: Pace) -> None:
        """Goes on until the run stops."""
        while not self._site.stopping.is_set():
            pace.wait()
            try:
                self._ask_about(board.pick(self.random, BATCH))
            except JitError:
                self._site.stopping.wait(_PAUSE_SECONDS)
        self._clients.close()

    def check(self, life: Life, way: str) -> None:
        """Asks one STRONG question."""

        def ask(client: JitClient) -> Sequence[Decision]:
            return [client.check(life.subject, "read", life.resource)]

        self._ask([life], way, "check", ask)

    def check_any_way(self, lives: list[Life]) -> None:
        self.check(lives[0], self.random.choice(self._site.ways))

    def batch(self, lives: list[Life]) -> None:
        """Asks several STRONG questions in one call."""
        items = [CheckItem(life.subject, "read", life.resource) for life in lives]
        self._ask(lives, self.random.choice(self._site.ways), "batch", lambda client: client.check_many(items))

    def bounded(self, lives: list[Life]) -> None:
        """Asks a question whose answer may be a little old, and says how old."""
        life = lives[0]

        def ask(client: JitClient) -> Sequence[Decision]:
            return [client.check(life.subject, "read", life.resource, consistency=Consistency.BOUNDED)]

        self._ask([life], self.random.choice(self._site.ways), "BOUNDED check", ask)

    def replica(self, lives: list[Life]) -> None:
        """Asks the replica, whose answer says how old it may be."""
        life, replica = lives[0], self._replica
        if replica is None:
            return
        at, began = utc_now(), time.monotonic()
        answer = self._told.call("replica", lambda: replica.check(life.subject, "read", life.resource))
        if answer.reason in (LocalReason.STALE, LocalReason.NEEDS_CHECK) or answer.age is None:
            return
        self._saw(life, bool(answer), began - answer.age, by="the replica")
        if answer:
            self._told.not_expired(at - SLACK, answer.expire_time, "the replica")

    def introspect(self, lives: list[Life]) -> None:
        """Asks about a token of the grant: while it counts, so does the grant. It may be over earlier."""
        with_token = [life for life in lives if life.token]
        if not with_token:
            return
        life, way = with_token[0], self.random.choice(self._site.ways[:-1])
        client, began = self._clients.of(GATEWAY, way), time.monotonic()
        told = self._told.call("introspection", lambda: client.introspect_token(life.token))
        if told["active"] is True:
            self._saw(life, True, began, by=f"an introspection at {way}")

    def what_nobody_has(self, lives: list[Life]) -> None:
        """Asks what no grant gives: another action, more than the resource, another subject."""
        life, way = lives[0], self.random.choice(self._site.ways)
        subject, action, resource = self.random.choice(
            [
                (life.subject, "write", life.resource),
                (life.subject, "read", f"{life.resource}/below"),
                (STRANGER.principal, "read", life.resource),
            ]
        )
        client = self._clients.of(GATEWAY, way)
        answer = self._told.call(f"check by {_surface(way)}", lambda: client.check(subject, action, resource))
        self._told.decided(answer.decision_id, answer.allowed)
        self._told.must_refuse(f"{action} on {resource} by {subject}", bool(answer))

    def what_is_never_asked_again(self, _: list[Life]) -> None:
        """Asks what nobody has asked, or will: no cache may keep it for good."""
        way, resource = self.random.choice(self._site.ways), f"auto/never/{self.random.getrandbits(64):x}"
        client = self._clients.of(GATEWAY, way)
        answer = self._told.call(
            f"check by {_surface(way)}", lambda: client.check(STRANGER.principal, "read", resource)
        )
        self._told.decided(answer.decision_id, answer.allowed)
        self._told.must_refuse(f"read on {resource} by a stranger", bool(answer))

    def _ask_about(self, lives: list[Life]) -> None:
        if lives:
            self.random.choice(ASKING)(self, lives)
        else:
            self._site.stopping.wait(_PAUSE_SECONDS)

    def _ask(self, lives: Sequence[Life], way: str, kind: str, ask: Callable[[JitClient], Sequence[Decision]]) -> None:
        """Asks on a way, and takes down each answer."""
        client = self._clients.of(GATEWAY, way)
        at, began = utc_now(), time.monotonic()
        answers = self._told.call(f"{kind} by {_surface(way)}", lambda: ask(client))
        for life, answer in zip(lives, answers, strict=True):
            if answer.error is None:
                self._take(life, answer, at, began, by=f"a {kind} at {way}")

    def _take(self, life: Life, answer: Decision, at: datetime, began: float, by: str) -> None:
        age = answer.staleness.total_seconds() if answer.staleness is not None else 0.0
        if answer.staleness is None:
            self._told.decided(answer.decision_id, answer.allowed)
        self._saw(life, answer.allowed, began - age, by=by)
        if answer:
            self._told.not_expired(at - SLACK, answer.expire_time, by)

    def _saw(self, life: Life, allowed: bool, began: float, by: str) -> None:
        self._told.saw(life.resource, allowed, began, time.monotonic(), by)


def _surface(way: str) -> str:
    return way if way == REST else "gRPC"


ASKING = (
    Reader.check_any_way,
    Reader.check_any_way,
    Reader.check_any_way,
    Reader.check_any_way,
    Reader.batch,
    Reader.bounded,
    Reader.replica,
    Reader.replica,
    Reader.introspect,
    Reader.what_nobody_has,
    Reader.what_is_never_asked_again,
    Reader.what_is_never_asked_again,
)
