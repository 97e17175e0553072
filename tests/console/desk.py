"""A desk with one browser, in whose windows people sit: the real console, at a real service behind a real Envoy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.rest.dev_login import DevLogin

AXE = Path(__file__).parents[2] / "clients/console/node_modules/axe-core/axe.min.js"
SECONDS = 20
PHONE, WIDE = 360, 1280
# The texts that WebDriver itself reads of elements take it several calls, and the page most of its time.
TEXTS = """
return [...document.querySelectorAll(arguments[0])]
  .map((each) => each.checkVisibility() ? each.innerText.trim() : "");
"""
FIRST = """
return [...document.querySelectorAll(arguments[0])]
  .find((each) => each.checkVisibility() && each.innerText.trim()[arguments[1]](arguments[2]));
"""
PASTE = """
const [field, text] = arguments;
field.value = text;
field.dispatchEvent(new Event("input", { bubbles: true }));
"""


class Window:
    """A window of the browser, and who is logged in there."""

    def __init__(self, desk: Desk, handle: str) -> None:
        self._desk = desk
        self._handle = handle

    @property
    def browser(self) -> Chrome:
        """The browser, with this window in front."""
        if self._desk.browser.current_window_handle != self._handle:
            self._desk.browser.switch_to.window(self._handle)
        return self._desk.browser

    def open(self, path: str) -> None:
        """Goes to a page as one who types its address: all that is in the window's memory is gone."""
        self.browser.get(f"{self._desk.url}/console{path}")

    def follow(self, title: str) -> None:
        """Goes to a page by the navigation."""
        link = self.wait_for(lambda: self._first("header nav a", "startsWith", title))
        self.script("arguments[0].click()", link)
        self.wait_for(lambda: title in self.text("h1") and "Reading" not in self.text("main"))

    def go(self, path: str) -> None:
        """Goes to a page as a link of the console does."""
        move = "history.pushState(null, '', arguments[0]); dispatchEvent(new Event('popstate'))"
        self.script(move, f"/console{path}")

    def be(self, who: str, path: str = "") -> Window:
        """Logs in as one of the made-up people, and so comes to the path."""
        self.forget_cookies()
        self.open(path)
        self.press("Log in")
        self.wait_for(lambda: self.find(f"button[value='{who}']")).click()
        self.wait_for(lambda: self.find("header.top"))
        return self

    def choose(self, words: str) -> None:
        """Opens the request of the inbox that says so."""
        items = ".items .item"
        self.wait_for(lambda: self._first(items, "includes", words)).click()
        self.wait_for(lambda: words in self.text(f"{items}[aria-current]"))

    def forget_cookies(self) -> None:
        """Lets the provider not know who was logged in before."""
        self.browser.execute_cdp_cmd("Network.clearBrowserCookies", {})

    def close(self) -> None:
        """Closes the window: each one in view has one of the six connections that a browser makes without TLS."""
        self.browser.close()
        self._desk.browser.switch_to.window(self._desk.home)

    def find(self, selector: str) -> WebElement | None:
        found = self.browser.find_elements(By.CSS_SELECTOR, selector)
        return found[0] if found else None

    def text(self, selector: str = "body") -> str:
        return next(iter(self.texts(selector)), "")

    def texts(self, selector: str) -> list[str]:
        """Returns what is read of each such element: nothing of one that is not shown."""
        return list(self.script(TEXTS, selector))

    def press(self, word: str, within: str = "body") -> None:
        """Presses the button that begins with the word."""
        self.wait_for(lambda: self._first(f"{within} button:enabled", "startsWith", word)).click()

    def write(self, label: str, text: str) -> None:
        """Writes into the field with the label, instead of what was there."""
        field = self._field(label)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text)

    def paste(self, label: str, text: str) -> None:
        """Has the text in the field with the label at once, whatever its characters."""
        self.script(PASTE, self._field(label), text)

    def key(self, key: str) -> None:
        """Presses a key where the focus is."""
        self.browser.switch_to.active_element.send_keys(key)

    def sees(self, words: str, within: str = "main") -> bool:
        """Waits until the page says so."""
        self.wait_for(lambda: words in self.text(within))
        return True

    def wait_for(self, that: Callable[[], Any]) -> Any:
        try:
            return WebDriverWait(self.browser, SECONDS, poll_frequency=0.05).until(lambda _: _unless_gone(that))
        except Exception as fault:
            raise AssertionError(f"at {self.browser.current_url}:\n{self.text()[:3000]}") from fault

    def script(self, text: str, *arguments: Any) -> Any:
        return self.browser.execute_script(text, *arguments)

    def resize(self, width: int, *, dark: bool = False) -> None:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def findings(self) -> list[str]:
        """Returns what axe-core finds by WCAG 2.2 AA, each with the first element, and whether the page is too wide."""
        if not AXE.exists():
            pytest.skip("axe-core is not there: `make lint` installs it where there is npm")
        if not self.script("return 'axe' in window"):
            self.script(AXE.read_text(encoding="utf-8"))
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        run = (
            "const done = arguments[1]; axe.run({runOnly: arguments[0]}).then(r => done(JSON.stringify(r.violations)))"
        )
        found = json.loads(self.browser.execute_async_script(run, tags))
        told = [f"{each['id']}: {each['help']}: {each['nodes'][0]['html'][:200]}" for each in found]
        return [*told, "wider than the window"] if self.is_wider_than_the_window() else told

    def is_wider_than_the_window(self) -> bool:
        return bool(self.script("return document.documentElement.scrollWidth > document.documentElement.clientWidth"))

    def complaints(self) -> list[str]:
        """Returns what the browser itself complained about: scripts that failed, what the policy forbade."""
        entries = [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]
        return [entry for entry in entries if "Failed to load resource" not in entry]

    def _field(self, label: str) -> WebElement:
        found = self.wait_for(
            lambda: self.script("return arguments[0]?.control", self._first("label", "startsWith", label))
        )
        assert isinstance(found, WebElement)
        return found

    def _first(self, selector: str, relation: str, words: str) -> WebElement | None:
        """Returns the first element that is shown and whose text `startsWith` or `includes` the words."""
        found: WebElement | None = self.script(FIRST, selector, relation, words)
        return found


class Desk:
    """The browser, and the service's REST as the made-up people use it without a browser."""

    def __init__(self, service: DevLogin, directory: Path, browser: Chrome) -> None:
        self.service = service
        self.url = service.url
        self.browser = browser
        self.home = browser.current_window_handle
        self._directory = directory

    def window(self) -> Window:
        self.browser.switch_to.new_window("window")
        return Window(self, self.browser.current_window_handle)

    def call(self, who: str, verb: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Calls REST as somebody, and returns the answer, which must be one."""
        token = (self._directory / "dev" / "tokens" / f"{who}.jwt").read_text()
        headers = {"authorization": f"Bearer {token}"}
        answer = httpx.request(verb, f"{self.url}/v1/{path}", json=body, headers=headers, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def proposes(self, who: str, *policies: dict[str, Any]) -> str:
        """Applies policies. Returns the proposal that waits for another admin; empty without dual control."""
        return str(self.call(who, "POST", "policies:apply", {"policies": policies}).get("proposal", ""))

    def applies(self, who: str, *policies: dict[str, Any]) -> None:
        """Applies policies, which the admin approves under dual control."""
        if proposal := self.proposes(who, *policies):
            self.call("admin", "POST", f"{proposal}:approve", {})

    def asks(self, who: str, policy: str, resource: str, action: str = "read", text: str = "It is needed") -> Any:
        justification = {"text": text, "ticket": "OPS-1"}
        scope = {"resources": [resource], "actions": [action], "policy": f"policies/{policy}", "duration": "1800s"}
        return self.call(who, "POST", "grants", scope | {"justification": justification})

    def allows(self, resource: str, action: str = "read", subject: str = "user:alice@example.com") -> bool:
        question = {"subject": subject, "action": action, "resource": resource}
        return bool(self.call("gateway", "POST", "access:check", question)["allowed"])


def _unless_gone(that: Callable[[], Any]) -> Any:
    """Returns what it does, and nothing while the page is being drawn anew."""
    from selenium.common.exceptions import StaleElementReferenceException, WebDriverException

    try:
        return that()
    except StaleElementReferenceException:
        return None
    except WebDriverException as fault:
        if "intercepted" in str(fault) or "not interactable" in str(fault):
            return None
        raise
