"""The compiled training pipeline is what a person meets in Kubeflow's UI: parameters, boxes, limits, user."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.images import PIPELINE_GPU_IMAGE, PIPELINE_IMAGE, PIPELINE_SPARK_IMAGE, in_registry
from pipelines.cluster import STEPS, USER, Cluster
from pipelines.compile import compile_cluster
from recommender.errors import SettingsError
from recommender.settings import Settings

HOME = Path("/var/recommender")
BOXES = {
    "check-settings": "Check the settings and the cluster",
    "ingest": "Read the source into tables",
    "validate-data": "Validate the tables",
    "build-features": "Build features as of each decision",
    "materialise": "Materialise for training and serving",
    "build-training-set": "Build the training set, point in time",
    "publish-training-set": "Publish the training set",
    "for-loop-1": "Train the baselines",
    "train-ranker": "Train a baseline",
    "train-ranker-2": "Train the challenger",
    "register": "Enter the registry",
    "evaluate": "Evaluate against the champion",
    "gate": "Gate: promote or hold",
    "publish-evaluation": "Publish the evaluation",
    "condition-2": "If the challenger is promoted",
    "deploy": "Deploy as canary beside the champion",
    "condition-3": "If the champion stays",
    "hold": "Hold: the champion stays",
}
PARAMETERS = {
    "as_of": ("STRING", "2017-12-31"),
    "source": ("STRING", "complete_journey"),
    "challenger": ("STRING", "transformer"),
    "baselines": ("STRING", "popularity, rate_rule, logistic"),
    "trials": ("NUMBER_INTEGER", 0.0),
    "device": ("STRING", "cpu"),
    "gate_from": ("STRING", ""),
    "test_from": ("STRING", ""),
    "gate_campaigns": ("NUMBER_INTEGER", 0.0),
    "canary_share": ("NUMBER_DOUBLE", 0.1),
    "settings_override": ("STRUCT", {}),
}
DEMANDING: dict[str, Any] = {
    "claim": "shop-home",
    "store_secret": "shop-store",
    "image_pull_secrets": ["shop-images"],
    "node_selector": {"pool": "batch"},
    "tolerations": [{"key": "batch", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}],
    "gpu": {"count": 2, "tolerations": [{"key": "nvidia.com/gpu"}]},
    "shared_memory": "2Gi",
    "source_secrets": {"shop-bucket": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]},
    "source_variables": {"AWS_ENDPOINT_URL": "http://minio:9000"},
    "steps": {"train_ranker": {"cpu": "6", "memory": "24Gi", "memory_limit": "32Gi", "hours": 48}},
    "deadline_hours": 60,
    "keep_days": 3,
}


def compiled(folder: Path, **cluster: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline's specification and what it says of Kubernetes."""
    settings = Settings(home=HOME).updated(store={"kind": "redis"}, time={"as_of": "2017-12-31"}, cluster=cluster)
    settings = settings.updated(time={"as_of": settings.time.as_of.date()})  # type: ignore[union-attr]
    file, _ = compile_cluster(settings, folder, cluster=Cluster.of(settings.cluster), namespace="campaigns")
    specification, platform = yaml.safe_load_all(file.read_text(encoding="utf-8"))
    return specification, platform["platforms"]["kubernetes"]


def tasks(specification: dict[str, Any]) -> dict[str, dict[str, Any]]:
    dags = [specification["root"], *specification["components"].values()]
    return {name: task for dag in dags for name, task in dag.get("dag", {}).get("tasks", {}).items()}


def test_the_form_shows_typed_parameters_with_the_defaults_of_the_settings_and_a_description(tmp_path: Path) -> None:
    specification, _ = compiled(tmp_path)
    shown = specification["root"]["inputDefinitions"]["parameters"]
    assert {name: (one["parameterType"], one["defaultValue"]) for name, one in shown.items()} == PARAMETERS
    for name, one in shown.items():
        assert one["isOptional"], name
        assert 20 < len(one["description"]) < 250, name
    assert len(specification["pipelineInfo"]["description"]) < 200


def test_every_step_loop_and_condition_has_a_name_for_people(tmp_path: Path) -> None:
    found = {name: task["taskInfo"]["name"] for name, task in tasks(compiled(tmp_path)[0]).items()}
    assert found == BOXES


def test_every_step_is_tried_again_after_a_lost_pod_and_runs_without_privileges(tmp_path: Path) -> None:
    specification, platform = compiled(tmp_path)
    for name, task in tasks(specification).items():
        if not name.startswith(("for-loop", "condition")):
            assert task["retryPolicy"]["maxRetryCount"] == 2, name
            assert task["retryPolicy"]["backoffDuration"] == "30s", name
    executors = platform["deploymentSpec"]["executors"]
    assert set(executors) == set(specification["deploymentSpec"]["executors"])
    for name, one in executors.items():
        assert one["securityContext"] == {"runAsUser": str(USER), "runAsGroup": str(USER), "runAsNonRoot": True}, name


TTLS = ("resourceTtlOnCompletion", "resourceTtlOnSuccess", "resourceTtlOnFailure")
"""What is not among these is an hour: the default of KFP's Argo, which the first does not override."""


def test_a_run_ends_after_a_day_and_its_pods_go_after_a_week_unless_the_settings_say_otherwise(tmp_path: Path) -> None:
    assert compiled(tmp_path / "a")[1]["pipelineConfig"] == {
        "activeDeadlineSeconds": 24 * 3600,
        **dict.fromkeys(TTLS, 7 * 86_400),
    }
    assert compiled(tmp_path / "b", deadline_hours=60, keep_days=3)[1]["pipelineConfig"] == {
        "activeDeadlineSeconds": 60 * 3600,
        **dict.fromkeys(TTLS, 3 * 86_400),
    }


def test_what_is_fixed_when_the_pipeline_is_compiled_is_no_parameter_and_not_in_two_places(tmp_path: Path) -> None:
    specification, _ = compiled(tmp_path)
    inputs = specification["root"]["dag"]["tasks"]["check-settings"]["inputs"]["parameters"]
    base = yaml.safe_load(inputs["base"]["runtimeValue"]["constant"])
    assert base["home"] == str(HOME)
    assert base["store"]["kind"] == "redis"
    assert set(base["time"]) == set()
    assert {"challenger", "baselines", "trials", "device"} & set(base["training"]) == set()
    assert "canary_share" not in base["serving"]
    assert set(base["source"]) == {"synthetic"}


def test_the_challenger_s_image_accelerator_and_tolerations_come_from_the_first_step(tmp_path: Path) -> None:
    specification, platform = compiled(tmp_path, **DEMANDING)
    first = "{{$.inputs.parameters['pipelinechannel--check-settings-%s']}}"
    containers = {name: one["container"] for name, one in specification["deploymentSpec"]["executors"].items()}
    challenger = containers.pop("exec-train-ranker-2")
    assert challenger["image"] == first % "image"
    assert challenger["resources"]["accelerator"] == {
        "resourceType": first % "accelerator",
        "resourceCount": first % "accelerators",
    }
    assert {one["image"] for one in containers.values()} == {PIPELINE_IMAGE}
    assert not [name for name, one in containers.items() if "accelerator" in one["resources"]]
    tolerations = platform["deploymentSpec"]["executors"]["exec-train-ranker-2"]["tolerations"]
    assert {"taskOutputParameter": {"producerTask": "check-settings", "outputParameterKey": "tolerations"}} in [
        one.get("tolerationJson") for one in tolerations
    ]


def test_features_on_spark_are_built_in_the_image_that_has_spark(tmp_path: Path) -> None:
    settings = Settings(home=HOME).updated(store={"kind": "redis"}, features={"engine": "spark"})
    file, _ = compile_cluster(settings, tmp_path, cluster=Cluster(), namespace="campaigns")
    specification, _ = yaml.safe_load_all(file.read_text(encoding="utf-8"))
    containers = {name: one["container"] for name, one in specification["deploymentSpec"]["executors"].items()}
    of_spark = [name for name, one in containers.items() if one["image"] == PIPELINE_SPARK_IMAGE]
    assert of_spark == ["exec-build-features"]


def test_the_first_step_knows_the_place_for_each_device(tmp_path: Path) -> None:
    specification, _ = compiled(tmp_path, **DEMANDING, registry="harbor.example.org/shop")
    inputs = specification["root"]["dag"]["tasks"]["check-settings"]["inputs"]["parameters"]
    assert inputs["places"]["runtimeValue"]["constant"] == {
        "volume": "/var/recommender",
        "devices": {
            "cpu": {
                "image": in_registry(PIPELINE_IMAGE, "harbor.example.org/shop"),
                "resource": "",
                "count": "",
                "tolerations": [],
            },
            "cuda": {
                "image": in_registry(PIPELINE_GPU_IMAGE, "harbor.example.org/shop"),
                "resource": "nvidia.com/gpu",
                "count": "2",
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            },
        },
    }


def test_the_settings_of_the_cluster_reach_the_pods(tmp_path: Path) -> None:
    specification, platform = compiled(tmp_path, **DEMANDING)
    containers = {name: one["container"] for name, one in specification["deploymentSpec"]["executors"].items()}
    pods = platform["deploymentSpec"]["executors"]
    for name, pod in pods.items():
        assert [one["constant"] for one in pod["pvcMount"]] == ["shop-home"], name
        assert "shop-store" in [one["secretName"] for one in pod["secretAsVolume"]], name
        assert [one["secretName"] for one in pod["imagePullSecret"]] == ["shop-images"], name
        assert pod["nodeSelector"] == {"labels": {"pool": "batch"}}, name
        assert {"key": "batch", "operator": "Equal", "value": "yes", "effect": "NoSchedule"} in pod["tolerations"], name
    for name in ("exec-train-ranker", "exec-train-ranker-2"):
        resources = containers[name]["resources"]
        assert resources["resourceCpuRequest"] == "6"
        assert resources["resourceCpuLimit"] == "8"
        assert (resources["resourceMemoryRequest"], resources["resourceMemoryLimit"]) == ("24Gi", "32Gi")
        assert pods[name]["activeDeadlineSeconds"] == str(48 * 3600)
        assert pods[name]["emptyDirMounts"] == [
            {"volumeName": "shm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "2Gi"}
        ]
    assert [name for name, pod in pods.items() if "emptyDirMounts" in pod] == [
        "exec-train-ranker",
        "exec-train-ranker-2",
    ]
    with_source = {name for name, pod in pods.items() if "secretAsEnv" in pod}
    assert with_source == {"exec-check-settings", "exec-ingest"}
    for name in with_source:
        (secret,) = pods[name]["secretAsEnv"]
        assert (secret["secretName"], secret["optional"]) == ("shop-bucket", True)
        assert {"name": "AWS_ENDPOINT_URL", "value": "http://minio:9000"} in containers[name]["env"]


def test_a_step_that_does_not_exist_is_refused_with_the_nearest_name() -> None:
    settings = Settings().updated(cluster={"steps": {"train_rankers": {"cpu": "2"}}})
    with pytest.raises(SettingsError, match=r"cluster\.steps.*'train_rankers'.*'train_ranker'"):
        Cluster.of(settings.cluster)
    assert "train_ranker" in STEPS


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"steps": {"gate": {"memory": "2 GB"}}}, r"cluster\.steps\.gate\.memory.*2 GB"),
        ({"claims": "x"}, r"cluster\.claims: unknown key.*'claim'"),
        ({"gpu": {"count": 0}}, r"cluster\.gpu\.count.*0"),
        ({"claim": "Shop_Home"}, r"cluster\.claim.*Shop_Home"),
    ],
)
def test_a_wrong_setting_of_the_cluster_names_its_key_and_value(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        Settings().updated(cluster=wrong)
