"""The commands that lock a principal, group or token, and unlock it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from jitaccess.cli.command import command, parsed
from jitaccess.cli.session import Session
from jitaccess.naming.duration import parse_span

if TYPE_CHECKING:
    from jitaccess import JitClient, Lock
    from jitaccess.cli.screen import Screen

_COLUMNS = ("ID", "LOCKED", "STANDING", "ENDED", "BY", "WHY")


def lock(
    session: Session,
    comment: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the record.", show_default=False)],
    principal: Annotated[
        str, typer.Argument(metavar="[PRINCIPAL]", help="Whom: user:NAME or service:NAME.", show_default=False)
    ] = "",
    group: Annotated[str, typer.Option(metavar="G", help="Whoever is in this group.", show_default=False)] = "",
    jti: Annotated[
        str, typer.Option(metavar="J", help="One identity token, by its jti; not its principal.", show_default=False)
    ] = "",
    length: Annotated[
        timedelta | None,
        typer.Option(
            "--for", metavar="DURATION", parser=parsed(parse_span), help="How long [default: until it is lifted]."
        ),
    ] = None,
    end_grants: Annotated[
        bool, typer.Option("--end-grants", help="End for good what they hold and wait for, and their delegations.")
    ] = False,
) -> None:
    """Lock a principal, group or token: no call, check, review, token or stream of theirs counts.

    It holds from the answer on, everywhere. Needs the role responder or admin.
    """
    if sum(map(bool, (principal, group, jti))) != 1:
        raise typer.BadParameter("give exactly one of PRINCIPAL, --group and --jti")
    with session.client() as client:
        made = client.create_lock(principal, group=group, jti=jti, comment=comment, ttl=length, end_grants=end_grants)
    session.answer(made.raw, lambda screen: screen.fields(_fields(made, screen)))


def unlock(
    session: Session,
    which: Annotated[
        str, typer.Argument(metavar="ID|PRINCIPAL", help="The lock's id or how it begins; or who is locked.")
    ],
) -> None:
    """Lift a lock at once; what it ended stays ended."""
    from jitaccess.cli import ids
    from jitaccess.v1.lock_pb2 import ListLocksResponse

    with session.client() as client:
        if ":" not in which:
            gone = client.delete_lock(ids.full(which, "locks", lambda: (each.name for each in client.list_locks())))
            session.answer(gone.raw, lambda screen: screen.say(f"{gone.name} is lifted"))
            return
        lifted = [client.delete_lock(found.name) for found in _on(client, which)]

    def show(screen: Screen) -> None:
        for each in lifted:
            screen.say(f"{each.name} is lifted")

    session.answer(ListLocksResponse(locks=[each.raw for each in lifted]), show)


def locks(
    session: Session,
    all_: Annotated[bool, typer.Option("--all", help="Also those that were lifted or are over.")] = False,
) -> None:
    """List the locks that stand.

    Newest first. Needs the role responder, auditor or admin.
    """
    from jitaccess.cli.grants import PAGE_LIMIT
    from jitaccess.cli.paging import take
    from jitaccess.contract.calls import locks

    with session.client() as client:
        page = take(client, locks.list_locks(show_deleted=all_, page_size=PAGE_LIMIT), all_pages=True)

    def show(screen: Screen) -> None:
        rows = [_row(item, screen) for item in page.items]
        screen.listing(_COLUMNS, rows, none="no locks", more=False)

    session.answer(page.raw, show)


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    for function in (lock, unlock, locks):
        command(app)(function)


def _on(client: JitClient, principal: str) -> list[Lock]:
    """Returns the locks that stand on the principal, in any letter case. Raises NotFound where there is none."""
    from jitaccess.errors import NotFound
    from jitaccess.naming.names import canonical

    found = [each for each in client.list_locks() if canonical(each.principal) == canonical(principal)]
    if not found:
        raise NotFound(f"no lock stands on {principal}", reason="LOCK_NOT_FOUND")
    return found


def _fields(made: Lock, screen: Screen) -> list[tuple[str, str]]:
    _, whom, standing, ended, by, why = _row(made, screen)
    return [
        ("lock", made.name), ("locked", whom), ("standing", standing), ("ended", ended), ("by", by), ("why", why),
    ]  # fmt: skip


def _row(each: Lock, screen: Screen) -> tuple[str, ...]:
    whom = each.principal or (f"group {each.group}" if each.group else f"token {each.jti}")
    ended = f"{each.ended_grant_count} grant{'' if each.ended_grant_count == 1 else 's'}" if each.end_grants else "-"
    return (each.id, whom, _standing(each, screen), ended, each.creator, each.comment)


def _standing(each: Lock, screen: Screen) -> str:
    """Returns until when it stands, or since when it does not."""
    if each.delete_time:
        return f"lifted {screen.moment(each.delete_time)}"
    if each.expire_time is None:
        return "until lifted"
    return f"{'until' if each.active else 'ended'} {screen.moment(each.expire_time)}"
