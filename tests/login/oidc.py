"""The provider that the tests log in at, npm's oidc-provider, and a person with a browser."""

from __future__ import annotations

import fcntl
import html
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from jitaccess.login.provider import Registration

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / "tests" / "oidc"
MAX_PAGES = 20
AUDIENCE = "https://jit.example.com"


@dataclass
class Oidc:
    """The running provider."""

    issuer: str
    http: httpx.Client = field(default_factory=httpx.Client)

    def registration(self, client_id: str = "jit-cli") -> Registration:
        return Registration(issuer=self.issuer, client_id=client_id, scopes="openid", audience=AUDIENCE)

    def set_clock_ahead(self, seconds: float) -> None:
        self.http.post(f"{self.issuer}/test/clock", json={"seconds": seconds}).raise_for_status()

    def go_away(self, away: bool = True) -> None:
        self.http.post(f"{self.issuer}/test/away", json={"away": away}).raise_for_status()

    def fall_silent(self) -> None:
        """Takes every call, and answers none."""
        self.http.post(f"{self.issuer}/test/away", json={"away": "silent"}).raise_for_status()

    def serve_console(self, url: str) -> None:
        """Takes the console at the URL as its client `jit-console`."""
        self.http.post(f"{self.issuer}/test/console", json={"url": url}).raise_for_status()

    def let_pages_revoke(self, lets: bool) -> None:
        """Says by CORS whether pages of other origins may revoke tokens."""
        self.http.post(f"{self.issuer}/test/revocation", json={"lets": lets}).raise_for_status()

    def forms(self) -> list[dict[str, Any]]:
        """What its token endpoint got since `forget`, each with the status of the answer."""
        return list(self.http.get(f"{self.issuer}/test/forms").json())

    def reset(self) -> None:
        self.go_away(False)
        self.let_pages_revoke(True)
        self.set_clock_ahead(0)
        self.http.post(f"{self.issuer}/test/forget").raise_for_status()


class Person:
    """Somebody with a browser, who logs in under a name wherever a page asks."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._browser = httpx.Client()

    def open(self, url: str) -> str:
        """Follows the address, logging in on the way, to the page on this machine; returns what that says."""
        return self._browser.get(self.way_back(url)).text

    def way_back(self, url: str) -> str:
        """Follows the address, logging in on the way, and returns where the provider sends the browser back to."""
        answer = self._browser.get(url)
        for _ in range(MAX_PAGES):
            if answer.is_redirect:
                target = urljoin(str(answer.url), answer.headers["location"])
                if urlsplit(target).path == "/callback":
                    return target
                answer = self._browser.get(target)
            else:
                answer = self._submitted(answer)
        raise AssertionError(answer.text)

    def enter_code(self, url: str, code: str, *, abort: bool = False) -> str:
        """Types the code of another device, confirms, and logs in, or says no. Returns the last page."""
        answer = self._browser.get(url)
        for _ in range(MAX_PAGES):
            if answer.is_redirect:
                answer = self._browser.get(urljoin(str(answer.url), answer.headers["location"]))
            elif "<form" not in answer.text:
                return answer.text
            elif abort and "abort" in answer.text:
                return self._submitted(answer, user_code=code, abort="yes").text
            else:
                answer = self._submitted(answer, user_code=code)
        raise AssertionError(answer.text)

    def _submitted(self, page: httpx.Response, **fields: str) -> httpx.Response:
        form = re.search(r"<form[^>]*>", page.text)
        assert form, page.text
        action = re.search(r'action="([^"]*)"', form[0])
        names = re.findall(r'<input[^>]*name="(\w+)"[^>]*value="([^"]*)"', page.text)
        filled = {name: html.unescape(value) for name, value in names} | {"login": self._name, "password": "x"}
        target = urljoin(str(page.url), html.unescape(action[1]) if action else "")
        return self._browser.post(target, data=filled | fields)


@contextmanager
def running(log: Path) -> Iterator[Oidc]:
    """Runs the provider; its warnings go to the file."""
    _install()
    with log.open("w") as errors:
        process = subprocess.Popen(
            ["node", str(DIRECTORY / "provider.mjs")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()
            yield Oidc(json.loads(line)["issuer"])
        finally:
            process.kill()
            process.communicate()


def _install() -> None:
    with (DIRECTORY / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make = ["make", "-s", "tests/oidc/node_modules/.installed"]
        subprocess.run(make, cwd=ROOT, check=True, timeout=240)


@contextmanager
def publishing(documents: Mapping[str, Any]) -> Iterator[str]:
    """Serves JSON documents by their paths, and yields the server's URL. A path that is none is a 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            body = json.dumps(documents.get(path)).encode()
            self.send_response(200 if path in documents else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Logs nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
