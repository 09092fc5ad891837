"""The whole compiled pipeline, with real training, decides rightly where the truth is known."""

from pathlib import Path

import pytest
from worlds import run, world

from recommender.registry import Registry
from recommender.report.last_run import LastRun
from recommender.settings import TrainingSettings
from recommender.storage.home import Home

pytestmark = pytest.mark.slow


def test_a_challenger_that_sees_what_the_champion_cannot_is_promoted_to_canary(tmp_path: Path) -> None:
    settings = world(tmp_path / "home", preference="sequence")
    made, _ = run(settings)
    verdict = LastRun(Home.of(settings)).verdict()
    assert verdict.decision == "PROMOTE", verdict.reasons
    status = Registry(settings.home).status()
    assert status.champion is not None
    assert status.champion.ranker == "logistic"
    assert status.canary is not None
    assert status.canary.ranker == "transformer"
    assert status.canary.share == settings.serving.canary_share
    assert made.steps[-1].name == "deploy"
    origin = LastRun(Home.of(settings)).origin()
    assert origin is not None
    assert origin.run == made.id


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world in which plain counts are the truth, run once."""
    home = tmp_path_factory.mktemp("affinity") / "home"
    run(world(home, preference="affinity"))
    return home


def test_a_challenger_that_is_not_better_is_held_and_the_champion_stays(held: Path) -> None:
    settings = world(held, preference="affinity")
    verdict = LastRun(Home.of(settings)).verdict()
    assert verdict.decision == "HOLD"
    assert verdict.new
    status = Registry(held).status()
    assert status.canary is None
    assert status.champion is not None
    assert status.champion.ranker == "logistic"
    assert set(LastRun(Home.of(settings)).pages) == {"data validation", "training", "evaluation"}


def test_a_second_run_on_unchanged_inputs_says_nothing_new_and_trains_nothing(held: Path) -> None:
    settings = world(held, preference="affinity")
    champion = Registry(held).champion()
    made, _ = run(settings)
    verdict = LastRun(Home.of(settings)).verdict()
    assert verdict.decision == "HOLD"
    assert verdict.headline.startswith("Nothing new")
    assert {step.status for step in made.steps if step.name.startswith("train-ranker")} == {"cached"}
    assert made.steps[-1].name == "hold"
    assert Registry(held).champion() == champion


def test_a_changed_configuration_is_a_new_challenger_against_the_same_champion(held: Path) -> None:
    champion = Registry(held).champion()
    training = TrainingSettings(threads=1, challenger="rate_rule", baselines=("logistic",))
    settings = world(held, preference="affinity", training=training)
    run(settings)
    verdict = LastRun(Home.of(settings)).verdict()
    assert verdict.champion == champion
    assert verdict.challenger.startswith("rate_rule-")
    assert verdict.new
    assert verdict.decision == "HOLD"
