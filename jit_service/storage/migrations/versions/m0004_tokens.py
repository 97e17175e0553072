"""Adds the sealed signing keys of grant tokens, and the tokens that were revoked before they expired."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "signing_key",
        sa.Column("kid", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("signs_at", sa.BigInteger, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("last_expires_at", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("kid"),
    )
    op.create_table(
        "token_denial",
        sa.Column("token_id", TEXT, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("token_id"),
    )
    op.create_index("token_denial_by_expiry", "token_denial", ["expires_at"])


def downgrade() -> None:
    op.drop_table("token_denial")
    op.drop_table("signing_key")
