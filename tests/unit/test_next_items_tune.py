"""The hyperparameters of a next-item ranker are searched by the validation items."""

import json
from pathlib import Path
from typing import Any

import pytest
from next_item_benchmark import benchmark

from recommender.engine.hyperparameters import Range
from recommender.engine.search import search, suggest
from recommender.errors import SettingsError, TrainingError
from recommender.models.next_item.rules import RulesConfig


def test_a_search_starts_with_the_defaults_and_goes_on_where_it_was(tmp_path: Path) -> None:
    first = benchmark(tmp_path, trials=3)
    assert first["search"]["study"] == str(tmp_path / "out-study.db")
    assert first["search"]["cpu_seconds"] > 0
    study = json.loads((tmp_path / "out-study.json").read_text())
    assert [one["number"] for one in study["trials"]] == [0, 1, 2]
    assert study["trials"][0]["decay"] == RulesConfig().decay
    assert study["ndcg@10"] == max(one["ndcg@10"] for one in study["trials"]) == first["validation"]["ndcg@10"]
    assert first["config"] == study["best"]
    more = benchmark(tmp_path, trials=4)["search"]
    assert more["trials"] == 4
    assert more["cpu_seconds"] > first["search"]["cpu_seconds"]
    again = json.loads((tmp_path / "out-study.json").read_text())
    assert again["trials"][:3] == study["trials"]
    assert len(again["trials"]) == 4


def test_a_search_that_was_killed_in_its_first_trial_still_tries_the_defaults(tmp_path: Path) -> None:
    tried: list[float] = []

    def objective(trial: Any) -> float:
        tried.append(suggest(trial, {"rate": Range(0.0, 1.0)})["rate"])
        if len(tried) == 1:
            raise KeyboardInterrupt
        return tried[-1]

    facts: dict[str, Any] = {"trials": 3, "start": {"rate": 0.25}, "seed": 1, "direction": "maximize"}
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "a.db", "a", objective, **facts)
    search(tmp_path / "a.db", "a", objective, **facts)
    assert tried[:2] == [0.25, 0.25]
    assert len(tried) == 4


def test_a_damaged_study_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"SQLite format 3\0" + b"x" * 200)
    with pytest.raises(SettingsError, match=r"a\.db: this study cannot be read"):
        search(tmp_path / "a.db", "a", lambda trial: 0.0, trials=1, start={}, seed=1, direction="maximize")


def test_a_seed_of_more_than_32_bits_searches(tmp_path: Path) -> None:
    benchmark(tmp_path, trials=2, seed=5_000_000_000)
    assert len(json.loads((tmp_path / "out-study.json").read_text())["trials"]) == 2


def test_a_hyperparameter_that_was_given_is_not_searched(tmp_path: Path) -> None:
    assert benchmark(tmp_path, trials=2, config={"window": 3})["config"]["window"] == 3
    with pytest.raises(SettingsError, match="nothing is left to search"):
        benchmark(tmp_path, trials=2, config=RulesConfig().model_dump())


def test_a_trial_that_cannot_be_trained_is_not_chosen(tmp_path: Path) -> None:
    def objective(trial: Any) -> float:
        value = suggest(trial, {"rate": Range(0.0, 1.0)})["rate"]
        if value > 0.5 or everything_fails:
            raise TrainingError("the loss is not finite")
        return value

    everything_fails = False
    facts: dict[str, Any] = {"trials": 8, "start": {"rate": 0.9}, "seed": 1, "direction": "maximize"}
    assert search(tmp_path / "a.db", "a", objective, **facts).best_value <= 0.5
    everything_fails = True
    with pytest.raises(TrainingError, match=r"all 8 trials failed; see .*b\.db\. The last one: "):
        search(tmp_path / "b.db", "b", objective, **facts)


def test_going_on_does_not_try_the_same_again(tmp_path: Path) -> None:
    benchmark(tmp_path, trials=4)
    benchmark(tmp_path, trials=8)
    trials = json.loads((tmp_path / "out-study.json").read_text())["trials"]
    assert len({one["decay"] for one in trials}) == 8


def test_a_searched_run_resumes_no_checkpoint_of_other_hyperparameters(tmp_path: Path) -> None:
    words: dict[str, Any] = {"ranker": "sasrec", "config": {"epochs": 2, "width": 32, "heads": 1}, "seed": 3}
    benchmark(tmp_path, **words, checkpoints=tmp_path / "checkpoints")
    searched = benchmark(tmp_path, **words, trials=4, checkpoints=tmp_path / "checkpoints")
    (tmp_path / "out-study.db").unlink()
    assert benchmark(tmp_path, **words, trials=4)["ndcg@10"] == searched["ndcg@10"]


def test_hyperparameters_that_exclude_each_other_are_not_chosen(tmp_path: Path) -> None:
    found = benchmark(tmp_path, ranker="sasrec", config={"epochs": 1, "heads": 64}, trials=6)
    assert found["config"]["width"] in (64, 128)
