"""Stories of SearchAccess: who, what, or on what. What it lists, a check allows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.world import ACCESS, GRANTS, POLICIES, Story

HOUR = timedelta(hours=1)
# A deny policy has nothing of how to ask.
DENY: dict[str, Any] = {"deny": True} | dict.fromkeys(
    ("steps", "minDuration", "defaultDuration", "maxDuration", "requestTtl")
)


def search(story: Story, person: Any = None, **given: Any) -> Any:
    return story.must(person or story.gateway, ACCESS + "SearchAccess", given)


def names(answer: Any) -> list[str]:
    return [one.name for one in answer.found]


def test_who_may_is_everyone_whom_a_check_allows(story: Story) -> None:
    story.create_policy()
    grant = story.granted()
    story.approves(story.ben, story.asks(story.bob))
    story.asks(story.alice, actions=["write"])

    answer = search(story, action="read", resource=story.resource)

    assert names(answer) == sorted([story.alice.principal, story.bob.principal])
    assert answer.found[0].grant == grant.name
    assert answer.found[0].expire_time.ToDatetime() == grant.expire_time.ToDatetime()
    assert answer.revision > 0
    assert names(search(story, action="write", resource=story.resource)) == []


def test_what_may_be_done_and_on_what_are_those_of_the_grants(story: Story) -> None:
    story.create_policy()
    story.granted(actions=["write", "read"])
    story.granted(actions=["read"], resources=[f"database/{story.id}/us"])

    what = search(story, subject=story.alice.principal, resource=story.resource)
    where = search(story, subject=story.alice.principal, action="read")

    assert names(what) == ["read", "write"]
    assert names(where) == [f"database/{story.id}/eu", f"database/{story.id}/us"]


def test_a_wildcard_is_listed_as_its_pattern_with_what_is_denied_of_it(story: Story) -> None:
    story.create_policy()
    story.granted(resources=[f"database/{story.id}/**"], actions=["rows.*"])
    secret = f"database/{story.id}/secret/**"
    story.create_policy("deny", **DENY, resources=[secret], actions=["rows.*"])

    (found,) = search(story, subject=story.alice.principal, action="rows.create").found

    assert (found.name, list(found.exceptions)) == (f"database/{story.id}/**", [secret])
    assert story.check(action="rows.create", resource=f"database/{story.id}/any/thing").allowed
    assert not story.check(action="rows.create", resource=f"database/{story.id}/secret/x").allowed
    assert names(search(story, subject=story.alice.principal, resource=story.resource)) == ["rows.*"]


def test_the_beginning_of_a_segment_is_a_pattern_with_exceptions_too(story: Story) -> None:
    story.create_policy(actions=["s3:*"])
    story.granted(resources=[f"database/{story.id}/prod-*"], actions=["s3:Get*"])
    story.create_policy("deny", **DENY, resources=[f"database/{story.id}/prod-eu*"], actions=["s3:*"])
    wanted = {"subject": story.alice.principal, "action": "s3:GetObject"}

    (found,) = search(story, **wanted).found

    assert (found.name, list(found.exceptions)) == (
        f"database/{story.id}/prod-*",
        [f"database/{story.id}/prod-eu*"],
    )
    assert story.check(action="s3:GetObject", resource=f"database/{story.id}/prod-us").allowed
    assert not story.check(action="s3:GetObject", resource=f"database/{story.id}/prod-eu-1").allowed
    assert not story.check(action="s3:GetObject", resource=f"database/{story.id}/prod-us/x").allowed
    assert not story.check(action="s3:PutObject", resource=f"database/{story.id}/prod-us").allowed
    (acting,) = search(story, subject=story.alice.principal, resource=f"database/{story.id}/prod-us").found
    assert (acting.name, list(acting.exceptions)) == ("s3:Get*", [])


def test_a_pattern_that_is_denied_altogether_is_not_listed(story: Story) -> None:
    story.create_policy()
    story.granted(resources=[f"database/{story.id}/**"], actions=["rows.*"])
    story.create_policy("deny", **DENY, actions=["**"])

    assert names(search(story, subject=story.alice.principal, action="rows.create")) == []
    assert names(search(story, subject=story.alice.principal, resource=story.resource)) == []
    assert names(search(story, action="rows.create", resource=story.resource)) == []


def test_what_has_not_begun_and_what_is_over_is_not_listed(story: Story) -> None:
    story.create_policy(activationWindow="86400s")
    start = (story.world.clock() + HOUR).isoformat().replace("+00:00", "Z")
    grant = story.granted(startTime=start, duration="3600s")
    wanted = {"subject": story.alice.principal, "action": "read"}

    before = names(search(story, **wanted))
    story.world.clock.advance(HOUR)
    during = names(search(story, **wanted))
    story.world.clock.advance(HOUR)
    after = names(search(story, **wanted))

    assert grant.state != 0
    assert (before, during, after) == ([], [story.resource], [])


def test_what_is_revoked_is_gone_from_the_next_search(story: Story) -> None:
    story.create_policy()
    grant = story.granted()
    story.must(story.alice, GRANTS + "ReleaseGrant", {"name": grant.name})

    assert names(search(story, action="read", resource=story.resource)) == []
    assert names(search(story, subject=story.alice.principal, action="read")) == []


def test_a_condition_is_judged_with_the_context_that_is_asserted(story: Story) -> None:
    story.create_policy(checkCondition='context.site == "plant"')
    story.granted()
    wanted = {"action": "read", "resource": story.resource}

    assert names(search(story, **wanted, context={"site": "plant"})) == [story.alice.principal]
    assert names(search(story, **wanted, context={"site": "home"})) == []
    assert names(search(story, **wanted)) == []


def test_a_pattern_whose_condition_reads_the_side_that_is_sought_is_not_listed(story: Story) -> None:
    story.create_policy(checkCondition='resource.endsWith("/eu")')
    story.granted(resources=[f"database/{story.id}/**"])

    assert names(search(story, subject=story.alice.principal, action="read")) == []
    assert names(search(story, subject=story.alice.principal, resource=story.resource)) == ["read"]
    assert story.check().allowed


@pytest.mark.parametrize("side", ["subject", "action", "resource"])
def test_searching_uses_up_nothing_and_finds_no_grant_that_is_used_up(story: Story, side: str) -> None:
    story.create_policy(maxUses=1)
    story.granted()
    wanted = {"subject": story.alice.principal, "action": "read", "resource": story.resource}
    expected = wanted.pop(side)

    twice = [names(search(story, **wanted)) for _ in range(2)]
    assert story.check().allowed

    assert twice == [[expected], [expected]]
    assert names(search(story, **wanted)) == []


def test_one_may_search_for_ones_own_access_only_unless_one_is_a_checker(story: Story) -> None:
    story.create_policy()
    story.granted()
    own = {"subject": story.alice.principal, "action": "read"}

    assert names(search(story, story.alice, **own)) == [story.resource]
    for given in (own, {"action": "read", "resource": story.resource}):
        assert story.call(story.bob, ACCESS + "SearchAccess", given).reason == "ROLE_REQUIRED"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"subject": "user:a", "action": "read", "resource": "a/b"}, "subject"),
        ({"subject": "user:a"}, "resource"),
        ({"action": "read"}, "resource"),
        ({}, "action"),
        ({"subject": "alice", "action": "read"}, "subject"),
        ({"action": "r*", "resource": "a/b"}, "action"),
        ({"action": "read", "resource": "a/**"}, "resource"),
        ({"action": "read", "resource": "a/b", "page_size": -1}, "page_size"),
        ({"action": "read", "resource": "a/b", "page_token": "x"}, "page_token"),
    ],
)
def test_a_search_with_a_fault_names_the_field(story: Story, given: dict[str, Any], field: str) -> None:
    outcome = story.call(story.gateway, ACCESS + "SearchAccess", given)

    assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", (field,))


def test_pages_hold_everything_once_and_a_token_goes_with_its_search_only(story: Story) -> None:
    story.create_policy()
    resources = [f"database/{story.id}/r{number}" for number in range(5)]
    story.granted(resources=resources)
    wanted = {"subject": story.alice.principal, "action": "read", "page_size": 2}

    found, token = [], ""
    for _ in range(3):
        page = search(story, **wanted, page_token=token)
        found.append(names(page))
        token, last = page.next_page_token, token

    assert found == [resources[:2], resources[2:4], resources[4:]]
    assert token == ""
    other = story.call(story.gateway, ACCESS + "SearchAccess", wanted | {"action": "write", "page_token": last})
    assert other.fields == ("page_token",)


def test_a_search_and_its_refusal_are_recorded(story: Story) -> None:
    story.create_policy()
    story.granted()
    search(story, action="read", resource=story.resource)
    story.call(story.bob, ACCESS + "SearchAccess", {"action": "read", "resource": story.resource})

    (record,) = story.audit(f'principal = "{story.gateway.principal}"')
    (refusal,) = story.audit(f'principal = "{story.bob.principal}" AND event_type = "CALL_REFUSED"')

    assert (list(record.actions), list(record.resources), record.subject) == (["read"], [story.resource], "")
    assert record.message == "1 found of what was left out, the subject"
    assert refusal.reason == "ROLE_REQUIRED"


def test_what_was_passed_on_is_found_while_what_it_came_from_lasts(story: Story) -> None:
    story.create_policy()
    story.create_policy("deny", **DENY, eligible={"principals": [story.dave.principal]}, actions=["read"])

    assert names(search(story, action="read", resource=story.resource)) == []
    story.granted()
    assert names(search(story, action="read", resource=story.resource)) == [story.alice.principal]
    story.must(story.admin, POLICIES + "DeletePolicy", {"name": f"policies/p{story.id}-deny"})
