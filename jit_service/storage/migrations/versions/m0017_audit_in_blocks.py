"""Keeps the audit log in blocks and pieces, and forgets the index of its records.

The log stays where it is: a running service merges its rows into pieces later, in the background. Only changes of
policies and signals are listed here, found by the index that there was; rows that it did not have yet are scanned.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
import zstandard
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SETTINGS = ("POLICY_CREATED", "POLICY_UPDATED", "POLICY_DELETED", "SIGNAL_SET", "SIGNAL_DELETED")
IN_SETTINGS = f"type IN ({', '.join(repr(name) for name in SETTINGS)})"
BEGINNINGS = (b'{"type":"POLICY_', b'{"type":"SIGNAL_')
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INDEXED = ("type", "principal", "subject", "decision", "reason", "grant_name", "policy", "method", "source_address",
           "subject_source_ip", "trace_id", "request_id", "decision_id")  # fmt: skip


def upgrade() -> None:
    bind = op.get_bind()
    op.add_column("audit_event", sa.Column("count", sa.BigInteger, nullable=True))
    op.create_table(
        "audit_piece",
        sa.Column("seq", SEQ, autoincrement=False, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("count", "first_at", "last_at")),
        *(sa.Column(name, sa.LargeBinary, nullable=False) for name in ("hash", "seal", "marks", "payload")),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_table(
        "audit_digests",
        sa.Column("place", SEQ, autoincrement=False, nullable=False),
        sa.Column("digests", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("place"),
    )
    op.create_table(
        "setting_change",
        sa.Column("seq", SEQ, autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("setting_change_by_name", "setting_change", ["name", "seq"])
    seqs, indexed = _of_sqlite(bind) if bind.dialect.name == "sqlite" else _of_postgresql(bind)
    changes = [*_changes(bind, sa.column("seq").in_(seqs))]
    begins = sa.func.substr(sa.column("payload"), 1, len(BEGINNINGS[0])).in_(BEGINNINGS)
    changes += _changes(bind, sa.and_(sa.column("seq") > indexed, begins))
    if changes:
        listed = sa.table("setting_change", sa.column("seq"), sa.column("at"), sa.column("name"))
        op.bulk_insert(listed, changes)
    if bind.dialect.name == "postgresql":
        op.drop_table("audit_index")
        # They are compressed already, or digests.
        for table, column in (("audit_event", "payload"), ("audit_piece", "payload"), ("audit_digests", "digests")):
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL")


def downgrade() -> None:
    bind = op.get_bind()
    _expand(bind)
    for table in ("setting_change", "audit_digests", "audit_piece"):
        op.drop_table(table)
    with op.batch_alter_table("audit_event") as log:
        log.drop_column("count")
    if bind.dialect.name == "postgresql":
        op.execute("ALTER TABLE audit_event ALTER COLUMN payload SET STORAGE EXTENDED")
        op.create_table(
            "audit_index",
            sa.Column("seq", sa.BigInteger, autoincrement=False, nullable=False),
            sa.Column("at", sa.BigInteger, nullable=False),
            *(sa.Column(name, TEXT, nullable=False) for name in INDEXED[:3]),
            *(sa.Column(name, JSONB, nullable=False) for name in ("resources", "actions")),
            *(sa.Column(name, TEXT, nullable=False) for name in INDEXED[3:]),
            sa.PrimaryKeyConstraint("seq"),
        )
        op.create_index("audit_index_by_grant", "audit_index", ["grant_name", "seq"])
        op.create_index("audit_index_by_subject", "audit_index", ["subject", "seq"])
        op.create_index(
            "audit_index_of_settings", "audit_index", ["policy", "seq"], postgresql_where=sa.text(IN_SETTINGS)
        )


def _of_postgresql(bind: sa.Connection) -> tuple[list[int], int]:
    """Returns the places of the changes that the index has, and how far it is."""
    found = bind.execute(sa.text(f"SELECT seq FROM audit_index WHERE {IN_SETTINGS}"))  # noqa: S608
    return [row[0] for row in found], bind.execute(
        sa.text("SELECT coalesce(max(seq), 0) FROM audit_index")
    ).scalar_one()


def _of_sqlite(bind: sa.Connection) -> tuple[list[int], int]:
    """As `_of_postgresql`. The index is a file beside the log, which need not be there, nor be of this log."""
    path = Path(f"{bind.engine.url.database}.audit-index")
    if not path.exists():
        return [], 0
    try:
        with closing(sqlite3.connect(path)) as index:
            last, hash_ = index.execute("SELECT seq, hash FROM indexed_log").fetchone() or (0, b"")
            found = [row[0] for row in index.execute(f"SELECT seq FROM audit_index WHERE {IN_SETTINGS}")]  # noqa: S608
    except sqlite3.Error:
        return [], 0
    there = bind.execute(sa.text("SELECT hash FROM audit_event WHERE seq = :seq"), {"seq": last}).scalar()
    return (found, last) if there == hash_ else ([], 0)


def _changes(bind: sa.Connection, which: sa.ColumnElement[bool]) -> Iterator[dict[str, object]]:
    log = sa.table("audit_event", sa.column("seq"), sa.column("payload", sa.LargeBinary))
    for seq, payload in bind.execute(sa.select(log.c.seq, log.c.payload).where(which).order_by(log.c.seq)):
        try:
            event = json.loads(payload)
            if event["type"] in SETTINGS:
                at = (datetime.fromisoformat(event["at"]) - EPOCH) // timedelta(microseconds=1)
                yield {"seq": seq, "at": at, "name": event.get("policy") or event["signal"]}
        except (ValueError, KeyError, TypeError):
            continue  # Somebody changed it; verifying the log tells so.


def _expand(bind: sa.Connection) -> None:
    """Makes a row of each record again."""
    log = sa.table("audit_event", sa.column("seq"), sa.column("hash"), sa.column("payload"))
    hash_ = bytes(32)
    pieces = list(bind.execute(sa.text("SELECT seq, count FROM audit_piece ORDER BY seq")))
    blocks = list(bind.execute(sa.text("SELECT seq, count FROM audit_event ORDER BY seq")))
    for table, listed in (("audit_piece", pieces), ("audit_event", blocks)):
        for seq, count in listed:
            stored = bind.execute(sa.text(f"SELECT hash, payload FROM {table} WHERE seq = :seq"), {"seq": seq}).one()  # noqa: S608
            if count is not None:
                records = []
                body = zstandard.ZstdDecompressor().decompress(bytes(stored.payload))
                for place, payload in enumerate(body.split(b"\n"), start=seq - count + 1):
                    hash_ = hashlib.sha256(hash_ + place.to_bytes(8, "big") + payload).digest()
                    records.append({"seq": place, "hash": hash_, "payload": payload})
                bind.execute(sa.text("DELETE FROM audit_event WHERE seq = :seq"), {"seq": seq})
                bind.execute(sa.insert(log), records)
            hash_ = bytes(stored.hash)
