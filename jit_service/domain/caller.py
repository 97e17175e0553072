"""Who calls, from where, and what it may do at the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from jit_service.domain.person import Account, Person

LEFT_OUT: Final = "the token leaves its groups out: they may be any, and permit nothing"
"""Part of the message of a refusal that rests on unknown groups."""


class Role(StrEnum):
    """An API role, mapped from token claims in the settings. Reviewing is not a role: policies decide it."""

    CHECKER = "checker"
    AUDITOR = "auditor"
    ADMIN = "admin"
    RESPONDER = "responder"


READS_GRANTS: Final = (Role.AUDITOR, Role.ADMIN, Role.RESPONDER)
"""Who may read every grant."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a call came from and whose token it brought, for the record. Empty text is unknown.

    `issuer`, `issuer_subject` and `token_id` are the token's `iss`, `sub` and `jti` (RFC 7519). `client_certificate` is
    the name in the client's certificate that proved the caller, and `client_certificate_sha256` the digest of that.
    """

    method: str = ""
    source_address: str = ""
    user_agent: str = ""
    trace_id: str = ""
    request_id: str = ""
    issuer: str = ""
    issuer_subject: str = ""
    token_id: str = ""
    client_certificate: str = ""
    client_certificate_sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Right:
    """A right to review: the holder's name and groups. With a delegation another principal uses it.

    Groups that are not known (None) give no right. No policies: it holds under all of them.
    """

    holder: str
    groups: frozenset[str] | None
    delegation: str = ""
    policies: frozenset[str] = frozenset()
    account: Account | None = None

    @property
    def person(self) -> Person:
        """Whose right it is."""
        return Person(self.holder, self.account)


class Caller(NamedTuple):
    """A principal as its token proved it, with the groups and API roles that the token gave.

    Groups that the token leaves out are not known (None), which is not the same as none: they permit nothing, and
    whatever is denied to any group is denied to the caller (invariant I28). `request_digest` is over the whole request,
    to know it again when its request_id comes a second time. `proved_until` is when its token expires. `delegated` are
    the rights to review that others have put into its hands, as they are now. `exact` is how principals begin whose
    letter case counts at this service, for the names that the caller writes (`name.principal`). `stored_claims` are the
    names of the claims that this service stores with a request; None: those that conditions read.
    """

    principal: str
    groups: frozenset[str] | None = frozenset()
    roles: frozenset[Role] = frozenset()
    origin: Origin = Origin()
    request_digest: str = ""
    claims: Mapping[str, Any] = MappingProxyType({})
    delegated: tuple[Right, ...] = ()
    proved_until: datetime | None = None
    exact: tuple[str, ...] = ()
    stored_claims: frozenset[str] | None = None

    @property
    def account(self) -> Account | None:
        """What the issuer of its token calls it; None where no token proved that."""
        return Account(self.origin.issuer, self.origin.issuer_subject) if self.origin.issuer else None

    @property
    def person(self) -> Person:
        """Who it is, by name and account."""
        return Person(self.principal, self.account)

    @property
    def token_id(self) -> str:
        """The `jti` of its identity token; empty where that has none."""
        return self.origin.token_id

    def has(self, *roles: Role) -> bool:
        """Returns whether the caller has one of the roles."""
        return not self.roles.isdisjoint(roles)

    def rights(self, policy: str) -> tuple[Right, ...]:
        """Returns what the caller may review by under the policy, its own right first."""
        own = Right(holder=self.principal, groups=self.groups, account=self.account)
        return (own, *(right for right in self.delegated if not right.policies or policy in right.policies))
