"""The stored bytes of a check's audit record, put together by hand, since every check waits for them.

They equal those that `payload_of` makes of the same event, to the byte; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from json.encoder import encode_basestring as _quoted
from typing import Any, Final, NamedTuple

from pydantic_core import to_json

from jit_service.domain.audit.event import EventType
from jit_service.domain.caller import Caller, Origin
from jit_service.domain.checks.decision import Decision, Question
from jit_service.storage.audit_summary import digest
from jit_service.storage.rows import MAX_RECORD

_WORTH_NAMING: Final = 64


class SharedContexts:
    """The contexts of one batch: each is recorded once, and later records with the same one name the first record."""

    def __init__(self) -> None:
        self._first: dict[bytes, str] = {}

    def first_of(self, context: Mapping[str, Any], decision_id: str) -> str:
        """Returns the decision_id of the record that already has the context; empty if this record is to have it.

        Also empty if the context is no longer than the id would be.
        """
        if not context:
            return ""
        text = _json(context)
        if len(text) <= _WORTH_NAMING:
            return ""
        first = self._first.setdefault(text, decision_id)
        return "" if first == decision_id else first


class Parts(NamedTuple):
    """What the records of all checks with the same question and decision share, before and after the decision_id.

    `lock` comes after the context, which is not shared. `digests` are those of the fields that depend on question and
    decision alone, as in Outline.
    """

    before: str
    after: str
    groups: str
    group_count: int
    lock: str
    digests: bytes


def parts_of_check(asked: Question, decision: Decision) -> Parts:
    """Returns the parts of the record that depend only on question and decision."""
    grant = decision.grant
    rests_on = chain = name = policy = ""
    if grant is not None:
        name, policy = grant.name, grant.policy
        rests_on = f',"grant":{_quoted(grant.name)},"policy":{_quoted(grant.policy)}'
        if grant.policy_revision:
            rests_on += f',"policy_revision":{grant.policy_revision}'
        if grant.chain:
            chain = f',"chain":{_list(grant.chain)}'
    groups = f',"groups":{_list(sorted(asked.groups))}' if asked.groups else ""
    decided = "ALLOWED" if decision.allowed else "DENIED"
    return Parts(
        f',"subject":{_quoted(asked.subject)},"resources":[{_quoted(asked.resource)}]'
        f',"actions":[{_quoted(asked.action)}],"decision":"{decided}"'
        f',"reason":"{decision.reason}","message":{_quoted(decision.message)}{rests_on}',
        chain,
        groups,
        len(asked.groups or ()),
        f',"lock":{_quoted(decision.lock)}' if decision.lock else "",
        digest(asked.subject) + digest(asked.resource) + _of_few(asked.action) + _of_few(decided)
        + _of_few(decision.reason.value) + digest(name) + _of_few(policy),
    )  # fmt: skip


class CheckRecords:
    """Makes records of checks at one instant and revision; fastest for many of one caller in a row."""

    def __init__(self, *, at: datetime, revision: int) -> None:
        self._begin = f'{{"type":"ACCESS_CHECKED","at":"{at.isoformat()[:-6]}Z","principal":'
        self._revision = f'","revision":{revision}'
        self._by: Caller | None = None
        self._opening = ""
        self._digests = b"", b"", b""

    def payload(
        self, by: Caller, asked: Question, parts: Parts, decision_id: str, shared: SharedContexts | None = None
    ) -> bytes:
        """Returns `payload_of(checked_event(...))` in a tenth of the time. `parts` are made by `parts_of_check`."""
        if by is not self._by:
            self._open(by)
        before, after, groups, group_count, lock, _ = parts
        # The context depends on the question alone: the same decision may be given to another address.
        first = shared.first_of(asked.context, decision_id) if shared is not None else ""
        context = f',"context":{_json(asked.context).decode()}' if asked.context and not first else ""
        left_out = ',"groups_left_out":true' if asked.groups_left_out else ""
        # These come last in each record, whatever is left out of it.
        last = f'{lock},"subject_source_ip":{_quoted(asked.source_address)}' if asked.source_address else lock
        last += f',"context_of":"{first}"' if first else ""
        opening = f'{self._opening}{before},"decision_id":"{decision_id}{self._revision}{after}'
        payload = f"{opening}{groups}{left_out}{context}{last}}}".encode()
        if len(payload) <= MAX_RECORD:
            return payload
        # Names are bounded, so that the record fits without the context and the groups.
        omitted = len(asked.context) if context else 0
        payload = f"{opening}{groups}{left_out}{last}{_omitted(omitted)}}}".encode()
        if len(payload) <= MAX_RECORD:
            return payload
        return f"{opening}{left_out}{last}{_omitted(omitted + group_count)}}}".encode()

    def digests(self, by: Caller, asked: Question, parts: Parts) -> bytes:
        """Returns the digests of the same record, as in Outline: its summary need not read it again."""
        if by is not self._by:
            self._open(by)
        before, after, last = self._digests
        return before + parts.digests + after + _of_few(asked.source_address) + last

    def _open(self, by: Caller) -> None:
        self._by = by
        self._opening = f"{self._begin}{_quoted(by.principal)}{_origin(by.origin)}"
        self._digests = _digests_of_caller(by.principal, by.origin)


def _omitted(count: int) -> str:
    return f',"omitted_count":{count}' if count else ""


def _json(context: Mapping[str, Any]) -> bytes:
    return to_json(dict(context), inf_nan_mode="null")


_of_few: Final = lru_cache(maxsize=4096)(digest)
"""The digest of a value that many records have."""


@lru_cache(maxsize=4096)
def _digests_of_caller(principal: str, origin: Origin) -> tuple[bytes, bytes, bytes]:
    """Returns those of the fields before the ones of Parts, after them, and after the subject's address."""
    return (
        digest(EventType.ACCESS_CHECKED) + digest(principal),
        digest(origin.method) + digest(origin.source_address),
        digest(origin.trace_id) + digest(origin.request_id),
    )


@lru_cache(maxsize=4096)
def _origin(origin: Origin) -> str:
    fields = (
        "method",
        "source_address",
        "user_agent",
        "trace_id",
        "request_id",
        "issuer",
        "issuer_subject",
        "token_id",
        "client_certificate",
        "client_certificate_sha256",
    )
    known = [f'"{field}":{_quoted(value)}' for field in fields if (value := getattr(origin, field))]
    return f',"origin":{{{",".join(known)}}}' if known else ""


def _list(texts: Iterable[str]) -> str:
    return f"[{','.join(map(_quoted, texts))}]"
