"""Lists as the command line gives them: one page of the service, or all of them as one."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from jitaccess.client import JitClient, next_token
from jitaccess.contract.calls.call import Call
from jitaccess.contract.model import Page

T = TypeVar("T")


def take(client: JitClient, call: Call[Page[T]], *, all_pages: bool) -> Page[T]:
    """Returns the page of the call, followed with `all_pages` by all that come after it; `raw` holds them too."""
    page = client.send(call)
    token = ""
    while all_pages and page.next_page_token:
        token = next_token(page, after=token)
        page = _joined(page, client.send(call.at_page(token)))
    return page


def _joined(first: Page[T], second: Page[T]) -> Page[T]:
    first.raw.MergeFrom(second.raw)  # Lists are appended to (protobuf: MergeFrom).
    first.raw.next_page_token = second.next_page_token  # type: ignore[attr-defined]  # Only list responses come here.
    return replace(second, items=first.items + second.items, raw=first.raw)
