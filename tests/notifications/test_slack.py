"""Slack: a message that is edited when it is decided, within Slack's rules, in which nobody's words mean anything."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jit_service.domain.audit.event import EventType
from jit_service.domain.grants.grant import event
from jit_service.domain.notification import Failure, Message, Receipt, Retries, Subscription, interests
from jit_service.notifications.delivery import Channel, deliver_next, list_waiting
from jit_service.notifications.receivers import SlackReceiver
from jit_service.notifications.slack import Slack
from jit_service.storage import Store
from tests.conftest import NOON, Clock
from tests.notifications.chat import TOKEN, Chat, chat, secret_file
from tests.notifications.told import CONSOLE, HOSTILE, LINK, about, approved, asked, decided, pending, revoked
from tests.notifications.webhooks import hook
from tests.storage.people import BOB, add_policy, approve, ask

CHANNEL = "C0ORDERS"


@pytest.fixture
def slack() -> Iterator[Chat]:
    with chat() as running:
        yield running


def bot(slack: Chat, directory: Path, **changes: Any) -> SlackReceiver:
    facts: dict[str, Any] = {
        "kind": "slack",
        "name": "chat",
        "token_file": secret_file(directory, TOKEN),
        "to": [CHANNEL],
        "api_url": f"{slack.url}/api/",
        "allow_private": True,
    }
    return SlackReceiver.model_validate(facts | changes)


def incoming(slack: Chat, directory: Path) -> SlackReceiver:
    url = secret_file(directory, f"{slack.url}/services/T0/B0/hunter2", "url")
    facts = {"kind": "slack", "name": "chat", "url_file": url, "allow_private": True}
    return SlackReceiver.model_validate(facts)


def sent(to: SlackReceiver, message: Message) -> Receipt:
    outcome = Slack(to, console=CONSOLE).send(message)
    assert isinstance(outcome, Receipt), outcome
    return outcome


def fault(to: SlackReceiver, message: Message) -> Failure:
    outcome = Slack(to, console=CONSOLE).send(message)
    assert isinstance(outcome, Failure), outcome
    return outcome


def shown(content: Any) -> list[str]:
    """Returns every text of a message."""
    found: list[str] = []
    for block in content["blocks"]:
        texts = [block["text"]] if "text" in block else []
        texts += block.get("fields", []) + [element["text"] for element in block.get("elements", [])]
        found += [text["text"] for text in texts]
    return found


def test_a_request_is_posted_with_everything_and_one_button_that_links_to_the_console(
    slack: Chat, tmp_path: Path
) -> None:
    receipt = sent(bot(slack, tmp_path), asked(addressee=CHANNEL))

    ((key, content),) = slack.posts.items()
    assert json.loads(receipt.reference) == {"channel": key[0], "ts": key[1]}
    assert content["text"] == "alice@example.com asks for read on database/orders/eu"
    assert {"the invoices are wrong", "OPS-7", "1h", "orders", "PENDING"} <= set(shown(content))
    buttons = [element for block in content["blocks"] for element in block.get("elements", [])]
    assert [button["url"] for button in buttons] == [LINK]
    assert "value" not in buttons[0]


def test_the_message_is_edited_when_it_is_decided(slack: Chat, tmp_path: Path) -> None:
    to = bot(slack, tmp_path)
    first = sent(to, asked(addressee=CHANNEL))

    second = sent(to, decided("fine", addressee=CHANNEL, earlier=first.reference))

    assert second == first
    ((_, content),) = slack.posts.items()
    assert content["text"].startswith("bob@example.com approved")
    assert "fine" in shown(content)


def test_what_wants_a_look_again_is_a_new_message_and_the_old_one_is_edited_too(slack: Chat, tmp_path: Path) -> None:
    to = bot(slack, tmp_path)
    first = sent(to, decided(addressee=CHANNEL))
    grant = revoked(approved(pending()))
    told = about(event(EventType.GRANT_REVOKED, grant, by=BOB, now=NOON, message="stolen laptop"), grant=grant)

    second = sent(to, replace(told, addressee=CHANNEL, earlier=first.reference))

    assert second != first
    assert [content["text"].split(" read")[0] for content in slack.posts.values()] == ["bob@example.com revoked"] * 2


@pytest.mark.parametrize("code", ["message_not_found", "cant_update_message", "edit_window_closed"])
def test_a_message_that_nobody_can_edit_any_more_is_followed_by_another(slack: Chat, tmp_path: Path, code: str) -> None:
    slack.errs(code)

    sent(bot(slack, tmp_path), decided(addressee=CHANNEL, earlier='{"channel":"C1","ts":"1700000000.000001"}'))

    assert [call.path for call in slack.calls] == ["/api/chat.update", "/api/chat.postMessage"]


def test_a_reference_that_is_none_is_no_fault(slack: Chat, tmp_path: Path) -> None:
    for earlier in ("hunter2", "[]", '{"channel":1}'):
        sent(bot(slack, tmp_path), decided(addressee=CHANNEL, earlier=earlier))

    assert len(slack.posts) == 3


def test_a_person_is_found_by_the_mail_address_once(slack: Chat, tmp_path: Path) -> None:
    slack.people["bob@example.com"] = "U0BOB"
    wire = Slack(bot(slack, tmp_path), console=CONSOLE)

    for addressee in ("user:bob@example.com", "bob@example.com"):
        assert isinstance(wire.send(asked(addressee=addressee)), Receipt)

    assert [call.path for call in slack.calls].count("/api/users.lookupByEmail") == 1
    assert [content["channel"] for content in slack.posts.values()] == ["U0BOB", "U0BOB"]
    assert fault(bot(slack, tmp_path), asked(addressee="eve@example.com")) == Failure(
        "Slack answered users_not_found", final=True
    )


def test_an_incoming_webhook_has_its_channel(slack: Chat, tmp_path: Path) -> None:
    assert Slack(incoming(slack, tmp_path), console=CONSOLE).send(asked()) is None

    (call,) = slack.calls
    assert call.path == "/services/T0/B0/hunter2"
    assert "channel" not in call.content
    assert "authorization" not in call.headers


def test_a_hostile_justification_mentions_and_links_nobody(slack: Chat, tmp_path: Path) -> None:
    sent(bot(slack, tmp_path), asked(HOSTILE, addressee=CHANNEL))

    ((_, content),) = slack.posts.items()
    holding = [text for text in texts_of(content) if "<!channel>" in text["text"]]
    assert [text["type"] for text in holding] == ["plain_text"]
    assert "https://evil" not in json.dumps(content)
    assert "\u202e" not in holding[0]["text"]
    mrkdwn = {text["text"] for text in texts_of(content) if text["type"] == "mrkdwn"}
    assert all(text.strip("*").replace(" ", "").isalpha() for text in mrkdwn)


def texts_of(content: Any) -> list[Any]:
    found = []
    for block in content["blocks"]:
        found += [block["text"]] if "text" in block else []
        found += block.get("fields", [])
    return found


def test_a_name_in_the_title_is_escaped_where_slack_parses_it(slack: Chat, tmp_path: Path) -> None:
    message = asked(addressee=CHANNEL)
    said = replace(message.recorded.event, resources=("database/<!channel>&",))

    sent(bot(slack, tmp_path), replace(message, recorded=replace(message.recorded, event=said)))

    ((_, content),) = slack.posts.items()
    assert content["text"].endswith("database/&lt;!channel&gt;&amp;")
    assert content["blocks"][0]["text"]["text"].endswith("database/<!channel>&")


def test_the_longest_of_everything_is_within_slacks_rules(slack: Chat, tmp_path: Path) -> None:
    message = asked("x" * 4096, addressee=CHANNEL)
    said = replace(message.recorded.event, resources=("database/" + "r" * 1015,) * 20, actions=("a" * 256,) * 20)

    sent(bot(slack, tmp_path), replace(message, recorded=replace(message.recorded, event=said)))


# Answers


@pytest.mark.parametrize(
    ("code", "told", "final"),
    [
        ("invalid_auth", "Slack answered invalid_auth", False),
        ("channel_not_found", "Slack answered channel_not_found", False),
        ("invalid_blocks", "Slack answered invalid_blocks", True),
        ("hunter2 in a word of its own", "Slack answered an error", False),
    ],
)
def test_slacks_no_is_told_by_slacks_own_words_alone(
    slack: Chat, tmp_path: Path, code: str, told: str, final: bool
) -> None:
    slack.errs(code)

    assert fault(bot(slack, tmp_path), asked(addressee=CHANNEL)) == Failure(told, final=final)


def test_a_rate_limit_is_heeded(slack: Chat, tmp_path: Path) -> None:
    slack.answers.append((429, {"Retry-After": "30"}, b'{"ok":false,"error":"ratelimited"}'))

    assert fault(bot(slack, tmp_path), asked(addressee=CHANNEL)) == Failure(
        "it answered 429", retry_after=timedelta(seconds=30)
    )


@pytest.mark.parametrize("answer", [b"", b"[]", b"<html>hunter2", b"[" * 100_000])
def test_an_answer_that_is_not_slacks_is_a_failure(slack: Chat, tmp_path: Path, answer: bytes) -> None:
    slack.answers.append((200, {}, answer))

    assert fault(bot(slack, tmp_path), asked(addressee=CHANNEL)) == Failure("its answer is not Slack's")


@pytest.mark.parametrize(
    "place", [{}, {"channel": 7, "ts": []}, {"channel": "C1", "ts": "x" * 9999}, {"channel": "<!channel>", "ts": "1.1"}]
)
def test_a_message_without_a_proper_name_is_taken_and_never_edited(
    slack: Chat, tmp_path: Path, place: dict[str, Any]
) -> None:
    slack.answers.append((200, {}, json.dumps({"ok": True} | place).encode()))
    to = bot(slack, tmp_path)

    receipt = sent(to, asked(addressee=CHANNEL))

    assert receipt == Receipt("")
    sent(to, decided(addressee=CHANNEL, earlier=receipt.reference))
    assert [call.path for call in slack.calls] == ["/api/chat.postMessage"] * 2


def test_an_answer_that_is_late_or_leads_elsewhere_is_none(tmp_path: Path) -> None:
    with hook() as late:
        late.hang()
        to = SlackReceiver.model_validate(
            {
                "kind": "slack",
                "name": "chat",
                "token_file": secret_file(tmp_path, TOKEN),
                "to": [CHANNEL],
                "api_url": f"http://127.0.0.1:{late.port}/api/",
                "allow_private": True,
                "timeout": 1,
            }
        )
        assert fault(to, asked(addressee=CHANNEL)) == Failure("no answer within 1 s")
        late.released.set()
        late.status, late.location = 302, "https://evil.example/"

        assert fault(to, asked(addressee=CHANNEL)).fault == "it answered 302, and redirects are not followed"


def test_no_secret_is_told(slack: Chat, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    slack.answers += [(500, {}, TOKEN.encode()), (403, {}, b"hunter2")]
    told = [fault(bot(slack, tmp_path), asked(addressee=CHANNEL)).fault]
    webhook = incoming(slack, tmp_path)
    outcome = Slack(webhook, console=CONSOLE).send(asked())

    told += [str(outcome), repr(bot(slack, tmp_path)), repr(webhook), caplog.text]
    assert "hunter2" not in " ".join(told)


def test_a_changed_token_counts_from_the_next_message_on(slack: Chat, tmp_path: Path) -> None:
    to = bot(slack, tmp_path, token_file=secret_file(tmp_path, "xoxb-old", "token"))
    assert fault(to, asked(addressee=CHANNEL)).fault == "Slack answered invalid_auth"

    secret_file(tmp_path, TOKEN, "token")

    sent(to, asked(addressee=CHANNEL))


# From the commit to Slack


@pytest.fixture
def open_store(database_url: str, clock: Clock) -> Iterator[Callable[..., Store]]:
    opened: list[Store] = []

    def open_it(*subscriptions: Subscription) -> Store:
        opened.append(Store(database_url, clock=clock, subscriptions=subscriptions))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


def test_a_request_that_is_decided_while_slack_is_down_is_one_message_that_does_not_ask(
    open_store: Callable[..., Store], clock: Clock, slack: Chat, tmp_path: Path
) -> None:
    to = bot(slack, tmp_path)
    wanted = interests(["GRANT_REQUESTED", "GRANT_APPROVED"])
    store = open_store(Subscription(receiver="chat", interests=wanted, addressees=to.addressees))
    wire = Slack(to, console=CONSOLE)
    channel = Channel(receiver="chat", wire=wire, timeout=to.timeout, retries=Retries(), for_people=True)
    slack.answers += [(503, {"Retry-After": "1800"}, b"")]
    add_policy(store)
    grant = ask(store)
    assert deliver_next(store, channel)
    approve(store, grant)
    assert not deliver_next(store, channel)
    clock.advance(timedelta(minutes=30))

    while deliver_next(store, channel):
        pass

    assert list_waiting(store) == []
    assert [call.path for call in slack.calls] == ["/api/chat.postMessage"] * 2 + ["/api/chat.update"]
    ((_, content),) = slack.posts.items()
    assert slack.calls[1].content["text"] == (
        "alice@example.com had asked for read on database/orders/eu; it is ACTIVE by now"
    )
    assert content["text"].startswith("bob@example.com approved")
