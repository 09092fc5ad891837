"""A person changes a parameter of the real pipeline: what depends on it runs again, and a mistake costs seconds."""

import json
from dataclasses import replace
from json import dumps
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner
from worlds import run_with, world

from cli.backfill import backfill_and_refresh
from cli.main import app
from pipelines.local import LocalRun
from recommender.days import DayStore
from recommender.days.index import Backfill
from recommender.errors import StepFailed
from recommender.matching.packed_user import ServingSchema
from recommender.monitoring.findings import Report
from recommender.registry import Registry
from recommender.settings import Settings, TrainingSettings
from recommender.storage.home import Home

pytestmark = pytest.mark.slow
BEFORE_MATERIALISATION = ["build-features", "ingest", "validate-data"]
SHOP = {"num_users": 300, "num_items": 100, "num_campaigns": 20, "num_categories": 6}
"""What is decided is not asked here, so a smaller world does."""
BEFORE_TRAINING = {"ingest", "validate-data", "build-features", "build-training-set"}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, LocalRun]:
    training = TrainingSettings(threads=1, challenger="logistic", baselines=("popularity", "rate_rule"))
    settings = world(tmp_path_factory.mktemp("steered") / "home", preference="affinity", training=training, **SHOP)
    return settings, run_with(settings)


def cached(run: LocalRun) -> list[str]:
    return sorted(step.name for step in run.steps if step.status == "cached")


def test_the_first_step_comes_first_and_exactly_one_of_deploy_and_hold_runs(first: tuple[Settings, LocalRun]) -> None:
    _, run = first
    assert run.steps[0].title == "Check the settings and the cluster"
    assert len({step.name for step in run.steps} & {"deploy", "hold"}) == 1
    assert [step.title for step in run.steps if step.name == "train-ranker"] == [
        "Train a baseline: popularity",
        "Train a baseline: rate_rule",
    ]


def test_every_log_begins_with_what_is_read_and_ends_with_what_was_written(first: tuple[Settings, LocalRun]) -> None:
    for step in first[1].steps:
        assert step.log is not None
        lines = [json.loads(line) for line in step.log.read_text().splitlines() if line.startswith('{"timestamp"')]
        assert (lines[0]["event"], lines[-1]["event"]) == ("step reads", "step wrote"), step.name
        assert lines[-1]["seconds"] >= 0


def test_another_canary_share_runs_no_cached_step_again_and_reaches_the_registry(
    first: tuple[Settings, LocalRun],
) -> None:
    settings, _ = first
    again = run_with(settings, canary_share=0.3)
    trained = ["train-ranker", "train-ranker", "train-ranker-2"]
    assert cached(again) == sorted([*BEFORE_TRAINING, *trained])


def test_another_challenger_trains_itself_alone(first: tuple[Settings, LocalRun]) -> None:
    settings, _ = first
    again = run_with(settings, challenger="lightgbm", settings_override={"training": {"rankers": {"lightgbm": {}}}})
    assert cached(again) == sorted([*BEFORE_TRAINING, "train-ranker", "train-ranker"])
    assert any(version.startswith("lightgbm-") for version in Registry(settings.home).versions())


def typed(settings: Settings, *arguments: str) -> Result:
    """What a person types, with these settings in a file."""
    file = settings.home.parent / "recommender.toml"
    file.write_text(in_toml(settings.model_dump(mode="json", exclude_defaults=True)), encoding="utf-8")
    return CliRunner().invoke(app, [*arguments, "--settings", str(file)], env={"COLUMNS": "200"})


def statuses(home: Home, run: str) -> dict[str, str]:
    """Each step of a run, and how it ended."""
    return {step["name"]: step["status"] for step in json.loads(home.run(run).figures.read_text())["steps"]}


def in_toml(document: dict[str, Any]) -> str:
    def value(of: Any) -> str:
        return "{" + ", ".join(f"{k} = {value(v)}" for k, v in of.items()) + "}" if isinstance(of, dict) else dumps(of)

    return "".join(f"{key} = {value(of)}\n" for key, of in document.items())


def test_refresh_and_monitor_take_up_to_the_features_from_the_cache_of_training_and_old_data_are_exit_code_1(
    first: tuple[Settings, LocalRun],
) -> None:
    settings, _ = first
    home = Home.of(settings)
    refreshed = typed(settings, "refresh")
    assert refreshed.exit_code == 0, refreshed.output
    assert f"serving reads features as of {ServingSchema.load(home.feature_store.root).as_of}" in refreshed.output
    newest = max(home.runs.iterdir(), key=lambda run: run.stat().st_mtime)
    assert statuses(home, newest.name) == {
        "check-settings": "done",
        **dict.fromkeys(BEFORE_MATERIALISATION, "cached"),
        "materialise": "done",
    }
    # The world lies in the past, so its data are older than promised.
    broken = typed(settings, "monitor")
    assert broken.exit_code == 1, broken.output
    assert "ALERT" in broken.output
    assert "Look at the export" in broken.output
    report = Report.read(home.monitoring.report)
    assert {one.about for one in report.findings} == {"age of events", "age of user_serving"}
    found = statuses(home, report.run)
    assert sorted(name for name, status in found.items() if status == "cached") == BEFORE_MATERIALISATION
    assert (found["monitor"], found["require-limits"]) == ("done", "failed")


def test_a_step_that_fails_is_exit_code_2_and_not_hidden_by_the_limits_that_an_earlier_look_found_broken(
    first: tuple[Settings, LocalRun],
) -> None:
    settings, _ = first
    absent = settings.updated(source={"dataset": "files", "mapping": str(settings.home / "absent.toml")})
    for verb in ("monitor", "refresh"):
        failed = typed(absent, verb)
        assert failed.exit_code == 2, failed.output
        assert "absent.toml" in failed.output
        assert "ALERT" not in failed.output
        assert "serving reads features" not in failed.output


def test_a_backfill_brings_the_late_events_of_its_days_to_serving_says_so_and_stops_where_there_are_none(
    first: tuple[Settings, LocalRun], capsys: pytest.CaptureFixture[str]
) -> None:
    settings, _ = first
    store = DayStore.of(settings)
    with store.turn() as before:
        day = min(before.days)
        rows = pq.read_table(store.path(before.days[day]))
        fewer = store.write(day, rows.slice(1), before.watermark, None)
        store.commit(before, replace(before, days={**before.days, day: fewer}, months={}))
    backfill_and_refresh(settings, first=day, last=day)
    assert f"accepted 1 late event of {day}" in capsys.readouterr().out
    after = store.read()
    assert (after.backfills, after.days[day].rows) == ((Backfill(day, day, done=True),), rows.num_rows)
    runs = sorted(Home.of(settings).runs.iterdir())
    steps = {step["name"]: step["status"] for step in json.loads((runs[-1] / "run.json").read_text())["steps"]}
    assert (steps["ingest"], steps["materialise"]) == ("done", "done")
    backfill_and_refresh(settings, first=day, last=day)
    assert f"nothing to accept: no event of {day}" in capsys.readouterr().out
    assert (sorted(Home.of(settings).runs.iterdir()), store.read()) == (runs, after)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"challenger": "transfomer"}, "SettingsError: challenger: unknown ranker 'transfomer'; did you mean"),
        ({"settings_override": {"training": {"sede": 1}}}, "SettingsError: settings_override: training.sede: unknown"),
        ({"source": "shop/absent.toml"}, "SourceError: shop/absent.toml: no such mapping file"),
    ],
)
def test_a_mistake_stops_the_first_step_with_one_sentence_and_no_other_step_starts(
    first: tuple[Settings, LocalRun], given: dict[str, object], sentence: str
) -> None:
    settings, _ = first
    with pytest.raises(StepFailed, match=r"^Check the settings and the cluster: ") as failed:
        run_with(settings, **given)
    log = Path(str(failed.value).rsplit("Log: ", 1)[1])
    assert [path.name for path in log.parent.glob("*.log")] == ["check-settings.log"]
    # What follows the step's last line is the local runner's own.
    last = [line for line in log.read_text().splitlines() if line.strip()][-1]
    assert last.startswith(sentence)
    assert "Traceback" not in log.read_text()
    assert Home.of(settings).published.verdict.exists()
