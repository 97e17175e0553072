"""The life of a grant, the same over gRPC and REST."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jitaccess.v1.access_pb2 import CheckAccessResponse
from jitaccess.v1.audit_pb2 import AuditEvent
from jitaccess.v1.grant_pb2 import Grant, GrantExtension
from tests.conftest import HOUR, TICK
from tests.world import ACCESS, AUDIT, GRANTS, POLICIES, Story

Reason = CheckAccessResponse.Reason


def test_asked_approved_used_revoked(story: Story) -> None:
    story.create_policy()
    assert story.check().reason == Reason.NO_GRANT

    grant = story.asks(duration="600s", justification={"text": "backfill"})
    assert grant.state == Grant.PENDING
    assert story.check().reason == Reason.PENDING

    grant = story.approves(story.bob, grant, comment="go ahead")
    assert grant.state == Grant.ACTIVE
    assert [review.reviewer for review in grant.reviews] == [story.bob.principal]
    answer = story.check()
    assert answer.allowed
    assert answer.grant == grant.name
    assert answer.expire_time == grant.expire_time

    assert story.check(action="rows.delete").reason == Reason.NO_GRANT

    revoked = story.must(story.bob, GRANTS + "RevokeGrant", {"name": grant.name, "comment": "enough"})
    assert revoked.state == Grant.REVOKED
    assert (revoked.ended_by, revoked.end_comment) == (story.bob.principal, "enough")
    no = story.check()
    assert not no.allowed
    assert no.reason == Reason.REVOKED
    assert no.requestable_policies == [grant.policy]


def test_access_ends_exactly_at_its_expiry(story: Story) -> None:
    story.create_policy()
    grant = story.granted(duration="600s")

    story.world.clock.advance(timedelta(seconds=600) - TICK)
    assert story.check().allowed

    story.world.clock.advance(TICK)
    assert story.check().reason == Reason.EXPIRED
    assert story.must(story.alice, GRANTS + "GetGrant", {"name": grant.name}).state == Grant.EXPIRED


def test_the_clock_of_the_access_starts_at_approval(story: Story) -> None:
    story.create_policy()
    grant = story.asks(duration="600s")
    story.world.clock.advance(HOUR)

    grant = story.approves(story.bob, grant)

    assert grant.expire_time.ToDatetime() - grant.approve_time.ToDatetime() == timedelta(seconds=600)
    assert story.check().allowed


def test_a_later_start_is_scheduled_until_it_comes(story: Story) -> None:
    story.create_policy()
    start = story.world.clock() + HOUR
    grant = story.granted(startTime=start.isoformat().replace("+00:00", "Z"))
    assert grant.state == Grant.SCHEDULED
    assert story.check().reason == Reason.NOT_YET_STARTED

    story.world.clock.advance(HOUR)

    assert story.check().allowed


def test_an_undecided_request_lapses(story: Story) -> None:
    story.create_policy()
    grant = story.asks()

    story.world.clock.advance(8 * HOUR)

    assert story.must(story.alice, GRANTS + "GetGrant", {"name": grant.name}).state == Grant.LAPSED
    assert story.check().reason == Reason.NO_GRANT
    assert story.call(story.bob, GRANTS + "ApproveGrant", {"name": grant.name}).reason == "WRONG_STATE"


def test_without_steps_it_is_approved_at_once(story: Story) -> None:
    story.create_policy("auto", steps=None)

    assert story.asks().state == Grant.ACTIVE
    assert story.check().allowed


def test_two_steps_take_two_teams_in_order(story: Story) -> None:
    steps = [{"approvers": {"groups": [story.owners]}}, {"approvers": {"groups": [story.security]}}]
    story.create_policy(steps=steps)
    grant = story.asks()
    assert story.call(story.carol, GRANTS + "ApproveGrant", {"name": grant.name}).reason == "NOT_APPROVER"

    assert story.approves(story.bob, grant).state == Grant.PENDING
    assert story.approves(story.carol, grant).state == Grant.ACTIVE


def test_two_of_n_takes_two_people(story: Story) -> None:
    story.create_policy(steps=[{"approvers": {"groups": [story.owners]}, "approvalsNeeded": 2}])
    grant = story.asks()

    once = story.approves(story.bob, grant)
    assert (once.state, once.steps[0].approvals_remaining) == (Grant.PENDING, 1)
    assert story.call(story.bob, GRANTS + "ApproveGrant", {"name": grant.name}).reason == "ALREADY_REVIEWED"
    assert story.approves(story.ben, grant).state == Grant.ACTIVE


def test_denied_withdrawn_and_released_are_final(story: Story) -> None:
    story.create_policy()
    denied = story.must(story.bob, GRANTS + "DenyGrant", {"name": story.asks().name, "comment": "not now"})
    withdrawn = story.must(story.alice, GRANTS + "WithdrawGrant", {"name": story.asks().name})
    released = story.must(story.alice, GRANTS + "ReleaseGrant", {"name": story.granted().name})

    assert [denied.state, withdrawn.state, released.state] == [Grant.DENIED, Grant.WITHDRAWN, Grant.RELEASED]
    assert story.check().reason == Reason.RELEASED
    for grant in (denied, withdrawn, released):
        for method in ("ApproveGrant", "DenyGrant", "RevokeGrant"):
            body = {"name": grant.name, "comment": "again"}
            assert story.call(story.bob, GRANTS + method, body).reason == "WRONG_STATE"


def test_a_deny_policy_beats_every_grant(story: Story) -> None:
    story.create_policy()
    story.granted()
    deny = {"deny": True, "steps": None, "minDuration": None, "defaultDuration": None, "maxDuration": None}

    story.create_policy("deny", requestTtl=None, actions=["**"], **deny)

    no = story.check()
    assert (no.allowed, no.reason, list(no.requestable_policies)) == (False, Reason.DENIED_BY_POLICY, [])
    refused = story.call(story.alice, GRANTS + "RequestGrant", {"resources": [story.resource], "actions": ["read"]})
    assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "DENIED_BY_POLICY")


def test_live_grants_outlive_their_policy(story: Story) -> None:
    policy = story.create_policy()
    story.granted()

    story.must(story.admin, POLICIES + "DeletePolicy", {"name": policy.name})

    assert story.check().allowed
    refused = story.call(story.alice, GRANTS + "RequestGrant", {"resources": [story.resource], "actions": ["read"]})
    assert refused.reason == "NOT_ELIGIBLE"


def test_a_changed_policy_is_judged_at_the_approval(story: Story) -> None:
    policy = story.create_policy()
    grant = story.asks(actions=["write"])
    narrower = {"name": policy.name, "actions": ["read"]}
    story.must(story.admin, POLICIES + "UpdatePolicy", {"policy": narrower, "updateMask": "actions"})

    refused = story.call(story.bob, GRANTS + "ApproveGrant", {"name": grant.name})

    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "POLICY_NO_LONGER_ALLOWS")
    assert story.must(story.alice, GRANTS + "GetGrant", {"name": grant.name}) == grant


def test_the_same_request_id_asks_once(story: Story) -> None:
    story.create_policy()
    body = {"requestId": "3f0e8c4e-3a52-4a7e-9f0d-" + story.id}

    assert story.asks(**body) == story.asks(**body)

    listed = story.must(story.alice, GRANTS + "ListGrants", {})
    assert len(listed.grants) == 1


def test_views_show_each_what_concerns_them(story: Story) -> None:
    story.create_policy()
    pending, active = story.asks(), story.granted()

    def names(person: object, view: str) -> list[str]:
        body = {"view": view, "filter": f'resources:"{story.resource}"', "orderBy": "create_time"}
        return [grant.name for grant in story.must(person, GRANTS + "ListGrants", body).grants]  # type: ignore[arg-type]

    assert sorted(names(story.alice, "MINE")) == sorted([pending.name, active.name])
    assert names(story.bob, "MINE") == []
    assert names(story.bob, "REVIEWABLE") == [pending.name]
    assert names(story.alice, "REVIEWABLE") == []
    assert sorted(names(story.bob, "VISIBLE")) == sorted([pending.name, active.name])
    assert names(story.dave, "VISIBLE") == []
    assert sorted(names(story.auditor, "ALL")) == sorted([pending.name, active.name])


def test_pages_neither_skip_nor_repeat(story: Story) -> None:
    story.create_policy()
    asked = {story.asks().name for _ in range(7)}

    seen: list[str] = []
    token = ""
    while True:
        page = story.must(story.alice, GRANTS + "ListGrants", {"pageSize": 3, "pageToken": token})
        seen += [grant.name for grant in page.grants]
        token = page.next_page_token
        if not token:
            break

    assert len(seen) == 7
    assert set(seen) == asked


def test_a_batch_answers_in_order_and_a_bad_item_fails_alone(story: Story) -> None:
    story.create_policy()
    story.granted()
    items = [story.question(), story.question(action="bad action"), story.question(action="write")]

    results = story.must(story.gateway, ACCESS + "BatchCheckAccess", {"items": items}).results

    assert [result.allowed for result in results] == [True, False, False]
    assert results[1].error.code == 3
    assert not results[0].HasField("error")
    assert results[0].revision == results[2].revision


def test_explain_names_what_was_looked_at(story: Story) -> None:
    story.create_policy()
    grant = story.granted()

    trace = story.check(explain=True).trace

    assert [(found.name, found.reason) for found in trace] == [(grant.name, Reason.ALLOWED)]
    assert not story.check().trace


def test_everything_is_on_record(story: Story) -> None:
    story.create_policy()
    grant = story.granted(justification={"text": "backfill", "ticket": "OPS-1"})
    story.check()
    story.world.clock.advance(timedelta(seconds=90))
    story.must(story.alice, GRANTS + "ReleaseGrant", {"name": grant.name, "comment": "done"})

    events = story.audit(f'grant = "{grant.name}"')

    assert [AuditEvent.EventType.Name(event.event_type) for event in events] == [
        "GRANT_REQUESTED",
        "GRANT_APPROVED",
        "ACCESS_CHECKED",
        "GRANT_RELEASED",
    ]
    asked, approved, checked, released = events
    assert asked.message == "[OPS-1] backfill"
    assert (asked.decision, approved.decision, checked.decision) == ("PENDING", "ACTIVE", "ALLOWED")
    assert (approved.principal, checked.principal) == (story.bob.principal, story.gateway.principal)
    assert released.held_duration.ToTimedelta() == timedelta(seconds=90)
    assert all(event.source_address == "127.0.0.1" and event.method and event.hash for event in events)
    assert story.must(story.auditor, AUDIT + "VerifyAuditLog", {}).valid


def test_a_denial_quorum_takes_as_many_denials(story: Story) -> None:
    step = {"approvers": {"groups": [story.owners]}, "approvalsNeeded": 1, "denialsNeeded": 2}
    story.create_policy(steps=[step])
    grant = story.asks()

    once = story.must(story.bob, GRANTS + "DenyGrant", {"name": grant.name, "comment": "no"})
    assert once.state == Grant.PENDING
    assert story.call(story.bob, GRANTS + "DenyGrant", {"name": grant.name}).reason == "ALREADY_REVIEWED"
    assert story.call(story.bob, GRANTS + "ApproveGrant", {"name": grant.name}).reason == "ALREADY_REVIEWED"

    twice = story.must(story.ben, GRANTS + "DenyGrant", {"name": grant.name, "comment": "no"})
    assert twice.state == Grant.DENIED
    decisions = [(event.principal, event.decision) for event in story.audit(f'grant = "{grant.name}"')[1:]]
    assert [decision for _, decision in decisions if decision in ("PENDING", "DENIED")] == ["PENDING", "DENIED"]


def test_one_denial_short_of_a_quorum_does_not_stop_an_approval(story: Story) -> None:
    step = {"approvers": {"groups": [story.owners]}, "denialsNeeded": 2}
    story.create_policy(steps=[step])
    grant = story.asks()
    story.must(story.bob, GRANTS + "DenyGrant", {"name": grant.name})

    assert story.approves(story.ben, grant).state == Grant.ACTIVE


@pytest.mark.parametrize("decide", ["ApproveGrant", "DenyGrant"])
def test_a_decision_is_on_the_request_that_its_reviewer_was_shown(story: Story, decide: str) -> None:
    """Seen: bob's late yes to ten minutes became a yes to the nine days that alice asked for a moment before."""
    story.create_policy(extension={"maxExtensions": 2, "maxTotalDuration": "864000s"})
    asked = story.asks(duration="600s")
    story.approves(story.ben, asked)
    more = story.must(story.alice, GRANTS + "ExtendGrant", {"name": asked.name, "duration": "777600s"})

    late = story.call(story.bob, GRANTS + decide, {"name": asked.name})
    of_then = story.call(story.bob, GRANTS + decide, {"name": asked.name, "etag": asked.etag})
    other = story.call(story.bob, GRANTS + decide, {"name": asked.name, "extensionRound": 2})
    own = story.call(story.alice, GRANTS + decide, {"name": asked.name})
    shown = story.must(story.bob, GRANTS + decide, {"name": asked.name, "extensionRound": more.extension.round})

    assert (late.code, late.reason, late.fields) == ("INVALID_ARGUMENT", "INVALID_FIELD", ("extension_round",))
    assert [(each.code, each.reason) for each in (of_then, other)] == [("ABORTED", "STALE_ETAG")] * 2
    assert own.reason == "SELF_APPROVAL"
    assert more.extension.round == 1
    assert shown.extension.state in (GrantExtension.APPROVED, GrantExtension.DENIED)


def test_a_subject_has_only_so_many_grants_at_once(story: Story) -> None:
    story.create_policy(maxActivePerSubject=2)
    first, second = story.asks(), story.granted()

    full = story.call(story.alice, GRANTS + "RequestGrant", {"resources": [story.resource], "actions": ["read"]})
    assert (full.code, full.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_ACTIVE")
    assert "google.rpc.QuotaFailure" in full.details
    assert story.asks(story.bob).state == Grant.PENDING

    story.must(story.alice, GRANTS + "WithdrawGrant", {"name": first.name})
    third = story.granted()
    story.must(story.alice, GRANTS + "ReleaseGrant", {"name": second.name})
    assert story.asks().state == Grant.PENDING
    assert third.state == Grant.ACTIVE
