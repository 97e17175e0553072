"""Reviews of requests: who may decide, when the decisions suffice, and the transitions that follow.

A grant has one request after another: the first, for access, and later ones for more time (`extension`). The same
reviews, steps and deadlines hold for each; only what follows differs.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from jit_service.domain.audit.event import SERVICE, Event, EventType, group_fields, log_in_fields
from jit_service.domain.caller import LEFT_OUT, READS_GRANTS, Caller, Right, Role
from jit_service.domain.conditions.condition import Verdict
from jit_service.domain.conditions.signal import NO_SIGNALS, Signals
from jit_service.domain.errors import (
    AlreadyReviewed,
    InvalidField,
    NotApprover,
    NotYours,
    SelfApproval,
    StaleEtag,
    WrongState,
)
from jit_service.domain.frozen import replace
from jit_service.domain.grants.grant import (
    ExtensionState,
    Grant,
    GrantState,
    Review,
    ReviewDecision,
    Terms,
    demand_state,
    end,
    event,
    start,
)
from jit_service.domain.grants.lock import NO_LOCKS, Locks
from jit_service.domain.grants.log_in import demand_assurance, is_assured, kept_authentication
from jit_service.domain.grants.more_time import lengthen
from jit_service.domain.grants.quorum import (
    ReviewPlace,
    approvals_missing,
    count_denials,
    counting_reviews,
    current_step,
    find_place,
    has_reviewed,
    step_due_at,
    still_counts,
    waiting_step,
)
from jit_service.domain.grants.request import check_duration, judge_reviewer
from jit_service.domain.grants.terms import Edits, _extension, edit, narrow
from jit_service.domain.language import etag as etags
from jit_service.domain.language import regex
from jit_service.domain.policies.policy import CommentRule, Policy


def open_request(grant: Grant, *, by: Caller, now: datetime) -> tuple[Grant, Event]:
    """Starts the grant's life. Where no step is needed it is approved at once. The policy has already been judged."""
    needed = any(approvals_missing(grant.steps, (), grant.skipped))
    first = _wait_for_step(grant, since=now) if needed else start(grant, now)
    message = f"[{grant.justification.ticket}] {grant.justification.text}".removeprefix("[] ")
    asked = event(
        EventType.BREAK_GLASS_USED if grant.emergency else EventType.GRANT_REQUESTED,
        first,
        by=by,
        now=now,
        message=message,
    )
    return first, replace(asked, **group_fields(by.groups), context=grant.context)


def open_child(child: Grant, *, by: Caller, now: datetime) -> tuple[Grant, Event]:
    """Returns what is passed on, with its event. It has been judged and has started."""
    message = child.justification.text or f"passed on from {child.parent}"
    asked = event(EventType.GRANT_REQUESTED, child, by=by, now=now, message=message)
    return child, replace(asked, **group_fields(by.groups))


def demand_reviewer(
    grant: Grant,
    *,
    policy: Policy,
    by: Caller,
    now: datetime,
    locks: Locks = NO_LOCKS,
    signals: Signals = NO_SIGNALS,
) -> ReviewPlace:
    """Returns where the caller's decision counts now. Raises SelfApproval, NotApprover, WrongState, AlreadyReviewed.

    The caller's own right comes first, then those that others delegated to it. While one of the `locks` stands on a
    reviewer, on whose right it used, or on the token it came with, that review does not count. Where the step's
    condition says who may decide, it must be true of the caller.
    """
    if grant.is_own_review(by.person) and not policy.allow_self_approval:
        raise SelfApproval(f"{by.principal} asked for or would hold {grant.name}, so may not review it")
    rights = rights_under(policy, by)
    if not rights:
        why = f"; {LEFT_OUT}" if by.groups is None else ""
        raise NotApprover(f"{by.principal} is not an approver of {policy.name}{why}", grant=grant.name)
    foreign = [right for right in rights if policy.allow_self_approval or not grant.is_own_review(right.person)]
    if not foreign:
        raise SelfApproval(f"{by.principal} could review {grant.name} only in place of whoever asked for or holds it")
    _demand_undecided(grant, now)
    if has_reviewed(grant, by.person):
        raise AlreadyReviewed(f"{by.principal} has already reviewed {grant.name}; one principal counts once")
    place = find_place(grant, policy, foreign, by=by, now=now, locks=locks)
    demand_condition(grant, policy, place, by=by, now=now, signals=signals)
    return place


def demand_shown(grant: Grant, *, extension_round: int, etag: str, now: datetime) -> None:
    """Raises unless a decision names the request that waits for one: whoever made it may have been shown another.

    That is the first one, or by its round one for more time; or `etag` is what was read, which has been compared.
    Raises InvalidField where more time waits and neither was given, StaleEtag where another waits than was named.
    """
    waiting = grant.round if grant.extension_state(now) is ExtensionState.PENDING else 0
    if extension_round == waiting or (etag and not extension_round):
        return
    if not extension_round:
        fault = f"is required, or the etag that was read: request {waiting} for more time of {grant.name} waits"
        raise InvalidField("extension_round", fault)
    there = f"request {waiting} for more time" if waiting else "the first request"
    raise StaleEtag(
        f"extension_round is {extension_round}, and what waits for a decision at {grant.name} is {there}",
        etag=etags.etag(grant.name, grant.revision),
    )


def approve(
    grant: Grant,
    *,
    policy: Policy,
    by: Caller,
    comment: str,
    now: datetime,
    given: Terms | None = None,
    place: ReviewPlace | None = None,
    locks: Locks = NO_LOCKS,
    signals: Signals = NO_SIGNALS,
) -> tuple[Grant, Event]:
    """Counts an approval for the current step; the last one needed starts the access, or lengthens it.

    `policy` is the current revision; `given` are the terms where the approval changed them, which the grant then has
    already, and `place` is what `demand_reviewer` found before they were changed: with them that step may not be needed
    any more. Raises what `demand_reviewer` raises, and InvalidField for a comment that the policy does not take.
    """
    if place is None:
        place = demand_reviewer(grant, policy=policy, by=by, now=now, locks=locks, signals=signals)
    _demand_in_turn(grant, policy, place, by=by, locks=locks)
    # Of what is given, too, and not only of what was asked for.
    demand_condition(grant, policy, place, by=by, now=now, signals=signals)
    demand_assurance(grant, policy, by=by, now=now)
    check_comment(comment, policy.review_comment, required=policy.review_comment.required_to_approve, by=policy.name)
    review = _make_review(grant, ReviewDecision.APPROVED, policy, place, by=by, comment=comment, now=now, terms=given)
    reviewed = _with_review(grant, policy, review, now=now, locks=locks)
    return _conclude(reviewed, policy, review, by=by, comment=comment, now=now, locks=locks)


def deny(
    grant: Grant,
    *,
    policy: Policy,
    by: Caller,
    comment: str,
    now: datetime,
    locks: Locks = NO_LOCKS,
    signals: Signals = NO_SIGNALS,
) -> tuple[Grant, Event]:
    """Counts a denial for the current step; the last one needed ends the request.

    Raises what `demand_reviewer` raises, and InvalidField for a comment that the policy does not take.
    """
    place = demand_reviewer(grant, policy=policy, by=by, now=now, locks=locks, signals=signals)
    check_comment(comment, policy.review_comment, required=policy.review_comment.required_to_deny, by=policy.name)
    review = _make_review(grant, ReviewDecision.DENIED, policy, place, by=by, comment=comment, now=now)
    denied = _with_review(grant, policy, review, now=now, locks=locks)
    final = count_denials(denied, policy, place.step, locks) >= policy.steps[place.step].denials_needed
    if grant.extension is not None:
        denied = _close_extension(denied, ExtensionState.DENIED) if final else denied
    elif final:
        denied = end(denied, GrantState.DENIED, by=by, comment=comment, now=now)
    type_ = EventType.EXTENSION_DENIED if grant.extension is not None else EventType.GRANT_DENIED
    recorded = _event_by(policy, type_, denied, by=by, now=now, message=comment)
    return denied, replace(recorded, delegation=review.delegation, **log_in_fields(by, now=now))


def counter(
    grant: Grant,
    edits: Edits,
    *,
    policy: Policy,
    by: Caller,
    comment: str,
    now: datetime,
    locks: Locks = NO_LOCKS,
    signals: Signals = NO_SIGNALS,
) -> tuple[Grant, Event]:
    """Offers narrower terms, for the requester to accept or decline; a new offer takes the place of an earlier one.

    Raises what `demand_reviewer` raises, WrongState for an extension, InvalidField for terms that differ in nothing.
    """
    place = demand_reviewer(grant, policy=policy, by=by, now=now, locks=locks, signals=signals)
    demand_state(grant, now, GrantState.PENDING)
    demand_assurance(grant, policy, by=by, now=now)
    check_comment(comment, policy.review_comment, required=policy.review_comment.required_to_approve, by=policy.name)
    terms = narrow(grant.terms, edits, now=now)
    if terms.duration != grant.duration:
        check_duration(terms.duration, policy)
    if terms == grant.terms:
        raise InvalidField("duration", "is as asked for, and so is everything else; offer something less, or approve")
    demand_condition(edit(grant, edits, now=now), policy, place, by=by, now=now, signals=signals)
    offer = _make_review(grant, ReviewDecision.APPROVED, policy, place, by=by, comment=comment, now=now, terms=terms)
    offered = replace(grant, offer=offer)
    recorded = event(EventType.GRANT_COUNTERED, offered, by=by, now=now, message=comment)
    return offered, replace(
        recorded,
        resources=terms.resources,
        actions=terms.actions,
        duration=terms.duration,
        delegation=offer.delegation,
        **log_in_fields(by, now=now),
    )


def with_offered_terms(grant: Grant, *, by: Caller, now: datetime) -> Grant:
    """Returns the grant with the terms it was offered. Raises NotYours, WrongState where there is no offer."""
    offer = _demand_offer(grant, by=by, now=now)
    terms = offer.terms or grant.terms
    as_edits = Edits(resources=terms.resources, actions=terms.actions, duration=terms.duration, start_at=terms.start_at)
    if as_edits.start_at is not None:
        as_edits = replace(as_edits, start_at=max(as_edits.start_at, now))
    return replace(edit(grant, as_edits, now=now), offer=offer)


def accept(
    grant: Grant,
    *,
    policy: Policy,
    by: Caller,
    comment: str,
    now: datetime,
    delegations: Collection[str] = (),
    locks: Locks = NO_LOCKS,
) -> tuple[Grant, Event]:
    """Takes the offer: the grant, which has its terms already, counts it as the approval of whoever made it.

    `delegations` are those that whoever made it can use now. Raises NotYours, WrongState, and NotApprover where whoever
    made it may not approve any more.
    """
    offer = _demand_offer(grant, by=by, now=now)
    lent = not offer.delegation or (offer.delegation in delegations and not policy.forbid_delegation)
    if not lent or offer.step >= len(policy.steps) or not still_counts(policy.steps[offer.step], offer, locks):
        raise NotApprover(f"{offer.reviewer}, who made the offer, is not an approver of {policy.name} any more")
    if not is_assured(policy, offer):
        raise NotApprover(f"{offer.reviewer} had not logged in for the offer as {policy.name} asks of approvers now")
    if has_reviewed(grant, offer.by, offer.right_of):
        raise AlreadyReviewed(f"{offer.reviewer} has already reviewed {grant.name}; one principal counts once")
    review = replace(offer, at=now)
    reviewed = _with_review(replace(grant, offer=None), policy, review, now=now, locks=locks)
    changed, _ = _conclude(reviewed, policy, review, by=by, comment=comment, now=now, locks=locks)
    accepted = event(EventType.COUNTER_OFFER_ACCEPTED, changed, by=by, now=now, message=comment)
    return changed, replace(accepted, delegation=offer.delegation)


def decline(grant: Grant, *, by: Caller, comment: str, now: datetime) -> tuple[Grant, Event]:
    """Refuses the offer; the request goes on as it was asked for. Raises NotYours, WrongState."""
    _demand_offer(grant, by=by, now=now)
    declined = replace(grant, offer=None)
    return declined, event(EventType.COUNTER_OFFER_DECLINED, declined, by=by, now=now, message=comment)


def withdraw(grant: Grant, *, by: Caller, comment: str, now: datetime) -> tuple[Grant, Event]:
    """Takes a pending request back, for access or for more time. Raises NotYours, WrongState."""
    if not grant.is_of(by.person):
        raise NotYours(f"{grant.name} was asked for by {grant.requester}, not by {by.principal}", grant=grant.name)
    _demand_undecided(grant, now)
    if grant.extension is not None:
        kept = _close_extension(grant, ExtensionState.WITHDRAWN)
        return kept, event(EventType.EXTENSION_WITHDRAWN, kept, by=by, now=now, message=comment)
    withdrawn = end(grant, GrantState.WITHDRAWN, by=by, comment=comment, now=now)
    return withdrawn, event(EventType.GRANT_WITHDRAWN, withdrawn, by=by, now=now, message=comment)


def open_extension(grant: Grant, *, policy: Policy, by: Caller, now: datetime) -> tuple[Grant, Event]:
    """Begins the review of the extension that the grant has got. Where no step is needed it is given at once.

    `policy` is the current revision, by which the extension has been judged.
    """
    asked_for = _extension(grant)
    needed = any(approvals_missing(grant.steps, (), grant.skipped))
    first = _wait_for_step(grant, since=now) if needed else lengthen(grant, policy, now=now)
    why = asked_for.justification
    message = f"[{why.ticket}] {why.text}".removeprefix("[] ")
    asked = _event_by(policy, EventType.EXTENSION_REQUESTED, first, by=by, now=now, message=message)
    return first, replace(asked, duration=asked_for.duration, **group_fields(by.groups))


def lapse_extension(grant: Grant, *, now: datetime) -> tuple[Grant, Event]:
    """Closes a request for more time that nobody decided. Raises WrongState for any other."""
    if grant.extension_state(now) is not ExtensionState.LAPSED:
        raise WrongState(f"{grant.name} has no request for more time that has lapsed", grant=grant.name)
    from_service = Caller(principal=SERVICE)
    lapsed = _close_extension(grant, ExtensionState.LAPSED)
    return lapsed, event(EventType.EXTENSION_LAPSED, lapsed, by=from_service, now=now, message="nobody decided in time")


def revoke(grant: Grant, *, policy: Policy | None, by: Caller, comment: str, now: datetime) -> tuple[Grant, Event]:
    """Ends the access at once.

    Reviewers, the requester, the holder, responders and admins may. Raises NotApprover, WrongState, InvalidField for no
    comment.
    """
    if not (by.has(Role.ADMIN, Role.RESPONDER) or grant.is_of(by.person) or is_reviewer(grant, policy, by)):
        raise NotApprover(
            f"{by.principal} is not an approver of {grant.policy}, nor an admin or responder", grant=grant.name
        )
    if not comment.strip():
        raise InvalidField("comment", "is required: say why the access ends")
    demand_state(grant, now, GrantState.SCHEDULED, GrantState.ACTIVE)
    revoked = end(grant, GrantState.REVOKED, by=by, comment=comment, now=now)
    return revoked, event(EventType.GRANT_REVOKED, revoked, by=by, now=now, message=comment)


def is_reviewer(grant: Grant, policy: Policy | None, by: Caller) -> bool:
    """Returns whether the caller is an approver of the grant's policy as it is now, or has reviewed the grant."""
    if any(review.reviewer == by.principal or by.person.has_account(review.account) for review in grant.reviews):
        return True
    return policy is not None and may_review_under(policy, by)


def may_review_under(policy: Policy, by: Caller) -> bool:
    """Returns whether the caller may approve one of the policy's steps, by its own right or by one delegated to it."""
    return bool(rights_under(policy, by))


def rights_under(policy: Policy, by: Caller) -> list[Right]:
    """Returns the rights by which the caller may approve one of the policy's steps, its own first."""
    return [
        right
        for right in by.rights(policy.name)
        if policy.has_reviewer(right.holder, right.groups) and not (right.delegation and policy.forbid_delegation)
    ]


def is_visible(grant: Grant, policy: Policy | None, by: Caller) -> bool:
    """Returns whether the caller may read the grant: its requester, subject, reviewers, and readers of all."""
    if by.has(*READS_GRANTS) or grant.is_of(by.person):
        return True
    return is_reviewer(grant, policy, by)


def is_reviewable(
    grant: Grant,
    *,
    policy: Policy,
    by: Caller,
    now: datetime,
    locks: Locks = NO_LOCKS,
    signals: Signals = NO_SIGNALS,
) -> bool:
    """Returns whether the caller could approve the grant now, or the extension that is asked for."""
    try:
        demand_reviewer(grant, policy=policy, by=by, now=now, locks=locks, signals=signals)
    except (SelfApproval, NotApprover, WrongState, AlreadyReviewed):
        return False
    return True


def check_comment(comment: str, rule: CommentRule, *, required: bool, by: str) -> None:
    """Raises InvalidField for a comment that the policy `by` does not take."""
    if required and not comment.strip():
        raise InvalidField("comment", f"is required by {by}")
    if comment.strip():
        regex.demand_match(rule.pattern, comment, field="comment", by=by)


def demand_condition(
    grant: Grant, policy: Policy, place: ReviewPlace, *, by: Caller, now: datetime, signals: Signals
) -> None:
    """Raises NotApprover unless the step's condition, where that says who may decide, is true of the caller."""
    step = policy.steps[place.step]
    if not step.judges_reviewer:
        return
    judgement = judge_reviewer(step, grant, by=by, now=now, signals=signals)
    if judgement.verdict is not Verdict.MET:
        fault = f"cannot be judged: {judgement.message}" if judgement.message else f"is not met: {step.condition}"
        raise NotApprover(
            f"{by.principal} may not decide step {place.step + 1} of {policy.name}, whose condition {fault}",
            grant=grant.name,
        )


def _demand_in_turn(grant: Grant, policy: Policy, place: ReviewPlace, *, by: Caller, locks: Locks) -> None:
    missing = approvals_missing(policy.steps, counting_reviews(grant, policy, locks), grant.skipped)
    first = waiting_step(policy.steps, missing)
    if first < place.step:
        raise NotApprover(
            f"{grant.name} would wait for step {first + 1} of {policy.name} with these terms, and {by.principal} "
            f"approves step {place.step + 1}",
            grant=grant.name,
        )


def _demand_undecided(grant: Grant, now: datetime) -> None:
    if grant.extension_state(now) is not ExtensionState.PENDING:
        demand_state(grant, now, GrantState.PENDING)


def _demand_offer(grant: Grant, *, by: Caller, now: datetime) -> Review:
    if not grant.is_of(by.person):
        raise NotYours(f"{grant.name} was asked for by {grant.requester}, not by {by.principal}", grant=grant.name)
    demand_state(grant, now, GrantState.PENDING)
    if grant.offer is None:
        raise WrongState(f"{grant.name} has no counter-offer to answer", grant=grant.name)
    return grant.offer


def _make_review(
    grant: Grant,
    decision: ReviewDecision,
    policy: Policy,
    place: ReviewPlace,
    *,
    by: Caller,
    comment: str,
    now: datetime,
    terms: Terms | None = None,
) -> Review:
    step = policy.steps[place.step]
    return Review(
        reviewer=by.principal,
        groups=place.right.groups,
        decision=decision,
        step=place.step,
        comment=comment,
        at=now,
        round=grant.round,
        on_behalf_of=place.right.holder if place.right.delegation else "",
        delegation=place.right.delegation,
        escalated=place.escalated,
        terms=terms,
        condition=step.condition if step.judges_reviewer else "",
        account=by.account,
        holder_account=place.right.account,
        token_id=by.token_id,
        authentication=kept_authentication(policy, by, now=now),
    )


def _with_review(grant: Grant, policy: Policy, review: Review, *, now: datetime, locks: Locks) -> Grant:
    """Adds the review, takes the policy's steps as they are now, and starts the clock of the step that is next."""
    added = replace(grant, reviews=(*grant.reviews, review), steps=policy.steps)
    if grant.extension is None:
        # One that is live stays what it was given under until more time is given.
        added = replace(added, policy_revision=policy.revision)
    # The review itself may have made its step needless, by other terms: then that step is passed with it.
    before = approvals_missing(policy.steps, counting_reviews(grant, policy, locks))[review.step]
    after = approvals_missing(policy.steps, counting_reviews(added, policy, locks), grant.skipped)[review.step]
    moved_on = before > 0 and after == 0
    return _wait_for_step(added, since=now if moved_on else grant.step_since or grant.created_at)


def _conclude(
    reviewed: Grant, policy: Policy, review: Review, *, by: Caller, comment: str, now: datetime, locks: Locks
) -> tuple[Grant, Event]:
    """Gives what was asked for, if that was the last approval needed."""
    if not any(approvals_missing(policy.steps, counting_reviews(reviewed, policy, locks), reviewed.skipped)):
        reviewed = start(reviewed, now) if reviewed.extension is None else lengthen(reviewed, policy, now=now)
    type_ = EventType.GRANT_APPROVED if reviewed.extension is None else EventType.EXTENSION_APPROVED
    recorded = _event_by(policy, type_, reviewed, by=by, now=now, message=comment)
    return reviewed, replace(recorded, delegation=review.delegation, **log_in_fields(by, now=now))


def _event_by(policy: Policy, type_: EventType, grant: Grant, *, by: Caller, now: datetime, message: str) -> Event:
    """Returns the event of a transition that was judged by the policy as it is now."""
    return replace(event(type_, grant, by=by, now=now, message=message), policy_revision=policy.revision)


def _wait_for_step(grant: Grant, *, since: datetime) -> Grant:
    """Sets by when the request is decided, as the step that is now waited for says, and else lapses."""
    waiting = replace(grant, step_since=since)
    due_at = step_due_at(waiting)
    lapses_early = due_at is not None and grant.steps[current_step(waiting)].escalate_to is None
    latest = due_at if lapses_early else None
    if grant.extension is None:
        end = grant.created_at + grant.request_ttl
        return replace(waiting, request_expires_at=min(end, latest or end))
    end = grant.extension.lapses_at
    return replace(waiting, extension=replace(grant.extension, expires_at=min(end, latest or end)))


def _close_extension(grant: Grant, decided: ExtensionState) -> Grant:
    return replace(grant, extension=replace(_extension(grant), decided=decided))
