"""Indexes grants by their end, and the audit records of policies and signals, for answers about the past."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

SETTINGS = sa.text("type IN ('POLICY_CREATED', 'POLICY_UPDATED', 'POLICY_DELETED', 'SIGNAL_SET', 'SIGNAL_DELETED')")


def upgrade() -> None:
    op.create_index("access_grant_by_expiry", "access_grant", ["expires_at", "created_at"])
    # SQLite's index of the log is a file of its own, which the service makes as it needs it.
    if op.get_bind().dialect.name == "postgresql":
        op.create_index("audit_index_of_settings", "audit_index", ["policy", "seq"], postgresql_where=SETTINGS)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_index("audit_index_of_settings", "audit_index")
    op.drop_index("access_grant_by_expiry", "access_grant")
