"""Expected against observed take-up in a slice, and which challenger it holds."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from judged_pairs import candidate, world
from numpy.typing import NDArray

from benchmarks.decision.slice_reliability import held
from recommender.evaluation.campaign_gains import OverCampaigns
from recommender.evaluation.document import Evaluation, SliceResult
from recommender.evaluation.evaluate import compare
from recommender.evaluation.intervals import Bootstrap
from recommender.evaluation.judgement import GateRule, Guardrails, Judgement, read_judgement
from recommender.evaluation.metrics import ScoredPairs
from recommender.evaluation.reliability import error_factor, judged_slices, reliability, unreliable, why_reliable
from recommender.evaluation.slices import slices
from recommender.evaluation.verdict import decide
from recommender.models.campaign import OWN_RANKERS
from recommender.report.evaluation import evaluation_page

LIMITS = Guardrails()
FEW = Bootstrap(samples=100)


def pairs(
    *, campaigns: int = 8, each: int = 400, levels: float = 0.1, factor: Mapping[str, float] | None = None
) -> tuple[dict[str, ScoredPairs], NDArray[np.int64]]:
    """Campaigns among 1,000 users. A ranker's odds are the truth's, without the campaign's level, times its factor."""
    random = np.random.default_rng(2)
    users_N = np.concatenate([random.choice(1000, each, replace=False) for _ in range(campaigns)])
    campaigns_N = np.repeat(np.arange(campaigns), each)
    known_N = random.normal(-2, 0.8, 1000)[users_N]
    true_N = known_N + random.normal(0, levels, campaigns)[campaigns_N]
    redeemed_N = (random.random(len(true_N)) < 1 / (1 + np.exp(-true_N))).astype(np.float64)
    factor = factor or {"new": 1.0, "old": 1.0}
    noise = {name: random.normal(0, 0.05, campaigns)[campaigns_N] for name in factor}
    scores = {name: 1 / (1 + np.exp(-known_N - noise[name] - np.log(by))) for name, by in factor.items()}
    return {name: ScoredPairs(redeemed_N, score_N, users_N) for name, score_N in scores.items()}, campaigns_N


def one_slice(rankers: Mapping[str, ScoredPairs], campaigns_N: NDArray[np.int64]) -> SliceResult:
    num = len(campaigns_N)
    (part,) = slices(
        rankers, {"all": ["yes"] * num}, campaigns_N, challenger="new", champion="old", limits=LIMITS, bootstrap=FEW
    )
    return part


def is_held(part: SliceResult, *, slices: int = 30) -> bool:
    return unreliable(part, "new", "old", LIMITS, confidence=0.95, slices=slices)


def test_the_sum_of_calibrated_scores_is_what_is_observed_up_to_chance() -> None:
    part = one_slice(*pairs(levels=0.0))
    of = part.reliability["new"]
    assert of.expected == pytest.approx(part.mean_score["new"] * part.num_pairs)
    assert of.ratio.value == pytest.approx(part.num_positives / of.expected)
    assert of.ratio.low is not None
    assert of.ratio.high is not None
    assert of.ratio.low < 1 < of.ratio.high
    assert of.excess_ece is not None
    assert 0 <= of.excess_ece < 0.02
    assert not is_held(part)


def test_a_challenger_with_twice_the_odds_is_held_and_the_same_error_of_both_is_not() -> None:
    wrong = one_slice(*pairs(factor={"new": 2.0, "old": 1.0}))
    over = wrong.reliability["new"].over_campaigns
    assert over is not None
    assert over.value == pytest.approx(0.6, abs=0.08)
    assert is_held(wrong)
    assert is_held(one_slice(*pairs(factor={"new": 0.5, "old": 1.0})))
    assert not is_held(one_slice(*pairs(factor={"new": 2.0, "old": 2.0})))
    assert not is_held(one_slice(*pairs(factor={"new": 1.0, "old": 2.0})))


def test_the_interval_over_campaigns_covers_that_whole_campaigns_differ() -> None:
    part = one_slice(*pairs(levels=0.6))
    of = part.reliability["new"]
    assert of.over_campaigns is not None
    wide = of.over_campaigns.interval(0.95)
    assert wide is not None
    assert of.ratio.low is not None
    assert of.ratio.high is not None
    assert wide[1] - wide[0] > 1.5 * (of.ratio.high - of.ratio.low)


def test_a_slice_of_few_campaigns_is_shown_and_not_judged() -> None:
    few = LIMITS.min_slice_campaigns - 1
    part = one_slice(*pairs(campaigns=few, factor={"new": 3.0, "old": 1.0}))
    assert part.num_campaigns == few
    assert part.reliability["new"].ratio.value is not None
    assert judged_slices([part], LIMITS) == []
    assert judged_slices([one_slice(*pairs(campaigns=few + 1))], LIMITS) != []


def test_one_campaign_has_a_ratio_over_campaigns_without_an_interval() -> None:
    part = one_slice(*pairs(campaigns=1, factor={"new": 3.0, "old": 1.0}))
    over = part.reliability["new"].over_campaigns
    assert over is not None
    assert over.interval(0.95) is None
    assert not is_held(part)


def test_a_ranker_is_not_compared_with_itself() -> None:
    rankers, campaigns_N = pairs()
    found, difference = reliability(
        {"old": rankers["old"]}, campaigns_N, challenger="old", champion="old", confidence=0.95
    )
    assert list(found) == ["old"]
    assert difference is None


def test_too_high_and_too_low_are_the_same_error() -> None:
    assert error_factor(0.5) == error_factor(2.0) == 2.0
    assert error_factor(0.0) == float("inf")


def test_equal_rankers_are_hardly_ever_held_and_twice_the_odds_in_one_segment_mostly() -> None:
    equal, facts = held(0.1, worlds=25)
    wrong, _ = held(0.1, shift=float(np.log(2)), worlds=25)
    assert equal <= 0.04
    assert facts["without_champion"] >= 0.2  # what the comparison with the champion is there for
    assert wrong >= 0.6


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder = tmp_path_factory.mktemp("candidates")
    folders = {"new": candidate(folder / "new", column=0), "old": candidate(folder / "old", column=1)}
    rules = Judgement(gate=GateRule(bootstrap_samples=100), guardrails=Guardrails(max_latency_ms=1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OWN_RANKERS, "reading", "judged_pairs:ReadingRanker")
        return compare(world(), folders, challenger="new", champion="old", rules=rules)


def rules_of(evaluation: Evaluation) -> Judgement:
    rules = Judgement(guardrails=Guardrails(max_latency_ms=1000))
    return rules.model_copy(update={"sha256": evaluation.judgement_sha256})


def test_a_misjudged_slice_holds_the_challenger_and_names_the_counts(evaluation: Evaluation) -> None:
    assert all(part.reliability for part in evaluation.gate.slices if part.judged)
    part = one_slice(*pairs(factor={"new": 2.0, "old": 1.0})).model_copy(update={"axis": "age", "value": "35-44"})
    gate = evaluation.gate.model_copy(update={"slices": [part]})
    verdict = decide(evaluation.model_copy(update={"gate": gate}), rules_of(evaluation))
    (check,) = [check for check in verdict.checks if check.name == "take-up in slice age = 35-44"]
    assert not check.passed
    assert check.limit == LIMITS.max_slice_take_up_error
    assert check.measured is not None
    assert check.measured > 1.5
    assert f"{part.num_positives} observed" in check.words
    assert verdict.decision == "HOLD"


def test_reliable_slices_pass_with_one_check(evaluation: Evaluation) -> None:
    gate = evaluation.gate.model_copy(update={"slices": [one_slice(*pairs())]})
    verdict = decide(evaluation.model_copy(update={"gate": gate}), rules_of(evaluation))
    (check,) = [check for check in verdict.checks if check.name.startswith("take-up in slice")]
    assert check.passed
    assert check.measured == pytest.approx(1.0, abs=0.2)


def test_a_factor_beyond_the_limit_that_passes_says_why(evaluation: Evaluation) -> None:
    few = one_slice(*pairs(campaigns=LIMITS.min_slice_campaigns - 1))
    alike = one_slice(*pairs(factor={"new": 2.0, "old": 2.0})).model_copy(update={"axis": "age", "value": "35-44"})
    gate = evaluation.gate.model_copy(update={"slices": [few, one_slice(*pairs()), alike]})
    verdict = decide(evaluation.model_copy(update={"gate": gate}), rules_of(evaluation))
    (check,) = [check for check in verdict.checks if check.name == "take-up in slices"]
    assert check.passed
    assert check.measured is not None
    assert check.measured > LIMITS.max_slice_take_up_error
    champions = alike.reliability["old"].over_campaigns
    assert champions is not None
    assert "age is 35-44" in check.words
    assert f"champion's factor of {error_factor(champions.value):.2f}" in check.words
    assert re.search(r"\b2 slices \(of 3 shown", check.words)


def test_each_condition_that_does_not_hold_is_named() -> None:
    def why(part: SliceResult) -> str | None:
        return why_reliable(part, "new", "old", LIMITS, confidence=0.95, slices=30)

    wrong = one_slice(*pairs(factor={"new": 2.0, "old": 1.0}))
    assert why(wrong) is None
    assert why(one_slice(*pairs())) == "within the limit"
    unsure = OverCampaigns(value=0.6, standard_error=0.5, degrees_of_freedom=7)
    new = wrong.reliability["new"].model_copy(update={"over_campaigns": unsure})
    by_chance = wrong.model_copy(update={"reliability": {**wrong.reliability, "new": new}})
    assert why(by_chance) == "within chance over users and campaigns"
    apart = OverCampaigns(value=0.5, standard_error=0.5, degrees_of_freedom=7)
    alike = why(wrong.model_copy(update={"expected_difference": apart}))
    assert alike == "its expected take-up differs from the champion's by chance alone"


def test_a_chart_that_leaves_slices_out_says_how_many(evaluation: Evaluation) -> None:
    part = one_slice(*pairs())
    many = [part.model_copy(update={"axis": "income_band", "value": f"band {k}"}) for k in range(30)]
    gate = evaluation.gate.model_copy(update={"slices": many})
    page = evaluation_page(
        evaluation.model_copy(update={"gate": gate, "test": None}), decide(evaluation, rules_of(evaluation))
    )
    assert page.count("The first 24 of 30 slices") == 2
    assert page.count("The first 16 of 30 slices") == 1
    whole = evaluation.gate.model_copy(update={"slices": many[:3]})
    shown = evaluation_page(
        evaluation.model_copy(update={"gate": whole, "test": None}), decide(evaluation, rules_of(evaluation))
    )
    assert "of 3 slices" not in shown


def test_an_evaluation_from_before_has_no_take_up_and_passes(evaluation: Evaluation) -> None:
    old = [part.model_copy(update={"reliability": {}, "expected_difference": None}) for part in evaluation.gate.slices]
    before = evaluation.model_copy(update={"gate": evaluation.gate.model_copy(update={"slices": old}), "test": None})
    verdict = decide(before, rules_of(evaluation))
    assert [check.passed for check in verdict.checks if check.name.startswith("take-up")] == [True]
    assert "Take-up in the slices" not in evaluation_page(before, verdict)


def test_the_page_shows_expected_and_observed_take_up_of_each_slice(evaluation: Evaluation) -> None:
    page = evaluation_page(evaluation, decide(evaluation, rules_of(evaluation)))
    assert "Take-up in the slices of the gate period" in page
    part = next(part for part in evaluation.gate.slices if part.reliability)
    expected = part.reliability["new"].expected
    assert re.search(rf"<td[^>]*>{part.num_positives}</td><td[^>]*>{expected:.3g}", page)


def test_the_packaged_rules_state_the_limits() -> None:
    limits = read_judgement(Path("judgement.toml")).guardrails
    assert (limits.max_slice_take_up_error, limits.max_slice_take_up_error_increase) == (1.25, 1.15)
    assert OverCampaigns(value=1.0, standard_error=None, degrees_of_freedom=None).interval(0.9) is None
