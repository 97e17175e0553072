"""Sends messages to Microsoft Teams: an Adaptive Card by the webhook of a workflow.

Everything that somebody wrote is in `TextRun`s, in which there is no markdown. A workflow's message cannot be edited by
its webhook, so a decision is a card of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from jit_service.domain.notification import Failure, Message
from jit_service.notifications.http_post import Poster
from jit_service.notifications.reach import NotSent, Resolve, resolved
from jit_service.notifications.receivers import TeamsReceiver
from jit_service.notifications.wording import Notice, Urgency, notice_of

_SCHEMA: Final = "http://adaptivecards.io/schemas/adaptive-card.json"
_COLOR: Final = {Urgency.INFO: "default", Urgency.WARNING: "warning", Urgency.CRITICAL: "attention"}


class Teams:
    """Sends to one workflow. One thread may call `send`; any thread may call `interrupt`."""

    def __init__(self, receiver: TeamsReceiver, *, console: str, resolve: Resolve = resolved) -> None:
        """Raises OSError if the ca_file cannot be loaded."""
        self._receiver = receiver
        self._console = console
        self._poster = Poster(receiver, resolve=resolve)
        self.interrupt = self._poster.interrupt

    def send(self, message: Message) -> Failure | None:
        """Posts the card."""
        content = envelope(notice_of(message, self._console))
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            answer = self._poster.post(self._receiver.url, body, {"content-type": "application/json"})
        except NotSent as fault:
            return Failure(str(fault))
        return answer.failure(message.at)

    def look_up(self) -> str:
        """Returns what is wrong with where the receiver's name leads now, or nothing. It sends nothing."""
        return self._poster.look_up(self._receiver.url)


def envelope(notice: Notice) -> dict[str, Any]:
    """Returns what a workflow's webhook takes: a message with one card."""
    attachment = {
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": None,
        "content": card_of(notice),
    }
    return {"type": "message", "attachments": [attachment]}


def card_of(notice: Notice) -> dict[str, Any]:
    """Returns the card."""
    return {
        "$schema": _SCHEMA,
        "type": "AdaptiveCard",
        "version": "1.5",
        "fallbackText": notice.title,
        "msteams": {"width": "Full"},
        "body": list(_body(notice)),
        "actions": [{"type": "Action.OpenUrl", "title": "Open in the console", "url": notice.link}],
    }


def _body(notice: Notice) -> Iterator[dict[str, Any]]:
    yield _lines(_run(notice.title, size="large", weight="bolder", color=_COLOR[notice.urgency]))
    for label, value in notice.facts:
        yield _lines(_run(f"{label}: ", weight="bolder"), _run(value)) | {"spacing": "small"}
    if notice.words:
        yield _lines(_run(notice.words_label, weight="bolder"))
        yield _lines(_run(notice.words)) | {"spacing": "small"}


def _lines(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": list(runs)}


def _run(text: str, **looks: str) -> dict[str, Any]:
    return {"type": "TextRun", "text": text, **looks}
