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

from jit_service.domain import authentication, notification, routing
from jit_service.domain.audit import audit_filter, chain, refusal
from jit_service.domain.caller import Caller
from jit_service.domain.checks import cases, decision, http_request, policy_set, search, what_if
from jit_service.domain.checks.decision import Reason
from jit_service.domain.conditions import claims_read, condition, context, kept_claims, signal
from jit_service.domain.errors import JitError
from jit_service.domain.grants import (
    approval,
    break_glass,
    children,
    claims,
    coverage,
    deadlines,
    delegation,
    grant,
    lock,
    log_in,
    misfit,
    more_time,
    preview,
    quorum,
    request,
    reviewing,
    terms,
)
from jit_service.domain.grants.delegation import Delegation
from jit_service.domain.grants.grant import Grant, Review
from jit_service.domain.language import etag, ip_address, regex
from jit_service.domain.language.faults import Faults
from jit_service.domain.person import Person
from jit_service.domain.policies import assurance as asked_log_in
from jit_service.domain.policies import diff, policy, proposal
from jit_service.domain.policies.policy import Policy, PrincipalSet
from jit_service.domain.tokens import signing_key, token
from tests.domain import test_authentication, test_notification, test_person, test_routing
from tests.domain.audit import test_audit_filter, test_chain, test_refusal
from tests.domain.checks import test_cases, test_decision, test_http_request, test_policy_set, test_search
from tests.domain.conditions import test_claims_read, test_condition, test_conditional, test_left_out, test_signal
from tests.domain.factories import policy as a_policy
from tests.domain.grants import (
    test_approval,
    test_break_glass,
    test_child,
    test_claims,
    test_deadlines,
    test_delegation,
    test_extension,
    test_grant,
    test_lock,
    test_log_in,
    test_misfit,
    test_preview,
    test_request,
    test_reviewer,
    test_reviewing,
)
from tests.domain.language import test_etag, test_ip_address, test_regex
from tests.domain.policies import test_assurance as test_asked_log_in
from tests.domain.policies import test_diff, test_policy
from tests.domain.tokens import test_signing_key, test_token


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


def _with_lines() -> None:
    """With nothing compiled before, and nothing left for others."""
    regex._compiled.cache_clear()
    try:
        test_regex.test_a_text_of_several_lines_is_one_text()
    finally:
        regex._compiled.cache_clear()


def _names_of_claims() -> None:
    """With no condition looked through before, and nothing left for others."""
    condition.claims_read.cache_clear()
    try:
        test_claims_read.test_a_condition_that_uses_the_claims_as_a_whole_can_read_any("claims[subject] == 1")
    finally:
        condition.claims_read.cache_clear()


TWINS = [
    Twin(
        "a claim that was not kept and counts as absent",
        claims.demand_kept,
        "if unkept:",
        "if False:",
        test_claims.test_a_claim_that_the_settings_leave_out_does_not_count_as_absent,
    ),
    Twin(
        "a request of which nothing was kept, taken for a token without claims",
        kept_claims._readable,
        "None if kept else ()",
        "None",
        lambda: test_claims.test_a_policy_that_comes_to_read_another_claim_does_not_take_it_for_absent(a_policy()),
    ),
    Twin(
        "a request that keeps the whole token",
        claims.claims_to_keep,
        "_together(map(claims_read, conditions))",
        "None",
        test_claims.test_a_request_keeps_the_claims_that_its_conditions_read,
    ),
    Twin(
        "a condition that reads the claims under a made-up name, for which none are kept",
        claims_read._names,
        "raise _AnyClaim\n        elif number == _SELECT",
        "pass\n        elif number == _SELECT",
        _names_of_claims,
    ),
    Twin(
        "a search that takes any text for a pattern",
        audit_filter._is_covered,
        "_is_pattern(pattern, separator) and ",
        "",
        test_audit_filter.test_a_star_within_a_segment_is_no_wildcard,
    ),
    Twin(
        "a denial that counts for a removed approver",
        quorum.count_denials,
        "and still_counts(policy.steps[step], review)",
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
    # The order of a review's rules
    Twin(
        "an approval that tells anybody which request waits",
        reviewing.approve,
        "waiting = _refreshed(grant, rules, now=now)",
        "approval.demand_shown(grant, extension_round=shown.extension_round, etag=shown.etag, now=now); "
        "waiting = _refreshed(grant, rules, now=now)",
        test_reviewing.test_whoever_may_not_approve_learns_nothing_of_what_waits,
    ),
    Twin(
        "an approval that tells anybody whether the request could pass",
        reviewing.approve,
        "waiting = _refreshed(grant, rules, now=now)",
        "waiting = _refreshed(_judge_again(grant, rules, now=now), rules, now=now)",
        test_reviewing.test_whoever_may_not_approve_learns_nothing_of_whether_the_request_could_pass,
    ),
    Twin(
        "edits that are looked at before the request that they are of",
        reviewing.approve,
        "waiting = _refreshed(grant, rules, now=now)",
        "terms.apply_edits(grant, edits, policy=rules.policy, now=now); waiting = _refreshed(grant, rules, now=now)",
        test_reviewing.test_an_approval_of_another_request_is_refused_before_its_edits_are_looked_at,
    ),
    Twin(
        "a request that is judged again before its edits are looked at",
        reviewing.approve,
        "edited = terms.apply_edits(",
        "_judge_again(grant, rules, now=now); edited = terms.apply_edits(",
        test_reviewing.test_an_edit_that_gives_too_much_is_refused_before_the_request_is_judged_again,
    ),
    Twin(
        "an approval by the policy as it was",
        reviewing.approve,
        "_judge_again(edited, rules, now=now)",
        "edited",
        test_reviewing.test_what_is_approved_is_judged_by_the_policy_as_it_is_now,
    ),
    Twin(
        "an approval of less that is judged as what was asked for",
        reviewing.approve,
        "_judge_again(edited, rules, now=now)",
        "_judge_again(grant, rules, now=now)",
        test_reviewing.test_what_is_given_is_judged_and_not_what_was_asked_for,
    ),
    Twin(
        "policies that are asked before the locks",
        reviewing._judge_again,
        "demand_unlocked_people(rules.locks, grant)",
        "request.judge_again(grant, policy=rules.policy, policies=rules.policies, now=now); "
        "demand_unlocked_people(rules.locks, grant)",
        test_reviewing.test_whether_anybody_is_locked_is_asked_before_the_policies,
    ),
    Twin(
        "a denial that tells anybody which request waits",
        reviewing.deny,
        "waiting = _refreshed(grant, rules, now=now)",
        "approval.demand_shown(grant, extension_round=shown.extension_round, etag=shown.etag, now=now); "
        "waiting = _refreshed(grant, rules, now=now)",
        test_reviewing.test_whoever_may_not_deny_learns_nothing_of_what_waits,
    ),
    Twin(
        "a denial of whichever request waits",
        reviewing.deny,
        "approval.demand_shown(grant, extension_round=shown.extension_round, etag=shown.etag, now=now)",
        "pass",
        test_reviewing.test_a_denial_of_another_request_is_refused,
    ),
    Twin(
        "a denial that the policies can refuse",
        reviewing.deny,
        "waiting = _refreshed(grant, rules, now=now)",
        "waiting = _refreshed(_judge_again(grant, rules, now=now), rules, now=now)",
        test_reviewing.test_a_request_that_could_not_pass_any_more_can_be_denied,
    ),
    Twin(
        "an offer that tells anybody whether the request could pass",
        reviewing.counter,
        "offered = approval.counter(",
        "_judge_again(terms.edit(grant, edits, now=now), rules, now=now); offered = approval.counter(",
        test_reviewing.test_whoever_may_not_offer_learns_nothing_of_whether_the_request_could_pass,
    ),
    Twin(
        "an offer that could not be accepted",
        reviewing.counter,
        "_judge_again(terms.edit(grant, edits, now=now), rules, now=now)",
        "pass",
        test_reviewing.test_an_offer_that_could_not_be_accepted_now_is_refused,
    ),
    Twin(
        "an offer that is judged as what was asked for",
        reviewing.counter,
        "_judge_again(terms.edit(grant, edits, now=now), rules, now=now)",
        "_judge_again(grant, rules, now=now)",
        test_reviewing.test_an_offer_is_judged_by_the_terms_that_it_offers,
    ),
    Twin(
        "an accepted offer that is judged before whose it is",
        reviewing.accept,
        "offered = approval.with_offered_terms(",
        "_judge_again(grant, rules, now=now); offered = approval.with_offered_terms(",
        test_reviewing.test_whoever_was_offered_nothing_learns_nothing_of_whether_it_could_pass,
    ),
    Twin(
        "an accepted offer under the policies as they were",
        reviewing.accept,
        "_judge_again(offered, rules, now=now)",
        "offered",
        test_reviewing.test_an_accepted_offer_is_judged_by_the_policies_of_now,
    ),
    Twin(
        "more time that is refused to the locked before it is judged",
        reviewing.extend,
        "asked = more_time.with_extension(",
        "demand_unlocked_people(rules.locks, grant); asked = more_time.with_extension(",
        test_reviewing.test_more_time_is_refused_by_the_first_rule_that_it_breaks,
    ),
    Twin(
        "more time for the locked",
        reviewing.extend,
        "demand_unlocked_people(rules.locks, judged)",
        "pass",
        test_reviewing.test_more_time_is_refused_by_the_first_rule_that_it_breaks,
    ),
    Twin(
        "more time that nobody could approve",
        reviewing.extend,
        "preview.demand_satisfiable(judged, rules.policy)",
        "pass",
        test_reviewing.test_more_time_is_refused_by_the_first_rule_that_it_breaks,
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
        condition._context,
        'if key != "source_ip"',
        "if True",
        lambda: test_condition.test_what_is_not_known_is_an_error(
            "context.source_ip != ''", {"source_address": "", "context": {"source_ip": "10.1.2.3"}}
        ),
    ),
    # Who may decide
    Twin(
        "a reviewer whom nobody judges",
        approval.demand_condition,
        "if not step.judges_reviewer:",
        "if True:",
        test_reviewer.test_only_with_mfa_may_it_be_decided,
    ),
    Twin(
        "a reviewer of whom nothing is known, and who may",
        approval.demand_condition,
        "is not Verdict.MET",
        "is Verdict.NOT_MET",
        lambda: test_reviewer.test_what_cannot_be_judged_of_a_reviewer_is_a_no({}),
    ),
    Twin(
        "a reviewer who is judged as whose right it uses",
        approval.demand_condition,
        "grant, by=by,",
        "grant, by=by._replace(principal=place.right.holder),",
        test_reviewer.test_who_acts_for_another_is_the_one_who_is_judged,
    ),
    Twin(
        "terms that were asked for and are judged in place of those that are given",
        approval.approve,
        "demand_condition(grant, policy, place, by=by, now=now, signals=signals)",
        "pass",
        test_reviewer.test_what_a_reviewer_gives_is_judged_as_well_as_what_was_asked_for,
    ),
    Twin(
        "an offer of terms that are not judged",
        approval.counter,
        "demand_condition(edit(grant, edits, now=now), policy, place, by=by, now=now, signals=signals)",
        "pass",
        test_reviewer.test_what_a_reviewer_gives_is_judged_as_well_as_what_was_asked_for,
    ),
    Twin(
        "an approval that counts for a condition it was not judged by",
        quorum.still_counts,
        "review.condition == step.condition",
        "True",
        test_reviewer.test_an_approval_by_another_condition_does_not_count_for_this_one,
    ),
    Twin(
        "a step that is skipped since nobody reviews yet",
        request._is_needed,
        "step.judges_reviewer or _is_met(step.condition, facts, what)",
        "condition.judge(step.condition, facts).verdict is Verdict.MET",
        test_reviewer.test_a_step_that_says_who_may_decide_is_needed_whoever_asks,
    ),
    Twin(
        "groups left out that are taken for none",
        request.judge_reviewer,
        "{} if by.groups is None else",
        "{'groups': []} if by.groups is None else",
        test_reviewer.test_groups_that_a_reviewers_token_leaves_out_are_not_there,
    ),
    Twin(
        "more time that is judged as the first request",
        request.judge_reviewer,
        "_facts if grant.extension is None else _facts_of_extension",
        "_facts",
        test_reviewer.test_of_more_time_the_condition_sees_who_asked_for_that,
    ),
    Twin(
        "a check's condition that reads who reviews",
        condition.validate,
        "if reads_reviewer(text):",
        "if False:",
        lambda: test_reviewer.test_only_a_steps_condition_may_read_the_reviewer("check_condition", test_reviewer.MFA),
    ),
    # Groups that permit
    Twin(
        "a group that was left and still permits",
        decision._each_proved,
        "(question.groups, grant.subject_groups)",
        "(grant.subject_groups, None)",
        lambda: test_conditional.test_a_group_permits_only_where_each_proof_has_it(
            {"oncall"}, set(), Reason.CONDITION_NOT_MET
        ),
    ),
    Twin(
        "a group that was joined since and permits",
        decision._each_proved,
        "(question.groups, grant.subject_groups)",
        "(question.groups or grant.subject_groups, None)",
        lambda: test_conditional.test_a_group_permits_only_where_each_proof_has_it(
            set(), {"oncall"}, Reason.CONDITION_NOT_MET
        ),
    ),
    Twin(
        "old and new groups that permit together",
        decision.judge_condition,
        "facts._replace(groups=groups)",
        "facts._replace(groups=proved_groups(grant, question))",
        lambda: test_conditional.test_a_group_permits_only_where_each_proof_has_it(
            {"oncall"}, {"other"}, Reason.CONDITION_NOT_MET
        ),
    ),
    Twin(
        "a proof that is asked and not heeded",
        decision.judge_condition,
        "break",
        "continue",
        lambda: test_conditional.test_a_group_permits_only_where_each_proof_has_it(
            {"oncall"}, set(), Reason.CONDITION_NOT_MET
        ),
    ),
    Twin(
        "a deny that forgets the groups of before",
        decision.proved_groups,
        "(grant.subject_groups, question.groups)",
        "(question.groups,)",
        test_conditional.test_a_deny_goes_on_by_all_groups_that_were_ever_proved,
    ),
    Twin(
        "an address of one's own that the caller asserts",
        context.of_oneself,
        "if SOURCE_IP in given",
        "if False",
        test_condition.test_a_context_has_bounds,
    ),
    Twin(
        "an address of another in any spelling",
        ip_address.canonical,
        "str(mapped or address)",
        "str(address)",
        lambda: test_condition.test_of_another_the_asker_tells_the_address_in_one_spelling(
            "::ffff:192.0.2.7", "192.0.2.7"
        ),
    ),
    Twin(
        "an address with a zone, which holds any text",
        context.of_another,
        'isinstance(asserted, str) and "%" not in asserted',
        "isinstance(asserted, str)",
        lambda: test_condition.test_an_address_of_another_must_be_one("fe80::1%eth0"),
    ),
    Twin(
        "an address of another that is none, and counts as not told",
        context.of_another,
        "if not address:",
        "if False:",
        lambda: test_condition.test_an_address_of_another_must_be_one("x"),
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
        signal.Signal.is_stale,
        "now >= self.expires_at",
        "now > self.expires_at",
        test_signal.test_a_signal_is_stale_exactly_at_its_expiry,
    ),
    Twin(
        "a preview that counts one person for two steps",
        preview._count_matched,
        "if person not in taken or fill(taken[person], tried)",
        "if True",
        lambda: test_preview.test_one_person_fills_one_slot_in_all_steps_together(
            [test_preview.named("bob"), test_preview.named("bob")], 1
        ),
    ),
    Twin(
        "an approval that does not judge the conditions again",
        request._judge_request_again,
        "return _judge_conditions(limited, policy, signals=signals, now=now)",
        "return grant",
        test_conditional.test_an_approval_judges_the_conditions_again,
    ),
    Twin(
        "an ensured grant that was given for less",
        coverage._in_time,
        "(ask.duration or timedelta()) <= grant.duration",
        "timedelta() <= grant.duration",
        test_conditional.test_a_live_grant_covers_what_is_within_it_and_no_longer_than_it,
    ),
    Twin(
        "an escalation that comes after the request has lapsed",
        preview._deciders,
        "step.timeout < patience",
        "step.timeout <= patience",
        test_preview.test_who_a_step_escalates_to_only_after_the_request_has_lapsed_could_not_approve_it,
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
        coverage._in_time,
        "and ask.start_at + (ask.duration or timedelta()) <= ends",
        "",
        test_conditional.test_a_grant_covers_a_later_start_that_lies_within_it,
    ),
    Twin(
        "an ensured grant that starts later than it is wanted",
        coverage._in_time,
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
        grant.with_expiry,
        "ends = [grant.starts_at + grant.duration]",
        "ends = [grant.created_at + grant.duration]",
        test_grant.test_the_clock_of_the_access_starts_at_approval_not_at_the_request,
    ),
    Twin(
        "a scheduled start that is ignored",
        grant.start,
        "max(now, grant.start_at or now)",
        "now",
        test_grant.test_the_clock_of_the_access_starts_at_the_scheduled_start_where_that_is_later,
    ),
    Twin(
        "a scheduled start that lies in the past",
        grant.start,
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
        grant.run_out_event,
        "held=grant.expires_at - grant.starts_at",
        "held=now - grant.starts_at",
        test_grant.test_the_event_of_an_expiry_says_how_long_it_was_held,
    ),
    # Approvals
    Twin(
        "a self-approval in other letter case",
        Person.is_same,
        "name.canonical(self.principal) == name.canonical(other.principal)",
        "self.principal == other.principal",
        test_person.test_one_name_in_any_letter_case_is_one_person,
    ),
    Twin(
        "a self-approval under another name of one's own",
        Person.is_same,
        "self.has_account(other.account) or ",
        "",
        test_person.test_nobody_approves_its_own_request_under_a_new_name,
    ),
    Twin(
        "an account that is anybody's who has none",
        Person.has_account,
        "account is not None and",
        "",
        test_person.test_who_has_no_account_is_nobody_elses_person,
    ),
    Twin(
        "two names of one person that count twice",
        quorum._count_approvals,
        "count_distinct(",
        "(lambda found: len({person.principal for person in found}))(",
        test_person.test_two_approvals_of_one_person_under_two_names_count_once,
    ),
    Twin(
        "a review that forgets whose account it was",
        approval._make_review,
        "account=by.account,\n        holder_account=place.right.account,",
        "",
        test_person.test_nobody_reviews_twice_under_two_names,
    ),
    Twin(
        "a proposal that its proposer approves under a new name",
        proposal.approve,
        "Person(proposal.proposer, proposal.proposer_account)",
        "Person(proposal.proposer)",
        test_person.test_nobody_approves_its_own_proposal_under_a_new_name,
    ),
    Twin(
        "a self-approval of whoever holds what another asked for",
        Grant.is_own_review,
        " or person.is_same(self.held_by)",
        "",
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
        quorum.counting_reviews,
        "policy.allow_self_approval or not",
        "True or not",
        test_grant.test_the_requesters_approval_no_longer_counts_once_the_policy_forbids_it,
    ),
    Twin(
        "a count per review instead of per principal",
        quorum._count_approvals,
        "count_distinct(",
        "(lambda found: len(list(found)))(",
        test_grant.test_reviews_of_one_principal_count_once_even_where_there_are_two,
    ),
    Twin(
        "a count per spelling of a principal",
        quorum._count_approvals,
        "count_distinct(",
        "(lambda found: len(set(found)))(",
        test_grant.test_a_review_by_the_principal_in_other_letter_case_counts_once,
    ),
    Twin(
        "an approval that counts for a removed approver",
        quorum._count_approvals,
        "and still_counts(step, review)",
        "",
        test_grant.test_an_approval_by_a_removed_approver_no_longer_counts,
    ),
    Twin(
        "an approval that counts in every step",
        quorum._count_approvals,
        "and review.step == index ",
        "",
        test_grant.test_an_approval_counts_for_the_step_it_was_given_in,
    ),
    Twin(
        "a denial that counts as an approval",
        quorum._count_approvals,
        "review.decision is ReviewDecision.APPROVED and ",
        "",
        test_grant.test_a_denial_is_no_approval,
    ),
    Twin(
        "a second review by the same principal",
        approval.demand_reviewer,
        "if has_reviewed(grant, by.person):",
        "if False:",
        test_grant.test_one_principal_counts_once,
    ),
    Twin(
        "a second review in other letter case",
        Review.uses_right_of,
        "person.is_same(one)",
        "person == one",
        test_grant.test_one_principal_counts_once_in_whatever_letter_case,
    ),
    Twin(
        "a step that any approver of the policy decides",
        quorum._place_of,
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
        approval._conclude,
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
        "is_reviewer(grant, policy, by)",
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
        "person.principal in (self.requester, self.subject)",
        "self.is_own_review(person)",
        test_grant.test_a_name_in_other_letter_case_is_somebody_else_where_it_would_permit,
    ),
    Twin(
        "a release by the requester of another's access",
        grant.release,
        "not grant.is_held_by(by.person)",
        "not grant.is_of(by.person)",
        test_grant.test_the_requester_does_not_release_what_another_holds,
    ),
    Twin(
        "a grant that everybody sees",
        approval.is_visible,
        "return is_reviewer(grant, policy, by)",
        "return policy is not None",
        test_grant.test_a_grant_is_seen_by_its_people_its_reviewers_auditors_and_admins,
    ),
    # Edits and offers
    Twin(
        "an edit that widens",
        terms._demand_within,
        "if not within:",
        "if False:",
        test_approval.test_an_edit_does_not_widen_the_actions,
    ),
    Twin(
        "an edit that lengthens",
        terms._shorten,
        "given <= asked",
        "given",
        test_approval.test_an_edit_is_no_longer_than_what_is_asked_for,
    ),
    Twin(
        "an edit that starts sooner",
        terms.narrow,
        "max(now, terms.start_at or now)",
        "now",
        test_approval.test_an_edit_starts_no_sooner_than_what_is_asked_for,
    ),
    Twin(
        "an edit that starts in the past",
        terms.narrow,
        "not earliest <= edits.start_at <=",
        "not edits.start_at <=",
        test_approval.test_an_edit_starts_no_sooner_than_now,
    ),
    Twin(
        "an edit that starts in a thousand years",
        terms.narrow,
        " <= now + MAX_LEAD:",
        ":",
        test_approval.test_an_edit_starts_at_most_thirty_days_ahead,
    ),
    Twin(
        "an edit below what the policy gives",
        terms.apply_edits,
        "given.duration != reviewed.duration",
        "given.duration > reviewed.duration",
        test_approval.test_a_reviewer_gives_and_offers_no_duration_that_the_policy_does_not_give,
    ),
    Twin(
        "an offer below what the policy gives",
        approval.counter,
        "terms.duration != grant.duration",
        "terms.duration > grant.duration",
        test_approval.test_a_reviewer_gives_and_offers_no_duration_that_the_policy_does_not_give,
    ),
    Twin(
        "an offer of what was not asked for any more",
        terms.edit,
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
        "if has_reviewed(grant, offer.by, offer.right_of):",
        "if False:",
        test_approval.test_an_offer_of_who_has_approved_meanwhile_is_no_second_approval,
    ),
    Twin(
        "an offer of a removed approver",
        approval.accept,
        "or not still_counts(policy.steps[offer.step], offer, locks)",
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
        "if not grant.is_of(by.person):",
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
        "demand_reviewer(grant, policy=policy, by=by, now=now, locks=locks, signals=signals)",
        "ReviewPlace(step=0, right=Right(holder=by.principal, groups=by.groups), escalated=False)",
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
        quorum._place_of,
        "now >= since",
        "now > since",
        test_approval.test_a_step_escalates_exactly_at_its_timeout,
    ),
    Twin(
        "an escalation before its time",
        quorum._place_of,
        "bool(step.timeout) and now >= since + step.timeout",
        "bool(step.timeout)",
        test_approval.test_a_step_escalates_exactly_at_its_timeout,
    ),
    Twin(
        "an escalation from the request on",
        quorum._place_of,
        "grant.step_since or grant.created_at",
        "grant.created_at",
        test_approval.test_a_later_steps_clock_starts_when_the_step_before_it_is_passed,
    ),
    Twin(
        "an approval that stands as if escalated",
        quorum.still_counts,
        "escalated=review.escalated",
        "escalated=True",
        test_approval.test_who_escalation_lets_in_does_not_pass_for_a_first_approver,
    ),
    Twin(
        "a step that does not lapse",
        approval._wait_for_step,
        "request_expires_at=min(end, latest or end)",
        "request_expires_at=end",
        test_approval.test_a_step_without_an_escalation_lapses_exactly_at_its_timeout,
    ),
    Twin(
        "a step that outlasts the request",
        approval._wait_for_step,
        "request_expires_at=min(end, latest or end)",
        "request_expires_at=latest or end",
        test_approval.test_a_step_lapses_no_later_than_the_request,
    ),
    Twin(
        "an extension's step that does not lapse",
        approval._wait_for_step,
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
        " if policy.allow_self_approval or not grant.is_own_review(right.person)",
        "",
        test_approval.test_nobody_approves_in_place_of_the_requester,
    ),
    Twin(
        "a right that counts again in other hands",
        quorum.find_place,
        "if not place.right.delegation or not has_reviewed(grant, place.right.person):",
        "if True:",
        test_approval.test_one_right_counts_once_in_whoevers_hands,
    ),
    Twin(
        "a delegator who counts again",
        Review.uses_right_of,
        "(self.by, self.right_of)",
        "(self.by,)",
        test_approval.test_one_right_counts_once_in_whoevers_hands,
    ),
    Twin(
        "a count per delegate instead of per right",
        quorum._count_approvals,
        "review.right_of",
        "review.by",
        test_approval.test_a_delegates_approval_counts_while_the_delegator_is_an_approver,
    ),
    Twin(
        "a delegate who stands for itself",
        quorum.still_counts,
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
        Delegation.is_active,
        "now < self.expires_at",
        "now <= self.expires_at",
        test_delegation.test_a_delegation_holds_from_its_start_to_exactly_before_its_end,
    ),
    Twin(
        "a delegation before its start",
        Delegation.is_active,
        "self.starts_at <= now < self.expires_at",
        "now < self.expires_at",
        test_delegation.test_a_delegation_holds_from_its_start_to_exactly_before_its_end,
    ),
    Twin(
        "a delegation that cannot be ended",
        Delegation.is_active,
        "self.deleted_at is None and ",
        "",
        test_delegation.test_the_delegator_and_admins_end_a_delegation_at_once,
    ),
    Twin(
        "a delegation without an end",
        delegation.create,
        " <= starts_at + MAX_SPAN",
        "",
        test_delegation.test_a_delegation_ends_after_its_start_by_at_most_thirty_days,
    ),
    Twin(
        "a delegation of what was delegated",
        delegation.create,
        "delegator_groups=by.groups",
        "delegator_groups=by.groups.union(*(right.groups for right in by.delegated))",
        test_delegation.test_what_was_delegated_to_the_delegator_stays_with_it,
    ),
    Twin(
        "a delegation to oneself in other letters",
        delegation.create,
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
        grant.with_use,
        "grant.usage.count + 1",
        "grant.usage.count",
        test_grant.test_a_use_is_counted_with_its_instant,
    ),
    Twin(
        "an idle timeout that is ignored",
        grant.with_expiry,
        "if grant.limits.idle_timeout:",
        "if False:",
        test_grant.test_access_that_is_not_used_for_its_idle_timeout_is_over,
    ),
    Twin(
        "an idle timeout that a use ends",
        grant.with_expiry,
        "if grant.limits.idle_timeout:",
        "if grant.limits.idle_timeout and grant.usage.last_at is None:",
        test_grant.test_each_use_starts_the_idle_timeout_anew,
    ),
    Twin(
        "an activation window that is ignored",
        grant.with_expiry,
        "if grant.limits.activation_window and grant.usage.last_at is None:",
        "if False:",
        test_grant.test_access_that_is_not_used_within_its_activation_window_is_over,
    ),
    Twin(
        "a limit that lengthens access",
        grant.with_expiry,
        "return replace(grant, expires_at=min(*ends, until or ends[0]))",
        "return replace(grant, expires_at=min(*(ends[1:] or ends), until or ends[-1]))",
        test_grant.test_limits_never_lengthen_access,
    ),
    Twin(
        "a request for more uses than the policy gives",
        request.limits_under,
        "min(max_uses or policy.max_uses, policy.max_uses or max_uses)",
        "max_uses or policy.max_uses",
        test_grant.test_a_request_asks_for_no_more_uses_than_the_policy_gives,
    ),
    Twin(
        "an approval without the limits of now",
        request._judge_request_again,
        ", limits=limits_under(grant.limits.max_uses, policy)",
        "",
        test_grant.test_limits_are_those_of_the_policy_at_the_approval,
    ),
    Twin(
        "an ensured grant that is used up",
        coverage.is_covered_by,
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
        more_time.lengthen,
        "grant.extension_count + 1",
        "grant.extension_count",
        test_extension.test_a_grant_is_extended_as_often_as_the_policy_says,
    ),
    Twin(
        "an extension of what is over",
        more_time.with_extension,
        "demand_state(grant, now, GrantState.SCHEDULED, GrantState.ACTIVE)",
        "pass",
        test_extension.test_access_gets_more_time_until_exactly_its_end,
    ),
    Twin(
        "an extension that anybody asks for",
        more_time.with_extension,
        "if not grant.is_of(by.person):",
        "if False:",
        test_extension.test_who_asked_for_or_holds_a_grant_asks_for_more_time,
    ),
    Twin(
        "an extension of what was passed on",
        more_time.with_extension,
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
        "demand_undenied(ask, policies, _extension_groups(grant))",
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
        more_time.lengthen,
        "duration=grant.duration + extension.duration",
        "duration=extension.duration",
        test_approval.test_more_time_follows_without_a_gap,
    ),
    Twin(
        "an approval of more time that nobody was shown",
        approval.demand_shown,
        "extension_round == waiting or",
        "not extension_round or",
        test_approval.test_a_decision_on_the_first_request_never_lands_on_more_time,
    ),
    Twin(
        "an approval of another round than was shown",
        approval.demand_shown,
        "extension_round == waiting or",
        "bool(extension_round) == bool(waiting) or",
        test_approval.test_a_decision_on_more_time_is_on_the_round_that_was_shown,
    ),
    Twin(
        "a scheduled grant that begins though its requester could not ask any more",
        misfit.misfit,
        "demand_given_under(grant, policy)",
        "pass",
        lambda: test_misfit.test_what_whoever_asked_could_not_ask_for_any_more_does_not_fit(
            {"eligible": PrincipalSet(groups=("security",))}, "would not let"
        ),
    ),
    Twin(
        "a scheduled grant that begins though it is denied",
        misfit.misfit,
        "demand_undenied(ask, policies.values(), grant.subject_groups)",
        "pass",
        test_misfit.test_what_is_denied_by_now_does_not_fit,
    ),
    Twin(
        "a scheduled grant that lasts longer than the policy lets anything",
        misfit.misfit,
        "_demand_span_given_under(grant, policy)",
        "pass",
        test_misfit.test_more_time_that_was_given_fits_the_bound_of_more_time,
    ),
    Twin(
        "a right that outlives that of its delegator",
        delegation.lost_groups,
        "frozenset()) - by.groups",
        "frozenset()) - by.groups - {'owners'}",
        test_delegation.test_a_right_ends_when_its_delegator_comes_without_the_group_that_gave_it,
    ),
    Twin(
        "a right that ends by groups that a token leaves out",
        delegation.lost_groups,
        "or by.groups is None:\n        return ()",
        ":\n        return ()\n    by = by._replace(groups=by.groups or frozenset())",
        test_delegation.test_who_brings_all_of_the_groups_or_none_that_are_known_ends_nothing,
    ),
    Twin(
        "an approval without the log-in that the policy asks for",
        log_in.demand_assurance,
        "if lacking:",
        "if False:",
        test_log_in.test_an_approval_without_one_is_refused_with_what_to_ask_the_provider_for,
    ),
    Twin(
        "an approval that counts though the policy asks for a log-in by now",
        quorum.counting_reviews,
        "and is_assured(policy, review)",
        "",
        test_log_in.test_approvals_of_before_the_policy_asked_count_no_more,
    ),
    Twin(
        "an offer that is accepted though its maker had not logged in so",
        approval.accept,
        "if not is_assured(policy, offer)",
        "if False",
        test_log_in.test_an_offer_of_before_the_policy_asked_cannot_be_accepted,
    ),
    Twin(
        "an offer without the log-in that the policy asks for",
        approval.counter,
        "demand_assurance(grant, policy, by=by, now=now)",
        "pass",
        test_log_in.test_a_counter_offer_needs_it_as_an_approval_does,
    ),
    Twin(
        "a log-in that is fresh for an instant too long",
        asked_log_in.ReviewAssurance.lacking,
        "shown.age >= self.max_age",
        "shown.age > self.max_age",
        test_asked_log_in.test_a_log_in_is_fresh_until_exactly_its_age_is_reached,
    ),
    Twin(
        "a log-in of the future that is fresh for as long",
        authentication._instant,
        "if at <= now + SKEW else None",
        "",
        test_authentication.test_an_auth_time_may_be_as_far_ahead_as_clocks_may_differ,
    ),
    Twin(
        "a warning that comes again with each use",
        deadlines.warns_at,
        "grant.latest_end - grant.warn_before if",
        "grant.expires_at - grant.warn_before if",
        test_deadlines.test_uses_do_not_move_the_warning,
    ),
    Twin(
        "a requester that is asked to decide",
        routing._without_own,
        "if not (own and grant.is_own_review(Person(principal)))",
        "if True",
        test_routing.test_named_approvers_are_told_but_for_those_who_may_not_decide,
    ),
    Twin(
        "an end that nobody hears of who was asked",
        routing.told_of,
        "*holding, *earlier",
        "*holding",
        lambda: test_routing.test_who_was_told_of_a_request_is_told_of_its_end_whoever_ended_it(test_routing.withdrawn),
    ),
    Twin(
        "a step that asks anew with each of its approvals",
        routing._begins_to_wait,
        "grant.round_reviews[-1].step != current_step(grant)",
        "True",
        test_routing.test_one_of_two_approvals_in_a_step_tells_its_approvers_nothing_new,
    ),
    Twin(
        "an escalation that is told to those who knew",
        routing._asked,
        "return step.escalate_to or _NOBODY",
        "return step.approvers",
        test_routing.test_the_escalated_are_told_when_it_escalates_and_not_before,
    ),
    Twin(
        "a message about what one did oneself",
        routing._without_actor,
        "if not Person(principal).is_same(actor)",
        "if True",
        test_routing.test_nobody_is_told_what_they_did_themselves,
    ),
    Twin(
        "a delegate where the policy forbids it",
        approval.rights_under,
        "right.delegation and policy.forbid_delegation",
        "False",
        test_approval.test_a_policy_may_forbid_to_review_in_anothers_place,
    ),
    Twin(
        "a delegate's approval that counts though the policy forbids it by now",
        quorum.counting_reviews,
        "review.delegation and policy.forbid_delegation",
        "False",
        test_approval.test_a_policy_may_forbid_to_review_in_anothers_place,
    ),
    Twin(
        "break-glass without end before the first review is due",
        break_glass.demand_no_debt,
        "len(owed) >= most",
        "len(owed) > most",
        test_break_glass.test_two_uses_may_wait_for_their_review_and_no_third_is_taken,
    ),
    Twin(
        "more time under the condition of before",
        more_time.lengthen,
        "check_condition=policy.check_condition",
        "check_condition=grant.check_condition",
        test_extension.test_more_time_is_given_under_the_condition_and_limits_of_now,
    ),
    Twin(
        "more time under the limits of before",
        more_time.lengthen,
        "limits=limits",
        "limits=grant.limits",
        test_extension.test_more_time_is_given_under_the_condition_and_limits_of_now,
    ),
    Twin(
        "more uses than were given before",
        more_time.lengthen,
        "limits_under(grant.limits.max_uses, policy)",
        "limits_under(0, policy)",
        test_extension.test_more_time_gives_no_more_uses,
    ),
    Twin(
        "more time for what is used up",
        request.judge_extension,
        "_demand_uses_left(grant, policy)",
        "pass",
        lambda: test_extension.test_what_has_no_use_left_gets_no_more_time(()),
    ),
    Twin(
        "an approval of a part that says it was given under the policy of now",
        approval._with_review,
        "if grant.extension is None:",
        "if True:",
        test_extension.test_until_more_time_is_given_the_grant_is_what_it_was,
    ),
    Twin(
        "limits of now that count from the start",
        grant.with_expiry,
        "grant.limits.since or grant.starts_at)",
        "grant.starts_at)",
        test_extension.test_limits_of_now_count_from_the_approval_of_more_time,
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
        children._check_child,
        "if not within:",
        "if False:",
        test_child.test_what_is_passed_on_is_not_wider_in_actions,
    ),
    Twin(
        "a child that lasts longer",
        children.judge_child,
        "if ask.duration is not None and ask.duration > left:",
        "if False:",
        test_child.test_what_is_passed_on_lasts_no_longer,
    ),
    Twin(
        "a child that lasts as long as its parent did at first",
        children.judge_child,
        "sure(parent.latest_end) - now",
        "parent.duration",
        test_child.test_what_is_passed_on_lasts_no_longer,
    ),
    Twin(
        "a child with more uses",
        children._child_uses,
        "if max(1, ask.max_uses) > left:",
        "if False:",
        test_child.test_what_is_passed_on_has_no_more_uses_than_are_left,
    ),
    Twin(
        "a child with uses that are spent",
        children._child_uses,
        "parent.limits.max_uses - parent.usage.count",
        "parent.limits.max_uses",
        test_child.test_what_is_passed_on_has_no_more_uses_than_are_left,
    ),
    Twin(
        "a child of what is over",
        children.judge_child,
        "demand_state(parent, now, GrantState.ACTIVE)",
        "pass",
        test_child.test_only_active_access_is_passed_on,
    ),
    Twin(
        "a child of what is unused that its parent's end does not end",
        children.judge_child,
        "until=parent.expires_at",
        "until=None",
        test_child.test_a_child_ends_no_later_than_its_parent_does_unless_that_is_used,
    ),
    Twin(
        "a child by who asked for another",
        children.judge_child,
        "by.principal != parent.subject",
        "not parent.is_of(by.person)",
        test_child.test_only_the_holder_passes_it_on,
    ),
    Twin(
        "a child for anybody",
        children._check_child,
        'and not ask.subject.startswith("service:")',
        "and False",
        test_child.test_it_is_passed_on_to_services_and_to_oneself,
    ),
    Twin(
        "a child one too deep",
        children._check_child,
        "len(parent.chain) >= depth",
        "len(parent.chain) > depth",
        test_child.test_it_is_passed_on_as_deep_as_the_policy_lets_it,
    ),
    Twin(
        "a child under a policy that is gone",
        children._check_child,
        " and policy.in_force",
        "",
        test_child.test_a_policy_passes_nothing_on_unless_it_says_so,
    ),
    Twin(
        "a child that a deny does not stop",
        children.judge_child,
        "demand_not_denied(ask, policies, by)",
        "pass",
        test_child.test_a_deny_beats_what_is_passed_on,
    ),
    Twin(
        "a child without its parent's condition",
        children.judge_child,
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
        "if _denies_question(policy, grant, of_its_subject):",
        "if False:",
        test_decision.test_a_deny_of_whoever_is_above_denies_what_was_passed_on,
    ),
    Twin(
        "a child's use that outlives the parent",
        grant.with_expiry,
        "min(*ends, until or ends[0])",
        "min(ends)",
        test_grant.test_a_use_does_not_outlive_what_the_access_was_passed_on_from,
    ),
    # Emergencies
    Twin(
        "a glass that whoever may ask breaks",
        request.choose_policy,
        "may_break_glass if ask.break_glass else may_ask",
        "may_ask",
        test_break_glass.test_only_who_is_eligible_for_emergencies_breaks_the_glass,
    ),
    Twin(
        "a glass that anybody breaks",
        request.may_break_glass,
        " and rule.eligible.has(requester, groups)",
        "",
        test_break_glass.test_only_who_is_eligible_for_emergencies_breaks_the_glass,
    ),
    Twin(
        "a glass broken for another",
        request.may_break_glass,
        "and subject == requester ",
        "",
        test_break_glass.test_one_breaks_the_glass_for_oneself,
    ),
    Twin(
        "an emergency without an end",
        request._emergency_duration,
        "if duration > longest:",
        "if False:",
        test_break_glass.test_an_emergency_lasts_no_longer_than_its_rule_says,
    ),
    Twin(
        "an emergency that owes nothing",
        _getter(Grant, "owes_review"),
        "self.emergency.review is None",
        "self.end is None",
        test_break_glass.test_a_use_owes_a_review_from_the_moment_it_is_taken,
    ),
    Twin(
        "a review of one's own use",
        break_glass.complete_review,
        "if grant.is_own_review(by.person):",
        "if grant.is_own_review(by.person) and not (policy and policy.allow_self_approval):",
        test_break_glass.test_nobody_reviews_its_own_use_whatever_the_policy_says,
    ),
    Twin(
        "a review in place of who took it",
        break_glass.complete_review,
        "if not by.has(Role.ADMIN) and all(",
        "if False and all(",
        test_break_glass.test_nobody_reviews_a_use_in_place_of_who_took_it,
    ),
    Twin(
        "a review of a use by anybody",
        break_glass.complete_review,
        "if not (by.has(Role.ADMIN) or rights):",
        "if False:",
        test_break_glass.test_who_may_not_review_a_use_learns_nothing_of_it,
    ),
    Twin(
        "a review that is overdue too late",
        break_glass.review_overdue_event,
        "if now < due:",
        "if now <= due:",
        test_break_glass.test_a_review_is_overdue_exactly_when_it_was_due,
    ),
    Twin(
        "a review that is overdue though it was made",
        break_glass.review_overdue_event,
        "or not grant.owes_review",
        "",
        test_break_glass.test_only_a_review_that_is_owed_is_overdue,
    ),
    # Notifications
    Twin(
        "an address in disguise that is taken at its word",
        ip_address.innermost,
        "== 0x0000_5EFE",
        "== 1",
        lambda: test_ip_address.test_what_is_neither_is_never_reached("2606:4700::5efe:a9fe:a9fe"),
    ),
    Twin(
        "6to4 taken at its word",
        ip_address.innermost,
        "address.ipv4_mapped or address.sixtofour",
        "address.ipv4_mapped",
        lambda: test_ip_address.test_what_is_neither_is_never_reached("2002:a9fe:a9fe::"),
    ),
    Twin(
        "a private network that has a cloud's credentials in it",
        ip_address.is_private,
        " or _is_metadata(address)",
        "",
        lambda: test_ip_address.test_what_is_neither_is_never_reached("100.100.100.200"),
    ),
    Twin(
        "credentials of a cloud that nobody looks for in IPv6",
        ip_address._is_metadata,
        "_METADATA_6 if isinstance(address, IPv6Address) else _METADATA_4",
        "_METADATA_4",
        lambda: test_ip_address.test_what_is_neither_is_never_reached("fd00:ec2::254"),
    ),
    Twin(
        "credentials of a cloud on the Internet",
        ip_address.is_global,
        " or _is_metadata(address)",
        "",
        lambda: test_ip_address.test_what_is_neither_is_never_reached("168.63.129.16"),
    ),
    Twin(
        "a notification to everybody in the network",
        ip_address.is_global,
        "address.is_multicast or ",
        "",
        lambda: test_ip_address.test_what_is_neither_is_never_reached("224.0.0.1"),
    ),
    Twin(
        "an interest that no state narrows",
        notification.Interest.covers,
        'self.decision in ("", event.decision)',
        "True",
        test_notification.test_an_interest_in_a_state_is_in_that_state_alone,
    ),
    Twin(
        "a delivery that is tried for ever",
        notification.Retries.wait_after,
        "if attempts >= self.attempts:",
        "if False:",
        test_notification.test_each_wait_is_longer_up_to_the_longest_and_then_there_is_an_end,
    ),
    Twin(
        "a wait that only grows",
        notification.Retries.wait_after,
        "return min(wait, self.longest)",
        "return self.first * GROWTH ** (attempts - 1)",
        test_notification.test_each_wait_is_longer_up_to_the_longest_and_then_there_is_an_end,
    ),
    # What could be asked for
    Twin(
        "policies that could be asked for in the order in which they are found",
        policy_set._ByResource.about,
        "sorted(set(places))",
        "places",
        test_policy_set.test_a_policy_of_which_several_patterns_match_is_named_once_and_in_its_order,
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
        "if _denies_question(policy, grant, question):",
        "if False:",
        test_decision.test_a_deny_beats_every_grant,
    ),
    Twin(
        "a check that sees the first deny policy only",
        decision._own_finding,
        "for policy in evidence.policies:",
        "for policy in evidence.policies[:1]:",
        test_decision.test_a_deny_beats_every_grant,
    ),
    Twin(
        "a deny that is ignored where groups are unknown",
        PrincipalSet.forbids,
        "return bool(self.groups) if groups is None else",
        "return False if groups is None else",
        test_decision.test_a_deny_for_any_group_applies_where_nobody_proved_the_subjects_groups,
    ),
    Twin(
        "a deny by name that is ignored where groups are unknown",
        PrincipalSet.forbids,
        "if self.principals and",
        "if self.principals and groups is not None and",
        test_request.test_a_deny_by_name_applies_to_a_subject_whose_groups_nobody_proved,
    ),
    Twin(
        "a deny that this call's groups talk away",
        decision.proved_groups,
        "(grant.subject_groups, question.groups)",
        "(question.groups if question.groups is not None else grant.subject_groups,)",
        test_decision.test_a_deny_still_sees_the_groups_of_the_request_where_this_call_proves_others,
    ),
    Twin(
        "a deny that does not see this call's groups",
        decision.proved_groups,
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
    # The same person
    Twin(
        "a deny that another letter case passes by",
        PrincipalSet.forbids,
        "name.canonical(principal) in _keys(self.principals)",
        "principal in self.principals",
        test_decision.test_a_deny_by_name_forbids_in_any_letter_case,
    ),
    Twin(
        "a policy whose names are kept as they were written",
        policy._normalize_set,
        "partial(name.principal, exact=exact)",
        "lambda text, _: text",
        test_policy.test_people_are_named_in_the_one_letter_case_that_they_have,
    ),
    # Groups that are left out
    Twin(
        "a check by which groups that are left out are those of the request",
        decision.proved_groups,
        "if question.groups_left_out",
        "if False",
        test_left_out.test_a_check_with_groups_left_out_is_denied_by_any_group_whatever_was_known_before,
    ),
    Twin(
        "a request whose groups are left out, taken for one in no group",
        request.demand_not_denied,
        "policies, by.groups if itself",
        "policies, (by.groups or frozenset()) if itself",
        test_left_out.test_a_deny_for_any_group_applies_to_a_request_with_groups_left_out,
    ),
    Twin(
        "a grant that forgets that the groups of its request were left out",
        request.judge_request,
        "requester_groups=by.groups",
        "requester_groups=by.groups or frozenset()",
        test_left_out.test_a_grant_that_was_asked_for_with_groups_left_out_is_denied_by_any_group,
    ),
    Twin(
        "more time for whose groups are left out, taken for one in no group",
        more_time.with_extension,
        "requester_groups=by.groups",
        "requester_groups=by.groups or frozenset()",
        test_left_out.test_more_time_is_denied_by_any_group_where_groups_are_left_out,
    ),
    Twin(
        "a token for a holder whose groups are left out, taken for one in no group",
        token._known_groups,
        "None if holder.groups is None else known | holder.groups",
        "known | (holder.groups or frozenset())",
        test_left_out.test_a_token_is_not_issued_to_a_holder_whose_groups_are_left_out_while_a_deny_is_for_a_group,
    ),
    # Locks
    Twin(
        "a lock on one spelling of a principal",
        lock.Locks.on,
        "name.canonical(principal)",
        "principal",
        test_lock.test_a_lock_on_a_principal_holds_in_any_letter_case,
    ),
    Twin(
        "a lock that still stands at its end",
        lock.Lock.is_over,
        "now >= self.expires_at",
        "now > self.expires_at",
        test_lock.test_a_lock_stands_to_exactly_before_its_end,
    ),
    Twin(
        "a lock that ends a moment early",
        lock.Locks.at,
        "now < self._until",
        "False",
        test_lock.test_locks_are_the_same_until_one_of_them_ends,
    ),
    Twin(
        "a locked group that groups which nobody proved are not",
        lock.Locks.on,
        "return next(iter(self._by_group.values()))",
        "return None",
        test_lock.test_a_lock_on_a_group_holds_for_who_is_or_may_be_in_it,
    ),
    Twin(
        "a lock that its creator is under",
        lock.create,
        "if Locks([lock]).on_caller(by) is not None:",
        "if False:",
        test_lock.test_nobody_locks_themselves,
    ),
    Twin(
        "a locked group that the grant's groups are not asked for",
        decision._own_finding,
        "groups := proved_groups(grant, question)",
        "groups := question.groups or frozenset()",
        test_lock.test_a_locked_group_counts_as_the_grant_or_the_call_knows_it,
    ),
    Twin(
        "access that was passed on by the locked",
        decision._finding_above,
        "if evidence.locks and (lock :=",
        "if False and (lock :=",
        test_lock.test_what_came_from_the_locked_is_locked,
    ),
    Twin(
        "a no that does not name the lock on its grant",
        decision.decide_among,
        "chosen.name if chosen.reason is Reason.LOCKED",
        "'' if chosen.reason is Reason.LOCKED",
        test_lock.test_a_no_names_the_lock_and_nothing_else_does,
    ),
    Twin(
        "an approval of the locked that counts",
        quorum.counting_reviews,
        "not _is_locked(review, locks)",
        "True",
        test_lock.test_an_approval_of_the_locked_does_not_count_while_the_lock_stands,
    ),
    Twin(
        "the locked that review through another",
        quorum._is_locked,
        "locks.on(review.holder, review.groups) is not None",
        "False",
        test_lock.test_an_approval_in_place_of_the_locked_does_not_count,
    ),
    Twin(
        "the locked that review in place of another",
        quorum._is_locked,
        "or locks.on(review.reviewer, frozenset()) is not None",
        "",
        test_lock.test_an_approval_in_place_of_the_locked_does_not_count,
    ),
    Twin(
        "an approval with a stolen token that counts under its lock",
        quorum._is_locked,
        "or locks.on_token(review.token_id) is not None",
        "",
        test_lock.test_an_approval_with_a_locked_token_does_not_count_while_the_lock_stands,
    ),
    Twin(
        "a long token id that is locked and recorded in two ways",
        lock._normalize_target,
        "name.foreign_id(target.token_id)",
        "target.token_id",
        test_lock.test_a_token_is_named_as_calls_by_it_are_recorded,
    ),
    Twin(
        "an offer of the locked that is taken",
        quorum.still_counts,
        "and not _is_locked(review, locks)",
        "",
        test_lock.test_an_offer_of_the_locked_is_not_accepted,
    ),
    Twin(
        "a token for the locked",
        token.demand_carriable,
        "demand_unlocked(locks, held.subject, known)",
        "pass",
        test_lock.test_no_token_carries_what_the_locked_hold,
    ),
    Twin(
        "a stream that runs on by a locked token",
        http_request.why_over,
        "if (lock := evidence.locks.on_token(stream.token_id)) is not None:",
        "if False:",
        test_lock.test_what_runs_by_a_locked_token_is_over,
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
        request.judge_request,
        "demand_not_denied(ask, policies, by)",
        "pass",
        test_request.test_a_deny_beats_whatever_would_give_the_access,
    ),
    Twin(
        "a request for another by the requester's groups",
        request.may_ask,
        "return subject == requester or subject in policy.eligible.principals",
        "return True",
        test_request.test_asking_for_another_needs_the_others_name_in_the_policy,
    ),
    Twin(
        "a request for oneself by anybody who is named for others",
        request.may_ask,
        "if not policy.eligible.has(requester, groups):",
        "if not policy.eligible.principals and not policy.eligible.has(requester, groups):",
        test_request.test_asking_for_another_needs_an_eligible_requester,
    ),
    Twin(
        "a deny policy that gives access",
        request.by_preference,
        "if policy.in_force and not policy.deny",
        "if policy.in_force",
        test_request.test_a_deny_policy_gives_nothing,
    ),
    Twin(
        "a named policy that is only a wish",
        request.choose_policy,
        "if ask.policy and policy.name != ask.policy:",
        "if False:",
        test_request.test_a_named_policy_is_the_only_one_looked_at,
    ),
    Twin(
        "a duration without a limit",
        request.check_duration,
        "<= policy.max_duration",
        "",
        test_request.test_a_duration_is_at_most_the_policys,
    ),
    Twin(
        "a zero duration",
        request.check_span,
        "timedelta() < duration",
        "timedelta() <= duration",
        test_request.test_a_duration_is_above_zero,
    ),
    Twin(
        "a start in the past",
        request.normalize,
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
        request.demand_in_force_for,
        "if not policy.in_force or policy.deny:",
        "if False:",
        test_request.test_a_policy_that_changed_in_force_stops_the_approval,
    ),
    Twin(
        "an approval under a policy that no longer covers the request",
        request.demand_in_force_for,
        "if not policy.covers(grant.resources, grant.actions):",
        "if False:",
        test_request.test_a_policy_that_changed_in_force_stops_the_approval,
    ),
    Twin(
        "an approval for a requester who is no longer eligible",
        request._demand_still_covered,
        "if not may_ask(policy, grant.subject, requester, groups):",
        "if False:",
        test_request.test_a_policy_that_changed_in_force_stops_the_approval,
    ),
    Twin(
        "an approval of what is denied by now",
        request._judge_request_again,
        "demand_undenied(ask, policies, grant.subject_groups)",
        "pass",
        test_request.test_a_deny_that_came_after_the_request_stops_the_approval,
    ),
    Twin(
        "an approval that takes the requester's groups for the subject's",
        request._judge_request_again,
        "demand_undenied(ask, policies, grant.subject_groups)",
        "demand_undenied(ask, policies, grant.requester_groups)",
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
        "a fault that is kept and then forgotten",
        Faults.demand_none,
        "raise InvalidField(first.field, first.fault, more=more) from None",
        "return",
        test_policy.test_the_longest_duration_is_above_zero_and_at_most_thirty_days,
    ),
    Twin(
        "a case that no deny policy of the set is asked about",
        what_if.judge_request,
        "request.demand_not_denied(ask, policies, by)",
        "pass",
        test_cases.test_a_case_of_a_deny_policy_is_refused_for_its_reason,
    ),
    Twin(
        "a case that is judged by the tested policy alone",
        cases.run_case,
        "sorted(given, key=",
        "sorted([one for one in given if one.name == tested], key=",
        test_cases.test_a_case_is_refused_where_another_policy_of_the_set_denies_it,
    ),
    Twin(
        "a case that another policy answers for",
        cases._other_decider,
        "if decided == wanted:",
        "if True:",
        test_cases.test_that_the_tested_policy_does_not_cover_what_another_gives_is_told,
    ),
    Twin(
        "a set whose deny another draft replaced",
        diff.outcome,
        "if policy.name not in named",
        "if not changes",
        test_diff.test_what_a_set_does_not_name_stays,
    ),
    Twin(
        "a policy without a longest duration",
        policy._validate_times,
        'keep(None, _check_between, policy.max_duration, "max_duration", timedelta(microseconds=1), MAX_DURATION)',
        "pass",
        test_policy.test_the_longest_duration_is_above_zero_and_at_most_thirty_days,
    ),
    Twin(
        "an approver who is counted by spelling",
        policy._check_numbers,
        "map(name.canonical, step.deciders.principals)",
        "step.deciders.principals",
        test_policy.test_a_principal_named_twice_is_one_approver,
    ),
    Twin(
        "a step that needs nobody",
        policy._check_numbers,
        "1 <= needed",
        "0 <= needed",
        test_policy.test_a_step_needs_one_to_twenty_approvals,
    ),
    Twin(
        "an update that brings a deleted policy back",
        diff.update,
        "deleted_at=before.deleted_at,",
        "deleted_at=None,",
        test_diff.test_an_update_does_not_bring_a_deleted_policy_back,
    ),
    # Texts and hashes
    Twin(
        "an expression that matches a part",
        regex.matches,
        ".fullmatch(text)",
        ".search(text)",
        test_regex.test_an_expression_must_match_the_whole_text,
    ),
    Twin(
        "an expression whose dot ends with the line",
        regex._compiled.__wrapped__,
        "options.dot_nl = True",
        "options.dot_nl = False",
        _with_lines,
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
        "a token for whoever may see the grant",
        token.demand_holder,
        "by.principal != grant.subject",
        "False",
        test_token.test_only_the_holder_has_a_token,
    ),
    Twin(
        "a token that lives as long as its grant, whatever the cap",
        token.issue,
        "min(ends, now + (wanted.ttl or cap))",
        "ends",
        test_token.test_a_token_lives_no_longer_than_the_cap,
    ),
    Twin(
        "a token that outlives its grant",
        token.issue,
        "min(ends, now + (wanted.ttl or cap))",
        "now + (wanted.ttl or cap)",
        test_token.test_a_token_never_outlives_its_grant,
    ),
    Twin(
        "a token that outlives the grant above",
        token.issue,
        "for held in (grant, *above.values())",
        "for held in (grant,)",
        test_token.test_a_token_never_outlives_what_its_grant_was_passed_on_from,
    ),
    Twin(
        "a token of a grant whatever became of those above",
        token.demand_carriable,
        "for held in (grant, *above.values())",
        "for held in (grant,)",
        test_token.test_a_grant_whose_parent_is_over_or_gone_has_no_token,
    ),
    Twin(
        "a token of a grant that only a check can judge",
        token._demand_unconditional,
        "elif held.check_condition",
        "elif False",
        test_token.test_a_condition_that_is_asked_at_every_check_cannot_be_carried,
    ),
    Twin(
        "a token past a deny for any group",
        token._denies_part,
        "forbids(subject, groups)",
        "forbids(subject, groups or ())",
        test_token.test_a_deny_for_any_group_counts_where_nobody_proved_the_holders,
    ),
    Twin(
        "a token that any checker may revoke",
        token.demand_may_revoke,
        "by.has(Role.ADMIN, Role.RESPONDER)",
        "by.roles",
        test_token.test_its_subject_and_an_admin_may_revoke_a_token,
    ),
    Twin(
        "a key that goes while its tokens live",
        signing_key.over,
        "key.last_expires_at is None or key.last_expires_at <= now",
        "True",
        test_signing_key.test_a_key_stays_until_the_last_token_it_signed_is_over,
    ),
    Twin(
        "a key that signs before anybody can know it",
        signing_key.signing,
        "if key.signs_at <= now",
        "",
        test_signing_key.test_a_key_is_published_before_it_signs,
    ),
    Twin(
        "a pattern listed whatever is denied of it",
        search._denying_patterns,
        "if any(is_denied_by(policy, subject=subject, groups=groups) for subject, groups in holders)",
        "if False",
        test_search.test_search_lists_what_the_decision_allows_and_nothing_else,
    ),
    Twin(
        "a pattern listed by a condition that reads each name",
        search._pattern,
        "_READS[side].search(grant.check_condition)",
        "False",
        test_search.test_a_condition_that_reads_each_name_says_nothing_of_the_pattern,
    ),
    Twin(
        "a pattern listed with what denies all of it",
        search._pattern,
        "if not any(covers(denied, pattern, _SEPARATOR[side]) for denied in excepted):",
        "if True:",
        test_search.test_a_pattern_that_is_denied_altogether_is_not_listed,
    ),
    Twin(
        "names listed without the deny policies",
        search._name,
        "evidence=evidence",
        "evidence=evidence._replace(policies=())",
        test_search.test_a_name_that_is_denied_is_not_listed,
    ),
    Twin(
        "a record of what the caller wrote, as it is",
        refusal.refusal_event,
        "subject=harmless(about.subject)",
        "subject=about.subject",
        test_refusal.test_control_and_bidi_characters_of_the_caller_do_not_reach_the_record,
    ),
    # Requests at a proxy
    Twin(
        "a path parameter that stays in a name",
        http_request._fault_of_path,
        "_ANOTHER_PATH.search(text) or _ANOTHER_PATH.search(read)",
        "False",
        lambda: test_http_request.test_a_path_that_could_be_read_in_two_ways_or_is_no_name_names_nothing("/a/..;/b"),
    ),
    Twin(
        "a slash in disguise",
        http_request._fault_of_path,
        " or _ANOTHER_PATH.search(read)",
        "",
        lambda: (
            test_http_request.test_one_that_could_be_another_routes_is_refused_where_the_route_says_the_resource_too(
                "/a%EF%BC%9Bx"
            )
        ),
    ),
    Twin(
        "an encoded slash that is kept where no route says so",
        http_request._parts,
        "if route.keeps_encoded_slash",
        "if True",
        lambda: (
            test_http_request.test_one_that_could_be_another_routes_is_refused_where_the_route_says_the_resource_too(
                "/a%2fb"
            )
        ),
    ),
    Twin(
        "dots between encoded slashes",
        http_request._fault,
        "_parts(segment, route)",
        "[segment.replace('%2F', '')]",
        lambda: test_http_request.test_a_route_that_keeps_encoded_slashes_keeps_nothing_else("/a%2F..%2Fb"),
    ),
    Twin(
        "an encoded slash that makes two segments of one",
        http_request._decode,
        '"%2F".join',
        '"/".join',
        test_http_request.test_an_encoded_slash_is_no_separator_and_has_one_spelling,
    ),
    Twin(
        "two Unicode spellings of one path",
        http_request._fault_of_name,
        'not unicodedata.is_normalized("NFC", text)',
        "False",
        lambda: test_http_request.test_a_path_that_could_be_read_in_two_ways_or_is_no_name_names_nothing("/cafe%CC%81"),
    ),
    Twin(
        "a path that is decoded again by the upstream",
        http_request._fault_of_path,
        "_ENCODED.search(text) or _ENCODED.search(read)",
        "False",
        lambda: (
            test_http_request.test_one_that_could_be_another_routes_is_refused_where_the_route_says_the_resource_too(
                "/a%252fb"
            )
        ),
    ),
    Twin(
        "a path that is not looked at where the route names its resource",
        http_request.HttpRequest.resource,
        "self._read_path(route)",
        "pass",
        lambda: (
            test_http_request.test_one_that_could_be_another_routes_is_refused_where_the_route_says_the_resource_too(
                "/a/%2e%2e/b"
            )
        ),
    ),
    Twin(
        "a deny that a slash at the end gets past",
        http_request.HttpRequest._read_path,
        "segments.pop()",
        'segments[-1] = "%2D"',
        test_http_request.test_what_is_decided_for_a_path_is_decided_for_it_with_a_slash_at_its_end,
    ),
    Twin(
        "a host with its letters as they came",
        http_request.HttpRequest._checked_host,
        "self.host.lower().rpartition",
        "self.host.rpartition",
        lambda: test_http_request.test_a_host_is_named_without_its_port_in_small_letters("PAYMENTS.Internal:80"),
    ),
    Twin(
        "a stream that runs at its end",
        http_request.why_over,
        "now >= stream.ends_at",
        "now > stream.ends_at",
        test_http_request.test_a_stream_may_run_exactly_until_its_end,
    ),
    Twin(
        "a stream that any grant carries on",
        http_request.why_over,
        "if grant.name == stream.grant",
        "if True",
        test_http_request.test_no_other_grant_carries_a_stream_on,
    ),
    Twin(
        "a stream that a deny policy does not end",
        http_request.why_over,
        "evidence=evidence",
        "evidence=evidence._replace(policies=())",
        test_http_request.test_a_deny_policy_ends_a_stream,
    ),
    Twin(
        "a stream that goes on while its grant is there, whatever that allows",
        http_request.why_over,
        "if decision.allowed:",
        "if own:",
        test_http_request.test_a_stream_is_over_when_its_grant_is_live_no_more,
    ),
    Twin(
        "a stream that outlives the proof of identity",
        http_request.stream_end,
        "if proved_until is not None",
        "if False",
        lambda: test_http_request.test_a_stream_lasts_until_the_first_end(9, 5, 7, 5, test_http_request.TOKEN_ENDS),
    ),
    Twin(
        "a stream that outlives its bound",
        http_request.stream_end,
        "if at_most is not None",
        "if False",
        lambda: test_http_request.test_a_stream_lasts_until_the_first_end(9, 8, 7, 7, test_http_request.AT_MOST),
    ),
    Twin(
        "a route without {path} on which a path of another route passes",
        http_request._fault,
        "else _fault_of_path",
        "else (lambda _: '')",
        lambda: (
            test_http_request.test_one_that_could_be_another_routes_is_refused_where_the_route_says_the_resource_too(
                "/a//b"
            )
        ),
    ),
    Twin(
        "a path that names the resource, judged as if it named nothing",
        http_request._fault,
        "_fault_of_name if",
        "_fault_of_path if",
        lambda: test_http_request.test_a_path_that_could_be_read_in_two_ways_or_is_no_name_names_nothing("/cafe%CC%81"),
    ),
    Twin(
        "an ambiguous path that passes where it names the resource",
        http_request.parse_route,
        "if route.passes_ambiguous_path and route.is_named_by_path",
        "if False",
        lambda: test_http_request.test_where_a_path_names_something_it_cannot_be_ambiguous("resource"),
    ),
    Twin(
        "a misspelt word of a route that nobody notices",
        http_request.parse_route,
        "if key not in _KNOWN",
        "if False",
        lambda: test_http_request.test_a_route_that_makes_no_sense_is_misconfigured({"resorce": "http/x"}),
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
    edited: Any = inspect.unwrap(scope[sound.__name__])
    code: CodeType = getattr(edited, "fget", edited).__code__
    return code


def demand_caught(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sows the bug, and fails unless it is caught.

    A broken edit, such as a NameError, is no catch: it must be a rule's test that says no, or the domain itself.
    """
    monkeypatch.setattr(twin.function, "__code__", sown(twin))

    with pytest.raises((AssertionError, pytest.fail.Exception, JitError)):
        twin.caught_by()


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_no_twin_survives(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    demand_caught(twin, monkeypatch)


def test_each_twin_has_its_own_bug() -> None:
    assert len({(twin.function, twin.sound, twin.bug) for twin in TWINS}) == len(TWINS) >= 12


@pytest.mark.parametrize("caught_by", dict.fromkeys(twin.caught_by for twin in TWINS))
def test_what_catches_a_twin_passes_without_it(caught_by: Callable[[], None]) -> None:
    caught_by()
