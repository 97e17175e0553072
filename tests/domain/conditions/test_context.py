"""The context that a caller asserts: its bounds, and whose address is in it."""

from __future__ import annotations

from typing import Any

import pytest

from jit_service.domain.conditions.context import demand_bounds, of_another, of_oneself, of_question
from jit_service.domain.errors import InvalidField
from tests.domain.factories import alice

HERE = alice().origin.source_address


def test_who_asks_about_itself_has_the_address_that_the_trusted_hop_saw() -> None:
    assert of_question(alice(), {"ticket": 7}, itself=True) == ({"ticket": 7}, HERE)
    for nothing in (None, {}):
        assert of_question(alice(), nothing, itself=True) == ({}, HERE)


def test_who_asks_about_another_tells_that_ones_address_or_none() -> None:
    told = {"ticket": 7, "source_ip": "198.51.100.4"}

    assert of_question(alice(), told, itself=False) == ({"ticket": 7}, "198.51.100.4")
    assert of_question(alice(), {"ticket": 7}, itself=False) == ({"ticket": 7}, "")
    for nothing in (None, {}):
        assert of_question(alice(), nothing, itself=False) == ({}, "")


def test_nobody_asserts_its_own_address() -> None:
    with pytest.raises(InvalidField) as refused:
        of_question(alice(), {"source_ip": "198.51.100.4"}, itself=True)

    assert refused.value.message == (
        "context.source_ip: cannot be asserted; it is the address that the trusted hop saw"
    )


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("nowhere", "'nowhere'"),
        ("fe80::1%eth0", "'fe80::1%eth0'"),
        (7, "'int'"),
        (None, "'NoneType'"),
        ("x" * 81, f"'{'x' * 80}... (81 characters)'"),
    ],
)
def test_an_address_that_is_none_is_refused(told: Any, shown: str) -> None:
    with pytest.raises(InvalidField) as refused:
        of_another({"source_ip": told})

    assert refused.value.message == f"context.source_ip: is {shown}; it must be an IP address, such as 192.0.2.7"


def test_an_address_is_kept_in_its_one_spelling() -> None:
    assert of_another({"source_ip": "::ffff:192.0.2.7"}) == ({}, "192.0.2.7")


@pytest.mark.parametrize(
    "given",
    [
        {f"n{index}": index for index in range(64)},
        {"a": "x" * (16 * 1024 - len('{"a": ""}'))},
        {"a": "é" * (16 * 1024 - len('{"a": ""}'))},
    ],
    ids=["names", "characters", "characters beyond ASCII"],
)
def test_up_to_its_bounds_a_context_is_allowed(given: dict[str, Any]) -> None:
    assert demand_bounds(given) == given


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({f"n{index}": index for index in range(65)}, "has 65 names; at most 64 are allowed"),
        ({"a": "x" * (16 * 1024 - 8)}, "has 16385 characters of JSON; at most 16384 are allowed"),
        ({"a": "b\0c"}, "holds the control character U+0000"),
        ({"a\0": 1}, "holds the control character U+0000"),
    ],
)
def test_beyond_its_bounds_a_context_is_refused(given: dict[str, Any], fault: str) -> None:
    for rule in (demand_bounds, of_oneself, of_another):
        with pytest.raises(InvalidField) as refused:
            rule(given)
        assert refused.value.message == f"context: {fault}"


@pytest.mark.parametrize("rule", [demand_bounds, of_oneself, of_another])
def test_a_fault_is_told_where_the_context_stands(rule: Any) -> None:
    with pytest.raises(InvalidField) as refused:
        rule({f"n{index}": index for index in range(65)}, "checks[3].context")

    assert refused.value.field == "checks[3].context"
