"""A check, judged by what a replica was told: pure rules that never say yes where the service would say no.

They are those of the service's own decision, for grants that need nothing else: subject, patterns, time, deny policies.
What they cannot be sure of is NEEDS_CHECK. Instants are whole microseconds since 1970.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from unicodedata import is_normalized

from jitaccess.model import CheckReason


class LocalReason(StrEnum):
    """Why a replica gives no answer of its own, beside the reasons that a check by the service has.

    STALE: it has not heard from the service for too long. NEEDS_CHECK: only the service can tell.
    """

    STALE = "STALE"
    NEEDS_CHECK = "NEEDS_CHECK"


_CHARACTERS = r"A-Za-z0-9_~@:+=,$!&'();\-"
_PLAIN = {
    "/": re.compile(rf"[a-z][a-z0-9_\-]*(?:/(?!\.\.?(?:/|\Z))[{_CHARACTERS}.]+){{1,63}}"),
    ".": re.compile(rf"[{_CHARACTERS}]+(?:\.[{_CHARACTERS}]+){{0,63}}"),
}
_LONGEST = {"/": 1024, ".": 256}


class Patterns:
    """Patterns of resources (`separator` "/") or actions ("."), made ready for many names."""

    __slots__ = ("_exact", "_separator", "_wild")

    def __init__(self, patterns: Iterable[str], separator: str) -> None:
        texts = tuple(patterns)
        self._separator = separator
        self._exact = frozenset(text for text in texts if "*" not in text)
        self._wild = tuple(tuple(text.split(separator)) for text in texts if "*" in text)

    def cover(self, name: str) -> bool:
        """Says whether one of them matches the name, byte for byte but for wildcards."""
        if name in self._exact:
            return True
        if not self._wild:
            return False
        segments = name.split(self._separator)
        return any(_matches(pattern, segments) for pattern in self._wild)

    def vouch_for(self, name: str) -> bool:
        """Says whether the name is sound: one that the service itself told, or one that is plain."""
        return name in self._exact or is_plain(name, self._separator)


def _matches(pattern: tuple[str, ...], segments: list[str]) -> bool:
    """`*` is one whole segment, `**` (last only) one or more."""
    if pattern[-1] == "**":
        pattern = pattern[:-1]
        if len(segments) <= len(pattern):
            return False
    elif len(pattern) != len(segments):
        return False
    return all(wanted in ("*", segment) for wanted, segment in zip(pattern, segments, strict=False))


def is_plain(name: str, separator: str) -> bool:
    """Says whether the service would take the name as it is; of others (not ASCII, `..`, `*`) only it can tell."""
    return len(name) <= _LONGEST[separator] and _PLAIN[separator].fullmatch(name) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldGrant:
    """A grant over [start, expire). `groups` None: nobody proved any, so that its holder may be in all of them."""

    name: str
    subject: str
    resources: Patterns
    actions: Patterns
    start: int
    expire: int
    expire_time: datetime
    groups: frozenset[str] | None
    needs_check: bool

    def covers(self, action: str, resource: str) -> bool:
        """Says whether it is about the action on the resource, at whatever time."""
        return self.actions.cover(action) and self.resources.cover(resource)


@dataclass(frozen=True, kw_only=True, slots=True)
class Deny:
    """A deny policy in force."""

    name: str
    principals: frozenset[str]
    groups: frozenset[str]
    resources: Patterns
    actions: Patterns

    def denies(self, grant: HeldGrant, action: str, resource: str) -> bool:
        """Says whether it forbids to the grant's subject what the grant covers."""
        return self._names(grant) and self.actions.cover(action) and self.resources.cover(resource)

    def _names(self, grant: HeldGrant) -> bool:
        if grant.subject in self.principals:
            return True
        return bool(self.groups) if grant.groups is None else not self.groups.isdisjoint(grant.groups)


class Interval(NamedTuple):
    """The service's clock is somewhere in [earliest, latest]."""

    earliest: int
    latest: int


class Judgement(NamedTuple):
    """The answer; `grant` is the one that allows it, or that explains the no. `by` is the deny policy that forbids."""

    reason: CheckReason | LocalReason
    grant: HeldGrant | None = None
    by: str = ""


Grants = Mapping[str, Sequence[HeldGrant]]
_NO_GRANT = Judgement(CheckReason.NO_GRANT)
_NEEDS_CHECK = Judgement(LocalReason.NEEDS_CHECK)
# Of several explanations, the one that helps the subject most.
_PRECEDENCE = (CheckReason.DENIED_BY_POLICY, CheckReason.NOT_YET_STARTED, CheckReason.EXPIRED)


def judge(
    subject: str, action: str, resource: str, *, grants: Grants, denies: Sequence[Deny], now: Interval
) -> Judgement:
    """Answers the question by the grants, which are by subject: ALLOWED only where the service would allow it too."""
    if not (is_canonical(subject) and is_canonical(action) and is_canonical(resource)):
        return _NEEDS_CHECK
    allowing: HeldGrant | None = None
    is_unsure = False
    findings: list[Judgement] = []
    for grant in grants.get(subject, ()):
        if not grant.covers(action, resource):
            continue
        finding = _finding(grant, action, resource, denies, now)
        if finding.reason is CheckReason.ALLOWED:
            allowing = grant if allowing is None or grant.expire > allowing.expire else allowing
        elif finding.reason is LocalReason.NEEDS_CHECK:
            is_unsure = True
        else:
            findings.append(finding)
    if allowing is not None:
        return Judgement(CheckReason.ALLOWED, allowing)
    return _NEEDS_CHECK if is_unsure else _best_explanation(findings)


def is_canonical(name: str) -> bool:
    """Says whether it is NFC, as the names that were told are."""
    return name.isascii() or is_normalized("NFC", name)


def _finding(grant: HeldGrant, action: str, resource: str, denies: Sequence[Deny], now: Interval) -> Judgement:
    if now.latest < grant.start:
        return Judgement(CheckReason.NOT_YET_STARTED, grant)
    if now.earliest >= grant.expire:
        return Judgement(CheckReason.EXPIRED, grant)
    if grant.needs_check or now.earliest < grant.start or now.latest >= grant.expire:
        return _NEEDS_CHECK
    for deny in denies:
        if deny.denies(grant, action, resource):
            return Judgement(CheckReason.DENIED_BY_POLICY, grant, deny.name)
    if not (grant.actions.vouch_for(action) and grant.resources.vouch_for(resource)):
        return _NEEDS_CHECK
    return Judgement(CheckReason.ALLOWED, grant)


def _best_explanation(findings: Sequence[Judgement]) -> Judgement:
    for reason in _PRECEDENCE:
        for finding in findings:
            if finding.reason is reason:
                return finding
    return _NO_GRANT
