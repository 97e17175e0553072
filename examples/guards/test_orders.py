"""How a program that is guarded tests itself: granted, expired, revoked, in milliseconds.

python -m pytest examples/guards
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from nightly import create_app as create_purges
from nightly import started_by
from orders_http import create_app

from jitaccess import Unavailable
from jitaccess.guards import Guard, fixed_subject
from jitaccess.guards.jobs import guarded
from jitaccess.testing import Clock, MemoryService

ALICE = "user:alice@example.com"


def _orders(jit: MemoryService) -> TestClient:
    return TestClient(create_app(Guard.by_check(jit.async_client, subject=fixed_subject(ALICE))))


def test_access_ends_with_its_time(jit: MemoryService, jit_clock: Clock) -> None:
    orders = _orders(jit)
    jit.grant(ALICE, "database/orders/eu", "rows.*", duration=timedelta(hours=1))

    assert orders.post("/orders/eu/rows").status_code == 200
    assert orders.post("/orders/us/rows").status_code == 403
    jit_clock.advance(timedelta(hours=1))

    assert orders.post("/orders/eu/rows").json()["details"][0]["reason"] == "EXPIRED"


def test_access_ends_with_a_revocation(jit: MemoryService) -> None:
    orders = _orders(jit)
    grant = jit.grant(ALICE, "database/orders/eu", "rows.*")

    assert orders.get("/orders/eu/rows").status_code == 200
    jit.revoke(grant)

    assert orders.get("/orders/eu/rows").json()["details"][0]["reason"] == "REVOKED"


def test_nothing_is_done_while_the_service_is_away(jit: MemoryService) -> None:
    jit.grant(ALICE, "database/orders/eu", "rows.*")
    jit.is_away = True

    assert _orders(jit).post("/orders/eu/rows").status_code == 503


def test_a_job_by_its_token(jit: MemoryService, jit_clock: Clock) -> None:
    token = jit.tokens.issue(jit.grant("service:nightly", "database/orders/*", "rows.purge"), audience="nightly")
    guard = Guard.by_token(
        jit.tokens.keys,
        issuer=jit.tokens.issuer,
        audience="nightly",
        checker=jit,
        clock=jit_clock,
        token=lambda _: token,
    )

    @guarded(guard, "database/orders/{region}", "rows.purge")
    def purge(region: str) -> str:
        return f"purged {region}"

    assert purge("eu") == "purged eu"
    jit.is_away = True
    with pytest.raises(Unavailable):
        purge("eu")


def test_a_job_that_a_request_started_is_judged_as_who_started_it(jit: MemoryService) -> None:
    done: list[str] = []
    of_requests = Guard.by_check(jit.async_client, subject=fixed_subject(ALICE))
    of_jobs = Guard.by_check(jit.client, subject=started_by)
    jit.grant(ALICE, "database/orders/*", "rows.purge")

    answer = TestClient(create_purges(of_requests, of_jobs, done.append)).post("/orders/eu/purges")

    assert (answer.status_code, done) == (202, [f"{ALICE} purged eu"])
