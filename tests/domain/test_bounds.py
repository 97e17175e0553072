"""What one caller may make all others carry: each bound on both sides, and what it says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jit_service.domain.bounds import Bounds
from jit_service.domain.errors import InvalidField, JitError, TooManyChildren, TooManyDelegations, TooManyPending
from tests.domain.factories import ALICE, BOB

BOUNDS = Bounds(pending=2, children=3, given=4, held=5, pattern_bytes=6)


@pytest.mark.parametrize(
    "within",
    [
        lambda: BOUNDS.demand_patterns(("abc",), ("def",)),
        lambda: BOUNDS.demand_pending(1, requester=ALICE),
        lambda: BOUNDS.demand_child(2, root="grants/g7"),
        lambda: BOUNDS.demand_delegation(given=3, held=4, delegator=ALICE, delegate=BOB),
    ],
    ids=["patterns", "pending", "children", "delegations"],
)
def test_up_to_the_bound_it_is_allowed(within: Callable[[], None]) -> None:
    within()


@pytest.mark.parametrize(
    ("beyond", "fact", "message"),
    [
        (
            lambda: BOUNDS.demand_patterns(("abc",), ("defg",)),
            InvalidField,
            "resources: has with the actions 7 bytes; at most 6 are allowed in a request",
        ),
        (
            lambda: BOUNDS.demand_pending(2, requester=ALICE),
            TooManyPending,
            f"{ALICE} has 2 requests that wait for a decision; at most 2 are allowed; "
            "withdraw one, or wait for a decision",
        ),
        (
            lambda: BOUNDS.demand_child(3, root="grants/g7"),
            TooManyChildren,
            "3 live grants came from grants/g7; at most 3 are allowed; release one",
        ),
        (
            lambda: BOUNDS.demand_delegation(given=4, held=0, delegator=ALICE, delegate=BOB),
            TooManyDelegations,
            f"{ALICE} has given 4 delegations; at most 4 are allowed; end one",
        ),
        (
            lambda: BOUNDS.demand_delegation(given=0, held=5, delegator=ALICE, delegate=BOB),
            TooManyDelegations,
            f"{BOB} has 5 delegations; at most 5 are allowed",
        ),
    ],
    ids=["patterns", "pending", "children", "given", "held"],
)
def test_beyond_the_bound_it_is_refused(beyond: Callable[[], None], fact: type[JitError], message: str) -> None:
    with pytest.raises(fact) as refused:
        beyond()

    assert refused.value.message == message


def test_patterns_count_by_their_bytes() -> None:
    """Every worker keeps them, and keeps bytes."""
    BOUNDS.demand_patterns(("é", "é", "é"), ())

    with pytest.raises(InvalidField):
        BOUNDS.demand_patterns(("é", "é", "é"), ("a",))


def test_too_many_children_name_the_grant_that_they_came_from() -> None:
    with pytest.raises(TooManyChildren) as refused:
        BOUNDS.demand_child(3, root="grants/g7")

    assert refused.value.metadata == {"grant": "grants/g7"}
