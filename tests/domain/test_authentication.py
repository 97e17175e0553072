"""What counts of a token's claims on its log-in: what is unclear does not."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from jit_service.domain.authentication import Authentication, authentication
from tests.domain.factories import NOON, TICK

SECOND = timedelta(seconds=1)
NOW = int(NOON.timestamp())


def test_a_token_says_how_and_when_its_holder_logged_in() -> None:
    claims = {"acr": "phr", "amr": ["hwk", "mfa"], "auth_time": NOW - 60}

    shown = authentication(claims, now=NOON)

    assert (shown.acr, shown.amr) == ("phr", ("hwk", "mfa"))
    assert (shown.age, shown.at) == (60 * SECOND, NOON - 60 * SECOND)


@pytest.mark.parametrize("acr", [None, 1, True, ["phr"], "", "two words", "a" * 257, "ä", "a\n", "\ud800"])
def test_an_acr_of_another_form_is_none(acr: object) -> None:
    assert authentication({"acr": acr}, now=NOON).acr == ""


@pytest.mark.parametrize("amr", [None, "mfa", ["mfa", 1], ["mfa", ""], ["mfa"] * 21, {"mfa": True}, [["mfa"]]])
def test_an_amr_of_another_form_is_none(amr: object) -> None:
    assert authentication({"amr": amr}, now=NOON).amr == ()


def test_an_amr_has_twenty_values_at_most() -> None:
    most = [f"m{number}" for number in range(20)]

    assert authentication({"amr": most}, now=NOON).amr == tuple(most)
    assert authentication({"amr": [*most, "mfa"]}, now=NOON).amr == ()


@pytest.mark.parametrize("at", [None, True, "1", str(NOW), [NOW], -1, math.nan, math.inf, 1e300, 10**40])
def test_an_auth_time_of_another_form_is_none(at: object) -> None:
    assert authentication({"auth_time": at}, now=NOON).age is None


def test_an_auth_time_may_be_as_far_ahead_as_clocks_may_differ() -> None:
    assert authentication({"auth_time": NOW + 60}, now=NOON).age == timedelta()
    assert authentication({"auth_time": NOW + 60}, now=NOON - TICK).age is None


def test_an_auth_time_is_counted_from_1970_on() -> None:
    assert authentication({"auth_time": 0}, now=NOON).at == datetime(1970, 1, 1, tzinfo=UTC)
    assert authentication({"auth_time": -0.5}, now=NOON).at is None


def test_an_auth_time_may_have_a_fraction() -> None:
    assert authentication({"auth_time": NOW - 1.5}, now=NOON).age == 1.5 * SECOND


def test_claims_that_are_nested_or_named_otherwise_are_not_read() -> None:
    claims = {"https://example.com/acr": "phr", "realm": {"acr": "phr"}, "ACR": "phr"}

    assert authentication(claims, now=NOON) == Authentication()
