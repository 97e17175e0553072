"""The decision of a check by a replica's state: pure rules that never say yes where the service would say no.

They are those of the service's own decision, for grants that need nothing else: subject, patterns, time, deny
policies, locks. Where they cannot be sure, the answer is NEEDS_CHECK. Instants are whole microseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, NamedTuple
from unicodedata import is_normalized

from jitaccess.contract.model import CheckReason
from jitaccess.naming.names import canonical, folded, is_action, is_resource
from jitaccess.naming.pattern import Patterns


class LocalReason(StrEnum):
    """Why a replica gives no answer of its own, beside the reasons that a check by the service has.

    STALE: it has not heard from the service for too long. NEEDS_CHECK: only the service can tell.
    """

    STALE = "STALE"
    NEEDS_CHECK = "NEEDS_CHECK"


def is_plain(name: str, separator: str) -> bool:
    """Returns whether the name, "/" for a resource, "." for an action, is ASCII and canonical.

    Of names that are not ASCII only the service can tell: its Unicode may be of another version.
    """
    return name.isascii() and (is_resource(name) if separator == "/" else is_action(name))


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldGrant:
    """A grant over [start, expire). `groups` None: no token proved any, so its subject may be in any of them."""

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
        """Returns whether it forbids to the grant's subject what the grant covers."""
        return self._names(grant) and self.resources.match(resource) and self.actions.match(action)

    def reaches_into(self, grant: HeldGrant) -> bool:
        """Returns whether it forbids to the grant's subject any part of what the grant covers."""
        return self._names(grant) and self.resources.overlap(grant.resources) and self.actions.overlap(grant.actions)

    def refuses(self, grant: HeldGrant) -> bool:
        """Returns whether a request for the grant would be refused now: where a whole pattern of it is forbidden."""
        covered = self.resources.cover_one_of(grant.resources) and self.actions.cover_one_of(grant.actions)
        return covered and self._names(grant)

    def _names(self, grant: HeldGrant) -> bool:
        if grant.key in self.principals:
            return True
        return bool(self.groups) if grant.groups is None else not self.groups.isdisjoint(grant.groups)


class Denies:
    """All deny policies in force. It knows whom they name together, since most subjects are named by none."""

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
        """Returns whether one of them forbids any part of what the grant covers."""
        return any(deny.reaches_into(grant) for deny in self._policies)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lock:
    """A lock, on a principal or a group, over [.., until); None: until it is lifted."""

    name: str
    principal: str = ""
    group: str = ""
    until: int | None = None


class Locks:
    """All locks that may stand. False where there are none, so that callers can skip them."""

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
    if subject != folded(subject):
        # Of most issuers' principals the service folds the letter case, and not of all: it knows which.
        return _NEEDS_CHECK
    allowing: Judgement | None = None
    findings: list[Judgement] = []
    for grant in grants.get(subject, ()):
        if not (grant.resources.match(resource) and grant.actions.match(action)):
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
    """Returns whether a token of the subject's grant counts: it is active, no lock stands, and no deny reaches into it.

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
    """Returns whether they are NFC, as the names that the service sends are."""
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
    if not (_is_sound(grant.actions, action, ".") and _is_sound(grant.resources, resource, "/")):
        return _NEEDS_CHECK
    return grant.allows


def _is_sound(patterns: Patterns, name: str, separator: str) -> bool:
    """Returns whether the name is one that the service itself sent, or one that is plain."""
    return patterns.hold(name) or is_plain(name, separator)


def _best_explanation(findings: Sequence[Judgement]) -> Judgement:
    return min(findings, key=lambda finding: _PRECEDENCE.index(finding.reason))
