"""The benchmarks of the flagship's parts and of its student measure what they say, on a small set."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from next_item_benchmark import benchmark_file

from benchmarks import ablation, compression, quality
from benchmarks.ablation import rows_of
from benchmarks.ablation_variants import left_out, parts
from benchmarks.compression import measure
from benchmarks.sets import as_judged
from recommender.engine.context import FitContext
from recommender.errors import SettingsError
from recommender.models.next_item.fusion import Fusion, FusionConfig
from recommender.sequences import Items, LeaveOneOut, Sequences
from recommender.training.next_items.fitting import fit_and_judge

pytestmark = pytest.mark.usefixtures("quick_gate")

V = 30
SMALL = {"members": 2, "width": 16, "blocks": 1, "heads": 1, "epochs": 3, "tokens": 128, "rate": 0.01, "length": 10}


def circle(*, attributes: bool) -> Sequences:
    """Item i is followed by i + 1."""
    rng = np.random.default_rng(4)
    lengths = rng.integers(5, 9, 120)
    walks = [(rng.integers(V) + np.arange(num)) % V + 1 for num in lengths]
    items = Items(tuple(f"i{row}" for row in range(1, V + 1)))
    if attributes:
        groups = np.arange(V, dtype=np.int32) // 3
        items = replace(items, attribute_offsets=np.arange(V + 2).clip(1) - 1, attributes_P=groups, num_attributes=10)
    return Sequences(
        items, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), np.concatenate(walks).astype(np.int32)
    )


def test_every_part_of_the_flagship_is_left_out_once() -> None:
    split = LeaveOneOut.of(circle(attributes=True))
    fusion = Fusion.fit(
        split.train,
        held_out_U=split.validation_U,
        config=FusionConfig.parse(SMALL, owner="fusion"),
        context=FitContext(),
    )
    rows = rows_of({name: [gain_U] for name, gain_U in parts(split, fusion, seed=1)}, {"set": "circle"})
    assert [row["variant"] for row in rows] == [
        "the flagship",
        "without rules",
        "without broad rules",
        "without latent factors",
        "without content",
        "without popularity",
        "transformers: 1 of 2",
        "no hidden layer",
        "even weights",
    ]
    assert rows[0]["mean"] == 0
    assert all(low <= row["mean"] <= high for row in rows for low, high in [row["interval95"]])
    assert rows[0]["ndcg@10"] > 0.9


@pytest.mark.parametrize(("attributes", "variants"), [(True, 7), (False, 6)])
def test_every_part_of_a_transformer_is_left_out_once(attributes: bool, variants: int) -> None:
    gains = dict(left_out(circle(attributes=attributes), {**SMALL, "epochs": 1}, members=True, seed=1))
    assert len(gains) == variants
    assert len({gain_U.mean() for gain_U in gains.values()}) > 1


def test_an_ablation_of_named_parts_trains_without_those_only_and_leaves_other_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ablation, "as_judged", lambda folder, data: circle(attributes=False))
    hyperparameters = [word for name, value in {**SMALL, "epochs": 1}.items() for word in ("--set", f"{name}={value}")]
    call = [str(tmp_path), "--sets", "beauty", "--members", *hyperparameters, "--parts"]

    def variants() -> list[str]:
        rows = json.loads((tmp_path / "reports/bench/ablation.json").read_text())["rows"]
        return [row["variant"] for row in rows]

    assert ablation.main([*call, "smoothing"]) == 0
    assert ablation.main([*call, "relative, width"]) == 0
    beside = ["one transformer alone", "half as wide", "without the distance bias"]
    assert variants() == ["with label smoothing", *beside]
    assert ablation.main([*call, "relative", "--seeds", "18"]) == 0
    assert variants() == ["one transformer alone", "without the distance bias"], "the others stand beside another one"
    capsys.readouterr()
    for wrong, named in (("gate", "'gate'"), ("timed", "--parts timed")):
        assert ablation.main([*call, wrong]) == 2
        assert named in capsys.readouterr().err
    assert ablation.main([*call, "relative", "--set", "wdth=3"]) == 2
    assert "wdth" in capsys.readouterr().err


def test_an_ablation_never_sees_the_test_item_and_goes_on_with_a_fit_that_was_cut(tmp_path: Path) -> None:
    sequences, hyperparameters = circle(attributes=False), {**SMALL, "members": 1}
    first = dict(left_out(sequences, hyperparameters, members=False, seed=5, checkpoints=tmp_path))
    (log,) = tmp_path.glob("*/member-0/progress.jsonl")
    steps = log.read_text()
    last = sequences.offsets[1:] - 1
    turned = replace(sequences, items_T=sequences.items_T.copy())
    turned.items_T[last] = np.roll(turned.items_T[last], 1)
    again = dict(left_out(turned, hyperparameters, members=False, seed=5, checkpoints=tmp_path))
    assert len(first) == 7
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert log.read_text() == steps, "no second fit"


def test_the_whole_flagship_is_fitted_again_without_a_named_part_of_its_transformers(tmp_path: Path) -> None:
    asked = {**SMALL, "members": 1, "relative": True}
    of = {"members": False, "seed": 5, "checkpoints": tmp_path}
    gains = dict(left_out(circle(attributes=False), asked, only=["relative", "smoothing"], **of))
    alone, *others = list(gains)[-5:]
    assert alone == "one transformer alone"
    assert others[0::2] == ["without the distance bias", "with label smoothing"]
    assert others[1::2] == [f"{alone}: {name}" for name in others[0::2]]
    against = {row["variant"]: row["against"] for row in rows_of({name: [gain] for name, gain in gains.items()}, {})}
    assert {name for name, whole in against.items() if whole == alone} == set(others[1::2])
    assert not np.array_equal(gains[alone], gains[others[1]])
    assert len(list(tmp_path.glob("*/member-0/progress.jsonl"))) == 3
    with pytest.raises(SettingsError, match="--parts timed"):
        next(left_out(circle(attributes=False), asked, only=["timed"], members=False, seed=5))


def test_an_ablation_averages_each_users_gain_over_the_seeds() -> None:
    whole = [np.array([1.0, 0.0, 0.5]), np.array([0.0, 1.0, 0.5])]
    without = [np.array([0.5, 0.0, 0.5]), np.array([0.0, 0.0, 0.5])]
    rows = rows_of({"whole": whole, "without": without}, {"set": "x"})
    assert rows[0]["ndcg@10"] == 0.5
    assert rows[0]["by_seed"] == [0.5, 0.5]
    assert rows[1]["mean"] == pytest.approx((0.25 + 0.0 + 0.5) / 3 - 0.5)
    assert rows[1]["by_seed"] == [pytest.approx(1 / 3), pytest.approx(1 / 6)]


def test_a_killed_ablation_leaves_the_rows_of_the_run_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed_in_seed_2(*given: object, seed: int, **more: object) -> Iterator[tuple[str, np.ndarray]]:
        yield "the flagship", np.array([1.0, 0.5])
        if seed == 2:
            raise KeyboardInterrupt
        yield "without rules", np.array([0.5, 0.5])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ablation, "left_out", killed_in_seed_2)
    monkeypatch.setattr(ablation, "as_judged", lambda folder, data: circle(attributes=False))
    assert ablation.main([str(tmp_path), "--sets", "beauty", "--seeds", "1,3"]) == 0
    rows = json.loads((tmp_path / "reports/bench/ablation.json").read_text())["rows"]
    assert [row["variant"] for row in rows] == ["the flagship", "without rules"]
    assert all(row["seeds"] == [1, 3] for row in rows)
    with pytest.raises(KeyboardInterrupt):
        ablation.main([str(tmp_path), "--sets", "beauty", "--seeds", "1,2"])
    assert json.loads((tmp_path / "reports/bench/ablation.json").read_text())["rows"] == rows


@pytest.mark.parametrize("benchmark", [ablation, quality])
def test_seeds_that_are_no_numbers_are_refused_before_anything_is_fitted(
    benchmark: object, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        benchmark.main([str(tmp_path), "--seeds", "17,x"])  # type: ignore[attr-defined]
    error = capsys.readouterr().err
    assert "--seeds" in error
    assert "'17,x'" in error


def test_compression_has_a_row_for_each_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    student = {"width": 16, "epochs": 2, "tokens": 128, "length": 10, "lists": 100}
    rows = {row["ranker"]: row for row in measure(circle(attributes=True), "c", seed=1, teacher=SMALL, student=student)}
    assert list(rows) == [
        "flagship",
        "student",
        "student, int8",
        "student, torch.export",
        "student, int8, torch.export",
    ]
    assert rows["flagship"]["bytes"] > rows["student"]["bytes"] > rows["student, int8"]["bytes"]
    assert all(row["ms_a_request"] > 0 for row in rows.values())
    assert (tmp_path / "reports/bench/readings.jsonl").read_text().count("\n") == 3


def test_compression_keeps_the_rows_of_other_sets_and_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compression, "as_judged", lambda folder, data: circle(attributes=True))
    monkeypatch.setattr(compression, "programs", lambda students, sequences: [])
    hyperparameters = [word for name, value in SMALL.items() for word in ("--teacher", f"{name}={value}")]
    student = {"width": 16, "epochs": 2, "tokens": 128, "length": 10, "lists": 100}
    hyperparameters += [word for name, value in student.items() for word in ("--student", f"{name}={value}")]
    for seed in ("1", "2", "1"):
        assert compression.main([str(tmp_path), "--seed", seed, *hyperparameters]) == 0
    rows = json.loads((tmp_path / "reports/bench/compression.json").read_text())["rows"]
    forms = ["flagship", "student", "student, int8"]
    assert [(row["seed"], row["ranker"]) for row in rows] == [(seed, form) for seed in (2, 1) for form in forms]


@pytest.mark.parametrize("benchmark", [ablation, compression])
def test_without_data_nothing_is_measured_and_it_is_said(
    benchmark: object, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert benchmark.main([]) == 0  # type: ignore[attr-defined]
    assert "nothing was measured" in capsys.readouterr().out
    assert benchmark.main([str(tmp_path)]) == 2  # type: ignore[attr-defined]
    assert "Beauty.parquet" in capsys.readouterr().err


def test_a_misspelt_hyperparameter_is_refused_with_the_nearest_right_one() -> None:
    with pytest.raises(SettingsError, match=r"'decays'.*rules.*'decay'"):
        fit_and_judge(circle(attributes=False), "rules", hyperparameters={"decays": 1.0})


def test_a_program_is_refused_before_anything_is_fitted(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"als .*only sasrec and student"):
        benchmark_file(
            tmp_path / "not there.csv",
            None,
            ranker="als",
            train_on="train",
            seed=1,
            output=tmp_path / "out.json",
            program=tmp_path / "als.pt2",
        )


@pytest.mark.parametrize(("data", "users", "clock"), [("fashions", 2000, True), ("reseller", 501, False)])
def test_a_generated_set_is_always_the_same(data: str, users: int, clock: bool) -> None:
    one, again = (as_judged(Path(), data) for _ in range(2))
    np.testing.assert_array_equal(one.items_T, again.items_T)
    assert one.num_users == users
    assert one.has_clock == clock
    assert one.lengths_U.min() > 2
