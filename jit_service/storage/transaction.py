"""What can be written in one transaction, under the lock of the head row.

Writes happen one after another: what a transaction reads is the latest commit, the revisions and audit seqs that it
takes have no gaps, and commit order is their order. No change of a grant or policy can be stored without its audit
event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, and_, delete, insert, or_, update
from sqlmodel import col, select

from jit_service.domain.audit.beginning import Beginning
from jit_service.domain.audit.chain import link
from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.checks.cached_grant import condense
from jit_service.domain.conditions.signal import Signal
from jit_service.domain.errors import LostRace, StoreUnavailable
from jit_service.domain.frozen import replace
from jit_service.domain.grants.deadlines import ends_soon, escalated_event, expires_soon_event, has_escalated
from jit_service.domain.grants.delegation import Delegation
from jit_service.domain.grants.grant import Grant
from jit_service.domain.grants.lock import Lock
from jit_service.domain.notification import NEVER, Subscription
from jit_service.domain.policies.policy import Policy
from jit_service.domain.policies.proposal import Proposal
from jit_service.domain.routing import MAY_ASK, Address, Route, Told, told_of
from jit_service.domain.tokens.signing_key import SigningKey
from jit_service.storage import prepared, rows
from jit_service.storage.audit_records import payload_at
from jit_service.storage.audit_summary import FIELDS
from jit_service.storage.forgetting import Forgetting
from jit_service.storage.policy_cache import NO_POLICIES, PolicyCache
from jit_service.storage.prepared import Statement
from jit_service.storage.readers.log_beginning import beginning_name, digest_of_carried
from jit_service.storage.readers.policies import revision_name
from jit_service.storage.readers.reading import Clock
from jit_service.storage.readers.replays import Replay
from jit_service.storage.readers.seals import is_counted
from jit_service.storage.sealing import GRANTS, exchange, live_text, sums_text
from jit_service.storage.sealing_keys import SealingKeys
from jit_service.storage.tables import (
    AuditBeginningRow,
    AuditRow,
    DelegationRow,
    GrantChangeRow,
    GrantRow,
    LockRow,
    OutboxRow,
    PolicyProposalRow,
    PolicyRevisionRow,
    PolicyRow,
    ReplayRow,
    ReviewRow,
    SettingChangeRow,
    SignalRow,
    SigningKeyRow,
    TokenDenialRow,
    ToldRow,
)

Sealed = Policy | Signal | Delegation | Lock | Proposal
Saved = TypeVar("Saved", Signal, Delegation, Lock, Proposal)


class Transaction(Forgetting):
    """What can be written under the lock of the head row."""

    def __init__(
        self,
        connection: Connection,
        clock: Clock,
        keys: SealingKeys,
        *,
        policy_cache: PolicyCache = NO_POLICIES,
        subscriptions: Sequence[Subscription] = (),
        routes: Sequence[Route] = (),
    ) -> None:
        super().__init__(connection, clock, keys, policy_cache=policy_cache, head=prepared.LOCKED_HEAD)
        self._subscriptions = subscriptions
        self._routes = routes
        # Seals of rows that were written since the last audit record; the next record names them.
        self._states: dict[str, str] = {}
        # What the commit records, each with the grant that it led to, for whoever counts it.
        self.recorded: list[tuple[Event, Grant | None]] = []
        # Grants as they are stored. Nobody else can change them before this transaction commits.
        self._stored: dict[str, Grant] = {}

    def save_grant(self, grant: Grant, event: Event) -> Grant:
        """Stores the grant that follows from the revision that was read, with its event. Returns it as stored.

        Raises LostRace if the stored grant has changed since it was read.
        """
        saved = self._save_grant(grant, event.type)
        self.record(replace(event, revision=saved.revision), about=saved)
        return saved

    def save_uses(self, grants: Iterable[Grant], event: Event) -> None:
        """Stores the grants that one check used, with its one event. Raises LostRace as `save_grant` does.

        The grants keep their revision, and so their etag: a use does not make an approver's or revoker's etag stale.
        """
        for grant in grants:
            self._update_grant(grant, grant)
            used = rows.GrantChange(revision=self._next_revision(), type=event.type, at=self.now, grant=grant)
            self._insert_change(rows.use_columns(used))
        self.record(event)

    def _save_grant(self, grant: Grant, type_: EventType) -> Grant:
        saved = replace(grant, revision=self._next_revision())
        there = self._count_reviews(grant)
        if grant.revision == 0:
            columns = rows.grant_columns(saved) | self._seals_of(saved, before=None)
            self._insert(
                GrantRow, columns, run_out_at=None, overdue_recorded_at=None, warned_of=None, escalated_of=None
            )
            self._stored[saved.name] = saved
        else:
            self._update_grant(grant, saved)
        for position in range(there, len(saved.reviews)):
            self._insert(ReviewRow, rows.review_columns(saved, position))
        self._leave_change(saved, type_, saved.revision)
        return saved

    def _leave_change(self, grant: Grant, type_: EventType, revision: int) -> None:
        """Appends the change to the log that watchers read."""
        change = rows.GrantChange(revision=revision, type=type_, at=self.now, grant=grant)
        self._insert_change(rows.change_columns(change))

    def _insert_change(self, columns: dict[str, Any]) -> None:
        seal = self._sealer.of(f"changes/{columns['revision']}", rows.change_fact(columns))
        self._insert(GrantChangeRow, columns, seal=seal)

    def save_delegation(self, delegation: Delegation, event: Event) -> Delegation:
        """Stores the delegation that follows from the revision that was read, with its event. Returns it as stored."""
        return self._save(DelegationRow, delegation, rows.delegation_columns, event)

    def save_signal(self, signal: Signal, event: Event) -> Signal:
        """Stores the signal that follows from the revision that was read, with its event. Returns it as stored."""
        return self._save(SignalRow, signal, rows.signal_columns, event)

    def save_proposal(self, proposal: Proposal, event: Event) -> Proposal:
        """Stores the proposal that follows from the revision that was read, with its event. Returns it as stored."""
        return self._save(PolicyProposalRow, proposal, rows.proposal_columns, event, lapse_recorded=False)

    def save_lock(self, lock: Lock, event: Event) -> Lock:
        """Stores the lock that follows from the revision that was read, with its event. Returns it as stored."""
        self._lock_count += 1 if lock.revision == 0 else -1
        return self._save(LockRow, lock, rows.lock_columns, event, expiry_recorded_at=None)

    def record_lock_over(self, lock: Lock, event: Event) -> None:
        """Records, once, that the lock expired. The lock itself does not change."""
        if self._mark(LockRow, lock.name, "expiry_recorded_at", self.now):
            self._lock_count -= 1
            self.record(replace(event, revision=self.revision))

    def record_lapse(self, proposal: Proposal, event: Event) -> None:
        """Records, once, that nobody decided the proposal in time. The proposal itself does not change."""
        if self._mark(PolicyProposalRow, proposal.name, "lapse_recorded", True, unmarked=False):
            self.record(replace(event, revision=self.revision))

    def save_policy(self, policy: Policy, event: Event) -> Policy:
        """Stores the policy that follows from the revision that was read, with its event. Returns it as stored.

        Raises LostRace if the stored policy has changed since it was read.
        """
        saved = replace(policy, revision=self._next_revision())
        document = rows.POLICIES.dump_python(saved, mode="json")
        columns = {
            "name": saved.name,
            "revision": saved.revision,
            "deleted_at": saved.deleted_at,
            "document": document,
        }
        as_stored = rows.POLICIES.validate_python(document)
        self._write(PolicyRow, policy, as_stored, columns)
        revision = {"name": saved.name, "revision": saved.revision, "document": document}
        self._insert(
            PolicyRevisionRow, revision, seal=self._sealer.of(revision_name(saved.name, saved.revision), as_stored)
        )
        self.record(replace(event, revision=saved.revision, policy_revision=saved.revision))
        if self.policy_cache is not None:
            self.policy_cache = self.policy_cache.with_changed([as_stored], head=self.head)
        return saved

    def delete_signal(self, signal: Signal, event: Event) -> None:
        """Removes the signal that was read, with its event. Raises LostRace if it has changed since."""
        self._count(SignalRow, signal.name, new=None)
        self._states[signal.name] = ""
        as_read = and_(col(SignalRow.name) == signal.name, col(SignalRow.revision) == signal.revision)
        result: Any = self._session.execute(delete(SignalRow).where(as_read))
        if result.rowcount != 1:
            raise LostRace(f"{signal.name} was changed by another call; read it again")
        self.record(replace(event, revision=self._next_revision()))

    def add_signing_key(self, key: SigningKey, event: Event) -> None:
        """Stores a new key with its event."""
        columns = {"created_at": key.created_at, "signs_at": key.signs_at, "sealed": key.sealed}
        self._insert(SigningKeyRow, columns, kid=key.kid, last_expires_at=None)
        self.record(event)

    def remove_signing_key(self, key: SigningKey, event: Event) -> None:
        """Removes a key with its event."""
        self._session.execute(delete(SigningKeyRow).where(col(SigningKeyRow.kid) == key.kid))
        self.record(event)

    def save_token(self, key: SigningKey, *, expires_at: datetime, event: Event) -> None:
        """Records that a token was issued, and how long its key must be kept for it. The token itself is not stored."""
        last = max(expires_at, key.last_expires_at or expires_at)
        self._session.execute(
            update(SigningKeyRow).where(col(SigningKeyRow.kid) == key.kid).values(last_expires_at=last)
        )
        self.record(event)

    def deny_token(self, token_id: str, *, expires_at: datetime, event: Event) -> None:
        """Denies a token until it expires, with the event."""
        self._insert(TokenDenialRow, {"token_id": token_id, "expires_at": expires_at})
        self.record(event)

    def forget_old_denials(self) -> None:
        """Removes the denials of tokens that have expired."""
        self._session.execute(delete(TokenDenialRow).where(col(TokenDenialRow.expires_at) <= self.now))

    def record_run_out(self, grant: Grant, event: Event) -> None:
        """Records, once, that the grant expired or its request lapsed. Of the grant only the revision changes."""
        expired = replace(grant, revision=self.revision + 1)
        before = self._grant_seals(grant.name)
        seal = self._fact_seal(expired)
        if self._mark(GrantRow, grant.name, "run_out_at", self.now, revision=expired.revision, seal=seal):
            self._sums = exchange(self._sums, GRANTS, old=before.live_seal if is_counted(before) else None, new=None)
            self._next_revision()
            self._leave_change(expired, event.type, expired.revision)
            self.record(replace(event, revision=expired.revision), about=expired)

    def record_overdue(self, grant: Grant, event: Event) -> None:
        """Records, once, that the grant's review is overdue. The grant itself does not change."""
        if self._mark(GrantRow, grant.name, "overdue_recorded_at", self.now):
            self.record(replace(event, revision=self.revision), about=grant)

    def record_ending_soon(self, grant: Grant) -> None:
        """Records, once for each end, that the grant ends soon. The grant itself does not change."""
        if self._mark_due(GrantRow.warned_of, GrantRow.warns_at, grant) and ends_soon(grant, now=self.now):
            self.record(replace(expires_soon_event(grant, now=self.now), revision=self.revision), about=grant)

    def record_escalated(self, grant: Grant) -> None:
        """Records, once for each step that is waited for, that it has escalated. The grant itself does not change."""
        if self._mark_due(GrantRow.escalated_of, GrantRow.escalates_at, grant) and has_escalated(grant, now=self.now):
            self.record(replace(escalated_event(grant, now=self.now), revision=self.revision), about=grant)

    def record(self, event: Event, *, about: Grant | None = None) -> None:
        """Appends the event to the audit log, and leaves a notification for each addressee of every receiver that
        wants it, and each address that the routes lead to. `about` is the grant that the event led to."""
        payload = rows.payload_of(replace(event, states=self._states) if self._states else event)
        self._states = {}
        self.recorded.append((event, about))
        self.seq += 1
        self.head_hash = link(self.head_hash, self.seq, payload)
        self._insert(AuditRow, {"seq": self.seq, "hash": self.head_hash, "payload": payload, "count": None})
        if event.setting:
            self._insert(SettingChangeRow, {"seq": self.seq, "at": event.at, "name": event.setting, "payload": None})
        addressed = {
            (subscription.receiver, addressee)
            for subscription in self._subscriptions
            if subscription.wants(event)
            for addressee in subscription.addressees
        }
        addressed |= self._routed(event, about)
        if addressed:
            columns = {"seq": self.seq, "type": event.type, "at": event.at, "due_at": self.now, "about": event.grant}
            columns |= {"attempts": 0, "fault": ""}
            waiting = [columns | {"receiver": to[0], "addressee": to[1]} for to in sorted(addressed)]
            self._session.execute(insert(OutboxRow), waiting)

    def prune_audit(self, beginning: Beginning, event: Event, *, since: Beginning, left_until: int = 0) -> None:
        """Prunes the records after one beginning of the log up to a later one, with the event.

        The caller has read them there. Nobody sees them from then on, but pieces up to `left_until` are left where
        they are until their partition is dropped. Raises LostRace if the log does not begin at `since`, or no piece
        ends there.
        """
        if self.log_beginning.seq != since.seq or self.record_hash(beginning.seq) != bytes.fromhex(beginning.hash):
            raise LostRace(f"the audit log was pruned by another process, or is not merged up to {beginning.seq}")
        carried = self._carry_settings(beginning.seq)
        document = rows.BEGINNINGS.dump_python(replace(beginning, carried=carried), mode="json")
        gone = max(since.seq, left_until)
        if gone < beginning.seq:
            self._log.delete_pieces(after=gone, until=beginning.seq, fields=FIELDS.values())
        seal = self._sealer.of(beginning_name(beginning.seq), document)
        columns = {"seq": beginning.seq, "hash": bytes.fromhex(beginning.hash), "document": document}
        self._insert(AuditBeginningRow, columns, seal=seal)
        # Nobody can be told any more of what was not delivered.
        self._session.execute(delete(OutboxRow).where(col(OutboxRow.seq) <= beginning.seq))
        self.record(event)

    def _carry_settings(self, until: int) -> str:
        """Keeps the last change of each policy and signal beyond its record, and forgets those before it.

        Returns the digest of all that are kept so.
        """
        changes = self._session.exec(
            select(SettingChangeRow).where(col(SettingChangeRow.seq) <= until).order_by(col(SettingChangeRow.seq))
        )
        last = {row.name: row for row in changes}
        kept: dict[int, tuple[str, bytes]] = {}
        for name, row in last.items():
            payload = row.payload if row.payload is not None else payload_at(self._log, row.seq)
            if payload is None or rows.event_of(payload).type is EventType.UNREADABLE:
                raise StoreUnavailable(f"record {row.seq} is not as it was recorded; verify the log")
            if rows.event_of(payload).type not in (EventType.POLICY_DELETED, EventType.SIGNAL_DELETED):
                kept[row.seq] = (name, payload)
        gone = and_(col(SettingChangeRow.seq) <= until, col(SettingChangeRow.seq).not_in(kept))
        self._session.execute(delete(SettingChangeRow).where(gone))
        for seq, (_, payload) in kept.items():
            one = update(SettingChangeRow).where(col(SettingChangeRow.seq) == seq)
            self._session.execute(one.values(payload=payload))
        return digest_of_carried((seq, *kept[seq]) for seq in sorted(kept))

    def _routed(self, event: Event, about: Grant | None) -> set[tuple[str, str]]:
        """Returns the receivers and addressees that the routes lead to, and keeps whom to tell of the grant's end."""
        if not self._routes or event.type in NEVER:
            return set()
        before = self.told_before(about.name) if about is not None else []
        policy = self.policy(about.policy) if about is not None else None
        usable = self.usable_delegations() if event.type in MAY_ASK else ()
        locks = self.locks
        lent = [delegation for delegation in usable if locks.on_right(delegation.right) is None]
        told = told_of(event, self._routes, grant=about, policy=policy, before=before, delegations=lent)
        if about is not None:
            self._keep_told(about.name, told, before)
        return {(address.receiver, address.addressee) for address in told.addresses}

    def _keep_told(self, grant: str, told: Told, before: Sequence[Address]) -> None:
        known = {address[:2] for address in before}
        new = [address for address in told.kept if address[:2] not in known and not told.is_over]
        if new:
            self._session.execute(insert(ToldRow), [address._asdict() | {"grant_name": grant} for address in new])
        if told.is_over and before:
            self._session.execute(delete(ToldRow).where(col(ToldRow.grant_name) == grant))

    def remember(self, request_id: str, replay: Replay) -> None:
        """Keeps the answer, to be given again if the same request is repeated."""
        self._insert(
            ReplayRow,
            {
                "request_id": request_id,
                "principal": replay.principal,
                "digest": replay.digest,
                "answered_at": replay.answered_at,
                "answer": replay.answer,
            },
        )

    def forget_old_replays(self, *, before: datetime, limit: int) -> None:
        """Removes up to `limit` kept answers that were given before the instant."""
        old = select(ReplayRow.request_id).where(col(ReplayRow.answered_at) < before).limit(limit)
        self._session.execute(delete(ReplayRow).where(col(ReplayRow.request_id).in_(old)))

    def finish(self) -> None:
        """Writes the head row. This is the last write before the commit."""
        head = self.head
        sums = sums_text(self._sums) if head.revision else ""
        moved = {"revision": head.revision, "seq": head.seq, "hash": head.hash, "time": self.now}
        seal = self._sealer.of_head(revision=head.revision, locks=self._lock_count, sums=sums)
        sealed = {"locks": self._lock_count, "sums": sums, "seal": seal, "sealing_key": self.sealing_key}
        prepared.MOVE_HEAD.run(self._connection, moved | sealed)
        if self.policy_cache is not None:
            self.policy_cache = self.policy_cache.with_changed((), head=head)

    def _next_revision(self) -> int:
        self.revision += 1
        return self.revision

    def _update_grant(self, read: Grant, changed: Grant) -> None:
        """Writes the columns that differ from those that this transaction has read; all, if it has read none."""
        columns = rows.grant_columns(changed)
        stored = self._stored.get(read.name)
        if stored is not None and stored.revision == read.revision:
            before = rows.grant_columns(stored)
            columns = {name: value for name, value in columns.items() if value != before[name]}
        self._update_read(GrantRow, read, columns | self._seals_of(changed, before=self._grant_seals(read.name)))
        self._stored[changed.name] = changed

    def _update_read(
        self, table: Any, read: Grant | Policy | Signal | Delegation | Lock | Proposal, columns: dict[str, Any]
    ) -> None:
        as_read = {"read_name": read.name, "read_revision": read.revision}
        if prepared.update_of(table, tuple(columns)).run(self._connection, columns | as_read) != 1:
            raise LostRace(f"{read.name} was changed by another call; read it again")

    def _seals_of(self, grant: Grant, *, before: Any) -> dict[str, bytes | None]:
        """Returns the seals of the grant's row, and adds the one that Check verifies to the sum."""
        counts = grant.end is None and (before is None or before.run_out_at is None)
        live_seal = self._sealer.of_live(live_text(condense(grant))) if grant.end is None else None
        old = before.live_seal if before is not None and is_counted(before) else None
        self._sums = exchange(self._sums, GRANTS, old=old, new=live_seal if counts else None)
        return {"seal": self._fact_seal(grant), "live_seal": live_seal}

    def _fact_seal(self, fact: Sealed | Grant) -> bytes:
        """Returns the fact's seal, which the next audit record will name."""
        seal = self._sealer.of(fact.name, fact)
        self._states[fact.name] = seal.hex()
        return seal

    def _grant_seals(self, name: str) -> Any:
        return next(iter(prepared.GRANT_SEALS.rows(self._connection, name=name)), None)

    def _save(
        self,
        table: Any,
        read: Saved,
        columns_of: Callable[[Saved], dict[str, Any]],
        event: Event,
        **when_new: Any,
    ) -> Saved:
        """Stores the fact under the next revision, with its event. `when_new` are columns that only a new row sets.

        Raises LostRace if the stored fact has changed since it was read.
        """
        saved = replace(read, revision=self._next_revision())
        self._write(table, read, saved, columns_of(saved), **when_new)
        self.record(replace(event, revision=saved.revision))
        return saved

    def _write(self, table: Any, read: Sealed, fact: Sealed, columns: dict[str, Any], **when_new: Any) -> None:
        """Writes the fact and its seal: updates the row that was read, or inserts a row at revision 0."""
        seal = self._fact_seal(fact)
        self._count(table, fact.name, new=seal)
        if read.revision == 0:
            self._insert(table, columns, seal=seal, **when_new)
        else:
            self._update_read(table, read, columns | {"seal": seal})

    def _mark(
        self, table: Any, name: str, column: str, mark: Any, *, unmarked: bool | None = None, **more: Any
    ) -> bool:
        """Sets the column, and those of `more`, unless it is set. Returns whether this call has set it."""
        marked = getattr(table, column)
        first = and_(col(table.name) == name, col(marked).is_(unmarked))
        result: Any = self._session.execute(update(table).where(first).values({column: mark, **more}))
        return bool(result.rowcount == 1)

    def _mark_due(self, mark: Any, due: Any, grant: Grant) -> bool:
        """Sets the mark of the grant's row to what is due, unless it is that. Returns whether this call has set it."""
        unsaid = or_(col(mark).is_(None), col(mark) != col(due))
        statement = update(GrantRow).where(col(GrantRow.name) == grant.name, unsaid).values({mark.key: col(due)})
        result: Any = self._session.execute(statement)
        return bool(result.rowcount == 1)

    def _count(self, table: Any, name: str, *, new: bytes | None) -> None:
        """Replaces the row's seal by the new one in the sum of the table."""
        found = prepared.seal_of(table).rows(self._connection, name=name)
        old = found[0].seal if found else None
        self._sums = exchange(self._sums, table.__tablename__, old=old, new=new)

    def _insert(self, table: Any, columns: dict[str, Any], **more: Any) -> None:
        prepared.insert_of(table).run(self._connection, columns | more)

    def _found_grants(self, statement: Statement, **values: Any) -> list[Grant]:
        found = super()._found_grants(statement, **values)
        self._stored |= {grant.name: grant for grant in found}
        return found

    def _count_reviews(self, grant: Grant) -> int:
        """Returns how many reviews of the grant are stored."""
        stored = self._stored.get(grant.name)
        if stored is not None and stored.revision == grant.revision:
            return len(stored.reviews)
        return len(prepared.REVIEWS.rows(self._connection, name=grant.name)) if grant.revision else 0
