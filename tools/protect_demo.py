"""Puts an API that knows nothing of access control under just-in-time control, and fails loudly if any answer is wrong.

The API of envoy/examples/protect stands behind its Envoy, beside the real service. Alice calls it with curl (or the
standard library where curl is missing) and asks with `jit`; bob approves and revokes with `jit`.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from demo import BOLD, DIM, GREEN, RED, RESET, DemoFailed, Service, expect, jit, running_service, step

from jit_service.runtime.envoy import Envoy
from jit_service.runtime.service import passing_socket
from jit_service.settings import Address

EXAMPLE = Path(__file__).parent.parent / "envoy" / "examples" / "protect"
HOST = "payments.internal"
RESOURCE = f"http/{HOST}/admin/refunds"


def configured(
    *,
    http: Address,
    service: Path | Address,
    api: Address,
    directory: Path,
    timeout: float | None = None,
    passing: Path | Address | None = None,
) -> Path:
    """Writes DIRECTORY/envoy.yaml: the example's configuration with these addresses. Returns where.

    `service` is the access service's Unix socket, or the address of all that it serves; Envoy waits for its answer for
    `timeout` seconds. `passing` is where open requests are watched, if that is another address.
    """
    config = yaml.safe_load((EXAMPLE / "envoy.yaml").read_text())
    resources = config["static_resources"]
    resources["listeners"][0]["address"] = _address(http)
    passing = passing or (passing_socket(service) if isinstance(service, Path) else service)
    for cluster, where in zip(resources["clusters"], (service, passing, api), strict=True):
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [{"endpoint": {"address": _address(where)}}]
    if timeout is not None:
        _authz(resources)["grpc_service"]["timeout"] = f"{timeout}s"
    path = directory / "envoy.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def _authz(resources: dict[str, Any]) -> Any:
    (chain,) = resources["listeners"][0]["filter_chains"]
    filters = chain["filters"][0]["typed_config"]["http_filters"]
    return next(each["typed_config"] for each in filters if each["name"] == "envoy.filters.http.ext_authz")


def _address(where: Path | Address) -> dict[str, Any]:
    if isinstance(where, Path):
        return {"pipe": {"path": str(where)}}
    return {"socket_address": {"address": where.host, "port_value": where.port}}


@contextmanager
def protected_api(service: Service) -> Iterator[str]:
    """Runs the API and its Envoy, and yields its address."""
    with tempfile.TemporaryDirectory(prefix="jit-protect-") as name:
        directory = Path(name)
        api = subprocess.Popen([sys.executable, EXAMPLE / "api.py", "0"], stdout=subprocess.PIPE, text=True)
        try:
            port = int(api.stdout.readline()) if api.stdout else 0
            config = configured(
                http=Address("127.0.0.1", 0),
                service=service.tokens.parent.parent / "grpc-0.sock",
                api=Address("127.0.0.1", port),
                directory=directory,
            )
            envoy = Envoy(config, directory=directory)
            try:
                yield f"http://{envoy.start(timeout=20)}"
            finally:
                envoy.stop()
        finally:
            api.terminate()
            api.wait()


def knock(service: Service, who: str | None, url: str, *, method: str = "GET") -> tuple[int, Any]:
    """Sends a request to the API as `who`, and shows the command with the answer."""
    proof = f' -H "authorization: Bearer $(cat {who}.jwt)"' if who else ""
    print(f"   {DIM}$ curl -X {method} {url} -H 'host: {HOST}'{proof}{RESET}")
    headers = {"host": HOST} | ({"authorization": f"Bearer {service.token(who)}"} if who else {})
    status, answer = _sent(url, method, headers)
    print(f"     {status} {json.dumps({key: answer[key] for key in answer if key != 'details'})}")
    return status, answer


@contextmanager
def listening(service: Service, who: str, url: str) -> Iterator[Any]:
    """Listens to the API's events as `who`, and shows the command."""
    print(f"   {DIM}$ curl -N -X POST {url} -H 'accept: text/event-stream' ... &{RESET}")
    headers = {"host": HOST, "authorization": f"Bearer {service.token(who)}", "accept": "text/event-stream"}
    request = urllib.request.Request(url, method="POST", headers=headers)  # noqa: S310 (our own service)
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        yield response


def _sent(url: str, method: str, headers: dict[str, str]) -> tuple[int, Any]:
    if curl := shutil.which("curl"):
        # curl reads the token from stdin: every process can read another's arguments.
        config = "".join(f'header = "{key}: {value}"\n' for key, value in headers.items())
        command = [curl, "--silent", "--path-as-is", "--config", "-", "-X", method, "-w", "\n%{http_code}", url]
        done = subprocess.run(command, input=config, capture_output=True, text=True, check=True)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body)
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 (our own service)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def expect_closed(answer: tuple[int, Any], status: int, reason: str) -> None:
    got, body = answer
    expect((got, body["details"][0]["reason"]) == (status, reason), f"closed: {status}, {reason}")


def walk(service: Service, api: str) -> None:
    refunds = f"{api}/admin/refunds"

    step(1, "Closed. Nobody comes in without saying who it is; alice is known, and may not.")
    expect_closed(knock(service, None, refunds, method="POST"), 401, "TOKEN_MISSING")
    status, answer = closed = knock(service, "alice", refunds, method="POST")
    expect_closed(closed, 403, "NO_GRANT")
    told = answer["details"][0]["metadata"]["requestable_policies"]
    expect(told == "policies/payments-api", "the refusal says what can be asked for")

    step(2, "Asked for: to POST refunds, nothing else, for ten minutes. Still closed.")
    asking = (
        "request",
        RESOURCE,
        "--action",
        "http.post",
        "--for",
        "10m",
        "--justification",
        "refund order 4711",
    )
    asked = re.search(r"grants/(\w+)", jit(service, "alice", *asking).stdout)
    expect(asked is not None, "the request is taken")
    expect_closed(knock(service, "alice", refunds, method="POST"), 403, "PENDING")

    step(3, "Approved by bob. Open, to her, for that.")
    name = asked[1] if asked else ""
    expect(jit(service, "bob", "approve", name[:8], "--comment", "go ahead").returncode == 0, "one approval is all")
    status, answer = knock(service, "alice", refunds, method="POST")
    expect(status == 200 and answer["x-jit-subject"] == "user:alice@example.com", "the API is told who came in")
    expect(answer["x-jit-grant"] == f"grants/{name}", "and by which grant")
    expect_closed(knock(service, "alice", refunds, method="DELETE"), 403, "NO_GRANT")
    expect_closed(knock(service, "bob", refunds, method="POST"), 403, "NO_GRANT")

    step(4, "No other spelling of the path is a way round.")
    for spelling in (
        "/admin//refunds/../payouts",
        "/admin/refunds;x=1",
        "/admin/refunds/%2e%2e/payouts",
        "/ADMIN/refunds",
    ):
        status, _ = knock(service, "alice", f"{api}{spelling}", method="POST")
        expect(status in (400, 403), f"closed: {status}")

    step(5, "Revoked. What runs is cut, and the very next request stays outside.")
    with listening(service, "alice", refunds) as stream:
        expect(stream.readline().startswith(b"data: "), "alice listens to events of the API")
        done = jit(service, "bob", "revoke", name[:8], "--comment", "refunded already")
        revoked_at = last_at = time.monotonic()
        expect(done.returncode == 0, "the grant is revoked")
        with suppress(http.client.IncompleteRead):
            while stream.readline():
                last_at = time.monotonic()
        expect(last_at - revoked_at < 1, f"the last event came {max(0.0, last_at - revoked_at):.1f} s after that")
    expect_closed(knock(service, "alice", refunds, method="POST"), 403, "REVOKED")

    step(6, "Every passage is on record, with its endpoint.")
    events = jit(service, "auditor", "audit", "ls", "--filter", f'resources : "{RESOURCE}"')
    expect("ALLOWED" in events.stdout and "DENIED" in events.stdout, "what was let in and what was not")


def main() -> None:
    print(f"{BOLD}An API under just-in-time control.{RESET}")
    print("Starting the service, an API that knows nothing of it, and Envoy before the API ...")
    try:
        with running_service("--policies", str(EXAMPLE / "policies.yaml")) as service, protected_api(service) as api:
            walk(service, api)
    except DemoFailed as failure:
        sys.exit(f"{RED}DEMO FAILED: not true: {failure}{RESET}")
    print(f"\n{BOLD}{GREEN}Done.{RESET} Closed, asked for, approved, open, revoked, closed.")


if __name__ == "__main__":
    main()
