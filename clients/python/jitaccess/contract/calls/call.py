"""One RPC to be made, and how its answer is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from jitaccess.contract.convert import decode
from jitaccess.contract.model import Page
from jitaccess.errors import Internal

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    """One RPC to be made: where, with what, and how its answer is read."""

    rpc: str
    request: Message
    answer: type[Message]
    read: Callable[[Any], T]

    @property
    def path(self) -> str:
        """The HTTP/2 path of the RPC."""
        return f"/jitaccess.v1.{self.rpc}"

    def read_answer(self, answer: Message) -> T:
        """Returns the answer's value. Raises Internal where it cannot be read."""
        try:
            return self.read(answer)
        except (ValueError, OverflowError) as error:
            raise Internal(f"the answer of {self.rpc} cannot be read: {error}") from error

    def at_page(self, page_token: str, *, page_size: int = 0) -> Call[T]:
        """Returns the same list call for the page of the token, with another size unless that is 0."""
        request = type(self.request)()
        request.CopyFrom(self.request)
        request.page_token = page_token  # type: ignore[attr-defined]  # Only list requests come here.
        if page_size:
            request.page_size = page_size  # type: ignore[attr-defined]
        return replace(self, request=request)


def one(rpc: str, request: Message, answer: type[Message], kind: type[T]) -> Call[T]:
    """Returns the call whose answer is one value of the kind, or a stream of them."""
    return Call(rpc=rpc, request=request, answer=answer, read=partial(decode, kind))


def listing(rpc: str, request: Message, answer: type[Message], kind: type[T], items: str) -> Call[Page[T]]:
    """Returns the call whose answer is a page, with values of the kind in the field `items`."""
    return Call(rpc=rpc, request=request, answer=answer, read=partial(_page, kind, items))


def _page(kind: type[T], items: str, answer: Any) -> Page[T]:
    decoded = tuple(decode(kind, item) for item in getattr(answer, items))
    return Page(items=decoded, next_page_token=answer.next_page_token, raw=answer)
