"""Lets ended grants and old changes be forgotten: from where on they are whole, and the names that stay known.

The version before goes on with the new tables, which it does not read, as long as nothing is forgotten: set
JIT_GRANT_RETENTION and JIT_CHANGE_RETENTION once all processes are of this version.

There is no `oldest_serving`, since the schema does not tell whether something was forgotten, and a version that does
not read `known_name` would then not know under which other names an account requested. A lock on one of them would not
reach what it holds under the others: a yes that has to be a no (invariant I29). It does not read `grant_beginning`
either, so it would take what was forgotten for what never was.
"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0025"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "grant_beginning",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("over_at", sa.BigInteger, nullable=True),
        sa.Column("revision", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=True),
        sa.Column("moved_revision", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("seal", sa.LargeBinary, nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "known_name",
        *(
            sa.Column(name, TEXT, nullable=False)
            for name in ("name", "principal", "principal_key", "issuer", "issuer_subject")
        ),
        sa.Column("seal", sa.LargeBinary, nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("known_name_by_key", "known_name", ["principal_key"])
    op.create_index("known_name_by_account", "known_name", ["issuer_subject", "issuer"])


def downgrade() -> None:
    op.drop_table("known_name")
    op.drop_table("grant_beginning")
