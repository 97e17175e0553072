"""What a policy may ask of a reviewer's log-in, and when that suffices."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from jit_service.domain.authentication import authentication
from jit_service.domain.errors import InvalidField
from jit_service.domain.policies.assurance import ReviewAssurance
from jit_service.domain.policies.policy import normalize
from tests.domain.factories import HOUR, NOON, TICK, deny_policy, policy

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
NOW = int(NOON.timestamp())


def normalized(rule: ReviewAssurance) -> ReviewAssurance | None:
    return normalize(policy(review_assurance=rule)).review_assurance


def faults(rule: ReviewAssurance) -> list[str]:
    with pytest.raises(InvalidField) as refused:
        normalized(rule)
    return [fault.field for fault in refused.value.each]


def lacks(rule: ReviewAssurance, **claims: Any) -> list[str]:
    return rule.lacking(authentication(claims, now=NOON))


# What is asked


def test_one_of_the_acr_values_is_enough() -> None:
    rule = ReviewAssurance(acr=("phrh", "phr"))

    assert lacks(rule, acr="phr") == []
    assert lacks(rule, acr="pwd") == ["its acr must be phrh or phr, and it has another acr"]
    assert lacks(rule) == ["its acr must be phrh or phr, and it has no acr"]


def test_every_amr_value_is_needed() -> None:
    rule = ReviewAssurance(amr=("mfa", "hwk"))

    assert lacks(rule, amr=["hwk", "pwd", "mfa"]) == []
    assert lacks(rule, amr=["mfa", "otp"]) == ["its amr must have mfa, hwk, and lacks hwk"]


def test_a_log_in_is_fresh_until_exactly_its_age_is_reached() -> None:
    rule = ReviewAssurance(max_age=MINUTE)

    assert rule.is_met(authentication({"auth_time": NOW}, now=NOON + MINUTE - TICK))
    assert not rule.is_met(authentication({"auth_time": NOW}, now=NOON + MINUTE))
    assert lacks(rule, auth_time=NOW - 90) == ["its auth_time must be less than 60 s ago, and it is 90 s ago"]
    assert lacks(rule) == ["its auth_time must be less than 60 s ago, and there is none that counts"]


def test_all_that_is_asked_must_be_there() -> None:
    rule = ReviewAssurance(acr=("phr",), amr=("mfa",), max_age=MINUTE)

    assert lacks(rule, acr="phr", amr=["mfa"], auth_time=NOW) == []
    assert len(lacks(rule)) == 3
    assert not rule.is_met(None)


def test_what_is_lacking_is_told_in_words_that_quote_nothing_of_the_token() -> None:
    rule = ReviewAssurance(acr=("phrh", "phr"), amr=("hwk", "mfa"), max_age=MINUTE)

    assert lacks(rule) == [
        "its acr must be phrh or phr, and it has no acr",
        "its amr must have hwk, mfa, and lacks hwk, mfa",
        "its auth_time must be less than 60 s ago, and there is none that counts",
    ]
    assert lacks(rule, acr="secret", amr=["hwk", "secret"], auth_time=NOW - 90) == [
        "its acr must be phrh or phr, and it has another acr",
        "its amr must have hwk, mfa, and lacks mfa",
        "its auth_time must be less than 60 s ago, and it is 90 s ago",
    ]


def test_what_is_wrong_with_a_rule_is_told_with_what_is_allowed() -> None:
    def told(rule: ReviewAssurance) -> list[str]:
        with pytest.raises(InvalidField) as refused:
            normalized(rule)
        return [fault.message.removeprefix("review_assurance") for fault in refused.value.each]

    assert told(ReviewAssurance()) == [": asks for nothing; give acr, amr or max_age"]
    assert told(ReviewAssurance(max_age=SECOND / 2)) == [
        ".max_age: is 0.5s; whole seconds from 1s to 2592000s are allowed"
    ]
    assert told(ReviewAssurance(acr=("two words",))) == [
        ".acr[0]: is 'two words'; 1 to 256 printable ASCII characters without space are allowed"
    ]


def test_a_client_is_told_what_to_ask_the_provider_for() -> None:
    rule = ReviewAssurance(acr=("phrh", "phr"), amr=("mfa", "hwk"), max_age=MINUTE)

    assert rule.challenge == {"acr_values": "phrh phr", "amr_values": "mfa hwk", "max_age": "60"}
    assert ReviewAssurance(acr=("phr",)).challenge == {"acr_values": "phr"}


# What a policy may ask


def test_values_are_kept_once_in_their_order() -> None:
    given = ReviewAssurance(acr=("b", "a", "b"), amr=("mfa", "hwk", "mfa"))

    assert normalized(given) == ReviewAssurance(acr=("b", "a"), amr=("mfa", "hwk"))


def test_a_rule_asks_for_something() -> None:
    assert faults(ReviewAssurance()) == ["review_assurance"]


def test_every_fault_is_told() -> None:
    rule = ReviewAssurance(acr=("ok", "two words"), amr=("", "x" * 257), max_age=1.5 * SECOND)

    assert faults(rule) == [
        "review_assurance.acr[1]",
        "review_assurance.amr[0]",
        "review_assurance.amr[1]",
        "review_assurance.max_age",
    ]


def test_at_most_twenty_values_are_named() -> None:
    most = tuple(map(str, range(20)))

    assert normalized(ReviewAssurance(acr=most, amr=most)) == ReviewAssurance(acr=most, amr=most)
    assert faults(ReviewAssurance(acr=(*most, "x"), amr=(*most, "x"))) == [
        "review_assurance.acr",
        "review_assurance.amr",
    ]


@pytest.mark.parametrize("age", [SECOND, timedelta(days=30)])
def test_an_age_may_be_from_a_second_to_thirty_days(age: timedelta) -> None:
    assert normalized(ReviewAssurance(max_age=age)) == ReviewAssurance(max_age=age)


@pytest.mark.parametrize("age", [-SECOND, TICK, timedelta(days=30) + SECOND])
def test_an_age_outside_of_that_is_refused(age: timedelta) -> None:
    assert faults(ReviewAssurance(max_age=age)) == ["review_assurance.max_age"]


@pytest.mark.parametrize("given", [{"review_assurance": ReviewAssurance(acr=("phr",))}, {"warn_before": HOUR}])
def test_nobody_asks_under_a_deny_policy_so_it_asks_nothing_of_reviewers_and_warns_nobody(given: Any) -> None:
    with pytest.raises(InvalidField) as refused:
        normalize(deny_policy(**given))
    assert refused.value.field in given


def test_a_warning_comes_within_the_longest_access() -> None:
    assert normalize(policy(warn_before=4 * HOUR)).warn_before == 4 * HOUR
    for span in (timedelta(), SECOND):
        assert normalize(policy(warn_before=span)).warn_before == span
    for wrong in (SECOND - TICK, 4 * HOUR + TICK, -HOUR):
        with pytest.raises(InvalidField) as refused:
            normalize(policy(warn_before=wrong))
        assert refused.value.field == "warn_before"
