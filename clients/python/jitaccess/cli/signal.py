"""The commands on signals."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from jitaccess.cli.command import command, parsed
from jitaccess.cli.session import Session
from jitaccess.cli.text import parse_json
from jitaccess.naming.duration import parse_span

if TYPE_CHECKING:
    from jitaccess import Signal
    from jitaccess.cli.screen import Screen

_COLUMNS = ("NAME", "VALUE", "STANDING", "SET BY", "SET")

SignalId = Annotated[str, typer.Argument(metavar="NAME", help="The signal's id, with or without signals/.")]


def ls(session: Session) -> None:
    """List the signals, expired ones too."""
    from jitaccess.cli.grants import PAGE_LIMIT
    from jitaccess.cli.paging import take
    from jitaccess.contract.calls import signals

    with session.client() as client:
        page = take(client, signals.list_signals(page_size=PAGE_LIMIT), all_pages=True)

    def show(screen: Screen) -> None:
        rows = [_row(signal, screen) for signal in page.items]
        screen.listing(_COLUMNS, rows, none="no signals", more=False)

    session.answer(page.raw, show)


def show(session: Session, name: SignalId) -> None:
    """Show one signal."""
    with session.client() as client:
        found = client.get_signal(name)
    _answer(session, found)


def put(
    session: Session,
    name: SignalId,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="JSON where it is JSON (true, 3), else text.")],
    ttl: Annotated[
        timedelta,
        typer.Option("--for", metavar="DURATION", parser=parsed(parse_span), help="How long it holds: 30m, 4h, 2d."),
    ],
) -> None:
    """Set a signal; the very next check sees it."""
    with session.client() as client:
        changed = client.set_signal(name, parse_json(value), ttl=ttl)
    _answer(session, changed)


def rm(session: Session, name: SignalId) -> None:
    """Delete a signal; conditions then miss it."""
    with session.client() as client:
        gone = client.delete_signal(name)
    session.answer(gone.raw, lambda screen: screen.say(f"{gone.name} is deleted"))


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    command(app)(ls)
    command(app)(show)
    command(app, "set")(put)
    command(app)(rm)


def _answer(session: Session, signal: Signal) -> None:
    def show(screen: Screen) -> None:
        name, value, standing, setter, when = _row(signal, screen)
        screen.fields([("signal", name), ("value", value), ("", standing), ("set by", setter), ("set", when)])

    session.answer(signal.raw, show)


def _row(signal: Signal, screen: Screen) -> tuple[str, ...]:
    import json

    standing = f"{'stale since' if signal.stale else 'until'} {screen.moment(signal.expire_time)}"
    value = json.dumps(signal.value, ensure_ascii=False)
    return (signal.id, value, standing, signal.setter, screen.clock(signal.update_time))
