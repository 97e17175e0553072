"""Every error reason, the same over gRPC and REST, each with the record it leaves and the store as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from jit_service.domain import errors
from jit_service.domain.errors import JitError
from jit_service.rpc.errors import STATUS
from tests.conftest import HOUR
from tests.world import ACCESS, AUDIT, DELEGATIONS, GRANTS, LOCKS, POLICIES, SIGNALS, Outcome, Story

Refused = Callable[[Story], Outcome]


def leaves(kind: type[JitError] = JitError) -> list[type[JitError]]:
    below = [child for child in kind.__subclasses__() if child.__module__ == kind.__module__]
    return [leaf for child in below for leaf in leaves(child)] if below else [kind]


def asks(story: Story, **changes: Any) -> Outcome:
    body = {"resources": [story.resource], "actions": ["read"]} | changes
    return story.call(story.alice, GRANTS + "RequestGrant", body)


def without_token(story: Story) -> Outcome:
    return story.call(None, GRANTS + "RequestGrant", {})


def with_a_bad_token(story: Story) -> Outcome:
    return story.surface.call(GRANTS + "RequestGrant", {}, token="a.b.c")


def with_an_old_token(story: Story) -> Outcome:
    token = story.world.token(story.alice)
    story.world.clock.advance(HOUR)
    return story.surface.call(GRANTS + "RequestGrant", {}, token=token)


def policy_by_a_user(story: Story) -> Outcome:
    return story.call(story.alice, POLICIES + "CreatePolicy", {"policy": story.policy()})


def grant_of_another(story: Story) -> Outcome:
    story.create_policy()
    return story.call(story.dave, GRANTS + "WithdrawGrant", {"name": story.asks().name})


def withdraw_by_the_reviewer(story: Story) -> Outcome:
    story.create_policy()
    return story.call(story.bob, GRANTS + "WithdrawGrant", {"name": story.asks().name})


def not_eligible(story: Story) -> Outcome:
    story.create_policy()
    return story.call(story.dave, GRANTS + "RequestGrant", {"resources": [story.resource], "actions": ["read"]})


def denied_by_policy(story: Story) -> Outcome:
    story.create_policy()
    story.create_policy(
        "deny", deny=True, steps=None, minDuration=None, defaultDuration=None, maxDuration=None, requestTtl=None
    )
    return asks(story)


def condition_not_met(story: Story) -> Outcome:
    story.create_policy(requestCondition="context.change == 'approved'")
    return asks(story, context={"change": "draft"})


def condition_that_fails(story: Story) -> Outcome:
    story.create_policy(requestCondition="context.change == 'approved'")
    return asks(story)


def nobody_could_approve(story: Story) -> Outcome:
    story.create_policy(steps=[{"approvers": {"principals": [story.alice.principal]}}])
    return asks(story)


def no_such_signal(story: Story) -> Outcome:
    return story.call(story.admin, SIGNALS + "DeleteSignal", {"name": f"signals/s{story.id}"})


def stale_plan(story: Story) -> Outcome:
    story.create_policy()
    selector = {"subject": story.alice.principal}
    plan = story.must(story.admin, GRANTS + "RevokeGrants", selector)
    story.granted()
    return story.call(story.admin, GRANTS + "RevokeGrants", selector | {"planId": plan.plan_id, "comment": "x"})


def one_grant_too_many(story: Story) -> Outcome:
    story.create_policy(maxActivePerSubject=1)
    story.asks()
    return asks(story)


def approve_by_an_auditor(story: Story) -> Outcome:
    story.create_policy()
    return story.call(story.auditor, GRANTS + "ApproveGrant", {"name": story.asks().name})


def approve_ones_own(story: Story) -> Outcome:
    story.create_policy()
    grant = story.asks(story.bob)
    return story.call(story.bob, GRANTS + "ApproveGrant", {"name": grant.name})


def approve_after_a_weak_log_in(story: Story) -> Outcome:
    story.create_policy(reviewAssurance={"acr": ["phr"]})
    return story.call(story.bob, GRANTS + "ApproveGrant", {"name": story.asks().name})


def too_long(story: Story) -> Outcome:
    story.create_policy()
    return asks(story, duration="14401s")


def no_such_grant(story: Story) -> Outcome:
    return story.call(story.admin, GRANTS + "RevokeGrant", {"name": "grants/nothing", "comment": "x"})


def no_such_policy(story: Story) -> Outcome:
    return story.call(story.admin, POLICIES + "DeletePolicy", {"name": f"policies/p{story.id}"})


def policy_that_exists(story: Story) -> Outcome:
    story.create_policy()
    return story.call(story.admin, POLICIES + "CreatePolicy", {"policy": story.policy()})


def revoke_of_a_pending_grant(story: Story) -> Outcome:
    story.create_policy()
    return story.call(story.bob, GRANTS + "RevokeGrant", {"name": story.asks().name, "comment": "x"})


def approve_twice(story: Story) -> Outcome:
    story.create_policy(steps=[{"approvers": {"groups": [story.owners]}, "approvalsNeeded": 2}])
    grant = story.approves(story.bob, story.asks())
    return story.call(story.bob, GRANTS + "ApproveGrant", {"name": grant.name})


def approve_under_a_disabled_policy(story: Story) -> Outcome:
    policy = story.create_policy()
    grant = story.asks()
    changed = {"policy": {"name": policy.name, "disabled": True}}
    story.must(story.admin, POLICIES + "UpdatePolicy", changed)
    return story.call(story.bob, GRANTS + "ApproveGrant", {"name": grant.name})


def stale_etag(story: Story) -> Outcome:
    story.create_policy(steps=[{"approvers": {"groups": [story.owners]}, "approvalsNeeded": 2}])
    read = story.asks()
    story.approves(story.bob, read)
    return story.call(story.ben, GRANTS + "ApproveGrant", {"name": read.name, "etag": read.etag})


def reused_request_id(story: Story) -> Outcome:
    story.create_policy()
    request_id = "3f0e8c4e-3a52-4a7e-9f0d-" + story.id
    story.asks(requestId=request_id)
    return asks(story, requestId=request_id, actions=["write"])


def passed_on_without_permission(story: Story) -> Outcome:
    story.create_policy(steps=[])
    return asks(story, parent=story.asks().name)


def no_such_delegation(story: Story) -> Outcome:
    return story.call(story.admin, DELEGATIONS + "DeleteDelegation", {"name": "delegations/nothing"})


def no_such_lock(story: Story) -> Outcome:
    return story.call(story.responder, LOCKS + "DeleteLock", {"name": "locks/nothing"})


def locked(story: Story) -> Outcome:
    story.locks(story.alice)
    return story.call(story.alice, GRANTS + "RequestGrant", {"resources": [story.resource], "actions": ["read"]})


def no_such_proposal(story: Story) -> Outcome:
    return story.call(story.admin, POLICIES + "ApprovePolicyProposal", {"name": "policyProposals/nothing"})


def extended_without_permission(story: Story) -> Outcome:
    story.create_policy(steps=[])
    return story.call(story.alice, GRANTS + "ExtendGrant", {"name": story.asks().name, "duration": "60s"})


def in_review_debt(story: Story) -> Outcome:
    rule = {"eligible": {"groups": [story.engineers]}, "maxDuration": "60s", "reviewWithin": "60s"}
    story.create_policy(breakGlass=rule)
    emergency = {"breakGlass": True, "justification": {"text": "fire"}}
    story.asks(**emergency)
    story.world.clock.advance(timedelta(seconds=60))
    return asks(story, **emergency)


def with_too_many_unreviewed(story: Story) -> Outcome:
    rule = {"eligible": {"groups": [story.engineers]}, "maxDuration": "60s", "reviewWithin": "86400s"}
    story.create_policy(breakGlass=rule)
    emergency = {"breakGlass": True, "justification": {"text": "fire"}}
    for _ in range(2):
        story.asks(**emergency)
    return asks(story, **emergency)


@dataclass(frozen=True)
class Case:
    """How to be refused, for which fact, in which field, and by whom the record says it was tried."""

    refused: Refused
    fact: type[JitError]
    field: str = ""
    who: str = "alice"


CASES = [
    Case(without_token, errors.TokenMissing, who=""),
    Case(with_a_bad_token, errors.TokenInvalid, who=""),
    Case(with_an_old_token, errors.TokenExpired, who=""),
    Case(policy_by_a_user, errors.RoleRequired),
    Case(grant_of_another, errors.NotVisible, who="dave"),
    Case(withdraw_by_the_reviewer, errors.NotYours, who="bob"),
    Case(not_eligible, errors.NotEligible, who="dave"),
    Case(denied_by_policy, errors.DeniedByPolicy),
    Case(condition_not_met, errors.ConditionNotMet),
    Case(condition_that_fails, errors.ConditionError),
    Case(nobody_could_approve, errors.Unsatisfiable),
    Case(no_such_signal, errors.SignalNotFound, who="admin"),
    Case(stale_plan, errors.StalePlan, who="admin"),
    Case(one_grant_too_many, errors.TooManyActive),
    Case(approve_by_an_auditor, errors.NotApprover, who="auditor"),
    Case(approve_ones_own, errors.SelfApproval, who="bob"),
    Case(approve_after_a_weak_log_in, errors.ReviewAssuranceRequired, who="bob"),
    Case(too_long, errors.InvalidField, field="duration"),
    Case(no_such_grant, errors.GrantNotFound, who="admin"),
    Case(no_such_policy, errors.PolicyNotFound, who="admin"),
    Case(policy_that_exists, errors.PolicyExists, who="admin"),
    Case(revoke_of_a_pending_grant, errors.WrongState, who="bob"),
    Case(approve_twice, errors.AlreadyReviewed, who="bob"),
    Case(approve_under_a_disabled_policy, errors.PolicyNoLongerAllows, who="bob"),
    Case(stale_etag, errors.StaleEtag, who="ben"),
    Case(reused_request_id, errors.RequestIdReused),
    Case(passed_on_without_permission, errors.ChildNotAllowed),
    Case(no_such_delegation, errors.DelegationNotFound, who="admin"),
    Case(no_such_proposal, errors.ProposalNotFound, who="admin"),
    Case(no_such_lock, errors.LockNotFound, who="responder"),
    Case(locked, errors.Locked),
    Case(extended_without_permission, errors.ExtensionCap),
    Case(in_review_debt, errors.ReviewOverdue),
    Case(with_too_many_unreviewed, errors.TooManyUnreviewed),
]
# Shown elsewhere, since no caller can bring them about at will: bytes that no REST call can hold, a race, a store that
# is away; and what needs a service with settings of its own: test_policies_as_code.py,
# test_watch.py, tests/faults, tests/rpc/test_keys.py, tests/rpc/test_quota.py, tests/use_cases/test_bounds.py.
# rest/ (protect, passing, access_requests, edge) and openapi/test_document.py have the rest.
ELSEWHERE = {
    errors.MalformedMessage,
    errors.LostRace,
    errors.StoreUnavailable,
    errors.DualControlRequired,
    errors.TooManyWatchers,
    errors.TooManyCalls,
    errors.RateExceeded,
    errors.TooManyPending,
    errors.TooManyChildren,
    errors.TooManyDelegations,
    errors.ServiceStopping,
    errors.ClockStepped,
    errors.TokensOff,
    errors.KeysUnavailable,
    errors.IssuerKeysUnavailable,
    errors.TokenNotPossible,
    errors.TokenNotCovering,
    errors.ProxyRequired,
    errors.RouteMisconfigured,
    errors.DenialNotBound,
    errors.DenialOver,
    errors.NoPublicUrl,
    errors.AssetNotFound,
    errors.PassageOver,
    errors.CertificateInvalid,
    errors.CertificateMismatch,
    errors.RecordsPruned,
}


def test_every_error_has_a_case() -> None:
    assert {case.fact for case in CASES} | ELSEWHERE == set(leaves())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fact.__name__)
def test_each_refusal_says_why_and_is_on_record(story: Story, case: Case) -> None:
    # Whoever proves to be nobody has one record a second.
    story.world.clock.advance(timedelta(seconds=1))

    outcome = case.refused(story)

    expected = next(status for kind, status in STATUS.items() if issubclass(case.fact, kind))
    assert (outcome.code, outcome.reason) == (expected.name, case.fact.reason)
    assert outcome.text
    assert outcome.details[0] == "google.rpc.ErrorInfo"
    if case.field:
        assert outcome.fields == (case.field,)
    if outcome.code == "FAILED_PRECONDITION":
        assert "google.rpc.PreconditionFailure" in outcome.details
    who = getattr(story, case.who).principal if case.who else ""
    record = story.audit(f'event_type = CALL_REFUSED AND principal = "{who}"')[-1]
    assert (record.decision, record.reason) == ("REFUSED", case.fact.reason)


READS = [
    ("GetGrant", GRANTS, {"name": "grants/nothing"}),
    ("GetPolicy", POLICIES, {"name": "policies/nothing"}),
]


@pytest.mark.parametrize(("method", "service", "body"), READS, ids=lambda value: str(value))
def test_what_one_may_not_see_might_as_well_not_exist(
    story: Story, method: str, service: str, body: dict[str, Any]
) -> None:
    """The answers to a stranger differ in nothing but the name that the stranger sent."""
    existing = story.create_policy() if service == POLICIES else None
    if existing is None:
        story.create_policy()
        existing = story.asks()

    absent = story.call(story.dave, service + method, body)
    hidden = story.call(story.dave, service + method, {"name": existing.name})

    assert absent.reason == hidden.reason == "NOT_VISIBLE"
    assert absent.text.replace(body["name"], "") == hidden.text.replace(existing.name, "")


BAD_REQUESTS: list[tuple[str, dict[str, Any], str]] = [
    ("no resources", {"resources": []}, "resources"),
    ("no actions", {"actions": []}, "actions"),
    ("too many resources", {"resources": [f"a/{n}" for n in range(101)]}, "resources"),
    ("too many actions", {"actions": [f"a{n}" for n in range(101)]}, "actions"),
    ("an over-long resource", {"resources": ["a/" + "b" * 1023]}, "resources[0]"),
    ("an over-long action", {"actions": ["a" * 257]}, "actions[0]"),
    ("a type alone", {"resources": ["database"]}, "resources[0]"),
    ("dot-dot", {"resources": ["database/x/../y"]}, "resources[0]"),
    ("a dot", {"resources": ["database/./y"]}, "resources[0]"),
    ("an empty segment", {"resources": ["database//y"]}, "resources[0]"),
    ("a leading slash", {"resources": ["/database/y"]}, "resources[0]"),
    ("a trailing slash", {"resources": ["database/y/"]}, "resources[0]"),
    ("a percent code", {"resources": ["database/%2e%2e/y"]}, "resources[0]"),
    ("a backslash", {"resources": ["database\\y/x"]}, "resources[0]"),
    ("a control character", {"resources": ["database/a\u0007b"]}, "resources[0]"),
    ("a line break", {"resources": ["database/a\nb"]}, "resources[0]"),
    ("a NUL", {"resources": ["database/a\u0000b"]}, "resources[0]"),
    ("a bidi control", {"resources": ["database/a\u202eb"]}, "resources[0]"),
    ("a zero-width space", {"resources": ["database/a\u200bb"]}, "resources[0]"),
    ("a Cyrillic look-alike", {"resources": ["database/\u043erders"]}, "resources[0]"),
    ("a fullwidth letter", {"resources": ["database/\uff4frders"]}, "resources[0]"),
    ("a star within a segment", {"resources": ["database/ord*s"]}, "resources[0]"),
    ("two stars in the middle", {"resources": ["database/**/x"]}, "resources[0]"),
    ("an empty action segment", {"actions": ["rows..create"]}, "actions[0]"),
    ("a space in an action", {"actions": ["rows create"]}, "actions[0]"),
    ("zero duration", {"duration": "0s"}, "duration"),
    ("negative duration", {"duration": "-1s"}, "duration"),
    ("a duration beyond a policy's", {"duration": "14400.000001s"}, "duration"),
    ("a duration below a policy's", {"duration": "59.999999s"}, "duration"),
    ("a huge duration", {"duration": "315576000000s"}, "duration"),
    ("a duration finer than a microsecond", {"duration": "60.000000001s"}, "duration"),
    ("a start in the past", {"startTime": "2020-01-01T00:00:00Z"}, "start_time"),
    ("a start too far ahead", {"startTime": "9999-12-31T23:59:59Z"}, "start_time"),
    ("a subject without its kind", {"subject": "alice@example.com"}, "subject"),
    ("a subject of an unknown kind", {"subject": "group:engineering"}, "subject"),
    ("an over-long subject", {"subject": "user:" + "a" * 252}, "subject"),
    ("a look-alike subject", {"subject": "user:\u0430lice@example.com"}, "subject"),
    ("a policy name with a slash", {"policy": "policies/a/b"}, "policy"),
    ("an upper-case policy name", {"policy": "policies/Orders"}, "policy"),
    ("an over-long justification", {"justification": {"text": "x" * 4097}}, "justification.text"),
    ("a control character in a justification", {"justification": {"text": "a\u001b[31m"}}, "justification.text"),
    ("an over-long ticket", {"justification": {"ticket": "x" * 257}}, "justification.ticket"),
    ("a label key with a space", {"labels": {"a b": "c"}}, "labels"),
    ("a label value with a quote", {"labels": {"a": "'"}}, "labels.a"),
    ("too many labels", {"labels": {f"k{n}": "v" for n in range(65)}}, "labels"),
    ("a context with source_ip", {"context": {"source_ip": "10.0.0.1"}}, "context.source_ip"),
    ("a context of too many names", {"context": {f"k{n}": 1 for n in range(65)}}, "context"),
    ("a context that is too large", {"context": {"k": "x" * 16384}}, "context"),
    ("a context with a NUL", {"context": {"k": "a\u0000"}}, "context"),
    ("a request_id that is no UUID", {"requestId": "42"}, "request_id"),
]


@pytest.mark.parametrize(
    ("changes", "field"), [case[1:] for case in BAD_REQUESTS], ids=[case[0] for case in BAD_REQUESTS]
)
def test_a_bad_request_names_its_field_and_changes_nothing(story: Story, changes: dict[str, Any], field: str) -> None:
    story.create_policy()

    outcome = asks(story, **changes)

    assert (outcome.code, outcome.reason, outcome.fields) == ("INVALID_ARGUMENT", "INVALID_FIELD", (field,))
    assert not story.must(story.alice, GRANTS + "ListGrants", {}).grants


BAD_POLICIES: list[tuple[str, dict[str, Any], str]] = [
    ("no name", {"name": None}, "policy.name"),
    ("a bad name", {"name": "policies/-x"}, "policy.name"),
    ("nobody eligible", {"eligible": {}}, "policy.eligible"),
    ("an eligible nobody", {"eligible": {"principals": ["alice"]}}, "policy.eligible.principals[0]"),
    ("no resources", {"resources": None}, "policy.resources"),
    ("a bad pattern", {"resources": ["a/**/b"]}, "policy.resources[0]"),
    ("no maximum", {"maxDuration": None}, "policy.max_duration"),
    ("a maximum of zero", {"maxDuration": "0s"}, "policy.max_duration"),
    ("a negative maximum", {"maxDuration": "-1s"}, "policy.max_duration"),
    ("more than 30 days", {"maxDuration": "2592000.000001s"}, "policy.max_duration"),
    ("a default above the maximum", {"defaultDuration": "14401s"}, "policy.default_duration"),
    ("a default below the minimum", {"defaultDuration": "59s"}, "policy.default_duration"),
    ("a minimum above the maximum", {"minDuration": "14401s"}, "policy.min_duration policy.default_duration"),
    ("a request_ttl of zero", {"requestTtl": "0s"}, "policy.request_ttl"),
    ("a bad expression", {"justification": {"pattern": "("}}, "policy.justification.pattern"),
    ("a condition that is no CEL", {"requestCondition": "subject =="}, "policy.request_condition"),
    ("a condition on what is not there", {"checkCondition": "user == 'a'"}, "policy.check_condition"),
    ("a condition of another type", {"checkCondition": "subject"}, "policy.check_condition"),
    ("a comparison of two types", {"checkCondition": "subject > 5"}, "policy.check_condition"),
    ("an over-long condition", {"checkCondition": "true" + " " * 4093}, "policy.check_condition"),
    (
        "a bad condition of a step",
        {"steps": [{"approvers": {"groups": ["a"]}, "condition": "1"}]},
        "policy.steps[0].condition",
    ),
    ("a NUL in an expression", {"justification": {"pattern": "a\u0000"}}, "policy.justification.pattern"),
    ("a NUL in a condition", {"checkCondition": "subject == 'a\u0000'"}, "policy.check_condition"),
    ("look-ahead", {"justification": {"ticketPattern": "(?=a)"}}, "policy.justification.ticket_pattern"),
    ("a step without approvers", {"steps": [{}]}, "policy.steps[0].approvers"),
    (
        "fewer approvers than approvals",
        {"steps": [{"approvers": {"principals": ["user:a"]}, "approvalsNeeded": 2}]},
        "policy.steps[0].approvals_needed",
    ),
    (
        "negative approvals",
        {"steps": [{"approvers": {"groups": ["a"]}, "approvalsNeeded": -1}]},
        "policy.steps[0].approvals_needed",
    ),
    (
        "fewer approvers than denials",
        {"steps": [{"approvers": {"principals": ["user:a"]}, "denialsNeeded": 2}]},
        "policy.steps[0].denials_needed",
    ),
    ("a negative limit", {"maxActivePerSubject": -1}, "policy.max_active_per_subject"),
    ("too high a limit", {"maxActivePerSubject": 1001}, "policy.max_active_per_subject"),
    ("too many steps", {"steps": [{"approvers": {"groups": ["a"]}}] * 11}, "policy.steps"),
    (
        "a deny policy with what is about asking",
        {"deny": True},
        "policy.min_duration policy.max_duration policy.default_duration policy.steps",
    ),
]


@pytest.mark.parametrize(
    ("changes", "field"), [case[1:] for case in BAD_POLICIES], ids=[case[0] for case in BAD_POLICIES]
)
def test_a_bad_policy_names_its_field_and_is_not_stored(story: Story, changes: dict[str, Any], field: str) -> None:
    outcome = story.call(story.admin, POLICIES + "CreatePolicy", {"policy": story.policy(**changes)})

    assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", tuple(field.split()))
    listed = story.must(story.admin, POLICIES + "ListPolicies", {"pageSize": 1000})
    assert not [policy for policy in listed.policies if story.id in policy.name]


def test_one_bad_policy_keeps_the_whole_set_out(story: Story) -> None:
    policies = [story.policy("good"), story.policy("bad", maxDuration=None)]

    outcome = story.call(story.admin, POLICIES + "ApplyPolicies", {"policies": policies})

    assert outcome.fields == ("policies[1].max_duration",)
    missing = story.call(story.admin, POLICIES + "GetPolicy", {"name": policies[0]["name"]})
    assert missing.reason == "POLICY_NOT_FOUND"


BAD_LISTS: list[tuple[str, str, dict[str, Any], str]] = [
    ("a negative page", "ListGrants", {"pageSize": -1}, "page_size"),
    ("a broken token", "ListGrants", {"pageToken": "%%%"}, "page_token"),
    ("a made-up token", "ListGrants", {"pageToken": "WyJhIiwxXQ"}, "page_token"),
    ("an unknown order", "ListGrants", {"orderBy": "etag"}, "order_by"),
    ("an unknown filter field", "ListGrants", {"filter": "etag = 1"}, "filter"),
    ("half a filter", "ListGrants", {"filter": "state ="}, "filter"),
    ("an unknown state", "ListGrants", {"filter": "state = LIVE"}, "filter"),
    ("deep nesting", "ListGrants", {"filter": "(" * 500 + "state = ACTIVE" + ")" * 500}, "filter"),
]


@pytest.mark.parametrize(
    ("method", "body", "field"), [case[1:] for case in BAD_LISTS], ids=[case[0] for case in BAD_LISTS]
)
def test_a_bad_list_names_its_field(story: Story, method: str, body: dict[str, Any], field: str) -> None:
    outcome = story.call(story.alice, GRANTS + method, body)

    assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", (field,))


def test_a_page_token_serves_only_its_own_query(story: Story) -> None:
    story.create_policy()
    for _ in range(2):
        story.asks()
    token = story.must(story.alice, GRANTS + "ListGrants", {"pageSize": 1}).next_page_token

    for other in ({"filter": "state = PENDING"}, {"orderBy": "subject"}, {"view": "VISIBLE"}):
        outcome = story.call(story.alice, GRANTS + "ListGrants", {"pageToken": token} | other)
        assert outcome.fields == ("page_token",)
    assert story.call(story.bob, GRANTS + "ListGrants", {"pageToken": token}).fields == ("page_token",)


BAD_CHECKS: list[tuple[str, dict[str, Any], str]] = [
    ("no subject", {"subject": ""}, "subject"),
    ("no action", {"action": ""}, "action"),
    ("no resource", {"resource": ""}, "resource"),
    ("a wildcard resource", {"resource": "database/**"}, "resource"),
    ("a wildcard action", {"action": "*"}, "action"),
    ("a revision to come", {"minRevision": str(2**62)}, "min_revision"),
    ("a negative revision", {"minRevision": "-1"}, "min_revision"),
]


@pytest.mark.parametrize(("changes", "field"), [case[1:] for case in BAD_CHECKS], ids=[case[0] for case in BAD_CHECKS])
def test_a_bad_question_names_its_field(story: Story, changes: dict[str, Any], field: str) -> None:
    outcome = story.call(story.gateway, ACCESS + "CheckAccess", story.question(**changes))

    assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", (field,))


@pytest.mark.parametrize("count", [0, 1001])
def test_a_batch_has_1_to_1000_items(story: Story, count: int) -> None:
    items = [story.question()] * count

    outcome = story.call(story.gateway, ACCESS + "BatchCheckAccess", {"items": items})

    assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", ("items",))


def test_a_batch_of_1000_is_answered(story: Story) -> None:
    results = story.must(story.gateway, ACCESS + "BatchCheckAccess", {"items": [story.question()] * 1000}).results

    assert len(results) == 1000
    assert len({result.decision_id for result in results}) == 1000


def test_asking_about_others_needs_the_role(story: Story) -> None:
    about_alice = story.question()

    assert story.call(story.alice, ACCESS + "CheckAccess", about_alice).code == "OK"
    assert story.call(story.bob, ACCESS + "CheckAccess", about_alice).reason == "ROLE_REQUIRED"
    assert story.call(story.admin, ACCESS + "CheckAccess", about_alice).reason == "ROLE_REQUIRED"


def test_a_look_alike_of_the_requester_does_not_approve(story: Story) -> None:
    """Another letter case of the same name is the same person (I7)."""
    story.create_policy()
    grant = story.asks(story.bob)
    shouting = replace(story.bob, principal=story.bob.principal.upper().replace("USER:", "user:"))

    assert story.call(shouting, GRANTS + "ApproveGrant", {"name": grant.name}).reason == "SELF_APPROVAL"


def test_the_audit_log_is_for_auditors(story: Story) -> None:
    for method in ("ListAuditEvents", "VerifyAuditLog", "GetAuditCheckpoint"):
        assert story.call(story.alice, AUDIT + method, {}).reason == "ROLE_REQUIRED"
        assert story.call(story.gateway, AUDIT + method, {}).reason == "ROLE_REQUIRED"


def test_justification_and_ticket_rules_bind(story: Story) -> None:
    rule = {"required": True, "ticketRequired": True, "ticketPattern": "[A-Z]+-[0-9]+"}
    story.create_policy(justification=rule)

    assert asks(story).fields == ("justification.text",)
    assert asks(story, justification={"text": "x"}).fields == ("justification.ticket",)
    assert asks(story, justification={"text": "x", "ticket": "ops-1"}).fields == ("justification.ticket",)
    assert asks(story, justification={"text": "x", "ticket": "OPS-1"}).code == "OK"


def test_access_for_another_needs_its_name_in_the_policy(story: Story) -> None:
    bot = f"service:bot-{story.id}"
    story.create_policy(eligible={"groups": [story.engineers], "principals": [bot]})

    assert asks(story, subject=story.dave.principal).reason == "NOT_ELIGIBLE"
    grant = story.asks(subject=bot)
    assert (grant.requester, grant.subject) == (story.alice.principal, bot)


def test_the_deadline_of_a_request_is_half_open(story: Story) -> None:
    story.create_policy()
    grant = story.asks()
    story.world.clock.advance(8 * HOUR - timedelta(microseconds=1))
    late = story.asks(story.alice)
    assert story.approves(story.bob, grant).state

    story.world.clock.advance(8 * HOUR)

    assert story.call(story.bob, GRANTS + "ApproveGrant", {"name": late.name}).reason == "WRONG_STATE"
