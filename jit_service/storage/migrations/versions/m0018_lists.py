"""Indexes for lists of grants, so that a page costs by what it returns (ADR 53).

Only indexes change, under new names, so the version before goes on with them.

Locks: on PostgreSQL CREATE INDEX lets others read `access_grant` and `review`, while writes of grants wait until the
migration commits: 1 to 2 s for each index of a million grants, measured 10 s in all. The indexes that are replaced are
dropped last, which excludes readers for the milliseconds until the commit. On SQLite a migration holds the write lock:
measured 11 s for a million grants.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

OPEN = "run_out_at IS NULL AND ended_at IS NULL"
PENDING = f"{OPEN} AND expires_at IS NULL"
Indexes = dict[str, tuple[str, list[str], str]]
"""Table, columns and condition by the name of the index."""

BEFORE: Indexes = {
    "access_grant_by_policy": ("access_grant", ["policy", "request_expires_at"], ""),
    "access_grant_by_parent": ("access_grant", ["parent"], ""),
    "access_grant_by_account": ("access_grant", ["requester_issuer_subject", "requester_issuer"], ""),
    "access_grant_by_extension": ("access_grant", ["extension_expires_at"], ""),
    "access_grant_by_owed_review": ("access_grant", ["review_owed_at"], ""),
}
AFTER: Indexes = {
    "access_grant_by_subject_and_creation": ("access_grant", ["subject", "created_at"], ""),
    "access_grant_by_policy_and_creation": ("access_grant", ["policy", "created_at"], ""),
    "access_grant_names_of_account": (
        "access_grant",
        ["requester_issuer_subject", "requester_issuer", "requester"],
        "requester_issuer_subject <> ''",
    ),
    "access_grant_extending": ("access_grant", ["extension_expires_at"], "extension_expires_at IS NOT NULL"),
    "access_grant_owing_review": ("access_grant", ["review_owed_at"], "review_owed_at IS NOT NULL"),
    "access_grant_open_by_requester": ("access_grant", ["requester", "created_at"], OPEN),
    "access_grant_open_by_subject": ("access_grant", ["subject_key", "created_at"], OPEN),
    "access_grant_children": ("access_grant", ["parent"], "parent <> ''"),
    "access_grant_open_by_creation": ("access_grant", ["created_at"], OPEN),
    "access_grant_pending_by_policy": ("access_grant", ["policy", "created_at"], PENDING),
    "review_by_account": ("review", ["issuer_subject", "issuer", "reviewer_key"], "issuer_subject <> ''"),
}


def upgrade() -> None:
    _replace(BEFORE, AFTER)


def downgrade() -> None:
    _replace(AFTER, BEFORE)


def _replace(before: Indexes, after: Indexes) -> None:
    for name, (table, columns, where) in after.items():
        condition = sa.text(where) if where else None
        op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)
    for name, (table, _, _) in before.items():
        op.drop_index(name, table)
