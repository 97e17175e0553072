"""Measures what one caller can make all others carry, flood by flood, against a service of its own on SQLite.

    python -m tests.floods --output .data/floods/result.json

Each flood stops by itself. The figures are of this machine: compare them with those of another commit on it.
"""

from __future__ import annotations

import argparse
import base64
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict

from jit_service.storage.audit_log import AuditLog
from jitaccess.v1 import grant_pb2, grant_pb2_grpc
from tests.conftest import Clock
from tests.world import ACCESS, DELEGATIONS, GRANTS, Grpc, Person, Story, World, running_world

Row = dict[str, Any]
NOTE = "x" * 16_000
_CALLS = 500


class Flooded:
    """A service of its own for one flood, and what its store holds."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.story = Story(world, Grpc(world))
        self._file = directory / "jit.db"

    def sql(self, query: str) -> Any:
        with sqlite3.connect(self._file) as connection:
            return connection.execute(query).fetchone()[0]

    def payloads(self) -> list[bytes]:
        """Returns the records, as they were before they were packed together."""
        with closing(sqlite3.connect(self._file)) as connection:
            blocks = AuditLog(connection, sqlite=True).blocks(after=0, until=2**62)
            return [payload for block in blocks for payload in block.payloads]

    def record_bytes(self) -> int:
        return sum(map(len, self.payloads()))

    def records(self) -> int:
        return len(self.payloads())

    def until_refused(self, call: Callable[[int], Any], *, most: int) -> int:
        """Returns how often the call is answered OK, up to `most` times."""
        for count in range(most):
            while (outcome := call(count)).reason == "RATE_EXCEEDED":
                time.sleep(0.05)
            if outcome.code != "OK":
                return count
        return most


@contextmanager
def flooded(**settings: Any) -> Iterator[Flooded]:
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        directory = Path(made)
        world = stack.enter_context(running_world(directory, Clock(), f"sqlite:///{directory / 'jit.db'}", **settings))
        yield Flooded(world, directory)


def seconds(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return round(time.perf_counter() - begun, 3)


def batch() -> Row:
    with flooded() as flood:
        story = flood.story
        body = {
            "subject": {"type": "user", "id": story.alice.principal.removeprefix("user:")},
            "action": {"name": "read"},
            "resource": {"type": "database", "id": f"{story.id}/eu"},
            "context": {"note": NOTE},
            "evaluations": [{} for _ in range(1000)],
        }
        sent = json.dumps(body).encode()
        asked = {"body": {"contentType": "application/json", "data": base64.b64encode(sent).decode()}}
        before = flood.record_bytes()
        story.must(story.alice, "/authzen.v1.AuthorizationService/EvaluateAll", asked)
        return {"bytes_sent": len(sent), "bytes_recorded": flood.record_bytes() - before}


def unproved() -> Row:
    with flooded() as flood:
        long = "\u200b" * 1000
        body = {"resources": [long] * 100, "actions": [long] * 100}
        request = ParseDict(body, grant_pb2.RequestGrantRequest())
        begun = time.perf_counter()
        for _ in range(_CALLS):
            flood.story.call(None, GRANTS + "RequestGrant", request)
        took = round(time.perf_counter() - begun, 1)
        longest = max(map(len, flood.payloads()), default=0)
        told = {"records": flood.records(), "bytes_recorded": flood.record_bytes(), "longest_record": longest}
        return {"calls": _CALLS, "seconds": took} | told


def children() -> Row:
    with flooded() as flood:
        story = flood.story
        story.create_policy(steps=[], maxChildDepth=1)
        parent = story.asks(context={"note": NOTE})

        def pass_on(number: int) -> Any:
            asked = {
                "resources": [story.resource],
                "actions": ["read"],
                "parent": parent.name,
                "subject": f"service:job-{number}",
                "context": {"note": NOTE},
            }
            return story.call(story.alice, GRANTS + "RequestGrant", asked)

        there = flood.until_refused(pass_on, most=400)
        revoke = {"name": parent.name, "comment": "leak"}
        return {
            "children": there,
            "revoke_seconds": seconds(lambda: story.must(story.admin, GRANTS + "RevokeGrant", revoke)),
        }


def pending() -> Row:
    with flooded() as flood:
        story = flood.story
        story.create_policy()
        resources = [f"database/{story.id}/{'t' * 900}{number}" for number in range(100)]
        asked = {"resources": resources, "actions": ["read"]}
        wide = story.call(story.alice, GRANTS + "RequestGrant", asked)
        small = {"resources": [story.resource], "actions": ["read"]}
        there = flood.until_refused(lambda _: story.call(story.alice, GRANTS + "RequestGrant", small), most=200)
        return {"request_of_90_kB": wide.reason or "taken", "pending": there}


def streams() -> Row:
    with flooded() as flood, ExitStack() as stack:
        story = flood.story
        channel = stack.enter_context(grpc.insecure_channel(str(flood.world.grpc)))
        stub = grant_pb2_grpc.GrantServiceStub(channel)

        def watching(person: Person) -> bool:
            metadata = [("authorization", f"Bearer {flood.world.token(person)}")]
            stream = stub.WatchGrants(grant_pb2.WatchGrantsRequest(), metadata=metadata, timeout=60)
            stack.callback(stream.cancel)
            try:
                next(stream)
            except grpc.RpcError:
                return False
            return True

        mine = sum(watching(story.alice) for _ in range(70))
        return {"streams_of_one": mine, "the_checker_has_one": watching(story.gateway)}


def writes() -> Row:
    with flooded() as flood:
        story = flood.story
        until = time.monotonic() + 5
        taken = tried = 0
        while time.monotonic() < until:
            tried += 1
            taken += story.call(story.dave, GRANTS + "RequestGrant", {}).reason != "RATE_EXCEEDED"
        return {"tried_in_5_s": tried, "taken": taken, "records": flood.records()}


def search() -> Row:
    with flooded(writes_per_second=1e6) if rated() else flooded() as flood:
        story = flood.story
        story.create_policy(steps=[])
        for number in range(80):
            resources = [f"database/{story.id}/t{number}-{part}" for part in range(100)]
            story.asks(resources=resources)
        asked = {"subject": story.alice.principal, "action": "read", "pageSize": 1000}
        return {"texts": 8000, "seconds": seconds(lambda: story.must(story.alice, ACCESS + "SearchAccess", asked))}


def delegations() -> Row:
    with flooded() as flood:
        story = flood.story
        expires = (flood.world.clock() + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
        wanted = {"delegation": {"delegate": story.bob.principal, "expireTime": expires}}
        there = flood.until_refused(
            lambda _: story.call(story.dave, DELEGATIONS + "CreateDelegation", wanted), most=500
        )
        listed = {"view": "REVIEWABLE"}
        return {
            "delegations_by_one": there,
            "call_of_the_delegate_seconds": seconds(lambda: story.must(story.bob, GRANTS + "ListGrants", listed)),
        }


def uses() -> Row:
    with flooded() as flood:
        story = flood.story
        story.create_policy(steps=[], maxUses=1000)
        story.asks(context={"note": NOTE})
        before = int(flood.sql("SELECT sum(length(CAST(document AS TEXT))) FROM grant_change"))
        for _ in range(100):
            story.check()
        after = int(flood.sql("SELECT sum(length(CAST(document AS TEXT))) FROM grant_change"))
        return {"checks": 100, "bytes_of_changes_a_check": (after - before) // 100}


def pages() -> Row:
    with flooded(writes_per_second=1e6) if rated() else flooded() as flood:
        story = flood.story
        story.create_policy(steps=[])
        for _ in range(1000):
            story.asks(justification={"text": "x" * 4096})
        outcome = story.call(story.alice, GRANTS + "ListGrants", {"pageSize": 1000})
        size = outcome.message.ByteSize() if outcome.message is not None else 0
        return {"answer": outcome.code, "bytes": size}


def rated() -> bool:
    """Returns whether this commit bounds the writes of a principal."""
    from jit_service.settings import Settings

    return "writes_per_second" in Settings.model_fields


FLOODS = (batch, unproved, children, pending, streams, writes, search, delegations, uses, pages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--output", type=Path, help="Where the figures are written, as JSON.")
    parser.add_argument("--only", choices=[flood.__name__ for flood in FLOODS], help="One flood alone.")
    given = parser.parse_args()
    result: dict[str, Row] = {}
    for flood in FLOODS:
        if given.only in (None, flood.__name__):
            sys.stderr.write(f"{flood.__name__} ...\n")
            result[flood.__name__] = flood()
            sys.stdout.write(f"{flood.__name__}: {json.dumps(result[flood.__name__])}\n")
            sys.stdout.flush()
    if given.output is not None:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
