"""The judge of histories is itself judged: by small cases, by brute force, and by histories made to be right."""

from __future__ import annotations

from itertools import permutations
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.history import Kind, Operation, is_linearizable, violations


def write(value: bool, began: float, ended: float) -> Operation:
    return Operation(key="k", kind=Kind.WRITE, value=value, began=began, ended=ended)


def read(value: bool, began: float, ended: float) -> Operation:
    return Operation(key="k", kind=Kind.READ, value=value, began=began, ended=ended)


GIVEN = write(True, 0, 1)
TAKEN = write(False, 2, 4)


@pytest.mark.parametrize(
    ("history", "right"),
    [
        ([GIVEN, read(True, 1.1, 1.2)], True),
        ([read(True, 0, 1)], False),
        ([GIVEN, read(False, 1.1, 1.2)], False),
        ([GIVEN, TAKEN, read(True, 4.1, 4.2)], False),
        ([GIVEN, TAKEN, read(True, 3, 9)], True),
        ([GIVEN, TAKEN, read(False, 3, 3.1), read(True, 3.2, 3.3)], False),
        ([GIVEN, TAKEN, read(True, 3, 3.1), read(False, 3.2, 3.3)], True),
        ([GIVEN, write(False, 2, inf), read(True, 5, 6), read(False, 7, 8)], True),
        ([GIVEN, write(False, 2, inf), read(False, 5, 6), read(True, 7, 8)], False),
        ([GIVEN, write(False, 2, inf), read(False, 1.1, 1.2)], False),
    ],
    ids=[
        "seen after it was given",
        "seen though never given",
        "not seen after the ack",
        "still seen after the revoke's ack",
        "seen while it was being revoked",
        "seen again after it was seen gone",
        "seen, then gone, during the revoke",
        "a write of unknown outcome happened late",
        "a write of unknown outcome happened and was undone",
        "a write was seen before it began",
    ],
)
def test_it_knows_right_from_wrong(history: list[Operation], right: bool) -> None:
    assert is_linearizable(history) is right


def test_each_key_is_judged_by_itself() -> None:
    other = Operation(key="other", kind=Kind.READ, value=True, began=5, ended=6)

    (violation,) = violations([GIVEN, TAKEN, read(False, 5, 6), other])

    assert violation.key == "other"
    assert "saw on" in str(violation)


instants = st.integers(0, 12)
any_operation = st.builds(
    lambda kind, value, began, lasts, unknown: Operation(
        key="k", kind=kind, value=value, began=began, ended=inf if unknown else began + lasts
    ),
    st.sampled_from(Kind),
    st.booleans(),
    instants,
    st.integers(0, 6),
    st.booleans(),
)


@given(st.lists(any_operation, max_size=6))
def test_it_agrees_with_trying_every_order(history: list[Operation]) -> None:
    assert is_linearizable(history) is by_brute_force(history)


def by_brute_force(history: list[Operation]) -> bool:
    definite = [each for each in history if each.ended < inf]
    unknown = [each for each in history if each.ended == inf and each.kind is Kind.WRITE]
    subsets = [
        [each for place, each in enumerate(unknown) if number >> place & 1] for number in range(1 << len(unknown))
    ]
    return any(explains(order) for happened in subsets for order in permutations(definite + happened))


def explains(order: tuple[Operation, ...]) -> bool:
    value = False
    for place, each in enumerate(order):
        if any(later.ended < each.began for later in order[place + 1 :]):
            return False
        if each.kind is Kind.WRITE:
            value = each.value
        elif each.value is not value:
            return False
    return True


@given(st.lists(st.tuples(st.sampled_from(Kind), st.booleans(), st.floats(0, 100), st.floats(0, 5), st.floats(0, 5))))
def test_what_one_register_did_is_never_blamed(
    drawn: list[tuple[Kind, bool, float, float, float]],
) -> None:
    value, history = False, []
    for kind, wanted, instant, before, after in sorted(drawn, key=lambda each: each[2]):
        value = wanted if kind is Kind.WRITE else value
        history.append(Operation(key="k", kind=kind, value=value, began=instant - before, ended=instant + after))

    assert is_linearizable(history)
