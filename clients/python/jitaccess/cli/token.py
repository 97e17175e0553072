"""The command that issues a token of a grant."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from jitaccess.cli.command import command, parsed
from jitaccess.cli.grants import GrantId
from jitaccess.cli.session import Session
from jitaccess.naming.duration import parse_span


def token(
    session: Session,
    grant: GrantId,
    audience: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A",
            help="Who accepts it: https://HOST of a protected API; repeatable [default: the service's own gateway].",
        ),
    ] = None,
    ttl: Annotated[
        timedelta | None,
        typer.Option(
            metavar="DURATION",
            parser=parsed(parse_span),
            help="How long it is valid: 90s, 5m [default: as long as may be].",
            show_default=False,
        ),
    ] = None,
    request_id: Annotated[
        str | None,
        typer.Option(metavar="UUID", help="The same request again has a token of the same claims.", show_default=False),
    ] = None,
) -> None:
    """Print a token of your own active grant.

    Whoever has it can use it until it ends. An API behind a protecting Envoy accepts one with --audience https://HOST.
    """
    from jitaccess.cli import ids

    with session.client() as client:
        issued = client.issue_token(ids.name(client, grant), audience=audience or (), ttl=ttl, request_id=request_id)
    session.answer(issued.raw, lambda screen: screen.say(issued.token))


def add_to(app: typer.Typer) -> None:
    """Adds the command to the app."""
    command(app)(token)
