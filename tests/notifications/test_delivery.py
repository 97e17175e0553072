"""The outbox: what a commit leaves in it is delivered, once in the usual case, and at least once in every other."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jit_service.domain.audit.event import EventType, RecordedEvent
from jit_service.domain.grants.grant import Grant, Justification
from jit_service.domain.notification import Failure, Message, Receipt, Retries, Subscription, interests, seq_of
from jit_service.domain.policies.policy import BreakGlassRule, PrincipalSet
from jit_service.notifications import delivery
from jit_service.notifications.delivery import LEASE, Channel, Deliverer, deliver_next
from jit_service.notifications.webhook import Webhook
from jit_service.rpc.audit_formats.cloudevents import cloud_event
from jit_service.rpc.services.audit_messages import audit_message
from jit_service.runtime import sweeper
from jit_service.storage import Store
from jit_service.storage.outbox import Undelivered
from jit_service.use_cases import audit, grants
from tests.conftest import HOUR, NOON, TICK, Clock
from tests.notifications.webhooks import KEY, SECRET, Hook, hook, receiver
from tests.storage.people import ADMIN, ALICE, BOB, GATEWAY, add_policy, approve, ask

REVIEW_WITHIN = timedelta(hours=2)
RETRIES = Retries(attempts=3, first=timedelta(seconds=5), longest=timedelta(seconds=60))


def everything(*names: str) -> list[Subscription]:
    return [Subscription(receiver=name, interests=interests(["*"])) for name in names]


@pytest.fixture
def open_store(database_url: str, clock: Clock) -> Iterator[Callable[..., Store]]:
    """Opens the same database again and again, as processes do."""
    opened: list[Store] = []

    def open_it(*subscriptions: Subscription) -> Store:
        store = Store(database_url, clock=clock, subscriptions=subscriptions or everything("oncall"))
        opened.append(store)
        return store

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    """A store that tells oncall everything."""
    return open_store()


@pytest.fixture
def there() -> Iterator[Hook]:
    with hook() as running:
        yield running


def channel(there: Hook, directory: Path, name: str = "oncall", **changes: Any) -> Channel:
    """The way to a real receiver."""
    to = receiver(directory, there.url, name=name, **changes)
    return Channel(receiver=name, wire=Webhook(to, encoded), timeout=to.timeout, retries=RETRIES)


def encoded(recorded: RecordedEvent) -> bytes:
    return cloud_event(recorded, source="/test")


class Crash(BaseException):
    """The process ends."""


class Wire:
    """A wire that a test holds in its hand."""

    def __init__(self, *answers: Failure | Receipt | BaseException | None) -> None:
        self._answers = list(answers)
        self.sent: list[Message] = []

    def send(self, message: Message) -> Failure | Receipt | None:
        self.sent.append(message)
        answer = self._answers.pop(0) if self._answers else None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def interrupt(self) -> None:
        """Nothing is under way."""


def by(wire: Wire, name: str = "oncall") -> Channel:
    return Channel(receiver=name, wire=wire, timeout=timedelta(seconds=10), retries=RETRIES)


def drain(store: Store, to: Channel) -> int:
    """Delivers whatever is due. Returns how many attempts that took."""
    count = 0
    while deliver_next(store, to):
        count += 1
    return count


def waiting(store: Store) -> list[Undelivered]:
    return delivery.list_waiting(store)


def recorded(store: Store, type_: EventType) -> list[RecordedEvent]:
    page = audit.list_page(
        store, ADMIN, filter_text=f"event_type = {type_}", order_by="seq", page_size=9, page_token=""
    )
    return list(page.events)


def emergency(store: Store) -> Grant:
    rule = BreakGlassRule(
        eligible=PrincipalSet(groups=("engineering",)), max_duration=HOUR, review_within=REVIEW_WITHIN
    )
    add_policy(store, break_glass=rule)
    return ask(store, break_glass=True, justification=Justification(text="fire"))


# From the commit to the receiver


def test_what_happened_is_told_once(store: Store, there: Hook, tmp_path: Path) -> None:
    to = channel(there, tmp_path)
    emergency(store)

    drain(store, to)
    drain(store, to)

    told = [came.event["type"] for came in there.received]
    assert told == ["jitaccess.v1.POLICY_CREATED", "jitaccess.v1.BREAK_GLASS_USED"]
    assert waiting(store) == []


def test_what_is_told_is_a_cloud_event_of_the_record(store: Store, there: Hook, tmp_path: Path) -> None:
    from google.protobuf.json_format import MessageToDict

    grant = emergency(store)

    drain(store, channel(there, tmp_path))

    came = there.received[-1]
    (record,) = recorded(store, EventType.BREAK_GLASS_USED)
    assert came.event == {
        "specversion": "1.0",
        "id": came.id,
        "source": "/test",
        "type": "jitaccess.v1.BREAK_GLASS_USED",
        "subject": grant.name,
        "time": "2026-03-02T12:00:00Z",
        "datacontenttype": "application/json",
        "data": MessageToDict(audit_message(record)),
    }
    assert came.event["data"]["message"] == "fire"
    assert seq_of(came.id) == record.seq
    assert came.is_signed_by(KEY)


def test_only_who_wants_it_is_told(open_store: Callable[..., Store]) -> None:
    oncall = Subscription(receiver="oncall", interests=interests(["BREAK_GLASS_USED"]))
    chat = Subscription(receiver="chat", interests=interests(["GRANT_REQUESTED:PENDING", "GRANT_APPROVED"]))
    store = open_store(oncall, chat)

    emergency(store)
    approve(store, ask(store))

    told = [(left.receiver, left.type) for left in waiting(store)]
    assert told == [("oncall", "BREAK_GLASS_USED"), ("chat", "GRANT_REQUESTED"), ("chat", "GRANT_APPROVED")]


def test_a_transaction_that_rolls_back_tells_nobody(store: Store) -> None:
    add_policy(store)
    grant = ask(store)
    before = waiting(store)

    with pytest.raises(RuntimeError), store.transaction() as tx:
        tx.save_grant(*_withdrawn(grant))
        raise RuntimeError

    assert waiting(store) == before


def _withdrawn(grant: Grant) -> Any:
    from jit_service.domain.grants import approval

    return approval.withdraw(grant, by=ALICE, comment="", now=NOON)


def test_checks_are_not_told(store: Store) -> None:
    add_policy(store)
    approve(store, ask(store))
    before = waiting(store)

    with store.transaction() as tx:
        from jit_service.domain.audit.event import Event

        tx.record(Event(type=EventType.ACCESS_CHECKED, at=NOON, principal=GATEWAY.principal))

    assert waiting(store) == before


# At least once


def test_a_crash_before_the_delivery_loses_nothing(
    open_store: Callable[..., Store], there: Hook, tmp_path: Path
) -> None:
    add_policy(first := open_store())
    first.close()

    drain(open_store(), channel(there, tmp_path))

    assert [came.event["type"] for came in there.received] == ["jitaccess.v1.POLICY_CREATED"]


def test_a_crash_in_the_attempt_is_followed_by_another_with_the_same_id(
    open_store: Callable[..., Store], clock: Clock
) -> None:
    add_policy(first := open_store())
    crashing, wire = Wire(Crash()), Wire()
    with pytest.raises(Crash):
        deliver_next(first, by(crashing))
    second = open_store()

    # It may still be at it, for all the other knows.
    clock.advance(by(wire).timeout + LEASE - TICK)
    assert not deliver_next(second, by(wire))
    clock.advance(TICK)
    assert deliver_next(second, by(wire))

    assert [message.id for message in wire.sent] == [message.id for message in crashing.sent]
    assert [encoded(message.recorded) for message in wire.sent] == [encoded(crashing.sent[0].recorded)]
    assert waiting(second) == []


def test_what_was_delivered_but_not_recorded_as_such_is_delivered_again_with_the_same_id(
    store: Store, clock: Clock, there: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jit_service.storage.outbox import Outbox

    add_policy(store)
    to = channel(there, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Outbox, "remove", _crash)
        with pytest.raises(Crash):
            deliver_next(store, to)

    clock.advance(to.timeout + LEASE)
    drain(store, to)

    assert len(there.received) == 2
    assert len({came.id for came in there.received}) == 1
    assert waiting(store) == []


def _crash(*_: Any) -> None:
    raise Crash


def test_several_processes_deliver_each_notification_once(
    open_store: Callable[..., Store], there: Hook, tmp_path: Path
) -> None:
    add_policy(first := open_store())
    for _ in range(11):
        ask(first)
    processes = [(open_store(), channel(there, tmp_path)) for _ in range(4)]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda process: drain(*process), processes))

    ids = [came.id for came in there.received]
    assert len(ids) == len(set(ids)) == 12
    assert waiting(first) == []


def test_one_that_was_thought_dead_does_not_undo_what_another_found(store: Store, clock: Clock) -> None:
    add_policy(store)
    with store.outbox() as outbox:
        slow = outbox.claim("oncall", lease=LEASE)
    assert slow is not None
    clock.advance(LEASE)
    with store.outbox() as outbox:
        quick = outbox.claim("oncall", lease=LEASE)
    assert quick is not None

    with store.outbox() as outbox:
        outbox.give_up(slow, "too late")

    (left,) = waiting(store)
    assert (left.gave_up_at, left.fault, left.attempts) == (None, "", 2)


# Failures


def test_a_failure_is_tried_again_later_and_at_last_given_up(
    store: Store, clock: Clock, there: Hook, tmp_path: Path
) -> None:
    there.status = 500
    add_policy(store)
    to = channel(there, tmp_path)
    tried = []

    for _ in range(60):
        if drain(store, to):
            tried.append(clock.now - NOON)
        clock.advance(timedelta(seconds=1))

    assert tried == [timedelta(), timedelta(seconds=5), timedelta(seconds=25)]
    (left,) = waiting(store)
    assert (left.attempts, left.fault, left.gave_up_at) == (3, "it answered 500", NOON + timedelta(seconds=25))
    assert len({came.id for came in there.received}) == 1
    assert delivery.list_waiting(store, only_given_up=True) == [left]


def test_each_attempt_is_signed_anew(store: Store, clock: Clock, there: Hook, tmp_path: Path) -> None:
    there.status = 500
    add_policy(store)
    to = channel(there, tmp_path)
    drain(store, to)
    clock.advance(timedelta(seconds=5))

    drain(store, to)

    first, second = there.received
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) == 5
    assert first.is_signed_by(KEY)
    assert second.is_signed_by(KEY)
    assert first.body == second.body


def test_a_receiver_that_wants_no_more_of_it_is_not_asked_again(
    store: Store, clock: Clock, there: Hook, tmp_path: Path
) -> None:
    there.status = 410
    add_policy(store)
    to = channel(there, tmp_path)
    drain(store, to)
    clock.advance(24 * HOUR)

    assert drain(store, to) == 0
    assert [left.fault for left in waiting(store)] == ["it answered 410"]


def test_one_notification_that_fails_holds_up_no_other_of_its_receiver(store: Store) -> None:
    add_policy(store)
    ask(store)
    wire = Wire(RuntimeError("hunter2"))

    drain(store, by(wire))

    assert len(wire.sent) == 2
    assert [left.fault for left in waiting(store)] == ["a fault of the service; its log has more"]


def test_a_record_that_cannot_be_read_is_given_up_and_holds_up_nothing(sqlite_url: str, clock: Clock) -> None:
    with closing(Store(sqlite_url, clock=clock, subscriptions=everything("oncall"))) as store:
        add_policy(store)
        ask(store)
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection, connection:
            connection.execute("UPDATE audit_event SET payload = 'x' WHERE seq = 1")
        wire = Wire()

        drain(store, by(wire))

        assert [seq_of(message.id) for message in wire.sent] == [2]
        (left,) = delivery.list_waiting(store, only_given_up=True)
        assert "no such record" in left.fault


@pytest.mark.parametrize("how", ["fails", "hangs", "redirects", "refuses"])
def test_a_receiver_that_does_not_take_it_holds_up_no_other(
    open_store: Callable[..., Store], there: Hook, tmp_path: Path, how: str
) -> None:
    store = open_store(*everything("bad", "good"))
    with hook() as bad:
        bad.status = {"fails": 500, "redirects": 307}.get(how, 204)
        bad.location = there.url if how == "redirects" else ""
        if how == "hangs":
            bad.hang()
        to = channel(bad, tmp_path, "bad", timeout=60)
        if how == "refuses":
            to = replace(to, wire=Webhook(receiver(tmp_path, "http://127.0.0.1:9/", name="bad"), encoded))
        deliverers = [Deliverer(store, to), Deliverer(store, channel(there, tmp_path, "good"))]
        for deliverer in deliverers:
            deliverer.start()
        add_policy(store)
        if how != "refuses":
            bad.arrivals.get(timeout=30)

        came = there.arrivals.get(timeout=30)

        for deliverer in deliverers:
            deliverer.stop()
            assert not deliverer.is_alive()
    assert came.event["type"] == "jitaccess.v1.POLICY_CREATED"
    assert [left.receiver for left in waiting(store)] in (["bad"], ["bad", "good"])
    assert len(there.received) == 1


def test_a_commit_waits_for_no_receiver(store: Store, there: Hook, tmp_path: Path) -> None:
    there.hang()
    add_policy(store)
    to = channel(there, tmp_path, timeout=60)
    delivering = threading.Thread(target=deliver_next, args=(store, to))
    delivering.start()
    there.arrivals.get(timeout=30)

    approve(store, ask(store))

    there.released.set()
    delivering.join(30)
    assert [left.type for left in waiting(store)] == ["GRANT_REQUESTED", "GRANT_APPROVED"]


def test_what_has_failed_can_be_tried_again_by_name(open_store: Callable[..., Store], clock: Clock) -> None:
    store = open_store(*everything("chat", "oncall"))
    add_policy(store)
    ask(store)
    for name in ("chat", "oncall"):
        drain(store, by(Wire(*[Failure("it answered 410", final=True)] * 2), name))
    first = waiting(store)[0]

    assert delivery.retry(store, receivers=["oncall"], seqs=[seq_of(first.id)]) == 1
    wire = Wire()
    assert drain(store, by(wire, "oncall")) == 1
    assert [message.id for message in wire.sent] == [first.id]
    assert delivery.retry(store, receivers=["nobody"]) == 0
    assert delivery.retry(store) == 3
    assert drain(store, by(Wire(), "oncall")) == 1
    assert drain(store, by(Wire(), "chat")) == 2
    assert waiting(store) == []


def test_what_was_retried_has_all_its_attempts(store: Store, clock: Clock) -> None:
    add_policy(store)
    drain(store, by(Wire(Failure("x", final=True))))
    delivery.retry(store)

    drain(store, by(Wire(Failure("y"))))

    (left,) = waiting(store)
    assert (left.attempts, left.gave_up_at, left.due_at) == (1, None, clock.now + RETRIES.first)


def test_what_no_configured_receiver_takes_stays(open_store: Callable[..., Store]) -> None:
    add_policy(store := open_store(*everything("removed")))

    assert drain(store, by(Wire(), "oncall")) == 0

    assert [left.receiver for left in waiting(store)] == ["removed"]


def test_no_secret_is_in_the_log_or_the_outbox(
    store: Store, clock: Clock, there: Hook, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    add_policy(store)
    to = channel(there, tmp_path)
    for status in (500, 302, 410):
        there.status = status
        drain(store, to)
        clock.advance(HOUR)
    told = [caplog.text, repr(waiting(store))]
    delivery.retry(store)
    there.status = 204
    drain(store, to)

    told += [caplog.text, *(came.body.decode() for came in there.received)]
    assert "gave up notifying oncall" in caplog.text
    assert "notified oncall of POLICY_CREATED" in caplog.text
    assert not [text for text in told if "hunter2" in text or SECRET in text or "v1," in text]


# Addressees, and their order


def test_each_addressee_has_a_notification_of_its_own(open_store: Callable[..., Store], clock: Clock) -> None:
    """What one of them does not take is tried again for that one alone."""
    (subscription,) = everything("mail")
    store = open_store(replace(subscription, addressees=("alice@example.com", "bob@example.com")))
    add_policy(store)
    wire = Wire(Failure("it answered 450"))

    drain(store, by(wire, "mail"))

    first, second = wire.sent
    assert {first.addressee, second.addressee} == {"alice@example.com", "bob@example.com"}
    assert first.id == second.id
    assert [left.addressee for left in waiting(store)] == [first.addressee]
    clock.advance(RETRIES.first)
    drain(store, by(wire, "mail"))
    assert (wire.sent[2].addressee, waiting(store)) == (first.addressee, [])


def test_what_is_told_of_a_grant_is_told_in_order(store: Store, clock: Clock) -> None:
    add_policy(store)
    drain(store, by(Wire()))
    first = ask(store)
    second = ask(store)
    approve(store, first)
    wire = Wire(Failure("it answered 500"))

    drain(store, by(wire))

    assert _told(wire) == [("GRANT_REQUESTED", first.name), ("GRANT_REQUESTED", second.name)]
    clock.advance(RETRIES.first)
    drain(store, by(wire))
    assert _told(wire)[2:] == [("GRANT_REQUESTED", first.name), ("GRANT_APPROVED", first.name)]
    assert waiting(store) == []


def test_another_process_does_not_overtake_an_attempt_about_the_same_grant(
    open_store: Callable[..., Store], clock: Clock
) -> None:
    add_policy(store := open_store())
    drain(store, by(Wire()))
    approve(store, ask(store))
    with store.outbox() as outbox:
        claim = outbox.claim("oncall", lease=LEASE)
    assert claim is not None

    assert not deliver_next(other := open_store(), by(wire := Wire()))

    with store.outbox() as outbox:
        outbox.remove(claim)
    assert deliver_next(other, by(wire))
    assert [message.recorded.event.type for message in wire.sent] == ["GRANT_APPROVED"]


def test_what_was_given_up_holds_up_nothing_of_its_grant(store: Store) -> None:
    add_policy(store)
    drain(store, by(Wire()))
    approve(store, ask(store))
    wire = Wire(Failure("it answered 410", final=True))

    drain(store, by(wire))

    assert [message.recorded.event.type for message in wire.sent] == ["GRANT_REQUESTED", "GRANT_APPROVED"]


def test_people_are_told_how_the_grant_is_now(store: Store) -> None:
    add_policy(store)
    drain(store, by(Wire()))
    approve(store, ask(store))
    wire = Wire()

    drain(store, replace(by(wire), for_people=True))

    asked, approved = (message.grant for message in wire.sent)
    assert asked is not None
    assert asked == approved
    assert asked.state(NOON) == "ACTIVE"


def test_the_next_message_about_a_grant_comes_with_what_the_receiver_called_the_one_before(store: Store) -> None:
    add_policy(store)
    approve(store, ask(store))
    ask(store)
    wire = Wire(Receipt("policy"), Receipt("first"), Receipt("second"))

    drain(store, by(wire))

    assert [(message.recorded.event.type, message.earlier) for message in wire.sent] == [
        ("POLICY_CREATED", ""),
        ("GRANT_REQUESTED", ""),
        ("GRANT_APPROVED", "first"),
        ("GRANT_REQUESTED", ""),
    ]


def _told(wire: Wire) -> list[tuple[str, str]]:
    return [(message.recorded.event.type.value, message.recorded.event.grant) for message in wire.sent]


# Receivers that are down, or that ask for time


def test_a_receiver_that_asks_for_time_is_sent_nothing_until_then(store: Store, clock: Clock) -> None:
    add_policy(store)
    wire = Wire(Failure("it answered 429", retry_after=timedelta(seconds=30)))
    to = by(wire)
    drain(store, to)
    ask(store)

    clock.advance(timedelta(seconds=30) - TICK)
    assert drain(store, to) == 0
    clock.advance(TICK)
    assert drain(store, to) == 2
    assert waiting(store) == []


def test_a_receiver_cannot_ask_for_more_time_than_its_longest_wait(store: Store, clock: Clock) -> None:
    add_policy(store)
    to = by(Wire(Failure("it answered 503", retry_after=timedelta(days=9))))
    drain(store, to)

    clock.advance(RETRIES.longest)

    assert drain(store, to) == 1


def test_a_receiver_that_is_down_for_an_hour_loses_nothing_and_delays_nobody(
    open_store: Callable[..., Store], clock: Clock
) -> None:
    store = open_store(*everything("down", "up"))
    down, up = Wire(*[Failure("it refused the connection")] * 1000), Wire()
    to_down, to_up = replace(by(down, "down"), retries=Retries()), by(up, "up")
    add_policy(store)
    for _ in range(12):
        approve(store, ask(store))
        drain(store, to_down)
        drain(store, to_up)
        assert [left.receiver for left in waiting(store) if left.receiver == "up"] == []
        clock.advance(timedelta(minutes=5))
    assert len(up.sent) == 25

    back = Wire()
    for _ in range(200):
        drain(store, replace(to_down, wire=back))
        clock.advance(timedelta(minutes=1))

    assert waiting(store) == []
    assert sorted(_told(back)) == sorted(_told(up))
    order = _told(back)
    assert all(
        order.index(("GRANT_REQUESTED", name)) < order.index((type_, name))
        for type_, name in order
        if type_ == "GRANT_APPROVED"
    )


# Overdue reviews


def test_an_overdue_review_is_recorded_and_told_once(store: Store, clock: Clock) -> None:
    grant = emergency(store)
    clock.advance(REVIEW_WITHIN - TICK)
    sweeper.record_run_out(store)
    assert recorded(store, EventType.REVIEW_OVERDUE) == []
    clock.advance(TICK)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: sweeper.record_run_out(store), range(3)))
    clock.advance(HOUR)
    assert sweeper.record_run_out(store) == 0

    (record,) = recorded(store, EventType.REVIEW_OVERDUE)
    assert (record.event.grant, record.event.at) == (grant.name, NOON + REVIEW_WITHIN)
    assert [left.type for left in waiting(store)].count("REVIEW_OVERDUE") == 1
    assert not audit.verify(store).problem


def test_a_review_in_time_is_never_overdue(store: Store, clock: Clock) -> None:
    grant = emergency(store)
    grants.complete_review(store, BOB, grant.name, comment="seen", etag="")
    clock.advance(24 * HOUR)

    sweeper.record_run_out(store)

    assert recorded(store, EventType.REVIEW_OVERDUE) == []


def test_recording_that_a_review_is_overdue_does_not_change_the_grant(store: Store, clock: Clock) -> None:
    name = emergency(store).name
    clock.advance(HOUR)
    sweeper.record_run_out(store)
    before = grants.get(store, ALICE, name).grant
    clock.advance(HOUR)

    sweeper.record_run_out(store)

    assert recorded(store, EventType.REVIEW_OVERDUE)
    assert grants.get(store, ALICE, name).grant == before
