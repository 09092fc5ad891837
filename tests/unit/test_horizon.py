"""The horizon: participation from the decision on, given none yet, up to the moment at which it stops to count."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from judged_pairs import AS_OF, GATE, START, TEST, World, world
from numpy.typing import NDArray
from random_examples import fit_ranker, random_examples

from recommender.datasets.periods import Periods, microseconds
from recommender.datasets.time_units import DAY_US
from recommender.engine.context import FitContext
from recommender.errors import LabelError, PeriodError
from recommender.evaluation.pairs import gate_pairs
from recommender.matching.examples import Examples, Labels
from recommender.matching.horizon import NEVER, Horizon, Outcomes
from recommender.matching.timing import PRIOR, SHOP, TYPE, Timing, still_coming
from recommender.models.campaign import OWN_RANKERS, ranker_class
from recommender.models.campaign.horizon_ranker import HorizonRanker, fit_over_horizon
from recommender.registry import bundle

WINDOW_DAYS = 40


def days(*values: float) -> NDArray[np.int64]:
    return np.array([round(value * DAY_US) for value in values], dtype=np.int64)


def horizon_of(decided: float, *, until: float = WINDOW_DAYS) -> Horizon:
    whole = Horizon.whole(days(0), days(decided), days(WINDOW_DAYS))
    return whole.read_at(int(days(until)[0]))


def outcomes_of(
    num: int, *, known_at: float, rate: float = 0.4, power: float = 3.0, seed: int = 0
) -> tuple[Outcomes, NDArray[np.bool_]]:
    """Pairs that begin over 200 days. Who takes part does so early: at a share of the window of `uniform ** power`."""
    rng = np.random.default_rng(seed)
    begins = days(*rng.uniform(0, known_at, num))
    ever_N = rng.random(num) < rate
    at = begins + (rng.random(num) ** power * WINDOW_DAYS * DAY_US).astype(np.int64)
    known_us = int(days(known_at)[0])
    redeemed = np.where(ever_N & (at < known_us), at, NEVER)
    return Outcomes(begins, begins + WINDOW_DAYS * DAY_US, redeemed, known_us), ever_N


@pytest.mark.parametrize(
    ("decided", "until", "elapsed", "reached"),
    [
        (0, 40, 0.0, 1.0),
        (10, 40, 0.25, 1.0),
        (10, 20, 0.25, 0.5),
        (10, 5, 0.25, 0.25),
        (-5, 40, 0.0, 1.0),
        (50, 40, 1, 1),
    ],
)
def test_shares_are_measured_from_the_targeting_to_the_end(
    decided: float, until: float, elapsed: float, reached: float
) -> None:
    horizon = horizon_of(decided, until=until)
    assert (horizon.elapsed_N()[0], horizon.reached_N()[0]) == (elapsed, reached)


def test_a_window_without_length_lies_behind_from_its_end_on() -> None:
    for decided, elapsed in ((4, 0.0), (5, 1.0), (6, 1.0)):
        assert Horizon.whole(days(5), days(decided), days(5)).elapsed_N()[0] == elapsed


def test_a_whole_window_changes_no_bit_of_a_probability() -> None:
    p_N = np.random.default_rng(0).random(1000)
    assert np.array_equal(still_coming(p_N, np.zeros(1000), np.ones(1000)), p_N)
    timing = Timing.fit(["A"] * 500, outcomes_of(500, known_at=200)[0], np.full(500, 0.4))
    assert timing.behind_N(["A", "new"], np.array([0.0, 0.0])).tolist() == [0.0, 0.0]
    assert timing.behind_N(["A", "new"], np.array([1.0, 1.0])).tolist() == [1.0, 1.0]


def test_without_a_participation_so_far_the_probability_falls_with_the_elapsed_share_to_zero() -> None:
    timing = Timing.fit(["A"] * 2000, outcomes_of(2000, known_at=200)[0], np.full(2000, 0.4))
    behind_N = timing.behind_N(["A"] * 21, np.linspace(0, 1, 21))
    left_N = still_coming(np.full(21, 0.4), behind_N, np.ones(21))
    assert (np.diff(left_N) < 0).all()
    assert left_N[0] == 0.4
    assert left_N[-1] == 0.0


def test_timing_recovers_the_true_distribution_although_windows_are_open() -> None:
    outcomes, _ = outcomes_of(6000, known_at=60, seed=3)  # two thirds of the windows are open
    assert outcomes.open_N.mean() > 0.4
    behind_N = outcomes.observed_N() ** (1 / 3)
    expected_N = np.where(outcomes.open_N, still_coming(np.full(6000, 0.4), behind_N, np.ones(6000)), 0.0)
    timing = Timing.fit(["A"] * 6000, outcomes, expected_N)
    for share in (0.1, 0.25, 0.5, 0.75):
        assert timing.behind_N(["A"], np.array([share]))[0] == pytest.approx(share ** (1 / 3), abs=0.04)


def test_a_type_without_a_closed_campaign_takes_the_shops_timing_and_a_shop_without_one_the_prior() -> None:
    outcomes, _ = outcomes_of(1000, known_at=200)
    late_N = outcomes.ends_us_N > outcomes.known_at_us
    types = np.where(late_N, "open", "closed").tolist()
    timing = Timing.fit(types, outcomes, np.full(1000, 0.2))
    assert timing.learnt_from == {"closed": TYPE, "open": SHOP}
    halves = np.full(2, 0.5)
    assert timing.behind_N(["open", "unseen"], halves).tolist() == [timing.behind_N(["unseen"], halves[:1])[0]] * 2
    nothing_closed = replace(outcomes, ends_us_N=np.full(1000, NEVER - 1))
    assert Timing.fit(types, nothing_closed, np.full(1000, 0.2)).is_prior
    assert Timing.prior().behind_N(["x"], np.array([0.3])).tolist() == [pytest.approx(0.3)]
    assert "no closed campaign" in PRIOR


def test_a_participation_before_its_targeting_is_refused_with_its_row() -> None:
    outcomes, _ = outcomes_of(50, known_at=200)
    redeemed = outcomes.redeemed_us_N.copy()
    redeemed[7] = outcomes.targeted_us_N[7] - 1
    with pytest.raises(LabelError, match=r"1 of 50 pairs.*pair 7"):
        Timing.fit(["A"] * 50, replace(outcomes, redeemed_us_N=redeemed), np.full(50, 0.2))


def shop_with_open_windows(num_pairs: int = 4000) -> tuple[Examples, Labels, Outcomes, NDArray[np.float32]]:
    """Pairs whose true probability depends on two features, of which the later ones were watched for a short time."""
    examples, labels = random_examples(5, num_pairs=num_pairs)
    rng = np.random.default_rng(1)
    truth_N = labels.redeemed_N
    begins = days(*rng.uniform(0, 100, num_pairs))
    at = begins + (rng.random(num_pairs) * WINDOW_DAYS * DAY_US).astype(np.int64)
    known_us = int(days(70)[0])
    decided_N = begins < known_us
    redeemed = np.where((truth_N > 0) & (at < known_us), at, NEVER)
    outcomes = Outcomes(begins, begins + WINDOW_DAYS * DAY_US, redeemed, known_us)
    redeemed_N = np.where(decided_N, redeemed < known_us, np.nan).astype(np.float32)
    return examples, replace(labels, redeemed_N=redeemed_N), outcomes, truth_N


def test_open_pairs_are_censored_so_the_level_of_a_fit_is_the_truth_and_not_what_was_seen_so_far() -> None:
    examples, labels, outcomes, truth_N = shop_with_open_windows()
    known_N = np.isfinite(labels.redeemed_N)
    config = ranker_class("logistic").Config.parse({"strength": 1.0}, owner="logistic")
    fitted = fit_over_horizon(
        ranker_class("logistic"),
        examples,
        labels,
        outcomes,
        corpus=examples.histories,
        config=config,
        context=FitContext(),
    )
    naive = fit_ranker("logistic", examples, labels, strength=1.0)
    true_rate = float(truth_N[known_N].mean())
    censored, as_zeros = (float(ranker.score(examples).redeem_N[known_N].mean()) for ranker in (fitted, naive))
    assert as_zeros < true_rate - 0.05
    assert censored == pytest.approx(true_rate, abs=0.025)


@pytest.mark.parametrize("name", [*OWN_RANKERS, "rules"])
def test_every_ranker_scores_over_the_horizon_and_its_bundle_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    examples, labels, outcomes, _ = shop_with_open_windows(600)
    given = {"rate_feature": "behaviour__a"} if name == "rate_rule" else {}
    given |= {"pretrain_epochs": 0, "pretrain_min_steps": 0, "tune_epochs": 1} if name == "transformer" else {}
    cls = ranker_class(name)
    fitted = fit_over_horizon(
        cls,
        examples,
        labels,
        outcomes,
        corpus=examples.histories,
        config=cls.Config.parse(given, owner=name),
        context=FitContext(),
    )
    begins, ends = outcomes.targeted_us_N, outcomes.ends_us_N
    at_start = replace(examples, horizon=Horizon.whole(begins, begins, ends))
    in_the_middle = replace(examples, horizon=Horizon.whole(begins, (begins + ends) // 2, ends))
    first_half = at_start.read_at(int(begins.max()))
    ever, rest = fitted.score(examples).redeem_N, fitted.score(in_the_middle).redeem_N
    assert np.array_equal(fitted.score(at_start).redeem_N, ever)
    assert (rest < ever).all()
    assert (fitted.score(first_half).redeem_N <= ever).all()
    loaded = bundle.load(bundle.save(fitted, tmp_path / "bundle", lineage={}))
    assert loaded.timing.learnt_from == fitted.timing.learnt_from
    assert np.array_equal(loaded.score(in_the_middle).redeem_N, rest)


def test_a_bundle_without_timing_takes_an_even_spread(tmp_path: Path) -> None:
    examples, labels = random_examples()
    loaded = bundle.load(bundle.save(fit_ranker("logistic", examples, labels), tmp_path / "bundle", lineage={}))
    assert isinstance(loaded, HorizonRanker)
    assert loaded.timing.is_prior


def test_the_order_of_one_campaigns_users_does_not_change_with_the_moment() -> None:
    examples, labels, outcomes, _ = shop_with_open_windows(600)
    ranker = HorizonRanker(fit_ranker("logistic", examples, labels), Timing.fit(["A"] * 600, outcomes, np.zeros(600)))
    same = replace(examples, campaigns_N=np.zeros(600, dtype=np.int32))
    zeros = np.zeros(600, dtype=np.int64)
    half = Horizon.whole(zeros, zeros + 20 * DAY_US, zeros + 40 * DAY_US)
    p_N, later_N = (ranker.score(part).redeem_N for part in (same, replace(same, horizon=half)))
    assert np.array_equal(np.argsort(p_N, kind="stable"), np.argsort(later_N, kind="stable"))


class Timed(World):
    """A world whose pairs have a horizon, as those of a training set."""

    def examples(self, mask: NDArray[np.bool_]) -> Examples:
        part = super().examples(mask)
        starts = self.pairs["starts_at"].cast("int64").to_numpy()[mask]
        return replace(part, horizon=Horizon.whole(starts, starts, starts + WINDOW_DAYS * DAY_US))


def test_an_evaluation_scores_up_to_the_moment_at_which_it_reads_the_labels() -> None:
    made = world()
    period = gate_pairs(Timed(made.all, made.pairs, made.redeemed_N), Periods(GATE, TEST, AS_OF))
    horizon = period.examples.horizon
    assert horizon is not None
    assert horizon.until_us_N.max() == microseconds(TEST)
    assert (horizon.reached_N() < 1).tolist() == period.open_N.tolist()
    assert period.open_N.any()


def test_a_reading_date_before_the_campaigns_is_refused() -> None:
    made = world()
    with pytest.raises(PeriodError):
        gate_pairs(made, Periods(AS_OF, TEST, AS_OF))
    early = replace(made, redeemed_N=made.redeemed_N)
    object.__setattr__(early, "log_end", START - timedelta(days=1))
    from recommender.evaluation.pairs import final_test_pairs

    with pytest.raises(PeriodError, match=r"2016-12-31.*2017-07-30"):
        final_test_pairs(early, Periods(GATE, TEST, AS_OF))
