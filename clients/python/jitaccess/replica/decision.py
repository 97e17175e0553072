"""A check, judged by what a replica was told: pure rules that never say yes where the service would say no.

They are those of the service's own decision, for grants that need nothing else: subject, patterns, time, deny
policies, locks.
What they cannot be sure of is NEEDS_CHECK. Instants are whole microseconds since 1970.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Literal, NamedTuple
from unicodedata import is_normalized, normalize

from jitaccess.contract.model import CheckReason
from jitaccess.naming.name import is_pattern


class LocalReason(StrEnum):
    """Why a replica gives no answer of its own, beside the reasons that a check by the service has.

    STALE: it has not heard from the service for too long. NEEDS_CHECK: only the service can tell.
    """

    STALE = "STALE"
    NEEDS_CHECK = "NEEDS_CHECK"


# As plain as nearly every name is.
_PLAIN = {
    "/": re.compile(r"[a-z][a-z0-9_-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.@:-]*){1,63}"),
    ".": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_][A-Za-z0-9_-]*){0,63}"),
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

    def overlap(self, other: Patterns) -> bool:
        """Says whether some name is matched by one of them and by one of the others."""
        return any(_meet(left, right) for left in self._segments() for right in other._segments())

    def cover_some_of(self, other: Patterns) -> bool:
        """Says whether one of them matches all that one of the others matches."""
        return any(self._covers_all_of(segments) for segments in other._segments())

    def _covers_all_of(self, wanted: Sequence[str]) -> bool:
        # A `*` is any one segment, so that it covers the patterns of one; `**` is more, and only `**` covers it.
        return any(
            (wanted[-1] != "**" or pattern[-1] == "**") and _matches(tuple(pattern), wanted)
            for pattern in self._segments()
        )

    def _segments(self) -> Iterable[Sequence[str]]:
        return [*(text.split(self._separator) for text in self._exact), *self._wild]

    def vouch_for(self, name: str) -> bool:
        """Says whether the name is sound: one that the service itself told, or one that is plain."""
        return name in self._exact or is_plain(name, self._separator)


def _matches(pattern: tuple[str, ...], segments: Sequence[str]) -> bool:
    """`*` at the end of a segment is the rest of it, alone a whole one; `**` (last only) is one segment or more."""
    if pattern[-1] == "**":
        pattern = pattern[:-1]
        if len(segments) <= len(pattern):
            return False
    elif len(pattern) != len(segments):
        return False
    return all(_fits(wanted, segment) for wanted, segment in zip(pattern, segments, strict=False))


def _fits(wanted: str, segment: str) -> bool:
    return segment.startswith(wanted[:-1]) if wanted.endswith("*") else wanted == segment


def _meet(left: Sequence[str], right: Sequence[str]) -> bool:
    for mine, other in zip(left, right, strict=False):
        if "**" in (mine, other):
            return True
        if not _share(mine, other):
            return False
    return len(left) == len(right)


def _share(mine: str, other: str) -> bool:
    """Says whether some segment fits both: what the longer one begins with, if any does."""
    begun, longer = sorted((mine, other), key=lambda wanted: len(wanted.removesuffix("*")))
    return _fits(begun, longer.removesuffix("*"))


def is_plain(name: str, separator: str) -> bool:
    """Says whether the service would take the name as it is; of others (not ASCII, `..`, `*`) only it can tell."""
    if len(name) <= _LONGEST[separator] and _PLAIN[separator].fullmatch(name):
        return True
    return name.isascii() and "*" not in name and is_pattern(name, separator)


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
    allows: Judgement = field(init=False, repr=False, compare=False)
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Made once, since most answers are this one.
        object.__setattr__(self, "allows", Judgement(CheckReason.ALLOWED, self))
        object.__setattr__(self, "key", canonical(self.subject))


@dataclass(frozen=True, kw_only=True, slots=True)
class Deny:
    """A deny policy in force. `principals` are canonical: it forbids in any letter case."""

    name: str
    principals: frozenset[str]
    groups: frozenset[str]
    resources: Patterns
    actions: Patterns

    def denies(self, grant: HeldGrant, action: str, resource: str) -> bool:
        """Says whether it forbids to the grant's subject what the grant covers."""
        return self._names(grant) and self.resources.cover(resource) and self.actions.cover(action)

    def reaches_into(self, grant: HeldGrant) -> bool:
        """Says whether it forbids to the grant's subject any part of what the grant covers."""
        return self._names(grant) and self.resources.overlap(grant.resources) and self.actions.overlap(grant.actions)

    def refuses(self, grant: HeldGrant) -> bool:
        """Says whether the grant would be refused if it was asked for now: where a whole pattern of it is forbidden."""
        covered = self.resources.cover_some_of(grant.resources) and self.actions.cover_some_of(grant.actions)
        return covered and self._names(grant)

    def _names(self, grant: HeldGrant) -> bool:
        if grant.key in self.principals:
            return True
        return bool(self.groups) if grant.groups is None else not self.groups.isdisjoint(grant.groups)


class Denies:
    """All deny policies in force, with whom they name together, since most subjects are named by none."""

    __slots__ = ("_groups", "_policies", "_principals")

    def __init__(self, policies: Iterable[Deny] = ()) -> None:
        self._policies = tuple(policies)
        self._principals = frozenset[str]().union(*(deny.principals for deny in self._policies))
        self._groups = frozenset[str]().union(*(deny.groups for deny in self._policies))

    def against(self, grant: HeldGrant, action: str, resource: str) -> str:
        """Returns the name of the policy that forbids what the grant covers; empty where none does."""
        groups = grant.groups
        if groups is not None and self._groups.isdisjoint(groups) and grant.key not in self._principals:
            return ""
        return next((deny.name for deny in self._policies if deny.denies(grant, action, resource)), "")

    def reach_into(self, grant: HeldGrant) -> bool:
        """Says whether one of them forbids any part of what the grant covers."""
        return any(deny.reaches_into(grant) for deny in self._policies)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lock:
    """A lock, on a principal or a group, over [.., until); None: until it is lifted."""

    name: str
    principal: str = ""
    group: str = ""
    until: int | None = None


class Locks:
    """All locks that may stand. False where there are none, and then there is nothing to ask."""

    __slots__ = ("_by_principal", "_of_groups")

    def __init__(self, locks: Iterable[Lock] = ()) -> None:
        self._by_principal: dict[str, list[Lock]] = {}
        self._of_groups: list[Lock] = []
        for lock in locks:
            if lock.group:
                self._of_groups.append(lock)
            else:
                self._by_principal.setdefault(canonical(lock.principal), []).append(lock)

    def __bool__(self) -> bool:
        return bool(self._by_principal or self._of_groups)

    def on(
        self,
        principal: str,
        groups: frozenset[str] | None,
        *,
        earliest: int,
        latest: int,
        grant: HeldGrant | None = None,
    ) -> Judgement | None:
        """Returns the no that a lock on the principal or one of its groups says; None where there is none.

        Groups that nobody proved may be any. Where the lock is just ending, only the service can tell.
        """
        doubt = None
        for lock in self._on(principal, groups):
            if lock.until is None or latest < lock.until:
                return Judgement(CheckReason.LOCKED, grant, lock.name)
            if earliest < lock.until:
                doubt = _NEEDS_CHECK
        return doubt

    def _on(self, principal: str, groups: frozenset[str] | None) -> Iterable[Lock]:
        yield from self._by_principal.get(canonical(principal), ())
        yield from (lock for lock in self._of_groups if groups is None or lock.group in groups)


@lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """Returns the key by which two principals are the same person: letter case and compatibility forms folded."""
    return normalize("NFKC", normalize("NFKC", name).casefold())


class Judgement(NamedTuple):
    """The answer; `grant` is the one that allows it, or explains the no. `by` is the policy or lock that forbids it."""

    reason: CheckReason | LocalReason
    grant: HeldGrant | None = None
    by: str = ""


Grants = Mapping[str, Sequence[HeldGrant]]
_NO_GRANT = Judgement(CheckReason.NO_GRANT)
_NEEDS_CHECK = Judgement(LocalReason.NEEDS_CHECK)
NO_LOCKS = Locks()
_NOBODY: frozenset[str] = frozenset()
# Of several findings none of which is a yes: one that may be one, then the explanation that helps the subject most.
_PRECEDENCE = (
    LocalReason.NEEDS_CHECK,
    CheckReason.LOCKED,
    CheckReason.DENIED_BY_POLICY,
    CheckReason.NOT_YET_STARTED,
    CheckReason.EXPIRED,
)


def judge(
    subject: str,
    action: str,
    resource: str,
    *,
    grants: Grants,
    denies: Denies,
    earliest: int,
    latest: int,
    locks: Locks = NO_LOCKS,
) -> Judgement:
    """Answers the question by the grants, which are by subject: ALLOWED only where the service would allow it too.

    The service's clock is somewhere in [earliest, latest].
    """
    if not (subject.isascii() and action.isascii() and resource.isascii()) and not _are_canonical(
        subject, action, resource
    ):
        return _NEEDS_CHECK
    # What is known without any grant; each grant may know of more groups.
    if locks and (locked := locks.on(subject, _NOBODY, earliest=earliest, latest=latest)) is not None:
        return locked
    if "@" in subject and subject != subject.lower():
        # Of most issuers' principals the service folds the letter case, and not of all: it knows which.
        return _NEEDS_CHECK
    allowing: Judgement | None = None
    findings: list[Judgement] = []
    for grant in grants.get(subject, ()):
        if not (grant.resources.cover(resource) and grant.actions.cover(action)):
            continue
        finding = _finding(grant, action, resource, denies, earliest, latest, locks)
        if finding is not grant.allows:
            findings.append(finding)
        elif allowing is None or grant.expire > allowing.grant.expire:  # type: ignore[union-attr]  # It has one.
            allowing = finding
    return allowing or (_best_explanation(findings) if findings else _NO_GRANT)


def is_live(
    grant: HeldGrant | None, subject: str, *, denies: Denies, earliest: int, latest: int, locks: Locks = NO_LOCKS
) -> bool | Literal[LocalReason.NEEDS_CHECK]:
    """Says whether a token of the subject's grant counts: the grant is active, no lock stands, no deny reaches into it.

    The service's clock is somewhere in [earliest, latest].
    """
    if grant is None or grant.subject != subject or latest < grant.start or earliest >= grant.expire:
        return False
    if grant.needs_check or earliest < grant.start or latest >= grant.expire:
        return LocalReason.NEEDS_CHECK
    if locks and (locked := locks.on(subject, grant.groups, earliest=earliest, latest=latest)) is not None:
        return LocalReason.NEEDS_CHECK if locked is _NEEDS_CHECK else False
    return not denies.reach_into(grant)


def _are_canonical(*names: str) -> bool:
    """Says whether they are NFC, as the names that were told are."""
    return all(is_normalized("NFC", name) for name in names)


def _finding(
    grant: HeldGrant, action: str, resource: str, denies: Denies, earliest: int, latest: int, locks: Locks
) -> Judgement:
    if latest < grant.start:
        return Judgement(CheckReason.NOT_YET_STARTED, grant)
    if earliest >= grant.expire:
        return Judgement(CheckReason.EXPIRED, grant)
    if grant.needs_check or earliest < grant.start or latest >= grant.expire:
        return _NEEDS_CHECK
    if locks:
        locked = locks.on(grant.subject, grant.groups, earliest=earliest, latest=latest, grant=grant)
        if locked is not None:
            return locked
    if by := denies.against(grant, action, resource):
        return Judgement(CheckReason.DENIED_BY_POLICY, grant, by)
    if not (grant.actions.vouch_for(action) and grant.resources.vouch_for(resource)):
        return _NEEDS_CHECK
    return grant.allows


def _best_explanation(findings: Sequence[Judgement]) -> Judgement:
    return min(findings, key=lambda finding: _PRECEDENCE.index(finding.reason))
