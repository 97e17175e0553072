"""Teams: an Adaptive Card, within the schema, in which nobody's words mean anything."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jit_service.domain.notification import Failure, Message
from jit_service.notifications.receivers import TeamsReceiver
from jit_service.notifications.teams import Teams
from tests.notifications.chat import LARGEST_CARD, Chat, chat, secret_file
from tests.notifications.told import CONSOLE, HOSTILE, LINK, asked, decided


@pytest.fixture
def teams() -> Iterator[Chat]:
    with chat() as running:
        yield running


def receiver(teams: Chat, directory: Path) -> TeamsReceiver:
    url = secret_file(directory, f"{teams.url}/workflows/7/triggers/manual/paths/invoke?sig=hunter2")
    return TeamsReceiver.model_validate({"kind": "teams", "name": "teams", "url_file": url, "allow_private": True})


def sent(teams: Chat, directory: Path, message: Message) -> Failure | None:
    return Teams(receiver(teams, directory), console=CONSOLE).send(message)


def runs_of(content: Any) -> list[str]:
    card = content["attachments"][0]["content"]
    return [run["text"] for line in card["body"] for run in line["inlines"]]


def test_a_request_is_a_card_with_everything_and_one_link(teams: Chat, tmp_path: Path) -> None:
    assert sent(teams, tmp_path, asked()) is None

    (call,) = teams.calls
    assert call.path.endswith("?sig=hunter2")
    runs = [run.removeprefix("step 1 of 1: ") for run in runs_of(call.content)]
    assert runs[0] == "alice@example.com asks for read on database/orders/eu"
    assert {"the invoices are wrong", "OPS-7", "the owners of orders"} <= set(runs)
    assert [action["url"] for action in call.content["attachments"][0]["content"]["actions"]] == [LINK]


def test_a_decision_is_a_card_of_its_own(teams: Chat, tmp_path: Path) -> None:
    sent(teams, tmp_path, asked())
    sent(teams, tmp_path, decided("fine"))

    assert runs_of(teams.calls[1].content)[0].startswith("bob@example.com approved")


def test_a_hostile_justification_of_the_longest_is_text_and_the_card_is_small_enough(
    teams: Chat, tmp_path: Path
) -> None:
    assert sent(teams, tmp_path, asked((HOSTILE * 20)[:4096])) is None

    (call,) = teams.calls
    assert "https://evil" not in json.dumps(call.content)
    assert "\u202e" not in "".join(runs_of(call.content))
    assert len(json.dumps(call.content)) < LARGEST_CARD


def test_what_teams_answers_is_told_by_its_status_and_no_secret_is(
    teams: Chat, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    teams.answers += [(429, {"Retry-After": "7"}, b"hunter2"), (400, {}, b"hunter2"), (302, {"Location": "/x"}, b"")]

    told = [sent(teams, tmp_path, asked()) for _ in range(3)]

    assert told[0] == Failure("it answered 429", retry_after=timedelta(seconds=7))
    assert told[1] == Failure("it answered 400")
    assert told[2] == Failure("it answered 302, and redirects are not followed")
    assert "hunter2" not in repr(told) + caplog.text + repr(receiver(teams, tmp_path))
