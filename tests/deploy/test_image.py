"""The Containerfile says what an image of the service needs, and its health check tells a service from none.

Where buildah and a base image are had, `make image BASE=…` builds it; no test fetches a base image.
"""

from __future__ import annotations

import importlib.util
import json
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from jit_service.domain.errors import Unavailable
from jit_service.rpc.services import docs
from jit_service.rpc.services.docs import _ASSETS
from jit_service.rpc.services.health import StoreHealth
from tests.test_commands import up

ROOT = Path(__file__).parents[2]
CONTAINERFILE = (ROOT / "deploy" / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
HEALTH = ROOT / "deploy" / "health.py"


def instructions(name: str) -> list[str]:
    """Returns what follows the instruction in the last stage, which becomes the image."""
    stage = CONTAINERFILE[CONTAINERFILE.rindex("\nFROM ") :]
    return re.findall(rf"^{name} (.*)$", stage, re.MULTILINE)


def healthy(address: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HEALTH)]
    return subprocess.run(command, env={"JIT_GRPC": address}, capture_output=True, text=True, check=False, timeout=60)


def test_the_image_runs_as_nobody_by_number() -> None:
    # Kubernetes can tell only of a number that it is not root (`runAsNonRoot`).
    assert instructions("USER") == ["65532:65532"]


def test_only_the_data_directory_belongs_to_that_user() -> None:
    owned = [line for line in instructions("RUN") + instructions("COPY") if "65532" in line or "--chown" in line]

    assert owned == ["install --directory --owner=65532 --group=65532 --mode=0700 /var/lib/jit"]
    assert instructions("VOLUME") == ["/var/lib/jit"]


def test_what_is_installed_has_hashes_and_our_wheels_come_from_no_index() -> None:
    locked, ours = re.findall(r"pip install (.*?) (?=&&)", CONTAINERFILE)

    assert "--require-hashes" in locked
    assert {"--no-deps", "--no-index"} <= set(ours.split())


def test_the_builder_is_given_what_is_copied_and_nothing_else() -> None:
    given = [line.removeprefix("!") for line in (ROOT / ".containerignore").read_text().split() if line != "*"]
    copied = [
        source.rstrip("/")
        for line in re.findall(r"^COPY (?!--from)(.*)$", CONTAINERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]

    assert sorted(given) == sorted(copied)


def test_its_command_is_one_of_the_service() -> None:
    assert [json.loads(line) for line in (*instructions("ENTRYPOINT"), *instructions("CMD"))] == [
        ["jit-service"],
        ["serve"],
    ]
    (check,) = instructions("HEALTHCHECK")
    assert check.endswith(json.dumps(["/opt/jit/bin/python", f"/opt/jit/{HEALTH.name}"]))


def test_the_files_that_are_left_of_swagger_ui_are_those_that_the_page_has() -> None:
    (left,) = re.findall(r"find swagger_ui/static (.*?) -delete", CONTAINERFILE)

    wanted = {name for name in _ASSETS if not (docs._OURS / name).exists()}
    assert set(re.findall(r"! -name (\S+)", left)) == wanted


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The health check as a module, which has little patience here."""
    spec = importlib.util.spec_from_file_location("health", HEALTH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "_SECONDS", 0.3)
    return module


def test_a_service_whose_store_is_away_is_alive_and_not_healthy(health: ModuleType) -> None:
    class Away:
        def snapshot(self) -> None:
            raise Unavailable("the store is away")

    away: Any = Away()
    server = grpc.server(ThreadPoolExecutor(1))
    add_HealthServicer_to_server(StoreHealth(away, [], threading.Event()), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()

    try:
        assert (health.hang(address), health.fault(address)) == (None, "NOT_SERVING")
    finally:
        server.stop(None)


def test_a_process_that_stands_still_is_not_alive_though_it_takes_connections(health: ModuleType) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with socket.create_connection(("127.0.0.1", silent.getsockname()[1])):
            pass

        assert health.hang(address) in ("StatusCode.DEADLINE_EXCEEDED", "StatusCode.UNAVAILABLE")


def test_the_health_check_tells_a_service_from_none(tmp_path: Path) -> None:
    with up(tmp_path) as (_, ready):
        found = healthy(ready["grpc"])
        assert (found.returncode, found.stderr) == (0, "")

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        found = healthy(address)
    assert (found.returncode, found.stderr) == (1, f"{address}: StatusCode.UNAVAILABLE\n")
