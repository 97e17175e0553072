"""Where address and token come from: argument, then environment, then file."""

from __future__ import annotations

from pathlib import Path

import pytest

from jitaccess import JitClient, Misconfigured, Unauthenticated, token_file
from jitaccess.config import load
from tests.client.conftest import Ask
from tests.client.service import Service

FILE = {"JIT_ADDRESS": "env:1", "JIT_TOKEN": "from-env"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "jit").mkdir()
    return tmp_path


def write(home: Path, text: str) -> dict[str, str]:
    """Writes the configuration file, and returns the environment that leads to it."""
    (home / "jit" / "config.toml").write_text(text, encoding="utf-8")
    return {"XDG_CONFIG_HOME": str(home)}


def test_an_argument_beats_the_environment_and_that_the_file(home: Path) -> None:
    env = write(home, 'address = "file:1"\ntoken = "from-file"')

    by_file = load(address=None, token=None, environ=env)
    by_env = load(address=None, token=None, environ=env | FILE)
    by_argument = load(address="argument:1", token="given", environ=env | FILE)

    assert [(found.address, found.token()) for found in (by_file, by_env, by_argument)] == [
        ("file:1", "from-file"),
        ("env:1", "from-env"),
        ("argument:1", "given"),
    ]


def test_the_token_file_of_the_environment_comes_after_its_token(home: Path) -> None:
    (home / "t").write_text("in-file")
    env = {"JIT_ADDRESS": "env:1", "JIT_TOKEN_FILE": str(home / "t")}

    assert load(address=None, token=None, environ=env).token() == "in-file"
    assert load(address=None, token=None, environ=env | {"JIT_TOKEN": "text"}).token() == "text"


def test_the_files_token_file_beats_its_token_and_is_beside_the_file(home: Path) -> None:
    (home / "jit" / "t.jwt").write_text("beside")
    env = write(home, 'address = "file:1"\ntoken_file = "t.jwt"\ntoken = "text"')

    assert load(address=None, token=None, environ=env).token() == "beside"


def test_jit_config_names_another_file(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('address = "other:1"\ntoken = "t"')

    assert load(address=None, token=None, environ={"JIT_CONFIG": str(other)}).address == "other:1"


def test_tls_of_the_file_goes_with_the_address_of_the_file(home: Path) -> None:
    env = write(home, 'address = "file:1"\ntoken = "t"\ntls = true')

    assert load(address=None, token=None, environ=env).tls is True
    assert load(address="argument:1", token=None, environ=env).tls is None


def test_authorities_of_the_file_go_with_its_address_and_are_beside_it(home: Path) -> None:
    env = write(home, 'address = "file:1"\ntoken = "t"\nca_file = "ca.pem"')

    assert load(address=None, token=None, environ=env).ca_file == home / "jit" / "ca.pem"
    assert load(address="argument:1", token=None, environ=env).ca_file is None


def test_tls_and_authorities_of_the_environment_go_with_every_address(home: Path) -> None:
    env = write(home, 'address = "file:1"\ntoken = "t"\ntls = false') | {"JIT_TLS": "on", "JIT_CA_FILE": "/ca.pem"}

    found = load(address=None, token=None, environ=env)

    assert (found.tls, found.ca_file) == (True, Path("/ca.pem"))
    assert load(address="argument:1", token="t", tls=False, environ=env).tls is False


def test_an_empty_variable_is_as_none(home: Path) -> None:
    env = write(home, 'address = "file:1"\ntoken = "t"') | {"JIT_ADDRESS": "", "JIT_TOKEN": "", "JIT_CONFIG": ""}

    assert load(address=None, token=None, environ=env).address == "file:1"


def test_without_an_address_the_error_says_where_it_looked(home: Path) -> None:
    with pytest.raises(Misconfigured) as caught:
        load(address=None, token="t", environ={"XDG_CONFIG_HOME": str(home)})

    assert caught.value.reason == "ADDRESS_MISSING"
    assert "JIT_ADDRESS" in caught.value.message
    assert f"{home / 'jit' / 'config.toml'} (not there)" in caught.value.message


def test_without_a_token_the_error_says_where_it_looked(home: Path) -> None:
    with pytest.raises(Unauthenticated) as caught:
        load(address="a:1", token=None, environ=write(home, 'address = "file:1"'))

    assert caught.value.reason == "TOKEN_MISSING"
    assert "JIT_TOKEN_FILE" in caught.value.message
    assert str(home / "jit" / "config.toml") in caught.value.message


@pytest.mark.parametrize(
    "text",
    ["address = ", "adress = 'a:1'", "address = 7", "tls = 'yes'", "token = ['a']"],
    ids=["not toml", "unknown key", "number", "text for a truth value", "list"],
)
def test_a_broken_file_is_an_error_that_names_it(home: Path, text: str) -> None:
    with pytest.raises(Misconfigured, match=r"config\.toml"):
        load(address=None, token=None, environ=write(home, text))


def test_a_file_that_jit_config_names_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="JIT_CONFIG"):
        load(address=None, token=None, environ={"JIT_CONFIG": str(tmp_path / "none.toml")})


def test_a_token_file_is_read_for_every_call(ask: Ask, service: Service, tmp_path: Path) -> None:
    path = tmp_path / "token"
    source = token_file(path)
    path.write_text("first\n")
    ask("check", "user:s", "read", "a/b", options={"token": source})
    path.write_text("second\n")
    ask("check", "user:s", "read", "a/b", options={"token": source})

    assert [call.metadata["authorization"] for call in service.received] == ["Bearer first", "Bearer second"]


def test_a_token_file_that_cannot_be_read_sends_nothing(ask: Ask, service: Service, tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated, match="none"):
        ask("check", "user:s", "read", "a/b", options={"token": token_file(tmp_path / "none")})

    assert service.received == []


@pytest.mark.parametrize("token", ["", "  \n", "two words", "line\nbreak", "ünï", "nul\x00"])
def test_what_is_no_token_is_never_sent_nor_shown(ask: Ask, service: Service, token: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        ask("check", "user:s", "read", "a/b", options={"token": token})

    assert service.received == []
    assert not token.strip() or token not in str(caught.value)


def test_a_token_that_is_not_text_is_not_quoted_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"secret\xff")

    with pytest.raises(Unauthenticated) as caught:
        token_file(path)()

    assert "secret" not in repr(caught.value)
    assert caught.value.__suppress_context__


def test_the_environment_of_the_process_is_what_the_client_reads(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JIT_ADDRESS", service.address)
    monkeypatch.setenv("JIT_TOKEN", "from-env")

    with JitClient() as client:
        client.verify_audit_log()

    assert service.received[0].metadata["authorization"] == "Bearer from-env"
    assert service.received[0].metadata["user-agent"].startswith("jitaccess-python/")
