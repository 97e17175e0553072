"""`jit` in the hands of people, against the real service behind the real Envoy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import prepared
from tests.test_commands import up

ALICE = "user:alice@example.com"


@dataclass(frozen=True, kw_only=True)
class World:
    """A running service, and the people who have tokens for it."""

    grpc: str
    http: str
    data_dir: Path

    def jit(self, person: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = dict(os.environ) | {"JIT_ADDRESS": self.grpc, "JIT_TOKEN_FILE": str(self._token_file(person))}
        env.pop("JIT_TOKEN", None)
        return subprocess.run(
            [prepared.command("jit"), *arguments], env=env, capture_output=True, text=True, timeout=60, check=False
        )

    @contextmanager
    def running(self, person: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Runs `jit` beside the test, which reads along."""
        env = dict(os.environ) | {"JIT_ADDRESS": self.grpc, "JIT_TOKEN_FILE": str(self._token_file(person))}
        env.pop("JIT_TOKEN", None)
        process = subprocess.Popen(
            [prepared.command("jit"), *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def rest(self, person: str, path: str) -> Any:
        token = self._token_file(person).read_text().strip()
        request = urllib.request.Request(self.http + path, headers={"authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=60) as answer:  # The service's own address.
            return json.load(answer)

    def _token_file(self, person: str) -> Path:
        return self.data_dir / "dev" / "tokens" / f"{person}.jwt"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    data_dir = tmp_path_factory.mktemp("jit")
    with up(data_dir) as (_, ready):
        yield World(grpc=ready["grpc"], http=ready["http"], data_dir=data_dir)


@pytest.fixture
def asked(world: World) -> dict[str, Any]:
    """A request of alice's that waits for one approval."""
    ran = world.jit(
        "alice", "request", f"database/orders/{uuid.uuid4().hex}", "--action", "write", "--for", "30m",
        "--justification", "repair", "-o", "json",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def test_asked_for_approved_checked_revoked(world: World, asked: dict[str, Any]) -> None:
    identifier = asked["name"].removeprefix("grants/")
    [resource] = asked["resources"]
    check = ("check", ALICE, "write", resource)

    steps: list[tuple[str, Callable[[], subprocess.CompletedProcess[str]], int, str]] = [
        ("the check says no before", lambda: world.jit("gateway", *check), 1, "PENDING"),
        ("bob sees it in his inbox", lambda: world.jit("bob", "inbox"), 0, identifier),
        ("alice may not approve", lambda: world.jit("alice", "approve", identifier), 4, ""),
        ("carol may not see it", lambda: world.jit("carol", "show", identifier), 4, ""),
        ("bob approves by prefix", lambda: world.jit("bob", "approve", identifier[:12]), 0, "ACTIVE"),
        ("bob cannot approve twice", lambda: world.jit("bob", "approve", identifier), 6, ""),
        ("the check says yes", lambda: world.jit("gateway", *check), 0, "ALLOWED"),
        (
            "not for another action",
            lambda: world.jit("gateway", "check", ALICE, "rows.drop", resource),
            1,
            "",
        ),
        ("bob revokes", lambda: world.jit("bob", "revoke", identifier, "--comment", "over"), 0, "REVOKED"),
        ("the check says no after", lambda: world.jit("gateway", *check), 1, "REVOKED"),
        ("the audit verifies", lambda: world.jit("auditor", "audit", "verify"), 0, "valid: "),
    ]
    for told, step, code, words in steps:
        ran = step()
        assert ran.returncode == code, f"{told}: {ran.stdout}{ran.stderr}"
        assert words in ran.stdout, f"{told}: {ran.stdout}"


def test_the_audit_log_is_kept_elsewhere_and_held_against_that(world: World, tmp_path: Path) -> None:
    kept, lines = tmp_path / "checkpoint.json", tmp_path / "audit.ndjson"
    kept.write_text(world.jit("auditor", "audit", "checkpoint", "-o", "json").stdout)
    said = json.loads(kept.read_text())

    verified = world.jit("auditor", "audit", "verify", "--checkpoint", str(kept))
    exported = world.jit("auditor", "audit", "export", "--to", str(lines), "--end-seq", said["eventCount"])
    refused = world.jit("alice", "audit", "export", "--to", str(tmp_path / "mine"))

    assert (verified.returncode, verified.stdout.splitlines()[1]) == (0, "the checkpoint is signed by this service")
    assert (exported.returncode, exported.stderr) == (0, "")
    assert json.loads(lines.read_text().splitlines()[-1])["hash"] == said["headHash"]
    assert (refused.returncode, (tmp_path / "mine").exists()) == (4, False)


def test_what_is_recorded_is_told_as_it_happens(world: World) -> None:
    start = json.loads(world.jit("auditor", "audit", "checkpoint", "-o", "json").stdout)["eventCount"]
    with world.running("auditor", "audit", "tail", "--start-seq", start, "-o", "json") as tail:
        world.jit("gateway", "check", ALICE, "write", "database/orders/nothing")
        assert tail.stdout is not None
        told = json.loads(tail.stdout.readline())

    assert told["auditEvent"]["eventType"] == "ACCESS_CHECKED"
    assert told["seq"] == str(int(start) + 1)


def test_json_is_what_rest_gives(world: World, asked: dict[str, Any]) -> None:
    name = asked["name"]

    by_cli = json.loads(world.jit("alice", "show", name, "-o", "json").stdout)

    assert by_cli == world.rest("alice", f"/v1/{name}")


def test_json_of_a_list_is_what_rest_gives(world: World) -> None:
    by_cli = json.loads(world.jit("alice", "policy", "ls", "-o", "json").stdout)

    assert by_cli == world.rest("alice", "/v1/policies?pageSize=1000")


@pytest.mark.parametrize("person", ["alice", "bob", "carol", "dave", "gateway", "auditor", "admin"])
def test_everybody_is_accepted(world: World, person: str) -> None:
    ran = world.jit(person, "whoami")

    assert ran.returncode == 0, ran.stderr
    assert "accepts the token" in ran.stdout


def test_the_first_letters_of_several_grants_are_ambiguous(world: World) -> None:
    seen: dict[str, int] = {}
    while max(seen.values(), default=0) < 2:
        ran = world.jit("alice", "request", "database/orders/us", "--action", "read", "--for", "1m", "-o", "json")
        first = json.loads(ran.stdout)["name"].removeprefix("grants/")[0]
        seen[first] = seen.get(first, 0) + 1
    letter = next(first for first, count in seen.items() if count == 2)

    ran = world.jit("alice", "show", letter)

    assert ran.returncode == 2
    assert "AMBIGUOUS_ID" in ran.stderr


def test_a_signal_opens_and_closes_access(world: World) -> None:
    ask = ("request", "service/shop", "--action", "restart", "--ensure")
    assert world.jit("alice", *ask).returncode == 4
    assert world.jit("admin", "signal", "set", "incident", "on", "--for", "4h").returncode == 0
    assert world.jit("alice", *ask).returncode == 0
    check = ("check", ALICE, "restart", "service/shop")
    assert world.jit("gateway", *check).returncode == 0

    assert world.jit("admin", "signal", "rm", "incident").returncode == 0

    assert "CONDITION_ERROR" in world.jit("gateway", *check).stdout


def test_a_dry_run_leaves_nothing_and_ensure_answers_the_same_again(world: World) -> None:
    resource = f"database/orders/{uuid.uuid4().hex}"
    ask = ("request", resource, "--action", "read", "--for", "10m", "-o", "json")

    dry = json.loads(world.jit("alice", *ask, "--dry-run").stdout)
    first, second = (json.loads(world.jit("alice", *ask, "--ensure").stdout) for _ in range(2))

    assert (dry["name"], dry["preview"]["satisfiable"]) == ("", True)
    assert first["name"] == second["name"] != ""


def test_many_grants_end_at_once(world: World) -> None:
    place = f"database/orders/{uuid.uuid4().hex}"
    for part in ("a", "b"):
        assert world.jit("alice", "request", f"{place}/{part}", "--action", "read").returncode == 0

    ran = world.jit("admin", "revoke", "--matching", "--resource", place, "--comment", "leak", "--yes")

    assert (ran.returncode, ran.stdout) == (0, "2 grants ended\n")
    assert "REVOKED" in world.jit("gateway", "check", ALICE, "read", f"{place}/a").stdout


def pending(world: World, resource: str) -> str:
    """Returns the id of the request for the resource, as soon as it waits for a reviewer."""
    found: list[str] = []
    while not found:
        listed = json.loads(world.jit("bob", "inbox", "-o", "json").stdout)
        found = [grant["name"] for grant in listed["grants"] if grant["resources"] == [resource]]
    return found[0].removeprefix("grants/")


@pytest.mark.parametrize(("decision", "code", "state"), [("approve", 0, "ACTIVE"), ("deny", 1, "DENIED")])
def test_who_waits_hears_the_decision(world: World, decision: str, code: int, state: str) -> None:
    resource = f"database/orders/{uuid.uuid4().hex}"
    ask = ("request", resource, "--action", "write", "--justification", "repair", "--wait", "-q", "-o", "json")

    with world.running("alice", *ask) as waiting:
        decided = world.jit("bob", decision, pending(world, resource))
        out, err = waiting.communicate(timeout=60)

    assert decided.returncode == 0, decided.stderr
    assert (waiting.returncode, json.loads(out)["state"], err) == (code, state, "")


def test_a_command_runs_while_there_is_access_and_gives_it_back(world: World) -> None:
    resource = f"database/orders/{uuid.uuid4().hex}"

    ran = world.jit("alice", "run", resource, "--action", "read", "--", "sh", "-c", 'echo "$JIT_GRANT"; exit 7')

    assert (ran.returncode, ran.stderr) == (7, "")
    assert "RELEASED" in world.jit("alice", "show", ran.stdout.strip()).stdout


def test_who_is_interrupted_while_waiting_to_run_takes_the_request_back(world: World) -> None:
    resource = f"database/orders/{uuid.uuid4().hex}"
    ask = ("run", resource, "--action", "write", "--justification", "repair")

    with world.running("alice", *ask, "--", "true") as waiting:
        identifier = pending(world, resource)
        waiting.send_signal(signal.SIGTERM)
        waiting.communicate(timeout=60)

    assert waiting.returncode == 128 + signal.SIGTERM
    assert "WITHDRAWN" in world.jit("alice", "show", identifier).stdout


def test_a_command_that_waits_for_approval_ends_when_the_access_is_revoked(world: World) -> None:
    resource = f"database/orders/{uuid.uuid4().hex}"
    ask = ("run", resource, "--action", "write", "--justification", "repair")

    with world.running("alice", *ask, "--", "sh", "-c", "echo ready; exec sleep 600") as running:
        identifier = pending(world, resource)
        assert world.jit("bob", "approve", identifier).returncode == 0
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        assert world.jit("bob", "revoke", identifier, "--comment", "over").returncode == 0
        _, err = running.communicate(timeout=60)

    assert running.returncode == 9
    assert "REVOKED: by user:bob@example.com" in err


def test_a_watch_tells_what_happens(world: World) -> None:
    ask = ("request", f"database/orders/{uuid.uuid4().hex}", "--action", "read", "-o", "json")
    name = json.loads(world.jit("alice", *ask).stdout)["name"]

    with world.running("alice", "ls", "--watch", "-o", "json") as watching:
        assert watching.stdout is not None
        told = (json.loads(line) for line in watching.stdout)
        first = next(event for event in told if event["grant"]["name"] == name)
        assert world.jit("alice", "release", name).returncode == 0
        second = next(event for event in told if event["grant"]["name"] == name)
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=60)

    assert (first["eventType"], first["grant"]["state"]) == ("CURRENT", "ACTIVE")
    assert (second["eventType"], second["grant"]["state"]) == ("GRANT_RELEASED", "RELEASED")
    assert (watching.returncode, err) == (130, "")


OPS = """
policies:
- name: policies/ops
  eligible: {groups: [engineering]}
  resources: ["ops/**"]
  actions: [start, stop]
  maxDuration: 7200s
  idleTimeout: 3600s
  maxChildDepth: 1
  extension: {maxExtensions: 2, maxTotalDuration: 86400s}
  breakGlass: {eligible: {groups: [engineering]}, maxDuration: 600s, reviewWithin: 3600s}
  steps:
  - displayName: Owners
    approvers: {groups: [database-owners]}
    timeout: 3600s
    escalateTo: {groups: [security]}
"""


@pytest.fixture(scope="module")
def ops(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The service with a policy that lets everything be done that one can do to a grant."""
    file = tmp_path_factory.mktemp("policies") / "ops.yaml"
    file.write_text(OPS)
    assert world.jit("admin", "policy", "lint", str(file)).stdout == "nothing is wrong\n"
    assert world.jit("admin", "policy", "diff", str(file)).returncode == 1
    applied = world.jit("admin", "policy", "apply", str(file))
    assert applied.returncode == 0, applied.stderr
    assert world.jit("admin", "policy", "diff", str(file)).returncode == 0
    return world


def ask(world: World, *flags: str) -> str:
    """Returns the id of a new request of alice's."""
    ran = world.jit(
        "alice", "request", f"ops/{uuid.uuid4().hex}", "--action", "start", "--action", "stop", "--for", "1h",
        "--justification", "pager", *flags, "-o", "json",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    name: str = json.loads(ran.stdout)["name"]
    return name.removeprefix("grants/")


Told = tuple[str, tuple[str, ...], int, tuple[str, ...]]


def follow(world: World, *steps: Told) -> None:
    """Lets the people run their commands, and compares exit codes and words."""
    for person, arguments, code, words in steps:
        ran = world.jit(person, *arguments)
        shown = " ".join(ran.stdout.split())
        assert ran.returncode == code, f"{person} {arguments}: {ran.stdout}{ran.stderr}"
        for part in words:
            assert part in shown, f"{person} {arguments}: {shown}"


def test_less_is_given_than_was_asked_for(ops: World) -> None:
    one = ask(ops)

    follow(
        ops,
        ("alice", ("show", one), 0, ("step 1 (Owners): 0 of 1 approvals", "goes to group security too")),
        (
            "bob",
            ("approve", one, "--for", "30m", "--action", "stop"),
            0,
            ("asked for: start, stop on", "given: stop on"),
        ),
        (
            "alice",
            ("show", one),
            0,
            ("for 30 min", "asked for start, stop on", "giving stop on", "unless idle for 1 h"),
        ),
    )


def test_an_offer_is_declined_and_another_accepted(ops: World) -> None:
    one = ask(ops)

    follow(
        ops,
        ("bob", ("counter", one, "--for", "10m", "--comment", "too long"), 0, ("offered: start, stop on", "too long")),
        ("alice", ("decline", one), 0, ("is PENDING",)),
        ("alice", ("accept", one), 6, ()),
        ("bob", ("counter", one, "--for", "20m"), 0, ("for 20 min",)),
        ("alice", ("accept", one), 0, ("is ACTIVE", "given: start, stop on", "for 20 min")),
    )


def test_more_time_is_asked_for_and_given(ops: World) -> None:
    one = ask(ops)
    assert ops.jit("bob", "approve", one).returncode == 0

    follow(
        ops,
        (
            "alice",
            ("extend", one, "--for", "30m", "--justification", "not done"),
            0,
            ("PENDING; lapses", "step 1 (Owners)"),
        ),
        ("bob", ("inbox",), 0, (one, "30 min more", "not done")),
        ("bob", ("approve", one), 0, ("is ACTIVE", "APPROVED")),
        ("alice", ("show", one), 0, ("extended 1 time", "step 1 of extension 1")),
    )


def test_who_waits_for_more_time_hears_the_answer(ops: World) -> None:
    one = ask(ops)
    assert ops.jit("bob", "approve", one).returncode == 0

    with ops.running("alice", "extend", one, "--for", "30m", "--justification", "x", "--wait") as waiting:
        while one not in ops.jit("bob", "inbox").stdout:
            pass
        assert ops.jit("bob", "deny", one).returncode == 0
        out, err = waiting.communicate(timeout=60)

    assert (waiting.returncode, "DENIED" in out) == (1, True)
    assert err.startswith(f"waiting for more time for grants/{one}: step 1 (Owners): 0 of 1 approvals")


def test_a_break_glass_use_owes_a_review(ops: World) -> None:
    resource = f"ops/{uuid.uuid4().hex}"
    taken = ops.jit(
        "alice", "request", resource, "--action", "stop", "--break-glass", "--justification", "fire", "-o", "json"
    )
    assert taken.returncode == 0, taken.stderr
    one = json.loads(taken.stdout)["name"].removeprefix("grants/")

    follow(
        ops,
        ("bob", ("review-debt",), 0, (one, "fire", "review due")),
        ("bob", ("ls", "--view", "review-debt"), 0, (one,)),
        ("alice", ("review", one, "--comment", "fine"), 4, ()),
        ("bob", ("review", one, "--comment", "it burnt"), 0, ("is reviewed by user:bob@example.com", "it burnt")),
        ("bob", ("review-debt",), 0, ("no break-glass use owes a review",)),
    )


def test_a_delegate_reviews_until_it_is_taken_back(ops: World) -> None:
    one, two = ask(ops), ask(ops)
    lent = ops.jit("bob", "delegate", "user:dave@example.com", "--for", "1d", "--comment", "away", "-o", "json")
    assert lent.returncode == 0, lent.stderr
    name = json.loads(lent.stdout)["name"]

    follow(
        ops,
        ("dave", ("delegations",), 0, ("user:bob@example.com", "user:dave@example.com", "all", "until")),
        ("dave", ("approve", one), 0, ("is ACTIVE",)),
        ("alice", ("show", one), 0, ("APPROVED by user:dave@example.com for user:bob@example.com",)),
        ("bob", ("undelegate", name), 0, ("is ended",)),
        ("dave", ("approve", two), 4, ()),
    )
