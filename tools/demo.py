"""Walks through the product with the real service behind the real Envoy, and fails loudly if any answer is wrong.

Alice asks by REST with curl (or the standard library where curl is missing), bob approves with `jit`, a gateway checks
over gRPC with the Python client.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jitaccess import JitClient

BIN = Path(sys.executable).parent
COLOURS = ["\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m"]
BOLD, DIM, GREEN, RED, RESET = COLOURS if sys.stdout.isatty() else [""] * 5


class DemoFailed(Exception):
    """An answer was wrong."""


@dataclass(frozen=True)
class Service:
    """The addresses and the directory of the running service."""

    http: str
    grpc: str
    tokens: Path

    def token(self, name: str) -> str:
        return (self.tokens / f"{name}.jwt").read_text()


def step(number: int, text: str) -> None:
    print(f"\n{BOLD}{number}. {text}{RESET}")


def expect(truth: bool, promise: str) -> None:
    if not truth:
        raise DemoFailed(promise)
    print(f"   {GREEN}✓{RESET} {promise}")


@contextmanager
def running_service(*options: str) -> Iterator[Service]:
    """Runs `jit-service up --dev` with further options, on an empty store."""
    with tempfile.TemporaryDirectory(prefix="jit-demo-") as directory:
        command = [BIN / "jit-service", "up", "--dev", "--data-dir", directory]
        command += ["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", *options]
        log = Path(directory) / "service.log"
        with log.open("w") as stderr:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise DemoFailed(f"the service did not start:\n{log.read_text()}")
            ready = json.loads(line)
            yield Service(http=ready["http"], grpc=ready["grpc"], tokens=Path(directory) / "dev" / "tokens")
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(timeout=15)
        expect(status == 0, "the service and Envoy ended cleanly")


def rest(service: Service, who: str, path: str, body: dict[str, Any]) -> Any:
    """Sends the body as `who`, with curl if it is installed, and shows the command."""
    url, data = f"{service.http}{path}", json.dumps(body)
    print(f"   {DIM}$ curl {url} -H \"authorization: Bearer $(cat {who}.jwt)\" -d '{data}'{RESET}")
    headers = {"authorization": f"Bearer {service.token(who)}", "content-type": "application/json"}
    if curl := shutil.which("curl"):
        # curl reads the token from stdin: every process can read another's arguments.
        config = "".join(f'header = "{key}: {value}"\n' for key, value in headers.items())
        command = [curl, "--silent", "--config", "-", "--data", data, url]
        return json.loads(subprocess.run(command, input=config, capture_output=True, text=True, check=True).stdout)
    request = urllib.request.Request(url, data=data.encode(), headers=headers)  # noqa: S310 (our own service)
    try:
        return json.load(urllib.request.urlopen(request, timeout=10))  # noqa: S310
    except urllib.error.HTTPError as error:
        return json.load(error)


def jit(service: Service, who: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line as `who`, and shows it with what it printed."""
    print(f"   {DIM}$ jit {' '.join(repr(word) if ' ' in word else word for word in arguments)}   # as {who}{RESET}")
    environment = {"JIT_ADDRESS": service.grpc, "JIT_TOKEN_FILE": str(service.tokens / f"{who}.jwt"), "PATH": ""}
    done = subprocess.run([BIN / "jit", *arguments], env=environment, capture_output=True, text=True, check=False)
    for line in (done.stdout + done.stderr).rstrip().splitlines():
        print(f"     {line}")
    return done


def check(gateway: JitClient, action: str, expected: str) -> None:
    decision = gateway.check("user:alice@example.com", action, "database/orders/eu")
    print(f"   {DIM}>>> gateway.check('user:alice@example.com', {action!r}, 'database/orders/eu'){RESET}")
    print(f"     {decision.reason}: {decision.message}")
    expect(str(decision.reason) == expected and bool(decision) == (expected == "ALLOWED"), f"the answer is {expected}")


def walk(service: Service) -> None:
    with JitClient(service.grpc, token=service.token("gateway")) as gateway:
        step(1, "Nobody has standing access: the gateway asks, and the answer is no.")
        check(gateway, "rows.create", "NO_GRANT")

        step(2, "Alice asks by REST: to create rows for ten minutes, and says why.")
        body = {
            "resources": ["database/orders/eu"],
            "actions": ["rows.create"],
            "duration": "600s",
            "justification": {"text": "backfill after the import failed"},
        }
        grant = rest(service, "alice", "/v1/grants", body)
        shown = ("name", "state", "policy", "requestExpireTime")
        print("     " + json.dumps({key: grant.get(key) for key in shown}))
        expect(grant.get("state") == "PENDING", "it waits for an approval; until then the answer stays no")
        check(gateway, "rows.create", "PENDING")
        name = grant["name"].removeprefix("grants/")

        step(3, "Bob, a database owner, sees it in his inbox and approves it.")
        expect(jit(service, "bob", "inbox").returncode == 0, "bob's inbox shows the request")
        done = jit(service, "bob", "approve", name[:8], "--comment", "go ahead")
        expect(done.returncode == 0, "one approval by the owners was all it needed")

        step(4, "The gateway, which guards the database, asks again.")
        check(gateway, "rows.create", "ALLOWED")

        step(5, "Create, but not delete: Alice has what she asked for and nothing more.")
        check(gateway, "rows.delete", "NO_GRANT")

        step(6, "Bob changes his mind. The very next check says no.")
        done = jit(service, "bob", "revoke", name[:8], "--comment", "the import works again")
        expect(done.returncode == 0, "the grant is revoked")
        check(gateway, "rows.create", "REVOKED")

        step(7, "Everything is on record, and the record has not been touched.")
        events = jit(service, "auditor", "audit", "ls", "--filter", f'grant = "grants/{name}"')
        expect(
            all(word in events.stdout for word in ("alice", "bob", "gateway")), "who asked, who decided, who checked"
        )
        expect(jit(service, "auditor", "audit", "verify").returncode == 0, "the hash chain of the audit log is whole")


def main() -> None:
    print(f"{BOLD}Just-in-time access, from nothing to nothing.{RESET}")
    print("Starting the service and Envoy on an empty store ...")
    try:
        with running_service() as service:
            walk(service)
    except DemoFailed as failure:
        sys.exit(f"{RED}DEMO FAILED: not true: {failure}{RESET}")
    print(f"\n{BOLD}{GREEN}Done.{RESET} Asked, approved, used, revoked; nothing is left over.")


if __name__ == "__main__":
    main()
