"""Adds seals to the rows that decisions depend on, and the sums of the seals to the head row."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_SEALED = (
    ("access_grant", "seal"),
    ("access_grant", "live_seal"),
    ("delegation", "seal"),
    ("access_lock", "seal"),
    ("policy_proposal", "seal"),
    ("grant_change", "seal"),
    ("policy", "seal"),
    ("signal", "seal"),
    ("head", "seal"),
)


def upgrade() -> None:
    for table, column in _SEALED:
        op.add_column(table, sa.Column(column, sa.LargeBinary, nullable=True))
    op.add_column("head", sa.Column("sums", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("head", "sums")
    for table, column in reversed(_SEALED):
        op.drop_column(table, column)
