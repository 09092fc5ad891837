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
from recommender.datasets.periods import MIN_OF_EACH_CLASS, from_microseconds, microseconds
from recommender.datasets.synthetic import World, generate
from recommender.engine.context import FitContext
from recommender.errors import BundleError, PeriodError, SettingsError
from recommender.evaluation.judgement import GateRule, Judgement
from recommender.evaluation.metrics import METRICS, ScoredPairs
from recommender.evaluation.readings import GateReadings, gate_readings, num_readings
from recommender.features import build
from recommender.features.training_set import TrainingSet, write_training_set
from recommender.matching.catalogue import Catalogue
from recommender.models.campaign import ranker_class
from recommender.registry import Registry
from recommender.settings import Settings, TrainingSettings
from recommender.storage.home import Home
from recommender.storage.manifest import read_manifest, write_manifest
from recommender.storage.published import publish
from recommender.training.cross_validate import CrossValidation, cross_validate
from recommender.training.origins import most_origins_before
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
    rankers = ["logistic", "rate_rule", "logistic"]
    return cross_validate(shop, rankers, SETTINGS, RULES, count=2, through_gate=True)


def test_each_origin_is_judged_until_the_next_and_the_last_one_until_the_final_test(
    shop: Path, found: CrossValidation
) -> None:
    data = TrainingSet.open(shop)
    moments = boundaries(data, SETTINGS)
    assert [one.ends for one in found.origins] == [found.origins[1].starts, moments["test"]]
    assert (found.gate_from, found.test_from, found.through_gate) == (moments["gate"], moments["test"], True)
    assert found.left_out == []
    starts_N = data.times_us("starts_at")
    for one in found.origins:
        inside = (starts_N >= microseconds(one.starts)) & (starts_N < microseconds(one.ends))
        assert one.num_pairs == (inside & data.decided_in(one.starts, one.ends)).sum()
        assert one.num_learnt_from == data.decided_in(None, one.starts).sum()
        assert set(one.rankers) == {"logistic", "rate_rule"}
    assert found.pooled.num_pairs == sum(one.num_pairs for one in found.origins)
    assert found.pooled.num_campaigns == sum(one.num_campaigns for one in found.origins)


def test_unless_asked_otherwise_no_campaign_of_the_gate_period_judges(shop: Path) -> None:
    data, gate_from = TrainingSet.open(shop), boundaries(TrainingSet.open(shop), SETTINGS)["gate"]
    before = cross_validate(shop, ["rate_rule"], SETTINGS, RULES)
    assert not before.through_gate
    assert before.origins[-1].ends == before.gate_from == gate_from
    starts_N = data.times_us("starts_at")
    judged_N = (starts_N >= microseconds(before.origins[0].starts)) & (starts_N < microseconds(gate_from))
    assert before.pooled.num_pairs == (judged_N & data.decided_in(before.origins[0].starts, gate_from)).sum()
    assert all(one.num_positives >= MIN_OF_EACH_CLASS for one in before.origins)


def test_with_fewer_participations_there_are_fewer_origins(shop: Path) -> None:
    data, gate_from = TrainingSet.open(shop), boundaries(TrainingSet.open(shop), SETTINGS)["gate"]
    counts = {most: len(most_origins_before(data, gate_from, most, name="the gate period")) for most in (1, 2, 9)}
    assert counts[1] == 1
    assert 1 <= counts[2] <= 2
    assert counts[9] < 9


def test_every_reading_of_the_gate_s_campaigns_is_counted_with_the_rankers(shop: Path, tmp_path: Path) -> None:
    readings = tmp_path / "registry" / "readings.jsonl"
    gate = [boundaries(TrainingSet.open(shop), SETTINGS)[name] for name in ("gate", "test")]

    def judge(*rankers: str, through_gate: bool, settings: Settings = SETTINGS) -> None:
        cross_validate(shop, rankers, settings, RULES, count=1, through_gate=through_gate, readings=readings)

    judge("popularity", through_gate=False)
    assert gate_readings(readings, *gate) == GateReadings()
    judge("popularity", "rate_rule", through_gate=True)
    judge("rate_rule", through_gate=True)
    assert gate_readings(readings, *gate) == GateReadings(times=2, num_rankers=2)
    judge("logistic", through_gate=True)
    training = SETTINGS.training.model_copy(update={"rankers": {"logistic": {"strength": 0.1}}})
    judge("logistic", through_gate=True, settings=SETTINGS.updated(training=training))
    assert gate_readings(readings, *gate) == GateReadings(times=4, num_rankers=4)
    later = SETTINGS.updated(time={"gate_from": gate[1] - timedelta(days=1), "test_from": gate[1]})
    judge("popularity", through_gate=False, settings=later)
    assert gate_readings(readings, *gate).times == 5, "a later gate_from in the settings hides no reading"
    assert num_readings(readings, since=gate[0]) == 0, "no final test was read"
    line = json.loads(readings.read_text().splitlines()[1])
    assert (line["kind"], list(line["rankers"])) == ("cross-validation", ["popularity", "rate_rule"])
    assert len(line["origins"]) == 1


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
        return cross_validate(folder, ["rate_rule"], chosen, RULES, count=2, through_gate=True)

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
    some = cross_validate(shop, ["rate_rule"], SETTINGS, RULES, origins=dates, through_gate=True)
    assert [one.starts for one in some.origins] == [found.origins[0].starts]
    assert [one.starts for one in some.left_out] == list(empty)
    assert empty[0].isoformat() in some.left_out[0].reason


def test_what_cannot_be_validated_is_a_typed_error(shop: Path) -> None:
    moments = boundaries(TrainingSet.open(shop), SETTINGS)
    with pytest.raises(PeriodError, match=r"final test, too few for 99 origins"):
        cross_validate(shop, ["rate_rule"], SETTINGS, RULES, count=99, through_gate=True)
    with pytest.raises(PeriodError, match=r"gate period, too few for 99 origins.*--through-gate"):
        cross_validate(shop, ["rate_rule"], SETTINGS, RULES, count=99)
    data = TrainingSet.open(shop)
    before = from_microseconds(int(data.times_us("decided_at").min())) - timedelta(days=1)
    with pytest.raises(PeriodError, match=f"no origin.*{before.date()}.*--through-gate"):
        cross_validate(shop, ["rate_rule"], SETTINGS, RULES, origins=[before.isoformat()])
    late = [moments["test"].isoformat()]
    with pytest.raises(PeriodError, match="must be before the final test"):
        cross_validate(shop, ["rate_rule"], SETTINGS, RULES, origins=late, through_gate=True)
    with pytest.raises(PeriodError, match=r"must be before the gate period.*--through-gate"):
        cross_validate(shop, ["rate_rule"], SETTINGS, RULES, origins=[moments["gate"].isoformat()])
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
    registry, moments = Registry(settings.home), boundaries(TrainingSet.open(shop), settings)
    before = CliRunner().invoke(app, ["cross-validate", "--rankers", "popularity"])
    assert before.exit_code == 0, before.output
    assert "warning" not in before.output
    assert gate_readings(registry.readings, moments["gate"], moments["test"]).times == 0
    words = ["cross-validate", "--rankers", "logistic,popularity", "--origins", "2", "--through-gate"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("nobody takes part") == 3
    assert f"{moments['gate']:%Y-%m-%d}" in shown.stderr.split("warning")[1]
    printed = CliRunner().invoke(app, [*words, "--json"])
    content = json.loads(printed.stdout)
    assert CrossValidation.model_validate(content).pooled.num_campaigns > 2
    assert set(content["gains"]) == {"popularity"}
    assert gate_readings(registry.readings, moments["gate"], moments["test"]) == GateReadings(2, 2)
    refused = CliRunner().invoke(app, ["cross-validate", "--origins", "99"])
    assert refused.exit_code == 2
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")  # without a training set, which is looked for after the rankers' names
    misspelt = CliRunner().invoke(app, ["cross-validate", "--rankers", "logistc"])
    assert misspelt.exit_code == 2
    assert "'logistic'" in misspelt.stderr
