"""Each of our pipelines is compiled, submitted and scheduled by the name that people type."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec
from kfp_endpoint import KfpEndpoint, listening
from typer.testing import CliRunner

from cli.main import app
from pipelines.cluster import STEPS, Cluster
from pipelines.compile import compile_cluster
from pipelines.named import MONITORING, PIPELINES, REFRESH, TRAINING, NamedPipeline
from pipelines.parameters import read_specification
from recommender.errors import SettingsError
from recommender.settings import MonitoringSettings, load_settings

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


def test_the_page_of_monitoring_lists_every_limit_with_its_default() -> None:
    page = Path("docs/monitoring.md").read_text(encoding="utf-8")
    for name, field in MonitoringSettings.model_fields.items():
        default = json.dumps(field.get_default(call_default_factory=True))
        assert f"| `{name}` | `{default}` | {field.description} |" in page


def test_the_help_of_compile_and_submit_names_each_pipeline() -> None:
    from typing import get_args

    from cli import cluster

    (argument,) = get_args(cluster.Named)[1:]
    assert all(typed in argument.help for typed in PIPELINES)
    assert cluster.TRAINING in PIPELINES
