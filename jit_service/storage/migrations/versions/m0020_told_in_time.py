"""Keeps how reviewers had logged in, and when to tell that a grant ends soon or that a step has escalated.

Nothing of before is told of: an instant is set when a grant is next written. The version before goes on with the new
columns, which it does not read.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
OPEN = "run_out_at IS NULL AND ended_at IS NULL"
INSTANTS = ("warns_at", "warned_of", "escalates_at", "escalated_of")
INDEXES = {"access_grant_to_warn": "warns_at", "access_grant_to_escalate": "escalates_at"}


def upgrade() -> None:
    # Of none from before; no policy asked for it.
    op.add_column("review", sa.Column("authentication", JSON, nullable=False, server_default="null"))
    op.add_column("access_grant", sa.Column("warn_before", sa.BigInteger, nullable=False, server_default="0"))
    for instant in INSTANTS:
        op.add_column("access_grant", sa.Column(instant, sa.BigInteger, nullable=True))
    for name, column in INDEXES.items():
        condition = sa.text(f"{OPEN} AND {column} IS NOT NULL")
        op.create_index(name, "access_grant", [column], sqlite_where=condition, postgresql_where=condition)


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, "access_grant")
    for column in ("warn_before", *INSTANTS):
        op.drop_column("access_grant", column)
    op.drop_column("review", "authentication")
