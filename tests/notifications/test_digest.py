"""Digests: what waits for one addressee at the same time is one message, unless it must not drown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from jit_service.domain.grants.grant import Justification
from jit_service.domain.notification import CROWD, LARGEST_CROWD, Failure, Message, Retries, Subscription, interests
from jit_service.domain.policies.policy import BreakGlassRule, PrincipalSet
from jit_service.notifications.delivery import Channel, deliver_next, list_waiting
from jit_service.notifications.mail import text_of
from jit_service.notifications.wording import Urgency, notice_of
from jit_service.storage import Store
from jit_service.use_cases import grants
from tests.conftest import HOUR, Clock
from tests.notifications.told import CONSOLE
from tests.storage.people import ALICE, add_policy, approve, ask

WANTED = ["GRANT_REQUESTED:PENDING", "GRANT_APPROVED", "BREAK_GLASS_USED"]


@dataclass
class Recording:
    """A wire that keeps what it is given, and answers as it is told to."""

    answer: Failure | None = None
    sent: list[Message] = field(default_factory=list)

    def send(self, message: Message) -> Failure | None:
        self.sent.append(message)
        return self.answer

    def interrupt(self) -> None:
        raise AssertionError


@pytest.fixture
def wire() -> Recording:
    return Recording()


@pytest.fixture
def store(database_url: str, clock: Clock) -> Iterator[Store]:
    people = ("bob@example.com", "erin@example.com")
    wants = Subscription(receiver="mail", interests=interests(WANTED), addressees=people)
    store = Store(database_url, clock=clock, subscriptions=[wants])
    glass = BreakGlassRule(eligible=PrincipalSet(groups=("engineering",)), max_duration=HOUR, review_within=HOUR)
    add_policy(store, break_glass=glass)
    yield store
    store.close()


def drain(store: Store, wire: Recording, *, digests: bool = True) -> dict[str, list[int]]:
    """Delivers all that is due. Returns by addressee how many each message told of."""
    channel = Channel(
        receiver="mail", wire=wire, timeout=timedelta(seconds=5), retries=Retries(), for_people=True, digests=digests
    )
    wire.sent.clear()
    while deliver_next(store, channel):
        pass
    told: dict[str, list[int]] = {}
    for message in wire.sent:
        told.setdefault(message.addressee, []).append(1 + len(message.crowd))
    return told


def test_a_crowd_is_one_message_for_each_addressee(store: Store, wire: Recording) -> None:
    for _ in range(CROWD):
        ask(store)

    assert drain(store, wire) == {"bob@example.com": [CROWD], "erin@example.com": [CROWD]}
    assert list_waiting(store) == []


def test_fewer_come_one_by_one_and_so_does_everything_where_messages_are_edited(store: Store, wire: Recording) -> None:
    for _ in range(CROWD - 1):
        ask(store)
    assert drain(store, wire)["bob@example.com"] == [1] * (CROWD - 1)
    for _ in range(CROWD):
        ask(store)

    assert drain(store, wire, digests=False)["bob@example.com"] == [1] * CROWD


def test_a_digest_is_bounded(store: Store, wire: Recording) -> None:
    for number in range(LARGEST_CROWD + 1):
        ask(store, caller=ALICE._replace(principal=f"user:p{number}@example.com"))

    assert drain(store, wire)["erin@example.com"] == [LARGEST_CROWD, 1]


def test_a_digest_has_one_message_of_a_grant_and_the_next_comes_after_it(store: Store, wire: Recording) -> None:
    first = [ask(store) for _ in range(CROWD)]
    approve(store, first[0])

    assert drain(store, wire)["bob@example.com"] == [CROWD, 1]
    assert wire.sent[-1].recorded.event.type == "GRANT_APPROVED"


def test_an_emergency_does_not_drown(store: Store, wire: Recording) -> None:
    for _ in range(CROWD):
        ask(store)
    ask(store, break_glass=True, duration=HOUR, justification=Justification(text="fire"))

    assert sorted(drain(store, wire)["bob@example.com"]) == [1, CROWD]
    alone = next(message for message in wire.sent if not message.crowd)
    assert alone.recorded.event.type == "BREAK_GLASS_USED"


def test_a_digest_that_fails_is_tried_again_whole(store: Store, wire: Recording, clock: Clock) -> None:
    for _ in range(CROWD):
        ask(store)
    wire.answer = Failure("the server is down")
    drain(store, wire)
    assert {(left.attempts, left.fault) for left in list_waiting(store)} == {(1, "the server is down")}
    wire.answer = None
    clock.advance(timedelta(seconds=5))

    assert drain(store, wire)["bob@example.com"] == [CROWD]
    assert list_waiting(store) == []


def test_a_digest_has_a_line_for_each_and_one_link(store: Store, wire: Recording) -> None:
    asked = [ask(store, resource=f"database/orders/r{number}") for number in range(CROWD)]
    grants.withdraw(store, ALICE, asked[0].name, comment="", etag="")
    drain(store, wire)

    notice = notice_of(wire.sent[0], CONSOLE)

    assert (notice.title, notice.urgency) == ("5 messages about access", Urgency.INFO)
    assert [line.split("database/")[1] for line in notice.words.split("\n")] == [
        "orders/r0; it is WITHDRAWN by now",
        *(f"orders/r{number}" for number in range(1, CROWD)),
    ]
    text = text_of(notice)
    assert text.count("https://") == 1
    assert f"{CONSOLE}/console/\n" in text
