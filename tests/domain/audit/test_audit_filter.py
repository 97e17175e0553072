"""Which records a filter means, judged by the record itself."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta

import pytest

from jit_service.domain.audit.audit_filter import matches
from jit_service.domain.audit.event import Event, EventType, RecordedEvent
from jit_service.domain.caller import Origin
from jit_service.domain.language.filter import And, Comparison, Node, Not, Or
from tests.domain.factories import ALICE, BOB, NOON

EVENT = Event(
    type=EventType.ACCESS_CHECKED,
    at=NOON,
    principal=BOB,
    origin=Origin(method="CheckAccess", source_address="192.0.2.7", trace_id="t1", request_id="r1"),
    subject=ALICE,
    resources=("database/orders/eu", "database/orders/us"),
    actions=("read",),
    decision="ALLOWED",
    reason="ALLOWED_BY_GRANT",
    grant="grants/g7",
    policy="policies/orders",
    decision_id="d1",
    subject_source_ip="198.51.100.4",
)
RECORD = RecordedEvent(seq=7, hash=b"", event=EVENT)


def holds(field: str, operator: str, value: object) -> bool:
    return matches(Comparison(field, "", operator, value), RECORD)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seq", 7),
        ("event_type", "ACCESS_CHECKED"),
        ("event_time", NOON),
        ("principal", BOB),
        ("subject", ALICE),
        ("decision", "ALLOWED"),
        ("reason", "ALLOWED_BY_GRANT"),
        ("grant", "grants/g7"),
        ("policy", "policies/orders"),
        ("method", "CheckAccess"),
        ("source_address", "192.0.2.7"),
        ("subject_source_ip", "198.51.100.4"),
        ("trace_id", "t1"),
        ("request_id", "r1"),
        ("decision_id", "d1"),
    ],
)
def test_each_field_is_that_of_the_record(field: str, value: object) -> None:
    assert holds(field, "=", value)
    assert not holds(field, "!=", value)


@pytest.mark.parametrize(
    ("operator", "below", "there", "above"),
    [
        ("=", False, True, False),
        ("!=", True, False, True),
        ("<", False, False, True),
        ("<=", False, True, True),
        (">", True, False, False),
        (">=", True, True, False),
    ],
)
def test_each_operator_orders_as_it_reads(operator: str, below: bool, there: bool, above: bool) -> None:
    assert [holds("seq", operator, seq) for seq in (6, 7, 8)] == [below, there, above]


def test_a_list_has_what_is_in_it() -> None:
    assert holds("resources", ":", "database/orders/us")
    assert not holds("resources", ":", "database/orders")
    assert holds("actions", ":", "read")
    assert not holds("actions", ":", "write")


@pytest.mark.parametrize(
    ("held", "name", "meant"),
    [
        ((), "database/orders/eu", False),
        (("database/orders/eu",), "database/orders/eu", True),
        (("database/x", "database/orders/**"), "database/orders/eu", True),
        (("database/orders/**",), "database/orders", False),
        (("database/orders/*",), "database/orders/eu/x", False),
        (("database/orders/e*",), "database/orders/eu", True),
        (("**",), "database/orders/**", True),
        (("database/orders/eu",), "database/orders/**", False),
        # What the record of a refused call has, and no pattern is.
        (("database/**/eu",), "database/**/eu", True),
        (("database/*/**/eu*",), "database/*/**/eu", False),
        (("database/o*d*",), "database/o*d", False),
        (("database/orders**",), "database/orders*", False),
        (("database.**",), "database.orders", False),
    ],
)
def test_a_record_covers_what_one_of_its_patterns_covers(held: tuple[str, ...], name: str, meant: bool) -> None:
    record = replace(RECORD, event=replace(EVENT, resources=held))

    assert matches(Comparison("covers", "", ":", name), record) is meant


def test_a_star_within_a_segment_is_no_wildcard() -> None:
    record = replace(RECORD, event=replace(EVENT, resources=("database/orders**",)))

    assert not matches(Comparison("covers", "", ":", "database/orders*"), record)


@pytest.mark.parametrize(
    ("held", "name", "meant"),
    [
        (("rows.read",), "rows.read", True),
        (("rows.*",), "rows.read", True),
        (("rows.**",), "rows.read", True),
        (("rows",), "rows.read", False),
        (("*",), "rows.read", False),
        (("rows/*",), "rows/read", True),
    ],
)
def test_actions_are_covered_by_their_dots(held: tuple[str, ...], name: str, meant: bool) -> None:
    record = replace(RECORD, event=replace(EVENT, actions=held, resources=("rows/**", "rows.**")))

    assert matches(Comparison("covers_action", "", ":", name), record) is meant


@pytest.mark.parametrize(
    ("value", "meant"),
    [("grants/g*", True), ("grants/g7*", True), ("grants/*", True), ("grants/g8*", False), ("*", True)],
)
def test_a_star_at_the_end_of_a_grants_name_stands_for_any_end(value: str, meant: bool) -> None:
    assert holds("grant", "=", value) is meant


def test_a_star_with_another_operator_or_field_is_a_star() -> None:
    assert holds("grant", "!=", "grants/g*")
    assert holds("grant", "!=", "grants/h*")
    assert not holds("policy", "=", "policies/o*")


def test_a_star_within_a_grants_name_is_a_star() -> None:
    assert not holds("grant", "=", "grants/*7")


YES, NO = Comparison("seq", "", "=", 7), Comparison("seq", "", "=", 8)


@pytest.mark.parametrize(
    ("node", "meant"),
    [
        (None, True),
        (YES, True),
        (NO, False),
        (And((YES, YES)), True),
        (And((YES, NO)), False),
        (Or((NO, YES)), True),
        (Or((NO, NO)), False),
        (Not(YES), False),
        (Not(NO), True),
        (And((Or((NO, YES)), Not(NO))), True),
    ],
)
def test_what_is_put_together_means_what_its_parts_do(node: Node | None, meant: bool) -> None:
    assert matches(node, RECORD) is meant


def test_an_instant_is_compared_to_the_microsecond() -> None:
    later = replace(RECORD, event=replace(EVENT, at=NOON + timedelta(microseconds=1)))

    assert matches(Comparison("event_time", "", ">", NOON), later)
    assert not matches(Comparison("event_time", "", ">", NOON), RECORD)


def test_the_record_of_these_tests_has_no_two_sides_alike() -> None:
    """Else a field that reads another's value would not be noticed."""
    sides = [getattr(EVENT, one.name) for one in fields(EVENT)] + list(vars(EVENT.origin).values())
    texts = [side for side in sides if isinstance(side, str) and side]

    assert len(texts) == len(set(texts))
