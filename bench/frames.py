"""A cheap load generator: it sends HTTP/2 frames made beforehand, of many messages, and verifies every answer.

It offers the server no header compression table, so equal header blocks are equal bytes and are decoded once. HTTP/2
is RFC 9113, gRPC over it PROTOCOL-HTTP2.md of grpc. Cleartext over TCP and Unix sockets only.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, cycle
from typing import Final, NamedTuple

from hpack import Decoder, Encoder

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK = 1, 1
_NO_TABLE: Final = struct.pack("!HI", 1, 0)
_WINDOW: Final = (1 << 31) - 1
_FIRST_WINDOW: Final = 65535
_MAX_FRAME: Final = 1 << 14
_READ_BYTES: Final = 1 << 18
WRONG: Final = "wrong answer"

_GRACE_SECONDS: Final = 2

Mark = Callable[[], None]
Right = Callable[[bytes, int], bool]
"""Returns whether an answer's message is right, given the number of the request's message."""


def _unmarked() -> None:
    """Ignores when counting begins and ends."""


@dataclass(kw_only=True)
class Tally:
    """The answers of a run. Latencies are in seconds; in an open loop they run from when a call was due."""

    done: int = 0
    seconds: float = 0
    latencies: list[float] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)

    def fault(self, what: str) -> None:
        self.faults[what] = self.faults.get(what, 0) + 1


@dataclass(frozen=True, kw_only=True)
class Call:
    """The calls to send: the path, the messages in turn, further headers, and what a right answer is.

    `rest`: the messages are JSON bodies of plain POSTs, and 200 is the right status. `unrepeated`: each message is made
    when it is sent, and sent once, by whichever connection is next.
    """

    path: str
    messages: Sequence[bytes]
    headers: Sequence[tuple[str, str]] = ()
    right: Right = lambda _message, _number: True
    rest: bool = False
    unrepeated: bool = False


def closed_loop(
    address: str,
    call: Call,
    *,
    connections: int,
    streams: int,
    warm_up: float,
    seconds: float,
    mark: Mark = _unmarked,
) -> Tally:
    """Keeps `connections * streams` calls in flight. Answers in the warm-up are not counted, but faults are.

    Calls `mark` at both ends of the counted span. Raises OSError where the server cannot be reached or hangs up.
    """
    with _Connections(address, call, connections) as each:
        for connection in each.all:
            for _ in range(streams):
                connection.submit(time.perf_counter())
            connection.flush()
        tally, begin = Tally(), time.perf_counter()
        counting = begin + warm_up
        end, counted = counting + seconds, False
        while (now := time.perf_counter()) < end:
            if not counted and now >= counting:
                tally, counted, counting, end = Tally(faults=tally.faults), True, now, now + seconds
                mark()
            for connection in each.readable(timeout=(end if counted else min(counting, end)) - now):
                for _ in range(connection.receive(tally)):
                    connection.submit(time.perf_counter())
                connection.flush()
        tally.seconds = now - counting
        mark()
        return tally


def windows(address: str, call: Call, *, connections: int, streams: int, every: float) -> Generator[Tally, None, None]:
    """Keeps `connections * streams` calls in flight, and yields the tally of each `every` seconds, without end.

    Windows follow each other without a gap: what the caller does between two of them takes from the later one. The load
    ends when the iterator is closed. Raises OSError as closed_loop.
    """
    with _Connections(address, call, connections) as each:
        for connection in each.all:
            for _ in range(streams):
                connection.submit(time.perf_counter())
            connection.flush()
        begin = time.perf_counter()
        while True:
            tally, end = Tally(), begin + every
            while (now := time.perf_counter()) < end:
                for connection in each.readable(timeout=end - now):
                    for _ in range(connection.receive(tally)):
                        connection.submit(time.perf_counter())
                    connection.flush()
            tally.seconds, begin = now - begin, now
            yield tally


def open_loop(
    address: str, call: Call, *, rate: float, connections: int, warm_up: float, seconds: float, mark: Mark = _unmarked
) -> Tally:
    """Sends a call every 1/rate seconds, whether or not answers come; latency runs from when each was due.

    Calls that are unanswered 2 s after the end are faults. Raises OSError as closed_loop.
    """
    with _Connections(address, call, connections) as each:
        total, dropped = int(rate * (warm_up + seconds)), int(rate * warm_up)
        tally, begin, sent, turn = Tally(), time.perf_counter(), 0, cycle(each.all)
        deadline = begin + warm_up + seconds + _GRACE_SECONDS
        while (sent < total or each.in_flight) and (now := time.perf_counter()) < deadline:
            while sent < total and begin + sent / rate <= now:
                if sent == dropped:
                    mark()
                connection = next(turn)
                connection.submit(begin + sent / rate)
                connection.flush()
                sent += 1
            wait = (begin + sent / rate if sent < total else deadline) - time.perf_counter()
            for connection in each.readable(timeout=max(0.0, wait)):
                connection.receive(tally)
                connection.flush()
        for _ in range(each.in_flight):
            tally.fault(f"unanswered after {_GRACE_SECONDS} s")
        mark()
        # Answers come nearly in the order of their calls, so the first ones are those of the warm-up.
        tally.latencies = tally.latencies[dropped:]
        tally.done, tally.seconds = len(tally.latencies), seconds
        return tally


def each_once(address: str, call: Call, *, connections: int, streams: int, timeout: float = 600) -> Tally:
    """Sends each message once with `connections * streams` in flight. Raises OSError as closed_loop, TimeoutError."""
    with _Connections(address, call, connections, spread=False) as each:
        total, sent, ended = len(call.messages), 0, 0
        numbers = iter(range(total))
        tally, begin = Tally(), time.perf_counter()
        for connection in each.all * streams:
            if (number := next(numbers, None)) is not None:
                connection.submit(time.perf_counter(), number)
                sent += 1
        for connection in each.all:
            connection.flush()
        while ended < total:
            if time.perf_counter() > begin + timeout:
                raise TimeoutError(f"{total - ended} of {total} calls were not answered in {timeout:g} s")
            for connection in each.readable(timeout=1):
                came = connection.receive(tally)
                ended += came
                for _ in range(came):
                    if (number := next(numbers, None)) is not None:
                        connection.submit(time.perf_counter(), number)
                connection.flush()
        tally.seconds = time.perf_counter() - begin
        return tally


def then_asked(address: str, *, first: Call, then: Call, connections: int, timeout: float = 600) -> int:
    """Sends each message of `first` once, and message n of `then` as soon as n of `first` was answered.

    They are asked on other connections, one call at a time on each. Returns how many of the second answers were wrong;
    raises ConnectionError for any other fault, TimeoutError.
    """
    tally, done, total, numbers = Tally(), 0, len(first.messages), iter(range(len(first.messages)))
    with (
        _Connections(address, first, connections, spread=False) as acting,
        _Connections(address, then, connections, spread=False) as asking,
        selectors.DefaultSelector() as selector,
    ):
        for act, ask in zip(acting.all, asking.all, strict=True):
            selector.register(act.socket, selectors.EVENT_READ, (act, act, ask))
            selector.register(ask.socket, selectors.EVENT_READ, (ask, act, ask))
            _send(act, next(numbers, None))
            ask.flush()
        deadline = time.perf_counter() + timeout
        while done < total:
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{total - done} of {total} were not answered in {timeout:g} s")
            for key, _ in selector.select(1):
                came, act, ask = key.data
                number = next((number for _, number in came.flying.values()), None)
                ended = came.receive(tally)
                came.flush()
                if ended and came is act:
                    _send(ask, number)
                elif ended:
                    done += 1
                    _send(act, next(numbers, None))
    wrong = tally.faults.pop(WRONG, 0)
    if tally.faults:
        raise ConnectionError(", ".join(f"{count} x {what}" for what, count in tally.faults.items()))
    return wrong


def _send(connection: _Connection, number: int | None) -> None:
    if number is not None:
        connection.submit(time.perf_counter(), number)
    connection.flush()


def _around(first: int, total: int) -> Iterator[int]:
    """Yields the numbers below the total again and again, from the first."""
    yield from range(first, total)
    while True:
        yield from range(total)


class _Connections:
    """Connections that each begin at a different message, or take unrepeated ones in turn."""

    def __init__(self, address: str, call: Call, connections: int, *, spread: bool = True) -> None:
        if call.unrepeated:
            made, shared = (lambda number: _frames(call.messages[number], call)), count()
            self.all = [_Connection(address, call, made, shared) for _ in range(connections)]
        else:
            total = len(call.messages)
            step = total // connections if spread else 0
            ready = [_frames(message, call) for message in call.messages].__getitem__
            self.all = [_Connection(address, call, ready, _around(step * n, total)) for n in range(connections)]
        self._selector = selectors.DefaultSelector()
        for connection in self.all:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)

    def __enter__(self) -> _Connections:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for connection in self.all:
            connection.socket.close()

    @property
    def in_flight(self) -> int:
        return sum(len(connection.flying) for connection in self.all)

    def readable(self, *, timeout: float) -> Iterator[_Connection]:
        for key, _ in self._selector.select(timeout):
            yield key.data


class _Connection:
    """One HTTP/2 connection."""

    def __init__(self, address: str, call: Call, frames: Callable[[int], _Frames], numbers: Iterator[int]) -> None:
        self.socket = _connect(address)
        self.flying: dict[int, tuple[float, int]] = {}
        self._call, self._frames, self._numbers = call, frames, numbers
        self._decoder = Decoder()
        self._decoder.max_allowed_table_size = 0
        self._statuses: dict[bytes, str] = {}
        self._status_of: dict[int, str] = {}
        self._answers: dict[int, bytes] = {}
        self._block = _header_block(call, address)
        self._head = len(self._block).to_bytes(3, "big") + b"\x01\x04"
        self._next, self._buffer, self._window = 1, b"", _FIRST_WINDOW
        self._waiting: deque[tuple[int, _Frames]] = deque()
        self._out = bytearray(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, _NO_TABLE + struct.pack("!HI", 4, _WINDOW))
            + _frame(_WINDOW_UPDATE, 0, 0, struct.pack("!I", _WINDOW - _FIRST_WINDOW))
        )

    def submit(self, due: float, number: int | None = None) -> None:
        """Queues the next message, or that of the number; `due` is when it should be sent."""
        if number is None:
            number = next(self._numbers)
        stream, frames = self._next, self._frames(number)
        self._next += 2
        self.flying[stream] = (due, number)
        if self._waiting or frames.size > self._window:
            self._waiting.append((stream, frames))
        else:
            self._write(stream, frames)

    def flush(self) -> None:
        """Sends the queued frames."""
        if self._out:
            self.socket.sendall(self._out)
            self._out.clear()

    def receive(self, tally: Tally) -> int:
        """Reads the frames that have arrived, and returns how many calls ended."""
        got = self.socket.recv(_READ_BYTES)
        if not got:
            raise ConnectionError("the server closed the connection")
        buffer, ended, at, now = self._buffer + got, 0, 0, time.perf_counter()
        while len(buffer) - at >= 9:
            end = at + 9 + int.from_bytes(buffer[at : at + 3], "big")
            if end > len(buffer):
                break
            stream = int.from_bytes(buffer[at + 5 : at + 9], "big") & _WINDOW
            ended += self._handle(buffer[at + 3], buffer[at + 4], stream, buffer[at + 9 : end], now, tally)
            at = end
        self._buffer = buffer[at:]
        return ended

    def _write(self, stream: int, frames: _Frames) -> None:
        name = stream.to_bytes(4, "big")
        self._window -= frames.size
        self._out += self._head + name + self._block
        for head, body in frames.data:
            self._out += head + name + body

    def _handle(self, kind: int, flags: int, stream: int, payload: bytes, now: float, tally: Tally) -> int:
        if kind == _DATA:
            self._answers[stream] = self._answers.get(stream, b"") + payload
            return self._end(stream, self._status_of.pop(stream, "missing"), now, tally) if flags & _END_STREAM else 0
        if kind == _HEADERS:
            status = self._status(payload)
            if self._call.rest and status:
                self._status_of[stream] = status
            if flags & _END_STREAM:
                # A REST answer may end with trailers, which have no status of their own.
                ended = self._status_of.pop(stream, "missing") if self._call.rest else status
                return self._end(stream, ended, now, tally)
        elif kind == _RST_STREAM:
            return self._end(stream, "reset", now, tally)
        elif kind == _WINDOW_UPDATE and not stream:
            self._widen(int.from_bytes(payload, "big"))
        elif kind == _PING and not flags & _ACK:
            self._out += _frame(_PING, _ACK, 0, payload)
        elif kind == _SETTINGS and not flags & _ACK:
            self._out += _frame(_SETTINGS, _ACK, 0, b"")
        elif kind == _GOAWAY:
            raise ConnectionError("the server sent GOAWAY")
        return 0

    def _widen(self, by: int) -> None:
        self._window += by
        while self._waiting and self._waiting[0][1].size <= self._window:
            self._write(*self._waiting.popleft())

    def _end(self, stream: int, status: str, now: float, tally: Tally) -> int:
        flight, answer = self.flying.pop(stream, None), self._answers.pop(stream, b"")
        if flight is None:
            return 0
        due, number = flight
        tally.latencies.append(now - due)
        tally.done += 1
        if status != "0":
            tally.fault(f"status {status}")
        elif not self._call.right(answer if self._call.rest else answer[5:], number):
            tally.fault(WRONG)
        return 1

    def _status(self, block: bytes) -> str:
        """Returns the status in the header block, of gRPC or of HTTP: "0" for success, "" if it has none."""
        known = self._statuses.get(block)
        if known is None:
            headers = {str(name): str(value) for name, value in self._decoder.decode(block)}
            if self._call.rest:
                status = headers.get(":status", "")
                known = {"": "", "200": "0"}.get(status, f"HTTP {status}")
            else:
                known = headers.get("grpc-status", f"missing, HTTP {headers.get(':status', 'unknown')}")
            self._statuses[block] = known
        return known


class _Frames(NamedTuple):
    """A message's DATA frames, each up to its stream number and after it; `size` counts against flow control."""

    data: tuple[tuple[bytes, bytes], ...]
    size: int


def _frames(message: bytes, call: Call) -> _Frames:
    body = message if call.rest else b"\0" + len(message).to_bytes(4, "big") + message
    if len(body) > _FIRST_WINDOW:
        raise ValueError(f"a message of {len(body)} bytes is more than a stream's first window")
    parts = [body[at : at + _MAX_FRAME] for at in range(0, len(body), _MAX_FRAME)]
    last = len(parts) - 1
    data = tuple(
        (len(part).to_bytes(3, "big") + bytes((_DATA, _END_STREAM if index == last else 0)), part)
        for index, part in enumerate(parts)
    )
    return _Frames(data, len(body))


def _connect(address: str) -> socket.socket:
    if address.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(address.removeprefix("unix:"))
        return connection
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _header_block(call: Call, address: str) -> bytes:
    authority = "localhost" if address.startswith("unix:") else address
    headers = [(":method", "POST"), (":scheme", "http"), (":path", call.path), (":authority", authority)]
    kind = (
        [("content-type", "application/json")]
        if call.rest
        else [("content-type", "application/grpc"), ("te", "trailers")]
    )
    # Fields that are never indexed make the same block on every stream.
    return bytes(Encoder().encode([(name, value, True) for name, value in (*headers, *kind, *call.headers)]))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
