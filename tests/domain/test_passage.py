"""What a request at a proxy is in names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jit_service.domain.errors import InvalidField, RouteMisconfigured
from jit_service.domain.grant import Grant, Limits, used
from jit_service.domain.live import live
from jit_service.domain.passage import MAX_STREAM, HttpRequest, Route, Stream, lasting, over, route
from jit_service.domain.policy import Policy, PrincipalSet
from jit_service.domain.request import NO_SIGNALS
from tests.conftest import NOON
from tests.domain.factories import ALICE, HOUR, TICK, approved, deny_policy, named, question

ROUTE = Route()
SECOND = timedelta(seconds=1)


def waiting(path: str = "/admin/refunds", *, host: str = "payments.internal", method: str = "GET") -> HttpRequest:
    return HttpRequest(method=method, host=host, path=path)


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/", "http/payments.internal"),
        ("/admin", "http/payments.internal/admin"),
        ("/admin?x=/../y;%00", "http/payments.internal/admin"),
        ("/?x", "http/payments.internal"),
        ("/%61dmin", "http/payments.internal/admin"),
        ("/Admin", "http/payments.internal/Admin"),
        ("/caf%C3%A9", "http/payments.internal/café"),
        ("/a=b,c@d~e", "http/payments.internal/a=b,c@d~e"),
    ],
)
def test_a_path_is_named_by_what_it_means(path: str, resource: str) -> None:
    assert waiting(path).resource(ROUTE) == resource


BAD_PATHS = [
    "",
    "*",
    "admin",
    "//",
    "//admin",
    "/admin/",
    "/admin//x",
    "/.",
    "/..",
    "/a/../b",
    "/a/%2e%2e/b",
    "/a%2fb",
    "/a%2Fb",
    "/a%5cb",
    "/a\\b",
    "/a;x=1",
    "/a%3bx",
    "/a/..;/b",
    "/a%00",
    "/a%0a",
    "/a%7f",
    "/a%20b",
    "/a%25",
    "/a%252fb",
    "/a%",
    "/a%zz",
    "/a#b",
    "/a*",
    "/*",
    "/**",
    "/a%2a",
    "/%ff",
    "/%c0%ae%c0%ae",
    "/caf\u00e9",
    "/cafe%CC%81",
    "/%EF%BC%8E%EF%BC%8E",
    "/%E2%80%AEa",
    "/" + "a" * 2000,
    "/a" * 64,
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_could_be_read_in_two_ways_has_no_name(path: str) -> None:
    with pytest.raises(InvalidField):
        waiting(path).resource(ROUTE)


@pytest.mark.parametrize("path", BAD_PATHS)
def test_it_has_none_on_a_route_with_a_resource_of_its_own_either(path: str) -> None:
    with pytest.raises(InvalidField):
        waiting(path).resource(Route(resource="payments/refunds"))


@pytest.mark.parametrize("host", ["payments.internal", "PAYMENTS.Internal", "PAYMENTS.internal:8443"])
def test_a_host_is_named_without_its_port_in_small_letters(host: str) -> None:
    assert waiting("/a", host=host).resource(ROUTE) == "http/payments.internal/a"


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":80",
        "a/b",
        "a.",
        ".a",
        "a b",
        "[::1]:80",
        "a@b",
        "a:b",
        "a:80:80",
        "a%2fb",
        "{path}",
        "\u0430pi",
        "-a",
        "a" * 300,
    ],
)
def test_what_is_no_hosts_name_has_no_name(host: str) -> None:
    with pytest.raises(InvalidField):
        waiting(host=host).resource(ROUTE)


def test_a_route_that_names_its_resource_asks_nothing_of_the_host() -> None:
    assert waiting(host="[::1]:80").resource(Route(resource="payments/refunds")) == "payments/refunds"


def test_the_method_is_the_verb() -> None:
    assert waiting(method="DELETE").action(ROUTE) == "http.delete"
    assert waiting(method="GET").action(Route(action="refunds.read")) == "refunds.read"


@pytest.mark.parametrize("method", ["", "get", "GET.x", "GET x", "*", "G*", "PÖST", "A" * 40])
def test_what_is_no_method_has_no_name(method: str) -> None:
    for configured in (ROUTE, Route(action="refunds.read")):
        with pytest.raises(InvalidField):
            waiting(method=method).action(configured)


def test_a_template_is_filled_once() -> None:
    """A client's path is data: what looks like a variable in it stays as it is, which is no name."""
    with pytest.raises(InvalidField):
        waiting("/{method}").resource(ROUTE)


def test_a_template_may_hold_each_variable() -> None:
    configured = Route(resource="api/{method}/{host}{path}", audience="https://{host}/x")

    assert waiting("/a/b").resource(configured) == "api/get/payments.internal/a/b"
    assert waiting("/a/b").audience(configured) == "https://payments.internal/x"


@pytest.mark.parametrize("template", ["http/{hots}", "http/{}", "http/{path.1}", "http/{HOST}"])
def test_a_template_with_an_unknown_variable_is_misconfigured(template: str) -> None:
    with pytest.raises(RouteMisconfigured):
        waiting().resource(Route(resource=template))


@pytest.mark.parametrize(
    "told",
    [
        {"resorce": "http/x"},
        {"resource": ""},
        {"action": ""},
        {"audience": ""},
        {"max_stream": ""},
        {"max_stream": "0s"},
        {"max_stream": "60"},
        {"max_stream": "-1s"},
        {"max_stream": "3601s"},
        {"max_stream": "forever"},
        {"forward_authorization": "yes"},
        {"forward_authorization": ""},
    ],
)
def test_a_route_that_makes_no_sense_is_misconfigured(told: dict[str, str]) -> None:
    with pytest.raises(RouteMisconfigured):
        route(told)


def test_a_route_is_what_its_configuration_says() -> None:
    assert route({}) == ROUTE
    assert route({"max_stream": "3600s"}).max_stream == MAX_STREAM
    assert route({"resource": "a/b", "action": "c", "audience": "d", "forward_authorization": "true"}) == Route(
        resource="a/b", action="c", audience="d", forward_authorization=True
    )


@pytest.mark.parametrize(
    ("ends", "proved", "at_most", "lasts"),
    [(9, 5, 7, 5), (5, 9, 7, 5), (9, 8, 7, 7), (5, None, 7, 5), (9, None, 7, 7)],
)
def test_a_stream_lasts_until_the_first_end(ends: int, proved: int | None, at_most: int, lasts: int) -> None:
    found = lasting(
        now=NOON,
        ends_at=NOON + ends * SECOND,
        proved_until=None if proved is None else NOON + proved * SECOND,
        at_most=at_most * SECOND,
    )

    assert found == lasts * SECOND


def running(grant: Grant, **changes: object) -> Stream:
    """Returns what passed by the grant at noon, and may run for an hour."""
    stream = Stream(asked=question(), grant=grant.name, ends_at=NOON + HOUR, revision=1)
    return replace(stream, **changes)  # type: ignore[arg-type]


def why_over(
    stream: Stream,
    *grants: Grant,
    at: datetime = NOON + SECOND,
    denies: Sequence[Policy] = (),
    above: Mapping[str, Grant] | None = None,
) -> str:
    return over(stream, grants=map(live, grants), policies=denies, now=at, signals=NO_SIGNALS, above=above or {})


def test_a_stream_may_run_exactly_until_its_end() -> None:
    grant = approved(ttl=2 * HOUR)

    assert why_over(running(grant), grant, at=NOON + HOUR - TICK) == ""
    assert why_over(running(grant), grant, at=NOON + HOUR)


def test_a_stream_is_over_when_its_grant_is_live_no_more() -> None:
    grant = approved(ttl=timedelta(minutes=10))

    assert why_over(running(grant))
    assert why_over(running(grant), grant, at=NOON + timedelta(minutes=10))


def test_no_other_grant_carries_a_stream_on() -> None:
    first, second = approved(), named(approved(), "grants/second")

    assert why_over(running(first), first, second) == ""
    assert why_over(running(first), second)


def test_a_deny_policy_ends_a_stream() -> None:
    grant = approved()
    policy = deny_policy(eligible=PrincipalSet(principals=(ALICE,)))

    assert "denies" in why_over(running(grant), grant, denies=[policy])


def test_a_deny_policy_for_a_group_that_was_proved_at_the_passage_ends_a_stream() -> None:
    grant = approved()
    contractor = running(grant, asked=question(groups=frozenset({"contractors"})))
    policy = deny_policy(eligible=PrincipalSet(groups=("contractors",)))

    assert why_over(running(grant), grant, denies=[policy]) == ""
    assert why_over(contractor, grant, denies=[policy])


def test_a_stream_that_is_a_grants_last_use_may_run() -> None:
    once = used(replace(approved(), limits=Limits(max_uses=1)), now=NOON)

    assert once.is_used_up
    assert why_over(running(once), once) == ""


@given(st.text(max_size=40), st.text(max_size=20), st.text(max_size=10))
def test_any_request_has_names_or_is_refused(path: str, host: str, method: str) -> None:
    request = HttpRequest(method=method, host=host, path=path)
    try:
        resource, action = request.resource(ROUTE), request.action(ROUTE)
    except InvalidField:
        assert request.endpoint()
        return
    segments = resource.split("/")
    assert all(segments)
    assert not {".", ".."} & set(segments)
    assert not set("%;\\*?#\0 ") & set(resource)
    assert action == f"http.{method.lower()}"
