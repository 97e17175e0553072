"""The fields of the audit log's filter, and which records a filter means, judged by the record itself."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from jit_service.domain.audit.event import Event, EventType, RecordedEvent
from jit_service.domain.language.filter import And, Comparison, FieldSpec, Kind, Node, Not, Or
from jitaccess.naming.pattern import covers

_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    ":": operator.contains,
}
_TEXT: Final = FieldSpec(kind=Kind.TEXT)
_LIST: Final = FieldSpec(kind=Kind.LIST)
AUDIT_FIELDS: Final[Mapping[str, FieldSpec]] = {
    "seq": FieldSpec(kind=Kind.INTEGER),
    "event_type": FieldSpec(kind=Kind.ENUM, values=tuple(EventType)),
    "event_time": FieldSpec(kind=Kind.INSTANT),
    "resources": _LIST,
    "actions": _LIST,
    "covers": FieldSpec(kind=Kind.RESOURCE),
    "covers_action": FieldSpec(kind=Kind.ACTION),
    "grant": FieldSpec(kind=Kind.NAME),
    "principal": _TEXT,
    "subject": _TEXT,
    "decision": _TEXT,
    "reason": _TEXT,
    "policy": _TEXT,
    "method": _TEXT,
    "source_address": _TEXT,
    "subject_source_ip": _TEXT,
    "trace_id": _TEXT,
    "request_id": _TEXT,
    "decision_id": _TEXT,
    "acr": _TEXT,
    "amr": _LIST,
}
AUDIT_ORDER: Final = ("seq",)
_VALUES: Final[Mapping[str, Callable[[Event], Any]]] = {
    "event_type": lambda event: event.type,
    "event_time": lambda event: event.at,
    "principal": lambda event: event.principal,
    "subject": lambda event: event.subject,
    "resources": lambda event: event.resources,
    "actions": lambda event: event.actions,
    "covers": lambda event: event.resources,
    "covers_action": lambda event: event.actions,
    "decision": lambda event: event.decision,
    "reason": lambda event: event.reason,
    "grant": lambda event: event.grant,
    "policy": lambda event: event.policy,
    "method": lambda event: event.origin.method,
    "source_address": lambda event: event.origin.source_address,
    "subject_source_ip": lambda event: event.subject_source_ip,
    "trace_id": lambda event: event.origin.trace_id,
    "request_id": lambda event: event.origin.request_id,
    "decision_id": lambda event: event.decision_id,
    "acr": lambda event: event.acr,
    "amr": lambda event: event.amr,
}


# What separates the segments of the patterns that are asked for one that covers the value.
_SEPARATORS: Final[Mapping[str, str]] = {"covers": "/", "covers_action": "."}


def matches(node: Node | None, recorded: RecordedEvent) -> bool:
    """Returns whether the filter, None for an empty one, means the record."""
    match node:
        case None:
            return True
        case And(operands=operands):
            return all(matches(operand, recorded) for operand in operands)
        case Or(operands=operands):
            return any(matches(operand, recorded) for operand in operands)
        case Not(operand=operand):
            return not matches(operand, recorded)
        case Comparison():
            return _holds(node, recorded)


def _holds(comparison: Comparison, recorded: RecordedEvent) -> bool:
    if comparison.field in _SEPARATORS:
        return _is_covered(
            str(comparison.value), _VALUES[comparison.field](recorded.event), _SEPARATORS[comparison.field]
        )
    value: Any = recorded.seq if comparison.field == "seq" else _VALUES[comparison.field](recorded.event)
    if comparison.field == "grant" and comparison.operator == "=" and str(comparison.value).endswith("*"):
        return bool(value.startswith(str(comparison.value)[:-1]))
    return _COMPARE[comparison.operator](value, comparison.value)


def _is_covered(name: str, patterns: Sequence[str], separator: str) -> bool:
    """Returns whether one of the patterns covers the name.

    A record of a refused call holds what its caller wrote. What is no pattern covers only itself.
    """
    return any(
        pattern == name or (_is_pattern(pattern, separator) and covers(pattern, name, separator))
        for pattern in patterns
    )


def _is_pattern(text: str, separator: str) -> bool:
    """Returns whether each * ends its segment, and only the last segment may be **."""
    segments = text.split(separator)
    begun = [*segments[:-1], segments[-1] if segments[-1] != "**" else ""]
    return not any("*" in segment[:-1] for segment in begun)
