"""Stories of people and machines whose names are as their providers write them."""

from __future__ import annotations

import json

import pytest

from jit_service.domain.language.name import folded
from tests.domain.language.test_name import AS_PROVIDERS_WRITE_THEM
from tests.stories.test_authzen import answer, question
from tests.world import ACCESS, GRANTS, Person, Story

ODD = pytest.mark.parametrize("written", AS_PROVIDERS_WRITE_THEM.values(), ids=AS_PROVIDERS_WRITE_THEM)


@pytest.fixture
def odd(story: Story, written: str) -> Person:
    """Somebody of that name, and of this story; what is like an address is in lower case here."""
    return Person(folded(f"user:{written}{story.id}"), (story.engineers,))


def quoted(text: str) -> str:
    """A text of a filter: in quotes, with backslashes before what would end it."""
    return json.dumps(text, ensure_ascii=False)


@ODD
def test_somebody_of_any_name_asks_holds_and_is_found(story: Story, odd: Person) -> None:
    story.create_policy(eligible={"principals": [odd.principal]})
    asked = story.asks(odd)
    story.approves(story.bob, asked)

    filter = f"subject = {quoted(odd.principal)} AND requester = {quoted(odd.principal)}"
    (listed,) = story.must(odd, GRANTS + "ListGrants", {"filter": filter}).grants
    found = story.must(story.gateway, ACCESS + "SearchAccess", {"action": "read", "resource": story.resource})
    records = story.audit(f"principal = {quoted(odd.principal)}")

    assert (listed.name, listed.subject) == (asked.name, odd.principal)
    assert story.check(subject=odd.principal).allowed
    assert [one.name for one in found.found] == [odd.principal]
    assert {record.principal for record in records} == {odd.principal}


@ODD
def test_somebody_of_any_name_may_be_asked_about_over_authzen(story: Story, odd: Person) -> None:
    story.create_policy(eligible={"principals": [odd.principal]}, steps=[])
    story.asks(odd)

    told = answer(
        story,
        "Evaluate",
        question(story, subject={"type": "user", "id": odd.principal.removeprefix("user:")}),
    )

    assert told["decision"]


@ODD
def test_a_deny_reaches_somebody_of_any_name(story: Story, odd: Person) -> None:
    story.create_policy(steps=[])
    story.create_policy(
        "deny",
        deny=True,
        eligible={"principals": [odd.principal]},
        steps=None,
        **dict.fromkeys(("minDuration", "defaultDuration", "maxDuration", "requestTtl")),
    )

    refused = story.call(odd, GRANTS + "RequestGrant", {"resources": [story.resource], "actions": ["read"]})

    assert refused.reason == "DENIED_BY_POLICY"
