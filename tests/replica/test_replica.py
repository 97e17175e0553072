"""The replica's state: whole or not at all, never older than it says, and no yes once it is stale."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from jit_service.domain.audit.event import EventType
from jit_service.domain.grants.grant import End, GrantState, Limits
from jit_service.domain.grants.lock import Lock, Target
from jit_service.domain.policies.policy import Policy, PrincipalSet
from jit_service.feeds.grants import ControlEvent, history_of
from jitaccess.contract.model import CheckReason
from jitaccess.errors import Internal
from jitaccess.naming.pattern import resource_covered
from jitaccess.replica.decision import LocalReason
from jitaccess.replica.state import MEASURE_AGAIN, Replica
from jitaccess.v1.grant_pb2 import WatchGrantsResponse
from tests.domain.factories import ALICE, BOB, HOUR, NOON, TICK, deny_policy
from tests.replica.feeding import GATEWAY, MAX_AGE, OPENED, PLACE, SECOND, answer, current, fed, update
from tests.replica.test_agreement import plain

ALLOWED, NEEDS_CHECK, STALE = CheckReason.ALLOWED, LocalReason.NEEDS_CHECK, LocalReason.STALE
NO_ALICE = Policy(
    name="policies/no-alice",
    eligible=PrincipalSet(principals=(ALICE,)),
    resources=("database/**",),
    actions=("**",),
    deny=True,
)
REVOKED = End(state=GrantState.REVOKED, at=NOON, by=BOB, comment="")
BEAT = timedelta(seconds=4)


def test_what_was_told_answers() -> None:
    assert answer(fed(current(plain()))).reason is ALLOWED
    assert answer(fed(current())).reason is CheckReason.NO_GRANT


# Locks


def lock(principal: str = "", *, group: str = "", until: datetime | None = None) -> Lock:
    return Lock(
        name="locks/l1",
        target=Target(principal=principal, group=group),
        comment="left",
        creator="user:rita",
        created_at=NOON,
        expires_at=until,
    )


def test_the_locked_have_no_yes_in_any_letter_case() -> None:
    locked = answer(fed(current(plain(), locks=[lock("user:Alice@EXAMPLE.com")])))

    assert (locked.reason, locked.by) == (CheckReason.LOCKED, "locks/l1")
    assert answer(fed(current(plain(), locks=[lock(BOB)]))).reason is ALLOWED
    assert answer(fed(current(locks=[lock(ALICE)]))).reason is CheckReason.LOCKED
    shouted = "user:ALICE@example.com"
    replica = fed(current(plain(subject=shouted, requester=shouted), locks=[lock(ALICE)]))
    assert answer(replica, shouted).reason is CheckReason.LOCKED


def test_a_locked_group_is_asked_for_the_grants_groups() -> None:
    locks = [lock(group="contractors")]
    member = plain(requester_groups=frozenset({"contractors"}))

    assert answer(fed(current(member, locks=locks))).reason is CheckReason.LOCKED
    assert answer(fed(current(plain(requester=BOB), locks=locks))).reason is CheckReason.LOCKED
    assert answer(fed(current(plain(), locks=locks))).reason is ALLOWED


def test_a_lock_ends_by_the_services_clock() -> None:
    def at(until: datetime) -> CheckReason | LocalReason:
        return answer(fed(current(plain(), locks=[lock(ALICE, until=until)])), after=2000).reason

    assert at(NOON) is ALLOWED
    assert at(NOON + TICK) is NEEDS_CHECK
    assert at(NOON + HOUR) is CheckReason.LOCKED


def test_locks_hold_from_their_heartbeat_until_the_next_that_tells_of_none() -> None:
    replica = fed(current(plain()))
    for locks, reason in (([lock(ALICE)], CheckReason.LOCKED), ([], ALLOWED)):
        before = answer(replica).reason
        replica.take(update(ControlEvent.LOCKS, 8, locks=locks))
        assert answer(replica).reason is before
        replica.take(update(ControlEvent.HEARTBEAT, 8))
        assert answer(replica).reason is reason


def test_a_token_of_the_locked_counts_no_more() -> None:
    for locks in ([lock(ALICE)], [lock(group="contractors")]):
        replica = fed(current(plain(requester_groups=frozenset({"contractors"})), locks=locks))
        assert replica.is_live(ALICE, "grants/g", OPENED) is False


# Whole or not at all


def test_nothing_counts_before_its_heartbeat() -> None:
    *rest, heartbeat = current(plain())
    replica = fed(rest)
    assert answer(replica).reason is STALE

    replica.take(heartbeat)

    assert answer(replica).reason is ALLOWED


def test_a_revocation_and_the_end_of_a_deny_come_together() -> None:
    replica = fed(current(plain(), denies=[NO_ALICE]))

    replica.take(update(ControlEvent.DENY_POLICIES, 9, denies=[]))
    assert answer(replica).reason is CheckReason.DENIED_BY_POLICY
    replica.take(update(EventType.GRANT_REVOKED, 8, grant=plain(end=REVOKED)))
    assert answer(replica).reason is CheckReason.DENIED_BY_POLICY
    replica.take(update(ControlEvent.HEARTBEAT, 9))

    assert answer(replica).reason is CheckReason.NO_GRANT


def test_what_a_broken_stream_told_without_a_heartbeat_is_dropped() -> None:
    replica = fed(current())
    replica.take(update(EventType.GRANT_APPROVED, 8, grant=plain()))

    request = replica.open(OPENED).request
    for told in (update(ControlEvent.DENY_POLICIES, 9, denies=[]), update(ControlEvent.HEARTBEAT, 9)):
        replica.take(told)

    assert request.start_revision == 7  # type: ignore[attr-defined]
    assert request.start_history == history_of(PLACE)  # type: ignore[attr-defined]
    assert answer(replica).reason is CheckReason.NO_GRANT


def test_a_replica_that_begins_anew_keeps_nothing_of_before() -> None:
    replica = fed(current(plain()))
    replica.begin_anew()

    request = replica.open(OPENED).request
    assert answer(replica).reason is ALLOWED
    for told in current(plain(name="grants/other", subject=BOB)):
        replica.take(told)

    assert request.start_revision == 0  # type: ignore[attr-defined]
    assert answer(replica).reason is CheckReason.NO_GRANT
    assert len(replica) == 1


@pytest.mark.parametrize("state", [GrantState.REVOKED, GrantState.RELEASED])
def test_what_ended_is_gone(state: GrantState) -> None:
    replica = fed(current(plain(), plain(name="grants/other", resources=("http/**",))))
    end = End(state=state, at=NOON, by=BOB, comment="")

    replica.take(update(EventType.GRANT_REVOKED, 8, grant=plain(end=end)))
    replica.take(update(ControlEvent.HEARTBEAT, 8))

    assert answer(replica).reason is CheckReason.NO_GRANT
    assert answer(replica, resource="http/x").reason is ALLOWED


def test_what_is_over_is_not_loaded() -> None:
    assert answer(fed(current(plain(end=REVOKED)))).reason is CheckReason.NO_GRANT


def test_a_change_takes_the_place_of_what_was() -> None:
    replica = fed(current(plain()))

    replica.take(update(EventType.EXTENSION_APPROVED, 8, grant=plain(actions=("write",))))
    replica.take(update(ControlEvent.HEARTBEAT, 8))

    assert answer(replica).reason is CheckReason.NO_GRANT
    assert answer(replica, action="write").reason is ALLOWED
    assert len(replica) == 1


# Time


def test_a_replica_is_stale_exactly_at_its_bound() -> None:
    replica = fed(current(plain()))
    # A steady clock may be off by one part in 2,000.
    last = next(ns for ns in range(MAX_AGE * 2000 // 2001 - 10, MAX_AGE) if ns + ns // 2000 >= MAX_AGE)

    assert answer(replica, after=last - 1).reason is ALLOWED
    assert answer(replica, after=last).reason is STALE
    assert not replica.is_fresh(OPENED + last)


def test_a_heartbeat_that_lay_in_a_buffer_is_as_old_as_it_says() -> None:
    replica = fed([*current(plain()), update(ControlEvent.HEARTBEAT, at=NOON + BEAT, elapsed=BEAT)])

    assert answer(replica, after=5 * SECOND).reason is ALLOWED
    assert replica.age(OPENED + 5 * SECOND) == SECOND + 5 * SECOND // 2000
    assert answer(replica, after=14 * SECOND).reason is STALE


def test_access_ends_by_the_services_clock_at_the_latest() -> None:
    """Whatever this machine's wall clock says: only what has passed since the service's was read counts."""
    replica = fed(current(plain(expires_at=NOON + timedelta(seconds=2)), at=NOON))

    assert answer(replica, after=SECOND).reason is ALLOWED
    # Perhaps, perhaps not: the reading may be as old as the stream.
    assert answer(replica, after=2 * SECOND).reason is NEEDS_CHECK
    replica.take(update(ControlEvent.HEARTBEAT, at=NOON + timedelta(seconds=2), elapsed=timedelta(seconds=2)))
    assert answer(replica, after=2 * SECOND).reason is CheckReason.EXPIRED


def test_access_begins_by_the_services_clock_at_the_earliest() -> None:
    grant = plain(starts_at=NOON + timedelta(seconds=2), expires_at=NOON + HOUR)
    replica = fed(current(grant, at=NOON))

    assert answer(replica, after=SECOND).reason is CheckReason.NOT_YET_STARTED
    assert answer(replica, after=3 * SECOND).reason is NEEDS_CHECK
    replica.take(update(ControlEvent.HEARTBEAT, at=NOON + timedelta(seconds=3), elapsed=timedelta(seconds=3)))
    assert answer(replica, after=3 * SECOND).reason is ALLOWED


def test_the_first_instant_after_access_is_not_access() -> None:
    held = plain(starts_at=NOON - HOUR, expires_at=NOON)

    def at(instant: datetime) -> object:
        return answer(fed([*current(held, at=NOON - HOUR), update(ControlEvent.HEARTBEAT, at=instant)])).reason

    assert at(NOON - 2 * TICK) is ALLOWED
    # The service's clock may have gone on by the part of a microsecond that it does not show.
    assert at(NOON - TICK) is NEEDS_CHECK
    assert at(NOON) is CheckReason.EXPIRED


def test_a_clock_that_is_set_ahead_counts_from_its_next_sign() -> None:
    replica = fed(current(plain()))

    replica.take(update(ControlEvent.HEARTBEAT, at=NOON + HOUR, elapsed=BEAT))

    assert answer(replica, after=5 * SECOND).reason is CheckReason.EXPIRED


def test_steady_clocks_are_compared_anew_before_they_drift_apart() -> None:
    replica = fed(current())

    assert not replica.measure_again(OPENED + MEASURE_AGAIN)
    assert replica.measure_again(OPENED + MEASURE_AGAIN + 1)


# What is covered


@pytest.mark.parametrize(
    ("patterns", "resource", "covered"),
    [
        (("database/*",), "database/a", True),
        (("database/*",), "database/a/b", False),
        (("database/*",), "database", False),
        (("database/*/eu",), "database/a/eu", True),
        (("database/*/eu",), "database/a/us", False),
        (("database/**",), "database/a/b", True),
        (("database/a/**",), "database/a", False),
        (("http/a", "database/**"), "database/a", True),
        (("database/a",), "database/b", False),
        (("**",), "database/a", True),
        (("k8s/prod-*",), "k8s/prod-eu", True),
        (("k8s/prod-*",), "k8s/prod-", True),
        (("k8s/prod-*",), "k8s/prod", False),
        (("k8s/prod-*",), "k8s/prod-eu/x", False),
        (("k8s/prod-*/**",), "k8s/prod-eu/x", True),
        (("share/**",), "share/Finance Reports/q1 [final].xlsx", True),
        (("share/*",), "share/C:\\Reports", True),
    ],
)
def test_a_pattern_covers_what_the_services_does(patterns: tuple[str, ...], resource: str, covered: bool) -> None:
    local = answer(fed(current(plain(resources=patterns))), resource=resource)

    assert (local.reason is ALLOWED) is covered
    assert resource_covered(resource, patterns) is covered


def test_an_action_is_covered_too() -> None:
    assert answer(fed(current(plain(actions=("rows.*",)))), action="rows.read").reason is ALLOWED
    assert answer(fed(current(plain(actions=("rows.*",)))), action="rows.read.all").reason is CheckReason.NO_GRANT


def test_the_longest_of_several_grants_is_named() -> None:
    long = plain(name="grants/long", expires_at=NOON + 2 * HOUR)

    for held in ((plain(), long), (long, plain())):
        told = answer(fed(current(*held))).grant
        assert told is not None
        assert told.name == "grants/long"


# What it leaves to the service


@pytest.mark.parametrize(
    "changes",
    [
        {"check_condition": "context.build == 'green'"},
        {"limits": Limits(max_uses=2)},
        {"limits": Limits(idle_timeout=HOUR)},
        {"limits": Limits(activation_window=HOUR)},
        {"chain": ("grants/above",)},
        {"subject": GATEWAY.principal, "requester": GATEWAY.principal},
    ],
)
def test_what_depends_on_more_than_is_told_is_left_to_the_service(changes: dict[str, object]) -> None:
    grant = plain(**changes)

    assert answer(fed(current(grant)), grant.subject).reason is NEEDS_CHECK


def test_a_no_is_none_where_the_service_may_allow_it() -> None:
    later = plain(name="grants/later", starts_at=NOON + HOUR, expires_at=NOON + 2 * HOUR)

    assert answer(fed(current(later, plain(check_condition="context.build == 'green'")))).reason is NEEDS_CHECK


def test_a_plain_grant_beside_it_answers_all_the_same() -> None:
    conditional = plain(name="grants/conditional", check_condition="context.build == 'green'")

    assert answer(fed(current(conditional, plain()))).reason is ALLOWED


@pytest.mark.parametrize("resource", ["database/..", "database//eu", "database/*", "database/e\u0301", "database/ü"])
def test_a_name_that_only_the_service_can_judge_is_left_to_it(resource: str) -> None:
    assert answer(fed(current(plain())), resource=resource).reason is NEEDS_CHECK


def test_a_name_that_the_service_told_is_a_sound_one() -> None:
    assert answer(fed(current(plain(resources=("database/ü",)))), resource="database/ü").reason is ALLOWED


# Deny policies


def test_groups_that_nobody_proved_may_be_any() -> None:
    proved = plain(requester_groups=frozenset({"engineering"}))
    by_another = plain(requester=BOB, requester_groups=frozenset({"engineering"}))

    assert answer(fed(current(proved, denies=[deny_policy()]))).reason is ALLOWED
    denied = answer(fed(current(by_another, denies=[deny_policy()])))
    assert (denied.reason, denied.by) == (CheckReason.DENIED_BY_POLICY, "policies/no-contractors")


def test_a_deny_by_group_is_for_whoever_proved_it() -> None:
    proved = plain(requester_groups=frozenset({"contractors"}))

    assert answer(fed(current(proved, denies=[deny_policy()]))).reason is CheckReason.DENIED_BY_POLICY


def test_a_deny_is_for_what_it_covers() -> None:
    denies = [NO_ALICE]

    assert answer(fed(current(plain(), denies=denies))).reason is CheckReason.DENIED_BY_POLICY
    assert answer(fed(current(plain(resources=("http/x",)), denies=denies)), resource="http/x").reason is ALLOWED


# A service that is not one for replicas


def test_a_service_that_tells_no_deny_policies_feeds_no_replica() -> None:
    replica = fed([])

    with pytest.raises(Internal, match="does not feed replicas"):
        replica.take(update(ControlEvent.HEARTBEAT))
    with pytest.raises(Internal, match="did not ask"):
        replica.take(WatchGrantsResponse(event_type=WatchGrantsResponse.GRANT_REVOKED))


def test_a_sign_of_life_without_its_time_is_none() -> None:
    replica = Replica(max_age=MAX_AGE)
    replica.open(OPENED)
    replica.take(update(ControlEvent.DENY_POLICIES, denies=[]))

    with pytest.raises(Internal):
        replica.take(WatchGrantsResponse(event_type=WatchGrantsResponse.HEARTBEAT, revision=7))
