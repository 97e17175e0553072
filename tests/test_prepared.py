"""A prepared program is started, and ends, as the real one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests import prepared
from tests.cli.test_watching import APPROVED
from tests.client.service import Held, Service, serving

REAL = Path(sys.executable).parent / "jit"


@pytest.fixture(params=["real", "prepared"])
def jit(request: pytest.FixtureRequest) -> Path:
    """The command, as it is installed and as it is prepared: each promise here is one of both."""
    return REAL if request.param == "real" else prepared.command("jit")


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(Service()) as running:
        yield running


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("JIT_")}


@pytest.fixture
def environment(service: Service, tmp_path: Path) -> dict[str, str]:
    return clean_environment() | {"JIT_ADDRESS": service.address, "JIT_TOKEN": "t", "HOME": str(tmp_path)}


@contextmanager
def running(command: Sequence[object], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [str(word) for word in command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_it_has_the_arguments_and_the_environment_of_who_starts_it(
    jit: Path, service: Service, environment: dict[str, str]
) -> None:
    incomplete = subprocess.run([jit, "check", "a", "b"], env=environment, capture_output=True, text=True, check=False)
    lost = subprocess.run(
        [jit, "ls"], env=environment | {"JIT_ADDRESS": "nowhere"}, capture_output=True, text=True, check=False
    )

    assert (incomplete.returncode, incomplete.stdout) == (2, "")
    assert incomplete.stderr.startswith("Usage: jit check")
    assert (lost.returncode, lost.stdout) == (2, "")
    assert "nowhere" in lost.stderr


@pytest.mark.parametrize("file", ["here.yaml", "-"])
def test_it_reads_what_it_is_given_where_it_is_started(
    jit: Path, service: Service, environment: dict[str, str], tmp_path: Path, file: str
) -> None:
    (tmp_path / "here.yaml").write_text("policies: [")

    ran = subprocess.run(
        [jit, "policy", "lint", file],
        env=environment, cwd=tmp_path, input="policies: [", capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ran.returncode == 1
    assert f"{file}:1: expected the node content" in ran.stdout + ran.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_ends_by_a_signal_as_it_does(
    jit: Path, service: Service, environment: dict[str, str], number: signal.Signals
) -> None:
    service.will_stream("WatchGrants", [APPROVED, Held()])
    with running([jit, "ls", "--watch", "-o", "json"], environment) as process:
        assert process.stdout is not None
        process.stdout.readline()

        process.send_signal(number)

        ended = process.wait(timeout=60)

    assert ended == {signal.SIGINT: 130, signal.SIGTERM: -signal.SIGTERM, signal.SIGKILL: -signal.SIGKILL}[number]


def test_what_a_prepared_program_does_is_done_with_when_its_end_is_told() -> None:
    started = prepared.start("jit", "--help", env=clean_environment())

    code = started.wait(60)
    out, _ = started.communicate()

    assert (code, out.splitlines()[0]) == (0, "Usage: jit [OPTIONS] COMMAND [ARGS]...")
    assert not psutil.pid_exists(started.pid)


def test_a_prepared_program_does_not_outlive_the_process_that_stands_in_for_it(
    service: Service, environment: dict[str, str]
) -> None:
    service.will_stream("WatchGrants", [APPROVED, Held()])
    with running([prepared.command("jit"), "ls", "--watch", "-o", "json"], environment) as process:
        assert process.stdout is not None
        process.stdout.readline()

        process.kill()

        # Nobody holds the other end of its output any more.
        assert process.stdout.read() == ""


def test_another_process_of_the_run_has_the_same_server_which_outlives_it() -> None:
    ours = prepared.command("jit")

    theirs = _says("print(prepared.command('jit'))", os.environ)

    assert theirs == [str(ours)]
    assert subprocess.run([ours, "--help"], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_a_server_ends_with_the_last_that_uses_it_and_leaves_nothing() -> None:
    alone = {name: value for name, value in os.environ.items() if name != "PREPARED_PROGRAMS"}

    command, server = _says(
        "import psutil; print(prepared.command('jit')); print(psutil.Process().children()[0].pid)", alone
    )

    assert not psutil.pid_exists(int(server))
    assert not Path(command).parents[1].exists()


def _says(code: str, environment: Mapping[str, str]) -> list[str]:
    command = [sys.executable, "-c", f"from tests import prepared; {code}"]
    return subprocess.check_output(command, cwd=prepared.ROOT, env=environment, text=True).splitlines()
