"""Decisions that are only tried: they answer what they would do or what would refuse them, and leave nothing behind."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from jitaccess.v1.grant_pb2 import Grant, GrantExtension
from tests.stories.test_review_assurance import ASKED
from tests.world import GRANTS, POLICIES, Person, Story

TWO = [
    {"displayName": "owners", "approvers": {"groups": ["OWNERS"]}, "approvalsNeeded": 1},
    {"displayName": "security", "approvers": {"groups": ["SECURITY"]}, "approvalsNeeded": 1},
]


def tries(story: Story, person: Person, method: str, name: str, **changes: Any) -> Any:
    return story.call(person, GRANTS + method, {"name": name, "validateOnly": True} | changes)


def left_behind(story: Story, grant: Any) -> tuple[Any, int]:
    """The grant, and how many records it has."""
    records = story.audit(f'grant = "{grant.name}"')
    return story.must(story.alice, GRANTS + "GetGrant", {"name": grant.name}), len(records)


def test_the_last_approval_would_make_it_active_until_its_end(story: Story) -> None:
    story.create_policy()
    grant = story.asks(duration="600s")
    before = left_behind(story, grant)

    would = tries(story, story.bob, "ApproveGrant", grant.name, etag=grant.etag, comment="fine")

    assert would.code == "OK", would
    assert would.message.state == Grant.ACTIVE
    assert would.message.expire_time.ToDatetime() == story.world.clock().replace(tzinfo=None) + timedelta(seconds=600)
    assert left_behind(story, grant) == before
    assert not story.check().allowed
    assert story.approves(story.bob, grant, etag=grant.etag).state == Grant.ACTIVE


def test_an_earlier_approval_would_leave_it_waiting_for_the_next_step(story: Story) -> None:
    steps = [TWO[0] | {"approvers": {"groups": [story.owners]}}, TWO[1] | {"approvers": {"groups": [story.security]}}]
    story.create_policy(steps=steps)
    grant = story.asks()

    would = tries(story, story.bob, "ApproveGrant", grant.name).message

    assert would.state == Grant.PENDING
    assert [step.approvals_remaining for step in would.steps] == [0, 1]


def test_less_is_tried_with_what_would_be_given(story: Story) -> None:
    story.create_policy()
    grant = story.asks(duration="600s")

    would = tries(story, story.bob, "ApproveGrant", grant.name, duration="60s").message
    more = tries(story, story.bob, "ApproveGrant", grant.name, duration="900s")
    offered = tries(story, story.bob, "CounterGrant", grant.name, duration="60s").message

    assert (would.duration.seconds, would.requested.duration.seconds) == (60, 600)
    assert more.fields == ("duration",)
    assert (offered.state, offered.counter_offer.terms.duration.seconds) == (Grant.PENDING, 60)


def test_a_denial_would_end_the_request(story: Story) -> None:
    story.create_policy()
    grant = story.asks()
    before = left_behind(story, grant)

    would = tries(story, story.bob, "DenyGrant", grant.name).message

    assert would.state == Grant.DENIED
    assert left_behind(story, grant) == before


@pytest.mark.parametrize("who", ["alice", "carol", "dave", "bob"])
def test_what_would_refuse_a_decision_refuses_its_dry_run_and_leaves_no_record(story: Story, who: str) -> None:
    story.create_policy(reviewAssurance=ASKED)
    grant, person = story.asks(), getattr(story, who)
    before = left_behind(story, grant)

    tried = tries(story, person, "ApproveGrant", grant.name)
    after = left_behind(story, grant)
    decided = story.call(person, GRANTS + "ApproveGrant", {"name": grant.name})

    assert tried.code != "OK"
    assert (tried.code, tried.reason, tried.metadata) == (decided.code, decided.reason, decided.metadata)
    assert after == before
    assert left_behind(story, grant)[1] == before[1] + 1


def test_what_has_changed_since_it_was_read_is_refused_when_tried(story: Story) -> None:
    story.create_policy(steps=[TWO[0] | {"approvers": {"groups": [story.owners]}, "approvalsNeeded": 2}])
    grant = story.asks()
    story.approves(story.ben, grant)

    assert tries(story, story.bob, "ApproveGrant", grant.name, etag=grant.etag).reason == "STALE_ETAG"


def test_a_locked_caller_leaves_a_record_of_what_it_only_tried(story: Story) -> None:
    story.create_policy()
    grant = story.asks()
    story.locks(story.bob)

    assert tries(story, story.bob, "ApproveGrant", grant.name).reason == "LOCKED"
    [record] = story.audit(f'principal = "{story.bob.principal}"')
    assert record.reason == "LOCKED"


def test_more_time_is_tried_by_who_may_ask_for_it_within_the_policys_cap(story: Story) -> None:
    policy = story.create_policy(extension={"maxExtensions": 1, "maxTotalDuration": "14400s"})
    grant = story.granted(duration="600s")

    would = tries(story, story.alice, "ExtendGrant", grant.name, duration="60s").message
    too_long = tries(story, story.alice, "ExtendGrant", grant.name, duration="14400s")
    anothers = tries(story, story.bob, "ExtendGrant", grant.name, duration="60s")
    story.must(story.admin, POLICIES + "UpdatePolicy", {"policy": {"name": policy.name}, "updateMask": "extension"})
    forbidden = tries(story, story.alice, "ExtendGrant", grant.name, duration="60s")

    assert would.extension.state == GrantExtension.PENDING
    assert (too_long.reason, anothers.reason, forbidden.reason) == ("EXTENSION_CAP", "NOT_YOURS", "EXTENSION_CAP")
    assert not story.must(story.alice, GRANTS + "GetGrant", {"name": grant.name}).HasField("extension")
