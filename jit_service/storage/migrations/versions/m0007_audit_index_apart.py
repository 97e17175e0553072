"""Moves the audit index of SQLite to a file of its own, so that no commit waits for it. It is built anew there."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TEXTS = ("type", "principal", "subject", "decision", "reason", "grant_name", "policy", "method")
MORE_TEXTS = ("source_address", "trace_id", "request_id", "decision_id")


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.drop_table("audit_index")


def downgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    op.create_table(
        "audit_index",
        sa.Column("seq", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in TEXTS[:3]),
        sa.Column("resources", sa.JSON, nullable=False),
        sa.Column("actions", sa.JSON, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in (*TEXTS[3:], *MORE_TEXTS)),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("audit_index_by_grant", "audit_index", ["grant_name", "seq"])
    op.create_index("audit_index_by_subject", "audit_index", ["subject", "seq"])
