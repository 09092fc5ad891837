"""The pods that Kubeflow's Spark operator makes of our SparkApplication are as closed as our own."""

import re
from pathlib import Path
from typing import Any

import pytest
from kustomized import ROOT, Resources, named, of_kind, rendered_resources
from test_network import policies_of, selects
from test_pod_security import violations

from components.images import PIPELINE_SPARK_IMAGE
from recommender.settings import load_settings

IN_IMAGE = "local:///venv/lib/python3.11/site-packages/"


@pytest.fixture(scope="module")
def resources(tmp_path_factory: pytest.TempPathFactory) -> Resources:
    return rendered_resources(tmp_path_factory.mktemp("spark"), "profile", "spark")


@pytest.fixture(scope="module")
def application(resources: Resources) -> dict[str, Any]:
    (one,) = of_kind(resources, "SparkApplication")
    return one["spec"]


def pod_of(application: dict[str, Any], role: str) -> dict[str, Any]:
    """The pod as the operator's webhook completes it."""
    asked = application[role]
    mounted = {one["name"] for one in asked["volumeMounts"]}
    container = {"name": role, "securityContext": asked["securityContext"], "volumeMounts": asked["volumeMounts"]}
    volumes = [one for one in application["volumes"] if one["name"] in mounted]
    return {"securityContext": asked["podSecurityContext"], "volumes": volumes, "containers": [container]}


@pytest.mark.parametrize("role", ["driver", "executor"])
def test_driver_and_executors_are_restricted_and_can_write_to_mounted_volumes_only(
    role: str, application: dict[str, Any]
) -> None:
    pod = pod_of(application, role)
    assert violations(pod) == []
    assert len(pod["volumes"]) == len(application[role]["volumeMounts"]), "each mount has its volume"
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    written = {one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")}
    assert written <= {"/tmp", "/var/recommender", "/var/spark"}
    assert all(one["emptyDir"]["sizeLimit"] for one in pod["volumes"] if "emptyDir" in one)
    # By this prefix the operator tells Spark where to shuffle. Without it, Spark mounts a volume that has no limit.
    assert any(one["name"].startswith("spark-local-dir-") for one in container["volumeMounts"])
    for key in ("cores", "coreRequest", "coreLimit", "memory", "memoryOverhead"):
        assert application[role][key]


def test_it_waits_until_somebody_starts_it_and_runs_our_program_in_our_image(application: dict[str, Any]) -> None:
    assert application["suspend"] is True
    assert application["image"] == PIPELINE_SPARK_IMAGE
    program = application["mainApplicationFile"]
    assert program.startswith(IN_IMAGE)
    assert (ROOT / program.removeprefix(IN_IMAGE)).is_file()
    constraints = (ROOT / "constraints.txt").read_text()
    assert f"pyspark=={application['sparkVersion']}\n" in constraints


def test_executors_have_no_token_and_no_home(resources: Resources, application: dict[str, Any]) -> None:
    for role, token in (("driver", True), ("executor", False)):
        account = named(resources, "ServiceAccount", application[role]["serviceAccount"])
        assert account["automountServiceAccountToken"] is token
    assert "home" not in {one["name"] for one in application["executor"]["volumeMounts"]}
    (binding,) = (one for one in of_kind(resources, "RoleBinding") if one["metadata"]["name"] == "campaign-spark")
    assert [one["name"] for one in binding["subjects"]] == [application["driver"]["serviceAccount"]]


def test_driver_and_executors_reach_each_other_at_the_ports_that_spark_is_told(
    resources: Resources, application: dict[str, Any]
) -> None:
    ports = {int(value) for name, value in application["sparkConf"].items() if name.lower().endswith("port")}
    for role in ("driver", "executor"):
        labels = application[role]["labels"]
        assert labels["sidecar.istio.io/inject"] == "false"
        assert labels["app.kubernetes.io/part-of"] == "campaign-recommender"
        (policy,) = policies_of(resources, labels)
        (rule,) = policy["spec"]["ingress"]
        assert selects(rule["from"][0]["podSelector"], labels)
        assert {one["port"] for one in rule["ports"]} == ports
        assert rule["ports"] in [one["ports"] for one in policy["spec"]["egress"]]


def test_the_settings_that_its_pods_get_choose_spark(
    resources: Resources, application: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (volume,) = (one for one in application["volumes"] if one["name"] == "settings")
    config = named(resources, "ConfigMap", volume["configMap"]["name"])
    (tmp_path / "recommender.toml").write_text(config["data"]["recommender.toml"])
    for role in ("driver", "executor"):
        for one in application[role]["env"]:
            monkeypatch.setenv(one["name"], one["value"])
        assert load_settings(tmp_path / "recommender.toml").features.engine == "spark"


def test_the_entrypoint_knows_what_spark_s_scheduler_asks_of_an_image() -> None:
    script = (ROOT / "components" / "spark" / "entrypoint.sh").read_text()
    assert {"driver", "executor"} <= set(re.findall(r"^  (\w+)\)$", script, re.MULTILINE))
    assert (ROOT / "components" / "spark" / "entrypoint.sh").stat().st_mode & 0o111
