"""The conditions "live", "undecided", "over" and so on as SQL, once for all statements.

`now` is an instant, or a `bindparam` in a prepared statement.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, and_, or_
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from jit_service.storage.tables import DelegationRow, GrantRow, LockRow, OutboxRow, PolicyProposalRow

Scope = ColumnElement[bool]
Now = datetime | BindParameter[Any]


def undecided(now: Now) -> Scope:
    """Selects the requests whose deadline has not come. Those that somebody ended are among them."""
    return and_(col(GrantRow.expires_at).is_(None), col(GrantRow.request_expires_at) > now)


def granted(now: Now) -> Scope:
    """Selects the grants that are scheduled or active."""
    return and_(col(GrantRow.ended_at).is_(None), col(GrantRow.expires_at) > now)


def live(now: Now) -> Scope:
    """Selects the grants that are pending, scheduled or active."""
    return and_(col(GrantRow.ended_at).is_(None), or_(col(GrantRow.expires_at) > now, undecided(now)))


def was_granted_and_is_over(now: Now) -> Scope:
    """Selects the grants that gave access and are over."""
    over = or_(col(GrantRow.ended_at) <= now, col(GrantRow.expires_at) <= now)
    return and_(col(GrantRow.expires_at).is_not(None), over)


def was_granted(at: Now) -> Scope:
    """Selects the grants that may have been scheduled or active at a past instant, by the rows as they are now.

    No change sets an end that is already over, and nobody is ended twice. So a grant whose end is not later than `at`,
    or that somebody had ended by then, was over; one whose row has a later end may still have been pending.
    """
    not_ended = or_(col(GrantRow.ended_at).is_(None), col(GrantRow.ended_at) > at)
    return and_(col(GrantRow.created_at) <= at, not_ended, col(GrantRow.expires_at) > at)


def was_live(at: Now) -> Scope:
    """As `was_granted`, with those that may have been pending."""
    not_ended = or_(col(GrantRow.ended_at).is_(None), col(GrantRow.ended_at) > at)
    return and_(col(GrantRow.created_at) <= at, not_ended, or_(col(GrantRow.expires_at) > at, undecided(at)))


def end_unrecorded() -> Scope:
    """Selects the grants that nobody ended and whose end no event records: little, however many grants are kept.

    The partial indexes of `GrantRow` have this condition. Every live grant meets it.
    """
    return and_(col(GrantRow.run_out_at).is_(None), col(GrantRow.ended_at).is_(None))


def decision_awaited() -> Scope:
    """Selects the requests that nobody has decided, and whose end no event records."""
    return and_(end_unrecorded(), col(GrantRow.expires_at).is_(None))


def delegation_kept(now: Now) -> Scope:
    """Selects the delegations that are not over, also future ones."""
    return and_(col(DelegationRow.deleted_at).is_(None), col(DelegationRow.expires_at) > now)


def lock_counted() -> Scope:
    """Selects the locks that the head row counts: not lifted, and not recorded as expired."""
    return and_(col(LockRow.deleted_at).is_(None), col(LockRow.expiry_recorded_at).is_(None))


def proposal_undecided() -> Scope:
    """Selects the proposals that nobody has decided, lapsed ones too."""
    return col(PolicyProposalRow.decided_at).is_(None)


def due(receiver: str | BindParameter[str], now: Now) -> Scope:
    """Selects the receiver's notifications that are to be delivered now.

    One about a grant waits until the addressee has had all earlier ones about it, or they were given up.
    """
    mine = and_(col(OutboxRow.receiver) == receiver, col(OutboxRow.due_at) <= now)
    earlier = aliased(OutboxRow)
    awaited = select(earlier.seq).where(
        col(OutboxRow.about) != "",
        col(earlier.receiver) == receiver,
        col(earlier.addressee) == col(OutboxRow.addressee),
        col(earlier.about) == col(OutboxRow.about),
        col(earlier.seq) < col(OutboxRow.seq),
        col(earlier.gave_up_at).is_(None),
    )
    return and_(mine, col(OutboxRow.gave_up_at).is_(None), ~awaited.exists())


def is_forgettable(before: datetime, receivers: Collection[str]) -> Scope:
    """Selects the notifications that were given up before the instant, and the older ones of other receivers."""
    ownerless = and_(col(OutboxRow.receiver).not_in(receivers), col(OutboxRow.at) < before)
    return or_(col(OutboxRow.gave_up_at) < before, ownerless)


def text_of(scope: Scope) -> str:
    """Returns the condition as SQL with its values in it, for statements that the driver alone runs."""
    return f"({scope.compile(compile_kwargs={'literal_binds': True})})"
