"""The commands about contexts: which services there are, and which one is in use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jitaccess.cli.command import command
from jitaccess.cli.session import Session
from jitaccess.errors import Misconfigured
from jitaccess.login.choices import Workload
from jitaccess.naming.variables import Variable

if TYPE_CHECKING:
    from jitaccess.contexts import Context

Name = Annotated[str, typer.Argument(metavar="NAME", help="The context, of `jit context ls`.")]


def list_contexts(session: Session) -> None:
    """List the contexts. `default` is the configuration file itself."""
    from jitaccess import contexts

    chosen = session.context or os.environ.get(Variable.CONTEXT) or contexts.in_use(os.environ)
    found = [contexts.read(os.environ, name) for name in contexts.names(os.environ)]
    data = {"contexts": [_data(each, is_used=each.name == chosen) for each in found]}
    rows = [
        [each.name, "yes" if each.name == chosen else "", each.text("address"), each.text("principal"), _token(each)]
        for each in found
    ]
    columns = ["CONTEXT", "IN USE", "ADDRESS", "LAST SEEN AS", "TOKEN"]
    none = "no contexts; log in with: jit login https://HOST"
    session.answer_data(data, lambda screen: screen.listing(columns, rows, none=none, more=False))


def use_context(session: Session, name: Name) -> None:
    """Use a context from now on, where neither --context nor JIT_CONTEXT names another."""
    from jitaccess import contexts

    contexts.use(os.environ, name)
    found = contexts.read(os.environ, name)
    session.answer_data(
        _data(found, is_used=True), lambda screen: screen.say(f"{name} is in use: {found.text('address')}")
    )


def add_context(
    session: Session,
    name: Name,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The service's URL, for `jit login`; with it, --address may be left out."),
    ] = None,
    token_command: Annotated[
        str | None, typer.Option(metavar="CMD", help="The command that prints a token.", show_default=False)
    ] = None,
    workload: Annotated[
        Workload | None, typer.Option(help="The platform whose jobs have tokens.", show_default=False)
    ] = None,
    audience: Annotated[
        str | None,
        typer.Option(metavar="A", help="For whom that platform issues them [default: as the service says]."),
    ] = None,
    use: Annotated[bool, typer.Option("--use", help="Use it from now on.")] = False,
) -> None:
    """Add a context: --address, and if wanted --tls, --ca-file, and where the token comes from.

    `jit login` adds one by itself.
    """
    from jitaccess import contexts

    if contexts.is_there(os.environ, name):
        raise Misconfigured(
            f"there is a context {name} already; remove it first: jit context rm {name}", reason="CONTEXT_EXISTS"
        )
    added = contexts.write(os.environ, name, _values(session, url, token_command, workload, audience))
    if use:
        contexts.use(os.environ, name)
    shown = f"{name} is added" + (", and in use" if use else f"; use it with: jit context use {name}")
    session.answer_data(_data(added, is_used=use), lambda screen: screen.say(shown))


def remove_context(session: Session, name: Name) -> None:
    """Remove a context. Who is logged in there is logged out first."""
    from jitaccess import contexts
    from jitaccess.cli.logout import end_login

    keep = contexts.read(os.environ, name).keep
    fault = end_login(keep) if keep is not None else ""
    contexts.remove(os.environ, name)
    said = f"{name} is removed" + (f"; warning: its login is not revoked: {fault}" if fault else "")
    data = {"context": name, "removed": True, "fault": fault}
    session.answer_data(data, lambda screen: screen.say(said))


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    command(app, "ls")(list_contexts)
    command(app, "use")(use_context)
    command(app, "add")(add_context)
    command(app, "rm")(remove_context)


def _values(
    session: Session, url: str | None, token_command: str | None, workload: Workload | None, audience: str | None
) -> dict[str, Any]:
    from jitaccess.login import resource

    if url:
        resource.demand_url(url)
    address = session.address or (resource.host_and_port(url) if url else "")
    if not address:
        raise typer.BadParameter("give --address HOST:PORT or --url URL")
    return {
        "url": url,
        "address": address,
        "tls": session.tls if session.tls is not None else (url.startswith("https://") if url else None),
        "ca_file": str(session.ca_file.expanduser().absolute()) if session.ca_file else None,
        "cert_file": str(session.cert_file.expanduser().absolute()) if session.cert_file else None,
        "cert_key_file": str(session.cert_key_file.expanduser().absolute()) if session.cert_key_file else None,
        "token_file": str(session.token_file.expanduser().absolute()) if session.token_file else None,
        "token_command": token_command,
        "workload": workload.value if workload else None,
        "audience": audience,
    }


def _data(context: Context, *, is_used: bool) -> dict[str, object]:
    return {
        "context": context.name,
        "inUse": is_used,
        "address": context.text("address"),
        "url": context.text("url"),
        "principal": context.text("principal"),
        "token": _token(context),
    }


def _token(context: Context) -> str:
    """Returns where its token comes from, never the token."""
    if (keep := context.keep) is not None:
        return f"login, kept in {keep.shown()}"
    if context.text("workload"):
        return f"platform {context.text('workload')}"
    return next((key for key in ("token_file", "token", "token_command") if context.values.get(key)), "")
