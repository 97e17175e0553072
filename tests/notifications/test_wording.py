"""What people read: a sentence for every event, and no word that deceives."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from jit_service.domain.audit.event import SERVICE, Event, EventType
from jit_service.domain.caller import Caller
from jit_service.domain.grants.grant import Extension, ExtensionState, GrantState, Justification, event
from jit_service.domain.notification import NEVER
from jit_service.notifications.wording import Urgency, notice_of
from tests.conftest import HOUR, NOON
from tests.notifications.told import CONSOLE, HOSTILE, LINK, about, approved, asked, decided, pending, revoked
from tests.storage.people import ALICE, BOB


@pytest.mark.parametrize("type_", [each for each in EventType if each not in NEVER | {EventType.UNREADABLE}])
def test_every_event_has_a_sentence(type_: EventType) -> None:
    grant = approved(pending())
    of_a_grant = event(type_, grant, by=BOB, now=NOON + HOUR / 2, message="")
    bare = Event(type=type_, at=NOON, principal="user:bob@example.com", policy="policies/orders")

    for told in (about(of_a_grant, grant=grant), about(of_a_grant), about(bare)):
        title = notice_of(told, CONSOLE).title
        assert not re.search(r"[{}]|user:|_|  |^ | $", title), title


def test_a_link_is_to_the_grant_and_else_to_the_console() -> None:
    lock = Event(type=EventType.LOCK_CREATED, at=NOON, principal="user:bob@example.com", lock="locks/1")

    assert notice_of(asked(), CONSOLE).link == LINK
    assert notice_of(about(lock), CONSOLE).link == f"{CONSOLE}/console/"


def test_an_approval_that_needs_another_says_so() -> None:
    grant = pending()
    told = about(event(EventType.GRANT_APPROVED, grant, by=BOB, now=NOON, message=""), grant=grant)

    assert "more approvals are needed" in notice_of(told, CONSOLE).title
    assert not notice_of(told, CONSOLE).settled


def test_what_a_rule_gave_asks_nobody() -> None:
    grant = approved(pending(), at=NOON)
    told = about(event(EventType.GRANT_REQUESTED, grant, by=ALICE, now=NOON, message=""), grant=grant)

    notice = notice_of(told, CONSOLE)

    assert notice.title == "alice@example.com has read on database/orders/eu, by policies/orders"
    assert notice.settled


@pytest.mark.parametrize(("decided_at", "settled"), [(NOON, True), (None, False)])
def test_a_request_for_more_time_is_settled_when_it_is_decided(decided_at: object, settled: bool) -> None:
    extension = Extension(
        round=1,
        requester=ALICE.principal,
        requester_groups=ALICE.groups,
        claims={},
        source_address="",
        duration=HOUR,
        justification=Justification(text="not done"),
        created_at=NOON,
        lapses_at=NOON + HOUR,
        expires_at=NOON + HOUR,
        decided=ExtensionState.DENIED if decided_at else None,
    )
    grant = replace(approved(pending(), at=NOON), extension=extension)
    told = about(event(EventType.EXTENSION_REQUESTED, grant, by=ALICE, now=NOON, message="not done"), grant=grant)

    notice = notice_of(told, CONSOLE)

    assert (notice.settled, notice.anew) == (settled, True)
    assert ("DENIED by now" in notice.title) is settled


def test_a_warning_of_the_end_is_not_settled_while_the_grant_lives() -> None:
    grant = approved(pending(), at=NOON)
    told = about(event(EventType.GRANT_EXPIRES_SOON, grant, by=Caller(principal=SERVICE), now=NOON, message="x"))

    living = notice_of(replace(told, grant=grant), CONSOLE)
    over = notice_of(replace(told, grant=grant, at=NOON + HOUR), CONSOLE)

    assert (living.settled, over.settled) == (False, True)
    assert (living.words_label, living.urgency) == ("Note", Urgency.WARNING)


def test_words_lose_what_deceives_and_keep_their_lines() -> None:
    notice = notice_of(asked(HOSTILE), CONSOLE)

    assert "\n" in notice.words
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", notice.words)
    assert not re.search(r"(?i)[a-z]://|www\.[a-z]|javascript:", notice.words)
    assert "https[:]//evil.example" in notice.words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see HTTPS://x.example and wWw.x.example", "see HTTPS[:]//x.example and wWw[.]x.example"),
        ("mailto:eve@x.example tel:110", "mailto[:]eve@x.example tel[:]110"),
        ("ratio 3:4, at 12:30, C:\\temp, foo::bar", "ratio 3:4, at 12:30, C:\\temp, foo::bar"),
        ("a\u200bb\u2066c", "a\\u200bb\\u2066c"),
    ],
)
def test_links_are_broken_and_other_words_stay(text: str, shown: str) -> None:
    assert notice_of(asked(text), CONSOLE).words == shown


def test_who_ended_it_and_why_is_told() -> None:
    grant = revoked(approved(pending()), comment="stolen laptop")
    told = about(event(EventType.GRANT_REVOKED, grant, by=BOB, now=NOON, message="stolen laptop"), grant=grant)

    notice = notice_of(told, CONSOLE)

    assert notice.title == "bob@example.com revoked read on database/orders/eu of alice@example.com"
    assert (notice.words_label, notice.words) == ("bob@example.com says", "stolen laptop")
    assert dict(notice.facts)["Now"] == GrantState.REVOKED
    assert dict(notice.facts)["Ended by"] == "bob@example.com"


def test_long_lists_are_counted() -> None:
    message = decided()
    said = replace(message.recorded.event, resources=tuple(f"database/{n}" for n in range(9)))

    notice = notice_of(replace(message, recorded=replace(message.recorded, event=said)), CONSOLE)

    assert dict(notice.facts)["Opens"] == "database/0, database/1, database/2 and 6 more"
    assert notice.at == NOON + timedelta(minutes=5)
