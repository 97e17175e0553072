"""Gives each addressee of a receiver a notification of its own, in order by grant, and keeps references of messages.

The key of `outbox` gains a column, which SQLite cannot add, so the table is made anew with the rows that wait. The
version before goes on with it: the new columns have defaults, and it delivers what it claims in its own order.

Locks: `outbox` is excluded for the length of the copy, so writes that notify somebody wait: milliseconds for the
thousands of rows of a receiver that was down for a day.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
WAITING = sa.text("gave_up_at IS NULL")
BEFORE = "receiver, seq, type, at, attempts, due_at, gave_up_at, fault"


def upgrade() -> None:
    added = [
        sa.Column("addressee", TEXT, nullable=False, server_default=""),
        sa.Column("about", TEXT, nullable=False, server_default=""),
    ]
    _make_anew(added, ["receiver", "addressee", "seq"])
    op.create_index(
        "outbox_by_grant",
        "outbox",
        ["receiver", "addressee", "about", "seq"],
        sqlite_where=WAITING,
        postgresql_where=WAITING,
    )
    op.create_table(
        "sent_message",
        sa.Column("receiver", TEXT, nullable=False),
        sa.Column("addressee", TEXT, nullable=False),
        sa.Column("about", TEXT, nullable=False),
        sa.Column("reference", TEXT, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("receiver", "addressee", "about"),
    )
    op.create_index("sent_message_by_age", "sent_message", ["at"])


def downgrade() -> None:
    op.drop_table("sent_message")
    # The version before cannot tell addressees apart, and would send them all to one place.
    op.execute("DELETE FROM outbox WHERE addressee <> ''")
    op.drop_index("outbox_by_grant", "outbox")
    _make_anew([], ["receiver", "seq"])


def _make_anew(added: list[sa.Column[str]], key: list[str]) -> None:
    op.create_table(
        "outbox_anew",
        sa.Column("receiver", TEXT, nullable=False),
        sa.Column("seq", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("gave_up_at", sa.BigInteger, nullable=True),
        sa.Column("fault", TEXT, nullable=False),
        *added,
        sa.PrimaryKeyConstraint(*key),
    )
    op.execute(f"INSERT INTO outbox_anew ({BEFORE}) SELECT {BEFORE} FROM outbox")  # noqa: S608
    op.drop_table("outbox")
    op.rename_table("outbox_anew", "outbox")
    op.create_index("outbox_by_due", "outbox", ["receiver", "due_at"], sqlite_where=WAITING, postgresql_where=WAITING)
