"""Creates the first schema."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
HEAD = sa.table(
    "head",
    sa.column("id", sa.BigInteger),
    sa.column("revision", sa.BigInteger),
    sa.column("seq", sa.BigInteger),
    sa.column("hash", sa.LargeBinary),
    sa.column("time", sa.BigInteger),
)


def where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    _create_grants()
    _create_grant_indexes()
    _create_audit_log()
    _create_head()
    _create_policies()
    _create_replays()
    _create_reviews()
    op.bulk_insert(HEAD, [{"id": 1, "revision": 0, "seq": 0, "hash": bytes(32), "time": 0}])


def _create_grants() -> None:
    op.create_table(
        "access_grant",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("requester", TEXT, nullable=False),
        sa.Column("requester_groups", JSON, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("policy", TEXT, nullable=False),
        sa.Column("policy_revision", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("steps", JSON, nullable=False),
        sa.Column("resources", JSON, nullable=False),
        sa.Column("actions", JSON, nullable=False),
        sa.Column("duration", sa.BigInteger, nullable=False),
        sa.Column("justification", TEXT, nullable=False),
        sa.Column("ticket", TEXT, nullable=False),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("request_expires_at", sa.BigInteger, nullable=False),
        sa.Column("start_at", sa.BigInteger, nullable=True),
        sa.Column("approved_at", sa.BigInteger, nullable=True),
        sa.Column("starts_at", sa.BigInteger, nullable=True),
        sa.Column("expires_at", sa.BigInteger, nullable=True),
        sa.Column("ended_at", sa.BigInteger, nullable=True),
        sa.Column("ended_as", TEXT, nullable=True),
        sa.Column("ended_by", TEXT, nullable=True),
        sa.Column("end_comment", TEXT, nullable=True),
        sa.Column("revision", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("run_out_at", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )


def _create_grant_indexes() -> None:
    op.create_index("access_grant_by_creation", "access_grant", ["created_at", "name"])
    op.create_index("access_grant_by_policy", "access_grant", ["policy", "request_expires_at"])
    op.create_index("access_grant_by_requester", "access_grant", ["requester", "created_at"])
    op.create_index("access_grant_by_revision", "access_grant", ["revision"])
    op.create_index("access_grant_by_subject_and_expiry", "access_grant", ["subject", "expires_at"])
    op.create_index(
        "access_grant_to_expire",
        "access_grant",
        ["expires_at"],
        **where("run_out_at IS NULL AND ended_at IS NULL AND expires_at IS NOT NULL"),
    )
    op.create_index(
        "access_grant_to_lapse",
        "access_grant",
        ["request_expires_at"],
        **where("run_out_at IS NULL AND ended_at IS NULL AND expires_at IS NULL"),
    )


def _create_audit_log() -> None:
    op.create_table(
        "audit_event",
        sa.Column("seq", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("principal", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("resources", JSON, nullable=False),
        sa.Column("actions", JSON, nullable=False),
        sa.Column("decision", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("grant_name", TEXT, nullable=False),
        sa.Column("policy", TEXT, nullable=False),
        sa.Column("method", TEXT, nullable=False),
        sa.Column("source_address", TEXT, nullable=False),
        sa.Column("trace_id", TEXT, nullable=False),
        sa.Column("request_id", TEXT, nullable=False),
        sa.Column("decision_id", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("audit_event_by_grant", "audit_event", ["grant_name", "seq"])
    op.create_index("audit_event_by_subject", "audit_event", ["subject", "seq"])


def _create_head() -> None:
    op.create_table(
        "head",
        sa.Column("id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def _create_policies() -> None:
    op.create_table(
        "policy",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("revision", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("deleted_at", sa.BigInteger, nullable=True),
        sa.Column("document", JSON, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "policy_revision",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("revision", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("document", JSON, nullable=False),
        sa.PrimaryKeyConstraint("name", "revision"),
    )


def _create_replays() -> None:
    op.create_table(
        "replay",
        sa.Column("request_id", TEXT, nullable=False),
        sa.Column("principal", TEXT, nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("answered_at", sa.BigInteger, nullable=False),
        sa.Column("answer", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("request_id"),
    )


def _create_reviews() -> None:
    op.create_table(
        "review",
        sa.Column("grant_name", TEXT, nullable=False),
        sa.Column("position", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("reviewer", TEXT, nullable=False),
        sa.Column("reviewer_key", TEXT, nullable=False),
        sa.Column("groups", JSON, nullable=False),
        sa.Column("decision", TEXT, nullable=False),
        sa.Column("step", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("comment", TEXT, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(
            ["grant_name"],
            ["access_grant.name"],
        ),
        sa.PrimaryKeyConstraint("grant_name", "position"),
        sa.UniqueConstraint("grant_name", "reviewer_key", name="review_once_a_principal"),
    )


def downgrade() -> None:
    for table in ("review", "replay", "policy_revision", "policy", "head", "audit_event", "access_grant"):
        op.drop_table(table)
