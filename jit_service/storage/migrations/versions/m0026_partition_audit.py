"""Partitions the pieces of the audit log, and their digests, by the piece's seq, on PostgreSQL.

The tables that there are become the first partitions: nothing is copied, and only their short rows are read to prove
that they belong there. The version before goes on with it, which knows of no partition: it reads, inserts and deletes
by the tables' names, and what it inserts beyond the partitions that are there goes into the default ones.
Where this version pruned pieces whose partition is dropped ten minutes later, that one prunes nothing until then.
"""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0028"
branch_labels = None
depends_on = None
oldest_serving = "0028"

RECORDS = 2**26
# A place is a field's number and the seq of the piece in one number.
SEQ_OF_PLACE = f"(place & {2**48 - 1})"
TABLES = (("audit_piece", "seq", "seq"), ("audit_digests", "place", SEQ_OF_PLACE))
# As migration 0025 made it; that of the old table becomes its first part.
HEADS = "audit_piece_heads"
_GRANTS = """
    SELECT granted.privilege_type, granted.is_grantable,
    CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(granted.grantee)) END
    FROM pg_class, aclexplode(relacl) AS granted WHERE oid = CAST(:name AS regclass)
"""


def upgrade() -> None:
    bind = op.get_bind()
    if bind.dialect.name != "postgresql":
        return
    for table, _, _ in TABLES:
        op.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    last = bind.execute(sa.text("SELECT greatest(max(seq), (SELECT seq FROM head)) FROM audit_piece")).scalar_one()
    end = (last // RECORDS + 1) * RECORDS
    for table, key, seq in TABLES:
        op.execute(f"ALTER TABLE {table} RENAME TO {table}_0")
        op.execute(f"ALTER TABLE {table}_0 RENAME CONSTRAINT {table}_pkey TO {table}_0_pkey")
        # A key must contain what it is partitioned by. A place says its seq, so a key of each partition does.
        primary = f", PRIMARY KEY ({key})" if key == seq else ""
        op.execute(
            f"CREATE TABLE {table} (LIKE {table}_0 INCLUDING STORAGE{primary}) PARTITION BY RANGE ({_expression(seq)})"
        )
        if table == "audit_piece":
            op.execute(f"ALTER INDEX {HEADS} RENAME TO audit_piece_0_heads")
            op.create_index(HEADS, table, ["seq", "count", "first_at", "last_at"])
        _give_rights(bind, table)
        op.execute(f"ALTER TABLE {table}_0 ADD CONSTRAINT of_partition CHECK ({seq} IS NOT NULL AND {seq} < {end})")
        op.execute(f"ALTER TABLE {table} ATTACH PARTITION {table}_0 FOR VALUES FROM (MINVALUE) TO ({end})")
        op.execute(f"ALTER TABLE {table}_0 DROP CONSTRAINT of_partition")
        for name, bound in (
            (f"{table}_{end}", f"FOR VALUES FROM ({end}) TO ({end + RECORDS})"),
            (f"{table}_rest", "DEFAULT"),
        ):
            op.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING STORAGE, PRIMARY KEY ({key}))")
            _own_like(bind, name, of=table)
            op.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} {bound}")


def downgrade() -> None:
    bind = op.get_bind()
    if bind.dialect.name != "postgresql":
        return
    for table, _, _ in TABLES:
        op.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    for table, _, _ in TABLES:
        found = bind.execute(
            sa.text(
                "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid "
                "WHERE inhparent = CAST(:name AS regclass) ORDER BY pg_relation_size(oid) DESC, oid"
            ),
            {"name": table},
        )
        largest, *others = found.scalars()
        for name in (largest, *others):
            op.execute(f"ALTER TABLE {table} DETACH PARTITION {name}")
        for name in others:
            op.execute(f"INSERT INTO {largest} SELECT * FROM {name}")  # noqa: S608
            op.execute(f"DROP TABLE {name}")
        op.execute(f"DROP TABLE {table}")
        op.execute(f"ALTER TABLE {largest} RENAME TO {table}")
        op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {largest}_pkey TO {table}_pkey")
    heads = (
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'audit_piece'::regclass AND NOT indisprimary"
    )
    op.execute(f"ALTER INDEX {bind.execute(sa.text(heads)).scalar_one()} RENAME TO {HEADS}")


def _expression(seq: str) -> str:
    return f"({seq})" if seq == SEQ_OF_PLACE else seq


def _give_rights(bind: sa.Connection, table: str) -> None:
    """Gives the new table to whom the old one is, and to those who may use it the same rights."""
    _own_like(bind, table, of=f"{table}_0")
    for privilege, is_grantable, grantee in bind.execute(sa.text(_GRANTS), {"name": f"{table}_0"}).all():
        also = " WITH GRANT OPTION" if is_grantable else ""
        op.execute(f"GRANT {privilege} ON {table} TO {grantee}{also}")


def _own_like(bind: sa.Connection, table: str, *, of: str) -> None:
    owned = sa.text("SELECT quote_ident(pg_get_userbyid(relowner)) FROM pg_class WHERE oid = CAST(:name AS regclass)")
    op.execute(f"ALTER TABLE {table} OWNER TO {bind.execute(owned, {'name': of}).scalar_one()}")
