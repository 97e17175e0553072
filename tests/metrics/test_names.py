"""Names as Prometheus has them, bounded labels, and rules, dashboard and page that name what there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from jit_service.domain.audit.event import EventType
from jit_service.metrics.catalogue import FAMILIES
from jit_service.metrics.families import Counter
from jit_service.metrics.page import exposed, page
from tests.prepared import ROOT

RULES = ROOT / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "deploy" / "grafana" / "jit.json"
NAMES = {name for family in FAMILIES for name in exposed(family)}
# What may be told apart: each has few values, which the service, its admins or its operators choose.
LABELS = {
    *("method", "code", "reason", "cause", "result", "kind", "state", "type", "outcome", "overdue", "thread"),
    *("policy", "receiver", "issuer", "version", "transport", "database"),
}


def used(expression: str) -> set[str]:
    return set(re.findall(r"\bjit_[a-z0-9_]+", expression))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_metric_is_named_in_base_units(family: object) -> None:
    name: str = family.name  # type: ignore[attr-defined]

    assert re.fullmatch(r"jit_[a-z]+(_[a-z]+)*", name)
    assert not re.search(r"_(ms|milliseconds|minutes|hours|kib|mib|kb|mb|total|count|sum|bucket)$", name)
    assert family.help.endswith(".")  # type: ignore[attr-defined]


def test_no_label_can_have_a_principal_a_resource_or_a_text() -> None:
    assert {label for family in FAMILIES for label in family.labels} <= LABELS


def test_the_names_are_all_different() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    assert all(family.name.startswith("jit_") for family in FAMILIES)


def test_every_alert_is_about_metrics_that_there_are_and_says_how_urgent_it_is() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]

    for rule in rules:
        assert used(rule["expr"]) <= NAMES, rule["alert"]
        assert used(rule["expr"]) or "up{" in rule["expr"]
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"].endswith(".")
    assert {type_ for rule in rules for type_ in re.findall(r'type="([A-Z_]+)"', rule["expr"])} <= set(EventType)


def test_operating_says_what_to_do_about_each_alert() -> None:
    told = (ROOT / "docs" / "operating.md").read_text()

    for alert in re.findall(r"alert: (\w+)", RULES.read_text()):
        assert f"| `{alert}` |" in told


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    shown = {name for panel in panels for target in panel.get("targets", ()) for name in used(target["expr"])}

    assert shown <= NAMES
    assert [family.name for family in FAMILIES if not shown & set(exposed(family))] == []
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_page_has_every_metric() -> None:
    for family in FAMILIES:
        name = f"{family.name}_total" if isinstance(family, Counter) else family.name
        assert f"| `{name}` |" in page()


def test_promtool_tries_the_rules() -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is missing: apt-get install prometheus")
    for arguments in (
        ["check", "rules", str(RULES)],
        ["test", "rules", str(Path(RULES).with_name("alerts_test.yaml"))],
    ):
        done = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
