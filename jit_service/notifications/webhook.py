"""Sends messages to webhooks, signed as Standard Webhooks specifies where the receiver has a key."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime

from jit_service.domain.notification import Failure, Message
from jit_service.notifications.bodies import Body, Encode, body_of
from jit_service.notifications.http_post import Poster
from jit_service.notifications.reach import NotSent, Resolve, resolved
from jit_service.notifications.receivers import WebhookReceiver


def signature(keys: Iterable[bytes], body: bytes, *, id_: str, at: datetime) -> str:
    """Returns the value of webhook-signature: one signature for each key (Standard Webhooks 1.0)."""
    content = f"{id_}.{_seconds(at)}.".encode() + body
    digests = (hmac.new(key, content, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


class Webhook:
    """Sends to one receiver. One thread may call `send`; any thread may call `interrupt`."""

    def __init__(
        self, receiver: WebhookReceiver, encode: Encode, *, console: str = "", resolve: Resolve = resolved
    ) -> None:
        """`encode` makes CloudEvents. Raises OSError if the ca_file cannot be loaded."""
        self._receiver = receiver
        self._encode = encode
        self._console = console
        self._poster = Poster(receiver, resolve=resolve)
        self.interrupt = self._poster.interrupt

    def send(self, message: Message) -> Failure | None:
        """Posts the message. Returns None for an answer of 2xx; anything else is a failure."""
        body = body_of(self._receiver, message, encode=self._encode, console=self._console)
        try:
            answer = self._poster.post(body.url, body.content, self._headers(message, body))
        except NotSent as fault:
            return Failure(str(fault))
        return answer.failure(message.at)

    def look_up(self) -> str:
        """Returns what is wrong with where the receiver's name leads now, or nothing. It sends nothing."""
        return self._poster.look_up(self._receiver.url)

    def _headers(self, message: Message, body: Body) -> dict[str, str]:
        headers = {"content-type": body.content_type, **body.headers}
        if self._receiver.keys:
            headers |= {
                "webhook-id": message.id,
                "webhook-timestamp": str(_seconds(message.at)),
                "webhook-signature": signature(self._receiver.keys, body.content, id_=message.id, at=message.at),
            }
        return headers


def _seconds(at: datetime) -> int:
    return int(at.timestamp())
