"""Training: three fits of what was known then, resumable to the same bits, with a lineage."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from random_examples import fit_ranker, random_examples

from cli.tuning import tune_ranker
from recommender.datasets.synthetic import World, generate
from recommender.engine.checkpoints import Checkpoints
from recommender.engine.context import FitContext
from recommender.errors import DeviceError, PeriodError, SettingsError, TrainingError
from recommender.features.training_set import TrainingSet, write_training_set
from recommender.models.campaign import ranker_class
from recommender.registry import bundle
from recommender.registry.candidates import boundaries as known_boundaries
from recommender.registry.candidates import version_of
from recommender.report.training import page_of_fits
from recommender.settings import Settings, TimeSettings, TrainingSettings
from recommender.training import train
from recommender.training.identity import training_hash
from recommender.training.train import boundaries, fit_at

CONFIG = {
    "pretrain_epochs": 3,
    "pretrain_min_steps": 1,
    "tune_epochs": 1,
    "width": 16,
    "hidden": 8,
    "pretrain_batch": 8,
    "held_out": 0.3,
}
FIT = """
import json, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from random_examples import fit_ranker, random_examples
from recommender.registry import bundle
from recommender.engine.context import FitContext
examples, labels = random_examples()
context = FitContext(checkpoints=Path(sys.argv[1]), checkpoint_every_s=0.05)
ranker = fit_ranker("transformer", examples, labels, context=context, **json.loads(sys.argv[2]))
bundle.save(ranker, Path(sys.argv[1]) / "bundle", lineage={{}})
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training set of a small synthetic shop whose users follow a hidden walk."""
    import pyarrow.parquet as pq

    from recommender.features import build
    from recommender.matching.catalogue import Catalogue

    folder = tmp_path_factory.mktemp("shop")
    world = World.small(preference="sequence", num_users=300, num_items=80, num_campaigns=16, views=False)
    tables = generate(world, folder / "tables")
    features = build(tables, folder / "features", as_of=tables.log_end, threads=2)
    users, pairs = (pq.ParquetFile(features / f"{name}.parquet").read() for name in ("users", "pairs"))
    return write_training_set(users, pairs, Catalogue.load(features / "catalogue"), tables, folder / "set")


def settings(home: Path, **training: object) -> Settings:
    return Settings(home=home, training=TrainingSettings(**training))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_fit_killed_at_any_step_and_resumed_has_the_same_weights(tmp_path: Path) -> None:
    code = FIT.format(tests=str(Path(__file__).parent))

    def start(folder: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", code, str(folder), json.dumps(CONFIG)])

    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert start(undisturbed).wait(timeout=120) == 0
    kills = 0
    for phase in ("pretrain", "choose"):
        process = start(killed)
        deadline = time.monotonic() + 60
        while not (killed / "steps" / phase).is_dir() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
    assert kills >= 1
    assert start(killed).wait(timeout=120) == 0
    weights = [folder / "bundle" / bundle.WEIGHTS for folder in (undisturbed, killed)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    curves = [
        [
            (line["phase"], line["step"], line["loss"])
            for line in map(json.loads, (folder / "progress.jsonl").read_text().splitlines())
        ]
        for folder in (undisturbed, killed)
    ]
    assert curves[0] == curves[1]


def test_a_damaged_checkpoint_is_not_trusted(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("pretrain", {"model.weight": np.ones(3, dtype=np.float32)}, {"step": 4, "judged": []})
    assert checkpoints.load("pretrain") is not None
    path = tmp_path / "steps" / "pretrain" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert checkpoints.load("pretrain") is None


def test_a_checkpoint_that_a_kill_left_without_its_name_is_found(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("pretrain", {"model.weight": np.ones(3, dtype=np.float32)}, {"step": 4, "judged": []})
    (tmp_path / "steps" / "pretrain").rename(tmp_path / "steps" / ".pretrain.0123abcd.old")
    found = checkpoints.load("pretrain")
    assert found is not None
    assert found.numbers["step"] == 4


def test_a_resumed_phase_cuts_its_curve_back_and_leaves_out_what_is_no_line_of_a_log(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    lines = [{"phase": phase, "step": step} for phase, step in (("a", 10), ("a", 20), ("b", 10), ("b", 20), ("b", 30))]
    whole = [json.dumps(line) + "\n" for line in lines]
    checkpoints.progress.write_text("".join([*whole[:2], "\x00damaged\n", *whole[2:], '{"phase": "b", "step": 1']))
    checkpoints.rewind("b", 20)
    assert checkpoints.progress.read_text() == "".join(whole[:4])


def test_a_loss_that_is_not_finite_stops_the_fit_and_names_the_step() -> None:
    examples, labels = random_examples()
    with pytest.raises(TrainingError, match=r"pretrain, step \d+ of \d+"):
        fit_ranker("transformer", examples, labels, **{**CONFIG, "pretrain_rate": 1e30, "pretrain_epochs": 2})


def test_a_training_leaves_three_verified_bundles_and_their_lineage(shop: Path, tmp_path: Path) -> None:
    result = train(shop, ranker="logistic", settings=settings(tmp_path / "var"), output=tmp_path / "out")
    data = TrainingSet.open(shop)
    moments = boundaries(data, settings(tmp_path))
    assert known_boundaries(tmp_path / "out") == moments
    assert list(moments) == ["gate", "test", "live"]
    for fit in moments:
        ranker = bundle.load(tmp_path / "out" / "fits" / fit, feature_names=data.all.feature_names)
        assert np.isfinite(ranker.score(data.all).redeem_N).all()
    lineage = json.loads((tmp_path / "out" / "lineage.json").read_text())
    assert lineage["data_hash"] == data.data_hash
    assert lineage["pairs"]["gate"] < lineage["pairs"]["test"] < lineage["pairs"]["live"]
    assert result.metrics["seconds_all"] >= 0
    assert version_of(tmp_path / "out").startswith("logistic-")


def test_a_training_of_several_networks_leaves_the_curves_of_each_and_no_checkpoint(
    shop: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = {"members": 2, "width": 8, "blocks": 1, "heads": 1, "length": 10, "tokens": 2048, "campaign_events": 20}
    chosen = settings(tmp_path / "var", rankers={"fusion": {**small, "epochs": 1}})
    caplog.set_level(logging.INFO, "recommender")
    train(shop, ranker="fusion", settings=chosen, output=tmp_path / "out")
    events = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    ends = [one for one in events if one["event"] == "training progress" and one["step"] == one["of"]]
    assert [(one["ranker"], one["fit"], one["phase"]) for one in ends] == [
        ("fusion", fit, "sasrec") for fit in ("gate", "gate", "test", "test", "live", "live")
    ]
    assert [one["fit"] for one in events if one["event"] == "fit finished"] == ["gate", "test", "live"]
    names = [f"{fit}/member-{member}" for fit in ("gate", "test", "live") for member in (0, 1)]
    logs = (tmp_path / "out/progress").rglob("*.jsonl")
    assert {path.relative_to(tmp_path / "out/progress").as_posix() for path in logs} == {f"{n}.jsonl" for n in names}
    html = page_of_fits(tmp_path / "out", ranker="fusion")
    assert re.findall(r"<h2>(.*?)</h2>", html) == [f"{name}: sasrec" for name in names]
    assert list((tmp_path / "var").rglob("progress.jsonl"))
    assert not list((tmp_path / "var").rglob("steps"))


def test_a_finished_training_is_returned_as_it_is(shop: Path, tmp_path: Path) -> None:
    chosen = settings(tmp_path / "var")
    first = train(shop, ranker="logistic", settings=chosen, output=tmp_path / "out")
    stamp = (tmp_path / "out" / "lineage.json").stat().st_mtime_ns
    again = train(shop, ranker="logistic", settings=chosen, output=tmp_path / "out")
    assert (tmp_path / "out" / "lineage.json").stat().st_mtime_ns == stamp
    assert again.lineage == first.lineage


def test_a_retried_step_in_a_new_folder_takes_the_finished_fits(shop: Path, tmp_path: Path) -> None:
    chosen = settings(tmp_path / "var")
    train(shop, ranker="logistic", settings=chosen, output=tmp_path / "first")
    kept = sorted((tmp_path / "var" / "checkpoints").rglob("manifest.json"))
    assert sum(manifest.parent.name == "bundle" for manifest in kept) == 3
    stamps = [manifest.stat().st_mtime_ns for manifest in kept]
    train(shop, ranker="logistic", settings=chosen, output=tmp_path / "second")
    assert [manifest.stat().st_mtime_ns for manifest in kept] == stamps
    weights = [tmp_path / name / "fits" / "live" / bundle.WEIGHTS for name in ("first", "second")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_ranker_of_networks_is_calibrated_only_if_a_setting_asks_for_the_fits(shop: Path, tmp_path: Path) -> None:
    held_out = {}
    for fits in (None, 2):
        chosen = settings(tmp_path / f"var-{fits}", calibration_fits=fits)
        output = train(shop, ranker="rules", settings=chosen, output=tmp_path / f"out-{fits}").output
        held_out[fits] = bundle.load(output / "fits" / "live").calibrator
    assert held_out[None].num_campaigns == 0
    assert "training.calibration_fits" in held_out[None].note
    assert held_out[2].num_campaigns > 2


def test_another_seed_is_another_version(shop: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        train(shop, ranker="popularity", settings=settings(tmp_path / "v", seed=seed), output=tmp_path / str(seed))
    assert version_of(tmp_path / "1") != version_of(tmp_path / "2")


def test_the_identity_of_a_training_is_what_was_configured_for_that_ranker(tmp_path: Path) -> None:
    default = training_hash(settings(tmp_path), "logistic")
    assert training_hash(settings(tmp_path / "elsewhere", threads=7), "logistic") == default
    assert training_hash(settings(tmp_path, rankers={"lightgbm": {"rounds": 5}}), "logistic") == default
    assert training_hash(settings(tmp_path, rankers={"logistic": {"strength": 0.05}}), "logistic") != default
    assert training_hash(settings(tmp_path).updated(looks={"learn": False}), "logistic") != default
    assert training_hash(settings(tmp_path, seed=3), "logistic") != default
    assert training_hash(settings(tmp_path, calibration_fits=3), "logistic") != default


def test_a_misspelt_hyperparameter_is_refused_before_anything_is_read_or_trained(tmp_path: Path) -> None:
    wrong = settings(tmp_path / "var", rankers={"logistic": {"stregth": 0.05}})
    with pytest.raises(SettingsError, match=r"'stregth'.*'strength'"):
        train(tmp_path / "no-training-set", ranker="logistic", settings=wrong, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_periods_out_of_order_are_refused(shop: Path, tmp_path: Path) -> None:
    moments = TimeSettings(gate_from=datetime(2024, 10, 1), test_from=datetime(2024, 9, 1))
    with pytest.raises(PeriodError, match=r"gate_from.*test_from.*as_of"):
        train(shop, ranker="popularity", settings=Settings(home=tmp_path, time=moments), output=tmp_path / "out")


def test_a_ranker_too_large_for_memory_is_an_error_that_names_it(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, cls = TrainingSet.open(shop), ranker_class("logistic")
    monkeypatch.setattr(cls, "fit", lambda *_, **__: np.empty(10**15))
    with pytest.raises(TrainingError, match=r"^logistic: .*\bcpu\b"):
        fit_at(cls, data, data.as_of, cls.Config(), FitContext())


def test_a_boundary_before_every_pair_is_refused(shop: Path, tmp_path: Path) -> None:
    moments = TimeSettings(gate_from=datetime(2020, 1, 1), test_from=datetime(2024, 9, 1))
    with pytest.raises(PeriodError, match="no pair was decided"):
        train(shop, ranker="popularity", settings=Settings(home=tmp_path, time=moments), output=tmp_path / "out")


@pytest.mark.slow
def test_the_transformer_wins_where_the_order_of_baskets_decides(shop: Path, tmp_path: Path) -> None:
    rankers = {"transformer": {"pretrain_epochs": 8, "continue_epochs": 1, "tune_epochs": 0}}
    data = TrainingSet.open(shop)
    loss = {}
    for name in ("logistic", "transformer"):
        train(shop, ranker=name, settings=settings(tmp_path / "var", rankers=rankers), output=tmp_path / name)
        lineage = json.loads((tmp_path / name / "lineage.json").read_text())
        after = datetime.fromisoformat(lineage["boundaries"]["test"])
        mask = data.decided_in(after, None)
        redeemed_N = data.labels_at(data.log_end, mask).redeemed_N
        p_N = bundle.load(tmp_path / name / "fits" / "test").score(data.examples(mask)).redeem_N.astype(np.float64)
        known = np.isfinite(redeemed_N)
        loss[name] = -np.mean(np.where(redeemed_N > 0, np.log(p_N), np.log1p(-p_N))[known])
    assert loss["transformer"] < 0.85 * loss["logistic"]


def test_tuning_reads_folds_that_end_at_the_gate_and_continues_its_study(shop: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    from recommender.training.tune import folds_of, tune

    chosen, study = settings(tmp_path / "var"), tmp_path / "logistic.db"
    first = tune(shop, "logistic", 2, chosen, study)
    again = tune(shop, "logistic", 3, chosen, study)
    assert len(first.trials) == 2
    assert again.trials[:2] == first.trials
    assert again.log_loss <= first.log_loss
    assert first.present_log_loss == again.present_log_loss
    assert round(first.present_log_loss or 0, 6) == first.trials[0]["log_loss"]
    data = TrainingSet.open(shop)
    (fold,) = folds_of(data, chosen, 1)
    judging = [
        pair["campaign_id"]
        for pair in data.pairs.to_pylist()
        if fold.starts <= pair["starts_at"] < fold.ends and fold.starts <= pair["decided_at"] < fold.ends
    ]
    assert (first.num_pairs, first.num_campaigns) == (len(judging), len(set(judging)))
    assert 0 < first.num_positives < first.num_pairs
    other = settings(tmp_path / "var", rankers={"logistic": {"strength": 0.05}})
    assert [one["strength"] for one in tune(shop, "logistic", 1, other, study).trials] == [0.05], (
        "another configuration"
    )
    judged_on = json.loads(study.with_suffix(".json").read_text())["judged_on"]
    gate_from = boundaries(TrainingSet.open(shop), chosen)["gate"]
    assert judged_on == f"1 fold from 2024-04-09 to {gate_from:%Y-%m-%d}"


def test_tuning_a_ranker_without_a_search_space_names_those_with_one(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    from recommender.training.tune import tune

    with pytest.raises(SettingsError, match=r"popularity.*logistic.*sasrec"):
        tune(tmp_path / "no-training-set", "popularity", 1, settings(tmp_path), tmp_path / "a.db")
    with pytest.raises(SettingsError, match="popularity"):  # before the last run's training set is looked for
        tune_ranker(settings(tmp_path), "popularity", trials=1)


def test_tuning_refuses_a_gpu_that_has_nothing_to_do_or_is_not_there(shop: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    from recommender.training.tune import tune

    on_gpu = settings(tmp_path / "var", device="cuda")
    with pytest.raises(SettingsError, match=r"^logistic .*'cuda'"):
        tune(shop, "logistic", 1, on_gpu, tmp_path / "a.db")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="'cuda'"):
            tune(shop, "transformer", 1, on_gpu, tmp_path / "a.db")
    assert not (tmp_path / "a.db").exists()
