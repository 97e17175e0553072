"""Conditions: CEL expressions over the facts of a request or a check.

A condition is type-checked when its policy is written. At run time only the value true counts: an error, a missing
key, an exceeded budget or any value that is not a bool refuses (invariant I15). Language: https://github.com/google/cel-spec
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from cel_expr_python import cel

from jit_service.domain.conditions.claims_read import names_read
from jit_service.domain.conditions.kept_claims import told
from jit_service.domain.conditions.signal import Signals
from jit_service.domain.errors import InvalidField
from jit_service.domain.language.name import free_text

MAX_LENGTH: Final = 4096
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_POSITION = re.compile(r"<input>:(\d+):(\d+): (.*)")


class Verdict(Enum):
    """The outcome of judging a condition."""

    MET = "met"
    NOT_MET = "not met"
    ERROR = "error"
    STALE = "stale"


_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Facts(NamedTuple):
    """What a condition may read. A field that is None is not known here, and reading it is an error.

    `claims` are those of a token, or those that were kept of them (`kept_claims`).
    """

    subject: str
    principal: str
    resources: tuple[str, ...]
    actions: tuple[str, ...]
    duration: timedelta
    now: datetime
    signals: Signals = Signals()
    groups: frozenset[str] | None = None
    claims: Mapping[str, Any] | None = None
    context: Mapping[str, Any] = _NOTHING
    source_address: str = ""
    reviewer: Mapping[str, Any] | None = None


class Judgement(NamedTuple):
    """The verdict, with the error's words where there is one."""

    verdict: Verdict
    message: str = ""


def validate(text: str, path: str) -> str:
    """Returns the condition, or raises InvalidField as `validate_for_step` does, also if it reads `reviewer`."""
    validate_for_step(text, path)
    if reads_reviewer(text):
        raise InvalidField(path, "reads reviewer, whom only the condition of a step knows")
    return text


def validate_for_step(text: str, path: str) -> str:
    """Returns the condition if it is CEL of type bool, or raises InvalidField with line, column and fault."""
    return _validate(text, path, _compiled)


def _validate(text: str, path: str, compiled: Callable[[str], _Compiled]) -> str:
    if len(text) > MAX_LENGTH:
        raise InvalidField(path, f"has {len(text)} characters; at most {MAX_LENGTH} are allowed")
    if not text:
        return text
    free_text(text, path)
    try:
        kind = compiled(text).expression.return_type()
    except RuntimeError as fault:
        raise InvalidField(path, _fault(str(fault))) from None
    if kind not in (cel.Type.BOOL, cel.Type.DYN):
        raise InvalidField(path, f"gives {kind.name().lower()}; a condition must give bool")
    return text


def validate_on_claims(text: str, path: str) -> str:
    """Does as `validate` does, for a condition on a token's claims: it reads the map `claims` and nothing else."""
    return _validate(text, path, _compiled_on_claims)


def judge_claims(text: str, claims: Mapping[str, Any]) -> Verdict:
    """Judges a condition on a token's claims; an empty one is met. It gives no message, which could quote a claim."""
    if not text:
        return Verdict.MET
    try:
        value = _compiled_on_claims(text).expression.eval(data={"claims": dict(claims)}).value()
    except (RuntimeError, ValueError, TypeError, OverflowError):
        return Verdict.ERROR
    if value is True:
        return Verdict.MET
    return Verdict.NOT_MET if value is False else Verdict.ERROR


def judge(text: str, facts: Facts) -> Judgement:
    """Judges the condition; an empty one is met."""
    if not text:
        return Judgement(Verdict.MET)
    try:
        compiled = _compiled(text)
        value = compiled.expression.eval(data=_bindings(facts, compiled.reads))
    except (RuntimeError, ValueError, TypeError, OverflowError) as fault:
        return _error(text, facts, str(fault))
    plain = value.value()
    if plain is True:
        return Judgement(Verdict.MET)
    if plain is False:
        return Judgement(Verdict.NOT_MET)
    return _error(text, facts, str(plain))


@lru_cache(maxsize=1024)
def reads_reviewer(text: str) -> bool:
    """Returns whether the condition reads `reviewer`: then it does not compile without that variable."""
    if not mentions(text, _REVIEWER):
        return False
    try:
        _environment(*(name for name in _VARIABLES if name != _REVIEWER)).compile(text)
    except RuntimeError:
        return True
    return False


@lru_cache(maxsize=1024)
def claims_read(text: str) -> frozenset[str] | None:
    """Returns the names of the subject's claims that the condition can read; None where it can read any."""
    return names_read(_compiled(text).expression.serialize()) if mentions(text, _CLAIMS) else frozenset()


def mentions(text: str, variable: str) -> bool:
    """Returns whether the variable's name occurs in the condition. If it does not, the condition cannot read it."""
    return variable in _words(text)


def _error(text: str, facts: Facts, words: str) -> Judgement:
    message = " ".join(words.split())[:200]
    stale = sorted(name for name in facts.signals.stale if re.search(rf"\b{re.escape(name)}\b", text))
    if stale:
        return Judgement(Verdict.STALE, f"{', '.join(stale)} has expired ({message})")
    return Judgement(Verdict.ERROR, message)


def _bindings(facts: Facts, names: tuple[str, ...]) -> dict[str, Any]:
    """Returns the known values of these names only: converting every fact costs more than evaluating."""
    known = ((name, _VARIABLES[name].value(facts)) for name in names)
    return {name: value for name, value in known if value is not None}


def _context(facts: Facts) -> dict[str, Any]:
    context = {key: value for key, value in facts.context.items() if key != "source_ip"}
    if facts.source_address:
        context["source_ip"] = facts.source_address
    return context


def _only(names: tuple[str, ...]) -> str | None:
    return names[0] if len(names) == 1 else None


class _Variable(NamedTuple):
    """The type of a variable, and how its value is read from the facts; None where it is not known."""

    type: cel.Type
    value: Callable[[Facts], Any]


_CLAIMS: Final = "claims"
_REVIEWER: Final = "reviewer"
_TEXT, _TEXTS = cel.Type.STRING, cel.Type.List(cel.Type.STRING)
_ANYTHING = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
_VARIABLES: Final = {
    "subject": _Variable(_TEXT, lambda facts: facts.subject),
    "principal": _Variable(_TEXT, lambda facts: facts.principal),
    "groups": _Variable(_TEXTS, lambda facts: None if facts.groups is None else sorted(facts.groups)),
    _CLAIMS: _Variable(_ANYTHING, lambda facts: None if facts.claims is None else told(facts.claims)),
    "action": _Variable(_TEXT, lambda facts: _only(facts.actions)),
    "resource": _Variable(_TEXT, lambda facts: _only(facts.resources)),
    "resources": _Variable(_TEXTS, lambda facts: list(facts.resources)),
    "actions": _Variable(_TEXTS, lambda facts: list(facts.actions)),
    "duration": _Variable(cel.Type.DURATION, lambda facts: facts.duration),
    "context": _Variable(_ANYTHING, _context),
    "signals": _Variable(_ANYTHING, lambda facts: dict(facts.signals.live)),
    "now": _Variable(cel.Type.TIMESTAMP, lambda facts: facts.now),
    _REVIEWER: _Variable(_ANYTHING, lambda facts: None if facts.reviewer is None else dict(facts.reviewer)),
}


class _Compiled(NamedTuple):
    """An expression, and the variables whose names occur in its text; it can read no other."""

    expression: cel.Expression
    reads: tuple[str, ...]


@lru_cache(maxsize=1024)
def _compiled(text: str) -> _Compiled:
    return _Compiled(_environment().compile(text), tuple(name for name in _VARIABLES if mentions(text, name)))


@lru_cache(maxsize=1024)
def _compiled_on_claims(text: str) -> _Compiled:
    return _Compiled(_environment("claims").compile(text), ("claims",))


@lru_cache(maxsize=1024)
def _words(text: str) -> frozenset[str]:
    return frozenset(_NAME.findall(text))


@cache
def _environment(*names: str) -> cel.Env:
    """Returns the CEL environment with these variables, with all of them by default."""
    in_cidr = cel.Overload("string_in_cidr", cel.Type.BOOL, [_TEXT, _TEXT], is_member=True, impl=_in_cidr)
    return cel.NewEnv(
        variables={name: _VARIABLES[name].type for name in names or _VARIABLES},
        functions=[cel.FunctionDecl("inCidr", [in_cidr])],
    )


def _in_cidr(address: str, network: str) -> bool:
    """Returns whether the address is in the network; IPv4-mapped IPv6 counts as IPv4. Raises ValueError."""
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed) in ipaddress.ip_network(network)


def _fault(words: str) -> str:
    found = _POSITION.search(words)
    if found is None:
        return f"is not CEL: {' '.join(words.split())[:200]}"
    return f"line {found[1]}, column {found[2]}: {found[3][:200]}"
