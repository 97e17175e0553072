"""Bounds on what one caller may add to the load of all others (invariant I33). docs/limits.md lists every bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from jit_service.domain.errors import InvalidField, TooManyChildren, TooManyDelegations, TooManyPending


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much there may be at once.

    `pending`: undecided requests of a requester. `children`: live grants below one that was given, at any depth.
    `given` and `held`: delegations of a delegator and to a delegate that are not over. `pattern_bytes`: UTF-8 of the
    resources and actions of one request.
    """

    pending: int = 20
    children: int = 100
    given: int = 50
    held: int = 100
    pattern_bytes: int = 32 << 10

    def demand_patterns(self, resources: tuple[str, ...], actions: tuple[str, ...]) -> None:
        """Raises InvalidField for a request that names more than every worker is to keep in memory."""
        size = sum(len(text.encode()) for text in (*resources, *actions))
        if size > self.pattern_bytes:
            fault = f"has with the actions {size} bytes; at most {self.pattern_bytes} are allowed in a request"
            raise InvalidField("resources", fault)

    def demand_pending(self, there: int, *, requester: str) -> None:
        """Raises TooManyPending where the requester has as many undecided requests as it may."""
        if there >= self.pending:
            raise TooManyPending(
                f"{requester} has {there} requests that wait for a decision; at most {self.pending} are allowed; "
                "withdraw one, or wait for a decision"
            )

    def demand_child(self, there: int, *, root: str) -> None:
        """Raises TooManyChildren where as many live grants came from the root as may."""
        if there >= self.children:
            raise TooManyChildren(
                f"{there} live grants came from {root}; at most {self.children} are allowed; release one", grant=root
            )

    def demand_delegation(self, *, given: int, held: int, delegator: str, delegate: str) -> None:
        """Raises TooManyDelegations where the delegator gives, or the delegate has, as many as it may."""
        if given >= self.given:
            raise TooManyDelegations(
                f"{delegator} has given {given} delegations; at most {self.given} are allowed; end one"
            )
        if held >= self.held:
            raise TooManyDelegations(f"{delegate} has {held} delegations; at most {self.held} are allowed")


BOUNDS: Final = Bounds()
"""What holds where no others are set."""
