"""Conditions: only true counts; whatever cannot be judged refuses (I15)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from jit_service.domain.conditions import condition, context
from jit_service.domain.conditions.condition import Facts, Verdict
from jit_service.domain.conditions.signal import Signals
from jit_service.domain.errors import InvalidField
from tests.domain.factories import HOUR, NOON

FACTS = Facts(
    subject="user:alice@example.com",
    principal="service:gateway",
    resources=("database/orders/eu",),
    actions=("read",),
    duration=HOUR,
    now=NOON,
    signals=Signals(live={"incident": "on", "level": 3}, stale=frozenset({"freeze"})),
    groups=frozenset({"engineering"}),
    claims={"amr": ["mfa"], "nested": {"deep": True}},
    context={"build": 42},
    source_address="10.1.2.3",
)
TEN = "[1,2,3,4,5,6,7,8,9,10]"


def verdict(text: str, **changes: Any) -> Verdict:
    return condition.judge(text, FACTS._replace(**changes)).verdict


@pytest.mark.parametrize(
    "text",
    [
        "",
        "true",
        "subject == 'user:alice@example.com' && principal == 'service:gateway'",
        "resource == 'database/orders/eu' && resources == [resource]",
        "action == 'read' && actions == [action]",
        "duration == duration('1h')",
        "now == timestamp('2026-03-02T12:00:00Z') || now < timestamp('2100-01-01T00:00:00Z')",
        "'engineering' in groups",
        "'mfa' in claims.amr && claims.nested.deep",
        "context.build == 42",
        "context.source_ip.inCidr('10.0.0.0/8') && !context.source_ip.inCidr('10.1.2.0/31')",
        "signals.incident == 'on' && signals.level >= 3",
        "!has(signals.freeze) && !has(signals.nothing)",
        "subject.matches('^user:[a-z]+@')",
    ],
)
def test_what_is_true_is_met(text: str) -> None:
    assert verdict(condition.validate(text, "c")) is Verdict.MET


@pytest.mark.parametrize(
    "text", ["false", "subject == 'x'", "context.source_ip.inCidr('192.168.0.0/16')", "has(signals.freeze)"]
)
def test_what_is_false_is_not_met(text: str) -> None:
    assert verdict(text) is Verdict.NOT_MET


@pytest.mark.parametrize(
    "text",
    [
        "context.missing == 1",
        "claims.missing == 1",
        "signals.missing == 'on'",
        "context.build",
        "context.source_ip.inCidr('nonsense')",
        "subject.inCidr('10.0.0.0/8')",
        "1 / 0 == 1",
        "now.getHours('Nowhere/Land') > 0",
        "context.source_ip.inCidr('10.1.2.3/8')",
        f"{TEN}.all(a, {TEN}.all(b, {TEN}.all(c, {TEN}.all(d, {TEN}.all(e, a > 0)))))",
    ],
)
def test_what_cannot_be_judged_is_an_error(text: str) -> None:
    assert verdict(text) is Verdict.ERROR


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("'engineering' in groups", {"groups": None}),
        ("'mfa' in claims.amr", {"claims": None}),
        ("context.source_ip != ''", {"source_address": ""}),
        ("context.source_ip != ''", {"source_address": "", "context": {"source_ip": "10.1.2.3"}}),
        ("resource != ''", {"resources": ("a/b", "a/c")}),
        ("action != ''", {"actions": ("read", "write")}),
        ("claims.n == 1", {"claims": {"n": 10**30}}),
    ],
)
def test_what_is_not_known_is_an_error(text: str, changes: dict[str, Any]) -> None:
    assert verdict(text, **changes) is Verdict.ERROR


def test_an_expired_signal_is_named_as_the_cause() -> None:
    judged = condition.judge("signals.freeze == 'on'", FACTS)

    assert judged.verdict is Verdict.STALE
    assert judged.message.startswith("freeze has expired")
    assert verdict("signals.frozen == 'on'") is Verdict.ERROR


def test_an_ipv4_address_in_ipv6s_clothes_is_that_address() -> None:
    assert verdict("context.source_ip.inCidr('10.0.0.0/8')", source_address="::ffff:10.1.2.3") is Verdict.MET
    assert verdict("context.source_ip.inCidr('2001:db8::/32')", source_address="2001:db8::1") is Verdict.MET
    assert verdict("context.source_ip.inCidr('10.0.0.0/8')", source_address="2001:db8::1") is Verdict.NOT_MET


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("subject ==", "line 1, column 11"),
        ("\n  nobody == 1", "line 2, column 3"),
        ("subject > 5", "line 1, column 9"),
        ("subject", "gives string"),
        ("1 + 1", "gives int"),
        ("x" * 4097, "at most 4096"),
    ],
)
def test_a_wrong_condition_says_where(text: str, fault: str) -> None:
    with pytest.raises(InvalidField, match=fault):
        condition.validate(text, "request_condition")


def test_a_wrong_condition_is_told_by_the_field_it_is_in() -> None:
    for text in ("subject ==", "1 + 1", "subject", "x" * 4097, "true // \x07"):
        with pytest.raises(InvalidField) as refused:
            condition.validate(text, "steps[1].condition")
        assert refused.value.field == "steps[1].condition"


def test_a_condition_has_at_most_4096_characters() -> None:
    longest = "true" + " " * 4092

    assert condition.validate(longest, "c") == longest


def test_a_fault_without_a_place_is_told_as_it_is() -> None:
    assert condition._fault("something  odd") == "is not CEL: something odd"


def test_what_a_fault_quotes_is_cut() -> None:
    """A policy's author may have written anything there."""
    placed = "ERROR: <input>:1:2: " + "x" * 300

    assert condition._fault("x" * 300) == "is not CEL: " + "x" * 200
    assert condition._fault(placed) == "line 1, column 2: " + "x" * 200


def test_a_context_has_bounds() -> None:
    assert context.of_oneself({"a": {"b": [1, "x", None]}}) == {"a": {"b": [1, "x", None]}}
    for bad in ({"source_ip": "192.0.2.7"}, {f"k{n}": 1 for n in range(65)}, {"a": "x" * 16384}, {"a": "\0"}):
        with pytest.raises(InvalidField, match="context"):
            context.of_oneself(bad)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:DB8:0::7", "2001:db8::7"),
    ],
)
def test_of_another_the_asker_tells_the_address_in_one_spelling(told: str, expected: str) -> None:
    assert context.of_another({"source_ip": told, "a": 1}) == ({"a": 1}, expected)


def test_an_address_that_nobody_tells_is_not_there() -> None:
    assert context.of_another({"a": 1}) == ({"a": 1}, "")


@pytest.mark.parametrize(
    "told", ["", "x", "10.0.0.0/8", "192.0.2.7:80", " 192.0.2.7", "fe80::1%eth0", 7, None, True, []]
)
def test_an_address_of_another_must_be_one(told: Any) -> None:
    with pytest.raises(InvalidField) as refused:
        context.of_another({"source_ip": told})
    assert refused.value.field == "context.source_ip"


def test_the_context_about_another_has_the_same_bounds() -> None:
    for bad in ({f"k{n}": 1 for n in range(65)}, {"a": "x" * 16384}, {"a": "\0"}):
        with pytest.raises(InvalidField, match="context"):
            context.of_another(bad)


def test_the_condition_reads_the_instant_that_is_given() -> None:
    assert verdict("now.getHours() == 12", now=NOON) is Verdict.MET
    assert verdict("now.getHours() == 12", now=NOON + timedelta(hours=1)) is Verdict.NOT_MET


def test_the_message_of_an_error_is_one_line_of_200_characters() -> None:
    long = "x" * 300

    judged = condition.judge(f"context.{long} == 1", FACTS)

    assert judged.verdict is Verdict.ERROR
    assert len(judged.message) == 200
    assert " ".join(judged.message.split()) == judged.message
    assert judged.message.endswith("x" * 100)


def test_all_expired_signals_that_it_reads_are_named() -> None:
    both = Signals(stale=frozenset({"freeze", "alarm", "other"}))

    judged = condition.judge("signals.freeze == signals.alarm", FACTS._replace(signals=both))

    assert judged.verdict is Verdict.STALE
    assert judged.message.startswith("alarm, freeze has expired (")


def test_an_error_says_what_could_not_be_judged() -> None:
    assert "divide by zero" in condition.judge("1 / 0 == 1", FACTS).message
    assert "Syntax error" in condition.judge("subject ==", FACTS).message


CLAIMS = {"hd": "example.com", "amr": ["mfa"], "level": 2, "realm": {"roles": ["a"]}, "none": None}


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("", Verdict.MET),
        ('has(claims.hd) && claims.hd == "example.com"', Verdict.MET),
        ('"mfa" in claims.amr', Verdict.MET),
        ('"a" in claims.realm.roles', Verdict.MET),
        ("claims.level > 2", Verdict.NOT_MET),
        ("has(claims.email)", Verdict.NOT_MET),
        ('claims.email == "x"', Verdict.ERROR),
        ("claims.hd", Verdict.ERROR),
        ("claims.none", Verdict.ERROR),
        ("claims.hd > 1", Verdict.ERROR),
    ],
)
def test_a_condition_on_claims_is_met_by_true_alone(text: str, verdict: Verdict) -> None:
    assert condition.validate_on_claims(text, "when") == text
    assert condition.judge_claims(text, CLAIMS) is verdict


@pytest.mark.parametrize("name", ["subject", "principal", "groups", "context", "signals", "now"])
def test_a_condition_on_claims_knows_nothing_else(name: str) -> None:
    with pytest.raises(InvalidField, match="line 1"):
        condition.validate_on_claims(f"{name} == {name}", "when")
