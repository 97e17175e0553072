"""The tables. Instants and spans are integers of microseconds. The domain validates; SQLModel does not.

`head` has one row, which every write locks first. So writes are serial, and revision, seq and time only increase.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime as microseconds since 1970. A naive one is refused."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value is None else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else EPOCH + value * MICROSECOND


class Span(TypeDecorator[timedelta]):
    """A timedelta as microseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value is None else value // MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> timedelta | None:  # noqa: ARG002
        return None if value is None else value * MICROSECOND


# Byte order on PostgreSQL too, as on SQLite.
TEXT = Text().with_variant(Text(collation="C"), "postgresql")
# On SQLite an alias of the rowid, so that appending touches only the end of the table.
SEQ = BigInteger().with_variant(Integer(), "sqlite")


def _text(**options: Any) -> Any:
    return Field(sa_column=Column(TEXT, nullable=False, **options))


def _number(**options: Any) -> Any:
    return Field(sa_column=Column(BigInteger, nullable=False, autoincrement=False, **options))


def _instant(*, nullable: bool = False) -> Any:
    return Field(sa_column=Column(Instant, nullable=nullable))


def _json() -> Any:
    return Field(sa_column=Column(JSON().with_variant(JSONB(), "postgresql"), nullable=False))


def _bytes() -> Any:
    return Field(sa_column=Column(LargeBinary, nullable=False))


def _seal() -> Any:
    """The proof that the service wrote the row (`sealing`). A row without a seal is refused."""
    return Field(default=None, sa_column=Column(LargeBinary, nullable=True))


def _partial(name: str, *columns: str, where: str) -> Index:
    """An index of the rows that meet the condition."""
    condition = text(where)
    return Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


# As `predicates.end_unrecorded` and `lock_counted`, which find by these indexes.
_END_UNRECORDED = "run_out_at IS NULL AND ended_at IS NULL"
_LOCK_COUNTED = "deleted_at IS NULL AND expiry_recorded_at IS NULL"


class HeadRow(SQLModel, table=True):
    """The store's counters: the last revision, the last audit record, the latest instant of any decision."""

    __tablename__: ClassVar[Any] = "head"

    id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    revision: int = _number()
    seq: int = _number()
    hash: bytes = _bytes()
    time: datetime = _instant()
    # The number of locks that are not lifted and not recorded as expired. At 0 the table is not read.
    locks: int = _number(server_default="0")
    # The sums of the rows' seals by kind, and the seal of this row.
    sums: str = _text(server_default="")
    seal: bytes | None = _seal()


class GrantRow(SQLModel, table=True):
    """A grant's facts; its reviews are rows of their own."""

    __tablename__: ClassVar[Any] = "access_grant"
    __table_args__ = (
        Index("access_grant_by_subject_and_expiry", "subject", "expires_at"),
        Index("access_grant_by_requester", "requester", "created_at"),
        # For lists by creation.
        Index("access_grant_by_subject_and_creation", "subject", "created_at"),
        Index("access_grant_by_policy_and_creation", "policy", "created_at"),
        Index("access_grant_by_creation", "created_at", "name"),
        Index("access_grant_by_revision", "revision"),
        _partial("access_grant_children", "parent", where="parent <> ''"),
        Index("access_grant_by_subject_key", "subject_key", "expires_at"),
        # For the names under which an account requested grants.
        _partial(
            "access_grant_names_of_account",
            "requester_issuer_subject",
            "requester_issuer",
            "requester",
            where="requester_issuer_subject <> ''",
        ),
        _partial("access_grant_extending", "extension_expires_at", where="extension_expires_at IS NOT NULL"),
        _partial("access_grant_owing_review", "review_owed_at", where="review_owed_at IS NOT NULL"),
        # For searches of the past, which look at what may have been live then.
        Index("access_grant_by_expiry", "expires_at", "created_at"),
        # For a change of the policy, which looks at its live grants.
        _partial(
            "access_grant_live_by_policy", "policy", "expires_at", where="ended_at IS NULL AND expires_at IS NOT NULL"
        ),
        # For the sweeper, which records expiries: few rows, however many grants are kept.
        _partial("access_grant_to_expire", "expires_at", where=f"{_END_UNRECORDED} AND expires_at IS NOT NULL"),
        # For the bound on undecided requests of one requester.
        _partial(
            "access_grant_pending_by_requester",
            "requester",
            "request_expires_at",
            where=f"{_END_UNRECORDED} AND expires_at IS NULL",
        ),
        # For lists of what is pending, scheduled or active.
        _partial("access_grant_open_by_creation", "created_at", where=_END_UNRECORDED),
        _partial("access_grant_open_by_requester", "requester", "created_at", where=_END_UNRECORDED),
        _partial("access_grant_open_by_subject", "subject_key", "created_at", where=_END_UNRECORDED),
        # For the inbox.
        _partial(
            "access_grant_pending_by_policy", "policy", "created_at", where=f"{_END_UNRECORDED} AND expires_at IS NULL"
        ),
        _partial("access_grant_live_child", "parent", where=f"{_END_UNRECORDED} AND parent <> ''"),
        _partial("access_grant_to_warn", "warns_at", where=f"{_END_UNRECORDED} AND warns_at IS NOT NULL"),
        _partial("access_grant_to_escalate", "escalates_at", where=f"{_END_UNRECORDED} AND escalates_at IS NOT NULL"),
        _partial("access_grant_to_lapse", "request_expires_at", where=f"{_END_UNRECORDED} AND expires_at IS NULL"),
    )

    name: str = _text(primary_key=True)
    requester: str = _text()
    requester_groups: list[str] | None = _json()
    subject: str = _text()
    policy: str = _text()
    policy_revision: int = _number()
    steps: list[Any] = _json()
    resources: list[str] = _json()
    actions: list[str] = _json()
    duration: timedelta = Field(sa_column=Column(Span, nullable=False))
    justification: str = _text()
    ticket: str = _text()
    labels: dict[str, str] = _json()
    created_at: datetime = _instant()
    request_expires_at: datetime = _instant()
    start_at: datetime | None = _instant(nullable=True)
    approved_at: datetime | None = _instant(nullable=True)
    starts_at: datetime | None = _instant(nullable=True)
    expires_at: datetime | None = _instant(nullable=True)
    ended_at: datetime | None = _instant(nullable=True)
    ended_as: str | None = Field(sa_column=Column(TEXT, nullable=True))
    ended_by: str | None = Field(sa_column=Column(TEXT, nullable=True))
    end_comment: str | None = Field(sa_column=Column(TEXT, nullable=True))
    revision: int = _number()
    skipped: list[int] = _json()
    context: dict[str, Any] = _json()
    claims: dict[str, Any] = _json()
    source_address: str = _text()
    check_condition: str = _text()
    limits: dict[str, Any] = _json()
    usage: dict[str, Any] = _json()
    requested: dict[str, Any] | None = _json()
    offer: dict[str, Any] | None = _json()
    extension: dict[str, Any] | None = _json()
    extension_count: int = _number()
    emergency: dict[str, Any] | None = _json()
    chain: list[str] = _json()
    parent: str = _text()
    request_ttl: timedelta = Field(sa_column=Column(Span, nullable=False))
    step_since: datetime | None = _instant(nullable=True)
    # Set while a request for more time is open, and while a break-glass use owes a review. Only for finding rows.
    extension_expires_at: datetime | None = _instant(nullable=True)
    review_owed_at: datetime | None = _instant(nullable=True)
    # When the audit log recorded the expiry, and that the review is overdue. No decision depends on them.
    run_out_at: datetime | None = _instant(nullable=True)
    overdue_recorded_at: datetime | None = _instant(nullable=True)
    warn_before: timedelta = Field(sa_column=Column(Span, nullable=False, server_default="0"))
    # When the audit log is to say that the end is near or that a step has escalated, and of which such instant it has
    # said so. Only for finding rows.
    warns_at: datetime | None = _instant(nullable=True)
    warned_of: datetime | None = _instant(nullable=True)
    escalates_at: datetime | None = _instant(nullable=True)
    escalated_of: datetime | None = _instant(nullable=True)
    # The requester's account: its token's issuer and subject. Empty if not known.
    requester_issuer: str = _text()
    requester_issuer_subject: str = _text()
    # The folded subject, to find all grants that count against the subject.
    subject_key: str = _text()
    seal: bytes | None = _seal()
    live_seal: bytes | None = _seal()


class ReviewRow(SQLModel, table=True):
    """One decision of a reviewer. The constraint makes a principal count once in a round."""

    __tablename__: ClassVar[Any] = "review"
    __table_args__ = (
        UniqueConstraint("grant_name", "round", "reviewer_key", name="review_once_a_principal"),
        Index("review_by_reviewer", "reviewer_key"),
        _partial("review_by_account", "issuer_subject", "issuer", "reviewer_key", where="issuer_subject <> ''"),
    )

    grant_name: str = Field(sa_column=Column(TEXT, ForeignKey("access_grant.name"), primary_key=True))
    position: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    reviewer: str = _text()
    reviewer_key: str = _text()
    groups: list[str] | None = _json()
    decision: str = _text()
    step: int = _number()
    comment: str = _text()
    at: datetime = _instant()
    round: int = _number()
    on_behalf_of: str = _text()
    delegation: str = _text()
    escalated: bool = Field(sa_column=Column(Boolean, nullable=False))
    terms: dict[str, Any] | None = _json()
    condition: str = _text()
    # The accounts of the reviewer, and of the delegator whose right it used. Empty if not known.
    issuer: str = _text()
    issuer_subject: str = _text()
    holder_issuer: str = _text()
    holder_issuer_subject: str = _text()
    token_id: str = _text()
    authentication: dict[str, Any] | None = _json()


class DelegationRow(SQLModel, table=True):
    """One delegation of the right to review."""

    __tablename__: ClassVar[Any] = "delegation"
    __table_args__ = (
        Index("delegation_by_delegate", "delegate", "expires_at"),
        _partial("delegation_by_delegator", "delegator", "expires_at", where="deleted_at IS NULL"),
    )

    name: str = _text(primary_key=True)
    delegator: str = _text()
    delegator_groups: list[str] | None = _json()
    delegate: str = _text()
    policies: list[str] = _json()
    starts_at: datetime = _instant()
    expires_at: datetime = _instant()
    comment: str = _text()
    created_at: datetime = _instant()
    deleted_at: datetime | None = _instant(nullable=True)
    revision: int = _number()
    delegator_issuer: str = _text()
    delegator_issuer_subject: str = _text()
    seal: bytes | None = _seal()


class LockRow(SQLModel, table=True):
    """One lock. Exactly one of principal, group_name and token_id is not empty."""

    __tablename__: ClassVar[Any] = "access_lock"
    __table_args__ = (_partial("access_lock_open", "name", where=_LOCK_COUNTED),)

    name: str = _text(primary_key=True)
    principal: str = _text()
    group_name: str = _text()
    token_id: str = _text()
    accounts: list[list[str]] = _json()
    also: list[str] = _json()
    comment: str = _text()
    creator: str = _text()
    created_at: datetime = _instant()
    expires_at: datetime | None = _instant(nullable=True)
    end_grants: bool = Field(sa_column=Column(Boolean, nullable=False))
    ended_grants: int = _number()
    deleted_at: datetime | None = _instant(nullable=True)
    expiry_recorded_at: datetime | None = _instant(nullable=True)
    revision: int = _number()
    seal: bytes | None = _seal()


class PolicyProposalRow(SQLModel, table=True):
    """A set of policies that waits, or waited, for the decision of a second admin."""

    __tablename__: ClassVar[Any] = "policy_proposal"

    name: str = _text(primary_key=True)
    created_at: datetime = _instant()
    expires_at: datetime = _instant()
    decided_at: datetime | None = _instant(nullable=True)
    lapse_recorded: bool = Field(sa_column=Column(Boolean, nullable=False))
    revision: int = _number()
    document: dict[str, Any] = _json()
    seal: bytes | None = _seal()


class GrantChangeRow(SQLModel, table=True):
    """One change of a grant for watchers: the type of the event, and the grant as it was then."""

    __tablename__: ClassVar[Any] = "grant_change"
    __table_args__ = (Index("grant_change_by_grant", "grant_name", "revision"),)

    revision: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    grant_name: str = _text()
    type: str = _text()
    at: datetime = _instant()
    document: dict[str, Any] = _json()
    seal: bytes | None = _seal()


class PolicyRow(SQLModel, table=True):
    """The current revision of a policy."""

    __tablename__: ClassVar[Any] = "policy"

    name: str = _text(primary_key=True)
    revision: int = _number()
    deleted_at: datetime | None = _instant(nullable=True)
    document: dict[str, Any] = _json()
    seal: bytes | None = _seal()


class PolicyRevisionRow(SQLModel, table=True):
    """Every revision that a policy ever had."""

    __tablename__: ClassVar[Any] = "policy_revision"

    name: str = _text(primary_key=True)
    revision: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    document: dict[str, Any] = _json()


class SignalRow(SQLModel, table=True):
    """A signal. `value` is JSON text, since databases treat bare numbers and texts in JSON columns differently."""

    __tablename__: ClassVar[Any] = "signal"

    name: str = _text(primary_key=True)
    value: str = _text()
    expires_at: datetime = _instant()
    setter: str = _text()
    updated_at: datetime = _instant()
    revision: int = _number()
    seal: bytes | None = _seal()


class SigningKeyRow(SQLModel, table=True):
    """A key that signs tokens. `sealed` is the private key, encrypted by a key that is not in the store."""

    __tablename__: ClassVar[Any] = "signing_key"

    kid: str = _text(primary_key=True)
    created_at: datetime = _instant()
    signs_at: datetime = _instant()
    sealed: bytes = _bytes()
    last_expires_at: datetime | None = _instant(nullable=True)


class TokenDenialRow(SQLModel, table=True):
    """A token that was revoked. The row is needed until the token expires."""

    __tablename__: ClassVar[Any] = "token_denial"
    __table_args__ = (Index("token_denial_by_expiry", "expires_at"),)

    token_id: str = _text(primary_key=True)
    expires_at: datetime = _instant()


class AuditRow(SQLModel, table=True):
    """The newest part of the audit log. A row is one record, or those of one commit; the table is only appended to.

    `seq` and `hash` are the last record's. `payload` is the event, byte for byte as hashed; where there is a `count`,
    it is so many events as `audit_block.pack` made them one text. Rows are merged into pieces later.
    """

    __tablename__: ClassVar[Any] = "audit_event"

    seq: int = Field(sa_column=Column(SEQ, primary_key=True, autoincrement=False))
    hash: bytes = _bytes()
    payload: bytes = _bytes()
    count: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))


class AuditPieceRow(SQLModel, table=True):
    """A piece of the audit log: the records of many rows, merged. The pieces are the log's beginning, without gaps.

    `first_at` and `last_at` bound the instants of its records. `seal` covers them and the digests of the piece.
    """

    __tablename__: ClassVar[Any] = "audit_piece"

    seq: int = Field(sa_column=Column(SEQ, primary_key=True, autoincrement=False))
    count: int = _number()
    first_at: datetime = _instant()
    last_at: datetime = _instant()
    hash: bytes = _bytes()
    seal: bytes = _bytes()
    marks: bytes = _bytes()
    payload: bytes = _bytes()


class AuditDigestsRow(SQLModel, table=True):
    """The digests of the values that one field has in the records of a piece (`audit_summary`).

    `place` is the field's number and the piece's seq in one number, so that SQLite keeps a field's rows side by side.
    """

    __tablename__: ClassVar[Any] = "audit_digests"

    place: int = Field(sa_column=Column(SEQ, primary_key=True, autoincrement=False))
    digests: bytes = _bytes()


class SettingChangeRow(SQLModel, table=True):
    """An audit record of a change of a policy or signal, to answer about the past. Such records are few."""

    __tablename__: ClassVar[Any] = "setting_change"
    __table_args__ = (Index("setting_change_by_name", "name", "seq"),)

    seq: int = Field(sa_column=Column(SEQ, primary_key=True, autoincrement=False))
    at: datetime = _instant()
    name: str = _text()


class OutboxRow(SQLModel, table=True):
    """One notification for one addressee of a receiver, from the event's transaction until it is delivered.

    Then the row is deleted. It is due at `due_at`. A process that claims it moves `due_at` on, so that no other process
    tries meanwhile. Those about the same grant (`about`) are delivered in the order of `seq`.
    """

    __tablename__: ClassVar[Any] = "outbox"
    __table_args__ = (
        _partial("outbox_by_due", "receiver", "due_at", where="gave_up_at IS NULL"),
        _partial("outbox_by_grant", "receiver", "addressee", "about", "seq", where="gave_up_at IS NULL"),
    )

    receiver: str = _text(primary_key=True)
    addressee: str = _text(primary_key=True, server_default="")
    seq: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    type: str = _text()
    at: datetime = _instant()
    attempts: int = _number()
    due_at: datetime = _instant()
    gave_up_at: datetime | None = _instant(nullable=True)
    fault: str = _text()
    about: str = _text(server_default="")


class SentMessageRow(SQLModel, table=True):
    """What a receiver calls the message that an addressee has about a grant, so that the next one can change it."""

    __tablename__: ClassVar[Any] = "sent_message"
    __table_args__ = (Index("sent_message_by_age", "at"),)

    receiver: str = _text(primary_key=True)
    addressee: str = _text(primary_key=True)
    about: str = _text(primary_key=True)
    reference: str = _text()
    at: datetime = _instant()


class ReplayRow(SQLModel, table=True):
    """The answer to a request_id, to be given again for the same request (AIP-155)."""

    __tablename__: ClassVar[Any] = "replay"
    __table_args__ = (Index("replay_by_answer", "answered_at"),)

    request_id: str = _text(primary_key=True)
    principal: str = _text()
    digest: str = _text()
    answered_at: datetime = _instant()
    answer: str = _text()
