"""Checks that wait at the same time, answered together: one look at the store and one commit for all of them.

For a transport that can hand over several calls at once. What is not plain, such as a call that is refused (which is
recorded) or a grant that counts its checks, is answered by itself, in the way of every other call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from jit_service.access import Asked, Checker, Consistency
from jit_service.domain.caller import Caller
from jit_service.domain.errors import JitError, StoreUnavailable
from jit_service.rpc.access import consistency_of, question_of
from jit_service.rpc.call import CallInterceptor, Metadata
from jit_service.rpc.messages import check_message
from jitaccess.v1.access_pb2 import CheckAccessRequest

CHECK_ACCESS: Final = "/jitaccess.v1.AccessService/CheckAccess"
_log = logging.getLogger(__name__)


class Call(NamedTuple):
    """A unary call as it came."""

    payload: bytes
    metadata: Metadata
    peer: str


Answer = bytes | JitError | None
"""The encoded answer, a refusal, or None for a call that must be answered by itself."""
Together = Callable[[Sequence[Call]], Sequence[Answer]]


class _Waiting(NamedTuple):
    """A sound call, with its place among those that came."""

    place: int
    asked: Asked
    consistency: Consistency
    explain: bool


class ChecksTogether:
    """See the module. An instance is a `Together` for CheckAccess, with the interceptor of the address it serves."""

    def __init__(self, interceptor: CallInterceptor, checker: Checker) -> None:
        self._interceptor = interceptor
        self._checker = checker

    def __call__(self, calls: Sequence[Call]) -> Sequence[Answer]:
        answers: list[Answer] = [None] * len(calls)
        waiting: dict[Consistency, list[_Waiting]] = {}
        callers: dict[tuple[Metadata, str], Caller] = {}
        for place, call in enumerate(calls):
            try:
                one = self._sound(place, call, callers)
            except (JitError, DecodeError, ValueError):
                continue
            waiting.setdefault(one.consistency, []).append(one)
        for consistency, sound in waiting.items():
            self._answer(consistency, sound, answers)
        return answers

    def _sound(self, place: int, call: Call, callers: dict[tuple[Metadata, str], Caller]) -> _Waiting:
        """Returns the call; `callers` are those who have proved already who they are, by what came with their calls."""
        request = CheckAccessRequest.FromString(call.payload)
        key = (call.metadata, call.peer)
        if (caller := callers.get(key)) is None:
            caller = callers[key] = self._interceptor.identify(CHECK_ACCESS, call.metadata, call.peer)
        self._interceptor.admit(caller, request, call.metadata)
        asked = Asked(caller, question_of(caller, request), request.min_revision)
        return _Waiting(place, asked, consistency_of(request.consistency), request.explain)

    def _answer(self, consistency: Consistency, sound: Sequence[_Waiting], answers: list[Answer]) -> None:
        try:
            checked = self._checker.check_together([one.asked for one in sound], consistency)
        except StoreUnavailable as fault:
            _log.warning("%s: %s (%s)", CHECK_ACCESS, fault, fault.__cause__)
            for one in sound:
                answers[one.place] = fault
            return
        for one, answer in zip(sound, checked, strict=True):
            if answer is not None:
                answers[one.place] = check_message(answer, explain=one.explain).SerializeToString()
