"""The question that a request asks; requests that were found sound are known again by their bytes."""

from __future__ import annotations

from typing import Final

from jit_service.check import questions
from jit_service.domain.caller import Caller, Role
from jit_service.domain.checks.decision import Question
from jit_service.domain.generational_cache import GenerationalCache
from jit_service.rpc.well_known_types import json_object_of
from jitaccess.v1.access_pb2 import CheckAccessRequest

MAX_KNOWN: Final = 10_000
"""How many requests are known again; twice as many at most, at about 1 KiB each."""
MAX_BYTES: Final = 512
"""A longer request, such as one with much context, is read each time."""
Asker = tuple[str, frozenset[str] | None, frozenset[Role], str]


def asker(caller: Caller) -> Asker:
    """Returns all of the caller that its question depends on: another with the same may ask the same."""
    return caller.principal, caller.groups, caller.roles, caller.origin.source_address


class Questions:
    """What requests ask. A question depends on nothing but the request and its `asker`, so it may be given again."""

    def __init__(self) -> None:
        self._known: GenerationalCache[tuple[bytes, Asker], Question] = GenerationalCache(MAX_KNOWN)

    def of(self, caller: Caller, request: CheckAccessRequest) -> Question:
        """Returns what is asked. Raises RoleRequired, InvalidField."""
        key = request.SerializeToString(), asker(caller)
        question = self._known.get(key)
        if question is None:
            question = question_of(caller, request)
            if len(key[0]) <= MAX_BYTES:
                self._known.put(key, question)
        return question


def question_of(caller: Caller, request: CheckAccessRequest) -> Question:
    """Returns what is asked. Raises RoleRequired, InvalidField."""
    return questions.question(
        caller,
        subject=request.subject,
        action=request.action,
        resource=request.resource,
        asserted=json_object_of(request.context, "context") if request.HasField("context") else None,
    )
