"""Vulnerable twins: each is the domain with one bug sown into it, and a rule's test that must not survive it.

A check that has never failed proves nothing. A twin is a small edit of one function's source; the function runs with
the edited code wherever it was imported, for the length of one test.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import Any

import pytest

from jit_service.domain import (
    approval,
    chain,
    condition,
    decision,
    delegation,
    emergency,
    etag,
    expression,
    grant,
    pattern,
    policy,
    policy_change,
    refusal,
    request,
    review,
    signal,
)
from jit_service.domain.caller import Caller
from jit_service.domain.delegation import Delegation
from jit_service.domain.errors import JitError
from jit_service.domain.grant import Grant, Review
from jit_service.domain.policy import Policy, PrincipalSet
from tests.domain import (
    test_approval,
    test_chain,
    test_child,
    test_condition,
    test_conditional,
    test_decision,
    test_delegation,
    test_emergency,
    test_etag,
    test_expression,
    test_extension,
    test_grant,
    test_policy,
    test_policy_change,
    test_refusal,
    test_request,
    test_review,
    test_signal,
)


@dataclass(frozen=True)
class Twin:
    """`sound` stands once in the function's source; with `bug` in its place, `caught_by` must fail."""

    name: str
    function: Callable[..., Any]
    sound: str
    bug: str
    caught_by: Callable[[], None]


def _getter(owner: type, name: str) -> Callable[..., Any]:
    """The function behind a property."""
    getter: Callable[..., Any] = vars(owner)[name].fget
    return getter


TWINS = [
    Twin(
        "a denial that counts for a removed approver",
        approval._denials,
        "and _stands(policy.steps[step], review)",
        "",
        test_conditional.test_denials_count_while_their_approvers_are_approvers,
    ),
    Twin(
        "a first denial that always ends it",
        approval.deny,
        ">= policy.steps[place.step].denials_needed",
        ">= 1",
        test_conditional.test_a_denial_quorum_takes_distinct_denials,
    ),
    # Conditions
    Twin(
        "an error in a condition that counts as met",
        condition.judge,
        "return _error(text, facts, str(plain))",
        "return Judgement(Verdict.MET)",
        lambda: test_condition.test_what_cannot_be_judged_is_an_error("context.missing == 1"),
    ),
    Twin(
        "a truthy value that counts as true",
        condition.judge,
        "if plain is True",
        "if plain",
        lambda: test_condition.test_what_cannot_be_judged_is_an_error("context.build"),
    ),
    Twin(
        "a source address that the caller asserts",
        condition._bindings,
        'if key != "source_ip"',
        "if True",
        lambda: test_condition.test_what_is_not_known_is_an_error(
            "context.source_ip != ''", {"source_address": "", "context": {"source_ip": "10.1.2.3"}}
        ),
    ),
    Twin(
        "a check that does not ask its condition",
        decision._own_finding,
        "judgement.verdict is not Verdict.MET",
        "judgement is None",
        test_conditional.test_a_check_allows_only_while_the_condition_is_true,
    ),
    Twin(
        "a signal that outlives its expiry by an instant",
        signal.Signal.stale,
        "now >= self.expires_at",
        "now > self.expires_at",
        test_signal.test_a_signal_is_stale_exactly_at_its_expiry,
    ),
    Twin(
        "a preview that counts one person for two steps",
        review._matched,
        "if person not in taken or fill(taken[person], tried)",
        "if True",
        lambda: test_review.test_one_person_fills_one_slot_in_all_steps_together(
            [test_review.named("bob"), test_review.named("bob")], 1
        ),
    ),
    Twin(
        "an approval that does not judge the conditions again",
        request._judge_request_again,
        "return _judged_by_conditions(limited, policy, signals=signals, now=now)",
        "return grant",
        test_conditional.test_an_approval_judges_the_conditions_again,
    ),
    Twin(
        "an ensured grant that was given for less",
        request._in_time,
        "(ask.duration or timedelta()) <= grant.duration",
        "timedelta() <= grant.duration",
        test_conditional.test_a_live_grant_covers_what_is_within_it_and_no_longer_than_it,
    ),
    Twin(
        "an escalation that comes after the request has lapsed",
        review._deciders,
        "step.timeout < patience",
        "step.timeout <= patience",
        test_review.test_who_a_step_escalates_to_only_after_the_request_has_lapsed_could_not_approve_it,
    ),
    Twin(
        "an edit that jumps over an earlier step",
        approval._demand_in_turn,
        "first < place.step",
        "first < 0",
        test_conditional.test_an_edit_that_needs_an_earlier_step_first_is_refused,
    ),
    Twin(
        "an ensured grant that is over when it is wanted",
        request._in_time,
        "and ask.start_at + (ask.duration or timedelta()) <= ends",
        "",
        test_conditional.test_a_grant_covers_a_later_start_that_lies_within_it,
    ),
    Twin(
        "an ensured grant that starts later than it is wanted",
        request._in_time,
        "begins <= now < ends and",
        "",
        test_conditional.test_a_grant_that_starts_later_does_not_cover_what_is_wanted_now,
    ),
    # Time
    Twin(
        "an expiry that is inclusive",
        grant.state_of,
        "now < expires_at",
        "now <= expires_at",
        test_grant.test_a_grant_ends_exactly_at_its_expiry,
    ),
    Twin(
        "a start that is exclusive",
        grant.state_of,
        "now < starts_at",
        "now <= starts_at",
        test_grant.test_a_scheduled_grant_starts_exactly_at_its_start,
    ),
    Twin(
        "a deadline that is inclusive",
        grant.state_of,
        "now < request_expires_at",
        "now <= request_expires_at",
        test_grant.test_an_approval_at_the_deadline_is_too_late,
    ),
    Twin(
        "a deadline of the request that ends the access",
        grant.state_of,
        "return GrantState.ACTIVE if now < expires_at",
        "return GrantState.ACTIVE if now < min(expires_at, request_expires_at)",
        test_grant.test_an_approved_grant_outlives_the_deadline_of_its_request,
    ),
    Twin(
        "an end that the clock undoes",
        Grant.state,
        "if self.end is not None:",
        "if self.end is not None and now < self.request_expires_at:",
        test_grant.test_somebodys_end_stays_what_it_was_whatever_the_clock_says,
    ),
    Twin(
        "a clock of the access that starts at the request",
        grant.expiring,
        "ends = [grant.starts_at + grant.duration]",
        "ends = [grant.created_at + grant.duration]",
        test_grant.test_the_clock_of_the_access_starts_at_approval_not_at_the_request,
    ),
    Twin(
        "a scheduled start that is ignored",
        grant.started,
        "max(now, grant.start_at or now)",
        "now",
        test_grant.test_the_clock_of_the_access_starts_at_the_scheduled_start_where_that_is_later,
    ),
    Twin(
        "a scheduled start that lies in the past",
        grant.started,
        "max(now, grant.start_at or now)",
        "grant.start_at or now",
        test_grant.test_a_start_that_has_passed_by_the_approval_gives_the_whole_duration_from_then,
    ),
    Twin(
        "a held time that counts from the approval",
        _getter(Grant, "held"),
        "return self.end.at - self.starts_at",
        "return self.end.at - (self.approved_at or self.starts_at)",
        test_grant.test_held_is_the_time_from_start_to_the_early_end,
    ),
    Twin(
        "an expiry that is recorded as held until it was noticed",
        grant.run_out,
        "held=grant.expires_at - grant.starts_at",
        "held=now - grant.starts_at",
        test_grant.test_the_event_of_an_expiry_says_how_long_it_was_held,
    ),
    # Approvals
    Twin(
        "a self-approval in other letter case",
        Grant.is_own_review,
        "name.canonical(principal)",
        "principal",
        test_grant.test_requester_cannot_approve_own_request_in_other_letter_case,
    ),
    Twin(
        "a self-approval of whoever holds what another asked for",
        Grant.is_own_review,
        "(name.canonical(self.requester), name.canonical(self.subject))",
        "(name.canonical(self.requester),)",
        test_grant.test_who_would_hold_the_access_cannot_approve_it,
    ),
    Twin(
        "a self-approval that is allowed always",
        approval.demand_reviewer,
        "and not policy.allow_self_approval",
        "and policy.disabled",
        test_approval.test_the_requester_does_not_approve_in_anothers_place,
    ),
    Twin(
        "a self-approval that outlives the permission",
        approval._counting,
        "policy.allow_self_approval or not",
        "True or not",
        test_grant.test_the_requesters_approval_no_longer_counts_once_the_policy_forbids_it,
    ),
    Twin(
        "a count per review instead of per principal",
        approval._standing,
        "name.canonical(review.holder)",
        'f"{review.reviewer} {id(review)}"',
        test_grant.test_reviews_of_one_principal_count_once_even_where_there_are_two,
    ),
    Twin(
        "a count per spelling of a principal",
        approval._standing,
        "name.canonical(review.holder)",
        "review.reviewer",
        test_grant.test_a_review_by_the_principal_in_other_letter_case_counts_once,
    ),
    Twin(
        "an approval that counts for a removed approver",
        approval._standing,
        "and _stands(step, review)",
        "",
        test_grant.test_an_approval_by_a_removed_approver_no_longer_counts,
    ),
    Twin(
        "an approval that counts in every step",
        approval._standing,
        "and review.step == index ",
        "",
        test_grant.test_an_approval_counts_for_the_step_it_was_given_in,
    ),
    Twin(
        "a denial that counts as an approval",
        approval._standing,
        "review.decision is ReviewDecision.APPROVED and ",
        "",
        test_grant.test_a_denial_is_no_approval,
    ),
    Twin(
        "a second review by the same principal",
        approval.demand_reviewer,
        "if _has_reviewed(grant, by.principal):",
        "if False:",
        test_grant.test_one_principal_counts_once,
    ),
    Twin(
        "a second review in other letter case",
        Review.uses_right_of,
        "name.canonical(principal) in mine",
        "principal in (self.reviewer, self.holder)",
        test_grant.test_one_principal_counts_once_in_whatever_letter_case,
    ),
    Twin(
        "a step that any approver of the policy decides",
        approval._place_of,
        "if step.has(right.holder, right.groups, escalated=False):",
        "if True:",
        test_grant.test_steps_are_decided_in_their_order,
    ),
    Twin(
        "an approval at any time",
        approval.demand_reviewer,
        "_demand_undecided(grant, now)",
        "pass",
        test_grant.test_an_approval_at_the_deadline_is_too_late,
    ),
    Twin(
        "access that begins at the first approval",
        approval._decided,
        "if not any(approvals_missing(",
        "if True or any(approvals_missing(",
        test_grant.test_a_request_stays_pending_until_the_last_approval_needed,
    ),
    # Endings
    Twin(
        "a revocation of what is pending",
        approval.revoke,
        "demand_state(grant, now, ",
        "demand_state(grant, now, GrantState.PENDING, ",
        test_grant.test_pending_is_withdrawn_or_denied_not_revoked_or_released,
    ),
    Twin(
        "a revocation by anybody",
        approval.revoke,
        "reviewers_have(grant, policy, by)",
        "True",
        test_grant.test_who_may_not_revoke_learns_nothing_of_the_state_or_the_fields,
    ),
    Twin(
        "a revocation without a word",
        approval.revoke,
        "if not comment.strip():",
        "if comment is None:",
        test_grant.test_a_revocation_says_why,
    ),
    Twin(
        "a withdrawal of access",
        approval.withdraw,
        "_demand_undecided(grant, now)",
        "pass",
        test_grant.test_access_is_revoked_or_released_not_withdrawn_or_denied,
    ),
    Twin(
        "a withdrawal by a lookalike",
        Grant.is_of,
        "principal in (self.requester, self.subject)",
        "self.is_own_review(principal)",
        test_grant.test_a_name_in_other_letter_case_is_somebody_else_where_it_would_permit,
    ),
    Twin(
        "a release by the requester of another's access",
        grant.release,
        "by.principal != grant.subject",
        "not grant.is_of(by.principal)",
        test_grant.test_the_requester_does_not_release_what_another_holds,
    ),
    Twin(
        "a grant that everybody sees",
        approval.visible,
        "return reviewers_have(grant, policy, by)",
        "return policy is not None",
        test_grant.test_a_grant_is_seen_by_its_people_its_reviewers_auditors_and_admins,
    ),
    # Edits and offers
    Twin(
        "an edit that widens",
        approval._demand_within,
        "if not within:",
        "if False:",
        test_approval.test_an_edit_does_not_widen_the_actions,
    ),
    Twin(
        "an edit that lengthens",
        approval._shorter,
        "given <= asked",
        "given",
        test_approval.test_an_edit_is_no_longer_than_what_is_asked_for,
    ),
    Twin(
        "an edit that starts sooner",
        approval.narrowed,
        "max(now, terms.start_at or now)",
        "now",
        test_approval.test_an_edit_starts_no_sooner_than_what_is_asked_for,
    ),
    Twin(
        "an edit that starts in the past",
        approval.narrowed,
        "not earliest <= edits.start_at <=",
        "not edits.start_at <=",
        test_approval.test_an_edit_starts_no_sooner_than_now,
    ),
    Twin(
        "an edit that starts in a thousand years",
        approval.narrowed,
        " <= now + MAX_LEAD:",
        ":",
        test_approval.test_an_edit_starts_at_most_thirty_days_ahead,
    ),
    Twin(
        "an offer of what was not asked for any more",
        approval.edited,
        "offer=None,",
        "",
        test_approval.test_an_edit_by_another_reviewer_ends_the_offer,
    ),
    Twin(
        "an offer that is accepted twice",
        approval.accept,
        "replace(grant, offer=None), policy",
        "grant, policy",
        test_approval.test_an_offer_is_accepted_once,
    ),
    Twin(
        "an offer that is its maker's second approval",
        approval.accept,
        "if _has_reviewed(grant, offer.reviewer, offer.holder):",
        "if False:",
        test_approval.test_an_offer_of_who_has_approved_meanwhile_is_no_second_approval,
    ),
    Twin(
        "an offer of a removed approver",
        approval.accept,
        "or not _stands(policy.steps[offer.step], offer)",
        "",
        test_approval.test_an_offer_is_not_accepted_once_its_maker_is_no_approver,
    ),
    Twin(
        "an offer of a delegate that is none any more",
        approval.accept,
        "if not lent or",
        "if",
        test_approval.test_a_delegates_offer_ends_with_the_delegation,
    ),
    Twin(
        "an offer that anybody accepts",
        approval._demand_offer,
        "if not grant.is_of(by.principal):",
        "if False:",
        test_approval.test_an_offer_is_answered_by_who_asked_or_would_hold_it,
    ),
    Twin(
        "an offer that outlives the request",
        approval._demand_offer,
        "demand_state(grant, now, GrantState.PENDING)",
        "pass",
        test_approval.test_an_offer_ends_exactly_with_the_request,
    ),
    Twin(
        "an offer by whoever",
        approval.counter,
        "demand_reviewer(grant, policy=policy, by=by, now=now)",
        "Place(step=0, right=Right(holder=by.principal, groups=by.groups), escalated=False)",
        test_approval.test_who_may_not_approve_may_not_offer,
    ),
    Twin(
        "an offer that is taken for an approval",
        approval.counter,
        "replace(grant, offer=offer)",
        "replace(grant, offer=offer, reviews=(*grant.reviews, offer))",
        test_approval.test_an_offer_gives_its_reviewer_no_second_vote,
    ),
    Twin(
        "an approval without the comment that is asked for",
        approval.check_comment,
        "if required and not comment.strip():",
        "if required and not comment:",
        test_approval.test_a_comment_that_is_required_must_say_something,
    ),
    # Escalation
    Twin(
        "an escalation an instant late",
        approval._place_of,
        "now >= since",
        "now > since",
        test_approval.test_a_step_escalates_exactly_at_its_timeout,
    ),
    Twin(
        "an escalation before its time",
        approval._place_of,
        "bool(step.timeout) and now >= since + step.timeout",
        "bool(step.timeout)",
        test_approval.test_a_step_escalates_exactly_at_its_timeout,
    ),
    Twin(
        "an escalation from the request on",
        approval._place_of,
        "grant.step_since or grant.created_at",
        "grant.created_at",
        test_approval.test_a_later_steps_clock_starts_when_the_step_before_it_is_passed,
    ),
    Twin(
        "an approval that stands as if escalated",
        approval._stands,
        "escalated=review.escalated",
        "escalated=True",
        test_approval.test_who_escalation_lets_in_does_not_pass_for_a_first_approver,
    ),
    Twin(
        "a step that does not lapse",
        approval._waiting,
        "request_expires_at=min(end, latest or end)",
        "request_expires_at=end",
        test_approval.test_a_step_without_an_escalation_lapses_exactly_at_its_timeout,
    ),
    Twin(
        "a step that outlasts the request",
        approval._waiting,
        "request_expires_at=min(end, latest or end)",
        "request_expires_at=latest or end",
        test_approval.test_a_step_lapses_no_later_than_the_request,
    ),
    Twin(
        "an extension's step that does not lapse",
        approval._waiting,
        "expires_at=min(end, latest or end)))",
        "expires_at=end))",
        test_approval.test_a_request_for_more_time_lapses_with_its_step,
    ),
    Twin(
        "a late offer that gives the next step more time",
        approval._with_review,
        "before > 0 and after == 0",
        "after == 0",
        test_approval.test_accepting_an_offer_for_an_earlier_step_does_not_lengthen_the_next_one,
    ),
    Twin(
        "an approval that restarts its step",
        approval._with_review,
        "before > 0 and after == 0",
        "True",
        test_approval.test_an_approval_that_does_not_pass_the_step_leaves_its_clock,
    ),
    # Delegation
    Twin(
        "an approval in place of the requester",
        approval.demand_reviewer,
        " if policy.allow_self_approval or not grant.is_own_review(right.holder)",
        "",
        test_approval.test_nobody_approves_in_place_of_the_requester,
    ),
    Twin(
        "a right that counts again in other hands",
        approval._place,
        "if not place.right.delegation or not _has_reviewed(grant, place.right.holder):",
        "if True:",
        test_approval.test_one_right_counts_once_in_whoevers_hands,
    ),
    Twin(
        "a delegator who counts again",
        Review.uses_right_of,
        "{name.canonical(self.reviewer), name.canonical(self.holder)}",
        "{name.canonical(self.reviewer)}",
        test_approval.test_one_right_counts_once_in_whoevers_hands,
    ),
    Twin(
        "a count per delegate instead of per right",
        approval._standing,
        "name.canonical(review.holder)",
        "name.canonical(review.reviewer)",
        test_approval.test_a_delegates_approval_counts_while_the_delegator_is_an_approver,
    ),
    Twin(
        "a delegate who stands for itself",
        approval._stands,
        "review.holder",
        "review.reviewer",
        test_approval.test_a_delegates_approval_counts_while_the_delegator_is_an_approver,
    ),
    Twin(
        "a delegation for every policy",
        Caller.rights,
        " if not right.policies or policy in right.policies",
        "",
        test_approval.test_a_right_is_delegated_for_its_policies_only,
    ),
    Twin(
        "a delegation that outlives its end by an instant",
        Delegation.active,
        "now < self.expires_at",
        "now <= self.expires_at",
        test_delegation.test_a_delegation_holds_from_its_start_to_exactly_before_its_end,
    ),
    Twin(
        "a delegation before its start",
        Delegation.active,
        "self.starts_at <= now < self.expires_at",
        "now < self.expires_at",
        test_delegation.test_a_delegation_holds_from_its_start_to_exactly_before_its_end,
    ),
    Twin(
        "a delegation that cannot be ended",
        Delegation.active,
        "self.deleted_at is None and ",
        "",
        test_delegation.test_the_delegator_and_admins_end_a_delegation_at_once,
    ),
    Twin(
        "a delegation without an end",
        delegation.created,
        " <= starts_at + MAX_SPAN",
        "",
        test_delegation.test_a_delegation_ends_after_its_start_by_at_most_thirty_days,
    ),
    Twin(
        "a delegation of what was delegated",
        delegation.created,
        "delegator_groups=by.groups",
        "delegator_groups=by.groups.union(*(right.groups for right in by.delegated))",
        test_delegation.test_what_was_delegated_to_the_delegator_stays_with_it,
    ),
    Twin(
        "a delegation to oneself in other letters",
        delegation.created,
        "name.canonical(delegate) == name.canonical(by.principal)",
        "delegate == by.principal",
        test_delegation.test_nobody_delegates_to_itself_in_any_letter_case,
    ),
    # Limits
    Twin(
        "one use too many",
        _getter(Grant, "is_used_up"),
        ">= self.limits.max_uses",
        "> self.limits.max_uses",
        test_decision.test_a_grant_allows_exactly_as_many_checks_as_it_may,
    ),
    Twin(
        "a check that does not ask for uses",
        decision._own_finding,
        "if grant.is_used_up:",
        "if False:",
        test_decision.test_a_grant_allows_exactly_as_many_checks_as_it_may,
    ),
    Twin(
        "a use that is not counted",
        grant.used,
        "grant.usage.count + 1",
        "grant.usage.count",
        test_grant.test_a_use_is_counted_with_its_instant,
    ),
    Twin(
        "an idle timeout that is ignored",
        grant.expiring,
        "if grant.limits.idle_timeout:",
        "if False:",
        test_grant.test_access_that_is_not_used_for_its_idle_timeout_is_over,
    ),
    Twin(
        "an idle timeout that a use ends",
        grant.expiring,
        "if grant.limits.idle_timeout:",
        "if grant.limits.idle_timeout and grant.usage.last_at is None:",
        test_grant.test_each_use_starts_the_idle_timeout_anew,
    ),
    Twin(
        "an activation window that is ignored",
        grant.expiring,
        "if grant.limits.activation_window and grant.usage.last_at is None:",
        "if False:",
        test_grant.test_access_that_is_not_used_within_its_activation_window_is_over,
    ),
    Twin(
        "a limit that lengthens access",
        grant.expiring,
        "return replace(grant, expires_at=min(*ends, until or ends[0]))",
        "return replace(grant, expires_at=min(*(ends[1:] or ends), until or ends[-1]))",
        test_grant.test_limits_never_lengthen_access,
    ),
    Twin(
        "a request for more uses than the policy gives",
        request._limits,
        "min(max_uses or policy.max_uses, policy.max_uses or max_uses)",
        "max_uses or policy.max_uses",
        test_grant.test_a_request_asks_for_no_more_uses_than_the_policy_gives,
    ),
    Twin(
        "an approval without the limits of now",
        request._judge_request_again,
        ", limits=_limits(grant.limits.max_uses, policy)",
        "",
        test_grant.test_limits_are_those_of_the_policy_at_the_approval,
    ),
    Twin(
        "an ensured grant that is used up",
        request.covered_by,
        "grant.limits.max_uses - grant.usage.count < max(1, ask.max_uses)",
        "False",
        test_child.test_a_grant_with_fewer_uses_left_than_are_asked_for_does_not_cover_it,
    ),
    # More time
    Twin(
        "an extension by old approvals",
        _getter(Grant, "round_reviews"),
        " if review.round == self.round",
        "",
        test_approval.test_the_approvals_of_the_request_do_not_count_for_more_time,
    ),
    Twin(
        "an extension beyond the cap",
        request._check_cap,
        "if total > rule.max_total_duration:",
        "if False:",
        test_extension.test_a_grant_lasts_no_longer_in_all_than_the_cap,
    ),
    Twin(
        "a cap on each extension alone",
        request._check_cap,
        "total = grant.duration + more",
        "total = more",
        test_extension.test_the_cap_counts_from_the_start_and_with_what_was_added_before,
    ),
    Twin(
        "one extension too many",
        request._check_cap,
        ">= rule.max_extensions",
        "> rule.max_extensions",
        test_extension.test_a_grant_is_extended_as_often_as_the_policy_says,
    ),
    Twin(
        "an extension that is not counted",
        approval._lengthened,
        "grant.extension_count + 1",
        "grant.extension_count",
        test_extension.test_a_grant_is_extended_as_often_as_the_policy_says,
    ),
    Twin(
        "an extension of what is over",
        request.extended,
        "demand_state(grant, now, GrantState.SCHEDULED, GrantState.ACTIVE)",
        "pass",
        test_extension.test_access_gets_more_time_until_exactly_its_end,
    ),
    Twin(
        "an extension that anybody asks for",
        request.extended,
        "if not grant.is_of(by.principal):",
        "if False:",
        test_extension.test_who_asked_for_or_holds_a_grant_asks_for_more_time,
    ),
    Twin(
        "an extension of what was passed on",
        request.extended,
        "if grant.chain:",
        "if False:",
        test_child.test_what_is_passed_on_is_not_extended,
    ),
    Twin(
        "an extension that outlives its grant",
        Grant.extension_state,
        "running and now <",
        "now <",
        test_approval.test_a_request_for_more_time_ends_with_its_grant,
    ),
    Twin(
        "an extension decided at its deadline",
        Grant.extension_state,
        "now < self.extension.expires_at",
        "now <= self.extension.expires_at",
        test_approval.test_a_request_for_more_time_lapses_with_its_own_deadline,
    ),
    Twin(
        "an extension for who is no longer eligible",
        request.judge_extension,
        "_demand_still_covered(policy, grant, extension.requester, extension.requester_groups)",
        "pass",
        test_extension.test_more_time_is_for_who_is_eligible_now,
    ),
    Twin(
        "an extension of what is denied by now",
        request.judge_extension,
        "_refuse_denied(ask, policies, _extension_groups(grant))",
        "pass",
        test_extension.test_a_deny_that_came_after_the_request_gives_no_more_time,
    ),
    Twin(
        "an extension by another's groups",
        request._extension_groups,
        " if extension.requester == grant.subject else None",
        "",
        test_extension.test_a_deny_for_any_group_applies_where_another_asks_for_more_time,
    ),
    Twin(
        "an extension with an end from its approval on",
        approval._lengthened,
        "duration=grant.duration + _extension(grant).duration",
        "duration=_extension(grant).duration",
        test_approval.test_more_time_follows_without_a_gap,
    ),
    Twin(
        "a withdrawal that gives more time",
        approval.withdraw,
        "ExtensionState.WITHDRAWN",
        "ExtensionState.APPROVED",
        test_approval.test_a_request_for_more_time_is_withdrawn_by_who_asked,
    ),
    # What is passed on
    Twin(
        "a child that is wider",
        request._check_child,
        "if not within:",
        "if False:",
        test_child.test_what_is_passed_on_is_not_wider_in_actions,
    ),
    Twin(
        "a child that lasts longer",
        request.passed_on,
        "if ask.duration is not None and ask.duration > left:",
        "if False:",
        test_child.test_what_is_passed_on_lasts_no_longer,
    ),
    Twin(
        "a child that lasts as long as its parent did at first",
        request.passed_on,
        "_sure(parent.latest_end) - now",
        "parent.duration",
        test_child.test_what_is_passed_on_lasts_no_longer,
    ),
    Twin(
        "a child with more uses",
        request._child_uses,
        "if max(1, ask.max_uses) > left:",
        "if False:",
        test_child.test_what_is_passed_on_has_no_more_uses_than_are_left,
    ),
    Twin(
        "a child with uses that are spent",
        request._child_uses,
        "parent.limits.max_uses - parent.usage.count",
        "parent.limits.max_uses",
        test_child.test_what_is_passed_on_has_no_more_uses_than_are_left,
    ),
    Twin(
        "a child of what is over",
        request.passed_on,
        "demand_state(parent, now, GrantState.ACTIVE)",
        "pass",
        test_child.test_only_active_access_is_passed_on,
    ),
    Twin(
        "a child of what is unused that its parent's end does not end",
        request.passed_on,
        "until=parent.expires_at",
        "until=None",
        test_child.test_a_child_ends_no_later_than_its_parent_does_unless_that_is_used,
    ),
    Twin(
        "a child by who asked for another",
        request.passed_on,
        "by.principal != parent.subject",
        "not parent.is_of(by.principal)",
        test_child.test_only_the_holder_passes_it_on,
    ),
    Twin(
        "a child for anybody",
        request._check_child,
        'and not ask.subject.startswith("service:")',
        "and False",
        test_child.test_it_is_passed_on_to_services_and_to_oneself,
    ),
    Twin(
        "a child one too deep",
        request._check_child,
        "len(parent.chain) >= depth",
        "len(parent.chain) > depth",
        test_child.test_it_is_passed_on_as_deep_as_the_policy_lets_it,
    ),
    Twin(
        "a child under a policy that is gone",
        request._check_child,
        " and policy.in_force",
        "",
        test_child.test_a_policy_passes_nothing_on_unless_it_says_so,
    ),
    Twin(
        "a child that a deny does not stop",
        request.passed_on,
        "demand_not_denied(ask, policies, by)",
        "pass",
        test_child.test_a_deny_beats_what_is_passed_on,
    ),
    Twin(
        "a child without its parent's condition",
        request.passed_on,
        "check_condition=parent.check_condition,",
        "",
        test_child.test_a_child_keeps_the_idle_timeout_and_the_condition,
    ),
    Twin(
        "a child that only its parent ends",
        decision._finding,
        "for name in grant.chain:",
        "for name in grant.chain[-1:]:",
        test_decision.test_what_was_passed_on_is_over_once_anything_above_it_is,
    ),
    Twin(
        "a child that nothing above ends",
        decision._finding_above,
        "or state is not GrantState.ACTIVE",
        "",
        test_decision.test_what_was_passed_on_is_over_once_anything_above_it_is,
    ),
    Twin(
        "a child that does not use up what is above",
        decision._finding_above,
        "if grant.is_used_up:",
        "if False:",
        test_decision.test_uses_of_what_is_above_are_used_up_for_what_was_passed_on,
    ),
    Twin(
        "a child that no deny of its parent's holder stops",
        decision._finding_above,
        "if _denied(policy, grant, question):",
        "if False:",
        test_decision.test_a_deny_of_whoever_is_above_denies_what_was_passed_on,
    ),
    Twin(
        "a child's use that outlives the parent",
        grant.expiring,
        "min(*ends, until or ends[0])",
        "min(ends)",
        test_grant.test_a_use_does_not_outlive_what_the_access_was_passed_on_from,
    ),
    # Emergencies
    Twin(
        "a glass that whoever may ask breaks",
        request._chosen,
        "_may_break_glass if ask.break_glass else _may_ask",
        "_may_ask",
        test_emergency.test_only_who_is_eligible_for_emergencies_breaks_the_glass,
    ),
    Twin(
        "a glass that anybody breaks",
        request._may_break_glass,
        " and rule.eligible.has(requester, groups)",
        "",
        test_emergency.test_only_who_is_eligible_for_emergencies_breaks_the_glass,
    ),
    Twin(
        "a glass broken for another",
        request._may_break_glass,
        "and subject == requester ",
        "",
        test_emergency.test_one_breaks_the_glass_for_oneself,
    ),
    Twin(
        "an emergency without an end",
        request._emergency_duration,
        "if duration > longest:",
        "if False:",
        test_emergency.test_an_emergency_lasts_no_longer_than_its_rule_says,
    ),
    Twin(
        "an emergency that owes nothing",
        _getter(Grant, "owes_review"),
        "self.emergency.review is None",
        "self.end is None",
        test_emergency.test_a_use_owes_a_review_from_the_moment_it_is_taken,
    ),
    Twin(
        "a review of one's own use",
        emergency.complete_review,
        "if grant.is_own_review(by.principal):",
        "if grant.is_own_review(by.principal) and not (policy and policy.allow_self_approval):",
        test_emergency.test_nobody_reviews_its_own_use_whatever_the_policy_says,
    ),
    Twin(
        "a review in place of who took it",
        emergency.complete_review,
        "if not by.has(Role.ADMIN) and all(",
        "if False and all(",
        test_emergency.test_nobody_reviews_a_use_in_place_of_who_took_it,
    ),
    Twin(
        "a review of a use by anybody",
        emergency.complete_review,
        "if not (by.has(Role.ADMIN) or rights):",
        "if False:",
        test_emergency.test_who_may_not_review_a_use_learns_nothing_of_it,
    ),
    # Patterns
    Twin(
        "a ** that matches zero segments",
        pattern.covers,
        "len(inner_segments) > len(fixed)",
        "len(inner_segments) >= len(fixed)",
        test_decision.test_a_grant_of_patterns_allows_what_they_cover,
    ),
    Twin(
        "a * that matches several segments",
        pattern.covers,
        "len(outer_segments) != len(inner_segments)",
        "len(outer_segments) > len(inner_segments)",
        test_decision.test_a_grant_of_part_of_a_path_gives_nothing_below_it,
    ),
    Twin(
        "a * that covers **",
        pattern.covers,
        ' or inner_segments[-1] == "**"',
        "",
        test_request.test_a_request_for_a_pattern_must_be_within_the_policys,
    ),
    Twin(
        "a comparison blind to letter case",
        pattern._each_covers,
        'left in ("*", right)',
        'left.lower() in ("*", right.lower())',
        test_decision.test_letter_case_counts_in_checks,
    ),
    # Decisions
    Twin(
        "a check that ignores the subject",
        decision.covers,
        "grant.subject == question.subject",
        "grant.requester == question.subject",
        test_decision.test_a_grant_is_its_subjects_not_its_requesters,
    ),
    Twin(
        "a check that ignores the action",
        decision.covers,
        "action_covered(question.action, grant.actions)",
        "True",
        test_decision.test_two_grants_do_not_add_up,
    ),
    Twin(
        "a check that takes scheduled access for access",
        decision._own_finding,
        "if state is not GrantState.ACTIVE:",
        "if state not in (GrantState.ACTIVE, GrantState.SCHEDULED):",
        test_decision.test_access_begins_exactly_at_its_start,
    ),
    Twin(
        "a check that ignores deny policies",
        decision._own_finding,
        "if _denied(policy, grant, question):",
        "if False:",
        test_decision.test_a_deny_beats_every_grant,
    ),
    Twin(
        "a check that sees the first deny policy only",
        decision._own_finding,
        "for policy in facts.policies:",
        "for policy in facts.policies[:1]:",
        test_decision.test_a_deny_beats_every_grant,
    ),
    Twin(
        "a deny that is ignored where groups are unknown",
        request.denies,
        "return bool(policy.eligible.groups) or subject in policy.eligible.principals",
        "return subject in policy.eligible.principals",
        test_decision.test_a_deny_for_any_group_applies_where_nobody_proved_the_subjects_groups,
    ),
    Twin(
        "a deny by name that is ignored where groups are unknown",
        request.denies,
        "return bool(policy.eligible.groups) or subject in policy.eligible.principals",
        "return bool(policy.eligible.groups)",
        test_request.test_a_deny_by_name_applies_to_a_subject_whose_groups_nobody_proved,
    ),
    Twin(
        "a deny that this call's groups talk away",
        decision._groups,
        "(grant.subject_groups, question.groups)",
        "(question.groups if question.groups is not None else grant.subject_groups,)",
        test_decision.test_a_deny_still_sees_the_groups_of_the_request_where_this_call_proves_others,
    ),
    Twin(
        "a deny that does not see this call's groups",
        decision._groups,
        "(grant.subject_groups, question.groups)",
        "(grant.subject_groups,)",
        test_decision.test_a_deny_sees_the_groups_that_this_call_proves,
    ),
    Twin(
        "the requester's groups taken for another subject's",
        _getter(Grant, "subject_groups"),
        "if self.subject == self.requester else None",
        "",
        test_decision.test_a_deny_for_any_group_applies_where_nobody_proved_the_subjects_groups,
    ),
    Twin(
        "a policy that is disabled and in force",
        _getter(Policy, "in_force"),
        "not self.disabled and ",
        "",
        test_request.test_a_policy_not_in_force_gives_nothing,
    ),
    Twin(
        "a policy that is deleted and in force",
        _getter(Policy, "in_force"),
        " and self.deleted_at is None",
        "",
        test_request.test_a_policy_not_in_force_gives_nothing,
    ),
    # Requests
    Twin(
        "a request that one covered resource is enough for",
        Policy.covers,
        "return all(resource_covered",
        "return any(resource_covered",
        test_request.test_one_policy_covers_all_resources_and_actions_of_a_request,
    ),
    Twin(
        "a request that a deny does not stop",
        request.judged,
        "demand_not_denied(ask, policies, by)",
        "pass",
        test_request.test_a_deny_beats_whatever_would_give_the_access,
    ),
    Twin(
        "a request for another by the requester's groups",
        request._may_ask,
        "return subject == requester or subject in policy.eligible.principals",
        "return True",
        test_request.test_asking_for_another_needs_the_others_name_in_the_policy,
    ),
    Twin(
        "a request for oneself by anybody who is named for others",
        request._may_ask,
        "if not policy.eligible.has(requester, groups):",
        "if not policy.eligible.principals and not policy.eligible.has(requester, groups):",
        test_request.test_asking_for_another_needs_an_eligible_requester,
    ),
    Twin(
        "a deny policy that gives access",
        request._by_preference,
        "if policy.in_force and not policy.deny",
        "if policy.in_force",
        test_request.test_a_deny_policy_gives_nothing,
    ),
    Twin(
        "a named policy that is only a wish",
        request._chosen,
        "if ask.policy and policy.name != ask.policy:",
        "if False:",
        test_request.test_a_named_policy_is_the_only_one_looked_at,
    ),
    Twin(
        "a duration without a limit",
        request._check_duration,
        "<= policy.max_duration",
        "",
        test_request.test_a_duration_is_at_most_the_policys,
    ),
    Twin(
        "a zero duration",
        request._check_span,
        "timedelta() < duration",
        "timedelta() <= duration",
        test_request.test_a_duration_is_above_zero,
    ),
    Twin(
        "a start in the past",
        request.checked,
        "not now <= ask.start_at <= now + MAX_LEAD",
        "not ask.start_at <= now + MAX_LEAD",
        test_request.test_a_start_is_not_in_the_past,
    ),
    Twin(
        "a justification of white space",
        request._check_said,
        "if not text.strip():",
        "if not text:",
        test_request.test_white_space_is_no_justification,
    ),
    Twin(
        "an approval under a policy that is gone",
        request._demand_in_force_for,
        "if not policy.in_force or policy.deny:",
        "if False:",
        test_request.test_a_policy_that_changed_in_force_stops_the_approval,
    ),
    Twin(
        "an approval under a policy that no longer covers the request",
        request._demand_in_force_for,
        "if not policy.covers(grant.resources, grant.actions):",
        "if False:",
        test_request.test_a_policy_that_changed_in_force_stops_the_approval,
    ),
    Twin(
        "an approval for a requester who is no longer eligible",
        request._demand_still_covered,
        "if not _may_ask(policy, grant.subject, requester, groups):",
        "if False:",
        test_request.test_a_policy_that_changed_in_force_stops_the_approval,
    ),
    Twin(
        "an approval of what is denied by now",
        request._judge_request_again,
        "_refuse_denied(ask, policies, grant.subject_groups)",
        "pass",
        test_request.test_a_deny_that_came_after_the_request_stops_the_approval,
    ),
    Twin(
        "an approval that takes the requester's groups for the subject's",
        request._judge_request_again,
        "_refuse_denied(ask, policies, grant.subject_groups)",
        "_refuse_denied(ask, policies, grant.requester_groups)",
        test_request.test_a_deny_that_came_after_a_request_for_another_stops_the_approval,
    ),
    # Policies
    Twin(
        "a set that compares blind to letter case",
        PrincipalSet.has,
        "return principal in self.principals",
        "return principal.lower() in [name.lower() for name in self.principals]",
        test_grant.test_approvers_names_compare_letter_by_letter,
    ),
    Twin(
        "a policy without a longest duration",
        policy._checked_times,
        '_check_between(policy.max_duration, "max_duration", timedelta(microseconds=1), MAX_DURATION)',
        "pass",
        test_policy.test_the_longest_duration_is_above_zero_and_at_most_thirty_days,
    ),
    Twin(
        "an approver who is counted by spelling",
        policy._checked_step,
        "map(name.canonical, deciders.principals)",
        "deciders.principals",
        test_policy.test_a_principal_named_twice_is_one_approver,
    ),
    Twin(
        "a step that needs nobody",
        policy._checked_step,
        "1 <= needed",
        "0 <= needed",
        test_policy.test_a_step_needs_one_to_twenty_approvals,
    ),
    Twin(
        "an update that brings a deleted policy back",
        policy_change.updated,
        "deleted_at=before.deleted_at,",
        "deleted_at=None,",
        test_policy_change.test_an_update_does_not_bring_a_deleted_policy_back,
    ),
    # Texts and hashes
    Twin(
        "an expression that matches a part",
        expression.matches,
        ".fullmatch(text)",
        ".search(text)",
        test_expression.test_an_expression_must_match_the_whole_text,
    ),
    Twin(
        "an etag that is not compared",
        etag.demand,
        "given != current",
        "len(given) != len(current)",
        test_etag.test_an_etag_of_another_revision_is_stale,
    ),
    Twin(
        "an etag that does not know the revision",
        etag.etag,
        "@{revision}",
        "",
        test_etag.test_an_etag_is_of_one_name_at_one_revision,
    ),
    Twin(
        "a link that leaves out the previous hash",
        chain.link,
        "previous + seq",
        "seq",
        test_chain.test_each_of_previous_hash_seq_and_payload_changes_the_link,
    ),
    Twin(
        "a link that leaves out the place",
        chain.link,
        'seq.to_bytes(8, "big") + ',
        "",
        test_chain.test_each_of_previous_hash_seq_and_payload_changes_the_link,
    ),
    Twin(
        "a record of what the caller wrote, as it is",
        refusal.refused,
        "subject=harmless(about.subject)",
        "subject=about.subject",
        test_refusal.test_control_and_bidi_characters_of_the_caller_do_not_reach_the_record,
    ),
]


def sown(twin: Twin) -> CodeType:
    """Returns the code of the twin's function with the bug in it."""
    sound = twin.function
    assert inspect.isfunction(sound)
    source = textwrap.dedent(inspect.getsource(sound))
    assert source.count(twin.sound) == 1, f"{twin.sound!r} is not once in {sound.__qualname__}"
    scope = dict(sound.__globals__)
    exec(compile(source.replace(twin.sound, twin.bug), f"<{twin.name}>", "exec"), scope)  # noqa: S102
    edited: Any = scope[sound.__name__]
    code: CodeType = getattr(edited, "fget", edited).__code__
    return code


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_no_twin_survives(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin.function, "__code__", sown(twin))

    # A broken edit, such as a NameError, is no catch: it must be a rule's test that says no, or the domain itself.
    with pytest.raises((AssertionError, pytest.fail.Exception, JitError)):
        twin.caught_by()


def test_each_twin_has_its_own_bug() -> None:
    assert len({(twin.function, twin.sound, twin.bug) for twin in TWINS}) == len(TWINS) >= 12


@pytest.mark.parametrize("caught_by", dict.fromkeys(twin.caught_by for twin in TWINS))
def test_what_catches_a_twin_passes_without_it(caught_by: Callable[[], None]) -> None:
    caught_by()
