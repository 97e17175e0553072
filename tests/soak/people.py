"""Who takes part in a run, and the policies that they ask under. Each driver has people and resources of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jit_service.domain.caller import Role
from tests.world import Person

ENGINEERS, OWNERS = "engineers", "owners"
DRIVERS = 6
GATEWAY = Person("service:gateway", roles=(Role.CHECKER,))
AUDITOR = Person("user:auditor@example.com", roles=(Role.AUDITOR,))
ADMIN = Person("user:admin@example.com", roles=(Role.ADMIN,))
STRANGER = Person("user:stranger@example.com")


def requester(number: int) -> Person:
    """Returns who asks for access in a driver's stories."""
    return Person(f"user:requester-{number}@example.com", (ENGINEERS,))


def owner(number: int) -> Person:
    """Returns who approves it."""
    return Person(f"user:owner-{number}@example.com", (OWNERS,))


def write_policies(path: Path) -> Path:
    """Writes the policy file. Returns where; JSON is YAML too."""
    signals = [_policy(f"signal-{number}", checkCondition=f'signals.s{number} == "on"') for number in range(DRIVERS)]
    approval = {"approvers": {"groups": [OWNERS]}}
    policies = [
        _policy("auto", extension={"maxExtensions": 3, "maxTotalDuration": "7200s"}),
        _policy("deny"),
        _policy("one", steps=[approval | {"approvalsNeeded": 1}]),
        _policy("two", steps=[approval | {"approvalsNeeded": 2}]),
        *signals,
    ]
    path.write_text(json.dumps({"policies": policies}))
    return path


def forbidding(name: str, resource: str) -> dict[str, Any]:
    """Returns a policy that denies the resource to all who ask for access."""
    denied = {"eligible": {"groups": [ENGINEERS]}, "resources": [resource], "actions": ["**"]}
    return {"name": name, "deny": True} | denied


def _policy(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "name": f"policies/{kind}",
        "eligible": {"groups": [ENGINEERS]},
        "resources": [f"{kind}/**"],
        "actions": ["read", "write"],
        "maxDuration": "3600s",
    } | more
