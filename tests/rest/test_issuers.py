"""An issuer whose keys are not to be had: its callers are told to come again, and it is well again by itself."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import NOON, Clock
from tests.rpc.providers import Provider, provider
from tests.rpc.tokens import Forge
from tests.world import GRANTS, Grpc, Rest, World, running_world


@pytest.fixture
def idp() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture
def forge(tmp_path: Path, idp: Provider) -> Forge:
    """Signs in the name of the issuer, which is ill."""
    made = Forge(tmp_path, name=idp.url)
    idp.publish(made.path)
    idp.status = 500
    return made


@pytest.fixture
def world(tmp_path: Path, idp: Provider, forge: Forge, transport: str) -> Iterator[World]:
    issuer = {"issuer": idp.url, "audience": "jitaccess"}
    url = f"sqlite:///{tmp_path / 'jit.db'}"
    with running_world(tmp_path, Clock(NOON), url, issuers=(issuer,), transport=transport) as running:
        yield running


def test_keys_that_are_not_to_be_had_are_told_and_come_by_themselves(world: World, idp: Provider, forge: Forge) -> None:
    token = forge.token(NOON)
    for surface in (Grpc(world), Rest(world)):
        refused = surface.call(f"{GRANTS}ListGrants", {}, token=token)
        assert (refused.code, refused.reason) == ("UNAVAILABLE", "ISSUER_KEYS_UNAVAILABLE")
        assert "google.rpc.RetryInfo" in refused.details

    idp.status = 200
    while not idp.arrivals.empty():
        idp.arrivals.get()
    # The service asks again, whether anybody calls or not.
    try:
        idp.arrivals.get(timeout=30)
    except queue.Empty:
        pytest.fail("the keys were not asked for again")

    for surface in (Grpc(world), Rest(world)):
        assert surface.call(f"{GRANTS}ListGrants", {}, token=token).code == "OK"
