"""Callers and a policy that the storage tests share."""

from __future__ import annotations

from datetime import timedelta

from jit_service.domain.caller import Caller, Role
from jit_service.domain.grants.grant import Grant
from jit_service.domain.grants.request import Ask
from jit_service.domain.policies.policy import Policy, PrincipalSet, Step
from jit_service.storage import Store
from jit_service.use_cases import grants, policies

ADMIN = Caller(principal="user:admin@example.com", roles=frozenset({Role.ADMIN}))
AUDITOR = Caller(principal="user:auditor@example.com", roles=frozenset({Role.AUDITOR}))
GATEWAY = Caller(principal="service:gateway", roles=frozenset({Role.CHECKER}))
ALICE = Caller(principal="user:alice@example.com", groups=frozenset({"engineering"}))
BOB = Caller(principal="user:bob@example.com", groups=frozenset({"owners"}))
CAROL = Caller(principal="user:carol@example.com", groups=frozenset({"owners"}))
DAVE = Caller(principal="user:dave@example.com")


def policy(name: str = "policies/orders", *, approvals: int = 1, **changes: object) -> Policy:
    facts: dict[str, object] = {
        "name": name,
        "eligible": PrincipalSet(groups=("engineering",)),
        "resources": ("database/orders/**",),
        "actions": ("read", "rows.*"),
        "max_duration": timedelta(hours=4),
        "default_duration": timedelta(hours=1),
        "request_ttl": timedelta(hours=8),
        "steps": (Step(approvers=PrincipalSet(groups=("owners",)), approvals_needed=approvals),),
    }
    return Policy(**(facts | changes))  # type: ignore[arg-type]


def add_policy(store: Store, **changes: object) -> Policy:
    return policies.create(store, ADMIN, policy(**changes))  # type: ignore[arg-type]


def ask(store: Store, *, caller: Caller = ALICE, resource: str = "database/orders/eu", **changes: object) -> Grant:
    asked = Ask(subject=caller.principal, resources=(resource,), actions=("read",), **changes)  # type: ignore[arg-type]
    return grants.ask(store, caller, asked).grant


def approve(store: Store, grant: Grant, *, by: Caller = BOB) -> Grant:
    return grants.approve(store, by, grant.name, comment="", etag="").grant
