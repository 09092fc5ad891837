"""The components engine-in-process and engine-oip take TorchServe away, with everything that named it."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from kustomized import K8S, ROOT, Resources, kustomize, named, of_kind, overlay_of, rendered_resources
from test_requests import Asked, asked_by, quantity

from recommender.settings import Settings, load_settings
from serving.deployer.engines import loading
from serving.engines.in_process.loading import InProcessLoading
from serving.engines.oip.loading import OipLoading

ENGINES = {"engine-in-process": "in_process", "engine-oip": "oip"}
"""Component -> setting `serving.engine`."""
COMBINED = (
    ("local", ()),
    ("local", ("monitoring",)),
    ("demo", ("gateway-api", "housekeeping")),
    ("standalone", ("single-node",)),
    ("standalone", ("production", "autoscaling", "monitoring")),
    ("production", ("autoscaling-keda", "monitoring", "external-redis", "pull-secrets")),
)
TORCHSERVE_PORTS = {8080, 8081, 8082, "inference", "metrics"}
MOST_VERSIONS = 4
"""Loaded at once: champion, canary, former champion, one that is being swapped."""


def serving_pod(resources: Resources) -> dict[str, Any]:
    pod: dict[str, Any] = named(resources, "Deployment", "campaign-serving")["spec"]["template"]["spec"]
    return pod


def of_serving(resources: Resources) -> dict[str, dict[str, Any]]:
    """The containers of the serving pod by name."""
    return {one["name"]: one for one in serving_pod(resources)["containers"]}


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["env"]}


def settings_of(container: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings that a container's process loads."""
    with monkeypatch.context() as environment:
        for name, value in variables(container).items():
            if name.startswith("RECOMMENDER__"):
                environment.setenv(name, value)
        return load_settings(K8S / "base" / "recommender.toml")


@pytest.mark.parametrize("component", ENGINES)
@pytest.mark.parametrize(("overlay", "others"), COMBINED)
def test_nothing_names_torchserve_or_its_ports_any_more(
    component: str, overlay: str, others: tuple[str, ...], tmp_path: Path
) -> None:
    resources = rendered_resources(tmp_path, overlay, *others, component)
    assert of_serving(resources).keys() == {"gateway", "deployer"}
    for container in of_serving(resources).values():
        assert {port["containerPort"] for port in container.get("ports", [])} <= {8000, 8001}
    for service in of_kind(resources, "Service"):
        for port in service["spec"].get("ports", []):
            assert port["port"] not in TORCHSERVE_PORTS, service["metadata"]["name"]
            assert port["targetPort"] not in TORCHSERVE_PORTS, service["metadata"]["name"]
    assert "campaign-torchserve" not in {one["metadata"]["name"] for one in of_kind(resources, "Service")}
    ingress = named(resources, "NetworkPolicy", "campaign-serving")["spec"]["ingress"]
    assert [[port["port"] for port in rule["ports"]] for rule in ingress] == [[8000], [8001]]
    for scaler in of_kind(resources, "HorizontalPodAutoscaler"):
        watched = {metric["containerResource"]["container"] for metric in scaler["spec"]["metrics"]}
        assert watched == {"gateway"}


@pytest.mark.parametrize("component", ENGINES)
@pytest.mark.parametrize("overlay", ["local", "production"])
def test_prometheus_scrapes_only_ports_that_the_pod_has(component: str, overlay: str, tmp_path: Path) -> None:
    resources = rendered_resources(tmp_path, overlay, "monitoring", component)
    (monitor,) = of_kind(resources, "ServiceMonitor")
    service = {
        port["name"]: port["targetPort"] for port in named(resources, "Service", "campaign-metrics")["spec"]["ports"]
    }
    ports = {port["name"]: port["containerPort"] for port in of_serving(resources)["gateway"]["ports"]}
    scraped = [ports[service[endpoint["port"]]] for endpoint in monitor["spec"]["endpoints"]]
    assert scraped == [8001]
    assert service.keys() == {"gateway"}


@pytest.mark.parametrize(
    ("component", "later"),
    [
        *((component, later) for component in ENGINES for later in ("monitoring", "autoscaling", "demo")),
        ("engine-in-process", "engine-oip"),
        ("engine-oip", "engine-in-process"),
        ("engine-in-process", "oip-repository"),
    ],
)
def test_what_knows_torchserve_is_refused_after_it_went(component: str, later: str, tmp_path: Path) -> None:
    assert rendered_resources(tmp_path / "alone", "standalone", component)
    result = kustomize(overlay_of(tmp_path / "both", "standalone", [component, later]))
    assert result.returncode != 0
    assert f"components/{later}" in result.stderr


@pytest.mark.parametrize(("component", "engine"), ENGINES.items())
def test_gateway_and_deployer_have_the_same_engine_and_the_folders_that_they_share(
    component: str, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    containers = of_serving(rendered_resources(tmp_path, "demo", component))
    gateway, deployer = (settings_of(containers[name], monkeypatch).serving for name in ("gateway", "deployer"))
    assert (gateway.engine, deployer.engine) == (engine, engine)
    assert gateway.oip_url == deployer.oip_url
    # The deployer's settings choose the half of the engine that loads versions.
    halves = {"in_process": InProcessLoading, "oip": OipLoading}
    assert type(loading(settings_of(containers["deployer"], monkeypatch))) is halves[engine]
    # A bundle lies at the same path for both: the deployer writes it below `state`, and the gateway's workers read it.
    assert gateway.state == deployer.state == Path("/run/recommender")
    mounts = [{one["mountPath"]: one for one in containers[name]["volumeMounts"]} for name in ("gateway", "deployer")]
    assert mounts[0] == mounts[1]
    for writable in ("/run/recommender", "/var/recommender"):
        assert not mounts[0][writable].get("readOnly", False)
    # The date of the demo holds in both.
    assert {variables(one)["RECOMMENDER__TIME__AS_OF"] for one in containers.values()} == {"2017-12-31"}


def measured_mib(part: str) -> int:
    """The largest memory that the page's table of measured requests says of a part, in MiB."""
    page = (ROOT / "docs" / "cluster" / "manifests.md").read_text()
    (found,) = set(re.findall(rf"{part} \d+ MiB \(logistic\) or (\d+) MiB", page))
    return int(found)


def test_the_gateways_limit_holds_the_workers_of_every_version_that_may_be_loaded(tmp_path: Path) -> None:
    base = of_serving(rendered_resources(tmp_path / "base", "local"))["gateway"]["resources"]
    resources = rendered_resources(tmp_path / "own", "local", "engine-in-process")
    own = of_serving(resources)["gateway"]["resources"]
    toml = tomllib.loads((K8S / "base" / "recommender.toml").read_text(encoding="utf-8"))
    worker = toml["serving"]["workers"] * measured_mib("a worker") * 2**20
    assert load_settings(K8S / "base" / "recommender.toml").isolation.keep_former, "the former champion counts"
    assert quantity(own["limits"]["memory"]) >= quantity(base["limits"]["memory"]) + MOST_VERSIONS * worker
    assert quantity(own["requests"]["memory"]) >= quantity(base["requests"]["memory"]) + worker
    assert quantity(own["requests"]["cpu"]) <= quantity(own["limits"]["cpu"])


@pytest.mark.parametrize("component", ENGINES)
def test_a_pod_without_torchserve_asks_for_less_than_one_with_it(component: str, tmp_path: Path) -> None:
    def asked(*components: str) -> Asked:
        resources = rendered_resources(tmp_path / "-".join(("of", *components)), "local", *components)
        return asked_by(named(resources, "Deployment", "campaign-serving")["spec"]["template"])

    before, after = asked(), asked(component)
    assert after.cpu <= before.cpu
    assert after.memory < before.memory
    page = (ROOT / "docs" / "cluster" / "manifests.md").read_text()
    assert f"{after.cpu * 1000:.0f}m and {after.memory / 2**20:.0f} MiB" in page


def test_the_server_is_reached_at_the_address_and_the_ports_of_names(tmp_path: Path) -> None:
    names = yaml.safe_load((K8S / "base" / "names.yaml").read_text())["spec"]["oip"]
    resources = rendered_resources(tmp_path, "production", "engine-oip")
    for container in of_serving(resources).values():
        assert variables(container)["RECOMMENDER__SERVING__OIP_URL"] == names["url"]
    policy = named(resources, "NetworkPolicy", "campaign-oip")["spec"]
    assert policy["policyTypes"] == ["Egress"]
    assert policy["egress"] == [{"to": names["peers"], "ports": names["ports"]}]
    labels = named(resources, "Deployment", "campaign-serving")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    # The Service's port is the pod's here, so the default address works with the default policy.
    assert int(names["url"].rpartition(":")[2]) in [port["port"] for port in names["ports"]]


def test_gateway_and_deployer_have_the_key_that_the_server_knows_them_by(tmp_path: Path) -> None:
    resources = rendered_resources(tmp_path, "local", "engine-oip")
    (secrets,) = (one for one in serving_pod(resources)["volumes"] if one["name"] == "secrets")
    sources = {one["secret"]["name"]: one["secret"]["items"] for one in secrets["projected"]["sources"]}
    assert sources.keys() == {"campaign-gateway", "campaign-store", "campaign-oip"}
    assert sources["campaign-oip"] == [{"key": "wire_key", "path": "wire_key"}]
    for container in of_serving(resources).values():
        places = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
        assert places["secrets"] == variables(container)["RECOMMENDER_SECRETS"]


def test_the_deployer_writes_the_servers_repository_on_the_shared_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    containers = of_serving(rendered_resources(tmp_path / "with", "local", "engine-oip", "oip-repository"))
    settings = settings_of(containers["deployer"], monkeypatch)
    assert settings.serving.oip_repository is not None
    assert settings.serving.oip_repository.parent == settings.home
    claims = {one["name"]: one["mountPath"] for one in containers["deployer"]["volumeMounts"]}
    assert claims["home"] == str(settings.home)
    alone = of_serving(rendered_resources(tmp_path / "without", "local", "engine-oip"))["deployer"]
    assert settings_of(alone, monkeypatch).serving.oip_repository is None


@pytest.mark.parametrize(
    ("overlay", "components"),
    [
        ("production", ("engine-oip", "oip-repository")),
        ("production", ("autoscaling-keda", "engine-oip", "oip-repository")),
        ("standalone", ("engine-oip", "oip-repository")),
    ],
)
def test_a_repository_is_refused_where_two_deployers_would_write_it(
    overlay: str, components: tuple[str, ...], tmp_path: Path
) -> None:
    result = kustomize(overlay_of(tmp_path, overlay, components))
    assert result.returncode != 0
    assert "components/oip-repository" in result.stderr
