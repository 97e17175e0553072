"""Names as they are, all the way: asked for, approved, checked, searched, filtered and ended, over gRPC and REST."""

from __future__ import annotations

import json

import pytest

from tests.names import Example, examples
from tests.world import ACCESS, GRANTS, POLICIES, Story

ODD = [
    'share/Finance Reports/q1 "final" [2].xlsx',
    "share/C:\\Reports\\it's",
    "file/100% of a|b?x=1#y",
    "file/Отчёт-2026.pdf",
    "http/gitlab.internal/projects/acme%2Fweb",
    "db/$(cmd) `x` {y} <z> & a;b",
]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_name_is_one_thing_from_the_request_to_its_end(story: Story, odd: str) -> None:
    resource = f"database/{story.id}/{odd.replace('%2F', '%20')}"
    story.create_policy(resources=["database/**"], actions=["pods/*"])
    grant = story.granted(resources=[resource], actions=["pods/exec"])
    asked = {"action": "pods/exec", "resource": resource}

    assert story.check(**asked).allowed
    assert not story.check(**asked | {"resource": f"{resource}x"}).allowed
    (found,) = story.must(
        story.gateway, ACCESS + "SearchAccess", {"subject": story.alice.principal, "action": "pods/exec"}
    ).found
    assert found.name == resource
    written = json.dumps(resource, ensure_ascii=False)
    listed = story.must(story.alice, GRANTS + "ListGrants", {"filter": f"resources:{written}"}).grants
    assert [one.name for one in listed] == [grant.name]
    assert len(story.audit(f"event_type = GRANT_REQUESTED AND resources:{written}")) == 1
    assert story.must(story.admin, GRANTS + "RevokeGrants", {"resource": resource}).count == 1


SAMPLE = [one for number, one in enumerate(examples()) if one.kind in ("resource", "action") and number % 4 == 0]


@pytest.mark.parametrize("example", SAMPLE, ids=str)
def test_a_name_of_the_table_is_answered_alike_on_every_way_in(story: Story, example: Example) -> None:
    kind, name, _, fault = example
    outcome = story.call(story.gateway, ACCESS + "CheckAccess", story.question(**{kind: name}))

    if fault:
        assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", (kind,))
    else:
        assert (outcome.code, outcome.message.allowed) == ("OK", False)


def test_the_beginning_of_a_segment_is_given_and_denied(story: Story) -> None:
    within = f"database/{story.id}"
    story.create_policy(resources=[f"{within}/*/**"], actions=["s3:*"])
    everybody = {"groups": [story.engineers]}
    story.must(
        story.admin,
        POLICIES + "CreatePolicy",
        {
            "policy": {
                "name": f"policies/p{story.id}-no",
                "deny": True,
                "eligible": everybody,
                "resources": [f"{within}/prod-*/**"],
                "actions": ["s3:Delete*"],
            }
        },
    )
    story.granted(resources=[f"{within}/prod-*/**", f"{within}/test/**"], actions=["s3:*"])

    def allowed(action: str, place: str) -> bool:
        answer: bool = story.check(action=action, resource=f"{within}/{place}").allowed
        return answer

    assert allowed("s3:GetObject", "prod-eu/orders")
    assert not allowed("s3:DeleteObject", "prod-eu/orders")
    assert allowed("s3:DeleteObject", "test/orders")
    assert not allowed("s3:GetObject", "prod/orders")
    assert not allowed("s3:GetObject", "prod-eu")
    assert not allowed("iam:PassRole", "prod-eu/orders")
