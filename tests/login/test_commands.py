"""`jit login`, `jit logout` and `jit context` in the hands of people, against a service that takes the tokens."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jitaccess import AsyncJitClient, JitClient
from jitaccess._watch import Resumption
from jitaccess.contract.model import GrantEventType
from jitaccess.errors import JitError
from jitaccess.login import device_flow
from jitaccess.login.choices import Place
from jitaccess.login.claims import read_claims
from jitaccess.login.keeping import Keep
from jitaccess.login.renewal import Renewed
from tests import prepared
from tests.cli.conftest import Jit, jit_in_process
from tests.login.conftest import Watch
from tests.login.oidc import Oidc, Person

ALICE = "user:alice@example.com"


@pytest.fixture
def jit(capsys: pytest.CaptureFixture[str]) -> Jit:
    """Runs `jit` in this process."""
    return jit_in_process(capsys)


@pytest.fixture
def browse(monkeypatch: pytest.MonkeyPatch, alice: Person) -> Callable[[Person], None]:
    """Has the browser that `jit` opens be somebody's; alice's at first."""
    monkeypatch.setenv("BROWSER", "firefox")

    def browse(person: Person) -> None:
        monkeypatch.setattr("jitaccess.cli.login.open_browser", person.open)

    browse(alice)
    return browse


@pytest.fixture
def logged_in_at(jit: Jit, url: str, browse: Callable[[Person], None]) -> str:
    """The service that alice is logged in to, as the context `prod`."""
    assert jit("login", url, "--context", "prod").code == 0
    return url


def tokens_of(directory: Path, context: str) -> dict[str, Any]:
    return dict(json.loads((directory / "tokens" / f"{context}.json").read_text()))


def test_login_needs_the_url_alone(jit: Jit, url: str, browse: Callable[[Person], None], oidc: Oidc) -> None:
    name = url.removeprefix("http://").replace(":", "-")

    ran = jit("login", url, "-o", "json")

    told = json.loads(ran.out)
    assert ran.code == 0
    assert (told["principal"], told["url"], told["issuer"]) == (ALICE, url, oidc.issuer)
    assert (told["context"], told["tokens"], told["renewed"]) == (name, "file", True)
    assert f"Log in here: {oidc.issuer}/auth?" in ran.err


def test_after_login_every_command_is_alices(jit: Jit, logged_in_at: str, grpc_address: str) -> None:
    ran = jit("whoami")

    assert ran.code == 0
    assert ALICE in ran.out
    assert f"{grpc_address} accepts the token" in ran.out
    assert "the login of the context prod, kept in the file" in ran.out


def test_a_program_is_alice_too(logged_in_at: str) -> None:
    with JitClient() as client:
        assert client.who_am_i().principal == ALICE


def test_what_login_writes_is_for_its_user_alone(logged_in_at: str, bare_environment: Path) -> None:
    files = [path for path in bare_environment.rglob("*") if path.is_file()]

    assert {path.name for path in files} == {"current-context", "prod.toml", "prod.json", "prod.lock"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_login_by_another_device(
    jit: Jit, url: str, alice: Person, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def look(seconds: float) -> None:
        said.append(capsys.readouterr().err)
        words = said[0].split()
        alice.enter_code(words[words.index("to") + 1], words[words.index("code") + 1])

    monkeypatch.setattr(device_flow, "sleep", look)

    ran = jit("login", url, "--device", "--context", "phone")

    assert ran.code == 0, ran.err
    assert "On any device, go to" in said[0]
    assert "The code counts for 10 min." in said[0]
    assert ALICE in jit("whoami").out


def test_login_without_a_browser_prints_the_address(url: str, alice: Person, bare_environment: Path) -> None:
    """As a process of its own, whose address a person copies into a browser."""
    process = subprocess.Popen(
        [prepared.command("jit"), "login", url, "--no-browser"],
        env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    address = process.stderr.readline().removeprefix("Log in here: ").strip()

    page = alice.open(address)

    out, err = process.communicate(timeout=60)
    assert "Go back to the terminal" in page
    assert (process.returncode, err) == (0, "")
    assert ALICE in out


def test_a_token_that_the_service_does_not_accept_is_not_kept(
    jit: Jit, url: str, browse: Callable[[Person], None], metadata: dict[str, Any], bare_environment: Path
) -> None:
    metadata["jit_audience"] = ""
    metadata["jit_scopes"] = ["openid"]
    browse(Person("**"))

    ran = jit("login", url)

    assert ran.code == 3
    assert "does not accept the token" in ran.err
    assert not bare_environment.exists()


def test_while_the_service_is_away_login_goes_on_with_a_warning(
    jit: Jit, url: str, browse: Callable[[Person], None], metadata: dict[str, Any]
) -> None:
    metadata["jit_grpc_address"] = "127.0.0.1:1"

    ran = jit("login", url)

    assert ran.code == 0
    assert "warning: whether the service accepts the token is not known" in ran.err


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"resource": "https://jit.example.com"}, 2, "jit login https://jit.example.com"),
        ({"jit_cli_client_id": ""}, 2, "its metadata has no jit_cli_client_id"),
        ({"authorization_servers": []}, 2, "no authorization_servers"),
        ({"authorization_servers": ["http://sso.example.com"]}, 2, "neither https nor http on loopback"),
        ({"authorization_servers": ["http://127.0.0.1:1"]}, 7, "the provider http://127.0.0.1:1 is away"),
    ],
    ids=["another service", "no client", "no provider", "plain http", "away"],
)
def test_a_service_that_offers_no_login_says_what_is_missing(
    jit: Jit, url: str, metadata: dict[str, Any], changes: dict[str, Any], code: int, said: str
) -> None:
    metadata |= changes

    ran = jit("login", url)

    assert ran.code == code
    assert said in ran.err


@pytest.mark.parametrize("url", ["http://jit.example.com", "ftp://x", "https://a@b", "https://h?x=1"])
def test_a_url_over_which_tokens_would_leak_is_refused(jit: Jit, url: str) -> None:
    ran = jit("login", url)

    assert ran.code == 2
    assert "must be https://HOST" in ran.err


def test_logout_revokes_and_forgets(jit: Jit, logged_in_at: str, oidc: Oidc, bare_environment: Path) -> None:
    refresh_token = tokens_of(bare_environment, "prod")["refresh_token"]

    ran = jit("logout")

    form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": "jit-cli"}
    assert (ran.code, ran.out) == (0, "logged out of prod\n")
    assert oidc.http.post(f"{oidc.issuer}/token", data=form).json()["error"] == "invalid_grant"
    assert not (bare_environment / "tokens" / "prod.json").exists()
    after = jit("ls")
    assert after.code == 3
    assert "nobody is logged in to the context prod" in after.err
    assert "hint: log in with `jit login`" in after.err


def test_logout_while_the_provider_is_away_forgets_and_says_that_it_is_not_revoked(
    jit: Jit, logged_in_at: str, oidc: Oidc, bare_environment: Path
) -> None:
    oidc.go_away()

    ran = jit("logout")

    assert ran.code == 7
    assert "logged out of prod; warning: not revoked" in ran.out
    assert not (bare_environment / "tokens" / "prod.json").exists()


def test_logout_twice_is_none_the_worse(jit: Jit, logged_in_at: str) -> None:
    jit("logout")

    assert jit("logout", "--all").code == 0


def test_login_again_needs_no_url(jit: Jit, logged_in_at: str) -> None:
    jit("logout")

    assert jit("login").code == 0
    assert ALICE in jit("whoami").out


def test_two_logins_are_two_contexts(jit: Jit, logged_in_at: str, browse: Callable[[Person], None]) -> None:
    browse(Person("erin@example.com"))
    jit("login", logged_in_at, "--context", "audit")

    assert "user:erin@example.com" in jit("whoami").out
    assert ALICE in jit("whoami", "--context", "prod").out
    assert ALICE in jit("--context", "prod", "whoami").out
    listed = json.loads(jit("context", "ls", "-o", "json").out)["contexts"]
    assert [(each["context"], each["inUse"], each["principal"]) for each in listed] == [
        ("audit", True, "user:erin@example.com"),
        ("prod", False, ALICE),
    ]


def test_login_overwrites_no_context_of_another_service(jit: Jit, url: str, browse: Callable[[Person], None]) -> None:
    jit("context", "add", "prod", "--url", "https://jit.example.com")
    jit("context", "add", "lab", "--address", "lab:443")

    for name, whose in (("prod", "https://jit.example.com"), ("lab", "lab:443")):
        ran = jit("login", url, "--context", name)

        assert ran.code == 2
        assert f"there is a context {name} already, of {whose}" in ran.err


def test_jit_context_names_the_context(jit: Jit, logged_in_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    jit("context", "add", "other", "--address", "127.0.0.1:1", "--use")
    monkeypatch.setenv("JIT_CONTEXT", "prod")

    assert ALICE in jit("whoami").out


def test_a_context_that_is_given_comes_before_the_environment(
    jit: Jit, logged_in_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JIT_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("JIT_TOKEN", "of-somebody-else")

    assert ALICE in jit("whoami", "--context", "prod").out


def test_login_warns_of_variables_that_come_first(
    jit: Jit, url: str, browse: Callable[[Person], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JIT_TOKEN_FILE", "/etc/token")

    ran = jit("login", url, "--context", "prod")

    assert "warning: JIT_TOKEN_FILE of the environment comes first; unset it, or pass --context prod" in ran.err


def test_a_login_goes_to_no_other_service(jit: Jit, logged_in_at: str) -> None:
    ran = jit("ls", "--address", "127.0.0.1:1")

    assert ran.code == 3
    assert "its token is for no other service than that" in ran.err


def test_facts_of_a_check_and_the_context_stand_beside_each_other(jit: Jit, logged_in_at: str) -> None:
    jit("context", "add", "other", "--address", "127.0.0.1:1", "--use")

    ran = jit("check", ALICE, "read", "database/x", "--context", "a=1", "--context", "prod", "--context", "b=2")

    assert ran.code == 1, ran.err
    assert "NO_GRANT" in ran.out


def test_contexts_are_added_used_and_removed(jit: Jit, bare_environment: Path) -> None:
    added = jit("context", "add", "dev", "--address", "localhost:50051", "--token-file", "t.jwt")
    assert added.out == "dev is added; use it with: jit context use dev\n"
    assert jit("context", "use", "dev").out == "dev is in use: localhost:50051\n"
    assert "yes" in jit("context", "ls").out

    assert jit("context", "rm", "dev").out == "dev is removed\n"

    assert jit("context", "ls").out == "no contexts; log in with: jit login https://HOST\n"


def test_removing_a_context_logs_out(jit: Jit, logged_in_at: str, oidc: Oidc, bare_environment: Path) -> None:
    refresh_token = tokens_of(bare_environment, "prod")["refresh_token"]

    assert jit("context", "rm", "prod").code == 0

    form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": "jit-cli"}
    assert oidc.http.post(f"{oidc.issuer}/token", data=form).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("context", "use", "prd"), "there is no context prd; there are prod; did you mean prod?"),
        (("ls", "--context", "porc"), "there is no context porc"),
        (("context", "add", "a b", "--address", "h:1"), "no name for a context"),
        (("context", "add", "../x", "--address", "h:1"), "no name for a context"),
        (("context", "add", "prod", "--address", "h:1"), "there is a context prod already"),
        (("context", "add", "default", "--address", "h:1"), "the configuration file itself"),
        (("context", "rm", "default"), "the configuration file itself"),
        (("check", ALICE, "read", "a/b", "--context", "prod", "--context", "dev"), "one context only"),
    ],
)
def test_what_is_no_context_is_named(jit: Jit, logged_in_at: str, arguments: tuple[str, ...], said: str) -> None:
    ran = jit(*arguments)

    assert ran.code == 2
    assert said in ran.err


def test_the_configuration_file_of_before_goes_on_working(
    jit: Jit, logged_in_at: str, bare_environment: Path, grpc_address: str
) -> None:
    (bare_environment / "config.toml").write_text(f'address = "{grpc_address}"\ntoken = "no-jwt"\n')

    assert ALICE in jit("whoami").out
    jit("context", "use", "default")

    assert jit("whoami").code == 3


def test_a_client_that_outlives_its_token_has_the_next_one(
    logged_in_at: str, grpc_address: str, bare_environment: Path, watch: Watch
) -> None:
    first = tokens_of(bare_environment, "prod")
    source = Renewed(Keep(bare_environment, "prod", Place.FILE), clock=watch)
    with JitClient(grpc_address, token=source) as client:
        assert client.who_am_i().jti == read_claims(first["access_token"])["jti"]
        watch.ahead = 481

        assert client.who_am_i().jti != read_claims(first["access_token"])["jti"]

    assert tokens_of(bare_environment, "prod")["refresh_token"] != first["refresh_token"]


def test_a_watch_goes_on_with_the_next_token_where_its_own_ended(
    logged_in_at: str, grpc_address: str, bare_environment: Path, watch: Watch, service_watch: Watch, oidc: Oidc
) -> None:
    """What `jit run`, `jit audit tail` and `jit ls --watch` stand on."""
    source = Renewed(Keep(bare_environment, "prod", Place.FILE), clock=watch)
    try:
        with JitClient(grpc_address, token=source) as client:
            events = client.watch_grants(heartbeats=True)
            next(events)
            # The token has 600 seconds.
            watch.ahead = service_watch.ahead = 700
            oidc.set_clock_ahead(700)

            told = next(event for event in events if source.at_hand() is not None)

            events.close()
    finally:
        service_watch.ahead = 0.0

    assert told.event_type is GrantEventType.HEARTBEAT
    assert [form["status"] for form in oidc.forms() if form["grant_type"] == "refresh_token"] == [200]


def test_a_watch_waits_for_a_provider_that_is_away_as_its_token_ends(
    logged_in_at: str, grpc_address: str, bare_environment: Path, watch: Watch, service_watch: Watch, oidc: Oidc
) -> None:
    faults: list[str] = []

    class Patient(JitClient):
        def pause_before_resuming(self, _: Resumption[Any], fault: JitError) -> float:
            faults.append(fault.reason)
            oidc.go_away(fault.reason != "PROVIDER_UNAVAILABLE")
            return 0.0

    source = Renewed(Keep(bare_environment, "prod", Place.FILE), clock=watch)
    try:
        with Patient(grpc_address, token=source) as client:
            events = client.watch_grants(heartbeats=True)
            next(events)
            watch.ahead = service_watch.ahead = 700
            oidc.set_clock_ahead(700)

            told = next(event for event in events if source.at_hand() is not None)

            events.close()
    finally:
        service_watch.ahead = 0.0

    assert told.event_type is GrantEventType.HEARTBEAT
    assert faults[-1] == "PROVIDER_UNAVAILABLE"


def test_an_asynchronous_client_goes_on_too(logged_in_at: str, grpc_address: str, bare_environment: Path) -> None:
    async def asked() -> str:
        async with AsyncJitClient() as client:
            return (await client.who_am_i()).principal

    _age(bare_environment, 500)

    assert asyncio.run(asked()) == ALICE


def test_a_provider_that_is_away_after_the_token_ended_is_named(
    jit: Jit, logged_in_at: str, oidc: Oidc, bare_environment: Path
) -> None:
    _age(bare_environment, 601)
    oidc.go_away()

    ran = jit("ls")

    assert ran.code == 7
    assert f"the provider {oidc.issuer} is away" in ran.err
    assert "hint: who is logged in goes on until the token ends" in ran.err


def _age(directory: Path, seconds: float) -> None:
    """Makes the login as old as that."""
    path = directory / "tokens" / "prod.json"
    kept = json.loads(path.read_text())
    aged = {key: value - seconds if key.endswith("_at") else value for key, value in kept.items()}
    path.write_text(json.dumps(aged))


def test_no_token_is_ever_printed(jit: Jit, url: str, browse: Callable[[Person], None], bare_environment: Path) -> None:
    ran = [jit("login", url, "--context", "prod"), jit("whoami"), jit("context", "ls"), jit("whoami", "-o", "json")]
    kept = tokens_of(bare_environment, "prod")

    said = "".join(each.out + each.err for each in ran)
    assert all(kept[name] not in said for name in ("access_token", "refresh_token", "id_token"))


def test_whoever_is_not_logged_in_is_told_how(jit: Jit) -> None:
    with pytest.raises(JitError, match="or log in"):
        JitClient("127.0.0.1:1")
