"""A next-item ranker through training, tuning and the campaign benchmark, on a small shop."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.campaigns import bench, main
from benchmarks.campaigns_report import AGAINST, METRICS, against_mark, tables
from recommender.datasets.periods import microseconds
from recommender.datasets.synthetic import World, generate
from recommender.errors import BundleError, PeriodError
from recommender.features.training_set import TrainingSet, write_training_set
from recommender.registry import bundle
from recommender.settings import Settings, TrainingSettings
from recommender.training import train
from recommender.training.train import boundaries
from recommender.training.tune import folds_of, tune


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import pyarrow.parquet as pq

    from recommender.features import build
    from recommender.matching.catalogue import Catalogue

    folder = tmp_path_factory.mktemp("shop")
    world = World.small(preference="sequence", num_users=200, num_items=60, num_campaigns=16, views=False)
    tables = generate(world, folder / "tables")
    features = build(tables, folder / "features", as_of=tables.log_end, threads=1)
    users, pairs = (pq.ParquetFile(features / f"{name}.parquet").read() for name in ("users", "pairs"))
    return write_training_set(users, pairs, Catalogue.load(features / "catalogue"), tables, folder / "set")


def settings(home: Path) -> Settings:
    hyperparameters = {"rules": {"campaign_min_lines": 1}, "lightgbm": {"rounds": 100}}
    return Settings(home=home, training=TrainingSettings(threads=1, rankers=hyperparameters))


def test_a_next_item_ranker_is_trained_like_any_other_at_three_boundaries(shop: Path, tmp_path: Path) -> None:
    made = train(shop, ranker="rules", settings=settings(tmp_path / "var"), output=tmp_path / "rules")
    data = TrainingSet.open(shop)
    for fit in ("gate", "test", "live"):
        ranker = bundle.load(made.output / "fits" / fit, feature_names=data.all.feature_names)
        p_N = ranker.score(data.all).redeem_N
        assert ranker.name == "rules"
        assert p_N.std() > 0


def test_the_benchmark_holds_every_ranker_against_both_references_and_logs_the_reading(
    shop: Path, tmp_path: Path
) -> None:
    readings = tmp_path / "readings.jsonl"
    content = bench(shop, ["rules", "popularity"], settings(tmp_path / "var"), readings=readings, say=lambda text: None)
    assert set(content["rankers"]) == {*AGAINST, "rules", "popularity"}
    row = content["rankers"]["rules"]
    assert set(row["metrics"]) == set(METRICS)
    for other in AGAINST:
        gain = row["against"][other]["log_loss"]
        theirs = content["rankers"][other]["metrics"]["log_loss"]["value"]
        assert gain["value"] == pytest.approx(theirs - row["metrics"]["log_loss"]["value"], abs=2e-6)
        assert gain["low"] <= gain["value"] <= gain["high"]
    assert sum(part["pairs"] for part in content["test"]["types"].values()) == content["test"]["pairs"]
    usual, half = row["at_thresholds"]
    assert (usual["threshold"], half["threshold"]) == (content["base_rate"]["value"], 0.5)
    nobody = 1 - content["test"]["redeemed"] / content["test"]["pairs"]
    assert content["nobody"]["accuracy"]["value"] == pytest.approx(nobody, abs=1e-6)
    gain = half["accuracy_over_nobody"]["value"]
    assert half["accuracy"]["value"] - nobody == pytest.approx(gain, abs=2e-6)
    logged = [json.loads(line) for line in readings.read_text().splitlines()]
    assert {line["ranker"] for line in logged} == set(content["rankers"])
    assert len(tables(content)) == 2


def test_a_miss_of_the_mark_is_shown_as_a_miss(shop: Path, tmp_path: Path) -> None:
    content = bench(shop, ["popularity"], settings(tmp_path / "var"), say=lambda text: None)
    content["mark"] = {"auc": 1.1, "ap": 1.1, "log_loss": -1.0}
    for row in content["rankers"].values():
        row["reaches_mark"] = dict.fromkeys(content["mark"], False)
    sentence = against_mark(content)
    assert "missed" in sentence
    assert all(f"for {mark}" in sentence for mark in (1.1, -1.0))


def test_a_fit_that_is_kept_is_not_made_again_and_reads_the_same(shop: Path, tmp_path: Path) -> None:
    chosen = settings(tmp_path / "var")
    first, second = (bench(shop, ["rules"], chosen, say=lambda text: None)["rankers"] for _ in range(2))
    assert first == second


def test_some_rankers_leave_the_whole_table_as_it_is(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports/bench").mkdir(parents=True)
    (tmp_path / "reports/bench/campaigns.json").write_text("the whole table")
    assert main(["--rankers", "popularity", "--training-set", str(shop)]) == 0
    assert "campaigns-part.json" in capsys.readouterr().out
    part = json.loads((tmp_path / "reports/bench/campaigns-part.json").read_text())
    assert set(part["rankers"]) == {*AGAINST, "popularity"}
    assert (tmp_path / "reports/bench/campaigns.json").read_text() == "the whole table"


def test_an_unknown_ranker_is_named(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BundleError, match="'nonsense'"):
        bench(shop, ["nonsense"], settings(tmp_path))
    words = ["--rankers", "nonsense", "--training-set", str(shop), "--output", str(tmp_path / "campaigns.json")]
    assert main(words) == 2
    assert "'nonsense'" in capsys.readouterr().out
    assert not (tmp_path / "campaigns.json").exists()


def test_folds_follow_one_another_and_end_where_the_gate_period_begins(shop: Path, tmp_path: Path) -> None:
    data, chosen = TrainingSet.open(shop), settings(tmp_path)
    moments = boundaries(data, chosen)
    folds = folds_of(data, chosen, 2)
    assert [fold.starts for fold in folds[1:]] == [fold.ends for fold in folds[:-1]]
    assert folds[-1].ends == moments["gate"]
    assert data.times_us("starts_at").min() < microseconds(folds[0].starts)
    only = folds_of(data, chosen, 1)
    assert only[0].ends == moments["gate"]
    judged = data.decided_in(only[0].starts, only[0].ends).sum()
    assert judged == pytest.approx(data.decided_in(None, moments["gate"]).sum() / 2, rel=0.4)
    with pytest.raises(PeriodError, match=r"gate_from, too few for 99 folds"):
        folds_of(data, chosen, 99)


def test_a_trial_of_several_folds_is_judged_by_their_mean(shop: Path, tmp_path: Path) -> None:
    found = tune(shop, "lightgbm", 1, settings(tmp_path), tmp_path / "lightgbm.db", folds=2)
    losses = found.trials[0]["log_losses"]
    assert len(losses) == 2
    assert found.log_loss == pytest.approx(np.mean(losses), abs=1e-6)
    assert json.loads((tmp_path / "lightgbm.json").read_text())["judged_on"].startswith("2 folds from")
