"""Cerbos: the server binary over gRPC, with one policy whose rule has a condition.

It stores no facts: each question carries the facts that decide it, here who has access to the resource until when. The
messages are written by hand from cerbos.request.v1, since they are four fields.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from google.protobuf.struct_pb2 import Value

from bench.facts import NewQuestions, Question
from bench.frames import Call
from bench.machine import SERVER_CORE, Process, Unavailable
from bench.peers.install import CERBOS, demand
from bench.rounds import Server
from bench.servers import Bench, Running, wait_until_right

CAVEAT: Final = (
    "keeps no facts: each question carries the one that it is judged by, so nothing is looked up, stored, revoked or "
    "recorded (its audit log is off)"
)
_PATH: Final = "/cerbos.svc.v1.CerbosService/CheckResources"
_ALLOW: Final = b"\x10\x01"
_CONFIG: Final = """
server: {httpListenAddr: "127.0.0.1:0", grpcListenAddr: "unix:%(socket)s"}
storage: {driver: disk, disk: {directory: %(policies)s, watchForChanges: false}}
telemetry: {disabled: true}
"""
_POLICY: Final = """
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: table
  version: default
  rules:
    - actions: ["read", "write", "rows.create", "rows.delete"]
      effect: EFFECT_ALLOW
      roles: ["user"]
      condition:
        match:
          expr: >-
            request.resource.attr.holder == request.principal.id && now() < timestamp(request.resource.attr.expires)
"""


def start(bench: Bench, asked: Sequence[Question]) -> Server:
    """Starts Cerbos with its one policy. Raises Unavailable."""
    binary, place = demand(CERBOS, "Cerbos"), bench.place("cerbos")
    policies = place / "policies"
    policies.mkdir()
    (policies / "table.yaml").write_text(_POLICY)
    socket = place / "s"
    config = place / "config.yaml"
    config.write_text(_CONFIG % {"socket": socket, "policies": policies})
    environment = {"GOMAXPROCS": "1"}
    command: list[str | Path] = [binary, "server", f"--config={config}", "--log-level=error"]
    process = bench.keep(Process(command, log=place / "log", core=SERVER_CORE, environment=environment, speaks=False))
    running = Running(address=f"unix:{socket}", processes=[process])
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86_400 * 20))
    unrepeated = isinstance(asked, NewQuestions)
    messages = _Messages(asked, expires) if unrepeated else [_message(question, expires) for question in asked]

    def right(answer: bytes, number: int) -> bool:
        question = asked[number]
        return _allows(answer, question.action) is question.allowed

    call = Call(path=_PATH, messages=messages, right=right, unrepeated=unrepeated)
    end = time.monotonic() + 20
    while not socket.exists():
        if time.monotonic() > end:
            raise Unavailable(f"Cerbos does not listen: {process.last_words()}")
        time.sleep(0.1)
    wait_until_right(running, call)
    return Server(running=running, call=call)


class _Messages(Sequence[bytes]):
    """The messages of questions, each made when it is asked for."""

    def __init__(self, asked: Sequence[Question], expires: str) -> None:
        self._asked, self._expires = asked, expires

    def __len__(self) -> int:
        return len(self._asked)

    def __getitem__(self, number: int) -> bytes:  # type: ignore[override]
        return _message(self._asked[number], self._expires)


def _message(question: Question, expires: str) -> bytes:
    """CheckResourcesRequest: request_id 1, principal 3 (id 1, roles 3), resources 4 (actions 1, resource 2)."""
    principal = _text(1, question.subject) + _text(3, "user")
    attributes = _attribute("holder", question.fact.subject) + _attribute("expires", expires)
    resource = _text(1, "table") + _text(3, question.resource) + attributes
    entry = _text(1, question.action) + _bytes(2, resource)
    return _text(1, "1") + _bytes(3, principal) + _bytes(4, entry)


def _attribute(name: str, text: str) -> bytes:
    """One entry of map<string, Value> attr = 4 of the resource."""
    return _bytes(4, _text(1, name) + _bytes(2, Value(string_value=text).SerializeToString()))


def _text(number: int, text: str) -> bytes:
    return _bytes(number, text.encode())


def _bytes(number: int, content: bytes) -> bytes:
    """A length-delimited field; contents here are shorter than 16,384 bytes."""
    length = len(content)
    size = bytes((length,)) if length < 128 else bytes((length & 127 | 128, length >> 7))
    return bytes((number << 3 | 2,)) + size + content


def _allows(answer: bytes, action: str) -> bool:
    """The entry of map<string, Effect> actions for the action: its value 1 is EFFECT_ALLOW, 2 EFFECT_DENY."""
    return _text(1, action) + _ALLOW in answer
