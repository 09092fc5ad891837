"""The compiled pipeline, with real training, decides correctly on synthetic worlds whose truth is known.

The commands then read what the runs left behind.
"""

import json
import shutil
import tomllib
from contextlib import chdir
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner
from worlds import run, world

from cli.main import app
from pipelines.local import LocalRun
from recommender.matching.catalogue import Catalogue
from recommender.registry import Registry
from recommender.report.last_run import LastRun
from recommender.settings import Settings, TrainingSettings
from recommender.storage.home import Home

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LocalRun]:
    """A world that only a model of sequences can learn, run once. Several campaigns are live at its end."""
    home = tmp_path_factory.mktemp("sequence") / "home"
    made, _ = run(world(home, preference="sequence", window_days=30))
    return home, made


def test_a_challenger_that_sees_what_the_champion_cannot_is_promoted_to_canary(promoted: tuple[Path, LocalRun]) -> None:
    home, made = promoted
    settings = world(home, preference="sequence", window_days=30)
    verdict = LastRun(Home.of(settings)).verdict()
    assert verdict.decision == "PROMOTE", verdict.reasons
    status = Registry(settings.home).status()
    assert status.champion is not None
    assert status.champion.ranker == "logistic"
    assert status.canary is not None
    assert status.canary.ranker == "transformer"
    assert status.canary.share == settings.serving.canary_share
    # The order of steps that do not depend on each other changes from run to run.
    assert {"deploy"} == {step.name for step in made.steps} & {"deploy", "hold"}
    origin = LastRun(Home.of(settings)).origin()
    assert origin is not None
    assert origin.run == made.id


def recommender(home: Path, folder: Path, *arguments: str) -> Result:
    """The command on a home, in `folder`. tests/e2e runs each verb as a process."""
    (folder / "recommender.toml").write_text(f'home = "{home}"\n[training]\nthreads = 1\n')
    with chdir(folder):
        return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160"})


def succeeds(home: Path, folder: Path, *arguments: str) -> str:
    done = recommender(home, folder, *arguments)
    assert done.exit_code == 0, done.output + str(done.exception)
    return done.stdout


def test_score_writes_every_user_with_every_live_campaign_best_first(
    promoted: tuple[Path, LocalRun], tmp_path: Path
) -> None:
    home, _ = promoted
    said = succeeds(home, tmp_path, "score", "--output", "scores.parquet")
    scores = pq.read_table(tmp_path / "scores.parquet")
    catalogue = Catalogue.load(home / "catalogue")
    as_of = scores["as_of"][0].as_py()
    live = {catalogue.campaign_ids[row] for row in catalogue.live(round(as_of.timestamp() * 1e6))}
    assert len(live) > 1
    assert f"{scores.num_rows:,} pairs, {len(live)} live campaigns" in said
    by_user: dict[str, list[dict[str, object]]] = {}
    for row in scores.to_pylist():
        by_user.setdefault(row["user_id"], []).append(row)
    # Only what a user has taken up already is missing.
    assert 0.9 * 800 * len(live) < scores.num_rows < 800 * len(live)
    for user_id, rows in by_user.items():
        assert {row["campaign_id"] for row in rows} <= live, user_id
        assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1)), user_id
        assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True), user_id
    assert pc.min(scores["score"]).as_py() >= 0
    assert pc.max(scores["score"]).as_py() <= 1
    assert set(scores["model_version"].to_pylist()) == {Registry(home).champion()}


def test_an_audience_is_one_campaign_s_users_with_the_scores_that_score_gives_them(
    promoted: tuple[Path, LocalRun], tmp_path: Path
) -> None:
    home, _ = promoted
    succeeds(home, tmp_path, "score", "--output", "scores.parquet")
    scores = pq.read_table(tmp_path / "scores.parquet")
    for campaign_id in sorted(set(scores["campaign_id"].to_pylist()))[:2]:
        said = succeeds(home, tmp_path, "audience", campaign_id, "--top", "3", "--output", "audience.parquet")
        audience = pq.read_table(tmp_path / "audience.parquet")
        expected = scores.filter(pc.field("campaign_id") == campaign_id)
        expected = expected.sort_by([("score", "descending"), ("user_id", "ascending")])
        assert audience.select(["user_id", "score"]) == expected.select(["user_id", "score"])
        shown = [user_id for user_id in audience["user_id"].to_pylist() if user_id in said]
        assert shown == audience["user_id"].to_pylist()[:3]
    unknown = recommender(home, tmp_path, "audience", "no-such-campaign")
    assert unknown.exit_code == 2
    assert "no-such-campaign" in unknown.stderr
    assert campaign_id in unknown.stderr


def test_report_shows_the_verdict_and_each_ranker_over_all_campaigns(
    promoted: tuple[Path, LocalRun], tmp_path: Path
) -> None:
    home, _ = promoted
    said = succeeds(home, tmp_path, "report")
    last = LastRun(Home(home))
    verdict, evaluation = last.verdict(), last.evaluation()
    assert evaluation.test is not None
    assert {verdict.decision, verdict.challenger, verdict.champion} <= set(said.split())
    for period in (evaluation.gate, evaluation.test):
        assert period.num_campaigns > 1
        assert f"{period.num_campaigns} campaigns" in said
        assert all(ranker in said for ranker in period.rankers)
    assert all(str(page) in said for page in last.pages.values())


def test_tune_prints_the_best_configuration_as_it_goes_into_the_settings_file(
    promoted: tuple[Path, LocalRun], tmp_path: Path
) -> None:
    home, _ = promoted
    said = succeeds(home, tmp_path, "tune", "logistic", "--trials", "2")
    tuned = json.loads((home / "tuning" / "logistic.json").read_text())
    assert len(tuned["trials"]) == 2
    assert tuned["log_loss"] == min(trial["log_loss"] for trial in tuned["trials"])
    lines = said.splitlines()
    start = lines.index("[training.rankers.logistic]")
    block = "\n".join(lines[start : lines.index("", start)])
    assert tomllib.loads(block)["training"]["rankers"]["logistic"] == tuned["best"]


def test_rollback_ends_a_canary_first_and_then_brings_the_previous_champion_back(
    promoted: tuple[Path, LocalRun], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    for name in ("registry", "catalogue", "feature_store"):
        shutil.copytree(promoted[0] / name, home / name)
    registry = Registry(home)
    champion, canary = registry.champion(), registry.canary()
    assert champion is not None
    assert canary is not None
    succeeds(home, tmp_path, "rollback", "--reason", "too many complaints")
    assert (registry.champion(), registry.canary()) == (champion, None)
    assert registry.history()[-1]["reason"] == "too many complaints"

    registry.start_canary(canary.version, 0.5)
    succeeds(home, tmp_path, "promote")
    succeeds(home, tmp_path, "score")
    assert set(pq.read_table(tmp_path / "scores.parquet")["model_version"].to_pylist()) == {canary.version}
    succeeds(home, tmp_path, "rollback")
    assert (registry.champion(), registry.canary()) == (champion, None)
    nothing_left = recommender(home, tmp_path, "rollback")
    assert nothing_left.exit_code == 2
    assert registry.champion() == champion


def counts(home: Path, training: TrainingSettings | None = None) -> Settings:
    """Half of the users do: the gain's interval contains zero with 400 as with 800."""
    return world(home, preference="affinity", training=training, num_users=400)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world in which plain counts are the truth, run once."""
    home = tmp_path_factory.mktemp("affinity") / "home"
    run(counts(home))
    return home


def test_a_challenger_that_is_not_better_is_held_and_the_champion_stays(held: Path) -> None:
    settings = counts(held)
    verdict = LastRun(Home.of(settings)).verdict()
    assert verdict.decision == "HOLD"
    assert verdict.new
    status = Registry(held).status()
    assert status.canary is None
    assert status.champion is not None
    assert status.champion.ranker == "logistic"
    assert set(LastRun(Home.of(settings)).pages) == {"data validation", "training", "evaluation"}


def test_a_second_run_on_unchanged_inputs_says_nothing_new_and_trains_nothing(held: Path) -> None:
    settings = counts(held)
    champion = Registry(held).champion()
    made, _ = run(settings)
    verdict = LastRun(Home.of(settings)).verdict()
    assert verdict.decision == "HOLD"
    assert verdict.headline.startswith("Nothing new")
    assert {step.status for step in made.steps if step.name.startswith("train-ranker")} == {"cached"}
    assert {"hold"} == {step.name for step in made.steps} & {"deploy", "hold"}
    assert Registry(held).champion() == champion


def test_a_changed_configuration_is_a_new_challenger_against_the_same_champion(held: Path) -> None:
    champion = Registry(held).champion()
    training = TrainingSettings(threads=1, challenger="rate_rule", baselines=("logistic",))
    settings = counts(held, training)
    run(settings)
    verdict = LastRun(Home.of(settings)).verdict()
    assert verdict.champion == champion
    assert verdict.challenger.startswith("rate_rule-")
    assert verdict.new
    assert verdict.decision == "HOLD"
