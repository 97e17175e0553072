"""Logging in by another device, at a certified provider (RFC 8628)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jitaccess.errors import Misconfigured, Unauthenticated
from jitaccess.login import device_flow, provider
from jitaccess.login.claims import read_claims
from jitaccess.login.device_flow import Invitation
from jitaccess.login.tokens import Tokens
from tests.login.oidc import Oidc, Person

Pauses = list[float]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    """The pauses between two questions, which take no time here."""
    pauses: Pauses = []
    monkeypatch.setattr(device_flow, "sleep", pauses.append)
    return pauses


@pytest.fixture
def log_in(oidc: Oidc, pauses: Pauses) -> Callable[[Callable[[Invitation], object]], Tokens]:
    def log_in(show: Callable[[Invitation], object]) -> Tokens:
        return device_flow.log_in(provider.discover(oidc.issuer), oidc.registration(), show=show)

    return log_in


LogIn = Callable[[Callable[[Invitation], object]], Tokens]


def test_alice_logs_in_by_her_phone(log_in: LogIn, alice: Person) -> None:
    tokens = log_in(lambda told: alice.enter_code(told.url, told.code))

    assert read_claims(tokens.bearer)["sub"] == "alice@example.com"
    assert tokens.refresh_token


def test_it_asks_again_until_somebody_has_come(
    log_in: LogIn, alice: Person, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Invitation] = []

    def comes_at_the_third_look(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            alice.enter_code(told[0].url, told[0].code)

    monkeypatch.setattr(device_flow, "sleep", comes_at_the_third_look)

    assert log_in(told.append).access_token
    assert pauses == [5, 5, 5]


def test_it_asks_less_often_while_the_provider_is_away(
    log_in: LogIn, oidc: Oidc, alice: Person, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    def back_at_the_third_look(seconds: float) -> None:
        pauses.append(seconds)
        oidc.go_away(len(pauses) < 3)

    monkeypatch.setattr(device_flow, "sleep", back_at_the_third_look)

    log_in(lambda told: alice.enter_code(told.url, told.code))

    assert pauses == [5, 10, 20]


def test_who_says_no_on_the_phone_is_not_logged_in(log_in: LogIn, alice: Person) -> None:
    with pytest.raises(Unauthenticated, match="refused on the other device") as caught:
        log_in(lambda told: alice.enter_code(told.url, told.code, abort=True))

    assert caught.value.reason == "LOGIN_DENIED"


def test_a_code_that_expired_says_so(log_in: LogIn, oidc: Oidc) -> None:
    with pytest.raises(Unauthenticated, match="expired") as caught:
        log_in(lambda _: oidc.set_clock_ahead(601))

    assert caught.value.reason == "DEVICE_CODE_EXPIRED"


def test_nobody_who_comes_is_waited_for_as_long_as_the_code_lasts(log_in: LogIn, pauses: Pauses) -> None:
    with pytest.raises(Unauthenticated) as caught:
        log_in(lambda _: None)

    assert caught.value.reason == "DEVICE_CODE_EXPIRED"
    assert sum(pauses) == 600


def test_a_provider_without_it_says_what_to_do(oidc: Oidc) -> None:
    from dataclasses import replace

    at = replace(provider.discover(oidc.issuer), device_authorization_endpoint="")

    with pytest.raises(Misconfigured, match="leave out --device"):
        device_flow.log_in(at, oidc.registration(), show=lambda _: None)
