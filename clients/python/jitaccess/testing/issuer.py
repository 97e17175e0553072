"""Tokens of an in-memory service's grants, signed with a key that lasts as long as the service."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from jitaccess.contract.model import GrantState
from jitaccess.errors import FailedPrecondition
from jitaccess.extras import needed_for
from jitaccess.jose.tokens import ALGORITHM, DETAIL, TYPE

with needed_for("a token of the in-memory service", "jitaccess[tokens]"):
    import jwt
    from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from jitaccess.testing.facts import MemoryGrant
    from jitaccess.testing.memory import MemoryService

_KID = "memory"


class MemoryIssuer:
    """Issues tokens as the service does: of active grants that no deny reaches into, for 15 minutes at most."""

    issuer = "https://jit.test"
    longest = timedelta(minutes=15)

    def __init__(self, service: MemoryService) -> None:
        self._service = service
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def keys(self) -> Mapping[str, object]:
        """The JWK set that `verify_token` takes."""
        public = jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": _KID, "use": "sig", "alg": ALGORITHM}]}

    def issue(self, grant: MemoryGrant | str, *, audience: str, ttl: timedelta | None = None) -> str:
        """Returns a token of the grant. Raises FailedPrecondition for one that has none."""
        held, now = self._service.get(grant), self._service.now()
        live = self._service.is_live(subject=held.subject, grant=held.name)
        if not live or held.expire_time is None or held.state(now) is not GrantState.ACTIVE:
            raise FailedPrecondition(f"{held.name} has no token: it is not live", reason="WRONG_STATE")
        issued = int(now.timestamp())
        expires = min(int(held.expire_time.timestamp()), issued + int((ttl or self.longest).total_seconds()))
        claims = {
            "iss": self.issuer,
            "sub": held.subject,
            "aud": [audience],
            "client_id": held.subject,
            "iat": issued,
            "exp": expires,
            "jti": uuid.uuid4().hex,
            "authorization_details": [
                {
                    "type": DETAIL,
                    "grant": held.name,
                    "policy": "policies/memory",
                    "actions": list(held.actions),
                    "resources": list(held.resources),
                    "chain": [],
                }
            ],
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": _KID, "typ": TYPE})
