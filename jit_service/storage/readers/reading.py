"""One consistent state of the store, which every reader reads: connection, instant, head, seals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import Any, Final, TypeVar

from sqlalchemy import Connection
from sqlmodel import Session

from jit_service.domain.errors import StoreUnavailable
from jit_service.storage import postgresql, prepared
from jit_service.storage.audit_log import AuditLog
from jit_service.storage.head import Head
from jit_service.storage.policy_cache import NO_POLICIES, PolicyCache
from jit_service.storage.prepared import Statement
from jit_service.storage.sealing_keys import SealingKeys

Clock = Callable[[], datetime]
Fact = TypeVar("Fact")
_LONG_SECONDS: Final = 300


class Reading:
    """One committed state. `now` is read once, and is never below the latest instant of any decision (I13)."""

    def __init__(
        self,
        connection: Connection,
        clock: Clock,
        keys: SealingKeys,
        *,
        policy_cache: PolicyCache = NO_POLICIES,
        head: Statement = prepared.HEAD,
    ) -> None:
        found = read_head(connection, head)
        self._sealer, self._sums = keys.opening(found)
        self._connection = connection
        self.revision: int = found.revision
        self.seq: int = found.seq
        self.head_hash: bytes = found.hash
        self.now = max(clock(), found.time)
        self._lock_count: int = found.locks
        self._earlier_policies = policy_cache
        self.policy_cache = policy_cache if policy_cache.head == self.head else None

    @cached_property
    def _session(self) -> Session:
        """The ORM in the same transaction, for statements that few calls need."""
        return Session(self._connection)

    @property
    def head(self) -> Head:
        """Where the store is in its history."""
        return Head(revision=self.revision, seq=self.seq, hash=self.head_hash)

    @property
    def sealing_key(self) -> str:
        """The id of the key that sealed this state; every key of another id opens none of its rows."""
        return self._sealer.key_id

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Lets the transaction do nothing for minutes, where a server ends those that do nothing for seconds."""
        with postgresql.patiently(self._connection.connection.dbapi_connection, seconds=_LONG_SECONDS):
            yield

    def has_been_at(self, head: Head) -> bool:
        """Whether the head is in this history. A head of another history has another hash."""
        return head == self.head or head.is_followed_by(self.revision, self.record_hash(head.seq))

    def record_hash(self, seq: int) -> bytes | None:
        """Returns the hash of the audit record with the seq, or None if there is none, or none any more.

        Of a pruned record it is known where the log has once begun.
        """
        return self._log.hash_at(seq)

    @cached_property
    def _log(self) -> AuditLog:
        """The audit log in the same transaction."""
        return AuditLog.of(self._connection)

    def _sealed(self, row: Any, fact: Fact) -> Fact:
        """Returns the fact. Raises StoreUnavailable if the row does not match its seal."""
        self._sealer.demand(row.name, fact, row.seal)
        return fact


def read_head(connection: Connection, statement: Statement = prepared.HEAD) -> Any:
    """Returns the head row. Raises StoreUnavailable if there is none."""
    found = statement.rows(connection)
    if not found:
        raise StoreUnavailable("the store has no head row; run `jit-service migrate`")
    return found[0]
