"""The bodies of webhooks: CloudEvents, those that well-known services want, and those of a template."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from jit_service.domain.audit.event import RecordedEvent
from jit_service.domain.notification import Message
from jit_service.notifications.receivers import Format, WebhookReceiver
from jit_service.notifications.wording import Notice, Urgency, notice_of

Encode = Callable[[RecordedEvent], bytes]
CLOUD_EVENT: Final = "application/cloudevents+json; charset=utf-8"
_PRIORITY: Final = {Urgency.INFO: 3, Urgency.WARNING: 4, Urgency.CRITICAL: 5}
_LONGEST_SUMMARY: Final = 1024
"""Characters of PagerDuty's summary; wording.py makes shorter ones."""


@dataclass(frozen=True, kw_only=True)
class Body:
    """What is posted, and where to."""

    url: str
    content: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


def body_of(receiver: WebhookReceiver, message: Message, *, encode: Encode, console: str) -> Body:
    """Returns the body that the receiver wants."""
    template = receiver.own_template
    authorization = {"authorization": f"Bearer {receiver.token}"} if receiver.token else {}
    if template is not None:
        content = template.body(notice_of(message, console))
        return Body(url=receiver.url, content=content, content_type=template.content_type, headers=authorization)
    if receiver.format is Format.PAGERDUTY:
        return _json(receiver.url, _pagerduty(notice_of(message, console), receiver.token))
    if receiver.format is Format.NTFY:
        url, topic = _root_and_topic(receiver.url)
        return _json(url, _ntfy(notice_of(message, console), topic), authorization)
    content = encode(message.recorded)
    return Body(url=receiver.url, content=content, content_type=CLOUD_EVENT, headers=authorization)


def _json(url: str, content: Any, headers: Mapping[str, str] | None = None) -> Body:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Body(url=url, content=text.encode(), content_type="application/json", headers=headers or {})


def _pagerduty(notice: Notice, routing_key: str) -> dict[str, Any]:
    """An event of PagerDuty's Events API v2. One grant is one alert, which is resolved when nobody is waited for."""
    severity = {Urgency.INFO: "info", Urgency.WARNING: "warning", Urgency.CRITICAL: "critical"}[notice.urgency]
    return {
        "routing_key": routing_key,
        "event_action": "resolve" if notice.settled else "trigger",
        "dedup_key": notice.about,
        "payload": {
            "summary": notice.title[:_LONGEST_SUMMARY],
            "source": "jit-service",
            "severity": severity,
            "timestamp": notice.at.isoformat(),
            "class": notice.event,
            "custom_details": dict(notice.facts) | ({notice.words_label: notice.words} if notice.words else {}),
        },
        "links": [{"href": notice.link, "text": "Open in the console"}],
    }


def _ntfy(notice: Notice, topic: str) -> dict[str, Any]:
    """A message as ntfy takes it in JSON, at the server's root."""
    lines = [f"{label}: {value}" for label, value in notice.facts]
    return {
        "topic": topic,
        "title": notice.title,
        "message": "\n".join([*([notice.words] if notice.words else []), *lines]),
        "priority": _PRIORITY[notice.urgency],
        "click": notice.link,
    }


def _root_and_topic(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    above, _, topic = parts.path.rstrip("/").rpartition("/")
    return urlunsplit((parts.scheme, parts.netloc, above + "/", parts.query, "")), topic
