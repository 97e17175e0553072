"""What stays of forgotten grants and changes: from where on they are whole, and names that must stay known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Index
from sqlmodel import SQLModel

from jit_service.domain.grants.grant_beginning import GrantBeginning
from jit_service.domain.language import name as names
from jit_service.domain.person import Account
from jit_service.storage.columns import instant_column, number_column, seal_column, text_column


class GrantBeginningRow(SQLModel, table=True):
    """From where on grants and their changes are whole: a GrantBeginning, one row once anything was forgotten."""

    __tablename__: ClassVar[Any] = "grant_beginning"

    name: str = text_column(primary_key=True)
    over_at: datetime | None = instant_column(nullable=True)
    revision: int = number_column()
    changed_at: datetime | None = instant_column(nullable=True)
    moved_revision: int = number_column()
    seal: bytes | None = seal_column()


class KnownNameRow(SQLModel, table=True):
    """A name of an account, from a grant or review that was forgotten. `name` is made of the other columns."""

    __tablename__: ClassVar[Any] = "known_name"
    __table_args__ = (
        Index("known_name_by_key", "principal_key"),
        Index("known_name_by_account", "issuer_subject", "issuer"),
    )

    name: str = text_column(primary_key=True)
    principal: str = text_column()
    principal_key: str = text_column()
    issuer: str = text_column()
    issuer_subject: str = text_column()
    seal: bytes | None = seal_column()


@dataclass(frozen=True, kw_only=True)
class KnownName:
    """A name under which an account has asked for access or reviewed requests.

    A lock on the name must go on to reach the account's other names, however long ago that was (invariant I29).
    """

    principal: str
    account: Account

    @property
    def name(self) -> str:
        """The name under which it is stored."""
        return f"known_name/{json.dumps([self.principal, *self.account], ensure_ascii=False)}"


def grant_beginning_columns(beginning: GrantBeginning) -> dict[str, Any]:
    """Returns the columns of the beginning's row."""
    return {
        "name": beginning.name,
        "over_at": beginning.over_at,
        "revision": beginning.revision,
        "changed_at": beginning.changed_at,
        "moved_revision": beginning.moved_revision,
    }


def grant_beginning_of(row: GrantBeginningRow) -> GrantBeginning:
    """Returns the beginning of a row."""
    return GrantBeginning(
        over_at=row.over_at, revision=row.revision, changed_at=row.changed_at, moved_revision=row.moved_revision
    )


def known_name_columns(known: KnownName) -> dict[str, Any]:
    """Returns the columns of the name's row."""
    return {
        "name": known.name,
        "principal": known.principal,
        "principal_key": names.canonical(known.principal),
        "issuer": known.account.issuer,
        "issuer_subject": known.account.subject,
    }


def known_name_of(row: KnownNameRow) -> KnownName:
    """Returns the name of a row."""
    return KnownName(principal=row.principal, account=Account(row.issuer, row.issuer_subject))
