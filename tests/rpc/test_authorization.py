"""The one table of who may call what."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from jit_service.domain.caller import Caller, Origin, Role
from jit_service.domain.errors import RoleRequired
from jit_service.rpc.admission import MalformedRequest
from jit_service.rpc.authorization import RULES, demand
from jit_service.rpc.server import EXT_PROC_SERVICE, SERVICES
from jitaccess.v1.policy_pb2 import ApplyPoliciesRequest
from tests.world import Grpc, Person, World

WRITES = (
    "Request",
    "Ensure",
    "Set",
    "Approve",
    "Deny",
    "Withdraw",
    "Revoke",
    "Release",
    "Create",
    "Update",
    "Delete",
    "Apply",
    "Counter",
    "Accept",
    "Decline",
    "Extend",
    "Complete",
    "Reject",
    "Check",
    "Search",
    "Evaluate",
    "Cancel",
    "Issue",
)
ANONYMOUS = {
    "/authzen.v1.AuthorizationService/GetConfiguration",
    "/jitaccess.v1.TokenService/GetKeySet",
    "/jitaccess.v1.TokenService/GetAuthorizationServerMetadata",
    "/jitaccess.v1.TokenService/GetProtectedResourceMetadata",
    "/jitaccess.v1.DocsService/GetOpenApi",
    "/jitaccess.v1.DocsService/GetDocsPage",
    "/jitaccess.v1.DocsService/GetDocsAsset",
    "/jitaccess.v1.ConsoleService/GetConsolePage",
    "/jitaccess.v1.ConsoleService/GetConsoleAsset",
}

PROXY = {"/envoy.service.auth.v3.Authorization/Check"}
# Envoy asks it what is wrong with a REST request; it is no part of the contract.
EDGE = "/jitaccess.edge/ExplainRequest"


def methods_of(service: str) -> list[str]:
    descriptor = descriptor_pool.Default().FindServiceByName(service)
    return [f"/{service}/{method.name}" for method in descriptor.methods]


def served(channel: grpc.Channel) -> list[str]:
    """Asks the running server itself what it serves."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = stub.ServerReflectionInfo(iter([request]))
    return [service.name for service in answer.list_services_response.service]


def test_every_rpc_that_is_served_has_a_rule(grpc_channel: grpc.Channel) -> None:
    methods = [method for service in (*served(grpc_channel), EXT_PROC_SERVICE) for method in methods_of(service)]

    assert sorted([*methods, EDGE]) == sorted(RULES)


def test_only_health_and_reflection_and_what_the_edge_asks_are_public() -> None:
    public = {method for method, rule in RULES.items() if rule.public}

    assert public == {method for method in RULES if method.startswith(("/grpc.health.", "/grpc.reflection."))} | {EDGE}


def test_only_keys_and_addresses_go_without_a_token() -> None:
    assert {method for method, rule in RULES.items() if rule.anonymous} == ANONYMOUS


def test_only_what_asks_for_clients_is_for_proxies() -> None:
    assert {method for method, rule in RULES.items() if rule.proxy} == {*PROXY, *methods_of(EXT_PROC_SERVICE)}


@pytest.mark.parametrize("method", PROXY)
def test_a_call_for_proxies_is_for_no_client(world: World, method: str) -> None:
    admin = Person("user:admin@example.com", roles=tuple(Role))

    for token in (None, world.token(admin)):
        outcome = Grpc(world).call(method, {}, token=token, x_jit_proxy="ext-authz")
        assert (outcome.code, outcome.reason) == ("PERMISSION_DENIED", "PROXY_REQUIRED")


def test_every_write_and_check_that_is_refused_is_recorded() -> None:
    for method, rule in RULES.items():
        name = method.rpartition("/")[2]
        is_write = any(word in name for word in WRITES) and not (rule.public or name.startswith("Get"))

        assert rule.recorded == is_write, method


def test_what_is_not_in_the_table_nobody_may_call() -> None:
    everything = Caller(principal="user:a", roles=frozenset(Role), origin=Origin(method="/x.Y/Z"))

    with pytest.raises(RoleRequired):
        demand(None, everything)


@pytest.mark.parametrize(
    "method", [method for service in SERVICES for method in methods_of(service) if method not in ANONYMOUS | PROXY]
)
def test_no_call_goes_without_a_token(world: World, method: str) -> None:
    assert Grpc(world).call(method, {}, token=None).reason == "TOKEN_MISSING"


@pytest.mark.parametrize("method", [method for method, rule in RULES.items() if rule.roles is not None])
@pytest.mark.parametrize("role", [None, *Role])
def test_a_call_with_roles_is_for_those_roles(world: World, method: str, role: Role | None) -> None:
    person = Person("user:somebody@example.com", roles=(role,) if role else ())
    rule = RULES[method]
    assert rule.roles is not None

    outcome = Grpc(world).call(method, {}, token=world.token(person))

    assert (outcome.reason == "ROLE_REQUIRED") == (role not in rule.roles)


def test_an_auditor_may_ask_what_policies_would_change_and_not_change_them() -> None:
    method = "/jitaccess.v1.PolicyService/ApplyPolicies"
    auditor, nobody = (
        Caller(principal="user:a", roles=frozenset(roles), origin=Origin(method=method))
        for roles in ([Role.AUDITOR], [])
    )

    demand(RULES[method], auditor, ApplyPoliciesRequest(validate_only=True))
    with pytest.raises(RoleRequired, match="needs the role admin or auditor,"):
        demand(RULES[method], nobody, ApplyPoliciesRequest(validate_only=True))
    for other in (ApplyPoliciesRequest(), ApplyPoliciesRequest(validate_only=False), MalformedRequest(), None):
        with pytest.raises(RoleRequired, match="needs the role admin,"):
            demand(RULES[method], auditor, other)


def test_a_dry_run_of_what_has_no_rule_for_one_needs_its_own_roles() -> None:
    method = "/jitaccess.v1.GrantService/RevokeGrants"
    auditor = Caller(principal="user:a", roles=frozenset({Role.AUDITOR}), origin=Origin(method=method))

    with pytest.raises(RoleRequired):
        demand(RULES[method], auditor, ApplyPoliciesRequest(validate_only=True))


def test_health_needs_no_token(grpc_channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(grpc_channel)

    for service in ("", *SERVICES):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
