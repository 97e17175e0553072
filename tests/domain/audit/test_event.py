"""An event that is too long for a record is shortened by as little as will do, and says by how much."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from jit_service.domain.audit.event import Event, EventType, group_fields, log_in_fields, shorten
from tests.domain.factories import ALICE, NOON, bob

EVENT = Event(
    type=EventType.CALL_REFUSED,
    at=NOON,
    principal=ALICE,
    resources=("a", "b", "c", "d", "e"),
    actions=("r", "w", "x"),
    groups=("g1", "g2"),
    context={"one": 1, "two": 2, "three": 3},
    message="m" * 300,
    amr=("hwk", "mfa"),
)


def told(event: Event) -> tuple[object, ...]:
    """Returns what is left of each part that may be left out, and how much was."""
    parts = (event.context, event.groups, event.resources, event.actions, event.message, event.amr)
    return (*(len(part) for part in parts), event.omitted_count)


@pytest.mark.parametrize(
    ("fits", "left"),
    [
        (lambda _: True, (3, 2, 5, 3, 300, 2, 0)),
        (lambda event: not event.context, (0, 2, 5, 3, 300, 2, 3)),
        (lambda event: not event.groups, (0, 0, 5, 3, 300, 2, 5)),
        (lambda event: len(event.resources) <= 3, (0, 0, 3, 2, 300, 2, 8)),
        (lambda event: len(event.resources) <= 2, (0, 0, 2, 1, 300, 2, 10)),
        (lambda event: len(event.resources) <= 1, (0, 0, 1, 1, 300, 2, 11)),
        (lambda event: len(event.actions) <= 1, (0, 0, 2, 1, 300, 2, 10)),
        (lambda event: len(event.message) < 300, (0, 0, 1, 1, 256, 2, 12)),
        (lambda event: not event.amr, (0, 0, 1, 1, 256, 0, 14)),
        (lambda _: False, (0, 0, 1, 1, 256, 0, 14)),
    ],
    ids=[
        "all of it",
        "without context",
        "without groups",
        "half",
        "a quarter",
        "one",
        "one action",
        "message",
        "methods of the log-in",
        "never",
    ],
)
def test_as_little_is_left_out_as_makes_it_fit(fits: Callable[[Event], bool], left: tuple[object, ...]) -> None:
    assert told(shorten(EVENT, fits)) == left


def test_what_is_kept_is_the_beginning() -> None:
    event = shorten(EVENT, lambda event: len(event.resources) <= 3)

    assert (event.resources, event.actions) == (("a", "b", "c"), ("r", "w"))
    assert (event.type, event.at, event.principal, event.message) == (EVENT.type, NOON, ALICE, EVENT.message)


def test_what_was_left_out_before_counts_too() -> None:
    once = shorten(EVENT, lambda event: not event.context)

    assert shorten(once, lambda event: not event.groups).omitted_count == 5


def test_groups_are_told_in_order_and_unknown_ones_as_left_out() -> None:
    assert group_fields(frozenset({"b", "a"})) == {"groups": ("a", "b"), "groups_left_out": False}
    assert group_fields(frozenset()) == {"groups": (), "groups_left_out": False}
    assert group_fields(None) == {"groups": (), "groups_left_out": True}


def test_a_decision_is_recorded_with_how_whoever_made_it_had_logged_in() -> None:
    claims = {"acr": "phr", "amr": ["hwk", "mfa"], "auth_time": NOON.timestamp() - 60}

    assert log_in_fields(bob()._replace(claims=claims), now=NOON) == {
        "acr": "phr",
        "amr": ("hwk", "mfa"),
        "logged_in_at": NOON - timedelta(minutes=1),
    }
    assert log_in_fields(bob(), now=NOON) == {"acr": "", "amr": (), "logged_in_at": None}
