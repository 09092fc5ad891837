"""Periods follow one another and each holds enough to train or judge with."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from recommender.datasets.periods import GATE_CAMPAIGNS, NEVER, Pairs, Periods, choose, from_microseconds, microseconds
from recommender.errors import PeriodError
from recommender.evaluation.judgement import GateRule

START = datetime(2017, 1, 1, tzinfo=UTC)
DAY = 86_400_000_000


def pairs(num_campaigns: int = 24, pairs_a_campaign: int = 60, rate: float = 0.3, lag_days: int = 5) -> Pairs:
    """A campaign every two weeks, decided when it starts."""
    campaigns_N = np.repeat(np.arange(num_campaigns), pairs_a_campaign)
    starts_N = microseconds(START) + campaigns_N * 14 * DAY
    taken_N = np.random.default_rng(0).random(len(starts_N)) < rate
    return Pairs(starts_N, starts_N.copy(), np.where(taken_N, starts_N + lag_days * DAY, NEVER), campaigns_N)


AS_OF = START + timedelta(days=14 * 24)


def test_chosen_periods_hold_about_a_fifth_and_a_third_of_the_pairs() -> None:
    gate_from, test_from = choose(pairs(), AS_OF)
    periods = Periods(gate_from, test_from, AS_OF)
    starts = pairs().starts_us_N
    assert periods.gate_mask(starts, starts).mean() == pytest.approx(0.2, abs=0.05)
    assert periods.test_mask(starts, starts).mean() == pytest.approx(0.35, abs=0.05)


def test_the_gate_period_holds_the_campaigns_that_a_verdict_needs_where_the_data_allow_it() -> None:
    few = pairs(num_campaigns=12, pairs_a_campaign=120)
    gate_from, test_from = choose(few, START + timedelta(days=14 * 12))
    periods = Periods(gate_from, test_from, AS_OF)
    judged_N = periods.gate_mask(few.starts_us_N, few.decided_us_N)
    assert len(np.unique(few.campaigns_N[judged_N])) == GATE_CAMPAIGNS == GateRule.model_fields["min_campaigns"].default


def test_a_shop_with_fewer_campaigns_still_gets_periods() -> None:
    gate_from, test_from = choose(pairs(num_campaigns=5, pairs_a_campaign=300), START + timedelta(days=14 * 5))
    assert gate_from < test_from


def test_a_given_moment_stays_and_the_other_is_chosen() -> None:
    gate_from, test_from = choose(pairs(), AS_OF, gate_from=START + timedelta(days=70))
    assert gate_from == START + timedelta(days=70)
    assert gate_from < test_from < AS_OF


def test_too_few_participations_are_an_error_that_says_what_was_found() -> None:
    with pytest.raises(PeriodError, match=r"\b1440 pairs.*\b24 different"):
        choose(pairs(rate=0.005), AS_OF)


def test_one_campaign_cannot_be_split() -> None:
    with pytest.raises(PeriodError, match=r"\b1 different"):
        choose(pairs(num_campaigns=1, pairs_a_campaign=5000), AS_OF)


def test_participations_that_were_not_known_in_time_do_not_make_a_period() -> None:
    with pytest.raises(PeriodError):
        choose(pairs(lag_days=400), AS_OF)


def test_nothing_after_as_of_is_used() -> None:
    early = START + timedelta(days=14 * 12)
    _, test_from = choose(pairs(pairs_a_campaign=120), early)
    assert test_from < early


def test_a_campaign_seen_in_training_is_judged_in_no_period() -> None:
    periods = Periods(START + timedelta(days=100), START + timedelta(days=200), START + timedelta(days=300))
    began_before = np.array([microseconds(START + timedelta(days=90))])
    decided_in_gate = np.array([microseconds(START + timedelta(days=120))])
    assert not periods.gate_mask(began_before, decided_in_gate).any()
    assert not periods.test_mask(began_before, decided_in_gate).any()


def test_microseconds_are_exact_there_and_back() -> None:
    moment = datetime(2017, 10, 1, 4, 0, 0, 123457, tzinfo=UTC)
    assert from_microseconds(microseconds(moment)) == moment
