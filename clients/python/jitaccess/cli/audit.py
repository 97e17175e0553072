"""The commands on the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from jitaccess.cli import exits
from jitaccess.cli.command import command
from jitaccess.cli.grants import DEFAULT_LIMIT, PAGE_LIMIT, Filter, Limit
from jitaccess.cli.session import Session

if TYPE_CHECKING:
    from jitaccess import AuditEvent
    from jitaccess.cli.screen import Screen

_COLUMNS = ("SEQ", "TIME", "EVENT", "PRINCIPAL", "SUBJECT", "ACTIONS", "RESOURCES", "DECISION", "REASON", "GRANT")


def ls(session: Session, filter: Filter = "", limit: Limit = DEFAULT_LIMIT) -> None:
    """List what was done, newest first."""
    from jitaccess import calls
    from jitaccess.cli.paging import take

    with session.client() as client:
        call = calls.list_audit_events(filter=filter, page_size=limit or PAGE_LIMIT)
        page = take(client, call, all_pages=not limit)

    def show(screen: Screen) -> None:
        rows = [_row(event, screen) for event in page.items]
        screen.listing(_COLUMNS, rows, none="no events", more=bool(page.next_page_token))

    session.answer(page.raw, show)


def verify(session: Session) -> None:
    """Recompute the hash chain.

    Exit code 1 says that records were edited, deleted or reordered.
    """
    with session.client() as client:
        verdict = client.verify_audit_log()

    def show(screen: Screen) -> None:
        if verdict:
            screen.say(f"valid: {verdict.event_count} events, head {verdict.head_hash}")
        else:
            screen.say(f"NOT VALID at event {verdict.first_bad_seq}: {verdict.problem}")

    session.answer(verdict.raw, show)
    if not verdict:
        raise typer.Exit(exits.NO)


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    command(app)(ls)
    command(app)(verify)


def _row(event: AuditEvent, screen: Screen) -> tuple[str, ...]:
    return (
        str(event.seq),
        screen.clock(event.event_time),
        event.event_type.value,
        event.principal or "(not proved)",
        event.subject,
        ", ".join(event.actions),
        ", ".join(event.resources),
        event.decision,
        event.reason,
        event.grant.removeprefix("grants/"),
    )
