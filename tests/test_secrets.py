"""Secrets go in through every door, and come out of none: no log, record, error, metric or command shows one."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import grpc
import pytest
from google.protobuf.json_format import MessageToJson
from sqlalchemy import text as sql
from sqlalchemy.exc import DBAPIError

from jit_service.configuration import logs, redaction, secret_file, settings_file
from jit_service.domain.errors import StoreUnavailable
from jit_service.notifications import delivery
from jit_service.refusal_log import RefusalLog
from jit_service.rpc.envoy.generated import external_auth_pb2 as wire
from jit_service.runtime.channels import channels_of
from jit_service.runtime.measuring import of_process
from jit_service.runtime.metrics_port import exposition
from jit_service.settings import Settings, SettingsError
from jit_service.storage import Store
from jit_service.storage.engine import open_engine
from tests.conftest import HOUR, Clock
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.notifications.chat import secret_file as file_with
from tests.notifications.webhooks import SECRET, hook
from tests.storage.people import add_policy
from tests.test_commands import Terminal, terminal
from tests.world import ACCESS, AUDIT, FORM, GRANTS, Grpc, Rest, Story, World

__all__ = ["terminal"]

S = "hunter2"
"""Is a part of each secret here, and of nothing else."""
FAULTS = {
    "the database's password": f"database_url: postgresql://jit:{S}@127.0.0.1:1/jit",
    "a password that is no URL's": f"database_url: postgresql://jit:x/{S}@127.0.0.1:1/jit",
    "a password where the port is": f"database_url: postgresql://127.0.0.1:{S}/jit",
    "a password among the parameters": f"database_url: postgresql://127.0.0.1:1/jit?password={S}",
    "a password that YAML takes for an alias": f"database_url: *{S}",
    "a password that YAML takes for a tag": f"database_url: !{S} x",
    "a password that YAML takes for a mapping": f"database_url: a: {S}",
    "a password without its quote": f"database_url: 'a{S}",
    "another database": f"database_url: mysql://jit:{S}@db/jit",
    "a URL for an address": f"grpc: https://jit:{S}@host:8081",
    "a URL for the metrics": f"metrics: http://jit:{S}@127.0.0.1:9000",
    "a URL for a proxy": f"trusted_proxies: http://jit:{S}@proxy",
    "a URL with a password": f"public_url: https://jit:{S}@host",
    "the key, not its file": f"key_file: {S}1k/3jRz=",
    "a key with a variable": f"key_command: PIN={S} print-key",
    "a key command without its quote": f"key_command: \"'{S}\"",
    "TLS's key, not its file": f"tls_key: |\n  -----BEGIN PRIVATE KEY-----\n  {S}\ntls_cert: no",
    "checkpoints to a URL with a password": f"checkpoint_to: https://jit:{S}@host/\ncheckpoint_records: 3",
    "a client's secret": f"issuers: [{{issuer: 'https://i.example.com', audience: a, client_secret: {S}}}]",
    "an issuer's token, not its file": f"issuers: [{{issuer: 'https://i.a.b', audience: a, bearer_token_file: {S}}}]",
    "keys at a URL with a password": f"issuers: [{{issuer: 'https://i.a.b', audience: a, jwks_url: 'https://u:{S}@h'}}]",
    "the issuers, not their file": f"issuers_file: '[{{bearer_token: {S}}}]'",
    "the receivers, not their file": f"notifications_file: '[{{url: {S}}}]'",
    "a webhook's password": f"notifications: [{{name: x, url: 'https://u:{S}@h/'}}]",
    "a webhook's secret, not its file": f"notifications: [{{name: x, url: 'https://h/{S}', secret_file: whsec_{S}}}]",
    "a webhook's number": f"notifications: [{{name: x, url: 'https://h/?t={S}', attempts: {S}, timeout: {S}}}]",
    "a proxy's password": f"notifications: [{{name: x, url: 'https://h/', proxy: 'http://u:{S}@p'}}]",
    "a proxy's credentials, not their file":
        f"notifications: [{{name: x, url: 'https://h/', proxy: 'http://p', proxy_credentials_file: 'u:{S}'}}]",
    "Slack's token, not its file": f"notifications: [{{name: x, kind: slack, to: [C01], token_file: xoxb-{S}}}]",
    "Teams' URL, not its file": f"notifications: [{{name: x, kind: teams, url_file: 'https://h/{S}'}}]",
    "mail's password, not its file":
        f"notifications: [{{name: x, kind: email, host: m, from: a@b.c, user: u, password_file: {S}}}]",
}  # fmt: skip
"""What operators write wrong around a secret, each a settings file."""


def clean(*told: str) -> None:
    shown = [each[max(0, each.find(S) - 200) :][:300] for each in told if S in each]
    assert not shown, shown


@pytest.fixture
def log() -> Iterator[Callable[[], str]]:
    """Returns all lines so far, as text and as JSON, of every level."""
    root, handlers = logging.getLogger(), []
    level = root.level
    for formatter in (logs._Text("worker 1"), logs._Json("")):
        handlers.append(logging.StreamHandler(io.StringIO()))
        handlers[-1].setFormatter(formatter)
        root.addHandler(handlers[-1])
    root.setLevel(logging.DEBUG)
    yield lambda: "\n".join(handler.stream.getvalue() for handler in handlers)
    root.setLevel(level)
    for handler in handlers:
        root.removeHandler(handler)


# Calls


def proofs(story: Story) -> dict[str, str]:
    """Returns headers `authorization` with a secret, by what is wrong with them."""
    world, now = story.world, story.world.clock()

    def token(**claims: Any) -> str:
        usual = {"iss": "jit-service --dev", "aud": "jitaccess", "sub": story.alice.principal}
        return world.issuer.signed(usual | claims, now=now, ttl=HOUR, typ="JWT")

    good = token(api_key=S, password=S)
    return {
        "good": f"Bearer {good}",
        "of another's key": f"Bearer {good[:-8]}AAAAAAAA",
        "with a secret for an issuer": f"Bearer {token(iss=f'https://u:{S}@i')}",
        "with a secret for an audience": f"Bearer {token(aud=S)}",
        "with a secret for a subject": f"Bearer {token(sub=f' {S}', name=S)}",
        "with a secret among groups": f"Bearer {token(groups=[{'x': S}])}",
        "of the past": f"Bearer {world.issuer.signed({'sub': S}, now=now - 2 * HOUR, ttl=HOUR, typ='JWT')}",
        "of another kind": f"Bearer {world.issuer.signed({'sub': S}, now=now, ttl=HOUR, typ=S)}",
        "no JWT": f"Bearer {S}",
        "a password": f"Basic {base64.b64encode(f'u:{S}'.encode()).decode()}",
        "a password in clear": f"Basic u:{S}",
        "nothing of the kind": S,
    }


def encodings(text: str) -> list[str]:
    """Returns what of a token must not be shown: its parts."""
    return [part for part in text.partition(" ")[2].split(".") if len(part) > 20]


def records(story: Story) -> str:
    """Returns the newest audit records as JSON."""
    found = story.must(story.auditor, AUDIT + "ListAuditEvents", {"orderBy": "seq desc", "pageSize": 1000})
    return str(MessageToJson(found))


def access_log(world: World) -> str:
    return "\n".join(
        path.read_text(errors="replace") for path in world.settings.data_dir.glob("*envoy*") if path.is_file()
    )


def test_no_token_and_no_claim_comes_out_of_a_call(story: Story, log: Callable[[], str]) -> None:
    story.create_policy()
    given = proofs(story)
    told = []
    for proof in given.values():
        for method, body in (
            (GRANTS + "ListGrants", {}),
            (ACCESS + "CheckAccess", story.question()),
            (GRANTS + "RequestGrant", {"resources": [story.resource], "actions": ["read"]}),
        ):
            more = {
                "authorization": proof,
                "cookie": f"session={S}",
                "x_api_key": S,
                "proxy_authorization": f"Basic {S}",
            }
            told.append(repr(story.surface.call(method, body, token=None, **more)))

    told += [
        log(),
        records(story),
        access_log(story.world),
        exposition(of_process(story.world.service.gauges.values))[0].decode(),
    ]
    clean(*told)
    for part in {part for proof in given.values() for part in encodings(proof)}:
        assert not [text for text in told if part in text]


def test_no_token_comes_out_of_the_calls_that_are_about_one(world: World, log: Callable[[], str]) -> None:
    story = Story(world, Rest(world))
    told = []
    for path in ("/oauth2/introspect", "/oauth2/revoke"):
        for token in (S, f"{S}.{S}.{S}"):
            form = urlencode({"token": token, "client_id": "x", "client_secret": S, "token_type_hint": S})
            told.append(
                repr(
                    Rest(world).send(
                        "POST", path, form, token=world.token(story.gateway), headers={"content-type": FORM}
                    )
                )
            )
    for path in (f"/v1/grants?access_token={S}", f"/v1/grants?token={S}&filter=state=ACTIVE"):
        told.append(repr(Rest(world).send("GET", path, None, token=world.token(story.alice))))

    clean(*told, log(), records(story), access_log(world))


def test_no_header_of_a_request_at_a_protected_api_is_told(world: World, log: Callable[[], str]) -> None:
    story = Story(world, Grpc(world))
    headers = {"cookie": f"session={S}", "x-api-key": S, "proxy-authorization": f"Basic {S}", "x-forwarded-for": S}
    told = []
    with grpc.insecure_channel(f"unix:{world.settings.data_dir / 's.sock'}") as channel:
        check = channel.unary_unary(
            "/envoy.service.auth.v3.Authorization/Check",
            request_serializer=wire.CheckRequest.SerializeToString,
            response_deserializer=wire.CheckResponse.FromString,
        )
        for proof in proofs(story).values():
            http = wire.AttributeContext.HttpRequest(
                method="GET",
                host="payments.internal",
                path=f"/refunds?access_token={S}",
                headers=headers | {"authorization": proof},
            )
            request = wire.CheckRequest(
                attributes=wire.AttributeContext(request=wire.AttributeContext.Request(http=http))
            )
            told.append(str(check(request, metadata=(("x-jit-proxy", "ext-authz"),), timeout=10)))

    clean(*told, log(), records(story))


# Settings


@pytest.mark.parametrize("text", FAULTS.values(), ids=FAULTS)
def test_no_command_and_no_start_quotes_a_secret_of_the_settings(
    text: str, tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "jit-service.yaml"
    file.write_text(f"{text}\ndata_dir: data\n")
    file.chmod(0o600)
    told = []

    for command in ("config", "doctor", "serve"):
        code, out, err = terminal.run(command, "--config", str(file))
        assert "Traceback" not in err
        assert code != 0 or command == "config"
        told += [out, err]

    clean(*told)


@pytest.mark.parametrize(
    "variable", ["JIT_DATABASE_URL", "JIT_NOTIFICATIONS", "JIT_ISSUERS", "JIT_KEY_FILE", "JIT_PASWORD"]
)
@pytest.mark.parametrize(
    "value", [f"[{{'{S}", f'[{{"{S}": 1}}, "{S}"]', f"postgresql://u:{S}@127.0.0.1:1/x", f"whsec_{S}"]
)
def test_no_variable_is_quoted(variable: str, value: str, tmp_path: Path, terminal: Terminal) -> None:
    """A key of JSON is quoted: it is a name."""
    if value.startswith('[{"') and variable in ("JIT_NOTIFICATIONS", "JIT_ISSUERS"):
        value = value.replace(f'"{S}": 1', '"name": 1')

    clean(*map(str, terminal.run("doctor", "--data-dir", str(tmp_path), **{variable: value})))


@pytest.mark.parametrize(
    "arguments",
    [
        ("migrate", f"postgresql://jit:{S}@db/jit"),
        ("serve", "--databse-url", f"postgresql://jit:{S}@db/jit"),
        ("serve", "--metrics", f"http://u:{S}@127.0.0.1"),
        ("serve", "--workers", "2", "--grpc", f"https://u:{S}@host"),
        ("keys", "list", f"postgresql://jit:{S}@db/jit"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_no_argument_is_quoted_with_its_password(
    arguments: tuple[str, ...], tmp_path: Path, terminal: Terminal
) -> None:
    code, out, err = terminal.run(*arguments)

    assert code != 0
    clean(out, err)


def test_a_path_is_named_where_it_may_be_one(tmp_path: Path) -> None:
    there = tmp_path / "there.key"
    there.touch()

    for path in (there, tmp_path / "gone.key"):
        assert secret_file.shown_path(path) == str(path)
    for secret in ("whsec_abc", "u:pass", "a/b+c=", "x" * 5000, "a\0b"):
        assert secret not in secret_file.shown_path(Path(secret))


# Notifications


@pytest.mark.parametrize(
    ("kind", "status"), [("webhook", 500), ("webhook", 410), ("slack", 500), ("teams", 500), ("teams", 0), ("email", 0)]
)
def test_no_failed_notification_tells_what_it_is_sent_by(
    kind: str, status: int, sqlite_url: str, clock: Clock, tmp_path: Path, log: Callable[[], str]
) -> None:

    def held(secret: str) -> str:
        return file_with(tmp_path, secret)

    with hook() as there:
        port, there.status = there.port if status else 1, status
        base = f"http://127.0.0.1:{port}"
        facts: dict[str, Callable[[], dict[str, Any]]] = {
            "webhook": lambda: {"url": f"{base}/{S}?token={S}", "secret_file": held(SECRET)},
            "slack": lambda: {"token_file": held(f"xoxb-{S}"), "to": ["C01"], "api_url": f"{base}/api/"},
            "teams": lambda: {"url_file": held(f"{base}/{S}?sig={S}")},
            "email": lambda: (
                {"host": "127.0.0.1", "port": port, "tls": "none", "user": "jit", "password_file": held(S)}
                | {"from": "a@example.com", "to": ["b@example.com"]}
            ),
        }
        given = {"name": "x", "kind": kind, "allow_private": True, "attempts": 2, "events": ["*"]} | facts[kind]()
        settings = Settings.load(data_dir=tmp_path, database_url=sqlite_url, notifications=[given])
        (channel,) = channels_of(settings)
        store = Store(sqlite_url, clock=clock, subscriptions=[settings.notifications[0].subscription])
        add_policy(store)
        told = []
        while delivery.deliver_next(store, channel):
            clock.advance(timedelta(days=1))
            told.append(repr([delivery.told(each) for each in delivery.list_waiting(store)]))
        store.close()

    assert told
    assert SECRET not in log()
    clean(log(), *told, repr(settings), repr(channel), settings.effective())


# The last defence


def test_the_log_leaves_out_what_an_error_of_a_library_quotes(log: Callable[[], str]) -> None:
    quoted = [
        f"postgresql://jit:{S}@db/jit",
        f"Authorization: Bearer {S}abcdef",
        f"https://h/x?token={S}&y=1",
        f"whsec_{S}abcdefgh",
        f"xoxb-{S}-12345678",
        f"-----BEGIN EC PRIVATE KEY-----\n{S}\n-----END EC PRIVATE KEY-----",
        f"eyJ{S}abcdef.{S}.{S}",
    ]
    for text in quoted:
        try:
            raise ValueError(text)
        except ValueError:
            logging.getLogger("x").exception("it failed")
    for text in quoted[:-1]:
        RefusalLog(logging.getLogger("x")).warning("a call cannot be answered", StoreUnavailable(text))

    clean(log())
    assert "jit" in log()


def test_a_statements_values_are_in_no_error(sqlite_url: str) -> None:
    engine = open_engine(sqlite_url)
    with pytest.raises(DBAPIError) as fault, engine.connect() as connection:
        connection.execute(sql("SELECT * FROM nothing WHERE a = :a"), {"a": S})
    engine.dispose()

    clean(str(fault.value))
    assert open_engine("postgresql+psycopg://jit@127.0.0.1:1/jit").hide_parameters


def _in_yaml() -> None:
    with pytest.raises(SettingsError) as refused:
        settings_file.document(f"database_url: *{S}", Path("x.yaml"), "--config")
    clean(str(refused.value))


def _redacted() -> None:
    clean(redaction.without_tokens(f"cannot reach postgresql://jit:{S}@db/jit"))


TWINS = [
    Twin("an alias that is quoted", settings_file.document, "_OF_THE_FILE.sub(", "_PART.sub(", _in_yaml),
    Twin(
        "a secret that is shown as a path",
        secret_file.shown_path,
        "str(path) if is_path else _WITHHELD",
        "str(path)",
        lambda: clean(secret_file.shown_path(Path(f"whsec_{S}"))),
    ),
    Twin("a password that is left", redaction.without_credentials, "{_SHOWN}", "{found[0]}", _redacted),
]


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_no_twin_survives(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    twin.caught_by()
    demand_caught(twin, monkeypatch)
