"""Changes from before JIT_CHANGE_RETENTION are forgotten, but for what says how each grant was when it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlmodel import Session, select

from jit_service.check import AuditMode, Recorder, questions
from jit_service.check.questions import past_question
from jit_service.domain.errors import RecordsPruned
from jit_service.domain.grants.more_time import MoreTime
from jit_service.domain.policies.policy import ExtensionRule
from jit_service.feeds.grants import Watched, watch
from jit_service.storage import Store
from jit_service.storage.forgetting import Forgetting
from jit_service.storage.head_follower import HeadFollower
from jit_service.storage.readers.forgettable import ForgettableReader
from jit_service.storage.tables import GrantChangeRow
from jit_service.use_cases import audit, grant_forgetting, grants
from jit_service.use_cases.past_access import PastAccess
from tests import checking
from tests.conftest import HOUR, TICK, Clock
from tests.domain.test_sown_bugs import Twin, demand_caught
from tests.storage.people import ADMIN, ALICE, AUDITOR, BOB, GATEWAY, add_policy, approve, ask

DAY = timedelta(days=1)
KEPT = 10 * DAY


@pytest.fixture(autouse=True)
def policy(store: Store) -> None:
    long = {"max_duration": 30 * DAY, "default_duration": 25 * DAY}
    add_policy(store, extension=ExtensionRule(max_extensions=5, max_total_duration=30 * DAY), max_uses=50, **long)


def forget(store: Store) -> int:
    count = 0
    for _ in range(20):
        if not grant_forgetting.changes_due(store, KEPT):
            return count
        forgotten = grant_forgetting.forget_changes(store, KEPT, ADMIN)
        assert forgotten is not None
        count += forgotten.count
    pytest.fail("there is no end of it")


def changes(store: Store) -> list[tuple[int, str]]:
    with Session(store.engine) as session:
        found = select(GrantChangeRow.revision, GrantChangeRow.type).order_by(GrantChangeRow.revision)  # type: ignore[arg-type]
        return [(revision, kind) for revision, kind in session.exec(found)]


def use(store: Store) -> bool:
    asked = questions.question(GATEWAY, subject=ALICE.principal, action="read", resource="database/orders/eu")
    return checking.check(store, GATEWAY, asked).decision.allowed


@pytest.fixture
def past(store: Store) -> Iterator[PastAccess]:
    recorder = Recorder(store, AuditMode.COMMITTED)
    yield PastAccess(store, recorder)
    recorder.stop()


def could(past: PastAccess, at: datetime) -> bool:
    asked = past_question(AUDITOR, subject=ALICE.principal, action="read", resource="database/orders/eu", asserted={})
    return past.check(AUDITOR, asked, at).decision.allowed


def test_the_last_change_of_each_grant_is_kept(store: Store, clock: Clock) -> None:
    approve(store, ask(store))
    grants.deny(store, BOB, ask(store).name, comment="no", etag="")
    clock.advance(KEPT)
    assert forget(store) == 0

    clock.advance(TICK)

    assert forget(store) == 2
    assert [kind for _, kind in changes(store)] == ["GRANT_APPROVED", "GRANT_DENIED"]


def test_of_a_grant_that_counts_its_uses_the_last_one_and_the_whole_before_it_are_kept(
    store: Store, clock: Clock
) -> None:
    approve(store, ask(store))
    for _ in range(3):
        clock.advance(TICK)
        assert use(store)
    before = changes(store)
    clock.advance(KEPT + TICK)

    assert forget(store) == 3

    assert changes(store) == [before[1], before[-1]]


def test_the_past_after_what_was_forgotten_is_as_it_was(store: Store, clock: Clock, past: PastAccess) -> None:
    held = approve(store, ask(store))
    clock.advance(HOUR)
    revoked_at = clock()
    grants.revoke(store, ADMIN, held.name, comment="no", etag="")
    clock.advance(HOUR)
    instants = (revoked_at - TICK, revoked_at, clock())
    answers = [could(past, at) for at in instants]
    clock.advance(KEPT - HOUR + TICK)

    forget(store)

    with pytest.raises(RecordsPruned, match="read_time"):
        could(past, instants[0])
    assert [could(past, at) for at in instants[1:]] == answers[1:] == [False, False]


def test_what_is_live_for_long_is_known_at_each_later_instant(store: Store, clock: Clock, past: PastAccess) -> None:
    held = approve(store, ask(store))
    approved_at = clock()
    clock.advance(KEPT + HOUR)
    grants.extend(store, ALICE, held.name, MoreTime(duration=DAY), etag="")

    forget(store)

    assert could(past, approved_at)
    assert could(past, approved_at + DAY)
    assert could(past, clock())


def test_a_watch_resumes_from_the_last_forgotten_change_and_not_from_before(store: Store, clock: Clock) -> None:
    ask(store)
    ask(store)
    clock.advance(KEPT + TICK)
    later = ask(store)
    forget(store)
    last = changes(store)[-2][0]
    follower = HeadFollower(store)

    def resumed(revision: int) -> str:
        watched = Watched(start_revision=revision)
        found = watch(store, ALICE, watched, follower=follower, gone=lambda: False, heartbeat_seconds=0)
        update = next(found)
        return update.grant.name if update.grant is not None else ""

    assert resumed(last) == later.name
    with pytest.raises(RecordsPruned, match="begin anew with 0"):
        resumed(last - 1)


def test_a_watch_that_falls_behind_what_is_forgotten_ends(store: Store, clock: Clock) -> None:
    ask(store)
    stream = watch(store, ALICE, Watched(), follower=HeadFollower(store), gone=lambda: False, heartbeat_seconds=0)
    assert [next(stream).grant is not None, next(stream).grant is not None] == [True, False]
    for _ in range(2):
        ask(store)
    clock.advance(KEPT + TICK)
    forget(store)

    with pytest.raises(RecordsPruned):
        next(stream)


def test_each_batch_is_on_record_and_seals_hold(store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grant_forgetting, "CHANGES_AT_ONCE", 2)
    approve(store, ask(store))
    grants.deny(store, BOB, ask(store).name, comment="no", etag="")
    until = clock()
    clock.advance(KEPT + TICK)

    forget(store)

    recorded = audit.list_page(
        store, AUDITOR, filter_text="event_type = CHANGES_PRUNED", order_by="seq", page_size=9, page_token=""
    ).events
    assert [each.event.message.split(" ")[0] for each in recorded] == ["1", "1"]
    assert f"of {until:%Y-%m-%dT%H:%M:%S}" in recorded[0].event.message
    verified = audit.verify(store)
    assert (verified.problem, verified.differing) == ("", "")


TWINS: list[tuple[str, Any, str, str, Callable[..., None]]] = [
    (
        "the last change of a grant that is forgotten",
        ForgettableReader.needed_changes,
        "needed.append(row.revision)",
        "pass",
        test_the_last_change_of_each_grant_is_kept,
    ),
    (
        "a use whose whole change is forgotten",
        ForgettableReader.needed_changes,
        "needed.append(self._whole_revision(row))",
        "pass",
        test_of_a_grant_that_counts_its_uses_the_last_one_and_the_whole_before_it_are_kept,
    ),
    (
        "a change within the retention that is forgotten",
        ForgettableReader.forgettable_changes,
        "if at < before",
        "",
        test_the_last_change_of_each_grant_is_kept,
    ),
    (
        "a watch from before what was forgotten",
        Forgetting.forget_changes,
        "revision=max(self.grant_beginning.revision, window.revision),",
        "",
        test_a_watch_resumes_from_the_last_forgotten_change_and_not_from_before,
    ),
]


@pytest.mark.parametrize(("name", "function", "sound", "bug", "caught_by"), TWINS, ids=[twin[0] for twin in TWINS])
def test_no_twin_survives(
    name: str,
    function: Any,
    sound: str,
    bug: str,
    caught_by: Callable[..., None],
    store: Store,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    demand_caught(Twin(name, function, sound, bug, lambda: caught_by(store, clock)), monkeypatch)
