"""The use case of Search: the names that Check would allow on the side of a question that is left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from jit_service.check import GrantCache, Recorder, View
from jit_service.check.evidence import stored_evidence
from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.caller import Caller, Role
from jit_service.domain.checks.cached_grant import LiveGrant
from jit_service.domain.checks.decision import Question
from jit_service.domain.checks.evidence import Candidate, Evidence
from jit_service.domain.checks.search import Found, Side, found_names, found_subjects, reaches
from jit_service.domain.conditions import context
from jit_service.domain.errors import InvalidField, RoleRequired
from jit_service.domain.grants.lock import demand_unlocked_caller
from jit_service.domain.language import name, paging
from jit_service.storage import Store, payload_of

_Held = Mapping[str, Sequence[Candidate]]


@dataclass(frozen=True, kw_only=True)
class Sought:
    """A question without its `side`, which is empty in it.

    `own_groups` and `own_address` are the caller's, proved by this call: they count for nobody else.
    """

    question: Question
    side: Side
    own_groups: frozenset[str] | None
    own_address: str

    def of(self, subject: str) -> Question:
        """Returns the question of one subject, as Check would have it from the same caller."""
        itself = subject == self.question.principal
        address = self.own_address if itself else self.question.source_address
        return self.question._replace(subject=subject, source_address=address, **_proved(itself, self.own_groups))


@dataclass(frozen=True, kw_only=True)
class Searched:
    """One page: what was found by name, and what it rests on."""

    found: tuple[Found, ...]
    next_page_token: str
    revision: int
    at: datetime


def sought(
    caller: Caller, *, subject: str, action: str, resource: str, asserted: dict[str, Any] | None = None
) -> Sought:
    """Returns what is sought, in canonical form. Raises RoleRequired, InvalidField.

    Anyone may search for what it may do itself, the role `checker` for everything.
    """
    subject = name.folded(subject, caller.exact)
    if not (subject and subject == caller.principal) and not caller.has(Role.CHECKER):
        raise RoleRequired(
            f"searching for more than one's own access needs the role checker, which {caller.principal} does not have"
        )
    given = {Side.SUBJECT: subject, Side.ACTION: action, Side.RESOURCE: resource}
    missing = [side for side in Side if not given[side]]
    if len(missing) != 1:
        fault = "must be left out, or one of the others" if not missing else "is required: leave out exactly one side"
        raise InvalidField(missing[1] if missing else Side.SUBJECT, fault)
    itself = subject == caller.principal
    told, source_address = context.told_of(caller, asserted, itself=itself)
    checks: Mapping[Side, Callable[[str, str], str]] = {
        Side.SUBJECT: partial(name.principal, exact=caller.exact),
        Side.ACTION: name.action,
        Side.RESOURCE: name.resource,
    }
    names = {side: checks[side](text, side) if text else "" for side, text in given.items()}
    return Sought(
        question=Question(
            subject=names[Side.SUBJECT],
            action=names[Side.ACTION],
            resource=names[Side.RESOURCE],
            **_proved(itself, caller.groups),
            principal=caller.principal,
            context=told,
            source_address=source_address,
        ),
        side=missing[0],
        own_groups=caller.groups,
        own_address=caller.origin.source_address,
    )


def _proved(itself: bool, groups: frozenset[str] | None) -> dict[str, Any]:
    return {"groups": groups if itself else None, "groups_left_out": itself and groups is None}


class Searcher:
    """Searches. What it finds is as fresh as a strong check. Raises StoreUnavailable where it cannot be sure.

    It uses up nothing: a grant that counts its checks is found while it has some left.
    """

    def __init__(self, store: Store, grants: GrantCache, recorder: Recorder) -> None:
        self._store = store
        self._grants = grants
        self._recorder = recorder

    def search(
        self,
        caller: Caller,
        wanted: Sought,
        *,
        page_size: int = 0,
        page_token: str = "",
        within: str = "",
        bound_to: str = "",
    ) -> Searched:
        """Returns a page of what is found, by name. Raises InvalidField.

        `within` leaves only names (and patterns that may match some) which begin with it: `user:`, `database/`. Each
        page is judged anew, at its own revision. A token goes with its own search and `bound_to` only.
        """
        size = paging.page_size(page_size)
        query = _digest(caller, wanted, within, bound_to)
        after = paging.decode(page_token, query=query, shape=[str])[0] if page_token else ""
        everything, revision, now = self._found(caller, wanted)
        found = sorted((one for one in everything if _is_within(one.name, within)), key=lambda one: one.name)
        rest = [one for one in found if not page_token or one.name > str(after)]
        page = tuple(rest[:size])
        token = paging.encode((page[-1].name,), query=query) if len(rest) > size else ""
        searched = Searched(found=page, next_page_token=token, revision=revision, at=now)
        if self._recorder.wants(allowed=bool(page)):
            self._recorder.record((payload_of(_event(caller, wanted, searched)),), at=now)
        return searched

    def _found(self, caller: Caller, wanted: Sought) -> tuple[list[Found], int, datetime]:
        if wanted.side is Side.SUBJECT:
            return self._subjects(caller, wanted)
        subject = wanted.question.subject
        view = self._grants.strong((subject,))
        demand_unlocked_caller(view.locks, caller)
        held = view.held[subject].grants
        if _are_sufficient(view, held, wanted):
            return found_names(wanted.question, wanted.side, held, view.evidence), view.revision, view.now
        with self._store.snapshot() as snapshot:
            grants = snapshot.live_grants(subject)
            evidence = stored_evidence(snapshot, grants, now=snapshot.now)
            return found_names(wanted.question, wanted.side, grants, evidence), snapshot.revision, snapshot.now

    def _subjects(self, caller: Caller, wanted: Sought) -> tuple[list[Found], int, datetime]:
        view, everything = self._grants.survey()
        demand_unlocked_caller(view.locks, caller)
        held = _by_subject(everything, wanted)
        if all(_are_sufficient(view, grants, wanted) for grants in held.values()):
            return _found_subjects(wanted, held, view.evidence), view.revision, view.now
        # Some count their checks, and only the store knows how often. While this holds its head, nothing is committed,
        # so that all of it is of one revision.
        with self._store.transaction() as tx:
            view, everything = self._grants.survey()
            held = _by_subject(everything, wanted)
            now = max(tx.now, view.now)
            counted = [subject for subject, grants in held.items() if not _are_sufficient(view, grants, wanted)]
            stored = {subject: tx.live_grants(subject) for subject in counted}
            counting = [grant for grants in stored.values() for grant in grants]
            evidence: Evidence[Candidate] = stored_evidence(tx, counting, now=now)
            above: dict[str, Candidate] = {**view.above, **evidence.above}
            found = _found_subjects(wanted, {**held, **stored}, evidence._replace(above=above))
            return found, view.revision, now


def _found_subjects(wanted: Sought, held: _Held, evidence: Evidence[Candidate]) -> list[Found]:
    return found_subjects(((wanted.of(subject), grants) for subject, grants in held.items()), evidence)


def _by_subject(everything: Iterable[Sequence[LiveGrant]], wanted: Sought) -> dict[str, list[Candidate]]:
    """Returns the grants that reach the action and resource, by subject."""
    # Grants are many, and what they are of is not.
    known: dict[tuple[tuple[str, ...], tuple[str, ...]], bool] = {}
    held: dict[str, list[Candidate]] = {}
    for grants in everything:
        for grant in grants:
            scope = (grant.actions, grant.resources)
            if scope not in known:
                known[scope] = reaches(grant, wanted.question, Side.SUBJECT)
            if known[scope]:
                held.setdefault(grant.subject, []).append(grant)
    return held


def _are_sufficient(view: View, grants: Iterable[Any], wanted: Sought) -> bool:
    return all(view.is_sufficient(grant) for grant in grants if reaches(grant, wanted.question, wanted.side))


def _is_within(text: str, within: str) -> bool:
    """Says whether it begins with `within`, or is a pattern that may match what does."""
    fixed, star, _ = text.partition("*")
    return text.startswith(within) or (bool(star) and within.startswith(fixed))


def _digest(caller: Caller, wanted: Sought, *others: str) -> str:
    asked = wanted.question
    asserted = json.dumps(dict(asked.context), sort_keys=True)
    # Somebody who searches for itself may move on between two pages.
    told_ip = asked.source_address if asked.subject != caller.principal else ""
    names = (asked.subject, asked.action, asked.resource)
    return paging.digest("search", caller.principal, *names, asserted, told_ip, *others)


def _event(caller: Caller, wanted: Sought, searched: Searched) -> Event:
    asked = wanted.question
    return Event(
        type=EventType.ACCESS_SEARCHED,
        at=searched.at,
        principal=caller.principal,
        origin=caller.origin,
        subject=asked.subject,
        resources=(asked.resource,) if asked.resource else (),
        actions=(asked.action,) if asked.action else (),
        message=f"{len(searched.found)} found of what was left out, the {wanted.side}",
        revision=searched.revision,
        context=dict(asked.context),
        subject_source_ip=asked.source_address,
    )
