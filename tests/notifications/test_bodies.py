"""Bodies of other services, and of templates: valid whatever people wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jit_service.domain.audit.event import EventType
from jit_service.domain.grants.grant import Emergency, event
from jit_service.domain.notification import Message
from jit_service.notifications.receivers import WebhookReceiver
from jit_service.notifications.template import PLACEHOLDERS, read_template
from jit_service.notifications.webhook import Webhook
from tests.conftest import HOUR, NOON
from tests.notifications.chat import demand_valid, secret_file
from tests.notifications.told import CONSOLE, HOSTILE, LINK, NAME, about, approved, asked, decided, pending
from tests.notifications.webhooks import KEY, SECRET, Hook, Received, hook
from tests.storage.people import ALICE

ROUTING_KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def there() -> Iterator[Hook]:
    with hook() as running:
        yield running


def receiver(there: Hook, **changes: Any) -> WebhookReceiver:
    facts = {"name": "oncall", "url": f"http://127.0.0.1:{there.port}/jit-alerts", "allow_private": True}
    return WebhookReceiver.model_validate(facts | changes)


def sent(there: Hook, to: WebhookReceiver, message: Message) -> Received:
    assert Webhook(to, lambda _: b"{}", console=CONSOLE).send(message) is None
    return there.received[-1]


def emergency() -> Message:
    grant = approved(replace(pending(), emergency=Emergency(review_due_at=NOON + HOUR)), at=NOON)
    return about(event(EventType.BREAK_GLASS_USED, grant, by=ALICE, now=NOON, message="fire"), grant=grant)


# PagerDuty


def test_an_emergency_is_an_alert_of_pagerduty(there: Hook, tmp_path: Path) -> None:
    to = receiver(there, format="pagerduty", token_file=secret_file(tmp_path, ROUTING_KEY))

    came = sent(there, to, emergency())

    demand_valid(came.event, "pagerduty_event")
    assert came.event["routing_key"] == ROUTING_KEY
    assert (came.event["event_action"], came.event["dedup_key"]) == ("trigger", NAME)
    assert came.event["payload"]["severity"] == "critical"
    assert came.event["links"][0]["href"] == LINK
    assert "authorization" not in came.headers


def test_what_is_decided_resolves_the_alert_of_the_request(there: Hook, tmp_path: Path) -> None:
    to = receiver(there, format="pagerduty", token_file=secret_file(tmp_path, ROUTING_KEY))

    told = [sent(there, to, message).event for message in (asked(), decided())]

    assert [(each["event_action"], each["dedup_key"]) for each in told] == [("trigger", NAME), ("resolve", NAME)]


# ntfy


def test_ntfy_gets_json_at_its_root_with_the_topic_of_the_url(there: Hook, tmp_path: Path) -> None:
    to = receiver(there, format="ntfy", token_file=secret_file(tmp_path, "tk_hunter2"))

    came = sent(there, to, emergency())

    assert came.path == "/"
    assert came.headers["authorization"] == "Bearer tk_hunter2"
    assert (came.event["topic"], came.event["priority"], came.event["click"]) == ("jit-alerts", 5, LINK)
    assert came.event["title"].startswith("Emergency: alice@example.com took read")
    assert came.event["message"].startswith("the invoices are wrong\n")


@pytest.mark.parametrize("format_", ["pagerduty", "ntfy"])
def test_a_hostile_justification_breaks_out_of_no_format(there: Hook, tmp_path: Path, format_: str) -> None:
    to = receiver(there, format=format_, token_file=secret_file(tmp_path, ROUTING_KEY))

    came = sent(there, to, asked(HOSTILE))

    assert "Bcc: eve" in json.dumps(came.event)
    assert "https://evil" not in came.body.decode()
    assert "\u202e" not in json.dumps(came.event, ensure_ascii=False)


# Templates


def template(directory: Path, text: str, name: str = "body.json") -> str:
    path = directory / name
    path.write_text(text)
    return str(path)


def test_a_json_template_is_filled_in_its_strings(there: Hook, tmp_path: Path) -> None:
    content = {"text": "${title} ${link}", "price": "$$5", "n": [1, True, None, {"k": "$policy"}]}
    to = receiver(there, template=template(tmp_path, json.dumps(content)), token_file=secret_file(tmp_path, "t0"))

    came = sent(there, to, asked())

    assert came.headers["content-type"] == "application/json"
    assert came.headers["authorization"] == "Bearer t0"
    assert came.event == {
        "text": f"alice@example.com asks for read on database/orders/eu {LINK}",
        "price": "$5",
        "n": [1, True, None, {"k": "orders"}],
    }


def test_no_value_ends_a_string_adds_a_key_or_is_a_placeholder(there: Hook, tmp_path: Path) -> None:
    to = receiver(there, template=template(tmp_path, '{"why": "${words}", "admin": false}'))

    came = sent(there, to, asked('", "admin": true, "x": "${link}' + HOSTILE))

    assert list(came.event) == ["why", "admin"]
    assert came.event["admin"] is False
    assert came.event["why"].startswith('", "admin": true, "x": "${link}')


def test_a_value_in_a_text_template_has_one_line(there: Hook, tmp_path: Path) -> None:
    to = receiver(there, template=template(tmp_path, "why: ${words}\nlink: ${link}\n", "body.txt"))

    came = sent(there, to, asked(HOSTILE))

    assert came.headers["content-type"] == "text/plain; charset=utf-8"
    assert len(came.body.decode().splitlines()) == 2
    assert came.body.decode().endswith(f"link: {LINK}\n")


def test_every_placeholder_has_a_value_for_every_message(there: Hook, tmp_path: Path) -> None:
    everything = template(tmp_path, json.dumps({name: f"${{{name}}}" for name in PLACEHOLDERS}))

    values = [sent(there, receiver(there, template=everything), each).event for each in (asked(), emergency())]

    assert all(value for value in values[0].values() if value is not values[0]["until"])
    assert values[0]["who"] == "alice@example.com"
    assert values[1]["until"] == "2026-03-02 13:00 UTC"


def test_a_body_of_ones_own_can_be_signed_too(there: Hook, tmp_path: Path) -> None:
    to = receiver(there, template=template(tmp_path, '{"text": "${title}"}'), secret_file=secret_file(tmp_path, SECRET))

    assert sent(there, to, asked()).is_signed_by(KEY)


def test_a_changed_template_counts_from_the_next_message_on(there: Hook, tmp_path: Path) -> None:
    to = receiver(there, template=template(tmp_path, '{"v": "one"}'))
    first = sent(there, to, asked()).event
    template(tmp_path, '{"v": "second"}')
    second = sent(there, to, asked()).event
    template(tmp_path, "{")

    third = sent(there, to, asked()).event

    assert (first, second, third) == ({"v": "one"}, {"v": "second"}, {"v": "second"})


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        ("{", "a.json", "is not JSON"),
        ('{"a": "${hunter}"}', "a.json", "has ${hunter}; placeholders are id, event"),
        ('{"a": "5 $"}', "a.json", "write $$"),
        ("${title.upper()}", "a.txt", "write $$"),
        ("{{ title }} $title", "a.html", "must be named .json or .txt"),
        ("[" * 60_000, "a.json", "is n"),
        ("x" * 70_000, "a.txt", "longer than 64 KiB"),
    ],
)
def test_a_template_that_is_none_is_told_by_its_fault(tmp_path: Path, text: str, name: str, told: str) -> None:
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(ValueError, match=r"template: ") as refused:
        read_template(path)

    assert told in str(refused.value)
