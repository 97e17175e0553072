"""A service in development mode behind a real Envoy, and a browser and a client that log in there."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import jwt

from jit_service.issuers import Issuer
from jit_service.runtime.dev_mode import DevMode
from jit_service.runtime.envoy import Envoy, render
from jit_service.runtime.service import Service
from jit_service.runtime.workers import hold
from jit_service.settings import Address, Settings
from tests.conftest import Clock
from tests.world import make_database

CLI_URI = "http://127.0.0.1:4711/callback"


class DevLogin:
    """The running service; `url` is the edge's, `provider` that of the provider."""

    def __init__(self, url: str, provider: str, clock: Clock) -> None:
        self.url = url
        self.provider = provider
        self.console_uri = f"{url}/console/"
        self.clock = clock

    def post(self, path: str, headers: dict[str, str] | None = None, **form: str) -> httpx.Response:
        """Posts a form to the provider, as a program does."""
        return httpx.post(self.provider + path, data=form, headers=headers or {}, timeout=20)

    def status(self, token: str) -> int:
        """Returns how the service answers a call with the token."""
        return httpx.get(f"{self.url}/v1/grants", headers={"authorization": f"Bearer {token}"}, timeout=20).status_code

    def log_in(self, who: str = "alice", scope: str = "openid offline_access", client: str = "jit-cli") -> LogIn:
        """Returns the log-in of somebody in a new browser, up to the code."""
        return LogIn(self, Browser(), client=client, scope=scope, answers=(who,))


class Browser:
    """A browser: it keeps cookies, follows redirects within the provider, and presses buttons."""

    def __init__(self) -> None:
        self.client = httpx.Client(timeout=20)
        self.page: httpx.Response

    def open(self, url: str, **query: str) -> str:
        """Opens an address. Returns where it is redirected to, outside of the provider; empty for a page."""
        return self._arrived(self.client.get(url, params=query or None))

    def press(self, answer: str, **headers: str) -> str:
        """Presses the button of the page with this value, as `open` does."""
        assert f'value="{answer}"' in self.page.text, self.page.text
        named = re.search(r'name="interaction" value="([^"]+)"', self.page.text)
        assert named is not None
        url = self.page.url.copy_with(path="/dev/oidc/interaction", query=None)
        form = {"interaction": named[1], "answer": answer}
        origin = {"origin": f"http://{url.netloc.decode()}"}
        return self._arrived(self.client.post(url, data=form, headers=origin | headers))

    def _arrived(self, response: httpx.Response) -> str:
        self.page = response
        if response.status_code != 303:
            return ""
        location = response.headers["location"]
        return self.open(str(response.url.join(location))) if location.startswith("/") else str(location)


class LogIn:
    """One log-in by authorization code; `answers` are the buttons that are pressed."""

    def __init__(
        self,
        service: DevLogin,
        browser: Browser,
        *,
        client: str = "jit-cli",
        scope: str = "openid offline_access",
        answers: tuple[str, ...] = (),
        **more: str,
    ) -> None:
        self.service = service
        self.browser = browser
        self.client = client
        self.verifier = secrets.token_urlsafe(48)
        self.redirect_uri = CLI_URI if client == "jit-cli" else service.console_uri
        self.arrived = browser.open(f"{service.provider}/authorize", **(self.query(scope) | more))
        for answer in answers:
            self.arrived = browser.press(answer)

    def query(self, scope: str) -> dict[str, str]:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return {
            "client_id": self.client,
            "redirect_uri": self.redirect_uri,
            "response_type": "code",
            "scope": scope,
            "state": "a state",
            "nonce": "a nonce",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }

    @property
    def returned(self) -> dict[str, str]:
        """What came back to the client."""
        assert self.arrived.startswith(self.redirect_uri), self.browser.page.text
        return dict(parse_qsl(urlsplit(self.arrived).query))

    def redeem(self, **changes: str) -> httpx.Response:
        """Exchanges the code."""
        form = {
            "grant_type": "authorization_code",
            "client_id": self.client,
            "code": self.returned["code"],
            "redirect_uri": self.redirect_uri,
            "code_verifier": self.verifier,
        }
        return self.service.post("/token", **(form | changes))

    def tokens(self) -> dict[str, Any]:
        """Returns what the code gives."""
        answer = self.redeem()
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said


def claims_of(token: str) -> dict[str, Any]:
    """Returns what a token says, without verifying it."""
    said: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return said


@contextmanager
def running_dev_login(directory: Path, clock: Clock, **settings: Any) -> Iterator[DevLogin]:
    """Runs a service in development mode, with more settings, whose clock stands still."""
    with ExitStack() as stack:
        held, http = hold(Address("127.0.0.1", 0))
        stack.callback(held.close)
        loaded = Settings.load(data_dir=directory, http=http, **settings)
        mode = DevMode(loaded, clock=clock)
        _serve(mode.added_to(loaded), http, clock, stack, lambda: mode.serve(directory, stack))
        assert mode.login is not None
        yield DevLogin(f"http://{http}", mode.login, clock)


@contextmanager
def running_at(issuer: Issuer, directory: Path, clock: Callable[[], datetime]) -> Iterator[str]:
    """Runs a service at whose issuer people log in, without development mode; yields the edge's URL."""
    with ExitStack() as stack:
        held, http = hold(Address("127.0.0.1", 0))
        stack.callback(held.close)
        settings = Settings.load(data_dir=directory, http=http, public_url=f"http://{http}").with_issuer(issuer)
        _serve(settings, http, clock, stack, lambda: None)
        yield f"http://{http}"


def _serve(
    settings: Settings,
    http: Address,
    clock: Callable[[], datetime],
    stack: ExitStack,
    dev_provider: Callable[[], Path | None],
) -> None:
    directory = settings.data_dir
    make_database(settings.store_url)
    service = Service(settings, clock=clock)
    stack.callback(service.stop)
    service.listen_unix(directory / "s.sock")
    service.start()
    config = render(http=http, upstream=directory / "s.sock", directory=directory, dev_provider=dev_provider())
    envoy = Envoy(config, directory=directory)
    stack.callback(envoy.stop)
    envoy.start(timeout=30)
