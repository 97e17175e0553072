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
from jit_service.domain.errors import JitError
from jit_service.domain.grant import Grant, Review
from jit_service.domain.policy import Policy, PrincipalSet
from tests.domain import (
    test_approval,
    test_chain,
    test_condition,
    test_conditional,
    test_decision,
    test_etag,
    test_expression,
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
        request.covered_by,
        "grant.duration >= (ask.duration or timedelta())",
        "grant.duration >= timedelta()",
        test_conditional.test_a_live_grant_covers_what_is_within_it_and_no_longer_than_it,
    ),
    # Time
    Twin(
        "an expiry that is inclusive",
        Grant.state,
        "now < self.expires_at",
        "now <= self.expires_at",
        test_grant.test_a_grant_ends_exactly_at_its_expiry,
    ),
    Twin(
        "a start that is exclusive",
        Grant.state,
        "now < self.starts_at",
        "now <= self.starts_at",
        test_grant.test_a_scheduled_grant_starts_exactly_at_its_start,
    ),
    Twin(
        "a deadline that is inclusive",
        Grant.state,
        "now < self.request_expires_at",
        "now <= self.request_expires_at",
        test_grant.test_an_approval_at_the_deadline_is_too_late,
    ),
    Twin(
        "a deadline of the request that ends the access",
        Grant.state,
        "return GrantState.ACTIVE if now < self.expires_at",
        "return GrantState.ACTIVE if now < min(self.expires_at, self.request_expires_at)",
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
        decision._covers,
        "grant.subject == question.subject",
        "grant.requester == question.subject",
        test_decision.test_a_grant_is_its_subjects_not_its_requesters,
    ),
    Twin(
        "a check that ignores the action",
        decision._covers,
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
        "_refuse_denied(ask, policies, subject_groups)",
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
        request._demand_still_covered,
        "if not policy.in_force or policy.deny:",
        "if False:",
        test_request.test_a_policy_that_changed_in_force_stops_the_approval,
    ),
    Twin(
        "an approval under a policy that no longer covers the request",
        request._demand_still_covered,
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
