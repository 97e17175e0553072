"""Who takes part beside drivers and readers: those who must be refused, those who watch, and clients that misbehave."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from random import Random
from typing import Any

import grpc

from jit_service.runtime.dev_issuer import DevIssuer
from jit_service.runtime.service import utc_now
from jitaccess import CheckItem, Decision, JitClient, JitError, Unavailable, View
from jitaccess._faults import from_call
from jitaccess._transport import authorization
from jitaccess.contract.calls import access, grants
from jitaccess.contract.calls.call import Call
from tests.soak.asking import Board, Life
from tests.soak.clients import Clients, open_client
from tests.soak.pace import Pace
from tests.soak.people import ADMIN, GATEWAY, STRANGER, requester
from tests.soak.place import Place
from tests.soak.told import Told

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADERS_WITHOUT_END = b"\x00\x40\x00\x01\x00\x00\x00\x00\x01" + b"\x00" * 100
FLOOD = 2000
QUESTIONS = 50
"""How many new questions come in one call."""


class Intruder:
    """Tries what nobody may, again and again."""

    def __init__(self, site: Place, told: Told, board: Board, random: Random, forger: DevIssuer) -> None:
        self._site = site
        self._told = told
        self._board = board
        self._random = random
        self._clients = Clients(site, told, random)
        self._forged = forger.token(ADMIN.principal, roles=ADMIN.roles, now=utc_now())

    def run(self, pace: Pace) -> None:
        """Goes on until the run stops."""
        attempts = (self.approves_own, self.approves, self.revokes, self.asks_about_others, self.forges)
        while not self._site.stopping.wait(0.02):
            pace.wait()
            for life in self._board.pick(self._random, 1):
                if life.grant:
                    self._random.choice(attempts)(life)
        self._clients.close()

    def approves_own(self, life: Life) -> None:
        own = requester(int(life.resource.split("/")[1]))
        self._tries("approval of one's own", self._clients.any_of(own), lambda client: client.approve(life.grant))

    def approves(self, life: Life) -> None:
        client = self._clients.any_of(STRANGER)
        self._tries("approval by a stranger", client, lambda client: client.approve(life.grant))

    def revokes(self, life: Life) -> None:
        client = self._clients.any_of(STRANGER)
        self._tries("revocation by a stranger", client, lambda client: client.revoke(life.grant, comment="x"))

    def asks_about_others(self, life: Life) -> None:
        question = (life.subject, "read", life.resource)
        self._tries("a check of somebody else", self._clients.any_of(STRANGER), lambda client: client.check(*question))

    def forges(self, life: Life) -> None:
        with open_client(self._site, self._forged, self._random.choice(self._site.ways)) as client:
            self._tries("a forged token", client, lambda client: client.revoke(life.grant, comment="x"))

    def _tries(self, what: str, client: JitClient, do: Callable[[JitClient], Any]) -> None:
        try:
            self._told.call("attempt", lambda: do(client))
        except Unavailable:
            return
        except JitError:
            self._told.must_refuse(what, was_allowed=False)
            return
        self._told.must_refuse(what, was_allowed=True)


class Newcomer:
    """Asks one process what nobody has asked, or will, `per_second` questions a second: no cache may keep all.

    They come many in a call and, every other time, as many calls at once, which other caches remember: all that hold
    thousands are full within minutes at little cost to the machine.
    """

    def __init__(self, site: Place, told: Told, random: Random, way: str, per_second: float) -> None:
        self._site = site
        self._told = told
        self._random = random
        self._way = way
        self._pause = QUESTIONS / per_second
        self._clients = Clients(site, told, random)
        token = site.token(GATEWAY)
        self._metadata = authorization(lambda: token)

    def run(self) -> None:
        """Goes on until the run stops."""
        while not self._site.stopping.wait(self._pause):
            with suppress(JitError):
                self._ask_in_one_call()
            if not self._site.stopping.wait(self._pause):
                self._ask_one_by_one()
        self._clients.close()

    def _ask_in_one_call(self) -> None:
        client, paths = self._clients.of(GATEWAY, self._way), self._new_paths()
        items = [CheckItem(STRANGER.principal, "read", path) for path in paths]
        answers = self._told.call("batch of new questions", lambda: client.check_many(items))
        for path, answer in zip(paths, answers, strict=True):
            if answer.error is None:
                self._take(path, answer)

    def _ask_one_by_one(self) -> None:
        paths, address = self._new_paths(), self._site.address_of(self._way)
        calls = [access.check(STRANGER.principal, "read", path) for path in paths]
        with _channel(address) as channel:
            sent = _ask_at_once(channel, self._metadata, calls)
            for path, call, each in zip(paths, calls, sent, strict=True):
                if _count(self._told, each, address, kind="new question", apart=True):
                    self._take(path, call.read_answer(each.result()))

    def _new_paths(self) -> list[str]:
        return [f"auto/never/{self._random.getrandbits(64):x}" for _ in range(QUESTIONS)]

    def _take(self, path: str, answer: Decision) -> None:
        self._told.decided(answer.decision_id, answer.allowed)
        self._told.must_refuse(f"read on {path} by a stranger", bool(answer))


class Watcher:
    """Follows all grants, and judges the order: revisions never go back, and nothing is told twice."""

    def __init__(self, site: Place, told: Told, client: JitClient) -> None:
        self._site = site
        self._told = told
        self._client = client
        self._revision = 0
        self._at_revision: set[tuple[str, str]] = set()

    def run(self) -> None:
        """Goes on until the run stops and the client is closed, from where a stream broke."""
        while not self._site.stopping.is_set():
            try:
                self._follow()
            except JitError as fault:
                self._told.counted("watch", fault.code, str(fault))
                self._site.stopping.wait(0.2)

    def _follow(self) -> None:
        if not self._revision:
            # What was told of the beginning before the stream broke is told again.
            self._at_revision.clear()
        with closing(self._client.watch_grants(start_revision=self._revision, view=View.ALL)) as events:
            for event in events:
                if event.grant is not None:
                    self.take(event.grant.name, str(event.event_type), event.revision)

    def take(self, grant: str, event: str, revision: int) -> None:
        """Judges an event by those before it."""
        violation = ""
        if event != "CURRENT" and revision < self._revision:
            violation = f"{event} of {grant} at revision {revision} came after revision {self._revision}"
        elif revision == self._revision and (grant, event) in self._at_revision:
            violation = f"{event} of {grant} at revision {revision} came twice"
        if revision != self._revision:
            self._at_revision.clear()
        self._revision = max(revision, self._revision)
        self._at_revision.add((grant, event))
        self._told.watch_told(violation)


def flood(site: Place, told: Told, board: Board, random: Random) -> None:
    """Asks far more at once than there are threads to answer, and waits for no answer before all are sent."""
    call = access.check(GATEWAY.principal, "read", "auto/flood")
    metadata = authorization(lambda: site.token(GATEWAY))
    with _channel(str(site.grpc)) as channel:
        for each in _ask_at_once(channel, metadata, [call] * FLOOD):
            _count(told, each, str(site.grpc), kind="flood")


def _channel(address: str) -> grpc.Channel:
    return grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])


def _ask_at_once(channel: grpc.Channel, metadata: Any, calls: Sequence[Call[Decision]]) -> list[Any]:
    """Sends all the calls of one method, and waits for no answer."""
    check = channel.unary_unary(
        calls[0].path,
        request_serializer=type(calls[0].request).SerializeToString,
        response_deserializer=calls[0].answer.FromString,
    )
    return [check.future(call.request, timeout=10, metadata=metadata) for call in calls]


def _count(told: Told, sent: Any, address: str, *, kind: str, apart: bool = False) -> bool:
    """Waits for the answer, and counts it. Returns whether there is one."""
    if (fault := sent.exception()) is None:
        told.counted(kind, "OK", apart=apart)
        return True
    error = from_call(fault, address=address)
    told.counted(kind, error.code, str(error), apart=apart)
    return False


def dead_clients(site: Place, told: Told, board: Board, random: Random) -> None:
    """Connects to gRPC and Envoy, says half of something, and stays silent; half of them then hang up hard."""
    held = []
    for where in (site.grpc, site.http) * 10:
        with suppress(OSError):
            connection = socket.create_connection((where.host, where.port), timeout=5)
            connection.sendall(random.choice([_PREFACE, _PREFACE + _HEADERS_WITHOUT_END, b"POST /v1/access:ch"]))
            held.append(connection)
    site.stopping.wait(random.uniform(0.5, 3))
    for connection in held:
        if random.random() < 0.5:
            # Reset, not closed in order.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


def slow_clients(site: Place, told: Told, board: Board, random: Random) -> None:
    """Begins to watch, and reads nothing."""
    token = site.token(ADMIN)
    clients = [JitClient(site.address_of(random.choice(site.ways[:-1])), token=token, insecure=True) for _ in range(4)]
    streams = [client.open_stream(grants.watch_grants(view=View.ALL)) for client in clients]
    end = time.monotonic() + random.uniform(1, 4)
    site.stopping.wait(max(0.0, end - time.monotonic()))
    for stream in streams:
        stream.cancel()
    for client in clients:
        client.close()
