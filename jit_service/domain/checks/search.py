"""Search: the names that Check would allow on the side of a question that is left out.

Sound and, but for conditions that read the side which is sought, complete: every name found is ALLOWED at that instant,
and every name a pattern found matches is, unless one of its exceptions matches it too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from heapq import heapify, heappop
from typing import Final, Protocol

from jit_service.domain.checks.decision import Question, decide, proved_groups
from jit_service.domain.checks.evidence import Candidate, Evidence
from jit_service.domain.grants.request import is_denied_by
from jitaccess.naming.pattern import action_covered, covers, overlap, resource_covered
from jitaccess.naming.pattern_table import PatternTable


class Scoped(Protocol):
    """What is read of a grant to know whether a question is about it."""

    @property
    def subject(self) -> str: ...
    @property
    def actions(self) -> tuple[str, ...]: ...
    @property
    def resources(self) -> tuple[str, ...]: ...


class Side(StrEnum):
    """The side of a question that a search leaves out."""

    SUBJECT = "subject"
    ACTION = "action"
    RESOURCE = "resource"


@dataclass(frozen=True, kw_only=True)
class SearchMatch:
    """A name on the side that was left out, or a pattern of a grant. `excepted` are not included."""

    name: str
    grant: Candidate
    excepted: tuple[str, ...] = ()

    @property
    def is_pattern(self) -> bool:
        """Whether it stands for more names than can be listed."""
        return "*" in self.name


_SEPARATOR: Final = {Side.ACTION: ".", Side.RESOURCE: "/"}
# A condition that reads the side which is sought says nothing of all the names that a pattern matches.
_READS: Final = {
    Side.ACTION: re.compile(r"\bactions?\b"),
    Side.RESOURCE: re.compile(r"\bresources?\b"),
}


def search_subjects(
    questions: Iterable[tuple[Question, Sequence[Candidate]]], evidence: Evidence[Candidate]
) -> list[SearchMatch]:
    """Returns the subjects that are allowed, each question being of one of them, with that subject's grants."""
    found = []
    for question, grants in questions:
        decision = decide(question, grants=grants, evidence=evidence)
        if decision.allowed and decision.grant is not None:
            found.append(SearchMatch(name=question.subject, grant=decision.grant))
    return found


def search_names(
    asked: Question,
    side: Side,
    grants: Sequence[Candidate],
    evidence: Evidence[Candidate],
    *,
    wants: Callable[[str], bool] = lambda _: True,
) -> Iterator[SearchMatch]:
    """Yields the actions or resources of the subject's `grants` that are allowed, names and patterns, sorted.

    Only those that `wants` accepts are judged, each when it is asked for.
    """
    having: dict[str, list[Candidate]] = {}
    patterns: PatternTable[Candidate] = PatternTable(_SEPARATOR[side])
    for grant in filter(reaching(asked, side), grants):
        for text in _texts(grant, side):
            if "*" in text:
                patterns.add(text, grant)
            if wants(text):
                having.setdefault(text, []).append(grant)
    # A page shows few of them, and to sort all takes longer than to find the first ones.
    texts = list(having)
    heapify(texts)
    while texts:
        text = heappop(texts)
        if "*" in text:
            one = _pattern(asked, side, text, having[text], evidence)
        else:
            one = _name(asked, side, text, _each_once((*having[text], *patterns.matching(text))), evidence)
        if one is not None:
            yield one


def reaching(asked: Question, side: Side) -> Callable[[Scoped], bool]:
    """Returns `reaches` for many grants: most are alike in the sides that are given, so each scope is judged once."""
    known: dict[tuple[str, tuple[str, ...], tuple[str, ...]], bool] = {}

    def does(grant: Scoped) -> bool:
        scope = (
            "" if side is Side.SUBJECT else grant.subject,
            () if side is Side.ACTION else grant.actions,
            () if side is Side.RESOURCE else grant.resources,
        )
        if (known_to := known.get(scope)) is None:
            known_to = known[scope] = reaches(grant, asked, side)
        return known_to

    return does


def reaches(grant: Scoped, asked: Question, side: Side) -> bool:
    """Returns whether the grant covers the sides that are given."""
    return (
        (side is Side.SUBJECT or grant.subject == asked.subject)
        and (side is Side.ACTION or action_covered(asked.action, grant.actions))
        and (side is Side.RESOURCE or resource_covered(asked.resource, grant.resources))
    )


def _name(
    asked: Question, side: Side, name: str, grants: Sequence[Candidate], evidence: Evidence[Candidate]
) -> SearchMatch | None:
    decision = decide(_with(asked, side, name), grants=grants, evidence=evidence)
    return SearchMatch(name=name, grant=decision.grant) if decision.allowed and decision.grant is not None else None


def _pattern(
    asked: Question, side: Side, pattern: str, grants: Sequence[Candidate], evidence: Evidence[Candidate]
) -> SearchMatch | None:
    """Judges the pattern for all its names alike, by each of the grants, which have it; what is denied is excepted."""
    undenied = evidence._replace(policies=())
    found = []
    for grant in grants:
        if _READS[side].search(grant.check_condition):
            continue
        if not decide(_with(asked, side, pattern), grants=[grant], evidence=undenied).allowed:
            continue
        excepted = _denying_patterns(asked, side, pattern, grant, evidence)
        if not any(covers(denied, pattern, _SEPARATOR[side]) for denied in excepted):
            found.append(SearchMatch(name=pattern, grant=grant, excepted=excepted))
    return min(found, key=_preference, default=None)


def _denying_patterns(
    asked: Question, side: Side, pattern: str, grant: Candidate, evidence: Evidence[Candidate]
) -> tuple[str, ...]:
    """Returns the patterns of deny policies that stand against some name of the pattern, by this grant."""
    holders = [(grant.subject, proved_groups(grant, asked))]
    for name in grant.chain:
        above = evidence.above[name]
        holders.append((above.subject, proved_groups(above, asked._replace(groups=None, groups_left_out=False))))
    denied = {
        text
        for policy in evidence.policies
        if any(is_denied_by(policy, subject=subject, groups=groups) for subject, groups in holders)
        and (
            action_covered(asked.action, policy.actions)
            if side is Side.RESOURCE
            else resource_covered(asked.resource, policy.resources)
        )
        for text in (policy.resources if side is Side.RESOURCE else policy.actions)
        if overlap(text, pattern, _SEPARATOR[side])
    }
    return tuple(sorted(denied))


def _each_once(grants: Iterable[Candidate]) -> list[Candidate]:
    """Returns the grants by name: one may reach a name by several of its patterns."""
    return sorted({grant.name: grant for grant in grants}.values(), key=lambda grant: grant.name)


def _preference(found: SearchMatch) -> tuple[int, float]:
    """What leaves out least comes first, then what lasts longest."""
    ends = found.grant.expires_at
    return len(found.excepted), -ends.timestamp() if ends is not None else 0.0


def _texts(grant: Candidate, side: Side) -> tuple[str, ...]:
    return grant.actions if side is Side.ACTION else grant.resources


def _with(asked: Question, side: Side, name: str) -> Question:
    return asked._replace(action=name) if side is Side.ACTION else asked._replace(resource=name)
