"""Stories of the past: who had access to what at an instant, over gRPC and REST."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from jitaccess.v1 import access_pb2
from tests.world import ACCESS, GRANTS, Story

HOUR = timedelta(hours=1)
_R = access_pb2.CheckAccessResponse


def then(story: Story) -> str:
    return str(story.world.clock().isoformat().replace("+00:00", "Z"))


def asked(story: Story, **more: Any) -> dict[str, Any]:
    return {"subject": story.alice.principal, "action": "read", "resource": story.resource, **more}


def test_what_was_allowed_is_told_and_lets_nobody_do_anything(story: Story) -> None:
    """A yes of then is no `allowed`, whoever reads it, while the grant is live and after it was revoked."""
    story.create_policy()
    grant = story.granted()
    instant = then(story)
    story.world.clock.advance(HOUR / 4)
    while_live = story.must(story.auditor, ACCESS + "CheckAccess", asked(story, readTime=instant, explain=True))
    story.must(story.alice, GRANTS + "ReleaseGrant", {"name": grant.name})

    answer = story.must(story.auditor, ACCESS + "CheckAccess", asked(story, readTime=instant))
    now = story.must(story.auditor, ACCESS + "CheckAccess", asked(story, readTime=then(story)))

    for told in (while_live, answer):
        assert (told.allowed, told.reason, told.grant) == (False, _R.WAS_ALLOWED, grant.name)
        assert told.read_time.ToDatetime().isoformat() + "Z" == instant
        assert told.expire_time.ToDatetime() == grant.expire_time.ToDatetime()
        assert not told.requestable_policies
    assert [item.reason for item in while_live.trace] == [_R.WAS_ALLOWED]
    assert (now.allowed, now.reason) == (False, _R.RELEASED)
    assert answer.check_time.ToDatetime() > answer.read_time.ToDatetime()


def test_who_had_access_then(story: Story) -> None:
    story.create_policy()
    story.granted()
    instant = then(story)
    story.world.clock.advance(24 * HOUR)
    wanted = {"action": "read", "resource": story.resource}

    page = story.must(story.auditor, ACCESS + "SearchAccess", {**wanted, "readTime": instant})
    of_now = story.must(story.auditor, ACCESS + "SearchAccess", {**wanted, "readTime": then(story)})

    assert [one.name for one in page.found] == [story.alice.principal]
    assert page.read_time.ToDatetime().isoformat() + "Z" == instant
    assert list(of_now.found) == []


def test_a_condition_that_reads_what_no_record_has_is_noted(story: Story) -> None:
    story.create_policy(checkCondition='context.site == "plant"')
    story.granted()
    instant = then(story)

    unsaid = story.must(story.auditor, ACCESS + "CheckAccess", asked(story, readTime=instant))
    said = asked(story, readTime=instant, context={"site": "plant"})
    told = story.must(story.auditor, ACCESS + "CheckAccess", said)
    page = story.must(
        story.auditor, ACCESS + "SearchAccess", {"action": "read", "resource": story.resource, "readTime": instant}
    )

    assert unsaid.reason == _R.CONDITION_ERROR
    assert told.reason == _R.WAS_ALLOWED
    for notes in (unsaid.not_on_record, told.not_on_record, page.not_on_record):
        (note,) = notes
        assert note.endswith(
            "reads context: what was asserted then is not on record; the context of this call was taken"
        )
    assert list(page.found) == []


@pytest.mark.parametrize("who", ["bob", "gateway"])
@pytest.mark.parametrize("method", ["CheckAccess", "SearchAccess"])
def test_others_past_is_for_auditors(story: Story, who: str, method: str) -> None:
    story.create_policy()
    story.granted()
    body = asked(story, readTime=then(story))
    if method == "SearchAccess":
        del body["subject"]

    outcome = story.call(getattr(story, who), ACCESS + method, body)

    assert (outcome.code, outcome.reason) == ("PERMISSION_DENIED", "ROLE_REQUIRED")


def test_everybody_may_ask_about_itself(story: Story) -> None:
    story.create_policy()
    story.granted()
    instant = then(story)
    story.world.clock.advance(24 * HOUR)

    assert story.must(story.alice, ACCESS + "CheckAccess", asked(story, readTime=instant)).reason == _R.WAS_ALLOWED


@pytest.mark.parametrize("method", ["CheckAccess", "SearchAccess"])
def test_the_future_and_what_is_before_the_record_are_refused(story: Story, method: str) -> None:
    story.create_policy()
    body = asked(story)
    if method == "SearchAccess":
        del body["resource"]
    later = (story.world.clock() + timedelta(microseconds=1)).isoformat().replace("+00:00", "Z")

    for instant in (later, "1999-12-31T23:59:59Z"):
        outcome = story.call(story.auditor, ACCESS + method, {**body, "readTime": instant})
        assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", ("read_time",)), outcome


@pytest.mark.parametrize(("more", "field"), [({"minRevision": 1}, "min_revision"), ({"consistency": 2}, "consistency")])
def test_the_past_has_no_consistency(story: Story, more: dict[str, Any], field: str) -> None:
    story.create_policy()

    outcome = story.call(story.auditor, ACCESS + "CheckAccess", asked(story, readTime=then(story), **more))

    assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", (field,))


def test_an_item_of_a_batch_about_the_past_is_refused_and_the_others_are_answered(story: Story) -> None:
    story.create_policy()
    story.granted()
    items = [asked(story), asked(story, readTime=then(story))]

    of_now, of_then = story.must(story.gateway, ACCESS + "BatchCheckAccess", {"items": items}).results

    assert of_now.allowed
    assert (of_then.allowed, of_then.reason) == (False, _R.REASON_UNSPECIFIED)
    assert "read_time" in of_then.error.message


def test_it_is_recorded_as_a_search(story: Story) -> None:
    story.create_policy()
    story.granted()
    answer = story.must(story.auditor, ACCESS + "CheckAccess", asked(story, readTime=then(story)))

    (record,) = story.audit(f'decision_id = "{answer.decision_id}"')

    assert record.EventType.Name(record.event_type) == "ACCESS_SEARCHED"
    assert (record.decision, record.reason, record.principal) == ("", "", story.auditor.principal)
    assert record.message.startswith("as of ")


def test_grants_are_listed_by_who_reviewed_them(story: Story) -> None:
    story.create_policy()
    granted = story.granted()
    story.asks(story.alice, actions=["write"])
    reviewers = {review.reviewer for review in granted.reviews}
    (reviewer,) = reviewers

    def listed(whom: str) -> list[str]:
        body = {"view": "ALL", "filter": f'reviewers:"{whom}" AND resources:"{story.resource}"'}
        return [grant.name for grant in story.must(story.auditor, GRANTS + "ListGrants", body).grants]

    assert listed(reviewer) == [granted.name]
    assert listed(reviewer.upper().replace("USER:", "user:")) == [granted.name]
    assert listed(story.alice.principal) == []
