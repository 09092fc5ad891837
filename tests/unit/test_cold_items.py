import numpy as np
import pandas as pd
import pytest

from benchmarks.movielens import movielens_attributes
from recommender.datasets.interactions import read_interactions
from recommender.errors import PeriodError, SourceError
from recommender.evaluation.cold_items import cold_split, judge_cold
from recommender.models.next_item.ranker import NEVER
from recommender.sequences import Items, Sequences


def shop(users=400, items=60, seed=3):
    """Users of six tastes: item v belongs to taste v % 6."""
    rng = np.random.default_rng(seed)
    tastes = rng.integers(0, 6, users)
    lengths = rng.integers(2, 12, users)
    rows = [1 + rng.integers(0, items // 6, n) * 6 + taste for n, taste in zip(lengths, tastes, strict=True)]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    catalogue = Items(
        tuple(f"i{row}" for row in range(items)),
        attribute_offsets=np.concatenate([[0], np.arange(items + 1)]),
        attributes_P=(np.arange(items) % 6).astype(np.int32),
        num_attributes=6,
    )
    return Sequences(catalogue, offsets, np.concatenate(rows).astype(np.int32), np.arange(int(offsets[-1])))


class Says:
    """A ranker by a function of the histories."""

    name = "says"

    def __init__(self, function):
        self.score = function


def constant(sequences):
    return np.where(np.arange(sequences.items.num + 1) > 0, 1.0, NEVER) * np.ones((sequences.num_users, 1))


def by_taste(sequences):
    """Items of the taste that a user showed, all alike but for their row."""
    scores = np.full((sequences.num_users, sequences.items.num + 1), 0.0, dtype=np.float32)
    taste_V = (np.arange(sequences.items.num + 1) - 1) % 6
    for user in range(sequences.num_users):
        mine = sequences.items_T[sequences.offsets[user] : sequences.offsets[user + 1]]
        if len(mine):
            scores[user] = taste_V == taste_V[mine[-1]]
    scores += 1e-4 * np.arange(sequences.items.num + 1)
    scores[:, 0] = NEVER
    return scores


def test_cold_items_are_in_no_history_and_all_targets_are_cold():
    sequences = shop()
    split = cold_split(sequences, 0.4, seed=1)
    assert split.cold_V.sum() == 24
    assert not split.cold_V[0]
    for part in (split.train, split.histories):
        assert not split.cold_V[part.items_T].any()
        assert part.num_users == sequences.num_users
        assert part.times_T is not None
        assert len(part.times_T) == len(part.items_T)
    judged = split.target_U > 0
    assert split.cold_V[split.target_U[judged]].all()
    np.testing.assert_array_equal(split.target_U[judged], sequences.last_U()[judged])
    assert not split.cold_V[split.validation_U].any()


def test_every_warm_event_before_the_target_stays():
    sequences = shop()
    split = cold_split(sequences, 0.4, seed=1)
    for user in np.flatnonzero(split.target_U)[:50]:
        before = sequences.items_T[sequences.offsets[user] : sequences.offsets[user + 1] - 1]
        kept = split.histories.items_T[split.histories.offsets[user] : split.histories.offsets[user + 1]]
        np.testing.assert_array_equal(kept, before[~split.cold_V[before]])


def test_the_seed_decides_which_items_are_cold():
    sequences = shop()
    one, same, other = (cold_split(sequences, 0.4, seed=seed).cold_V for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_a_ranker_that_cannot_tell_cold_items_apart_earns_nothing():
    split = cold_split(shop(), 0.4, seed=1)
    for function in (constant, lambda s: np.where(split.cold_V, NEVER, by_taste(s))):
        found = judge_cold(Says(function), split).summary()
        assert found["among_all"]["ndcg@10"] == 0
        assert found["among_cold"]["ndcg@10"] == 0
        assert found["users"] == (split.target_U > 0).sum()


def test_content_finds_cold_items():
    split = cold_split(shop(), 0.4, seed=1)
    found = judge_cold(Says(by_taste), split)
    assert found.among_cold.recall_U(10).mean() > 0.9
    assert (found.among_cold.ranks <= found.among_all.ranks).all()
    assert found.num_cold == 24


def test_a_share_that_holds_out_nothing_or_all_is_refused():
    with pytest.raises(PeriodError, match=r"holds out (0|60)\b"):
        cold_split(shop(), 0.0, seed=1)
    with pytest.raises(PeriodError, match=r"holds out (0|60)\b"):
        cold_split(shop(), 1.0, seed=1)


def test_so_few_cold_items_that_nearly_all_are_among_the_ten_best_are_refused():
    with pytest.raises(PeriodError, match=r"0\.05 of 60 items holds out 3\b.*\b20\b"):
        cold_split(shop(), seed=1)
    assert cold_split(shop(items=396), seed=1).cold_V.sum() == 20


def test_many_items_are_scored_for_fewer_users_at_a_time(monkeypatch):
    split, sizes = cold_split(shop(), 0.4, seed=1), []

    def noted(sequences):
        sizes.append(sequences.num_users)
        return by_taste(sequences)

    whole = judge_cold(Says(noted), split)
    assert sizes == [len(whole.among_all.ranks)]
    monkeypatch.setattr("recommender.sequences.ranks.CELLS_A_BATCH", 61 * 30)
    parts = judge_cold(Says(noted), split)
    assert max(sizes[1:]) == 30
    np.testing.assert_array_equal(parts.among_all.ranks, whole.among_all.ranks)
    np.testing.assert_array_equal(parts.among_cold.ranks, whole.among_cold.ranks)


def test_movielens_titles_and_genres_become_an_attributes_file(tmp_path):
    films = {"movieID": [10, 20, 30], "title": ["Heat", "Big", "Alien"], "genres": ["Action|Crime", "Comedy", "Horror"]}
    events = {"user": [1, 1, 1], "pos": [1, 2, 3], "item": [2, 1, 2], "movieID": [10, 30, 10]}
    pd.DataFrame(films).to_parquet(tmp_path / "movies.parquet")
    with pytest.raises(SourceError, match=r"sequences\.parquet: no such file"):
        movielens_attributes(tmp_path, tmp_path / "out.parquet")
    pd.DataFrame(events).to_parquet(tmp_path / "sequences.parquet")
    attributes = movielens_attributes(tmp_path, tmp_path / "out.parquet")
    items = read_interactions(tmp_path / "sequences.parquet", attributes).items
    assert items.texts == ("Alien", "Heat")
    np.testing.assert_array_equal(np.diff(items.attribute_offsets), [0, 1, 2])
