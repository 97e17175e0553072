"""Which claims of its requester's token a request keeps, and that no condition is judged without one that it reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jit_service.domain.caller import Caller
from jit_service.domain.conditions import kept_claims
from jit_service.domain.conditions.condition import claims_read
from jit_service.domain.errors import ConditionError


def claims_to_keep(by: Caller, conditions: Iterable[str]) -> dict[str, Any]:
    """Returns the claims to keep with the caller's request: those that the settings name, else what is read of them."""
    if by.stored_claims is not None:
        return kept_claims.keep(by.claims, by.stored_claims)
    return kept_claims.keep(by.claims, _together(map(claims_read, conditions)))


def demand_kept(claims: Mapping[str, Any] | None, conditions: Iterable[str], what: str) -> None:
    """Raises ConditionError if a condition reads a claim that was not kept. What is known of nobody (None) is no claim.

    The policy may have changed since the request, or the settings do not let that claim be stored.
    """
    unkept = "" if claims is None else kept_claims.unkept(claims, map(claims_read, conditions))
    if unkept:
        raise ConditionError(
            f"{what} reads {unkept}, which was not kept of the token when access was asked for; ask again, and if it "
            "is refused again, JIT_STORED_CLAIMS does not have it"
        )


def _together(read: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    names: frozenset[str] = frozenset()
    for each in read:
        if each is None:
            return None
        names |= each
    return names
