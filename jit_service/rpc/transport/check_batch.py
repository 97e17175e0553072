"""Answers a batch of CheckAccess calls by one look at the store and one commit.

It is for a transport that can hand over several calls at once. A call that needs more is answered by itself, as every
other call: one that is refused, which is recorded, or one that rests on a grant which counts its uses.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from jit_service.check.checker import Checker
from jit_service.check.questions import CheckRequest, Consistency
from jit_service.domain.caller import Caller
from jit_service.domain.checks.decision import Question
from jit_service.domain.errors import JitError, Unavailable
from jit_service.domain.generational_cache import GenerationalCache
from jit_service.refusal_log import RefusalLog
from jit_service.rpc.admission import Admission, Call, Proof, edge_metadata
from jit_service.rpc.client_certificates import Shown
from jit_service.rpc.identity import Identity
from jit_service.rpc.origins import Metadata, without_port
from jit_service.rpc.request_cache import MAX_BYTES, MAX_KNOWN, Asker, asker, question_of
from jit_service.rpc.services.access import consistency_of
from jit_service.rpc.services.access_messages import EncodedChecks, check_message
from jitaccess.v1.access_pb2 import CheckAccessRequest

CHECK_ACCESS: Final = "/jitaccess.v1.AccessService/CheckAccess"
# Envoy gives each call another one. With it no two calls through Envoy would have a sender in common.
_REQUEST_ID: Final = "x-request-id"
_MAX_STANDINGS: Final = 1000
_Standing = tuple[Asker, str | None, str | None]
_refusals = RefusalLog(logging.getLogger(__name__))


Answer = bytes | JitError | None
"""The encoded answer, a refusal, or None for a call that must be answered by itself."""
BatchHandler = Callable[[Sequence[Call]], Sequence[Answer]]


class _Sound(NamedTuple):
    """A valid request, parsed: the same bytes from a sender of the same standing need not be parsed again."""

    question: Question
    consistency: Consistency
    min_revision: int
    explain: bool


class _Aside(Exception):
    """A call that the ordinary way must answer: about the past, or the first with its token."""


class _Sender(NamedTuple):
    """Who sends calls with one set of metadata.

    Whether a request is valid, and what it asks, depends on its bytes and on `standing` alone: the asker, and what the
    edge adds to the call. `is_bounded` is whether its calls are counted.
    """

    caller: Caller
    standing: _Standing
    is_bounded: bool


class BatchCheckHandler:
    """The `BatchHandler` of CheckAccess, with the admission of the address that it serves.

    The first call with a token goes the ordinary way, which ends what the token no longer gives: `has_met` says whether
    one has.
    """

    def __init__(self, admission: Admission, checker: Checker, *, has_met: Callable[[Caller], bool]) -> None:
        self._admission = admission
        self._has_met = has_met
        self._checker = checker
        self._known: GenerationalCache[tuple[bytes, object], _Sound] = GenerationalCache(MAX_KNOWN)
        # Thousands of known requests have one standing, which they hold as one object.
        self._standings: GenerationalCache[_Standing, _Standing] = GenerationalCache(_MAX_STANDINGS)

    def __call__(self, calls: Sequence[Call]) -> Sequence[Answer]:
        answers: list[Answer] = [None] * len(calls)
        strong: list[tuple[int, Caller, _Sound]] = []
        bounded: list[tuple[int, Caller, _Sound]] = []
        senders: dict[tuple[Metadata, str, Shown], _Sender] = {}
        identified: dict[Proof, Identity] = {}
        hosts: dict[str, str] = {}
        known, before = self._known.get, None
        for place, call in enumerate(calls):
            payload, metadata, peer, shown = call
            try:
                host = hosts.get(peer) or hosts.setdefault(peer, without_port(peer))
                # Most calls come as the one before did, and to compare them takes a quarter of what hashing takes.
                if (came := (metadata, host, shown)) != before:
                    way = _without_id(metadata), host, shown
                    if way not in senders:
                        senders[way] = self._sender(call._replace(metadata=way[0]), identified)
                    sender, before = senders[way], came
                if sender.is_bounded:
                    self._admission.count_in_batch(sender.caller)
                sound = known((payload, sender.standing)) or self._sound(call, sender)
            except (JitError, DecodeError, ValueError, _Aside):
                continue
            (bounded if sound.consistency is Consistency.BOUNDED else strong).append((place, sender.caller, sound))
        for consistency, asked in ((Consistency.STRONG, strong), (Consistency.BOUNDED, bounded)):
            if asked:
                self._answer(consistency, asked, answers)
        return answers

    def _sender(self, call: Call, identified: dict[Proof, Identity]) -> _Sender:
        caller = self._admission.identify_in_batch(CHECK_ACCESS, call, identified)
        if not self._has_met(caller):
            raise _Aside
        standing = asker(caller), *edge_metadata(call.metadata)
        if (known := self._standings.get(standing)) is None:
            self._standings.put(standing, known := standing)
        return _Sender(caller, known, self._admission.is_bounded_in_batch(caller))

    def _sound(self, call: Call, sender: _Sender) -> _Sound:
        request = CheckAccessRequest.FromString(call.payload)
        self._admission.check_in_batch(sender.caller, request, call.metadata)
        if request.HasField("read_time"):
            raise _Aside
        question, consistency = question_of(sender.caller, request), consistency_of(request.consistency)
        sound = _Sound(question, consistency, request.min_revision, request.explain)
        if len(call.payload) <= MAX_BYTES:
            self._known.put((call.payload, sender.standing), sound)
        return sound

    def _answer(
        self, consistency: Consistency, everything: Sequence[tuple[int, Caller, _Sound]], answers: list[Answer]
    ) -> None:
        try:
            checked = self._checker.check_batch(
                [CheckRequest(caller, sound.question, sound.min_revision) for _, caller, sound in everything],
                consistency,
            )
        except Unavailable as fault:
            _refusals.warning("checks cannot be answered", fault)
            for place, *_ in everything:
                answers[place] = fault
            return
        encoded = EncodedChecks().encoded
        for (place, _, sound), answer in zip(everything, checked, strict=True):
            if answer is None:
                continue
            if sound.explain:
                answers[place] = check_message(answer, explain=True).SerializeToString()
            else:
                answers[place] = encoded(answer)


def _without_id(metadata: Metadata) -> Metadata:
    """Returns the metadata that a sender's calls share: all but the id of the request, which nothing here may read."""
    return tuple([entry for entry in metadata if entry[0] != _REQUEST_ID])
