"""A replica in the client's process, fed by the running service: what it answers, and when it stops answering."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from jit_service.domain.caller import Caller, Role
from jit_service.domain.errors import InvalidField, RoleRequired
from jit_service.domain.grants.grant import Grant
from jit_service.feeds import replica as feeding
from jit_service.feeds.grants import ControlEvent, Watched, head_of, history_of
from jit_service.feeds.replica import ReplicaUpdate, replicate
from jit_service.feeds.turns import Turns
from jit_service.runtime.service import Service
from jit_service.storage import Store
from jit_service.storage.head_follower import HeadFollower
from jit_service.storage.readers.grants import GrantReader
from jit_service.use_cases.grants import GrantView
from jitaccess import (
    AsyncJitClient,
    AsyncLocalChecker,
    CheckItem,
    CheckReason,
    JitClient,
    LocalChecker,
    LocalDecision,
    LocalReason,
    PermissionDenied,
)
from tests.conftest import HOUR, Clock
from tests.storage.histories import put_back, tables
from tests.storage.people import add_policy, approve, ask
from tests.world import GRANTS, POLICIES, Grpc, Person, Story, World, running_world


@pytest.fixture
def story(world: World) -> Story:
    return Story(world, Grpc(world))


@contextmanager
def replica(story: Story, person: Person | None = None, **options: Any) -> Iterator[LocalChecker]:
    """A replica of the gateway's that is ready."""
    who = person or story.gateway
    with JitClient(str(story.world.grpc), token=lambda: story.world.token(who)) as client:
        with LocalChecker(client, **options) as checker:
            yield checker.wait_ready()


def asked(checker: LocalChecker, story: Story, **changes: Any) -> LocalDecision:
    question = {"subject": story.alice.principal, "action": "read", "resource": story.resource} | changes
    return checker.check(**question)


def test_what_is_granted_is_allowed_here(story: Story) -> None:
    story.create_policy()
    before = story.granted()
    with replica(story) as checker:
        assert asked(checker, story).grant == before.name
        grant = story.granted(resources=[f"database/{story.id}/us"])
        checker.wait_for(grant.revision)

        answer = asked(checker, story, resource=f"database/{story.id}/us")

    assert (answer.allowed, answer.reason, answer.grant) == (True, CheckReason.ALLOWED, grant.name)
    assert answer.remote is None
    assert answer.expire_time == grant.expire_time.ToDatetime(tzinfo=answer.expire_time.tzinfo)  # type: ignore[union-attr]
    assert not story.audit(f'event_type = "ACCESS_CHECKED" AND grant = "{grant.name}"')


@pytest.mark.parametrize("rpc", ["RevokeGrant", "ReleaseGrant"])
def test_what_has_ended_is_denied_here(story: Story, rpc: str) -> None:
    story.create_policy()
    grant = story.granted()
    with replica(story) as checker:
        assert asked(checker, story)
        ended = story.must(story.alice, GRANTS + rpc, {"name": grant.name, "comment": "over"})

        checker.wait_for(ended.revision)

        assert asked(checker, story).reason is CheckReason.NO_GRANT


def test_a_request_is_told_to_no_replica_before_its_approval(story: Story) -> None:
    story.create_policy()
    with replica(story) as checker:
        held = len(checker)
        checker.wait_for(story.asks().revision)

        assert len(checker) == held


def test_access_ends_by_the_services_clock(tmp_path: Path) -> None:
    with running_world(tmp_path, Clock(), f"sqlite:///{tmp_path / 'jit.db'}") as world:
        story = Story(world, Grpc(world))
        story.create_policy()
        story.granted()
        with replica(story) as checker:
            assert asked(checker, story)
            world.clock.advance(HOUR)
            # Any commit brings the service's clock along; else its next sign of life does.
            checker.wait_for(story.asks(resources=[f"database/{story.id}/us"]).revision)

            assert asked(checker, story).reason is CheckReason.EXPIRED


def test_a_deny_policy_counts_at_once_and_until_its_end(story: Story) -> None:
    story.create_policy()
    story.granted()
    with replica(story) as checker:
        assert asked(checker, story)
        deny = {
            "name": f"policies/no-{story.id}",
            "deny": True,
            "eligible": {"groups": [story.engineers]},
            "resources": [f"database/{story.id}/**"],
            "actions": ["**"],
        }
        created = story.must(story.admin, POLICIES + "CreatePolicy", {"policy": deny})
        checker.wait_for(created.revision)
        denied = asked(checker, story)
        deleted = story.must(story.admin, POLICIES + "DeletePolicy", {"name": created.name})
        checker.wait_for(deleted.revision)

        assert (denied.reason, denied.denied_by) == (CheckReason.DENIED_BY_POLICY, created.name)
        assert asked(checker, story)


# What only the service can tell


def test_a_condition_is_asked_of_the_service(story: Story) -> None:
    story.create_policy(checkCondition="context.build == 'green'")
    grant = story.granted()
    with replica(story) as checker:
        no, yes = asked(checker, story), asked(checker, story, context={"build": "green"})

    assert (no.allowed, yes.allowed, yes.grant) == (False, True, grant.name)
    assert yes.remote is not None
    assert story.audit(f'event_type = "ACCESS_CHECKED" AND grant = "{grant.name}"')


def test_where_the_subject_is_only_the_service_judges(story: Story) -> None:
    story.create_policy(checkCondition='context.source_ip.inCidr("10.0.0.0/8")')
    story.granted()
    with replica(story) as checker:
        told = [asked(checker, story, source_ip=address) for address in ("10.1.2.3", "127.0.0.1", "")]
    with replica(story, ask_service=False) as checker:
        alone = asked(checker, story, source_ip="10.1.2.3")

    assert [(answer.allowed, answer.reason) for answer in told] == [
        (True, CheckReason.ALLOWED),
        (False, CheckReason.CONDITION_NOT_MET),
        (False, CheckReason.CONDITION_ERROR),
    ]
    assert (alone.allowed, alone.reason) == (False, LocalReason.NEEDS_CHECK)


def test_without_the_service_it_is_a_no(story: Story) -> None:
    story.create_policy(maxUses=2)
    grant = story.granted()
    with replica(story, ask_service=False) as checker:
        assert asked(checker, story).reason is LocalReason.NEEDS_CHECK

    assert not story.audit(f'event_type = "ACCESS_CHECKED" AND grant = "{grant.name}"')


def test_a_service_asks_about_itself_with_the_groups_that_it_has_now(story: Story) -> None:
    itself = Person(f"service:bot-{story.id}", (story.engineers,), (Role.CHECKER,))
    story.create_policy(steps=None)
    story.asks(itself)
    with replica(story, itself) as checker:
        assert asked(checker, story, subject=itself.principal).remote is not None
    with replica(story) as checker:
        assert asked(checker, story, subject=itself.principal).remote is None


# Who may


def test_only_who_may_ask_about_everybody_has_a_replica(story: Story) -> None:
    for person in (story.alice, story.auditor, story.admin):
        with pytest.raises(PermissionDenied) as refused:
            with replica(story, person):
                pass
        assert refused.value.reason == "ROLE_REQUIRED"


# When the stream breaks


def test_a_replica_goes_on_where_it_was_after_a_restart(tmp_path: Path) -> None:
    with running_world(tmp_path, Clock(), f"sqlite:///{tmp_path / 'jit.db'}") as world:
        story = Story(world, Grpc(world))
        story.create_policy()
        grant = story.granted()
        with replica(story, max_age=timedelta(minutes=1)) as checker:
            before = checker.revision
            world.service.stop()
            assert asked(checker, story)

            again = Service(world.settings, clock=world.clock)
            world.service, world.grpc = again, again.listen(world.grpc)
            again.start()
            world.channel.close()
            world.channel = grpc.insecure_channel(str(world.grpc))
            revoked = story.must(story.bob, GRANTS + "RevokeGrant", {"name": grant.name, "comment": "over"})
            checker.wait_for(revoked.revision, timeout=20)

            assert checker.revision > before
            assert asked(checker, story).reason is CheckReason.NO_GRANT


def test_a_replica_that_hears_nothing_says_no_and_why(tmp_path: Path) -> None:
    with running_world(tmp_path, Clock(), f"sqlite:///{tmp_path / 'jit.db'}") as world:
        story = Story(world, Grpc(world))
        story.create_policy()
        story.granted()
        with replica(story, max_age=timedelta(seconds=5)) as checker:
            assert asked(checker, story)
            world.service.stop()
            stale = threading.Event()
            while checker.is_ready:
                stale.wait(0.05)

            answer = asked(checker, story)

            assert (answer.allowed, answer.reason, answer.remote) == (False, LocalReason.STALE, None)
            assert answer.age is not None
            assert answer.age >= 5.0
            assert checker.age is not None
            assert checker.fault is not None
        world.service = Service(world.settings, clock=world.clock)


def test_a_stream_that_ends_with_its_token_goes_on_with_the_next(tmp_path: Path) -> None:
    with running_world(tmp_path, Clock(), f"sqlite:///{tmp_path / 'jit.db'}") as world:
        story = Story(world, Grpc(world))
        story.create_policy()
        tokens: list[str] = []

        def token() -> str:
            tokens.append(world.token(story.gateway))
            return tokens[-1]

        with JitClient(str(world.grpc), token=token) as client, LocalChecker(client) as checker:
            checker.wait_ready()
            world.clock.advance(HOUR)
            grant = story.granted()

            checker.wait_for(grant.revision)

            assert asked(checker, story)
            assert len(tokens) >= 2


# Recording, and asyncio


def test_each_answer_is_handed_to_whoever_records_it(story: Story) -> None:
    recorded: list[tuple[CheckItem, LocalDecision]] = []
    with replica(story, on_decision=lambda question, decision: recorded.append((question, decision))) as checker:
        answer = asked(checker, story)

    assert recorded == [(CheckItem(story.alice.principal, "read", story.resource), answer)]


def test_an_answer_that_cannot_be_recorded_is_not_given(story: Story) -> None:
    def fail(question: CheckItem, decision: LocalDecision) -> None:
        raise OSError("the disk is full")

    with replica(story, on_decision=fail) as checker, pytest.raises(OSError, match="full"):
        asked(checker, story)


def test_a_loop_has_the_same_replica(story: Story) -> None:
    story.create_policy()
    grant = story.granted()
    conditional = story.create_policy("cond", checkCondition="context.build == 'green'", actions=["deploy"])
    story.granted(actions=["deploy"], policy=conditional.name)

    async def main() -> tuple[LocalDecision, LocalDecision, LocalDecision]:
        token = story.world.token(story.gateway)
        question = (story.alice.principal, "read", story.resource)
        async with AsyncJitClient(str(story.world.grpc), token=token) as client:
            async with AsyncLocalChecker(client) as checker:
                await checker.wait_ready()
                yes = await checker.check(*question)
                remote = await checker.check(question[0], "deploy", story.resource, context={"build": "green"})
                body = {"name": grant.name, "comment": "over"}
                revoked = await asyncio.to_thread(story.must, story.bob, GRANTS + "RevokeGrant", body)
                await checker.wait_for(revoked.revision)
                return yes, remote, await checker.check(*question)

    yes, remote, no = asyncio.run(main())

    assert (yes.allowed, yes.remote, no.allowed) == (True, None, False)
    assert remote.allowed
    assert remote.remote is not None


# The stream itself, on every kind of database


GATEWAY = Caller(principal="service:gateway", roles=frozenset({Role.CHECKER}))


def updates(
    store: Store, follower: HeadFollower, start: int = 0, caller: Caller = GATEWAY
) -> Generator[ReplicaUpdate, None, None]:
    watched = Watched(start_revision=start)
    return replicate(store, caller, watched, follower=follower, gone=lambda: False, heartbeat_seconds=0.0)


def test_a_stream_begins_with_grants_and_denies_and_a_heartbeat_that_ends_them(
    store: Store, follower: HeadFollower
) -> None:
    add_policy(store)
    grant = approve(store, ask(store))

    told = updates(store, follower)
    first = [next(told) for _ in range(4)]

    assert [update.type for update in first] == [
        ControlEvent.CURRENT,
        ControlEvent.DENY_POLICIES,
        ControlEvent.HEARTBEAT,
        ControlEvent.HEARTBEAT,
    ]
    assert first[0].grant is not None
    assert first[0].grant.name == grant.name
    assert first[2].revision == grant.revision
    assert first[2].elapsed <= first[3].elapsed


def test_a_stream_does_not_go_on_in_another_history(store: Store, follower: HeadFollower) -> None:
    add_policy(store)
    before = tables(store)
    approve(store, ask(store))
    told = updates(store, follower)
    last = [next(told) for _ in range(3)][-1]
    put_back(store, before)
    for number in range(4):
        ask(store, resource=f"database/orders/{number}")

    with pytest.raises(InvalidField, match="another history"):
        next(told)
    resumed = replicate(
        store,
        GATEWAY,
        Watched(start_revision=last.revision, start=head_of(last.revision, history_of(last.head))),
        follower=follower,
        gone=lambda: False,
    )
    with pytest.raises(InvalidField, match="another history"):
        next(resumed)


def test_each_change_is_followed_by_a_heartbeat(store: Store, follower: HeadFollower) -> None:
    add_policy(store)
    told = updates(store, follower)
    start = [next(told) for _ in range(2)][-1].revision
    grant = approve(store, ask(store))

    resumed = updates(store, follower, start)
    kinds = [next(resumed) for _ in range(3)]

    assert [update.type for update in kinds] == ["GRANT_APPROVED", ControlEvent.DENY_POLICIES, ControlEvent.HEARTBEAT]
    assert kinds[-1].revision == grant.revision


def test_a_replica_that_falls_too_far_behind_is_told_where_to_resume(
    store: Store, follower: HeadFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "MAX_LAG", 3)
    monkeypatch.setattr(feeding, "_PAGE", 2)
    add_policy(store)
    told = updates(store, follower)
    assert [next(told).type for _ in range(2)] == [ControlEvent.DENY_POLICIES, ControlEvent.HEARTBEAT]
    grants = [approve(store, ask(store)) for _ in range(4)]

    rest = list(told)

    assert rest[-1].type is ControlEvent.OVERRUN
    resumed = updates(store, follower, rest[-1].revision)
    seen = {update.grant.name for update in rest if update.grant is not None}
    for update in resumed:
        if update.type is ControlEvent.HEARTBEAT:
            break
        seen |= {update.grant.name} if update.grant is not None else set()
    assert seen == {grant.name for grant in grants}


def test_a_replica_takes_neither_a_view_nor_one_grant(store: Store, follower: HeadFollower) -> None:
    for watched, field in ((Watched(view=GrantView.ALL), "view"), (Watched(grant="grants/g"), "grant")):
        with pytest.raises(InvalidField, match=field):
            next(replicate(store, GATEWAY, watched, follower=follower, gone=lambda: False))


def test_the_role_is_asked_for_before_anything_else(store: Store, follower: HeadFollower) -> None:
    nobody = Caller(principal="service:gateway")

    with pytest.raises(RoleRequired):
        next(replicate(store, nobody, Watched(view=GrantView.ALL), follower=follower, gone=lambda: False))


def test_many_grants_are_told_page_by_page(
    store: Store, follower: HeadFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "_PAGE", 2)
    add_policy(store)
    names = {approve(store, ask(store)).name for _ in range(5)}

    told = updates(store, follower)

    assert {next(told).grant.name for _ in names} == names  # type: ignore[union-attr]
    assert next(told).type is ControlEvent.DENY_POLICIES


def test_grants_are_told_while_they_are_read_and_nobody_reads_on_for_a_client_that_has_gone(
    store: Store, follower: HeadFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def counted(reader: GrantReader, *, after: str, limit: int) -> list[Grant]:
        found = pages(reader, after=after, limit=limit)
        read.append(len(found))
        return found

    pages = GrantReader.started_grants
    monkeypatch.setattr(GrantReader, "started_grants", counted)
    monkeypatch.setattr(feeding, "_PAGE", 2)
    add_policy(store)
    for _ in range(5):
        approve(store, ask(store))

    in_use, _, _ = store.connections()
    told = updates(store, follower)
    next(told)
    assert (read, store.connections()[0]) == ([2], in_use + 1)
    told.close()

    assert (read, store.connections()[0]) == ([2], in_use)


def test_few_read_all_grants_at_once_and_the_others_wait_for_their_turn(
    store: Store, follower: HeadFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "_TURNS", Turns(1))
    monkeypatch.setattr("jit_service.feeds.turns._WAIT_SECONDS", 0.01)
    add_policy(store)
    approve(store, ask(store))
    asked = threading.Event()

    def stays() -> bool:
        asked.set()
        return False

    first = updates(store, follower)
    next(first)
    leaving = iter([False, True])
    gone = replicate(store, GATEWAY, Watched(), follower=follower, gone=lambda: next(leaving))
    assert list(gone) == []

    second = replicate(store, GATEWAY, Watched(), follower=follower, gone=stays, heartbeat_seconds=0.0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, second)
        assert asked.wait(10)
        assert not waiting.done()
        first.close()
        assert waiting.result(10).type is ControlEvent.CURRENT
    second.close()
    with feeding._TURNS.taken(lambda: True) as has_turn:
        assert has_turn


def test_what_this_process_commits_is_told_without_a_look(
    store: Store, follower: HeadFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "work", lambda: None)
    add_policy(store)
    told = replicate(store, GATEWAY, Watched(), follower=follower, gone=lambda: False, heartbeat_seconds=20.0)
    start = [next(told) for _ in range(2)][-1].revision
    found: list[ReplicaUpdate] = []
    reader = threading.Thread(target=lambda: found.append(next(told)))
    reader.start()

    ask(store)

    reader.join(timeout=10)
    assert found[0].revision > start


# After a no


def test_a_no_can_name_the_policies_to_ask_under(story: Story) -> None:
    policy = story.create_policy()
    with replica(story) as checker:
        alone = asked(checker, story)
    with replica(story, ask_after_no=True) as checker:
        told = asked(checker, story)

    assert (alone.allowed, alone.reason, alone.remote) == (False, CheckReason.NO_GRANT, None)
    assert (told.allowed, told.reason) == (False, CheckReason.NO_GRANT)
    assert told.remote is not None
    assert policy.name in told.remote.requestable_policies


def test_a_no_stands_at_once_where_the_service_is_away(tmp_path: Path) -> None:
    with running_world(tmp_path, Clock(), f"sqlite:///{tmp_path / 'jit.db'}") as world:
        story = Story(world, Grpc(world))
        story.create_policy()
        with replica(story, ask_after_no=True) as checker:
            assert asked(checker, story).remote is not None
            world.stop()
            answers = [asked(checker, story) for _ in range(3)]

    assert [(answer.allowed, answer.remote) for answer in answers] == [(False, None)] * 3
    assert {answer.reason for answer in answers} <= {CheckReason.NO_GRANT, LocalReason.STALE}


async def told_on_a_loop(story: Story) -> LocalDecision:
    client = AsyncJitClient(str(story.world.grpc), token=lambda: story.world.token(story.gateway))
    async with client, AsyncLocalChecker(client, ask_after_no=True) as checker:
        await checker.wait_ready()
        return await checker.check(story.alice.principal, "read", story.resource)


def test_a_no_on_a_loop_can_name_the_policies_too(story: Story) -> None:
    policy = story.create_policy()

    told = asyncio.run(told_on_a_loop(story))

    assert told.remote is not None
    assert policy.name in told.remote.requestable_policies
