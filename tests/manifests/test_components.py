"""Components do what an overlay adds them for, and refuse to be combined where that makes no sense."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kustomized import (
    ADDED,
    K8S,
    OVERLAYS,
    containers,
    kustomize,
    loaded,
    named,
    of_kind,
    overlay_of,
    pods,
    rendered_resources,
)

from components.build_images import write_digests
from components.images import PIPELINE_IMAGE, SERVING_IMAGE
from recommender.settings import StoreSettings
from serving.monitoring.metrics import METRICS


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_component_is_one_line_in_every_overlay(overlay: str, tmp_path: Path) -> None:
    for component in ADDED:
        # On one node there is one replica, so an autoscaler has nothing to do there; it renders all the same.
        assert rendered_resources(tmp_path / component, overlay, component)


def test_ready_made_overlays_are_their_parts(tmp_path: Path) -> None:
    local = rendered_resources(tmp_path / "local", "local")
    assert local == rendered_resources(tmp_path / "standalone", "standalone", "single-node")
    production = rendered_resources(tmp_path / "production", "production")
    assert production == rendered_resources(tmp_path / "profile", "profile", "production", "digests")


@pytest.mark.parametrize("order", [("autoscaling", "autoscaling-keda"), ("autoscaling-keda", "autoscaling")])
def test_two_autoscalers_are_refused(order: tuple[str, str], tmp_path: Path) -> None:
    result = kustomize(overlay_of(tmp_path, "production", order))
    assert result.returncode != 0
    assert f"components/{order[1]}" in result.stderr
    assert "/spec/replicas" in result.stderr


@pytest.mark.parametrize(
    ("overlay", "components"),
    [
        ("standalone", ("autoscaling", "single-node")),
        ("standalone", ("autoscaling-keda", "single-node")),
        ("production", ("single-node",)),
        ("local", ("production",)),
    ],
)
def test_one_node_beside_many_replicas_is_refused(overlay: str, components: tuple[str, ...], tmp_path: Path) -> None:
    result = kustomize(overlay_of(tmp_path, overlay, components))
    assert result.returncode != 0
    assert f"components/{components[-1]}" in result.stderr


@pytest.mark.parametrize(
    ("component", "kind"), [("autoscaling", "HorizontalPodAutoscaler"), ("autoscaling-keda", "ScaledObject")]
)
def test_with_an_autoscaler_nothing_else_sets_the_replicas(component: str, kind: str, tmp_path: Path) -> None:
    resources = rendered_resources(tmp_path, "production", component)
    serving = named(resources, "Deployment", "campaign-serving")
    assert "replicas" not in serving["spec"]
    (scaler,) = of_kind(resources, kind)
    assert scaler["spec"]["scaleTargetRef"]["name"] == "campaign-serving"


def test_the_autoscaler_by_cpu_watches_containers_that_ask_for_cpu(tmp_path: Path) -> None:
    resources = rendered_resources(tmp_path, "production", "autoscaling")
    (scaler,) = of_kind(resources, "HorizontalPodAutoscaler")
    containers = named(resources, "Deployment", "campaign-serving")["spec"]["template"]["spec"]["containers"]
    asked = {one["name"]: _millicores(one["resources"]["requests"]["cpu"]) for one in containers}
    limits = {one["name"]: _millicores(one["resources"]["limits"]["cpu"]) for one in containers}
    for metric in scaler["spec"]["metrics"]:
        of = metric["containerResource"]
        target = asked[of["container"]] * of["target"]["averageUtilization"] / 100
        assert target < limits[of["container"]], "the target is never reached"


def test_the_autoscaler_by_requests_asks_for_a_metric_that_exists(tmp_path: Path) -> None:
    resources = rendered_resources(tmp_path, "production", "autoscaling-keda", "monitoring")
    (scaler,) = of_kind(resources, "ScaledObject")
    (trigger,) = scaler["spec"]["triggers"]
    assert METRICS["recommender_in_flight"].kind == "gauge"
    assert "recommender_in_flight{" in trigger["metadata"]["query"]
    # The label `job` of a series is the name of the Service that a ServiceMonitor selects.
    assert (
        f'job="{named(resources, "Service", "campaign-metrics")["metadata"]["name"]}"' in trigger["metadata"]["query"]
    )
    assert trigger["metadata"]["serverAddress"] == _names()["monitoring"]["address"]


def test_one_node_needs_no_room_for_a_second_pod(tmp_path: Path) -> None:
    resources = rendered_resources(tmp_path, "local")
    serving = named(resources, "Deployment", "campaign-serving")["spec"]
    assert serving["replicas"] == 1
    assert serving["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert named(resources, "PersistentVolumeClaim", "recommender-home")["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_production_survives_a_node_and_a_zone(tmp_path: Path) -> None:
    resources = rendered_resources(tmp_path, "production")
    serving = named(resources, "Deployment", "campaign-serving")["spec"]
    assert serving["replicas"] == 3
    spread = {one["topologyKey"] for one in serving["template"]["spec"]["topologySpreadConstraints"]}
    assert spread == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
    (budget,) = of_kind(resources, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    home = named(resources, "PersistentVolumeClaim", "recommender-home")["spec"]
    assert home["accessModes"] == ["ReadWriteMany"]
    assert home["storageClassName"] == _names()["volumes"]["sharedHome"]["storageClassName"]


def test_production_runs_the_images_that_were_pushed(tmp_path: Path) -> None:
    own = overlay_of(tmp_path, "production", ("housekeeping", "digests"))
    pushed = {
        SERVING_IMAGE: ("harbor.example.org/shop/campaign-recommender-serving:0.1.0", "sha256:" + 64 * "a"),
        PIPELINE_IMAGE: ("harbor.example.org/shop/campaign-recommender-pipeline:0.1.0", "sha256:" + 64 * "b"),
    }
    write_digests(pushed, tmp_path / "k8s" / "components" / "digests" / "kustomization.yaml")
    result = kustomize(own)
    assert result.returncode == 0, result.stderr
    images = {one["name"]: one["image"] for one in containers(loaded(result.stdout))}
    serving = "harbor.example.org/shop/campaign-recommender-serving@sha256:" + 64 * "a"
    pipeline = "harbor.example.org/shop/campaign-recommender-pipeline@sha256:" + 64 * "b"
    assert {images[name] for name in ("gateway", "torchserve", "deployer")} == {serving}
    assert {images[name] for name in ("clean", "compact")} == {pipeline}


def test_prometheus_scrapes_both_ports_and_finds_the_rules(tmp_path: Path) -> None:
    resources = rendered_resources(tmp_path, "local", "monitoring")
    service = named(resources, "Service", "campaign-metrics")
    (monitor,) = of_kind(resources, "ServiceMonitor")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    others = [one for one in of_kind(resources, "Service") if one is not service]
    selected = monitor["spec"]["selector"]["matchLabels"].items()
    assert not [one for one in others if selected <= one["metadata"]["labels"].items()]
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert {ports[endpoint["port"]] for endpoint in monitor["spec"]["endpoints"]} == {8001, 8082}
    (rule,) = of_kind(resources, "PrometheusRule")
    assert all(one["alert"] and one["expr"] for group in rule["spec"]["groups"] for one in group["rules"])
    release = _names()["monitoring"]["release"]
    assert rule["metadata"]["labels"]["release"] == monitor["metadata"]["labels"]["release"] == release
    (dashboard,) = (one for one in of_kind(resources, "ConfigMap") if "grafana_dashboard" in one["metadata"]["labels"])
    assert json.loads(dashboard["data"]["dashboard.json"])["panels"]


def test_only_the_api_is_reached_from_outside_and_only_by_https(tmp_path: Path) -> None:
    resources = rendered_resources(tmp_path, "production", "gateway-api")
    names = _names()["gateway"]
    (gateway,) = of_kind(resources, "Gateway")
    listeners = {one["name"]: one for one in gateway["spec"]["listeners"]}
    assert gateway["spec"]["gatewayClassName"] == names["className"]
    assert {one["hostname"] for one in listeners.values()} == set(names["hostnames"])
    (certificate,) = of_kind(resources, "Certificate")
    assert listeners["https"]["tls"]["certificateRefs"] == [{"name": certificate["spec"]["secretName"]}]
    assert certificate["spec"]["dnsNames"] == names["hostnames"]
    assert certificate["spec"]["issuerRef"] == names["issuer"]
    routes = {one["spec"]["parentRefs"][0]["sectionName"]: one["spec"] for one in of_kind(resources, "HTTPRoute")}
    assert {tuple(one["hostnames"]) for one in routes.values()} == {tuple(names["hostnames"])}
    (redirect,) = routes["http"]["rules"]
    assert redirect["filters"][0]["requestRedirect"]["scheme"] == "https"
    assert "backendRefs" not in redirect
    (rule,) = routes["https"]["rules"]
    assert [one["path"] for one in rule["matches"]] == [{"type": "PathPrefix", "value": "/v1/"}]
    (backend,) = rule["backendRefs"]
    service = named(resources, "Service", backend["name"])
    assert backend["port"] in [port["port"] for port in service["spec"]["ports"]]


def test_another_redis_takes_the_stores_name_and_place(tmp_path: Path) -> None:
    resources = rendered_resources(tmp_path, "production", "external-redis")
    assert not of_kind(resources, "StatefulSet")
    service = named(resources, "Service", "campaign-store")["spec"]
    assert service == {"type": "ExternalName", "externalName": _names()["externalRedis"]["host"]}
    for policy in ("campaign-serving", "campaign-step"):
        egress = named(resources, "NetworkPolicy", policy)["spec"]["egress"]
        assert {"to": _names()["externalRedis"]["peers"], "ports": _names()["externalRedis"]["ports"]} in egress


def test_a_postgresql_of_ones_own_takes_the_stores_place(tmp_path: Path) -> None:
    resources = rendered_resources(tmp_path, "production", "external-postgres")
    assert not of_kind(resources, "StatefulSet")
    assert "campaign-store" not in {one["metadata"]["name"] for one in resources if one["kind"] != "Secret"}
    wanted = _names()["externalPostgres"]
    StoreSettings(kind="postgres", postgres_url=wanted["url"])
    pod = named(resources, "Deployment", "campaign-serving")["spec"]["template"]["spec"]
    for container in pod["containers"]:
        given = {one["name"]: one["value"] for one in container["env"]}
        assert given["RECOMMENDER__STORE__KIND"] == "postgres", container["name"]
        assert given["RECOMMENDER__STORE__POSTGRES_URL"] == wanted["url"], container["name"]
    (secrets,) = (volume["projected"]["sources"] for volume in pod["volumes"] if volume["name"] == "secrets")
    keys = {item["path"]: one["secret"]["name"] for one in secrets for item in one["secret"]["items"]}
    assert keys == {"token": "campaign-gateway", "postgres_password": "campaign-store"}
    for policy in ("campaign-serving", "campaign-step"):
        egress = named(resources, "NetworkPolicy", policy)["spec"]["egress"]
        assert {"to": wanted["peers"], "ports": wanted["ports"]} in egress


@pytest.mark.parametrize("components", [("external-redis", "external-postgres"), ("engine-oip", "external-postgres")])
def test_a_second_store_or_one_after_another_engine_is_refused(components: tuple[str, str], tmp_path: Path) -> None:
    result = kustomize(overlay_of(tmp_path, "production", components))
    assert result.returncode != 0
    assert "components/external-postgres" in result.stderr


def test_housekeeping_never_runs_twice_at_once_and_keeps_decisions(tmp_path: Path) -> None:
    resources = rendered_resources(tmp_path, "local", "housekeeping")
    jobs = of_kind(resources, "CronJob")
    commands = [
        " ".join(one["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["command"]) for one in jobs
    ]
    assert sorted(commands) == ["recommender clean --yes", "recommender decisions compact"]
    assert {one["spec"]["concurrencyPolicy"] for one in jobs} == {"Forbid"}
    assert {one["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] for one in jobs} == {"Never"}
    (clean,) = (one for one in pods(jobs) if one["spec"]["containers"][0]["name"] == "clean")
    kept = {variable["name"] for variable in clean["spec"]["containers"][0]["env"]}
    assert "RECOMMENDER__RETENTION__VERSIONS" in kept, "`clean` refuses to work without any retention time"
    assert "RECOMMENDER__RETENTION__DECISIONS" not in kept
    claims = {volume["persistentVolumeClaim"]["claimName"] for volume in clean["spec"]["volumes"] if _claim(volume)}
    assert claims == {"recommender-home"}


def test_an_overlay_of_ones_own_replaces_names_in_every_place(tmp_path: Path) -> None:
    own = overlay_of(tmp_path, "standalone", [])
    (own / "names").mkdir()
    patch = {
        "apiVersion": "campaign-recommender/v1",
        "kind": "ClusterNames",
        "metadata": {"name": "names"},
        "spec": {
            "dns": {"peers": [{"ipBlock": {"cidr": "169.254.20.10/32"}}], "ports": [{"protocol": "UDP", "port": 53}]},
            "monitoring": {"address": "http://thanos.metrics.svc:9090"},
            "volumes": {"home": {"storageClassName": "fast"}},
            "imagePullSecrets": [{"name": "harbor"}],
        },
    }
    component = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component"}
    (own / "names" / "kustomization.yaml").write_text(
        yaml.safe_dump({**component, "patches": [{"patch": yaml.safe_dump(patch)}]})
    )
    components = [
        "names",
        *(f"../../components/{one}" for one in ("cluster-names", "autoscaling-keda", "housekeeping", "pull-secrets")),
    ]
    (own / "kustomization.yaml").write_text(
        yaml.safe_dump({"namespace": "shop", "resources": ["../../base"], "components": components})
    )
    result = kustomize(own)
    assert result.returncode == 0, result.stderr
    resources = loaded(result.stdout)
    spec: dict[str, Any] = patch["spec"]  # type: ignore[assignment]
    for policy in ("campaign-serving", "campaign-step"):
        dns = named(resources, "NetworkPolicy", policy)["spec"]["egress"][0]
        assert dns == {"to": spec["dns"]["peers"], "ports": spec["dns"]["ports"]}
    (scaler,) = of_kind(resources, "ScaledObject")
    assert scaler["spec"]["triggers"][0]["metadata"]["serverAddress"] == spec["monitoring"]["address"]
    home = named(resources, "PersistentVolumeClaim", "recommender-home")["spec"]
    assert home["storageClassName"] == "fast"
    assert {str(pod["spec"]["imagePullSecrets"]) for pod in pods(resources)} == {"[{'name': 'harbor'}]"}
    assert home["resources"] == _names()["volumes"]["home"]["resources"]


def _names() -> dict[str, Any]:
    names: dict[str, Any] = yaml.safe_load((K8S / "base" / "names.yaml").read_text())["spec"]
    return names


def _claim(volume: dict[str, Any]) -> bool:
    return "persistentVolumeClaim" in volume


def _millicores(quantity: str) -> float:
    return float(quantity.removesuffix("m")) if quantity.endswith("m") else 1000 * float(quantity)
