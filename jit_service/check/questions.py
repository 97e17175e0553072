"""The questions that Check answers, in canonical form, and their callers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple

from pydantic_core import to_json

from jit_service.domain.audit.refusal import About
from jit_service.domain.caller import Caller, Role
from jit_service.domain.checks.decision import Question
from jit_service.domain.conditions import context
from jit_service.domain.errors import InvalidField, JitError, RoleRequired
from jit_service.domain.language import name

# The same few actions are asked for again and again. A refused one is judged each time.
_action: Final = lru_cache(maxsize=1024)(name.action)
MAX_CONTEXTS: Final = 64 << 10
"""How many bytes of context the items of one batch may assert; equal contexts are counted once."""


class Consistency(StrEnum):
    """How fresh an answer must be."""

    STRONG = "STRONG"
    BOUNDED = "BOUNDED"


class CheckRequest(NamedTuple):
    """A question, its caller, and the oldest revision that may answer it."""

    caller: Caller
    question: Question
    min_revision: int = 0


@dataclass(frozen=True, kw_only=True)
class RefusedItem:
    """An item of a batch that is not a valid question: its error, and what it was about."""

    error: JitError
    about: About


def question(
    caller: Caller, *, subject: str, action: str, resource: str, asserted: dict[str, Any] | None = None
) -> Question:
    """Returns the question in canonical form. Raises RoleRequired, InvalidField.

    A caller may ask about itself; asking about others needs the role `checker`.
    """
    if not subject:
        raise InvalidField("subject", "is required: user:NAME or service:NAME")
    itself = subject == caller.principal or name.folded(subject, caller.exact) == caller.principal
    if not itself and not caller.has(Role.CHECKER):
        raise RoleRequired(
            f"asking about another subject needs the role checker, which {caller.principal} does not have"
        )
    return _question(caller, subject, action, resource, asserted, itself=itself)


def past_question(
    caller: Caller, *, subject: str, action: str, resource: str, asserted: dict[str, Any] | None = None
) -> Question:
    """Returns a question about a past instant, in canonical form. Raises RoleRequired, InvalidField.

    A caller may ask about itself; asking about others needs the role `auditor` or `admin`. Either is asked as about
    another: the caller's groups and address are those of now, and say nothing of then.
    """
    if not subject:
        raise InvalidField("subject", "is required: user:NAME or service:NAME")
    if name.folded(subject, caller.exact) != caller.principal:
        demand_reader_of_past(caller)
    return _question(caller, subject, action, resource, asserted, itself=False)


def demand_reader_of_past(caller: Caller) -> None:
    """Raises RoleRequired unless the caller may ask what others could do."""
    if not caller.has(Role.AUDITOR, Role.ADMIN):
        raise RoleRequired(
            f"asking what others could do in the past needs the role auditor or admin, which {caller.principal} "
            "does not have"
        )


def _question(
    caller: Caller, subject: str, action: str, resource: str, asserted: dict[str, Any] | None, *, itself: bool
) -> Question:
    attributes, source_address = context.of_question(caller, asserted, itself=itself)
    return Question(
        subject=name.principal(subject, "subject", exact=caller.exact),
        action=_action(action, "action"),
        resource=name.resource(resource, "resource"),
        groups=caller.groups if itself else None,
        groups_left_out=itself and caller.groups is None,
        principal=caller.principal,
        context=attributes,
        source_address=source_address,
    )


def demand_bounded(contexts: Iterable[Mapping[str, Any]]) -> None:
    """Raises InvalidField if the contexts of a batch are larger than MAX_CONTEXTS; equal contexts count once."""
    texts = {to_json(dict(context)) for context in contexts if context}
    size = sum(map(len, texts))
    if size > MAX_CONTEXTS:
        raise InvalidField("context", f"has in all items {size} bytes of JSON; at most {MAX_CONTEXTS} are allowed")
