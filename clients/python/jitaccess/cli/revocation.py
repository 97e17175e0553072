"""Ending many grants: shows the plan, and executes it once it is confirmed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

from jitaccess.cli.session import Session

if TYPE_CHECKING:
    from jitaccess import RevocationPlan
    from jitaccess.cli.screen import Screen


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which live grants are meant: those that match all that is given."""

    subject: str = ""
    policy: str = ""
    resource: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def revoke_matching(session: Session, selection: Selection, *, comment: str, yes: bool) -> None:
    """Shows the plan, asks on a terminal, and ends those very grants. Elsewhere `yes` must have been said."""
    chosen = {
        "subject": selection.subject,
        "policy": selection.policy,
        "resource": selection.resource,
        "labels": selection.labels,
    }
    with session.client() as client:
        plan = client.plan_revocation(**chosen)  # type: ignore[arg-type]  # The names are the method's own.
        if plan.count and not _confirmed(plan, yes=yes):
            raise typer.Abort
        if plan.count:
            plan = client.revoke_grants(plan.plan_id, comment=comment, **chosen)  # type: ignore[arg-type]
    session.answer(plan.raw, lambda screen: screen.say(_outcome(plan)))


def _confirmed(plan: RevocationPlan, *, yes: bool) -> bool:
    from jitaccess.cli.screen import screen_on

    if yes:
        return True
    _show(plan, screen_on(sys.stderr))
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise typer.BadParameter(f"{_counted(plan.count)} would end; say --yes where nobody can be asked")
    return typer.confirm(f"End {_counted(plan.count)} now?", err=True)


def _show(plan: RevocationPlan, screen: Screen) -> None:
    from jitaccess.cli import describe

    rows = [describe.ls_row(grant, grant.id, screen) for grant in plan.sample]
    screen.listing(describe.LS_COLUMNS, rows, none="no grants", more=False)
    if plan.count > len(plan.sample):
        screen.say(f"... and {plan.count - len(plan.sample)} more")


def _outcome(plan: RevocationPlan) -> str:
    return f"{_counted(plan.count)} ended" if plan.executed else "no live grant matches"


def _counted(count: int) -> str:
    return f"{count} grant{'' if count == 1 else 's'}"
