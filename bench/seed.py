"""Fills databases with grants quickly: copies the rows of one real grant, and inserts them past the use cases.

There are no audit records of these grants, since nobody asked for them; the audit log of such a database is whole.
Each size is made once a day and copied from then on.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, insert, select, update
from sqlmodel import col

from bench.facts import CONDITION, POLICIES, Fact, fact
from bench.machine import WORK
from jit_service.domain.audit.event import SERVICE
from jit_service.domain.caller import Caller
from jit_service.domain.checks.cached_grant import condense
from jit_service.domain.frozen import replace
from jit_service.domain.grants import approval, request
from jit_service.domain.grants.grant import Grant, Justification
from jit_service.rpc import policy_file
from jit_service.storage import Store, rows
from jit_service.storage.columns import MICROSECOND
from jit_service.storage.engine import for_writing
from jit_service.storage.migrate import migrate
from jit_service.storage.migrations import versions
from jit_service.storage.sealing import GRANTS, Sealer, Sums, exchange, live_text, sums_text
from jit_service.storage.sealing_keys import SealingKeys
from jit_service.storage.tables import GrantRow, HeadRow
from jit_service.use_cases import policies
from jit_service.use_cases.keyring import make_key_file, secrets_of

DURATION: Final = timedelta(days=29)
_CHUNK: Final = 5_000
_FRESH_SECONDS: Final = 86_400
_FRESH_PENDING_SECONDS: Final = 1_800
POLICY_FILE: Final = Path(__file__).parent / "policies.yaml"


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a database holds: so many live grants, all of one holder if it is named, and so many pending requests."""

    grants: int
    holder: str = ""
    pending: int = 0


def sqlite_copy(content: Content, path: Path) -> str:
    """Puts a database with that content at the path, and returns its URL."""
    kind = hashlib.sha256(repr(content).encode()).hexdigest()[:8]
    template = WORK / "seed" / f"{_schema()}-{content.grants}-{kind}.db"
    fresh = _FRESH_PENDING_SECONDS if content.pending else _FRESH_SECONDS
    if not template.exists() or time.time() - template.stat().st_mtime > fresh:
        template.parent.mkdir(parents=True, exist_ok=True)
        made = template.with_suffix(".new")
        for left in template.parent.glob(f"{made.name}*"):
            left.unlink()
        fill(f"sqlite:///{made}", content)
        made.replace(template)
    for left in path.parent.glob(f"{path.name}*"):
        left.unlink()
    shutil.copyfile(template, path)
    return f"sqlite:///{path}"


def _schema() -> str:
    """Returns a name for the schema and the way rows are made; it changes with either."""
    directory = Path(versions.__file__).parent
    sources = [*sorted(directory.glob("m*.py")), Path(rows.__file__), Path(__file__), POLICY_FILE]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]


def key_file() -> Path:
    """Returns the key file of these databases and of the services that run on them; makes it once."""
    path = WORK / "rows.key"
    path.parent.mkdir(parents=True, exist_ok=True)
    make_key_file(path)
    return path


def opened(url: str) -> Store:
    """Opens such a database."""
    keys = SealingKeys.of(*secrets_of(key_file()))
    return Store(url.replace("postgresql://", "postgresql+psycopg://", 1), clock=lambda: datetime.now(UTC), keys=keys)


def fill(url: str, content: Content) -> None:
    """Gives an empty database the schema, the policies and that content."""
    migrate(url)
    store = opened(url)
    try:
        policies.apply(store, Caller(principal=SERVICE), policy_file.load(POLICY_FILE), prune=False)
        with store.snapshot() as snapshot:
            revision = snapshot.revision
        writing = for_writing(store.engine)
        with writing.begin() as connection:
            _insert(connection, content, revision, store.keys.first)
        writing.dispose()
        _request(store, content)
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


def _insert(connection: Connection, content: Content, revision: int, sealer: Sealer) -> None:
    chunk: list[dict[str, Any]] = []
    head = connection.execute(select(col(HeadRow.locks), col(HeadRow.sums))).one()
    sums: Sums = {kind: int(total, 16) for kind, total in json.loads(head.sums).items()}
    for row in _rows(content, revision, sealer):
        chunk.append(row)
        sums = exchange(sums, GRANTS, old=None, new=row["live_seal"])
        if len(chunk) == _CHUNK:
            connection.execute(insert(GrantRow), chunk)
            chunk = []
    if chunk:
        connection.execute(insert(GrantRow), chunk)
    last, texts = revision + content.grants, sums_text(sums)
    seal = sealer.of_head(revision=last, locks=head.locks, sums=texts)
    connection.execute(update(HeadRow).values(revision=last, sums=texts, seal=seal))


def _request(store: Store, content: Content) -> None:
    """Makes pending requests, each of another requester, as the service does, with their audit records."""
    for first in range(0, content.pending, _CHUNK):
        with store.transaction() as tx:
            known = tx.policies()
            for n in range(first, min(first + _CHUNK, content.pending)):
                by = Caller(principal=f"user:asker{n}@example.com", groups=frozenset({"engineering"}))
                ask = request.Ask(subject=by.principal, resources=(f"writes/asked/{n}",), actions=("read",))
                # As where each has a commit of its own: lists would sort those of one instant by name.
                now = tx.now + (n - first) * MICROSECOND
                judged = request.judge_request(
                    ask, policies=known, by=by, grant_name=grant_name(content.grants + n), now=now
                )
                tx.save_grant(*approval.open_request(judged, by=by, now=now))


def _rows(content: Content, revision: int, sealer: Sealer) -> Iterator[dict[str, Any]]:
    now = datetime.now(UTC)
    models = [_grant(fact(n), now) for n in range(POLICIES)]
    for n in range(content.grants):
        what = fact(n)
        holder = content.holder or what.subject
        grant = replace(
            models[what.policy],
            name=grant_name(n),
            requester=holder,
            subject=holder,
            resources=(what.resource,),
            actions=(what.action,),
            # As where each has a commit of its own: lists are in the order of creation.
            created_at=now - (content.grants - n) * MICROSECOND,
            revision=revision + n + 1,
        )
        seals = {"seal": sealer.of(grant.name, grant), "live_seal": sealer.of_live(live_text(condense(grant)))}
        yield rows.grant_columns(grant) | seals


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
