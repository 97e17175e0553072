"""What was known at a past instant: grants from the log of their changes, policies and signals from the audit log.

Nothing of it is cached. The state at an instant is the one after the last commit that is not later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from pydantic_core import from_json
from sqlalchemy import Text, and_, cast, func, type_coerce
from sqlmodel import col, select

from jit_service.domain.audit.event import Event
from jit_service.domain.checks.past import locks_at
from jit_service.domain.conditions import signal
from jit_service.domain.conditions.signal import Signals
from jit_service.domain.grants.grant import Grant
from jit_service.domain.grants.lock import Locks
from jit_service.domain.policies.policy import Policy
from jit_service.storage import predicates, rows
from jit_service.storage.audit_records import record_at
from jit_service.storage.readers.grant_changes import GrantChangeReader
from jit_service.storage.readers.log_beginning import LogBeginningReader
from jit_service.storage.readers.policies import PolicyReader
from jit_service.storage.tables import GrantChangeRow, GrantRow, LockRow, SettingChangeRow

_CHUNK: Final = 10_000


class HeldScope(NamedTuple):
    """A grant that may have been live, with the resources and actions of its row."""

    grant: str
    subject: str
    resources: tuple[str, ...]
    actions: tuple[str, ...]


class PastReader(GrantChangeReader, PolicyReader, LogBeginningReader):
    """Reads the state at an instant `at`."""

    def record_begins_at(self) -> datetime | None:
        """Returns the instant from which on all is on record: that of the first audit record; None if there is none.

        Of a log that was pruned, it is the instant of the last record that is gone.
        """
        if self.log_beginning.was_pruned:
            return self.log_beginning.last_at
        first = record_at(self._log, 1)
        return None if first is None else first.event.at

    def grant_as_of(self, name: str, at: datetime) -> Grant | None:
        """Returns the grant as it was, None where no change up to then is recorded."""
        until = and_(col(GrantChangeRow.grant_name) == name, col(GrantChangeRow.at) <= at)
        wanted = select(GrantChangeRow).where(until).order_by(col(GrantChangeRow.revision).desc()).limit(1)
        found = self._changes(wanted)
        return found[0].grant if found else None

    def live_names_as_of(self, subject: str, at: datetime, *, limit: int) -> list[str]:
        """Returns the names of up to `limit` grants of the subject that may have been pending, scheduled or active."""
        held = and_(col(GrantRow.subject) == subject, predicates.was_live(at))
        return list(self._session.exec(select(GrantRow.name).where(held).order_by(col(GrantRow.name)).limit(limit)))

    def scopes_as_of(self, at: datetime, *, subject: str = "") -> Iterator[HeldScope]:
        """Yields the grants, or the subject's, that may have been scheduled or active, in no order.

        Resources and actions are those of now. They have not changed since the grant was approved.
        """
        resources, actions = (
            type_coerce(cast(column, Text), Text) for column in (col(GrantRow.resources), col(GrantRow.actions))
        )
        wanted: Any = select(GrantRow.name, GrantRow.subject, resources, actions).where(predicates.was_granted(at))
        if subject:
            wanted = wanted.where(col(GrantRow.subject) == subject)
        # There may be a million grants, but few scopes: each text is read once.
        known: dict[str, tuple[str, ...]] = {}
        for name, holder, *scope in self._connection.execute(wanted.execution_options(yield_per=_CHUNK)):
            on, to = (known.get(found) or known.setdefault(found, tuple(from_json(found))) for found in scope)
            yield HeldScope(name, holder, on, to)

    def locks_as_of(self, at: datetime) -> Locks:
        """Returns the locks that stood then, by name."""
        found = self._session.exec(select(LockRow).where(col(LockRow.created_at) <= at).order_by(col(LockRow.name)))
        return locks_at([self._sealed(row, rows.lock_of(row)) for row in found], at)

    def policies_as_of(self, at: datetime) -> list[Policy]:
        """Returns the policies that were there, each as it was, by name.

        Raises StoreUnavailable for a revision that is not as this service left it.
        """
        found = [self.recorded_revision(event) for event in self._last_changes(at, "policies/")]
        return sorted((policy for policy in found if policy.deleted_at is None), key=lambda policy: policy.name)

    def signals_as_of(self, at: datetime) -> Signals:
        """Returns the signals as conditions saw them then."""
        found = map(signal.recorded, self._last_changes(at, "signals/"))
        return signal.at((known for known in found if known is not None), at)

    def _last_changes(self, at: datetime, collection: str) -> list[Event]:
        """Returns the events of the last change of each policy, or of each signal, up to then, in order."""
        known = and_(
            col(SettingChangeRow.at) <= at, func.substr(SettingChangeRow.name, 1, len(collection)) == collection
        )
        last = select(func.max(SettingChangeRow.seq)).where(known).group_by(col(SettingChangeRow.name))
        carried = dict(self.carried_settings())
        return [event for seq in sorted(self._session.exec(last)) if (event := self._setting(seq, carried)) is not None]

    def _setting(self, seq: int, carried: Mapping[int, Event]) -> Event | None:
        if seq <= self.log_beginning.seq:
            return carried.get(seq)
        recorded = record_at(self._log, seq)
        return None if recorded is None else recorded.event
