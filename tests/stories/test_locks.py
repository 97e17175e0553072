"""Somebody is switched off: every call, check, review, token and stream of theirs, over gRPC and REST, at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import grpc
import jwt
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message_factory import GetMessageClass

from jit_service.domain import errors
from jit_service.domain.caller import Role
from jit_service.rpc.authorization import RULES
from jit_service.runtime import sweeper
from tests.conftest import HOUR, TICK
from tests.stories import test_tokens as tokens_told
from tests.stories.streams import tailing, watching
from tests.world import (
    ACCESS,
    DELEGATIONS,
    GRANTS,
    LOCKS,
    POLICIES,
    TOKENS,
    Outcome,
    Person,
    Story,
    _descriptor_of,
    form,
    of_error,
)

ALLOWED, LOCKED = 1, 13


@contextmanager
def locked(story: Story, person: Person | None = None, **lock: Any) -> Iterator[Any]:
    """Locks for a time: a lock on a group reaches every grant of the world whose holder's groups nobody knows."""
    made = story.locks(person, **lock)
    try:
        yield made
    finally:
        story.call(story.responder, LOCKS + "DeleteLock", {"name": made.name})


def refused(story: Story, person: Person, method: str, body: dict[str, Any]) -> bool:
    outcome = story.call(person, method, body)
    return (outcome.code, outcome.reason) == ("PERMISSION_DENIED", "LOCKED")


def instant(story: Story, span: timedelta) -> str:
    return (story.world.clock() + span).isoformat().replace("+00:00", "Z")


def job(story: Story) -> str:
    return f"service:job-{story.id}"


def asked_for(story: Story) -> dict[str, Any]:
    return {"resources": [story.resource], "actions": ["read"]}


def test_one_act_ends_all_that_a_leaver_has_and_keeps_them_out(story: Story) -> None:
    """As when somebody leaves the company at ten past nine."""
    story.create_policy(maxChildDepth=1)
    story.create_policy(
        "zz-other", steps=[{"approvers": {"principals": [story.alice.principal]}, "approvalsNeeded": 1}]
    )
    active, pending = story.granted(), story.asks()
    scheduled = story.granted(startTime=instant(story, HOUR))
    child = story.asks(parent=active.name, subject=job(story))
    token = tokens_told.issue(story, active).token
    lent = story.must(
        story.alice,
        DELEGATIONS + "CreateDelegation",
        {"delegation": {"delegate": story.carol.principal, "expireTime": instant(story, HOUR)}},
    )
    for_alice_to_approve = story.asks(story.bob, policy=f"policies/p{story.id}-zz-other")

    with locked(story, story.alice, endGrants=True) as lock:
        states = {grant.name: story.must(story.auditor, GRANTS + "GetGrant", {"name": grant.name}) for grant in
                  (active, scheduled, child, pending)}  # fmt: skip
        named = {name: grant.State.Name(grant.state) for name, grant in states.items()}

        assert named == {
            active.name: "REVOKED",
            scheduled.name: "REVOKED",
            child.name: "REVOKED",
            pending.name: "DENIED",
        }
        assert lock.ended_grant_count == 4
        assert [event.lock for event in story.audit(f'grant = "{active.name}" AND event_type = GRANT_REVOKED')] == [
            lock.name
        ]
        assert not story.check(story.gateway).allowed
        assert not story.check(story.gateway, subject=job(story)).allowed
        assert tokens_told.introspect(story, token) == {"active": False}
        assert story.must(story.auditor, DELEGATIONS + "GetDelegation", {"name": lent.name}).HasField("delete_time")
        assert refused(story, story.alice, GRANTS + "RequestGrant", asked_for(story))
        outcome = story.call(story.carol, GRANTS + "ApproveGrant", {"name": for_alice_to_approve.name})
        assert outcome.code == "PERMISSION_DENIED"


# Methods that need no caller, or whose caller is a proxy or its client.
WITHOUT_CALLER = {method for method, rule in RULES.items() if rule.public or rule.anonymous or rule.proxy}


@pytest.mark.parametrize("method", sorted(RULES.keys() - WITHOUT_CALLER))
def test_every_call_of_theirs_is_refused_whichever_it_is(story: Story, method: str) -> None:
    if story.surface.name == "rest" and method.endswith("/CancelAccessRequest"):
        pytest.skip("the edge knows its path only with the body that tests/rest/test_access_requests.py sends")
    everybody = Person(f"user:{story.id}", roles=tuple(Role))
    with locked(story, everybody) as lock:
        outcome = called(story, everybody, method)

        assert (outcome.code, outcome.reason) == ("PERMISSION_DENIED", "LOCKED"), outcome
        assert lock.name in outcome.text


def called(story: Story, person: Person, method: str) -> Outcome:
    body: dict[str, Any] = {}
    for field in GetMessageClass(_descriptor_of(method).input_type).DESCRIPTOR.fields:
        if field.name in ("name", "id"):
            body[field.name] = f"{_of_name(method)}/x" if field.name == "name" else "x" * 26
        elif field.message_type is not None and field.message_type.full_name == HttpBody.DESCRIPTOR.full_name:
            body = form("x") if "Token" in method else {"body": {"contentType": "application/json", "data": "e30="}}
        elif field.name in ("policy", "signal") and field.message_type is not None:
            body[field.name] = {"name": f"{'policies' if field.name == 'policy' else 'signals'}/x"}
    return story.call(person, method, body)


def _of_name(method: str) -> str:
    for word, collection in (
        ("Proposal", "policyProposals"),
        ("Policy", "policies"),
        ("Delegation", "delegations"),
        ("Lock", "locks"),
        ("Signal", "signals"),
    ):
        if word in method.rpartition("/")[2]:
            return collection
    return "grants"


def test_a_call_begun_after_the_locks_answer_is_refused(story: Story) -> None:
    """Also by a worker that has not looked at the store yet: whatever reads it asks who is locked."""
    story.create_policy()
    grant = story.granted()
    for _ in range(20):
        with locked(story, story.alice):
            assert refused(story, story.alice, GRANTS + "GetGrant", {"name": grant.name})
            assert story.check().reason == LOCKED
        assert story.check().allowed
        assert story.must(story.alice, GRANTS + "GetGrant", {"name": grant.name}).name == grant.name


def test_a_remembered_token_is_refused_like_a_new_one(story: Story) -> None:
    token = story.world.token(story.alice)
    call = lambda: story.surface.call(GRANTS + "ListGrants", {}, token=token)  # noqa: E731
    assert call().code == "OK"

    with locked(story, story.alice):
        assert call().reason == "LOCKED"
    assert call().code == "OK"


def test_the_refusal_is_on_record_with_the_lock(story: Story) -> None:
    with locked(story, story.alice) as lock:
        assert refused(story, story.alice, GRANTS + "RequestGrant", asked_for(story))

        (event,) = story.audit(f'principal = "{story.alice.principal}" AND event_type = CALL_REFUSED')
        assert (event.reason, event.lock) == ("LOCKED", lock.name)


def test_every_check_about_them_is_a_no(story: Story) -> None:
    story.create_policy()
    grant = story.granted()
    with locked(story, story.alice) as lock:
        answer = story.check()
        batch = story.must(story.gateway, ACCESS + "BatchCheckAccess", {"items": [story.question()]})
        found = story.must(story.gateway, ACCESS + "SearchAccess", story.question(subject="", resource=story.resource))
        bounded = story.check(consistency="BOUNDED", minRevision=str(lock.revision))

        assert (answer.reason, answer.message) == (LOCKED, f"{story.alice.principal} is locked by {lock.name}")
        assert not answer.requestable_policies
        assert [result.reason for result in batch.results] == [LOCKED]
        assert not found.found
        assert bounded.reason == LOCKED
        checks = story.audit(f'subject = "{story.alice.principal}" AND event_type = ACCESS_CHECKED AND reason = LOCKED')
        assert [event.lock for event in checks] == [lock.name] * 3
    assert story.check().grant == grant.name


def test_a_grant_that_counts_its_checks_is_locked_too_and_is_not_used_up(story: Story) -> None:
    story.create_policy(maxUses=1)
    story.granted()
    with locked(story, story.alice):
        assert story.check().reason == LOCKED
    assert story.check().allowed


def test_letter_case_does_not_help(story: Story) -> None:
    story.create_policy()
    story.granted()
    shouted = story.alice.principal.replace("alice", "ALICE")
    with locked(story, principal=shouted):
        assert story.check().reason == LOCKED
        assert refused(story, story.alice, GRANTS + "ListGrants", {})


def test_what_was_passed_on_from_the_locked_is_locked(story: Story) -> None:
    story.create_policy(maxChildDepth=1)
    child = story.asks(parent=story.granted().name, subject=job(story))
    assert story.check(subject=job(story)).grant == child.name

    with locked(story, story.alice) as lock:
        answer = story.check(subject=job(story))
        assert (answer.reason, lock.name in answer.message) == (LOCKED, True)


def test_a_locked_group_locks_by_the_groups_of_the_grant_and_of_the_call(story: Story) -> None:
    story.create_policy()
    story.granted()
    outsider = Person(story.alice.principal)

    with locked(story, group=story.engineers):
        assert story.check().reason == LOCKED
        assert refused(story, story.alice, ACCESS + "CheckAccess", story.question())
        # Her new token has the group no more, and the grant still says that she was in it.
        answer = story.check(outsider)
        assert (answer.reason, story.engineers in answer.message) == (LOCKED, True)
    assert story.check().allowed


def test_groups_that_nobody_proved_may_be_the_locked_one(story: Story) -> None:
    story.create_policy(eligible={"principals": [story.dave.principal], "groups": [story.engineers]})
    story.approves(story.bob, story.asks(story.alice, subject=story.dave.principal))
    assert story.check(subject=story.dave.principal).allowed

    with locked(story, group=f"other-{story.id}"):
        answer = story.check(subject=story.dave.principal)
        assert (answer.reason, "nobody proved which groups" in answer.message) == (LOCKED, True)


def test_one_token_can_be_locked_and_its_principals_others_go_on(story: Story) -> None:
    story.create_policy()
    story.granted()
    stolen, own = story.world.token(story.alice), story.world.token(story.alice)
    assert stolen != own
    call = lambda token: story.surface.call(GRANTS + "ListGrants", {}, token=token)  # noqa: E731

    with locked(story, jti=_jti(stolen)):
        assert call(stolen).reason == "LOCKED"
        assert call(own).code == "OK"
        assert story.check().allowed


def _jti(token: str) -> str:
    return str(jwt.decode(token, options={"verify_signature": False})["jti"])


def test_reviews_of_the_locked_do_not_count(story: Story) -> None:
    story.create_policy(steps=[{"approvers": {"groups": [story.owners]}, "approvalsNeeded": 2}])
    grant = story.asks()
    story.approves(story.bob, grant)
    other = Person(f"user:olga-{story.id}@example.com", (story.owners,))

    with locked(story, story.bob):
        still = story.approves(story.ben, grant)
        assert still.State.Name(still.state) == "PENDING"
        story.approves(other, grant)
        assert story.check().allowed


def test_reviews_that_came_with_a_stolen_token_do_not_count(story: Story) -> None:
    story.create_policy(steps=[{"approvers": {"groups": [story.owners]}, "approvalsNeeded": 2}])
    grant, stolen = story.asks(), story.world.token(story.bob)
    assert story.surface.call(GRANTS + "ApproveGrant", {"name": grant.name}, token=stolen).code == "OK"
    other = Person(f"user:olga-{story.id}@example.com", (story.owners,))

    with locked(story, jti=_jti(stolen)):
        still = story.approves(story.ben, grant)
        assert still.State.Name(still.state) == "PENDING"
        story.approves(other, grant)
        assert story.check().allowed


def test_they_review_through_nobody(story: Story) -> None:
    story.create_policy(steps=[{"approvers": {"principals": [story.bob.principal]}, "approvalsNeeded": 1}])
    grant = story.asks()
    lent = {"delegate": story.carol.principal, "expireTime": instant(story, HOUR)}
    story.must(story.bob, DELEGATIONS + "CreateDelegation", {"delegation": lent})

    with locked(story, story.bob):
        outcome = story.call(story.carol, GRANTS + "ApproveGrant", {"name": grant.name})
        assert outcome.code == "PERMISSION_DENIED"
    assert story.approves(story.carol, grant).name == grant.name


def test_nothing_is_given_to_the_locked(story: Story) -> None:
    story.create_policy(eligible={"principals": [story.alice.principal], "groups": [story.engineers]})
    grant = story.asks()
    with locked(story, story.alice):
        assert refused(story, story.bob, GRANTS + "ApproveGrant", {"name": grant.name})
        outcome = story.call(story.bob, GRANTS + "RequestGrant", asked_for(story) | {"subject": story.alice.principal})
        assert outcome.reason == "LOCKED"


def test_their_tokens_count_no_more_and_none_is_issued(story: Story) -> None:
    story.create_policy()
    grant = story.granted()
    token = tokens_told.issue(story, grant).token
    with locked(story, story.alice):
        assert tokens_told.introspect(story, token) == {"active": False}
        assert refused(story, story.alice, TOKENS + "IssueToken", {"name": grant.name})
    assert tokens_told.introspect(story, token)["active"]


def ended(stream: Iterator[Any]) -> str:
    """Reads the stream to its end, and returns why it ended; REST cannot say it once it has begun."""
    try:
        list(stream)
    except grpc.RpcError as error:
        return of_error(error).reason
    return ""


def test_their_streams_end(story: Story) -> None:
    story.create_policy()
    auditor = Person(f"user:second-auditor-{story.id}", roles=(Role.AUDITOR,))
    with watching(story, story.alice) as events, tailing(story, auditor) as records:
        next(events), next(records)
        with locked(story, story.alice), locked(story, auditor):
            for stream in (events, records):
                assert ended(stream) == ("LOCKED" if story.surface.name == "grpc" else "")


def test_a_lock_ends_by_itself_exactly_at_its_time(story: Story) -> None:
    story.create_policy()
    story.granted()
    clock = story.world.clock
    lock = story.locks(story.alice, expireTime=instant(story, HOUR / 2))

    clock.advance(HOUR / 2 - TICK)
    assert story.check().reason == LOCKED
    assert refused(story, story.alice, GRANTS + "ListGrants", {})
    clock.advance(TICK)
    assert story.check().allowed
    assert story.call(story.alice, GRANTS + "ListGrants", {}).code == "OK"
    assert not story.must(story.responder, LOCKS + "GetLock", {"name": lock.name}).active
    outcome = story.call(story.responder, LOCKS + "DeleteLock", {"name": lock.name})
    assert (outcome.code, outcome.reason) == ("FAILED_PRECONDITION", "WRONG_STATE")


def test_each_end_of_a_lock_is_recorded_once(story: Story) -> None:
    store = story.world.service.store
    over = story.locks(story.alice, expireTime=instant(story, HOUR))
    lifted = story.locks(story.bob)
    story.must(story.admin, LOCKS + "DeleteLock", {"name": lifted.name})
    story.world.clock.advance(HOUR)
    sweeper.record_run_out(store)
    sweeper.record_run_out(store)

    people = f'subject = "{story.alice.principal}" OR subject = "{story.bob.principal}"'
    events = story.audit(people)
    told = [(event.EventType.Name(event.event_type), event.lock, event.principal) for event in events]
    assert told == [
        ("LOCK_CREATED", over.name, story.responder.principal),
        ("LOCK_CREATED", lifted.name, story.responder.principal),
        ("LOCK_DELETED", lifted.name, story.admin.principal),
        ("LOCK_EXPIRED", over.name, "service:jit-service"),
    ]


def test_lists_have_what_stands_and_the_rest_if_asked_for(story: Story) -> None:
    lifted = story.locks(story.bob)
    story.must(story.admin, LOCKS + "DeleteLock", {"name": lifted.name, "etag": lifted.etag})
    with locked(story, story.alice) as lock:
        standing = story.must(story.auditor, LOCKS + "ListLocks", {"pageSize": 1000}).locks
        everything = story.must(story.auditor, LOCKS + "ListLocks", {"pageSize": 1000, "showDeleted": True}).locks

        assert {found.name for found in standing if story.id in found.principal} == {lock.name}
        assert {found.name for found in everything if story.id in found.principal} == {lock.name, lifted.name}


def test_those_of_one_instant_are_listed_newest_first(story: Story) -> None:
    names = [story.locks(principal=f"service:job-{number}-{story.id}").name for number in range(6)]

    listed = story.must(story.auditor, LOCKS + "ListLocks", {"pageSize": 1000}).locks

    assert [found.name for found in listed if story.id in found.principal] == names[::-1]


def test_a_responder_locks_and_revokes_and_changes_nothing_else(story: Story) -> None:
    story.create_policy()
    grant = story.granted()

    assert story.must(story.responder, GRANTS + "GetGrant", {"name": grant.name}).name == grant.name
    assert story.must(story.responder, GRANTS + "RevokeGrant", {"name": grant.name, "comment": "stolen"}).name
    selector = {"subject": story.alice.principal}
    plan = story.must(story.responder, GRANTS + "RevokeGrants", selector)
    assert plan.plan_id
    for method, body in (
        (POLICIES + "CreatePolicy", {"policy": story.policy("mine")}),
        ("/jitaccess.v1.SignalService/SetSignal", {"signal": {"name": "signals/x"}}),
    ):
        assert story.call(story.responder, method, body).reason == "ROLE_REQUIRED"


@pytest.mark.parametrize(
    ("lock", "field"),
    [
        ({"comment": "why"}, "lock"),
        ({"principal": "user:x"}, "lock.comment"),
        ({"principal": "nobody", "comment": "why"}, "lock.principal"),
        ({"principal": "service:jit-service", "comment": "why"}, "lock.principal"),
        ({"jti": "x", "comment": "why", "endGrants": True}, "lock.end_grants"),
        ({"principal": "user:x", "comment": "why", "expireTime": "2020-01-01T00:00:00Z"}, "lock.expire_time"),
    ],
)
def test_what_is_no_lock_is_refused(story: Story, lock: dict[str, Any], field: str) -> None:
    outcome = story.call(story.responder, LOCKS + "CreateLock", {"lock": lock})

    assert (outcome.code, outcome.reason, outcome.fields) == ("INVALID_ARGUMENT", errors.InvalidField.reason, (field,))


def test_nobody_locks_themselves_out(story: Story) -> None:
    in_group = Person(f"user:r-{story.id}", (f"team-{story.id}",), (Role.RESPONDER,))
    token = story.world.token(in_group)
    for lock in ({"principal": in_group.principal.upper().replace("USER:", "user:")}, {"group": in_group.groups[0]},
                 {"jti": _jti(token)}):  # fmt: skip
        outcome = story.surface.call(LOCKS + "CreateLock", {"lock": lock | {"comment": "oops"}}, token=token)
        assert (outcome.code, outcome.fields) == ("INVALID_ARGUMENT", ("lock",))


def test_a_locked_admin_does_not_lift_its_lock(story: Story) -> None:
    with locked(story, story.admin) as lock:
        assert refused(story, story.admin, LOCKS + "DeleteLock", {"name": lock.name})


def test_the_same_request_locks_once(story: Story) -> None:
    body = {
        "lock": {"principal": story.alice.principal, "comment": "why"},
        "requestId": "0b2c7c1e-9d3f-4b8e-a3b5-" + story.id,
    }
    first = story.must(story.responder, LOCKS + "CreateLock", body)
    again = story.must(story.responder, LOCKS + "CreateLock", body)

    assert again == first
    story.must(story.responder, LOCKS + "DeleteLock", {"name": first.name})
