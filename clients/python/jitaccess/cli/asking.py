"""The commands that ask for access or for more of it, and for an answer to an offer; and the options of asking."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from jitaccess.cli import exits
from jitaccess.cli.command import Facts, command, facts, parsed
from jitaccess.cli.grants import Comment, Etag, GrantId, answer_grant
from jitaccess.cli.session import Session
from jitaccess.cli.text import parse_instant, parse_label
from jitaccess.naming.duration import parse_span

if TYPE_CHECKING:
    from jitaccess import JitClient
    from jitaccess.cli.screen import Screen
    from jitaccess.contract.calls.options import AccessOptions

Resources = Annotated[list[str], typer.Argument(metavar="RESOURCE", help="Such as database/orders/eu.")]
Actions = Annotated[list[str], typer.Option("--action", metavar="A", help="Such as read; may be repeated.")]
For = Annotated[
    timedelta | None,
    typer.Option(
        "--for", metavar="DURATION", parser=parsed(parse_span), help="90s, 30m, 1h, 1h30m, 2d [default: the policy's]."
    ),
]
Why = Annotated[str, typer.Option("--justification", metavar="TEXT", help="Why.", show_default=False)]
Ticket = Annotated[str, typer.Option("--ticket", metavar="T", help="A ticket's id.", show_default=False)]
UnderPolicy = Annotated[
    str,
    typer.Option(
        "--policy", metavar="P", help="Ask under this policy [default: the first that covers it].", show_default=False
    ),
]
Subject = Annotated[str, typer.Option("--subject", metavar="S", help="Who gets it [default: you].", show_default=False)]
Start = Annotated[
    datetime | None,
    typer.Option("--start", metavar="INSTANT", parser=parsed(parse_instant), help="When it starts, ISO 8601."),
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="K=V", parser=parsed(parse_label), help="May be repeated."),
]
RequestId = Annotated[
    str | None,
    typer.Option("--request-id", metavar="UUID", help="Sent again with the same one, it is the same request."),
]
MaxUses = Annotated[
    int,
    typer.Option(
        "--max-uses", metavar="N", min=0, help="How many checks it may allow [default: the policy's].",
        show_default=False,
    ),
]  # fmt: skip
BreakGlass = Annotated[
    bool, typer.Option("--break-glass", help="Take it at once in an emergency; a review is owed. Say why.")
]
Parent = Annotated[
    str,
    typer.Option(
        "--parent", metavar="ID", help="Pass this active grant of yours on to the subject.", show_default=False
    ),
]
WaitTimeout = Annotated[
    timedelta | None,
    typer.Option(
        "--wait-timeout",
        metavar="DURATION",
        parser=parsed(parse_span),
        help="Wait for so long at most: 90s, 30m, 1h [default: for ever].",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Do not say on stderr what it waits for.")]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The options that say what access is asked for, by whom, and why."""

    resources: Resources
    actions: Actions
    duration: For = None
    justification: Why = ""
    ticket: Ticket = ""
    policy: UnderPolicy = ""
    subject: Subject = ""
    start: Start = None
    label: Labels = None


@dataclass(frozen=True, kw_only=True)
class Manner:
    """The options that say how it is asked for."""

    context: Facts = None
    max_uses: MaxUses = 0
    break_glass: BreakGlass = False
    parent: Parent = ""


def options(client: JitClient, wanted: Wanted, manner: Manner) -> AccessOptions:
    """Returns what the client's `request` and `ensure` take. It may ask the service for the parent's full name."""
    from jitaccess.cli import ids

    return {
        "duration": wanted.duration,
        "policy": wanted.policy,
        "subject": wanted.subject,
        "start_time": wanted.start,
        "justification": wanted.justification,
        "ticket": wanted.ticket,
        "labels": dict(wanted.label or ()),  # type: ignore[arg-type]  # The parser made pairs of the texts.
        "context": facts(manner.context),
        "max_uses": manner.max_uses,
        "break_glass": manner.break_glass,
        "parent": ids.name(client, manner.parent) if manner.parent else "",
    }


def request(
    session: Session,
    wanted: Wanted,
    *,
    request_id: RequestId = None,
    manner: Manner,
    ensure: Annotated[
        bool, typer.Option("--ensure", help="Only where no live grant or pending request of yours covers it.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would become of it, and by whom.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it can be used, or never will be.")] = False,
    wait_timeout: WaitTimeout = None,
    quiet: Quiet = False,
) -> None:
    """Ask for access.

    With --wait, stderr says at once and every minute who must decide and when the request lapses. Exit code 0 then says
    that it can be used, 1 that it never will be, 8 that it still waits. With --dry-run, 1 says that nobody could
    approve it.
    """
    from functools import partial

    from jitaccess.cli import describe, waiting

    if dry_run and (ensure or wait):
        raise typer.BadParameter("--dry-run does not go with --ensure or --wait")
    _demand_wait(wait, wait_timeout)
    with session.client() as client:
        ask = client.ensure if ensure else partial(client.request, validate_only=dry_run)
        given = options(client, wanted, manner)
        given["request_id"] = request_id
        grant = ask(wanted.resources, wanted.actions, **given)
        if wait:
            grant = waiting.for_decision(client, grant, waiting.is_decided, timeout=wait_timeout, quiet=quiet)
        elif ensure and not quiet and not session.shows_on_terminal:
            waiting.say_pending(grant)

    def show(screen: Screen) -> None:
        more = describe.preview(grant.preview) if grant.preview else [("next", describe.what_next(grant, screen))]
        screen.fields([*describe.fields(grant, screen), *more])

    session.answer(grant.raw, show)
    if wait and (code := exits.code_of_state(grant.state)):
        raise typer.Exit(code)
    if grant.preview and not grant.preview.satisfiable:
        raise typer.Exit(exits.NO)


def extend(
    session: Session,
    grant: GrantId,
    duration: Annotated[
        timedelta,
        typer.Option("--for", metavar="DURATION", parser=parsed(parse_span), help="How much more time: 30m, 1h, 2d."),
    ],
    justification: Why = "",
    ticket: Ticket = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is decided.")] = False,
    wait_timeout: WaitTimeout = None,
    quiet: Quiet = False,
) -> None:
    """Ask for more time without a gap; the grant runs on meanwhile.

    With --wait, exit code 0 says that it is given, 1 that it is not, 8 that it still waits.
    """
    from jitaccess.cli import describe, ids, waiting

    _demand_wait(wait, wait_timeout)
    with session.client() as client:
        asked = client.extend(ids.name(client, grant), duration, justification=justification, ticket=ticket)
        if wait:
            asked = waiting.for_decision(
                client,
                asked,
                lambda grant: not describe.awaited_extension(grant),
                timeout=wait_timeout,
                quiet=quiet,
            )
    answer_grant(session, asked)
    if wait and asked.extension and (code := exits.code_of_extension(asked.extension.state)):
        raise typer.Exit(code)


def accept(session: Session, grant: GrantId, comment: Comment = "", etag: Etag = "") -> None:
    """Take the terms that a reviewer offered.

    They are those that `jit show` last showed you; on a terminal what you have not seen is shown first.
    """
    from jitaccess.cli import shown

    with session.client() as client:
        found, seen = shown.to_decide_on(session, client, grant, etag=etag, verb="Accept the offer for")
        accepted = client.accept_counter_offer(found, comment=comment, etag=seen)
    answer_grant(session, accepted)


def decline(session: Session, grant: GrantId, comment: Comment = "", etag: Etag = "") -> None:
    """Refuse the terms that a reviewer offered; your request stays."""
    from jitaccess.cli import shown

    with session.client() as client:
        found, seen = shown.to_decide_on(session, client, grant, etag=etag, verb="Decline the offer for")
        declined = client.decline_counter_offer(found, comment=comment, etag=seen)
    answer_grant(session, declined)


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    for function in (request, extend, accept, decline):
        command(app)(function)


def _demand_wait(wait: bool, wait_timeout: timedelta | None) -> None:
    if wait_timeout and not wait:
        raise typer.BadParameter("--wait-timeout goes with --wait")
