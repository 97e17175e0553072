"""Misfits: grants that the policies would not give any more once they are changed.

What is scheduled ends with the change, in its transaction: nobody begins to have what nobody may have by then. What is
live goes on, and is told of; it ends where the change says so. Judged are the scheduled and live grants under the
policies of the change, or all where it is about who is denied what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from jit_service.domain.caller import Caller
from jit_service.domain.frozen import replace
from jit_service.domain.grants.grant import Grant, GrantState, revoke_as_misfit
from jit_service.domain.grants.misfit import misfit
from jit_service.domain.policies.diff import ChangeType, PolicyChange
from jit_service.domain.policies.policy import Policy
from jit_service.storage import Snapshot, Transaction

MAX_TOLD: Final = 1000
MAX_ENDED: Final = 1000
"""How many live grants one change ends at the most, since all others wait for it; applying again ends more."""


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """A grant that would not be given now. `ended`: the change has ended it, or would."""

    grant: str
    subject: str
    policy: str
    why: str
    scheduled: bool
    ended: bool


@dataclass(frozen=True, kw_only=True)
class Misfits:
    """The first MAX_TOLD of them, those that end before those that go on, and how many there are."""

    told: tuple[Misfit, ...] = ()
    count: int = 0


def foresee(snapshot: Snapshot, changes: Sequence[PolicyChange], *, end_live: bool) -> Misfits:
    """Returns what would not fit once the changes were made, and whether it would end."""
    gone = {change.name for change in changes if change.after is None}
    after = {policy.name: policy for policy in snapshot.policies() if policy.name not in gone}
    after |= {change.name: change.after for change in changes if change.after is not None}
    return _list_first(_find(snapshot, changes, after, end_live=end_live))


def settle(
    tx: Transaction, caller: Caller, changes: Sequence[PolicyChange], *, end_live: bool = False, proposal: str = ""
) -> tuple[Misfits, list[Grant]]:
    """Ends what is scheduled and does not fit since the changes, and with `end_live` what is live too.

    Returns all that does not fit, and what has ended: after the commit that must end what was passed on from it.
    """
    found = _find(tx, changes, {policy.name: policy for policy in tx.policies()}, end_live=end_live)
    ended: list[Grant] = []
    for each in found:
        grant = tx.grant(each.grant) if each.ended else None
        if grant is not None:
            revoked, event = revoke_as_misfit(grant, why=each.why, by=caller, now=tx.now)
            ended.append(tx.save_grant(revoked, replace(event, proposal=proposal)))
    return _list_first(found), ended


def _find(
    snapshot: Snapshot, changes: Sequence[PolicyChange], after: Mapping[str, Policy], *, end_live: bool
) -> list[Misfit]:
    """Returns all that does not fit. Who ends what is live looks at the policies of the set that are unchanged too."""
    looked_at = [change for change in changes if end_live or change.type is not ChangeType.UNCHANGED]
    if not looked_at:
        return []
    about_denies = any(policy.deny for change in looked_at for policy in (change.before, change.after) if policy)
    under = None if about_denies else [change.name for change in looked_at]
    judged = ((grant, misfit(grant, policies=after)) for grant in snapshot.live_under(under))
    unfit = sorted(((grant, why) for grant, why in judged if why), key=lambda found: found[0].name)
    live = [grant.name for grant, _ in unfit if grant.state(snapshot.now) is GrantState.ACTIVE]
    go_on = set(live[MAX_ENDED:] if end_live else live)
    return [
        Misfit(
            grant=grant.name,
            subject=grant.subject,
            policy=grant.policy,
            why=why,
            scheduled=grant.state(snapshot.now) is GrantState.SCHEDULED,
            ended=grant.name not in go_on,
        )
        for grant, why in unfit
    ]


def _list_first(found: Sequence[Misfit]) -> Misfits:
    first = sorted(found, key=lambda each: (not each.ended, each.grant))
    return Misfits(told=tuple(first[:MAX_TOLD]), count=len(found))
