"""Names the key that sealed the store, and seals the revisions of policies.

The version before does not read either column. It goes on as long as the key file has one key: put a second one into it
once all processes are of this version. The revisions of policies that it writes have no seal, and are believed by the
records of their changes. Of a store that is sealed anew it reads nothing, since the head does not match its key.
"""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None
oldest_serving = "0028"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("head", sa.Column("sealing_key", TEXT, nullable=False, server_default=""))
    op.add_column("policy_revision", sa.Column("seal", sa.LargeBinary, nullable=True))


def downgrade() -> None:
    op.drop_column("policy_revision", "seal")
    op.drop_column("head", "sealing_key")
