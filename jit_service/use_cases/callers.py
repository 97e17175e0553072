"""What the service tells a caller about itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from jit_service.domain.caller import Caller
from jit_service.storage import Store


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """Whom the service takes the caller for. `issuer_subject` and `jti` are the `sub` and `jti` of its token."""

    principal: str
    roles: tuple[str, ...]
    groups: tuple[str, ...]
    groups_left_out: bool
    issuer: str
    issuer_subject: str
    jti: str
    client_certificate: str
    expires_at: datetime | None


def recognise(store: Store, caller: Caller) -> Recognised:
    """Returns whom the service takes the caller for. Raises Locked: a locked caller is told that and nothing else."""
    with store.snapshot():
        # Reading is what refuses whoever is locked (`storage.set_caller`).
        return Recognised(
            principal=caller.principal,
            roles=tuple(sorted(caller.roles)),
            groups=tuple(sorted(caller.groups or ())),
            groups_left_out=caller.groups is None,
            issuer=caller.origin.issuer,
            issuer_subject=caller.origin.issuer_subject,
            jti=caller.token_id,
            client_certificate=caller.origin.client_certificate,
            expires_at=caller.proved_until,
        )
