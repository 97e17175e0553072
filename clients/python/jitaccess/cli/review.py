"""The commands of reviewers: the inbox, approvals, denials, counter-offers, and reviews of break-glass uses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jitaccess.cli.command import command, parsed
from jitaccess.cli.grants import (
    DEFAULT_LIMIT,
    Comment,
    Etag,
    Filter,
    GrantId,
    Limit,
    answer_dry_run,
    answer_grant,
    answer_page,
    page_of,
)
from jitaccess.cli.session import Output, Session
from jitaccess.cli.text import parse_instant
from jitaccess.naming.duration import parse_span

if TYPE_CHECKING:
    from jitaccess import Grant, JitClient, Page
    from jitaccess.cli.screen import Screen

ShorterFor = Annotated[
    timedelta | None,
    typer.Option("--for", metavar="DURATION", parser=parsed(parse_span), help="For shorter than asked: 30m, 1h, 2d."),
]
OnlyResources = Annotated[
    list[str] | None,
    typer.Option("--resource", metavar="R", help="Only this, within what was asked for; may be repeated."),
]
OnlyActions = Annotated[
    list[str] | None,
    typer.Option("--action", metavar="A", help="Only this, within what was asked for; may be repeated."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what it would do, or why you may not; nothing is decided.")
]
LaterStart = Annotated[
    datetime | None,
    typer.Option("--start", metavar="INSTANT", parser=parsed(parse_instant), help="Later than asked, ISO 8601."),
]


def inbox(
    session: Session,
    subject: Annotated[
        str, typer.Option(metavar="S", help="Only for this subject: user:alice@example.com.", show_default=False)
    ] = "",
    resource: Annotated[
        str, typer.Option(metavar="R", help="Only with this very resource: database/orders/eu.", show_default=False)
    ] = "",
    filter: Filter = "",
    only_ids: Annotated[bool, typer.Option("--ids", help="Only the ids, one a line.")] = False,
    limit: Limit = DEFAULT_LIMIT,
) -> None:
    """List what waits for your decision.

    With --ids a script finds one request by --subject, --resource and --filter. Ids alone do not count as shown.
    """
    from jitaccess.cli import describe, shown

    if only_ids and session.output in (Output.JSON, Output.YAML):
        raise typer.BadParameter("--ids does not go with -o json or yaml")
    wanted = _filter(subject=subject, resource=resource, filter=filter)
    with session.client() as client:
        page = page_of(client, view="REVIEWABLE", filter=wanted, limit=limit)
    if only_ids:
        _print_ids(session, page)
        return
    answer_page(session, page, describe.INBOX_COLUMNS, describe.inbox_row, none="nothing waits for your decision")
    shown.remember(session, page.items)


def approve(
    session: Session,
    grant: GrantId,
    comment: Comment = "",
    duration: ShorterFor = None,
    resource: OnlyResources = None,
    action: OnlyActions = None,
    start: LaterStart = None,
    etag: Etag = "",
    dry_run: DryRun = False,
) -> None:
    """Approve a pending grant, or more time for it.

    The decision is on the request as `jit inbox` or `jit show` last showed it to you, or as --etag says; on a terminal,
    a request that you have not seen is shown first. The answer says what was approved. With --for, --resource,
    --action or --start the access is shorter, less, or later than requested. With --dry-run it says what the approval
    would do to the request as it is now.
    """
    from functools import partial

    from jitaccess.cli import describe, shown

    edits = _terms(duration, resource, action, start)
    with session.client() as client:
        decide: Callable[..., Grant] = partial(client.approve, comment=comment, **edits)
        if dry_run:
            _try(session, client, grant, etag, decide)
            return
        found, seen = shown.to_decide_on(session, client, grant, etag=etag, verb="Approve")
        decided = decide(found, etag=seen)
    answer_grant(session, decided, decided=describe.approved)


def deny(session: Session, grant: GrantId, comment: Comment = "", etag: Etag = "", dry_run: DryRun = False) -> None:
    """Deny a pending grant, or more time for it.

    The decision is on the request as `jit inbox` or `jit show` last showed it to you, as for `jit approve`.
    """
    from functools import partial

    from jitaccess.cli import shown

    with session.client() as client:
        decide: Callable[..., Grant] = partial(client.deny, comment=comment)
        if dry_run:
            _try(session, client, grant, etag, decide)
            return
        found, seen = shown.to_decide_on(session, client, grant, etag=etag, verb="Deny")
        decided = decide(found, etag=seen)
    answer_grant(session, decided)


def counter(
    session: Session,
    grant: GrantId,
    comment: Comment = "",
    duration: ShorterFor = None,
    resource: OnlyResources = None,
    action: OnlyActions = None,
    start: LaterStart = None,
    etag: Etag = "",
    dry_run: DryRun = False,
) -> None:
    """Offer other terms than those asked for.

    The requester accepts or declines them.
    """
    from functools import partial

    from jitaccess.cli import shown

    edits = _terms(duration, resource, action, start)
    if not edits:
        raise typer.BadParameter("say what you offer: --for, --resource, --action or --start")
    with session.client() as client:
        decide: Callable[..., Grant] = partial(client.counter, comment=comment, **edits)
        if dry_run:
            _try(session, client, grant, etag, decide)
            return
        found, seen = shown.to_decide_on(session, client, grant, etag=etag, verb="Offer other terms for")
        countered = decide(found, etag=seen)
    answer_grant(session, countered)


def review_debt(session: Session, limit: Limit = DEFAULT_LIMIT) -> None:
    """List the break-glass uses that still owe a review."""
    from jitaccess.cli import describe

    with session.client() as client:
        page = page_of(client, view="REVIEW_DEBT", limit=limit)
    answer_page(session, page, describe.DEBT_COLUMNS, describe.debt_row, none="no break-glass use owes a review")


def review(
    session: Session,
    grant: GrantId,
    comment: Annotated[str, typer.Option(metavar="TEXT", help="What was found, for the record.", show_default=False)],
    etag: Etag = "",
) -> None:
    """Close the review that a break-glass use owes."""
    from jitaccess.cli import describe, ids

    with session.client() as client:
        reviewed = client.complete_review(ids.name(client, grant), comment=comment, etag=etag or None)

    def show(screen: Screen) -> None:
        screen.say(f"{reviewed.name} is {describe.reviewed(reviewed, screen)}")

    session.answer(reviewed.raw, show)


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    for function in (inbox, approve, deny, counter):
        command(app)(function)
    command(app, "review-debt")(review_debt)
    command(app)(review)


def _try(session: Session, client: JitClient, grant: str, etag: str, decide: Callable[..., Grant]) -> None:
    """Shows what the decision would do to the grant as it is now, or as it was with the etag."""
    from jitaccess.cli import ids

    found = ids.find(client, grant)
    answer_dry_run(session, decide(found, etag=etag or found.etag, validate_only=True))


def _filter(*, subject: str, resource: str, filter: str) -> str:
    """Returns one filter that combines all of the options."""
    parts = [f"subject = {_quoted(subject)}"] if subject else []
    parts += [f"resources : {_quoted(resource)}"] if resource else []
    parts += [f"({filter})"] if filter and parts else [filter]
    return " AND ".join(filter_ for filter_ in parts if filter_)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _print_ids(session: Session, page: Page[Grant]) -> None:
    from jitaccess.cli import waiting

    def show(screen: Screen) -> None:
        for grant in page.items:
            screen.say(grant.id)

    session.show(show)
    if page.next_page_token:
        waiting.say(f"... and more than these {len(page.items)}; --limit 0 shows all")


def _terms(
    duration: timedelta | None, resources: list[str] | None, actions: list[str] | None, start: datetime | None
) -> dict[str, Any]:
    """Returns the terms that were given, named as the client names them."""
    terms = {"duration": duration, "resources": resources, "actions": actions, "start_time": start}
    return {name: value for name, value in terms.items() if value}
