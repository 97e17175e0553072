"""The `jit` command run in this process against a recording service, and run as a process of its own."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from jitaccess.cli.app import run
from tests.client.service import Service, serving

COMMAND = (sys.executable, "-c", "from jitaccess.cli import main; main()")


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a run of `jit` left behind."""

    code: int
    out: str
    err: str


Jit = Callable[..., Ran]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keeps the developer's own settings out."""
    for name in ("JIT_ADDRESS", "JIT_TOKEN", "JIT_TOKEN_FILE", "JIT_CONFIG", "NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(Service()) as running:
        yield running


@pytest.fixture
def environment(service: Service, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """The environment of a user who is set up."""
    monkeypatch.setenv("JIT_ADDRESS", service.address)
    monkeypatch.setenv("JIT_TOKEN", "t")
    return dict(os.environ)


@pytest.fixture
def jit(environment: Mapping[str, str], capsys: pytest.CaptureFixture[str]) -> Jit:
    """Runs `jit` in this process, its output going to a pipe as it were."""

    return jit_in_process(capsys)


def jit_in_process(capsys: pytest.CaptureFixture[str]) -> Jit:
    def jit(*arguments: str) -> Ran:
        code = run(arguments)
        out, err = capsys.readouterr()
        return Ran(code=code, out=out, err=err)

    return jit


@pytest.fixture
def process(environment: Mapping[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `jit` as a process."""

    def process(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        env = dict(environment) | changes
        return subprocess.run([*COMMAND, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)

    return process


@pytest.fixture
def time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets an hour pass between two looks at the clock by which it is waited."""
    hours = itertools.count()
    monkeypatch.setattr("jitaccess.cli.waiting.monotonic", lambda: 3600.0 * next(hours))
