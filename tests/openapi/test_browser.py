"""The page /docs in a real browser: Debian's chromium-headless-shell, which `make browser` installs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import presence_of_element_located, url_contains
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser import running_browser
from tests.world import World

SECONDS = 120
OPERATION = "operations-GrantService-GrantService_ApproveGrant"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    with running_browser(tmp_path) as browser:
        yield browser


def test_the_page_shows_every_operation_and_nothing_fails_in_it(browser: Chrome, world: World) -> None:
    browser.get(f"http://{world.http}/docs")
    wait = WebDriverWait(browser, SECONDS)

    approve = wait.until(presence_of_element_located((By.ID, OPERATION)))
    shown = browser.find_elements(By.CSS_SELECTOR, ".opblock")
    browser.execute_script("arguments[0].querySelector('button.opblock-summary-control').click()", approve)
    wait.until(lambda page: "The last approval needed" in page.find_element(By.ID, OPERATION).text)

    paths = browser.execute_async_script("fetch('/openapi.json').then(r => r.json()).then(d => arguments[0](d.paths))")
    assert len(shown) == sum(len(item) for item in paths.values())
    assert "Just-in-time access" in browser.title
    severe = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert severe == []


def test_try_it_out_calls_this_very_service(browser: Chrome, world: World) -> None:
    wait = WebDriverWait(browser, SECONDS)
    browser.get(f"http://{world.http}/docs#/TokenService/TokenService_GetKeySet")
    wait.until(url_contains("GetKeySet"))

    for control in (".try-out__btn", ".btn.execute"):
        button = wait.until(presence_of_element_located((By.CSS_SELECTOR, control)))
        browser.execute_script("arguments[0].click()", button)
    answer = wait.until(
        presence_of_element_located((By.CSS_SELECTOR, ".live-responses-table .response .response-col_status"))
    )

    assert answer.text.startswith("200")
    assert '"kty"' in browser.find_element(By.CSS_SELECTOR, ".live-responses-table").text
