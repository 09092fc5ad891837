"""Each of our pipelines is compiled, submitted, scheduled and run by the name that people type."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import Result
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec
from kfp_endpoint import KfpEndpoint, listening
from rich.console import Console
from typer.testing import CliRunner

from cli.main import app
from pipelines.cluster import STEPS, Cluster
from pipelines.compile import compile_cluster
from pipelines.local import LocalRun
from pipelines.memory import MemoryWatch
from pipelines.named import MONITORING, PIPELINES, REFRESH, TRAINING, NamedPipeline
from pipelines.parameters import read_specification
from pipelines.training_run import run_named
from recommender.datasets.tables import open_tables
from recommender.errors import SettingsError, StepFailed
from recommender.features.training_set import write_training_set
from recommender.matching.catalogue import Catalogue
from recommender.matching.packed_user import ServingSchema
from recommender.monitoring.distributions import Reference
from recommender.monitoring.findings import Report
from recommender.registry import Registry
from recommender.settings import Settings, SourceSettings, TrainingSettings, load_settings
from recommender.storage.home import Home
from recommender.training import train

OURS = {
    MONITORING: ["check-settings", "ingest", "validate-data", "build-features", "monitor", "require-limits"],
    REFRESH: ["check-settings", "ingest", "validate-data", "build-features", "materialise"],
}
UNCACHED = {"check-settings", "monitor", "require-limits", "materialise"}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The specification of each pipeline."""
    settings, folder = load_settings(Path("k8s/base/recommender.toml")), tmp_path_factory.mktemp("compiled")
    files = {
        name: compile_cluster(settings, folder, cluster=Cluster(), namespace="campaigns", pipeline=name)[0]
        for name in PIPELINES
    }
    assert [file.name for file in files.values()] == [f"{name}.yaml" for name in PIPELINES]
    return {name: read_specification(file) for name, file in files.items()}


def typed(endpoint: KfpEndpoint, *arguments: str) -> Result:
    environment = {"KFP_TOKEN": None, "KUBECONFIG": "/nonexistent/kubeconfig", "COLUMNS": "1000"}
    with listening(endpoint) as host:
        return CliRunner().invoke(app, [*arguments, "--host", host], env=environment)


@pytest.mark.parametrize("pipeline", OURS)
def test_a_pipeline_is_a_valid_spec_of_known_steps_that_are_cached_only_where_they_change_nothing(
    compiled: dict[str, dict[str, Any]], pipeline: str
) -> None:
    specification = compiled[pipeline]
    json_format.ParseDict(specification, PipelineSpec())
    tasks = specification["root"]["dag"]["tasks"]
    assert sorted(tasks) == sorted(OURS[pipeline])
    assert {name.replace("-", "_") for name in tasks} <= set(STEPS)
    assert {name for name, task in tasks.items() if not task["cachingOptions"].get("enableCache")} == UNCACHED & set(
        tasks
    )
    assert specification["pipelineInfo"]["name"] == PIPELINES[pipeline]
    assert set(specification["root"]["inputDefinitions"]["parameters"]) == {"as_of", "source", "settings_override"}


def test_names_are_those_of_the_pipelines_and_an_unknown_one_gets_the_nearest() -> None:
    for name in PIPELINES:
        assert NamedPipeline(name).title.startswith("Campaign recommendation")
        assert NamedPipeline(name).name == NamedPipeline(name)._module.NAME
    with pytest.raises(SettingsError, match=r"'monitring'.*'monitoring'"):
        NamedPipeline("monitring")


def test_the_first_steps_run_the_same_code_as_in_training(compiled: dict[str, dict[str, Any]]) -> None:
    for pipeline in OURS:
        for step in ("exec-ingest", "exec-validate-data", "exec-build-features"):
            ours, theirs = (compiled[name]["deploymentSpec"]["executors"][step] for name in (pipeline, TRAINING))
            assert ours["container"] == theirs["container"]


def test_a_pipeline_is_compiled_submitted_and_scheduled_by_its_name_and_has_versions_of_its_own(
    tmp_path: Path,
) -> None:
    result = CliRunner().invoke(app, ["compile", "refresh", "--output", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["refresh-resources.yaml", "refresh.yaml"]
    service = KfpEndpoint(multi_user=False)
    assert typed(service, "submit", "monitoring").exit_code == 0
    scheduled = typed(service, "submit", "refresh", "--cron", "0 * * * *")
    assert scheduled.exit_code == 0, scheduled.output
    assert [one["display_name"] for one in service.made["pipelines"]] == ["campaign-monitoring", "campaign-refresh"]
    versions = [one["name"].rpartition("-")[0] for one in service.made["versions"]]
    assert versions == ["campaign-monitoring", "campaign-refresh"]
    (run,) = service.made["runs"]
    assert run["display_name"] == "campaign-monitoring, as of the newest data"
    assert set(run["runtime_config"]["parameters"]) == {"as_of", "source", "settings_override"}
    assert "campaign-refresh at 0 * * * *" in typed(service, "schedules", "list").output
    assert typed(service, "schedules", "end", "campaign-refresh at 0 * * * *").exit_code == 0
    wrong = typed(service, "submit", "refrsh")
    assert wrong.exit_code == 2
    assert "'refresh'" in wrong.output


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("shop")
    world = {"num_users": 120, "num_items": 60, "num_campaigns": 12, "num_categories": 6, "days": 180, "views": False}
    return Settings(
        home=folder / "home",
        source=SourceSettings(dataset="synthetic", synthetic=world),
        training=TrainingSettings(challenger="popularity", baselines=("popularity",), threads=1, calibration_fits=0),
    )


def run(settings: Settings, pipeline: str) -> LocalRun:
    with MemoryWatch() as memory:
        return run_named(pipeline, settings, console=Console(file=io.StringIO()), memory=memory)


def artifact(made: LocalRun, step: str, name: str) -> Path:
    (found,) = made.artifacts.glob(f"*/{step}/{name}")
    return found


def champion_of(settings: Settings, features: Path, tables: Path) -> None:
    """Train a champion on the features that were refreshed."""
    opened, users = open_tables(tables), pq.read_table(features / "users.parquet")
    as_of = opened.log_end
    training_set = write_training_set(
        users,
        pq.read_table(features / "pairs.parquet"),
        Catalogue.load(features / "catalogue"),
        opened,
        settings.home / "training-set",
        as_of=as_of,
        reference=Reference.of(users, as_of=as_of, data_hash=opened.data_hash).text(),
    )
    made = train(training_set, ranker="popularity", settings=settings, output=settings.home / "fits")
    Registry(settings.home).promote(Registry(settings.home).add(made.output))


def test_refresh_fills_the_store_and_monitoring_then_looks_at_the_same_features_from_the_cache(shop: Settings) -> None:
    refreshed = run(shop, REFRESH)
    assert [step.name for step in refreshed.steps] == OURS[REFRESH]
    home = Home.of(shop)
    features = artifact(refreshed, "build-features", "features")
    assert (
        ServingSchema.load(home.feature_store.root).as_of
        == json.loads((features / "manifest.json").read_text())["as_of"]
    )
    champion_of(shop, features, artifact(refreshed, "validate-data", "tables"))

    # The world lies in the past, so its data are older than promised.
    with pytest.raises(StepFailed, match=r"(?s)Fail where a limit is broken: .*age of events.*Look at the export"):
        run(shop, MONITORING)
    report = Report.read(home.monitoring.report)
    assert {one.about for one in report.findings} == {"age of events", "age of user_serving"}
    steps = json.loads(home.run(report.run).figures.read_text())["steps"]
    assert [step["name"] for step in steps if step["status"] == "cached"] == OURS[MONITORING][1:4]
