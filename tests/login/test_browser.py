"""`jit login` with a real browser at the certified provider: the page there, its consent, and the way back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests import prepared
from tests.browser import running_browser

pytestmark = pytest.mark.xdist_group("login")

SECONDS = 60


@pytest.fixture
def browser() -> Iterator[Chrome]:
    with running_browser() as browser:
        yield browser


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
