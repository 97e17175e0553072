"""The use case of Search: finds the names that would make a question with one side left out a yes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain, islice
from typing import Any, Final, TypeVar

from jit_service.check import GrantCache, Recorder
from jit_service.check.evidence import stored_evidence
from jit_service.check.questions import demand_reader_of_past
from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Caller, Role
from jit_service.domain.checks.decision import Question
from jit_service.domain.checks.evidence import Candidate, Evidence
from jit_service.domain.checks.search import Scoped, SearchMatch, Side, reaching, search_names, search_subjects
from jit_service.domain.conditions import context
from jit_service.domain.errors import InvalidField, RoleRequired
from jit_service.domain.grants.lock import demand_unlocked_caller
from jit_service.domain.language import name, paging
from jit_service.storage import Store, payload_of
from jitaccess.naming import rfc3339

_MORE: Final = 8
"""How many times as many subjects are looked at where the first ones do not fill a page."""
Reaching = TypeVar("Reaching", bound=Scoped)
_Held = Mapping[str, Sequence[Candidate]]
_Wants = Callable[[str], bool]
_Found = tuple[list[SearchMatch], int, datetime]
"""Matches in the order of their names, with the revision and the instant of them."""


@dataclass(frozen=True, kw_only=True)
class SearchQuery:
    """A question whose `side` is left empty, to be searched for.

    `own_groups` and `own_address` are the caller's, proved by this call. They count for no other subject, and for no
    past instant `read_at`.
    """

    question: Question
    side: Side
    own_groups: frozenset[str] | None
    own_address: str
    read_at: datetime | None = None

    def of(self, subject: str) -> Question:
        """Returns the question about one subject, as the same caller would ask Check."""
        itself = subject == self.question.principal and self.read_at is None
        address = self.own_address if itself else self.question.source_address
        return self.question._replace(subject=subject, source_address=address, **_proved(itself, self.own_groups))


@dataclass(frozen=True, kw_only=True)
class SearchPage:
    """One page of names, sorted, with the revision and instant that it rests on.

    `read_at` is the past instant that it is about, and `not_on_record` what nobody can know of that.
    """

    found: tuple[SearchMatch, ...]
    next_page_token: str
    revision: int
    at: datetime
    read_at: datetime | None = None
    not_on_record: tuple[str, ...] = ()


def search_query(
    caller: Caller,
    *,
    subject: str,
    action: str,
    resource: str,
    asserted: dict[str, Any] | None = None,
    read_at: datetime | None = None,
) -> SearchQuery:
    """Returns the search in canonical form. Raises RoleRequired, InvalidField.

    A caller may search its own access; all else needs the role `checker`, or for a past instant `auditor` or `admin`.
    """
    subject = name.folded(subject, caller.exact)
    itself = bool(subject) and subject == caller.principal
    if not itself:
        _demand_role(caller, read_at)
    given = {Side.SUBJECT: subject, Side.ACTION: action, Side.RESOURCE: resource}
    missing = [side for side in Side if not given[side]]
    if len(missing) != 1:
        fault = "must be left out, or one of the others" if not missing else "is required: leave out exactly one side"
        raise InvalidField(missing[1] if missing else Side.SUBJECT, fault)
    # What the caller is and where it is now says nothing of then.
    itself = itself and read_at is None
    attributes, source_address = context.of_question(caller, asserted, itself=itself)
    checks: Mapping[Side, Callable[[str, str], str]] = {
        Side.SUBJECT: partial(name.principal, exact=caller.exact),
        Side.ACTION: name.action,
        Side.RESOURCE: name.resource,
    }
    names = {side: checks[side](text, side) if text else "" for side, text in given.items()}
    return SearchQuery(
        question=Question(
            subject=names[Side.SUBJECT],
            action=names[Side.ACTION],
            resource=names[Side.RESOURCE],
            **_proved(itself, caller.groups),
            principal=caller.principal,
            context=attributes,
            source_address=source_address,
        ),
        side=missing[0],
        own_groups=caller.groups,
        own_address=caller.origin.source_address,
        read_at=read_at,
    )


def _demand_role(caller: Caller, read_at: datetime | None) -> None:
    if read_at is not None:
        demand_reader_of_past(caller)
    elif not caller.has(Role.CHECKER):
        raise RoleRequired(
            f"searching for more than one's own access needs the role checker, which {caller.principal} does not have"
        )


def _proved(itself: bool, groups: frozenset[str] | None) -> dict[str, Any]:
    return {"groups": groups if itself else None, "groups_left_out": itself and groups is None}


class Searcher:
    """Searches. Its results are as fresh as a strong check. Raises StoreUnavailable if its data may be stale.

    A search counts no use: it finds a grant that counts its uses while it has some left.
    """

    def __init__(self, store: Store, grants: GrantCache, recorder: Recorder) -> None:
        self._store = store
        self._grants = grants
        self._recorder = recorder

    def search(
        self,
        caller: Caller,
        wanted: SearchQuery,
        *,
        page_size: int = 0,
        page_token: str = "",
        within: str = "",
        bound_to: str = "",
    ) -> SearchPage:
        """Returns a page of the names that are found, sorted. Raises InvalidField.

        `within` keeps only names that begin with it, and patterns that may match such names: `user:`, `database/`. Each
        page is decided anew, at its own revision, and few names that are not on it. A token is valid only for the same
        search and the same `bound_to`.
        """
        size = paging.page_size(page_size)
        query = search_digest(caller, wanted, within, bound_to)
        # No name is empty.
        after = str(paging.decode(page_token, query=query, shape=[str])[0]) if page_token else ""
        find = self._subjects if wanted.side is Side.SUBJECT else self._names
        found, revision, now = find(caller, wanted, _wants(after, within), size + 1)
        page = tuple(found[:size])
        token = paging.encode((page[-1].name,), query=query) if len(found) > size else ""
        searched = SearchPage(found=page, next_page_token=token, revision=revision, at=now)
        if self._recorder.wants(allowed=bool(page)):
            self._recorder.record((payload_of(search_event(caller, wanted, searched)),), at=now)
        return searched

    def _names(self, caller: Caller, wanted: SearchQuery, wants: _Wants, most: int) -> _Found:
        subject = wanted.question.subject
        view = self._grants.strong((subject,))
        demand_unlocked_caller(view.locks, caller)
        held = view.held[subject].grants
        if all(map(view.is_sufficient, filter(reaching(wanted.question, wanted.side), held))):
            found = search_names(wanted.question, wanted.side, held, view.evidence, wants=wants)
            return list(islice(found, most)), view.revision, view.now
        with self._store.snapshot() as snapshot:
            grants = snapshot.live_grants(subject)
            evidence = stored_evidence(snapshot, grants, now=snapshot.now)
            found = search_names(wanted.question, wanted.side, grants, evidence, wants=wants)
            return list(islice(found, most)), snapshot.revision, snapshot.now

    def _subjects(self, caller: Caller, wanted: SearchQuery, wants: _Wants, most: int) -> _Found:
        looks_at = most
        while True:
            view, reached = self._grants.reaching(wanted.question.resource, wants, looks_at)
            demand_unlocked_caller(view.locks, caller)
            held = by_subject(chain.from_iterable(reached), wanted)
            if all(map(view.is_sufficient, chain.from_iterable(held.values()))):
                found, revision, now = _found_subjects(wanted, held, view.evidence), view.revision, view.now
                are_all = len(reached) < looks_at
            else:
                (found, revision, now), are_all = self._stored_subjects(wanted, wants, looks_at)
            if len(found) >= most or are_all:
                return found[:most], revision, now
            # All anew, and not only the next ones: a page is of one revision.
            looks_at *= _MORE

    def _stored_subjects(self, wanted: SearchQuery, wants: _Wants, looks_at: int) -> tuple[_Found, bool]:
        """Finds among the first subjects, where some grants count their uses: only the store knows how many are left.

        Returns also whether these are all subjects. The transaction locks the head, so nothing is committed meanwhile
        and all of it is of one revision.
        """
        with self._store.transaction() as tx:
            view, reached = self._grants.reaching(wanted.question.resource, wants, looks_at)
            held = by_subject(chain.from_iterable(reached), wanted)
            now = max(tx.now, view.now)
            counted = [subject for subject, grants in held.items() if not all(map(view.is_sufficient, grants))]
            stored = {subject: tx.live_grants(subject) for subject in counted}
            counting = [grant for grants in stored.values() for grant in grants]
            evidence: Evidence[Candidate] = stored_evidence(tx, counting, now=now)
            above: dict[str, Candidate] = {**view.above, **evidence.above}
            found = _found_subjects(wanted, {**held, **stored}, evidence._replace(above=above))
            return (found, view.revision, now), len(reached) < looks_at


def _found_subjects(wanted: SearchQuery, held: _Held, evidence: Evidence[Candidate]) -> list[SearchMatch]:
    return search_subjects(((wanted.of(subject), grants) for subject, grants in held.items()), evidence)


def by_subject(everything: Iterable[Reaching], wanted: SearchQuery) -> dict[str, list[Reaching]]:
    """Returns by subject the grants that reach the sides which are given."""
    held: dict[str, list[Reaching]] = {}
    for grant in filter(reaching(wanted.question, wanted.side), everything):
        held.setdefault(grant.subject, []).append(grant)
    return held


def _wants(after: str, within: str) -> _Wants:
    # Of all that there is each is asked about, so without a call of a function where there can be none.
    return (lambda text: text > after and _is_within(text, within)) if within else after.__lt__


def _is_within(text: str, within: str) -> bool:
    """Returns whether the text begins with `within`, or is a pattern that may match names which do."""
    fixed, star, _ = text.partition("*")
    return text.startswith(within) or (bool(star) and within.startswith(fixed))


def search_digest(caller: Caller, wanted: SearchQuery, *others: str) -> str:
    """Returns what a page token is bound to: the search and its caller."""
    asked = wanted.question
    asserted = json.dumps(dict(asked.context), sort_keys=True)
    # A caller that searches its own access may change its address between two pages.
    asserted_ip = asked.source_address if asked.subject != caller.principal else ""
    names = (asked.subject, asked.action, asked.resource)
    instant = (rfc3339.exact(wanted.read_at),) if wanted.read_at is not None else ()
    return paging.digest("search", caller.principal, *names, asserted, asserted_ip, *others, *instant)


def search_event(caller: Caller, wanted: SearchQuery, searched: SearchPage) -> Event:
    """Returns what is recorded of a page."""
    asked = wanted.question
    instant = f", as of {rfc3339.exact(wanted.read_at)}" if wanted.read_at is not None else ""
    return Event(
        type=EventType.ACCESS_SEARCHED,
        at=searched.at,
        principal=caller.principal,
        origin=caller.origin,
        subject=asked.subject,
        resources=(asked.resource,) if asked.resource else (),
        actions=(asked.action,) if asked.action else (),
        message=f"{len(searched.found)} found of what was left out, the {wanted.side}{instant}",
        revision=searched.revision,
        context=dict(asked.context),
        subject_source_ip=asked.source_address,
    )
