"""The trend counts events up to a user's last one and no further, with a half-life that the log itself determines."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.generated import fashions
from recommender.datasets.interactions import read_interactions
from recommender.engine.context import FitContext
from recommender.errors import BundleError, SettingsError
from recommender.evaluation.leave_one_out import judge
from recommender.models.next_item.fusion import Fusion, FusionConfig
from recommender.models.next_item.fusion.experts import SPREAD
from recommender.models.next_item.fusion.trend import Trend
from recommender.sequences import Items, LeaveOneOut, Sequences

V, FIRST, HOUR = 60, 1_600_000_000_000_000, 3_600_000_000
ITEMS = Items(tuple(f"i{row}" for row in range(1, V + 1)))


def shop(life: float, *, users: int = 400, seed: int = 1) -> Sequences:
    """Users of four events, an hour apart, over 100 days. Item i sells best around its day, for `life` days."""
    rng = np.random.default_rng(seed)
    starts = np.sort(rng.uniform(0, 2400, users))
    times_T = (FIRST + (starts[:, None] + np.arange(4)).ravel() * HOUR).astype(np.int64)
    days_TV = np.subtract.outer(times_T, FIRST) / HOUR / 24
    away_TV = np.abs(days_TV[:, None] - np.linspace(0, 100, V)) / life
    weight_TV = np.exp(-away_TV)
    items_T = [rng.choice(V, p=row / row.sum()) + 1 for row in weight_TV]
    return Sequences(ITEMS, np.arange(users + 1) * 4, np.array(items_T, dtype=np.int32), times_T)


def by_hand(log: Sequences, now: int, half_life: float) -> NDArray[np.float64]:
    assert log.times_T is not None
    age_T = now - log.times_T
    weight_T = np.where(age_T >= 0, np.exp2(-np.abs(age_T) / half_life), 0.0)
    counts_V = np.bincount(log.items_T, weight_T, minlength=V + 1)
    return np.asarray(counts_V / max(counts_V.sum(), 1e-9))


def test_shares_are_those_counted_by_hand_in_any_order_of_users() -> None:
    log = shop(5.0)
    trend = Trend.fit(log, spread=SPREAD, seed=3)
    asked = log.take(np.random.default_rng(2).permutation(log.num_users)[:50])
    assert asked.times_T is not None
    for shares_V, now in zip(trend.score(asked), asked.times_T[3::4], strict=True):
        np.testing.assert_allclose(shares_V, by_hand(log, int(now), trend.half_life), rtol=1e-4, atol=1e-9)


def test_what_others_take_later_changes_nothing() -> None:
    log = shop(5.0)
    early = log.take(np.arange(100))
    asked = early.take(np.arange(50))
    whole, before = (Trend(*_ordered(one), half_life=5 * 24 * HOUR) for one in (log, early))
    np.testing.assert_array_equal(whole.score(asked), before.score(asked))


def _ordered(log: Sequences) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    assert log.times_T is not None
    order = np.argsort(log.times_T, kind="stable")
    return log.items_T[order], log.times_T[order]


def test_short_fashions_are_forgotten_faster_than_long_ones() -> None:
    short, long = (Trend.fit(shop(life), spread=SPREAD, seed=3).half_life / HOUR / 24 for life in (1.0, 200.0))
    assert short < 5 < long


def test_without_a_time_of_the_users_own_it_is_now() -> None:
    log = shop(5.0)
    trend = Trend.fit(log, spread=SPREAD, seed=3)
    assert log.times_T is not None
    latest = by_hand(log, int(log.times_T.max()), trend.half_life)
    nobody = Sequences(ITEMS, np.zeros(2, dtype=np.int64), np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64))
    tomorrow = Sequences(
        ITEMS, np.array([0, 1]), np.array([5], dtype=np.int32), log.times_T.max(keepdims=True) + 24 * HOUR
    )
    for asked in (nobody, tomorrow):
        np.testing.assert_allclose(trend.score(asked)[0], latest, rtol=1e-4, atol=1e-9)

    with pytest.raises(BundleError, match=r"timestamp.*trend=false"):
        trend.score(Sequences(ITEMS, np.array([0, 1]), np.array([5], dtype=np.int32)))


def test_a_basket_whose_lines_have_one_time_is_not_taken_for_a_short_fashion() -> None:
    log = shop(200.0)
    assert log.times_T is not None
    baskets = replace(log, times_T=np.repeat(log.times_T[::2], 2))
    assert Trend.fit(baskets, spread=SPREAD, seed=3).half_life / HOUR / 24 > 5
    at_once = replace(log, times_T=np.repeat(log.times_T[::4], 4))
    assert np.isfinite(Trend.fit(at_once, spread=SPREAD, seed=3).score(at_once)).all()


@pytest.mark.parametrize("gap", [20, 29.9, 30.5, 61, 500])
def test_who_else_is_asked_changes_nothing_after_a_long_silence(gap: float) -> None:
    half_life = 24.0 * HOUR
    trend = Trend(np.array([3, 5], dtype=np.int32), np.array([FIRST, FIRST + int(1000 * half_life)]), half_life)
    times_T = np.array([FIRST + HOUR, FIRST + int(20 * half_life), FIRST + int(gap * half_life)])
    asked = Sequences(ITEMS, np.arange(4), np.array([7, 7, 7], dtype=np.int32), times_T)
    alone = trend.score(asked.take(np.array([2])))
    np.testing.assert_array_equal(trend.score(asked)[2:], alone)
    assert alone.sum() == (1 if gap < 30 else 0)


def test_the_flagship_follows_fashions_and_its_bundle_keeps_them(tmp_path: Path) -> None:
    whole = read_interactions(*fashions(tmp_path))
    split = LeaveOneOut.of(whole.take(np.arange(0, whole.num_users, 4)))
    with_it, without = (
        Fusion.fit(
            split.train,
            held_out_U=split.validation_U,
            config=FusionConfig(members=0, trend=there),
            context=FitContext(seed=3),
        )
        for there in (True, False)
    )
    assert "trend" in with_it.experts.others
    assert "trend" not in without.experts.others
    gains = [judge(one, split.train_and_validation, split.test_U).ndcg_U().mean() for one in (with_it, without)]
    assert gains[0] > gains[1] + 0.01
    assert with_it.chosen()["trend"]
    again = Fusion.restore(with_it.tensors(), with_it.config())
    np.testing.assert_array_equal(again.score(split.train), with_it.score(split.train))
    less = with_it.only(without={"trend"})
    assert "trend" not in less.experts.others
    assert len(less.gate.bias_K) == len(with_it.gate.bias_K) - 1
    with pytest.raises(SettingsError, match="trnd"):
        with_it.only(without={"trnd"})


@pytest.mark.parametrize("times", [None, np.arange(1600) % 4])
def test_without_a_clock_there_is_no_trend(times: NDArray[np.int64] | None) -> None:
    log = shop(5.0)
    timeless = Sequences(log.items, log.offsets, log.items_T, times)
    made = Fusion.fit(timeless, held_out_U=None, config=FusionConfig(members=0), context=FitContext(seed=3))
    assert "trend" not in made.experts.others
