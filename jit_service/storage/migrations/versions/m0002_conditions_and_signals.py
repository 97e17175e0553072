"""Adds what conditions read: signals, and the context, claims and source of a grant."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ADDED = {"skipped": (JSON, "[]"), "context": (JSON, "{}"), "claims": (JSON, "{}")} | {
    "source_address": (TEXT, ""),
    "check_condition": (TEXT, ""),
}


def upgrade() -> None:
    op.create_table(
        "signal",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("setter", TEXT, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    for name, (kind, default) in ADDED.items():
        op.add_column("access_grant", sa.Column(name, kind, nullable=False, server_default=default))


def downgrade() -> None:
    for name in ADDED:
        op.drop_column("access_grant", name)
    op.drop_table("signal")
