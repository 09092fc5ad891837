"""Rolling-origin cross-validation of campaign rankers, on a small shop and as its user runs it."""

import json
import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli.main import app
from recommender.datasets.periods import from_microseconds, microseconds
from recommender.datasets.synthetic import World, generate
from recommender.engine.context import FitContext
from recommender.errors import BundleError, PeriodError, SettingsError
from recommender.evaluation.judgement import GateRule, Judgement
from recommender.evaluation.metrics import METRICS, ScoredPairs
from recommender.features import build
from recommender.features.training_set import TrainingSet, write_training_set
from recommender.matching.catalogue import Catalogue
from recommender.models.campaign import ranker_class
from recommender.settings import Settings, TrainingSettings
from recommender.storage.home import Home
from recommender.storage.manifest import read_manifest, write_manifest
from recommender.storage.published import publish
from recommender.training.cross_validate import CrossValidation, cross_validate
from recommender.training.train import boundaries, fit_at

RULES = Judgement(gate=GateRule(bootstrap_samples=100), sha256="f" * 64)
SETTINGS = Settings(training=TrainingSettings(threads=1))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    world = World.small(num_users=150, num_items=60, num_campaigns=16, views=False)
    tables = generate(world, folder / "tables")
    features = build(tables, folder / "features", as_of=tables.log_end, threads=1)
    users, pairs = (pq.ParquetFile(features / f"{name}.parquet").read() for name in ("users", "pairs"))
    return write_training_set(users, pairs, Catalogue.load(features / "catalogue"), tables, folder / "set")


@pytest.fixture(scope="module")
def found(shop: Path) -> CrossValidation:
    return cross_validate(shop, ["logistic", "rate_rule", "logistic"], SETTINGS, RULES, count=2)


def test_each_origin_is_judged_until_the_next_and_the_last_one_until_the_final_test(
    shop: Path, found: CrossValidation
) -> None:
    data = TrainingSet.open(shop)
    test_from = boundaries(data, SETTINGS)["test"]
    assert [one.ends for one in found.origins] == [found.origins[1].starts, test_from]
    assert found.left_out == []
    starts_N = data.times_us("starts_at")
    for one in found.origins:
        inside = (starts_N >= microseconds(one.starts)) & (starts_N < microseconds(one.ends))
        assert one.num_pairs == (inside & data.decided_in(one.starts, one.ends)).sum()
        assert one.num_learnt_from == data.decided_in(None, one.starts).sum()
        assert set(one.rankers) == {"logistic", "rate_rule"}
    assert found.pooled.num_pairs == sum(one.num_pairs for one in found.origins)
    assert found.pooled.num_campaigns == sum(one.num_campaigns for one in found.origins)


def test_an_origin_s_figures_are_those_of_a_fit_on_what_was_known_at_it(shop: Path, found: CrossValidation) -> None:
    data, one = TrainingSet.open(shop), found.origins[0]
    starts_N = data.times_us("starts_at")
    mask_N = data.decided_in(one.starts, one.ends) & (starts_N >= microseconds(one.starts))
    mask_N &= starts_N < microseconds(one.ends)
    cls = ranker_class("rate_rule")
    fitted = fit_at(cls, data, one.starts, cls.Config(), FitContext(seed=SETTINGS.training.seed))
    score_N = fitted.score(data.examples(mask_N).read_at(microseconds(one.ends))).redeem_N.astype(np.float64)
    redeemed_N = data.labels_at(one.ends, mask_N).redeemed_N.astype(np.float64)
    assert one.num_positives == redeemed_N.sum()
    judged = ScoredPairs(redeemed_N, score_N, np.arange(len(score_N)))
    for metric in ("auc", "ap", "log_loss", "ece"):
        value = one.rankers["rate_rule"].metrics[metric].value
        assert value == pytest.approx(float(METRICS[metric].compute(judged, judged.ones)[0]))
    assert one.base_rate is not None
    usual = one.rankers["rate_rule"].at_thresholds[0]
    assert usual.threshold == pytest.approx(one.base_rate.value)
    assert usual.true_positives + usual.false_positives == (score_N >= one.base_rate.value).sum()


def test_all_origins_together_count_each_pair_at_the_threshold_of_its_origin(found: CrossValidation) -> None:
    for name, of in found.pooled.rankers.items():
        for place, at in enumerate(of.at_thresholds):
            parts = [one.rankers[name].at_thresholds[place] for one in found.origins]
            assert at.true_positives == sum(part.true_positives for part in parts)
            assert at.false_positives == sum(part.false_positives for part in parts)
    means = [one.rankers["logistic"].metrics["log_loss"].value for one in found.origins]
    sizes = [one.num_pairs for one in found.origins]
    assert found.pooled.rankers["logistic"].metrics["log_loss"].value == pytest.approx(np.average(means, weights=sizes))  # type: ignore[arg-type]


def test_gains_are_over_the_first_ranker_with_intervals_over_campaigns(found: CrossValidation) -> None:
    assert set(found.gains) == {"rate_rule"}
    gain = found.gains["rate_rule"]["log_loss"]
    assert gain.num_campaigns == found.pooled.num_campaigns
    assert gain.low < gain.value < gain.high  # type: ignore[operator]


def test_nothing_of_the_final_test_or_after_an_origin_moves_a_figure(shop: Path, tmp_path: Path) -> None:
    moments = boundaries(TrainingSet.open(shop), SETTINGS)
    periods = {"gate_from": moments["gate"].isoformat(), "test_from": moments["test"].isoformat()}
    chosen = SETTINGS.updated(time=periods)

    def judged(folder: Path) -> CrossValidation:
        return cross_validate(folder, ["rate_rule"], chosen, RULES, count=2)

    changed = tmp_path / "set"
    shutil.copytree(shop, changed)
    pairs = pq.ParquetFile(changed / "pairs.parquet").read()
    later = pc.fill_null(pc.greater_equal(pairs["redeemed_at"], pa.scalar(moments["test"])), False)
    at = pairs.column_names.index("redeemed_at")
    none = pa.scalar(None, pairs["redeemed_at"].type)
    assert pc.sum(later).as_py() > 10
    pq.write_table(
        pairs.set_column(at, "redeemed_at", pc.if_else(later, none, pairs["redeemed_at"])), changed / "pairs.parquet"
    )
    facts = {name: value for name, value in read_manifest(shop).items() if name not in ("files", "content_hash")}
    write_manifest(changed, **facts)
    assert judged(changed).model_dump(exclude={"data_hash"}) == judged(shop).model_dump(exclude={"data_hash"})


def test_an_origin_that_cannot_judge_is_left_out_with_the_reason(shop: Path, found: CrossValidation) -> None:
    data = TrainingSet.open(shop)
    first = from_microseconds(int(data.times_us("decided_at").min()))
    empty = first - timedelta(days=20), first - timedelta(days=10)
    dates = [moment.isoformat() for moment in (*empty, found.origins[0].starts)]
    some = cross_validate(shop, ["rate_rule"], SETTINGS, RULES, origins=dates)
    assert [one.starts for one in some.origins] == [found.origins[0].starts]
    assert [one.starts for one in some.left_out] == list(empty)
    assert empty[0].isoformat() in some.left_out[0].reason


def test_what_cannot_be_validated_is_a_typed_error(shop: Path) -> None:
    test_from = boundaries(TrainingSet.open(shop), SETTINGS)["test"]
    with pytest.raises(PeriodError, match=r"final test, too few for 99 origins"):
        cross_validate(shop, ["rate_rule"], SETTINGS, RULES, count=99)
    data = TrainingSet.open(shop)
    before = from_microseconds(int(data.times_us("decided_at").min())) - timedelta(days=1)
    with pytest.raises(PeriodError, match=f"no origin can judge.*{before.date()}"):
        cross_validate(shop, ["rate_rule"], SETTINGS, RULES, origins=[before.isoformat()])
    with pytest.raises(PeriodError, match="must be before the final test"):
        cross_validate(shop, ["rate_rule"], SETTINGS, RULES, origins=[test_from.isoformat()])
    with pytest.raises(SettingsError, match="'last May'"):
        cross_validate(shop, ["rate_rule"], SETTINGS, RULES, origins=["last May"])
    with pytest.raises(BundleError, match="'nonsense'"):
        cross_validate(shop, ["nonsense"], SETTINGS, RULES)
    with pytest.raises(SettingsError, match="none is named"):
        cross_validate(shop, [], SETTINGS, RULES)


def test_the_verb_prints_tables_or_json(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path / "var")
    publish(Home.of(settings), run="a run", data_hash="data", training_set=shop)
    (tmp_path / "judgement.toml").write_text("[gate]\nbootstrap_samples = 100\n")
    monkeypatch.chdir(tmp_path)
    words = ["cross-validate", "--rankers", "logistic,popularity", "--origins", "2"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("nobody takes part") == 3
    printed = CliRunner().invoke(app, [*words, "--json"])
    content = json.loads(printed.stdout)
    assert CrossValidation.model_validate(content).pooled.num_campaigns > 2
    assert set(content["gains"]) == {"popularity"}
    refused = CliRunner().invoke(app, ["cross-validate", "--origins", "99"])
    assert refused.exit_code == 2
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")  # without a training set, which is looked for after the rankers' names
    misspelt = CliRunner().invoke(app, ["cross-validate", "--rankers", "logistc"])
    assert misspelt.exit_code == 2
    assert "'logistic'" in misspelt.stderr
