"""A next-item ranker's own dials are searched by validation, and a fitted one is kept and asked again."""

import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest

from benchmarks.ml_100k import MEMBER
from benchmarks.quality import as_judged, difference
from recommender.datasets.interactions import read_histories, read_interactions
from recommender.engine.hyperparameters import Range
from recommender.engine.search import search, suggest
from recommender.errors import BundleError, ContractError, SettingsError, SourceError, TrainingError
from recommender.models.next_item.rules import RulesConfig
from recommender.registry import bundle
from recommender.sequences import Items
from recommender.storage.manifest import write_manifest
from recommender.training.next_items import benchmark_file

SMALL: dict[str, dict[str, Any]] = {
    "fusion": {"members": 1, "width": 16, "epochs": 2},
    "als": {"width": 8},
    "rules": {},
    "neural_cf": {"epochs": 1},
}


def events(path: Path, users: int = 40, items: int = 12) -> Path:
    """Users walk round the items."""
    starts = np.random.default_rng(3).integers(items, size=users)
    rows = [(f"u{user}", f"i{(start + pos) % items}", pos) for user, start in enumerate(starts) for pos in range(5)]
    pd.DataFrame(rows, columns=["user", "item", "pos"]).to_parquet(path)
    return path


def benchmark(folder: Path, **more: Any) -> dict[str, Any]:
    words = {"ranker": "rules", "train_on": "train", "seed": 1, "output": folder / "out.json", **more}
    return benchmark_file(events(folder / "events.parquet"), None, **words)


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


def test_a_dial_that_was_given_is_not_searched(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("ranker", SMALL)
def test_a_saved_ranker_answers_as_the_one_that_was_fitted(ranker: str, tmp_path: Path) -> None:
    from cli.next_items import write_next_items

    kept = tmp_path / "kept"
    benchmark(tmp_path, ranker=ranker, config=SMALL[ranker], bundle_folder=kept)
    loaded, items = bundle.load_items(kept)
    sequences = read_interactions(tmp_path / "events.parquet")
    users, histories, _ = read_histories(tmp_path / "events.parquet", items)
    assert np.array_equal(histories.items_T, sequences.items_T)
    for name in ("all.parquet", "all.csv"):
        write_next_items(kept, tmp_path / "events.parquet", tmp_path / name, top=3)
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


@pytest.mark.parametrize("train_on", ["train", "train+validation"])
def test_the_ranker_that_is_kept_has_learned_from_everyones_last_events(train_on: str, tmp_path: Path) -> None:
    frame = pd.read_parquet(events(tmp_path / "events.parquet"))
    frame.loc[frame["pos"] == 4, "item"] = "newest"
    frame.to_parquet(tmp_path / "with-newest.parquet")
    words: dict[str, Any] = {
        "ranker": "item_popularity",
        "train_on": train_on,
        "seed": 1,
        "output": tmp_path / "out.json",
    }
    benchmark_file(tmp_path / "with-newest.parquet", None, **words, bundle_folder=tmp_path / "kept")
    loaded, items = bundle.load_items(tmp_path / "kept")
    pd.DataFrame({"user": ["a"], "item": ["i1"], "pos": [0]}).to_csv(tmp_path / "asked.csv", index=False)
    scores_UV = loaded.score(read_histories(tmp_path / "asked.csv", items)[1])
    assert items.ids[scores_UV[0, 1:].argmax()] == "newest"


def test_vectors_for_another_system_rank_as_the_ranker_does(tmp_path: Path) -> None:
    from cli.next_items import write_next_items

    benchmark(tmp_path, ranker="als", config=SMALL["als"], bundle_folder=tmp_path / "kept")
    asked = events(tmp_path / "events.parquet")
    write_next_items(tmp_path / "kept", asked, tmp_path / "next.parquet", top=1, vectors=tmp_path / "vectors")
    items, users = (pd.read_parquet(tmp_path / "vectors" / f"{name}.parquet") for name in ("items", "users"))
    scores_UV = np.stack(users["vector"].tolist()) @ np.stack(items["vector"].tolist()).T
    for user, item in pd.read_parquet(asked)[["user", "item"]].itertuples(index=False):
        scores_UV[users["user"].tolist().index(user), items["item"].tolist().index(item)] = -np.inf
    best = pd.read_parquet(tmp_path / "next.parquet").set_index("user")["item"]
    assert items["item"].to_numpy()[scores_UV.argmax(axis=1)].tolist() == best[users["user"]].tolist()


def test_a_ranker_without_vectors_says_so(tmp_path: Path) -> None:
    from cli.next_items import write_next_items

    benchmark(tmp_path, bundle_folder=tmp_path / "kept")
    with pytest.raises(SettingsError, match="rules has none"):
        write_next_items(
            tmp_path / "kept", tmp_path / "events.parquet", tmp_path / "n.csv", top=1, vectors=tmp_path / "v"
        )
    assert not (tmp_path / "v").exists()


def test_items_that_a_user_had_are_named_only_where_that_is_asked_for(tmp_path: Path) -> None:
    from cli.next_items import write_next_items

    benchmark(tmp_path, bundle_folder=tmp_path / "kept")
    had = pd.read_parquet(tmp_path / "events.parquet").groupby("user")["item"].agg(set)
    again = {}
    for seen in (False, True):
        write_next_items(tmp_path / "kept", tmp_path / "events.parquet", tmp_path / "n.parquet", top=1000, seen=seen)
        named = pd.read_parquet(tmp_path / "n.parquet").groupby("user")["item"].agg(set)
        again[seen] = [bool(had[user] & items) for user, items in named.items()]
    assert not any(again[False])
    assert all(again[True])


def test_an_item_that_the_ranker_never_met_is_named(tmp_path: Path) -> None:
    benchmark(tmp_path, bundle_folder=tmp_path / "kept")
    _, items = bundle.load_items(tmp_path / "kept")
    pd.DataFrame({"user": ["a", "a"], "item": ["i1", "new"], "pos": [0, 1]}).to_csv(tmp_path / "more.csv")
    with pytest.raises(ContractError, match=r"row 1.*'new'|'new'.*row 1"):
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
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from cli.next_items import write_next_items

    benchmark(tmp_path, bundle_folder=tmp_path / "kept")
    asked = tmp_path / "asked.csv"
    asked.write_text("user,item,pos\na,i1,0\na,new,1\nb,new,0\n")
    write_next_items(tmp_path / "kept", asked, tmp_path / "n.csv", top=1, skip_unknown=True)
    assert "2 events with unknown items were left out; 1 users have none left" in capsys.readouterr().out
    asked.write_text("user,item,pos\na,new,0\n")
    with pytest.raises(ContractError, match="none of its items is one that the ranker was fitted on"):
        write_next_items(tmp_path / "kept", asked, tmp_path / "n.csv", top=1, skip_unknown=True)


def test_a_bundle_can_be_read_by_whom_its_other_files_can_be_read_by(tmp_path: Path) -> None:
    benchmark(tmp_path, bundle_folder=tmp_path / "kept")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "kept").iterdir()}
    assert modes["weights.safetensors"] == modes["config.json"]


@pytest.mark.parametrize("ranker", SMALL)
def test_a_vocabulary_of_another_number_of_items_is_refused(ranker: str, tmp_path: Path) -> None:
    benchmark(tmp_path, ranker=ranker, config=SMALL[ranker], bundle_folder=tmp_path / "kept")
    names = list(bundle.load_items(tmp_path / "kept")[1].ids)
    for ids in (names[:-1], [*names, "one more"]):
        rewritten(tmp_path / "kept", {"items": ids})
        with pytest.raises(
            BundleError, match=rf"kept: .*vocabulary has {len(ids)} items, the weights rank {len(names)}"
        ):
            bundle.load_items(tmp_path / "kept")


@pytest.mark.parametrize("vocabulary", [{}, {"items": "i1"}, {"items": [1, 2]}, {"items": ["i1", "i1"]}])
def test_a_vocabulary_that_is_no_list_of_names_is_refused(vocabulary: dict[str, Any], tmp_path: Path) -> None:
    benchmark(tmp_path, bundle_folder=tmp_path / "kept")
    rewritten(tmp_path / "kept", vocabulary)
    with pytest.raises(BundleError, match=r"vocabulary\.json: `items` is not a list of names that all differ"):
        bundle.load_items(tmp_path / "kept")


def rewritten(kept: Path, vocabulary: dict[str, Any]) -> None:
    """Another vocabulary in a bundle, by someone who knows of the manifest."""
    (kept / "vocabulary.json").write_text(json.dumps(vocabulary))
    facts = json.loads((kept / "manifest.json").read_text())
    write_manifest(kept, **{name: value for name, value in facts.items() if name not in ("files", "content_hash")})


def test_bundles_of_the_two_kinds_are_not_mistaken_for_each_other(tmp_path: Path) -> None:
    benchmark(tmp_path, bundle_folder=tmp_path / "kept")
    with pytest.raises(BundleError, match="next-item bundle"):
        bundle.load(tmp_path / "kept")


def test_what_a_ranker_cannot_do_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="seed is -3"):
        benchmark(tmp_path, seed=-3)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(SettingsError, match="rules is fitted on the CPU"):
        benchmark(tmp_path, device="cuda")


def test_a_difference_has_an_interval_over_users_and_one_over_seeds() -> None:
    rng = np.random.default_rng(5)

    def rows(letters: str, seeds: int, commit: str, ranker: str = "rules") -> list[dict[str, Any]]:
        facts = {"commit": commit, "ranker": ranker}
        return [{"tops": "".join(rng.choice(list(letters), 400)), **facts} for _ in range(seeds)]

    better = difference(rows("1239", 5, "a"), rows("9A..", 1, "b"))
    for interval in ("interval95", "interval95_seeds"):
        low, high = better[interval]
        assert 0 < low < better["mean"] < high
    assert better["seeds"] == [5, 1]
    assert better["commits"] == ["a", "b"]
    assert difference(rows("12", 1, "a"), rows("12", 5, "a"))["interval95_seeds"] is None
    assert difference(rows("12", 5, "a"), rows("12", 1, "a", "sasrec"))["interval95_seeds"] is None
    covered = 0
    for _ in range(200):
        low, high = difference(rows("19.", 5, "a"), rows("19.", 5, "a"))["interval95_seeds"]
        covered += low <= 0 <= high
    assert covered >= 180


def test_complete_journey_is_a_set_with_times_and_attributes(tmp_path: Path) -> None:
    sequences = as_judged(tmp_path, "journey")
    assert sequences.times_T is not None
    assert sequences.items.num_attributes > 100
    rows_T = sequences.rows_T()
    same_user = rows_T[1:] == rows_T[:-1]
    assert (np.diff(sequences.times_T)[same_user] >= 0).all()
    pairs = rows_T * (sequences.items.num + 1) + sequences.items_T
    assert len(np.unique(pairs)) == len(pairs)
    with pytest.raises(SettingsError, match="'moon' is no set"):
        as_judged(tmp_path, "moon")


def test_movielens_100k_is_read_from_the_wheel_that_carries_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = "recbole-1.2.1.dist-info"
    rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float", "1\t7\t3\t881250949", "1\t8\t5\t881250940"]
    with ZipFile(tmp_path / "recbole-1.2.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(MEMBER, "\n".join(rows))
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_ARGS", f"--no-index --find-links {tmp_path}")
    sequences = as_judged(tmp_path, "ml-100k")
    assert [sequences.items.ids[row - 1] for row in sequences.items_T] == ["8", "7"]
    assert sequences.has_clock
    monkeypatch.setenv("PIP_ARGS", f"--no-index --find-links {tmp_path / 'nothing'}")
    with pytest.raises(SourceError, match=r"ml-100k: recbole==1\.2\.1 cannot be fetched"):
        as_judged(tmp_path, "ml-100k")


def test_going_on_does_not_try_the_same_again(tmp_path: Path) -> None:
    benchmark(tmp_path, trials=4)
    benchmark(tmp_path, trials=8)
    trials = json.loads((tmp_path / "out-study.json").read_text())["trials"]
    assert len({one["decay"] for one in trials}) == 8


def test_a_searched_run_resumes_no_checkpoint_of_other_dials(tmp_path: Path) -> None:
    words: dict[str, Any] = {"ranker": "sasrec", "config": {"epochs": 2, "width": 32, "heads": 1}, "seed": 3}
    benchmark(tmp_path, **words, checkpoints=tmp_path / "checkpoints")
    searched = benchmark(tmp_path, **words, trials=4, checkpoints=tmp_path / "checkpoints")
    (tmp_path / "out-study.db").unlink()
    assert benchmark(tmp_path, **words, trials=4)["ndcg@10"] == searched["ndcg@10"]


def test_dials_that_cannot_stand_together_are_not_chosen(tmp_path: Path) -> None:
    found = benchmark(tmp_path, ranker="sasrec", config={"epochs": 1, "heads": 64}, trials=6)
    assert found["config"]["width"] in (64, 128)


def test_a_ranker_that_sees_a_clocks_times_refuses_counters_and_answers_single_users(tmp_path: Path) -> None:
    from cli.next_items import write_next_items

    frame = pd.read_parquet(events(tmp_path / "events.parquet"))
    clock = frame.assign(timestamp=1_700_000_000 + 90_000 * frame["pos"]).drop(columns="pos")
    clock.loc[clock["user"] == "u7", "timestamp"] %= 1_000_000  # not known: among others that is no clock either
    clock.to_parquet(tmp_path / "clock.parquet")
    words: dict[str, Any] = {"train_on": "train", "seed": 1, "output": tmp_path / "out.json"}
    kept = tmp_path / "kept"
    benchmark_file(
        tmp_path / "clock.parquet", None, ranker="fusion", config=SMALL["fusion"], bundle_folder=kept, **words
    )
    clock[clock["user"] == "u3"].to_parquet(tmp_path / "one.parquet")
    write_next_items(kept, tmp_path / "one.parquet", tmp_path / "next.csv", top=2)
    assert len(pd.read_csv(tmp_path / "next.csv")) == 2
    counted = clock.assign(timestamp=frame["pos"])
    counted.to_parquet(tmp_path / "counted.parquet")
    with pytest.raises(ContractError, match=r"counted\.parquet: these times are no clock's"):
        write_next_items(kept, tmp_path / "counted.parquet", tmp_path / "next.csv", top=2)
