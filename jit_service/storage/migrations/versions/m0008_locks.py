"""Adds locks, and to the head row the number of locks that may exist."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("head", sa.Column("locks", sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "access_lock",
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("principal", TEXT, nullable=False),
        sa.Column("group_name", TEXT, nullable=False),
        sa.Column("token_id", TEXT, nullable=False),
        sa.Column("accounts", JSON, nullable=False),
        sa.Column("also", JSON, nullable=False),
        sa.Column("comment", TEXT, nullable=False),
        sa.Column("creator", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=True),
        sa.Column("end_grants", sa.Boolean, nullable=False),
        sa.Column("ended_grants", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("deleted_at", sa.BigInteger, nullable=True),
        sa.Column("expiry_recorded_at", sa.BigInteger, nullable=True),
        sa.Column("revision", sa.BigInteger, autoincrement=False, nullable=False),
    )
    # Those that may stand: few, however many are kept.
    op.create_index(
        "access_lock_open",
        "access_lock",
        ["name"],
        sqlite_where=sa.text("deleted_at IS NULL AND expiry_recorded_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL AND expiry_recorded_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("access_lock")
    op.drop_column("head", "locks")
