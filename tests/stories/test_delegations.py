"""What becomes of a right that was put into another's hands."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.conftest import HOUR
from tests.world import ACCESS, DELEGATIONS, GRANTS, POLICIES, Story


def delegated(story: Story) -> Any:
    """Ben, an owner, lets dave review for a day."""
    until = (story.world.clock() + 24 * HOUR).isoformat().replace("+00:00", "Z")
    wanted = {"delegate": story.dave.principal, "expireTime": until}
    return story.must(story.ben, DELEGATIONS + "CreateDelegation", {"delegation": wanted})


def test_those_of_one_instant_are_listed_newest_first(story: Story) -> None:
    story.create_policy()
    names = [delegated(story).name for _ in range(6)]

    listed = story.must(story.ben, DELEGATIONS + "ListDelegations", {"pageSize": 6}).delegations

    assert [found.name for found in listed] == names[::-1]


def approves(story: Story) -> str:
    return story.call(story.dave, GRANTS + "ApproveGrant", {"name": story.asks().name}).reason


@pytest.mark.parametrize("call", [GRANTS + "ListGrants", ACCESS + "CheckAccess"])
def test_a_delegation_ends_when_its_delegator_comes_without_the_group(story: Story, call: str) -> None:
    """Whoever is dismissed leaves the right with nobody, whatever it is that they still call."""
    story.create_policy()
    delegation = delegated(story)
    before = approves(story)
    dismissed = replace(story.ben, groups=())
    story.world.clock.advance(timedelta(seconds=1))

    story.must(dismissed, call, {} if "List" in call else story.question(subject=dismissed.principal))

    assert (before, approves(story)) == ("", "NOT_VISIBLE")
    ended = story.must(story.ben, DELEGATIONS + "GetDelegation", {"name": delegation.name})
    assert (ended.active, ended.HasField("delete_time")) == (False, True)
    (event,) = story.audit(f'principal = "{story.ben.principal}" AND event_type = DELEGATION_DELETED')
    assert (event.delegation, event.message) == (delegation.name, f"{story.ben.principal} came without {story.owners}")


def test_a_delegation_stays_while_its_delegator_comes_with_the_group(story: Story) -> None:
    story.create_policy()
    delegated(story)
    promoted = replace(story.ben, groups=(*story.ben.groups, "more"))

    story.must(promoted, GRANTS + "ListGrants", {})

    assert approves(story) == ""


def test_a_policy_may_forbid_to_review_in_anothers_place(story: Story) -> None:
    policy = story.create_policy()
    delegated(story)
    before = approves(story)
    forbidden = {"policy": {"name": policy.name, "forbidDelegation": True}, "updateMask": "forbidDelegation"}

    story.must(story.admin, POLICIES + "UpdatePolicy", forbidden)

    assert (before, approves(story)) == ("", "NOT_VISIBLE")
