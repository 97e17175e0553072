"""Holds everything that is sealed against its seals, and says what these are under another key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import func
from sqlmodel import col, select

from jit_service.domain.checks.cached_grant import condense
from jit_service.storage import rows
from jit_service.storage.forgotten import GrantBeginningRow, KnownNameRow
from jit_service.storage.readers.audit import AuditReader, Recomputed
from jit_service.storage.readers.locks import LockReader
from jit_service.storage.readers.log_beginning import beginning_name
from jit_service.storage.readers.policies import revision_name
from jit_service.storage.readers.seals import MISSING, SealedRow, SealReader
from jit_service.storage.sealing import GRANTS, TABLES, Sealer, Sums, exchange, live_text
from jit_service.storage.tables import (
    AuditBeginningRow,
    AuditPieceRow,
    DelegationRow,
    GrantChangeRow,
    GrantRow,
    LockRow,
    PolicyProposalRow,
    PolicyRevisionRow,
    PolicyRow,
    SignalRow,
)

_CHUNK: Final = 1000
_EVERYTHING: Final = 2**62
_SEALED: Final[tuple[Any, ...]] = (
    GrantRow,
    PolicyRow,
    SignalRow,
    DelegationRow,
    LockRow,
    PolicyProposalRow,
    GrantBeginningRow,
    KnownNameRow,
    PolicyRevisionRow,
    GrantChangeRow,
    AuditBeginningRow,
    AuditPieceRow,
)


class NewSeals(NamedTuple):
    """New seals of rows of one table: for each row the columns of its key, and those of its seals."""

    table: Any
    found: Sequence[tuple[Mapping[str, Any], Mapping[str, bytes | None]]]


class SealSums:
    """The sums of the seals that were met, under the key in effect and under the new one."""

    def __init__(self) -> None:
        self.old: Sums = {}
        self.new: Sums = {}

    def add(self, kind: str, *, old: bytes | None, new: bytes | None) -> None:
        self.old = exchange(self.old, kind, old=None, new=old)
        self.new = exchange(self.new, kind, old=None, new=new)


class ResealReader(SealReader, LockReader, AuditReader):
    """Reads everything that is sealed."""

    def count_sealed(self) -> int:
        """Returns how many rows are sealed."""
        return sum(self._session.exec(select(func.count()).select_from(table)).one() for table in _SEALED)

    def sealed_anew(self, under: Sealer, so_far: Recomputed, totals: SealSums) -> Iterator[NewSeals]:
        """Yields the seals of all rows under the key, some rows at a time, and adds them up in `totals`.

        `so_far` has the whole log. Raises StoreUnavailable for the first row that does not match its seal or its last
        record, and if a row is missing or too many.
        """
        # Raises unless there are as many that may stand as the head row says. Before the first seal is another one.
        list(self.locks)
        yield from self._facts_anew(under, so_far, totals)
        for kind in (GRANTS, *TABLES):
            self._sealer.demand_total(kind, totals.old.get(kind, 0), self._sums)
        yield from self._revisions_anew(under, so_far)
        yield from self._changes_anew(under)
        yield from self._beginnings_anew(under)
        yield from self._summaries_anew(under)

    def _facts_anew(self, under: Sealer, so_far: Recomputed, totals: SealSums) -> Iterator[NewSeals]:
        missing = {of for of, state in so_far.states.items() if state}
        for table, found in self.sealed_rows():
            seals = []
            for row in found:
                missing.discard(row.name)
                if difference := self.difference_of(row, so_far.states):
                    raise self._sealer.refuse(f"{row.name} {difference}")
                seals.append(({"name": row.name}, self._row_anew(table, row, under, totals)))
            yield NewSeals(table, seals)
        if missing:
            raise self._sealer.refuse(f"{min(missing)} {MISSING}")

    def _row_anew(self, table: Any, row: SealedRow, under: Sealer, totals: SealSums) -> dict[str, bytes | None]:
        seal = under.of(row.name, row.fact)
        if table is not GrantRow:
            totals.add(table.__tablename__, old=row.seal, new=seal)
            return {"seal": seal}
        live_seal = None
        if row.fact.end is None:
            text = live_text(condense(row.fact))
            self._sealer.demand_equal(row.name, self._sealer.of_live(text), row.live_seal)
            live_seal = under.of_live(text)
        if row.is_counted:
            totals.add(GRANTS, old=row.live_seal, new=live_seal)
        return {"seal": seal, "live_seal": live_seal}

    def _revisions_anew(self, under: Sealer, so_far: Recomputed) -> Iterator[NewSeals]:
        """Yields those of the revisions of policies. One that neither a seal nor a record vouches for gets none."""
        vouched = {(event.policy, event.policy_revision): event.states for _, event in self.carried_settings()}
        seals = []
        for row in self._session.exec(select(PolicyRevisionRow)):
            policy, key = rows.POLICIES.validate_python(row.document), (row.name, row.revision)
            told = so_far.revisions.get(key) or vouched.get(key, {}).get(row.name)
            if row.seal is not None:
                self._sealer.demand(revision_name(*key), policy, row.seal)
            elif told is not None:
                self._sealer.demand(row.name, policy, bytes.fromhex(told))
            else:
                continue
            of = {"name": row.name, "revision": row.revision}
            seals.append((of, {"seal": under.of(revision_name(*key), policy)}))
        yield NewSeals(PolicyRevisionRow, seals)

    def _changes_anew(self, under: Sealer) -> Iterator[NewSeals]:
        after = 0
        later = select(GrantChangeRow).order_by(col(GrantChangeRow.revision)).limit(_CHUNK)
        while found := self._session.exec(later.where(col(GrantChangeRow.revision) > after)).all():
            seals = []
            for row in found:
                name, fact = f"changes/{row.revision}", rows.change_fact(row.model_dump())
                self._sealer.demand(name, fact, row.seal)
                seals.append(({"revision": row.revision}, {"seal": under.of(name, fact)}))
            after = found[-1].revision
            self._session.expunge_all()
            yield NewSeals(GrantChangeRow, seals)

    def _beginnings_anew(self, under: Sealer) -> Iterator[NewSeals]:
        seals = []
        for row in self._session.exec(select(AuditBeginningRow)):
            name = beginning_name(row.seq)
            self._sealer.demand(name, row.document, row.seal)
            seals.append(({"seq": row.seq}, {"seal": under.of(name, row.document)}))
        yield NewSeals(AuditBeginningRow, seals)

    def _summaries_anew(self, under: Sealer) -> Iterator[NewSeals]:
        for found in self.summaries(after=0, until=_EVERYTHING):
            for each in found:
                wanted = self._sealer.of_summary(each.seq, each.hash, each.text)
                self._sealer.demand_equal(f"the piece of the audit log up to {each.seq}", wanted, each.seal)
            yield NewSeals(
                AuditPieceRow,
                [({"seq": each.seq}, {"seal": under.of_summary(each.seq, each.hash, each.text)}) for each in found],
            )
