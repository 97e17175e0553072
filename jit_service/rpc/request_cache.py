"""Maps CheckAccess requests to questions; caches the questions of valid requests by the requests' bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from jit_service.check import questions
from jit_service.domain.caller import Caller, Role
from jit_service.domain.checks.decision import Question
from jit_service.domain.generational_cache import GenerationalCache
from jit_service.rpc.well_known_types import json_object_of
from jitaccess.v1.access_pb2 import CheckAccessRequest

MAX_KNOWN: Final = 10_000
"""How many requests one generation of the cache holds; the cache holds at most two, at about 1 KiB a request."""
MAX_BYTES: Final = 512
"""A longer request, such as one with much context, is not cached."""
Asker = tuple[str, frozenset[str] | None, frozenset[Role], str]


def asker(caller: Caller) -> Asker:
    """Returns what a question depends on in its caller; callers that are equal in it share cached questions."""
    return caller.principal, caller.groups, caller.roles, caller.origin.source_address


class Questions:
    """Caches the questions of requests. A question depends only on the request and its `asker`."""

    def __init__(self) -> None:
        self._known: GenerationalCache[tuple[bytes, Asker], Question] = GenerationalCache(MAX_KNOWN)

    def of(self, caller: Caller, request: CheckAccessRequest) -> Question:
        """Returns the question of the request. Raises RoleRequired, InvalidField."""
        return self.of_caller(caller)(request)

    def of_caller(self, caller: Caller) -> Callable[[CheckAccessRequest], Question]:
        """Returns what `of` does with the requests of one caller, for many of them."""
        by, known = asker(caller), self._known.get

        def question(request: CheckAccessRequest) -> Question:
            key = request.SerializeToString(), by
            if (found := known(key)) is None:
                found = question_of(caller, request)
                if len(key[0]) <= MAX_BYTES:
                    self._known.put(key, found)
            return found

        return question


def question_of(caller: Caller, request: CheckAccessRequest) -> Question:
    """Reads the question of the request. Raises RoleRequired, InvalidField."""
    return questions.question(
        caller,
        subject=request.subject,
        action=request.action,
        resource=request.resource,
        asserted=json_object_of(request.context, "context") if request.HasField("context") else None,
    )
