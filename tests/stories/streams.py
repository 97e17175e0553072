"""Streams over every surface, read as they come."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.rpc import status_pb2

from jitaccess.v1.audit_pb2 import StreamAuditVerificationResponse, TailAuditEventsResponse
from jitaccess.v1.grant_pb2 import WatchGrantsResponse
from jitaccess.v1.policy_pb2 import StreamPolicySimulationResponse
from tests.world import AUDIT, GRANTS, POLICIES, Outcome, Person, Story, code_name, messages_of, refusal, rest_call

Events = Iterator[WatchGrantsResponse]
_JIT = (sys.executable, "-c", "from jitaccess.cli import main; main()")


class Refused(AssertionError):
    """The stream did not come."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


@contextmanager
def watching(story: Story, person: Person, **body: Any) -> Iterator[Events]:
    """Opens the stream on the story's surface. The command line begins with what is live, and says no heartbeats."""
    token = story.world.token(person)
    if story.surface.name == "cli":
        with _jit_watching(story, token, **body) as events:
            yield events
        return
    with _streaming(story, token, GRANTS + "WatchGrants", body) as messages:
        yield messages


@contextmanager
def tailing(story: Story, person: Person, **body: Any) -> Iterator[Iterator[TailAuditEventsResponse]]:
    """Opens the audit log's tail on the story's surface."""
    with _streaming(story, story.world.token(person), AUDIT + "TailAuditEvents", body) as messages:
        yield messages


@contextmanager
def verifying(story: Story, person: Person, **body: Any) -> Iterator[Iterator[StreamAuditVerificationResponse]]:
    """Opens the verification of the audit log on the story's surface."""
    with _streaming(story, story.world.token(person), AUDIT + "StreamAuditVerification", body) as messages:
        yield messages


@contextmanager
def simulating(story: Story, person: Person, **body: Any) -> Iterator[Iterator[StreamPolicySimulationResponse]]:
    """Opens the simulation of policies on the story's surface."""
    with _streaming(story, story.world.token(person), POLICIES + "StreamPolicySimulation", body) as messages:
        yield messages


@contextmanager
def exporting(story: Story, person: Person, **body: Any) -> Iterator[Iterator[bytes]]:
    """Opens the export on the story's surface, and yields its lines."""
    with _streaming(story, story.world.token(person), AUDIT + "ExportAuditEvents", body) as messages:
        yield (line for message in messages for line in message.data.splitlines(keepends=True))


@contextmanager
def _streaming(story: Story, token: str, method: str, body: dict[str, Any]) -> Iterator[Iterator[Any]]:
    request, answer = messages_of(method)
    if story.surface.name == "grpc":
        call = story.world.channel.unary_stream(
            method,
            request_serializer=request.SerializeToString,
            response_deserializer=answer.FromString,  # type: ignore[attr-defined]
        )
        answers = call(ParseDict(body, request()), metadata=[("authorization", f"Bearer {token}")], timeout=30)
        try:
            yield answers
        finally:
            answers.cancel()
        return
    connection = http.client.HTTPConnection(story.world.http.host, story.world.http.port, timeout=30)
    verb, path, data = rest_call(method, body)
    content = {"content-type": "application/json"} if data else {}
    connection.request(verb, path, body=data, headers={"authorization": f"Bearer {token}"} | content)
    response = connection.getresponse()
    try:
        yield _lines(response, answer)
    finally:
        connection.close()


def _lines(response: http.client.HTTPResponse, answer: type[Message]) -> Iterator[Any]:
    while line := response.readline():
        if response.status != 200:
            status = ParseDict(json.loads(line), status_pb2.Status())
            refused = refusal(code_name(status.code), status.message, status)
            # Over REST fields have JSON's names.
            fields = tuple(re.sub("([A-Z])", lambda found: f"_{found[1].lower()}", field) for field in refused.fields)
            raise Refused(replace(refused, fields=fields))
        if answer is HttpBody:
            yield HttpBody(content_type=response.headers["content-type"], data=line)
        else:
            yield ParseDict(json.loads(line), answer())


@contextmanager
def _jit_watching(story: Story, token: str, *, view: str = "MINE") -> Iterator[Events]:
    with tempfile.TemporaryDirectory(prefix="jit-cli-") as directory:
        file = Path(directory) / "token"
        file.write_text(token)
        argv = [*_JIT, "--address", str(story.world.grpc), "--token-file", str(file), "-o", "json"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("JIT_")}
        env["JIT_CONFIG"] = str(Path(directory) / "none.toml")
        process = subprocess.Popen(
            [*argv, "ls", "--watch", "--view", view.lower()], env=env, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            yield (ParseDict(json.loads(line), WatchGrantsResponse()) for line in process.stdout)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
