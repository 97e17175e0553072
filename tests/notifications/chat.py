"""Slack, and a Teams workflow, on loopback: they check payloads by the published rules, and answer as asked."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from jsonschema import Draft202012Validator

TOKEN = "xoxb-hunter2"
_SCHEMAS = Path(__file__).parent / "schemas"
LARGEST_CARD = 28 * 1024
"""Bytes of a message that Teams takes."""


def demand_valid(content: Any, schema: str) -> None:
    """Raises ValidationError unless the content is what the schema says."""
    Draft202012Validator(json.loads((_SCHEMAS / f"{schema}.json").read_text())).validate(content)


@dataclass(frozen=True)
class Call:
    """A call that came."""

    path: str
    headers: dict[str, str]
    content: Any


@dataclass
class Chat:
    """What came, and what is answered. `answers` are given first, one a call: a status, headers and a body.

    `posts` are the messages that stand in Slack by channel and ts, as they are now.
    """

    port: int = 0
    calls: list[Call] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    posts: dict[tuple[str, str], Any] = field(default_factory=dict)
    people: dict[str, str] = field(default_factory=dict)
    arrivals: queue.SimpleQueue[Call] = field(default_factory=queue.SimpleQueue)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def errs(self, code: str) -> None:
        """Has Slack answer the next call with an error."""
        self.answers.append((200, {}, json.dumps({"ok": False, "error": code}).encode()))

    def answer(self, call: Call) -> tuple[int, dict[str, str], bytes]:
        if self.answers:
            return self.answers.pop(0)
        if call.path.startswith("/services/"):
            demand_valid(call.content, "slack_message")
            return 200, {}, b"ok"
        if call.path.startswith("/workflows/"):
            demand_valid(call.content, "teams_message")
            return 202, {}, b""
        if call.path.startswith("/api/"):
            return 200, {}, json.dumps(self._slack(call)).encode()
        return 404, {}, b""

    def _slack(self, call: Call) -> Any:
        if call.headers.get("authorization") != f"Bearer {TOKEN}":
            return {"ok": False, "error": "invalid_auth"}
        method, content = call.path.removeprefix("/api/"), call.content
        if method == "users.lookupByEmail":
            found = self.people.get(content["email"][0])
            return {"ok": True, "user": {"id": found}} if found else {"ok": False, "error": "users_not_found"}
        demand_valid(content, "slack_message")
        if method == "chat.postMessage":
            channel, ts = f"D0{content['channel'].strip('#')}".upper(), f"17000000{len(self.posts):02}.000100"
            self.posts[channel, ts] = content
            return {"ok": True, "channel": channel, "ts": ts, "message": content}
        key = content["channel"], content["ts"]
        if method != "chat.update" or key not in self.posts:
            return {"ok": False, "error": "message_not_found"}
        self.posts[key] = content
        return {"ok": True, "channel": key[0], "ts": key[1], "text": content["text"]}


@contextmanager
def chat() -> Iterator[Chat]:
    """Runs the servers. In the end, nothing that came may have been against the rules."""
    here = Chat()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            is_json = "json" in self.headers["content-type"]
            content = json.loads(body) if is_json else parse_qs(body.decode(), strict_parsing=True)
            call = Call(self.path, {key.lower(): value for key, value in self.headers.items()}, content)
            here.calls.append(call)
            try:
                status, headers, answer = here.answer(call)
            except Exception as fault:
                here.wrong.append(str(fault))
                status, headers, answer = 400, {}, b"invalid_payload"
            here.arrivals.put(call)
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
    assert here.wrong == []


def secret_file(directory: Path, text: str, name: str = "secret") -> str:
    """Writes a file with a secret. Returns its path."""
    path = directory / name
    path.touch(mode=0o600)
    path.write_text(text + "\n")
    return str(path)
