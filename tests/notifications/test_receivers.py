"""The receivers of the settings: what is wrong with one is told at the start, without what may be secret."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from jit_service.domain.audit.event import Event, EventType
from jit_service.notifications.receivers import EmailReceiver
from jit_service.runtime.channels import channels_of
from jit_service.settings import Settings, SettingsError
from tests.conftest import NOON
from tests.notifications.chat import secret_file
from tests.notifications.webhooks import KEY, SECRET, facts

URL = "https://hooks.example.com/hunter2"


def loaded(directory: Path, *receivers: dict[str, Any]) -> Settings:
    """Returns the settings with the receivers from a file."""
    path = directory / "notifications.yaml"
    path.write_text(yaml.safe_dump(list(receivers)))
    return Settings.load(notifications_file=path)


def fault(directory: Path, *receivers: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as refused:
        loaded(directory, *receivers)
    message = str(refused.value)
    assert "\n" not in message
    assert "hunter2" not in message
    assert SECRET not in message
    return message


def test_a_receiver_needs_a_name_a_url_and_a_secret_and_has_defaults_for_the_rest(tmp_path: Path) -> None:
    given = facts(tmp_path, URL)
    (receiver,) = loaded(tmp_path, {key: given[key] for key in ("name", "url", "secret_file")}).notifications

    assert receiver.keys == (KEY,)
    assert (receiver.timeout, receiver.attempts, receiver.allow_private) == (timedelta(seconds=10), 12, False)
    assert receiver.subscription.wants(Event(type=EventType.BREAK_GLASS_USED, at=NOON, principal="user:alice"))
    for name in ("url", "secret_file", "name"):
        assert name in fault(tmp_path, {key: value for key, value in given.items() if key != name})


def test_what_is_given_counts(tmp_path: Path) -> None:
    changes = {"timeout": 3, "attempts": 2, "first_retry": 1, "longest_retry": 9, "events": ["GRANT_DENIED"]}

    (receiver,) = loaded(tmp_path, facts(tmp_path, URL, **changes)).notifications

    assert receiver.timeout == timedelta(seconds=3)
    assert (receiver.retries.attempts, receiver.retries.first.seconds, receiver.retries.longest.seconds) == (2, 1, 9)
    assert {interest.type for interest in receiver.subscription.interests} == {EventType.GRANT_DENIED}


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://hooks.example.com/hunter2", "hooks.example.com/hunter2", "https:///hunter2", "https://"),
        *("https://user:hunter2@hooks.example.com/", "https://hooks.example.com/#hunter2", "https://h/hunter2 x"),
        *("https://h/hünter2", "https://h:99999/hunter2", "https://h:x/hunter2", "https://h:0/", "https://h/\r\nx: y"),
        *("http://hooks.example.com/hunter2", "http://10.0.0.1/hunter2", "http://127.0.0.1.example.com/hunter2"),
        *("http://[fd00::1]/hunter2", "https://169.254.169.254/hunter2", "https://[64:ff9b::a9fe:a9fe]/hunter2"),
        *("https://0.0.0.0/hunter2", "https://[::ffff:169.254.169.254]/hunter2", "https://" + "h" * 3000),
    ],
)
def test_a_url_that_nothing_should_be_sent_to_is_refused(tmp_path: Path, url: str) -> None:
    assert "JIT_NOTIFICATIONS[0]" in fault(tmp_path, facts(tmp_path, url))


@pytest.mark.parametrize("url", ["https://127.0.0.1/x", "http://[::1]/x", "https://10.0.0.1/x", "https://[fd00::1]/x"])
def test_a_private_address_must_be_meant(tmp_path: Path, url: str) -> None:
    assert "allow_private" in fault(tmp_path, facts(tmp_path, url, allow_private=False))
    assert loaded(tmp_path, facts(tmp_path, url, allow_private=True)).notifications


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"events": ["ACCESS_CHECKED"]}, "events"),
        ({"events": ["break_glass"]}, "events"),
        ({"events": []}, "events"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": 61}, "timeout"),
        ({"attempts": 0}, "attempts"),
        ({"attempts": 101}, "attempts"),
        ({"first_retry": 0}, "first_retry"),
        ({"first_retry": 10, "longest_retry": 9}, "longest_retry"),
        ({"name": "On Call"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"secret": "hunter2"}, "secret"),
        ({"header": {"authorization": "hunter2"}}, "header"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    assert named in fault(tmp_path, facts(tmp_path, URL, **changes))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hunter2",
        b"whsec_",
        b"whsec_hunter2!",
        SECRET.removeprefix("whsec_").encode(),
        b"whsec_" + base64.b64encode(bytes(23)),
        b"whsec_" + base64.b64encode(bytes(65)),
        SECRET.encode() + b"\nhunter2",
        b"\xff\xfe",
    ],
)
def test_a_secret_that_is_none_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad"
    path.touch(mode=0o600)
    path.write_bytes(content)

    assert str(path) in fault(tmp_path, facts(tmp_path, URL, secret_file=str(path)))


def test_a_secret_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "cannot be read" in fault(tmp_path, facts(tmp_path, URL, secret_file=str(tmp_path / "none")))


def test_a_name_is_one_receivers(tmp_path: Path) -> None:
    assert "twice" in fault(tmp_path, facts(tmp_path, URL), facts(tmp_path, URL))


@pytest.mark.parametrize("content", ["a: b", "- [", "hunter2: [", "'"])
def test_a_file_that_holds_no_list_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notifications.yaml"
    path.write_text(content)

    with pytest.raises(SettingsError, match="JIT_NOTIFICATIONS_FILE") as refused:
        Settings.load(notifications_file=path)

    assert "hunter2" not in str(refused.value)


def test_the_environment_names_the_file_or_holds_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(tmp_path, facts(tmp_path, URL))
    monkeypatch.setenv("JIT_NOTIFICATIONS_FILE", str(tmp_path / "notifications.yaml"))
    monkeypatch.setenv("JIT_NOTIFICATIONS", json.dumps([facts(tmp_path, URL, name="chat")]))

    assert [receiver.name for receiver in Settings.load().notifications] == ["chat", "oncall"]


def test_a_ca_file_that_is_none_is_told_at_the_start(tmp_path: Path) -> None:
    settings = loaded(tmp_path, facts(tmp_path, URL, ca_file=str(tmp_path / "none.pem")))

    with pytest.raises(SettingsError, match=r"oncall.*ca_file"):
        channels_of(settings)


def test_no_representation_holds_a_secret(tmp_path: Path) -> None:
    settings = loaded(tmp_path, facts(tmp_path, URL))

    assert "hunter2" not in repr(settings)
    assert repr(KEY) not in repr(settings)


def test_the_product_opens_no_store_without_its_subscriptions() -> None:
    """A process that wrote with a store of its own would tell nobody."""
    import jit_service

    root = Path(jit_service.__file__).parent
    opening = [
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if " Store(" in line.replace("(Store(", "( Store(")
    ]

    assert opening == ["runtime/service.py"]


# Other kinds


def mail_facts(**changes: Any) -> dict[str, Any]:
    facts = {"kind": "email", "name": "mail", "host": "mail.example.com", "from": "jit@example.com"}
    return facts | {"to": ["bob@example.com", "user:carol@example.com"]} | changes


def test_a_mail_server_needs_little_and_each_address_is_told_once(tmp_path: Path) -> None:
    (receiver,) = loaded(
        tmp_path, mail_facts(to=["bob@example.com", "user:bob@example.com", "c@example.com"])
    ).notifications

    assert isinstance(receiver, EmailReceiver)
    assert (receiver.tls, receiver.smtp_port) == ("starttls", 587)
    assert receiver.subscription.addressees == ("bob@example.com", "c@example.com")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tls": "none"}, "host: must be encrypted"),
        ({"tls": "maybe"}, "[0].tls: must be"),
        ({"host": "mail.example.com:25"}, "[0].host"),
        ({"host": "10.0.0.1"}, "allow_private"),
        ({"host": "169.254.169.254", "allow_private": True}, "host"),
        ({"from": "jit@example.com\r\nBcc: eve@example.com"}, "[0].from"),
        ({"from_name": "a\r\nb"}, "[0].from_name"),
        ({"to": ["bob"]}, "[0].to"),
        ({"user": "jit"}, "password_file"),
        ({"unsubscribe": "javascript:alert(1)"}, "[0].unsubscribe"),
        ({"unsubscribe": "https://x.example/>, <https://evil.example"}, "[0].unsubscribe"),
        ({"url": "https://hooks.example.com/hunter2"}, "[0].url: is no key here"),
        ({"proxy": "https://proxy.internal"}, "[0].proxy: must be http://HOST:PORT"),
        ({"proxy": "http://jit:hunter2@proxy.internal:3128"}, "proxy_credentials_file"),
        ({"proxy_resolves": True}, "proxy is missing"),
        ({"kind": "carrier-pigeon"}, "kind must be one of webhook, email, slack, teams"),
    ],
)
def test_what_is_wrong_with_a_mail_server_is_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    assert named in fault(tmp_path, mail_facts(**changes))


def test_slack_has_a_bot_or_a_webhook_and_not_both(tmp_path: Path) -> None:
    token, url = secret_file(tmp_path, "xoxb-hunter2", "t"), secret_file(tmp_path, URL, "u")
    slack = {"kind": "slack", "name": "chat"}

    loaded(tmp_path, slack | {"token_file": token, "to": ["C0ORDERS", "#orders", "bob@example.com"]})
    loaded(tmp_path, slack | {"url_file": url})

    assert "and not both" in fault(tmp_path, slack | {"token_file": token, "url_file": url})
    assert "and not both" in fault(tmp_path, slack)
    assert "has its channel already" in fault(tmp_path, slack | {"url_file": url, "to": ["C0ORDERS"]})
    assert "[0].to" in fault(tmp_path, slack | {"token_file": token, "to": ["<!channel>"]})


@pytest.mark.parametrize("kind", ["slack", "teams"])
@pytest.mark.parametrize(
    "url", ["http://hooks.example.com/hunter2", "https://10.0.0.1/hunter2", "https://u:hunter2@h/", "hunter2", "a b"]
)
def test_a_url_in_a_file_is_judged_as_one_in_the_settings(tmp_path: Path, kind: str, url: str) -> None:
    given = {"kind": kind, "name": "chat", "url_file": secret_file(tmp_path, url, "u")}

    assert "url_file" in fault(tmp_path, given)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"format": "pagerduty"}, "token_file: is missing"),
        ({"format": "fax"}, "[0].format: must be"),
        ({"format": "ntfy", "url": "https://ntfy.example.com/"}, "url: must end with the topic"),
        ({"format": "ntfy", "template": "x.json"}, "exclude each other"),
        ({"template": "/nowhere/x.json"}, "template: /nowhere/x.json cannot be read"),
    ],
)
def test_what_is_wrong_with_a_format_is_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    assert named in fault(tmp_path, facts(tmp_path, URL) | changes)


def test_a_routing_key_that_is_none_is_not_shown(tmp_path: Path) -> None:
    given = {"format": "pagerduty", "token_file": secret_file(tmp_path, "hunter2", "k")}

    assert "32 letters and digits" in fault(tmp_path, facts(tmp_path, URL, **given))


def test_each_kind_has_its_wire_and_only_cloud_events_do_without_the_grant(tmp_path: Path) -> None:
    url = secret_file(tmp_path, "https://hooks.example.com/x", "u")
    settings = loaded(
        tmp_path,
        facts(tmp_path, URL),
        mail_facts(),
        {"kind": "slack", "name": "chat", "url_file": url},
        {"kind": "teams", "name": "teams", "url_file": url},
        facts(tmp_path, URL, name="push", format="ntfy"),
    )

    channels = channels_of(settings)

    assert [type(channel.wire).__name__ for channel in channels] == ["Webhook", "Mail", "Slack", "Teams", "Webhook"]
    assert [channel.for_people for channel in channels] == [False, True, True, True, True]


def test_settings_are_given_on_to_workers_whole(tmp_path: Path) -> None:
    (tmp_path / "n.yaml").write_text(
        yaml.safe_dump([mail_facts(proxy="http://proxy.internal:3128", from_name="Access")])
    )
    settings = Settings.load(
        notifications=[mail_facts(name="other", from_name="A")], notifications_file=tmp_path / "n.yaml"
    )

    again = Settings.load(**settings.as_given)

    assert again.notifications == settings.notifications


def test_the_link_is_below_the_console_then_the_public_url_then_the_edge() -> None:
    assert Settings.load().console == "http://127.0.0.1:8080"
    assert Settings.load(public_url="https://jit.example.com").console == "https://jit.example.com"
    both = Settings.load(public_url="https://jit.example.com", console_url="https://console.example.com")
    assert both.console == "https://console.example.com"
