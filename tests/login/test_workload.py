"""The tokens of jobs: GitHub Actions, GitLab, Kubernetes, a file, or what a command prints."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from jitaccess.config import Config, load
from jitaccess.errors import Misconfigured, Unauthenticated, Unavailable
from jitaccess.login import workload
from jitaccess.login.workload import Cached, command_source
from tests.cli.conftest import Jit, jit_in_process
from tests.login.oidc import AUDIENCE, publishing

URL = "ACTIONS_ID_TOKEN_REQUEST_URL"
SECRET = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"


def jwt(**claims: Any) -> str:
    """A token in the form of one, that nobody signed."""
    parts = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode() for each in ({}, claims)]
    return ".".join([*parts, "sig"])


class GitHub:
    """The address at which GitHub Actions issues tokens."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.status = 200


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    """A job of GitHub Actions with `permissions: {id-token: write}`."""
    told = GitHub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            audience = parse_qs(urlsplit(self.path).query)["audience"][0]
            told.asked.append((audience, self.headers["authorization"]))
            body = json.dumps({"value": jwt(aud=audience, iat=0, exp=300)} if told.status == 200 else {}).encode()
            self.send_response(told.status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Logs nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    monkeypatch.setenv(URL, f"http://127.0.0.1:{server.server_port}/token?api-version=2.0")
    monkeypatch.setenv(SECRET, "of-the-job")
    yield told
    server.shutdown()
    server.server_close()


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a pod's projected token is in."""
    path = tmp_path / "projected"
    monkeypatch.setattr(workload, "KUBERNETES_FILE", path)
    return path


def in_a_job(**options: Any) -> Config:
    return load(**({"address": "jit.example.com:443", "token": None} | options))


def test_in_a_github_job_the_client_has_the_jobs_token(github: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JIT_AUDIENCE", AUDIENCE)

    settings = in_a_job()

    assert settings.token() == settings.token() == jwt(aud=AUDIENCE, iat=0, exp=300)
    assert github.asked == [(AUDIENCE, "Bearer of-the-job")]
    assert settings.token_from == "the platform of this job: github"


def test_the_service_says_for_whom_github_shall_issue_it(github: GitHub) -> None:
    document = {"jit_audience": AUDIENCE}
    with publishing({"/.well-known/oauth-protected-resource": document}) as url:
        document["resource"] = url

        in_a_job(address=url.removeprefix("http://")).token()

    assert github.asked[0][0] == AUDIENCE


def test_without_an_audience_the_services_url_is_it(github: GitHub) -> None:
    document: dict[str, str] = {}
    with publishing({"/.well-known/oauth-protected-resource": document}) as url:
        document["resource"] = url

        in_a_job(address=url.removeprefix("http://")).token()

    assert github.asked[0][0] == url


def test_where_nobody_says_for_whom_the_variable_is_named(github: GitHub) -> None:
    settings = in_a_job(address="127.0.0.1:1")

    with pytest.raises(Misconfigured, match="Set JIT_AUDIENCE"):
        settings.token()

    assert github.asked == []


@pytest.mark.parametrize(("status", "kind"), [(403, Unauthenticated), (500, Unavailable)])
def test_github_that_gives_none_is_named(
    github: GitHub, monkeypatch: pytest.MonkeyPatch, status: int, kind: type[Exception]
) -> None:
    monkeypatch.setenv("JIT_AUDIENCE", AUDIENCE)
    github.status = status

    with pytest.raises(kind, match=f"GitHub Actions: it answers {status}|gives no token: {status}"):
        in_a_job().token()


def test_the_jobs_secret_goes_over_no_plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JIT_AUDIENCE", AUDIENCE)
    monkeypatch.setenv(URL, "http://attacker.example.com/")
    monkeypatch.setenv(SECRET, "of-the-job")

    with pytest.raises(Unavailable, match="neither https nor http on loopback"):
        in_a_job().token()


def test_in_a_gitlab_job_the_client_has_the_jobs_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("JIT_ID_TOKEN", "of-the-job")

    assert in_a_job().token() == "of-the-job"


def test_in_a_pod_the_client_has_the_projected_token_as_it_is_now(kubernetes: Path) -> None:
    kubernetes.write_text("first")
    settings = in_a_job()
    assert settings.token() == "first"

    kubernetes.write_text("second")

    assert settings.token() == "second"


def test_what_is_said_comes_before_the_platform(
    github: GitHub, bare_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare_environment.mkdir(parents=True)
    (bare_environment / "config.toml").write_text('token = "of-the-file"')
    by_file = in_a_job()
    monkeypatch.setenv("JIT_TOKEN", "of-the-environment")

    assert [each.token() for each in (in_a_job(token="given"), in_a_job(), by_file)] == [
        "given",
        "of-the-environment",
        "of-the-file",
    ]
    assert github.asked == []


@pytest.mark.parametrize("value", ['"echo of-the-command"', '["echo", "of-the-command"]'])
def test_token_command_in_the_configuration_gives_the_token(bare_environment: Path, value: str) -> None:
    bare_environment.mkdir(parents=True)
    (bare_environment / "config.toml").write_text(f"token_command = {value}")

    assert in_a_job().token() == "of-the-command"


def test_no_shell_runs_the_command() -> None:
    with pytest.raises(Unauthenticated, match="must print one token"):
        command_source("echo a; echo b")()


def test_the_command_runs_again_only_before_its_token_ends(tmp_path: Path) -> None:
    """A vault or a single sign-on may take seconds, and ask a person."""
    log = tmp_path / "log"
    script = tmp_path / "token"
    script.write_text(f"#!/bin/sh\necho run >> {log}\necho {jwt(iat=0, exp=1000)}\n")
    script.chmod(stat.S_IRWXU)
    now = [0.0]
    source = Cached(command_source([str(script)])._ask, clock=lambda: now[0])  # type: ignore[attr-defined]

    for now[0] in (0.0, 799.0, 801.0):
        source()

    assert log.read_text() == "run\nrun\n"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["false"], "it ended with 1"),
        (["true"], "must print one token"),
        (["no-such-command"], "No such file"),
        (["echo", "two words"], "must print one token"),
    ],
)
def test_a_command_that_gives_no_token_is_named(command: list[str], said: str) -> None:
    with pytest.raises(Unauthenticated, match=said) as caught:
        command_source(command)()

    assert caught.value.reason == "TOKEN_COMMAND_FAILED"


def test_what_a_command_printed_is_in_no_message() -> None:
    with pytest.raises(Unauthenticated) as caught:
        command_source(["echo", "secret secret"])()

    assert "secret" not in str(caught.value)


@pytest.fixture
def jit(capsys: pytest.CaptureFixture[str]) -> Jit:
    return jit_in_process(capsys)


@pytest.fixture
def service_url() -> Iterator[str]:
    """A service that says of itself what jobs must know, and is away else."""
    document: dict[str, str] = {"jit_audience": AUDIENCE, "jit_grpc_address": "127.0.0.1:1"}
    with publishing({"/.well-known/oauth-protected-resource": document}) as url:
        document["resource"] = url
        yield url


def test_login_of_a_job_writes_a_context_for_its_commands(jit: Jit, github: GitHub, service_url: str) -> None:
    ran = jit("login", service_url, "--workload", "-o", "json")

    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["address"] == "127.0.0.1:1"
    settings = load(address=None, token=None)
    assert (settings.address, settings.token()) == ("127.0.0.1:1", jwt(aud=AUDIENCE, iat=0, exp=300))


def test_login_of_a_job_by_a_file_or_a_command(jit: Jit, service_url: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("in-the-file")

    assert jit("login", service_url, "--workload", "--token-file", str(tmp_path / "token")).code == 0
    by_file = load(address=None, token=None).token()
    assert jit("login", service_url, "--workload", "--token-command", "echo printed").code == 0
    by_command = load(address=None, token=None).token()

    assert (by_file, by_command) == ("in-the-file", "printed")


def test_login_of_no_job_says_what_there_could_be(jit: Jit, service_url: str) -> None:
    ran = jit("login", service_url, "--workload")

    assert ran.code == 3
    assert all(name in ran.err for name in (URL, "JIT_ID_TOKEN", "/var/run/secrets/jit/token", "--token-command"))


def test_ways_that_exclude_each_other_are_refused(jit: Jit, service_url: str) -> None:
    assert jit("login", service_url, "--workload", "--device").code == 2
    assert jit("login", service_url, "--token-command", "echo x").code == 2
