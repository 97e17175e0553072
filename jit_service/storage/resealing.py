"""The write transaction that seals everything in the store with another key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import and_, bindparam, text, update
from sqlmodel import col

from jit_service.domain.audit.event import Event
from jit_service.domain.frozen import replace
from jit_service.domain.tokens.signing_key import SigningKey
from jit_service.storage.readers.audit import Recomputed
from jit_service.storage.readers.resealing import NewSeals, SealSums
from jit_service.storage.sealing import Sealer
from jit_service.storage.tables import SigningKeyRow
from jit_service.storage.transaction import Transaction

# A piece that is merged meanwhile would keep a seal of the old key: whoever writes one waits until the commit, and
# then looks again at which key is in effect.
_KEEP_PIECES: Final = "LOCK TABLE audit_piece IN SHARE ROW EXCLUSIVE MODE"


class ResealingTransaction(Transaction):
    """Seals everything anew: all of it, or by a rollback nothing."""

    def lock_pieces(self) -> None:
        """Lets nobody add a piece of the audit log until the commit; on SQLite nobody else writes anyway."""
        if self._connection.dialect.name == "postgresql":
            self._connection.execute(text(_KEEP_PIECES))

    def seal_anew(
        self, under: Sealer, so_far: Recomputed, signing_keys: Sequence[SigningKey], *, report: Callable[[int], None]
    ) -> int:
        """Seals every row and the head with the key, and returns how many rows; `report` is told how many so far.

        `so_far` has the whole log, `signing_keys` are all of them as they are sealed with the new key. The caller has
        called `lock_pieces` before it read anything. Raises StoreUnavailable for what does not match its seal.
        """
        totals, count = SealSums(), 0
        for seals in self.sealed_anew(under, so_far, totals):
            self._write_seals(seals)
            count += len(seals.found)
            report(count)
        self._sums = totals.new
        for key in signing_keys:
            wanted = col(SigningKeyRow.kid) == key.kid
            self._session.execute(update(SigningKeyRow).where(wanted).values(sealed=key.sealed))
        self._sealer = under
        # Whoever keeps sums of seals looks at the head again when it has another revision.
        self._next_revision()
        return count

    def record_resealed(self, event: Event) -> None:
        """Appends the event at the new revision."""
        self.record(replace(event, revision=self.revision))

    def _write_seals(self, seals: NewSeals) -> None:
        if not seals.found:
            return
        columns: Any = seals.table.__table__.c
        key, sealed = seals.found[0]
        of = and_(*(columns[name] == bindparam(f"of_{name}") for name in key))
        statement = update(seals.table.__table__).where(of).values({name: bindparam(f"new_{name}") for name in sealed})
        self._connection.execute(
            statement,
            [
                {f"of_{name}": value for name, value in key.items()}
                | {f"new_{name}": seal for name, seal in new.items()}
                for key, new in seals.found
            ],
        )
