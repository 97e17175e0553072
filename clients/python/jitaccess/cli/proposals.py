"""The commands on proposals: sets of policies that wait for another admin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jitaccess.cli.command import command
from jitaccess.cli.grants import PAGE_LIMIT, Comment
from jitaccess.cli.policy import show_differences
from jitaccess.cli.session import Session

if TYPE_CHECKING:
    from jitaccess import JitClient, PolicyProposal
    from jitaccess.cli.screen import Screen

_COLUMNS = ("ID", "STATE", "PROPOSER", "CHANGES", "WHY", "STANDING")

ProposalId = Annotated[str, typer.Argument(metavar="ID", help="The proposal's id or how it begins.")]


def proposals(session: Session) -> None:
    """List the proposals, newest first."""
    from jitaccess.cli.paging import take
    from jitaccess.contract.calls import policies

    with session.client() as client:
        page = take(client, policies.list_policy_proposals(page_size=PAGE_LIMIT), all_pages=True)

    def show(screen: Screen) -> None:
        rows = [_row(item, screen) for item in page.items]
        screen.listing(_COLUMNS, rows, none="no proposals", more=False)

    session.answer(page.raw, show)


def proposal(session: Session, name: ProposalId) -> None:
    """Show one proposal and the difference that it makes."""
    with session.client() as client:
        found = client.get_policy_proposal(_full(client, name))

    def show(screen: Screen) -> None:
        screen.fields(_fields(found, screen))
        show_differences(screen, found.changes, would=found.state == "PENDING")

    session.answer(found.raw, show)


def approve(session: Session, name: ProposalId, comment: Comment = "") -> None:
    """Carry out what another admin proposed.

    It is carried out as it was when its id was looked up.
    """
    with session.client() as client:
        found = client.get_policy_proposal(_full(client, name))
        decided = client.approve_policy_proposal(found.name, comment=comment, etag=found.etag)
    _answer(session, decided)


def reject(session: Session, name: ProposalId, comment: Comment = "") -> None:
    """End a proposal without effect, your own too."""
    with session.client() as client:
        decided = client.reject_policy_proposal(_full(client, name), comment=comment)
    _answer(session, decided)


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    for function in (proposals, proposal, approve, reject):
        command(app)(function)


def _full(client: JitClient, name: str) -> str:
    from jitaccess.cli import ids

    return ids.full(name, "policyProposals", lambda: (each.name for each in client.list_policy_proposals()))


def _answer(session: Session, decided: PolicyProposal) -> None:
    def show(screen: Screen) -> None:
        screen.say(f"{decided.name} is {decided.state}")
        if decided.state == "APPROVED":
            show_differences(screen, decided.changes, would=False)

    session.answer(decided.raw, show)


def _fields(found: PolicyProposal, screen: Screen) -> list[tuple[str, str]]:
    return [
        ("proposal", found.name),
        ("state", found.state.value),
        ("", _standing(found, screen)),
        ("proposer", found.proposer),
        ("proposed", screen.clock(found.create_time)),
        ("why", found.comment),
        ("ends", "live grants that would not be given any more" if found.end_misfits else ""),
        ("etag", found.etag),
    ]


def _row(found: PolicyProposal, screen: Screen) -> tuple[str, ...]:
    changed = [change.policy.removeprefix("policies/") for change in found.changes if change.change_type != "UNCHANGED"]
    return (found.id, found.state.value, found.proposer, ", ".join(changed), found.comment, _standing(found, screen))


def _standing(found: PolicyProposal, screen: Screen) -> str:
    if found.decided_by:
        comment = f": {found.decide_comment}" if found.decide_comment else ""
        return f"by {found.decided_by} {screen.moment(found.decide_time)}{comment}"
    return f"{'lapses' if found.state == 'PENDING' else 'lapsed'} {screen.moment(found.expire_time)}"
