"""A fitted next-item ranker answers the users of a file."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from next_item_benchmark import SMALL, ask, benchmark, benchmark_file
from next_item_benchmark import circle_walks as events

from recommender.datasets.interactions import read_histories, read_interactions
from recommender.errors import ContractError, SettingsError
from recommender.registry import bundle
from recommender.sequences import Items

pytestmark = pytest.mark.usefixtures("quick_gate")


@pytest.mark.parametrize("ranker", SMALL)
def test_a_saved_ranker_answers_as_the_one_that_was_fitted(ranker: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    benchmark(tmp_path, ranker=ranker, config=SMALL[ranker], bundle=kept)
    loaded, items = bundle.load_items(kept)
    sequences = read_interactions(tmp_path / "events.parquet")
    users, histories, _ = read_histories(tmp_path / "events.parquet", items)
    assert np.array_equal(histories.items_T, sequences.items_T)
    for name in ("all.parquet", "all.csv"):
        ask(kept, tmp_path / "events.parquet", tmp_path / name, top=3)
    frame = pd.read_parquet(tmp_path / "all.parquet")
    assert frame["item"].tolist() == pd.read_csv(tmp_path / "all.csv")["item"].tolist()
    had = set(zip(*(pd.read_parquet(tmp_path / "events.parquet")[name] for name in ("user", "item")), strict=True))
    assert not had & set(zip(frame["user"], frame["item"], strict=True))
    scores_UV = loaded.score(histories)
    place = {name: row for row, name in enumerate(items.ids, start=1)}
    for user, some in frame.groupby("user"):
        row = users.tolist().index(user)
        assert np.allclose(some["score"], scores_UV[row, some["item"].map(place)])
        assert some["score"].is_monotonic_decreasing
        assert some["rank"].tolist() == [1, 2, 3]


def test_vectors_for_another_system_rank_as_the_ranker_does(tmp_path: Path) -> None:
    benchmark(tmp_path, ranker="als", config=SMALL["als"], bundle=tmp_path / "kept")
    asked = events(tmp_path / "events.parquet")
    ask(tmp_path / "kept", asked, tmp_path / "next.parquet", top=1, vectors=tmp_path / "vectors")
    items, users = (pd.read_parquet(tmp_path / "vectors" / f"{name}.parquet") for name in ("items", "users"))
    scores_UV = np.stack(users["vector"].tolist()) @ np.stack(items["vector"].tolist()).T
    for user, item in pd.read_parquet(asked)[["user", "item"]].itertuples(index=False):
        scores_UV[users["user"].tolist().index(user), items["item"].tolist().index(item)] = -np.inf
    best = pd.read_parquet(tmp_path / "next.parquet").set_index("user")["item"]
    assert items["item"].to_numpy()[scores_UV.argmax(axis=1)].tolist() == best[users["user"]].tolist()


def test_a_ranker_without_vectors_says_so(tmp_path: Path) -> None:
    benchmark(tmp_path, bundle=tmp_path / "kept")
    with pytest.raises(SettingsError, match=r"\brules\b"):
        ask(tmp_path / "kept", tmp_path / "events.parquet", tmp_path / "n.csv", top=1, vectors=tmp_path / "v")
    assert not (tmp_path / "v").exists()


def test_items_that_a_user_had_are_named_only_where_that_is_asked_for(tmp_path: Path) -> None:
    benchmark(tmp_path, bundle=tmp_path / "kept")
    had = pd.read_parquet(tmp_path / "events.parquet").groupby("user")["item"].agg(set)
    again = {}
    for seen in (False, True):
        ask(tmp_path / "kept", tmp_path / "events.parquet", tmp_path / "n.parquet", top=1000, seen=seen)
        named = pd.read_parquet(tmp_path / "n.parquet").groupby("user")["item"].agg(set)
        again[seen] = [bool(had[user] & items) for user, items in named.items()]
    assert not any(again[False])
    assert all(again[True])


def test_an_item_that_the_ranker_never_met_is_named(tmp_path: Path) -> None:
    benchmark(tmp_path, bundle=tmp_path / "kept")
    _, items = bundle.load_items(tmp_path / "kept")
    pd.DataFrame({"user": ["a", "a"], "item": ["i1", "new"], "pos": [0, 1]}).to_csv(tmp_path / "more.csv")
    with pytest.raises(ContractError, match=r"'new'.*line 3"):
        read_histories(tmp_path / "more.csv", items)
    users, histories, left_out = read_histories(tmp_path / "more.csv", items, skip_unknown=True)
    assert (users.tolist(), left_out) == (["a"], 1)
    assert [items.ids[row - 1] for row in histories.items_T] == ["i1"]


@pytest.mark.parametrize(("known", "asked"), [(("0.0", "1.0", "2.5"), ["1.0", "0.0"]), (("0", "1", "x"), ["1.0", "x"])])
def test_whole_numbers_written_with_a_point_are_found_either_way(
    known: tuple[str, ...], asked: list[str], tmp_path: Path
) -> None:
    pd.DataFrame({"user": ["a", "a"], "item": asked, "pos": [0, 1]}).to_csv(tmp_path / "asked.csv", index=False)
    _, histories, left_out = read_histories(tmp_path / "asked.csv", Items(known))
    assert left_out == 0
    assert [float(known[row - 1]) for row in histories.items_T[:1]] == [1.0]


def test_what_was_left_out_is_said_and_a_file_of_other_items_is_refused(
    tmp_path: Path,
) -> None:
    benchmark(tmp_path, bundle=tmp_path / "kept")
    asked = tmp_path / "asked.csv"
    asked.write_text("user,item,pos\na,i1,0\na,new,1\nb,new,0\n")
    report = ask(tmp_path / "kept", asked, tmp_path / "n.csv", top=1, skip_unknown=True)
    assert (report.users, report.events_left_out, report.users_without_events) == (2, 2, 1)
    asked.write_text("user,item,pos\na,new,0\n")
    with pytest.raises(ContractError, match=r"asked\.csv\.item: .*'new'"):
        ask(tmp_path / "kept", asked, tmp_path / "n.csv", top=1, skip_unknown=True)


def test_a_ranker_that_sees_a_clocks_times_refuses_counters_and_answers_single_users(tmp_path: Path) -> None:
    frame = pd.read_parquet(events(tmp_path / "events.parquet"))
    clock = frame.assign(timestamp=1_700_000_000 + 90_000 * frame["pos"]).drop(columns="pos")
    clock.loc[clock["user"] == "u7", "timestamp"] %= 1_000_000  # not known: among others that is no clock either
    clock.to_parquet(tmp_path / "clock.parquet")
    words: dict[str, Any] = {"train_on": "train", "seed": 1, "output": tmp_path / "out.json"}
    kept = tmp_path / "kept"
    with pytest.warns(UserWarning, match=r"clock\.parquet: .*1990"):
        benchmark_file(tmp_path / "clock.parquet", None, ranker="fusion", config=SMALL["fusion"], bundle=kept, **words)
    clock[clock["user"] == "u3"].to_parquet(tmp_path / "one.parquet")
    ask(kept, tmp_path / "one.parquet", tmp_path / "next.csv", top=2)
    assert len(pd.read_csv(tmp_path / "next.csv")) == 2
    counted = clock.assign(timestamp=frame["pos"])
    counted.to_parquet(tmp_path / "counted.parquet")
    with pytest.raises(ContractError, match=r"counted\.parquet: .*1990"):
        ask(kept, tmp_path / "counted.parquet", tmp_path / "next.csv", top=2)
