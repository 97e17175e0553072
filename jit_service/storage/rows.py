"""Converts the domain's facts to rows of the tables, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter
from pydantic_core import from_json

from jit_service.domain.audit.beginning import Beginning
from jit_service.domain.audit.event import Event, EventType, shorten
from jit_service.domain.authentication import Authentication
from jit_service.domain.conditions.signal import Signal
from jit_service.domain.grants.deadlines import escalates_at, warns_at
from jit_service.domain.grants.delegation import Delegation
from jit_service.domain.grants.grant import (
    Emergency,
    End,
    Extension,
    Grant,
    GrantState,
    Justification,
    Limits,
    Review,
    ReviewDecision,
    Terms,
    Usage,
)
from jit_service.domain.grants.lock import Lock, Target
from jit_service.domain.language import name
from jit_service.domain.person import Account
from jit_service.domain.policies.policy import Policy, Step
from jit_service.domain.policies.proposal import Proposal
from jit_service.domain.tokens.signing_key import SigningKey
from jit_service.storage.columns import EPOCH
from jit_service.storage.engine import JsonText
from jit_service.storage.tables import (
    DelegationRow,
    GrantChangeRow,
    GrantRow,
    LockRow,
    PolicyProposalRow,
    PolicyRow,
    ReviewRow,
    SignalRow,
    SigningKeyRow,
)

Fact = TypeVar("Fact")
POLICIES = TypeAdapter(Policy)
BEGINNINGS = TypeAdapter(Beginning)
_STEPS = TypeAdapter(tuple[Step, ...])
_EVENTS = TypeAdapter(Event)
_PROPOSALS = TypeAdapter(Proposal)
GRANTS = TypeAdapter(Grant)
MAX_RECORD: Final = 16 << 10
"""The greatest length of an audit record, in bytes."""
_CHANGED_BY_USE: Final = {"usage", "expires_at"}
LIMITS = TypeAdapter(Limits)
_UNREADABLE = Event(
    type=EventType.UNREADABLE,
    at=EPOCH,
    principal="",
    message="what is stored here is not what was recorded, and cannot be read; verify the log",
)
_USAGE = TypeAdapter(Usage)
_TERMS = TypeAdapter(Terms)
_OFFER = TypeAdapter(Review)
_AUTHENTICATIONS = TypeAdapter(Authentication)
_EXTENSION = TypeAdapter(Extension)
_EMERGENCY = TypeAdapter(Emergency)


def grant_columns(grant: Grant) -> dict[str, Any]:
    """Returns the columns of the grant's row."""
    return {
        "name": grant.name,
        "requester": grant.requester,
        "requester_groups": _groups_json(grant.requester_groups),
        "subject": grant.subject,
        "policy": grant.policy,
        "policy_revision": grant.policy_revision,
        "steps": _STEPS.dump_python(grant.steps, mode="json"),
        "resources": list(grant.resources),
        "actions": list(grant.actions),
        "duration": grant.duration,
        "justification": grant.justification.text,
        "ticket": grant.justification.ticket,
        "labels": grant.labels,
        "created_at": grant.created_at,
        "request_expires_at": grant.request_expires_at,
        "start_at": grant.start_at,
        "approved_at": grant.approved_at,
        "starts_at": grant.starts_at,
        "expires_at": grant.expires_at,
        "ended_at": grant.end and grant.end.at,
        "ended_as": grant.end and grant.end.state,
        "ended_by": grant.end and grant.end.by,
        "end_comment": grant.end and grant.end.comment,
        "skipped": sorted(grant.skipped),
        "context": grant.context,
        "claims": grant.claims,
        "source_address": grant.source_address,
        "check_condition": grant.check_condition,
        "limits": LIMITS.dump_python(grant.limits, mode="json", exclude_defaults=True),
        "usage": _USAGE.dump_python(grant.usage, mode="json", exclude_defaults=True),
        "requested": _dump(_TERMS, grant.requested),
        "offer": _dump(_OFFER, grant.offer),
        "extension": _dump(_EXTENSION, grant.extension),
        "extension_count": grant.extension_count,
        "emergency": _dump(_EMERGENCY, grant.emergency),
        "chain": list(grant.chain),
        "parent": grant.parent,
        "request_ttl": grant.request_ttl,
        "step_since": grant.step_since,
        "warn_before": grant.warn_before,
        "revision": grant.revision,
        "subject_key": name.canonical(grant.subject),
        **_due_columns(grant),
        **_account_columns("requester_", grant.requester_account),
    }


def _due_columns(grant: Grant) -> dict[str, Any]:
    """Returns the columns by which the sweeper finds what is due."""
    emergency = grant.emergency
    return {
        "warns_at": warns_at(grant),
        "escalates_at": escalates_at(grant),
        "extension_expires_at": _open_extension_until(grant),
        "review_owed_at": emergency.review_due_at if emergency is not None and grant.owes_review else None,
    }


def review_columns(grant: Grant, position: int) -> dict[str, Any]:
    """Returns the columns of the grant's review at `position`."""
    review = grant.reviews[position]
    return {
        "grant_name": grant.name,
        "position": position,
        "reviewer": review.reviewer,
        "reviewer_key": name.canonical(review.reviewer),
        "groups": _groups_json(review.groups),
        "decision": review.decision,
        "step": review.step,
        "comment": review.comment,
        "at": review.at,
        "round": review.round,
        "on_behalf_of": review.on_behalf_of,
        "delegation": review.delegation,
        "escalated": review.escalated,
        "terms": _dump(_TERMS, review.terms),
        "condition": review.condition,
        **_account_columns("", review.account),
        **_account_columns("holder_", review.holder_account),
        "token_id": review.token_id,
        "authentication": _dump(_AUTHENTICATIONS, review.authentication),
    }


def grant_of(row: GrantRow, reviews: list[ReviewRow]) -> Grant:
    """Returns the grant of a row and its reviews, which must be in order of position."""
    return Grant(
        name=row.name,
        requester=row.requester,
        requester_groups=_groups_of(row.requester_groups),
        subject=row.subject,
        policy=row.policy,
        policy_revision=row.policy_revision,
        steps=_STEPS.validate_python(row.steps),
        resources=tuple(row.resources),
        actions=tuple(row.actions),
        duration=row.duration,
        justification=Justification(text=row.justification, ticket=row.ticket),
        labels=dict(row.labels),
        created_at=row.created_at,
        request_expires_at=row.request_expires_at,
        start_at=row.start_at,
        approved_at=row.approved_at,
        starts_at=row.starts_at,
        expires_at=row.expires_at,
        end=_end_of(row),
        reviews=tuple(_review_of(review) for review in reviews),
        revision=row.revision,
        skipped=frozenset(row.skipped),
        context=dict(row.context),
        claims=dict(row.claims),
        source_address=row.source_address,
        check_condition=row.check_condition,
        limits=LIMITS.validate_python(row.limits),
        usage=_USAGE.validate_python(row.usage),
        requested=_read(_TERMS, row.requested),
        offer=_read(_OFFER, row.offer),
        extension=_read(_EXTENSION, row.extension),
        extension_count=row.extension_count,
        emergency=_read(_EMERGENCY, row.emergency),
        chain=tuple(row.chain),
        requester_account=_account_of(row.requester_issuer, row.requester_issuer_subject),
        request_ttl=row.request_ttl,
        step_since=row.step_since,
        warn_before=row.warn_before,
    )


def policy_of(row: PolicyRow) -> Policy:
    """Returns the policy of a row."""
    return POLICIES.validate_python(row.document)


def signal_columns(signal: Signal) -> dict[str, Any]:
    """Returns the columns of the signal's row."""
    return {
        "name": signal.name,
        "value": json.dumps(signal.value, ensure_ascii=False),
        "expires_at": signal.expires_at,
        "setter": signal.setter,
        "updated_at": signal.updated_at,
        "revision": signal.revision,
    }


def signal_of(row: SignalRow) -> Signal:
    """Returns the signal of a row."""
    return Signal(
        name=row.name,
        value=json.loads(row.value),
        expires_at=row.expires_at,
        setter=row.setter,
        updated_at=row.updated_at,
        revision=row.revision,
    )


def delegation_columns(delegation: Delegation) -> dict[str, Any]:
    """Returns the columns of the delegation's row."""
    return {
        "name": delegation.name,
        "delegator": delegation.delegator,
        "delegator_groups": _groups_json(delegation.delegator_groups),
        "delegate": delegation.delegate,
        "policies": list(delegation.policies),
        "starts_at": delegation.starts_at,
        "expires_at": delegation.expires_at,
        "comment": delegation.comment,
        "created_at": delegation.created_at,
        "deleted_at": delegation.deleted_at,
        "revision": delegation.revision,
        **_account_columns("delegator_", delegation.delegator_account),
    }


def delegation_of(row: DelegationRow) -> Delegation:
    """Returns the delegation of a row."""
    return Delegation(
        name=row.name,
        delegator=row.delegator,
        delegator_groups=_groups_of(row.delegator_groups),
        delegate=row.delegate,
        policies=tuple(row.policies),
        starts_at=row.starts_at,
        expires_at=row.expires_at,
        comment=row.comment,
        created_at=row.created_at,
        deleted_at=row.deleted_at,
        revision=row.revision,
        delegator_account=_account_of(row.delegator_issuer, row.delegator_issuer_subject),
    )


def lock_columns(lock: Lock) -> dict[str, Any]:
    """Returns the columns of the lock's row."""
    return {
        "name": lock.name,
        "principal": lock.target.principal,
        "group_name": lock.target.group,
        "token_id": lock.target.token_id,
        "accounts": [list(account) for account in lock.accounts],
        "also": list(lock.also),
        "comment": lock.comment,
        "creator": lock.creator,
        "created_at": lock.created_at,
        "expires_at": lock.expires_at,
        "end_grants": lock.end_grants,
        "ended_grants": lock.ended_grants,
        "deleted_at": lock.deleted_at,
        "revision": lock.revision,
    }


def lock_of(row: LockRow) -> Lock:
    """Returns the lock of a row."""
    return Lock(
        name=row.name,
        target=Target(principal=row.principal, group=row.group_name, token_id=row.token_id),
        comment=row.comment,
        creator=row.creator,
        created_at=row.created_at,
        expires_at=row.expires_at,
        end_grants=row.end_grants,
        ended_grants=row.ended_grants,
        deleted_at=row.deleted_at,
        revision=row.revision,
        accounts=tuple(Account(*account) for account in row.accounts),
        also=tuple(row.also),
    )


def proposal_columns(proposal: Proposal) -> dict[str, Any]:
    """Returns the columns of the proposal's row."""
    return {
        "name": proposal.name,
        "created_at": proposal.created_at,
        "expires_at": proposal.expires_at,
        "decided_at": proposal.verdict.at if proposal.verdict else None,
        "revision": proposal.revision,
        "document": _PROPOSALS.dump_python(proposal, mode="json"),
    }


def proposal_of(row: PolicyProposalRow) -> Proposal:
    """Returns the proposal of a row."""
    return _PROPOSALS.validate_python(row.document)


@dataclass(frozen=True, kw_only=True)
class GrantChange:
    """One change of a grant: its revision, the type and instant of the event, and the grant as it was then."""

    revision: int
    type: EventType
    at: datetime
    grant: Grant


def change_columns(change: GrantChange) -> dict[str, Any]:
    """Returns the columns of the change's row. Its document leaves out what is at its default, as most fields are."""
    return {
        "revision": change.revision,
        "grant_name": change.grant.name,
        "type": change.type,
        "at": change.at,
        "document": JsonText(GRANTS.dump_json(change.grant, exclude_defaults=True).decode()),
    }


def use_columns(change: GrantChange) -> dict[str, Any]:
    """Returns the columns of a change by a use, with only those fields of the grant that a use changes.

    A check may use a grant thousands of times, and changes are kept for long: the whole grant each time would be much.
    """
    document = GRANTS.dump_json(change.grant, include=_CHANGED_BY_USE).decode()
    return change_columns(change) | {"document": JsonText(document)}


def change_fact(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of a change that is sealed, from the columns to be written or those that were read."""
    document = columns["document"]
    if isinstance(document, str):
        # Its texts are of this change alone: the parser would remember thousands of them for others.
        document = from_json(document, cache_strings="keys")
    return {name: columns[name] for name in ("type", "at", "grant_name")} | {"document": document}


def is_whole(row: GrantChangeRow) -> bool:
    """Whether the row has the whole grant. If not, it has what a use changed since the last row that has."""
    return "name" in row.document


def change_of(row: GrantChangeRow, base: GrantChangeRow | None = None) -> GrantChange:
    """Returns the change of a row. If the row is not whole, `base` is the last whole one before it."""
    document = row.document if base is None else base.document | row.document
    return GrantChange(
        revision=row.revision, type=EventType(row.type), at=row.at, grant=GRANTS.validate_python(document)
    )


def signing_key_of(row: SigningKeyRow, *, sealing_key: str) -> SigningKey:
    """Returns the key of the row, which must be sealed with the sealing key of this id."""
    return SigningKey(
        kid=row.kid,
        created_at=row.created_at,
        signs_at=row.signs_at,
        sealed=row.sealed,
        sealing_key=sealing_key,
        last_expires_at=row.last_expires_at,
    )


def payload_of(event: Event) -> bytes:
    """Returns the bytes to be stored and hashed: at most MAX_RECORD, with a count of what is left out."""
    payload = _bytes_of(event)
    return payload if len(payload) <= MAX_RECORD else _bytes_of(shorten(event, _fits))


def _fits(event: Event) -> bool:
    return len(_bytes_of(event)) <= MAX_RECORD


def _bytes_of(event: Event) -> bytes:
    return _EVENTS.dump_json(event, exclude_defaults=True)


def event_of(payload: Any) -> Event:
    """Returns the event, read from the bytes that were hashed; one of type UNREADABLE if they are no event."""
    # Text could be read as an event too, but the service only records bytes.
    if isinstance(payload, bytes):
        with suppress(ValueError):
            return _EVENTS.validate_json(payload)
    return _UNREADABLE


def _end_of(row: GrantRow) -> End | None:
    if row.ended_as is None or row.ended_at is None:
        return None
    return End(state=GrantState(row.ended_as), at=row.ended_at, by=row.ended_by or "", comment=row.end_comment or "")


def _review_of(row: ReviewRow) -> Review:
    return Review(
        reviewer=row.reviewer,
        groups=_groups_of(row.groups),
        decision=ReviewDecision(row.decision),
        step=row.step,
        comment=row.comment,
        at=row.at,
        round=row.round,
        on_behalf_of=row.on_behalf_of,
        delegation=row.delegation,
        escalated=row.escalated,
        terms=_read(_TERMS, row.terms),
        condition=row.condition,
        account=_account_of(row.issuer, row.issuer_subject),
        holder_account=_account_of(row.holder_issuer, row.holder_issuer_subject),
        token_id=row.token_id,
        authentication=_read(_AUTHENTICATIONS, row.authentication),
    )


def _account_columns(prefix: str, account: Account | None) -> dict[str, str]:
    """Returns the two columns of an account, empty for none."""
    issuer, subject = account or ("", "")
    return {f"{prefix}issuer": issuer, f"{prefix}issuer_subject": subject}


def _account_of(issuer: str, subject: str) -> Account | None:
    return Account(issuer, subject) if issuer else None


def _groups_json(groups: frozenset[str] | None) -> list[str] | None:
    """Returns the groups as JSON: null if the token left them out."""
    return None if groups is None else sorted(groups)


def _groups_of(stored: list[str] | None) -> frozenset[str] | None:
    return None if stored is None else frozenset(stored)


def _dump(adapter: TypeAdapter[Fact], fact: Fact | None) -> Any:
    return None if fact is None else adapter.dump_python(fact, mode="json")


def _read(adapter: TypeAdapter[Fact], document: Any) -> Fact | None:
    return None if document is None else adapter.validate_python(document)


def _open_extension_until(grant: Grant) -> datetime | None:
    """Returns until when the request for more time can be decided; None if none is open.

    If somebody ends the grant, no lapse of the request is recorded.
    """
    extension = grant.extension
    if extension is None or extension.decided is not None or grant.end is not None:
        return None
    return min(extension.expires_at, grant.expires_at or extension.expires_at)
