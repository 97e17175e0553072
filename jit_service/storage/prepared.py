"""The statements of every write, which the driver runs."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, Final

from sqlalchemy import and_, bindparam, insert, or_, select, update
from sqlmodel import col

from jit_service.storage.statement import Statement
from jit_service.storage.tables import (
    AuditRow,
    DelegationRow,
    GrantRow,
    HeadRow,
    Instant,
    LockRow,
    PolicyRow,
    ReplayRow,
    ReviewRow,
    SignalRow,
)

_GRANTS: Final = select(GrantRow.__table__)  # type: ignore[attr-defined]
_NOW: Final = bindparam("now", type_=Instant)
_LIVE: Final = and_(col(GrantRow.ended_at).is_(None), col(GrantRow.expires_at) > _NOW)
_UNDECIDED: Final = and_(col(GrantRow.expires_at).is_(None), col(GrantRow.request_expires_at) > _NOW)
HEAD: Final = Statement(select(HeadRow.__table__))  # type: ignore[attr-defined]
LOCKED_HEAD: Final = Statement(select(HeadRow.__table__).with_for_update())  # type: ignore[attr-defined]
GRANT: Final = Statement(_GRANTS.where(col(GrantRow.name) == bindparam("name")))
REVIEWS: Final = Statement(
    select(ReviewRow.__table__)  # type: ignore[attr-defined]
    .where(col(ReviewRow.grant_name) == bindparam("name"))
    .order_by(col(ReviewRow.position))
)
LIVE_GRANTS: Final = Statement(
    _GRANTS.where(col(GrantRow.subject) == bindparam("subject"), col(GrantRow.ended_at).is_(None))
    .where(or_(col(GrantRow.expires_at) > _NOW, _UNDECIDED))
    .order_by(col(GrantRow.name))
)
CHILDREN: Final = Statement(
    _GRANTS.where(col(GrantRow.parent) == bindparam("parent"), _LIVE).order_by(col(GrantRow.name))
)
DELEGATIONS_TO: Final = Statement(
    select(DelegationRow.__table__)  # type: ignore[attr-defined]
    .where(col(DelegationRow.delegate) == bindparam("delegate"), col(DelegationRow.deleted_at).is_(None))
    .where(col(DelegationRow.starts_at) <= _NOW, col(DelegationRow.expires_at) > _NOW)
    .order_by(col(DelegationRow.name))
)
LOCKS: Final = Statement(
    select(LockRow.__table__)  # type: ignore[attr-defined]
    .where(col(LockRow.deleted_at).is_(None), col(LockRow.expiry_recorded_at).is_(None))
    .order_by(col(LockRow.name))
)
SIGNALS: Final = Statement(select(SignalRow.__table__).order_by(col(SignalRow.name)))  # type: ignore[attr-defined]
CHANGED_POLICIES: Final = Statement(
    select(col(PolicyRow.name), col(PolicyRow.document), col(PolicyRow.seal)).where(
        col(PolicyRow.revision) > bindparam("revision")
    )
)
RECORD_HASH: Final = Statement(select(col(AuditRow.hash)).where(col(AuditRow.seq) == bindparam("seq")))
GRANT_SEALS: Final = Statement(
    select(col(GrantRow.seal), col(GrantRow.live_seal), col(GrantRow.ended_at), col(GrantRow.run_out_at)).where(
        col(GrantRow.name) == bindparam("name")
    )
)
REPLAY: Final = Statement(
    select(ReplayRow.__table__).where(col(ReplayRow.request_id) == bindparam("request_id"))  # type: ignore[attr-defined]
)
MOVE_HEAD: Final = Statement(
    update(HeadRow.__table__),  # type: ignore[attr-defined]
    columns=("revision", "seq", "hash", "time", "locks", "sums", "seal"),
)


@cache
def inserting(table: Any) -> Statement:
    """Returns the INSERT of a whole row."""
    return Statement(insert(table.__table__).inline())


@cache
def seal(table: Any) -> Statement:
    """Returns the SELECT of a row's seal."""
    return Statement(select(col(table.seal)).where(col(table.name) == bindparam("name")))


@lru_cache(maxsize=256)
def updating(table: Any, columns: tuple[str, ...]) -> Statement:
    """Returns the UPDATE of these columns, of the row as it was read."""
    known = table.__table__
    as_read = and_(known.c.name == bindparam("read_name"), known.c.revision == bindparam("read_revision"))
    return Statement(update(known).where(as_read), columns=columns)
