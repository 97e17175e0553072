"""PostgreSQL: reads its URL, and refuses every server that is not the primary.

A standby lags behind: it would answer with an older state. A primary that was demoted still answers reads. So each
connection is asked whether it is to a primary when it is made and whenever it leaves the pool.
"""

from __future__ import annotations

import re
import select
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from sqlalchemy import URL, Engine, create_engine, event, make_url

from jit_service.domain.errors import StoreUnavailable
from jitaccess.extras import needed_for

OLDEST: Final = 14
"""The oldest major version that the service is tested on."""
NO_PRIMARY: Final = "pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean"
"""SQL that is true on a standby, and on a server that takes no writes."""
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
    """Returns an engine that connects only to a primary, of version OLDEST or newer. Raises ExtraMissing."""
    milliseconds = wait_seconds * 1000
    arguments = {
        "connect_timeout": wait_seconds,
        # A peer that vanished is noticed by then, and not after TCP's quarter of an hour.
        "tcp_user_timeout": 2 * milliseconds,
        "keepalives_idle": wait_seconds,
        "keepalives_interval": 1,
        "keepalives_count": wait_seconds,
        "options": f"-c lock_timeout={milliseconds} -c statement_timeout={2 * milliseconds} -c timezone=UTC",
    }
    if "target_session_attrs" not in url.query:
        arguments["target_session_attrs"] = "read-write"
    with needed_for("a PostgreSQL database", "jit-service[postgres]"):
        engine = create_engine(
            url, pool_size=16, pool_timeout=wait_seconds, pool_pre_ping=True, connect_args=arguments, **options
        )
    dialect: Any = engine.dialect
    # Each connection that leaves the pool is asked this instead of a plain ping; if it is false, the pool reconnects.
    dialect.do_ping = is_primary

    @event.listens_for(engine, "connect")
    def demand(connection: Any, _: Any) -> None:
        version = connection.info.server_version
        if version < OLDEST * 10_000:
            connection.close()
            raise StoreUnavailable(f"PostgreSQL {version // 10_000} is too old; {OLDEST} or newer is needed")
        if not is_primary(connection):
            connection.close()
            raise StoreUnavailable("the database server takes no writes: it is a standby, or read-only")

    return engine


def is_primary(connection: Any) -> bool:
    """Whether the driver's connection, which must be in no transaction, is to a server that takes writes."""
    before, connection.autocommit = connection.autocommit, True
    try:
        return not connection.execute(f"SELECT {NO_PRIMARY}").fetchone()[0]
    finally:
        if not connection.closed:
            connection.autocommit = before


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
