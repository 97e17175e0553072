"""Compares each sealed row with its seal and with the last audit record that names it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from sqlmodel import Session, col, select

from jit_service.domain.checks.cached_grant import condense
from jit_service.storage import prepared, rows
from jit_service.storage.forgotten import GrantBeginningRow, KnownNameRow, grant_beginning_of, known_name_of
from jit_service.storage.readers.grants import GrantReader
from jit_service.storage.sealing import GRANTS, Sealer, Sums, exchange, live_text
from jit_service.storage.tables import (
    DelegationRow,
    GrantChangeRow,
    GrantRow,
    LockRow,
    PolicyProposalRow,
    PolicyRow,
    ReviewRow,
    SignalRow,
)

_SEALED_TABLES: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (PolicyRow, rows.policy_of),
    (SignalRow, rows.signal_of),
    (DelegationRow, rows.delegation_of),
    (LockRow, rows.lock_of),
    (PolicyProposalRow, rows.proposal_of),
    (GrantBeginningRow, grant_beginning_of),
    (KnownNameRow, known_name_of),
)

_CHUNK: Final = 1000
MISSING: Final = "is in the log, and not in the store"


SEALED_ANEW: Final = "sealed anew"
"""What stands for the seal of a row that the log knows only from before all rows were sealed with another key."""


class SealedRow(NamedTuple):
    """A row with the fact that it stands for. `live_seal` and `is_counted` are of grants: see `sealing.GRANTS`."""

    name: str
    fact: Any
    seal: bytes | None
    live_seal: bytes | None = None
    is_counted: bool = True


class SealReader(GrantReader):
    """Finds rows that the service has not written as they are."""

    def differences(self, states: Mapping[str, str]) -> Iterator[tuple[str, str] | None]:
        """Yields the name of each row that does not match its last record or its seal, with the reason.

        And None now and then, so that whoever waits can be told that it goes on. `states` are those of `Recomputed`.
        A row that they do not name is held against its seal alone: it is from before there were seals, or from before
        the first record that was recomputed.
        """
        missing = {of for of, state in states.items() if state}
        for _, found in self.sealed_rows():
            yield None
            for row in found:
                missing.discard(row.name)
                if difference := self.difference_of(row, states):
                    yield row.name, difference
        for of in sorted(missing):
            yield of, MISSING

    def difference_of(self, row: SealedRow, states: Mapping[str, str]) -> str:
        """Returns how the row differs from its last record or its seal; nothing if it does not."""
        state = states.get(row.name, SEALED_ANEW)
        if row.seal is None or self._sealer.of(row.name, row.fact) != bytes(row.seal):
            return "is not as this service left it"
        if state not in (SEALED_ANEW, bytes(row.seal).hex()):
            return "is not as its last record says"
        return ""

    def sealed_rows(self) -> Iterator[tuple[Any, list[SealedRow]]]:
        """Yields every row that has a seal of its own and that records name: some of one table at a time."""
        after = ""
        while found := prepared.GRANTS_AFTER.rows(self._connection, name=after, limit=_CHUNK):
            reviews = self._reviews_of(found)
            yield (
                GrantRow,
                [
                    SealedRow(row.name, rows.grant_of(row, reviews[row.name]), row.seal, row.live_seal, is_counted(row))
                    for row in found
                ],
            )
            after = found[-1].name
            self._session.expunge_all()
        for table, fact_of in _SEALED_TABLES:
            yield table, [SealedRow(row.name, fact_of(row), row.seal) for row in self._session.exec(select(table))]


def seal_rows(session: Session, sealer: Sealer) -> tuple[Sums, int]:
    """Seals every row as it is. Returns the sums of the seals, and the number of rows."""
    sums: Sums = {}
    count = 0
    for row in session.exec(select(GrantRow)):
        found = session.exec(
            select(ReviewRow).where(ReviewRow.grant_name == row.name).order_by(col(ReviewRow.position))
        )
        grant = rows.grant_of(row, list(found))
        row.seal = sealer.of(grant.name, grant)
        row.live_seal = None if grant.end is not None else sealer.of_live(live_text(condense(grant)))
        if is_counted(row):
            sums = exchange(sums, GRANTS, old=None, new=row.live_seal)
        count += 1
    for table, fact_of in _SEALED_TABLES:
        for row in session.exec(select(table)):
            row.seal = sealer.of(row.name, fact_of(row))
            sums = exchange(sums, table.__tablename__, old=None, new=row.seal)
            count += 1
    for change in session.exec(select(GrantChangeRow)):
        change.seal = sealer.of(f"changes/{change.revision}", rows.change_fact(change.model_dump()))
        count += 1
    session.flush()
    return sums, count


def is_counted(seals: Any) -> bool:
    """Whether the seal of the grant's row is part of the sum: it has not ended, nor is it recorded as expired."""
    return seals is not None and seals.ended_at is None and seals.run_out_at is None
