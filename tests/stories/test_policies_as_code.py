"""Policies as code: tested, simulated over what was recorded, and under dual control proposed to another admin."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from jit_service.domain.audit.event import EventType
from jit_service.runtime import sweeper
from jitaccess.v1.policy_pb2 import PolicyChange, PolicyProposal, PolicyTestCase, SimulatedChange
from tests.cli_surface import Cli
from tests.conftest import HOUR, Clock
from tests.stories.streams import Refused, simulating
from tests.world import GRANTS, POLICIES, Grpc, Outcome, Rest, Story, World, running_world

Expect = PolicyTestCase.Outcome


def case(story: Story, **changes: Any) -> dict[str, Any]:
    usual = {
        "displayName": "alice reads",
        "principal": story.alice.principal,
        "groups": [story.engineers],
        "resources": [story.resource],
        "actions": ["read"],
    }
    return usual | changes


def tried(story: Story, policy: dict[str, Any], *cases: dict[str, Any]) -> Any:
    body = {"name": policy["name"], "policy": policy, "cases": list(cases)}
    return story.must(story.auditor, POLICIES + "TestPolicy", body)


CASES: list[tuple[str, dict[str, Any], dict[str, Any], tuple[int, str, list[int], str]]] = [
    ("a step", {}, {}, (Expect.PENDING, "", [1], "ALLOWED")),
    ("no step", {"steps": []}, {}, (Expect.ACTIVE, "", [], "ALLOWED")),
    ("nobody eligible", {}, {"groups": ["others"]}, (Expect.REFUSED, "NOT_ELIGIBLE", [], "")),
    ("too long", {}, {"duration": "14401s"}, (Expect.REFUSED, "INVALID_FIELD", [], "")),
    (
        "a condition on a signal",
        {"requestCondition": "signals.incident"},
        {"signals": {"incident": True}},
        (Expect.PENDING, "", [1], "ALLOWED"),
    ),
    (
        "the signal is missing",
        {"requestCondition": "signals.incident"},
        {},
        (Expect.REFUSED, "CONDITION_ERROR", [], ""),
    ),
    (
        "an address",
        {"requestCondition": "context.source_ip.inCidr('10.0.0.0/8')"},
        {"sourceIp": "192.0.2.1"},
        (Expect.REFUSED, "CONDITION_NOT_MET", [], ""),
    ),
    (
        "a claim",
        {"requestCondition": "'mfa' in claims.amr"},
        {"claims": {"amr": ["mfa"]}},
        (Expect.PENDING, "", [1], "ALLOWED"),
    ),
    (
        "office hours",
        {"checkCondition": "now.getHours('Europe/Berlin') >= 9"},
        {"time": "2026-03-02T07:59:59Z"},
        (Expect.PENDING, "", [1], "CONDITION_NOT_MET"),
    ),
    (
        "an emergency",
        {"breakGlass": {"eligible": {"groups": ["sre"]}, "maxDuration": "600s", "reviewWithin": "600s"}},
        {"groups": ["sre"], "breakGlass": True, "justification": "fire"},
        (Expect.ACTIVE, "", [], "ALLOWED"),
    ),
    (
        "a step that is not needed",
        {
            "steps": [
                {"approvers": {"groups": ["o"]}, "condition": "'write' in actions"},
                {"approvers": {"groups": ["p"]}},
            ]
        },
        {},
        (Expect.PENDING, "", [2], "ALLOWED"),
    ),
    ("a pattern", {}, {"actions": ["rows.*"]}, (Expect.PENDING, "", [1], "")),
    (
        "nobody could approve",
        {"steps": [{"approvers": {"principals": ["user:x@example.com"]}}]},
        {"principal": "user:x@example.com"},
        (Expect.REFUSED, "UNSATISFIABLE", [], ""),
    ),
    (
        "a ticket that is asked for",
        {"justification": {"ticketRequired": True}},
        {"ticket": "OPS-1"},
        (Expect.PENDING, "", [1], "ALLOWED"),
    ),
]


@pytest.mark.parametrize(("policy", "changes", "out"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_a_case_says_what_would_become_of_it(
    story: Story, policy: dict[str, Any], changes: dict[str, Any], out: tuple[int, str, list[int], str]
) -> None:
    (result,) = tried(story, story.policy(**policy), case(story, **changes)).results

    assert (result.outcome, result.reason, list(result.steps), result.check) == out, result
    assert result.passed
    assert story.audit(f'policy = "policies/p{story.id}-write"') == []


def test_a_deny_policy_is_tested_by_what_it_forbids(story: Story) -> None:
    deny = {"deny": True, "steps": None, "minDuration": None, "defaultDuration": None, "maxDuration": None}
    policy = story.policy(**deny, requestTtl=None)

    (result,) = tried(story, policy, case(story, expect="REFUSED", expectReason="DENIED_BY_POLICY")).results

    assert result.passed, result


def test_what_does_not_come_out_as_expected_is_told(story: Story) -> None:
    expectations = {"expect": "ACTIVE", "expectReason": "NOT_ELIGIBLE", "expectSteps": [2], "expectCheck": "PENDING"}
    good = case(story, expect="PENDING", expectSteps=[1], expectCheck="ALLOWED")

    answer = tried(story, story.policy(), case(story, **expectations), good)

    assert (answer.passed_count, answer.failed_count) == (1, 1)
    assert list(answer.results[0].differences) == [
        "expected ACTIVE, and it is PENDING",
        "expected the reason NOT_ELIGIBLE, and it is not refused",
        "expected steps 2, and they are 1",
        "expected a check to answer PENDING, and it answers ALLOWED",
    ]


def test_the_stored_policy_is_tested_where_no_draft_is_given(story: Story) -> None:
    stored = story.create_policy(steps=[])

    answer = story.must(story.admin, POLICIES + "TestPolicy", {"name": stored.name, "cases": [case(story)]})

    assert answer.results[0].outcome == Expect.ACTIVE
    absent = story.call(story.admin, POLICIES + "TestPolicy", {"name": "policies/nothing", "cases": [case(story)]})
    assert absent.reason == "POLICY_NOT_FOUND"


def test_a_case_is_judged_by_what_the_store_has_beside_the_draft(story: Story) -> None:
    deny = {"deny": True, "steps": None, "minDuration": None, "defaultDuration": None, "maxDuration": None}
    stored = story.create_policy("deny", **deny, requestTtl=None, eligible={"principals": [story.alice.principal]})
    draft = story.policy(steps=[])
    body = {"name": draft["name"], "policies": [draft], "cases": [case(story, expect="ACTIVE")]}

    denied = story.must(story.auditor, POLICIES + "TestPolicy", body)
    alone = story.must(story.auditor, POLICIES + "TestPolicy", body | {"prune": True})

    assert (denied.results[0].reason, denied.results[0].policy) == ("DENIED_BY_POLICY", stored.name)
    assert (denied.failed_count, alone.failed_count) == (1, 0)


def test_a_case_is_judged_by_every_draft_of_its_set(story: Story) -> None:
    slow, quick = story.policy("slow"), story.policy("quick", steps=[], priority=1)
    body = {"name": slow["name"], "policies": [slow, quick], "cases": [case(story, expect="PENDING")]}

    (result,) = story.must(story.auditor, POLICIES + "TestPolicy", body).results

    assert (result.policy, result.outcome, result.passed) == (quick["name"], Expect.ACTIVE, False)
    assert f"{quick['name']} is taken for it, and not {slow['name']}" in result.differences[-1]


BAD_CASES: list[tuple[str, dict[str, Any], str]] = [
    ("no principal", {"principal": ""}, "cases[0].principal"),
    ("a bad resource", {"resources": ["a//b"]}, "cases[0].resources[0]"),
    ("no address", {"sourceIp": "office"}, "cases[0].source_ip"),
    ("a signal that CEL cannot name", {"signals": {"In-cident": 1}}, "cases[0].signals.In-cident"),
    ("no such reason", {"expectReason": "BECAUSE"}, "cases[0].expect_reason"),
    ("a reason that cannot come here", {"expectReason": "TOO_MANY_ACTIVE"}, "cases[0].expect_reason"),
    ("no field of a request", {"expectField": "colour"}, "cases[0].expect_field"),
    ("no such answer", {"expectCheck": "YES"}, "cases[0].expect_check"),
    ("a control character", {"displayName": "a\u0007"}, "cases[0].display_name"),
]


@pytest.mark.parametrize(("changes", "field"), [row[1:] for row in BAD_CASES], ids=[row[0] for row in BAD_CASES])
def test_a_case_that_is_none_names_its_field(story: Story, changes: dict[str, Any], field: str) -> None:
    policy = story.policy()
    body = {"name": policy["name"], "policy": policy, "cases": [case(story, **changes)]}

    outcome = story.call(story.admin, POLICIES + "TestPolicy", body)

    assert outcome.fields == (field,), outcome


def test_a_draft_that_is_no_policy_names_its_field(story: Story) -> None:
    policy = story.policy(maxDuration=None)
    body = {"name": policy["name"], "policy": policy, "cases": [case(story)]}

    assert story.call(story.admin, POLICIES + "TestPolicy", body).fields == ("policy.max_duration",)
    body = {"name": "policies/other", "policy": story.policy(), "cases": [case(story)]}
    assert story.call(story.admin, POLICIES + "TestPolicy", body).fields == ("policy.name",)
    assert story.call(story.admin, POLICIES + "TestPolicy", {"name": "policies/other"}).fields == ("cases",)


@pytest.fixture(params=["grpc", "rest"])
def lone(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Story]:
    """A story on a service of its own, since a simulation sees everybody's history."""
    with running_world(tmp_path, Clock(), f"sqlite:///{tmp_path / 'jit.db'}") as world:
        yield Story(world, Grpc(world) if request.param == "grpc" else Rest(world))


def simulated(story: Story, *policies: dict[str, Any], **changes: Any) -> Any:
    story.world.clock.advance(timedelta(seconds=1))
    return story.must(story.auditor, POLICIES + "SimulatePolicies", {"policies": list(policies)} | changes)


def answers(answer: Any) -> list[tuple[str, str, str, str, str]]:
    return [
        (
            SimulatedChange.Kind.Name(change.kind),
            change.before,
            change.before_reason,
            change.after,
            change.after_reason,
        )
        for change in answer.changes
    ]


def test_the_same_policies_change_nothing(lone: Story) -> None:
    lone.create_policy(requestCondition="context.change == 'CHG-1'", justification={"required": True})
    why = {"context": {"change": "CHG-1"}, "justification": {"text": "repair"}}
    lone.granted(**why)
    lone.check()
    lone.check(action="rows.delete")
    lone.call(lone.dave, GRANTS + "RequestGrant", {"resources": [lone.resource], "actions": ["read"]} | why)
    lone.call(lone.alice, GRANTS + "RequestGrant", {"resources": [lone.resource], "actions": ["read"]})

    answer = simulated(lone)

    assert (answer.request_count, answer.check_count, answer.changed_count) == (3, 2, 0)


def test_a_draft_shows_which_answers_it_would_change(lone: Story) -> None:
    lone.create_policy()
    lone.granted()
    lone.check()
    lone.check(action="write")
    lone.call(lone.dave, GRANTS + "RequestGrant", {"resources": [lone.resource], "actions": ["read"]})

    everybody = simulated(lone, lone.policy(eligible={"principals": [lone.dave.principal]}))
    condition = simulated(lone, lone.policy(checkCondition="context.purpose == 'repair'", steps=[]))
    pruned = simulated(lone, lone.policy("other", resources=["database/other"]), prune=True)

    assert answers(everybody) == [
        ("REQUEST", "PENDING", "", "REFUSED", "NOT_ELIGIBLE"),
        ("CHECK", "ALLOWED", "", "DENIED", "NO_GRANT"),
        ("REQUEST", "REFUSED", "NOT_ELIGIBLE", "PENDING", ""),
    ]
    assert answers(condition) == [
        ("REQUEST", "PENDING", "", "ACTIVE", ""),
        ("CHECK", "ALLOWED", "", "DENIED", "CONDITION_ERROR"),
    ]
    assert answers(pruned)[0] == ("REQUEST", "PENDING", "", "REFUSED", "NOT_ELIGIBLE")
    assert condition.changes[1].subject == lone.alice.principal
    assert lone.audit(f"seq = {condition.changes[1].audit_event.partition('/')[2]}")[0].decision == "ALLOWED"


def test_signals_count_as_they_were(lone: Story) -> None:
    lone.create_policy()
    lone.signals("freeze", True, lasts=HOUR)
    lone.asks()
    lone.world.clock.advance(HOUR)
    lone.asks()

    answer = simulated(lone, lone.policy(requestCondition=f"!has(signals.freeze_{lone.id})"))

    assert answers(answer) == [("REQUEST", "PENDING", "", "REFUSED", "CONDITION_NOT_MET")]


def test_a_grant_counts_as_it_was_at_the_check(lone: Story) -> None:
    lone.create_policy()
    grant = lone.granted()
    lone.check()
    lone.must(lone.alice, GRANTS + "ReleaseGrant", {"name": grant.name})
    lone.check()
    deny = {"deny": True, "steps": None, "minDuration": None, "defaultDuration": None, "maxDuration": None}

    answer = simulated(lone, lone.policy("deny", **deny, requestTtl=None))

    assert answers(answer) == [
        ("REQUEST", "PENDING", "", "REFUSED", "DENIED_BY_POLICY"),
        ("CHECK", "ALLOWED", "", "DENIED", "DENIED_BY_POLICY"),
    ]


def test_a_check_is_simulated_by_where_its_subject_was(lone: Story) -> None:
    """Not by where its asker was, which is at 127.0.0.1 as well."""
    lone.create_policy(checkCondition="context.source_ip == '192.0.2.7'")
    lone.granted()
    lone.check(context={"source_ip": "192.0.2.7"})
    lone.check(lone.alice)
    lone.check()

    same = simulated(lone, lone.policy(checkCondition="context.source_ip == '192.0.2.7'"))
    answer = simulated(lone, lone.policy(checkCondition="context.source_ip == '127.0.0.1'"))

    assert answers(same) == []
    assert answers(answer) == [
        ("CHECK", "ALLOWED", "", "DENIED", "CONDITION_NOT_MET"),
        ("CHECK", "DENIED", "CONDITION_NOT_MET", "ALLOWED", ""),
    ]


def test_break_glass_and_what_was_passed_on_are_simulated(lone: Story) -> None:
    rule = {"eligible": {"groups": [lone.engineers]}, "maxDuration": "600s", "reviewWithin": "600s"}
    lone.create_policy(breakGlass=rule, maxChildDepth=1)
    grant = lone.asks(breakGlass=True, justification={"text": "fire"})
    job = f"service:job-{lone.id}"
    lone.asks(parent=grant.name, subject=job)
    lone.check(subject=job)

    answer = simulated(lone, lone.policy(breakGlass=rule))
    without = simulated(lone, lone.policy(maxChildDepth=1))

    assert answers(answer) == [("CHECK", "ALLOWED", "", "DENIED", "NO_GRANT")]
    assert answers(without) == [
        ("REQUEST", "ACTIVE", "", "REFUSED", "NOT_ELIGIBLE"),
        ("CHECK", "ALLOWED", "", "DENIED", "NO_GRANT"),
    ]


def test_the_window_is_half_open_and_what_is_left_out_is_said(lone: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    from jit_service.use_cases import simulation

    lone.create_policy()
    start = lone.world.clock()
    for _ in range(4):
        lone.asks()
        lone.world.clock.advance(timedelta(minutes=1))
    draft = lone.policy(steps=[])

    def text(minutes: int) -> str:
        return (start + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")

    some = simulated(lone, draft, startTime=text(1), endTime=text(3))
    few = simulated(lone, draft, maxChanges=1)
    monkeypatch.setattr(simulation, "MAX_EVENTS", 3)
    cut = simulated(lone, draft)

    assert some.request_count == 2
    assert (few.changed_count, len(few.changes)) == (4, 1)
    assert (cut.request_count, cut.HasField("truncate_time")) == (3, True)
    assert not some.HasField("truncate_time")


def test_a_simulation_is_followed_to_its_result(lone: Story) -> None:
    lone.create_policy()
    lone.granted()
    lone.check()
    draft = lone.policy(steps=[], eligible={"principals": [lone.dave.principal]})
    whole = simulated(lone, draft)

    with simulating(lone, lone.auditor, policies=[draft]) as told:
        first, *_, last = list(told)

    assert (first.judged_count, first.event_count, first.HasField("result")) == (0, 0, False)
    assert (last.judged_count, last.event_count, last.result.changed_count) == (2, 2, 2)
    assert last.result == whole


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"maxChanges": 1001}, "max_changes"),
        ({"startTime": "2026-03-02T12:00:00Z", "endTime": "2026-03-02T12:00:00Z"}, "start_time"),
        ({"policies": [{"name": "policies/x"}]}, "policies[0].eligible"),
    ],
)
def test_a_bad_simulation_names_its_field(story: Story, changes: dict[str, Any], field: str) -> None:
    assert story.call(story.admin, POLICIES + "SimulatePolicies", changes).fields[0] == field


def test_a_bad_simulation_is_not_followed(lone: Story) -> None:
    with pytest.raises((Refused, grpc.RpcError), match="1001"), simulating(lone, lone.admin, maxChanges=1001) as told:
        next(told)


@pytest.fixture(scope="module")
def dual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A service under dual control."""
    directory = tmp_path_factory.mktemp("dual")
    url = f"sqlite:///{directory / 'jit.db'}"
    with running_world(directory, Clock(), url, policies_dual_control=True) as world:
        yield world


@pytest.fixture(params=["grpc", "rest", "cli"])
def controlled(request: pytest.FixtureRequest, dual: World) -> Story:
    surfaces = {"grpc": Grpc, "rest": Rest, "cli": Cli}
    return Story(dual, surfaces[request.param](dual))


def beside(story: Story) -> Story:
    """The same story over gRPC, for what is looked up."""
    return Story(story.world, Grpc(story.world), story.id)


def second(story: Story) -> Any:
    """Another admin."""
    return type(story.admin)(f"user:second-{story.id}@example.com", roles=story.admin.roles)


def applies(story: Story, *policies: dict[str, Any], **changes: Any) -> Any:
    return story.must(story.admin, POLICIES + "ApplyPolicies", {"policies": list(policies)} | changes)


def policy_of(story: Story) -> Outcome:
    name = f"policies/p{story.id}-write"
    return Grpc(story.world).call(POLICIES + "GetPolicy", {"name": name}, token=story.world.token(story.admin))


def test_a_change_waits_for_another_admin(controlled: Story) -> None:
    applied = applies(controlled, controlled.policy(), comment="orders go live")
    name = applied.proposal
    waiting = controlled.must(controlled.auditor, POLICIES + "GetPolicyProposal", {"name": name})
    own = controlled.call(controlled.admin, POLICIES + "ApprovePolicyProposal", {"name": name})

    assert policy_of(controlled).reason == "POLICY_NOT_FOUND"
    assert (waiting.state, waiting.comment) == (PolicyProposal.PENDING, "orders go live")
    assert waiting.changes[0].change_type == PolicyChange.CREATED
    assert own.reason == "SELF_APPROVAL"

    approved = controlled.must(
        second(controlled), POLICIES + "ApprovePolicyProposal", {"name": name, "comment": "looks right"}
    )

    assert (approved.state, approved.decided_by) == (PolicyProposal.APPROVED, second(controlled).principal)
    assert policy_of(controlled).code == "OK"
    records = [record for record in beside(controlled).audit("seq > 0") if record.proposal == name]
    assert [EventType(record.EventType.Name(record.event_type)) for record in records] == [
        EventType.POLICIES_PROPOSED,
        EventType.PROPOSAL_APPROVED,
        EventType.POLICY_CREATED,
    ]


def test_a_proposal_that_is_rejected_changes_nothing(controlled: Story) -> None:
    name = applies(controlled, controlled.policy()).proposal

    rejected = controlled.must(controlled.admin, POLICIES + "RejectPolicyProposal", {"name": name, "comment": "no"})

    assert (rejected.state, rejected.decide_comment) == (PolicyProposal.REJECTED, "no")
    late = controlled.call(second(controlled), POLICIES + "ApprovePolicyProposal", {"name": name})
    assert (late.reason, policy_of(controlled).reason) == ("WRONG_STATE", "POLICY_NOT_FOUND")


def test_a_proposal_lapses(controlled: Story) -> None:
    name = applies(controlled, controlled.policy()).proposal
    controlled.world.clock.advance(timedelta(days=3))

    late = controlled.call(second(controlled), POLICIES + "ApprovePolicyProposal", {"name": name})
    sweeper.record_run_out(controlled.world.service.store)
    sweeper.record_run_out(controlled.world.service.store)

    assert late.reason == "WRONG_STATE"
    lapsed = controlled.must(controlled.auditor, POLICIES + "GetPolicyProposal", {"name": name})
    assert lapsed.state == PolicyProposal.LAPSED
    assert len([r for r in beside(controlled).audit("event_type = PROPOSAL_LAPSED") if r.proposal == name]) == 1


def test_a_proposal_is_stale_once_its_policies_have_changed(controlled: Story) -> None:
    first = applies(controlled, controlled.policy()).proposal
    other = applies(controlled, controlled.policy(priority=7)).proposal
    controlled.must(second(controlled), POLICIES + "ApprovePolicyProposal", {"name": first})

    stale = controlled.call(second(controlled), POLICIES + "ApprovePolicyProposal", {"name": other})

    assert stale.reason == "STALE_PLAN"
    assert policy_of(controlled).message.priority == 0


def test_the_same_set_proposed_again_is_the_same_proposal(controlled: Story) -> None:
    name = applies(controlled, controlled.policy()).proposal

    assert applies(controlled, controlled.policy()).proposal == name
    controlled.must(second(controlled), POLICIES + "ApprovePolicyProposal", {"name": name})
    assert applies(controlled, controlled.policy()).proposal == ""


def test_under_dual_control_nothing_is_written_directly(dual: World) -> None:
    story = Story(dual, Grpc(dual))
    policy = story.policy()
    direct = {
        "CreatePolicy": {"policy": policy},
        "UpdatePolicy": {"policy": {"name": policy["name"], "priority": 1}},
        "DeletePolicy": {"name": policy["name"]},
    }

    for method, body in direct.items():
        outcome = story.call(story.admin, POLICIES + method, body)
        assert (outcome.code, outcome.reason) == ("FAILED_PRECONDITION", "DUAL_CONTROL_REQUIRED"), method


def test_proposals_are_listed_newest_first(dual: World) -> None:
    story = Story(dual, Rest(dual))
    names = []
    for priority in range(3):
        dual.clock.advance(timedelta(seconds=1))
        names.append(applies(story, story.policy(priority=priority)).proposal)

    first = story.must(story.auditor, POLICIES + "ListPolicyProposals", {"pageSize": 2})
    rest = story.must(
        story.auditor, POLICIES + "ListPolicyProposals", {"pageSize": 2, "pageToken": first.next_page_token}
    )

    assert [found.name for found in (*first.policy_proposals, *rest.policy_proposals)][:3] == names[::-1]


def test_proposals_of_one_instant_are_listed_newest_first(dual: World) -> None:
    story = Story(dual, Rest(dual))
    names = [applies(story, story.policy(priority=priority)).proposal for priority in range(6)]

    listed = story.must(story.auditor, POLICIES + "ListPolicyProposals", {"pageSize": 6}).policy_proposals

    assert [found.name for found in listed] == names[::-1]


def test_an_approval_sent_again_is_the_same_approval(dual: World) -> None:
    story = Story(dual, Grpc(dual))
    name = applies(story, story.policy()).proposal
    body = {"name": name, "requestId": f"3f0e8c4e-3a52-4a7e-9f0d-{story.id}"}

    first = story.must(second(story), POLICIES + "ApprovePolicyProposal", body)

    assert story.must(second(story), POLICIES + "ApprovePolicyProposal", body) == first


def test_a_stale_etag_of_a_proposal_is_refused(dual: World) -> None:
    story = Story(dual, Grpc(dual))
    name = applies(story, story.policy()).proposal
    body = {"name": name, "etag": '"other"'}

    assert story.call(second(story), POLICIES + "ApprovePolicyProposal", body).reason == "STALE_ETAG"
    assert story.call(second(story), POLICIES + "RejectPolicyProposal", body).reason == "STALE_ETAG"


def test_the_start_up_file_is_applied_once_and_then_proposed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jit.db'}"
    with running_world(tmp_path, Clock(), url, policies_dual_control=True) as world:
        story = Story(world, Grpc(world))
        file = tmp_path / "policies.yaml"
        file.write_text(yaml.safe_dump({"policies": [story.policy()]}))
        world.service.apply_policies(file)
        assert policy_of(story).message.priority == 0

        file.write_text(yaml.safe_dump({"policies": [story.policy(priority=5)]}))
        world.service.apply_policies(file)
        world.service.apply_policies(file)

        assert policy_of(story).message.priority == 0
        (proposal,) = story.must(story.auditor, POLICIES + "ListPolicyProposals", {}).policy_proposals
        assert proposal.proposer == "service:jit-service"
        story.must(story.admin, POLICIES + "ApprovePolicyProposal", {"name": proposal.name})
        assert policy_of(story).message.priority == 5
