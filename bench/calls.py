"""Single calls of the API, timed: one answer, a stream, a page of the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from bench import frames
from bench.frames import Call
from bench.machine import Unavailable
from bench.servers import Running

LONG_SECONDS: Final = 1800
"""How long one call may take before it counts as failed."""
Answer = TypeVar("Answer", bound=Message)


def ask(running: Running, who: str, path: str, request: Message, answer: type[Answer]) -> tuple[Answer, float]:
    """Returns the answer of one call, and its seconds. Raises Unavailable with the status where it fails."""
    got: list[bytes] = []

    def keep(message: bytes, _: int) -> bool:
        got.append(message)
        return True

    call = Call(path=path, messages=[request.SerializeToString()], headers=running.headers(who), right=keep)
    try:
        tally = frames.each_once(running.address, call, connections=1, streams=1, timeout=LONG_SECONDS)
    except (OSError, TimeoutError) as fault:
        raise Unavailable(f"{path}: {fault}") from fault
    if tally.faults or not got:
        raise Unavailable(f"{path}: {', '.join(tally.faults) or 'no answer'}")
    return answer.FromString(got[0]), tally.latencies[0]


def stream(running: Running, who: str, path: str, request: Message, answer: type[Answer]) -> Iterator[Answer]:
    """Yields the answers of a call that streams. Raises Unavailable with the status where it fails."""
    with grpc.insecure_channel(running.address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        call: Any = channel.unary_stream(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        try:
            yield from call(request, metadata=running.headers(who), timeout=LONG_SECONDS)
        except grpc.RpcError as fault:
            raise Unavailable(f"{path}: {fault.code().name} {fault.details()}") from fault
