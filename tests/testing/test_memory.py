"""The test kit as a program under test meets it."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jitaccess import (
    CheckReason,
    FailedPrecondition,
    GrantState,
    InvalidArgument,
    JitClient,
    JitError,
    Misconfigured,
    NotFound,
    Retry,
    TokenRefused,
    Unavailable,
    verify_token,
)
from jitaccess.testing import Clock, MemoryService
from tests.conftest import HOUR, TICK

ROOT = Path(__file__).parents[2]
ALICE = "user:alice@example.com"
QUESTION = (ALICE, "read", "database/orders/eu")


@pytest.fixture
def jit_clock() -> Clock:
    return Clock()


@pytest.fixture
def jit(jit_clock: Clock) -> MemoryService:
    return MemoryService(jit_clock)


def why(jit: MemoryService) -> str:
    return jit.client.check(*QUESTION).reason


def test_an_address_must_be_one_as_it_must_for_the_service(jit: MemoryService) -> None:
    jit.grant(*QUESTION[:1], "database/orders/*", "read")

    assert jit.client.check(*QUESTION, source_ip="192.0.2.7")
    for told in ("office", "10.0.0.0/8", "fe80::1%eth0"):
        with pytest.raises(InvalidArgument) as refused:
            jit.client.check(*QUESTION, source_ip=told)
        assert [violation.field for violation in refused.value.field_violations] == ["context.source_ip"]
    with pytest.raises(InvalidArgument):
        jit.client.check(*QUESTION, context={"source_ip": 7})


def test_access_ends_exactly_at_its_time(jit: MemoryService, jit_clock: Clock) -> None:
    jit.grant(*_as_grant(), duration=HOUR)

    jit_clock.advance(HOUR - TICK)
    assert why(jit) == CheckReason.ALLOWED
    jit_clock.advance(TICK)
    assert why(jit) == CheckReason.EXPIRED


def test_time_never_goes_back(jit: MemoryService, jit_clock: Clock) -> None:
    jit.grant(*_as_grant(), duration=HOUR)
    jit_clock.advance(HOUR)
    assert why(jit) == CheckReason.EXPIRED

    jit_clock.advance(-HOUR)

    assert why(jit) == CheckReason.EXPIRED


def test_a_request_becomes_access_when_it_is_approved(jit: MemoryService, jit_clock: Clock) -> None:
    request = jit.request(*_as_grant())
    assert why(jit) == CheckReason.PENDING

    jit.approve(request, jit_clock() + HOUR)
    assert why(jit) == CheckReason.NOT_YET_STARTED
    jit_clock.advance(HOUR)

    assert why(jit) == CheckReason.ALLOWED


def test_a_deny_beats_a_grant_until_it_is_removed(jit: MemoryService) -> None:
    jit.grant(*_as_grant())
    jit.deny("no", "database/**", "**", principals=[ALICE])
    assert why(jit) == CheckReason.DENIED_BY_POLICY

    jit.remove("no")

    assert why(jit) == CheckReason.ALLOWED


def test_a_deny_ends_what_has_not_begun_as_a_change_of_policies_does(jit: MemoryService, jit_clock: Clock) -> None:
    denied = jit.grant(*_as_grant(), start_time=jit_clock() + HOUR)
    kept = jit.grant(ALICE, "database/**", "read", start_time=jit_clock() + HOUR)

    jit.deny("no", "database/orders/*", "**", principals=[ALICE])
    jit.remove("no")

    assert jit.get(denied).state(jit_clock()) is GrantState.REVOKED
    assert jit.get(kept).state(jit_clock()) is GrantState.SCHEDULED


def test_the_asynchronous_client_answers_the_same(jit: MemoryService) -> None:
    grant = jit.grant(*_as_grant())

    assert asyncio.run(jit.async_client.check(*QUESTION)).grant == grant.name


def test_a_service_that_is_away_answers_nothing(jit: MemoryService) -> None:
    jit.grant(*_as_grant())
    jit.is_away = True

    with pytest.raises(Unavailable):
        jit.client.check(*QUESTION)
    with pytest.raises(Unavailable):
        asyncio.run(jit.async_client.check(*QUESTION))
    with pytest.raises(Unavailable):
        jit.is_live(subject=ALICE, grant="grants/g")
    with jit.serving() as address, JitClient(address, token="t", retry=Retry(attempts=1)) as client:
        with pytest.raises(Unavailable):
            client.check(*QUESTION)


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.request("database/orders/eu", "read"),
        lambda client: client.revoke("grants/g", comment="over"),
        lambda client: list(client.list_grants()),
        lambda client: next(client.watch_grants()),
        lambda client: client.verify_audit_log(),
    ],
)
def test_what_is_not_offered_is_said(jit: MemoryService, call: Callable[[JitClient], Any]) -> None:
    with pytest.raises(Misconfigured, match="does not offer"):
        call(jit.client)


def test_what_is_not_offered_over_grpc_is_said_too(jit: MemoryService) -> None:
    with jit.serving() as address, JitClient(address, token="t") as client:
        with pytest.raises(JitError) as refused:
            client.verify_audit_log()

    assert refused.value.code == "UNIMPLEMENTED"


def test_a_name_that_only_the_service_can_judge_is_not_offered(jit: MemoryService) -> None:
    for question in (
        ("user:\u00e9", *QUESTION[1:]),
        (ALICE, "l\u00e9", QUESTION[2]),
        (*QUESTION[:2], "database/\u00e9"),
    ):
        with pytest.raises(Misconfigured, match="ASCII"):
            jit.client.check(*question)


@pytest.mark.parametrize("resource", ["", "database", "database/**/eu", "database/*a", "database/..", "database//eu"])
def test_a_pattern_that_the_service_would_refuse_is_refused(jit: MemoryService, resource: str) -> None:
    with pytest.raises(InvalidArgument, match="resources"):
        jit.grant(ALICE, resource, "read")


def test_what_a_test_gets_wrong_is_said(jit: MemoryService) -> None:
    grant = jit.grant(*_as_grant())
    jit.revoke(grant)

    for wrong in (jit.revoke, jit.release, jit.approve, jit.deny_request):
        with pytest.raises(Misconfigured, match="REVOKED"):
            wrong(grant)
    with pytest.raises(NotFound):
        jit.revoke("grants/none")
    with pytest.raises(InvalidArgument, match="duration"):
        jit.grant(*_as_grant(), duration=timedelta())


# Tokens


def test_a_token_of_the_kit_counts_as_the_services_does(jit: MemoryService, jit_clock: Clock) -> None:
    grant = jit.grant(*_as_grant(), duration=timedelta(minutes=5))
    token = jit.tokens.issue(grant, audience="orders")

    def verified() -> Any:
        return verify_token(
            token,
            jit.tokens.keys,
            issuer=jit.tokens.issuer,
            audience="orders",
            action="read",
            resource="database/orders/eu",
            checker=jit,
            clock=jit_clock,
        )

    assert (verified().grant, verified().subject, verified().expire_time) == (grant.name, ALICE, grant.expire_time)
    jit.deny("no", "**", "**", principals=[ALICE])
    with pytest.raises(TokenRefused, match="not live"):
        verified()
    jit.remove("no")
    jit_clock.advance(timedelta(minutes=5))
    with pytest.raises(TokenRefused, match="over"):
        verified()


def test_what_is_not_live_has_no_token(jit: MemoryService, jit_clock: Clock) -> None:
    grant = jit.grant(*_as_grant(), start_time=jit_clock() + HOUR)
    with pytest.raises(FailedPrecondition):
        jit.tokens.issue(grant, audience="orders")
    jit.revoke(grant)
    with pytest.raises(FailedPrecondition):
        jit.tokens.issue(grant, audience="orders")


# As a plugin


def run_pytest(directory: Path, root: Path) -> str:
    """Returns what pytest prints of the tests there, which need none of the plugins that happen to be installed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null"]
    ran = subprocess.run(
        [*command, "--rootdir", str(root), str(directory)],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return ran.stdout + ran.stderr


def test_the_tests_of_the_example_run_by_the_plugin(tmp_path: Path) -> None:
    assert "5 passed" in run_pytest(ROOT / "examples/guards", tmp_path)


def test_a_conftest_names_the_plugin_and_has_its_fixtures(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["jitaccess.testing"]\n')
    (tmp_path / "test_it.py").write_text(
        "def test_it(jit, jit_clock):\n"
        '    jit.grant("user:a", "database/eu", "read")\n'
        '    assert jit.client.check("user:a", "read", "database/eu").check_time == jit_clock()\n'
    )

    assert "1 passed" in run_pytest(tmp_path, tmp_path)


def _as_grant() -> tuple[str, str, str]:
    """Subject, resource and action, as a test gives them."""
    subject, action, resource = QUESTION
    return subject, resource, action


def test_the_locked_have_nothing_until_the_lock_is_lifted_or_over(jit: MemoryService, jit_clock: Clock) -> None:
    grant = jit.grant(*QUESTION[:1], "database/orders/*", "read", groups=["contractors"], duration=2 * HOUR)
    lock = jit.lock(ALICE.upper().replace("USER", "user"))
    assert why(jit) is CheckReason.LOCKED
    assert not jit.is_live(subject=ALICE, grant=grant.name)

    jit.unlock(lock)
    assert jit.client.check(*QUESTION)

    jit.lock(group="contractors", duration=HOUR)
    assert why(jit) is CheckReason.LOCKED
    assert jit.client.check(*QUESTION).message.endswith("which is on the group contractors")
    jit_clock.advance(HOUR)
    assert jit.client.check(*QUESTION)


def test_a_lock_is_on_one_thing(jit: MemoryService) -> None:
    for given in ({}, {"principal": ALICE, "group": "contractors"}):
        with pytest.raises(InvalidArgument):
            jit.lock(**given)


@pytest.mark.parametrize("kind", ["deny", "requestable"])
@pytest.mark.parametrize(
    ("named", "policy"),
    [
        ({"principals": [ALICE]}, ALICE),
        ({"principals": [ALICE]}, "policies/No"),
        ({"principals": [ALICE]}, "policies/ends-"),
        ({"principals": [ALICE]}, ""),
        ({"principals": ["alice@example.com"]}, "no"),
        ({"principals": ["user:*"]}, "no"),
        ({"principals": ALICE}, "no"),
        ({"groups": "engineering"}, "no"),
        ({"groups": ["*"]}, "no"),
        ({}, "no"),
    ],
)
def test_a_policy_that_the_service_would_refuse_is_refused(kind: str, policy: str, named: dict[str, Any]) -> None:
    jit = MemoryService()

    with pytest.raises(InvalidArgument):
        getattr(jit, kind)(policy, "database/**", "**", **named)


def test_names_of_groups_and_of_who_is_locked_are_refused_as_by_the_service() -> None:
    jit = MemoryService()

    with pytest.raises(InvalidArgument, match="principal"):
        jit.lock("alice")
    with pytest.raises(InvalidArgument, match="group"):
        jit.lock(group="*")
    with pytest.raises(InvalidArgument, match="groups"):
        jit.grant(ALICE, "database/**", "**", groups="engineering")


@pytest.mark.parametrize("method", ["grant", "deny", "requestable"])
def test_the_signatures_in_the_readme_are_the_code_s(method: str) -> None:
    readme = (ROOT / "clients/python/README.md").read_text(encoding="utf-8")
    [shown] = re.findall(rf"^jit\.{method}\((.*)\)$", readme, re.MULTILINE)
    code = inspect.signature(getattr(MemoryService, method)).parameters.values()

    stub: dict[str, Any] = {}
    exec(f"from datetime import timedelta\ndef method(self, {shown}): ...", stub)  # noqa: S102 (the README)

    told = inspect.signature(stub["method"]).parameters.values()
    assert [(one.name, one.kind, one.default) for one in told] == [(one.name, one.kind, one.default) for one in code]
