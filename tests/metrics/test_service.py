"""What a running service counts, on either surface."""

from __future__ import annotations

import http.client
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from jit_service.domain.errors import StoreUnavailable
from jit_service.fault_log import FaultLog
from jit_service.metrics.catalogue import FAMILIES
from jit_service.metrics.families import Values, added
from jit_service.runtime import figures as figures_module
from jit_service.runtime.figures import StoreFigures
from jit_service.runtime.measuring import of_process
from jit_service.runtime.metrics_port import MetricsPort
from jit_service.settings import Address, Settings, SettingsError
from tests.metrics.scrape import Scraped, shown
from tests.test_commands import eventually
from tests.world import ACCESS, GRANTS, Story, World

CHECK = "/jitaccess.v1.AccessService/CheckAccess"
ASK = "/jitaccess.v1.GrantService/RequestGrant"


def now(world: World) -> Scraped:
    return shown(of_process(world.service.gauges.values))


@pytest.fixture
def grown(story: Story) -> Callable[..., float]:
    """Returns by how much a counter has grown since the test began."""
    before = now(story.world)

    def growth(name: str, **labels: str) -> float:
        return now(story.world).total(name, **labels) - before.total(name, **labels)

    return growth


def test_calls_are_counted_by_method_code_and_reason(story: Story, grown: Callable[..., float]) -> None:
    story.create_policy()
    story.asks()
    refused = story.call(story.dave, GRANTS + "RequestGrant", {"resources": [story.resource], "actions": ["read"]})

    assert refused.reason == "NOT_ELIGIBLE"
    assert grown("jit_calls_total", method=ASK, code="OK", reason="") == 1
    assert grown("jit_calls_total", method=ASK, code="PERMISSION_DENIED", reason="NOT_ELIGIBLE") == 1
    assert grown("jit_call_seconds_count", method=ASK) == 2
    assert grown("jit_call_seconds_bucket", method=ASK, le="+Inf") == 2


def test_checks_are_counted_as_calls_and_as_decisions(story: Story, grown: Callable[..., float]) -> None:
    story.create_policy()
    story.granted()

    for _ in range(3):
        story.check()
    story.check(action="write")
    story.must(
        story.gateway, ACCESS + "BatchCheckAccess", {"items": [story.question(), story.question(action="write")]}
    )

    # A check is answered first, and counted then.
    assert eventually(lambda: grown("jit_calls_total", method=CHECK, code="OK") == 4)
    assert eventually(lambda: grown("jit_call_seconds_count", method=CHECK) == 4)
    assert grown("jit_decisions_total", result="allowed", reason="ALLOWED") == 4
    assert grown("jit_decisions_total", result="denied", reason="NO_GRANT") == 2
    assert grown("jit_barrier_seconds_count") >= 5
    assert grown("jit_commit_size_sum", kind="checks") == 6


def test_a_check_that_counts_a_use_is_a_decision_too(story: Story, grown: Callable[..., float]) -> None:
    story.create_policy(maxUses=1)
    story.granted()

    story.check()
    story.check()

    assert grown("jit_decisions_total", result="allowed") == 1
    assert grown("jit_decisions_total", reason="USES_EXHAUSTED") == 1


def test_a_token_that_proves_nobody_is_counted_by_its_cause(story: Story, grown: Callable[..., float]) -> None:
    story.call(None, CHECK, story.question())
    story.surface.call(CHECK, story.question(), token="e30.e30.e30")

    assert eventually(lambda: grown("jit_calls_total", method=CHECK, code="UNAUTHENTICATED") == 2)
    assert eventually(lambda: grown("jit_refused_sign_ins_total", cause="TOKEN_MISSING") == 1)
    assert eventually(lambda: grown("jit_refused_sign_ins_total", cause="TOKEN_INVALID") == 1)


def test_ends_and_the_time_to_a_decision_are_counted_once_committed(story: Story, grown: Callable[..., float]) -> None:
    story.create_policy()
    asked = story.asks()
    story.world.clock.advance(timedelta(minutes=10))
    story.approves(story.bob, asked)
    story.must(story.alice, GRANTS + "ReleaseGrant", {"name": asked.name})

    assert grown("jit_grant_ends_total", kind="RELEASED") == 1
    assert grown("jit_events_total", type="GRANT_APPROVED") == 1
    assert grown("jit_decision_wait_seconds_count", outcome="approved") == 1
    assert grown("jit_decision_wait_seconds_bucket", outcome="approved", le="300.0") == 0
    assert grown("jit_decision_wait_seconds_bucket", outcome="approved", le="900.0") == 1


def test_no_sample_names_who_asked_or_what_for(story: Story) -> None:
    story.create_policy()
    story.granted()
    story.check()

    text = now(story.world).text

    for secret in (story.id, "user:", "service:gateway", "database/"):
        assert secret not in text


def test_the_store_tells_what_waits_without_naming_whom(story: Story) -> None:
    policy = story.create_policy()
    story.asks()
    story.world.clock.advance(timedelta(minutes=5))
    story.asks(actions=["write"])
    story.locks(story.dave)

    with reading(story.world) as figures:
        found = shown(figures.values())

    assert found.of("jit_pending_requests", policy=policy.name) == 2
    assert found.of("jit_pending_oldest_seconds", policy=policy.name) == 300
    assert found.of("jit_locks") >= 1
    assert found.of("jit_store_up") == 1
    assert found.of("jit_audit_records") > 0
    assert found.of("jit_store_bytes") > 0
    assert "user:" not in found.text


def test_a_scrape_while_the_store_is_away_has_what_was_known(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures_module, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(figures_module, "_SHARE", 0)
    with reading(story.world) as figures:
        before = shown(figures.values())

        def away() -> object:
            raise StoreUnavailable("the store does not answer")

        monkeypatch.setattr(story.world.service.store, "snapshot", away)
        after = shown(figures.values())

    assert (before.of("jit_store_up"), after.of("jit_store_up")) == (1, 0)
    assert after.of("jit_audit_records") == before.of("jit_audit_records") > 0
    assert "jit_store_figures_age_seconds" in after.names


@contextmanager
def reading(world: World) -> Iterator[StoreFigures]:
    import logging

    figures = StoreFigures(world.service.store, FaultLog(logging.getLogger("test"), "figures are not read"))
    figures.start()
    try:
        yield figures
    finally:
        figures.stop()


@pytest.fixture
def port(story: Story) -> Iterator[MetricsPort]:
    def values() -> Values:
        return added(FAMILIES, [of_process(story.world.service.gauges.values)])

    served = MetricsPort(Address("127.0.0.1", 0), values)
    served.start()
    yield served
    served.stop()


def asked(port: MetricsPort, path: str, method: str = "GET", **headers: str) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(port.address.host, port.address.port, timeout=10)
    connection.request(method, path, headers={key.replace("_", "-"): value for key, value in headers.items()})
    answer = connection.getresponse()
    found = answer.status, answer.headers["content-type"], answer.read()
    connection.close()
    return found


def test_the_scraper_says_which_of_the_two_formats_it_wants(port: MetricsPort) -> None:
    plain = asked(port, "/metrics")
    open_metrics = asked(port, "/metrics", accept="application/openmetrics-text; version=1.0.0")
    empty = asked(port, "/metrics", "HEAD")
    zipped = urllib.request.Request(port.url, headers={"accept-encoding": "gzip"})

    assert (plain[0], plain[1].split(";")[0]) == (200, "text/plain")
    assert (open_metrics[0], open_metrics[1].split(";")[0]) == (200, "application/openmetrics-text")
    assert open_metrics[2].endswith(b"# EOF\n")
    assert (empty[0], empty[2]) == (200, b"")
    with urllib.request.urlopen(zipped, timeout=10) as answer:
        assert answer.headers["content-encoding"] == "gzip"


def test_there_is_nothing_else_at_the_address(port: MetricsPort) -> None:
    assert asked(port, "/")[0] == 404
    assert asked(port, "/metrics/../healthz")[0] == 404
    assert asked(port, "/metrics", "POST")[0] == 501


def test_only_loopback_is_served_in_clear_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JIT_METRICS", "0.0.0.0:9464")

    with pytest.raises(SettingsError, match=r"JIT_METRICS: 0\.0\.0\.0:9464 is not loopback"):
        Settings.load()

    monkeypatch.setenv("JIT_INSECURE_LISTEN", "true")
    assert Settings.load().metrics == Address("0.0.0.0", 9464)  # noqa: S104
