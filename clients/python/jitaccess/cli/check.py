"""The command that checks access."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from jitaccess.cli import exits
from jitaccess.cli.command import Address, At, Facts, command, facts
from jitaccess.cli.session import Session
from jitaccess.contract.model import CheckReason

if TYPE_CHECKING:
    from jitaccess import Decision
    from jitaccess.cli.screen import Screen


def check(
    session: Session,
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Such as user:alice@example.com.")],
    action: Annotated[str, typer.Argument(metavar="ACTION", help="Such as read.")],
    resource: Annotated[str, typer.Argument(metavar="RESOURCE", help="Such as database/orders/eu.")],
    explain: Annotated[bool, typer.Option("--explain", help="Show what was looked at.")] = False,
    context: Facts = None,
    source_ip: Address = "",
    at: At = None,
) -> None:
    """Say whether access is there now, or with --at was there then.

    Exit code 0 is a yes, 1 a no; any other is no answer. A yes about the past lets nobody do anything now.
    """
    with session.client() as client:
        decision = client.check(
            subject, action, resource, explain=explain, context=facts(context), source_ip=source_ip, read_time=at
        )

    def show(screen: Screen) -> None:
        if at is None:
            screen.fields(_fields(decision, screen, action=action, resource=resource))
        else:
            screen.fields(_past_fields(decision, screen))
        if explain:
            screen.say("")
            rows = [(item.name, item.reason.value, item.message) for item in decision.trace]
            screen.listing(("LOOKED AT", "REASON", "MESSAGE"), rows, none="there was nothing to look at", more=False)

    session.answer(decision.raw, show)
    if not (decision if at is None else decision.reason is CheckReason.WAS_ALLOWED):
        raise typer.Exit(exits.NO)


def add_to(app: typer.Typer) -> None:
    """Adds the command to the app."""
    command(app)(check)


def _fields(decision: Decision, screen: Screen, *, action: str, resource: str) -> list[tuple[str, str]]:
    waits = decision.reason is CheckReason.PENDING
    requests = "" if decision or waits else "\n".join(_requests(decision, action=action, resource=resource))
    return [
        ("decision", "ALLOWED" if decision else "DENIED"),
        ("reason", decision.reason.value),
        ("", decision.message),
        ("until", screen.moment(decision.expire_time)),
        ("grant", decision.grant),
        ("ask with", requests),
        ("decision id", decision.decision_id),
    ]


def _past_fields(decision: Decision, screen: Screen) -> list[tuple[str, str]]:
    was_allowed = decision.reason is CheckReason.WAS_ALLOWED
    return [
        ("then", "ALLOWED" if was_allowed else "NOT ALLOWED"),
        ("at", screen.clock(decision.read_time)),
        ("reason", decision.reason.value),
        ("", decision.message),
        ("planned end", screen.clock(decision.expire_time)),
        ("grant", decision.grant),
        ("not on record", "\n".join(decision.not_on_record)),
        ("decision id", decision.decision_id),
    ]


def _requests(decision: Decision, *, action: str, resource: str) -> list[str]:
    """Returns the commands that would ask for the access, ready to be pasted."""
    names = [name.removeprefix("policies/") for name in decision.requestable_policies]
    return [shlex.join(["jit", "request", resource, "--action", action, "--policy", name]) for name in names]
