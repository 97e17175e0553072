"""Use cases of grants. Each is one transaction: read, judge by the policies as they are now, store with its event.

Every answer comes with the instant it was judged at, by which its state is derived.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from pydantic import TypeAdapter

from jit_service.domain.audit.event import Event, EventType
from jit_service.domain.bounds import BOUNDS, Bounds
from jit_service.domain.caller import READS_GRANTS, Caller, Right
from jit_service.domain.conditions import signal
from jit_service.domain.conditions.signal import NO_SIGNALS, Signals
from jit_service.domain.errors import (
    GrantNotFound,
    NotVisible,
    PolicyNoLongerAllows,
    RoleRequired,
    TooManyActive,
    Unavailable,
)
from jit_service.domain.grants import approval, break_glass, children, coverage, more_time, request, reviewing, terms
from jit_service.domain.grants import grant as rules
from jit_service.domain.grants import preview as review
from jit_service.domain.grants.grant import OPEN_STATES, Grant, GrantState
from jit_service.domain.grants.lock import demand_unlocked_people
from jit_service.domain.grants.preview import Preview
from jit_service.domain.grants.reviewing import ReviewRules, Shown
from jit_service.domain.language import etag as etags
from jit_service.domain.language import paging
from jit_service.domain.language.filter import parse
from jit_service.domain.policies.policy import Policy
from jit_service.storage import Snapshot, Store, Transaction, grant_list, query
from jit_service.storage.grant_list import GrantList
from jit_service.use_cases.delegations import with_delegations
from jit_service.use_cases.idempotency import answered_before, remember
from jit_service.use_cases.identifiers import new_name
from jitaccess.naming import rfc3339

_GRANTS = TypeAdapter(Grant)
MOST_JUDGED: Final = 2_000
"""How many grants one page judges, where each has to be: 50 µs each."""
END_TOGETHER: Final = 25
"""How many grants that came from one that has ended are ended in one transaction."""
_log = logging.getLogger(__name__)
Transition = Callable[[Snapshot, Grant, Caller], tuple[Grant, Event]]


class GrantAnswer(NamedTuple):
    """A grant, the instant by which its state is derived, and after a dry run what would become of it."""

    grant: Grant
    at: datetime
    preview: Preview | None = None


class Do(Protocol):
    """What is done with a transition: `commit` it, or `attempt` it."""

    def __call__(self, store: Store, caller: Caller, name: str, etag: str, transition: Transition) -> GrantAnswer: ...


class GrantView(StrEnum):
    """Whose grants a list has."""

    MINE = "MINE"
    REVIEWABLE = "REVIEWABLE"
    ALL = "ALL"
    VISIBLE = "VISIBLE"
    REVIEW_DEBT = "REVIEW_DEBT"


@dataclass(frozen=True, kw_only=True)
class GrantPage:
    """One page of a list, judged at `at`. An empty token: the last page."""

    grants: tuple[Grant, ...]
    next_page_token: str
    at: datetime


def ask(store: Store, caller: Caller, asked: request.Ask, *, bounds: Bounds = BOUNDS) -> GrantAnswer:
    """Asks for access.

    Raises NotEligible, DeniedByPolicy, ConditionNotMet, ConditionError, Unsatisfiable, TooManyActive, TooManyPending,
    TooManyChildren, InvalidField, RequestIdReused, and Locked for a subject who is.
    """
    with store.transaction() as tx:
        if (earlier := answered_before(tx, caller, _GRANTS)) is not None:
            read_visible(tx, caller, earlier[0].name)
            return GrantAnswer(*earlier)
        return _ask(tx, caller, request.normalize(asked, now=tx.now, exact=caller.exact), bounds)


def preview(store: Store, caller: Caller, asked: request.Ask, *, bounds: Bounds = BOUNDS) -> GrantAnswer:
    """Answers what would become of a request, and changes nothing. Raises as `ask` does, but for Unsatisfiable."""
    with store.snapshot() as snapshot:
        checked = request.normalize(asked, now=snapshot.now, exact=caller.exact)
        if checked.parent:
            child = _judge_child(snapshot, caller, checked, bounds, name="")
            return GrantAnswer(child, snapshot.now, review.preview(child, allow_self_approval=False))
        grant, policy = _judge_request(snapshot, caller, checked, name="")
        shown = review.preview(grant, allow_self_approval=policy.allow_self_approval)
        if shown.satisfiable:
            _demand_room(snapshot, grant, policy)
            _demand_no_debt(snapshot, grant, policy)
        would_be, _ = approval.open_request(grant, by=caller, now=snapshot.now)
        if shown.satisfiable:
            _demand_bounds(snapshot, would_be, bounds)
        return GrantAnswer(would_be, snapshot.now, shown)


def ensure(store: Store, caller: Caller, asked: request.Ask, *, bounds: Bounds = BOUNDS) -> GrantAnswer:
    """Answers the live grant or pending request that already covers what is asked for, else asks for it.

    Raises as `ask` does.
    """
    with store.transaction() as tx:
        if (earlier := answered_before(tx, caller, _GRANTS)) is not None:
            read_visible(tx, caller, earlier[0].name)
            return GrantAnswer(*earlier)
        checked = request.normalize(asked, now=tx.now, exact=caller.exact)
        policies = tx.policies()
        there = [
            grant
            for grant in tx.live_grants(checked.subject)
            if caller.principal in (grant.requester, grant.subject)
            and coverage.is_covered_by(checked, grant, policies=policies, now=tx.now)
            # An emergency does not wait.
            and not (checked.break_glass and grant.state(tx.now) is not GrantState.ACTIVE)
        ]
        if not there:
            return _ask(tx, caller, checked, bounds)
        best = max(there, key=lambda grant: (OPEN_STATES.index(grant.state(tx.now)), grant.expires_at or tx.now))
        return GrantAnswer(*remember(tx, caller, _GRANTS, best))


def _ask(tx: Transaction, caller: Caller, asked: request.Ask, bounds: Bounds) -> GrantAnswer:
    if asked.parent:
        child = _judge_child(tx, caller, asked, bounds, name=new_name("grants"))
        return GrantAnswer(
            *remember(tx, caller, _GRANTS, tx.save_grant(*approval.open_child(child, by=caller, now=tx.now)))
        )
    judged, policy = _judge_request(tx, caller, asked, name=new_name("grants"))
    review.demand_satisfiable(judged, policy)
    _demand_room(tx, judged, policy)
    _demand_no_debt(tx, judged, policy)
    grant, event = approval.open_request(judged, by=caller, now=tx.now)
    _demand_bounds(tx, grant, bounds)
    if event.type is EventType.BREAK_GLASS_USED:
        _log.warning("break-glass: %s took %s under %s: %s", caller.principal, grant.name, grant.policy, event.message)
    return GrantAnswer(*remember(tx, caller, _GRANTS, tx.save_grant(grant, event)))


def _demand_room(snapshot: Snapshot, grant: Grant, policy: Policy) -> None:
    """Counted under the write lock where it is asked for, so two requests at once cannot both take the last place.

    An emergency takes none: what waits must not keep it out, and owing a review bounds it.
    """
    most = policy.max_active_per_subject if grant.emergency is None else 0
    if not most:
        return
    held = snapshot.grants_held_by(grant.held_by)
    there = sum(live.policy == policy.name and not live.chain for live in held)
    if there >= most:
        counted = f"{there} pending, scheduled or active grants under {policy.name}"
        raise TooManyActive(f"{grant.subject} has {counted}; at most {most} are allowed", policy=policy.name)


def _demand_bounds(snapshot: Snapshot, grant: Grant, bounds: Bounds) -> None:
    """Counted under the write lock where it is asked for, as `_demand_room`."""
    bounds.demand_patterns(grant.resources, grant.actions)
    if grant.state(snapshot.now) is GrantState.PENDING:
        bounds.demand_pending(snapshot.count_pending(grant.requester), requester=grant.requester)


def _demand_no_debt(snapshot: Snapshot, grant: Grant, policy: Policy) -> None:
    """Counted under the write lock where it is asked for, as `_demand_room` is."""
    if grant.emergency is None or policy.break_glass is None:
        return
    owed = snapshot.owed_reviews(grant.held_by)
    break_glass.demand_no_debt(grant.subject, owed, most=policy.break_glass.most_unreviewed, now=snapshot.now)


def _judge_child(snapshot: Snapshot, caller: Caller, asked: request.Ask, bounds: Bounds, *, name: str) -> Grant:
    parent = read_visible(snapshot, with_delegations(snapshot, caller), asked.parent)
    _demand_usable(snapshot, parent)
    child = children.judge_child(
        asked, parent, policies=snapshot.policies(), by=caller, grant_name=name, now=snapshot.now
    )
    bounds.demand_patterns(child.resources, child.actions)
    root = child.chain[0]
    bounds.demand_child(len(snapshot.live_children(root)), root=root)
    demand_unlocked_people(snapshot.locks, child)
    return child


def _demand_usable(snapshot: Snapshot, parent: Grant) -> None:
    """What ended above ends all below, also where its time ran out and nothing has recorded that yet."""
    for grant in snapshot.ancestors([parent]).values():
        rules.demand_state(grant, snapshot.now, GrantState.ACTIVE)


def _judge_request(snapshot: Snapshot, caller: Caller, asked: request.Ask, *, name: str) -> tuple[Grant, Policy]:
    policies = snapshot.policies()
    signals = _signals(snapshot, policies)
    grant = request.judge_request(
        asked, policies=policies, by=caller, grant_name=name, now=snapshot.now, signals=signals
    )
    demand_unlocked_people(snapshot.locks, grant)
    return grant, next(policy for policy in policies if policy.name == grant.policy)


def get(store: Store, caller: Caller, name: str) -> GrantAnswer:
    """Reads a grant. Raises NotVisible, GrantNotFound."""
    with store.snapshot() as snapshot:
        return GrantAnswer(read_visible(snapshot, with_delegations(snapshot, caller), name), snapshot.now)


def list_page(
    store: Store, caller: Caller, *, view: GrantView, filter_text: str, order_by: str, page_size: int, page_token: str
) -> GrantPage:
    """Lists a page of the view. Raises RoleRequired for ALL, InvalidField."""
    if view is GrantView.ALL and not caller.has(*READS_GRANTS):
        raise RoleRequired(
            f"view ALL needs the role auditor, responder or admin, which {caller.principal} does not have"
        )
    size = paging.page_size(page_size)
    node = parse(filter_text, query.GRANT_FIELDS)
    order = paging.order_by(order_by, query.GRANT_ORDER, default="create_time desc")
    this_query = paging.digest("grants", caller.principal, view, filter_text, order_by)
    after = query.position(page_token, this_query, order, query.GRANT_COLUMNS)
    with store.snapshot() as snapshot:
        listed, keep = selected(snapshot, with_delegations(snapshot, caller), view)
        kept: list[tuple[Grant, paging.Position]] = []
        left = max(MOST_JUDGED, size + 1)
        # One more than the page shows whether there is a next one.
        while len(kept) <= size:
            limit = min(size + 1, left)
            found = snapshot.grants(listed, node=node, order=order, after=after, limit=limit)
            kept += [entry for entry in found.entries if keep(entry[0])]
            is_full = len(found.entries) == limit
            after, left = found.entries[-1][1] if is_full else found.rest, left - len(found.entries)
            if not is_full or left == 0:
                break
        end = kept[size - 1][1] if len(kept) > size else after
        token = paging.encode(end, query=this_query) if end is not None else ""
        return GrantPage(grants=tuple(grant for grant, _ in kept[:size]), next_page_token=token, at=snapshot.now)


def commit(store: Store, caller: Caller, name: str, etag: str, transition: Transition) -> GrantAnswer:
    """Stores what the transition makes of the grant, and its record. Raises NotVisible, GrantNotFound, StaleEtag."""
    with store.transaction() as tx:
        by = with_delegations(tx, caller)
        grant = read_visible(tx, by, name)
        if (earlier := answered_before(tx, caller, _GRANTS)) is not None:
            return GrantAnswer(*earlier)
        etags.demand(etag, grant.name, grant.revision)
        saved = tx.save_grant(*transition(tx, grant, by))
        answer = GrantAnswer(*remember(tx, caller, _GRANTS, saved))
        # Nobody can pass it on any more, so there are no others later.
        has_ended_above_others = saved.end is not None and bool(tx.live_children(saved.name))
    if has_ended_above_others:
        end_below(store, [saved], by=by)
    return answer


def attempt(store: Store, caller: Caller, name: str, etag: str, transition: Transition) -> GrantAnswer:
    """Answers what the transition would make of the grant, and stores nothing. Raises as `commit` does."""
    with store.snapshot() as snapshot:
        by = with_delegations(snapshot, caller)
        grant = read_visible(snapshot, by, name)
        etags.demand(etag, grant.name, grant.revision)
        would_be, _ = transition(snapshot, grant, by)
        return GrantAnswer(would_be, snapshot.now)


def approve(
    store: Store,
    caller: Caller,
    name: str,
    *,
    comment: str,
    etag: str,
    extension_round: int = 0,
    edits: terms.Edits = terms.AS_ASKED,
    do: Do = commit,
) -> GrantAnswer:
    """Approves the current step, of the request or of the extension of that round, with the edits if any.

    Raises what `domain.grants.reviewing.approve` raises.
    """

    def transition(tx: Snapshot, grant: Grant, by: Caller) -> tuple[Grant, Event]:
        rules = _review_rules(tx, grant)
        shown = Shown(etag=etag, extension_round=extension_round)
        return reviewing.approve(grant, edits, rules=rules, by=by, comment=comment, now=tx.now, shown=shown)

    return do(store, caller, name, etag, transition)


def deny(
    store: Store, caller: Caller, name: str, *, comment: str, etag: str, extension_round: int = 0, do: Do = commit
) -> GrantAnswer:
    """Denies a pending request, for access or for more time. Raises what `domain.grants.reviewing.deny` raises."""

    def transition(tx: Snapshot, grant: Grant, by: Caller) -> tuple[Grant, Event]:
        rules = _review_rules(tx, grant)
        shown = Shown(etag=etag, extension_round=extension_round)
        return reviewing.deny(grant, rules=rules, by=by, comment=comment, now=tx.now, shown=shown)

    return do(store, caller, name, etag, transition)


def counter(
    store: Store, caller: Caller, name: str, *, comment: str, etag: str, edits: terms.Edits, do: Do = commit
) -> GrantAnswer:
    """Offers other terms. Raises what `domain.grants.reviewing.counter` raises."""

    def transition(tx: Snapshot, grant: Grant, by: Caller) -> tuple[Grant, Event]:
        return reviewing.counter(grant, edits, rules=_review_rules(tx, grant), by=by, comment=comment, now=tx.now)

    return do(store, caller, name, etag, transition)


def accept_offer(store: Store, caller: Caller, name: str, *, comment: str, etag: str) -> GrantAnswer:
    """Takes the offered terms. Raises what `domain.grants.reviewing.accept` raises."""

    def transition(tx: Snapshot, grant: Grant, by: Caller) -> tuple[Grant, Event]:
        lent = tuple(right.delegation for right in _lent_to_offerer(tx, grant))
        rules = _review_rules(tx, grant)
        return reviewing.accept(grant, rules=rules, by=by, comment=comment, now=tx.now, delegations=lent)

    return commit(store, caller, name, etag, transition)


def decline_offer(store: Store, caller: Caller, name: str, *, comment: str, etag: str) -> GrantAnswer:
    """Declines the offered terms. Raises what `domain.grants.approval.decline` raises."""
    return commit(
        store, caller, name, etag, lambda tx, grant, by: approval.decline(grant, by=by, comment=comment, now=tx.now)
    )


def extend(
    store: Store, caller: Caller, name: str, more: more_time.MoreTime, *, etag: str, do: Do = commit
) -> GrantAnswer:
    """Asks for more time. Raises what `domain.grants.reviewing.extend` raises."""

    def transition(tx: Snapshot, grant: Grant, by: Caller) -> tuple[Grant, Event]:
        return reviewing.extend(grant, more, rules=_review_rules(tx, grant), by=by, now=tx.now)

    return do(store, caller, name, etag, transition)


def complete_review(store: Store, caller: Caller, name: str, *, comment: str, etag: str) -> GrantAnswer:
    """Closes the review of a break-glass use. Raises what `domain.grants.break_glass.complete_review` raises."""

    def transition(tx: Snapshot, grant: Grant, by: Caller) -> tuple[Grant, Event]:
        policy = tx.policy(grant.policy)
        return break_glass.complete_review(grant, policy=policy, by=by, comment=comment, now=tx.now)

    return commit(store, caller, name, etag, transition)


def withdraw(store: Store, caller: Caller, name: str, *, comment: str, etag: str) -> GrantAnswer:
    """Takes back a pending request of one's own. Raises what `domain.grants.approval.withdraw` raises."""
    return commit(
        store, caller, name, etag, lambda tx, grant, by: approval.withdraw(grant, by=by, comment=comment, now=tx.now)
    )


def release(store: Store, caller: Caller, name: str, *, comment: str, etag: str) -> GrantAnswer:
    """Gives one's own access back, and what was passed on from it. Raises what `domain.grants.grant.release` raises."""
    return commit(
        store, caller, name, etag, lambda tx, grant, by: rules.release(grant, by=by, comment=comment, now=tx.now)
    )


def revoke(store: Store, caller: Caller, name: str, *, comment: str, etag: str) -> GrantAnswer:
    """Ends access at once, and what was passed on from it. Raises what `domain.grants.approval.revoke` raises."""

    def transition(tx: Snapshot, grant: Grant, by: Caller) -> tuple[Grant, Event]:
        return approval.revoke(grant, policy=tx.policy(grant.policy), by=by, comment=comment, now=tx.now)

    return commit(store, caller, name, etag, transition)


def end_below(store: Store, parents: Iterable[Grant], *, by: Caller) -> None:
    """Ends what was passed on from grants that have ended, each with its record, in transactions of a few.

    The end of the parents is committed before, and no check below them is allowed from then on. What is left where the
    store does not answer, or the process ends, is ended by the sweeper.
    """
    for parent in parents:
        try:
            while _end_some(store, parent, by=by):
                pass
        except Unavailable as fault:
            _log.warning("what came from %s is ended later: %s", parent.name, fault)


def _end_some(store: Store, parent: Grant, *, by: Caller) -> bool:
    with store.snapshot() as snapshot:
        if not snapshot.live_children(parent.name):
            return False
    with store.transaction() as tx:
        for child in tx.live_children(parent.name)[:END_TOGETHER]:
            tx.save_grant(*rules.revoke_with_parent(child, parent=parent, by=by, now=tx.now))
    return True


def _review_rules(tx: Snapshot, grant: Grant) -> ReviewRules:
    """Returns what the store has to judge the request by. Raises PolicyNoLongerAllows for a policy that is gone."""
    policy = _policy_of(tx, grant)
    return ReviewRules(policy=policy, policies=tx.policies(), signals=_signals(tx, [policy]), locks=tx.locks)


def _signals(snapshot: Snapshot, policies: Sequence[Policy]) -> Signals:
    """Returns what the conditions of requests under the policies see of the signals; where there are none, nothing."""
    if not any(policy.has_request_conditions for policy in policies):
        return NO_SIGNALS
    return signal.at(snapshot.signals(), snapshot.now)


def _lent_to_offerer(tx: Snapshot, grant: Grant) -> tuple[Right, ...]:
    """Returns the rights that whoever made the offer has from others now."""
    return with_delegations(tx, Caller(principal=grant.offer.reviewer)).delegated if grant.offer else ()


def read_visible(snapshot: Snapshot, caller: Caller, name: str) -> Grant:
    """Where the caller may not see it, the answer is the same whether it exists or not."""
    grant = snapshot.grant(name)
    if grant is None and caller.has(*READS_GRANTS):
        over_at = snapshot.grant_beginning.over_at
        gone = f"; those that were over by {rfc3339.exact(over_at)} were forgotten" if over_at is not None else ""
        raise GrantNotFound(f"there is no {name}{gone}", grant=name)
    if grant is None or not approval.is_visible(grant, snapshot.policy(grant.policy), caller):
        raise NotVisible(f"{caller.principal} may not see {name}", grant=name)
    return grant


def _policy_of(tx: Snapshot, grant: Grant) -> Policy:
    policy = tx.policy(grant.policy)
    if policy is None:
        raise PolicyNoLongerAllows(f"{grant.name} can no longer pass: {grant.policy} is gone", grant=grant.name)
    return policy


def selected(snapshot: Snapshot, caller: Caller, view: GrantView) -> tuple[GrantList, Callable[[Grant], bool]]:
    """Returns what the view selects in the store, and what then still has to be judged grant by grant."""
    everything: Callable[[Grant], bool] = lambda _: True  # noqa: E731
    if view is GrantView.REVIEW_DEBT:
        return grant_list.owing_reviews(selected(snapshot, caller, GrantView.VISIBLE)[0]), everything
    if view is GrantView.ALL or (view is GrantView.VISIBLE and caller.has(*READS_GRANTS)):
        return grant_list.every_grant(), everything
    if view is GrantView.MINE:
        return snapshot.list_of(caller.person), everything
    policies = _policies_reviewed_by(caller, snapshot.policies(deleted=True))
    if view is GrantView.VISIBLE:
        return snapshot.list_seen_by(caller.person, list(policies)), everything

    in_force, signals = snapshot.policies(), signal.at(snapshot.signals(), snapshot.now)

    def reviewable(grant: Grant) -> bool:
        policy, now = policies[grant.policy], snapshot.now
        waiting = request.refresh_steps(grant, policy=policy, policies=in_force, now=now, signals=signals)
        return approval.is_reviewable(waiting, policy=policy, by=caller, now=now, locks=snapshot.locks, signals=signals)

    return grant_list.undecided_grants(list(policies), now=snapshot.now), reviewable


def _policies_reviewed_by(caller: Caller, policies: Sequence[Policy]) -> dict[str, Policy]:
    return {policy.name: policy for policy in policies if approval.may_review_under(policy, caller)}
