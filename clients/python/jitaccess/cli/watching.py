"""What happens to grants, a line each, as it happens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from jitaccess.cli import describe
from jitaccess.cli.screen import Screen
from jitaccess.cli.session import Session
from jitaccess.contract.model import Grant, GrantEvent

_COLUMNS = ("TIME", "ID", "STATE", "WHO", "WHAT")
_WIDTHS = (12, 26, 9, 24, 0)


def watch(session: Session, *, view: str) -> None:
    """Prints the live grants of the view, then each change, until it is interrupted. Raises what watching raises."""
    above: list[tuple[str, ...]] = [_COLUMNS]
    with session.lasting_client() as client:
        for event in client.watch_grants(view=view):
            if event.grant is not None:
                session.answer_one_of_many(event.raw, partial(_show, above, event, event.grant))
                above = []


def _show(above: Sequence[tuple[str, ...]], event: GrantEvent, grant: Grant, screen: Screen) -> None:
    for cells in (*above, _row(event, grant, screen)):
        padded = (cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
        screen.say("  ".join(padded).rstrip())


def _row(event: GrantEvent, grant: Grant, screen: Screen) -> tuple[str, ...]:
    covered = f"{', '.join(grant.actions)} on {', '.join(grant.resources)}"
    happened = f"{event.event_type}: {covered}; {describe.standing(grant, screen)}"
    return (screen.clock(screen.now), grant.id, grant.state, describe.who(grant), happened)
