"""Conditions: CEL expressions over what is known of a request or a check.

Type-checked when a policy is written. At run time only the value true counts: an error, a missing key, an overrun
budget or anything that is not a bool refuses (invariant I15). Language: https://github.com/google/cel-spec
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from functools import cache, lru_cache
from typing import Any, Final

from cel_expr_python import cel

from jit_service.domain.errors import InvalidField
from jit_service.domain.name import free_text
from jit_service.domain.signal import Signals

MAX_LENGTH: Final = 4096
_POSITION = re.compile(r"<input>:(\d+):(\d+): (.*)")


class Verdict(Enum):
    """What a condition says."""

    MET = "met"
    NOT_MET = "not met"
    ERROR = "error"
    STALE = "stale"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a condition may read; what is None is not known here, and reading it is an error."""

    subject: str
    principal: str
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    duration: timedelta
    now: datetime
    signals: Signals = Signals()
    groups: frozenset[str] | None = None
    claims: Mapping[str, Any] | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    source_address: str = ""


@dataclass(frozen=True)
class Judgement:
    """The verdict, with the error's words where there is one."""

    verdict: Verdict
    message: str = ""


def checked(text: str, path: str) -> str:
    """Returns the condition if it is CEL of type bool, or raises InvalidField with line, column and fault."""
    if len(text) > MAX_LENGTH:
        raise InvalidField(path, f"has {len(text)} characters; at most {MAX_LENGTH} are allowed")
    if not text:
        return text
    free_text(text, path)
    try:
        kind = _compiled(text).return_type()
    except RuntimeError as fault:
        raise InvalidField(path, _fault(str(fault))) from None
    if kind not in (cel.Type.BOOL, cel.Type.DYN):
        raise InvalidField(path, f"gives {kind.name().lower()}; a condition must give bool")
    return text


def judge(text: str, facts: Facts) -> Judgement:
    """Judges the condition; an empty one is met."""
    if not text:
        return Judgement(Verdict.MET)
    try:
        value = _compiled(text).eval(data=_bindings(facts))
    except (RuntimeError, ValueError, TypeError, OverflowError) as fault:
        return _error(text, facts, str(fault))
    plain = value.value()
    if plain is True:
        return Judgement(Verdict.MET)
    if plain is False:
        return Judgement(Verdict.NOT_MET)
    return _error(text, facts, str(plain))


def _error(text: str, facts: Facts, words: str) -> Judgement:
    message = " ".join(words.split())[:200]
    stale = sorted(name for name in facts.signals.stale if re.search(rf"\b{re.escape(name)}\b", text))
    if stale:
        return Judgement(Verdict.STALE, f"{', '.join(stale)} has expired ({message})")
    return Judgement(Verdict.ERROR, message)


def _bindings(facts: Facts) -> dict[str, Any]:
    context = {key: value for key, value in facts.context.items() if key != "source_ip"}
    if facts.source_address:
        context["source_ip"] = facts.source_address
    bindings: dict[str, Any] = {
        "subject": facts.subject,
        "principal": facts.principal,
        "resources": list(facts.resources),
        "actions": list(facts.actions),
        "duration": facts.duration,
        "context": context,
        "signals": dict(facts.signals.live),
        "now": facts.now,
    }
    if facts.groups is not None:
        bindings["groups"] = sorted(facts.groups)
    if facts.claims is not None:
        bindings["claims"] = dict(facts.claims)
    for one, many in (("resource", facts.resources), ("action", facts.actions)):
        if len(many) == 1:
            bindings[one] = many[0]
    return bindings


@lru_cache(maxsize=1024)
def _compiled(text: str) -> cel.Expression:
    return _environment().compile(text)


@cache
def _environment() -> cel.Env:
    text, texts, anything = cel.Type.STRING, cel.Type.List(cel.Type.STRING), cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    in_cidr = cel.Overload("string_in_cidr", cel.Type.BOOL, [text, text], is_member=True, impl=_in_cidr)
    return cel.NewEnv(
        variables={
            "subject": text,
            "principal": text,
            "groups": texts,
            "claims": anything,
            "action": text,
            "resource": text,
            "resources": texts,
            "actions": texts,
            "duration": cel.Type.DURATION,
            "context": anything,
            "signals": anything,
            "now": cel.Type.TIMESTAMP,
        },
        functions=[cel.FunctionDecl("inCidr", [in_cidr])],
    )


def _in_cidr(address: str, network: str) -> bool:
    """An IPv4 address in IPv6's clothes is that IPv4 address. What is no address or network is an error."""
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed) in ipaddress.ip_network(network)


def _fault(words: str) -> str:
    found = _POSITION.search(words)
    if found is None:
        return f"is not CEL: {' '.join(words.split())[:200]}"
    return f"line {found[1]}, column {found[2]}: {found[3][:200]}"
