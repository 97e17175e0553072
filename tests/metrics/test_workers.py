"""All processes of a service are one target, and a real Prometheus scrapes it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jitaccess import JitClient
from tests.metrics.scrape import Scraped, scraped
from tests.test_commands import eventually, token, up

ANY = "127.0.0.1:0"
LIST = "/jitaccess.v1.PolicyService/ListPolicies"


def listed(scrape: Scraped) -> float:
    return scrape.of("jit_calls_total", method=LIST, code="OK", reason="")


def test_workers_are_counted_together_and_a_killed_one_takes_no_count_with_it(tmp_path: Path) -> None:
    with up(tmp_path, "--workers", "2", "--metrics", ANY) as (process, ready):
        url, admin = ready["metrics"], token(tmp_path, "admin")
        for _ in range(8):
            with JitClient(ready["grpc"], token=admin) as client:
                list(client.list_policies())
        # A busy worker may answer a scrape late, and what it counted in its last seconds is lost with it.
        assert eventually(lambda: listed(scraped(url)) == 8)
        before = scraped(url)

        for worker in children(process.pid, "worker"):
            os.kill(worker, signal.SIGKILL)
            break
        gone = eventually(lambda: scraped(url).of("jit_worker_ends_total") == 1)
        back = eventually(lambda: scraped(url).of("jit_processes") == 2)
        assert eventually(lambda: listed(scraped(url)) == 8)
        after = scraped(url)

    assert url.endswith("/metrics")
    assert listed(before) == listed(after) == 8
    assert (before.of("jit_processes"), gone, back) == (2, True, True)
    assert after.of("jit_store_up") == 1
    assert before.of("jit_events_total", type="POLICY_CREATED") > 0


def children(pid: int, argument: str) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
            command = entry.with_name("cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == pid and argument.encode() in command:
            yield int(entry.parent.name)


def test_prometheus_scrapes_a_service_and_alerts_by_its_rules(tmp_path: Path) -> None:
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("prometheus is missing: apt-get install prometheus")
    with (
        up(tmp_path / "service", "--metrics", ANY) as (_, ready),
        JitClient(ready["grpc"], token=token(tmp_path / "service", "admin")) as client,
    ):
        list(client.list_policies())
        with prometheus(binary, tmp_path, ready["metrics"]) as query:
            assert eventually(lambda: query(f'jit_calls_total{{method="{LIST}",code="OK"}}') == ["1"])
            assert query("jit_store_up") == ["1"]
            assert query('up{job="jit"}') == ["1"]
            assert query('ALERTS{alertstate="firing"}') == []


@contextmanager
def prometheus(binary: str, directory: Path, target: str) -> Iterator[Callable[[str], list[str]]]:
    """Runs Prometheus on the target with the rules. Yields what asks it."""
    from tests.prepared import ROOT

    address = urllib.parse.urlsplit(target).netloc
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ROOT / "deploy" / "prometheus" / "alerts.yaml")],
        "scrape_configs": [{"job_name": "jit", "static_configs": [{"targets": [address]}]}],
    }
    path = directory / "prometheus.yml"
    path.write_text(json.dumps(config))
    port = free_port()
    process = subprocess.Popen(
        [
            *(binary, f"--config.file={path}", f"--storage.tsdb.path={directory / 'tsdb'}", "--log.level=error"),
            f"--web.listen-address=127.0.0.1:{port}",
        ]
    )

    def query(expression: str) -> list[str]:
        words = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{words}", timeout=10) as answer:
                found: Any = json.load(answer)
        except OSError:
            time.sleep(0.1)
            return ["away"]
        return [each["value"][1] for each in found["data"]["result"]]

    try:
        yield query
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
