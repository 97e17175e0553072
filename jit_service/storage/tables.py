"""The tables. The domain validates; SQLModel does not.

`head` has one row, which every write locks first. So writes are serial, and revision, seq and time only increase.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, LargeBinary, UniqueConstraint
from sqlmodel import Field, SQLModel

from jit_service.storage.columns import (
    SEQ,
    TEXT,
    Span,
    bytes_column,
    instant_column,
    json_column,
    number_column,
    partial_index,
    seal_column,
    text_column,
)

# As `predicates.end_unrecorded` and `lock_counted`, which find by these indexes.
_END_UNRECORDED = "run_out_at IS NULL AND ended_at IS NULL"
_LOCK_COUNTED = "deleted_at IS NULL AND expiry_recorded_at IS NULL"


class HeadRow(SQLModel, table=True):
    """The store's counters: the last revision, the last audit record, the latest instant of any decision."""

    __tablename__: ClassVar[Any] = "head"

    id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    revision: int = number_column()
    seq: int = number_column()
    hash: bytes = bytes_column()
    time: datetime = instant_column()
    # The number of locks that are not lifted and not recorded as expired. At 0 the table is not read.
    locks: int = number_column(server_default="0")
    # The sums of the rows' seals by kind, the seal of this row, and the id of the key that sealed it and them.
    sums: str = text_column(server_default="")
    seal: bytes | None = seal_column()
    sealing_key: str = text_column(server_default="")


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
        partial_index("access_grant_children", "parent", where="parent <> ''"),
        Index("access_grant_by_subject_key", "subject_key", "expires_at"),
        # For the names under which an account requested grants.
        partial_index(
            "access_grant_names_of_account",
            "requester_issuer_subject",
            "requester_issuer",
            "requester",
            where="requester_issuer_subject <> ''",
        ),
        partial_index("access_grant_extending", "extension_expires_at", where="extension_expires_at IS NOT NULL"),
        partial_index("access_grant_owing_review", "review_owed_at", where="review_owed_at IS NOT NULL"),
        # For searches of the past, which look at what may have been live then.
        Index("access_grant_by_expiry", "expires_at", "created_at"),
        # For a change of the policy, which looks at its live grants.
        partial_index(
            "access_grant_live_by_policy", "policy", "expires_at", where="ended_at IS NULL AND expires_at IS NOT NULL"
        ),
        # For the sweeper, which records expiries: few rows, however many grants are kept.
        partial_index("access_grant_to_expire", "expires_at", where=f"{_END_UNRECORDED} AND expires_at IS NOT NULL"),
        # For the bound on undecided requests of one requester.
        partial_index(
            "access_grant_pending_by_requester",
            "requester",
            "request_expires_at",
            where=f"{_END_UNRECORDED} AND expires_at IS NULL",
        ),
        # For lists of what is pending, scheduled or active.
        partial_index("access_grant_open_by_creation", "created_at", where=_END_UNRECORDED),
        partial_index("access_grant_open_by_requester", "requester", "created_at", where=_END_UNRECORDED),
        partial_index("access_grant_open_by_subject", "subject_key", "created_at", where=_END_UNRECORDED),
        # For the inbox.
        partial_index(
            "access_grant_pending_by_policy", "policy", "created_at", where=f"{_END_UNRECORDED} AND expires_at IS NULL"
        ),
        partial_index("access_grant_live_child", "parent", where=f"{_END_UNRECORDED} AND parent <> ''"),
        partial_index("access_grant_to_warn", "warns_at", where=f"{_END_UNRECORDED} AND warns_at IS NOT NULL"),
        partial_index(
            "access_grant_to_escalate", "escalates_at", where=f"{_END_UNRECORDED} AND escalates_at IS NOT NULL"
        ),
        partial_index("access_grant_to_lapse", "request_expires_at", where=f"{_END_UNRECORDED} AND expires_at IS NULL"),
    )

    name: str = text_column(primary_key=True)
    requester: str = text_column()
    requester_groups: list[str] | None = json_column()
    subject: str = text_column()
    policy: str = text_column()
    policy_revision: int = number_column()
    steps: list[Any] = json_column()
    resources: list[str] = json_column()
    actions: list[str] = json_column()
    duration: timedelta = Field(sa_column=Column(Span, nullable=False))
    justification: str = text_column()
    ticket: str = text_column()
    labels: dict[str, str] = json_column()
    created_at: datetime = instant_column()
    request_expires_at: datetime = instant_column()
    start_at: datetime | None = instant_column(nullable=True)
    approved_at: datetime | None = instant_column(nullable=True)
    starts_at: datetime | None = instant_column(nullable=True)
    expires_at: datetime | None = instant_column(nullable=True)
    ended_at: datetime | None = instant_column(nullable=True)
    ended_as: str | None = Field(sa_column=Column(TEXT, nullable=True))
    ended_by: str | None = Field(sa_column=Column(TEXT, nullable=True))
    end_comment: str | None = Field(sa_column=Column(TEXT, nullable=True))
    revision: int = number_column()
    skipped: list[int] = json_column()
    context: dict[str, Any] = json_column()
    claims: dict[str, Any] = json_column()
    source_address: str = text_column()
    check_condition: str = text_column()
    limits: dict[str, Any] = json_column()
    usage: dict[str, Any] = json_column()
    requested: dict[str, Any] | None = json_column()
    offer: dict[str, Any] | None = json_column()
    extension: dict[str, Any] | None = json_column()
    extension_count: int = number_column()
    emergency: dict[str, Any] | None = json_column()
    chain: list[str] = json_column()
    parent: str = text_column()
    request_ttl: timedelta = Field(sa_column=Column(Span, nullable=False))
    step_since: datetime | None = instant_column(nullable=True)
    # Set while a request for more time is open, and while a break-glass use owes a review. Only for finding rows.
    extension_expires_at: datetime | None = instant_column(nullable=True)
    review_owed_at: datetime | None = instant_column(nullable=True)
    # When the audit log recorded the expiry, and that the review is overdue. No decision depends on them.
    run_out_at: datetime | None = instant_column(nullable=True)
    overdue_recorded_at: datetime | None = instant_column(nullable=True)
    warn_before: timedelta = Field(sa_column=Column(Span, nullable=False, server_default="0"))
    # When the audit log is to say that the end is near or that a step has escalated, and of which such instant it has
    # said so. Only for finding rows.
    warns_at: datetime | None = instant_column(nullable=True)
    warned_of: datetime | None = instant_column(nullable=True)
    escalates_at: datetime | None = instant_column(nullable=True)
    escalated_of: datetime | None = instant_column(nullable=True)
    # The requester's account: its token's issuer and subject. Empty if not known.
    requester_issuer: str = text_column()
    requester_issuer_subject: str = text_column()
    # The folded subject, to find all grants that count against the subject.
    subject_key: str = text_column()
    seal: bytes | None = seal_column()
    live_seal: bytes | None = seal_column()


class ReviewRow(SQLModel, table=True):
    """One decision of a reviewer. The constraint makes a principal count once in a round."""

    __tablename__: ClassVar[Any] = "review"
    __table_args__ = (
        UniqueConstraint("grant_name", "round", "reviewer_key", name="review_once_a_principal"),
        Index("review_by_reviewer", "reviewer_key"),
        partial_index("review_by_account", "issuer_subject", "issuer", "reviewer_key", where="issuer_subject <> ''"),
    )

    grant_name: str = Field(sa_column=Column(TEXT, ForeignKey("access_grant.name"), primary_key=True))
    position: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    reviewer: str = text_column()
    reviewer_key: str = text_column()
    groups: list[str] | None = json_column()
    decision: str = text_column()
    step: int = number_column()
    comment: str = text_column()
    at: datetime = instant_column()
    round: int = number_column()
    on_behalf_of: str = text_column()
    delegation: str = text_column()
    escalated: bool = Field(sa_column=Column(Boolean, nullable=False))
    terms: dict[str, Any] | None = json_column()
    condition: str = text_column()
    # The accounts of the reviewer, and of the delegator whose right it used. Empty if not known.
    issuer: str = text_column()
    issuer_subject: str = text_column()
    holder_issuer: str = text_column()
    holder_issuer_subject: str = text_column()
    token_id: str = text_column()
    authentication: dict[str, Any] | None = json_column()


class DelegationRow(SQLModel, table=True):
    """One delegation of the right to review."""

    __tablename__: ClassVar[Any] = "delegation"
    __table_args__ = (
        Index("delegation_by_delegate", "delegate", "expires_at"),
        partial_index("delegation_by_delegator", "delegator", "expires_at", where="deleted_at IS NULL"),
    )

    name: str = text_column(primary_key=True)
    delegator: str = text_column()
    delegator_groups: list[str] | None = json_column()
    delegate: str = text_column()
    policies: list[str] = json_column()
    starts_at: datetime = instant_column()
    expires_at: datetime = instant_column()
    comment: str = text_column()
    created_at: datetime = instant_column()
    deleted_at: datetime | None = instant_column(nullable=True)
    revision: int = number_column()
    delegator_issuer: str = text_column()
    delegator_issuer_subject: str = text_column()
    seal: bytes | None = seal_column()


class LockRow(SQLModel, table=True):
    """One lock. Exactly one of principal, group_name and token_id is not empty."""

    __tablename__: ClassVar[Any] = "access_lock"
    __table_args__ = (partial_index("access_lock_open", "name", where=_LOCK_COUNTED),)

    name: str = text_column(primary_key=True)
    principal: str = text_column()
    group_name: str = text_column()
    token_id: str = text_column()
    accounts: list[list[str]] = json_column()
    also: list[str] = json_column()
    comment: str = text_column()
    creator: str = text_column()
    created_at: datetime = instant_column()
    expires_at: datetime | None = instant_column(nullable=True)
    end_grants: bool = Field(sa_column=Column(Boolean, nullable=False))
    ended_grants: int = number_column()
    deleted_at: datetime | None = instant_column(nullable=True)
    expiry_recorded_at: datetime | None = instant_column(nullable=True)
    revision: int = number_column()
    seal: bytes | None = seal_column()


class PolicyProposalRow(SQLModel, table=True):
    """A set of policies that waits, or waited, for the decision of a second admin."""

    __tablename__: ClassVar[Any] = "policy_proposal"

    name: str = text_column(primary_key=True)
    created_at: datetime = instant_column()
    expires_at: datetime = instant_column()
    decided_at: datetime | None = instant_column(nullable=True)
    lapse_recorded: bool = Field(sa_column=Column(Boolean, nullable=False))
    revision: int = number_column()
    document: dict[str, Any] = json_column()
    seal: bytes | None = seal_column()


class GrantChangeRow(SQLModel, table=True):
    """One change of a grant for watchers: the type of the event, and the grant as it was then."""

    __tablename__: ClassVar[Any] = "grant_change"
    __table_args__ = (Index("grant_change_by_grant", "grant_name", "revision"),)

    revision: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    grant_name: str = text_column()
    type: str = text_column()
    at: datetime = instant_column()
    document: dict[str, Any] = json_column()
    seal: bytes | None = seal_column()


class PolicyRow(SQLModel, table=True):
    """The current revision of a policy."""

    __tablename__: ClassVar[Any] = "policy"

    name: str = text_column(primary_key=True)
    revision: int = number_column()
    deleted_at: datetime | None = instant_column(nullable=True)
    document: dict[str, Any] = json_column()
    seal: bytes | None = seal_column()


class PolicyRevisionRow(SQLModel, table=True):
    """Every revision that a policy ever had.

    One without a seal is from before they were sealed; what it was then says the record of its change.
    """

    __tablename__: ClassVar[Any] = "policy_revision"

    name: str = text_column(primary_key=True)
    revision: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    document: dict[str, Any] = json_column()
    seal: bytes | None = seal_column()


class SignalRow(SQLModel, table=True):
    """A signal. `value` is JSON text, since databases treat bare numbers and texts in JSON columns differently."""

    __tablename__: ClassVar[Any] = "signal"

    name: str = text_column(primary_key=True)
    value: str = text_column()
    expires_at: datetime = instant_column()
    setter: str = text_column()
    updated_at: datetime = instant_column()
    revision: int = number_column()
    seal: bytes | None = seal_column()


class SigningKeyRow(SQLModel, table=True):
    """A key that signs tokens. `sealed` is the private key, encrypted by a key that is not in the store."""

    __tablename__: ClassVar[Any] = "signing_key"

    kid: str = text_column(primary_key=True)
    created_at: datetime = instant_column()
    signs_at: datetime = instant_column()
    sealed: bytes = bytes_column()
    last_expires_at: datetime | None = instant_column(nullable=True)


class TokenDenialRow(SQLModel, table=True):
    """A token that was revoked. The row is needed until the token expires."""

    __tablename__: ClassVar[Any] = "token_denial"
    __table_args__ = (Index("token_denial_by_expiry", "expires_at"),)

    token_id: str = text_column(primary_key=True)
    expires_at: datetime = instant_column()


class AuditRow(SQLModel, table=True):
    """The newest part of the audit log. A row is one record, or those of one commit; the table is only appended to.

    `seq` and `hash` are the last record's. `payload` is the event, byte for byte as hashed; where there is a `count`,
    it is so many events as `audit_block.pack` made them one text. Rows are merged into pieces later.
    """

    __tablename__: ClassVar[Any] = "audit_event"

    seq: int = Field(sa_column=Column(SEQ, primary_key=True, autoincrement=False))
    hash: bytes = bytes_column()
    payload: bytes = bytes_column()
    count: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))


class AuditPieceRow(SQLModel, table=True):
    """A piece of the audit log: the records of many rows, merged. The pieces are the log's beginning, without gaps.

    `first_at` and `last_at` bound the instants of its records. `seal` covers them and the digests of the piece. The
    index has what a search reads of every piece: a scan of the table would read the payloads' pages, 400 ms at ten
    million records that are not in memory.
    """

    __tablename__: ClassVar[Any] = "audit_piece"
    __table_args__ = (Index("audit_piece_heads", "seq", "count", "first_at", "last_at"),)

    seq: int = Field(sa_column=Column(SEQ, primary_key=True, autoincrement=False))
    count: int = number_column()
    first_at: datetime = instant_column()
    last_at: datetime = instant_column()
    hash: bytes = bytes_column()
    seal: bytes = bytes_column()
    marks: bytes = bytes_column()
    payload: bytes = bytes_column()


class AuditDigestsRow(SQLModel, table=True):
    """The digests of the values that one field has in the records of a piece (`audit_summary`).

    `place` is the field's number and the piece's seq in one number, so that SQLite keeps a field's rows side by side.
    """

    __tablename__: ClassVar[Any] = "audit_digests"

    place: int = Field(sa_column=Column(SEQ, primary_key=True, autoincrement=False))
    digests: bytes = bytes_column()


class SettingChangeRow(SQLModel, table=True):
    """An audit record of a change of a policy or signal, to answer about the past. Such records are few.

    `payload` is the record itself once the log was pruned of it, for the last change of each policy and signal. The
    log's beginning has a digest of all these.
    """

    __tablename__: ClassVar[Any] = "setting_change"
    __table_args__ = (Index("setting_change_by_name", "name", "seq"),)

    seq: int = Field(sa_column=Column(SEQ, primary_key=True, autoincrement=False))
    at: datetime = instant_column()
    name: str = text_column()
    payload: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))


class AuditBeginningRow(SQLModel, table=True):
    """A place up to which the audit log was pruned. The log begins at the last of them; `document` is a Beginning."""

    __tablename__: ClassVar[Any] = "audit_beginning"

    seq: int = Field(sa_column=Column(SEQ, primary_key=True, autoincrement=False))
    hash: bytes = bytes_column()
    document: dict[str, Any] = json_column()
    seal: bytes | None = seal_column()


class LeaseRow(SQLModel, table=True):
    """Which process does a task that one alone is to do, and until when unless it goes on with it."""

    __tablename__: ClassVar[Any] = "lease"

    task: str = text_column(primary_key=True)
    holder: str = text_column()
    expires_at: datetime = instant_column()


class OutboxRow(SQLModel, table=True):
    """One notification for one addressee of a receiver, from the event's transaction until it is delivered.

    Then the row is deleted. It is due at `due_at`. A process that claims it moves `due_at` on, so that no other process
    tries meanwhile. Those about the same grant (`about`) are delivered in the order of `seq`.
    """

    __tablename__: ClassVar[Any] = "outbox"
    __table_args__ = (
        partial_index("outbox_by_due", "receiver", "due_at", where="gave_up_at IS NULL"),
        partial_index("outbox_by_grant", "receiver", "addressee", "about", "seq", where="gave_up_at IS NULL"),
    )

    receiver: str = text_column(primary_key=True)
    addressee: str = text_column(primary_key=True, server_default="")
    seq: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    type: str = text_column()
    at: datetime = instant_column()
    attempts: int = number_column()
    due_at: datetime = instant_column()
    gave_up_at: datetime | None = instant_column(nullable=True)
    fault: str = text_column()
    about: str = text_column(server_default="")


class SentMessageRow(SQLModel, table=True):
    """What a receiver calls the message that an addressee has about a grant, so that the next one can change it."""

    __tablename__: ClassVar[Any] = "sent_message"
    __table_args__ = (Index("sent_message_by_age", "at"),)

    receiver: str = text_column(primary_key=True)
    addressee: str = text_column(primary_key=True)
    about: str = text_column(primary_key=True)
    reference: str = text_column()
    at: datetime = instant_column()


class ToldRow(SQLModel, table=True):
    """Where people were told that something about a grant waits for them, so that they are told of its end too.

    `principal` is whose address it is; empty where that is not known. The rows go when the grant is over.
    """

    __tablename__: ClassVar[Any] = "told_address"

    grant_name: str = text_column(primary_key=True)
    receiver: str = text_column(primary_key=True)
    addressee: str = text_column(primary_key=True)
    principal: str = text_column()


class ReplayRow(SQLModel, table=True):
    """The answer to a request_id, to be given again for the same request (AIP-155)."""

    __tablename__: ClassVar[Any] = "replay"
    __table_args__ = (Index("replay_by_answer", "answered_at"),)

    request_id: str = text_column(primary_key=True)
    principal: str = text_column()
    digest: str = text_column()
    answered_at: datetime = instant_column()
    answer: str = text_column()
