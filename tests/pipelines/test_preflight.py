"""A mistake in the settings is found before the first step runs."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.preflight import check_before_run
from recommender.errors import SettingsError
from recommender.settings import Settings, SourceSettings, TrainingSettings

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
