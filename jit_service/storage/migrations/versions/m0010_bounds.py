"""Adds indexes to count what a limit bounds, and to find rows to end or to delete without a scan."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

PENDING = sa.text("run_out_at IS NULL AND ended_at IS NULL AND expires_at IS NULL")
LIVE_CHILD = sa.text("run_out_at IS NULL AND ended_at IS NULL AND parent <> ''")
GIVEN = sa.text("deleted_at IS NULL")


def upgrade() -> None:
    op.create_index(
        "access_grant_pending_by_requester",
        "access_grant",
        ["requester", "request_expires_at"],
        sqlite_where=PENDING,
        postgresql_where=PENDING,
    )
    op.create_index(
        "access_grant_live_child", "access_grant", ["parent"], sqlite_where=LIVE_CHILD, postgresql_where=LIVE_CHILD
    )
    op.create_index(
        "delegation_by_delegator",
        "delegation",
        ["delegator", "expires_at"],
        sqlite_where=GIVEN,
        postgresql_where=GIVEN,
    )
    op.create_index("replay_by_answer", "replay", ["answered_at"])


def downgrade() -> None:
    op.drop_index("replay_by_answer", "replay")
    op.drop_index("delegation_by_delegator", "delegation")
    op.drop_index("access_grant_live_child", "access_grant")
    op.drop_index("access_grant_pending_by_requester", "access_grant")
