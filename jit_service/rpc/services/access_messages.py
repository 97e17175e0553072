"""The messages of AccessService. Answers to checks are encoded by hand, since they are the hot path."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Final
from uuid import UUID

from jit_service.check.recording import CheckResult
from jit_service.check.search import SearchPage
from jit_service.domain.checks.decision import Decision, Finding, Reason
from jit_service.domain.checks.search import SearchMatch
from jit_service.domain.errors import JitError
from jit_service.rpc.errors import status
from jit_service.rpc.mapping import Encoder
from jit_service.rpc.well_known_types import set_timestamp
from jit_service.use_cases.past_access import PastCheck
from jitaccess.v1 import access_pb2

_FOUND: Final = Encoder(
    access_pb2.FoundAccess,
    SearchMatch,
    {"exceptions": "excepted", "grant": "grant.name", "expire_time": "grant.expires_at"},
)
search_message = Encoder(
    access_pb2.SearchAccessResponse, SearchPage, {"found": _FOUND, "check_time": "at", "read_time": "read_at"}
)

_REASONS: Final = {reason: access_pb2.CheckAccessResponse.Reason.Value(reason) for reason in Reason}
# All ids have one length, and an answer's other fields may come before it.
_NO_ID: Final = str(UUID(int=0))
_RESULT: Final = access_pb2.BatchCheckAccessResponse(results=[access_pb2.CheckAccessResponse()]).SerializeToString()[:1]
"""The tag of a result of a batch."""
_BEFORE_ID: Final = access_pb2.CheckAccessResponse(decision_id=_NO_ID).SerializeToString().removesuffix(_NO_ID.encode())


def check_message(checked: CheckResult, *, explain: bool) -> access_pb2.CheckAccessResponse:
    """Returns the answer; with `explain` also the findings that led to it."""
    message = access_pb2.CheckAccessResponse()
    message.MergeFromString(checked.decided.encoded)
    _set_view(message, checked)
    message.decision_id = checked.decision_id
    if explain:
        message.trace.extend(map(_trace_message, checked.decision.findings))
    return message


def past_message(answer: PastCheck, *, explain: bool) -> access_pb2.CheckAccessResponse:
    """Returns the answer about a past instant, which nobody can take for a yes of now: it is never `allowed`."""
    message = access_pb2.CheckAccessResponse()
    message.MergeFromString(encoded_decision(answer.decision, ()))
    message.allowed = False
    message.reason = _then(message.reason)
    message.revision = answer.revision
    set_timestamp(message.check_time, answer.at)
    set_timestamp(message.read_time, answer.read_at)
    message.decision_id = answer.decision_id
    message.not_on_record.extend(answer.not_on_record)
    if explain:
        message.trace.extend(map(_trace_message, answer.decision.findings))
        for item in message.trace:
            item.reason = _then(item.reason)
    return message


class EncodedChecks:
    """Encodes answers to bytes; it is quickest for consecutive answers from the same view."""

    def __init__(self) -> None:
        self._at: datetime | None = None
        self._view = b""

    def encoded(self, checked: CheckResult) -> bytes:
        """Returns `check_message(checked, explain=False).SerializeToString()`, but for the order of the fields."""
        if checked.at is not self._at:
            # Each view has its own instant, so a new object means a new view.
            view = access_pb2.CheckAccessResponse()
            _set_view(view, checked)
            self._at, self._view = checked.at, view.SerializeToString()
        return checked.decided.encoded + self._view + _BEFORE_ID + checked.decision_id.encode()


def encoded_decision(decision: Decision, requestable: Sequence[str]) -> bytes:
    """Returns the fields of an answer that depend on its decision alone; they are kept with the decision.

    With the answer's other fields behind them they are the whole answer: protobuf joins concatenated messages.
    """
    message = access_pb2.CheckAccessResponse()
    message.allowed = decision.allowed
    message.reason = _REASONS[decision.reason]
    message.message = decision.message
    if decision.grant is not None:
        message.grant = decision.grant.name
        if decision.allowed and decision.grant.expires_at is not None:
            set_timestamp(message.expire_time, decision.grant.expires_at)
    message.requestable_policies.extend(requestable)
    return message.SerializeToString()


def batch_message(
    answers: Sequence[CheckResult | JitError], *, explained: Sequence[bool]
) -> access_pb2.BatchCheckAccessResponse:
    """Returns the answers in order, and with those that are `explained` their findings."""
    parts: list[bytes] = []
    encoded = EncodedChecks().encoded
    for answer, explain in zip(answers, explained, strict=True):
        if isinstance(answer, JitError):
            result = _refused_item(answer).SerializeToString()
        elif explain:
            result = check_message(answer, explain=True).SerializeToString()
        else:
            result = encoded(answer)
        parts += (_RESULT, _varint(len(result)), result)
    # All at once: protobuf takes longer for each of a hundred results than for all of them.
    return access_pb2.BatchCheckAccessResponse.FromString(b"".join(parts))


def _set_view(message: access_pb2.CheckAccessResponse, checked: CheckResult) -> None:
    message.revision = checked.revision
    set_timestamp(message.check_time, checked.at)
    if checked.staleness is not None:
        message.staleness.FromTimedelta(checked.staleness)


@cache
def _varint(number: int) -> bytes:
    """Returns the number as protobuf writes a length (https://protobuf.dev/programming-guides/encoding/#varints)."""
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def _then(reason: access_pb2.CheckAccessResponse.Reason.ValueType) -> access_pb2.CheckAccessResponse.Reason.ValueType:
    allowed = reason == access_pb2.CheckAccessResponse.ALLOWED
    return access_pb2.CheckAccessResponse.WAS_ALLOWED if allowed else reason


def _refused_item(error: JitError) -> access_pb2.CheckAccessResponse:
    """Returns the answer to an invalid item of a batch: not allowed, with the error."""
    return access_pb2.CheckAccessResponse(message=error.message, error=status(error))


def _trace_message(finding: Finding) -> access_pb2.CheckTrace:
    return access_pb2.CheckTrace(name=finding.name, reason=_REASONS[finding.reason], message=finding.message)
