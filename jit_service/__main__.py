"""The operator's commands: serve, up, migrate, check, settings, envoy-config, unlock, keys, notifications, dev-token.

Messages for people go to stderr; stdout is for programs.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

# ruff: noqa: E402 (what stands before the imports is for them)
# gRPC logs many lines when a bind fails; our own error is one line.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# The thousand modules below make no garbage, and to look for it would take a fifth of the start.
gc.disable()

import typer

from jit_service.configuration import table
from jit_service.configuration.exposure import exposed
from jit_service.domain.audit.event import SERVICE
from jit_service.domain.caller import Caller, Origin, Role
from jit_service.domain.errors import JitError
from jit_service.domain.language import name
from jit_service.domain.notification import seq_of
from jit_service.domain.tokens.signing_key import KeyState, SigningKey
from jit_service.notifications import delivery
from jit_service.rpc.policy_file import PolicyFileError
from jit_service.runtime import preflight
from jit_service.runtime.dev_issuer import DevIssuer, NoDevIssuer
from jit_service.runtime.dev_mode import DevMode
from jit_service.runtime.edge import envoy_of, rates_of, socket_paths, with_http_port
from jit_service.runtime.envoy import Certificate, EdgeError, Envoy, share, write_own
from jit_service.runtime.envoy import binary as envoy_binary
from jit_service.runtime.preflight import Form
from jit_service.runtime.service import (
    Service,
    ServiceError,
    demand_schema,
    issuing_of,
    open_store,
    sole_user_of,
    utc_now,
)
from jit_service.runtime.service import migrate as migrate_store
from jit_service.runtime.workers import Workers, run_worker
from jit_service.settings import Address, Settings, SettingsError, Transport
from jit_service.storage import Store
from jit_service.storage.inspection import sqlite_file
from jit_service.use_cases import locks, signing_keys
from jitaccess.extras import ExtraMissing

gc.enable()

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)
keys_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="See and rotate the keys that tokens are signed with."
)
app.add_typer(keys_app, name="keys")
notifications_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="See the notifications that are not delivered, and retry them."
)
app.add_typer(notifications_app, name="notifications")
_log = logging.getLogger("jit_service")
_ENVOY_START_SECONDS = 20
_TEND_SECONDS = 0.2

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where files are kept [JIT_DATA_DIR; .data].")]
Grpc = Annotated[str | None, typer.Option("--grpc", metavar="HOST:PORT", help="gRPC; port 0 takes a free one.")]
Http = Annotated[str | None, typer.Option("--http", metavar="HOST:PORT", help="REST and gRPC, through Envoy.")]
DatabaseUrl = Annotated[str | None, typer.Option("--database-url", help="sqlite:///FILE or postgresql://USER@HOST/DB.")]
Policies = Annotated[Path | None, typer.Option("--policies", help="A policy file to apply at the start.")]
TransportName = Annotated[Transport | None, typer.Option("--transport", help="The gRPC server [grpcio].")]
WorkerCount = Annotated[
    int | None, typer.Option("--workers", metavar="N", help="Processes that share the port and the store [1].")
]
Plaintext = Annotated[
    bool | None,
    typer.Option("--allow-plaintext", help="Bind other addresses than loopback, though the ports have no TLS."),
]
Dev = Annotated[
    bool, typer.Option("--dev", help="Issue tokens for made-up people; on loopback only, never in production.")
]


_SETTINGS_HINT = "These and all other settings are JIT_* variables too: `jit-service settings` and docs/settings.md."


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jit-service {version('jit-service')}")
        raise typer.Exit


@app.callback()
def _common(
    *,
    _: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Print the version, and end.")
    ] = False,
) -> None:
    pass


@app.command(epilog=_SETTINGS_HINT)
def up(
    *,
    dev: Dev = False,
    data_dir: DataDir = None,
    grpc: Grpc = None,
    http: Http = None,
    database_url: DatabaseUrl = None,
    policies: Policies = None,
    transport: TransportName = None,
    workers: WorkerCount = None,
    allow_plaintext: Plaintext = None,
) -> None:
    """Run the service with Envoy in front, in the foreground, on a database brought up to date."""
    with _one_line_errors(), ExitStack() as stack:
        stopping = _stop_signal()
        settings = _settings(
            data_dir=data_dir,
            grpc=grpc,
            http=http,
            database_url=database_url,
            policies=policies,
            transport=transport,
            workers=workers,
            allow_plaintext=allow_plaintext,
        )
        settings.demand_encrypted("http")
        # Before the database is changed.
        envoy_binary()
        stack.enter_context(sole_user_of(settings.data_dir))
        settings = with_http_port(settings, stack)
        mode = DevMode(settings) if dev else None
        if mode is not None:
            settings = mode.added_to(settings)
        migrate_store(settings)
        sockets = socket_paths(settings, stack)
        grpc_address, tend = _started(settings, stack, sockets, examples=dev)
        provider = mode.serve(sockets[0].parent, stack) if mode is not None else None
        envoy = envoy_of(settings, sockets, stack, dev_provider=provider)
        http_address = envoy.start(timeout=_ENVOY_START_SECONDS)
        if mode is not None:
            _say_dev(mode.first_steps(settings, http=http_address, grpc=grpc_address))
        login = mode.login if mode is not None else None
        _ready(data_dir=settings.data_dir, grpc=grpc_address, http=f"http://{http_address}", login=login)
        _wait(stopping, tend, envoy)


@app.command(epilog=_SETTINGS_HINT)
def serve(
    *,
    data_dir: DataDir = None,
    grpc: Grpc = None,
    database_url: DatabaseUrl = None,
    policies: Policies = None,
    transport: TransportName = None,
    workers: WorkerCount = None,
    allow_plaintext: Plaintext = None,
) -> None:
    """Run the gRPC service alone, on a database that `migrate` brought up to date; put your own Envoy in front."""
    with _one_line_errors(), ExitStack() as stack:
        stopping = _stop_signal()
        settings = _settings(
            data_dir=data_dir,
            grpc=grpc,
            database_url=database_url,
            policies=policies,
            transport=transport,
            workers=workers,
            allow_plaintext=allow_plaintext,
        )
        grpc_address, tend = _started(settings, stack)
        _ready(data_dir=settings.data_dir, grpc=grpc_address)
        _wait(stopping, tend)


@app.command("envoy-config")
def envoy_config(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where envoy.yaml is written.")],
    *,
    grpc: Grpc = None,
    http: Http = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", help="The certificate chain of a TLS listener.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its private key.")] = None,
) -> None:
    """Write the configuration of an Envoy of your own, in front of `serve`; write it again with each new version."""
    with _one_line_errors():
        settings = Settings.load(**{key: value for key, value in {"grpc": grpc, "http": http}.items() if value})
        if (tls_cert is None) is not (tls_key is None):
            raise ServiceError("--tls-cert and --tls-key belong together: one of them is missing")
        certificate = Certificate(chain=tls_cert, key=tls_key) if tls_cert and tls_key else None
        path = write_own(
            http=settings.http,
            upstream=settings.grpc,
            directory=directory,
            rates=rates_of(settings),
            certificate=certificate,
        )
        print(path.resolve())


@app.command(hidden=True)
def worker() -> None:
    """Run one worker, with the settings that the parent writes to stdin."""
    if not run_worker(sys.stdin, sys.stdout):
        raise typer.Exit(1)


@app.command()
def migrate(*, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Bring the database to the schema of this version."""
    with _one_line_errors():
        settings = _settings(data_dir=data_dir, database_url=database_url)
        migrate_store(settings)
        typer.echo("the database has the schema of this version", err=True)


@app.command("check")
def check(
    *,
    output: Annotated[Form, typer.Option("-o", "--output", help="Lines for people, or one JSON object.")] = Form.TEXT,
    strict: Annotated[bool, typer.Option("--strict", help="Fail for warnings too.")] = False,
    data_dir: DataDir = None,
    grpc: Grpc = None,
    database_url: DatabaseUrl = None,
    policies: Policies = None,
    transport: TransportName = None,
    allow_plaintext: Plaintext = None,
) -> None:
    """Try settings, files, database, receivers and issuers, without starting or changing anything.

    Exit code 1 if the service would not start or nobody could use it, else 0: fit for systemd's ExecStartPre.
    """
    flags = {
        "data_dir": data_dir,
        "grpc": grpc,
        "database_url": database_url,
        "policies": policies,
        "transport": transport,
        "allow_plaintext": allow_plaintext,
    }
    # What is wrong is among the findings, in plain words.
    logging.disable(logging.CRITICAL)
    try:
        report = preflight.report(lambda: _loaded(**flags), clock=utc_now, strict=strict)
    finally:
        logging.disable(logging.NOTSET)
    print(report.text(output))
    raise typer.Exit(int(report.fails))


@app.command("settings")
def list_settings() -> None:
    """Print all settings: the variable with its default, the form of its value, and what it means."""
    for row in table.rows(Settings):
        print(f"{row.variable} [{row.default}]\n    {row.form}\n    {row.meaning}")


@notifications_app.command("list")
def notifications_list(
    *,
    given_up: Annotated[
        bool, typer.Option("--given-up", help="Only those that the service no longer retries.")
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Print the undelivered notifications, one JSON object a line, the oldest first."""
    with _one_line_errors(), closing(_store(_settings(data_dir=data_dir, database_url=database_url))) as store:
        for waiting in delivery.list_waiting(store, only_given_up=given_up):
            print(json.dumps(delivery.told(waiting)))


@notifications_app.command("retry")
def notifications_retry(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids from `list`; all by default.")] = None,
    *,
    receiver: Annotated[
        list[str] | None, typer.Option("--receiver", help="Only this receiver's; may be repeated.")
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Retry failed notifications now, with all their attempts; the running service delivers them."""
    with _one_line_errors(), closing(_store(_settings(data_dir=data_dir, database_url=database_url))) as store:
        seqs = [seq_of(text) for text in ids or ()]
        count = delivery.retry(store, receivers=receiver or (), seqs=seqs)
        typer.echo(f"{count} will be retried", err=True)


@app.command()
def unlock(
    which: Annotated[
        str, typer.Argument(metavar="LOCK|PRINCIPAL", help="locks/ID, or user:NAME with every lock on it.")
    ],
    *,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Lift a lock on the service's own host, when everyone who may lift it is locked; the audit log records it."""
    with _one_line_errors(), closing(_store(_settings(data_dir=data_dir, database_url=database_url))) as store:
        for lifted in locks.lift_at_host(store, which):
            print(lifted.name)


@app.command("dev-token")
def dev_token(
    principal: Annotated[str, typer.Argument(help="user:NAME or service:NAME")],
    *,
    group: Annotated[list[str] | None, typer.Option("--group", help="A group; may be repeated.")] = None,
    role: Annotated[list[Role] | None, typer.Option("--role", help="An API role; may be repeated.")] = None,
    hours: Annotated[float, typer.Option("--hours", min=0.01, max=24, help="How long it is valid.")] = 24,
    data_dir: DataDir = None,
) -> None:
    """Print a token of the development issuer, for a service that runs with --dev on the same data directory."""
    with _one_line_errors():
        given = {} if data_dir is None else {"data_dir": data_dir}
        issuer = DevIssuer.of(Settings.load(**given).data_dir)
        token = issuer.token(
            name.principal(principal, "PRINCIPAL"),
            groups=[name.group(text, "--group") for text in group or ()],
            roles=role or (),
            ttl=timedelta(hours=hours),
            now=utc_now(),
        )
        typer.echo(token)


@keys_app.command("list")
def keys_list(*, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Print the keys that tokens are signed with, one JSON object a line, without the private parts."""
    with _one_line_errors(), closing(_store(_settings(data_dir=data_dir, database_url=database_url))) as store:
        for key, state in signing_keys.list_all(store):
            _say_key(key, state)


@keys_app.command("rotate")
def keys_rotate(
    *,
    compromised: Annotated[
        bool, typer.Option("--compromised", help="Sign with the new key at once, and remove all others.")
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Add a key: it is published now, and signs once every verifier has it; tokens of other keys stay valid."""
    with _one_line_errors():
        settings = _settings(data_dir=data_dir, database_url=database_url)
        issuing = issuing_of(settings)
        if issuing is None:
            raise ServiceError("no tokens are issued: set JIT_TOKEN_ISSUER")
        by = Caller(principal=SERVICE, origin=Origin(method="jit-service keys rotate"))
        with closing(_store(settings)) as store:
            add = signing_keys.replace_all if compromised else signing_keys.rotate
            added = add(store, issuing, by=by)
            _say_key(added, KeyState.SIGNING if compromised else KeyState.PUBLISHED)


def _say_key(key: SigningKey, state: KeyState) -> None:
    facts = {"kid": key.kid, "state": state, "createTime": key.created_at, "signsFrom": key.signs_at}
    print(json.dumps(facts | {"lastExpireTime": key.last_expires_at}, default=lambda instant: instant.isoformat()))


def main() -> None:
    """Runs the command line."""
    # Only this user may read the files that are made here: keys, tokens, the database.
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    app()


def _store(settings: Settings) -> Store:
    store = open_store(settings)
    demand_schema(store)
    return store


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (SettingsError, ServiceError, EdgeError, PolicyFileError, NoDevIssuer, JitError, ExtraMissing) as fault:
        typer.echo(f"jit-service: error: {' '.join(str(fault).split())}", err=True)
        raise typer.Exit(1) from fault


def _loaded(**flags: Any) -> Settings:
    return Settings.load(**{flag: value for flag, value in flags.items() if value is not None})


def _settings(**flags: Any) -> Settings:
    settings = _loaded(**flags)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return settings


def _started(
    settings: Settings, stack: ExitStack, sockets: Sequence[Path] = (), *, examples: bool = False
) -> tuple[Address, Callable[[], None]]:
    """Starts the service, in this process or in workers. Returns its address, and what to call at intervals."""
    if not settings.issuers:
        raise ServiceError("no issuer is configured, so nobody could call: set JIT_ISSUERS_FILE, or use up --dev")
    for message in exposed(settings.data_dir, sqlite_file(settings.store_url)):
        _log.warning("%s", message)
    _log.info("jit-service %s starts: %s", version("jit-service"), settings.effective())
    if settings.workers > 1:
        workers = Workers(settings, sockets)
        stack.callback(workers.stop)
        # Apply the policies once, not in each worker, by a service that never listens.
        with ExitStack() as once:
            service = Service(settings)
            once.callback(service.stop)
            _apply_policies(service, settings, examples=examples)
        workers.start()
        return workers.address, workers.tend
    service = Service(settings)
    stack.callback(service.stop)
    _apply_policies(service, settings, examples=examples)
    address = service.listen(settings.grpc)
    for path in sockets:
        service.listen_unix(path)
    if settings.passing is not None:
        service.listen_passing(settings.passing)
    service.start()
    return address, lambda: None


def _apply_policies(service: Service, settings: Settings, *, examples: bool) -> None:
    if settings.policies is not None:
        service.apply_policies(settings.policies)
    elif examples:
        service.apply_policies(share("examples") / "policies.yaml", only_if_empty=True)


def _say_dev(steps: str) -> None:
    """Warns loudly of what --dev means, and prints the first steps to paste."""
    typer.secho(
        "\n*** DEVELOPMENT MODE: whoever is on this machine can be alice, bob or the admin. Never in production. ***",
        err=True,
        fg=typer.colors.RED,
        bold=True,
    )
    typer.echo(steps, err=True)


def _ready(*, data_dir: Path, grpc: Address, http: str | None = None, login: str | None = None) -> None:
    """Prints the one line on stdout, for the program that started this one. `login` is the provider of --dev."""
    facts = {"ready": True, "http": http, "login": login, "grpc": str(grpc), "data_dir": str(data_dir.resolve())}
    print(json.dumps({key: value for key, value in facts.items() if value is not None}), flush=True)


def _stop_signal() -> threading.Event:
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return stopping


def _wait(stopping: threading.Event, tend: Callable[[], None], envoy: Envoy | None = None) -> None:
    while not stopping.wait(timeout=_TEND_SECONDS):
        tend()
        if envoy is not None and envoy.poll() is not None:
            raise EdgeError("Envoy ended by itself; its log is in DATA_DIR/envoy")
    _log.info("stopping")


if __name__ == "__main__":
    main()
