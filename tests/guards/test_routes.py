"""A FastAPI app whose routes are not guarded as they say does not start, and answers no call."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.testclient import TestClient

from jitaccess import Misconfigured
from jitaccess.guards import Guard, fixed_subject
from jitaccess.guards.fastapi import protect, require
from jitaccess.testing import MemoryService

ALICE = "user:alice@example.com"


@pytest.fixture
def guard() -> Guard:
    jit = MemoryService()
    jit.grant(ALICE, "database/**", "**")
    return Guard.by_check(jit.client, subject=fixed_subject(ALICE))


def ok() -> str:
    return "ok"


def guarded(resource: str) -> Any:
    return [Depends(require(resource, "read"))]


def started(app: FastAPI) -> str:
    """Starts the app, and returns why it did not; empty where it did."""
    try:
        with TestClient(app):
            return ""
    except Misconfigured as fault:
        answer = TestClient(app).get("/healthz")
        assert (answer.status_code, answer.json()["details"][0]["reason"]) == (500, "ROUTES_MISCONFIGURED")
        return fault.message


def test_a_parameter_that_the_path_has_not_fails_the_start(guard: Guard) -> None:
    app = FastAPI()
    protect(app, guard)
    app.get("/orders/{region}", dependencies=guarded("database/{regio}"))(ok)

    assert started(app) == "GET /orders/{region} has no parameter regio for database/{regio}"


def test_a_route_that_nobody_guarded_fails_the_start_unless_it_is_listed(guard: Guard) -> None:
    def create(*unguarded: str) -> FastAPI:
        app = FastAPI()
        protect(app, guard, unguarded=unguarded)
        app.get("/orders/{region}", dependencies=guarded("database/{region}"))(ok)
        app.get("/healthz")(ok)
        app.post("/healthz")(ok)
        return app

    assert started(create("GET /healthz")) == "POST /healthz asks no guard and is not in unguarded"
    assert started(create("GET /healthz", "POST /healthz")) == started(create("/healthz")) == ""
    assert started(create("/healthz", "GET /health")) == "unguarded: GET /health is no route of the app"
    with TestClient(create("/healthz")) as client:
        assert client.get("/orders/eu").status_code == client.get("/healthz").status_code == 200


def test_without_the_option_a_route_may_be_open(guard: Guard) -> None:
    app = FastAPI()
    protect(app, guard)
    app.get("/healthz")(ok)

    assert started(app) == ""


def test_routers_and_mounted_apps_are_looked_at_too(guard: Guard) -> None:
    app, below, router = FastAPI(), FastAPI(), APIRouter()
    protect(app, guard, unguarded=[])
    router.get("/a/{region}")(ok)
    app.include_router(router, prefix="/safe", dependencies=guarded("database/{region}"))
    app.include_router(router, prefix="/open")
    below.get("/b/{region}", dependencies=guarded("database/{area}/{region}"))(ok)
    below.get("/c")(ok)
    app.mount("/below/{area}", below)

    fault = started(app)

    assert "GET /open/a/{region} asks no guard" in fault
    assert "/safe" not in fault
    assert "GET /below/{area}/c asks no guard" in fault
    assert "GET /below/{area}/b/{region}: the app that has it has no guard; call jitaccess" in fault
    assert "no parameter" not in fault
