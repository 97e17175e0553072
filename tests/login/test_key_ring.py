"""Tokens in the system's key ring: when it is used, and what is said where it cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import keyring
import keyring.backends.fail
import keyring.backends.null
import pytest

from jitaccess.cli.app import run
from jitaccess.login.keeping import Place, usual_place
from tests.login.oidc import Person
from tests.login.ring import VARIABLE, Ring


@pytest.fixture(autouse=True)
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A system with a key ring; what is in it."""
    before = keyring.get_keyring()
    keyring.set_keyring(Ring())
    monkeypatch.setenv(VARIABLE, str(tmp_path / "ring.json"))
    yield tmp_path / "ring.json"
    keyring.set_keyring(before)


class Poor(Ring):
    """Files in clear: keyrings.alt says the same of itself."""

    priority = 0.5  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("found", "place"),
    [
        (Ring, Place.KEYRING),
        (Poor, Place.FILE),
        (keyring.backends.null.Keyring, Place.FILE),
        (keyring.backends.fail.Keyring, Place.FILE),
    ],
)
def test_the_key_ring_is_used_where_it_is_one(found: type[keyring.backend.KeyringBackend], place: Place) -> None:
    keyring.set_keyring(found())

    assert usual_place() is place


_WITHOUT = """
import sys
sys.modules["keyring"] = None
from pathlib import Path
from jitaccess.errors import Unauthenticated
from jitaccess.login.choices import Place
from jitaccess.login.keeping import Keep, usual_place
print(usual_place())
try:
    Keep(Path("/nowhere"), "prod", Place.KEYRING).read()
except Unauthenticated as fault:
    print(fault)
"""


def test_without_the_package_tokens_go_to_a_file() -> None:
    ran = subprocess.run([sys.executable, "-c", _WITHOUT], capture_output=True, text=True, timeout=60, check=True)

    place, fault = ran.stdout.splitlines()
    assert place == "file"
    assert "install jitaccess[keyring]" in fault


@pytest.fixture
def log_in(
    url: str, alice: Person, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    monkeypatch.setenv("BROWSER", "firefox")
    monkeypatch.setattr("jitaccess.cli.login.open_browser", alice.open)

    def log_in(*options: str) -> tuple[int, str]:
        code = run(["login", url, "--context", "prod", *options])
        out, err = capsys.readouterr()
        return code, out + err

    return log_in


def test_login_keeps_the_tokens_in_the_key_ring_alone(
    log_in: Callable[..., tuple[int, str]], ring: Path, bare_environment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = log_in()

    assert code == 0
    assert "the system's key ring" in said
    assert "refresh_token" in ring.read_text()
    assert not (bare_environment / "tokens" / "prod.json").exists()
    assert run(["whoami"]) == 0
    assert "user:alice@example.com" in capsys.readouterr().out


def test_logout_takes_them_out(log_in: Callable[..., tuple[int, str]], ring: Path) -> None:
    log_in()

    assert run(["logout"]) == 0

    assert json.loads(ring.read_text()) == {}


def test_a_file_is_used_where_it_is_asked_for(log_in: Callable[..., tuple[int, str]], ring: Path) -> None:
    assert log_in("--store", "file")[0] == 0

    assert not ring.exists()


def test_a_key_ring_that_takes_nothing_is_named_and_the_tokens_go_to_a_file(
    log_in: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, bare_environment: Path
) -> None:
    """Windows takes 2,560 bytes at most, and a ring may be locked."""
    monkeypatch.setenv(VARIABLE, "/locked")

    code, said = log_in()

    assert code == 0
    assert "warning: the system's key ring cannot take the tokens" in said
    assert (bare_environment / "tokens" / "prod.json").exists()
    assert log_in("--store", "keyring")[0] == 7


def test_a_key_ring_that_is_locked_later_is_named_without_its_own_words(
    log_in: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log_in()
    monkeypatch.setenv(VARIABLE, "/locked")

    assert run(["whoami"]) == 7

    said = capsys.readouterr().err
    assert "KeyringLocked" in said
    assert "42" not in said
