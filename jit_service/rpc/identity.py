"""Who a caller is, as a token or a client certificate proves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from jit_service.domain.caller import Role


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a token or a certificate proves, until it expires. Groups are None where it leaves them out: not known.

    `issuer`, `issuer_subject` and `token_id` are the `iss`, `sub` and `jti` of the token. `certificate` is the name in
    the client's certificate that stands for the principal, and `certificate_sha256` the certificate's digest in hex.
    `exact` are the prefixes of principals, of all issuers, whose letter case counts.
    """

    principal: str
    groups: frozenset[str] | None
    roles: frozenset[Role]
    expires_at: datetime
    issuer: str = ""
    issuer_subject: str = ""
    token_id: str = ""
    certificate: str = ""
    certificate_sha256: str = ""
    exact: tuple[str, ...] = ()
    claims: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
