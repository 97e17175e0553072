"""The settings file: every setting can stand in it, it comes after flags and variables, and it is read strictly."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from jit_service.configuration import template
from jit_service.settings import Settings, SettingsError, Source

ISSUER = "issuers:\n  - issuer: https://login.example.com\n    audience: jit\n"
File = Callable[..., Path]


@pytest.fixture
def file(tmp_path: Path) -> File:
    """Writes the file."""

    def write(text: str, mode: int = 0o600) -> Path:
        path = tmp_path / "jit-service.yaml"
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


def faults(path: Path) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as refused:
        Settings.load(config=path)
    return refused.value.faults


def test_every_setting_can_stand_in_the_file_and_the_template_has_the_defaults(file: File) -> None:
    """Each is written as its default; one without any is there without a value, which counts as not set."""
    commented = template.text(Settings, path="jit-service.yaml")
    all_settings = re.sub(r"^# (?=[a-z_]+:( |$))", "", commented, flags=re.MULTILINE)

    loaded = Settings.load(config=file(all_settings))

    assert re.findall(r"^([a-z_]+):", all_settings, flags=re.MULTILINE) == list(Settings.model_fields)
    assert loaded.as_given == Settings.load().as_given
    assert {name for name, source in loaded.sources.items() if source is not Source.FILE} == {
        name for name, field in Settings.model_fields.items() if field.default is None
    }
    assert set(Settings.load(config=file(commented)).sources.values()) == {Source.DEFAULT}


def test_values_are_yaml_and_lists_are_lists(file: File) -> None:
    text = (
        "workers: 2\nreflection: false\naudit_checks: off\nmax_token_lifetime: 1h\ntrusted_proxies: [unix, 10.0.0.1]\n"
    )

    loaded = Settings.load(config=file(ISSUER + text))

    assert (loaded.workers, loaded.reflection, loaded.audit_checks.value) == (2, False, "off")
    assert loaded.max_token_lifetime.total_seconds() == 3600
    assert loaded.trusted_proxies == ("unix", "10.0.0.1")
    assert [issuer.issuer for issuer in loaded.issuers] == ["https://login.example.com"]


def test_a_flag_comes_first_then_the_variable_then_the_file(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file("workers: 2\nrpc_threads: 3\nmax_pending: 4\nmax_children:\n")
    monkeypatch.setenv("JIT_WORKERS", "20")
    monkeypatch.setenv("jit_rpc_threads", "30")
    monkeypatch.setenv("JIT_MAX_PENDING", "")

    loaded = Settings.load(config=path, workers=5)

    assert (loaded.workers, loaded.rpc_threads, loaded.max_pending, loaded.max_children) == (5, 30, 4, 100)
    names = ("workers", "rpc_threads", "max_pending", "max_children")
    assert [loaded.sources[name].value for name in names] == ["flag", "environment", "file", "default"]


def test_a_worker_gets_what_holds_without_the_file(file: File) -> None:
    path = file(f"{ISSUER}workers: 2\n")
    as_given = Settings.load(config=path).as_given
    path.unlink()

    assert Settings.load(**as_given).workers == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\nworker: 2\n", "{path}:2: worker is no setting; did you mean workers?"),
        ("JIT_WORKERS: 2\n", "{path}:1: JIT_WORKERS is no setting; did you mean workers?"),
        ("grpc: 127.0.0.1:1\nworkers: 0\n", "{path}:2: workers: must be at least 1"),
        ("workers: many\n", "{path}:1: workers: must be a whole number"),
        ("token_issuer: 5\n", "{path}:1: token_issuer: must be text; put it into quotes"),
        (f"{ISSUER}    role: x\n", "{path}:4: issuers[0].role: is no key here; did you mean roles?"),
        (f"{ISSUER}    roles:\n      root: [x]\n", "{path}:5: issuers[0].roles.root: must be checker, auditor, admin"),
        ("\ngrpc: 0.0.0.0:8081\n", "{path}:2: grpc: 0.0.0.0:8081 is not loopback, and this port has no TLS"),
        ("tls_cert: a\n", "JIT_TLS_KEY: is missing; JIT_TLS_CERT needs it"),
        ("database_url: mysql://u:hunter2@h/d\n", "{path}:1: database_url: must be sqlite:///FILE"),
        ("workers: 1\nworkers: 2\n", "--config: {path} is not YAML: the key 'workers' stands twice"),
        ("workers: [\n", "--config: {path} is not YAML: expected the node content"),
        ("- workers\n", "--config: {path} must be a mapping from settings to values"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_without_its_value(file: File, text: str, told: str) -> None:
    path = file(text)

    (fault, *_) = faults(path)

    assert fault.startswith(told.format(path=path))
    assert "hunter2" not in fault


def test_all_unknown_keys_are_told_at_once(file: File) -> None:
    assert len(faults(file("worker: 2\nxyzzy: 3\n"))) == 2


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path / "none.yaml")

    assert fault.startswith(f"--config: {tmp_path / 'none.yaml'} cannot be read")


SECRET: list[tuple[str, int, bool]] = [
    ("workers: 1\n", 0o644, True),
    ("workers: 1\n", 0o646, False),
    ("database_url: postgresql://jit@db/jit\n", 0o644, True),
    ("database_url: postgresql://jit:hunter2@db/jit\n", 0o644, False),
    ("database_url: postgresql://db/jit?password=hunter2\n", 0o644, False),
    ("database_url: postgresql://jit:hunter2@db/jit\n", 0o640, True),
    ("notifications: [{name: x, url: 'https://hooks.example.com/hunter2'}]\n", 0o644, False),
]


@pytest.mark.parametrize(("text", "mode", "taken"), SECRET)
def test_a_file_with_a_secret_is_not_open_to_everybody(file: File, text: str, mode: int, taken: bool) -> None:
    path = file(text, mode)

    if taken:
        Settings.load(config=path)
    else:
        (fault,) = faults(path)
        assert "chmod o-" in fault
        assert "hunter2" not in fault
