"""Previews: who could approve, and whether anybody could."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from jit_service.domain.errors import Unsatisfiable
from jit_service.domain.grants import request
from jit_service.domain.grants.grant import Grant
from jit_service.domain.grants.preview import demand_satisfiable, preview
from jit_service.domain.policies.policy import PrincipalSet, Step
from jitaccess.naming.pattern import reaches_into
from tests.domain.factories import HOUR, NOON, TICK, alice, approved, ask, extension, policy


def asked(*steps: Step) -> Grant:
    by = alice()
    return request.judge_request(
        replace(ask(), subject=by.principal), policies=[policy(steps=steps)], by=by, grant_name="grants/g", now=NOON
    )


def named(*people: str, needed: int = 1) -> Step:
    return Step(
        approvers=PrincipalSet(principals=tuple(f"user:{who}@example.com" for who in people)), approvals_needed=needed
    )


def shortfall(*steps: Step, allow: bool = False) -> str:
    return preview(asked(*steps), allow_self_approval=allow).shortfall


def test_a_group_counts_as_large_enough() -> None:
    assert not shortfall(Step(approvers=PrincipalSet(groups=("owners",)), approvals_needed=20))


def test_the_requester_does_not_count_in_any_letter_case() -> None:
    assert shortfall(named("ALICE"))
    assert not shortfall(named("ALICE"), allow=True)
    shown = preview(asked(named("ALICE", "bob")), allow_self_approval=False)
    assert shown.satisfiable
    assert shown.steps[0].excluded == ("user:ALICE@example.com",)
    assert shown.steps[0].step.approvers.principals == ("user:bob@example.com",)


@pytest.mark.parametrize(
    ("steps", "missing"),
    [
        ([named("bob", "carol", needed=2)], 0),
        ([named("bob"), named("bob")], 1),
        ([named("bob", "carol"), named("bob")], 0),
        ([named("bob"), named("bob", "carol"), named("carol", "dan")], 0),
        ([named("bob", "carol", needed=2), named("bob", "carol", needed=2)], 2),
        ([named("bob"), Step(approvers=PrincipalSet(principals=("user:bob@example.com",), groups=("g",)))], 0),
    ],
)
def test_one_person_fills_one_slot_in_all_steps_together(steps: list[Step], missing: int) -> None:
    words = shortfall(*steps)

    assert words.startswith(str(missing)) if missing else not words


def test_a_skipped_step_needs_nobody() -> None:
    never = replace(named("alice"), condition="false")

    shown = preview(asked(never, named("bob")), allow_self_approval=False)

    assert shown.satisfiable
    assert len(shown.steps) == 1


def test_who_a_step_escalates_to_could_approve_it() -> None:
    alone = replace(named("alice"), timeout=HOUR)
    to_carol = replace(alone, escalate_to=named("carol").approvers)

    assert shortfall(alone)
    assert not shortfall(to_carol)
    assert not shortfall(replace(alone, escalate_to=PrincipalSet(groups=("security",))))
    assert shortfall(replace(alone, escalate_to=named("ALICE").approvers))
    assert shortfall(to_carol, named("carol"))


def test_who_a_step_escalates_to_only_after_the_request_has_lapsed_could_not_approve_it() -> None:
    to_carol = replace(named("alice"), escalate_to=named("carol").approvers)
    patience = policy().request_ttl

    assert not shortfall(replace(to_carol, timeout=patience - TICK))
    assert shortfall(replace(to_carol, timeout=patience))


def test_who_a_step_escalates_to_only_after_the_access_has_ended_could_not_approve_more_of_it() -> None:
    to_carol = replace(named("alice"), escalate_to=named("carol").approvers)

    def missing(timeout: timedelta) -> str:
        steps = (replace(to_carol, timeout=timeout),)
        return preview(replace(extension(approved()), steps=steps), allow_self_approval=False).shortfall

    assert not missing(HOUR - TICK)
    assert missing(HOUR)


@pytest.mark.parametrize(
    ("pattern", "prefix", "expected"),
    [
        ("database/orders/eu", "database/orders", True),
        ("database/orders", "database/orders", True),
        ("database", "database/orders", False),
        ("database/*", "database/orders", True),
        ("database/*", "database/orders/eu", False),
        ("database/**", "database/orders/eu/x", True),
        ("**", "database", True),
        ("http/**", "database", False),
        ("database/*/eu", "database/orders", True),
        ("database/ord*", "database/orders", True),
        ("database/ord*", "database/users", False),
        ("database/orders/eu", "database/ord*", True),
        ("database/users/eu", "database/ord*", False),
        ("database/o*/eu", "database/ord*", True),
    ],
)
def test_what_reaches_into_a_prefix(pattern: str, prefix: str, expected: bool) -> None:
    assert reaches_into(pattern, prefix) is expected


@pytest.mark.parametrize(("needed", "words"), [(2, "1 more approver would"), (3, "2 more approvers would")])
def test_how_many_approvers_are_missing_is_told(needed: int, words: str) -> None:
    assert shortfall(named("bob", needed=needed)) == f"{words} be needed than the policy names"


def test_who_may_approve_its_own_request_is_enough() -> None:
    grant = asked(named("alice"))

    demand_satisfiable(grant, policy(allow_self_approval=True))
    with pytest.raises(Unsatisfiable):
        demand_satisfiable(grant, policy())
