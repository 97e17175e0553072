"""Adds the columns that tell who is the same person, and folds stored names that look like e-mail addresses.

The service folds such names wherever they come in (`name.folded`). Stored names are folded too, so that a holder keeps
the grant, and a policy goes on naming the same people. The audit log is not changed.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from jit_service.domain.language.name import canonical, folded

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
ADDED = {
    "access_grant": ("requester_issuer", "requester_issuer_subject", "subject_key"),
    "review": ("issuer", "issuer_subject", "holder_issuer", "holder_issuer_subject"),
    "delegation": ("delegator_issuer", "delegator_issuer_subject"),
}
# What is named by a column, and what within a document, by table; each table's key comes first.
NAMED: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "access_grant": (("name",), ("requester", "subject"), ("steps", "offer", "extension")),
    "review": (("grant_name", "position"), ("reviewer", "on_behalf_of"), ()),
    "delegation": (("name",), ("delegator", "delegate"), ()),
    "policy": (("name",), (), ("document",)),
    "policy_proposal": (("name",), (), ("document",)),
}
PRINCIPALS = ("principals", "requester", "reviewer", "on_behalf_of", "proposer")
BATCH = 500


def upgrade() -> None:
    for table, columns in ADDED.items():
        for column in columns:
            op.add_column(table, sa.Column(column, TEXT, nullable=False, server_default=""))
    for table, (key, names, documents) in NAMED.items():
        _fold(table, key, names, documents)
    op.create_index("access_grant_by_subject_key", "access_grant", ["subject_key", "expires_at"])
    op.create_index("review_by_reviewer", "review", ["reviewer_key"])
    op.create_index("access_grant_by_account", "access_grant", ["requester_issuer_subject", "requester_issuer"])


def downgrade() -> None:
    op.drop_index("review_by_reviewer", "review")
    for index in ("access_grant_by_account", "access_grant_by_subject_key"):
        op.drop_index(index, "access_grant")
    for table, columns in ADDED.items():
        for column in columns:
            op.drop_column(table, column)


def _fold(table: str, key: tuple[str, ...], names: tuple[str, ...], documents: tuple[str, ...]) -> None:
    """Folds the names of every row, in batches by its key."""
    keyed = ("subject_key",) if table == "access_grant" else ()
    rows = sa.table(
        table,
        *(sa.column(column) for column in key),
        *(sa.column(column, TEXT) for column in (*names, *keyed)),
        *(sa.column(column, JSON) for column in documents),
    )
    place = sa.tuple_(*(rows.c[column] for column in key))
    connection, after = op.get_bind(), None
    while True:
        wanted = sa.select(rows).order_by(*(rows.c[column] for column in key)).limit(BATCH)
        found = connection.execute(wanted if after is None else wanted.where(place > after)).mappings().all()
        for row in found:
            changed = _changes(row, names, documents)
            if changed:
                same = sa.and_(*(rows.c[column] == row[column] for column in key))
                connection.execute(sa.update(rows).where(same).values(**changed))
        if len(found) < BATCH:
            return
        after = sa.tuple_(*(sa.literal(found[-1][column]) for column in key))


def _changes(row: Any, names: tuple[str, ...], documents: tuple[str, ...]) -> dict[str, Any]:
    after = {name: folded(row[name]) for name in names} | {name: _folded_within(row[name]) for name in documents}
    if "subject_key" in row:
        after["subject_key"] = canonical(row["subject"])
    return {name: value for name, value in after.items() if value != row[name]}


def _folded_within(value: Any, *, within: str = "") -> Any:
    """Returns the document with its principals folded; `within` is the name of the member that holds the value."""
    if isinstance(value, dict):
        return {key: inner if key == "labels" else _folded_within(inner, within=key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_folded_within(inner, within=within) for inner in value]
    return folded(value) if isinstance(value, str) and within in PRINCIPALS else value
