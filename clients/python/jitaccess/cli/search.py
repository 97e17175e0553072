"""The command that lists what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jitaccess.cli.command import Address, Facts, command, facts
from jitaccess.cli.grants import PAGE_LIMIT
from jitaccess.cli.session import Session
from jitaccess.cli.text import listed

if TYPE_CHECKING:
    from jitaccess import FoundAccess
    from jitaccess.cli.screen import Screen

_COLUMNS = ("FOUND", "BUT NOT", "UNTIL", "GRANT")


def search(
    session: Session,
    subject: Annotated[
        str, typer.Option("--subject", metavar="SUBJECT", help="Such as user:alice@example.com.", show_default=False)
    ] = "",
    action: Annotated[str, typer.Option("--action", metavar="ACTION", help="Such as read.", show_default=False)] = "",
    resource: Annotated[
        str, typer.Option("--resource", metavar="RESOURCE", help="Such as database/orders/eu.", show_default=False)
    ] = "",
    context: Facts = None,
    source_ip: Address = "",
) -> None:
    """List who may do it, what may be done, or on what.

    Leave out exactly one of the three; what is found is allowed now.
    """
    from jitaccess.cli.paging import take
    from jitaccess.contract.calls import access

    call = access.search(
        subject=subject,
        action=action,
        resource=resource,
        context=facts(context),
        page_size=PAGE_LIMIT,
        source_ip=source_ip,
    )
    with session.client() as client:
        page = take(client, call, all_pages=True)

    def show(screen: Screen) -> None:
        screen.listing(_COLUMNS, [_row(one, screen) for one in page.items], none="nothing is allowed", more=False)

    session.answer(page.raw, show)


def add_to(app: typer.Typer) -> None:
    """Adds the command to the app."""
    command(app)(search)


def _row(found: FoundAccess, screen: Screen) -> tuple[str, ...]:
    return (found.name, listed(found.exceptions), screen.moment(found.expire_time), found.grant)
