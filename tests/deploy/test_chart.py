"""The Helm chart, rendered by Helm itself: what it makes fits Kubernetes' schemas, and no container may do much."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from jit_service.runtime.service import STOP_SECONDS

WHY = "not installed: `make chart-tools`"
helm = pytest.importorskip("helm_python", reason=f"helm-python-sdk is {WHY}")
kubernetes = pytest.importorskip("kubernetes_validate", reason=f"kubernetes-validate is {WHY}")

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "jit-access"
LEAST: dict[str, Any] = {"issuers": [{"issuer": "https://login.example.com", "audience": "jitaccess"}]}
MOST: dict[str, Any] = LEAST | {
    "autoscaling": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "secrets": ["oncall"],
    "receivers": [{"name": "oncall"}],
    "policies": "policies: []",
    "networkPolicy": {"prometheus": [{"namespaceSelector": {}}]},
    "settings": {"JIT_WORKERS": 2},
    "database": {"secret": "jit-database", "ownerSecret": "jit-owner"},
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"operator": "Exists"}],
}
each = pytest.mark.parametrize("values", [LEAST, MOST], ids=["least", "most"])


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    with helm.Chart.load(str(CHART)) as chart:
        texts = chart.render(values, name="access", namespace="security").values()
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


@each
def test_all_of_it_fits_the_schemas_of_kubernetes(values: dict[str, Any]) -> None:
    for found in rendered(values):
        # The Prometheus operator's own kind has no schema there.
        if found["kind"] != "ServiceMonitor":
            kubernetes.validate(found, "1.37", strict=True)


@each
def test_no_container_may_become_root_or_write_its_image(values: dict[str, Any]) -> None:
    pods = [found["spec"]["template"]["spec"] for found in rendered(values) if found["kind"] in ("Deployment", "Job")]

    assert len(pods) == 2
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_whatever_can_be_asked_for_is_made() -> None:
    assert sorted({found["kind"] for found in rendered(MOST)}) == [
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "Job",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
        "ServiceMonitor",
    ]


def test_without_a_word_nobody_reaches_the_metrics() -> None:
    (policy,) = (found for found in rendered(LEAST) if found["kind"] == "NetworkPolicy")

    assert [rule["ports"] for rule in policy["spec"]["ingress"]] == [[{"port": "https", "protocol": "TCP"}]]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "issuers: name those"),
        (LEAST | {"replica": 3}, "'replica' not allowed"),
        (LEAST | {"tls": {"secret": ""}}, "tls.secret: name a secret"),
        (LEAST | {"settings": {"JIT_DATABASE_URL": "postgresql://u:p@h/d"}}, "JIT_DATABASE_URL"),
    ],
)
def test_a_value_that_would_not_do_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(helm.HelmError, match=says):
        rendered(values)


def test_a_service_is_restarted_where_it_does_not_answer_and_not_where_its_store_is_away() -> None:
    (deployment,) = (found for found in rendered(LEAST) if found["kind"] == "Deployment")
    (service, _) = deployment["spec"]["template"]["spec"]["containers"]

    asked = service["livenessProbe"]["exec"]["command"]
    assert asked == ["/opt/jit/bin/python", "/opt/jit/health.py", "--alive"]


def test_envoy_outlives_a_service_that_drains_and_kubernetes_waits_for_both() -> None:
    (deployment,) = (found for found in rendered(LEAST | {"drainSeconds": 30}) if found["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    service, envoy = pod["containers"]
    _, script, admin, seconds = envoy["lifecycle"]["preStop"]["exec"]["command"]

    assert {"name": "JIT_DRAIN_DELAY", "value": "30s"} in service["env"]
    assert "lifecycle" not in service, "it is told to stop at once, and drains"
    assert 30 + STOP_SECONDS < int(seconds) < pod["terminationGracePeriodSeconds"]
    assert script == "/opt/jit/drain.py"
    assert json.loads(envoy["command"][-1])["admin"]["address"]["pipe"]["path"] == admin
