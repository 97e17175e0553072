"""What a request at a proxy is in names."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jit_service.domain.checks import http_request
from jit_service.domain.checks.cached_grant import condense
from jit_service.domain.checks.decision import decide
from jit_service.domain.checks.evidence import Evidence
from jit_service.domain.checks.http_request import MAX_STREAM, HttpRequest, Route, Stream, parse_route, stream_end
from jit_service.domain.errors import InvalidField, RouteMisconfigured
from jit_service.domain.grants.grant import Grant, Limits, with_use
from jit_service.domain.policies.policy import Policy, PrincipalSet
from tests import paths
from tests.conftest import NOON
from tests.domain.factories import ALICE, HOUR, TICK, approve, approved, deny_policy, named, pending, policy, question

ROUTE = Route()
KEEPING = Route(keeps_encoded_slash=True)
SECOND = timedelta(seconds=1)


def waiting(path: str = "/admin/refunds", *, host: str = "payments.internal", method: str = "GET") -> HttpRequest:
    return HttpRequest(method=method, host=host, path=path)


@pytest.mark.parametrize("line", paths.lines(), ids=lambda line: line.path)
def test_a_path_names_what_the_table_says(line: paths.Line) -> None:
    request = waiting(line.path)

    if line.names is None:
        with pytest.raises(InvalidField):
            request.resource(line.route)
    else:
        assert request.resource(line.route) == line.names


def test_the_table_has_lines_of_every_kind() -> None:
    """A parser that finds nothing would pass."""
    lines = paths.lines()

    assert len({line.path for line in lines}) == len(lines) >= 80
    assert sum(line.names is None for line in lines) >= 40
    assert {line.route.resource for line in lines} == {"http/{host}{path}", "payments/refunds"}
    assert any(line.route.keeps_encoded_slash for line in lines)


BAD_PATHS = [
    "",
    "*",
    "admin",
    "//",
    "//admin",
    "/admin//",
    "/admin//x",
    "/.",
    "/..",
    "/a/../b",
    "/a/%2e%2e/b",
    "/a/%20/b",
    "/a/.%20/b",
    "/a%2fb",
    "/a%2F..%2Fb",
    "/a%5cb",
    "/a\\b",
    "/a;x=1",
    "/a%3bx",
    "/a%3fx",
    "/a/..;/b",
    "/a%EF%BC%9Bx",
    "/a%E2%81%84b",
    "/a%00",
    "/a%0a",
    "/a%7f",
    "/a%E2%80%8B",
    "/a%20",
    "/%09a",
    "/a%252fb",
    "/a%2541",
    "/a%EF%BC%8541",
    "/a%25u0041",
    "/a%",
    "/a%2",
    "/a%zz",
    "/a#b",
    "/a b",
    "/a\tb",
    "/%ff",
    "/%c0%ae%c0%ae",
    "/caf\u00e9",
    "/cafe%CC%81",
    "/%EF%BC%8E%EF%BC%8E",
    "/%E2%80%A5",
    "/%E2%80%AEa",
]
# Other spellings of a name, which no server takes for the path of another route.
NOT_ANOTHER_PATH = ["/cafe%CC%81"]
NO_NAMES = ["/a*", "/*", "/**", "/a%2a", "/p%D0%B0y", "/" + "a" * 2000, "/a" * 64]
WORDS = Route(resource="payments/refunds")


@pytest.mark.parametrize("path", BAD_PATHS + NO_NAMES)
def test_a_path_that_could_be_read_in_two_ways_or_is_no_name_names_nothing(path: str) -> None:
    with pytest.raises(InvalidField) as fault:
        waiting(path).resource(ROUTE)

    assert fault.value.field == "path"


@pytest.mark.parametrize("path", [path for path in BAD_PATHS if path not in NOT_ANOTHER_PATH])
def test_one_that_could_be_another_routes_is_refused_where_the_route_says_the_resource_too(path: str) -> None:
    """The route was chosen by it, and the upstream would choose again."""
    with pytest.raises(InvalidField) as fault:
        waiting(path).resource(WORDS)

    assert not path.startswith("/") or "ambiguous_path: pass" in str(fault.value)


@pytest.mark.parametrize("path", NO_NAMES + NOT_ANOTHER_PATH + ["/users/", "/files/Q3%20report.pdf", "/a%EE%80%80"])
def test_one_that_is_no_name_does_not_matter_where_the_route_says_the_resource(path: str) -> None:
    assert waiting(path).resource(WORDS) == "payments/refunds"


@pytest.mark.parametrize("path", BAD_PATHS + NO_NAMES)
def test_no_path_matters_where_the_route_says_that_all_of_them_are_its_resource(path: str) -> None:
    assert waiting(path).resource(replace(WORDS, passes_ambiguous_path=True)) == "payments/refunds"


@pytest.mark.parametrize("template", ["resource", "action", "audience"])
def test_where_a_path_names_something_it_cannot_be_ambiguous(template: str) -> None:
    words = {"resource": "a/b", "action": "c", "audience": "d", "ambiguous_path": "pass"}
    assert parse_route(words).passes_ambiguous_path

    with pytest.raises(RouteMisconfigured, match="ambiguous_path"):
        parse_route(words | {template: "a/b{path}"})


def test_a_private_character_has_no_name() -> None:
    with pytest.raises(InvalidField, match="meaning in Unicode"):
        waiting("/a%EE%80%80").resource(ROUTE)


@pytest.mark.parametrize("path", [path for path in BAD_PATHS if path not in ("", "*", "admin", "/a%2fb")])
def test_a_route_that_keeps_encoded_slashes_keeps_nothing_else(path: str) -> None:
    with pytest.raises(InvalidField):
        waiting(path).resource(KEEPING)


def test_an_encoded_slash_is_no_separator_and_has_one_spelling() -> None:
    kept = waiting("/acme%2fweb").resource(KEEPING)

    assert kept == waiting("/acme%2Fweb").resource(KEEPING) == "http/payments.internal/acme%2Fweb"
    assert kept != waiting("/acme/web").resource(KEEPING)


def test_what_is_decided_for_a_path_is_decided_for_it_with_a_slash_at_its_end() -> None:
    """Frameworks send it there and back: a deny that the slash got past would deny nothing."""
    everything = {"resources": ("http/payments.internal/**",), "actions": ("http.*",)}
    grant = approve(pending(under=policy(**everything), **everything), under=policy(**everything))
    denying = deny_policy(eligible=PrincipalSet(principals=(ALICE,)), resources=("http/payments.internal/admin",))

    def reason(path: str) -> str:
        asked = question(resource=waiting(path).resource(ROUTE), action="http.get")
        return decide(asked, grants=[condense(grant)], evidence=Evidence(policies=[denying], now=NOON)).reason

    assert {path: reason(path) for path in ("/admin", "/admin/", "/admin/?x", "/admins/")} == {
        "/admin": "DENIED_BY_POLICY",
        "/admin/": "DENIED_BY_POLICY",
        "/admin/?x": "DENIED_BY_POLICY",
        "/admins/": "ALLOWED",
    }


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/a%2Fb", ("http/payments.internal/a%2Fb", "'a%2Fb'", "encoded_slash: keep")),
        ("/a/..;/b", ("http/payments.internal/a/..;/b", "'..;'", "send it without")),
        ("/%252fb", ("http/payments.internal/%252fb", "encode it once")),
        ("/a*", ("http/payments.internal/a*", "concrete name; a route that states its own resource takes such a path")),
    ],
)
def test_a_refusal_names_the_whole_resource_and_what_to_do(path: str, words: tuple[str, ...]) -> None:
    with pytest.raises(InvalidField) as fault:
        waiting(path).resource(ROUTE)

    assert all(word in str(fault.value) for word in words), str(fault.value)


WAY_OUT = "; if every path of its host is this one resource, the route can say ambiguous_path: pass"
FAULTS = {
    "a%2Fb": "which has an encoded slash; a route can take it as data: encoded_slash: keep",
    "a%zz": "which is not percent-encoded; of other signs than ASCII's encode their UTF-8",
    "%ff": "which is not UTF-8; encode it so",
    "..": "which is empty or dots; send the path that is meant",
    "a;b": "which could mean another path: it has / \\ ; or ? in it; send it without",
    "%252e": "which is encoded twice; encode it once",
    "a%00": "which has a control character, or white space at an end; send it without",
}


@pytest.mark.parametrize(("segment", "fault"), FAULTS.items())
def test_a_refusal_says_what_is_wrong_with_which_segment(segment: str, fault: str) -> None:
    told = f"path: 'http/payments.internal/x/{segment}' has the segment '{segment}', {fault}"

    with pytest.raises(InvalidField) as where_it_names:
        waiting(f"/x/{segment}").resource(ROUTE)
    with pytest.raises(InvalidField) as where_it_does_not:
        waiting(f"/x/{segment}").resource(WORDS)

    assert str(where_it_names.value) == told
    assert str(where_it_does_not.value) == f"{told}{WAY_OUT}"


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("/cafe%CC%81", "which is not in the Unicode form NFC; send it so"),
        ("/a%EE%80%80", "which has a character without a meaning in Unicode; send it without"),
    ],
)
def test_a_second_spelling_is_refused_with_what_to_send(path: str, fault: str) -> None:
    with pytest.raises(InvalidField) as found:
        waiting(path).resource(ROUTE)

    assert str(found.value) == f"path: 'http/payments.internal{path}' has the segment '{path[1:]}', {fault}"


def test_what_is_told_of_a_host_or_a_method_is_bounded() -> None:
    long = "A" * 400
    with pytest.raises(InvalidField) as host:
        waiting(host=f"{long}_@").resource(ROUTE)
    with pytest.raises(InvalidField) as method:
        waiting(method=long).action(ROUTE)
    with pytest.raises(InvalidField) as path:
        waiting("/;", host=long).resource(WORDS)

    assert str(host.value) == (
        f"host: '{long[:80]}... (402 characters)' is not a host's name: a-z, 0-9, and - _ . within"
    )
    assert str(method.value) == f"method: '{long[:40]}... (400 characters)' is not a method: A-Z and -"
    assert f"'http/{long[:256]}... (400 characters)/;' has the segment" in str(path.value)


def test_an_action_that_is_no_name_is_told_as_the_action() -> None:
    with pytest.raises(InvalidField) as fault:
        waiting().action(Route(action="a b"))

    assert fault.value.field == "action"


def test_a_template_of_each_kind_may_have_the_path() -> None:
    route = Route(resource="a/b", action="x/{path}", audience="https://h{path}", keeps_encoded_slash=True)

    assert waiting("/a%2fb").audience(route) == "https://h/a%2Fb"
    with pytest.raises(InvalidField):
        waiting("/a%2fb").action(route)


def test_a_record_has_the_request_without_its_query_and_no_more_than_fits() -> None:
    long = "A" * 2000

    assert waiting("/a?b?c").endpoint() == {"method": "GET", "host": "payments.internal", "path": "/a"}
    assert waiting(long, host=long, method=long).endpoint() == {
        "method": f"{long[:32]}... (2000 characters)",
        "host": f"{long[:256]}... (2000 characters)",
        "path": f"{long[:1024]}... (2000 characters)",
    }


LONG = "A" * 200
KEYS = "resource, action, audience, max_stream, forward_authorization, encoded_slash, ambiguous_path"


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ({LONG: ""}, f"the route has '{LONG[:80]}... (200 characters)'; it can have {KEYS}"),
        ({"resource": ""}, "the route's resource is empty"),
        (
            {"max_stream": LONG},
            f"the route's max_stream is '{LONG[:40]}... (200 characters)'; it can be 1s to 1h, such as 90s or 5m, or "
            "grant",
        ),
        (
            {"encoded_slash": LONG},
            f"the route's encoded_slash is '{LONG[:40]}... (200 characters)'; it can be refuse or keep",
        ),
        ({"ambiguous_path": "x"}, "the route's ambiguous_path is 'x'; it can be refuse or pass"),
        (
            {"ambiguous_path": "pass"},
            "the route's ambiguous_path is 'pass', and a template has {path}; a path that names something has one "
            "meaning, so state the resource without {path}",
        ),
    ],
)
def test_a_misconfigured_route_is_told_what_can_be(told: dict[str, str], fault: str) -> None:
    with pytest.raises(RouteMisconfigured) as found:
        parse_route(told)

    assert str(found.value) == fault


def test_a_template_with_another_variable_is_told_which_there_are() -> None:
    with pytest.raises(RouteMisconfigured) as found:
        waiting().resource(Route(resource="a/{hots}"))

    assert str(found.value) == "the route's template has '{hots}'; it can have {host}, {path}, {method}"


def test_words_of_a_route_that_are_no_name_are_the_routes_fault() -> None:
    with pytest.raises(RouteMisconfigured):
        waiting().resource(Route(resource="Payments"))


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
    """A client's path is data: what looks like a variable in it stays as it is."""
    assert waiting("/{method}").resource(ROUTE) == "http/payments.internal/{method}"
    assert waiting("/a").action(Route(action="http.{method}")) == "http.get"


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
        {"encoded_slash": "yes"},
        {"encoded_slash": ""},
        {"resource": "a/b", "ambiguous_path": "keep"},
        {"ambiguous_path": "pass"},
        {"max_stream": "Grant"},
        {"max_stream": "0.999999s"},
        {"max_stream": "1h1s"},
    ],
)
def test_a_route_that_makes_no_sense_is_misconfigured(told: dict[str, str]) -> None:
    with pytest.raises(RouteMisconfigured):
        parse_route(told)


def test_a_route_is_what_its_configuration_says() -> None:
    assert parse_route({}) == ROUTE
    assert parse_route({"max_stream": "3600s"}).max_stream == MAX_STREAM
    assert parse_route({"max_stream": "grant"}).max_stream is None
    assert parse_route({"max_stream": "1s"}).max_stream == SECOND
    assert parse_route({"max_stream": "1m30s"}).max_stream == 90 * SECOND
    assert parse_route({"encoded_slash": "keep"}) == KEEPING
    assert parse_route({"ambiguous_path": "refuse"}) == ROUTE
    assert parse_route({"encoded_slash": "refuse", "forward_authorization": "false"}) == ROUTE
    assert parse_route({"resource": "a/b", "action": "c", "audience": "d", "forward_authorization": "true"}) == Route(
        resource="a/b", action="c", audience="d", forward_authorization=True
    )


GRANT_ENDS, TOKEN_ENDS = "the grant has expired", "the token that it passed with has expired"
AT_MOST = "it ran for 7 s, the route's max_stream"


@pytest.mark.parametrize(
    ("ends", "proved", "at_most", "lasts", "by"),
    [
        (9, 5, 7, 5, TOKEN_ENDS),
        (5, 9, 7, 5, GRANT_ENDS),
        (9, 8, 7, 7, AT_MOST),
        (5, None, 7, 5, GRANT_ENDS),
        (9, None, 7, 7, AT_MOST),
        (9, None, None, 9, GRANT_ENDS),
        (9, 8, None, 8, TOKEN_ENDS),
        (7, 7, 7, 7, GRANT_ENDS),
    ],
)
def test_a_stream_lasts_until_the_first_end(
    ends: int, proved: int | None, at_most: int | None, lasts: int, by: str
) -> None:
    found = stream_end(
        now=NOON,
        ends_at=NOON + ends * SECOND,
        proved_until=None if proved is None else NOON + proved * SECOND,
        at_most=None if at_most is None else at_most * SECOND,
    )

    assert found == (NOON + lasts * SECOND, by)


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
    return http_request.why_over(
        stream, grants=map(condense, grants), evidence=Evidence(policies=denies, now=at, above=above or {})
    )


def test_a_stream_may_run_exactly_until_its_end() -> None:
    grant = approved(ttl=2 * HOUR)

    bounded = running(grant, ends_by="its bound")
    assert why_over(bounded, grant, at=NOON + HOUR - TICK) == ""
    assert why_over(bounded, grant, at=NOON + HOUR) == f"what passed by {grant.name} is over: its bound"


def test_a_stream_is_over_when_its_grant_is_live_no_more() -> None:
    grant = approved(ttl=timedelta(minutes=10))

    assert why_over(running(grant)) == f"{grant.name} was ended before its time"
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
    once = with_use(replace(approved(), limits=Limits(max_uses=1)), now=NOON)

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
    assert not set(";\\*?\0") & set(resource)
    assert action == f"http.{method.lower()}"


SIGNS = st.sampled_from([*"ab/.;%+* \\?#", "%2F", "%2f", "%2e", "%25", "%20", "%C3%A9", "%5C", "%3B", "%7C"])


@given(st.lists(SIGNS, max_size=12).map("".join), st.booleans())
def test_whoever_decodes_a_path_leniently_gets_what_was_named(path: str, keeps: bool) -> None:
    """What is judged is what the upstream gets, decoded once, twice, or normalised (I34)."""
    configured = KEEPING if keeps else ROUTE
    try:
        resource = waiting(f"/{path}").resource(configured)
    except InvalidField:
        return
    named = resource.removeprefix("http/payments.internal")
    sent = f"/{path}".partition("?")[0].removesuffix("/")

    if not keeps:
        assert unquote(sent) == unquote(unquote(sent)) == named
    assert unquote(sent) == unquote(named)
    assert posixpath.normpath(unquote(f"{named}/x")) == unquote(f"{named}/x")
