"""Forgets ended grants, and old changes of grants, in a transaction (docs/adr/0071-keep-little-of-persons.md).

What is removed is named in the audit record of it, so that a grant that somebody else removed is found by whoever
verifies the log. What of a grant some rule still reads stays: the names of accounts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, delete, insert
from sqlmodel import col, select

from jit_service.domain.audit.event import Event
from jit_service.domain.errors import LostRace
from jit_service.domain.frozen import replace
from jit_service.domain.grants.grant import Grant
from jit_service.domain.grants.grant_beginning import GrantBeginning, over_at
from jit_service.storage import forgotten
from jit_service.storage.forgotten import GrantBeginningRow, KnownName, KnownNameRow
from jit_service.storage.readers.forgettable import ChangeWindow
from jit_service.storage.sealing import exchange
from jit_service.storage.snapshot import Snapshot
from jit_service.storage.tables import GrantChangeRow, GrantRow, ReviewRow, ToldRow

_PARTS: Final[tuple[tuple[Any, Any], ...]] = (
    (ReviewRow, ReviewRow.grant_name),
    (GrantChangeRow, GrantChangeRow.grant_name),
    (ToldRow, ToldRow.grant_name),
)


class Forgetting(Snapshot):
    """What a transaction can forget."""

    # The seals of rows that changed since the last audit record; empty text: the row is gone. The next record has them.
    _states: dict[str, str]

    def record(self, event: Event, *, about: Grant | None = None) -> None:
        """Appends the event to the audit log, as `Transaction` does."""
        raise NotImplementedError

    def forget_grants(self, settled: Sequence[Grant], event: Event) -> None:
        """Removes grants that `forgettable_grants` has found, and all that is theirs; with the event."""
        names = [grant.name for grant in settled]
        last = self.last_revision_of(names)
        self._keep_names(settled)
        for table, of_grant in _PARTS:
            self._session.execute(delete(table).where(col(of_grant).in_(names)))
        removed: Any = self._session.execute(delete(GrantRow).where(col(GrantRow.name).in_(names)))
        if removed.rowcount != len(names):
            raise LostRace("a grant that was to be forgotten is gone")
        self._states |= dict.fromkeys(names, "")
        self._move_beginning(
            over_at=_later(self.grant_beginning.over_at, *map(over_at, settled)),
            revision=max(self.grant_beginning.revision, last),
        )
        self.record(replace(event, revision=self.revision))

    def forget_changes(self, window: ChangeWindow) -> int:
        """Removes the changes up to the window's end that no answer about what came later needs. Returns how many.

        The caller records it.
        """
        count = 0
        for grant in window.grants:
            needed = self.needed_changes(grant, window.revision)
            gone = and_(
                col(GrantChangeRow.grant_name) == grant,
                col(GrantChangeRow.revision) <= window.revision,
                col(GrantChangeRow.revision).not_in(needed),
            )
            removed: Any = self._session.execute(delete(GrantChangeRow).where(gone))
            count += removed.rowcount
        self._move_beginning(
            revision=max(self.grant_beginning.revision, window.revision),
            changed_at=_later(self.grant_beginning.changed_at, window.at),
        )
        return count

    def _keep_names(self, settled: Iterable[Grant]) -> None:
        """Keeps the names that the accounts of requesters and reviewers had, for locks."""
        people = [
            person
            for grant in settled
            for person in (
                (grant.requester, grant.requester_account),
                *((review.reviewer, review.account) for review in grant.reviews),
            )
        ]
        known = {KnownName(principal=name, account=account) for name, account in people if account is not None}
        by_name = {each.name: each for each in known}
        there = set(self._session.exec(select(KnownNameRow.name).where(col(KnownNameRow.name).in_(by_name))))
        for name in sorted(by_name.keys() - there):
            columns = forgotten.known_name_columns(by_name[name])
            # No record names them, which would be long. Their sum tells if one is removed.
            self._put_sealed(KnownNameRow, by_name[name], columns, old=None)

    def _move_beginning(self, **changes: Any) -> None:
        """Stores from where on grants and changes are whole now, under a revision by which all workers learn of it."""
        self.revision += 1
        row = self._session.exec(select(GrantBeginningRow)).first()
        old = row.seal if row is not None else None
        beginning: GrantBeginning = replace(self.grant_beginning, moved_revision=self.revision, **changes)
        self._session.execute(delete(GrantBeginningRow))
        seal = self._put_sealed(GrantBeginningRow, beginning, forgotten.grant_beginning_columns(beginning), old=old)
        self._states[beginning.name] = seal.hex()
        # The cached one is of before.
        self.__dict__["grant_beginning"] = beginning

    def _put_sealed(self, table: Any, fact: GrantBeginning | KnownName, columns: Any, *, old: bytes | None) -> bytes:
        seal = self._sealer.of(fact.name, fact)
        self._sums = exchange(self._sums, table.__tablename__, old=old, new=seal)
        self._session.execute(insert(table).values(**columns, seal=seal))
        return seal


def _later(*instants: datetime | None) -> datetime | None:
    return max((instant for instant in instants if instant is not None), default=None)
