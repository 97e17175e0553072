"""The kinds of columns that the tables have. Instants and spans are integers of microseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime as microseconds since 1970. A naive one is refused."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value is None else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else EPOCH + value * MICROSECOND


class Span(TypeDecorator[timedelta]):
    """A timedelta as microseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value is None else value // MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> timedelta | None:  # noqa: ARG002
        return None if value is None else value * MICROSECOND


# Byte order on PostgreSQL too, as on SQLite.
TEXT = Text().with_variant(Text(collation="C"), "postgresql")
# On SQLite an alias of the rowid, so that appending touches only the end of the table.
SEQ = BigInteger().with_variant(Integer(), "sqlite")


def text_column(**options: Any) -> Any:
    """A text that is compared byte by byte."""
    return Field(sa_column=Column(TEXT, nullable=False, **options))


def number_column(**options: Any) -> Any:
    """A whole number."""
    return Field(sa_column=Column(BigInteger, nullable=False, autoincrement=False, **options))


def instant_column(*, nullable: bool = False) -> Any:
    """An instant."""
    return Field(sa_column=Column(Instant, nullable=nullable))


def json_column() -> Any:
    """A JSON value, which may be null."""
    return Field(sa_column=Column(JSON().with_variant(JSONB(), "postgresql"), nullable=False))


def bytes_column() -> Any:
    """Bytes."""
    return Field(sa_column=Column(LargeBinary, nullable=False))


def seal_column() -> Any:
    """The proof that the service wrote the row (`sealing`). A row without a seal is refused."""
    return Field(default=None, sa_column=Column(LargeBinary, nullable=True))


def partial_index(name: str, *columns: str, where: str) -> Index:
    """An index of the rows that meet the condition."""
    condition = text(where)
    return Index(name, *columns, sqlite_where=condition, postgresql_where=condition)
