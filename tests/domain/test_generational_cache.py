"""What was used lately is remembered: so much of it surely, twice as much at most."""

from __future__ import annotations

from jit_service.domain.generational_cache import GenerationalCache


def filled(*keys: int, size: int = 2) -> GenerationalCache[int, str]:
    recent: GenerationalCache[int, str] = GenerationalCache(size)
    for key in keys:
        recent.put(key, str(key))
    return recent


def test_as_many_as_the_size_are_remembered_surely() -> None:
    recent = filled(1, 2, 3)

    assert [recent.get(key) for key in (2, 3)] == ["2", "3"]


def test_never_more_than_twice_as_many_are_remembered() -> None:
    assert [len(filled(*range(count))) for count in range(1, 8)] == [1, 2, 3, 4, 3, 4, 3]


def test_what_is_used_stays() -> None:
    recent = filled(1, 2, 3)

    assert recent.get(1) == "1"
    recent.put(4, "4")
    recent.put(5, "5")

    assert recent.get(1) == "1"
    assert recent.get(2) is None


def test_what_was_never_put_is_not_there() -> None:
    assert filled().get(1) is None
    assert len(filled()) == 0
