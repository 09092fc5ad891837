"""Accuracy, precision, recall and F1 at thresholds that nothing of the judged pairs has chosen."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from judged_pairs import AS_OF, GATE, START, TEST, candidate, world
from pydantic import ValidationError
from sklearn import metrics as reference

from recommender.evaluation.document import AtThreshold, Evaluation
from recommender.evaluation.evaluate import compare
from recommender.evaluation.intervals import Bootstrap
from recommender.evaluation.judgement import GateRule, Judgement, Report, read_judgement
from recommender.evaluation.metrics import ScoredPairs
from recommender.evaluation.thresholds import base_rate, figures_at, resolved
from recommender.models.campaign import OWN_RANKERS
from recommender.promotion.versions import Measured
from recommender.report.thresholds import threshold_tables

FEW = Bootstrap(samples=400, seed=3)
RULES = Judgement(gate=GateRule(bootstrap_samples=100), sha256="f" * 64)


def pairs(seed: int = 1, *, count: int = 1_500, users: int = 300) -> ScoredPairs:
    random = np.random.default_rng(seed)
    score_N = random.beta(1, 6, count)
    redeemed_N = (random.random(count) < score_N).astype(np.float64)
    return ScoredPairs(redeemed_N, score_N, random.integers(0, users, count))


def at(scored: ScoredPairs, threshold: float, bootstrap: Bootstrap = FEW) -> AtThreshold:
    return figures_at({"fixed": threshold}, {"ranker": scored}, bootstrap).rankers["ranker"][0]


@pytest.mark.parametrize("threshold", [0.05, 0.15, 0.5])
def test_the_figures_equal_scikit_learns(threshold: float) -> None:
    scored = pairs()
    said_N = scored.score_N >= threshold
    found = at(scored, threshold)
    expected = {
        "accuracy": reference.accuracy_score(scored.redeemed_N, said_N),
        "precision": reference.precision_score(scored.redeemed_N, said_N),
        "recall": reference.recall_score(scored.redeemed_N, said_N),
        "f1": reference.f1_score(scored.redeemed_N, said_N),
    }
    assert {name: of.value for name, of in found.metrics.items()} == pytest.approx(expected)
    matrix = [[found.true_negatives, found.false_positives], [found.false_negatives, found.true_positives]]
    assert matrix == reference.confusion_matrix(scored.redeemed_N, said_N).tolist()


def test_an_interval_holds_the_value_and_draws_users_with_all_their_pairs() -> None:
    scored = pairs()
    found = at(scored, 0.15)
    for of in (*found.metrics.values(), found.accuracy_over_nobody):
        assert of.value is not None
        assert of.low is not None
        assert of.high is not None
        assert of.low < of.value < of.high
    # The same pairs four times say nothing new while they belong to the same users.
    again = ScoredPairs(*(np.tile(part, 4) for part in (scored.redeemed_N, scored.score_N, scored.users_N)))
    widths = [of.metrics["recall"].high - of.metrics["recall"].low for of in (found, at(again, 0.15))]  # type: ignore[operator]
    assert widths[0] == pytest.approx(widths[1])


def test_a_pair_at_the_threshold_is_said_to_take_part() -> None:
    scored = ScoredPairs(np.array([1.0, 0.0, 0.0]), np.array([0.2, 0.2, 0.1]), np.arange(3))
    assert (at(scored, 0.2).true_positives, at(scored, 0.2).false_positives) == (1, 1)


def test_nobody_is_right_as_often_as_users_take_no_part_and_its_difference_is_of_the_same_draws() -> None:
    scored = pairs()
    found = figures_at({"high": 0.999}, {"ranker": scored}, FEW)
    assert found.nobody.value == pytest.approx(1 - scored.redeemed_N.mean())
    none_said = found.rankers["ranker"][0]
    assert none_said.true_positives == none_said.false_positives == 0
    assert none_said.accuracy_over_nobody.model_dump() == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert none_said.metrics["precision"].value is None
    assert none_said.metrics["recall"].value == 0.0


def test_the_base_rate_is_of_windows_closed_before_the_period_and_no_later_outcome_moves_it() -> None:
    shop = world()
    before = base_rate(shop, TEST)
    assert before is not None
    assert before.closed
    # Campaigns start every 30 days and last 40: the sixth ends on day 190, before day 210.
    first_six = np.arange(len(shop.redeemed_N)) < 6 * 300
    assert before.num_pairs == first_six.sum()
    assert before.value == pytest.approx(shop.redeemed_N[first_six].mean())
    later = shop.with_outcomes(np.where(first_six, shop.redeemed_N, 1 - shop.redeemed_N).astype(np.float32))
    assert base_rate(later, TEST) == before


def test_without_a_closed_window_all_pairs_count_and_without_both_outcomes_there_is_none() -> None:
    shop = world()
    early = base_rate(shop, GATE)
    assert early is not None
    assert (early.closed, early.num_pairs) == (False, 300)
    assert base_rate(shop, START) is None
    nobody = replace(shop, redeemed_N=np.zeros_like(shop.redeemed_N))
    assert base_rate(nobody, AS_OF + timedelta(days=100)) is None
    assert resolved(("base_rate", 0.5), None) == {"0.5": 0.5}
    assert resolved((0.3, "base_rate"), early) == {"0.3": 0.3, "base_rate": early.value}


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder = tmp_path_factory.mktemp("candidates")
    folders = {name: candidate(folder / name, column=column) for column, name in enumerate(("new", "old"))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OWN_RANKERS, "reading", "judged_pairs:ReadingRanker")
        return compare(world(), folders, challenger="new", champion="old", rules=RULES)


def test_the_document_has_both_thresholds_for_every_ranker_in_both_periods(evaluation: Evaluation) -> None:
    for period in (evaluation.gate, evaluation.test):
        assert period is not None
        assert period.nobody is not None
        assert period.base_rate is not None
        assert period.nobody.value == pytest.approx(1 - period.num_positives / period.num_pairs)
        for ranker in period.rankers.values():
            assert [one.rule for one in ranker.at_thresholds] == ["base_rate", "0.5"]
            assert [one.threshold for one in ranker.at_thresholds] == [period.base_rate.value, 0.5]
    # The scores of the first column are the true probabilities: no threshold is right more often than one half.
    usual, half = evaluation.gate.rankers["new"].at_thresholds
    assert half.metrics["accuracy"].value > usual.metrics["accuracy"].value  # type: ignore[operator]
    assert half.metrics["recall"].value < usual.metrics["recall"].value  # type: ignore[operator]
    assert half.accuracy_over_nobody.low > 0  # type: ignore[operator]


def test_kubeflow_gets_the_confusion_matrix_and_the_figures(evaluation: Evaluation) -> None:
    measured = Measured(evaluation)
    names, matrix = measured.confusion_matrix
    usual = evaluation.gate.rankers["new"].at_thresholds[0]
    assert len(names) == 2
    assert np.sum(matrix) == evaluation.gate.num_pairs
    assert matrix[1] == [usual.false_negatives, usual.true_positives]
    assert measured.metrics["gate_challenger_f1_at_base_rate"] == usual.metrics["f1"].value
    assert measured.metrics["gate_challenger_threshold_at_base_rate"] == usual.threshold
    assert 0.5 < measured.metrics["test_nobody_accuracy"] < 1


def test_the_page_has_a_table_for_each_threshold_with_nobody_last(evaluation: Evaluation) -> None:
    tables = threshold_tables(evaluation.gate, ["new", "old"])
    assert len(tables) == 4, "for each threshold the metrics, and the numbers of pairs"
    for table in tables:
        assert str(table).index("nobody takes part") > str(table).rindex("old")
    older = evaluation.gate.model_copy(update={"nobody": None})
    assert threshold_tables(older, ["new", "old"]) == []


def test_a_threshold_is_a_rule_or_a_probability(tmp_path: Path) -> None:
    assert read_judgement(Path(__file__).parents[2] / "judgement.toml").report == Report()
    for wrong in ((), (0.0,), (1.5,), ("best_f1",)):
        with pytest.raises(ValidationError, match="thresholds"):
            Report(thresholds=wrong)  # type: ignore[arg-type]
