"""The take-up of a new campaign is forecast with an interval that real campaigns keep to."""

from pathlib import Path

import numpy as np
import pytest
from random_examples import fit_ranker, random_examples

from recommender.datasets.time_units import DAY_US
from recommender.errors import BundleError
from recommender.matching.horizon import NEVER, Outcomes
from recommender.matching.timing import Timing
from recommender.models.campaign.held_out import Past, held_out_of_logistic
from recommender.models.campaign.horizon_ranker import HorizonRanker
from recommender.models.campaign.levels import SPREADS_T, Levels, past_levels
from recommender.registry import bundle


def test_an_interval_covers_nine_of_ten_new_campaigns() -> None:
    rng = np.random.default_rng(0)
    spread, num_users, num_new, num_past = 0.4, 150, 600, 12
    covered = 0
    for _ in range(num_new):
        levels = Levels.of(rng.normal(0, spread, num_past), np.full(num_past, 1e-4))
        p_N = rng.beta(1, 9, num_users)
        odds_N = p_N / (1 - p_N) * np.exp(rng.normal(0, spread))
        took_up = int((rng.random(num_users) < odds_N / (1 + odds_N)).sum())
        found = levels.take_up(p_N)
        covered += found.low <= took_up <= found.high
    assert covered / num_new == pytest.approx(0.91, abs=0.035)  # counts are whole, so a little more than nine of ten


def test_the_spread_of_past_campaigns_decides_the_width() -> None:
    p_N = np.full(1000, 0.1)
    calm, wild = (Levels.of(np.array(d), np.full(8, 0.01)).take_up(p_N) for d in ([0.02, -0.02] * 4, [0.8, -0.8] * 4))
    assert calm.expected == wild.expected == pytest.approx(100)
    assert calm.high - calm.low < wild.high - wild.low
    assert calm.low <= 100 <= calm.high


def test_without_past_campaigns_the_prior_gives_the_spread_and_without_users_nothing_is_expected() -> None:
    prior = Levels.prior()
    assert prior.num_campaigns == 0
    found = prior.take_up(np.full(200, 0.1))
    assert found.low < 20 < found.high
    empty = prior.take_up(np.zeros(0))
    assert (empty.num_users, empty.expected, empty.low, empty.high) == (0, 0.0, 0, 0)


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_the_spread_is_learnt_from_campaigns_as_they_were_predicted_where_they_began(spread: float) -> None:
    examples, _ = random_examples(3, num_pairs=6000)
    rng = np.random.default_rng(4)
    num_campaigns = len(examples.catalogue.campaign_ids)
    level_C = rng.permutation(np.linspace(-1.5, 1.5, num_campaigns)) * spread
    log_odds_N = examples.features_NF[:, 0] - 1.5 + level_C[examples.campaigns_N]
    took_up_N = rng.random(6000) < 1 / (1 + np.exp(-log_odds_N))
    targeted_N = examples.campaigns_N.astype(np.int64) * 30 * DAY_US
    redeemed_N = np.where(took_up_N, targeted_N + DAY_US, NEVER)
    outcomes = Outcomes(targeted_N, targeted_N + 20 * DAY_US, redeemed_N, 1000 * DAY_US)
    levels = past_levels(held_out_of_logistic(Past.of(examples, outcomes, Timing.prior())))
    mean_spread = float(levels.weights_T @ SPREADS_T)
    assert levels.num_campaigns == num_campaigns - 1  # before the first one nothing is known
    assert mean_spread < 0.25 if spread == 0 else 0.6 < mean_spread < 1.5


def test_levels_are_part_of_a_bundle_and_other_ones_are_refused(tmp_path: Path) -> None:
    examples, labels = random_examples()
    levels = Levels.of(np.array([0.5, -0.5, 0.1]), np.full(3, 0.05))
    ranker = HorizonRanker(fit_ranker("logistic", examples, labels), Timing.prior(), levels)
    loaded = bundle.load(bundle.save(ranker, tmp_path / "bundle", lineage={}))
    scores = ranker.score(examples).redeem_N
    assert loaded.take_up(scores) == ranker.take_up(scores)
    assert loaded.levels.num_campaigns == 3
    strange = HorizonRanker(ranker.inside, ranker.timing, Levels(np.ones(3) / 3, 3))
    with pytest.raises(BundleError, match="30 weights"):
        bundle.load(bundle.save(strange, tmp_path / "strange", lineage={}))
