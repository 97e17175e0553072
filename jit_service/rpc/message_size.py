"""Keeps pages of lists below the size that clients accept. AIP-158 allows a page to have fewer items than asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

MAX_PAGE_BYTES: Final = 3_500_000
"""gRPC clients accept 4 MiB by default; the rest is room for headers and for what a proxy adds."""
Page = TypeVar("Page", bound=Message)
Method = Callable[[Any, Any, Any], Page]


def within_bytes(method: Method[Page]) -> Method[Page]:
    """Makes a list method end its page early if it would be too large; the page's token continues from there.

    The request has a `page_size`, and the answer has one list of messages.
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
    """Returns how many of the messages fit: at least one, and fewer than there are."""
    size = 0
    listed = _items(page)
    for count, message in enumerate(listed):
        # Each message also takes a tag and a length.
        size += message.ByteSize() + 6
        if size > MAX_PAGE_BYTES:
            return max(1, count)
    return max(1, len(listed) - 1)
