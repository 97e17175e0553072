"""A policy that asks for a strong and fresh log-in of whoever approves, over gRPC and REST."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from jitaccess.v1.audit_pb2 import AuditEvent
from jitaccess.v1.grant_pb2 import Grant
from tests.world import AUDIT, GRANTS, POLICIES, Person, Story

ASKED = {"acr": ["phrh", "phr"], "amr": ["mfa"], "maxAge": "300s"}


def logged_in(person: Person, story: Story, **claims: Any) -> Person:
    """The person after a log-in of now, by a passkey."""
    now = int(story.world.clock().timestamp())
    return replace(person, log_in={"acr": "phr", "amr": ["hwk", "mfa"], "auth_time": now} | claims)


def test_who_steps_up_may_approve_with_the_new_token(story: Story) -> None:
    policy = story.create_policy(reviewAssurance=ASKED)
    grant = story.asks()

    weak = story.call(logged_in(story.bob, story, acr="pwd"), GRANTS + "ApproveGrant", {"name": grant.name})
    bob = logged_in(story.bob, story)

    assert list(policy.review_assurance.acr) == ASKED["acr"]
    assert (weak.code, weak.reason) == ("PERMISSION_DENIED", "REVIEW_ASSURANCE_REQUIRED")
    asked = {name: weak.metadata[name] for name in ("acr_values", "amr_values", "max_age")}
    assert asked == {"acr_values": "phrh phr", "amr_values": "mfa", "max_age": "300"}
    approved = story.approves(bob, grant)
    [review] = approved.reviews
    assert approved.state == Grant.ACTIVE
    assert (review.acr, list(review.amr)) == ("phr", ["hwk", "mfa"])
    assert review.auth_time.seconds == int(story.world.clock().timestamp())
    assert story.must(story.auditor, GRANTS + "GetGrant", {"name": grant.name}).reviews == approved.reviews


def test_a_log_in_goes_stale_while_its_token_is_good(story: Story) -> None:
    story.create_policy(reviewAssurance=ASKED)
    bob, grant = logged_in(story.bob, story), story.asks()
    story.world.clock.advance(timedelta(minutes=5))

    stale = story.call(bob, GRANTS + "ApproveGrant", {"name": grant.name})
    denied = story.must(bob, GRANTS + "DenyGrant", {"name": grant.name, "comment": "not now"})

    assert stale.reason == "REVIEW_ASSURANCE_REQUIRED"
    assert "auth_time" in stale.text
    assert denied.state == Grant.DENIED


def test_a_token_without_the_claims_does_not_suffice(story: Story) -> None:
    story.create_policy(reviewAssurance=ASKED)

    refused = story.call(story.bob, GRANTS + "ApproveGrant", {"name": story.asks().name})

    assert refused.reason == "REVIEW_ASSURANCE_REQUIRED"


def test_an_auditor_reads_by_what_log_in_each_decision_was_made(story: Story) -> None:
    story.create_policy(reviewAssurance=ASKED)
    grant = story.asks()
    now = int(story.world.clock().timestamp())
    story.call(logged_in(story.bob, story, acr="pwd", amr=["pwd"]), GRANTS + "ApproveGrant", {"name": grant.name})
    story.approves(logged_in(story.bob, story), grant)

    def records(filter_: str) -> list[tuple[str, str, list[str], int]]:
        asked = {"filter": f'grant = "{grant.name}" AND {filter_}', "order_by": "seq"}
        found = story.must(story.auditor, AUDIT + "ListAuditEvents", asked).audit_events
        named = [AuditEvent.EventType.Name(each.event_type) for each in found]
        return [(name, e.acr, list(e.amr), e.auth_time.seconds) for name, e in zip(named, found, strict=True)]

    refused, approved = ("CALL_REFUSED", "pwd", ["pwd"], now), ("GRANT_APPROVED", "phr", ["hwk", "mfa"], now)
    assert records('acr != ""') == [refused, approved]
    assert records('amr:"mfa"') == [approved]
    assert records('NOT amr:"mfa" AND event_type = CALL_REFUSED') == [refused]
    assert story.must(story.auditor, AUDIT + "VerifyAuditLog", {}).valid


def test_a_decision_under_a_policy_that_asks_for_nothing_is_recorded_so_too(story: Story) -> None:
    story.create_policy()
    grant = story.asks()

    story.must(logged_in(story.bob, story), GRANTS + "DenyGrant", {"name": grant.name, "comment": "no"})

    asked = {"filter": f'grant = "{grant.name}" AND event_type = GRANT_DENIED'}
    (record,) = story.must(story.auditor, AUDIT + "ListAuditEvents", asked).audit_events
    assert (record.acr, list(record.amr)) == ("phr", ["hwk", "mfa"])


def test_a_rule_that_asks_for_nothing_is_refused(story: Story) -> None:
    refused = story.call(story.admin, POLICIES + "CreatePolicy", {"policy": story.policy(reviewAssurance={})})

    assert refused.fields == ("policy.review_assurance",), refused
