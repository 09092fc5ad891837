"""`benchmark sequences` refuses what it cannot use before it fits anything, and loses nothing of what it has fitted."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from next_item_benchmark import benchmark_file as benchmark
from rich.progress import Progress

from cli.bars import bars
from recommender.datasets.interactions import read_histories, read_interactions
from recommender.errors import ContractError, DeviceError, PeriodError, SettingsError, SourceError, TrainingError
from recommender.evaluation.sequence_counts import sequence_counts
from recommender.models.next_item.fusion import Fusion, FusionConfig
from recommender.models.next_item.item_popularity import ItemPopularity
from recommender.sequences import Items, Sequences
from recommender.storage.manifest import read_manifest
from recommender.training.next_items.fitting import checkpoint_folder, fit_and_judge

pytestmark = pytest.mark.usefixtures("quick_gate")

MORE_THAN_AN_ADDRESS_SPACE = 10**13
"""A count of numbers that no machine can allocate, so that every machine refuses it at once."""
QUICK = {"epochs": 1, "width": 8, "blocks": 1, "heads": 1, "length": 8}


def events(path: Path, users: int = 20, each: int = 4, item: Any = lambda number: f"i{number % 9}") -> Path:
    rows = [(f"u{user}", item(user + place), place) for user in range(users) for place in range(each)]
    frame = pd.DataFrame(rows, columns=["user", "item", "pos"])
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


def test_another_seed_in_the_same_checkpoints_folder_is_another_run(tmp_path: Path) -> None:
    path, folder = events(tmp_path / "e.csv"), tmp_path / "checkpoints"
    found = [
        benchmark(path, ranker="sasrec", seed=seed, config=QUICK, checkpoints=where)["validation"]
        for seed, where in ((1, folder), (2, folder), (2, None), (2, folder))
    ]
    assert found[1] == found[2] == found[3]
    assert len(list(folder.iterdir())) == 2


def test_other_data_in_the_same_checkpoints_folder_are_another_run(tmp_path: Path) -> None:
    some = read_interactions(events(tmp_path / "e.csv"))
    other = read_interactions(events(tmp_path / "f.csv", item=lambda number: f"i{number * 2 % 9}"))
    assert checkpoint_folder(tmp_path, some, "sasrec", 1) == checkpoint_folder(tmp_path, some, "sasrec", 1)
    assert checkpoint_folder(tmp_path, some, "sasrec", 1) != checkpoint_folder(tmp_path, other, "sasrec", 1)
    named = replace(some, items=replace(some.items, ids=tuple(f"{name}!" for name in some.items.ids)))
    assert checkpoint_folder(tmp_path, some, "sasrec", 1) != checkpoint_folder(tmp_path, named, "sasrec", 1)


def test_another_device_in_the_same_checkpoints_folder_is_another_run(tmp_path: Path) -> None:
    some = read_interactions(events(tmp_path / "e.csv"))
    on_cpu, on_gpu = (checkpoint_folder(tmp_path, some, "sasrec", 1, device=device) for device in ("cpu", "cuda"))
    assert on_cpu == checkpoint_folder(tmp_path, some, "sasrec", 1)
    assert on_cpu != on_gpu


def test_a_killed_fit_goes_on_and_its_cost_counts_what_was_spent_before(tmp_path: Path) -> None:
    path, folder = events(tmp_path / "e.csv"), tmp_path / "checkpoints"
    whole = benchmark(path, ranker="sasrec", config=QUICK, checkpoints=folder)
    (run_folder,) = folder.iterdir()
    spent = json.loads((run_folder / "spent.json").read_text())
    assert spent["fit_cpu_seconds"] == whole["fit_cpu_seconds"]
    assert spent["finished"] is True
    killed = {name: spent[name] + 100 for name in ("fit_cpu_seconds", "fit_seconds")}
    (run_folder / "spent.json").write_text(json.dumps({**killed, "finished": False}))
    again = benchmark(path, ranker="sasrec", config=QUICK, checkpoints=folder)
    assert again["fit_cpu_seconds"] >= killed["fit_cpu_seconds"] >= 100
    assert again["fit_seconds"] >= killed["fit_seconds"] >= 100
    assert again["ndcg@10"] == whole["ndcg@10"]
    third = benchmark(path, ranker="sasrec", config=QUICK, checkpoints=folder)
    assert third["fit_cpu_seconds"] == again["fit_cpu_seconds"], "a repetition of a finished fit costs nothing more"
    (run_folder / "spent.json").write_text('{"fit_cpu')
    assert benchmark(path, ranker="sasrec", config=QUICK, checkpoints=folder)["ndcg@10"] == whole["ndcg@10"]


def test_a_phases_bar_starts_again_with_each_fit_that_has_the_phase() -> None:
    progress = Progress(disable=True)
    show, seen = bars(progress), []
    for phase, step, of in (("a", 10, 40), ("a", 20, 40), ("b", 10, 30), ("a", 10, 40), ("a", 20, 80), ("a", 20, 80)):
        show({"phase": phase, "step": step, "of": of, "loss": 1.0, "steps_a_second": 2.0})
        seen.append([(task.description, task.completed, task.total) for task in progress.tasks])
    assert seen[1] == [("a", 20, 40)]
    assert seen[2:] == [[("a", *reached), ("b", 10, 30)] for reached in ((20, 40), (10, 40), (20, 80), (20, 80))]


def test_a_bar_that_starts_again_forgets_when_it_began() -> None:
    began: list[float | None] = []
    now = iter(range(100))
    progress = Progress(disable=True, get_time=lambda: float(next(now)))
    show = bars(progress)
    for step in (10, 20, 10):
        show({"phase": "a", "step": step, "of": 40, "loss": 1.0, "steps_a_second": 2.0})
        began.append(progress.tasks[0].start_time)
    assert began[0] == began[1] != began[2]


@pytest.mark.parametrize(
    ("ranker", "config"),
    [("sasrec", {**QUICK, "length": MORE_THAN_AN_ADDRESS_SPACE}), ("als", {"width": MORE_THAN_AN_ADDRESS_SPACE})],
)
def test_a_model_too_large_for_memory_is_an_error_that_says_what_to_lower(
    ranker: str, config: dict[str, Any], tmp_path: Path
) -> None:
    path = events(tmp_path / "e.csv")
    with pytest.raises(TrainingError, match=r"\bcpu\b.*\bwidth\b"):
        benchmark(path, ranker=ranker, config=config)
    with pytest.raises(TrainingError, match="training of all 1 trials failed"):
        benchmark(path, ranker=ranker, config=config, trials=1)


def test_scores_too_large_for_memory_are_an_error_that_names_the_ranker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ItemPopularity, "score", lambda self, histories: np.empty((MORE_THAN_AN_ADDRESS_SPACE, 4)))
    with pytest.raises(TrainingError, match=r"^item_popularity: .*\bcpu\b"):
        benchmark(events(tmp_path / "e.csv"), ranker="item_popularity")


def test_nobody_with_three_events_is_said_before_anything_is_fitted(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no user has three events"):
        benchmark(events(tmp_path / "e.csv", each=2))


def test_what_was_held_out_is_named_where_nothing_is_left_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no user has two events left after the last ones were held out"):
        benchmark(events(tmp_path / "e.csv", each=3), ranker="sasrec")


def test_the_flagship_does_without_transformers_only_while_they_have_nothing_to_learn_from(tmp_path: Path) -> None:
    path = events(tmp_path / "e.csv", users=60, each=3)
    with pytest.warns(UserWarning, match="no transformers"):
        found = benchmark(path, ranker="fusion", config={"epochs": 2})
    assert found["ndcg@10"] > 0.3
    assert found["chosen"] == {}
    with pytest.warns(UserWarning, match="no transformers"):
        again = benchmark(path, ranker="fusion", config={"epochs": 2}, train_on="train+validation")
    rules = benchmark(path, ranker="rules", train_on="train+validation")
    assert again["ndcg@10"] >= rules["ndcg@10"] > 0.5, "two events a user say what follows what"


def test_a_folder_that_is_not_there_and_a_device_that_is_none_are_refused(tmp_path: Path) -> None:
    path = events(tmp_path / "e.csv")
    with pytest.raises(SettingsError, match="does not exist"):
        benchmark(path, output=tmp_path / "no" / "out.json")
    with pytest.raises(DeviceError, match=r"'cpu' or 'cuda'.*'gpu'"):
        benchmark(path, device="gpu")


def test_too_few_items_to_be_cold_are_said_before_anything_is_fitted(tmp_path: Path) -> None:
    path = events(tmp_path / "e.csv", users=3, item=lambda number: "the one")
    with pytest.raises(PeriodError, match=r"0\.05 of 1 items"):
        benchmark(path, cold=True)
    assert not (tmp_path / "out.json").exists()


def test_a_reading_is_logged_for_the_test_and_for_the_cold_items(tmp_path: Path) -> None:
    path = events(tmp_path / "e.csv", users=420, item=lambda number: number)
    benchmark(path, cold=True, readings=tmp_path / "log.jsonl")
    sets = [json.loads(line)["data"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert sets == ["e.csv", "e.csv, cold items"]
    assert json.loads((tmp_path / "out.json").read_text())["cold"]["cold_items"] >= 20


def test_of_two_processes_the_first_one_writes(tmp_path: Path) -> None:
    path, root = events(tmp_path / "e.csv"), Path(__file__).parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(root)}
    script = tmp_path / "command.py"
    script.write_text("from cli.main import app\n\napp()\n")
    arguments = {
        "interactions": path,
        "output": "o.json",
        "readings": "log.jsonl",
        "save": "bundle",
        "checkpoints": "c",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(script), "benchmark", "sequences", "--ranker", "sasrec"]
    command += [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
    command += [word for name, value in QUICK.items() for word in ("--set", f"{name}={value}")]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1
    assert ended.stdout.count("sasrec, trained on train: NDCG@10") == 1
    assert json.loads((tmp_path / "o.json").read_text())["processes"] == 2
    assert read_manifest(tmp_path / "bundle")


def test_the_second_of_two_processes_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, program = events(tmp_path / "e.csv"), tmp_path / "p.pt2"
    there = set(tmp_path.iterdir())
    monkeypatch.setenv("RANK", "1")
    more = {"readings": tmp_path / "log.jsonl", "bundle": tmp_path / "bundle", "checkpoints": tmp_path / "c"}
    found = benchmark(path, ranker="sasrec", config=QUICK, program=program, **more)
    assert found["ndcg@10"] >= 0
    assert set(tmp_path.iterdir()) == there


def test_a_search_by_several_processes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingsError, match="leave out torchrun"):
        benchmark(events(tmp_path / "e.csv"), ranker="sasrec", trials=2)


def test_a_program_and_the_result_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    config = {**QUICK, "teacher": {**QUICK, "members": 1}}
    benchmark(events(tmp_path / "e.csv"), ranker="student", config=config, program=tmp_path / "out.pt2")
    assert json.loads((tmp_path / "out.json").read_text())["ranker"] == "student"
    assert len(json.loads((tmp_path / "out.pt2.json").read_text())["items"]) == 9


@pytest.mark.parametrize(
    ("given", "facts"),
    [
        ({"epochs": "x"}, r"epochs .*'x'"),
        ({"epochs": 0}, r"epochs .*\b1\b.*\b0\b"),
        ({"heads": 3}, r"width.*\b128\b.*\b3\b"),
        ({"members": -1}, r"members .*\b0\b.*-1"),
    ],
)
def test_a_value_that_a_hyperparameter_cannot_have_is_refused(given: dict[str, Any], facts: str) -> None:
    nobody = Sequences(Items(("a",)), np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int32))
    with pytest.raises(SettingsError, match=f"fusion: .*{facts}"):
        fit_and_judge(nobody, "fusion", hyperparameters=given)


def test_targets_that_were_had_before_are_counted(tmp_path: Path) -> None:
    counted = benchmark(events(tmp_path / "e.csv", each=4, item=lambda number: "one"))["counts"]
    assert (counted["users_judged"], counted["targets_seen_before"]) == (20, 20)


def test_a_refit_keeps_the_members_that_the_gate_was_fitted_with() -> None:
    many = Sequences(Items(tuple(map(str, range(9_000)))), np.array([0, 400_000]), np.ones(400_000, dtype=np.int32))
    assert Fusion.resolved(FusionConfig(), many).members < 3
    least = Fusion.resolved(FusionConfig(budget_tflop=1e-6), many)
    assert (least.members, least.epochs) == (1, 1)
    assert Fusion.resolved(FusionConfig(stop_at=(0.5, 0.6, 0.7)), many).members == 3


def test_few_events_are_gone_through_more_often() -> None:
    few = Sequences(Items(tuple(map(str, range(99)))), np.array([0, 15_000]), np.ones(15_000, dtype=np.int32))
    resolved = Fusion.resolved(FusionConfig(), few)
    assert (resolved.tokens, resolved.epochs, resolved.judge_every) == (1024, 130, 9)
    assert Fusion.resolved(FusionConfig(epochs=7), few).epochs == 7
    many = Sequences(Items(tuple(map(str, range(99)))), np.array([0, 99_000]), np.ones(99_000, dtype=np.int32))
    resolved = Fusion.resolved(FusionConfig(), many)
    assert (resolved.epochs, resolved.judge_every) == (30, 2)


def test_copies_of_an_event_are_counted_aloud(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    rows = [f"u{user},i{(user + day) % 9},2024-03-{day + 1:02}" for user in range(9) for day in range(4)]
    path.write_text("\n".join(["user,item,timestamp", *rows]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_interactions(path)
    path.write_text("\n".join(["user,item,timestamp", *rows, *rows[:5]]))
    with pytest.warns(UserWarning, match="e.csv: 5 "):
        items = read_interactions(path).items
    path.write_text("\n".join(["user,item,timestamp", *rows, "u1,new,2024-03-09", "u1,newer,2024-03-09"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_histories(path, items, skip_unknown=True)[2] == 2, "two items that are skipped are no copies"


def test_numbers_that_a_gap_made_floats_are_the_same_items(tmp_path: Path) -> None:
    path = events(tmp_path / "e.parquet", item=lambda number: float(number % 9))
    pd.DataFrame({"item": range(9), "attributes": ["a"] * 9}).to_parquet(tmp_path / "a.parquet")
    assert read_interactions(path, tmp_path / "a.parquet").items.ids == tuple(map(str, range(9)))


def test_attributes_of_other_items_are_refused(tmp_path: Path) -> None:
    pd.DataFrame({"item": ["x"], "attributes": ["a"]}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ContractError, match=r"a\.csv\.item: .*e\.csv.*'x'"):
        read_interactions(events(tmp_path / "e.csv"), tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("values", "number"),
    [
        (pd.array(["a", None, "b"], dtype="string"), 2),
        (["Toys, Games & Co", "[a, 'b']", ""], 3),
        ([["a", None], [], ["a", float("nan")]], 1),
    ],
)
def test_what_is_missing_is_no_attribute_and_a_comma_is_part_of_one(values: Any, number: int, tmp_path: Path) -> None:
    pd.DataFrame({"item": ["i0", "i1", "i2"], "attributes": values}).to_parquet(tmp_path / "a.parquet")
    found = read_interactions(events(tmp_path / "e.csv"), tmp_path / "a.parquet")
    assert found.items.num_attributes == number


@pytest.mark.parametrize(
    ("values", "number"),
    [(["['Books, Comics', 'Toys']", "", ""], 2), (["['a' 'b']", "['', None, 'a']", ""], 2), (["[a", "b]", "[c]"], 3)],
)
def test_a_list_that_was_written_as_text_is_a_list(values: Any, number: int, tmp_path: Path) -> None:
    pd.DataFrame({"item": ["i0", "i1", "i2"], "attributes": values}).to_parquet(tmp_path / "a.parquet")
    assert read_interactions(events(tmp_path / "e.csv"), tmp_path / "a.parquet").items.num_attributes == number


def test_lists_within_a_list_are_refused(tmp_path: Path) -> None:
    pd.DataFrame({"item": ["i0", "i1"], "attributes": [[["a"]], [["b", "c"], ["d"]]]}).to_parquet(
        tmp_path / "a.parquet"
    )
    with pytest.raises(ContractError, match=r"a\.parquet\.attributes: .*row 1"):
        read_interactions(events(tmp_path / "e.csv"), tmp_path / "a.parquet")


def test_a_name_is_the_same_whatever_wrote_it(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": [1, 1, 1], "item": [7, 8, 9], "pos": [0, 1, 2]})
    frame.to_parquet(tmp_path / "whole.parquet")
    frame.astype({"item": float}).to_csv(tmp_path / "gap.csv", index=False)
    frame.astype({"item": str}).assign(item=[" 7", "8 ", "9"]).to_csv(tmp_path / "blanks.csv", index=False)
    frame.set_index("user").to_parquet(tmp_path / "index.parquet")
    read = [read_interactions(path).items.ids for path in sorted(tmp_path.iterdir())]
    assert read == [("7", "8", "9")] * 4


@pytest.mark.parametrize(("item", "named"), [(float(2**60), r"1\.15\d+e\+18"), ("x" * 1001, r"1000.*'xxx")])
def test_names_that_cannot_be_held_are_refused(item: Any, named: str, tmp_path: Path) -> None:
    pd.DataFrame({"user": ["u", "u"], "item": [item, item], "pos": [0, 1]}).to_parquet(tmp_path / "e.parquet")
    with pytest.raises(ContractError, match=rf"e\.parquet\.item: .*{named}.*row 1"):
        read_interactions(tmp_path / "e.parquet")


def test_a_day_and_a_time_of_day_apart_are_refused(tmp_path: Path) -> None:
    pd.DataFrame({"user": ["u"], "item": ["i"], "date": ["2024-01-01"], "time": [1453]}).to_csv(tmp_path / "e.csv")
    with pytest.raises(SourceError, match=r"e\.csv: .*'date'.*'time'.*'timestamp'"):
        read_interactions(tmp_path / "e.csv")


def test_what_makes_a_figure_mean_less_is_counted(tmp_path: Path) -> None:
    rows = [("a", "x", 1), ("a", "y", 2), ("a", "x", 3), ("b", "x", 1), ("b", "y", 2), ("b", "z", 2), ("c", "x", 1)]
    pd.DataFrame(rows, columns=["user", "item", "timestamp"]).to_csv(tmp_path / "e.csv", index=False)
    (tmp_path / "a.csv").write_text("item,attributes\nx,red\nnever,red\n")
    found = sequence_counts(read_interactions(tmp_path / "e.csv", tmp_path / "a.csv"))
    wanted = {"users": 3, "users_judged": 2, "targets_seen_before": 1, "targets_tied_in_time": 1}
    assert {name: found[name] for name in wanted} == wanted
    assert found["items_without_events"] == 1


def test_an_item_may_be_called_na(tmp_path: Path) -> None:
    assert (
        "NA"
        in read_interactions(events(tmp_path / "e.csv", item=lambda number: "NA" if number % 2 else "null")).items.ids
    )


def timed(path: Path, times: list[Any]) -> Path:
    pd.DataFrame({"user": "u", "item": [f"i{row}" for row in range(len(times))], "time": times}).to_csv(
        path, index=False
    )
    return path


def test_times_of_mixed_precision_are_in_order(tmp_path: Path) -> None:
    path = timed(tmp_path / "e.csv", ["2024-01-01 03:00:00.250", "2024-01-01", "2024-01-01T04:00:00+01:00"])
    assert read_interactions(path).items_T.tolist() == [2, 3, 1]  # 03:00 UTC is a quarter second earlier


@pytest.mark.parametrize(
    ("times", "gap"),
    [([20240131, 20240201], 86_400_000_000), ([20240131, 20240199], 68_000_000)],
    ids=["days", "seconds"],
)
def test_numbers_that_are_all_days_are_days(times: list[int], gap: int, tmp_path: Path) -> None:
    read = read_interactions(timed(tmp_path / "e.csv", times))
    assert read.times_T is not None
    assert np.diff(read.times_T).tolist() == [gap]


@pytest.mark.parametrize(
    ("times", "message"), [(["05/01/2024"] * 3, "05/01/2024.*line 2"), ([1.0, "inf", 2.0], "inf.*line 3")]
)
def test_times_that_could_mean_something_else_are_refused(times: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=message):
        read_interactions(timed(tmp_path / "e.csv", times))


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([1600511136, 1600511137000], r"1600511136.*unix_s\b.*unix_ms.*1600511137000.*line 3"),
        ([1600511136, 1e30], r"1e\+30.*line 3"),
        ([1600511136.0, 1600511137.0, None], r"e\.csv\.time: .*line 4"),
        (["2024-01-01", "", "2024-01-02"], r"e\.csv\.time: .*line 3"),
        ([1600511136, 1600511137, "soon"], r"'soon'.*line 4"),
        (["2024-01-01", "2024-01-02", 1600511136], r"number .*'1600511136'.*line 4"),
    ],
)
def test_the_time_that_is_missing_or_wrong_is_named_and_not_a_good_one(
    times: list[Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ContractError, match=message):
        read_interactions(timed(tmp_path / "e.csv", times))


def test_a_missing_time_of_a_parquet_file_is_named(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": "u", "item": ["a", "b"], "time": pd.to_datetime(["2024-01-01", None])})
    frame.to_parquet(tmp_path / "e.parquet")
    with pytest.raises(ContractError, match=r"e\.parquet\.time: .*row 2"):
        read_interactions(tmp_path / "e.parquet")
