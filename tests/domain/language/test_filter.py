"""The filter language: what it means, and how it is refused."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jit_service.domain.errors import InvalidField
from jit_service.domain.language.filter import And, Comparison, FieldSpec, Kind, Not, Or, parse

FIELDS = {
    "name": FieldSpec(kind=Kind.NAME),
    "subject": FieldSpec(kind=Kind.TEXT),
    "state": FieldSpec(kind=Kind.ENUM, values=("ACTIVE", "PENDING")),
    "seq": FieldSpec(kind=Kind.INTEGER),
    "create_time": FieldSpec(kind=Kind.INSTANT),
    "actions": FieldSpec(kind=Kind.LIST),
    "labels": FieldSpec(kind=Kind.MAP),
    "covers": FieldSpec(kind=Kind.RESOURCE),
    "covers_action": FieldSpec(kind=Kind.ACTION),
}
A = Comparison("subject", "", "=", "a")
B = Comparison("subject", "", "=", "b")
C = Comparison("subject", "", "=", "c")


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("", None),
        ("   ", None),
        ("subject = a", A),
        ("subject=a", A),
        ('subject = "a"', A),
        ("subject = 'a'", A),
        ("(subject = a)", A),
        ("NOT subject = a", Not(A)),
        ("-subject = a", Not(A)),
        ("NOT NOT subject = a", Not(Not(A))),
        ("subject = a AND subject = b", And((A, B))),
        ("subject = a subject = b", And((A, B))),
        ("subject = a OR subject = b", Or((A, B))),
        # AIP-160: OR binds tighter than AND.
        ("subject = a AND subject = b OR subject = c", And((A, Or((B, C))))),
        ("(subject = a AND subject = b) OR subject = c", Or((And((A, B)), C))),
        ("seq >= -5", Comparison("seq", "", ">=", -5)),
        ("state != ACTIVE", Comparison("state", "", "!=", "ACTIVE")),
        ('name = "grants/a*"', Comparison("name", "", "=", "grants/a*")),
        ("actions:read", Comparison("actions", "", ":", "read")),
        ("labels.team = a", Comparison("labels", "team", "=", "a")),
        ("labels:team", Comparison("labels", "", ":", "team")),
        ('covers:"database/orders/eu"', Comparison("covers", "", ":", "database/orders/eu")),
        ("covers:database/**", Comparison("covers", "", ":", "database/**")),
        ('covers:"database/cafe\u0301"', Comparison("covers", "", ":", "database/caf\u00e9")),
        ("covers_action:rows.read", Comparison("covers_action", "", ":", "rows.read")),
        ("coversAction:rows.*", Comparison("covers_action", "", ":", "rows.*")),
        (r'subject = "a\"b\\c"', Comparison("subject", "", "=", 'a"b\\c')),
        ('subject = "AND"', Comparison("subject", "", "=", "AND")),
        ('subject = ""', Comparison("subject", "", "=", "")),
        ('subject = "cafe\u0301"', Comparison("subject", "", "=", "caf\u00e9")),
        (
            'create_time < "2026-01-02T03:04:05.000006+01:00"',
            Comparison("create_time", "", "<", datetime(2026, 1, 2, 2, 4, 5, 6, tzinfo=UTC)),
        ),
        (
            'create_time < "2026-01-02 03:04:05Z"',
            Comparison("create_time", "", "<", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ),
        (
            'create_time < "2026-01-02t03:04:05z"',
            Comparison("create_time", "", "<", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ),
    ],
)
def test_what_a_filter_means(text: str, node: object) -> None:
    assert parse(text, FIELDS) == node


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("owner = a", 1, "actions, covers, covers_action, create_time"),
        ('"subject" = a', 1, "one of"),
        ("subject.x = a", 1, "one of"),
        ("subject", 8, "= or !="),
        ("subject ? a", 9, "= or !="),
        ("subject = ", 10, "a value"),
        ("subject = (a)", 11, "a value"),
        ("subject : a", 9, "= or !="),
        ("actions = a", 9, ": after actions"),
        ("labels = a", 8, ": after labels"),
        ("covers = a/b", 8, ": after covers"),
        ("coversAction = a", 14, ": after covers_action"),
        ("covers:database", 8, "'database' has only a type; write type/name"),
        ("subject = a covers:'a/**/b'", 20, "has ** before its end"),
        ("covers_action:a/", 15, "empty segment"),
        ("covers_action:**.a", 15, "has ** before its end"),
        ("CreateTime = 1", 1, "one of"),
        ("create_Time = 1", 1, "one of"),
        ("createtime = 1", 1, "one of"),
        ("labels.a : b", 10, "= or != after labels.a"),
        ("state = LIVE", 9, "ACTIVE, PENDING"),
        ("state < ACTIVE", 7, "= or !="),
        ("seq = one", 7, "whole number"),
        ("seq = 9999999999999999999", 7, "whole number"),
        ('create_time = "2026-13-01T00:00:00Z"', 15, "an instant"),
        ('create_time = "2026-01-01"', 15, "an instant"),
        ('create_time = "0001-01-01T00:00:00+23:59"', 15, "an instant"),
        ('subject = "a\x01"', 11, "control characters"),
        ("subject = a)", 12, "the end, or AND"),
        ("(subject = a", 13, "closing bracket"),
        ("subject = a OR", 15, "one of"),
        ("AND subject = a", 1, "one of"),
        ("NOT", 4, "one of"),
        ('subject = "a', 10, "not part of a filter"),
        ("subject = a\\", 12, "not part of a filter"),
    ],
)
def test_a_wrong_filter_says_where_and_what_is_allowed(text: str, column: int, words: str) -> None:
    with pytest.raises(InvalidField) as refused:
        parse(text, FIELDS)

    assert refused.value.field == "filter"
    assert f"column {column}:" in refused.value.fault
    assert words in refused.value.fault


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject = ", "column 10: found the end; expected a value"),
        ("subject = a)", "column 12: found ')'; expected the end, or AND"),
        ("seq = one", "column 7: found 'one'; expected a whole number"),
        ("(subject = a", "column 13: found the end; expected a closing bracket"),
        ("actions = a", "column 9: found '='; expected : after actions"),
        ("labels.a : b", "column 10: found ':'; expected = or != after labels.a"),
        ("state = " + "L" * 41, f"column 9: found '{'L' * 40}'; expected one of ACTIVE, PENDING"),
        ("-state = LIVE", "column 10: found 'LIVE'; expected one of ACTIVE, PENDING"),
        ("state = ACTIVE -state", "column 22: found the end; expected = or != after state"),
        ("-seq.a = 1", f"column 2: found 'seq.a'; expected one of {', '.join(sorted(FIELDS))}"),
        ('subject = "a\x01"', "column 11: found '\"a\\x01\"'; expected a value without control characters"),
        ('subject = "\ud800"', "column 11: found '\"\\ud800\"'; expected a value without control characters"),
        ('subject = "a\\\n"', "column 11: found '\"a\\\\\\n\"'; expected a value without control characters"),
        ("seq < 1 \\" + "a" * 30, f"column 8: ' \\\\{'a' * 18}' is not part of a filter"),
        (
            "create_time = today",
            "column 15: found 'today'; expected an instant such as \"2026-01-31T12:00:00Z\"",
        ),
    ],
)
def test_a_wrong_filter_is_told_what_was_found_and_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(InvalidField) as refused:
        parse(text, FIELDS)

    assert refused.value.fault == message


def test_a_field_may_be_written_as_json_has_it() -> None:
    instant = '"2026-01-02T03:04:05Z"'

    assert parse(f"createTime = {instant}", FIELDS) == parse(f"create_time = {instant}", FIELDS)
    assert parse(f"-createTime > {instant}", FIELDS) == parse(f"-create_time > {instant}", FIELDS)


def nested(depth: int) -> str:
    return "(" * depth + "subject = a" + ")" * depth


def test_the_bounds_of_a_filter() -> None:
    assert parse(nested(20), FIELDS) == A
    assert parse("NOT " * 20 + "subject = a", FIELDS)
    assert parse(" AND ".join(["subject = a"] * 50), FIELDS)
    assert parse("subject = " + "a" * 1990, FIELDS)

    for text in (nested(21), "NOT " * 21 + "subject = a", " ".join(["subject = a"] * 51), "subject = " + "a" * 1991):
        with pytest.raises(InvalidField, match="at most"):
            parse(text, FIELDS)


WORDS = st.sampled_from(
    [*FIELDS, "AND", "OR", "NOT", "-", "(", ")", "=", ":", "<", '"', "\\", "a", "labels.", "1", "\0", "*"]
)


@given(st.lists(WORDS).map(" ".join) | st.text(max_size=200))
def test_any_text_is_a_filter_or_an_invalid_field(text: str) -> None:
    with contextlib.suppress(InvalidField):
        parse(text, FIELDS)
