"""What `kubectl apply -k k8s/overlays/…` would send is valid, pinned, closed and probed."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml

from components.images import SERVING_IMAGE
from recommender.settings import load_settings

ROOT = Path(__file__).parents[2]
Resources = list[dict[str, Any]]


def pods(resources: Resources) -> Resources:
    return [r["spec"]["template"] for r in resources if r["kind"] in ("Deployment", "StatefulSet", "Job", "DaemonSet")]


def containers(resources: Resources) -> Resources:
    return [container for pod in pods(resources) for container in pod["spec"]["containers"]]


def of_kind(resources: Resources, kind: str) -> Resources:
    return [resource for resource in resources if resource["kind"] == kind]


def test_every_resource_is_valid_under_strict_validation(rendered: Path) -> None:
    (file,) = rendered.glob("*.yaml")
    command = [str(Path(sys.executable).with_name("kubernetes-validate")), "--strict", "--quiet", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "WARN" not in result.stdout, "a resource was not validated at all:\n" + result.stdout


def test_checkov_finds_nothing(rendered: Path, checkov: str) -> None:
    command = [
        checkov,
        "-d",
        str(rendered),
        "--config-file",
        str(ROOT / "k8s" / ".checkov.yaml"),
        "--skip-download",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Failed checks: 0" in result.stdout, result.stdout


def test_no_image_tag_can_move(resources: Resources) -> None:
    for container in containers(resources):
        _, _, tag = container["image"].rpartition(":")
        assert tag[:1].isdigit(), f"{container['image']}: not an exact version"


def test_the_serving_image_is_the_one_that_components_images_names(resources: Resources) -> None:
    ours = {c["image"] for c in containers(resources) if c["name"] in ("gateway", "torchserve", "deployer")}
    assert ours == {SERVING_IMAGE}


def test_every_container_is_probed_limited_and_confined(resources: Resources) -> None:
    for container in containers(resources):
        name = container["name"]
        assert "readinessProbe" in container, f"{name}: no readiness probe"
        assert "livenessProbe" in container, f"{name}: no liveness probe"
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys(), f"{name}: no limits"
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, f"{name}: its root can be written"
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]


def test_the_gateway_is_probed_by_its_readiness_and_its_liveness(resources: Resources) -> None:
    (gateway,) = [c for c in containers(resources) if c["name"] == "gateway"]
    assert gateway["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert gateway["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_probes_and_prometheus_ask_the_port_that_does_not_queue_behind_requests(resources: Resources) -> None:
    (gateway,) = [c for c in containers(resources) if c["name"] == "gateway"]
    settings = tomllib.loads((ROOT / "k8s" / "base" / "recommender.toml").read_text(encoding="utf-8"))
    health = {port["name"]: port["containerPort"] for port in gateway["ports"]}["health"]
    assert health == settings["serving"]["health_port"]
    assert {gateway[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")} == {
        "health"
    }
    (serving,) = [
        one for one in of_kind(resources, "Deployment") if one["metadata"]["name"].endswith("campaign-serving")
    ]
    assert serving["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(health)
    for service in of_kind(resources, "Service"):
        assert "health" not in [port["targetPort"] for port in service["spec"]["ports"]], "clients need not reach it"


def test_no_service_reaches_the_management_port(resources: Resources) -> None:
    for service in of_kind(resources, "Service"):
        for port in service["spec"]["ports"]:
            assert 8081 not in (port["port"], port["targetPort"]), service["metadata"]["name"]
    declared = {port["containerPort"] for c in containers(resources) for port in c.get("ports", [])}
    assert 8081 not in declared


def test_the_namespace_denies_all_traffic_by_default_and_enforces_the_restricted_standard(resources: Resources) -> None:
    (namespace,) = of_kind(resources, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    denied = [
        policy["metadata"]["namespace"]
        for policy in of_kind(resources, "NetworkPolicy")
        if policy["spec"]["podSelector"] == {}
        and set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        and not policy["spec"].get("ingress")
        and not policy["spec"].get("egress")
    ]
    assert denied == [namespace["metadata"]["name"]]


def test_no_secret_stands_in_a_manifest(resources: Resources) -> None:
    assert not of_kind(resources, "Secret")
    for container in containers(resources):
        for variable in container.get("env", []):
            assert "valueFrom" not in variable, f"{variable['name']}: secrets are mounted as files"


def test_services_and_policies_select_pods_that_exist(resources: Resources) -> None:
    labels = [pod["metadata"]["labels"] for pod in pods(resources)]
    for service in of_kind(resources, "Service"):
        wanted = service["spec"]["selector"].items()
        assert any(wanted <= label.items() for label in labels), service["metadata"]["name"]


def test_the_settings_on_a_cluster_are_settings(resources: Resources, tmp_path: Path) -> None:
    (config,) = of_kind(resources, "ConfigMap")
    file = tmp_path / "recommender.toml"
    file.write_text(config["data"]["recommender.toml"])
    settings = load_settings(file)
    mounts = {m["mountPath"] for c in containers(resources) for m in c["volumeMounts"]}
    assert str(settings.home) in mounts
    assert settings.store.kind == "redis"


def test_an_overlay_with_the_component_for_monitoring_has_alerts_and_a_dashboard(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    overlay = tmp_path / "k8s" / "overlays" / "staging"
    with (overlay / "kustomization.yaml").open("a") as file:
        file.write("components:\n  - ../../components/monitoring\n")
    command = [str(Path(sys.executable).with_name("kubectl")), "kustomize", str(overlay)]
    resources = list(yaml.safe_load_all(subprocess.run(command, capture_output=True, check=True).stdout))
    (rule,) = of_kind(resources, "PrometheusRule")
    assert all(one["alert"] and one["expr"] for group in rule["spec"]["groups"] for one in group["rules"])
    (dashboard,) = (one for one in of_kind(resources, "ConfigMap") if "grafana_dashboard" in one["metadata"]["labels"])
    assert json.loads(dashboard["data"]["dashboard.json"])["panels"]
