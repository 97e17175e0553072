"""The outbox: notifications that commits have left and that are not delivered yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, delete, update
from sqlmodel import Session, col, select

from jit_service.domain.audit.event import EventType, RecordedEvent
from jit_service.domain.notification import CROWD, LARGEST_CROWD, NEVER_IN_A_DIGEST, message_id
from jit_service.storage import predicates
from jit_service.storage.audit_log import AuditLog
from jit_service.storage.audit_records import record_at
from jit_service.storage.tables import OutboxRow, SentMessageRow

FORGOTTEN_AT_ONCE: Final = 500
"""How many notifications one transaction forgets at most."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A notification that this process is to deliver, from `at` until its lease ends.

    `recorded` is None if the audit log has lost the record, or if it cannot be read. `earlier` is what the receiver
    called the message about the same grant that the addressee has; empty where there is none.
    """

    receiver: str
    addressee: str
    seq: int
    about: str
    attempts: int
    at: datetime
    recorded: RecordedEvent | None
    earlier: str = ""


@dataclass(frozen=True, kw_only=True)
class Undelivered:
    """A notification that is not delivered: the next attempt is at `due_at`, or there is none since `gave_up_at`."""

    id: str
    receiver: str
    addressee: str
    type: str
    at: datetime
    attempts: int
    due_at: datetime
    gave_up_at: datetime | None
    fault: str


class Outbox:
    """The outbox in one transaction, at the instant `now`."""

    def __init__(self, session: Session, log: AuditLog, *, now: datetime) -> None:
        self._session = session
        self._log = log
        self.now = now

    def claim(self, receiver: str, *, lease: timedelta) -> Claim | None:
        """Claims the receiver's next due notification; None if none is due. It is due again when the lease ends."""
        wanted = select(OutboxRow).where(predicates.due(receiver, self.now))
        # Skip what another process is claiming, and do not wait for it.
        wanted = wanted.order_by(col(OutboxRow.due_at), col(OutboxRow.seq)).limit(1).with_for_update(skip_locked=True)
        row = self._session.exec(wanted).first()
        return None if row is None else self._claimed(row, lease)

    def claim_crowd(self, claim: Claim, *, lease: timedelta) -> list[Claim]:
        """Claims what else is due for the claim's addressee, the oldest first, where it is a crowd with the claim.

        Else it claims nothing. There is one for each grant, since a later one about it is not due.
        """
        if claim.recorded is None or claim.recorded.event.type in NEVER_IN_A_DIGEST:
            return []
        others = and_(
            predicates.due(claim.receiver, self.now),
            col(OutboxRow.addressee) == claim.addressee,
            col(OutboxRow.type).not_in(NEVER_IN_A_DIGEST),
        )
        wanted = select(OutboxRow).where(others).order_by(col(OutboxRow.seq)).limit(LARGEST_CROWD - 1)
        found = [row for row in self._session.exec(wanted.with_for_update(skip_locked=True)) if self._recorded(row.seq)]
        return [self._claimed(row, lease) for row in found] if len(found) + 1 >= CROWD else []

    def _claimed(self, row: OutboxRow, lease: timedelta) -> Claim:
        claim = Claim(
            receiver=row.receiver,
            addressee=row.addressee,
            seq=row.seq,
            about=row.about,
            attempts=row.attempts + 1,
            at=self.now,
            recorded=self._recorded(row.seq),
            earlier=self._earlier(row),
        )
        values = {"attempts": claim.attempts, "due_at": self.now + lease}
        self._session.execute(update(OutboxRow).where(_is_of(claim)).values(**values))
        return claim

    def remove(self, claim: Claim) -> None:
        """Removes what was delivered, even if another process has claimed it again meanwhile."""
        self._session.execute(delete(OutboxRow).where(_is_of(claim)))

    def keep_reference(self, claim: Claim, reference: str) -> None:
        """Keeps what the receiver calls the message, for the next one about the same grant, until `forget`."""
        key = {"receiver": claim.receiver, "addressee": claim.addressee, "about": claim.about}
        self._session.merge(SentMessageRow(**key, reference=reference, at=self.now))
        self._session.flush()

    def put_off(self, claim: Claim, fault: str, *, until: datetime) -> None:
        """Schedules another attempt, unless another process has claimed it meanwhile."""
        self._update_claim(claim, due_at=until, fault=fault)

    def give_up(self, claim: Claim, fault: str) -> None:
        """Keeps what was not delivered, and schedules no further attempt."""
        self._update_claim(claim, gave_up_at=self.now, fault=fault)

    def waiting(self, *, only_given_up: bool = False) -> list[Undelivered]:
        """Returns the notifications that are not delivered, the oldest first."""
        wanted = select(OutboxRow)
        if only_given_up:
            wanted = wanted.where(col(OutboxRow.gave_up_at).is_not(None))
        ordered = wanted.order_by(col(OutboxRow.seq), col(OutboxRow.receiver), col(OutboxRow.addressee))
        return [
            _waiting(row, hash_)
            for row in self._session.exec(ordered)
            if (hash_ := self._log.hash_at(row.seq)) is not None
        ]

    def retry(self, *, receivers: Collection[str], seqs: Collection[int]) -> int:
        """Makes failed ones due now, with all attempts left, only of these receivers and seqs (empty: all)."""
        wanted = col(OutboxRow.fault) != ""
        if receivers:
            wanted = and_(wanted, col(OutboxRow.receiver).in_(receivers))
        if seqs:
            wanted = and_(wanted, col(OutboxRow.seq).in_(seqs))
        values: dict[str, Any] = {"attempts": 0, "due_at": self.now, "gave_up_at": None}
        result: Any = self._session.execute(update(OutboxRow).where(wanted).values(**values))
        return int(result.rowcount)

    def forget(self, *, before: datetime, receivers: Collection[str]) -> dict[str, int]:
        """Forgets what was given up before the instant, older ones of other receivers, and older references.

        Returns how many notifications it forgot by receiver, FORGOTTEN_AT_ONCE together at most.
        """
        self._session.execute(delete(SentMessageRow).where(col(SentMessageRow.at) < before))
        key = (col(OutboxRow.receiver), col(OutboxRow.addressee), col(OutboxRow.seq))
        wanted = select(*key).where(predicates.is_forgettable(before, receivers)).order_by(*key)
        found = self._session.exec(wanted.limit(FORGOTTEN_AT_ONCE).with_for_update(skip_locked=True)).all()
        for receiver, addressee, seq in found:
            this = and_(key[0] == receiver, key[1] == addressee, key[2] == seq)
            self._session.execute(delete(OutboxRow).where(this))
        return dict(Counter(receiver for receiver, _, _ in found))

    def _update_claim(self, claim: Claim, **values: Any) -> None:
        mine = and_(_is_of(claim), col(OutboxRow.attempts) == claim.attempts)
        self._session.execute(update(OutboxRow).where(mine).values(**values))

    def _recorded(self, seq: int) -> RecordedEvent | None:
        recorded = record_at(self._log, seq)
        return None if recorded is None or recorded.event.type is EventType.UNREADABLE else recorded

    def _earlier(self, row: OutboxRow) -> str:
        if not row.about:
            return ""
        sent = self._session.get(SentMessageRow, (row.receiver, row.addressee, row.about))
        return "" if sent is None else sent.reference


def _is_of(claim: Claim) -> ColumnElement[bool]:
    mine = and_(col(OutboxRow.receiver) == claim.receiver, col(OutboxRow.addressee) == claim.addressee)
    return and_(mine, col(OutboxRow.seq) == claim.seq)


def _waiting(row: OutboxRow, hash_: bytes) -> Undelivered:
    return Undelivered(
        id=message_id(row.seq, hash_),
        receiver=row.receiver,
        addressee=row.addressee,
        type=row.type,
        at=row.at,
        attempts=row.attempts,
        due_at=row.due_at,
        gave_up_at=row.gave_up_at,
        fault=row.fault,
    )
