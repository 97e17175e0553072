"""Vulnerable twins: each guard with its way to fail closed broken. All must be caught."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest

from jitaccess import JitError
from jitaccess.guards import address, asgi, fastapi, guard, incoming, jobs, need, refusal, spelling
from jitaccess.guards import grpc as interceptors
from jitaccess.naming import names
from jitaccess.testing import Clock, MemoryService, memory
from tests.domain.test_sown_bugs import Twin, sown
from tests.guards import test_address, test_doors, test_frameworks, test_spelling
from tests.guards.doors import DOORS
from tests.guards.test_doors import ALICE, ANSWERS, FAULTS, Asks, by_check, by_token, granted, is_unsure, knocks

OPEN = 'return Passage(subject="", action=template.action, resource="", grant="", expire_time=None)'


def fails(door: str, fault: str = "a bug") -> Callable[[], None]:
    def test() -> None:
        assert is_unsure(knocks(door, by_check(Asks(FAULTS[fault]))))

    return test


def unclear(answer: str) -> Callable[[], None]:
    def test() -> None:
        assert is_unsure(knocks("job", by_check(Asks(ANSWERS[answer]))))

    return test


def with_kit(test: Callable[..., None], *given: Any) -> Callable[[], None]:
    """A test of the others, with a grant for what it asks about where it does not give one itself."""

    def caught_by() -> None:
        jit = MemoryService()
        jit.grant(ALICE, "database/orders/*", "rows.*")
        test(*given, jit=jit)

    return caught_by


def with_guard(test: Callable[..., None], *, jit: bool = False, **given: Any) -> Callable[[], None]:
    def caught_by() -> None:
        kit = MemoryService()
        kit.grant(ALICE, "database/orders/*", "rows.*")
        options: dict[str, Any] = {"jit": kit} if jit else {}
        test(guard=by_check(kit.client), **given, **options)

    return caught_by


def token_ends_with_its_grant() -> None:
    jit = MemoryService()
    with DOORS["grpc"](by_token(jit, checker=jit)) as call:
        test_doors.test_a_token_is_over_with_its_grant(call, jit)


def no_token_while_it_is_away() -> None:
    jit = MemoryService()
    with DOORS["grpc"](by_token(jit, checker=jit)) as call:
        test_doors.test_a_checker_that_is_away_ends_no_token_and_lets_none_through(call, jit)


def no_method_but_those_named() -> None:
    import grpc

    from examples.guards import orders_grpc

    jit = MemoryService()
    server, port = orders_grpc.create_server(by_check(jit.client))
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            test_frameworks.test_a_method_that_nobody_named_is_closed(channel)
        finally:
            server.stop(None)


def routes_take_one_spelling() -> None:
    jit = MemoryService()
    jit.grant(ALICE, "database/orders/*", "rows.*")
    with test_spelling.routes_of_kinds(by_check(jit.client)) as port:
        test_spelling.test_a_route_that_says_the_kind_takes_one_spelling(port, "int", None, "7", ["07"])


def time_never_goes_back() -> None:
    clock = Clock()
    jit = MemoryService(clock)
    grant = granted(jit)
    clock.advance(2 * grant.duration)
    assert not jit.client.check(ALICE, "rows.create", "database/orders/eu")
    clock.advance(-2 * grant.duration)
    assert not jit.client.check(ALICE, "rows.create", "database/orders/eu")


def told_by_a_door() -> None:
    jit = MemoryService()
    granted(jit)
    test_address.test_a_guard_tells_where_the_framework_saw_the_caller("asgi", test_address.Noting(jit))


def told_by_nobody() -> None:
    jit = MemoryService()
    granted(jit)
    test_address.test_a_program_that_acts_as_itself_is_not_where_its_caller_is(test_address.Noting(jit))


TWINS = [
    Twin(
        "a bare header that counts",
        address.TrustedProxies.source_ip,
        "not self._trust(peer)",
        "False",
        test_address.test_nothing_counts_by_a_bare_header,
    ),
    Twin(
        "the left-most of what was forwarded",
        address.TrustedProxies.source_ip,
        'reversed(given.split(","))',
        'given.split(",")',
        lambda: test_address.test_of_what_a_trusted_proxy_says_the_right_most_stranger_counts(
            ["203.0.113.9, 198.51.100.1"], "198.51.100.1"
        ),
    ),
    Twin(
        "a hop that is no address and is passed over",
        address.TrustedProxies.source_ip,
        "if not hop or not self._trust(hop)",
        "if hop and not self._trust(hop)",
        lambda: test_address.test_of_what_a_trusted_proxy_says_the_right_most_stranger_counts(
            ["198.51.100.1, unknown"], ""
        ),
    ),
    Twin(
        "a proxy that counts as its client",
        address.TrustedProxies.source_ip,
        'return ""',
        "return peer",
        lambda: test_address.test_of_what_a_trusted_proxy_says_the_right_most_stranger_counts(["10.0.0.2"], ""),
    ),
    Twin(
        "a scope's client that nobody reads", address.peer_of_scope, "if client else", "if False else", told_by_a_door
    ),
    Twin(
        "a program that is where its caller is",
        guard._ByCheck._source_ip,
        "isinstance(self._subject, FixedSubject)",
        "False",
        told_by_nobody,
    ),
    Twin("a fault that opens", guard.Guard.admit, "raise refusal_of(error) from error", OPEN, fails("job")),
    Twin("a fault on a loop", guard.Guard.admit_async, "raise refusal_of(error) from error", OPEN, fails("fastapi")),
    Twin(
        "a yes in part",
        guard._passage,
        "decision.allowed is True and",
        "decision.allowed and",
        unclear("allowed by a number"),
    ),
    Twin(
        "a yes for no reason",
        guard._passage,
        "and reason == CheckReason.ALLOWED",
        "",
        unclear("allowed against its reason"),
    ),
    Twin(
        "a yes with an error",
        guard._passage,
        'and getattr(decision, "error", None) is None',
        "",
        unclear("allowed with an error"),
    ),
    Twin(
        "no answer that counts as a no",
        guard._passage,
        "if decision.allowed is not False or reason in",
        "if False and reason in",
        unclear("stale"),
    ),
    Twin(
        "no passage that counts as one",
        guard._of,
        "if not isinstance(passage, Passage) or (passage.action, passage.resource) != need:",
        "if False:",
        lambda: test_frameworks.test_what_is_no_passage_for_this_lets_nobody_through(None),
    ),
    Twin(
        "a passage to elsewhere",
        guard._of,
        "or (passage.action, passage.resource) != need",
        "",
        lambda: test_frameworks.test_what_is_no_passage_for_this_lets_nobody_through(
            guard.Passage(subject=ALICE, action="a", resource="b/c", grant="", expire_time=None)
        ),
    ),
    Twin(
        "nobody who is somebody",
        guard._known,
        "if not isinstance(subject, str) or not subject:",
        "if False:",
        lambda: test_doors.test_without_an_identity_nobody_is_let_through("job", MemoryService(), ""),
    ),
    Twin(
        "the guard's fault told as the caller's",
        refusal.unsure,
        'return Unavailable(f"the check failed: {error}", reason="CHECK_FAILED")',
        "return error",
        fails("job", "the guard may not ask"),
    ),
    Twin(
        "a cause that is told",
        refusal.refusal_of,
        '"whether this is allowed cannot be told now; try again"',
        "str(error)",
        fails("job", "a timeout"),
    ),
    Twin("an unknown code that is a success", refusal.http_status, "_UNSURE", "200", fails("asgi", "a timeout")),
    Twin(
        "a token that outlives its grant",
        guard._ByToken.judge,
        "checker=self._checker",
        "checker=None",
        token_ends_with_its_grant,
    ),
    Twin(
        "a slash or a wildcard in a segment",
        names.segment,
        "_check_segment(name, name)",
        "pass",
        lambda: test_frameworks.test_a_value_that_is_not_one_segment_is_none("a/b"),
    ),
    Twin(
        "a backslash in a segment",
        names.segment,
        '"\\\\" in name or ',
        "",
        lambda: test_frameworks.test_a_value_that_is_not_one_segment_is_none("a\\b"),
    ),
    Twin(
        "an encoded slash in a segment",
        names.segment,
        " or _CODE.search(name)",
        "",
        lambda: test_frameworks.test_a_value_that_is_not_one_segment_is_none("%2F"),
    ),
    Twin(
        "a way up in a segment",
        names._check_segment,
        "not _DOTS.isdisjoint(",
        'not {"."}.isdisjoint(',
        lambda: test_frameworks.test_a_value_that_is_not_one_segment_is_none(".."),
    ),
    Twin(
        "an invisible character in a name",
        names._check_text,
        " or unicodedata.category(character) in _UNSAFE_CATEGORIES",
        "",
        lambda: test_frameworks.test_a_value_that_is_not_one_segment_is_none("\u200b"),
    ),
    Twin(
        "a word of two scripts in a name",
        names._check_words,
        "len(scripts) > 1 and",
        "False and",
        lambda: test_frameworks.test_a_value_that_is_not_one_segment_is_none("\u0430lice"),
    ),
    Twin(
        "a template of any type",
        need.Template.__init__,
        "parameters[0] or",
        "",
        lambda: test_frameworks.test_a_template_that_could_mean_more_is_refused_at_once("{type}/orders", "read"),
    ),
    Twin(
        "a parameter within a segment",
        need.Template.__init__,
        'any(set("{}") & set(part) for part in [*plain, action])',
        "False",
        lambda: test_frameworks.test_a_template_that_could_mean_more_is_refused_at_once("database/{a}{b}", "read"),
    ),
    Twin(
        "a missing parameter that is something",
        need.Template._filled,
        "values.get(name)",
        'values.get(name, "eu")',
        with_guard(test_frameworks.test_a_parameter_that_is_missing_lets_nobody_through),
    ),
    Twin(
        "a parameter that is no text",
        need.Template._filled,
        "isinstance(value, bool) or not isinstance(value, str | int | UUID)",
        "value is None",
        lambda: test_frameworks.test_a_value_that_is_no_text_is_no_parameter(1.5),
    ),
    Twin(
        "the first of two authorizations",
        incoming.bearer_token,
        "len(given) > 1 or",
        "",
        with_kit(test_doors.test_no_header_but_a_token_says_who_calls),
    ),
    Twin(
        "any scheme of authorization",
        incoming.bearer_token,
        'scheme.lower() != "bearer" or',
        "",
        with_kit(test_doors.test_no_header_but_a_token_says_who_calls),
    ),
    Twin(
        "FastAPI: a refusal that is swallowed",
        fastapi.require,
        "raise Refused(refusal) from refusal",
        OPEN,
        fails("fastapi"),
    ),
    Twin(
        "ASGI: a refusal that goes on",
        asgi.GuardMiddleware.__call__,
        "await refuse(refusal, scope, send)\n        return",
        "passage = None",
        fails("asgi"),
    ),
    Twin(
        "ASGI: a route that nobody named",
        asgi.GuardMiddleware._passage,
        'raise PermissionDenied("no guarded route is this one", reason="ROUTE_UNKNOWN")',
        "return None",
        with_guard(test_frameworks.test_a_route_that_nobody_named_is_closed, verb="DELETE", path="/orders/eu/rows"),
    ),
    Twin(
        "ASGI: the first of two routes",
        asgi.GuardMiddleware._passage,
        "in matching]\n    return",
        "in matching[:1]]\n    return",
        with_guard(test_frameworks.test_of_two_routes_that_match_both_must_let_through, jit=True),
    ),
    Twin(
        "ASGI: a slash that was encoded",
        asgi._path,
        "if odd or",
        "if",
        with_guard(test_frameworks.test_a_route_that_nobody_named_is_closed, verb="GET", path="/orders%2Feu/rows"),
    ),
    Twin(
        "ASGI: any method",
        asgi.Route.match,
        "method != self.method or",
        "",
        with_guard(test_frameworks.test_a_route_that_nobody_named_is_closed, verb="HEAD", path="/orders/eu/rows"),
    ),
    Twin(
        "gRPC: a method that nobody named",
        interceptors._Methods.is_open,
        "return method in self._unguarded",
        "return method not in self._templates",
        no_method_but_those_named,
    ),
    Twin(
        "gRPC: a guarded method that is open too",
        interceptors._Methods.__init__,
        "- frozenset(self._templates)",
        "",
        with_guard(test_frameworks.test_a_method_that_is_guarded_and_left_open_is_guarded, jit=True),
    ),
    Twin(
        "gRPC: a refusal that goes on",
        interceptors.GuardInterceptor._let_through.__wrapped__,  # type: ignore[attr-defined]
        "_abort(context, refusal)",
        "passage = None",
        fails("grpc"),
    ),
    Twin(
        "gRPC: a passage that stays in its thread",
        interceptors.GuardInterceptor._let_through.__wrapped__,  # type: ignore[attr-defined]
        "_PASSAGE.set(None)",
        "pass",
        with_guard(test_frameworks.test_a_field_within_a_field_is_found_by_its_path),
    ),
    Twin(
        "gRPC aio: a refusal that goes on",
        interceptors.AsyncGuardInterceptor._let_through,
        "status = status_of(refusal)",
        "return",
        fails("grpc.aio"),
    ),
    Twin(
        "a job that runs all the same",
        jobs.guarded,
        "guard.admit(Incoming(source=bound), template, bound.arguments)",
        "pass",
        fails("job"),
    ),
    Twin(
        "an asynchronous job that runs all the same",
        jobs.guarded,
        "await guard.admit_async(Incoming(source=bound), template, bound.arguments)",
        "pass",
        fails("async job"),
    ),
    Twin(
        "a generator that runs later",
        jobs._demand_guardable,
        "inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)",
        "False",
        with_guard(test_frameworks.test_what_would_run_later_or_lacks_a_parameter_cannot_be_guarded),
    ),
    Twin(
        "FastAPI: any spelling of a number",
        fastapi.require,
        "_demand_one_spelling(connection, template)",
        "",
        with_guard(test_spelling.test_fastapi_takes_one_spelling_of_a_value, kind=int, given="7", others=["07"]),
    ),
    Twin(
        "FastAPI: only the handler's own types",
        fastapi._values_of,
        "waiting += dependant.dependencies",
        "",
        with_guard(test_spelling.test_fastapi_looks_at_what_every_dependency_makes_of_it),
    ),
    Twin(
        "ASGI: a kind that is not heeded",
        need.Template._filled,
        "parameter.kind or self._kinds.get(name)",
        "parameter.kind",
        routes_take_one_spelling,
    ),
    Twin(
        "any spelling that can be read",
        spelling.demand_canonical,
        "if text != spelling:",
        "if False:",
        lambda: test_spelling.test_another_spelling_is_refused_by_name("int", "7", "07"),
    ),
    Twin(
        "a zero below zero",
        spelling.canonical,
        "repr(value or 0.0)",
        "repr(value)",
        lambda: test_spelling.test_equal_values_have_one_text(-0.0, "0.0"),
    ),
    Twin(
        "a decimal with its zeros",
        spelling._decimal,
        "value.normalize()",
        "value",
        lambda: test_spelling.test_another_spelling_is_refused_by_name("decimal", "7.5", "7.50"),
    ),
    Twin(
        "an instant of any zone",
        spelling._instant,
        "value.astimezone(UTC)",
        "value",
        lambda: test_spelling.test_equal_values_have_one_text(test_spelling.AN_HOUR_EAST, "2026-01-02T03:04:05Z"),
    ),
    Twin(
        "a kit that is never away",
        memory.MemoryService._demand_there,
        "if self.is_away:",
        "if False:",
        no_token_while_it_is_away,
    ),
    Twin(
        "a kit whose tokens outlive their grants",
        memory.MemoryService.is_live,
        "found is not None and found.end_state is None and found.start_time",
        "found is not None and found.start_time",
        token_ends_with_its_grant,
    ),
    Twin(
        "a kit whose time goes back",
        memory.MemoryService.now,
        "max(self._latest, self._clock())",
        "self._clock()",
        time_never_goes_back,
    ),
]


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_no_twin_survives(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin.function, "__code__", sown(twin))

    with pytest.raises((AssertionError, pytest.fail.Exception, JitError)):
        # A twin that leaves its passage behind shall not leave it to the next test.
        copy_context().run(twin.caught_by)


def test_each_twin_has_its_own_bug() -> None:
    assert len({(twin.function, twin.sound, twin.bug) for twin in TWINS}) == len(TWINS)


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_what_catches_a_twin_passes_without_it(twin: Twin) -> None:
    twin.caught_by()
