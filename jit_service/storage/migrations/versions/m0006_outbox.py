"""Adds the outbox of notifications, and the mark of a grant whose overdue review has been recorded."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("access_grant", sa.Column("overdue_recorded_at", sa.BigInteger, nullable=True))
    op.create_table(
        "outbox",
        sa.Column("receiver", TEXT, nullable=False),
        sa.Column("seq", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("gave_up_at", sa.BigInteger, nullable=True),
        sa.Column("fault", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("receiver", "seq"),
    )
    op.create_index(
        "outbox_by_due",
        "outbox",
        ["receiver", "due_at"],
        sqlite_where=sa.text("gave_up_at IS NULL"),
        postgresql_where=sa.text("gave_up_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("outbox")
    op.drop_column("access_grant", "overdue_recorded_at")
