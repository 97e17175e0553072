"""Lists as the command line gives them: one page of the service, or all of them as one."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from jitaccess.cli.progress import tell
from jitaccess.client import JitClient, next_token
from jitaccess.contract.calls.call import Call
from jitaccess.contract.model import Page

T = TypeVar("T")


def take(client: JitClient, call: Call[Page[T]], *, all_pages: bool) -> Page[T]:
    """Returns the page of the call, followed with `all_pages` by all that come after it; `raw` holds them too.

    The service ends a page early where it had to look at much. Then this goes on until the page has what was asked for.
    """
    page = client.send(call)
    token = ""
    size: int = call.request.page_size  # type: ignore[attr-defined]  # Only list requests come here.
    while page.next_page_token and (all_pages or len(page.items) < size):
        token = next_token(page, after=token)
        tell(f"{len(page.items)} found; the search goes on ...")
        left = size if all_pages else size - len(page.items)
        page = _joined(page, client.send(call.at_page(token, page_size=left)))
    if token:
        tell("")
    return page


def _joined(first: Page[T], second: Page[T]) -> Page[T]:
    first.raw.MergeFrom(second.raw)  # Lists are appended to (protobuf: MergeFrom).
    first.raw.next_page_token = second.next_page_token  # type: ignore[attr-defined]  # Only list responses come here.
    return replace(second, items=first.items + second.items, raw=first.raw)
