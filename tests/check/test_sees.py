"""What a condition sees, and of whom: each cell of the table in docs/conditions.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jit_service.check import AuditMode, GrantCache, Recorder, questions
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.checks.decision import Question, Reason
from jit_service.domain.checks.http_request import HttpRequest, Route
from jit_service.domain.errors import ConditionError, ConditionNotMet, PolicyNoLongerAllows
from jit_service.domain.grants.request import Ask
from jit_service.domain.policies.policy import Policy
from jit_service.proxy import admission
from jit_service.rpc.authzen import json_bodies as wire
from jit_service.rpc.authzen import servicer as authzen
from jit_service.rpc.request_cache import question_of
from jit_service.storage import Store
from jit_service.use_cases import grants, policies
from jitaccess.contract.calls import access
from jitaccess.contract.model import CheckReason
from jitaccess.errors import PermissionDenied
from jitaccess.guards import Guard, Incoming
from jitaccess.guards.need import Template
from tests import checking
from tests.conftest import HOUR, Clock
from tests.storage.people import ADMIN, ALICE, BOB, GATEWAY, add_policy

TABLE = Path(__file__).parents[2] / "docs/conditions.md"
REQUEST, CALL, SAID, ASKERS = "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"


def table() -> dict[str, dict[str, str]]:
    """Returns the table's cells by kind of question and by column."""
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in TABLE.read_text().splitlines() if line.startswith("|")]
    (_, *columns), _, *body = rows
    return {kind: dict(zip((name.strip("`") for name in columns), cells, strict=True)) for kind, *cells in body}


def alice(moment: str, address: str) -> Caller:
    """Alice as one of her tokens, and one of her calls, shows her."""
    groups = (ALICE.groups or frozenset()) | {moment, "always"}
    return ALICE._replace(groups=groups, claims={"moment": moment}, origin=Origin(source_address=address))


THEN, NOW = alice("request", REQUEST), alice("call", CALL)
ASKER = GATEWAY._replace(
    groups=frozenset({"askers", "always"}), claims={"moment": "askers"}, origin=Origin(source_address=ASKERS)
)


class Site:
    """A store in which each condition has a policy and a resource of its own."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.view = GrantCache(store, clock=clock, bound=HOUR)
        self.checker = checking.checker_over(store, self.view, Recorder(store, AuditMode.OFF))
        self.number = 0

    def policy(self, **changes: Any) -> tuple[Policy, str]:
        self.number += 1
        resource = f"http/orders/n{self.number}"
        name = f"policies/n{self.number}"
        return add_policy(self.store, name=name, resources=(resource,), actions=("http.get",), **changes), resource

    def checked(self, condition: str, ask_about: Callable[[str], bool]) -> bool:
        """Says whether a check of a grant that alice asked for is a yes under the condition."""
        policy, resource = self.policy(steps=(), check_condition=condition)
        wanted = Ask(subject=ALICE.principal, resources=(resource,), actions=("http.get",), policy=policy.name)
        grants.ask(self.store, THEN, wanted)
        return ask_about(resource)

    def asks(self, by: Caller, question: Question) -> bool:
        return self.checker.check(by, question).decision.reason is Reason.ALLOWED

    def answers(self, subject: str, action: str, resource: str, source_ip: str) -> Any:
        """Answers as the service does what the client asks it."""
        question = question_of(ASKER, access.check(subject, action, resource, source_ip=source_ip).request)  # type: ignore[arg-type]
        return self.checker.check(ASKER, question)

    # Kinds of questions

    def oneself(self, condition: str) -> bool:
        return self.checked(
            condition,
            lambda resource: self.asks(
                NOW, questions.question(NOW, subject=NOW.principal, action="http.get", resource=resource)
            ),
        )

    def a_checker_about_another(self, condition: str) -> bool:
        told = {"source_ip": SAID}
        return self.checked(
            condition,
            lambda resource: self.asks(
                ASKER,
                questions.question(
                    ASKER, subject=ALICE.principal, action="http.get", resource=resource, asserted=dict(told)
                ),
            ),
        )

    def authzen(self, condition: str) -> bool:
        def evaluated(resource: str) -> bool:
            kind, _, name = resource.partition("/")
            asked = {
                "subject": {"type": "user", "id": ALICE.principal.removeprefix("user:")},
                "action": {"name": "http.get"},
                "resource": {"type": kind, "id": name},
                "context": {"source_ip": SAID},
            }
            question = authzen._question(ASKER, wire.evaluation(asked))
            assert isinstance(question, Question)
            return self.asks(ASKER, question)

        return self.checked(condition, evaluated)

    def ext_authz(self, condition: str) -> bool:
        def passes(resource: str) -> bool:
            request = HttpRequest(method="GET", host="orders", path=f"/{resource.rpartition('/')[2]}")
            passed = admission.admit(self.checker, NOW, request, Route(), None)
            return passed.checked.decision.reason is Reason.ALLOWED

        return self.checked(condition, passes)

    def guard(self, condition: str) -> bool:
        site = self

        class Asks:
            def check(self, subject: str, action: str, resource: str, /, *, source_ip: str) -> Any:
                decision = site.answers(subject, action, resource, source_ip).decision
                return Answer(decision.allowed, CheckReason(decision.reason), decision.message)

        guard = Guard.by_check(Asks(), subject=lambda _: ALICE.principal)

        def admits(resource: str) -> bool:
            try:
                guard.admit(Incoming(peer=SAID), Template(resource, "http.get"), {})
            except PermissionDenied:
                return False
            return True

        return self.checked(condition, admits)

    def replica(self, condition: str) -> bool:
        return self.checked(
            condition,
            lambda resource: self.answers(ALICE.principal, "http.get", resource, SAID).decision.allowed,
        )

    def dry_run(self, condition: str) -> bool:
        policy, resource = self.policy(request_condition=condition)
        wanted = Ask(subject=ALICE.principal, resources=(resource,), actions=("http.get",), policy=policy.name)
        try:
            grants.preview(self.store, NOW, wanted)
        except (ConditionNotMet, ConditionError):
            return False
        return True

    def approval(self, condition: str) -> bool:
        # Of claims the ones that the policy reads at the request are stored with it.
        policy, resource = self.policy(request_condition="true || has(claims.moment)")
        wanted = Ask(subject=ALICE.principal, resources=(resource,), actions=("http.get",), policy=policy.name)
        pending = grants.ask(self.store, THEN, wanted).grant
        policies.update(
            self.store, ADMIN, policy.name, etag="", change=lambda before: replace(before, request_condition=condition)
        )
        by = BOB._replace(claims={"moment": "call"}, origin=Origin(source_address=CALL))
        try:
            grants.approve(self.store, by, pending.name, comment="", etag="")
        except PolicyNoLongerAllows:
            return False
        return True


class Answer:
    """A decision as a client has it."""

    grant, expire_time, error = "grants/g", None, None

    def __init__(self, allowed: bool, reason: CheckReason, message: str) -> None:
        self.allowed, self.reason, self.message = allowed, reason, message


@pytest.fixture
def site(store: Store, clock: Clock) -> Iterator[Site]:
    site = Site(store, clock)
    yield site
    site.view.stop()


KINDS = {
    "oneself": Site.oneself,
    "a checker about another": Site.a_checker_about_another,
    "AuthZEN": Site.authzen,
    "ext_authz": Site.ext_authz,
    "guard": Site.guard,
    "replica": Site.replica,
    "dry run": Site.dry_run,
    "approval": Site.approval,
}
# Conditions, of which those are met that belong to whose the column is.
PROBES = {
    "groups": {
        "request": "'request' in groups",
        "call": "'call' in groups",
        "askers": "'askers' in groups",
        "always": "'always' in groups",
    },
    "claims": {moment: f"claims.moment == '{moment}'" for moment in ("request", "call", "askers")},
    "source_ip": {
        whose: f"context.source_ip == '{address}'"
        for whose, address in {"request": REQUEST, "call": CALL, "said": SAID, "askers": ASKERS}.items()
    },
    "principal": {
        "subject": f"principal == '{ALICE.principal}'",
        "asker": f"principal == '{GATEWAY.principal}'",
        "reviewer": f"principal == '{BOB.principal}'",
    },
}
MET = {
    ("groups", "request"): {"request", "always"},
    ("groups", "call"): {"call", "always"},
    # With each by itself, so that only what both have is met.
    ("groups", "request and call"): {"always"},
}


def test_the_table_has_every_kind_of_question_and_what_they_see() -> None:
    assert list(table()) == list(KINDS)
    assert all(list(cells) == list(PROBES) for cells in table().values())


@pytest.mark.parametrize(
    ("kind", "column", "whose"),
    [(kind, column, whose) for kind, cells in table().items() for column, whose in cells.items()],
)
def test_a_condition_sees_what_the_table_says(kind: str, column: str, whose: str, site: Site) -> None:
    met = {name for name, probe in PROBES[column].items() if KINDS[kind](site, probe)}

    assert met == MET.get((column, whose), {whose})
