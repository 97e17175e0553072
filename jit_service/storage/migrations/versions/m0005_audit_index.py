"""Makes the audit log append-only: a table of its own indexes the records, and is filled after the commit."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXTS = ("type", "principal", "subject", "decision", "reason", "grant_name", "policy", "method")
MORE_TEXTS = ("source_address", "trace_id", "request_id", "decision_id")


def upgrade() -> None:
    op.create_table(
        "audit_index",
        sa.Column("seq", SEQ, autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        *(sa.Column(name, TEXT, nullable=False) for name in TEXTS[:3]),
        sa.Column("resources", JSON, nullable=False),
        sa.Column("actions", JSON, nullable=False),
        *(sa.Column(name, TEXT, nullable=False) for name in (*TEXTS[3:], *MORE_TEXTS)),
        sa.PrimaryKeyConstraint("seq"),
    )
    columns = ", ".join(("seq", "at", *TEXTS[:3], "resources", "actions", *TEXTS[3:], *MORE_TEXTS))
    op.execute(f"INSERT INTO audit_index ({columns}) SELECT {columns} FROM audit_event")  # noqa: S608 (our names)
    op.drop_index("audit_event_by_grant", "audit_event")
    op.drop_index("audit_event_by_subject", "audit_event")
    op.rename_table("audit_event", "audit_event_before")
    op.create_table(
        "audit_event",
        sa.Column("seq", SEQ, autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.execute("INSERT INTO audit_event SELECT seq, hash, payload FROM audit_event_before ORDER BY seq")
    op.drop_table("audit_event_before")
    op.create_index("audit_index_by_grant", "audit_index", ["grant_name", "seq"])
    op.create_index("audit_index_by_subject", "audit_index", ["subject", "seq"])


def downgrade() -> None:
    _index_the_rest()
    op.drop_index("audit_index_by_grant", "audit_index")
    op.drop_index("audit_index_by_subject", "audit_index")
    op.rename_table("audit_event", "audit_log")
    op.create_table(
        "audit_event",
        sa.Column("seq", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        *(sa.Column(name, TEXT, nullable=False) for name in TEXTS[:3]),
        sa.Column("resources", JSON, nullable=False),
        sa.Column("actions", JSON, nullable=False),
        *(sa.Column(name, TEXT, nullable=False) for name in (*TEXTS[3:], *MORE_TEXTS)),
        sa.PrimaryKeyConstraint("seq"),
    )
    columns = ", ".join((*TEXTS, *MORE_TEXTS, "at", "resources", "actions"))
    op.execute(
        f"INSERT INTO audit_event (seq, hash, payload, {columns}) "  # noqa: S608 (our names)
        f"SELECT audit_log.seq, hash, payload, {columns} FROM audit_log JOIN audit_index USING (seq)"
    )
    for table in ("audit_log", "audit_index"):
        op.drop_table(table)
    op.create_index("audit_event_by_grant", "audit_event", ["grant_name", "seq"])
    op.create_index("audit_event_by_subject", "audit_event", ["subject", "seq"])


def _index_the_rest() -> None:
    """Indexes the records that have no entry yet, so that none is lost to a search."""
    bind = op.get_bind()
    index = sa.Table("audit_index", sa.MetaData(), autoload_with=bind)
    log = sa.table("audit_event", sa.column("seq"), sa.column("payload"))
    last = bind.scalar(sa.select(sa.func.coalesce(sa.func.max(index.c.seq), 0)))
    for seq, payload in bind.execute(sa.select(log.c.seq, log.c.payload).where(log.c.seq > last)).all():
        bind.execute(index.insert().values(seq=seq, **_columns(json.loads(payload))))


def _columns(event: dict[str, Any]) -> dict[str, Any]:
    origin = event.get("origin", {})
    of_origin = ("method", "source_address", "trace_id", "request_id")
    since = datetime.fromisoformat(event["at"]) - datetime(1970, 1, 1, tzinfo=UTC)
    return {
        "at": since // timedelta(microseconds=1),
        "resources": event.get("resources", []),
        "actions": event.get("actions", []),
        **{name: origin.get(name, "") for name in of_origin},
        **{name: event.get(name.removesuffix("_name"), "") for name in (*TEXTS, *MORE_TEXTS) if name not in of_origin},
    }
