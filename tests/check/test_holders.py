"""The subjects of a resource are found as if each grant were looked at, whatever came and went."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jit_service.check import holders
from jit_service.check.holders import Holders
from jit_service.domain.checks.cached_grant import CachedGrant
from jitaccess.naming.pattern import resource_covered
from tests.check.test_grant_cache import scopes
from tests.conftest import HOUR
from tests.domain.test_sown_bugs import Twin, demand_caught

ASKED = ("a/1", "a/2", "a/1/x", "b/1", "c/1", "a/12", "bc/1")
SUBJECTS = ("user:a", "user:b", "service:c")


def grant(number: int, subject: str, resources: tuple[str, ...]) -> CachedGrant:
    return CachedGrant(f"grants/{number}", subject, "policies/p", 1, resources, ("read",), HOUR)


def holding(held: list[CachedGrant], resource: str) -> set[str]:
    return {one.subject for one in held if resource_covered(resource, one.resources)}


def demand_found(held: Holders, there: list[CachedGrant]) -> None:
    for resource in ASKED:
        assert set(held.of(resource)) == holding(there, resource)


@given(st.lists(st.tuples(st.sampled_from(SUBJECTS), scopes(), st.integers(0, 3)), max_size=12))
def test_subjects_are_found_as_if_each_grant_were_looked_at(
    changes: list[tuple[str, tuple[str, ...], int]],
) -> None:
    """After each grant that comes, as many go as the change says, the oldest first."""
    held, there = Holders(), list[CachedGrant]()
    for number, (subject, resources, gone) in enumerate(changes):
        there.append(grant(number, subject, resources))
        held.add(there[-1])
        for one in there[:gone]:
            held.remove(one)
        del there[:gone]

        demand_found(held, there)


def test_one_subject_of_two_grants_is_found_until_both_are_gone() -> None:
    held, both = Holders(), [grant(1, "user:a", ("a/1", "a/*")), grant(2, "user:a", ("a/1", "a/*"))]
    for one in both:
        held.add(one)

    held.remove(both[0])
    demand_found(held, both[1:])
    held.remove(both[1])
    demand_found(held, [])


def test_all_subjects_of_a_resource_are_found_by_its_name_and_by_patterns() -> None:
    held = Holders()
    for number, (subject, text) in enumerate(zip(SUBJECTS, ("a/1", "a/1", "a/*"), strict=True)):
        held.add(grant(number, subject, (text,)))

    assert set(held.of("a/1")) == set(SUBJECTS)
    assert set(held.of("a/2")) == {"service:c"}


def test_patterns_that_come_and_go_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "_FEW", 5)
    held, stays = Holders(), grant(0, "user:a", ("a/*",))
    held.add(stays)

    for number in range(1, 100):
        passing = grant(number, "user:b", (f"a/{number}*",))
        held.add(passing)
        held.remove(passing)

        demand_found(held, [stays])
        assert len(held._in_table) <= 2 * 2 + 5 + 1
    assert held._by_text == {"a/*": "user:a"}


TWINS = [
    Twin(
        "one of two grants takes both along",
        Holders.remove,
        "there[grant.subject] -= 1",
        "there[grant.subject] = 0",
        test_one_subject_of_two_grants_is_found_until_both_are_gone,
    ),
    Twin(
        "another subject is forgotten",
        Holders.add,
        "{there: 1}",
        "{}",
        test_all_subjects_of_a_resource_are_found_by_its_name_and_by_patterns,
    ),
    Twin(
        "patterns are not looked at",
        Holders.of,
        "*self._table.matching(resource)",
        "",
        test_all_subjects_of_a_resource_are_found_by_its_name_and_by_patterns,
    ),
    Twin(
        "a table that is made anew has the last pattern alone",
        Holders._add_pattern,
        "new = self._patterns",
        "new = {text}",
        lambda: _with_a_small_table(),
    ),
]


def _with_a_small_table() -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        test_patterns_that_come_and_go_leave_nothing_behind(monkeypatch)


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_no_twin_survives(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    demand_caught(twin, monkeypatch)
