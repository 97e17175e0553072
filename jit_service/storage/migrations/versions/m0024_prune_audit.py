"""Lets the oldest records of the audit log be pruned, behind a place where the log begins.

The version before goes on with what is new, which it does not read, as long as nothing is pruned: set
JIT_AUDIT_RETENTION once all processes are of this version.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0024"
down_revision = "0021"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "audit_beginning",
        sa.Column("seq", SEQ, autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("document", JSON, nullable=False),
        sa.Column("seal", sa.LargeBinary, nullable=True),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_table(
        "lease",
        sa.Column("task", TEXT, nullable=False),
        sa.Column("holder", TEXT, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("task"),
    )
    op.add_column("setting_change", sa.Column("payload", sa.LargeBinary, nullable=True))


def downgrade() -> None:
    op.drop_column("setting_change", "payload")
    op.drop_table("lease")
    op.drop_table("audit_beginning")
