"""Watching grants: every change once and in order, over gRPC and REST, across reconnects and restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from jit_service.domain.caller import Caller, Role
from jit_service.domain.errors import InvalidField, RoleRequired, TooManyWatchers
from jit_service.domain.grants.grant import Grant, GrantState
from jit_service.feeds import grants as watch
from jit_service.feeds.grants import GrantUpdate, Watched
from jit_service.feeds.turns import Turns
from jit_service.rpc.streams import StreamLimits, Streams
from jit_service.runtime.service import Service
from jit_service.settings import Address
from jit_service.storage import Store, rows
from jit_service.storage.head_follower import HeadFollower
from jit_service.storage.rows import grant_of
from jit_service.use_cases import grants
from jit_service.use_cases.grants import GrantView
from jitaccess.v1.grant_pb2 import WatchGrantsResponse
from tests import checking
from tests.conftest import HOUR, NOON, Clock
from tests.storage.people import ADMIN, ALICE, BOB, DAVE, GATEWAY, add_policy, approve, ask
from tests.stories.streams import Events, watching
from tests.world import GRANTS, Grpc, Person, Story, World, running_world

HEARTBEAT = WatchGrantsResponse.HEARTBEAT
QUIET = (HEARTBEAT, WatchGrantsResponse.CURRENT)


def changes(events: Events, count: int) -> list[tuple[str, str]]:
    """Returns the next so many changes: what happened, and the state it led to."""
    told = islice((event for event in events if event.event_type not in QUIET), count)
    return [(_name(event), event.grant.State.Name(event.grant.state)) for event in told]


def _name(event: WatchGrantsResponse) -> str:
    return str(WatchGrantsResponse.EventType.Name(event.event_type))


def test_each_change_is_told_in_order(story: Story) -> None:
    story.create_policy()
    with watching(story, story.alice) as events:
        assert next(events).event_type == HEARTBEAT
        grant = story.granted()
        story.must(story.alice, GRANTS + "ReleaseGrant", {"name": grant.name})

        assert changes(events, 3) == [
            ("GRANT_REQUESTED", "PENDING"),
            ("GRANT_APPROVED", "ACTIVE"),
            ("GRANT_RELEASED", "RELEASED"),
        ]


def test_what_is_live_comes_first(story: Story) -> None:
    story.create_policy()
    grant = story.granted()
    story.must(story.alice, GRANTS + "WithdrawGrant", {"name": story.asks().name})

    with watching(story, story.alice) as events:
        first, then = next(events), next(events)

    assert (_name(first), first.grant.name, first.revision) == ("CURRENT", grant.name, 0)
    assert _name(then) == "HEARTBEAT"
    assert then.revision >= grant.revision


def test_from_a_revision_on_there_is_neither_gap_nor_duplicate(story: Story) -> None:
    story.create_policy()
    with watching(story, story.alice) as events:
        start = next(events).revision
    grants = [story.asks() for _ in range(5)]

    seen: list[str] = []
    for _ in grants:
        # A new stream for each one, as after a broken connection.
        with watching(story, story.alice, startRevision=str(start)) as events:
            event = next(event for event in events if event.event_type != HEARTBEAT)
            seen, start = [*seen, event.grant.name], event.revision

    assert seen == [grant.name for grant in grants]


def test_everybody_is_told_what_it_may_see(story: Story) -> None:
    story.create_policy()
    with watching(story, story.alice) as events:
        start = str(next(events).revision)
    mine, bobs = story.asks(), story.asks(story.bob)

    def told(person: Person, count: int, **body: Any) -> list[str]:
        with watching(story, person, startRevision=start, **body) as events:
            return [event.grant.name for event in islice(events, count)]

    assert told(story.alice, 1) == [mine.name]
    assert told(story.bob, 1) == [bobs.name]
    assert told(story.ben, 2, view="VISIBLE") == [mine.name, bobs.name]
    assert told(story.auditor, 1, view="ALL", grant=bobs.name) == [bobs.name]
    assert told(story.bob, 1, grant=mine.name) == [mine.name]


def test_all_grants_are_for_those_who_may_read_all(story: Story) -> None:
    with pytest.raises((grpc.RpcError, AssertionError), match="needs the role"):
        with watching(story, story.alice, view="ALL") as events:
            next(events)


def test_a_revision_to_come_is_refused(story: Story) -> None:
    with pytest.raises((grpc.RpcError, AssertionError), match="start_revision"):
        with watching(story, story.alice, startRevision=str(2**40)) as events:
            next(events)


def test_a_revision_of_another_history_is_refused(world: World) -> None:
    story = Story(world, Grpc(world))
    # Revision 0, of a store in which nothing has happened, is none to go on from.
    story.create_policy()
    with watching(story, story.alice) as events:
        told = next(events)
    other = f"{told.history.partition('.')[0]}.{'0' * 64}"

    for history, why in ((other, "another history"), ("nonsense", "not as WatchGrants sent it")):
        with pytest.raises((grpc.RpcError, AssertionError), match=why):
            with watching(story, story.alice, startRevision=str(told.revision), startHistory=history) as events:
                next(events)


def test_a_stream_ends_with_the_token_that_it_was_opened_with(world: World) -> None:
    story = Story(world, Grpc(world))
    story.create_policy()
    with watching(story, story.alice) as events:
        next(events)
        world.clock.advance(HOUR)
        story.asks()
        with pytest.raises(grpc.RpcError) as ended:
            next(events)

    assert cast("grpc.Call", ended.value).code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture
def small(tmp_path: Path, transport: str) -> Iterator[World]:
    """A service that keeps one stream."""
    url = f"sqlite:///{tmp_path / 'jit.db'}"
    with running_world(tmp_path, Clock(), url, watch_streams=1, transport=transport) as world:
        yield world


def test_one_stream_too_many_is_refused(small: World) -> None:
    story = Story(small, Grpc(small))
    with watching(story, story.alice) as events:
        next(events)
        with watching(story, story.bob) as more, pytest.raises(grpc.RpcError, match="1 streams are open") as refused:
            next(more)

    assert cast("grpc.Call", refused.value).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_restart_leaves_no_gap(small: World) -> None:
    story = Story(small, Grpc(small))
    story.create_policy()
    with watching(story, story.alice) as events:
        start = next(events).revision
        grant = story.asks()
        small.service.stop()
        told: list[WatchGrantsResponse] = []
        with pytest.raises(grpc.RpcError, match="the service stops") as ended:
            told.extend(event for event in events if event.event_type != HEARTBEAT)
    assert cast("grpc.Call", ended.value).code() is grpc.StatusCode.UNAVAILABLE
    start = max((event.revision for event in told), default=start)

    again = Service(small.settings, clock=small.clock)
    small.service, small.grpc = again, again.listen(Address("127.0.0.1", 0))
    again.start()
    small.channel.close()
    small.channel = grpc.insecure_channel(str(small.grpc))
    story.approves(story.bob, grant)

    with watching(story, story.alice, startRevision=str(start)) as events:
        rest = [next(events) for _ in range(2 - len(told))]
    assert [_name(event) for event in (*told, *rest)] == ["GRANT_REQUESTED", "GRANT_APPROVED"]


Watch = Callable[..., Iterator[GrantUpdate]]


@pytest.fixture
def watched(store: Store, follower: HeadFollower) -> Watch:
    """Watches the store itself, with a heartbeat whenever nothing else is told."""

    def watched(
        caller: Caller, view: GrantView = GrantView.MINE, start: int = 0, gone: Any = lambda: False
    ) -> Iterator[GrantUpdate]:
        what = Watched(view=view, start_revision=start)
        return watch.watch(store, caller, what, follower=follower, gone=gone, heartbeat_seconds=0.0)

    return watched


def test_silence_is_broken_by_a_heartbeat_that_one_can_resume_from(store: Store, watched: Watch) -> None:
    add_policy(store)
    events = watched(ALICE)

    beats = [next(events) for _ in range(3)]

    assert {beat.type for beat in beats} == {watch.ControlEvent.HEARTBEAT}
    ask(store)
    resumed = watched(ALICE, start=beats[-1].revision)
    assert next(resumed).type == "GRANT_REQUESTED"


@pytest.mark.parametrize("view", [GrantView.MINE, GrantView.VISIBLE])
def test_a_watch_begins_by_what_it_tells_and_not_by_what_there_is(
    store: Store, watched: Watch, view: GrantView, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_policy(store)
    mine = approve(store, ask(store))
    for _ in range(9):
        ask(store, caller=ALICE._replace(principal="user:erin@example.com"))
    made: list[str] = []

    def counted(row: Any, reviews: Any) -> Grant:
        made.append(row.name)
        return grant_of(row, reviews)

    monkeypatch.setattr(rows, "grant_of", counted)

    events = watched(ALICE, view)
    told = [next(events), next(events)]

    assert [event.type for event in told] == [watch.ControlEvent.CURRENT, watch.ControlEvent.HEARTBEAT]
    assert made == [mine.name]


def test_a_watch_begins_with_each_live_grant_whatever_its_state_page_by_page(
    store: Store, watched: Watch, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_PAGE", 2)
    add_policy(store)
    grants.withdraw(store, ALICE, ask(store).name, comment="", etag="")
    pending = [ask(store) for _ in range(3)]
    later = [approve(store, ask(store, start_at=clock() + HOUR)) for _ in range(2)]
    active = [approve(store, ask(store)) for _ in range(5)]

    events = watched(ALICE)
    told = list(takewhile(lambda event: event.type is watch.ControlEvent.CURRENT, events))

    assert sorted(event.grant.name for event in told if event.grant) == sorted(
        grant.name for grant in (*pending, *later, *active)
    )


@pytest.mark.parametrize("held", [1, 5000])
def test_a_watch_begins_with_one_state_and_goes_on_with_what_changes_meanwhile(
    store: Store, watched: Watch, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is read while it is told, as with very many, or before."""
    monkeypatch.setattr(watch, "_PAGE", 1)
    monkeypatch.setattr(watch, "_HELD", held)
    add_policy(store)
    decided, revoked, untouched = ask(store), approve(store, ask(store)), approve(store, ask(store))

    events = watched(ALICE)
    told = [next(events)]
    approve(store, decided)
    grants.revoke(store, ADMIN, revoked.name, comment="over", etag="")
    while told[-1].type != "GRANT_REVOKED":
        told.append(next(events))

    assert sorted(
        (event.type, event.grant.name, event.grant.state(NOON)) for event in told if event.grant is not None
    ) == sorted([
        ("CURRENT", decided.name, GrantState.PENDING),
        ("CURRENT", revoked.name, GrantState.ACTIVE),
        ("CURRENT", untouched.name, GrantState.ACTIVE),
        ("GRANT_APPROVED", decided.name, GrantState.ACTIVE),
        ("GRANT_REVOKED", revoked.name, GrantState.REVOKED),
    ])  # fmt: skip
    assert [event.type for event in told[:4]] == [*["CURRENT"] * 3, "HEARTBEAT"]


def test_who_sees_many_waits_for_a_turn_to_begin_and_leaves_it(
    store: Store, watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_TURNS", Turns(1))
    monkeypatch.setattr("jit_service.feeds.turns._WAIT_SECONDS", 0.01)
    monkeypatch.setattr(watch, "_HELD", 1)
    add_policy(store)
    ask(store)
    leaving = iter([True, True])

    first = watched(ALICE)
    next(first)
    assert list(watched(ALICE, gone=lambda: next(leaving))) == []
    list(islice(first, 2))

    with watch._TURNS.taken(lambda: True) as has_turn:
        assert has_turn


def test_reviews_of_many_grants_are_read_in_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jit_service.storage.readers.grants._NAMES", 2)
    add_policy(store)
    names = {approve(store, ask(store)).name for _ in range(5)}

    with store.snapshot() as snapshot:
        held = snapshot.grants_held_by(ALICE.person)

    assert {grant.name for grant in held if len(grant.reviews) == 1} == names


def test_who_falls_too_far_behind_is_told_where_to_resume(
    store: Store, watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MAX_LAG", 3)
    monkeypatch.setattr(watch, "_PAGE", 2)
    add_policy(store)
    events = watched(ALICE)
    assert next(events).type is watch.ControlEvent.HEARTBEAT
    next(events)
    names = [ask(store).name for _ in range(7)]

    told = list(events)

    assert told[-1].type is watch.ControlEvent.OVERRUN
    seen = [event.grant.name for event in told if event.grant is not None]
    resumed = watched(ALICE, start=told[-1].revision)
    rest = [_next_change(resumed) for _ in range(len(names) - len(seen))]
    assert seen + [event.grant.name for event in rest if event.grant is not None] == names


def test_who_may_see_a_grant_is_judged_when_it_changes(store: Store, watched: Watch) -> None:
    add_policy(store)
    events = watched(BOB, GrantView.VISIBLE)
    next(events)
    ask(store)
    assert _next_change(events).type == "GRANT_REQUESTED"

    stranger = watched(DAVE, GrantView.VISIBLE)
    next(stranger)
    ask(store)
    assert next(stranger).type is watch.ControlEvent.HEARTBEAT


def test_uses_are_told_too(store: Store, watched: Watch) -> None:
    from jit_service.check import questions

    add_policy(store, max_uses=2)
    approve(store, ask(store))
    events = watched(ALICE)
    assert next(events).type is watch.ControlEvent.CURRENT
    gateway = Caller(principal="service:gateway", roles=frozenset({Role.CHECKER}))
    asked = questions.question(gateway, subject=ALICE.principal, action="read", resource="database/orders/eu")

    assert checking.check(store, gateway, asked).decision.allowed

    told = _next_change(events)
    assert (told.type, told.grant and told.grant.usage.count) == ("ACCESS_CHECKED", 1)


def _next_change(events: Iterator[GrantUpdate]) -> GrantUpdate:
    return next(event for event in events if event.type is not watch.ControlEvent.HEARTBEAT)


def test_a_watch_ends_when_its_client_is_gone(watched: Watch) -> None:
    assert [told.type for told in watched(ALICE, gone=lambda: True)] == [watch.ControlEvent.HEARTBEAT]


@pytest.mark.parametrize("view", [GrantView.REVIEWABLE, GrantView.REVIEW_DEBT])
def test_views_that_time_alone_changes_are_not_watched(watched: Watch, view: GrantView) -> None:
    with pytest.raises(InvalidField, match="can be watched"):
        next(watched(ADMIN, view))


def test_the_role_is_asked_for_first(watched: Watch) -> None:
    with pytest.raises(RoleRequired):
        next(watched(ALICE._replace(roles=frozenset()), GrantView.ALL))


class Context:
    """Stands for the call of a client that does not read."""

    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


def test_a_client_that_does_not_read_is_cancelled_and_others_are_not() -> None:
    streams = Streams(StreamLimits(2), stall_seconds=-1.0)
    stuck, idle = Context(), Context()
    stuck_messages = streams.carry(cast("grpc.ServicerContext", stuck), iter(["unread"]), by=ALICE)
    idle_messages = streams.carry(cast("grpc.ServicerContext", idle), iter([]), by=ALICE)
    next(stuck_messages)
    assert list(idle_messages) == []

    streams.end_stalled()

    assert (stuck.cancelled, idle.cancelled) == (True, False)
    streams.stop()


def test_a_stream_that_has_ended_leaves_its_place() -> None:
    streams = Streams(StreamLimits(1))
    context = cast("grpc.ServicerContext", Context())
    assert list(streams.carry(context, iter("a"), by=ALICE)) == ["a"]
    holds = streams.carry(context, iter("ab"), by=ALICE)
    next(holds)

    with pytest.raises(TooManyWatchers):
        next(streams.carry(context, iter("a"), by=ALICE))

    streams.stop()


def opened(streams: Streams, by: Caller) -> Iterator[str]:
    """Opens a stream and returns it, still open."""
    stream = streams.carry(cast("grpc.ServicerContext", Context()), iter("ab"), by=by)
    next(stream)
    return stream


def test_one_principal_takes_only_its_own_streams() -> None:
    streams = Streams(StreamLimits(8, each=2))
    held = [opened(streams, ALICE), opened(streams, ALICE)]

    with pytest.raises(TooManyWatchers, match=f"{ALICE.principal} has 2 streams open"):
        opened(streams, ALICE)

    held.append(opened(streams, BOB))
    held.pop(0).close()  # type: ignore[attr-defined]
    held.append(opened(streams, ALICE))
    streams.stop()


def test_some_streams_are_kept_for_the_role_checker() -> None:
    streams = Streams(StreamLimits(4, each=2, reserved=1))
    held = [opened(streams, ALICE), opened(streams, ALICE), opened(streams, BOB)]

    with pytest.raises(TooManyWatchers, match="1 are kept for the role checker"):
        opened(streams, DAVE)

    held.append(opened(streams, GATEWAY))
    streams.stop()


def test_the_role_checker_has_as_many_streams_as_there_are() -> None:
    streams = Streams(StreamLimits(4, each=1, reserved=1))
    held = [opened(streams, GATEWAY) for _ in range(4)]

    with pytest.raises(TooManyWatchers, match="4 streams are open"):
        opened(streams, GATEWAY)

    assert len(held) == 4
    streams.stop()
