"""Keeps where people were told of a request, so that they are told of its end."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
KEY = ("grant_name", "receiver", "addressee")


def upgrade() -> None:
    op.create_table(
        "told_address",
        *(sa.Column(name, TEXT, nullable=False) for name in (*KEY, "principal")),
        sa.PrimaryKeyConstraint(*KEY),
    )


def downgrade() -> None:
    op.drop_table("told_address")
