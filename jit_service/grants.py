"""Use cases of grants. Each is one transaction: read, judge by the policies as they are now, store with its event.

Every answer comes with the instant it was judged at, by which its state is derived.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from pydantic import TypeAdapter

from jit_service.domain import etag as etags
from jit_service.domain import grant as rules
from jit_service.domain import paging, request, review, signal
from jit_service.domain.caller import Caller, Role
from jit_service.domain.errors import (
    GrantNotFound,
    NotVisible,
    PolicyNoLongerAllows,
    RoleRequired,
    TooManyActive,
    Unsatisfiable,
)
from jit_service.domain.event import Event
from jit_service.domain.filter import parse
from jit_service.domain.grant import Grant, GrantState
from jit_service.domain.policy import Policy
from jit_service.domain.review import Preview
from jit_service.idempotency import answered_before, remember
from jit_service.storage import Snapshot, Store, Transaction, query

_GRANTS = TypeAdapter(Grant)
_USABLE = (GrantState.PENDING, GrantState.SCHEDULED, GrantState.ACTIVE)
Transition = Callable[[Transaction, Grant], tuple[Grant, Event]]


class GrantAnswer(NamedTuple):
    """A grant, the instant by which its state is derived, and after a dry run what would become of it."""

    grant: Grant
    at: datetime
    preview: Preview | None = None


class View(StrEnum):
    """Whose grants a list has."""

    MINE = "MINE"
    REVIEWABLE = "REVIEWABLE"
    ALL = "ALL"
    VISIBLE = "VISIBLE"


@dataclass(frozen=True, kw_only=True)
class GrantPage:
    """One page of a list, judged at `at`. An empty token: the last page."""

    grants: tuple[Grant, ...]
    next_page_token: str
    at: datetime


def ask(store: Store, caller: Caller, asked: request.Ask) -> GrantAnswer:
    """Asks for access.

    Raises NotEligible, DeniedByPolicy, ConditionNotMet, ConditionError, Unsatisfiable, TooManyActive, InvalidField,
    RequestIdReused.
    """
    with store.transaction() as tx:
        if (earlier := answered_before(tx, caller, _GRANTS)) is not None:
            _visible(tx, caller, earlier[0].name)
            return GrantAnswer(*earlier)
        return _asked(tx, caller, request.checked(asked, now=tx.now))


def preview(store: Store, caller: Caller, asked: request.Ask) -> GrantAnswer:
    """Answers what would become of a request, and changes nothing. Raises as `ask` does, but for Unsatisfiable."""
    with store.snapshot() as snapshot:
        grant, policy = _judged(snapshot, caller, request.checked(asked, now=snapshot.now), name="")
        shown = review.preview(grant, allow_self_approval=policy.allow_self_approval)
        would_be, _ = rules.requested(grant, by=caller, now=snapshot.now)
        return GrantAnswer(would_be, snapshot.now, shown)


def ensure(store: Store, caller: Caller, asked: request.Ask) -> GrantAnswer:
    """Answers the live grant or pending request that already covers what is asked for, else asks for it.

    Raises as `ask` does.
    """
    with store.transaction() as tx:
        if (earlier := answered_before(tx, caller, _GRANTS)) is not None:
            _visible(tx, caller, earlier[0].name)
            return GrantAnswer(*earlier)
        checked = request.checked(asked, now=tx.now)
        policies = tx.policies()
        there = [
            grant
            for grant in tx.live_grants(checked.subject)
            if caller.principal in (grant.requester, grant.subject)
            and request.covered_by(checked, grant, policies=policies)
        ]
        if not there:
            return _asked(tx, caller, checked)
        best = max(there, key=lambda grant: (_USABLE.index(grant.state(tx.now)), grant.expires_at or tx.now))
        return GrantAnswer(*remember(tx, caller, _GRANTS, best))


def _asked(tx: Transaction, caller: Caller, asked: request.Ask) -> GrantAnswer:
    judged, policy = _judged(tx, caller, asked, name=_new_name())
    shortfall = review.preview(judged, allow_self_approval=policy.allow_self_approval).shortfall
    if shortfall:
        raise Unsatisfiable(f"{policy.name} could never approve this: {shortfall}", policy=policy.name)
    _demand_room(tx, judged, policy)
    grant, event = rules.requested(judged, by=caller, now=tx.now)
    return GrantAnswer(*remember(tx, caller, _GRANTS, tx.save_grant(grant, event)))


def _demand_room(tx: Transaction, grant: Grant, policy: Policy) -> None:
    """Counted under the write lock, so two requests at once cannot both take the last place."""
    most = policy.max_active_per_subject
    there = sum(live.policy == policy.name for live in tx.live_grants(grant.subject))
    if most and there >= most:
        counted = f"{there} pending, scheduled or active grants under {policy.name}"
        raise TooManyActive(f"{grant.subject} has {counted}; at most {most} are allowed", policy=policy.name)


def _judged(snapshot: Snapshot, caller: Caller, asked: request.Ask, *, name: str) -> tuple[Grant, Policy]:
    policies = snapshot.policies()
    signals = signal.at(snapshot.signals(), snapshot.now)
    grant = request.judged(asked, policies=policies, by=caller, grant_name=name, now=snapshot.now, signals=signals)
    return grant, next(policy for policy in policies if policy.name == grant.policy)


def get(store: Store, caller: Caller, name: str) -> GrantAnswer:
    """Reads a grant. Raises NotVisible, GrantNotFound."""
    with store.snapshot() as snapshot:
        return GrantAnswer(_visible(snapshot, caller, name), snapshot.now)


def list_page(
    store: Store, caller: Caller, *, view: View, filter_text: str, order_by: str, page_size: int, page_token: str
) -> GrantPage:
    """Lists a page of the view. Raises RoleRequired for ALL, InvalidField."""
    if view is View.ALL and not caller.has(Role.AUDITOR, Role.ADMIN):
        raise RoleRequired(f"view ALL needs the role auditor or admin, which {caller.principal} has not")
    size = paging.page_size(page_size)
    node = parse(filter_text, query.GRANT_FIELDS)
    order = paging.order_by(order_by, query.GRANT_ORDER, default="create_time desc")
    this_query = paging.digest("grants", caller.principal, view, filter_text, order_by)
    after = query.position(page_token, this_query, order, query.GRANT_COLUMNS)
    with store.snapshot() as snapshot:
        scope, keep = _scope(snapshot, caller, view)
        kept: list[tuple[Grant, paging.Position]] = []
        more = True
        # One more than the page shows whether there is a next one.
        while more and len(kept) <= size:
            found = snapshot.grants(scope, node=node, order=order, after=after, limit=size + 1)
            more = len(found) > size
            kept += [entry for entry in found if keep(entry[0])]
            after = found[-1][1] if found else after
        token = paging.encode(kept[size - 1][1], query=this_query) if len(kept) > size else ""
        return GrantPage(grants=tuple(grant for grant, _ in kept[:size]), next_page_token=token, at=snapshot.now)


def approve(store: Store, caller: Caller, name: str, *, comment: str, etag: str) -> GrantAnswer:
    """Approves the current step. Raises PolicyNoLongerAllows and what `domain.grant.approve` raises."""

    def transition(tx: Transaction, grant: Grant) -> tuple[Grant, Event]:
        policy = _policy_of(tx, grant)
        # Whether the caller may approve at all comes before whether the request could still pass.
        rules.approve(grant, policy=policy, by=caller, comment=comment, now=tx.now)
        # Policies, signals and the time may have changed since the request.
        signals = signal.at(tx.signals(), tx.now)
        judged = request.judge_again(grant, policy=policy, policies=tx.policies(), now=tx.now, signals=signals)
        return rules.approve(judged, policy=policy, by=caller, comment=comment, now=tx.now)

    return _change(store, caller, name, etag, transition)


def deny(store: Store, caller: Caller, name: str, *, comment: str, etag: str) -> GrantAnswer:
    """Denies a pending grant. Raises what `domain.grant.deny` raises."""
    return _change(
        store,
        caller,
        name,
        etag,
        lambda tx, grant: rules.deny(grant, policy=_policy_of(tx, grant), by=caller, comment=comment, now=tx.now),
    )


def withdraw(store: Store, caller: Caller, name: str, *, comment: str, etag: str) -> GrantAnswer:
    """Takes back one's own pending request. Raises what `domain.grant.withdraw` raises."""
    return _change(
        store, caller, name, etag, lambda tx, grant: rules.withdraw(grant, by=caller, comment=comment, now=tx.now)
    )


def release(store: Store, caller: Caller, name: str, *, comment: str, etag: str) -> GrantAnswer:
    """Gives one's own access back. Raises what `domain.grant.release` raises."""
    return _change(
        store, caller, name, etag, lambda tx, grant: rules.release(grant, by=caller, comment=comment, now=tx.now)
    )


def revoke(store: Store, caller: Caller, name: str, *, comment: str, etag: str) -> GrantAnswer:
    """Ends access at once. Raises what `domain.grant.revoke` raises."""
    return _change(
        store,
        caller,
        name,
        etag,
        lambda tx, grant: rules.revoke(grant, policy=tx.policy(grant.policy), by=caller, comment=comment, now=tx.now),
    )


def _change(store: Store, caller: Caller, name: str, etag: str, transition: Transition) -> GrantAnswer:
    with store.transaction() as tx:
        grant = _visible(tx, caller, name)
        if (earlier := answered_before(tx, caller, _GRANTS)) is not None:
            return GrantAnswer(*earlier)
        etags.demand(etag, grant.name, grant.revision)
        changed, event = transition(tx, grant)
        return GrantAnswer(*remember(tx, caller, _GRANTS, tx.save_grant(changed, event)))


def _visible(snapshot: Snapshot, caller: Caller, name: str) -> Grant:
    """Where the caller may not see it, the answer is the same whether it exists or not."""
    grant = snapshot.grant(name)
    if grant is None and caller.has(Role.AUDITOR, Role.ADMIN):
        raise GrantNotFound(f"there is no {name}", grant=name)
    if grant is None or not rules.visible(grant, snapshot.policy(grant.policy), caller):
        raise NotVisible(f"{caller.principal} may not see {name}", grant=name)
    return grant


def _policy_of(tx: Transaction, grant: Grant) -> Policy:
    policy = tx.policy(grant.policy)
    if policy is None:
        raise PolicyNoLongerAllows(f"{grant.name} can no longer pass: {grant.policy} is gone", grant=grant.name)
    return policy


def _scope(snapshot: Snapshot, caller: Caller, view: View) -> tuple[query.Scope, Callable[[Grant], bool]]:
    """Returns what the view selects in the store, and what then still has to be judged grant by grant."""
    everything: Callable[[Grant], bool] = lambda _: True  # noqa: E731
    if view is View.ALL or (view is View.VISIBLE and caller.has(Role.AUDITOR, Role.ADMIN)):
        return query.every_grant(), everything
    if view is View.MINE:
        return query.grants_of(caller.principal), everything
    policies = _reviewed_by(caller, snapshot.policies(deleted=True))
    if view is View.VISIBLE:
        return query.grants_seen_by(caller.principal, list(policies)), everything

    def reviewable(grant: Grant) -> bool:
        return rules.reviewable(grant, policy=policies[grant.policy], by=caller, now=snapshot.now)

    return query.pending_grants(list(policies), now=snapshot.now), reviewable


def _reviewed_by(caller: Caller, policies: Sequence[Policy]) -> dict[str, Policy]:
    return {policy.name: policy for policy in policies if policy.reviewers_have(caller.principal, caller.groups)}


def _new_name() -> str:
    """Returns a name that nobody can guess: 128 random bits in 26 characters of a-z and 2-7."""
    return "grants/" + base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()
