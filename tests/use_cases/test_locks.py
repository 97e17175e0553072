"""Locks on every store and in every worker: from the commit on, and only while one stands."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from jit_service.check import checker, questions
from jit_service.domain.audit.event import SERVICE, EventType
from jit_service.domain.caller import Caller, Origin, Role
from jit_service.domain.checks.decision import Question, Reason
from jit_service.domain.errors import Locked, LockNotFound, NotVisible
from jit_service.domain.grants import delegation, quorum
from jit_service.domain.grants.grant import GrantState
from jit_service.domain.grants.lock import Lock, Locks, NewLock, Target
from jit_service.domain.grants.request import Ask
from jit_service.feeds.grants import ControlEvent, Watched, watch
from jit_service.runtime import sweeper
from jit_service.storage import Snapshot, Store, Transaction, prepared, set_caller
from jit_service.storage.head_follower import HeadFollower
from jit_service.use_cases import delegations, grants, locks
from tests import checking
from tests.conftest import HOUR, TICK, Clock
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.faults.history import Kind, Operation, violations
from tests.storage.people import ADMIN, ALICE, BOB, CAROL, DAVE, GATEWAY, add_policy, approve, ask

RITA = Caller(principal="user:rita@example.com", roles=frozenset({Role.RESPONDER}))


def locked(store: Store, principal: str = ALICE.principal, *, by: Caller = RITA, **changes: Any) -> Lock:
    target = changes.pop("target", Target(principal=principal))
    return locks.create(store, by, NewLock(target=target, comment="left", **changes)).lock


def lift(store: Store, lock: Lock) -> None:
    locks.delete(store, RITA, lock.name, etag="")


def reason(store: Store) -> Reason:
    asked = questions.question(GATEWAY, subject=ALICE.principal, action="read", resource="database/orders/eu")
    return checking.check(store, GATEWAY, asked).decision.reason


@contextmanager
def working_for(caller: Caller) -> Iterator[None]:
    set_caller(caller)
    try:
        yield
    finally:
        set_caller(None)


@pytest.fixture
def other(store: Store) -> Iterator[Store]:
    """Another worker's store."""
    other = Store(store.engine.url.render_as_string(hide_password=False), clock=store.clock)
    yield other
    checking.stop(other)
    other.close()


def test_what_one_worker_has_locked_no_other_lets_pass(store: Store, other: Store) -> None:
    add_policy(store)
    approve(store, ask(store))
    for _ in range(20):
        assert reason(other) is Reason.ALLOWED
        lock = locked(store)
        assert reason(other) is Reason.LOCKED
        with working_for(ALICE):
            with pytest.raises(Locked):
                ask(other)
            with pytest.raises(Locked):
                other.snapshot().__enter__()
        lift(store, lock)
        with working_for(ALICE):
            other.snapshot().__enter__()


def test_checks_of_several_workers_and_locks_are_linearizable(store: Store, other: Store) -> None:
    """Access is the register: a lock takes it away, lifting it gives it back."""
    add_policy(store)
    approve(store, ask(store))
    lock = locked(store)
    # Each worker has one checker, made before its threads come.
    assert {reason(store), reason(other)} == {Reason.LOCKED}
    history: list[Operation] = []
    done = threading.Event()

    def read(worker: Store, name: str) -> None:
        while not done.is_set():
            began = time.monotonic()
            allowed = reason(worker) is Reason.ALLOWED
            history.append(
                Operation(key="k", kind=Kind.READ, value=allowed, began=began, ended=time.monotonic(), by=name)
            )

    def write(value: bool, act: Callable[[], Any]) -> Any:
        began = time.monotonic()
        made = act()
        history.append(Operation(key="k", kind=Kind.WRITE, value=value, began=began, ended=time.monotonic()))
        return made

    readers = [
        threading.Thread(target=read, args=(worker, f"{name}-{number}"))
        for number in range(2)
        for name, worker in (("one", store), ("other", other))
    ]
    for reader in readers:
        reader.start()
    for _ in range(15):
        write(True, lambda lock=lock: lift(store, lock))
        lock = write(False, lambda: locked(other))
    done.set()
    for reader in readers:
        reader.join()

    assert violations(history) == []
    assert len(history) > 60


def test_a_call_that_began_before_a_lock_changes_nothing_after_it(store: Store, other: Store) -> None:
    add_policy(store)
    grant = ask(store)
    with working_for(BOB):
        assert grants.get(other, BOB, grant.name).grant.name == grant.name
        locked(store, BOB.principal)
        with pytest.raises(Locked):
            approve(other, grant)


def test_who_is_not_locked_works_on_and_so_does_the_service(store: Store) -> None:
    add_policy(store)
    locked(store)
    with working_for(BOB):
        assert grants.ask(store, BOB._replace(groups=ALICE.groups), _asked(BOB)).grant
    sweeper.record_run_out(store)


def _asked(caller: Caller) -> Ask:
    return Ask(subject=caller.principal, resources=("database/orders/eu",), actions=("read",))


def test_where_nobody_is_locked_nobody_reads_who_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what nobody uses costs nobody more than a look at a number that is there anyway."""
    add_policy(store)
    approve(store, ask(store))
    lift(store, locked(store))
    monkeypatch.setattr(prepared, "LOCKS", None)

    with working_for(ALICE):
        assert ask(store, resource="database/orders/us")
    assert reason(store) is Reason.ALLOWED


def test_a_lock_that_is_over_is_recorded_once_and_read_no_more(store: Store, clock: Clock) -> None:
    locked(store, expires_at=clock() + HOUR)
    clock.advance(HOUR - TICK)
    assert sweeper.record_run_out(store) == 0
    clock.advance(TICK)

    assert [sweeper.record_run_out(store), sweeper.record_run_out(store)] == [1, 0]
    with store.snapshot() as snapshot:
        records = snapshot.audit_records(after=0, until=snapshot.seq, enough=100)
        assert [record.recorded.event.type for record in records].count(EventType.LOCK_EXPIRED) == 1
        assert snapshot._lock_count == 0


def test_the_answer_changes_exactly_when_the_lock_ends(store: Store, clock: Clock) -> None:
    add_policy(store)
    approve(store, ask(store, duration=3 * HOUR))
    locked(store, expires_at=clock() + HOUR)

    clock.advance(HOUR - TICK)
    assert reason(store) is Reason.LOCKED
    clock.advance(TICK)
    assert reason(store) is Reason.ALLOWED


def test_of_a_group_what_ends_is_of_those_who_are_known_to_be_in_it(store: Store) -> None:
    add_policy(store)
    hers, waits = approve(store, ask(store)), ask(store, resource="database/orders/us")
    his = ask(store, caller=DAVE._replace(groups=frozenset({"engineering", "night"})))

    lock = locked(store, target=Target(group="night"), end_grants=True)
    states = [_state(store, grant.name) for grant in (hers, waits, his)]

    assert states == [GrantState.ACTIVE, GrantState.PENDING, GrantState.DENIED]
    assert lock.ended_grants == 1


def test_what_ends_with_a_principal_is_found_in_any_letter_case(store: Store) -> None:
    add_policy(store)
    grant = approve(store, ask(store))

    locked(store, "user:Alice@EXAMPLE.com", end_grants=True)

    assert _state(store, grant.name) is GrantState.REVOKED


def _state(store: Store, name: str) -> GrantState:
    answer = grants.get(store, ADMIN, name)
    return answer.grant.state(answer.at)


def test_the_operator_lifts_at_the_host_what_nobody_else_can(store: Store) -> None:
    for_admin = locked(store, ADMIN.principal)
    with working_for(ADMIN):
        with pytest.raises(Locked):
            locks.delete(store, ADMIN, for_admin.name, etag="")

    (lifted,) = locks.lift_at_host(store, "user:ADMIN@example.com")

    assert (lifted.name, lifted.deleted_at) == (for_admin.name, store.clock())
    with store.snapshot() as snapshot:
        last = snapshot.audit_records(after=snapshot.seq - 1, until=snapshot.seq, enough=1)[0].recorded.event
    assert (last.type, last.principal, last.origin.method) == (EventType.LOCK_DELETED, SERVICE, "jit-service unlock")
    with pytest.raises(LockNotFound):
        locks.lift_at_host(store, ADMIN.principal)
    assert locks.lift_at_host(store, locked(store, CAROL.principal).name)


def test_what_somebody_watches_ends_with_the_lock(store: Store) -> None:
    follower = HeadFollower(store)
    with working_for(ALICE):
        events = watch(store, ALICE, Watched(), follower=follower, gone=lambda: False, heartbeat_seconds=0.01)
        assert next(events).type is ControlEvent.HEARTBEAT
        with working_for(RITA):
            locked(store)
        set_caller(ALICE)
        with pytest.raises(Locked):
            next(events)


def test_a_delegate_of_the_locked_has_no_right(store: Store) -> None:
    add_policy(store)
    grant = ask(store)
    lent = delegation.NewDelegation(delegate=DAVE.principal, expires_at=store.clock() + HOUR)
    delegations.create(store, BOB, lent)
    lock = locked(store, BOB.principal)

    with pytest.raises(NotVisible):
        approve(store, grant, by=DAVE)
    lift(store, lock)
    assert approve(store, grant, by=DAVE)


SSO = "https://idp.example.com"
OLD = ALICE._replace(origin=Origin(issuer=SSO, issuer_subject="00u1"))
NEW = OLD._replace(principal="user:alice.smith@example.com")


def test_a_new_name_is_no_way_out_of_a_lock(store: Store) -> None:
    add_policy(store)
    ask(store, caller=OLD)
    lock = locked(store, OLD.principal)

    for caller in (OLD, NEW):
        with working_for(caller), pytest.raises(Locked, match=lock.name), store.snapshot():
            pass
    with working_for(NEW._replace(origin=Origin(issuer=SSO, issuer_subject="00u2"))), store.snapshot():
        pass
    with working_for(NEW._replace(origin=Origin(issuer="https://other.example.com", issuer_subject="00u1"))):
        with store.snapshot():
            pass


def test_a_lock_on_the_new_name_reaches_what_is_held_under_the_old_one(store: Store) -> None:
    add_policy(store)
    held = approve(store, ask(store, caller=OLD))
    ask(store, caller=NEW)
    assert reason(store) is Reason.ALLOWED

    lock = locked(store, NEW.principal, end_grants=True)

    assert lock.also == (OLD.principal,)
    assert reason(store) is Reason.LOCKED
    assert _state(store, held.name) is GrantState.REVOKED
    assert checking.check(store, GATEWAY, asked_about(OLD)).decision.reason is Reason.LOCKED


def test_reviews_and_delegations_under_another_name_of_the_locked_do_not_count(store: Store) -> None:
    reviewer = BOB._replace(origin=Origin(issuer=SSO, issuer_subject="00u7"))
    renamed = reviewer._replace(principal="user:bob.jones@example.com")
    add_policy(store, approvals=2)
    first, second = ask(store), ask(store)
    approve(store, first, by=reviewer)
    approve(store, second, by=renamed)
    lent = delegation.NewDelegation(delegate=DAVE.principal, expires_at=store.clock() + HOUR)
    delegations.create(store, renamed, lent)

    locked(store, reviewer.principal)

    assert _state(store, approve(store, second, by=CAROL).name) is GrantState.PENDING
    with pytest.raises(NotVisible):
        approve(store, first, by=DAVE)


def asked_about(who: Caller) -> Question:
    return questions.question(GATEWAY, subject=who.principal, action="read", resource="database/orders/eu")


def _asked_by_the_locked(store: Store) -> None:
    add_policy(store)
    approve(store, ask(store))
    checker = checking.checker(store)
    locked(store)
    asked = questions.question(ALICE, subject=ALICE.principal, action="read", resource="database/orders/eu")
    with pytest.raises(Locked):
        checker.check(ALICE, asked)


TWINS: list[tuple[str, Any, str, str, Callable[[Store], None]]] = [
    (
        "a store that asks for nobody",
        Snapshot.demand_unlocked,
        "if self._lock_count and",
        "if False and",
        test_what_somebody_watches_ends_with_the_lock,
    ),
    (
        "a delegate of the locked",
        delegations.with_delegations,
        "(not locks or locks.on_right(found.right) is None)",
        "True",
        test_a_delegate_of_the_locked_has_no_right,
    ),
    (
        "a lock on a name alone",
        Locks.on_caller,
        "self.on_account(caller.account)",
        "None",
        test_a_new_name_is_no_way_out_of_a_lock,
    ),
    (
        "a lock on one name alone",
        Transaction.known_as,
        "sorted(other for other in names if name.canonical(other) != same)",
        "[]",
        test_a_lock_on_the_new_name_reaches_what_is_held_under_the_old_one,
    ),
    (
        "a review under another name of the locked",
        quorum._is_locked,
        "or locks.on_account(review.account) is not None\n"
        "        or locks.on_account(review.holder_account) is not None",
        "",
        test_reviews_and_delegations_under_another_name_of_the_locked_do_not_count,
    ),
    (
        "a check together that does not ask who is locked",
        checker._is_plain,
        " and not (view.locks and view.locks.on_caller(request.caller))",
        "",
        _asked_by_the_locked,
    ),
    (
        "a lock that is not counted",
        Transaction.save_lock,
        "self._lock_count += 1 if lock.revision == 0 else -1",
        "pass",
        test_what_somebody_watches_ends_with_the_lock,
    ),
]


@pytest.mark.parametrize(("name", "function", "sound", "bug", "caught_by"), TWINS, ids=[twin[0] for twin in TWINS])
def test_no_twin_survives(
    name: str,
    function: Any,
    sound: str,
    bug: str,
    caught_by: Callable[[Store], None],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    demand_caught(Twin(name, function, sound, bug, lambda: caught_by(store)), monkeypatch)
