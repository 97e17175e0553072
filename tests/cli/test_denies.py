"""A deny policy that forbids less than it looks like gets a warning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jitaccess.cli import denies
from jitaccess.v1 import policy_pb2
from tests.cli.conftest import Jit
from tests.domain.test_sown_bugs import Twin, demand_caught


def gaps(*, resources: tuple[str, ...] = ("**",), actions: tuple[str, ...] = ("**",), deny: bool = True) -> list[str]:
    return list(denies.gaps(policy_pb2.Policy(name="no", deny=deny, resources=resources, actions=actions)))


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
    assert gaps(resources=resources, deny=False) == []


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
    path.write_text("policies:\n- {name: a}\n- name: b\n  deny: true\n  resources: ['http/x/**']\n  actions: ['**']\n")
    warning = "resources[0]: http/x/** does not deny http/x itself; deny that too"

    ran = jit("policy", "lint", str(path), "--offline")
    told = jit("policy", "lint", str(path), "--offline", "-o", "json")

    assert (ran.code, ran.out) == (0, f"{path}:3: warning: {warning}\n")
    assert json.loads(told.out) == {
        "findings": [],
        "warnings": [{"file": str(path), "line": 3, "message": warning}],
    }


def test_a_deny_without_its_root_that_nobody_is_warned_of_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    twin = Twin(
        "a deny without its root that nobody is warned of",
        denies._gaps,
        "not together.match(root)",
        "not together.match(pattern)",
        lambda: test_resources_that_leave_something_open(("http/admin.internal/**",), "does not deny"),
    )

    demand_caught(twin, monkeypatch)
