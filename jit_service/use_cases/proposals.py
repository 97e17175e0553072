"""Use cases of proposals: with dual control on, a change of policies is itself a request that another admin approves.

Each is one transaction. A set that was approved is carried out in the approval's own transaction, or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from pydantic import TypeAdapter

from jit_service.domain.caller import Caller
from jit_service.domain.errors import ProposalNotFound
from jit_service.domain.language import etag as etags
from jit_service.domain.language import paging
from jit_service.domain.policies import proposal as rules
from jit_service.domain.policies.diff import ChangeType, PolicyDraft
from jit_service.domain.policies.proposal import Proposal
from jit_service.storage import Snapshot, Store, query
from jit_service.use_cases import misfits, policies
from jit_service.use_cases.grants import end_below
from jit_service.use_cases.idempotency import answered_before, remember
from jit_service.use_cases.identifiers import name_in_order
from jit_service.use_cases.policies import APPLIED, ApplyResult

_PROPOSALS = TypeAdapter(Proposal)


class ProposalAnswer(NamedTuple):
    """A proposal, and the instant by which its state is derived."""

    proposal: Proposal
    at: datetime


@dataclass(frozen=True, kw_only=True)
class ProposalPage:
    """One page of a list, judged at `at`. An empty token: the last page."""

    proposals: tuple[Proposal, ...]
    next_page_token: str
    at: datetime


def propose(
    store: Store,
    caller: Caller,
    proposed: Sequence[PolicyDraft],
    *,
    prune: bool,
    comment: str,
    end_misfits: bool = False,
) -> ApplyResult:
    """Proposes to make the stored policies as given, and to end what would not fit. What changes nothing needs none.

    The same changes proposed again by the same principal are the same proposal while it waits.
    Raises InvalidField, StaleEtag, RequestIdReused.
    """
    with store.transaction() as tx:
        if (earlier := answered_before(tx, caller, APPLIED)) is not None:
            return earlier[0]
        changes = policies.difference(tx, caller, proposed, prune=prune)
        found = misfits.foresee(tx, changes, end_live=end_misfits)
        wanted = tuple(change for change in changes if change.type is not ChangeType.UNCHANGED)
        ends = end_misfits and any(each.ended for each in found.told)
        name = ""
        if wanted or ends:
            made, event = rules.propose(
                tuple(changes) if end_misfits else wanted,
                end_misfits=end_misfits,
                comment=comment,
                proposal_name=name_in_order("policyProposals", tx.revision),
                by=caller,
                now=tx.now,
            )
            waiting = (there for there in tx.undecided_proposals() if there.proposer == caller.principal)
            name = next((there.name for there in waiting if there.wants_the_same_as(made)), "")
            name = name or tx.save_proposal(made, event).name
        applied = ApplyResult(changes=tuple(changes), revision=tx.revision, proposal=name, misfits=found)
        return remember(tx, caller, APPLIED, applied)[0]


def get(store: Store, name: str) -> ProposalAnswer:
    """Reads a proposal. Raises ProposalNotFound."""
    with store.snapshot() as snapshot:
        return ProposalAnswer(_find(snapshot, name), snapshot.now)


def list_page(store: Store, caller: Caller, *, page_size: int, page_token: str) -> ProposalPage:
    """Lists the proposals, newest first. Raises InvalidField."""
    this_query = paging.digest("policyProposals", caller.principal)
    with store.snapshot() as snapshot:
        shown, token = query.newest_page(
            lambda before, limit: snapshot.proposals(before=before, limit=limit),
            query=this_query,
            page_size=page_size,
            page_token=page_token,
        )
        return ProposalPage(proposals=shown, next_page_token=token, at=snapshot.now)


def approve(store: Store, caller: Caller, name: str, *, comment: str, etag: str) -> ProposalAnswer:
    """Carries the proposal out. Raises ProposalNotFound, StaleEtag, what `domain.policies.proposal.approve` raises."""
    with store.transaction() as tx:
        found = _find(tx, name)
        if (earlier := answered_before(tx, caller, _PROPOSALS)) is not None:
            return ProposalAnswer(*earlier)
        etags.demand(etag, name, found.revision)
        current = {policy.name: policy for policy in tx.policies(deleted=True)}
        decided = rules.approve(found, current=current, by=caller, comment=comment, now=tx.now)
        saved = tx.save_proposal(*decided)
        for change in saved.changes:
            policies.apply_change(tx, caller, change, proposal=name)
        _, ended = misfits.settle(tx, caller, saved.changes, end_live=saved.end_misfits, proposal=name)
        answer = ProposalAnswer(*remember(tx, caller, _PROPOSALS, saved))
    end_below(store, ended, by=caller)
    return answer


def reject(store: Store, caller: Caller, name: str, *, comment: str, etag: str) -> ProposalAnswer:
    """Ends the proposal without effect. Raises ProposalNotFound, WrongState, StaleEtag, InvalidField."""
    with store.transaction() as tx:
        found = _find(tx, name)
        if (earlier := answered_before(tx, caller, _PROPOSALS)) is not None:
            return ProposalAnswer(*earlier)
        etags.demand(etag, name, found.revision)
        saved = tx.save_proposal(*rules.reject(found, by=caller, comment=comment, now=tx.now))
        return ProposalAnswer(*remember(tx, caller, _PROPOSALS, saved))


def _find(snapshot: Snapshot, name: str) -> Proposal:
    found = snapshot.proposal(name)
    if found is None:
        raise ProposalNotFound(f"there is no {name}", proposal=name)
    return found
