"""What the service says of itself to a caller without a token: where people log in (RFC 9728), on both transports."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from jit_service.issuers import Issuer
from jit_service.rpc.protected_resource import ProtectedResource
from jit_service.settings import Address, Settings, SettingsError
from jitaccess.v1.grant_pb2 import ListGrantsRequest
from jitaccess.v1.grant_pb2_grpc import GrantServiceStub
from tests.conftest import NOON, Clock
from tests.rpc.tokens import Forge
from tests.world import World, running_world

PATH = "/.well-known/oauth-protected-resource"
URL = "https://jit.example.com"
LOGIN = {
    "cli_client_id": "jit-cli",
    "console_client_id": "0oa1console",
    "login_scopes": ["openid", "offline_access", "api://jit/access"],
    "login_audience": "api://jit",
}
CALLS = ("/v1/grants", "/v1/grants:watch", "/v1/auditEvents:tail")


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Forge:
    return Forge(tmp_path_factory.mktemp("forge"), name="https://login.example.com")


@pytest.fixture(scope="module", params=["grpcio", "native"])
def world(forge: Forge, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("w")
    entry = forge.issuer(shares_principals=True).model_dump(mode="json", exclude_unset=True) | LOGIN
    (directory / "issuers.yaml").write_text(yaml.safe_dump([entry]))
    settings = {"issuers_file": directory / "issuers.yaml", "transport": request.param, "public_url": URL}
    with running_world(directory, Clock(NOON), f"sqlite:///{directory / 'jit.db'}", **settings) as running:
        yield running


def get(world: World, path: str, token: str | None = None) -> tuple[int, http.client.HTTPMessage, dict[str, Any]]:
    connection = http.client.HTTPConnection(world.http.host, world.http.port, timeout=20)
    try:
        connection.request("GET", path, headers={} if token is None else {"authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, answer.headers, json.loads(answer.read())
    finally:
        connection.close()


def test_anybody_learns_where_and_as_whom_to_log_in(world: World) -> None:
    status, headers, said = get(world, PATH)

    assert (status, headers["content-type"]) == (200, "application/json")
    assert said == {
        "resource": URL,
        "authorization_servers": ["https://login.example.com"],
        "scopes_supported": ["openid", "offline_access", "api://jit/access"],
        "bearer_methods_supported": ["header"],
        "jit_cli_client_id": "jit-cli",
        "jit_console_client_id": "0oa1console",
        "jit_scopes": ["openid", "offline_access", "api://jit/access"],
        "jit_audience": "api://jit",
        "jit_grpc_address": "jit.example.com:443",
    }


def test_a_401_names_the_metadata_and_only_a_401_does(world: World, forge: Forge) -> None:
    named = f'Bearer resource_metadata="{URL}{PATH}"'
    late = forge.token(NOON - timedelta(hours=2))
    for call in CALLS:
        for token, expected in (
            (None, named),
            ("x.y.z", f'{named}, error="invalid_token"'),
            (late, f'{named}, error="invalid_token"'),
        ):
            status, headers, _ = get(world, call, token)
            assert (status, headers.get_all("www-authenticate")) == (401, [expected])

    status, headers, _ = get(world, "/v1/grants/none", forge.token(NOON))
    assert (status, "www-authenticate" in headers) == (403, False)


def test_the_issuers_are_told_as_they_are_now(forge: Forge) -> None:
    issuers: list[Issuer] = []
    resource = ProtectedResource("http://127.0.0.1", Address("10.0.0.1", 8081), lambda: issuers)
    told = {
        "resource": "http://127.0.0.1",
        "bearer_methods_supported": ["header"],
        "jit_grpc_address": "10.0.0.1:8081",
    }
    assert resource.metadata() == told

    issuers.append(forge.issuer())
    assert resource.metadata() == told

    issuers.append(forge.issuer(issuer="https://b.example.com", console_client_id="b"))
    login = {"authorization_servers": ["https://b.example.com"], "jit_console_client_id": "b"}
    assert resource.metadata() == told | login


def test_grpc_callers_are_told_nothing_of_http(world: World) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        GrantServiceStub(world.channel).ListGrants(ListGrantsRequest())

    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert [key for key, _ in refused.value.trailing_metadata()] == ["grpc-status-details-bin"]


def test_without_a_url_there_is_no_metadata_and_a_401_names_none(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jit.db'}"
    with running_world(tmp_path, Clock(NOON), url, token_issuer="") as world:
        status, _, said = get(world, PATH)
        assert (status, said["details"][0]["reason"]) == (404, "NO_PUBLIC_URL")
        assert "JIT_PUBLIC_URL" in said["message"]
        assert get(world, "/v1/grants")[1]["www-authenticate"] == "Bearer"
        assert get(world, "/v1/grants", "x")[1]["www-authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize(
    ("issuers", "told"),
    [
        ([{"login_scopes": ["openid"]}], "cli_client_id is missing"),
        ([{"cli_client_id": "a", "login_scopes": ["two words"]}], "login_scopes"),
        ([{"cli_client_id": 'a\n"'}], "cli_client_id"),
        ([{"cli_client_id": "a", "issuer": "not a url"}], "https URL"),
        ([{"cli_client_id": "a"}, {"console_client_id": "b", "issuer": "https://b.example.com"}], "one issuer only"),
    ],
)
def test_settings_of_log_in_that_cannot_work_are_refused(
    tmp_path: Path, forge: Forge, issuers: list[dict[str, Any]], told: str
) -> None:
    usual: dict[str, Any] = {"issuer": "https://a.example.com", "audience": "jit", "shares_principals": True}
    usual["jwks_file"] = str(forge.path)
    with pytest.raises(SettingsError, match=told):
        Settings.load(data_dir=tmp_path, issuers=[usual | issuer for issuer in issuers])
