"""`recommender compile` writes a valid and complete pipeline, cached where that is safe and with a GPU if asked for."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec
from typer.testing import CliRunner

from cli.main import app
from components.images import PIPELINE_IMAGE, in_registry
from pipelines.cluster import Cluster
from pipelines.compile import compile_cluster, compile_local
from recommender.errors import SettingsError
from recommender.settings import ClusterSettings, Settings, StoreSettings, TrainingSettings

SIDE_EFFECTS = {
    "comp-check-settings",
    "comp-materialise",
    "comp-register",
    "comp-evaluate",
    "comp-gate",
    "comp-publish-training-set",
    "comp-publish-evaluation",
    "comp-deploy",
    "comp-hold",
}
HOME = Path("/var/recommender")


def settings_with(**training: Any) -> Settings:
    return Settings(home=HOME, store=StoreSettings(kind="redis"), training=TrainingSettings(**training))


def compiled(folder: Path, settings: Settings, *, cluster: Cluster | None = None) -> dict[str, Any]:
    file, _ = compile_cluster(settings, folder, cluster=cluster or Cluster(), namespace="campaigns")
    spec, platform = yaml.safe_load_all(file.read_text())
    return {"spec": spec, "platform": platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]}


def tasks(spec: dict[str, Any]) -> list[dict[str, Any]]:
    dags = [spec["root"], *spec["components"].values()]
    return [task for dag in dags for task in dag.get("dag", {}).get("tasks", {}).values()]


def steps(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [task for task in tasks(spec) if "executorLabel" in spec["components"][task["componentRef"]["name"]]]


def containers(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: executor["container"] for name, executor in spec["deploymentSpec"]["executors"].items()}


def test_the_pipeline_is_a_valid_spec_with_a_title_and_retries_for_every_step(tmp_path: Path) -> None:
    spec = compiled(tmp_path, settings_with())["spec"]
    json_format.ParseDict(spec, PipelineSpec())
    for step in steps(spec):
        assert step["taskInfo"]["name"] != step["componentRef"]["name"].removeprefix("comp-")
        assert step["retryPolicy"]["maxRetryCount"] == 2
    assert {step["componentRef"]["name"] for step in steps(spec)} >= SIDE_EFFECTS


def test_only_steps_without_side_effects_are_cached(tmp_path: Path) -> None:
    spec = compiled(tmp_path, settings_with())["spec"]
    cached = {step["componentRef"]["name"] for step in steps(spec) if step["cachingOptions"].get("enableCache")}
    assert not cached & SIDE_EFFECTS
    assert {"comp-build-features", "comp-train-ranker"} <= cached


def test_every_cached_step_has_the_code_s_version_and_the_data_s_identity_in_its_key(tmp_path: Path) -> None:
    spec = compiled(tmp_path, settings_with())["spec"]
    for step in steps(spec):
        if step["cachingOptions"].get("enableCache"):
            inputs = step["inputs"]["parameters"]
            assert "code_version" in inputs
            assert "data_hash" in inputs or "source_identity" in inputs
            assert "settings" in inputs


def test_every_step_has_requests_limits_the_volume_and_an_unprivileged_user(tmp_path: Path) -> None:
    made = compiled(tmp_path, settings_with())
    for name, container in containers(made["spec"]).items():
        resources = container["resources"]
        assert {"resourceCpuRequest", "resourceCpuLimit", "resourceMemoryRequest", "resourceMemoryLimit"} <= set(
            resources
        )
        platform = made["platform"][name]
        assert platform["pvcMount"][0]["mountPath"] == str(HOME)
        assert platform["securityContext"]["runAsNonRoot"] is True
        labels = platform["podMetadata"]["labels"]
        assert labels == {"campaign-recommender/step": "true", "istio.io/dataplane-mode": "none"}
        assert int(platform["activeDeadlineSeconds"]) > 0


def test_images_come_from_the_registry_that_is_named(tmp_path: Path) -> None:
    cluster = Cluster.of(ClusterSettings(), registry="harbor.example.org/shop")
    images = {c["image"] for c in containers(compiled(tmp_path, settings_with(), cluster=cluster)["spec"]).values()}
    of_first_step = "{{$.inputs.parameters['pipelinechannel--check-settings-image']}}"
    assert images == {in_registry(PIPELINE_IMAGE, "harbor.example.org/shop"), of_first_step}


def test_the_resources_for_gitops_are_a_pipeline_and_a_version_of_it(tmp_path: Path) -> None:
    _, file = compile_cluster(settings_with(), tmp_path, cluster=Cluster(), namespace="shop")
    pipeline, version = yaml.safe_load_all(file.read_text())
    assert (pipeline["kind"], version["kind"]) == ("Pipeline", "PipelineVersion")
    for resource in (pipeline, version):
        assert resource["apiVersion"] == "pipelines.kubeflow.org/v2beta1"
        assert resource["metadata"]["namespace"] == "shop"
    assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"]
    json_format.ParseDict(version["spec"]["pipelineSpec"], PipelineSpec())
    assert version["spec"]["platformSpec"]


def test_two_runs_with_other_settings_are_two_versions_and_the_same_run_is_one(tmp_path: Path) -> None:
    def version_of(folder: str, settings: Settings, cluster: Cluster | None = None) -> str:
        _, file = compile_cluster(settings, tmp_path / folder, cluster=cluster or Cluster(), namespace="shop")
        _, version = yaml.safe_load_all(file.read_text())
        return str(version["metadata"]["name"])

    first = version_of("first", settings_with())
    assert version_of("again", settings_with()) == first
    others = {
        version_of("seed", settings_with(seed=3)),
        version_of("claim", settings_with(), Cluster.of(ClusterSettings(claim="another-home"))),
    }
    assert len(others - {first}) == 2


@pytest.mark.parametrize(
    ("namespace", "registry", "named"),
    [
        ("Shop", "registry.example.com", r"--namespace 'Shop'"),
        ("shop-", "registry.example.com", r"--namespace 'shop-'"),
        ("shop", "https://registry.example.com", r"--registry 'https://registry.example.com'"),
        ("shop", "registry.example.com/shop:1.0", r"--registry 'registry.example.com/shop:1.0'"),
    ],
)
def test_names_that_no_cluster_takes_are_refused(tmp_path: Path, namespace: str, registry: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        compile_cluster(
            settings_with(), tmp_path, cluster=Cluster.of(ClusterSettings(), registry=registry), namespace=namespace
        )


def test_compiling_for_a_cluster_refuses_a_home_outside_its_volume(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"/var/recommender"):
        compile_cluster(settings_with().updated(home=Path("var")), tmp_path, cluster=Cluster(), namespace="shop")


@pytest.mark.parametrize(
    ("wrong", "feature_store", "named"),
    [
        (settings_with(rankers={"transformer": {"widht": 3}}), "staging", r"training\.rankers\.transformer.*'width'"),
        (settings_with(rankers={"transfomer": {}}), "staging", r"transfomer.*'transformer'"),
        (settings_with(), "stagin", r"stagin.*staging"),
        (settings_with(), "local", r"local.*redis"),
        (settings_with().updated(store={"kind": "sqlite"}), "staging", r"staging.*sqlite"),
    ],
)
def test_what_a_pod_would_refuse_is_refused_before_compiling(
    tmp_path: Path, wrong: Settings, feature_store: str, named: str
) -> None:
    with pytest.raises(SettingsError, match=named):
        compile_cluster(
            wrong, tmp_path, cluster=Cluster.of(ClusterSettings(feature_store=feature_store)), namespace="shop"
        )
    assert not list(tmp_path.iterdir())


def test_the_local_pipeline_has_no_retries_and_no_cluster_parts(tmp_path: Path) -> None:
    file = tmp_path / "local.yaml"
    compile_local(Settings(), file, run="run-1")
    (spec,) = yaml.safe_load_all(file.read_text())
    assert not [step for step in steps(spec) if "retryPolicy" in step]


def test_the_verb_compile_writes_both_files(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["compile", "--output", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["training-resources.yaml", "training.yaml"]


def test_submitting_to_an_endpoint_that_is_away_is_an_error_in_words() -> None:
    result = CliRunner().invoke(app, ["submit", "--host", "http://127.0.0.1:9"])
    assert result.exit_code == 2
    assert "127.0.0.1:9 cannot be reached" in result.stderr.replace("\n", "")
