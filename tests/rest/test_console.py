"""The console as a browser loads it: one page at many addresses, files that are kept for ever, what the page may do."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import httpx
import pytest

from jit_service.issuers import Issuer
from jit_service.rpc.protected_resource import ProtectedResource
from jit_service.rpc.services.console import PAGES, ConsoleServicer
from jitaccess.v1 import console_pb2
from tests.world import World

MOST_SCRIPT = 150_000
ADDRESSES = (
    "/console",
    "/console/",
    "/console/inbox",
    "/console/grants/abc",
    "/console/callback?code=a.b%20c&state=x&iss=y",
)


def load(world: World, path: str, encoding: str = "gzip, deflate, br", **headers: str) -> httpx.Response:
    given = {"accept-encoding": encoding} | {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(f"http://{world.http}{path}", headers=given, timeout=20)


def assets() -> list[str]:
    return sorted(re.findall(r'"(/console/assets/[^"]+)"', (PAGES / "console.html").read_text()))


@pytest.mark.parametrize("path", ADDRESSES)
def test_each_address_of_the_console_is_the_same_page(world: World, path: str) -> None:
    answer = load(world, path)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text == (PAGES / "console.html").read_text()


def test_the_page_may_run_only_its_own_scripts_and_nobody_may_frame_it(world: World) -> None:
    headers = load(world, "/console").headers

    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert {policy[name] for name in ("base-uri", "form-action", "frame-ancestors", "trusted-types")} == {"'none'"}
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_the_page_holds_no_code_and_names_no_other_host() -> None:
    page = (PAGES / "console.html").read_text()

    assert re.findall(r"<script(?![^>]*\ssrc=)|<style|\son[a-z]+=|\sstyle=|javascript:|https?://", page) == []


def test_the_page_may_connect_to_where_its_users_log_in() -> None:
    issuer = Issuer(
        issuer="https://login.example.com/tenant",
        audience=("jit",),
        jwks_url="https://keys.example.com/jwks",
        console_client_id="jit-console",
    )
    context = Context()

    ConsoleServicer(ProtectedResource("", None, lambda: (issuer,))).GetConsolePage(
        console_pb2.GetConsolePageRequest(),
        context,  # type: ignore[arg-type]
    )

    assert "connect-src 'self' https://login.example.com;" in context.sent["content-security-policy"]


class Context:
    """The part of a call's context that the servicer uses."""

    def __init__(self) -> None:
        self.sent: dict[str, str] = {}

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def send_initial_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self.sent = dict(metadata)


def test_files_are_kept_for_ever_and_the_page_is_asked_for_anew(world: World) -> None:
    page = load(world, "/console")

    assert page.headers["cache-control"] == "no-cache"
    assert load(world, "/console", if_none_match=page.headers["etag"]).status_code == 304
    for path in assets():
        assert load(world, path).headers["cache-control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    ("accepted", "is_packed"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("identity", False), ("gzip;q=0", False), ("gzip; q=0.000", False)],
)
def test_a_file_comes_as_gzip_to_whoever_accepts_it(world: World, accepted: str, is_packed: bool) -> None:
    (path,) = (path for path in assets() if path.endswith(".js"))

    answer = load(world, path, accepted)

    assert (answer.headers.get("content-encoding") == "gzip") is is_packed
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.content == (PAGES / "assets" / Path(path).name).read_bytes()


def test_all_script_is_less_than_a_phone_should_load() -> None:
    packed = sum(len(gzip.compress(path.read_bytes(), 9)) for path in (PAGES / "assets").glob("*.js"))

    assert packed < MOST_SCRIPT


@pytest.mark.parametrize(
    "path", ["/console/assets/none.js", "/console/assets/..%2f..%2fopenapi.json", "/consoles", "/console-x"]
)
def test_there_is_no_other_file(world: World, path: str) -> None:
    assert load(world, path).status_code in (400, 404)
