"""PostgreSQL: reads its URL, and refuses every server that is not the primary.

A standby lags behind: it would answer with an older state. A primary that was demoted still answers reads. So each
connection is asked whether it is to a primary when it is made and whenever it leaves the pool. Behind a pooler, whose
next transaction may be at another server, each transaction asks.
"""

from __future__ import annotations

import re
import select
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from sqlalchemy import URL, Engine, create_engine, event, make_url

from jit_service.domain.errors import StoreUnavailable
from jitaccess.extras import needed_for

OLDEST: Final = 14
"""The oldest major version that the service is tested on."""
NO_PRIMARY: Final = "pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean"
"""SQL that is true on a standby, and on a server that takes no writes."""
TAKES_NO_WRITES: Final = "the database server takes no writes: it is a standby, or read-only"
_POOLERS: Final = ("auto", "transaction", "none")
_CONNECT_SECONDS: Final = 3
"""How long each host may take to be connected to: less than it takes to lose a caller's patience with two of them."""
_PING_SECONDS: Final = 2
_LOAD_SECONDS: Final = 60
_PREPARE_AFTER: Final = 5
_HOSTS: Final = re.compile(r"(?P<scheme>[a-z0-9+]+)://(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?(?P<hosts>[^/?@]*)"
                           r"(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?", re.DOTALL)  # fmt: skip
_HOST: Final = re.compile(r"(?P<name>\[[^\]]+\]|[^:\[\]]+)(?::(?P<port>[0-9]+))?")


def read_url(url: str) -> URL:
    """Returns the URL, which may name several hosts as libpq's do: `postgresql://a:5432,b/db`.

    Raises StoreUnavailable if it cannot be read. The message does not quote it, since it may contain a password.
    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS
    """
    try:
        found = _HOSTS.fullmatch(url)
        if found is None or "," not in found["hosts"]:
            return make_url(url)
        hosts = [_HOST.fullmatch(host) for host in found["hosts"].split(",")]
        if None in hosts:
            raise ValueError
        query = dict(parse_qsl(found["query"] or "", strict_parsing=bool(found["query"])))
    except Exception:
        raise StoreUnavailable(
            "the database URL cannot be read; it is postgresql://USER@HOST:PORT/DATABASE, "
            "or postgresql://USER@HOST:PORT,HOST:PORT/DATABASE for several hosts"
        ) from None
    query["host"] = ",".join(host["name"].strip("[]") for host in hosts if host)
    query["port"] = ",".join(host["port"] or "5432" for host in hosts if host)
    return URL.create(
        found["scheme"],
        username=_text(found["user"]),
        password=_text(found["password"]),
        database=_text(found["database"]),
        query=query,
    )


def open_engine(url: URL, *, wait_seconds: int, **options: Any) -> Engine:
    """Returns an engine that connects only to a primary, of version OLDEST or newer. Raises ExtraMissing.

    No answer is waited for longer than a second more than `wait_seconds`. `pooler=transaction` in the URL says that a
    pooler stands between which gives each transaction another session, `pooler=none` that there is none; without it,
    each connection finds that out.
    """
    pooler = str(url.query.get("pooler", "auto"))
    if pooler not in _POOLERS:
        raise StoreUnavailable(f"pooler={pooler} in the database URL is none of {', '.join(_POOLERS)}")
    url = url.difference_update_query(["pooler"])
    arguments = {
        "connect_timeout": _CONNECT_SECONDS,
        # A peer that vanished is noticed by then, and not after TCP's quarter of an hour.
        "tcp_user_timeout": wait_seconds * 1000,
        "keepalives_idle": wait_seconds,
        "keepalives_interval": 1,
        "keepalives_count": wait_seconds,
        "application_name": "jit-service",
        # They outlive a transaction; `_Session` allows them where sessions last.
        "prepare_threshold": None,
    }
    arguments = {name: value for name, value in arguments.items() if name not in url.query}
    if "target_session_attrs" not in url.query:
        arguments["target_session_attrs"] = "read-write"
    with needed_for("a PostgreSQL database", "jit-service[postgres]"):
        engine = create_engine(
            url, pool_size=16, pool_timeout=wait_seconds, pool_pre_ping=True, connect_args=arguments, **options
        )
        from jit_service.storage.bounded_connection import BoundedConnection
    dialect: Any = engine.dialect
    dialect.connect = BoundedConnection.connect
    # Each connection that leaves the pool is asked this instead of a plain ping; if it is false, the pool reconnects.
    dialect.do_ping = is_primary
    dialect.set_readonly = set_read_only
    session = _Session(wait_seconds, pooler)
    event.listen(engine, "connect", lambda connection, _: session.set_up(connection))
    event.listen(engine, "begin", lambda connection: begin(connection.connection.dbapi_connection))
    return engine


class _Session:
    """What a new connection is asked and told. Where a pooler stands between, a transaction is told it by `begin`."""

    def __init__(self, wait_seconds: int, pooler: str) -> None:
        self._wait_seconds = wait_seconds
        self._pooler = pooler

    def set_up(self, connection: Any) -> None:
        """Raises StoreUnavailable, with the connection closed, if the server is too old, or no primary."""
        try:
            version = connection.info.server_version
            if version < OLDEST * 10_000:
                raise StoreUnavailable(f"PostgreSQL {version // 10_000} is too old; {OLDEST} or newer is needed")
            connection.answer_seconds = _PING_SECONDS
            connection.autocommit = True
            # A pooler names a process of its own to its client.
            is_no_primary, is_direct = connection.execute(
                f"SELECT {NO_PRIMARY}, pg_backend_pid() = %s", (connection.info.backend_pid,)
            ).fetchone()
            if is_no_primary:
                raise StoreUnavailable(TAKES_NO_WRITES)
            connection.is_pooled = self._pooler == "transaction" or (self._pooler == "auto" and not is_direct)
            if not connection.is_pooled:
                connection.execute(_settings(self._wait_seconds, is_local=False))
                connection.prepare_threshold = _PREPARE_AFTER
            connection.limits = _settings(self._wait_seconds, is_local=True)
            connection.answer_seconds = self._wait_seconds + 1
            connection.autocommit = False
        except BaseException:
            connection.close()
            raise


def _settings(wait_seconds: int, *, is_local: bool) -> str:
    """Returns the SELECT that bounds how long this transaction or session waits for locks, runs, and does nothing.

    A host that stops in the midst of a transaction would otherwise hold the lock that every writer needs.
    """
    milliseconds = wait_seconds * 1000
    bounds = {
        "lock_timeout": milliseconds,
        "statement_timeout": milliseconds,
        "idle_in_transaction_session_timeout": 2 * milliseconds,
    }
    each = ", ".join(f"set_config('{name}', '{value}', {str(is_local).lower()})" for name, value in bounds.items())
    return f"SELECT {NO_PRIMARY}, {each}"


def begin(connection: Any) -> None:
    """Bounds the driver's transaction, which has just begun, where a pooler gives it a session of its own.

    Raises StoreUnavailable if that session is at a server that takes no writes.
    """
    if connection.is_pooled and connection.execute(connection.limits).fetchone()[0]:
        raise StoreUnavailable(TAKES_NO_WRITES)


@contextmanager
def patiently(connection: Any, *, seconds: int | None) -> Iterator[None]:
    """Lets the statements of the driver's transaction, which has begun, run so long; None is without end.

    It may also do nothing in between for as long. Another database's connection is left as it is.
    """
    if not hasattr(connection, "answer_seconds"):
        yield
        return
    limit = 0 if seconds is None else seconds * 1000
    connection.execute(
        f"SELECT set_config('statement_timeout', '{limit}', true), "
        f"set_config('idle_in_transaction_session_timeout', '{limit}', true)"
    )
    before, connection.answer_seconds = connection.answer_seconds, None if seconds is None else seconds + 1
    try:
        yield
    finally:
        connection.answer_seconds = before


def loading(connection: Any) -> AbstractContextManager[None]:
    """As `patiently`, for a load: one of its statements reads all subjects of millions of ended grants."""
    return patiently(connection, seconds=_LOAD_SECONDS)


def is_primary(connection: Any) -> bool:
    """Whether the driver's connection, which must be in no transaction, is to a server that takes writes.

    Raises OperationalError, with the connection closed, if it does not answer soon.
    """
    before, connection.autocommit = connection.autocommit, True
    patience, connection.answer_seconds = connection.answer_seconds, _PING_SECONDS
    try:
        return not connection.execute(f"SELECT {NO_PRIMARY}").fetchone()[0]
    finally:
        connection.answer_seconds = patience
        if not connection.closed:
            connection.autocommit = before


def set_read_only(connection: Any, value: bool) -> None:
    """Has the driver's next transactions write nothing, or leaves that to the server.

    SQLAlchemy calls it with False for a connection that has read. The driver would then begin with READ WRITE, and so
    write to a server that was demoted by `default_transaction_read_only`.
    """
    connection.read_only = value or None


def has_ended(connection: Any) -> bool:
    """Whether the server has closed the driver's connection, which must be in no transaction; the server is not asked.

    So a connection that is kept for long is replaced before a statement is sent, whose outcome would be unknown.
    """
    if connection.closed:
        return True
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    # No statement is under way: anything that can be read is the end of the connection, or the notice of it.
    return bool(waiting.poll(0))


def _text(quoted: str | None) -> str | None:
    return unquote(quoted) if quoted else None
