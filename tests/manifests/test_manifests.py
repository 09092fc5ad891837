"""What `kubectl apply -k k8s/overlays/…` would send is valid, pinned, closed and probed."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from kustomized import K8S, NAMESPACES, Resources, containers, named, of_kind, pods, rendered_resources

from components.images import PIPELINE_IMAGE, SERVING_IMAGE
from recommender.settings import load_settings

BUILT_IN = ("v1", "apps/v1", "batch/v1", "autoscaling/v2", "policy/v1", "networking.k8s.io/v1")
BUILT_IN += ("rbac.authorization.k8s.io/v1",)
CONTAINERS_OF_SERVING = ("gateway", "torchserve", "deployer")


def test_every_built_in_resource_is_valid_under_strict_validation(resources: Resources, tmp_path: Path) -> None:
    file = tmp_path / "resources.yaml"
    file.write_text(yaml.safe_dump_all([one for one in resources if one["apiVersion"] in BUILT_IN]))
    command = [str(Path(sys.executable).with_name("kubernetes-validate")), "--strict", "--quiet", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "WARN" not in result.stdout, "a resource was not validated at all:\n" + result.stdout


def test_checkov_finds_nothing(variants: Path, checkov: str) -> None:
    command = [checkov, "-d", str(variants), "--config-file", str(K8S / ".checkov.yaml"), "--skip-download"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Failed checks: 0" in result.stdout, result.stdout


def test_no_image_can_move_so_a_node_pulls_it_once(resources: Resources) -> None:
    for container in containers(resources):
        _, _, tag = container["image"].rpartition(":")
        assert "@sha256:" in container["image"] or tag[:1].isdigit(), f"{container['image']}: not an exact version"
        assert container["imagePullPolicy"] == "IfNotPresent", container["name"]


def test_our_images_are_those_that_components_images_names(resources: Resources) -> None:
    # `make images PUSH=1` replaces them by digests in a checkout (k8s/components/digests).
    images = {(one["name"], one["image"]) for one in containers(resources) if "@sha256:" not in one["image"]}
    assert {image for name, image in images if name in CONTAINERS_OF_SERVING} <= {SERVING_IMAGE}
    assert {image for name, image in images if name in ("clean", "compact")} <= {PIPELINE_IMAGE}


def test_every_container_is_limited_and_confined(resources: Resources) -> None:
    for container in containers(resources):
        name = container["name"]
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys(), f"{name}: no limits"
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, f"{name}: its root can be written"


def test_every_container_that_runs_on_is_probed(resources: Resources) -> None:
    for workload in of_kind(resources, "Deployment") + of_kind(resources, "StatefulSet"):
        for container in containers([workload]):
            assert "readinessProbe" in container, f"{container['name']}: no readiness probe"
            assert "livenessProbe" in container, f"{container['name']}: no liveness probe"


def test_the_gateway_is_probed_by_its_readiness_and_its_liveness(resources: Resources) -> None:
    (gateway,) = [c for c in containers(resources) if c["name"] == "gateway"]
    assert gateway["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert gateway["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert gateway["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_probes_and_prometheus_ask_the_port_that_does_not_queue_behind_requests(resources: Resources) -> None:
    (gateway,) = [c for c in containers(resources) if c["name"] == "gateway"]
    settings = tomllib.loads((K8S / "base" / "recommender.toml").read_text(encoding="utf-8"))
    health = {port["name"]: port["containerPort"] for port in gateway["ports"]}["health"]
    assert health == settings["serving"]["health_port"]
    assert {gateway[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")} == {
        "health"
    }
    serving = named(resources, "Deployment", "campaign-serving")
    assert serving["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(health)
    for service in of_kind(resources, "Service"):
        if service["metadata"]["name"] != "campaign-metrics":
            ports = [port["targetPort"] for port in service["spec"].get("ports", [])]
            assert "health" not in ports, "clients need not reach it"


def test_no_service_reaches_the_management_port(resources: Resources) -> None:
    for service in of_kind(resources, "Service"):
        for port in service["spec"].get("ports", []):
            assert 8081 not in (port["port"], port["targetPort"]), service["metadata"]["name"]
    declared = {port["containerPort"] for c in containers(resources) for port in c.get("ports", [])}
    assert 8081 not in declared


def test_no_secret_stands_in_a_manifest(resources: Resources) -> None:
    assert not of_kind(resources, "Secret")
    for container in containers(resources):
        for variable in container.get("env", []):
            assert "valueFrom" not in variable, f"{variable['name']}: secrets are mounted as files"


def test_everything_lies_in_one_namespace_that_is_not_ours(rendered: Path, resources: Resources) -> None:
    assert {one["metadata"]["namespace"] for one in resources} == {NAMESPACES[rendered.stem.split("-")[0]]}
    assert not of_kind(resources, "Namespace"), "an overlay must not label a namespace that it does not own"
    cluster_wide = ("ClusterRole", "ClusterRoleBinding", "PersistentVolume", "StorageClass", "PriorityClass")
    assert not [one["kind"] for one in resources if one["kind"] in cluster_wide]


def test_everything_of_ours_can_be_found_by_one_label(resources: Resources) -> None:
    # The pods too: the guide lists them by it, and `make e2e` tells them from other people's.
    for one in (*resources, *pods(resources)):
        labels = one["metadata"].get("labels", {})
        assert labels.get("app.kubernetes.io/part-of") == "campaign-recommender", one["metadata"].get("name", labels)


def test_no_pod_of_ours_is_part_of_a_mesh(resources: Resources) -> None:
    for pod in pods(resources):
        assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
        assert pod["metadata"]["labels"]["istio.io/dataplane-mode"] == "none"


def test_services_and_budgets_select_pods_that_exist(resources: Resources) -> None:
    labels = [pod["metadata"]["labels"] for pod in pods(resources)]
    for service in of_kind(resources, "Service"):
        if service["spec"].get("type") != "ExternalName":
            wanted = service["spec"]["selector"].items()
            assert any(wanted <= label.items() for label in labels), service["metadata"]["name"]
    for budget in of_kind(resources, "PodDisruptionBudget"):
        wanted = budget["spec"]["selector"]["matchLabels"].items()
        assert any(wanted <= label.items() for label in labels), budget["metadata"]["name"]


def test_the_settings_on_a_cluster_are_settings(
    resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, for_jobs = (one for one in of_kind(resources, "ConfigMap") if "recommender.toml" in one["data"])
    assert config["data"] == for_jobs["data"]
    file = tmp_path / "recommender.toml"
    file.write_text(config["data"]["recommender.toml"])
    (gateway,) = (one for one in containers(resources) if one["name"] == "gateway")
    for variable in gateway["env"]:
        if variable["name"].startswith("RECOMMENDER__"):
            monkeypatch.setenv(variable["name"], variable["value"])
    settings = load_settings(file)
    mounts = {m["mountPath"] for c in containers(resources) for m in c["volumeMounts"]}
    assert str(settings.home) in mounts
    services = {one["metadata"]["name"] for one in of_kind(resources, "Service")}
    assert settings.store.kind == ("redis" if "campaign-store" in services else "postgres")
    assert settings.store.redis_url == "redis://campaign-store:6379/0"


def test_only_the_demo_pins_a_date(tmp_path: Path) -> None:
    assert "time" not in tomllib.loads((K8S / "base" / "recommender.toml").read_text(encoding="utf-8"))
    pinned = {
        overlay: {
            (container["name"], variable["value"])
            for container in containers(rendered_resources(tmp_path, overlay))
            for variable in container.get("env", [])
            if variable["name"].startswith("RECOMMENDER__TIME__")
        }
        for overlay in NAMESPACES
    }
    demo = pinned.pop("demo")
    assert demo == {(name, "2017-12-31") for name in CONTAINERS_OF_SERVING}
    assert set().union(*pinned.values()) == set()


def test_every_variable_of_a_setting_names_a_setting(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    for container in containers(resources):
        found = {
            variable["name"]: variable["value"]
            for variable in container.get("env", [])
            if variable["name"].startswith("RECOMMENDER__")
        }
        # All of a container's at once, as it has them: some settings are valid only together.
        with monkeypatch.context() as environment:
            for name, value in found.items():
                environment.setenv(name, value)
            settings = load_settings(K8S / "base" / "recommender.toml")
        for name, value in found.items():
            section, key = name.removeprefix("RECOMMENDER__").lower().split("__")
            assert str(getattr(getattr(settings, section), key)).startswith(value), f"{container['name']}: {name}"
