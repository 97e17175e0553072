"""A real browser at the certified provider: `jit login` and the console log in there, and the console logs out."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from jit_service.issuers import Issuer
from tests import prepared
from tests.browser import running_browser
from tests.conftest import Clock
from tests.console.desk import Desk, Window
from tests.login.oidc import AUDIENCE, Oidc
from tests.rest.dev_login import DevLogin, running_at

pytestmark = pytest.mark.xdist_group("login")

SECONDS = 60
LITTLE_PATIENCE = """
  const timeout = AbortSignal.timeout.bind(AbortSignal);
  AbortSignal.timeout = (milliseconds) => timeout(milliseconds / 50);
"""


@pytest.fixture(scope="module")
def shared_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with running_browser(tmp_path_factory.mktemp("downloads")) as browser:
        yield browser


@pytest.fixture
def browser(shared_browser: Chrome) -> Chrome:
    """The browser of somebody who has logged in nowhere."""
    shared_browser.execute_cdp_cmd("Network.clearBrowserCookies", {})
    return shared_browser


@pytest.fixture(scope="module")
def edge(shared_oidc: Oidc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a service whose people log in at the provider."""
    issuer = Issuer(
        issuer=shared_oidc.issuer,
        audience=(AUDIENCE,),
        principal_prefix="user:",
        console_client_id="jit-console",
        login_audience=AUDIENCE,
    )
    with running_at(issuer, tmp_path_factory.mktemp("edge"), lambda: datetime.now(UTC)) as url:
        shared_oidc.serve_console(url)
        yield url


@pytest.fixture
def console(oidc: Oidc, edge: str, browser: Chrome, tmp_path: Path) -> Iterator[Window]:
    """The console in a window of its own, where alice has logged in."""
    window = Desk(DevLogin(edge, oidc.issuer, Clock(datetime.now(UTC))), tmp_path, browser).window()
    window.open("/mine")
    window.press("Log in")
    window.wait_for(lambda: window.find("input[name=login]"))
    submit(window.browser, login="alice@example.com", password="x")
    submit(window.browser)
    window.wait_for(lambda: window.find("header.top"))
    window.complaints()
    yield window
    oidc.go_away(False)
    window.close()


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipe to read the address from that `jit` opens in the user's browser, which is none but tells it."""
    pipe, script = tmp_path / "opened", tmp_path / "browser"
    os.mkfifo(pipe)
    script.write_text(f"#!/bin/sh\nprintf %s \"$1\" > '{pipe}'\n")
    script.chmod(0o700)
    monkeypatch.setenv("BROWSER", f"{script} %s")
    return pipe


def submit(browser: Chrome, **fields: str) -> None:
    """Fills the provider's form, sends it, and waits for the next page."""
    for name, text in fields.items():
        browser.find_element(By.NAME, name).send_keys(text)
    before = browser.current_url
    browser.find_element(By.CSS_SELECTOR, "form button[type=submit]").click()
    WebDriverWait(browser, SECONDS, poll_frequency=0.05).until(lambda _: browser.current_url != before)


def test_jit_login_by_a_browser_and_every_command_is_alices(url: str, opened: Path, browser: Chrome) -> None:
    jit = prepared.command("jit")
    login = subprocess.Popen([jit, "login", url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        browser.get(opened.read_text())
        submit(browser, login="alice@example.com", password="x")
        submit(browser)
        page = browser.find_element(By.TAG_NAME, "body").text
        out, err = login.communicate(timeout=SECONDS)
    finally:
        login.kill()

    assert "Go back to the terminal" in page
    assert browser.current_url.startswith("http://127.0.0.1:")
    assert login.returncode == 0, err
    assert "user:alice@example.com" in out
    said = subprocess.run([jit, "whoami"], capture_output=True, text=True, timeout=SECONDS, check=True).stdout
    assert "user:alice@example.com" in said
    assert "accepts the token" in said


def test_the_console_stays_logged_in_while_the_providers_session_lasts(console: Window) -> None:
    console.open("/mine")

    console.wait_for(lambda: console.find("header.top"))
    assert "alice@example.com" in console.text("header")
    assert console.browser.current_url.endswith("/console/mine")
    assert console.complaints() == []


def test_who_logs_out_of_the_console_is_asked_by_the_provider_to_log_in_again(console: Window, edge: str) -> None:
    console.press("Log out", "header")
    console.press("Yes, sign me out")
    console.wait_for(lambda: console.browser.current_url == f"{edge}/console/")

    console.press("Log in")

    assert console.wait_for(lambda: console.find("input[name=login]"))


def test_a_page_that_was_open_before_the_log_out_shows_nothing_after_it(console: Window, edge: str) -> None:
    console.press("Log out", "header")
    console.press("Yes, sign me out")
    console.wait_for(lambda: console.browser.current_url == f"{edge}/console/")

    console.open("/mine")

    assert console.wait_for(lambda: "Log in at" in console.text())
    assert console.find("header.top") is None


def test_who_stays_signed_in_at_the_provider_is_asked_there_for_consent_alone(console: Window, edge: str) -> None:
    console.press("Log out", "header")
    console.press("No, stay signed in")
    console.wait_for(lambda: console.browser.current_url == f"{edge}/console/")

    console.wait_for(lambda: console.find("header.top") is None)
    console.press("Log in")
    console.wait_for(lambda: "Authorize" in console.text())
    assert console.find("input[name=login]") is None
    console.press("Continue")

    assert console.wait_for(lambda: console.find("header.top"))


def test_a_provider_that_lets_no_page_revoke_tokens_ends_its_session_all_the_same(
    console: Window, edge: str, oidc: Oidc
) -> None:
    oidc.let_pages_revoke(False)

    console.press("Log out", "header")
    console.press("Yes, sign me out")

    console.wait_for(lambda: console.browser.current_url == f"{edge}/console/")
    console.press("Log in")
    assert console.wait_for(lambda: console.find("input[name=login]"))


def test_a_provider_that_does_not_answer_is_given_up_and_can_be_tried_again(
    oidc: Oidc, edge: str, browser: Chrome, tmp_path: Path
) -> None:
    window = Desk(DevLogin(edge, oidc.issuer, Clock(datetime.now(UTC))), tmp_path, browser).window()
    window.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": LITTLE_PATIENCE})
    oidc.fall_silent()
    window.open("/mine")
    window.wait_for(lambda: "cannot be reached" in window.text())

    oidc.go_away(False)
    window.press("Log in")

    assert window.wait_for(lambda: window.find("input[name=login]"))
    window.close()


def test_who_logs_out_while_the_provider_is_away_is_logged_out_of_the_console(console: Window, oidc: Oidc) -> None:
    oidc.go_away()

    console.press("Log out", "header")

    console.wait_for(lambda: "could not be reached: log out there too" in console.text())
    assert console.find("header.top") is None
    assert "/console" in console.browser.current_url
