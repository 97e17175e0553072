"""Records with a review the condition by which its reviewer was judged."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    # Of none from before; its step's condition could not read the reviewer.
    op.add_column("review", sa.Column("condition", TEXT, nullable=False, server_default=""))


def downgrade() -> None:
    with op.batch_alter_table("review") as review:
        review.drop_column("condition")
