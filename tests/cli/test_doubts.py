"""What is likely not what was meant gets a warning: patterns that match less than they look like, and weak reviews."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jitaccess.cli import doubts
from jitaccess.v1 import policy_pb2
from tests.cli.conftest import Jit
from tests.domain.test_sown_bugs import Twin, demand_caught


def gaps(*, resources: tuple[str, ...] = ("**",), actions: tuple[str, ...] = ("**",), deny: bool = True) -> list[str]:
    policy = policy_pb2.Policy(name="no", deny=deny, resources=resources, actions=actions)
    return [f"{field}: {words}" for field, words in doubts.doubts(policy)]


def reviews(**changes: Any) -> list[str]:
    """The doubts of a policy that engineers may ask under, by the steps given as messages' fields."""
    facts: dict[str, Any] = {"name": "a", "eligible": {"groups": ["engineering"], "principals": ["user:x"]}}
    return [field for field, _ in doubts.doubts(policy_pb2.Policy(**(facts | changes)))]


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        (("http/admin.internal/**",), "does not deny http/admin.internal itself; deny that too"),
        (("k8s/prod-*/**",), "does not deny k8s/prod-* itself; deny that too"),
        (("k8s/prod-*",), "ends with its segment, and denies nothing below; deny k8s/prod-*/** too"),
        (("database/*",), "ends with its segment, and denies nothing below; did you mean **?"),
        (("database/*", "database/*/*"), "database/* ends with its segment"),
        (("http/a/**", "http/b"), "does not deny http/a itself"),
    ],
)
def test_resources_that_leave_something_open(resources: tuple[str, ...], told: str) -> None:
    assert any(told in gap and gap.startswith("resources[0]: ") for gap in gaps(resources=resources))


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        (("http/shop.internal/**",), ["resources[0]: http/shop.internal/** does not cover http/shop.internal itself"]),
        (("http/shop.internal", "http/shop.internal/**"), []),
        (("http/*", "http/shop.internal/**"), []),
        (("database/**",), []),
        (("database/*",), []),
    ],
)
def test_a_policy_that_leaves_out_a_root_is_told(resources: tuple[str, ...], told: list[str]) -> None:
    found = gaps(resources=resources, actions=("rows.*", "rows.**"), deny=False)

    assert [gap.partition(";")[0] for gap in found] == told


@pytest.mark.parametrize(
    "step",
    [
        {"approvers": {"groups": ["engineering"]}},
        {"approvers": {"groups": ["engineering"], "principals": ["user:x"]}},
        {"approvers": {"groups": ["engineering"]}, "escalate_to": {"groups": ["engineering"]}},
    ],
)
def test_a_step_that_only_the_requesters_own_group_can_decide_is_told(step: dict[str, Any]) -> None:
    assert reviews(steps=[{"approvers": {"groups": ["owners"]}}, step]) == ["steps[1].approvers"]


@pytest.mark.parametrize(
    "step",
    [
        {"approvers": {"groups": ["owners"]}},
        {"approvers": {"groups": ["engineering", "owners"]}},
        {"approvers": {"groups": ["engineering"], "principals": ["user:boss"]}},
        {"approvers": {"groups": ["engineering"]}, "escalate_to": {"groups": ["owners"]}},
        {"approvers": {"groups": ["engineering"]}, "condition": "!reviewer.groups.exists(g, g == 'team-a')"},
        {"approvers": {"principals": ["user:x"]}},
    ],
    ids=["others", "others too", "one by name", "others later", "judged each", "by name only"],
)
def test_a_step_that_somebody_else_can_decide_is_not(step: dict[str, Any]) -> None:
    assert reviews(steps=[step]) == []
    assert reviews(steps=[{"approvers": {"groups": ["engineering"]}}], allow_self_approval=True) == []


@pytest.mark.parametrize(
    "resources",
    [
        ("**",),
        ("database/**",),
        ("database/orders",),
        ("http/admin.internal", "http/admin.internal/**"),
        ("http/admin.internal/**", "http/*"),
        ("k8s/prod-*", "k8s/prod-*/**"),
        ("k8s/prod-*", "k8s/**"),
    ],
)
def test_resources_that_leave_nothing_open(resources: tuple[str, ...]) -> None:
    assert [gap for gap in gaps(resources=resources) if "http/*" not in gap] == []


@pytest.mark.parametrize(
    ("actions", "told"),
    [
        (("*",), "did you mean **?"),
        (("rows.*",), "did you mean **?"),
        (("rows.**",), "does not deny rows itself"),
        (("Microsoft.Compute/*",), "deny Microsoft.Compute/*.** too"),
        (("s3:*",), "deny s3:*.** too"),
    ],
)
def test_actions_that_leave_something_open(actions: tuple[str, ...], told: str) -> None:
    (gap,) = gaps(actions=actions)

    assert gap.startswith("actions[0]: ")
    assert gap.endswith(told) or told in gap


@pytest.mark.parametrize("actions", [("**",), ("read",), ("s3:Get*",), ("rows", "rows.**"), ("s3:*", "s3:*.**")])
def test_actions_that_leave_nothing_open(actions: tuple[str, ...]) -> None:
    assert gaps(actions=actions) == []


def test_lint_warns_and_is_content(jit: Jit, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    denied = "{groups: [x]}\n  deny: true\n  resources: ['http/x/**']\n  actions: ['**']\n"
    path.write_text(f"policies:\n- name: b\n  eligible: {denied}")
    warning = "resources[0]: http/x/** does not deny http/x itself; deny that too"

    ran = jit("policy", "lint", str(path), "--offline")
    told = jit("policy", "lint", str(path), "--offline", "-o", "json")

    assert (ran.code, ran.out) == (0, f"{path}:5: warning: {warning}\n")
    assert json.loads(told.out) == {
        "findings": [],
        "warnings": [{"file": str(path), "line": 5, "message": warning}],
    }


def test_a_deny_without_its_root_that_nobody_is_warned_of_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    twin = Twin(
        "a deny without its root that nobody is warned of",
        doubts._roots,
        "not together.match(root)",
        "not together.match(pattern)",
        lambda: test_resources_that_leave_something_open(("http/admin.internal/**",), "does not deny"),
    )

    demand_caught(twin, monkeypatch)


def test_a_weak_review_that_nobody_is_warned_of_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    twin = Twin(
        "an approver by name who is taken for a colleague",
        doubts._colleagues,
        "and named <= set(policy.eligible.principals)",
        "",
        lambda: test_a_step_that_somebody_else_can_decide_is_not(
            {"approvers": {"groups": ["engineering"], "principals": ["user:boss"]}}
        ),
    )

    demand_caught(twin, monkeypatch)
