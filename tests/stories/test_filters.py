"""Filters by coverage and by either spelling of a field, over gRPC and over REST."""

from __future__ import annotations

from typing import Any

import pytest

from tests.world import GRANTS, Story


@pytest.fixture
def granted(story: Story) -> dict[str, Any]:
    """Grants under one root: on all below it, on a place, on the beginning of a name, and on another root."""
    story.create_policy(resources=[f"{story.resource}/**", f"{story.resource}x/**"], actions=["**"])
    wanted = {
        "all": ([f"{story.resource}/**"], ["rows.**"]),
        "one": ([f"{story.resource}/eu/1"], ["rows.read"]),
        "some": ([f"{story.resource}x/y", f"{story.resource}/e*/1"], ["rows.*"]),
        "other": ([f"{story.resource}x/eu"], ["rows.read"]),
    }
    return {key: story.asks(resources=resources, actions=actions) for key, (resources, actions) in wanted.items()}


def found(story: Story, granted: dict[str, Any], text: str) -> set[str]:
    listed = story.must(story.alice, GRANTS + "ListGrants", {"filter": text}).grants
    names = {grant.name for grant in listed}
    return {key for key, grant in granted.items() if grant.name in names}


def test_grants_are_found_by_what_they_cover(story: Story, granted: dict[str, Any]) -> None:
    at = story.resource

    assert found(story, granted, f'covers:"{at}/eu/1"') == {"all", "one", "some"}
    assert found(story, granted, f'covers:"{at}/eu"') == {"all"}
    assert found(story, granted, f'covers:"{at}"') == set()
    assert found(story, granted, f'covers:"{at}/**"') == {"all"}
    assert found(story, granted, f'-covers:"{at}/eu/1"') == {"other"}
    assert found(story, granted, f'covers:"{at}/eu/1" covers_action:"rows.delete"') == {"all", "some"}
    assert found(story, granted, f'covers:"{at}/eu/1" coversAction:"rows.delete.all"') == {"all"}


def test_records_are_found_by_what_they_cover(story: Story, granted: dict[str, Any]) -> None:
    def records(text: str) -> set[str]:
        names = {event.grant for event in story.audit(text)}
        return {key for key, grant in granted.items() if grant.name in names}

    assert records(f'eventType = "GRANT_REQUESTED" covers:"{story.resource}/eu/1"') == {"all", "one", "some"}
    assert records(f'event_type = "GRANT_REQUESTED" covers:"{story.resource}/eu"') == {"all"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('covers:"orders"', "column 8: 'orders' has only a type; write type/name"),
        ('covers = "database/orders"', "expected : after covers"),
    ],
)
def test_what_nothing_can_cover_is_refused(story: Story, text: str, words: str) -> None:
    refused = story.call(story.alice, GRANTS + "ListGrants", {"filter": text})

    assert refused.reason == "INVALID_FIELD"
    assert words in refused.text
