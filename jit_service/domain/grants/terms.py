"""The terms of a request, and what a reviewer may give instead: narrower, shorter, later, never more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from jit_service.domain.errors import (
    InvalidField,
)
from jit_service.domain.frozen import replace
from jit_service.domain.grants.grant import (
    Extension,
    Grant,
    Terms,
)
from jit_service.domain.grants.request import MAX_LEAD, check_duration
from jit_service.domain.language import name
from jit_service.domain.policies.policy import Policy, normalize_patterns, seconds
from jitaccess.naming.pattern import action_covered, resource_covered


@dataclass(frozen=True, kw_only=True)
class Edits:
    """What a reviewer gives instead of what is asked for. Empty and None: as asked."""

    resources: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    duration: timedelta | None = None
    start_at: datetime | None = None


AS_ASKED: Final = Edits()


def edit(grant: Grant, edits: Edits, *, now: datetime) -> Grant:
    """Returns the grant with what the reviewer gives: narrower, shorter, later, never more. Raises InvalidField."""
    if edits == AS_ASKED:
        return grant
    if grant.extension is not None:
        return _edit_extension(grant, edits)
    terms = narrow(grant.terms, edits, now=now)
    if terms == grant.terms:
        return grant
    return replace(
        grant,
        resources=terms.resources,
        actions=terms.actions,
        duration=terms.duration,
        start_at=terms.start_at,
        requested=grant.requested or grant.terms,
        offer=None,
    )


def apply_edits(reviewed: Grant, edits: Edits, *, policy: Policy, now: datetime) -> Grant:
    """Returns the grant as the reviewer gives it. Raises InvalidField, also for a duration that the policy has not.

    One that was asked for is not the reviewer's fault; judging the request again refuses it.
    """
    given = edit(reviewed, edits, now=now)
    if given.duration != reviewed.duration:
        check_duration(given.duration, policy)
    return given


def changed_terms(asked: Grant, given: Grant) -> Terms | None:
    """Returns the terms that a reviewer's edits made of what was asked for; None where they made nothing of it."""
    if asked.extension != given.extension and given.extension is not None:
        return replace(given.terms, duration=given.extension.duration)
    return given.terms if asked.terms != given.terms else None


def narrow(terms: Terms, edits: Edits, *, now: datetime) -> Terms:
    """Returns the terms with the edits. Raises InvalidField for any that would give more than the terms do."""
    resources, actions = terms.resources, terms.actions
    if edits.resources:
        resources = normalize_patterns(edits.resources, "resources", name.resource_pattern)
        _demand_within(resources, [resource_covered(text, terms.resources) for text in resources], "resources")
    if edits.actions:
        actions = normalize_patterns(edits.actions, "actions", name.action_pattern)
        _demand_within(actions, [action_covered(text, terms.actions) for text in actions], "actions")
    earliest = max(now, terms.start_at or now)
    if edits.start_at is not None and not earliest <= edits.start_at <= now + MAX_LEAD:
        fault = f"is {edits.start_at.isoformat()}; it must be {earliest.isoformat()} to {MAX_LEAD.days} days ahead"
        raise InvalidField("start_time", fault)
    return Terms(
        resources=resources,
        actions=actions,
        duration=_shorten(edits.duration, terms.duration),
        start_at=edits.start_at or terms.start_at,
    )


def _demand_within(given: Sequence[str], covered: Sequence[bool], field: str) -> None:
    for index, within in enumerate(covered):
        if not within:
            raise InvalidField(f"{field}[{index}]", f"{given[index]} is not within what is asked for")


def _shorten(given: timedelta | None, asked: timedelta) -> timedelta:
    if given is None:
        return asked
    if not timedelta() < given <= asked:
        raise InvalidField("duration", f"is {seconds(given)}; it must be above 0s and at most {seconds(asked)}")
    return given


def _edit_extension(grant: Grant, edits: Edits) -> Grant:
    if edits.resources or edits.actions or edits.start_at is not None:
        raise InvalidField("duration", "is all that an approval of more time can change")
    asked_for = _extension(grant)
    given = _shorten(edits.duration, asked_for.duration)
    if given == asked_for.duration:
        return grant
    first = asked_for.requested_duration or asked_for.duration
    return replace(grant, extension=replace(asked_for, duration=given, requested_duration=first))


def _extension(grant: Grant) -> Extension:
    if grant.extension is None:
        raise AssertionError("no extension was asked for")
    return grant.extension
