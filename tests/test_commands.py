"""`jit-service` as an operator runs it: real processes, real signals."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from jit_service.__main__ import app
from jit_service.use_cases.keyring import new_key
from jitaccess import JitClient, PermissionDenied, Unavailable
from jitaccess.jose import jws
from tests import prepared
from tests.conftest import Clock
from tests.notifications.webhooks import SECRET, facts, hook
from tests.rest.dev_login import DevLogin
from tests.world import make_database

SERVICE = Path(sys.executable).parent / "jit-service"
ANY = "127.0.0.1:0"
PEOPLE = {"alice", "bob", "carol", "dave", "gateway", "auditor", "admin"}


@contextmanager
def running(*arguments: str, environment: dict[str, str] | None = None) -> Iterator[tuple[prepared.Started, Any]]:
    """Runs the command until it says it is ready. Yields the process and what it said."""
    process = prepared.start("jit-service", *arguments, env={**os.environ, **(environment or {})})
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield process, json.loads(line)
    finally:
        process.kill()
        process.communicate()


def up(data_dir: Path, *arguments: str, afresh: bool = False) -> Any:
    """Runs `up` on a database that is migrated already, since each would take a while for it, or `afresh`."""
    if not afresh:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_database(f"sqlite:///{data_dir / 'jit.db'}")
    return running("up", "--dev", "--data-dir", str(data_dir), "--grpc", ANY, "--http", ANY, *arguments)


def failing(*arguments: str, **environment: str) -> str:
    """Runs the command, which must fail with one line. Returns the line."""
    done = prepared.run("jit-service", *arguments, env={**os.environ, **environment}, timeout=60)
    return only_fault(done.returncode, done.stdout, done.stderr)


def only_fault(code: int, out: str, err: str) -> str:
    """Returns the one line that a command must have failed with."""
    assert (code, out) == (1, ""), (code, out, err)
    faults = [line for line in err.splitlines() if line.startswith("jit-service: error: ")]
    assert len(faults) == 1, err
    assert "Traceback" not in err
    return faults[0]


@dataclass(frozen=True)
class Terminal:
    """Runs commands that end by themselves in this process: one of their own would only import all of it again."""

    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Returns the exit code, and what the command said on stdout and on stderr."""
        self.capsys.readouterr()
        code = 0
        with self.monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["jit-service", *arguments])
            try:
                app()
            except SystemExit as end:
                code = int(end.code or 0)
        return code, *self.capsys.readouterr()

    def failing(self, *arguments: str, **environment: str) -> str:
        """Runs the command, which must fail with one line. Returns the line."""
        return only_fault(*self.run(*arguments, **environment))

    def printing(self, *arguments: str, **environment: str) -> str:
        """Runs the command, which must succeed. Returns what it printed."""
        code, out, err = self.run(*arguments, **environment)
        assert code == 0, err
        return out.strip()


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal for commands in this process, whose file mode and signal handlers are as they were afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    mask = os.umask(0o077)
    yield Terminal(capsys, monkeypatch)
    os.umask(mask)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def token(data_dir: Path, name: str) -> str:
    return (data_dir / "dev" / "tokens" / f"{name}.jwt").read_text()


def test_up_says_where_it_is_on_one_line_and_serves_both(tmp_path: Path) -> None:
    with up(tmp_path, afresh=True) as (process, ready):
        assert set(ready) == {"ready", "http", "login", "grpc", "data_dir"}
        assert ready["ready"] is True
        assert ready["data_dir"] == str(tmp_path)
        with JitClient(ready["grpc"], token=token(tmp_path, "alice")) as client:
            assert client.request(["database/orders/eu"], ["read"]).state == "ACTIVE"
        address = ready["http"].removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("GET", "/v1/grants", headers={"authorization": f"Bearer {token(tmp_path, 'alice')}"})
        assert len(json.load(connection.getresponse())["grants"]) == 1
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == ""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_with_a_free_port_its_url_in_metadata_denials_and_tokens_is_where_it_is(tmp_path: Path, workers: str) -> None:
    with up(tmp_path, "--workers", workers) as (_, ready):

        def sent(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
            connection = http.client.HTTPConnection(ready["http"].removeprefix("http://"), timeout=10)
            headers = {
                "authorization": f"Bearer {token(tmp_path, 'alice')}",
                "content-type": "application/json",
            }
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            return json.load(connection.getresponse())

        metadata = sent("GET", "/.well-known/authzen-configuration")
        question = {
            "subject": {"type": "user", "id": "alice@example.com"},
            "action": {"name": "read"},
            "resource": {"type": "database", "id": "orders/eu"},
        }
        denial = sent("POST", "/access/v1/evaluation", question)
        asked = {"resources": ["database/orders/eu"], "actions": ["read"], "duration": "600s"}
        grant = sent("POST", "/v1/grants", asked)
        issued = sent("POST", f"/v1/{grant['name']}:issueToken", {"audience": ["https://api.example.com"]})
        login = sent("GET", "/.well-known/oauth-protected-resource")
        provider = DevLogin(ready["http"], ready["login"], Clock())
        answered = provider.status(provider.log_in("bob").tokens()["access_token"])

    assert metadata["policy_decision_point"] == ready["http"]
    assert denial["context"]["access_request"]["endpoint"] == f"{ready['http']}/access/v1/requests"
    assert jws.decoded(issued["token"])[1]["iss"] == ready["http"]
    assert (login["resource"], login["authorization_servers"]) == (ready["http"], [ready["login"]])
    assert answered == 200
    assert not ready["http"].endswith(":0")


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_a_disk_that_takes_nothing_makes_it_ill_at_once_and_well_by_itself(tmp_path: Path) -> None:
    with up(tmp_path) as (process, ready), grpc.insecure_channel(ready["grpc"]) as channel:

        def healthz() -> int:
            connection = http.client.HTTPConnection(ready["http"].removeprefix("http://"), timeout=10)
            connection.request("GET", "/healthz")
            return connection.getresponse().status

        def health(service: str = "") -> str:
            asked = health_pb2.HealthCheckRequest(service=service)
            answer = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=10)
            return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

        well = (health(), healthz())
        with JitClient(ready["grpc"], token=token(tmp_path, "alice")) as client:
            psutil.Process(process.pid).rlimit(psutil.RLIMIT_FSIZE, (0, -1))
            with pytest.raises(Unavailable):
                client.request(["database/orders/eu"], ["read"])
            ill = (health(), health("jitaccess.v1.GrantService"), list(client.list_grants()))
            is_told = eventually(lambda: healthz() == 503)
            psutil.Process(process.pid).rlimit(psutil.RLIMIT_FSIZE, (-1, -1))

            assert eventually(lambda: healthz() == 200)
            assert health() == "SERVING"
            assert client.request(["database/orders/eu"], ["read"]).state == "ACTIVE"

    assert well == ("SERVING", 200)
    assert ill == ("NOT_SERVING", "SERVING", [])
    assert is_told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_envoy_in_order(tmp_path: Path, number: int) -> None:
    with up(tmp_path) as (process, _):
        (envoy,) = psutil.Process(process.pid).children()

        process.send_signal(number)

        assert process.wait(timeout=10) == 0
        assert not envoy.is_running()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends a child with its parent")
def test_envoy_does_not_outlive_a_service_that_is_killed(tmp_path: Path) -> None:
    with up(tmp_path) as (process, _):
        (envoy,) = psutil.Process(process.pid).children()

        process.kill()

        envoy.wait(timeout=10)


def test_it_ends_with_a_fault_when_envoy_does(tmp_path: Path) -> None:
    with up(tmp_path) as (process, _):
        (envoy,) = psutil.Process(process.pid).children()

        envoy.kill()

        assert process.wait(timeout=15) == 1


def test_what_it_writes_is_for_this_user_alone(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with up(data_dir, afresh=True):
        tokens = data_dir / "dev" / "tokens"
        assert {path.stem for path in tokens.iterdir()} == PEOPLE
        private = [data_dir, tokens, *tokens.iterdir(), data_dir / "jit.db", data_dir / "dev" / "key.pem"]
        private += [data_dir / "grpc-0.sock", data_dir / "grpc-0.passing", data_dir / "envoy" / "envoy.yaml"]
        assert {path: stat.S_IMODE(path.stat().st_mode) & 0o077 for path in private} == dict.fromkeys(private, 0)


def test_what_it_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    with up(tmp_path) as (process, ready):
        with JitClient(ready["grpc"], token=token(tmp_path, "alice")) as client:
            name = client.request(["database/orders/eu"], ["read"]).name
        process.kill()
        process.wait()

    with up(tmp_path) as (_, ready), JitClient(ready["grpc"], token=token(tmp_path, "admin")) as client:
        assert client.get_grant(name).state == "ACTIVE"
        assert client.verify_audit_log().valid


def test_examples_are_applied_to_an_empty_store_only(tmp_path: Path) -> None:
    with up(tmp_path) as (_, ready), JitClient(ready["grpc"], token=token(tmp_path, "admin")) as client:
        first = {policy.name for policy in client.list_policies()}
        client.delete_policy("policies/orders-read")
    assert first >= {f"policies/{name}" for name in ("orders-read", "orders-write", "prod-admin", "no-contractors")}

    with up(tmp_path) as (_, ready), JitClient(ready["grpc"], token=token(tmp_path, "admin")) as client:
        assert "policies/orders-read" not in {policy.name for policy in client.list_policies()}


def test_a_data_directory_with_a_long_path_works(tmp_path: Path) -> None:
    with up(tmp_path / ("d" * 100), afresh=True) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0


@pytest.mark.parametrize("flag", ["--grpc", "--http"])
def test_a_taken_port_is_one_clear_line(tmp_path: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        other = "--http" if flag == "--grpc" else "--grpc"

        line = failing("up", "--dev", "--data-dir", str(tmp_path), flag, address, other, ANY)

    assert address in line


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("policies: [", "YAML"),
        ("- a", "must hold"),
        ("policies:\n- name: x\n  name: y\n", "stands twice"),
        ("policies:\n- nam: x\n", "nam"),
        ("policies:\n- name: policies/x\n", "policies[0].eligible"),
        ("policies:\n- maxDuration: 5 minutes\n", "duration"),
    ],
)
def test_a_bad_policy_file_is_one_clear_line(tmp_path: Path, terminal: Terminal, content: str, fault: str) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text(content)

    line = terminal.failing(
        "up", "--dev", "--data-dir", str(tmp_path), "--grpc", ANY, "--http", ANY, "--policies", str(path)
    )

    assert fault.lower() in line.lower()


def test_a_policy_file_that_is_not_there_is_one_clear_line(tmp_path: Path, terminal: Terminal) -> None:
    line = terminal.failing(
        "up", "--dev", "--data-dir", str(tmp_path), "--grpc", ANY, "--policies", str(tmp_path / "no.yaml")
    )

    assert "no.yaml" in line


def test_an_unreachable_database_is_one_clear_line_without_its_password(tmp_path: Path, terminal: Terminal) -> None:
    url = "postgresql://jit:hunter2@127.0.0.1:1/jit"

    line = terminal.failing("up", "--dev", "--data-dir", str(tmp_path), "--database-url", url)

    assert "database" in line
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("variable", "value"),
    [("JIT_GRPC", "8081"), ("JIT_HTTP", "a:b"), ("JIT_DATABASE_URL", "mysql://u:hunter2@h/d"), ("JIT_ISSUERS", "[{}]")],
)
def test_a_bad_setting_is_one_clear_line_that_names_it(
    tmp_path: Path, terminal: Terminal, variable: str, value: str
) -> None:
    line = terminal.failing("up", "--dev", "--data-dir", str(tmp_path), **{variable: value})

    assert variable in line
    assert "hunter2" not in line


def test_a_data_directory_is_for_one_service(tmp_path: Path) -> None:
    with up(tmp_path) as (process, ready):
        line = failing("up", "--dev", "--data-dir", str(tmp_path), "--grpc", ANY, "--http", ANY)

        assert str(tmp_path) in line
        assert process.poll() is None
        address = ready["http"].removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("GET", "/v1/grants", headers={"authorization": f"Bearer {token(tmp_path, 'alice')}"})
        assert connection.getresponse().status == 200


@pytest.mark.parametrize("flag", ["--grpc", "--http"])
def test_dev_is_for_loopback_only(tmp_path: Path, terminal: Terminal, flag: str) -> None:
    assert "loopback" in terminal.failing("up", "--dev", "--data-dir", str(tmp_path), flag, "0.0.0.0:0")


def test_without_an_issuer_it_does_not_start(tmp_path: Path, terminal: Terminal) -> None:
    assert "issuer" in terminal.failing("up", "--data-dir", str(tmp_path))


def test_dev_says_loudly_what_it_is(tmp_path: Path) -> None:
    with up(tmp_path) as (process, _):
        process.terminate()
        _, told = process.communicate(timeout=15)

    assert "DEVELOPMENT MODE" in told
    assert token(tmp_path, "admin") not in told


def test_serve_needs_a_migrated_database(tmp_path: Path, terminal: Terminal) -> None:
    issuers = json.dumps([{"issuer": "i", "audience": "a", "jwks_file": str(tmp_path / "jwks.json")}])
    common = ("--data-dir", str(tmp_path))
    assert "migrate" in terminal.failing("serve", *common, "--grpc", ANY, JIT_ISSUERS=issuers)

    terminal.printing("migrate", *common)

    with running("serve", *common, "--grpc", ANY, environment={"JIT_ISSUERS": issuers}) as (process, ready):
        assert set(ready) == {"ready", "grpc", "data_dir"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0


def test_dev_token_is_accepted(tmp_path: Path, terminal: Terminal) -> None:
    with up(tmp_path) as (_, ready):
        command = ("dev-token", "user:erin@example.com", "--group", "contractors", "--group", "engineering")
        made = terminal.printing(*command, "--data-dir", str(tmp_path))

        with JitClient(ready["grpc"], token=made) as client, pytest.raises(PermissionDenied) as refused:
            client.request(["database/orders/eu"], ["read"])

    assert refused.value.reason == "DENIED_BY_POLICY"


def test_a_dev_token_is_for_a_directory_where_a_service_runs(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"

    ran = prepared.run(
        "jit-service", "dev-token", "user:erin@example.com", "--data-dir", str(wrong), env=os.environ, timeout=60
    )

    assert (ran.returncode, ran.stdout, wrong.exists()) == (1, "", False)
    assert ran.stderr.startswith("jit-service: error: no service runs there: ")


def test_a_postgresql_url_works_as_it_is_usually_written(tmp_path: Path, postgresql_url: str) -> None:
    url = postgresql_url.replace("postgresql+psycopg://", "postgresql://")
    with up(tmp_path, "--database-url", url, afresh=True) as (_, ready):
        with JitClient(ready["grpc"], token=token(tmp_path, "alice")) as client:
            assert client.request(["database/orders/eu"], ["read"]).state == "ACTIVE"
        assert not (tmp_path / "jit.db").exists()


def test_expiries_are_recorded_without_anybody_asking(tmp_path: Path) -> None:
    """The one test on the real clock: the recorder's thread runs in a real process."""
    with up(tmp_path) as (_, ready), JitClient(ready["grpc"], token=token(tmp_path, "alice")) as client:
        from datetime import timedelta

        grant = client.request(["database/orders/eu"], ["read"], duration=timedelta(milliseconds=1))
        with JitClient(ready["grpc"], token=token(tmp_path, "auditor")) as auditor:
            deadline = time.monotonic() + 15
            found: list[Any] = []
            while not found and time.monotonic() < deadline:
                text = f'event_type = GRANT_EXPIRED AND grant = "{grant.name}"'
                found = list(auditor.list_audit_events(filter=text))
            assert len(found) == 1


def test_a_lock_holds_in_every_worker_and_is_lifted_at_the_host_where_nobody_else_can(
    tmp_path: Path, terminal: Terminal
) -> None:
    def told(*arguments: str) -> str:
        return terminal.printing(*arguments, "--data-dir", str(tmp_path))

    with up(tmp_path, "--workers", "2") as (_, ready), ExitStack() as stack:
        rita = told("dev-token", "user:rita@example.com", "--role", "responder")
        responder = stack.enter_context(JitClient(ready["grpc"], token=rita))
        # Each on a connection of its own, so that both workers have some.
        admins = [stack.enter_context(JitClient(ready["grpc"], token=token(tmp_path, "admin"))) for _ in range(6)]
        for _ in range(3):
            lock = responder.create_lock("user:ADMIN@example.com", comment="stolen")
            for admin in admins:
                with pytest.raises(PermissionDenied) as refused:
                    list(admin.list_policies())
                assert refused.value.reason == "LOCKED"

            assert told("unlock", "user:admin@example.com") == lock.name
            assert all(list(admin.list_policies()) for admin in admins)


def test_keys_are_listed_and_rotated_without_showing_a_private_one(tmp_path: Path, terminal: Terminal) -> None:
    environment = {"JIT_TOKEN_ISSUER": "https://jit.example.com", "JIT_DATA_DIR": str(tmp_path)}

    def keys(*arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in terminal.printing("keys", *arguments, **environment).splitlines()]

    assert "migrate" in terminal.failing("keys", "list", **environment)
    terminal.printing("migrate", **environment)
    assert keys("list") == []

    (first,) = keys("rotate", "--compromised")
    (second,) = keys("rotate")

    assert [(key["kid"], key["state"]) for key in keys("list")] == [
        (first["kid"], "SIGNING"),
        (second["kid"], "PUBLISHED"),
    ]
    assert set(first) == {"kid", "state", "createTime", "signsFrom", "lastExpireTime"}
    assert (tmp_path / "token.key").stat().st_mode & 0o777 == 0o600


def test_the_sealing_key_is_rotated_beside_a_running_service(tmp_path: Path, terminal: Terminal) -> None:
    old, new = make_line(), make_line()
    key_file = tmp_path / "token.key"
    key_file.write_text(old)
    key_file.chmod(0o600)

    def reseal(*flags: str) -> dict[str, Any]:
        return dict(json.loads(terminal.printing("keys", "reseal", *flags, "--data-dir", str(tmp_path))))

    with up(tmp_path) as (_, ready), JitClient(ready["grpc"], token=token(tmp_path, "alice")) as client:
        client.request(["database/orders/eu"], ["read"])
        assert client.check("user:alice@example.com", action="read", resource="database/orders/eu").allowed
        assert reseal()["rows"] == 0
        key_file.write_text(new + old)

        tried, done, again = reseal("--dry-run"), reseal(), reseal()

        key_file.write_text(new)
        assert client.check("user:alice@example.com", action="read", resource="database/orders/eu").allowed
        assert not client.check("user:alice@example.com", action="write", resource="database/orders/eu").allowed
        assert client.request(["database/orders/us"], ["read"])
    assert (tried["dryRun"], done["dryRun"]) == (True, False)
    assert done == tried | {"dryRun": False}
    assert again == {"replacedKey": "", "sealingKey": done["sealingKey"], "rows": 0, "dryRun": False}
    key_file.write_text(old)
    assert f"sealed with key {done['sealingKey']}, and this host has only {done['replacedKey']}" in terminal.failing(
        "keys", "reseal", "--data-dir", str(tmp_path)
    )


def make_line() -> str:
    return f"{new_key()}\n"


def test_without_a_token_issuer_there_are_no_keys_to_rotate(tmp_path: Path, terminal: Terminal) -> None:
    assert "JIT_TOKEN_ISSUER" in terminal.failing("keys", "rotate", "--data-dir", str(tmp_path))


@pytest.mark.parametrize(
    ("setting", "value", "fault"),
    [
        ("JIT_TOKEN_ISSUER", "http://jit.example.com", "JIT_TOKEN_ISSUER"),
        ("JIT_TOKEN_ISSUER", "https://jit.example.com/", "JIT_TOKEN_ISSUER"),
        ("JIT_TOKEN_ISSUER", "https://jit.example.com?x", "JIT_TOKEN_ISSUER"),
        ("JIT_MAX_GRANT_TOKEN_LIFETIME", "3601", "JIT_MAX_GRANT_TOKEN_LIFETIME"),
        ("JIT_MAX_GRANT_TOKEN_LIFETIME", "0", "JIT_MAX_GRANT_TOKEN_LIFETIME"),
        ("JIT_TOKEN_KEY_OVERLAP", "60", "JIT_TOKEN_KEY_OVERLAP"),
        ("JIT_TOKEN_KEY_ROTATION", "600", "JIT_TOKEN_KEY_ROTATION"),
    ],
)
def test_a_setting_of_tokens_that_would_be_unsafe_is_one_clear_line(
    tmp_path: Path, terminal: Terminal, setting: str, value: str, fault: str
) -> None:
    assert fault in terminal.failing("migrate", "--data-dir", str(tmp_path), **{setting: value})


def test_the_key_file_goes_with_the_data_directory_and_not_with_the_store(tmp_path: Path) -> None:
    with up(tmp_path) as (_, ready), JitClient(ready["grpc"], token=token(tmp_path, "alice")) as client:
        grant = client.request(["database/orders/eu"], ["read"])
        issued = client.issue_token(grant)
        assert client.introspect_token(issued.token)["active"] is True
        client.revoke_token(issued.token)
        assert client.introspect_token(issued.token) == {"active": False}
    secret = (tmp_path / "token.key").read_bytes().strip()
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "token.key":
            assert secret not in path.read_bytes(), path


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_is_not_delivered_is_listed_and_tried_again_until_it_is(
    tmp_path: Path, terminal: Terminal, workers: str
) -> None:
    """On the real clock: the threads run in a real process, and the receiver is away and comes back."""
    with hook() as there:
        there.status = 410
        given = facts(tmp_path, there.url, events=["BREAK_GLASS_USED"])
        environment = {"JIT_NOTIFICATIONS": json.dumps([given])}
        policies = tmp_path / "policies.yaml"
        policies.write_text(BREAKABLE)
        arguments = ("--data-dir", str(tmp_path))
        command = ("up", "--dev", *arguments, "--grpc", ANY, "--http", ANY, "--policies", str(policies))
        command += ("--workers", workers)
        with running(*command, environment=environment) as (process, ready):
            with JitClient(ready["grpc"], token=token(tmp_path, "alice")) as client:
                grant = client.request(["service/shop"], ["restart"], justification="fire", break_glass=True)
            first = there.arrivals.get(timeout=30)
            (listed,) = listed_when(terminal, lambda found: bool(found) and found[0]["fault"] != "", *arguments)
            assert listed["id"] == first.id
            assert (listed["receiver"], listed["eventType"]) == ("oncall", "BREAK_GLASS_USED")
            assert (listed["fault"], listed["attempts"], listed["dueTime"]) == ("it answered 410", 1, None)

            there.status = 204
            done = terminal.run("notifications", "retry", listed["id"], *arguments)

            assert done[0] == 0
            assert "1 will be retried" in done[2]
            assert there.arrivals.get(timeout=30).id == first.id
            assert first.event["data"]["grant"] == grant.name
            listed_when(terminal, lambda found: not found, *arguments)
            assert len(there.received) == 2
            process.terminate()
            _, log = process.communicate(timeout=15)
    assert "notified oncall of BREAK_GLASS_USED" in log
    assert "hunter2" not in log
    assert SECRET not in log


def test_an_id_that_is_none_is_one_clear_line(tmp_path: Path, terminal: Terminal) -> None:
    terminal.printing("migrate", "--data-dir", str(tmp_path))

    assert "evt_SEQ_HASH" in terminal.failing("notifications", "retry", "7", "--data-dir", str(tmp_path))


def test_a_bad_receiver_is_one_clear_line_without_its_url(tmp_path: Path, terminal: Terminal) -> None:
    given = json.dumps([facts(tmp_path, "http://hooks.example.com/hunter2")])

    line = terminal.failing("up", "--dev", "--data-dir", str(tmp_path), JIT_NOTIFICATIONS=given)

    assert "JIT_NOTIFICATIONS[0].url" in line
    assert "hunter2" not in line


BREAKABLE = """
policies:
- name: policies/shop
  eligible: {groups: [engineering]}
  resources: ["service/**"]
  actions: [restart]
  maxDuration: 3600s
  breakGlass: {eligible: {groups: [engineering]}, maxDuration: 600s, reviewWithin: 3600s}
  steps: [{approvers: {groups: [database-owners]}}]
"""


def listed_when(terminal: Terminal, found: Callable[[list[Any]], bool], *arguments: str) -> list[Any]:
    """Lists what is not delivered until it is so, for at most 30 s."""
    deadline = time.monotonic() + 30
    while True:
        lines = terminal.printing("notifications", "list", *arguments).splitlines()
        listed = [json.loads(line) for line in lines]
        if found(listed):
            return listed
        assert time.monotonic() < deadline, listed


def test_the_version_is_told(terminal: Terminal) -> None:
    assert terminal.printing("--version") == f"jit-service {version('jit-service')}"


def test_all_settings_are_printed_and_the_help_says_where(terminal: Terminal) -> None:
    assert "JIT_WORKERS [1]\n    a whole number, 1 to 64\n" in terminal.printing("settings")
    assert "docs/settings.md" in terminal.printing("serve", "--help")


def test_check_prints_findings_and_fails_for_a_fault_alone(terminal: Terminal, tmp_path: Path) -> None:
    terminal.run("migrate", "--data-dir", str(tmp_path))
    away = json.dumps([{"issuer": "https://i.example.com", "audience": "a", "jwks_url": "http://127.0.0.1:1/k"}])
    common = ("check", "--data-dir", str(tmp_path))

    code, said, _ = terminal.run(*common, JIT_ISSUERS=away)
    strict, _, _ = terminal.run(*common, "--strict", JIT_ISSUERS=away)
    faulty, told, _ = terminal.run(*common, "-o", "json")

    assert (code, strict, faulty) == (0, 1, 1)
    assert "warning  issuer https://i.example.com: its keys cannot be had" in said
    assert json.loads(told)["findings"][-1]["level"] == "fault"


@pytest.mark.parametrize("command", ["serve", "up"])
def test_a_port_without_tls_is_for_loopback_unless_somebody_says_otherwise(
    terminal: Terminal, tmp_path: Path, command: str
) -> None:
    flag = "--grpc" if command == "serve" else "--http"

    assert "JIT_INSECURE_LISTEN=true" in terminal.failing(command, "--data-dir", str(tmp_path), flag, "0.0.0.0:0")


def test_init_writes_a_settings_file_that_works_and_replaces_none(terminal: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "jit-service.yaml"

    code, out, _ = terminal.run("init", str(path))
    again = terminal.failing("init", str(path))
    printed = terminal.run("init", "-")[1]
    config = ("config", "--config", str(path), "-o", "json")

    assert (code, out) == (0, f"{path}\n")
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert f"{path} is there; --force replaces it" in again
    assert "# workers: 1\n" in printed
    assert {each["source"] for each in json.loads(terminal.run(*config)[1])["settings"].values()} == {"default"}
    assert terminal.run("init", str(path), "--force")[0] == 0


def test_config_shows_what_holds_and_from_where_without_secrets(terminal: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "jit-service.yaml"
    path.write_text("\ndatabase_url: postgresql://jit:hunter2@db/jit\nworkers: 2\n")
    path.chmod(0o600)
    flags = ("--config", str(path), "--grpc", "127.0.0.1:7")

    _, text, _ = terminal.run("config", *flags, JIT_RPC_THREADS="9")
    _, told, _ = terminal.run("config", "-o", "json", "--grpc", "127.0.0.1:7", JIT_SERVICE_CONFIG=str(path))
    shown = json.loads(told)

    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in text.splitlines()}
    assert lines["grpc"] == "127.0.0.1:7 (flag)"
    assert lines["rpc_threads"] == "9 (environment, JIT_RPC_THREADS)"
    assert lines["workers"] == f"2 (file, {path}:3)"
    assert lines["policies"] == "- (default)"
    assert lines["database_url"] == f"postgresql://jit@db/jit (file, {path}:2)"
    assert shown["file"] == str(path)
    assert shown["settings"]["workers"] == {"value": "2", "source": "file", "variable": "JIT_WORKERS"}
    assert "hunter2" not in text + told


def test_config_tries_the_settings_without_starting(terminal: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "jit-service.yaml"
    path.write_text("workers: 0\n")

    code, told, _ = terminal.run("config", "--check", "--config", str(path))

    assert code == 1
    assert told == f"fault    settings: {path}:1: workers: must be at least 1\n"
    assert f"{path}:1: workers: must be at least 1" in terminal.failing("config", "--config", str(path))
