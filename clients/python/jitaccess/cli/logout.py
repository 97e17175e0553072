"""The command that logs out: tokens are revoked, and forgotten."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from jitaccess.cli import exits
from jitaccess.cli.command import command
from jitaccess.cli.session import Session
from jitaccess.errors import JitError, Misconfigured, Unauthenticated

if TYPE_CHECKING:
    from jitaccess.cli.screen import Screen
    from jitaccess.login.keeping import Keep, Login


def logout(
    session: Session,
    everywhere: Annotated[bool, typer.Option("--all", help="Log out of all contexts.")] = False,
) -> None:
    """Log out: the provider revokes the tokens, and they are forgotten here.

    They are forgotten where the provider is away too; then the exit code is 7, and they count until they end.
    """
    from jitaccess import contexts

    found = [contexts.read(os.environ, each) for each in contexts.names(os.environ)] if everywhere else None
    chosen = found if found is not None else [contexts.chosen(os.environ, session.context)]
    keeps = [keep for keep in (each.keep for each in chosen) if keep is not None]
    if not keeps and not everywhere:
        raise Misconfigured(
            f"the context {chosen[0].name} has no login, so there is none to end", reason="NOT_LOGGED_IN"
        )
    ended = [(keep.context, end_login(keep)) for keep in keeps]
    data = {"contexts": [{"context": each, "revoked": fault == "", "fault": fault} for each, fault in ended]}
    session.answer_data(data, lambda screen: _show_ended(screen, ended))
    if any(fault for _, fault in ended):
        raise typer.Exit(exits.UNAVAILABLE)


def add_to(app: typer.Typer) -> None:
    """Adds the command to the app."""
    command(app)(logout)


def end_login(keep: Keep) -> str:
    """Ends a login: it is revoked and forgotten. Returns why the provider has not revoked it, empty where it has."""
    with keep.alone():
        try:
            login = keep.read()
        except Unauthenticated as unreadable:
            keep.remove()
            return unreadable.message
        fault = revoke(login) if login is not None else ""
        keep.remove()
    return fault


def revoke(login: Login) -> str:
    """Has the provider revoke what the login holds; returns why it did not, empty where it did."""
    from jitaccess.login import provider
    from jitaccess.login.provider import Refused

    held = [("refresh_token", login.tokens.refresh_token), ("access_token", login.tokens.access_token)]
    try:
        at = provider.discover(login.registration.issuer)
        if not at.revocation_endpoint:
            return f"the provider {at.issuer} has no revocation_endpoint; the tokens count until they end"
        for kind, token in held:
            if token:
                at.revoke(token, kind=kind, client_id=login.registration.client_id)
    except Refused as refused:
        # RFC 7009, 2.2.1: many do not revoke access tokens that are JWTs, which end soon by themselves.
        return "" if refused.code == "unsupported_token_type" else f"the provider refuses: {refused}"
    except JitError as fault:
        return fault.message
    return ""


def _show_ended(screen: Screen, ended: list[tuple[str, str]]) -> None:
    if not ended:
        screen.say("nobody is logged in")
    for name, fault in ended:
        screen.say(f"logged out of {name}" + (f"; warning: not revoked: {fault}" if fault else ""))
