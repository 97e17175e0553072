"""Pages of lists, never larger than a client takes: AIP-158 lets a page hold fewer than were asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

MAX_PAGE_BYTES: Final = 3_500_000
"""gRPC's clients take 4 MiB unless told otherwise; the rest is room for headers and for what a proxy adds."""
Page = TypeVar("Page", bound=Message)
Method = Callable[[Any, Any, Any], Page]


def within_bytes(method: Method[Page]) -> Method[Page]:
    """Ends the method's page early where it would be too large; its token goes on from there.

    The request has a `page_size`, and the answer one list of messages.
    """

    @wraps(method)
    def bounded(self: Any, request: Any, context: Any) -> Page:
        page = method(self, request, context)
        while page.ByteSize() > MAX_PAGE_BYTES and len(_items(page)) > 1:
            shorter = type(request)()
            shorter.CopyFrom(request)
            shorter.page_size = _fit_count(page)
            page = method(self, shorter, context)
        return page

    return bounded


def _items(page: Message) -> Any:
    """Returns the messages that the page lists."""
    (listed,) = (value for field, value in page.ListFields() if field.is_repeated)
    return listed


def _fit_count(page: Message) -> int:
    """Returns how many of the listed messages fit, at least one and fewer than there are."""
    size = 0
    listed = _items(page)
    for count, message in enumerate(listed):
        # Of each message also its tag and its length.
        size += message.ByteSize() + 6
        if size > MAX_PAGE_BYTES:
            return max(1, count)
    return max(1, len(listed) - 1)
