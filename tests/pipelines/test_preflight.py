"""A mistake in the settings is found before the first step runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.compile import run_arguments
from pipelines.preflight import check_before_run
from recommender.errors import SettingsError
from recommender.settings import ServingSettings, Settings, SourceSettings, TrainingSettings

JUDGEMENT = Path(__file__).parents[2] / "judgement.toml"


def settings(**sections: Any) -> Settings:
    return Settings(judgement=JUDGEMENT, **sections)


def test_the_default_settings_pass() -> None:
    check_before_run(settings())


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (settings(training=TrainingSettings(challenger="nosuch")), r"training\.challenger.*nosuch.*transformer"),
        (
            settings(training=TrainingSettings(challenger="transfomer")),
            r"training\.challenger.*transfomer.*'transformer'",
        ),
        (settings(training=TrainingSettings(baselines=())), r"training\.baselines is empty"),
        (settings(training=TrainingSettings(baselines=("nosuch",))), r"training\.baselines.*nosuch"),
        (settings(training=TrainingSettings(rankers={"nosuch": {}})), r"training\.rankers.*'nosuch'"),
        (settings(training=TrainingSettings(rankers={"lightgmb": {}})), r"training\.rankers.*'lightgmb'.*'lightgbm'"),
        (
            settings(training=TrainingSettings(rankers={"logistic": {"stregth": 1}})),
            r"training\.rankers\.logistic: .*'stregth'.*'strength'",
        ),
        (
            settings(training=TrainingSettings(rankers={"sasrec": {"width": "wide"}})),
            r"training\.rankers\.sasrec: .*width.*'wide'",
        ),
        (
            settings(training=TrainingSettings(rankers={"fusion": {"heads": 7}})),
            r"training\.rankers\.fusion: .*128.*7",
        ),
        (
            settings(training=TrainingSettings(rankers={"student": {"teacher": {"epochs": 0}}})),
            r"training\.rankers\.student: .*epochs.*0",
        ),
        (
            settings(training=TrainingSettings(rankers={"transformer": {"tune_dropout": 1}})),
            r"training\.rankers\.transformer: .*tune_dropout.*1",
        ),
        (
            settings(training=TrainingSettings(device="cuda", challenger="rules")),
            r"training\.device.*'cuda'.*'rules'",
        ),
        (settings(source=SourceSettings(dataset="files")), r"source\.mapping"),
        (Settings(judgement=Path("absent.toml")), r"absent\.toml"),
    ],
)
def test_a_mistake_is_named(wrong: Settings, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        check_before_run(wrong)


def test_rules_that_demand_more_campaigns_reach_every_step_that_chooses_periods(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("[gate]\nmin_campaigns = 8\n")
    arguments = run_arguments(settings().updated(judgement=rules), "source")
    for name in ("settings", "data_settings"):
        assert json.loads(arguments[name])["time"]["gate_campaigns"] == 8


def test_a_new_port_or_another_ranker_s_hyperparameter_makes_no_feature_stale() -> None:
    base = run_arguments(settings(), "source")
    moved = run_arguments(
        settings(
            serving=ServingSettings(port=9000), training=TrainingSettings(rankers={"logistic": {"strength": 1.0}})
        ),
        "source",
    )
    assert moved["data_settings"] == base["data_settings"]
    assert moved["settings"] != base["settings"]
