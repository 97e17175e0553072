"""Which of a client's headers an upstream never sees, and that a hole in that would be noticed."""

from __future__ import annotations

import pytest

from jit_service.rpc.envoy import ext_authz
from tests.domain.test_sown_bugs import Twin, demand_caught

BELIEVED = [
    *("x-forwarded-host", "forwarded", "x-host", "x-original-host", "x-forwarded-uri", "x-original-uri"),
    *("x-original-url", "x-original-method", "x-forwarded-method", "x-rewrite-url", "x-http-method-override"),
    *("X-Forwarded-Host", "x_forwarded_host", "x.original.url", "x_jit_grant", "x-jit-role", "x_forwarded_for"),
    *("x-envoy-original-path", "x-envoy-retry-on", "x-forwarded-something-new"),
    "x_envoy_upstream_stream_duration_ms",
]
LEFT = ["accept", "host", "referer", "x-request-id", "x-forwarded-for", "x-forwarded-proto", "x-jit-grant", "x-hostess"]


@pytest.mark.parametrize("header", BELIEVED)
def test_what_would_make_another_request_of_it_is_taken_away(header: str) -> None:
    assert ext_authz._spoofed([header, "accept"]) == {header.lower()}


@pytest.mark.parametrize("header", LEFT)
def test_what_only_says_more_of_it_stays_and_so_does_what_is_overwritten(header: str) -> None:
    assert ext_authz._spoofed([header]) == set()


TWINS = [
    Twin(
        "an upstream that believes x-forwarded-host",
        ext_authz._is_believed,
        " or word.startswith(_BELIEVED_PREFIXES)",
        "",
        lambda: test_what_would_make_another_request_of_it_is_taken_away("x-forwarded-host"),
    ),
    Twin(
        "a header that only its hyphens give away",
        ext_authz._is_believed,
        '_SEPARATOR.sub("-", header)',
        "header",
        lambda: test_what_would_make_another_request_of_it_is_taken_away("x_forwarded_host"),
    ),
]


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_no_twin_survives(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    twin.caught_by()
    demand_caught(twin, monkeypatch)
