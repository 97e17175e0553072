"""Logging in by a browser, at a certified provider: what counts, and what is refused with words that say why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest

from jitaccess.errors import Misconfigured, Unauthenticated, Unavailable
from jitaccess.login import code_flow, provider
from jitaccess.login.claims import read_claims
from jitaccess.login.provider import Refused
from jitaccess.login.renewal import Renewed
from jitaccess.login.tokens import Tokens
from tests.login.conftest import Keep, Login, Watch
from tests.login.oidc import AUDIENCE, Oidc, Person

LogIn = Callable[..., Tokens]
HOUR = 3600.0


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def changed(url: str, **changes: str) -> str:
    parts = urlsplit(url)
    return parts._replace(query=urlencode(query_of(url) | changes)).geturl()


def test_alice_logs_in_by_her_browser(logged_in: LogIn) -> None:
    tokens = logged_in()

    assert read_claims(tokens.bearer)["sub"] == "alice@example.com"
    assert read_claims(tokens.bearer)["aud"] == AUDIENCE
    assert tokens.refresh_token
    assert tokens.expires_at - tokens.obtained_at == 600


def test_the_request_has_a_challenge_and_the_verifier_comes_with_the_code_only(
    logged_in: LogIn, oidc: Oidc, alice: Person
) -> None:
    shown: list[str] = []

    def show(url: str) -> None:
        shown.append(url)
        alice.open(url)

    logged_in(show=show)

    asked, form = query_of(shown[0]), oidc.forms()[0]
    assert asked["code_challenge_method"] == "S256"
    assert "code_verifier" not in asked
    assert len(form["code_verifier"]) == 43
    assert asked["redirect_uri"] == form["redirect_uri"]


def test_a_code_is_worth_nothing_without_the_verifier(logged_in: LogIn, oidc: Oidc, alice: Person) -> None:
    """Who sees the browser's address, and takes the code first, has nothing, and the login says that it is over."""
    at, registration = provider.discover(oidc.issuer), oidc.registration()

    def stolen(url: str) -> None:
        back = alice.way_back(url)
        form = {
            "grant_type": "authorization_code",
            "code": query_of(back)["code"],
            "redirect_uri": query_of(url)["redirect_uri"],
            "client_id": registration.client_id,
            "code_verifier": "v" * 43,
        }
        with pytest.raises(Refused, match="invalid_grant"):
            at.post(at.token_endpoint, form)
        httpx.get(back)

    tokens = logged_in(show=stolen)

    assert tokens.access_token


def test_an_answer_with_another_state_is_refused(logged_in: LogIn, oidc: Oidc, alice: Person) -> None:
    def forged(url: str) -> None:
        httpx.get(changed(alice.way_back(url), state="of-somebody-else"))

    with pytest.raises(Unauthenticated, match="another login") as caught:
        logged_in(show=forged)

    assert caught.value.reason == "STATE_MISMATCH"
    assert oidc.forms() == []


@pytest.mark.parametrize("issuer", ["https://evil.example.com", None], ids=["another one", "none"])
def test_an_answer_of_another_provider_is_refused(
    logged_in: LogIn, oidc: Oidc, alice: Person, issuer: str | None
) -> None:
    """RFC 9207: the provider says that it names itself in each answer."""

    def mixed_up(url: str) -> None:
        back = alice.way_back(url)
        kept = {name: value for name, value in query_of(back).items() if name != "iss"}
        told = kept | ({"iss": issuer} if issuer else {})
        httpx.get(urlsplit(back)._replace(query=urlencode(told)).geturl())

    with pytest.raises(Unauthenticated) as caught:
        logged_in(show=mixed_up)

    assert caught.value.reason == "ISSUER_MISMATCH"
    assert oidc.forms() == []


def test_an_expired_code_says_so(logged_in: LogIn, oidc: Oidc, alice: Person) -> None:
    def slow(url: str) -> None:
        back = alice.way_back(url)
        oidc.set_clock_ahead(61)
        httpx.get(back)

    with pytest.raises(Unauthenticated, match="expired or was used already") as caught:
        logged_in(show=slow)

    assert caught.value.reason == "CODE_EXPIRED"


def test_a_code_that_is_used_again_ends_the_login(
    logged_in: LogIn, oidc: Oidc, kept: Login, keep: Keep, watch: Watch
) -> None:
    """RFC 6749, 4.1.2: the provider revokes what it gave for the code; whoever held it must log in again."""
    at = provider.discover(oidc.issuer)
    form = {name: value for name, value in oidc.forms()[0].items() if name != "status"}
    with pytest.raises(Refused, match="invalid_grant"):
        at.post(at.token_endpoint, form)

    watch.ahead = HOUR
    with pytest.raises(Unauthenticated) as caught:
        Renewed(keep, clock=watch)()

    assert caught.value.reason == "LOGIN_ENDED"


def test_who_says_no_at_the_provider_is_not_logged_in(logged_in: LogIn, oidc: Oidc) -> None:
    def refused(url: str) -> None:
        asked = query_of(url)
        no = {"error": "access_denied", "error_description": "not today", "state": asked["state"], "iss": oidc.issuer}
        page = httpx.get(f"{asked['redirect_uri']}?{urlencode(no)}")
        assert "Not logged in" in page.text

    with pytest.raises(Unauthenticated, match="not today") as caught:
        logged_in(show=refused)

    assert caught.value.reason == "LOGIN_DENIED"


def test_nobody_who_comes_in_time_is_an_error(logged_in: LogIn) -> None:
    with pytest.raises(Unauthenticated, match="jit login --device") as caught:
        logged_in(show=lambda _: None, seconds=0.01)

    assert caught.value.reason == "LOGIN_TIMED_OUT"


def test_the_page_on_this_machine_takes_nothing_else(logged_in: LogIn, alice: Person) -> None:
    """Other sites may send a browser here, under a name of their own (DNS rebinding), or ask for other pages."""
    seen: list[int] = []

    def poked(url: str) -> None:
        back = alice.way_back(url)
        other = back.replace("/callback?", "/other?")
        seen.append(httpx.get(back, headers={"host": "evil.example.com"}).status_code)
        seen.append(httpx.get(other).status_code)
        seen.append(httpx.get(back + "&code=second").status_code)
        answer = httpx.get(back)
        seen.append(answer.status_code)
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["cache-control"] == "no-store"

    logged_in(show=poked)

    assert seen == [404, 404, 404, 200]


@pytest.mark.parametrize(("hours", "way"), [(2, "ahead of"), (-2, "behind")])
def test_a_clock_that_is_wrong_is_named(logged_in: LogIn, watch: Watch, hours: int, way: str) -> None:
    watch.ahead = hours * HOUR

    with pytest.raises(Unauthenticated, match=rf"clock is (2:00:0\d|1:59:5\d) \(h:mm:ss\) {way}") as caught:
        logged_in(clock=watch)

    assert caught.value.reason == "CLOCK_SKEW"


@pytest.mark.parametrize("seconds", [50, -50])
def test_a_clock_that_is_a_little_wrong_is_none_the_worse(logged_in: LogIn, watch: Watch, seconds: int) -> None:
    watch.ahead = seconds

    tokens = logged_in(clock=watch)

    assert tokens.expires_at - watch() == pytest.approx(600, abs=30)


def test_a_provider_that_is_away_is_named(logged_in: LogIn, oidc: Oidc) -> None:
    oidc.go_away()

    with pytest.raises(Unavailable, match=rf"the provider {oidc.issuer} is away") as caught:
        logged_in()

    assert caught.value.reason == "PROVIDER_UNAVAILABLE"


def test_a_provider_that_goes_away_before_the_code_is_exchanged_is_named(
    logged_in: LogIn, oidc: Oidc, alice: Person
) -> None:
    def left_alone(url: str) -> None:
        back = alice.way_back(url)
        oidc.go_away()
        httpx.get(back)

    with pytest.raises(Unavailable, match="503"):
        logged_in(show=left_alone)


def test_another_nonce_is_refused(logged_in: LogIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_flow, "read_answer", _with_another_nonce(code_flow.read_answer))

    with pytest.raises(Unauthenticated, match="nonce") as caught:
        logged_in()

    assert caught.value.reason == "ID_TOKEN_INVALID"


def _with_another_nonce(read: Callable[..., Tokens]) -> Callable[..., Tokens]:
    return lambda body, **options: read(body, **(options | {"nonce": "another"}))


def test_a_port_that_is_taken_is_named(logged_in: LogIn) -> None:
    def again(url: str) -> None:
        logged_in(port=urlsplit(query_of(url)["redirect_uri"]).port, show=lambda _: None)

    with pytest.raises(Misconfigured) as caught:
        logged_in(show=again)

    assert caught.value.reason == "PORT_IN_USE"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"issuer": "https://other.example.com"}, "another issuer"),
        ({"token_endpoint": "http://sso.example.com/token"}, "token_endpoint is neither https"),
        ({"token_endpoint": ""}, "no token_endpoint"),
        ({"code_challenge_methods_supported": ["plain"]}, "PKCE with S256"),
    ],
    ids=["issuer", "plain http", "no endpoint", "no PKCE"],
)
def test_a_discovery_document_that_is_not_safe_is_refused(changes: dict[str, Any], said: str) -> None:
    from tests.login.oidc import publishing

    document: dict[str, Any] = {}
    with publishing({"/.well-known/openid-configuration": document}) as issuer:
        document |= {"issuer": issuer, "token_endpoint": f"{issuer}/token"} | changes

        with pytest.raises(Misconfigured, match=said) as caught:
            provider.discover(issuer)

    assert caught.value.reason == "PROVIDER_INVALID"


def test_an_issuer_over_plain_http_is_never_asked() -> None:
    with pytest.raises(Misconfigured, match="neither https nor http on loopback"):
        provider.discover("http://sso.example.com")
