"""`recommender submit` against a server that replays the answers of KFP 2.17: versions, verdicts, refusals."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from kfp_endpoint import TOKEN, KfpEndpoint, listening, recorded
from typer.testing import CliRunner

from cli.main import app
from pipelines.cluster import Cluster
from pipelines.cluster_look import requests_of
from pipelines.compile import compile_cluster, version_name
from pipelines.endpoint import Endpoint
from pipelines.parameters import read_specification
from pipelines.submit import Submission, start, start_recurring
from recommender.errors import EndpointError, SettingsError
from recommender.settings import load_settings

USER = "system:serviceaccount:campaigns:default-editor"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline, compiled for a cluster."""
    settings = load_settings(Path("k8s/base/recommender.toml"))
    folder = tmp_path_factory.mktemp("compiled")
    return compile_cluster(settings, folder, cluster=Cluster(), namespace="campaigns")[0]


def submission(package: Path, **others: Any) -> Submission:
    names = {"pipeline": "campaign-training", "service_account": "campaign-pipeline"}
    return Submission(package=package, **names, **others)


@contextmanager
def connected(endpoint: KfpEndpoint, *, namespace: str = "campaigns", token: str | None = None) -> Iterator[Endpoint]:
    with listening(endpoint) as host:
        yield Endpoint(host, namespace=namespace, token=token)


def typed(endpoint: KfpEndpoint, *arguments: str, token: str | None = None) -> Result:
    """What a person sees who types `recommender …`."""
    environment = {"KFP_TOKEN": token, "KUBECONFIG": "/nonexistent/kubeconfig", "COLUMNS": "1000"}
    with listening(endpoint) as host:
        return CliRunner().invoke(app, [*arguments, "--host", host], env=environment)


def test_a_run_is_started_from_a_version_named_by_the_spec_under_a_name_that_says_what_it_is(package: Path) -> None:
    service = KfpEndpoint(multi_user=False)
    with connected(service) as endpoint:
        started = start(endpoint, submission(package, sets=("challenger=logistic", "as_of=2017-12-31")))
    (run,), (experiment,), (version,) = (service.made[kind] for kind in ("runs", "experiments", "versions"))
    assert run["display_name"] == started.name == "logistic, as of 2017-12-31"
    assert run["runtime_config"]["parameters"]["challenger"] == "logistic"
    assert run["runtime_config"]["parameters"]["settings_override"] == {}
    assert run["service_account"] == "campaign-pipeline"
    assert run["experiment_id"] == experiment["experiment_id"]
    assert experiment["display_name"] == "campaign-training"
    assert version["name"] == started.version == version_name("campaign-training", package)
    assert run["pipeline_version_reference"] == {
        "pipeline_id": service.made["pipelines"][0]["pipeline_id"],
        "pipeline_version_id": version["pipeline_version_id"],
    }
    assert package.read_text() in version["package"].replace("\r\n", "\n")


def test_the_same_pipeline_is_uploaded_once_and_another_one_as_a_second_version(package: Path, tmp_path: Path) -> None:
    other = tmp_path / "training.yaml"
    other.write_text(package.read_text().replace("registry.example.com", "harbor.example.org"))
    service = KfpEndpoint(multi_user=False)
    with connected(service) as endpoint:
        uploaded = [start(endpoint, submission(file)).uploaded for file in (package, package, other)]
    assert uploaded == [True, False, True]
    assert len(service.made["runs"]) == 3
    assert len(service.made["pipelines"]) == 1
    assert len({version["name"] for version in service.made["versions"]}) == 2


def test_an_endpoint_for_one_user_is_sent_no_namespace_and_one_for_several_is(package: Path) -> None:
    alone, shared = KfpEndpoint(multi_user=False), KfpEndpoint(multi_user=True)
    with connected(alone) as endpoint:
        start(endpoint, submission(package))
    with connected(shared, token=TOKEN) as endpoint:
        start(endpoint, submission(package))
    assert not [target for _, target in alone.asked if "namespace" in target]
    assert shared.made["experiments"][0]["namespace"] == "campaigns"
    assert shared.made["pipelines"][0]["namespace"] == "campaigns"


def test_a_run_that_ends_with_promote_exits_with_0_and_shows_its_steps(package: Path) -> None:
    endpoint = KfpEndpoint(multi_user=False, runs=("run-running", "run-promoted"))
    result = typed(endpoint, "submit", "--package", str(package), "--wait", "--every", "0")
    assert result.exit_code == 0, result.output
    assert "PROMOTE" in result.stdout
    shown = [line.split(" ", 1)[1] for line in result.stdout.splitlines() if line.endswith("SUCCEEDED")]
    assert (shown[0], shown[-1]) == ("ingest: SUCCEEDED", "deploy: SUCCEEDED")
    assert "/#/runs/details/runs-1" in result.stdout.splitlines()[-1]


def test_a_run_that_ends_with_hold_exits_with_3(package: Path) -> None:
    result = typed(
        KfpEndpoint(multi_user=False, runs=("run-held",)), "submit", "--package", str(package), "--wait", "--every", "0"
    )
    assert result.exit_code == 3, result.output
    assert "HOLD" in result.stdout
    assert "PROMOTE" not in result.stdout


def test_a_step_that_refuses_its_settings_exits_with_1_and_shows_the_end_of_its_log(package: Path) -> None:
    endpoint = KfpEndpoint(multi_user=False, runs=("run-refused-settings",))
    result = typed(endpoint, "submit", "--package", str(package), "--wait", "--every", "0")
    assert result.exit_code == 1, result.output
    assert "ingest" in result.stdout
    assert "recommender.errors.SettingsError" in result.stdout
    assert "launcher_v2.go" not in result.stdout
    (log,) = [target for _, target in endpoint.asked if target.endswith("/log")]
    assert log == "/apis/v1alpha1/runs/runs-1/nodes/campaign-training-p8nfz-2142849712/log"


def test_a_step_that_fails_later_is_named_and_the_steps_that_did_not_run_are_not(package: Path) -> None:
    endpoint = KfpEndpoint(multi_user=False, runs=("run-failed-in-a-step",))
    result = typed(endpoint, "submit", "--package", str(package), "--wait", "--every", "0")
    assert result.exit_code == 1, result.output
    assert "build-features: FAILED" in result.stdout
    assert "materialise" not in result.stdout
    assert "runs/runs-1/nodes/campaign-training-fpwrf-768180387/log" in "".join(t for _, t in endpoint.asked)


def test_a_run_that_still_runs_at_the_end_of_the_time_exits_with_4(package: Path) -> None:
    endpoint = KfpEndpoint(multi_user=False, runs=("run-running",))
    result = typed(endpoint, "submit", "--package", str(package), "--wait", "--timeout-minutes", "0")
    assert result.exit_code == 4, result.output


def test_an_endpoint_that_is_away_for_a_moment_ends_no_waiting(package: Path) -> None:
    endpoint = KfpEndpoint(multi_user=False, runs=("run-held",))
    endpoint.away_for = 3
    assert typed(endpoint, "submit", "--package", str(package), "--wait", "--every", "0").exit_code == 3


def test_a_token_that_expires_while_a_run_is_watched_leaves_the_run_alone_and_says_so(package: Path) -> None:
    endpoint = KfpEndpoint(multi_user=True, runs=("run-running",))
    endpoint.expires_after = 2
    arguments = ("submit", "--package", str(package), "--wait", "--every", "0")
    result = typed(endpoint, *arguments, token=TOKEN)
    assert result.exit_code == 2
    for fact in ("401", "expired", "The run goes on", "/#/runs/details/runs-1"):
        assert fact in result.stderr


def test_what_cannot_be_a_token_is_refused_and_not_shown() -> None:
    with (
        pytest.raises(SettingsError, match="KFP_TOKEN") as caught,
        connected(KfpEndpoint(multi_user=True), token="se cret"),
    ):
        pass
    assert "cret" not in str(caught.value)


def test_without_a_token_a_kubeflow_with_profiles_is_answered_by_how_to_make_one(package: Path) -> None:
    result = typed(KfpEndpoint(multi_user=True), "submit", "--package", str(package), "--namespace", "shop")
    assert result.exit_code == 2
    for fact in ("401", "KFP_TOKEN", "kubectl -n shop create token", "--audience pipelines.kubeflow.org"):
        assert fact in result.stderr
    assert "not set" in result.stderr


def test_a_wrong_or_expired_token_is_named_and_not_shown() -> None:
    service = KfpEndpoint(multi_user=True)
    with (
        connected(service, token="of-yesterday") as endpoint,
        pytest.raises(EndpointError, match=r"401.*expired") as caught,
    ):
        endpoint.experiment_with("campaign-training")
    assert "of-yesterday" not in str(caught.value)


def test_a_missing_right_is_named_with_user_verb_resource_and_namespace() -> None:
    service = KfpEndpoint(multi_user=True)
    with (
        connected(service, namespace="other", token=TOKEN) as endpoint,
        pytest.raises(EndpointError, match=r"403") as caught,
    ):
        endpoint.experiment_with("campaign-training")
    for fact in (USER, "list experiments.pipelines.kubeflow.org", "'other'", "kubeflow-edit"):
        assert fact in str(caught.value)


def test_a_page_instead_of_kfp_is_said_to_be_one() -> None:
    class LoginPage(KfpEndpoint):
        def answer(self, method: str, target: str, token: str, body: bytes) -> tuple[int, bytes]:
            del method, target, token, body
            return 200, b"<!doctype html><title>Log in</title>"

    with pytest.raises(EndpointError, match=r"login page"), connected(LoginPage(multi_user=False)):
        pass


@pytest.mark.parametrize(("version", "doubted"), [("2.17.3", False), ("2.14.0", True), ("unknown", True)])
def test_only_versions_that_were_tried_are_used_without_a_note(version: str, doubted: bool) -> None:
    with connected(KfpEndpoint(multi_user=False, version=version)) as endpoint:
        assert bool(endpoint.health.doubt) is doubted


def test_without_a_kubeconfig_it_says_what_was_not_looked_at(package: Path) -> None:
    result = typed(KfpEndpoint(multi_user=False), "submit", "--package", str(package))
    assert "account, claim, Secret and room on the nodes were not looked at" in result.stderr


def test_a_wrong_parameter_is_refused_before_anything_is_asked(package: Path) -> None:
    endpoint = KfpEndpoint(multi_user=False)
    result = typed(endpoint, "submit", "--package", str(package), "--set", "nosuch=1")
    assert result.exit_code == 2
    assert "nosuch" in result.stderr
    assert endpoint.asked == []


def test_an_unknown_pipeline_is_refused_with_the_known_ones(package: Path) -> None:
    result = typed(KfpEndpoint(multi_user=False), "submit", "--package", str(package), "trainin")
    assert result.exit_code == 2
    assert "'training'" in result.stderr


def test_a_schedule_runs_one_at_a_time_makes_up_for_nothing_and_has_the_steps_account(package: Path) -> None:
    service = KfpEndpoint(multi_user=True)
    with connected(service, token=TOKEN) as endpoint:
        start_recurring(endpoint, submission(package), "0 3 * * MON")
    assert not service.made["runs"]
    (made,) = service.made["recurringruns"]
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * MON"}}
    assert (made["max_concurrency"], made["no_catchup"], made["mode"]) == ("1", True, "ENABLE")
    assert made["service_account"] == "campaign-pipeline"
    assert made["display_name"] == "campaign-training at 0 3 * * MON"


def test_schedules_are_listed_and_ended_by_name(package: Path) -> None:
    service = KfpEndpoint(multi_user=False)
    with connected(service) as endpoint:
        for name in ("nightly", "weekly"):
            start_recurring(endpoint, submission(package, name=name), "0 3 * * *")
    listed = typed(service, "schedules", "list").stdout.splitlines()
    assert listed[0].split("\t") == ["nightly", "0 3 * * *", "ENABLED", "recurringruns-1"]
    assert typed(service, "schedules", "end", "nightly").exit_code == 0
    assert [one["display_name"] for one in service.made["recurringruns"]] == ["weekly"]
    unknown = typed(service, "schedules", "end", "weakly")
    assert unknown.exit_code == 2
    assert "'weekly'" in unknown.stderr


def test_a_recorded_schedule_is_listed_as_it_was_typed() -> None:
    service = KfpEndpoint(multi_user=True)
    service.made["recurringruns"] = recorded("recurringruns.json")["recurringRuns"]
    listed = typed(service, "schedules", "list", token=TOKEN).stdout.strip().split("\t")
    assert listed == ["every minute", "* * * * *", "ENABLED", "d31f7a6e-07fa-4caf-b04a-13b41f8972ff"]


def test_a_second_schedule_of_one_name_is_refused(package: Path) -> None:
    service = KfpEndpoint(multi_user=False)
    with connected(service) as endpoint:
        start_recurring(endpoint, submission(package), "0 3 * * *")
        with pytest.raises(SettingsError, match=r"schedules end"):
            start_recurring(endpoint, submission(package), "0 3 * * *")
    assert len(service.made["recurringruns"]) == 1


def test_a_schedule_with_a_fixed_as_of_says_that_every_run_is_the_same(package: Path) -> None:
    def scheduled(*given: str) -> str:
        arguments = ("submit", "--cron", "0 3 * * *", "--package", str(package), *given)
        return typed(KfpEndpoint(multi_user=False), *arguments).stdout

    assert "as_of is 2017-12-31" in scheduled("--set", "as_of=2017-12-31")
    assert "as_of" not in scheduled()


def test_the_requests_of_the_compiled_steps_are_known_before_they_run(package: Path) -> None:
    requests = {request.step: request.amounts for request in requests_of(read_specification(package))}
    assert requests["ingest"]["cpu"] > 0
    assert max(amounts["memory"] for amounts in requests.values()) >= 2**30
