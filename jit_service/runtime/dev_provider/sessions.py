"""Who a browser is, and how and when its user proved it: OpenID Connect's acr, amr and auth_time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from jit_service.runtime.dev_issuer import PEOPLE

PICKED: Final = "urn:jitaccess:dev:picked"
"""The acr of whoever was picked on the page."""
CONFIRMED: Final = "urn:jitaccess:dev:confirmed"
"""The acr of whoever confirmed it again, where the client asked for no other."""
CONFIRMED_AMR: Final = ("user", "mfa", "hwk")
"""What policies usually ask for (RFC 8176), so that each can be tried."""
PICKABLE: Final = tuple(who for who, (principal, _, _) in PEOPLE.items() if principal.startswith("user:"))
"""The made-up people of the page; services have their tokens in files."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """One of PICKABLE, proved at `auth_time`. `proved_in` is the interaction in which that was."""

    id: str
    who: str
    auth_time: datetime
    acr: str = PICKED
    amr: tuple[str, ...] = ("user",)
    proved_in: str = ""

    @property
    def principal(self) -> str:
        """The principal that its tokens prove."""
        return PEOPLE[self.who][0]

    def confirmed(self, acr: str, *, now: datetime, within: str) -> Session:
        """Returns the session after its user has confirmed it again, as the step-up to `acr`."""
        return replace(self, auth_time=now, acr=acr or CONFIRMED, amr=CONFIRMED_AMR, proved_in=within)
