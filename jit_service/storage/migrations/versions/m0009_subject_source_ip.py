"""Indexes audit records by the address of their subject too. On SQLite the index is built anew with the new column."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        # No record from before says any.
        op.add_column("audit_index", sa.Column("subject_source_ip", TEXT, nullable=False, server_default=""))
        op.alter_column("audit_index", "subject_source_ip", server_default=None)


def downgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        op.drop_column("audit_index", "subject_source_ip")
