"""What an allowed check counts: one use less of what is metered, all the way up to where the access came from."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from jit_service.domain.checks.uses import count_use
from jit_service.domain.frozen import replace
from jit_service.domain.grants.grant import Grant, Limits
from tests.domain.factories import HOUR, NOON, approved, named

MINUTE = timedelta(minutes=1)


def grant(name: str, *, chain: tuple[str, ...] = (), ends: datetime = NOON + HOUR, **limits: Any) -> Grant:
    return named(replace(approved(), chain=chain, expires_at=ends, limits=Limits(**limits)), name)


def counted(one: Grant, *above: Grant) -> list[tuple[str, int, datetime | None]]:
    changed = count_use(one, {each.name: each for each in above}, now=NOON + MINUTE)
    return [(each.name, each.usage.count, each.expires_at) for each in changed]


def test_what_is_not_metered_is_not_changed() -> None:
    assert counted(grant("grants/a")) == []


def test_a_metered_grant_has_one_use_more_at_that_instant() -> None:
    (used,) = count_use(grant("grants/a", max_uses=3), {}, now=NOON + MINUTE)

    assert (used.usage.count, used.usage.last_at, used.expires_at) == (1, NOON + MINUTE, NOON + HOUR)


def test_what_it_was_passed_on_from_is_counted_first() -> None:
    parent = grant("grants/a", max_uses=3)
    child = grant("grants/b", chain=("grants/a",), max_uses=2)

    assert [name for name, *_ in counted(child, parent)] == ["grants/a", "grants/b"]


def test_a_child_is_not_changed_by_the_use_of_a_parent_that_outlives_it() -> None:
    parent = grant("grants/a", max_uses=3)
    child = grant("grants/b", chain=("grants/a",))

    assert counted(child, parent) == [("grants/a", 1, NOON + HOUR)]


def test_a_child_ends_with_its_parent_when_a_use_shortens_that() -> None:
    """An idle timeout of ten minutes runs from this use."""
    parent = grant("grants/a", idle_timeout=10 * MINUTE)
    plain = grant("grants/b", chain=("grants/a",))
    metered = grant("grants/b", chain=("grants/a",), max_uses=2)
    end = NOON + 11 * MINUTE

    assert counted(plain, parent) == [("grants/a", 1, end), ("grants/b", 0, end)]
    assert counted(metered, parent) == [("grants/a", 1, end), ("grants/b", 1, end)]


def test_each_is_bounded_by_what_is_right_above_it() -> None:
    top = grant("grants/a", idle_timeout=20 * MINUTE)
    middle = grant("grants/b", chain=("grants/a",), idle_timeout=10 * MINUTE)
    child = grant("grants/c", chain=("grants/a", "grants/b"))

    assert counted(child, top, middle) == [
        ("grants/a", 1, NOON + 21 * MINUTE),
        ("grants/b", 1, NOON + 11 * MINUTE),
        ("grants/c", 0, NOON + 11 * MINUTE),
    ]
