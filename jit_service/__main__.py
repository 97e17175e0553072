"""The operator's commands: serve, up, migrate, check, doctor, backup, restore, config, unlock, audit, keys, and others.

Messages for people go to stderr; stdout is for programs.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
from contextlib import ExitStack, closing
from datetime import timedelta
from importlib.metadata import version
from typing import Annotated

# ruff: noqa: E402 (what stands before the imports is for them)
# gRPC logs many lines when a bind fails; our own error is one line.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# The thousand modules below make no garbage, and to look for it would take a fifth of the start.
gc.disable()

import typer

from jit_service.commands import audit, keys, notifications
from jit_service.commands.backup import backup, restore
from jit_service.commands.envoy import envoy_config
from jit_service.commands.given import Commands, loaded, one_line_errors, settings_of, store_of
from jit_service.commands.options import SERVING, STORING, Flags, takes
from jit_service.commands.settings import check, examine, init, list_settings, show_config
from jit_service.configuration import logs
from jit_service.domain.caller import Role
from jit_service.domain.language import name
from jit_service.runtime.dev_issuer import DevIssuer
from jit_service.runtime.dev_mode import DevMode
from jit_service.runtime.edge import envoy_of, socket_paths, with_http_port
from jit_service.runtime.envoy import EdgeError, Envoy
from jit_service.runtime.envoy import binary as envoy_binary
from jit_service.runtime.launch import Started, started
from jit_service.runtime.service import migrate as migrate_store
from jit_service.runtime.service import sole_user_of, utc_now
from jit_service.runtime.stopping import Stops, drain
from jit_service.runtime.workers import run_worker
from jit_service.settings import LISTENS, Settings
from jit_service.use_cases import locks

gc.enable()

app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=__doc__,
)
app.command("envoy-config")(envoy_config)
app.command("init")(init)
app.command("config")(show_config)
app.command("check")(check)
app.command("doctor")(examine)
app.command("backup")(backup)
app.command("restore")(restore)
app.command("settings")(list_settings)
app.add_typer(audit.app, name="audit")
app.add_typer(keys.app, name="keys")
app.add_typer(notifications.app, name="notifications")
_log = logging.getLogger("jit_service")
_ENVOY_START_SECONDS = 20
_TEND_SECONDS = 0.2

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
@takes("http", *SERVING)
def up(
    *,
    dev: Annotated[
        bool, typer.Option("--dev", help="Issue tokens for made-up people; on loopback only, never in production.")
    ] = False,
    flags: Flags,
) -> None:
    """Run the service with Envoy in front, in the foreground, on a database brought up to date."""
    with one_line_errors(), ExitStack() as stack:
        stops = Stops()
        settings = settings_of(flags, listens=(*LISTENS, "http"))
        # Before the database is changed.
        envoy_binary()
        stack.enter_context(sole_user_of(settings.data_dir))
        settings = with_http_port(settings, stack)
        mode = DevMode(settings) if dev else None
        if mode is not None:
            settings = mode.added_to(settings)
        migrate_store(settings)
        sockets = socket_paths(settings, stack)
        provider = mode.serve(sockets[0].parent, stack) if mode is not None else None
        # The development's provider and its pages are http on loopback.
        tls = None if dev else settings.tls
        # Made before the service, so that it ends after it: the service's last answers go through it.
        envoy = envoy_of(settings, sockets, stack, tls=tls, dev_provider=provider)
        service = started(settings, stack, sockets, examples=dev)
        http_address = envoy.start(timeout=_ENVOY_START_SECONDS)
        if mode is not None:
            _say_dev(mode.first_steps(settings, http=http_address, grpc=service.grpc))
        login = mode.login if mode is not None else None
        _ready(settings, service, http=f"{'https' if tls else 'http'}://{http_address}", login=login)
        _wait(stops, service, envoy)
        drain(stops, settings.drain_delay, service.drain, envoy.drain)


@app.command(epilog=_SETTINGS_HINT)
@takes(*SERVING)
def serve(*, flags: Flags) -> None:
    """Run the gRPC service alone, on a database that `migrate` brought up to date; put your own Envoy in front."""
    with one_line_errors(), ExitStack() as stack:
        stops = Stops()
        settings = settings_of(flags)
        service = started(settings, stack)
        _ready(settings, service)
        _wait(stops, service)
        drain(stops, settings.drain_delay, service.drain)


@app.command(hidden=True)
def worker() -> None:
    """Run one worker, with the settings that the parent writes to stdin."""
    if not run_worker(sys.stdin, sys.stdout):
        raise typer.Exit(1)


@app.command()
@takes(*STORING)
def migrate(*, flags: Flags) -> None:
    """Bring the database to the schema of this version."""
    with one_line_errors():
        settings = settings_of(flags)
        migrate_store(settings)
        typer.echo("the database has the schema of this version", err=True)


@app.command()
@takes(*STORING)
def unlock(
    which: Annotated[
        str, typer.Argument(metavar="LOCK|PRINCIPAL", help="locks/ID, or user:NAME with every lock on it.")
    ],
    *,
    flags: Flags,
) -> None:
    """Lift a lock on the service's own host, when everyone who may lift it is locked; the audit log records it."""
    with one_line_errors(), closing(store_of(settings_of(flags))) as store:
        for lifted in locks.lift_at_host(store, which):
            print(lifted.name)


@app.command("dev-token")
@takes("data_dir")
def dev_token(
    principal: Annotated[str, typer.Argument(help="user:NAME or service:NAME")],
    *,
    group: Annotated[list[str] | None, typer.Option("--group", help="A group; may be repeated.")] = None,
    role: Annotated[list[Role] | None, typer.Option("--role", help="An API role; may be repeated.")] = None,
    hours: Annotated[float, typer.Option("--hours", min=0.01, max=24, help="How long it is valid.")] = 24,
    flags: Flags,
) -> None:
    """Print a token of the development issuer, for a service that runs with --dev on the same data directory."""
    with one_line_errors():
        issuer = DevIssuer.of(loaded(flags).data_dir)
        token = issuer.token(
            name.principal(principal, "PRINCIPAL"),
            groups=[name.group(text, "--group") for text in group or ()],
            roles=role or (),
            ttl=timedelta(hours=hours),
            now=utc_now(),
        )
        typer.echo(token)


def main() -> None:
    """Runs the command line."""
    # Only this user may read the files that are made here: keys, tokens, the database.
    os.umask(0o077)
    logs.set_up()
    app()


def _say_dev(steps: str) -> None:
    """Warns loudly of what --dev means, and prints the first steps to paste."""
    typer.secho(
        "\n*** DEVELOPMENT MODE: whoever is on this machine can be alice, bob or the admin. Never in production. ***",
        err=True,
        fg=typer.colors.RED,
        bold=True,
    )
    typer.echo(steps, err=True)


def _ready(settings: Settings, service: Started, *, http: str | None = None, login: str | None = None) -> None:
    """Prints the one line on stdout, for the program that started this one. `login` is the provider of --dev."""
    facts = {
        "ready": True,
        "http": http,
        "login": login,
        "grpc": str(service.grpc),
        "metrics": service.metrics,
        "data_dir": str(settings.data_dir.resolve()),
    }
    print(json.dumps({key: value for key, value in facts.items() if value is not None}), flush=True)


def _wait(stops: Stops, service: Started, envoy: Envoy | None = None) -> None:
    while not stops.come(within=_TEND_SECONDS):
        service.tend()
        if envoy is not None and envoy.poll() is not None:
            raise EdgeError("Envoy ended by itself; its log is in DATA_DIR/envoy")
    _log.info("stopping")


if __name__ == "__main__":
    main()
