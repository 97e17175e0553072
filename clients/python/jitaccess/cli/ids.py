"""Finding the grant, or another thing with an id, that a person means by the beginning of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from jitaccess.client import JitClient
from jitaccess.contract.calls import grants
from jitaccess.contract.model import Grant, View
from jitaccess.errors import FieldViolation, InvalidArgument, NotFound

FULL_LENGTH = 26
_ID = re.compile(r"[0-9a-z]{1,64}")
_CANDIDATES = 10


def find(client: JitClient, text: str) -> Grant:
    """Returns the grant whose id is the text, or the only visible one whose id begins with it.

    Raises InvalidArgument for what is no id or for several grants, NotFound for none, and what reading a grant raises.
    """
    identifier = _identifier(text)
    if len(identifier) >= FULL_LENGTH:
        return client.get_grant(f"grants/{identifier}")
    page = client.send(
        grants.list_grants(view=View.VISIBLE, filter=f'name = "grants/{identifier}*"', page_size=_CANDIDATES + 1)
    )
    if not page.items:
        raise NotFound(f"no grant that you may see has an id that begins with {identifier}", reason="GRANT_NOT_FOUND")
    if len(page.items) > 1 or page.next_page_token:
        raise _ambiguous(identifier, page.items)
    return page.items[0]


def name(client: JitClient, text: str) -> str:
    """Returns the grant's name; a full id is not looked up, so that ending a grant takes one call."""
    identifier = _identifier(text)
    return f"grants/{identifier}" if len(identifier) >= FULL_LENGTH else find(client, text).name


def full(text: str, kind: str, names: Callable[[], Iterable[str]]) -> str:
    """Returns the name of the only thing of that kind, such as `delegations`, whose id begins with the text.

    `names` are looked up only where the text is no full id. Where none begins with it, the text is returned, of which
    the service says that it is not there. Raises InvalidArgument where several do.
    """
    identifier = text.removeprefix(f"{kind}/")
    if len(identifier) >= FULL_LENGTH:
        return text
    found = sorted({name for name in names() if name.removeprefix(f"{kind}/").startswith(identifier)})
    if f"{kind}/{identifier}" in found:
        return text
    if len(found) > 1:
        raise InvalidArgument(
            f"several {kind} begin with {identifier}; give more of the id",
            reason="AMBIGUOUS_ID",
            metadata={"candidates": " ".join(name.removeprefix(f"{kind}/") for name in found[:_CANDIDATES])},
        )
    return found[0] if found else text


def short(names: Sequence[str], *, least: int = 8) -> list[str]:
    """Returns the ids of the named grants, cut to the length at which they differ, at least `least`."""
    ids = [name.removeprefix("grants/") for name in names]
    for length in range(least, FULL_LENGTH):
        if len({identifier[:length] for identifier in ids}) == len(set(ids)):
            return [identifier[:length] for identifier in ids]
    return ids


def _identifier(text: str) -> str:
    identifier = text.removeprefix("grants/")
    if not _ID.fullmatch(identifier):
        fault = f"{text!r} is no grant's id or the beginning of one: a-z and 0-9, with or without grants/"
        raise InvalidArgument(fault, reason="INVALID_FIELD", field_violations=())
    return identifier


def _ambiguous(identifier: str, grants: Sequence[Grant]) -> InvalidArgument:
    shown = grants[:_CANDIDATES]
    more = ", and more" if len(grants) > len(shown) else ""
    return InvalidArgument(
        f"several grants begin with {identifier}{more}; give more of the id",
        reason="AMBIGUOUS_ID",
        metadata={"candidates": " ".join(grant.id for grant in shown)},
        field_violations=tuple(FieldViolation(grant.id, _described(grant)) for grant in shown),
    )


def _described(grant: Grant) -> str:
    return f"{grant.state}, {grant.subject}, {', '.join(grant.actions)} on {', '.join(grant.resources)}"
