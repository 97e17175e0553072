"""Indexes the scheduled and live grants of a policy, so that a change of the policy reads no ended grants."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

NAME = "access_grant_live_by_policy"
LIVE = sa.text("ended_at IS NULL AND expires_at IS NOT NULL")


def upgrade() -> None:
    op.create_index(NAME, "access_grant", ["policy", "expires_at"], sqlite_where=LIVE, postgresql_where=LIVE)


def downgrade() -> None:
    op.drop_index(NAME, "access_grant")
