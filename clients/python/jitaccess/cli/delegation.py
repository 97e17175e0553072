"""The commands that give and end delegations of one's right to review."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from jitaccess.cli.asking import Start
from jitaccess.cli.command import command, parsed
from jitaccess.cli.grants import PAGE_LIMIT
from jitaccess.cli.session import Session
from jitaccess.naming.duration import parse_span

if TYPE_CHECKING:
    from jitaccess import Delegation
    from jitaccess.cli.screen import Screen

_COLUMNS = ("ID", "FROM", "TO", "POLICIES", "STANDING", "WHY")


def delegate(
    session: Session,
    principal: Annotated[str, typer.Argument(metavar="PRINCIPAL", help="Who reviews in your place.")],
    length: Annotated[
        timedelta,
        typer.Option("--for", metavar="DURATION", parser=parsed(parse_span), help="How long, from its start: 8h, 14d."),
    ],
    comment: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the record.", show_default=False)],
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="P", help="Only under this policy; may be repeated [default: all that you review]."),
    ] = None,
    start: Start = None,
) -> None:
    """Let another principal review in your place.

    It cannot be passed on.
    """
    with session.client() as client:
        made = client.create_delegation(principal, policies=policy or (), start_time=start, ttl=length, comment=comment)
    session.answer(made.raw, lambda screen: screen.fields(_fields(made, screen)))


def delegations(session: Session) -> None:
    """List the delegations that you gave or have.

    Newest first; auditors and admins see all.
    """
    from jitaccess.cli.paging import take
    from jitaccess.contract.calls import delegations

    with session.client() as client:
        page = take(client, delegations.list_delegations(page_size=PAGE_LIMIT), all_pages=True)

    def show(screen: Screen) -> None:
        rows = [_row(item, screen) for item in page.items]
        screen.listing(_COLUMNS, rows, none="no delegations", more=False)

    session.answer(page.raw, show)


def undelegate(
    session: Session,
    delegation: Annotated[
        str, typer.Argument(metavar="ID", help="The delegation's id or how it begins, with or without delegations/.")
    ],
) -> None:
    """End a delegation at once."""
    from jitaccess.cli import ids

    with session.client() as client:
        gone = client.delete_delegation(
            ids.full(
                delegation,
                "delegations",
                lambda: (each.name for each in client.list_delegations() if each.delete_time is None),
            )
        )
    session.answer(gone.raw, lambda screen: screen.say(f"{gone.name} is ended: {gone.delegate} reviews no more"))


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    for function in (delegate, delegations, undelegate):
        command(app)(function)


def _fields(made: Delegation, screen: Screen) -> list[tuple[str, str]]:
    _, giver, taker, policies, standing, why = _row(made, screen)
    return [
        ("delegation", made.name), ("from", giver), ("to", taker), ("policies", policies), ("standing", standing),
        ("why", why),
    ]  # fmt: skip


def _row(given: Delegation, screen: Screen) -> tuple[str, ...]:
    policies = ", ".join(name.removeprefix("policies/") for name in given.policies)
    return (given.id, given.delegator, given.delegate, policies or "all", _standing(given, screen), given.comment)


def _standing(given: Delegation, screen: Screen) -> str:
    """Returns since or until when it can be used."""
    if given.delete_time:
        return f"taken back {screen.moment(given.delete_time)}"
    if given.start_time and given.start_time > screen.now:
        return f"starts {screen.moment(given.start_time)}; ends {screen.clock(given.expire_time)}"
    return f"{'until' if given.active else 'ended'} {screen.moment(given.expire_time)}"
