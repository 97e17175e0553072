"""Grants that were over for longer than JIT_GRANT_RETENTION are forgotten, and no decision comes out differently."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import Session, delete, update

from jit_service.check import AuditMode, GrantCache, Recorder, questions
from jit_service.check.questions import past_question
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.checks.decision import Reason
from jit_service.domain.errors import GrantNotFound, NotVisible, RecordsPruned, StoreUnavailable
from jit_service.domain.grants import grant_beginning
from jit_service.domain.grants.grant import Grant, GrantState, Justification, run_out_event
from jit_service.domain.grants.lock import NewLock, Target
from jit_service.domain.grants.more_time import MoreTime
from jit_service.domain.grants.request import Ask
from jit_service.domain.policies.policy import BreakGlassRule, ExtensionRule, PrincipalSet
from jit_service.feeds.grants import Watched, watch
from jit_service.feeds.replica import replicate
from jit_service.runtime import sweeper
from jit_service.runtime.retention import Retention, bounds_of
from jit_service.settings import Settings
from jit_service.storage import Store
from jit_service.storage.forgetting import Forgetting
from jit_service.storage.forgotten import GrantBeginningRow, KnownNameRow
from jit_service.storage.head_follower import HeadFollower
from jit_service.storage.readers import forgettable
from jit_service.storage.readers.accounts import AccountReader
from jit_service.storage.tables import GrantRow
from jit_service.use_cases import audit, grant_forgetting, grants, locks, simulation
from jit_service.use_cases.past_access import PastAccess
from jit_service.use_cases.simulation import Draft
from tests import checking
from tests.conftest import HOUR, TICK, Clock
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.storage.people import ADMIN, ALICE, AUDITOR, BOB, GATEWAY, add_policy, approve, ask

DAY = timedelta(days=1)
KEPT = 10 * DAY
WHY = Justification(text="fire")
ON_CALL = BreakGlassRule(eligible=PrincipalSet(groups=("engineering",)), max_duration=HOUR, review_within=HOUR)


@pytest.fixture(autouse=True)
def policy(store: Store) -> None:
    add_policy(
        store,
        break_glass=ON_CALL,
        extension=ExtensionRule(max_extensions=2, max_total_duration=9 * HOUR),
        max_child_depth=1,
    )


def forget(store: Store) -> int:
    """Forgets all that is due. Returns how many grants those were."""
    count = 0
    while count < 20 and grant_forgetting.grants_due(store, KEPT):
        forgotten = grant_forgetting.forget_grants(store, KEPT, ADMIN)
        assert forgotten is not None
        count += forgotten.count
    assert grant_forgetting.forget_grants(store, KEPT, ADMIN) is None
    return count


def sweep(store: Store) -> None:
    while sweeper.record_run_out(store):
        pass


def is_there(store: Store, grant: Grant) -> bool:
    with store.snapshot() as snapshot:
        return snapshot.grant(grant.name) is not None


def held(store: Store, **asked: Any) -> Grant:
    return approve(store, ask(store, **asked))


def revoked(store: Store) -> Grant:
    return grants.revoke(store, ADMIN, held(store).name, comment="no", etag="").grant


def run_out(store: Store, clock: Clock, grant: Grant, after: timedelta) -> Grant:
    clock.advance(after)
    sweep(store)
    return grant


def used_in_emergency(store: Store) -> Grant:
    return ask(store, break_glass=True, justification=WHY)


def sql(store: Store, statement: Any) -> None:
    with Session(store.engine) as session:
        session.execute(statement)
        session.commit()


def count(store: Store, table: str) -> int:
    with store.engine.begin() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


ENDS: dict[str, Callable[[Store, Clock], Grant]] = {
    "REVOKED": lambda store, _: revoked(store),
    "RELEASED": lambda store, _: grants.release(store, ALICE, held(store).name, comment="", etag="").grant,
    "DENIED": lambda store, _: grants.deny(store, BOB, ask(store).name, comment="no", etag="").grant,
    "WITHDRAWN": lambda store, _: grants.withdraw(store, ALICE, ask(store).name, comment="", etag="").grant,
    "EXPIRED": lambda store, clock: run_out(store, clock, held(store), HOUR),
    "LAPSED": lambda store, clock: run_out(store, clock, ask(store), 8 * HOUR),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_was_over_for_longer_than_the_retention_is_forgotten(store: Store, clock: Clock, end: str) -> None:
    grant = ENDS[end](store, clock)
    with store.snapshot() as snapshot:
        now = snapshot.grant(grant.name)
    assert now is not None
    assert now.state(clock()) is GrantState(end)
    clock.advance(KEPT)
    assert forget(store) == 0

    clock.advance(TICK)

    assert forget(store) == 1
    assert not is_there(store, grant)
    for table in ("access_grant", "review", "grant_change", "told_address"):
        assert count(store, table) == 0, table


def test_who_may_read_every_grant_is_told_that_it_is_gone_and_nobody_else_learns_of_it(
    store: Store, clock: Clock
) -> None:
    grant = revoked(store)
    clock.advance(KEPT + TICK)
    forget(store)

    with pytest.raises(GrantNotFound, match=r"there is no grants/.*; those that were over by 2026-.* were forgotten"):
        grants.get(store, AUDITOR, grant.name)
    with pytest.raises(NotVisible):
        grants.get(store, ALICE, grant.name)


def test_an_end_that_is_not_on_record_yet_is_not_forgotten(store: Store, clock: Clock) -> None:
    held(store)
    ask(store)
    clock.advance(2 * KEPT)
    assert forget(store) == 0

    sweep(store)
    clock.advance(KEPT + TICK)

    assert forget(store) == 2


def test_what_is_live_or_waits_is_never_forgotten(store: Store, clock: Clock) -> None:
    add_policy(store, name="policies/long", resources=("database/long",), max_duration=30 * DAY, request_ttl=30 * DAY)
    active = held(store, resource="database/long", duration=25 * DAY)
    waiting = ask(store, resource="database/long", duration=25 * DAY)
    scheduled = held(store, resource="database/long", duration=25 * DAY, start_at=clock() + 15 * DAY)

    clock.advance(KEPT + 2 * HOUR)
    sweep(store)

    assert forget(store) == 0
    assert all(is_there(store, each) for each in (active, waiting, scheduled))


def test_what_owes_a_review_is_kept_and_its_retention_begins_with_the_review(store: Store, clock: Clock) -> None:
    used = used_in_emergency(store)
    clock.advance(2 * KEPT)
    sweep(store)
    clock.advance(2 * KEPT)
    assert forget(store) == 0

    grants.complete_review(store, BOB, used.name, comment="fine", etag="")
    clock.advance(KEPT)
    assert forget(store) == 0
    clock.advance(TICK)

    assert forget(store) == 1


def test_a_request_for_more_time_that_nobody_closed_keeps_its_grant(store: Store, clock: Clock) -> None:
    grant = held(store)
    grants.extend(store, ALICE, grant.name, MoreTime(duration=HOUR), etag="")
    clock.advance(HOUR)
    with store.transaction() as tx:
        (expired,) = tx.run_out(limit=5)
        tx.record_run_out(expired, run_out_event(expired, now=tx.now))
    clock.advance(KEPT + TICK)
    assert forget(store) == 0

    sweep(store)

    assert forget(store) == 1


def test_what_was_passed_on_goes_before_that_which_it_came_from(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grant_forgetting, "GRANTS_AT_ONCE", 1)
    parent = held(store)
    # What was created first is looked at first.
    clock.advance(TICK)
    part = Ask(parent=parent.name, subject=ALICE.principal, resources=("database/orders/eu",), actions=("read",))
    child = grants.ask(store, ALICE, part).grant
    grants.revoke(store, ADMIN, parent.name, comment="no", etag="")
    clock.advance(KEPT + TICK)

    grant_forgetting.forget_grants(store, KEPT, ADMIN)

    assert (is_there(store, parent), is_there(store, child)) == (True, False)
    assert forget(store) == 1


def test_each_batch_is_on_record_and_the_log_and_the_store_still_agree(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grant_forgetting, "GRANTS_AT_ONCE", 2)
    for _ in range(3):
        revoked(store)
    over = clock()
    live = held(store, duration=4 * HOUR)
    clock.advance(KEPT + TICK)

    assert forget(store) == 3

    recorded = audit.list_page(
        store, AUDITOR, filter_text="event_type = GRANTS_PRUNED", order_by="seq", page_size=9, page_token=""
    ).events
    assert [each.event.message.split(" ")[0] for each in recorded] == ["2", "1"]
    assert f"over by {over:%Y-%m-%dT%H:%M:%S}" in recorded[0].event.message
    assert recorded[0].event.message.endswith("JIT_GRANT_RETENTION is 864000s")
    verified = audit.verify(store)
    assert (verified.problem, verified.differing) == ("", "")
    assert is_there(store, live)


def test_a_grant_that_somebody_else_removed_is_found(store: Store, clock: Clock) -> None:
    revoked(store)
    removed = revoked(store)
    sql(store, text(f"DELETE FROM review WHERE grant_name = '{removed.name}'"))
    sql(store, delete(GrantRow).where(GrantRow.name == removed.name))  # type: ignore[arg-type]
    clock.advance(KEPT + TICK)
    forget(store)

    verified = audit.verify(store)

    assert (verified.differing, verified.difference) == (removed.name, "is in the log, and not in the store")


def test_a_forgotten_grant_that_somebody_puts_back_is_found(store: Store, clock: Clock) -> None:
    grant = revoked(store)
    with store.engine.begin() as connection:
        (row,) = connection.execute(GrantRow.__table__.select()).mappings().all()  # type: ignore[attr-defined]
    clock.advance(KEPT + TICK)
    forget(store)

    sql(store, GrantRow.__table__.insert().values(**row))  # type: ignore[attr-defined]

    assert audit.verify(store).differing == grant.name


def reason(store: Store) -> Reason:
    asked = questions.question(GATEWAY, subject=ALICE.principal, action="read", resource="database/orders/eu")
    return checking.check(store, GATEWAY, asked).decision.reason


def test_a_check_that_was_a_no_stays_one(store: Store, clock: Clock) -> None:
    revoked(store)
    assert reason(store) is Reason.REVOKED
    clock.advance(KEPT + TICK)
    forget(store)

    assert reason(store) is Reason.NO_GRANT


@pytest.fixture
def past(store: Store) -> Iterator[PastAccess]:
    recorder = Recorder(store, AuditMode.COMMITTED)
    yield PastAccess(store, recorder)
    recorder.stop()


def could(past: PastAccess, at: datetime) -> bool:
    asked = past_question(AUDITOR, subject=ALICE.principal, action="read", resource="database/orders/eu", asserted={})
    return past.check(AUDITOR, asked, at).decision.allowed


def test_what_was_before_the_last_forgotten_end_is_not_answered(store: Store, clock: Clock, past: PastAccess) -> None:
    began = clock()
    held(store)
    clock.advance(HOUR)
    sweep(store)
    over = clock()
    kept = held(store, duration=4 * HOUR)
    assert could(past, over - TICK)
    clock.advance(4 * HOUR)
    sweep(store)
    clock.advance(KEPT - 4 * HOUR + TICK)

    assert forget(store) == 1

    for before in (began, over - TICK):
        with pytest.raises(RecordsPruned, match=r"read_time: is .*were forgotten \(JIT_GRANT_RETENTION") as fault:
            could(past, before)
        assert fault.value.metadata["first_time"].startswith(f"{over:%Y-%m-%dT%H:%M:%S}")
    assert could(past, over)
    assert is_there(store, kept)


def test_a_window_of_a_simulation_begins_after_what_was_forgotten(store: Store, clock: Clock) -> None:
    revoked(store)
    over = clock()
    clock.advance(KEPT + TICK)
    forget(store)

    def simulated(start: datetime) -> object:
        return simulation.simulate(store, Draft(proposed=(), prune=False, start=start, end=clock(), max_changes=0))

    with pytest.raises(RecordsPruned, match="start_time"):
        simulated(over - TICK)
    assert simulated(over)


def test_a_watch_from_before_what_was_forgotten_begins_anew(store: Store, clock: Clock) -> None:
    revoked(store)
    with store.snapshot() as snapshot:
        last = snapshot.revision
    clock.advance(KEPT + TICK)
    forget(store)
    follower = HeadFollower(store)

    def resumed(feed: Any, caller: Caller, revision: int) -> object:
        watched = Watched(start_revision=revision)
        return next(feed(store, caller, watched, follower=follower, gone=lambda: False, heartbeat_seconds=0))

    for feed, caller in ((watch, ALICE), (replicate, GATEWAY)):
        with pytest.raises(RecordsPruned, match=r"start_revision: is \d+; changes up to revision \d+ were forgotten"):
            resumed(feed, caller, last - 1)
        assert resumed(feed, caller, last)


SSO = "https://sso.example.com"
OLD = ALICE._replace(origin=Origin(issuer=SSO, issuer_subject="00u1"))
NEW = OLD._replace(principal="user:alice.smith@example.com")


def test_a_lock_on_an_old_name_goes_on_to_reach_the_new_one(store: Store, clock: Clock) -> None:
    grants.withdraw(store, OLD, ask(store, caller=OLD).name, comment="", etag="")
    clock.advance(KEPT + TICK)
    assert forget(store) == 1
    live = held(store, caller=NEW)

    lock = locks.create(store, ADMIN, NewLock(target=Target(principal=OLD.principal), comment="left", end_grants=True))

    assert lock.lock.also == (NEW.principal,)
    with store.snapshot() as snapshot:
        ended = snapshot.grant(live.name)
    assert ended is not None
    assert ended.end is not None


def test_a_lock_on_the_new_name_goes_on_to_reach_the_old_one(store: Store, clock: Clock) -> None:
    grants.withdraw(store, OLD, ask(store, caller=OLD).name, comment="", etag="")
    ask(store, caller=NEW)
    clock.advance(KEPT + TICK)
    assert forget(store) == 1

    lock = locks.create(store, ADMIN, NewLock(target=Target(principal=NEW.principal), comment="left"))

    assert lock.lock.also == (OLD.principal,)


@pytest.mark.parametrize(
    "tampering",
    [
        delete(KnownNameRow),
        delete(GrantBeginningRow),
        update(GrantBeginningRow).values(revision=1),
        update(KnownNameRow).values(principal="user:mallory@example.com"),
    ],
    ids=["name removed", "beginning removed", "beginning moved", "name changed"],
)
def test_what_stays_is_sealed(store: Store, clock: Clock, tampering: Any) -> None:
    grants.withdraw(store, OLD, ask(store, caller=OLD).name, comment="", etag="")
    clock.advance(KEPT + TICK)
    forget(store)
    assert not audit.verify(store).differing

    sql(store, tampering)

    with closing(store.grant_loader()) as loader:
        try:
            with loader.load(lambda _, __: None):
                pass
        except StoreUnavailable:
            return
    assert audit.verify(store).differing


def test_a_worker_that_stood_still_for_longer_than_the_retention_loads_anew(store: Store, clock: Clock) -> None:
    grant = held(store, duration=4 * HOUR)
    cache = GrantCache(store, clock=clock, bound=DAY)
    cache._load()
    grants.revoke(store, ADMIN, grant.name, comment="no", etag="")
    clock.advance(KEPT + TICK)
    forget(store)

    cache._catch_up()

    assert cache.size == 0


def test_one_of_all_processes_forgets_what_the_settings_bound(
    store: Store, database_url: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    revoked(store)
    clock.advance(KEPT + TICK)
    settings = Settings(grant_retention=KEPT, change_retention=KEPT)
    with closing(Store(database_url, clock=clock)) as other, caplog.at_level(logging.INFO):
        assert other.take_lease("retention", "another host", span=timedelta(minutes=1))
        Retention(store, bounds_of(store, settings, None)).work()
        assert "forgot" not in caplog.text

        clock.advance(timedelta(minutes=1))
        Retention(other, bounds_of(other, settings, None)).work()
        Retention(store, bounds_of(store, settings, None)).work()

    assert caplog.text.count("forgot 1 grants that were over by") == 1
    assert count(store, "access_grant") == 0


def test_what_breaks_off_in_the_middle_has_forgotten_nothing(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = revoked(store)
    clock.advance(KEPT + TICK)

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("the process ends")

    with monkeypatch.context() as patch, pytest.raises(ConnectionError):
        patch.setattr(Forgetting, "_move_beginning", fail)
        grant_forgetting.forget_grants(store, KEPT, ADMIN)

    assert is_there(store, grant)
    assert count(store, "review") == 1
    assert forget(store) == 1


TWINS: list[tuple[str, Any, str, str, Callable[[Store, Clock], None]]] = [
    (
        "a retention that does not begin with the review",
        grant_beginning.settled_at,
        "recorded_at if grant.end is None else None, reviewed_at)",
        "recorded_at if grant.end is None else None)",
        test_what_owes_a_review_is_kept_and_its_retention_begins_with_the_review,
    ),
    (
        "a grant that is forgotten before what was passed on from it",
        forgettable._may_be_settled,
        '~select(child.name).where(col(child.parent) == col(GrantRow.name), col(child.parent) != "").exists(),',
        "",
        lambda store, clock: test_what_was_passed_on_goes_before_that_which_it_came_from(
            store, clock, pytest.MonkeyPatch()
        ),
    ),
    (
        "an open request for more time",
        forgettable._may_be_settled,
        "col(GrantRow.extension_expires_at).is_(None),",
        "",
        test_a_request_for_more_time_that_nobody_closed_keeps_its_grant,
    ),
    (
        "removals that no record names",
        Forgetting.forget_grants,
        'self._states |= dict.fromkeys(names, "")',
        "pass",
        lambda store, clock: test_each_batch_is_on_record_and_the_log_and_the_store_still_agree(
            store, clock, pytest.MonkeyPatch()
        ),
    ),
    (
        "a name of an account that is forgotten with its grant",
        Forgetting._keep_names,
        "if account is not None}",
        "if account is None}",
        test_a_lock_on_an_old_name_goes_on_to_reach_the_new_one,
    ),
    (
        "a lock that does not look at the names that are known",
        AccountReader.known_as,
        "col(KnownNameRow.principal_key) == same",
        "col(KnownNameRow.principal_key) == ''",
        test_a_lock_on_an_old_name_goes_on_to_reach_the_new_one,
    ),
    (
        "a watch with a gap",
        Forgetting.forget_grants,
        "revision=max(self.grant_beginning.revision, last)",
        "revision=self.grant_beginning.revision",
        test_a_watch_from_before_what_was_forgotten_begins_anew,
    ),
]


@pytest.mark.parametrize(("name", "function", "sound", "bug", "caught_by"), TWINS, ids=[twin[0] for twin in TWINS])
def test_no_twin_survives(
    name: str,
    function: Any,
    sound: str,
    bug: str,
    caught_by: Callable[[Store, Clock], None],
    store: Store,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    demand_caught(Twin(name, function, sound, bug, lambda: caught_by(store, clock)), monkeypatch)
