"""The provider of `up --dev`, through Envoy: people log in, and nobody gets a token by what OAuth's attackers try."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from jit_service.runtime.dev_issuer import DevIssuer
from jit_service.runtime.dev_mode import DevMode
from jit_service.runtime.dev_provider.provider import NotLoopback, Provider
from jit_service.runtime.service import utc_now
from jit_service.settings import Address, Settings
from tests.conftest import NOON, TICK, Clock
from tests.rest.dev_login import CLI_URI, Browser, DevLogin, LogIn, claims_of, running_dev_login

SECOND = timedelta(seconds=1)
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
PICKED, CONFIRMED = "urn:jitaccess:dev:picked", "urn:jitaccess:dev:confirmed"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevLogin]:
    with running_dev_login(tmp_path_factory.mktemp("d"), Clock(NOON)) as running:
        yield running


def error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


def refresh(service: DevLogin, token: str, client: str = "jit-cli", **more: str) -> httpx.Response:
    return service.post("/token", grant_type="refresh_token", client_id=client, refresh_token=token, **more)


class TestLogIn:
    def test_who_picks_alice_is_alice_at_the_service(self, service: DevLogin) -> None:
        log_in = service.log_in("alice")
        assert log_in.returned | {"code": ""} == {"code": "", "state": "a state", "iss": service.provider}

        given = log_in.tokens()

        assert (given["token_type"], given["expires_in"], given["scope"]) == ("Bearer", 600, "openid offline_access")
        access, identity = claims_of(given["access_token"]), claims_of(given["id_token"])
        assert (access["sub"], access["aud"], access["iss"]) == (
            "user:alice@example.com",
            "jitaccess",
            service.provider,
        )
        assert (access["groups"], access["roles"], access["client_id"]) == (["engineering"], [], "jit-cli")
        assert (identity["sub"], identity["aud"], identity["nonce"]) == ("user:alice@example.com", "jit-cli", "a nonce")
        for claims in (access, identity):
            assert (claims["acr"], claims["amr"]) == (PICKED, ["user"])
            assert claims["auth_time"] == int(service.clock().timestamp())
        body = {"resources": ["database/orders/eu"], "actions": ["read"], "duration": "600s"}
        headers = {"authorization": f"Bearer {given['access_token']}"}
        assert httpx.get(f"{service.url}/v1/grants", headers=headers).status_code == 200
        asked = httpx.post(f"{service.url}/v1/grants", headers=headers, json=body)
        assert asked.json()["details"][0]["reason"] == "NOT_ELIGIBLE"

    def test_an_admin_has_the_role(self, service: DevLogin) -> None:
        token = service.log_in("admin").tokens()["access_token"]

        headers = {"authorization": f"Bearer {token}"}
        assert httpx.get(f"{service.url}/v1/signals", headers=headers).status_code == 200

    def test_an_id_token_proves_no_caller(self, service: DevLogin) -> None:
        given = service.log_in().tokens()

        assert service.status(given["access_token"]) == 200
        assert service.status(given["id_token"]) == 401
        assert service.status(given["refresh_token"]) == 401

    def test_the_discovery_document_leads_to_everything(self, service: DevLogin) -> None:
        told = httpx.get(f"{service.url}/.well-known/oauth-protected-resource").json()
        assert told["authorization_servers"] == [service.provider]
        assert (told["jit_cli_client_id"], told["jit_console_client_id"]) == ("jit-cli", "jit-console")
        assert (told["jit_scopes"], told["jit_audience"]) == (["openid", "offline_access"], "jitaccess")

        found = httpx.get(f"{service.provider}/.well-known/openid-configuration").json()

        assert found["issuer"] == service.provider
        assert found["code_challenge_methods_supported"] == ["S256"]
        (key,) = httpx.get(found["jwks_uri"]).json()["keys"]
        assert (key["alg"], "d" in key) == ("ES256", False)

    def test_who_cancels_is_said_to_the_client(self, service: DevLogin) -> None:
        cancelled = LogIn(service, Browser(), answers=("cancel",))

        assert cancelled.returned["error"] == "access_denied"
        assert (cancelled.returned["state"], cancelled.returned["iss"]) == ("a state", service.provider)

    def test_a_log_in_is_over_after_ten_minutes(self, service: DevLogin) -> None:
        browser = Browser()
        LogIn(service, browser)
        service.clock.advance(timedelta(minutes=10))

        assert browser.press("alice") == ""
        assert (browser.page.status_code, "begin it once more" in browser.page.text) == (400, True)


class TestRequest:
    @pytest.mark.parametrize(
        "change",
        [
            {"redirect_uri": "https://evil.example.com/callback"},
            {"redirect_uri": "http://127.0.0.1:4711/other"},
            {"redirect_uri": "http://127.0.0.1:4711/callback?next=x"},
            {"redirect_uri": "http://127.0.0.1:4711/callback#"},
            {"redirect_uri": "http://127.0.0.1.evil.example.com:4711/callback"},
            {"redirect_uri": "http://evil@127.0.0.1:4711/callback"},
            {"redirect_uri": "http://127.0.0.1:99999/callback"},
            {"redirect_uri": "http://10.0.0.1:4711/callback"},
            {"redirect_uri": "https://127.0.0.1:4711/callback"},
            {"redirect_uri": "javascript:alert(1)"},
            {"redirect_uri": ""},
            {"client_id": "jit-console"},
            {"client_id": "another"},
        ],
    )
    def test_nobody_is_sent_to_an_address_that_is_not_the_clients(
        self, service: DevLogin, change: dict[str, str]
    ) -> None:
        refused = LogIn(service, Browser(), **change)

        assert refused.arrived == ""
        assert refused.browser.page.status_code in (400, 401)
        assert "location" not in refused.browser.page.headers

    @pytest.mark.parametrize("uri", ["http://127.0.0.1:1/callback", "http://[::1]:65535/callback"])
    def test_the_command_line_listens_at_any_loopback_port(self, service: DevLogin, uri: str) -> None:
        log_in = LogIn(service, Browser(), redirect_uri=uri, answers=("bob",))

        assert log_in.arrived.startswith(f"{uri}?code=")

    def test_the_console_returns_to_its_own_addresses_only(self, service: DevLogin) -> None:
        port = service.url.rpartition(":")[2]
        for path in ("/console/", "/console/callback"):
            uri = f"http://localhost:{port}{path}"
            assert LogIn(service, Browser(), client="jit-console", redirect_uri=uri).arrived == ""
        for uri in (CLI_URI, f"{service.url}/console", f"{service.url}/console/x", "http://127.0.0.1:1/console/"):
            refused = LogIn(service, Browser(), client="jit-console", redirect_uri=uri)
            assert refused.browser.page.status_code == 400

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"response_type": "token"}, "unsupported_response_type"),
            ({"response_mode": "fragment"}, "invalid_request"),
            ({"code_challenge": ""}, "invalid_request"),
            ({"code_challenge_method": "plain"}, "invalid_request"),
            ({"code_challenge_method": ""}, "invalid_request"),
            ({"prompt": "none login"}, "invalid_request"),
            ({"prompt": "create"}, "invalid_request"),
            ({"max_age": "-1"}, "invalid_request"),
            ({"acr_values": "ü"}, "invalid_request"),
            ({"nonce": "n" * 1025}, "invalid_request"),
            ({"request": "x.y.z"}, "request_not_supported"),
        ],
    )
    def test_what_is_wrong_is_told_to_the_client(self, service: DevLogin, change: dict[str, str], code: str) -> None:
        refused = LogIn(service, Browser(), **change)

        assert (refused.returned["error"], refused.returned["state"]) == (code, "a state")
        assert refused.returned["iss"] == service.provider

    def test_a_parameter_may_not_stand_twice(self, service: DevLogin) -> None:
        url = f"{service.provider}/authorize?client_id=jit-cli&client_id=jit-cli"

        assert error(httpx.get(url)) == (400, "invalid_request")


class TestCode:
    def test_a_code_counts_for_less_than_a_minute(self, service: DevLogin) -> None:
        early, late = service.log_in(), service.log_in()

        service.clock.advance(timedelta(minutes=1) - TICK)
        assert early.redeem().status_code == 200
        service.clock.advance(TICK)
        assert error(late.redeem()) == (400, "invalid_grant")

    def test_a_code_that_is_used_again_revokes_what_it_gave(self, service: DevLogin) -> None:
        log_in = service.log_in()
        given = log_in.tokens()
        # It is known as used after it would have ended, too.
        service.clock.advance(timedelta(minutes=5))

        assert error(log_in.redeem()) == (400, "invalid_grant")

        assert error(refresh(service, given["refresh_token"])) == (400, "invalid_grant")

    @pytest.mark.parametrize(
        "change",
        [
            {"code_verifier": "v" * 64},
            {"code_verifier": ""},
            {"redirect_uri": "http://127.0.0.1:4712/callback"},
            {"redirect_uri": ""},
        ],
    )
    def test_a_code_is_spent_by_whoever_cannot_prove_it(self, service: DevLogin, change: dict[str, str]) -> None:
        log_in = service.log_in()

        assert error(log_in.redeem(**change)) == (400, "invalid_grant")

        assert error(log_in.redeem()) == (400, "invalid_grant")

    def test_a_code_is_of_one_client(self, service: DevLogin) -> None:
        assert error(service.log_in().redeem(client_id="jit-console")) == (400, "invalid_grant")
        assert error(service.log_in().redeem(client_id="another")) == (401, "invalid_client")
        assert error(service.log_in().redeem(code="x")) == (400, "invalid_grant")
        assert error(service.log_in().redeem(grant_type="password")) == (400, "unsupported_grant_type")


class TestRefresh:
    def test_each_refresh_token_gives_the_next(self, service: DevLogin) -> None:
        first = service.log_in().tokens()
        service.clock.advance(timedelta(minutes=9))

        second = refresh(service, first["refresh_token"]).json()
        third = refresh(service, second["refresh_token"]).json()

        assert len({first["refresh_token"], second["refresh_token"], third["refresh_token"]}) == 3
        assert service.status(third["access_token"]) == 200
        before, now = claims_of(first["id_token"]), claims_of(third["id_token"])
        assert (now["sub"], now["auth_time"], now["sid"]) == (before["sub"], before["auth_time"], before["sid"])
        assert now["iat"] == before["iat"] + 540

    def test_one_that_is_used_again_revokes_all_after_it(self, service: DevLogin) -> None:
        first = service.log_in().tokens()["refresh_token"]
        second = refresh(service, first).json()["refresh_token"]

        assert error(refresh(service, first)) == (400, "invalid_grant")

        assert error(refresh(service, second)) == (400, "invalid_grant")

    def test_a_log_in_is_renewed_for_less_than_twelve_hours(self, service: DevLogin) -> None:
        token = service.log_in().tokens()["refresh_token"]

        service.clock.advance(timedelta(hours=12) - TICK)
        token = refresh(service, token).json()["refresh_token"]
        service.clock.advance(TICK)
        assert error(refresh(service, token)) == (400, "invalid_grant")

    def test_it_is_of_one_client_and_its_scope_never_grows(self, service: DevLogin) -> None:
        token = service.log_in(scope="offline_access").tokens()["refresh_token"]

        assert error(refresh(service, token, client="jit-console")) == (400, "invalid_grant")
        assert error(refresh(service, token, scope="openid")) == (400, "invalid_scope")
        assert "id_token" not in refresh(service, token, scope="offline_access").json()

    def test_without_offline_access_there_is_none(self, service: DevLogin) -> None:
        assert set(service.log_in(scope="openid").tokens()) == {
            "access_token",
            "token_type",
            "expires_in",
            "scope",
            "id_token",
        }

    def test_a_revoked_log_in_is_not_renewed(self, service: DevLogin) -> None:
        token = service.log_in().tokens()["refresh_token"]

        assert error(service.post("/revoke", client_id="jit-console", token=token)) == (400, "invalid_grant")
        assert service.post("/revoke", client_id="jit-cli", token=token).status_code == 200

        assert error(refresh(service, token)) == (400, "invalid_grant")
        # What is none any more is no error (RFC 7009, section 2.2).
        assert service.post("/revoke", client_id="jit-cli", token=token).status_code == 200


class TestSession:
    def test_a_browser_that_is_logged_in_is_not_asked_again(self, service: DevLogin) -> None:
        browser = Browser()
        first = LogIn(service, browser, answers=("carol",)).tokens()
        service.clock.advance(timedelta(minutes=3))

        silent = LogIn(service, browser, client="jit-console", prompt="none").tokens()

        before, now = claims_of(first["access_token"]), claims_of(silent["access_token"])
        assert (now["sub"], now["auth_time"]) == ("user:carol@example.com", before["auth_time"])

    def test_nobody_is_asked_where_the_client_says_so(self, service: DevLogin) -> None:
        stranger = LogIn(service, Browser(), prompt="none")
        assert (stranger.returned["error"], stranger.returned["state"]) == ("login_required", "a state")

        browser = Browser()
        LogIn(service, browser, answers=("carol",))
        service.clock.advance(SECOND)
        for more in ({"max_age": "0"}, {"acr_values": "phr"}, {"id_token_hint": bob_hint(service)}):
            assert LogIn(service, browser, prompt="none", **more).returned["error"] == "login_required"

    def test_a_session_lasts_twelve_hours(self, service: DevLogin) -> None:
        browser = Browser()
        LogIn(service, browser, answers=("carol",))

        service.clock.advance(timedelta(hours=12) - TICK)
        assert "code" in LogIn(service, browser, prompt="none").returned
        service.clock.advance(TICK)
        assert LogIn(service, browser, prompt="none").returned["error"] == "login_required"

    @pytest.mark.parametrize("prompt", ["login", "select_account"])
    def test_a_client_may_have_the_person_asked_again(self, service: DevLogin, prompt: str) -> None:
        browser = Browser()
        LogIn(service, browser, answers=("carol",))

        other = LogIn(service, browser, prompt=prompt, answers=("dave",)).tokens()

        assert claims_of(other["access_token"])["sub"] == "user:dave@example.com"

    def test_a_step_up_is_confirmed_and_said_in_the_token(self, service: DevLogin) -> None:
        browser = Browser()
        LogIn(service, browser, answers=("carol",))
        service.clock.advance(timedelta(minutes=3))

        asked = LogIn(service, browser, acr_values="phr phrh")
        assert (asked.arrived, "Confirm again" in browser.page.text) == ("", True)
        asked.arrived = browser.press("confirm")

        claims = claims_of(asked.tokens()["access_token"])
        assert (claims["acr"], claims["amr"]) == ("phr", ["user", "mfa", "hwk"])
        assert claims["auth_time"] == int(service.clock().timestamp())
        # It holds for what the client asks next.
        assert "code" in LogIn(service, browser, acr_values="phrh phr", prompt="none").returned

    def test_an_old_log_in_is_confirmed_where_the_client_wants_a_fresh_one(self, service: DevLogin) -> None:
        browser = Browser()
        LogIn(service, browser, answers=("carol",))
        service.clock.advance(timedelta(seconds=300))
        assert "code" in LogIn(service, browser, max_age="300").returned

        service.clock.advance(SECOND)
        fresh = LogIn(service, browser, max_age="300", answers=("confirm",)).tokens()

        claims = claims_of(fresh["access_token"])
        assert (claims["acr"], claims["auth_time"]) == (CONFIRMED, int(service.clock().timestamp()))
        assert "code" in LogIn(service, browser, max_age="0", answers=("confirm",)).returned

    def test_a_stranger_is_picked_and_then_confirmed(self, service: DevLogin) -> None:
        claims = claims_of(LogIn(service, Browser(), acr_values="phr", answers=("bob", "confirm")).tokens()["id_token"])

        assert (claims["name"], claims["acr"]) == ("bob", "phr")

    def test_another_browser_cannot_confirm(self, service: DevLogin) -> None:
        browser, thief = Browser(), Browser()
        LogIn(service, browser, answers=("carol",))
        LogIn(service, browser, acr_values="phr")
        thief.page = browser.page

        assert thief.press("confirm") == ""
        assert "Who do you want to be?" in thief.page.text

    def test_the_console_logs_out(self, service: DevLogin) -> None:
        browser = Browser()
        cli = LogIn(service, browser, answers=("carol",)).tokens()
        console = LogIn(service, browser, client="jit-console").tokens()

        query = {"id_token_hint": console["id_token"], "post_logout_redirect_uri": service.console_uri, "state": "s"}
        assert browser.open(f"{service.provider}/logout", **query) == f"{service.console_uri}?state=s"

        assert LogIn(service, browser, prompt="none").returned["error"] == "login_required"
        assert error(refresh(service, console["refresh_token"], client="jit-console")) == (400, "invalid_grant")
        assert refresh(service, cli["refresh_token"]).status_code == 200

    def test_a_log_out_that_nothing_proves_is_asked_about(self, service: DevLogin) -> None:
        browser = Browser()
        LogIn(service, browser, answers=("carol",))
        for query in ({}, {"id_token_hint": bob_hint(service)}):
            assert browser.open(f"{service.provider}/logout", **query) == ""
            assert "Log out?" in browser.page.text
        assert "code" in LogIn(service, browser, prompt="none").returned
        browser.open(f"{service.provider}/logout")

        browser.press("logout")

        assert LogIn(service, browser, prompt="none").returned["error"] == "login_required"

    def test_nobody_is_sent_elsewhere_by_a_log_out(self, service: DevLogin) -> None:
        browser = Browser()
        token = LogIn(service, browser, client="jit-console", answers=("carol",)).tokens()["id_token"]

        query = {"id_token_hint": token, "post_logout_redirect_uri": "https://evil.example.com/"}
        assert browser.open(f"{service.provider}/logout", **query) == ""
        assert browser.page.status_code == 400
        assert browser.open(f"{service.provider}/logout", id_token_hint=token + "x") == ""
        assert browser.page.status_code == 400


def bob_hint(service: DevLogin) -> str:
    token: str = service.log_in("bob").tokens()["id_token"]
    return token


class TestDevice:
    def test_a_device_acts_for_whoever_is_picked_elsewhere(self, service: DevLogin) -> None:
        device = start(service)
        assert (device["expires_in"], device["interval"]) == (600, 1)
        assert poll(service, device) == (400, "authorization_pending")
        service.clock.advance(SECOND)
        browser = Browser()
        browser.open(device["verification_uri"], user_code=device["user_code"].lower().replace("-", " "))
        assert device["user_code"] in browser.page.text

        browser.press("bob")

        given = service.post("/token", grant_type=DEVICE_CODE, client_id="jit-cli", device_code=device["device_code"])
        assert claims_of(given.json()["access_token"])["sub"] == "user:bob@example.com"
        assert refresh(service, given.json()["refresh_token"]).status_code == 200
        assert poll(service, device) == (400, "expired_token")
        browser.open(device["verification_uri_complete"])
        assert "No device waits" in browser.page.text

    def test_a_device_that_asks_too_often_is_slowed_down(self, service: DevLogin) -> None:
        device = start(service)
        assert poll(service, device) == (400, "authorization_pending")
        service.clock.advance(SECOND - TICK)
        assert poll(service, device) == (400, "slow_down")
        service.clock.advance(6 * SECOND - TICK)
        assert poll(service, device) == (400, "slow_down")
        service.clock.advance(11 * SECOND)
        assert poll(service, device) == (400, "authorization_pending")

    def test_a_device_that_is_refused_gets_nothing(self, service: DevLogin) -> None:
        device = start(service)
        browser = Browser()
        browser.open(device["verification_uri_complete"])

        browser.press("cancel")

        assert poll(service, device) == (400, "access_denied")
        assert poll(service, device) == (400, "expired_token")

    def test_a_device_waits_for_less_than_ten_minutes(self, service: DevLogin) -> None:
        device = start(service)
        service.clock.advance(timedelta(minutes=10) - TICK)
        assert poll(service, device) == (400, "authorization_pending")

        service.clock.advance(TICK)

        assert poll(service, device) == (400, "expired_token")
        browser = Browser()
        browser.open(device["verification_uri_complete"])
        assert "No device waits" in browser.page.text

    def test_only_the_command_line_is_such_a_device(self, service: DevLogin) -> None:
        refused = service.post("/device_authorization", client_id="jit-console")
        assert error(refused) == (400, "unauthorized_client")
        device = start(service)
        wrong = service.post(
            "/token", grant_type=DEVICE_CODE, client_id="jit-console", device_code=device["device_code"]
        )
        assert error(wrong) == (400, "expired_token")


def start(service: DevLogin) -> dict[str, Any]:
    answer = service.post("/device_authorization", client_id="jit-cli", scope="openid offline_access")
    said: dict[str, Any] = answer.json()
    return said


def poll(service: DevLogin, device: dict[str, Any]) -> tuple[int, str]:
    return error(service.post("/token", grant_type=DEVICE_CODE, client_id="jit-cli", device_code=device["device_code"]))


class TestBrowserSecurity:
    def test_the_pages_run_no_code_and_are_in_no_frame(self, service: DevLogin) -> None:
        browser = Browser()
        LogIn(service, browser)

        policy = browser.page.headers["content-security-policy"]
        assert policy == (
            "default-src 'none'; style-src 'self'; form-action 'self' http://127.0.0.1:4711; base-uri 'none'; "
            "frame-ancestors 'none'"
        )
        assert "<script" not in browser.page.text
        assert " style=" not in browser.page.text
        assert browser.page.headers["cache-control"] == "no-store"
        assert httpx.get(f"{service.provider}/style.css").headers["content-type"] == "text/css; charset=utf-8"

    def test_what_comes_from_outside_is_shown_as_text(self, service: DevLogin) -> None:
        hostile = "<img src=x onerror=alert(1)>"
        browser = Browser()

        browser.open(f"{service.provider}/device", user_code=hostile)
        assert hostile not in browser.page.text
        LogIn(service, browser, client_id=hostile)
        assert hostile not in browser.page.text

    def test_the_cookie_is_not_for_scripts_and_changes_with_each_proof(self, service: DevLogin) -> None:
        browser = Browser()
        LogIn(service, browser, answers=("carol",))
        # Cookies are sent to all ports of a host.
        cookie = f"jit-dev-session-{service.url.rpartition(':')[2]}"
        first = browser.client.cookies[cookie]
        set_by = browser.page.headers["set-cookie"]
        assert set_by == f"{cookie}={first}; Path=/dev/oidc; Max-Age=43200; HttpOnly; SameSite=Lax"

        LogIn(service, browser, max_age="0", answers=("confirm",))

        assert browser.client.cookies[cookie] != first

    @pytest.mark.parametrize("origin", ["https://evil.example.com", "null", "http://127.0.0.1:1"])
    def test_a_page_of_another_origin_can_answer_nothing(self, service: DevLogin, origin: str) -> None:
        browser = Browser()
        LogIn(service, browser)

        assert browser.press("alice", origin=origin) == ""
        assert browser.page.status_code == 403
        refused = service.post("/token", {"origin": origin}, grant_type="refresh_token", client_id="jit-cli")
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers

    def test_the_console_may_read_what_programs_are_answered(self, service: DevLogin) -> None:
        port = service.url.rpartition(":")[2]
        for origin in (service.url, f"http://localhost:{port}"):
            answer = service.post("/token", {"origin": origin}, client_id="jit-console")
            assert answer.headers["access-control-allow-origin"] == origin
            before = httpx.options(f"{service.provider}/token", headers={"origin": origin})
            assert (before.status_code, before.headers["access-control-allow-origin"]) == (204, origin)
            page = httpx.get(f"{service.provider}/device", headers={"origin": origin})
            assert "access-control-allow-origin" not in page.headers

    @pytest.mark.parametrize("host", ["evil.example.com", "evil.example.com:80", "127.0.0.1", ""])
    def test_another_name_for_this_machine_is_refused(self, service: DevLogin, host: str) -> None:
        answer = httpx.get(f"{service.provider}/device", headers={"host": host})

        assert answer.status_code in (400, 421)

    def test_a_body_that_is_no_form_is_refused(self, service: DevLogin) -> None:
        for body, kind, status in (
            (b"{}", "application/json", 415),
            (b"a=" + b"x" * 17_000, "application/x-www-form-urlencoded", 413),
            (b"a=\xff", "application/x-www-form-urlencoded", 400),
        ):
            answer = httpx.post(f"{service.provider}/token", content=body, headers={"content-type": kind})
            assert answer.status_code == status
        assert httpx.put(f"{service.provider}/token").status_code >= 400


def test_it_is_for_loopback_only(tmp_path: Path) -> None:
    with pytest.raises(NotLoopback):
        Provider(DevIssuer(tmp_path), Address("0.0.0.0", 8080), utc_now)  # noqa: S104


def test_an_issuer_at_which_people_log_in_is_not_replaced(tmp_path: Path) -> None:
    login = {"issuer": "https://login.example.com", "audience": "jit", "cli_client_id": "jit-cli"}
    settings = Settings.load(data_dir=tmp_path, issuers=[login])

    mode = DevMode(settings)

    assert mode.login is None
    assert [issuer.issuer for issuer in mode.added_to(settings).issuers if issuer.logs_in] == [login["issuer"]]


def test_a_worker_takes_the_issuers_of_the_mode_beside_others(tmp_path: Path) -> None:
    other = {"issuer": "https://login.example.com", "audience": "jit", "principal_prefix": "user:"}
    settings = Settings.load(data_dir=tmp_path, issuers=[other])
    mode = DevMode(settings)

    again = Settings.load(**mode.added_to(settings).as_given)

    assert [issuer.issuer for issuer in again.issuers][-1] == mode.login
