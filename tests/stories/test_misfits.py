"""What policies would not give any more, once they are changed: what is scheduled ends, what is live is told of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jitaccess.v1.grant_pb2 import Grant
from tests.conftest import HOUR, Clock
from tests.world import GRANTS, POLICIES, Grpc, Story, running_world

DENY: dict[str, Any] = {"deny": True, "actions": ["**"]} | dict.fromkeys(
    ("steps", "minDuration", "defaultDuration", "maxDuration", "requestTtl")
)
Body = Callable[[Story, str], dict[str, Any]]


def later(story: Story) -> str:
    return (story.world.clock() + HOUR).isoformat().replace("+00:00", "Z")


def state(story: Story, grant: Any) -> Any:
    return story.must(story.admin, GRANTS + "GetGrant", {"name": grant.name}).state


def test_what_is_scheduled_ends_with_the_change_and_what_is_live_is_told(story: Story) -> None:
    """Seen: approved for Friday, not eligible any more on Tuesday, ACTIVE on Friday."""
    story.create_policy()
    scheduled, live = story.granted(startTime=later(story)), story.granted()
    changed = story.policy(eligible={"groups": [story.security]})

    dry = story.must(story.admin, POLICIES + "ApplyPolicies", {"policies": [changed], "validateOnly": True})
    before = [state(story, each) for each in (scheduled, live)]
    applied = story.must(story.admin, POLICIES + "ApplyPolicies", {"policies": [changed]})

    why = f"{changed['name']} would not let {story.alice.principal} have"
    for answer in (dry, applied):
        assert answer.misfit_count == 2
        assert [(each.grant, each.scheduled, each.ended, each.why) for each in answer.misfits] == [
            (scheduled.name, True, True, f"{why} {scheduled.name}"),
            (live.name, False, False, f"{why} {live.name}"),
        ]
    assert before == [Grant.SCHEDULED, Grant.ACTIVE]
    assert [state(story, each) for each in (scheduled, live)] == [Grant.REVOKED, Grant.ACTIVE]
    (event,) = story.audit(f'grant = "{scheduled.name}" AND event_type = GRANT_REVOKED')
    assert (event.principal, event.message) == (
        story.admin.principal,
        f"the policies were changed: {why} {scheduled.name}",
    )


def test_live_misfits_end_where_that_is_asked_for_also_when_nothing_else_changes(story: Story) -> None:
    story.create_policy(maxChildDepth=1)
    live = story.granted()
    job = {"parent": live.name, "subject": f"service:job-{story.id}", "resources": [story.resource]}
    child = story.must(story.alice, GRANTS + "RequestGrant", job | {"actions": ["read"]})
    changed = {"policies": [story.policy(maxDuration="1800s", defaultDuration="1800s", maxChildDepth=1)]}
    told = story.must(story.admin, POLICIES + "ApplyPolicies", changed)

    ended = story.must(story.admin, POLICIES + "ApplyPolicies", changed | {"endMisfits": True})

    assert [(each.grant, each.ended) for each in told.misfits] == [(live.name, False)]
    assert [(each.grant, each.ended) for each in ended.misfits] == [(live.name, True)]
    assert not story.check().allowed
    assert state(story, child) == Grant.REVOKED
    assert not story.must(story.admin, POLICIES + "ApplyPolicies", changed).misfits


@pytest.mark.parametrize(
    ("rpc", "body"),
    [
        ("UpdatePolicy", lambda _, name: {"policy": {"name": name, "disabled": True}, "updateMask": "disabled"}),
        ("DeletePolicy", lambda _, name: {"name": name}),
        ("CreatePolicy", lambda story, _: {"policy": story.policy("deny", **DENY)}),
    ],
)
def test_every_change_of_a_policy_ends_what_is_scheduled_and_does_not_fit(story: Story, rpc: str, body: Body) -> None:
    policy = story.create_policy()
    scheduled, live = story.granted(startTime=later(story)), story.granted()

    story.must(story.admin, POLICIES + rpc, body(story, policy.name))

    assert [state(story, each) for each in (scheduled, live)] == [Grant.REVOKED, Grant.ACTIVE]


def test_a_change_that_takes_nothing_from_anybody_ends_nothing(story: Story) -> None:
    story.create_policy()
    scheduled = story.granted(startTime=later(story))

    applied = story.must(story.admin, POLICIES + "ApplyPolicies", {"policies": [story.policy(maxDuration="3600s")]})

    assert (list(applied.misfits), state(story, scheduled)) == ([], Grant.SCHEDULED)


def test_under_dual_control_what_does_not_fit_ends_with_the_approval(tmp_path: Path) -> None:
    with running_world(tmp_path, Clock(), f"sqlite:///{tmp_path / 'jit.db'}", policies_dual_control=True) as world:
        story = Story(world, Grpc(world))

        def decided(proposal: str) -> Any:
            return story.must(story.root, POLICIES + "ApprovePolicyProposal", {"name": proposal})

        first = story.must(story.admin, POLICIES + "ApplyPolicies", {"policies": [story.policy()]})
        decided(first.proposal)
        scheduled, live = story.granted(startTime=later(story)), story.granted()
        changed = {"policies": [story.policy(disabled=True)]}

        plain = story.must(story.admin, POLICIES + "ApplyPolicies", changed)
        ending = story.must(story.admin, POLICIES + "ApplyPolicies", changed | {"endMisfits": True})
        again = story.must(story.admin, POLICIES + "ApplyPolicies", changed | {"endMisfits": True})
        seen = story.must(story.root, POLICIES + "GetPolicyProposal", {"name": ending.proposal})

        assert (plain.proposal != ending.proposal, again.proposal) == (True, ending.proposal)
        assert [(each.grant, each.ended) for each in plain.misfits] == [(scheduled.name, True), (live.name, False)]
        assert seen.end_misfits
        assert [state(story, each) for each in (scheduled, live)] == [Grant.SCHEDULED, Grant.ACTIVE]
        decided(ending.proposal)
        assert [state(story, each) for each in (scheduled, live)] == [Grant.REVOKED, Grant.REVOKED]
        events = story.audit(f'grant = "{live.name}" AND event_type = GRANT_REVOKED')
        assert [(each.principal, each.proposal) for each in events] == [(story.root.principal, ending.proposal)]
