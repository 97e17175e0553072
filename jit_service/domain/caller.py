"""Who calls, from where, and what it may do at the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """An API role, mapped from token claims in the settings. Reviewing is not a role: policies decide it."""

    CHECKER = "checker"
    AUDITOR = "auditor"
    ADMIN = "admin"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a call came from, for the record. Empty text is unknown."""

    method: str = ""
    source_address: str = ""
    user_agent: str = ""
    trace_id: str = ""
    request_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A principal as its token proved it, with the groups and API roles that the token gave.

    `request_digest` is over the whole request, to know it again when its request_id comes a second time.
    """

    principal: str
    groups: frozenset[str] = frozenset()
    roles: frozenset[Role] = frozenset()
    origin: Origin = Origin()
    request_digest: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict)

    def has(self, *roles: Role) -> bool:
        """Says whether the caller has one of the roles."""
        return not self.roles.isdisjoint(roles)
