"""The use case of Check: answer from committed state, and record the answer before giving it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jit_service.domain import context, name, request, signal
from jit_service.domain.caller import Caller, Role
from jit_service.domain.decision import Decision, Question, Reason, decide
from jit_service.domain.errors import InvalidField, JitError, RoleRequired
from jit_service.domain.event import Event, EventType
from jit_service.domain.grant import Grant, expiring, used
from jit_service.domain.policy import Policy
from jit_service.domain.refusal import About, refused
from jit_service.domain.signal import Signals
from jit_service.storage import Store, Transaction

MAX_ITEMS = 1000
_NOTHING_TO_ASK_FOR = (Reason.ALLOWED, Reason.DENIED_BY_POLICY)
_PAST = 100
"""How many of a subject's ended grants are looked at to explain a no; the answer itself needs none of them."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """An answer, with the revision and instant it rests on, and the policies that a no could be asked under."""

    question: Question
    decision: Decision
    decision_id: str
    revision: int
    at: datetime
    requestable: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RefusedItem:
    """An item of a batch that is no question, with what it was about."""

    error: JitError
    about: About


def question(
    caller: Caller, *, subject: str, action: str, resource: str, asserted: dict[str, Any] | None = None
) -> Question:
    """Returns the question in canonical form. Raises RoleRequired, InvalidField.

    Anyone may ask about itself, the role `checker` about others.
    """
    if not subject:
        raise InvalidField("subject", "is required: user:NAME or service:NAME")
    itself = subject == caller.principal
    if not itself and not caller.has(Role.CHECKER):
        raise RoleRequired(f"asking about another subject needs the role checker, which {caller.principal} has not")
    return Question(
        subject=name.principal(subject, "subject"),
        action=name.action(action, "action"),
        resource=name.resource(resource, "resource"),
        groups=caller.groups if itself else None,
        principal=caller.principal,
        context=context.checked(asserted or {}),
        source_address=caller.origin.source_address,
    )


def check(store: Store, caller: Caller, asked: Question, *, min_revision: int = 0) -> Checked:
    """Answers one question. Raises InvalidField for a revision that the store has not reached."""
    with store.transaction() as tx:
        _demand_revision(tx, min_revision)
        return _answer(tx, caller, asked, tx.policies(), signal.at(tx.signals(), tx.now), tx.revision)


def check_many(
    store: Store, caller: Caller, items: Sequence[Question | RefusedItem], *, min_revision: int = 0
) -> list[Checked | JitError]:
    """Answers the questions in order, at one revision and instant; an item that is a refusal stays one.

    Raises InvalidField for a revision that the store has not reached.
    """
    with store.transaction() as tx:
        _demand_revision(tx, min_revision)
        policies, signals, revision = tx.policies(), signal.at(tx.signals(), tx.now), tx.revision
        answers: list[Checked | JitError] = []
        for item in items:
            if isinstance(item, RefusedItem):
                tx.record(refused(caller, item.error, item.about, at=tx.now))
                answers.append(item.error)
            else:
                answers.append(_answer(tx, caller, item, policies, signals, revision))
        return answers


def _demand_revision(tx: Transaction, min_revision: int) -> None:
    if min_revision < 0:
        raise InvalidField("min_revision", f"is {min_revision}; 0 or a revision that the service has answered")
    if min_revision > tx.revision:
        raise InvalidField("min_revision", f"is {min_revision}; the store is at revision {tx.revision}")


def _answer(
    tx: Transaction, caller: Caller, asked: Question, policies: Sequence[Policy], signals: Signals, revision: int
) -> Checked:
    live = tx.live_grants(asked.subject)
    above = tx.ancestors(live)
    decision = decide(asked, grants=live, policies=policies, now=tx.now, signals=signals, above=above)
    if not decision.allowed:
        # Ended grants cannot allow anything; they explain.
        grants = live + tx.past_grants(asked.subject, limit=_PAST)
        above = tx.ancestors(grants)
        decision = decide(asked, grants=grants, policies=policies, now=tx.now, signals=signals, above=above)
    checked = Checked(
        question=asked,
        decision=decision,
        decision_id=str(uuid.uuid4()),
        revision=revision,
        at=tx.now,
        requestable=_requestable(asked, policies) if decision.reason not in _NOTHING_TO_ASK_FOR else (),
    )
    used = _used(decision.grant, above, tx.now) if decision.allowed and decision.grant is not None else []
    tx.save_uses(used, _event(caller, checked))
    return checked


def _used(grant: Grant, above: Mapping[str, Grant], now: datetime) -> list[Grant]:
    """Returns the grants that an allowed check changes: those above first, since none outlives what it came from."""
    changed: list[Grant] = []
    until: datetime | None = None
    for before in (*(above[ancestor] for ancestor in grant.chain), grant):
        after = used(before, now=now, until=until) if before.is_metered else expiring(before, until=until)
        if after != before:
            changed.append(after)
        until = after.expires_at
    return changed


def _requestable(asked: Question, policies: Sequence[Policy]) -> tuple[str, ...]:
    return tuple(
        request.requestable(
            policies, subject=asked.subject, groups=asked.groups, resource=asked.resource, action=asked.action
        )
    )


def _event(caller: Caller, checked: Checked) -> Event:
    decision = checked.decision
    return Event(
        type=EventType.ACCESS_CHECKED,
        at=checked.at,
        principal=caller.principal,
        origin=caller.origin,
        subject=checked.question.subject,
        resources=(checked.question.resource,),
        actions=(checked.question.action,),
        decision="ALLOWED" if decision.allowed else "DENIED",
        reason=decision.reason,
        message=decision.message,
        grant=decision.grant.name if decision.grant else "",
        policy=decision.grant.policy if decision.grant else "",
        policy_revision=decision.grant.policy_revision if decision.grant else 0,
        chain=decision.grant.chain if decision.grant else (),
        decision_id=checked.decision_id,
        revision=checked.revision,
        groups=tuple(sorted(checked.question.groups or ())),
        context=dict(checked.question.context),
    )
