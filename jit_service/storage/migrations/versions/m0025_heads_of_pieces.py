"""Indexes what a search reads of every piece of the audit log, so that it does not read the pieces for it.

Online: the version before goes on with it. On PostgreSQL reads go on, and merging waits; checks do not write to this
table. On SQLite a migration holds the write lock. Measured for ten thousand pieces, as ten million records have, and
not in memory: 0.3 s on SQLite.
"""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None
oldest_serving = "0024"


def upgrade() -> None:
    op.create_index("audit_piece_heads", "audit_piece", ["seq", "count", "first_at", "last_at"])


def downgrade() -> None:
    op.drop_index("audit_piece_heads", "audit_piece")
