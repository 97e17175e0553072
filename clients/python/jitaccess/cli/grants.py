"""The commands on grants: look, end."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from jitaccess.cli.command import command, parsed
from jitaccess.cli.session import Session
from jitaccess.cli.text import parse_label

if TYPE_CHECKING:
    from jitaccess import Grant, JitClient, Page
    from jitaccess.cli.screen import Screen

PAGE_LIMIT = 1000
DEFAULT_LIMIT = 100

GrantId = Annotated[
    str,
    typer.Argument(metavar="ID", help="The grant's id or how it begins, with or without grants/.", show_default=False),
]
Comment = Annotated[str, typer.Option(metavar="TEXT", help="Why, for the record.", show_default=False)]
Etag = Annotated[
    str,
    typer.Option(
        metavar="ETAG",
        help="Decide only on this version of the grant [default: what you were shown].",
        show_default=False,
    ),
]
Limit = Annotated[
    int, typer.Option(metavar="N", min=0, max=PAGE_LIMIT, help="At most this many, up to 1000; 0 for all.")
]
Filter = Annotated[
    str,
    typer.Option(
        "--filter",
        metavar="F",
        help="""AIP-160, such as 'state = "ACTIVE"'; 'covers:"database/orders/eu"' finds what covers that.""",
        show_default=False,
    ),
]


class ViewName(StrEnum):
    """The views as the command line names them."""

    MINE = "mine"
    REVIEWABLE = "reviewable"
    ALL = "all"
    VISIBLE = "visible"
    REVIEW_DEBT = "review-debt"


def ls(
    session: Session,
    view: Annotated[ViewName, typer.Option(case_sensitive=False, help="Whose grants.")] = ViewName.MINE,
    filter: Filter = "",
    order_by: Annotated[str, typer.Option(metavar="O", help="Such as 'expire_time desc'.", show_default=False)] = "",
    reviewer: Annotated[
        str,
        typer.Option(
            "--reviewer",
            metavar="PRINCIPAL",
            help="Only what this principal approved or denied; auditors add --view all.",
            show_default=False,
        ),
    ] = "",
    limit: Limit = DEFAULT_LIMIT,
    watch: Annotated[
        bool, typer.Option("--watch", help="Tell each change as it happens, until ^C; with -o json one object a line.")
    ] = False,
) -> None:
    """List grants, newest first.

    With --watch it is the live ones, and then what happens to them.
    """
    from jitaccess.cli import describe, watching

    if watch:
        if filter or order_by or reviewer:
            raise typer.BadParameter("--filter, --order-by and --reviewer do not go with --watch")
        watching.watch(session, view=view.name)
        return
    if reviewer:
        by = f"reviewers:{json.dumps(reviewer, ensure_ascii=False)}"
        filter = f"{by} AND ({filter})" if filter else by
    with session.client() as client:
        page = page_of(client, view=view.name, filter=filter, order_by=order_by, limit=limit)
    answer_page(session, page, describe.LS_COLUMNS, describe.ls_row, none="no grants")


def show(session: Session, grant: GrantId) -> None:
    """Show all of one grant."""
    from jitaccess.cli import describe, ids, shown

    with session.client() as client:
        found = ids.find(client, grant)
    session.answer(found.raw, lambda screen: screen.fields(describe.fields(found, screen)))
    shown.remember(session, [found])


def withdraw(session: Session, grant: GrantId, comment: Comment = "") -> None:
    """Take back your own pending request."""
    from jitaccess.cli import ids

    with session.client() as client:
        ended = client.withdraw(ids.name(client, grant), comment=comment)
    answer_grant(session, ended)


def revoke(
    session: Session,
    comment: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the record.", show_default=False)],
    grant: Annotated[
        str, typer.Argument(metavar="[ID]", help="The grant's id or how it begins.", show_default=False)
    ] = "",
    matching: Annotated[bool, typer.Option("--matching", help="End all live grants that match what follows.")] = False,
    subject: Annotated[str, typer.Option(metavar="S", help="Whose access.", show_default=False)] = "",
    policy: Annotated[str, typer.Option(metavar="P", help="Given under this policy.", show_default=False)] = "",
    resource: Annotated[
        str, typer.Option(metavar="R", help="Reaching into this resource or below it.", show_default=False)
    ] = "",
    label: Annotated[
        list[str] | None, typer.Option(metavar="K=V", parser=parsed(parse_label), help="May be repeated.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before ending many.")] = False,
) -> None:
    """End a scheduled or active grant at once, or with --matching many."""
    from jitaccess.cli import ids, revocation

    if bool(grant) == matching:
        raise typer.BadParameter("give either the grant's ID or --matching")
    if matching:
        labels: dict[str, str] = dict(label or ())  # type: ignore[arg-type]  # The parser made pairs of the texts.
        selection = revocation.Selection(subject=subject, policy=policy, resource=resource, labels=labels)
        revocation.revoke_matching(session, selection, comment=comment, yes=yes)
        return
    if subject or policy or resource or label:
        raise typer.BadParameter("--subject, --policy, --resource and --label go with --matching")
    with session.client() as client:
        ended = client.revoke(ids.name(client, grant), comment=comment)
    answer_grant(session, ended)


def release(session: Session, grant: GrantId, comment: Comment = "") -> None:
    """Give your own scheduled or active grant back before its time."""
    from jitaccess.cli import ids

    with session.client() as client:
        ended = client.release(ids.name(client, grant), comment=comment)
    answer_grant(session, ended)


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    for function in (ls, show, withdraw, revoke, release):
        command(app)(function)


def page_of(client: JitClient, *, view: str, limit: int, filter: str = "", order_by: str = "") -> Page[Grant]:
    """Returns a page as the service gives it, or with limit 0 one page of all."""
    from jitaccess.cli.paging import take
    from jitaccess.contract.calls import grants

    call = grants.list_grants(view=view, filter=filter, order_by=order_by, page_size=limit or PAGE_LIMIT)
    return take(client, call, all_pages=not limit)


def answer_page(
    session: Session,
    page: Page[Grant],
    columns: tuple[str, ...],
    row: Callable[[Grant, str, Screen], tuple[str, ...]],
    *,
    none: str,
) -> None:
    """Shows a page of grants, a row each."""
    from jitaccess.cli import ids

    def show(screen: Screen) -> None:
        names = [grant.name for grant in page.items]
        shown = ids.short(names) if screen.is_terminal else [name.removeprefix("grants/") for name in names]
        rows = [row(grant, identifier, screen) for grant, identifier in zip(page.items, shown, strict=True)]
        screen.listing(columns, rows, none=none, more=bool(page.next_page_token))

    session.answer(page.raw, show)


def answer_dry_run(session: Session, grant: Grant) -> None:
    """Shows a grant as a decision would make it."""
    answer_grant(session, grant, is_="would be")


def answer_grant(
    session: Session,
    grant: Grant,
    *,
    decided: Callable[[Grant, Screen], str] = lambda _grant, _screen: "",
    is_: str = "is",
) -> None:
    """Shows a grant after a decision: its state, the decision, terms that differ from the request, who is next.

    After a dry run it would be so (`is_`).
    """
    from jitaccess.cli import describe

    def show(screen: Screen) -> None:
        screen.say(f"{grant.name} {is_} {grant.state}: {describe.standing(grant, screen)}")
        if on := decided(grant, screen):
            screen.say(on)
        if grant.requested:
            screen.say(f"asked for: {describe.terms(grant.requested, screen)}")
            screen.say(f"given: {describe.given(grant, screen)}")
        if grant.counter_offer:
            screen.say(f"offered: {describe.offer(grant.counter_offer, screen)}")
        if grant.extension and grant.state in ("SCHEDULED", "ACTIVE"):
            screen.say(f"more time: {describe.extension(grant.extension, screen)}")
        if grant.state == "PENDING" or describe.awaited_extension(grant):
            screen.say(f"next: {describe.what_next(grant, screen)}")

    session.answer(grant.raw, show)
