"""How many calls one principal may make: its share, whatever it does, and never another's."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

from jit_service.domain.errors import RateExceeded
from jit_service.rpc import errors
from jit_service.rpc.quota import Quota, Rates
from tests.conftest import Clock
from tests.storage.people import ALICE, BOB, GATEWAY
from tests.world import GRANTS, Grpc, Story, running_world

ACCESS = "/jitaccess.v1.AccessService/"


class Seconds:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def quota(seconds: Seconds) -> Quota:
    return Quota(Rates(writes=2, checks=5), clock=seconds)


def taken(quota: Quota, *, writes: bool) -> int:
    """Returns how many calls alice can make before she is refused."""
    for count in range(1000):
        try:
            quota.demand(ALICE, writes=writes)
        except RateExceeded:
            return count
    return 1000


def test_a_principal_has_two_seconds_worth_at_once_and_then_its_rate(quota: Quota, seconds: Seconds) -> None:
    assert taken(quota, writes=True) == 4

    seconds.now += 1

    assert taken(quota, writes=True) == 2


def test_a_pause_is_made_up_for_no_longer_than_that(quota: Quota, seconds: Seconds) -> None:
    taken(quota, writes=False)

    seconds.now += 3600

    assert taken(quota, writes=False) == 10


def test_writes_and_checks_are_counted_apart(quota: Quota) -> None:
    taken(quota, writes=True)

    assert taken(quota, writes=False) == 10


def test_one_principal_takes_nothing_from_another(quota: Quota) -> None:
    taken(quota, writes=True)

    quota.demand(BOB, writes=True)


def test_the_role_checker_asks_without_a_bound_and_writes_within_it(quota: Quota) -> None:
    for _ in range(1000):
        quota.demand(GATEWAY, writes=False)
    for _ in range(4):
        quota.demand(GATEWAY, writes=True)
    with pytest.raises(RateExceeded):
        quota.demand(GATEWAY, writes=True)


def test_a_batch_counts_as_its_questions(quota: Quota) -> None:
    quota.demand(ALICE, writes=False, weight=8)

    with pytest.raises(RateExceeded):
        quota.demand(ALICE, writes=False, weight=3)
    quota.demand(ALICE, writes=False, weight=2)


def test_a_batch_of_more_than_may_come_at_once_takes_all_there_is(quota: Quota) -> None:
    quota.demand(ALICE, writes=False, weight=1000)

    with pytest.raises(RateExceeded):
        quota.demand(ALICE, writes=False)


def test_who_is_refused_is_told_when_to_come_again(quota: Quota, seconds: Seconds) -> None:
    taken(quota, writes=True)
    with pytest.raises(RateExceeded) as refused:
        quota.demand(ALICE, writes=True)

    status = errors.status(refused.value)
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    assert retry.retry_delay.ToTimedelta().total_seconds() == pytest.approx(0.5)

    seconds.now += retry.retry_delay.ToTimedelta().total_seconds()
    quota.demand(ALICE, writes=True)


def test_a_flood_of_writes_is_refused_and_is_not_on_record(tmp_path: Path, transport: str) -> None:
    url = f"sqlite:///{tmp_path / 'jit.db'}"
    with running_world(tmp_path, Clock(), url, writes_per_second=1, transport=transport) as world:
        story = Story(world, Grpc(world))
        answers = [story.call(story.dave, GRANTS + "RequestGrant", {}) for _ in range(50)]

        refused = [answer for answer in answers if answer.reason == "RATE_EXCEEDED"]
        assert {answer.code for answer in refused} == {"RESOURCE_EXHAUSTED"}
        # The others are refused for being empty, and only those are recorded.
        recorded = story.audit(f'principal = "{story.dave.principal}"')
        assert [record.reason for record in recorded] == ["INVALID_FIELD"] * (50 - len(refused))


def test_a_flood_of_checks_is_refused_on_both_transports(tmp_path: Path, transport: str) -> None:
    url = f"sqlite:///{tmp_path / 'jit.db'}"
    with running_world(tmp_path, Clock(), url, checks_per_second=1, transport=transport) as world:
        story = Story(world, Grpc(world))
        asked = {"subject": story.dave.principal, "action": "read", "resource": "database/orders/eu"}
        answers = [story.call(story.dave, ACCESS + "CheckAccess", asked) for _ in range(50)]

        assert "RATE_EXCEEDED" in {answer.reason for answer in answers}
        assert grpc.StatusCode.RESOURCE_EXHAUSTED.name in {answer.code for answer in answers}
