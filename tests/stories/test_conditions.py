"""Conditions and signals, the same over gRPC and REST."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from jitaccess.v1.access_pb2 import CheckAccessResponse
from jitaccess.v1.grant_pb2 import Grant, GrantExtension
from tests.conftest import HOUR, TICK
from tests.world import ACCESS, GRANTS, POLICIES, SIGNALS, Story

Reason = CheckAccessResponse.Reason
TEN = "[1,2,3,4,5,6,7,8,9,10]"
OVERRUN = f"{TEN}.all(a, {TEN}.all(b, {TEN}.all(c, {TEN}.all(d, {TEN}.all(e, a > 0)))))"


def asks(story: Story, **changes: Any) -> Any:
    body = {"resources": [story.resource], "actions": ["read"]} | changes
    return story.call(story.alice, GRANTS + "RequestGrant", body)


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ('context.source_ip.inCidr("127.0.0.0/8")', ""),
        ('context.source_ip.inCidr("10.0.0.0/8")', "CONDITION_NOT_MET"),
        ('context.source_ip.inCidr("nonsense")', "CONDITION_ERROR"),
        ("context.build == 42", ""),
        ("context.missing == 42", "CONDITION_ERROR"),
        ('"admins" in groups', "CONDITION_NOT_MET"),
        ("context.text", "CONDITION_ERROR"),
        ("context.truth", ""),
        ('claims.iss.startsWith("https://")', ""),
        ("claims.amr == ['mfa']", "CONDITION_ERROR"),
        ("duration <= duration('2h')", ""),
        ("duration <= duration('10m')", "CONDITION_NOT_MET"),
        ("resource.startsWith('database/') && action == 'read'", ""),
        ("size(resources) == 1 && actions == ['read']", ""),
        ("subject == principal", ""),
        ("now.getHours('Europe/Berlin') >= 0", ""),
        ("now.getHours('Nowhere/Land') >= 0", "CONDITION_ERROR"),
        ("1 / 0 == 1", "CONDITION_ERROR"),
        (
            OVERRUN,
            "CONDITION_ERROR",
        ),
    ],
)
def test_a_request_passes_only_while_its_condition_is_true(story: Story, condition: str, reason: str) -> None:
    story.create_policy(requestCondition=condition)

    outcome = asks(story, context={"build": 42, "text": "true", "truth": True})

    assert outcome.reason == reason, outcome
    assert outcome.code == ("PERMISSION_DENIED" if reason else "OK")


def test_a_check_passes_only_while_its_condition_is_true(story: Story) -> None:
    story.create_policy(checkCondition="context.purpose == 'repair'")
    story.granted()

    assert story.check(context={"purpose": "repair"}).allowed
    assert story.check(context={"purpose": "browsing"}).reason == Reason.CONDITION_NOT_MET
    missing = story.check()
    assert (missing.allowed, missing.reason) == (False, Reason.CONDITION_ERROR)
    assert "purpose" in missing.message


def test_whoever_asks_about_itself_is_where_the_trusted_hop_saw_it(story: Story) -> None:
    story.create_policy(checkCondition='context.source_ip == "127.0.0.1"')
    story.granted()

    assert story.check(story.alice).allowed
    asserted = story.question(context={"source_ip": "127.0.0.1"})
    assert story.call(story.alice, ACCESS + "CheckAccess", asserted).fields == ("context.source_ip",)


def test_a_condition_never_sees_the_askers_address_as_the_subjects(story: Story) -> None:
    """The gateway is at 127.0.0.1; where alice is, nobody told."""
    story.create_policy(checkCondition='context.source_ip.inCidr("127.0.0.0/8")')
    story.granted()

    answer = story.check()
    (item,) = story.must(story.gateway, ACCESS + "BatchCheckAccess", {"items": [story.question()]}).results
    found = story.must(story.gateway, ACCESS + "SearchAccess", {"action": "read", "resource": story.resource}).found

    assert (answer.allowed, answer.reason) == (False, Reason.CONDITION_ERROR)
    assert (item.allowed, item.reason) == (False, Reason.CONDITION_ERROR)
    assert list(found) == []


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("10.1.2.3", Reason.ALLOWED),
        ("::ffff:10.1.2.3", Reason.ALLOWED),
        ("192.0.2.7", Reason.CONDITION_NOT_MET),
        ("2001:db8::1", Reason.CONDITION_NOT_MET),
        (None, Reason.CONDITION_ERROR),
    ],
)
def test_where_another_subject_is_a_checker_says(story: Story, told: str | None, reason: Any) -> None:
    story.create_policy(checkCondition='context.source_ip.inCidr("10.0.0.0/8")')
    story.granted()
    context = {"source_ip": told} if told else {}
    side = {"action": "read", "resource": story.resource, "context": context}

    # One after the other, so that each would have the answer that was kept for the one before.
    answers = [story.check(context=given) for given in (context, {"source_ip": "10.9.9.9"}, context)]
    (item,) = story.must(
        story.gateway, ACCESS + "BatchCheckAccess", {"items": [story.question(context=context)]}
    ).results
    found = story.must(story.gateway, ACCESS + "SearchAccess", side).found

    assert [answer.reason for answer in answers] == [reason, Reason.ALLOWED, reason]
    assert item.reason == reason
    assert [one.name for one in found] == ([story.alice.principal] if reason == Reason.ALLOWED else [])


@pytest.mark.parametrize(
    "told", ["", "office", "10.0.0.0/8", "10.1.2.3:80", "fe80::1%eth0", "0x0a000001", 7, None, True, ["10.1.2.3"], {}]
)
def test_what_is_no_address_is_refused_as_that(story: Story, told: Any) -> None:
    asked = story.question(context={"source_ip": told})

    refused = story.call(story.gateway, ACCESS + "CheckAccess", asked)
    (item,) = story.must(story.gateway, ACCESS + "BatchCheckAccess", {"items": [asked]}).results
    side = {"action": "read", "resource": story.resource, "context": {"source_ip": told}}
    sought = story.call(story.gateway, ACCESS + "SearchAccess", side)

    assert (refused.code, refused.fields) == ("INVALID_ARGUMENT", ("context.source_ip",))
    assert (item.allowed, item.error.code) == (False, 3)
    assert sought.fields == ("context.source_ip",)


def test_to_say_where_somebody_is_needs_the_role_checker(story: Story) -> None:
    asked = story.question(context={"source_ip": "10.1.2.3"})

    assert story.call(story.bob, ACCESS + "CheckAccess", asked).reason == "ROLE_REQUIRED"


def test_a_checker_that_searches_is_itself_where_it_was_seen(story: Story) -> None:
    """What it says of others does not move it there."""
    story.create_policy(
        checkCondition='context.source_ip.inCidr("10.0.0.0/8")',
        eligible={"principals": [story.gateway.principal]},
    )
    story.approves(story.bob, story.asks(story.gateway))
    body = {"action": "read", "resource": story.resource, "context": {"source_ip": "10.1.2.3"}}

    assert list(story.must(story.gateway, ACCESS + "SearchAccess", body).found) == []


def test_the_record_has_the_askers_address_and_the_subjects(story: Story) -> None:
    told = {"context": {"source_ip": "::ffff:10.1.2.3", "ticket": "T-1"}}
    story.check(**told)
    story.must(story.gateway, ACCESS + "BatchCheckAccess", {"items": [story.question(**told)]})
    story.must(story.gateway, ACCESS + "SearchAccess", {"action": "read", "resource": story.resource, **told})
    story.check()
    story.check(story.alice)

    checks = story.audit(f'resources:"{story.resource}"')

    assert {event.source_address for event in checks} == {"127.0.0.1"}
    assert [event.subject_source_ip for event in checks] == ["10.1.2.3", "10.1.2.3", "10.1.2.3", "", "127.0.0.1"]
    assert dict(checks[0].context) == {"ticket": "T-1"}
    found = story.audit(f'resources:"{story.resource}" AND subject_source_ip = "10.1.2.3"')
    assert [event.seq for event in found] == [event.seq for event in checks[:3]]


def test_whoever_left_a_group_is_let_in_by_it_no_more(story: Story) -> None:
    """Over checks, counted checks and searches; what it once said of itself does not outlive its next token."""
    story.create_policy(checkCondition=f'"oncall-{story.id}" in groups')
    story.create_policy("counted", checkCondition=f'"oncall-{story.id}" in groups', maxUses=100, priority=1)
    on_call = replace(story.alice, groups=(*story.alice.groups, f"oncall-{story.id}"))
    for policy in ("write", "counted"):
        grant = story.approves(story.bob, story.asks(on_call, policy=f"policies/p{story.id}-{policy}"))
        assert story.check(on_call).allowed

        left = story.check(story.alice)
        side = {"subject": story.alice.principal, "action": "read"}
        found = [story.must(person, ACCESS + "SearchAccess", side).found for person in (on_call, story.alice)]

        assert (left.allowed, left.reason) == (False, Reason.CONDITION_NOT_MET)
        assert [len(names) for names in found] == [1, 0]
        # Nobody proves by a checker's question where she is now.
        assert story.check().allowed
        story.must(story.alice, GRANTS + "ReleaseGrant", {"name": grant.name})


def test_a_steps_condition_says_who_of_its_approvers_may_decide(story: Story) -> None:
    """Not of the requester's own team; the inbox, a dry run and the policy's author are told the same."""
    team, other = f"team-{story.id}-red", f"team-{story.id}-blue"
    text = "!reviewer.groups.exists(group, group.startsWith('team-') && group in groups)"
    owners = {"groups": [story.owners]}
    story.create_policy(steps=[{"approvers": owners, "condition": text}])
    alice = replace(story.alice, groups=(*story.alice.groups, team))
    bob = replace(story.bob, groups=(*story.bob.groups, team))
    ben = replace(story.ben, groups=(*story.ben.groups, other))
    body = {"resources": [story.resource], "actions": ["read"]}

    grant = story.must(alice, GRANTS + "RequestGrant", body)
    refused = [
        story.call(bob, GRANTS + method, {"name": grant.name, "comment": "x"} | more)
        for method, more in (("ApproveGrant", {}), ("DenyGrant", {}), ("CounterGrant", {"duration": "600s"}))
    ]
    inbox = [story.must(person, GRANTS + "ListGrants", {"view": "REVIEWABLE"}).grants for person in (bob, ben)]
    dry = story.must(alice, GRANTS + "RequestGrant", body | {"validateOnly": True})

    assert [outcome.reason for outcome in refused] == ["NOT_APPROVER"] * 3
    assert [[found.name for found in grants] for grants in inbox] == [[], [grant.name]]
    assert [step.condition for step in dry.preview.steps] == [text]
    assert story.approves(ben, grant).state == Grant.ACTIVE
    for field in ("requestCondition", "checkCondition"):
        outcome = story.call(story.admin, POLICIES + "CreatePolicy", {"policy": story.policy("bad", **{field: text})})
        snake = field.replace("C", "_c")
        assert outcome.fields == (f"policy.{snake}",), outcome


def test_what_was_true_of_a_reviewer_is_kept_with_its_approval(story: Story) -> None:
    text = "reviewer.claims.sub == reviewer.principal"
    steps = [{"approvers": {"groups": [story.owners]}, "approvalsNeeded": 2, "condition": text}]
    policy = story.create_policy(steps=steps)
    grant = story.approves(story.bob, story.asks())
    story.must(story.admin, POLICIES + "UpdatePolicy", {"policy": {"name": policy.name, "priority": 1}})

    assert story.approves(story.ben, grant).state == Grant.ACTIVE

    other = story.approves(story.bob, story.asks(story.alice, actions=["write"]))
    changed = {"name": policy.name, "steps": [steps[0] | {"condition": f"{text} && true"}]}
    story.must(story.admin, POLICIES + "UpdatePolicy", {"policy": changed})
    assert story.approves(story.ben, other).state == Grant.PENDING


def test_access_only_while_a_signal_is_set(story: Story) -> None:
    name = f"incident_{story.id}"
    story.create_policy(checkCondition=f"signals.{name} == 'on'")
    story.granted(duration="14400s")
    assert story.check().reason == Reason.CONDITION_ERROR

    story.signals("incident", "on", lasts=HOUR)
    assert story.check().allowed

    story.signals("incident", "off", lasts=HOUR)
    assert story.check().reason == Reason.CONDITION_NOT_MET

    story.signals("incident", "on", lasts=HOUR)
    story.world.clock.advance(HOUR - TICK)
    assert story.check().allowed
    story.world.clock.advance(TICK)
    assert story.check().reason == Reason.SIGNAL_STALE

    story.must(story.admin, SIGNALS + "DeleteSignal", {"name": f"signals/{name}"})
    assert story.check().reason == Reason.CONDITION_ERROR


@pytest.mark.parametrize("value", ["on", True, 5, 2.5, ["a", 1], {"level": {"n": 3}}])
def test_a_signal_holds_any_value(story: Story, value: Any) -> None:
    signal = story.signals("level", value)

    read = story.must(story.auditor, SIGNALS + "GetSignal", {"name": signal.name})

    assert MessageToDict(read)["value"] == value
    assert not read.stale
    assert read.setter == story.admin.principal
    assert signal.name in [
        found.name for found in story.must(story.admin, SIGNALS + "ListSignals", {"pageSize": 1000}).signals
    ]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "signals/Bad-Name"}, "signal.name"),
        ({"value": None}, "signal.value"),
        ({"value": "x" * 4096}, "signal.value"),
        ({"expireTime": None}, "signal.expire_time"),
        ({"expireTime": "2020-01-01T00:00:00Z"}, "signal.expire_time"),
        ({"expireTime": "9999-01-01T00:00:00Z"}, "signal.expire_time"),
    ],
)
def test_a_bad_signal_names_its_field(story: Story, changes: dict[str, Any], field: str) -> None:
    later = (story.world.clock() + HOUR).isoformat().replace("+00:00", "Z")
    signal = {"name": f"signals/s{story.id}", "value": "on", "expireTime": later} | changes
    signal = {key: value for key, value in signal.items() if value is not None}

    assert story.call(story.admin, SIGNALS + "SetSignal", {"signal": signal}).fields == (field,)


def test_signals_are_for_admins_to_set_and_on_record(story: Story) -> None:
    signal = story.signals("freeze", "on")
    again = {"name": signal.name, "value": "off", "expireTime": "2030-01-01T00:00:00Z", "etag": "0"}

    assert story.call(story.auditor, SIGNALS + "SetSignal", {"signal": again}).reason == "ROLE_REQUIRED"
    assert story.call(story.alice, SIGNALS + "ListSignals", {}).reason == "ROLE_REQUIRED"
    assert story.call(story.admin, SIGNALS + "SetSignal", {"signal": again}).reason == "STALE_ETAG"
    (record,) = story.audit(f'event_type = SIGNAL_SET AND principal = "{story.admin.principal}"')
    assert (record.signal, record.message) == (signal.name, '"on"')


def test_a_step_is_needed_only_where_its_condition_holds(story: Story) -> None:
    long = {"approvers": {"groups": [story.security]}, "condition": "duration > duration('1h')"}
    story.create_policy(steps=[{"approvers": {"groups": [story.owners]}}, long])

    short_grant = story.approves(story.bob, story.asks(duration="3600s"))
    long_grant = story.approves(story.bob, story.asks(duration="3601s"))

    assert short_grant.state == Grant.ACTIVE
    assert [step.skipped for step in short_grant.steps] == [False, True]
    assert long_grant.state == Grant.PENDING
    assert story.approves(story.carol, long_grant).state == Grant.ACTIVE


def test_where_no_step_is_needed_it_is_approved_at_once(story: Story) -> None:
    step = {"approvers": {"groups": [story.owners]}, "condition": "actions.exists(a, a == 'write')"}
    story.create_policy(steps=[step])

    assert story.asks(actions=["read"]).state == Grant.ACTIVE
    assert story.asks(actions=["write"]).state == Grant.PENDING


def test_a_step_whose_condition_fails_refuses(story: Story) -> None:
    step = {"approvers": {"groups": [story.owners]}, "condition": "context.risk > 3"}
    story.create_policy(steps=[step])

    assert asks(story).reason == "CONDITION_ERROR"


def test_conditions_are_judged_again_at_the_approval(story: Story) -> None:
    story.create_policy(requestCondition=f"has(signals.window_{story.id})")
    story.signals("window", True)
    grant = story.asks()
    story.world.clock.advance(2 * HOUR)

    refused = story.call(story.bob, GRANTS + "ApproveGrant", {"name": grant.name})

    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "POLICY_NO_LONGER_ALLOWS")


def test_live_grants_keep_the_check_condition_they_were_given_under(story: Story) -> None:
    policy = story.create_policy(checkCondition="true")
    story.granted()
    changed = {"policy": {"name": policy.name, "checkCondition": "false"}, "updateMask": "checkCondition"}
    story.must(story.admin, POLICIES + "UpdatePolicy", changed)

    assert story.check().allowed
    story.granted()
    assert story.check().allowed


def test_more_time_is_given_under_the_check_condition_and_limits_of_now(story: Story) -> None:
    """Seen: a grant that was extended after the policy had been tightened went on without the condition, uncounted."""
    policy = story.create_policy(extension={"maxExtensions": 1, "maxTotalDuration": "28800s"})
    grant = story.granted()
    condition = f"signals.incident_{story.id} == 'on'"
    changed = {"name": policy.name, "checkCondition": condition, "maxUses": 1}
    story.must(story.admin, POLICIES + "UpdatePolicy", {"policy": changed, "updateMask": "checkCondition,maxUses"})

    asked = story.must(story.alice, GRANTS + "ExtendGrant", {"name": grant.name, "duration": "3600s"})
    before = story.check()
    given = story.approves(story.bob, asked, etag=asked.etag)

    assert before.allowed
    assert (asked.policy_revision, asked.max_uses) == (grant.policy_revision, 0)
    assert given.policy_revision > grant.policy_revision
    assert (given.extension.state, given.max_uses) == (GrantExtension.APPROVED, 1)
    assert story.check().reason == Reason.CONDITION_ERROR
    story.signals("incident", "on")
    assert [story.check().reason for _ in range(2)] == [Reason.ALLOWED, Reason.USES_EXHAUSTED]


def test_a_dry_run_says_what_would_become_of_it_and_changes_nothing(story: Story) -> None:
    steps = [
        {"displayName": "owners", "approvers": {"groups": [story.owners]}},
        {
            "displayName": "named",
            "approvers": {"principals": [story.alice.principal, story.carol.principal]},
            "approvalsNeeded": 1,
        },
    ]
    policy = story.create_policy(steps=steps)

    answer = asks(story, validateOnly=True).message

    assert (answer.name, answer.state, answer.policy) == ("", Grant.PENDING, policy.name)
    assert answer.preview.satisfiable
    owners, named = answer.preview.steps
    assert list(owners.approvers.groups) == [story.owners]
    assert list(named.approvers.principals) == [story.carol.principal]
    assert list(named.excluded) == [story.alice.principal]
    assert not story.must(story.alice, GRANTS + "ListGrants", {}).grants
    assert not story.audit(f'event_type = GRANT_REQUESTED AND principal = "{story.alice.principal}"')


def test_a_dry_run_of_what_nobody_could_approve_names_the_shortfall(story: Story) -> None:
    people = [story.alice.principal, story.bob.principal]
    steps = [{"approvers": {"principals": people}}, {"approvers": {"principals": people}}]
    story.create_policy(steps=steps)

    preview = asks(story, validateOnly=True).message.preview

    assert not preview.satisfiable
    assert preview.shortfall.startswith("1 more approver")
    refused = asks(story)
    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "UNSATISFIABLE")


def test_ensure_answers_what_is_there(story: Story) -> None:
    story.create_policy()

    def ensure(**changes: Any) -> Any:
        body = {"resources": [story.resource], "actions": ["read"]} | changes
        return story.must(story.alice, GRANTS + "EnsureGrant", body)

    asked = ensure(duration="3600s")
    assert ensure(duration="3600s").name == asked.name
    assert ensure(actions=["write"]).name != asked.name

    active = story.approves(story.bob, asked)
    assert ensure().name == active.name
    assert ensure(resources=[f"database/{story.id}/**"]).name != active.name

    assert ensure(duration="3601s").name != active.name

    story.world.clock.advance(timedelta(hours=1))
    assert ensure().name != active.name


def test_ensure_does_not_answer_another_persons_grant(story: Story) -> None:
    story.create_policy()
    story.granted()

    body = {"resources": [story.resource], "actions": ["read"]}
    mine = story.must(story.bob, GRANTS + "EnsureGrant", body)

    assert mine.subject == story.bob.principal


def test_revoking_widely_takes_a_plan_and_does_just_that(story: Story) -> None:
    story.create_policy()
    ended = {
        story.granted(resources=[f"database/{story.id}/{place}/**"], labels={"team": "a"}).name
        for place in ("eu", "eu/x", "us")
    }
    other = story.granted(labels={"team": "b"})
    pending = story.asks(labels={"team": "a"})
    selector = {"subject": story.alice.principal, "labels": {"team": "a"}}

    plan = story.must(story.admin, GRANTS + "RevokeGrants", selector)
    assert (plan.count, plan.executed) == (3, False)
    assert {grant.name for grant in plan.sample} == ended
    assert story.must(story.alice, GRANTS + "GetGrant", {"name": other.name}).state == Grant.ACTIVE

    assert story.call(story.admin, GRANTS + "RevokeGrants", selector | {"planId": plan.plan_id}).fields == ("comment",)
    execute = selector | {"planId": plan.plan_id, "comment": "leak"}
    done = story.must(story.admin, GRANTS + "RevokeGrants", execute)

    assert (done.count, done.executed) == (3, True)
    states = {grant.name: grant.state for grant in story.must(story.alice, GRANTS + "ListGrants", {}).grants}
    assert states == dict.fromkeys(ended, Grant.REVOKED) | {other.name: Grant.ACTIVE, pending.name: Grant.PENDING}
    mine = f'principal = "{story.admin.principal}"'
    assert len(story.audit(f"event_type = GRANT_REVOKED AND {mine}")) == 3
    (act,) = story.audit(f"event_type = GRANTS_REVOKED AND {mine}")
    assert act.message == "3 grants: leak"


@pytest.mark.parametrize(
    ("resource", "count"),
    [
        *[("eu", 2), ("eu/x", 2), ("us", 1), ("eu/x/deeper", 2), ("asia", 0), ("", 3), ("**", 3)],
        *[("e*", 2), ("u*", 1), ("e*/x", 2), ("*/y", 1), ("a*/**", 0)],
    ],
)
def test_a_resource_selects_what_reaches_into_it(story: Story, resource: str, count: int) -> None:
    story.create_policy()
    for place in ("eu/**", "eu/x/*", "us"):
        story.granted(resources=[f"database/{story.id}/{place}"])
    prefix = f"database/{story.id}/{resource}".rstrip("/")

    assert story.must(story.admin, GRANTS + "RevokeGrants", {"resource": prefix}).count == count


def test_revoking_widely_is_for_admins_and_needs_a_selector(story: Story) -> None:
    everything = {"subject": story.alice.principal}

    assert story.call(story.alice, GRANTS + "RevokeGrants", everything).reason == "ROLE_REQUIRED"
    assert story.call(story.bob, GRANTS + "RevokeGrants", everything).reason == "ROLE_REQUIRED"
    assert story.call(story.admin, GRANTS + "RevokeGrants", {}).fields == ("subject",)
    for nothing in ("/**", "**", "database/", "database/a*b"):
        assert story.call(story.admin, GRANTS + "RevokeGrants", {"resource": nothing}).fields == ("resource",)
