"""Measures the client's replica: a check in-process, and from a revocation to the first no, end to end.

Starts a service of its own as a process, on SQLite in a temporary directory, with so many grants, and prints one JSON
line per metric:

    python bench/replica.py --grants 1000 --checks 20000 --revocations 200

`check_us` is one call of LocalChecker.check, clock readings included, half of them a yes. `revoke_to_deny_ms` runs
from when the revocation is sent until a check is a no; `revoke_ack_to_deny_ms` from when it is answered (0: the replica
knew before).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from bench.seed import key_file
from jit_service.domain.caller import Caller, Origin, Role
from jit_service.domain.grants import approval, request
from jit_service.domain.grants.request import Ask
from jit_service.domain.policies.diff import PolicyDraft
from jit_service.domain.policies.policy import Policy, PrincipalSet
from jit_service.runtime.dev_issuer import DevIssuer
from jit_service.runtime.service import utc_now
from jit_service.storage import Store
from jit_service.storage.migrate import migrate
from jit_service.storage.sealing_keys import SealingKeys
from jit_service.use_cases.keyring import secrets_of
from jit_service.use_cases.policies import apply
from jitaccess import JitClient, LocalChecker

HOUR = timedelta(hours=1)
CHUNK = 1000
PER_SUBJECT = 4
OPEN = Policy(
    name="policies/open",
    eligible=PrincipalSet(groups=("engineering",)),
    resources=("database/**",),
    actions=("read",),
    max_duration=HOUR,
)
DENIES = tuple(
    Policy(
        name=f"policies/deny-{index}",
        eligible=PrincipalSet(groups=(f"contractors-{index}",)),
        resources=("database/**",),
        actions=("**",),
        deny=True,
    )
    for index in range(9)
)
ADMIN = Caller(principal="user:admin@example.com", roles=frozenset({Role.ADMIN}), origin=Origin(method="bench"))


def main() -> None:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grants", type=int, default=1000, help="live grants in the store")
    parser.add_argument("--checks", type=int, default=20_000, help="checks that are timed")
    parser.add_argument("--revocations", type=int, default=200, help="revocations that are timed")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="jit-bench-") as directory,
        _service(Path(directory), given.grants) as where,
    ):
        issuer = DevIssuer(Path(directory))
        gateway = issuer.token("service:gateway", roles=[Role.CHECKER], now=utc_now())
        alice = issuer.token("user:alice@example.com", groups=["engineering"], now=utc_now())
        with JitClient(where, token=gateway) as client, JitClient(where, token=alice) as holder:
            began = time.perf_counter()
            with LocalChecker(client, ask_service=False) as checker:
                checker.wait_ready(timeout=300)
                _say("load_s", [time.perf_counter() - began], grants=len(checker))
                _say("check_us", _checks(checker, given.grants, given.checks), grants=len(checker))
                sent, acked = _revocations(checker, holder, given.revocations)
                _say("revoke_to_deny_ms", sent, grants=len(checker))
                _say("revoke_ack_to_deny_ms", acked, grants=len(checker))


def _checks(checker: LocalChecker, grants: int, count: int) -> list[float]:
    """Times each check, in microseconds."""
    questions = [
        (_subject(index), "read", _resource(index) if index % 2 else "database/none/eu")
        for index in range(0, grants, max(1, grants // 1000))
    ]
    for index, question in enumerate(questions):
        expected = question[2] != "database/none/eu"
        if bool(checker.check(*question)) is not expected:
            raise AssertionError(f"question {index} is answered otherwise than expected")
    spans = []
    for index in range(count):
        subject, action, resource = questions[index % len(questions)]
        began = time.perf_counter_ns()
        checker.check(subject, action, resource)
        spans.append((time.perf_counter_ns() - began) / 1000)
    return spans


def _revocations(checker: LocalChecker, holder: JitClient, count: int) -> tuple[list[float], list[float]]:
    """Times each revocation, in milliseconds: from its sending, and from its answer."""
    from_sent, from_ack = [], []
    for index in range(count):
        resource = f"database/revoked/{index}"
        grant = holder.request(resource, "read", duration=HOUR)
        checker.wait_for(grant.revision)
        if not checker.check("user:alice@example.com", "read", resource):
            raise AssertionError("what was granted is not allowed")
        acked: list[float] = []
        revoker = threading.Thread(
            target=lambda name=grant.name, acked=acked: (
                holder.revoke(name, comment="bench"),
                acked.append(time.perf_counter()),
            )
        )
        sent = time.perf_counter()
        revoker.start()
        while checker.check("user:alice@example.com", "read", resource):
            time.sleep(0.0002)
        denied = time.perf_counter()
        revoker.join()
        from_sent.append((denied - sent) * 1000)
        from_ack.append(max(0.0, denied - acked[0]) * 1000)
    return from_sent, from_ack


@contextmanager
def _service(directory: Path, grants: int) -> Iterator[str]:
    """Runs the service with so many grants. Yields its address."""
    url = f"sqlite:///{directory / 'jit.db'}"
    migrate(url)
    _fill(url, grants)
    issuers = f"[{DevIssuer(directory).issuer().model_dump_json(exclude_none=True)}]"
    command = [sys.executable, "-m", "jit_service", "serve", "--data-dir", str(directory), "--grpc", "127.0.0.1:0"]
    environment = os.environ | {"JIT_ISSUERS": issuers, "JIT_DATABASE_URL": url, "JIT_KEY_FILE": str(key_file())}
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            if not line:
                raise RuntimeError(f"the service did not start: {(directory / 'log').read_text()}")
            yield json.loads(line)["grpc"]
        finally:
            process.terminate()
            process.wait(timeout=30)


def _fill(url: str, count: int) -> None:
    store = Store(url, clock=utc_now, keys=SealingKeys.of(*secrets_of(key_file())))
    apply(store, ADMIN, [PolicyDraft(policy=policy) for policy in (OPEN, *DENIES)], prune=False)
    for first in range(0, count, CHUNK):
        with store.transaction() as tx:
            policies = tx.policies()
            for index in range(first, min(first + CHUNK, count)):
                by = Caller(principal=_subject(index), groups=frozenset({"engineering"}), origin=ADMIN.origin)
                ask = Ask(subject=by.principal, resources=(_resource(index),), actions=("read",), duration=HOUR)
                judged = request.judge_request(ask, policies=policies, by=by, grant_name=f"grants/b{index}", now=tx.now)
                tx.save_grant(*approval.open_request(judged, by=by, now=tx.now))
    store.close()


def _subject(index: int) -> str:
    return f"user:u{index // PER_SUBJECT}@example.com"


def _resource(index: int) -> str:
    return f"database/d{index}/eu"


def _say(metric: str, spans: Sequence[float], *, grants: int) -> None:
    ordered = sorted(spans)
    line = {
        "candidate": "replica",
        "metric": metric,
        "p50": _quantile(ordered, 0.50),
        "p99": _quantile(ordered, 0.99),
        "max": round(ordered[-1], 3),
        "n": len(ordered),
        "grants": grants,
    }
    print(json.dumps(line), flush=True)


def _quantile(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 3)


if __name__ == "__main__":
    main()
