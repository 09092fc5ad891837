"""Periods follow one another and each holds enough to train or judge with."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recommender import features
from recommender.datasets.periods import (
    GATE_CAMPAIGNS,
    NEVER,
    Pairs,
    Periods,
    choose,
    from_microseconds,
    microseconds,
    read_pairs,
    resolve,
)
from recommender.datasets.synthetic import World, generate
from recommender.errors import PeriodError
from recommender.evaluation.judgement import GateRule, with_gate_campaigns
from recommender.features.training_set import TrainingSet, write_training_set
from recommender.matching.catalogue import Catalogue
from recommender.settings import Settings
from recommender.training.train import boundaries

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


def test_a_gate_that_must_hold_more_campaigns_is_chosen_longer() -> None:
    few = pairs(num_campaigns=16, pairs_a_campaign=120)
    gate_from, test_from = choose(few, START + timedelta(days=14 * 16), gate_campaigns=8)
    judged_N = Periods(gate_from, test_from, AS_OF).gate_mask(few.starts_us_N, few.decided_us_N)
    assert len(np.unique(few.campaigns_N[judged_N])) == 8


def test_rules_that_demand_more_campaigns_than_usual_become_a_setting_of_the_periods(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("[gate]\nmin_campaigns = 8\n")
    settings = Settings(judgement=rules)
    assert with_gate_campaigns(settings).time.gate_campaigns == 8
    given = settings.updated(time={"gate_campaigns": 7})
    both = settings.updated(time={"gate_from": "2017-05-01", "test_from": "2017-10-01"})
    elsewhere = Settings(judgement=tmp_path / "on-a-cluster.toml")
    rules_as_usual = tmp_path / "usual.toml"
    rules_as_usual.write_text("[gate]\nmin_campaigns = 6\n")
    for same in (given, both, elsewhere, Settings(judgement=rules_as_usual)):
        assert with_gate_campaigns(same) == same


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


def test_campaigns_after_as_of_move_no_period() -> None:
    everything, now = pairs(pairs_a_campaign=120), START + timedelta(days=14 * 14)
    known_N = everything.decided_us_N < microseconds(now)
    known = Pairs(*(getattr(everything, field.name)[known_N] for field in fields(Pairs)))
    assert choose(everything, now) == choose(known, now)


def test_the_tables_and_the_training_set_give_the_same_periods_when_campaigns_follow_as_of(tmp_path: Path) -> None:
    tables = generate(World.small(num_users=300), tmp_path / "tables")
    settings = Settings().updated(time={"as_of": tables.log_end - timedelta(days=85)})
    periods = resolve(settings, tables)
    assert (read_pairs(tables).decided_us_N >= microseconds(periods.as_of)).sum() > 100
    built = features.build(tables, tmp_path / "features", as_of=periods.as_of, threads=1)
    users, known = (pq.ParquetFile(built / f"{name}.parquet").read() for name in ("users", "pairs"))
    catalogue = Catalogue.load(built / "catalogue")
    folder = write_training_set(users, known, catalogue, tables, tmp_path / "set", as_of=periods.as_of)
    moments = {"gate": periods.gate_from, "test": periods.test_from, "live": periods.as_of}
    assert boundaries(TrainingSet.open(folder), settings) == moments


def test_a_campaign_seen_in_training_is_judged_in_no_period() -> None:
    periods = Periods(START + timedelta(days=100), START + timedelta(days=200), START + timedelta(days=300))
    began_before = np.array([microseconds(START + timedelta(days=90))])
    decided_in_gate = np.array([microseconds(START + timedelta(days=120))])
    assert not periods.gate_mask(began_before, decided_in_gate).any()
    assert not periods.test_mask(began_before, decided_in_gate).any()


def test_microseconds_are_exact_there_and_back() -> None:
    moment = datetime(2017, 10, 1, 4, 0, 0, 123457, tzinfo=UTC)
    assert from_microseconds(microseconds(moment)) == moment
