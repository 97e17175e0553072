"""Databases full of grants, quickly: rows made from one real grant, inserted past the use cases.

There are no audit records of these grants, since nobody asked for them; the audit log of such a database is whole.
Each size is made once a day and copied from then on.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, insert, update

from bench.facts import CONDITION, POLICIES, Fact, fact
from bench.machine import WORK
from jit_service import policies
from jit_service.domain.caller import Caller
from jit_service.domain.event import SERVICE
from jit_service.domain.grant import Grant, Justification
from jit_service.rpc import policy_file
from jit_service.storage import Store, rows
from jit_service.storage.engine import for_writing
from jit_service.storage.migrate import migrate
from jit_service.storage.migrations import versions
from jit_service.storage.tables import GrantRow, HeadRow

DURATION: Final = timedelta(days=29)
_CHUNK: Final = 5_000
_FRESH_SECONDS: Final = 86_400
POLICY_FILE: Final = Path(__file__).parent / "policies.yaml"


def sqlite_copy(grants: int, path: Path) -> str:
    """Puts a database with that many live grants at the path, and returns its URL."""
    template = WORK / "seed" / f"{_schema()}-{grants}.db"
    if not template.exists() or time.time() - template.stat().st_mtime > _FRESH_SECONDS:
        template.parent.mkdir(parents=True, exist_ok=True)
        made = template.with_suffix(".new")
        for left in template.parent.glob(f"{made.name}*"):
            left.unlink()
        fill(f"sqlite:///{made}", grants)
        made.replace(template)
    for left in path.parent.glob(f"{path.name}*"):
        left.unlink()
    shutil.copyfile(template, path)
    return f"sqlite:///{path}"


def _schema() -> str:
    """Returns a name of the schema: what the migrations say and how rows are made."""
    directory = Path(versions.__file__).parent
    sources = [*sorted(directory.glob("m*.py")), Path(rows.__file__), Path(__file__), POLICY_FILE]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]


def fill(url: str, grants: int) -> None:
    """Gives an empty database the schema, the policies and that many live grants."""
    migrate(url)
    store = Store(url, clock=lambda: datetime.now(UTC))
    try:
        policies.apply(store, Caller(principal=SERVICE), policy_file.load(POLICY_FILE), prune=False)
        with store.snapshot() as snapshot:
            revision = snapshot.revision
        writing = for_writing(store.engine)
        with writing.begin() as connection:
            _insert(connection, grants, revision)
        writing.dispose()
        if store.engine.dialect.name == "sqlite":
            with store.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            with store.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                connection.exec_driver_sql("ANALYZE")
    finally:
        store.close()


def grant_name(n: int) -> str:
    """Returns the name of the n-th fact's grant."""
    return "grants/" + base64.b32encode(n.to_bytes(16, "big")).decode().rstrip("=").lower()


def _insert(connection: Connection, grants: int, revision: int) -> None:
    chunk: list[dict[str, Any]] = []
    for row in _rows(grants, revision):
        chunk.append(row)
        if len(chunk) == _CHUNK:
            connection.execute(insert(GrantRow), chunk)
            chunk = []
    if chunk:
        connection.execute(insert(GrantRow), chunk)
    connection.execute(update(HeadRow).values(revision=revision + grants))


def _rows(grants: int, revision: int) -> Iterator[dict[str, Any]]:
    now = datetime.now(UTC)
    models = [rows.grant_columns(_grant(fact(n), now)) for n in range(POLICIES)]
    for n in range(grants):
        what = fact(n)
        yield models[what.policy] | {
            "name": grant_name(n),
            "requester": what.subject,
            "subject": what.subject,
            "resources": [what.resource],
            "actions": [what.action],
            "revision": revision + n + 1,
        }


def _grant(what: Fact, now: datetime) -> Grant:
    return Grant(
        name="grants/model",
        requester=what.subject,
        requester_groups=frozenset({"engineering"}),
        subject=what.subject,
        policy=f"policies/bench-{what.policy}",
        policy_revision=what.policy + 1,
        steps=(),
        resources=(what.resource,),
        actions=(what.action,),
        duration=DURATION,
        justification=Justification(text="for the benchmark"),
        created_at=now,
        request_expires_at=now + timedelta(hours=1),
        request_ttl=timedelta(hours=1),
        approved_at=now,
        starts_at=now,
        expires_at=now + DURATION,
        check_condition=CONDITION if what.policy == POLICIES - 1 else "",
    )
