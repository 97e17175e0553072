"""Records with a review the identity token of its reviewer, so that a lock on the token covers the review."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    # Of none from before: no lock on a token reaches them.
    op.add_column("review", sa.Column("token_id", TEXT, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("review", "token_id")
