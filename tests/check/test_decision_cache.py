"""A decision is given again only while it would be made again, word for word."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from weakref import ref

import pytest

from jit_service.check import AuditMode, CachedDecision, GrantCache, Recorder, decision_cache, questions
from jit_service.check.index import Index
from jit_service.check.recording import CheckResult
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.checks import decision
from jit_service.domain.checks.decision import Question, Reason, stands_until
from jit_service.domain.conditions import context
from jit_service.domain.conditions.signal import Signal
from jit_service.domain.generational_cache import GenerationalCache
from jit_service.domain.grants.grant import Limits
from jit_service.domain.grants.lock import NewLock, Target
from jit_service.domain.grants.request import Ask
from jit_service.domain.policies.policy import PrincipalSet
from jit_service.runtime.sweeper import record_run_out
from jit_service.storage import Store
from jit_service.use_cases import grants, locks, policies, signals
from tests import checking
from tests.conftest import HOUR, TICK, Clock
from tests.domain.factories import NOON, approved, deny_policy
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.storage.people import ADMIN, ALICE, BOB, GATEWAY, add_policy, approve, ask

RESOURCE = "database/orders/eu"
AGENT = "service:agent"


class Asking:
    """One checker that remembers, and for each answer another that has nothing to remember."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.view = GrantCache(store, clock=clock, bound=HOUR)
        self.recorder = Recorder(store, AuditMode.OFF)
        self.checker = checking.checker_over(store, self.view, self.recorder)

    def ask(self, by: Caller = GATEWAY, **asked: Any) -> CheckResult:
        question = self.question(by, **asked)
        given = self.checker.check(by, question)
        made_anew = checking.checker_over(self.store, self.view, self.recorder).check(by, question)
        assert (given.decision, given.requestable) == (made_anew.decision, made_anew.requestable)
        assert (given.revision, given.at) == (made_anew.revision, made_anew.at)
        return given

    def question(
        self, by: Caller, *, subject: str = ALICE.principal, resource: str = RESOURCE, **more: Any
    ) -> Question:
        return questions.question(by, subject=subject, action="read", resource=resource, **more)

    def stop(self) -> None:
        self.recorder.stop()
        self.view.stop()


@pytest.fixture
def asking(store: Store, clock: Clock) -> Iterator[Asking]:
    add_policy(store)
    asking = Asking(store, clock)
    yield asking
    asking.stop()


def test_an_answer_to_the_same_question_is_new_but_for_its_decision(asking: Asking) -> None:
    approve(asking.store, ask(asking.store))
    first = asking.ask()
    asking.clock.advance(TICK)

    second = asking.ask()

    assert second.decided is first.decided
    assert second.decision_id != first.decision_id
    assert second.at - first.at == TICK


def test_a_no_is_given_again_too(asking: Asking) -> None:
    first, second = asking.ask(), asking.ask()

    assert second.decided is first.decided
    assert second.decision.reason is Reason.NO_GRANT


def test_a_revoked_grant_allows_nothing_more(asking: Asking) -> None:
    grant = approve(asking.store, ask(asking.store))
    assert asking.ask().decision.allowed

    grants.revoke(asking.store, BOB, grant.name, comment="over", etag="")

    assert asking.ask().decision.reason is Reason.REVOKED


def test_a_lock_holds_at_once_and_no_longer_than_it_stands(asking: Asking) -> None:
    approve(asking.store, ask(asking.store))
    assert asking.ask().decision.allowed
    ends = asking.clock() + HOUR / 2
    wanted = NewLock(target=Target(principal=ALICE.principal), comment="left", expires_at=ends)
    locks.create(asking.store, ADMIN, wanted)
    assert asking.ask().decision.reason is Reason.LOCKED
    asking.clock.advance(HOUR / 2 - TICK)
    assert asking.ask().decision.reason is Reason.LOCKED

    asking.clock.advance(TICK)

    assert asking.ask().decision.allowed


def test_a_lock_that_another_commit_does_not_change_costs_no_answer(asking: Asking) -> None:
    approve(asking.store, ask(asking.store))
    locks.create(asking.store, ADMIN, NewLock(target=Target(principal=BOB.principal), comment="left"))
    first = asking.ask()
    signals.put(asking.store, ADMIN, Signal(name="signals/x", value=1, expires_at=NOON + HOUR), etag="")

    assert asking.ask().decided is first.decided


def test_a_deny_policy_holds_at_once_and_no_longer_than_it_is_there(asking: Asking) -> None:
    approve(asking.store, ask(asking.store))
    assert asking.ask().decision.allowed
    for_all = PrincipalSet(groups=tuple(ALICE.groups))
    deny = policies.create(asking.store, ADMIN, deny_policy(name="policies/never", eligible=for_all, revision=0))
    assert asking.ask().decision.reason is Reason.DENIED_BY_POLICY

    policies.delete(asking.store, ADMIN, deny.name, etag="")

    assert asking.ask().decision.allowed


def test_a_grant_ends_exactly_at_its_expiry(asking: Asking) -> None:
    grant = approve(asking.store, ask(asking.store))
    assert grant.expires_at is not None
    first = asking.ask()

    asking.clock.now = grant.expires_at - TICK
    last = asking.ask()
    asking.clock.now = grant.expires_at

    assert last.decided is first.decided
    assert asking.ask().decision.reason is Reason.EXPIRED


def test_a_grant_begins_exactly_at_its_start(asking: Asking) -> None:
    start = asking.clock() + HOUR
    approve(asking.store, ask(asking.store, start_at=start))
    assert asking.ask().decision.reason is Reason.NOT_YET_STARTED

    asking.clock.now = start

    assert asking.ask().decision.allowed


def test_a_request_explains_a_no_until_it_lapses(asking: Asking) -> None:
    grant = ask(asking.store)
    assert asking.ask().decision.reason is Reason.PENDING

    asking.clock.now = grant.request_expires_at

    assert asking.ask().decision.reason is Reason.NO_GRANT


def test_a_grant_that_ended_explains_the_no_of_somebody_who_holds_nothing(asking: Asking) -> None:
    assert asking.ask().decision.reason is Reason.NO_GRANT
    first = approve(asking.store, ask(asking.store))
    grants.revoke(asking.store, BOB, first.name, comment="over", etag="")
    assert asking.ask().decision.reason is Reason.REVOKED

    asking.clock.advance(TICK)
    second = approve(asking.store, ask(asking.store))
    grants.release(asking.store, ALICE, second.name, comment="", etag="")

    assert asking.ask().decision.reason is Reason.RELEASED


def test_an_expiry_that_is_recorded_changes_no_answer(asking: Asking) -> None:
    grant = approve(asking.store, ask(asking.store))
    assert grant.expires_at is not None
    asking.clock.now = grant.expires_at
    before = asking.ask()

    record_run_out(asking.store)

    assert asking.ask().decision.message == before.decision.message


def test_a_condition_is_judged_each_time(asking: Asking) -> None:
    add_policy(asking.store, name="policies/calm", priority=1, check_condition="!has(signals.incident)")
    approve(asking.store, ask(asking.store))
    assert asking.ask().decision.allowed

    until = asking.clock() + HOUR / 2
    signals.put(asking.store, ADMIN, Signal(name="signals/incident", value="on", expires_at=until), etag="")

    assert asking.ask().decision.reason is Reason.CONDITION_NOT_MET


def test_a_decision_is_given_again_while_its_condition_says_the_same(asking: Asking) -> None:
    condition = 'now < timestamp("2026-03-02T12:30:00Z") && !has(signals.incident)'
    add_policy(asking.store, name="policies/early", priority=1, check_condition=condition)
    approve(asking.store, ask(asking.store))
    first = asking.ask()
    asking.clock.advance(TICK)
    other = Signal(name="signals/other", value="on", expires_at=asking.clock() + HOUR)
    signals.put(asking.store, ADMIN, other, etag="")

    second = asking.ask()
    asking.clock.advance(HOUR / 2)

    assert first.decision.allowed
    assert second.decided is first.decided
    assert asking.ask().decision.reason is Reason.CONDITION_NOT_MET


def test_what_one_asker_asserts_is_nothing_to_the_next(asking: Asking) -> None:
    add_policy(asking.store, name="policies/mfa", priority=1, check_condition="context.mfa == true")
    approve(asking.store, ask(asking.store))
    assert asking.ask(asserted={"mfa": True}).decision.allowed

    assert asking.ask(asserted={"mfa": False}).decision.reason is Reason.CONDITION_NOT_MET
    assert asking.ask().decision.reason is Reason.CONDITION_ERROR


def test_what_was_passed_on_ends_with_what_it_came_from(asking: Asking) -> None:
    add_policy(asking.store, name="policies/agents", priority=1, max_child_depth=1)
    parent = approve(asking.store, ask(asking.store))
    child = grants.ask(
        asking.store,
        ALICE,
        Ask(subject=AGENT, resources=(RESOURCE,), actions=("read",), parent=parent.name),
    ).grant
    assert asking.ask(subject=AGENT).decision.grant is not None

    grants.revoke(asking.store, BOB, parent.name, comment="over", etag="")

    assert not asking.ask(subject=AGENT).decision.allowed
    assert child.parent == parent.name


def test_where_a_subject_is_is_never_where_its_asker_is(asking: Asking) -> None:
    """Nor where the asker of the question before said that it was."""
    condition = "context.source_ip == '192.0.2.7'"
    add_policy(asking.store, name="policies/there", priority=1, check_condition=condition)
    approve(asking.store, ask(asking.store))
    here = GATEWAY._replace(origin=Origin(source_address="192.0.2.7"))

    reasons = [asking.ask(here, asserted=told).decision.reason for told in (None, {"source_ip": "192.0.2.7"}, None)]

    assert reasons == [Reason.CONDITION_ERROR, Reason.ALLOWED, Reason.CONDITION_ERROR]
    assert asking.ask(ALICE._replace(origin=Origin(source_address="192.0.2.7"))).decision.allowed
    assert not asking.ask(ALICE._replace(origin=Origin(source_address="192.0.2.8"))).decision.allowed


def test_groups_that_one_proves_are_not_anothers(asking: Asking) -> None:
    elsewhere = ALICE._replace(groups=frozenset())
    assert asking.ask(ALICE).requestable == ("policies/orders",)
    assert asking.ask(elsewhere).requestable == ()
    assert asking.ask(GATEWAY).requestable == ("policies/orders",)


def test_each_use_that_is_counted_is_counted(asking: Asking) -> None:
    add_policy(asking.store, name="policies/twice", priority=1, max_uses=2)
    approve(asking.store, ask(asking.store))
    question = asking.question(GATEWAY)

    answers = [asking.checker.check(GATEWAY, question).decision.reason for _ in range(3)]

    assert answers == [Reason.ALLOWED, Reason.ALLOWED, Reason.USES_EXHAUSTED]


def test_an_unusually_large_decision_is_not_kept(asking: Asking) -> None:
    for number in range(40):
        add_policy(asking.store, name=f"policies/p{number}")

    first, second = asking.ask(), asking.ask()

    assert len(first.requestable) == 41
    assert second.decided is not first.decided


def test_a_decision_keeps_nothing_alive_that_was_replaced(asking: Asking) -> None:
    """Else each of thousands of decisions could hold a book of policies, or all grants of a subject, of its own."""
    approve(asking.store, ask(asking.store))
    kept = asking.ask().decided
    assert kept is not None
    view = asking.view.strong([ALICE.principal])
    gone = ref(view.held[ALICE.principal]), ref(view.book)
    del view

    add_policy(asking.store, name="policies/another")
    approve(asking.store, ask(asking.store, resource="database/orders/us"))
    asking.ask(resource="database/orders/us")
    gc.collect()

    assert [each() for each in gone] == [None, None]


def test_a_decision_stands_until_the_next_instant_of_its_grants() -> None:
    first, second = approved(), replace(approved(), starts_at=NOON + TICK)

    assert stands_until([first], NOON) == NOON + HOUR
    assert stands_until([first, second], NOON) == NOON + TICK
    assert stands_until([first, second], NOON + TICK) == NOON + HOUR
    assert stands_until([], NOON) > NOON + timedelta(days=365_000)


@pytest.mark.parametrize("facts", [{"chain": ("grants/a",)}, {"limits": Limits(max_uses=1)}])
def test_a_decision_that_reads_more_than_names_and_time_stands_for_itself(facts: dict[str, Any]) -> None:
    assert stands_until([replace(approved(), **facts)], NOON) is None


def test_the_latest_are_remembered_and_no_more_than_twice_as_many() -> None:
    recent: GenerationalCache[int, str] = GenerationalCache(3)
    for number in range(100):
        recent.put(number, str(number))
        recent.get(0)

    assert [recent.get(number) for number in (97, 98, 99)] == ["97", "98", "99"]
    assert recent.get(0) == "0"
    assert recent.get(50) is None
    assert len(recent) <= 6


TWINS: list[tuple[str, Any, str, str, Callable[[Asking], None]]] = [
    (
        "a decision that outlives its grant",
        CachedDecision.stands,
        "self.grants() is view.held[question.subject]",
        "True",
        test_a_revoked_grant_allows_nothing_more,
    ),
    (
        "a decision that outlives the policies",
        CachedDecision.stands,
        "self.policies() is view.book",
        "True",
        test_a_deny_policy_holds_at_once_and_no_longer_than_it_is_there,
    ),
    (
        "a decision without an end",
        CachedDecision.stands,
        "view.now < self.until",
        "True",
        test_a_grant_ends_exactly_at_its_expiry,
    ),
    (
        "a decision that stands at its end",
        CachedDecision.stands,
        "view.now < self.until",
        "view.now <= self.until",
        test_a_grant_ends_exactly_at_its_expiry,
    ),
    (
        "an asker's address that counts as the subject's",
        context.of_question,
        'else ({}, "")',
        "else ({}, caller.origin.source_address)",
        test_where_a_subject_is_is_never_where_its_asker_is,
    ),
    (
        "an address that is kept for the next",
        CachedDecision.stands,
        "_results_are_same(self.conditions, question, view)",
        "True",
        test_where_a_subject_is_is_never_where_its_asker_is,
    ),
    (
        "a decision for whoever asks",
        decision_cache._key,
        "question.resource, question.groups",
        "question.resource, None",
        test_groups_that_one_proves_are_not_anothers,
    ),
    (
        "a condition that is judged once",
        CachedDecision.stands,
        "_results_are_same(self.conditions, question, view)",
        "True",
        test_a_condition_is_judged_each_time,
    ),
    (
        "a condition that is forgotten",
        decision.judge_conditions,
        "grant.check_condition and",
        "not grant.check_condition and",
        test_a_condition_is_judged_each_time,
    ),
    (
        "an asker's words that are kept for the next",
        CachedDecision.stands,
        "_results_are_same(self.conditions, question, view)",
        "True",
        test_what_one_asker_asserts_is_nothing_to_the_next,
    ),
    (
        "a passed on grant that is judged once",
        decision.stands_until,
        "grant.chain or ",
        "",
        lambda _: test_a_decision_that_reads_more_than_names_and_time_stands_for_itself({"chain": ("grants/a",)}),
    ),
    (
        "a start that nobody waits for",
        decision.stands_until,
        "(grant.starts_at, grant.expires_at, grant.request_expires_at)",
        "(grant.expires_at, grant.request_expires_at)",
        test_a_grant_begins_exactly_at_its_start,
    ),
    (
        "locks that are not read again",
        CachedDecision.stands,
        "and self.locks is view.locks",
        "",
        test_a_lock_holds_at_once_and_no_longer_than_it_stands,
    ),
    (
        "a lock that an index holds on to",
        Index._standing,
        "self._locks.at(now)",
        "self._locks",
        test_a_lock_holds_at_once_and_no_longer_than_it_stands,
    ),
    (
        "a lapse that nobody waits for",
        decision.stands_until,
        "(grant.starts_at, grant.expires_at, grant.request_expires_at)",
        "(grant.starts_at, grant.expires_at)",
        test_a_request_explains_a_no_until_it_lapses,
    ),
    (
        "one who holds nothing for all time",
        Index.apply,
        "self._nobody = SubjectGrants()",
        "pass",
        test_a_grant_that_ended_explains_the_no_of_somebody_who_holds_nothing,
    ),
]


@pytest.mark.parametrize(("name", "function", "sound", "bug", "caught_by"), TWINS, ids=[twin[0] for twin in TWINS])
def test_no_twin_survives(
    name: str,
    function: Any,
    sound: str,
    bug: str,
    caught_by: Callable[[Asking], None],
    asking: Asking,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    demand_caught(Twin(name, function, sound, bug, lambda: caught_by(asking)), monkeypatch)
