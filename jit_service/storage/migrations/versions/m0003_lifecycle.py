"""Adds limits, extensions, break-glass and children of grants; delegations, proposals, and the log of changes."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
GRANT_COLUMNS: dict[str, tuple[Any, Any]] = {
    "limits": (JSON, "{}"),
    "usage": (JSON, "{}"),
    "requested": (JSON, "null"),
    "offer": (JSON, "null"),
    "extension": (JSON, "null"),
    "extension_count": (sa.BigInteger, "0"),
    "emergency": (JSON, "null"),
    "chain": (JSON, "[]"),
    "parent": (TEXT, ""),
    "request_ttl": (sa.BigInteger, "0"),
}
GRANT_INSTANTS = ("step_since", "extension_expires_at", "review_owed_at")
REVIEW_COLUMNS: dict[str, tuple[Any, Any]] = {
    "round": (sa.BigInteger, "0"),
    "on_behalf_of": (TEXT, ""),
    "delegation": (TEXT, ""),
    "escalated": (sa.Boolean, sa.false()),
    "terms": (JSON, "null"),
}


def upgrade() -> None:
    for name, (kind, default) in GRANT_COLUMNS.items():
        op.add_column("access_grant", sa.Column(name, kind, nullable=False, server_default=default))
    for instant in GRANT_INSTANTS:
        op.add_column("access_grant", sa.Column(instant, sa.BigInteger, nullable=True))
    op.execute("UPDATE access_grant SET request_ttl = request_expires_at - created_at, step_since = created_at")
    op.create_index("access_grant_by_parent", "access_grant", ["parent"])
    op.create_index("access_grant_by_extension", "access_grant", ["extension_expires_at"])
    op.create_index("access_grant_by_owed_review", "access_grant", ["review_owed_at"])
    with op.batch_alter_table("review") as review:
        for name, (kind, default) in REVIEW_COLUMNS.items():
            review.add_column(sa.Column(name, kind, nullable=False, server_default=default))
        review.drop_constraint("review_once_a_principal", type_="unique")
        review.create_unique_constraint("review_once_a_principal", ["grant_name", "round", "reviewer_key"])
    _create_tables()


def _create_tables() -> None:
    op.create_table(
        "delegation",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("delegator", TEXT, nullable=False),
        sa.Column("delegator_groups", JSON, nullable=False),
        sa.Column("delegate", TEXT, nullable=False),
        sa.Column("policies", JSON, nullable=False),
        sa.Column("starts_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("comment", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("deleted_at", sa.BigInteger, nullable=True),
        sa.Column("revision", sa.BigInteger, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("delegation_by_delegate", "delegation", ["delegate", "expires_at"])
    op.create_table(
        "policy_proposal",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("decided_at", sa.BigInteger, nullable=True),
        sa.Column("lapse_recorded", sa.Boolean, nullable=False),
        sa.Column("revision", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("document", JSON, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "grant_change",
        sa.Column("revision", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("grant_name", TEXT, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("document", JSON, nullable=False),
        sa.PrimaryKeyConstraint("revision"),
    )
    op.create_index("grant_change_by_grant", "grant_change", ["grant_name", "revision"])


def downgrade() -> None:
    for table in ("grant_change", "policy_proposal", "delegation"):
        op.drop_table(table)
    with op.batch_alter_table("review") as review:
        review.drop_constraint("review_once_a_principal", type_="unique")
        for name in REVIEW_COLUMNS:
            review.drop_column(name)
        review.create_unique_constraint("review_once_a_principal", ["grant_name", "reviewer_key"])
    for index in ("access_grant_by_parent", "access_grant_by_extension", "access_grant_by_owed_review"):
        op.drop_index(index, "access_grant")
    for name in (*GRANT_COLUMNS, *GRANT_INSTANTS):
        op.drop_column("access_grant", name)
