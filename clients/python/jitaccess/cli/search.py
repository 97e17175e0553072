"""The command that lists what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jitaccess.cli.command import Address, At, Facts, command, facts
from jitaccess.cli.grants import PAGE_LIMIT
from jitaccess.cli.session import Session
from jitaccess.cli.text import listed

if TYPE_CHECKING:
    from jitaccess import FoundAccess
    from jitaccess.cli.screen import Screen

_COLUMNS = ("FOUND", "BUT NOT", "UNTIL", "GRANT")
_PAST_COLUMNS = ("FOUND", "BUT NOT", "PLANNED END", "GRANT")


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
    at: At = None,
) -> None:
    """List who may do it, what may be done, or on what.

    Leave out exactly one of the three; what is found is allowed now, or with --at was allowed then.
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
        read_time=at,
    )
    with session.client() as client:
        page = take(client, call, all_pages=True)

    def show(screen: Screen) -> None:
        if at is None:
            rows = [_row(one, screen.moment(one.expire_time)) for one in page.items]
            screen.listing(_COLUMNS, rows, none="nothing is allowed", more=False)
            return
        rows = [_row(one, screen.clock(one.expire_time)) for one in page.items]
        screen.listing(_PAST_COLUMNS, rows, none=f"nothing was allowed at {screen.clock(at)}", more=False)
        for note in dict.fromkeys(page.raw.not_on_record):  # type: ignore[attr-defined]  # It is a search's answer.
            screen.say(f"not on record: {note}")

    session.answer(page.raw, show)


def add_to(app: typer.Typer) -> None:
    """Adds the command to the app."""
    command(app)(search)


def _row(found: FoundAccess, until: str) -> tuple[str, ...]:
    return (found.name, listed(found.exceptions), until, found.grant)
