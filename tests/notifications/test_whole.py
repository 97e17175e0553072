"""The whole service, with people at mailboxes and a group in Slack: who is told what, up to the decision."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from tests.conftest import NOON, Clock
from tests.notifications.chat import TOKEN, Chat, chat, secret_file
from tests.notifications.mail_server import MailServer, mail_server
from tests.world import Grpc, Story, running_world

CONSOLE = "https://console.example.com"
SECONDS = 60


@pytest.fixture
def mailbox() -> Iterator[MailServer]:
    with mail_server() as running:
        yield running


@pytest.fixture
def slack() -> Iterator[Chat]:
    with chat() as running:
        yield running


@pytest.fixture
def story(mailbox: MailServer, slack: Chat, tmp_path: Path) -> Iterator[Story]:
    """A service whose notifications file leads people to their mailboxes and the security people to a channel."""
    local = {"allow_private": True}
    mail = {"name": "mail", "kind": "email", "host": "127.0.0.1", "port": mailbox.port, "tls": "none"}
    bot = {"name": "chat", "kind": "slack", "token_file": secret_file(tmp_path, TOKEN), "api_url": f"{slack.url}/api/"}
    routes = [
        {"receiver": "mail", "principals": ["user:*@example.com"]},
        {"receiver": "chat", "groups": ["security"], "to": ["C0SECURITY"]},
    ]
    file = tmp_path / "notifications.yaml"
    receivers = [mail | local | {"from": "jit@example.com"}, bot | local]
    file.write_text(yaml.safe_dump({"receivers": receivers, "routes": routes}))
    url = f"sqlite:///{tmp_path / 'jit.db'}"
    settings = {"notifications_file": file, "console_url": CONSOLE}
    with running_world(tmp_path, Clock(NOON), url, **settings) as world:
        yield Story(world, Grpc(world))


def links(text: str) -> set[str]:
    return set(re.findall(r"https?://[^\s\"<>|)]+", text))


def test_a_request_reaches_mailbox_and_channel_and_its_decision_the_requester(
    story: Story, mailbox: MailServer, slack: Chat
) -> None:
    bob = story.bob.principal
    story.create_policy(steps=[{"approvers": {"principals": [bob], "groups": ["security"]}}])

    grant = story.asks(justification={"text": "the import failed"})

    link = f"{CONSOLE}/console/{grant.name}"
    assert mailbox.arrivals.get(timeout=SECONDS) == bob.removeprefix("user:")
    asked = slack.arrivals.get(timeout=SECONDS)
    (request,) = mailbox.mails
    plain = request.get_body(("plain",))
    assert plain is not None
    assert links(plain.get_content()) == {link}
    assert "the import failed" in plain.get_content()
    assert asked.path == "/api/chat.postMessage"
    ((where, post),) = slack.posts.items()
    assert links(json.dumps(post)) == {link}
    assert [block["type"] for block in post["blocks"]].count("actions") == 1

    story.approves(story.bob, grant)

    changed = slack.arrivals.get(timeout=SECONDS)
    assert mailbox.arrivals.get(timeout=SECONDS) == story.alice.principal.removeprefix("user:")
    assert (changed.path, (changed.content["channel"], changed.content["ts"])) == ("/api/chat.update", where)
    assert "approved" in slack.posts[where]["text"]
    assert bob.removeprefix("user:") in mailbox.mails[1]["subject"]
    assert "approved" in mailbox.mails[1]["subject"]
    assert mailbox.arrivals.empty()
    assert slack.arrivals.empty()


def test_a_delegate_is_told_of_the_request_by_mail(story: Story, mailbox: MailServer) -> None:
    until = (NOON + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    lent = {"delegate": story.dave.principal, "expire_time": until}
    story.must(story.bob, "/jitaccess.v1.DelegationService/CreateDelegation", {"delegation": lent})
    story.create_policy(steps=[{"approvers": {"groups": [story.owners]}}])

    grant = story.asks()

    to_dave = story.dave.principal.removeprefix("user:")
    assert [mailbox.arrivals.get(timeout=SECONDS) for _ in range(2)] == [to_dave, to_dave]
    plain = mailbox.mails[1].get_body(("plain",))
    assert plain is not None
    assert links(plain.get_content()) == {f"{CONSOLE}/console/{grant.name}"}
