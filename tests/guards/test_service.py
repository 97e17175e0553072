"""The examples before the real service: closed, asked for, approved, open, revoked, closed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from jitaccess import AsyncJitClient, JitClient, LocalChecker
from jitaccess.guards import Guard, fixed_subject
from tests.conftest import HOUR
from tests.guards.doors import DOORS, ON_A_LOOP, Told
from tests.world import GRANTS, POLICIES, Grpc, Story, World

AUDIENCE = "https://orders.example.com"
TEN_MINUTES = timedelta(minutes=10)


class Orders:
    """A story about `database/orders/eu`, and a guard of one kind before it."""

    def __init__(self, world: World, stack: ExitStack) -> None:
        self.story = Story(world, Grpc(world))
        resources = ["database/orders/**"]
        self.policy = self.story.create_policy(resources=resources, actions=["rows.*"]).name
        self.client = stack.enter_context(JitClient(str(world.grpc), token=lambda: world.token(self.story.gateway)))
        self.checker = stack.enter_context(LocalChecker(self.client)).wait_ready()

    def asks(self) -> Any:
        return self.story.asks(resources=["database/orders/eu"], actions=["rows.create", "rows.purge"])

    def revokes(self, grant: Any) -> Any:
        return self.story.must(self.story.bob, GRANTS + "RevokeGrant", {"name": grant.name, "comment": "over"})

    def by_check(self, asks: Any) -> Guard:
        return Guard.by_check(asks, subject=fixed_subject(self.story.alice.principal))

    def by_token(self, **options: Any) -> Guard:
        keys = self.client.get_key_set()
        clock = self.story.world.clock
        return Guard.by_token(keys, issuer="https://jit.example.com", audience=AUDIENCE, clock=clock, **options)

    def token(self, grant: Any) -> str:
        token = self.story.world.token(self.story.alice)
        with JitClient(str(self.story.world.grpc), token=token) as alice:
            return alice.issue_token(grant.name, audience=AUDIENCE).token


@pytest.fixture
def orders(world: World) -> Iterator[Orders]:
    with ExitStack() as stack:
        orders = Orders(world, stack)
        yield orders
        # Policies for this resource are every story's.
        orders.story.must(orders.story.admin, POLICIES + "DeletePolicy", {"name": orders.policy})


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def why(told: Told) -> tuple[str, str]:
    assert not told.through
    return told.code, told.reason


def test_by_check_a_handler_runs_exactly_while_the_grant_lives(door: str, orders: Orders) -> None:
    with DOORS[door](orders.by_check(orders.client)) as call:
        told = call("eu")
        assert why(told) == ("PERMISSION_DENIED", "NO_GRANT")
        assert orders.policy in told.metadata["requestable_policies"].split(",")
        grant = orders.asks()
        assert why(call("eu")) == ("PERMISSION_DENIED", "PENDING")
        orders.story.approves(orders.story.bob, grant)
        assert call("eu").through
        assert why(call("us")) == ("PERMISSION_DENIED", "NO_GRANT")
        orders.revokes(grant)
        assert why(call("eu")) == ("PERMISSION_DENIED", "REVOKED")


def test_by_check_a_handler_stops_with_the_time(door: str, orders: Orders) -> None:
    with DOORS[door](orders.by_check(orders.client)) as call:
        orders.story.approves(orders.story.bob, orders.asks())
        assert call("eu").through
        orders.story.world.clock.advance(HOUR)
        assert why(call("eu")) == ("PERMISSION_DENIED", "EXPIRED")


def test_by_the_replica_a_handler_runs_exactly_while_the_grant_lives(door: str, orders: Orders) -> None:
    with DOORS[door](orders.by_check(orders.checker)) as call:
        assert why(call("eu")) == ("PERMISSION_DENIED", "NO_GRANT")
        grant = orders.story.approves(orders.story.bob, orders.asks())
        orders.checker.wait_for(grant.revision)
        assert call("eu").through
        orders.checker.wait_for(orders.revokes(grant).revision)
        assert not call("eu").through


@pytest.mark.parametrize("door", ["fastapi", "asgi", "grpc", "grpc.aio"])
def test_by_token_a_handler_runs_exactly_while_the_token_counts(door: str, orders: Orders) -> None:
    grant = orders.story.approves(orders.story.bob, orders.asks())
    token = orders.token(grant)
    orders.checker.wait_for(grant.revision)
    with DOORS[door](orders.by_token(checker=orders.checker)) as call:
        told = call("eu", token)
        assert told.through, told
        assert why(call("us", token)) == ("PERMISSION_DENIED", "NOT_COVERED")
        assert why(call("eu")) == ("UNAUTHENTICATED", "TOKEN_MISSING")
        identity = orders.story.world.token(orders.story.alice)
        assert why(call("eu", identity)) == ("UNAUTHENTICATED", "WRONG_TYPE")
        orders.checker.wait_for(orders.revokes(grant).revision)
        assert why(call("eu", token)) == ("PERMISSION_DENIED", "GRANT_OVER")


def test_by_token_alone_a_revocation_counts_at_the_tokens_end(orders: Orders) -> None:
    grant = orders.story.approves(orders.story.bob, orders.asks())
    token = orders.token(grant)
    with DOORS["fastapi"](orders.by_token()) as call:
        orders.revokes(grant)
        assert call("eu", token).through
        orders.story.world.clock.advance(2 * TEN_MINUTES)
        assert why(call("eu", token)) == ("UNAUTHENTICATED", "EXPIRED")


@pytest.mark.parametrize("door", [door for door in ON_A_LOOP if door != "async job"])
def test_an_asynchronous_client_asks_the_service(door: str, orders: Orders) -> None:
    """Each door has one loop, to which the client's connection belongs."""
    world = orders.story.world
    client = AsyncJitClient(str(world.grpc), token=lambda: world.token(orders.story.gateway))
    grant = orders.story.approves(orders.story.bob, orders.asks())
    with DOORS[door](orders.by_check(client)) as call:
        assert call("eu").through
        orders.revokes(grant)
        assert why(call("eu")) == ("PERMISSION_DENIED", "REVOKED")


def test_a_guard_whose_own_token_may_not_ask_lets_nobody_through(door: str, orders: Orders) -> None:
    world = orders.story.world
    orders.story.approves(orders.story.bob, orders.asks())
    for token in (world.token(orders.story.dave), "none"):
        with JitClient(str(world.grpc), token=token) as client:
            with DOORS[door](orders.by_check(client)) as call:
                assert why(call("eu")) == ("UNAVAILABLE", "CHECK_FAILED")


def test_a_name_that_the_service_refuses_is_the_callers_fault(orders: Orders) -> None:
    with DOORS["grpc"](orders.by_check(orders.client)) as call:
        for region, field in (("e\u0430u", "value"), ("\ufb01", "value"), ("a" * 1100, "resource")):
            told = call(region)
            assert (why(told), told.metadata) == (("PERMISSION_DENIED", "INVALID_FIELD"), {"field": field})
