"""Tokens: issued and introspected by the service, verified offline by the client library."""

from __future__ import annotations

import importlib
import json
import time
from typing import Any, Final

from google.protobuf import descriptor_pool
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

from bench import frames, seed
from bench.facts import fact
from bench.frames import Call
from bench.results import Recorder
from bench.rounds import measured, per
from bench.servers import TOKEN_ISSUER, Bench, Mode, Running

_SERVICE: Final = "/jitaccess.v1.TokenService/"
_AUDIENCE: Final = "https://orders.bench.invalid"
_ISSUED: Final = 300
_VERIFIED: Final = 2_000


def measure(bench: Bench, recorder: Recorder, rounds: int, transport: str) -> None:
    """Measures each in turn, for so many rounds."""
    try:
        importlib.import_module("jitaccess.v1.token_pb2")
        verify_token: Any = importlib.import_module("jitaccess").verify_token
    except (ImportError, AttributeError):
        recorder.skip("tokens", "this version has no tokens")
        return
    server = bench.ours(Mode(transport=transport, grants=1000))
    keys = _key_set(server)
    what = fact(0)
    for number in range(1, rounds + 1):
        issued: list[str] = []
        recorder.row("issue", number, "saturation", _issue(server, issued))
        token = issued[0]
        begin = time.process_time()
        for _ in range(_VERIFIED):
            held = verify_token(
                token, keys, issuer=TOKEN_ISSUER, audience=_AUDIENCE, action=what.action, resource=what.resource
            )
        spent = time.process_time() - begin
        wrong = {} if held.subject == what.subject else {"void": "it says another subject"}
        recorder.row(
            "verify offline", number, "in-process", {"cpu_us": per(spent, _VERIFIED), "errors": len(wrong)} | wrong
        )
        recorder.row("introspect", number, "saturation", _introspect(server, issued))


def _issue(server: Running, issued: list[str]) -> dict[str, Any]:
    def keep(answer: bytes, _: int) -> bool:
        issued.append(_answer("IssueToken", answer).token)
        return bool(issued[-1])

    body = {"name": seed.grant_name(0), "audience": [_AUDIENCE], "ttl": "300s"}
    return _measured(server, "holder", "IssueToken", [body] * _ISSUED, keep)


def _introspect(server: Running, issued: list[str]) -> dict[str, Any]:
    import base64

    bodies = [
        {
            "body": {
                "contentType": "application/x-www-form-urlencoded",
                "data": base64.b64encode(f"token={one}".encode()).decode(),
            }
        }
        for one in issued
    ]

    def active(answer: bytes, _: int) -> bool:
        return json.loads(_answer("IntrospectToken", answer).data).get("active") is True

    return _measured(server, "gateway", "IntrospectToken", bodies, active)


def _key_set(server: Running) -> Any:
    kept: list[Any] = []

    def keep(answer: bytes, _: int) -> bool:
        kept.append(json.loads(_answer("GetKeySet", answer).data))
        return True

    call = Call(path=_SERVICE + "GetKeySet", messages=[b""], headers=server.headers("gateway"), right=keep)
    frames.each_once(server.address, call, connections=1, streams=1)
    return kept[0]


def _measured(server: Running, who: str, method: str, bodies: list[dict[str, Any]], right: Any) -> dict[str, Any]:
    messages = [ParseDict(body, _messages(method)[0]()).SerializeToString() for body in bodies]
    before, mine = server.processes[0].cpu_seconds(), time.process_time()
    call = Call(path=_SERVICE + method, messages=messages, headers=server.headers(who), right=right)
    tally = frames.each_once(server.address, call, connections=4, streams=4)
    return measured(tally, server.processes[0].cpu_seconds() - before, load_cpu=time.process_time() - mine)


def _answer(method: str, answer: bytes) -> Any:
    return _messages(method)[1].FromString(answer)


def _messages(method: str) -> tuple[Any, Any]:
    pool: Any = descriptor_pool.Default()
    described = pool.FindMethodByName(f"{_SERVICE.strip('/')}.{method}")
    return GetMessageClass(described.input_type), GetMessageClass(described.output_type)
