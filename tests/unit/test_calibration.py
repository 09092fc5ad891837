"""The calibration step: chosen by held-out campaigns, "none" unless it truly helps, and the same on every path."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
from random_examples import fit_ranker, random_examples, subset

from recommender.datasets.time_units import DAY_US
from recommender.engine.context import FitContext
from recommender.errors import BundleError
from recommender.matching.examples import Examples, Labels
from recommender.matching.horizon import NEVER, Horizon, Outcomes
from recommender.matching.packed_history import Histories
from recommender.matching.timing import Timing, still_coming
from recommender.models.campaign.calibration import MIN_CAMPAIGNS, Calibrator, Candidate
from recommender.models.campaign.held_out import HeldOut, Past, held_out_of
from recommender.models.campaign.horizon_ranker import HorizonRanker, fit_over_horizon
from recommender.models.campaign.logistic import LogisticRanker
from recommender.models.campaign.popularity import PopularityConfig, PopularityRanker
from recommender.models.campaign.ranker import Ranker
from recommender.registry import bundle


def past(
    *,
    slope: float = 1.0,
    shift: float = 0.0,
    spread: float = 0.3,
    campaigns: int = 12,
    reached: float = 1.0,
    seed: int = 0,
) -> HeldOut:
    """Past campaigns of 150 pairs. The ranker's log-odds are the truth times `slope` plus `shift`."""
    random = np.random.default_rng(seed)
    num = campaigns * 150
    campaigns_P = np.repeat(np.arange(campaigns), 150).astype(np.int32)
    known_P = random.normal(-2, 1, num)
    true_P = known_P + random.normal(0, spread, campaigns)[campaigns_P]
    redeemed_P = random.random(num) < reached / (1 + np.exp(-true_P))
    said_P = 1 / (1 + np.exp(-(slope * known_P + shift)))
    return HeldOut(campaigns_P, said_P, redeemed_P, np.full(num, reached))


def platt(slope: float, shift: float) -> Calibrator:
    tried = Candidate(a=slope, b=slope, c=shift, log_loss=0.3, gain=0.1, standard_error=0.01)
    return Calibrator(chosen="platt", candidates={"platt": tried})


def log_odds(p_N: Any) -> Any:
    p_N = np.asarray(p_N, dtype=np.float64)
    return np.log(p_N) - np.log1p(-p_N)


def test_a_ranker_that_is_calibrated_gets_none_although_whole_campaigns_differ() -> None:
    chosen = [Calibrator.choose(past(seed=seed)).chosen for seed in range(20)]
    assert chosen.count("none") >= 18


def test_twice_the_odds_in_every_campaign_are_taken_back_by_an_intercept() -> None:
    found = Calibrator.choose(past(shift=float(np.log(2)), spread=0.1))
    assert found.chosen == "intercept"
    assert log_odds(found(np.array([0.3])))[0] == pytest.approx(log_odds(0.3) - np.log(2), abs=0.15)


def test_log_odds_that_are_twice_as_far_apart_get_half_the_slope() -> None:
    held_out = past(slope=2.0, spread=0.1)
    found = Calibrator.choose(held_out)
    assert found.chosen == "platt"
    assert found.slope_N(np.array([0.1, 0.9])) == pytest.approx([0.5, 0.5], abs=0.1)
    figures = found.candidates["platt"]
    assert figures.gain > figures.standard_error > 0
    assert held_out.losses_P(found(held_out.p_P)).mean() < held_out.losses_P(held_out.p_P).mean() - 0.02


def test_windows_that_are_half_over_do_not_look_like_probabilities_that_are_twice_too_high() -> None:
    half = past(reached=0.5, spread=0.1)
    assert Calibrator.choose(half).chosen == "none"
    assert Calibrator.choose(replace(half, reached_P=np.ones(len(half.p_P)))).chosen == "intercept"


def test_with_few_campaigns_nothing_is_tried_and_the_reason_is_kept() -> None:
    found = Calibrator.choose(past(slope=3.0, campaigns=MIN_CAMPAIGNS - 1))
    assert (found.chosen, found.num_campaigns, found.candidates) == ("none", MIN_CAMPAIGNS - 1, {})
    assert str(MIN_CAMPAIGNS) in found.note


def test_a_calibrator_keeps_the_order_and_stays_inside_zero_and_one() -> None:
    p_N = np.linspace(0, 1, 101)
    steep = platt(5.0, -1.0)(p_N)
    assert (np.diff(steep) >= 0).all()
    assert steep.min() > 0
    assert steep.max() < 1


def calibrated(calibrator: Calibrator) -> tuple[HorizonRanker, HorizonRanker, Examples]:
    examples, labels = random_examples()
    inside = fit_ranker("logistic", examples, labels)
    return HorizonRanker(inside, Timing.prior()), HorizonRanker(inside, Timing.prior(), None, calibrator), examples


def test_probabilities_are_calibrated_before_the_horizon() -> None:
    plain, ranker, examples = calibrated(platt(0.5, 0.4))
    ever_N = ranker.score(examples).redeem_N
    np.testing.assert_allclose(log_odds(ever_N), 0.5 * log_odds(plain.score(examples).redeem_N) + 0.4, atol=1e-4)
    zeros = np.zeros(len(ever_N), dtype=np.int64)
    half = replace(examples, horizon=Horizon.whole(zeros, zeros + 20 * DAY_US, zeros + 40 * DAY_US))
    expected_N = still_coming(ever_N.astype(np.float64), np.full(len(ever_N), 0.5), np.ones(len(ever_N)))
    np.testing.assert_allclose(ranker.score(half).redeem_N, expected_N, rtol=1e-5)


def test_contributions_add_up_to_the_calibrated_log_odds() -> None:
    _, ranker, examples = calibrated(platt(0.5, 0.4))
    added_NF = ranker.contributions(examples)
    assert added_NF is not None
    rest_N = log_odds(ranker.score(examples).redeem_N) - added_NF.sum(axis=1)
    np.testing.assert_allclose(rest_N, rest_N[0], atol=2e-3)


def test_a_request_gets_the_bits_of_the_calibrated_score_over_the_horizon_and_of_its_contributions() -> None:
    _, ranker, examples = calibrated(platt(0.5, 0.4))
    zeros = np.zeros(len(examples.users_N), dtype=np.int64)
    half, places = (
        replace(examples, horizon=Horizon.whole(zeros, zeros + 20 * DAY_US, zeros + 40 * DAY_US)),
        np.array([5, 2]),
    )
    redeem_N, contributions = ranker.ranked(half)
    added_NF, expected_NF = contributions(places), ranker.contributions(half)
    assert redeem_N.tobytes() == ranker.score(half).redeem_N.tobytes()
    assert added_NF is not None
    assert expected_NF is not None
    assert added_NF.tobytes() == expected_NF[places].tobytes()


def test_a_bundle_holds_the_calibrator_and_earlier_releases_refuse_it(tmp_path: Path) -> None:
    _, ranker, examples = calibrated(platt(0.5, 0.4))
    folder = bundle.save(ranker, tmp_path / "bundle", lineage={})
    loaded = bundle.load(folder)
    assert loaded.calibrator == ranker.calibrator
    assert np.array_equal(loaded.score(examples).redeem_N, ranker.score(examples).redeem_N)
    assert f'"format": {bundle.CALIBRATED}' in (folder / "config.json").read_text()
    assert bundle.CALIBRATED != bundle.FORMAT


def test_a_bundle_without_one_is_as_before_and_means_none(tmp_path: Path) -> None:
    plain, _, examples = calibrated(Calibrator())
    folder = bundle.save(plain, tmp_path / "bundle", lineage={})
    assert "calibration" not in (folder / "config.json").read_text()
    loaded = bundle.load(folder)
    assert loaded.calibrator == Calibrator()
    assert np.array_equal(loaded.score(examples).redeem_N, plain.inside.score(examples).redeem_N)


def test_a_calibrator_that_lacks_its_own_parameters_is_refused(tmp_path: Path) -> None:
    plain, _, _ = calibrated(Calibrator())
    strange = HorizonRanker(plain.inside, plain.timing, None, Calibrator.model_construct(chosen="beta"))
    with pytest.raises(BundleError, match="beta"):
        bundle.load(bundle.save(strange, tmp_path / "bundle", lineage={}))


class Recorded(PopularityRanker):
    """Popularity that keeps which campaigns it was fitted on."""

    fitted_on: ClassVar[list[set[int]]] = []

    @classmethod
    def fit(
        cls,
        examples: Examples,
        labels: Labels,
        *,
        corpus: Histories,
        config: PopularityConfig,
        context: FitContext,
        earlier: Ranker[Any] | None = None,
    ) -> Self:
        cls.fitted_on.append(set(examples.campaigns_N.tolist()))
        return super().fit(examples, labels, corpus=corpus, config=config, context=context, earlier=earlier)


def shop(num: int = 1800) -> tuple[Examples, Labels, Outcomes]:
    """Nine campaigns, one every 30 days, with windows of 40 days. The last one is half over at the boundary."""
    examples, labels = random_examples(3, num_pairs=num)
    begins = examples.campaigns_N.astype(np.int64) * 30 * DAY_US
    redeemed = np.where(labels.redeemed_N > 0, begins + 10 * DAY_US, NEVER)
    return examples, labels, Outcomes(begins, begins + 40 * DAY_US, redeemed, 260 * DAY_US)


@pytest.mark.parametrize(("max_fits", "fits"), [(12, 8), (3, 2)])
def test_no_fit_sees_the_campaigns_that_it_predicts(max_fits: int, fits: int) -> None:
    examples, labels, outcomes = shop()
    Recorded.fitted_on.clear()
    before: list[int] = []

    def corpus_before(moment_us: int) -> Histories:
        before.append(moment_us)
        return examples.histories

    held_out = held_out_of(
        Recorded,
        Past.of(examples, outcomes, Timing.prior()),
        labels,
        corpus_before=corpus_before,
        config=PopularityConfig(),
        context=FitContext(),
        max_fits=max_fits,
    )
    assert len(Recorded.fitted_on) == fits  # nothing is known before the first campaign
    firsts = [moment_us // (30 * DAY_US) for moment_us in before]
    assert Recorded.fitted_on == [set(range(first)) for first in firsts]
    assert set(held_out.campaigns_P.tolist()) == set(range(firsts[0], 9))
    assert held_out.reached_P[held_out.campaigns_P == 8] == pytest.approx(0.5)
    assert set(held_out.reached_P[held_out.campaigns_P < 8].tolist()) == {1.0}


def test_a_fit_chooses_its_calibrator_and_may_be_told_not_to() -> None:
    examples, labels, outcomes = shop()
    fitted: Mapping[int | None, HorizonRanker] = {
        fits: fit_over_horizon(
            LogisticRanker,
            examples,
            labels,
            outcomes,
            corpus=examples.histories,
            config=LogisticRanker.Config(),
            context=FitContext(),
            calibration_fits=fits,
        )
        for fits in (None, 0)
    }
    assert set(fitted[None].calibrator.candidates) == {"none", "intercept", "platt", "beta"}
    assert fitted[None].calibrator.num_campaigns == 8
    assert fitted[0].calibrator.candidates == {}
    assert "training.calibration_fits" in fitted[0].calibrator.note
    some = subset(examples, slice(0, 50))
    assert np.array_equal(*(ranker.inside.score(some).redeem_N for ranker in fitted.values()))
