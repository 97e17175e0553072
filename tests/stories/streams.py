"""Streams of WatchGrants over every surface, read as they come."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from google.protobuf.json_format import ParseDict
from google.rpc import status_pb2

from jitaccess.v1.grant_pb2 import WatchGrantsRequest, WatchGrantsResponse
from tests.world import GRANTS, Outcome, Person, Story, code_name, refusal

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
    if story.surface.name == "grpc":
        call = story.world.channel.unary_stream(
            GRANTS + "WatchGrants",
            request_serializer=WatchGrantsRequest.SerializeToString,
            response_deserializer=WatchGrantsResponse.FromString,
        )
        answers = call(
            ParseDict(body, WatchGrantsRequest()), metadata=[("authorization", f"Bearer {token}")], timeout=30
        )
        try:
            yield answers
        finally:
            answers.cancel()
        return
    connection = http.client.HTTPConnection(story.world.http.host, story.world.http.port, timeout=30)
    query = urlencode({key: str(value).lower() if value is True else value for key, value in body.items()})
    connection.request("GET", f"/v1/grants:watch?{query}", headers={"authorization": f"Bearer {token}"})
    response = connection.getresponse()
    try:
        yield _lines(response)
    finally:
        connection.close()


def _lines(response: http.client.HTTPResponse) -> Events:
    while line := response.readline():
        data = json.loads(line)
        if response.status != 200:
            status = ParseDict(data, status_pb2.Status())
            raise Refused(refusal(code_name(status.code), status.message, status))
        yield ParseDict(data, WatchGrantsResponse())


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
