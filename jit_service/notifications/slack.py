"""Sends messages to Slack: Block Kit, by a bot, which edits its message when it is decided, or an incoming webhook.

Everything that somebody wrote is in `plain_text` objects, which Slack does not parse; in the one text that it does
parse, the fallback, its special characters are escaped. Buttons only open the console.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlencode

from jit_service.domain.notification import Failure, Message, Receipt
from jit_service.notifications.http_post import Answer, Poster
from jit_service.notifications.reach import NotSent, Resolve, resolved
from jit_service.notifications.receivers import SlackReceiver, mailbox
from jit_service.notifications.wording import Notice, notice_of

_JSON: Final = "application/json; charset=utf-8"
_LONGEST_ANSWER: Final = 256 << 10
"""Bytes of Slack's answer that are read; it repeats the message."""
_FACTS_IN_A_SECTION: Final = 5
"""Slack takes 10 fields in a section; a fact is two."""
# Slack's words, so that no other word of an answer gets into the log.
_KNOWN: Final = frozenset(
    {
        *("account_inactive", "cant_update_message", "channel_not_found", "edit_window_closed", "fatal_error"),
        *("internal_error", "invalid_auth", "invalid_blocks", "is_archived", "message_not_found", "missing_scope"),
        *("msg_blocks_too_long", "msg_too_long", "not_allowed_token_type", "not_authed", "not_in_channel"),
        *("no_permission", "ratelimited", "rate_limited", "request_timeout", "restricted_action"),
        *("service_unavailable", "token_expired", "token_revoked", "user_not_found", "users_not_found"),
    }
)
# What no other attempt changes.
_FINAL: Final = frozenset(
    {"invalid_blocks", "msg_blocks_too_long", "msg_too_long", "users_not_found", "user_not_found"}
)
_NO_EDIT: Final = frozenset(
    {"cant_update_message", "edit_window_closed", "message_not_found", "channel_not_found", "is_archived"}
)
"""With these the earlier message stays as it is, and the next one is posted beside it."""


_PLACE: Final = {"channel": re.compile(r"[A-Z0-9]{2,32}"), "ts": re.compile(r"[0-9]{1,16}\.[0-9]{1,8}")}


class Slack:
    """Sends to one workspace. One thread may call `send`; any thread may call `interrupt`."""

    def __init__(self, receiver: SlackReceiver, *, console: str, resolve: Resolve = resolved) -> None:
        """Raises OSError if the ca_file cannot be loaded."""
        self._receiver = receiver
        self._console = console
        self._poster = Poster(receiver, resolve=resolve)
        self._people: dict[str, str] = {}
        self.interrupt = self._poster.interrupt

    def send(self, message: Message) -> Failure | Receipt | None:
        """Posts the message, or edits the one about the same grant that is there already."""
        notice = notice_of(message, self._console)
        try:
            if self._receiver.url:
                return self._post_to_webhook(notice, message)
            return self._by_bot(notice, message)
        except NotSent as fault:
            return Failure(str(fault))

    def look_up(self) -> str:
        """Returns what is wrong with where the receiver's name leads now, or nothing. It sends nothing."""
        return self._poster.look_up(self._receiver.url or self._receiver.api_url)

    def _post_to_webhook(self, notice: Notice, message: Message) -> Failure | None:
        content = _content(notice) | {"unfurl_links": False, "unfurl_media": False}
        answer = self._poster.post(self._receiver.url, _encoded(content), {"content-type": _JSON})
        return answer.failure(message.at)

    def _by_bot(self, notice: Notice, message: Message) -> Failure | Receipt:
        edited = self._edit(notice, message) if message.earlier else None
        if isinstance(edited, Failure) or (edited is not None and not notice.anew):
            return edited
        channel = self._channel(message)
        if isinstance(channel, Failure):
            return channel
        content = _content(notice) | {
            "channel": channel,
            "unfurl_links": False,
            "unfurl_media": False,
            "link_names": False,
            "parse": "none",
        }
        return _receipt(self._call("chat.postMessage", content, message))

    def _edit(self, notice: Notice, message: Message) -> Failure | Receipt | None:
        """Returns the receipt of the edited message, or None where Slack lets nobody edit it any more."""
        place = _reference_of(message.earlier)
        if place is None:
            return None
        outcome = self._call("chat.update", _content(notice) | place | {"parse": "none"}, message)
        if isinstance(outcome, _Error) and outcome.code in _NO_EDIT:
            return None
        return _receipt(outcome)

    def _channel(self, message: Message) -> str | Failure:
        """Returns the addressee as Slack knows it: a person by the mail address."""
        if "@" not in message.addressee:
            return message.addressee
        address = mailbox(message.addressee)
        if address not in self._people:
            found = self._call("users.lookupByEmail", {"email": address}, message, form=True)
            if isinstance(found, Failure | _Error):
                return _failure(found)
            user = found.get("user")
            id_ = user.get("id") if isinstance(user, dict) else None
            if not isinstance(id_, str) or not id_:
                return Failure("its answer names no person")
            self._people[address] = id_
        return self._people[address]

    def _call(
        self, method: str, content: Mapping[str, Any], message: Message, *, form: bool = False
    ) -> dict[str, Any] | _Error | Failure:
        url = f"{self._receiver.api_url.rstrip('/')}/{method}"
        headers = {
            "authorization": f"Bearer {self._receiver.token}",
            "content-type": "application/x-www-form-urlencoded" if form else _JSON,
        }
        body = urlencode(content).encode() if form else _encoded(content)
        return _judged(self._poster.post(url, body, headers, read=_LONGEST_ANSWER), message)


class _Error:
    """Slack's answer that it did not do it: `code` is Slack's word, if it is a known one."""

    def __init__(self, code: str) -> None:
        self.code = code if code in _KNOWN else ""


def _judged(answer: Answer, message: Message) -> dict[str, Any] | _Error | Failure:
    failure = answer.failure(message.at)
    if failure is not None:
        return failure
    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        return Failure("its answer is not Slack's")
    return said if said.get("ok") is True else _Error(str(said.get("error", "")))


def _failure(outcome: Failure | _Error) -> Failure:
    if isinstance(outcome, Failure):
        return outcome
    return Failure(f"Slack answered {outcome.code or 'an error'}", final=outcome.code in _FINAL)


def _receipt(outcome: dict[str, Any] | _Error | Failure) -> Receipt | Failure:
    """Returns what the message is called. One that Slack gives no proper name has an empty one: nobody edits it."""
    if isinstance(outcome, Failure | _Error):
        return _failure(outcome)
    place = _place_in(outcome)
    return Receipt(json.dumps(place) if place is not None else "")


def _reference_of(earlier: str) -> dict[str, str] | None:
    try:
        return _place_in(json.loads(earlier))
    except ValueError:
        return None


def _place_in(said: Any) -> dict[str, str] | None:
    """Returns the channel and ts of a message, if they are what Slack calls them."""
    if not isinstance(said, dict):
        return None
    place: dict[str, str] = {}
    for key, form in _PLACE.items():
        value = said.get(key)
        if not isinstance(value, str) or not form.fullmatch(value):
            return None
        place[key] = value
    return place


def _encoded(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _content(notice: Notice) -> dict[str, Any]:
    return {"text": escaped(notice.title), "blocks": list(blocks_of(notice))}


def escaped(text: str) -> str:
    """Returns the text for where Slack parses it: no mention, link or channel can be in it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def blocks_of(notice: Notice) -> Iterator[dict[str, Any]]:
    """Yields the blocks of the message."""
    yield {"type": "header", "text": _plain(notice.title)}
    for start in range(0, len(notice.facts), _FACTS_IN_A_SECTION):
        facts = notice.facts[start : start + _FACTS_IN_A_SECTION]
        fields = [field for label, value in facts for field in (_bold(label), _plain(value))]
        yield {"type": "section", "fields": fields}
    if notice.words:
        yield {"type": "section", "text": _bold(notice.words_label)}
        yield {"type": "section", "text": _plain(notice.words)}
    button = {"type": "button", "text": _plain("Open in the console"), "url": notice.link, "action_id": "open"}
    yield {"type": "actions", "elements": [button]}


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _bold(label: str) -> dict[str, Any]:
    """Returns a label in bold. One that names a person is plain: in mrkdwn a name could mean something."""
    if not label.isascii() or not label.replace(" ", "").isalpha():
        return _plain(label)
    return {"type": "mrkdwn", "text": f"*{label}*", "verbatim": True}
