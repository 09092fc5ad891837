"""Every ranker: learns what is there, scores the same alone and in company, and says why."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from random_examples import fit_ranker, random_catalogue, random_examples, random_histories, subset

from recommender.engine.context import FitContext
from recommender.errors import DeviceError, LabelError, TrainingError
from recommender.matching.examples import Examples, Labels
from recommender.models.campaign import OWN_RANKERS
from recommender.models.campaign.ranker import Ranker

QUICK: dict[str, dict[str, Any]] = {
    "transformer": {"pretrain_epochs": 2, "pretrain_min_steps": 1, "tune_epochs": 1, "width": 16, "hidden": 8},
    "rate_rule": {"rate_feature": "behaviour__a"},
}
OWN = list(OWN_RANKERS)
"""Next-item rankers, which are campaign rankers too, have separate tests."""
LEARNING = [name for name in OWN if name != "rate_rule"]


def fitted(name: str) -> Ranker[Any]:
    return fit_ranker(name, *random_examples(), **QUICK.get(name, {}))


@pytest.fixture(scope="module", params=OWN)
def ranker(request: pytest.FixtureRequest) -> Ranker[Any]:
    return fitted(request.param)


def one_day_later(examples: Examples) -> Examples:
    """The same pairs after an item of a new category and a new department came, which is a new feature, too."""
    catalogue = examples.catalogue
    axes_VA = np.concatenate([catalogue.item_axes_VA, [[len(values) for values in catalogue.axis_values]]])
    later = replace(
        catalogue,
        version="later",
        item_ids=(*catalogue.item_ids, "!new"),
        item_names=(*catalogue.item_names, "!new"),
        item_axes_VA=axes_VA.astype(np.int32),
        axis_values=tuple((*values, "!new") for values in catalogue.axis_values),
        item_popularity_V=np.append(catalogue.item_popularity_V, np.float32(9)),
    )
    names = examples.feature_names
    return replace(
        examples,
        catalogue=later,
        features_NF=np.insert(examples.features_NF, 2, 7.0, axis=1),
        feature_names=(*names[:2], "interest__department_new", *names[2:]),
    )


def test_a_ranker_serves_with_the_catalogue_and_the_features_of_a_later_day(ranker: Ranker[Any]) -> None:
    examples, _ = random_examples(1)
    later = one_day_later(examples)
    np.testing.assert_array_equal(ranker.score(later).redeem_N, ranker.score(examples).redeem_N)
    (score_N, added), (later_N, later_added) = ranker.ranked(examples), ranker.ranked(later)
    np.testing.assert_array_equal(later_N, score_N)
    added_NF, later_NF = added(np.arange(9)), later_added(np.arange(9))
    if added_NF is None or later_NF is None:
        assert added_NF is later_NF
    else:
        np.testing.assert_array_equal(later_NF, np.insert(added_NF, 2, 0.0, axis=1))


def test_scores_are_probabilities_and_money_is_finite(ranker: Ranker[Any]) -> None:
    examples, _ = random_examples(1)
    scores = ranker.score(examples)
    assert scores.redeem_N.dtype == np.float32
    assert ((scores.redeem_N > 0) & (scores.redeem_N < 1)).all()
    if scores.spend_N is not None and scores.excess_N is not None:
        assert np.isfinite(scores.excess_N).all()
        assert (scores.spend_N >= 0).all()


def test_the_same_pairs_get_the_same_bits(ranker: Ranker[Any]) -> None:
    examples, _ = random_examples(1)
    first, second = ranker.score(examples), ranker.score(examples)
    assert np.array_equal(first.redeem_N, second.redeem_N)


def test_a_pair_scores_alike_alone_and_in_company(ranker: Ranker[Any]) -> None:
    examples, _ = random_examples(1)
    whole_N = ranker.score(examples).redeem_N
    alone_N = [ranker.score(subset(examples, slice(row, row + 1))).redeem_N[0] for row in range(0, len(whole_N), 7)]
    np.testing.assert_allclose(alone_N, whole_N[::7], rtol=0, atol=1e-7)


def test_a_restored_ranker_scores_to_the_same_bits(ranker: Ranker[Any]) -> None:
    examples, _ = random_examples(1)
    again = type(ranker).restore(ranker.tensors(), ranker.config())
    assert np.array_equal(again.score(examples).redeem_N, ranker.score(examples).redeem_N)


@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.parametrize("outcome", [0.0, 1.0, np.nan])
def test_labels_of_one_class_are_refused(name: str, outcome: float) -> None:
    examples, labels = random_examples()
    alike = replace(labels, redeemed_N=np.full_like(labels.redeemed_N, outcome))
    with pytest.raises(LabelError, match="redeemed"):
        fit_ranker(name, examples, alike)


@pytest.mark.parametrize("name", ["logistic", "lightgbm", "transformer"])
def test_what_the_features_say_is_learned(name: str) -> None:
    examples, labels = random_examples(2)
    p_N = fitted(name).score(examples).redeem_N
    redeemed = labels.redeemed_N > 0
    auc = (p_N[redeemed][:, None] > p_N[~redeemed]).mean()
    assert auc > 0.75


def test_contributions_of_the_logistic_ranker_add_up_to_its_log_odds() -> None:
    examples, _ = random_examples(1)
    ranker = fitted("logistic")
    added_NF = ranker.contributions(examples)
    assert added_NF is not None
    assert added_NF.shape == examples.features_NF.shape
    p_N = ranker.score(examples).redeem_N.astype(np.float64)
    log_odds_N = np.log(p_N / (1 - p_N))
    rest_N = log_odds_N - added_NF.sum(axis=1)
    np.testing.assert_allclose(rest_N, rest_N[0], atol=1e-3)


def test_a_request_gets_the_bits_of_score_and_contributions(ranker: Ranker[Any]) -> None:
    examples, _ = random_examples(1)
    places = np.array([7, 0, 3])
    redeem_N, contributions = ranker.ranked(examples)
    assert redeem_N.tobytes() == ranker.score(examples).redeem_N.tobytes()
    expected = ranker.contributions(examples.take(places))
    found = contributions(places)
    assert (found is None) == (expected is None)
    assert found is None or expected is None or found.tobytes() == expected.tobytes()


def test_a_missing_value_and_an_infinite_one_are_the_same_to_the_logistic_ranker() -> None:
    examples, _ = random_examples(1)
    ranker, features_NF = fitted("logistic"), examples.features_NF.copy()
    features_NF[:, 3] = np.nan
    missing = ranker.score(replace(examples, features_NF=features_NF)).redeem_N
    infinite_NF = features_NF.copy()
    infinite_NF[:, 3] = np.inf
    assert np.array_equal(ranker.score(replace(examples, features_NF=infinite_NF)).redeem_N, missing)


def test_money_that_is_never_known_is_not_predicted() -> None:
    examples, labels = random_examples()
    nothing = np.full_like(labels.spend_N, np.nan)
    unknown = Labels(redeemed_N=labels.redeemed_N, spend_N=nothing, excess_N=nothing)
    ranker = fit_ranker("logistic", examples, unknown)
    assert ranker.score(examples).spend_N is None


def test_a_user_without_history_and_a_campaign_of_unknown_items_are_scored() -> None:
    ranker, (examples, _) = fitted("transformer"), random_examples(1)
    rng = np.random.default_rng(5)
    other = random_catalogue(rng, num_items=40, num_campaigns=3)
    values = tuple(("", *(f"new-{value}" for value in axis[1:])) for axis in other.axis_values)
    empty = random_histories(rng, num_users=1)
    empty = replace(
        empty,
        basket_offsets=np.array([0, 0]),
        line_offsets=np.array([0]),
        items_T=empty.items_T[:0],
        age_days_B=empty.age_days_B[:0],
        spend_B=empty.spend_B[:0],
    )
    strange = replace(
        subset(examples, slice(0, 3)),
        catalogue=replace(other, axis_values=values, version="strange"),
        campaigns_N=np.array([0, 1, 2], dtype=np.int32),
        users_N=np.zeros(3, dtype=np.int32),
        histories=empty,
    )
    assert np.isfinite(ranker.score(strange).redeem_N).all()


def test_a_catalogue_whose_indices_moved_changes_no_score() -> None:
    ranker, (examples, _) = fitted("transformer"), random_examples(1)
    catalogue = examples.catalogue
    moved_axes, moved_values = catalogue.item_axes_VA.copy(), list(catalogue.axis_values)
    for axis, values in enumerate(catalogue.axis_values):
        moved_axes[:, axis] = np.where(moved_axes[:, axis] > 0, len(values) - moved_axes[:, axis], 0)
        moved_values[axis] = ("", *values[:0:-1])
    moved = replace(catalogue, item_axes_VA=moved_axes, axis_values=tuple(moved_values), version="moved")
    before, after = ranker.score(examples), ranker.score(replace(examples, catalogue=moved))
    np.testing.assert_allclose(after.redeem_N, before.redeem_N, rtol=1e-5)


def test_the_next_basket_does_not_know_itself() -> None:
    import torch

    from recommender.models.campaign.encoder import batch_of
    from recommender.models.campaign.transformer import TransformerRanker

    ranker, (examples, _) = fitted("transformer"), random_examples(1)
    assert isinstance(ranker, TransformerRanker)
    ranker.score(examples)
    histories = examples.histories
    user = int(np.argmax(np.diff(histories.basket_offsets)))
    start, end = histories.basket_offsets[user : user + 1], histories.basket_offsets[user + 1 : user + 2]
    items_T = histories.items_T.copy()
    last = slice(int(histories.line_offsets[end[0] - 1]), int(histories.line_offsets[end[0]]))
    items_T[last] = items_T[last] % 100 + 7
    encoder = ranker.network.double().encoder
    with torch.no_grad():
        states = [
            encoder(encoder.pooled(ranker._vectors_VD, batch), batch.facts_BLX)
            for batch in (
                batch_of(one, start, end, whole=True) for one in (histories, replace(histories, items_T=items_T))
            )
        ]
    torch.testing.assert_close(states[0][:, :-1], states[1][:, :-1])
    assert not torch.equal(states[0][:, -1], states[1][:, -1])


def test_a_basket_whose_spend_is_no_number_stops_training_and_is_named() -> None:
    examples, labels = random_examples()
    spend_B = examples.histories.spend_B.copy()
    spend_B[5] = np.nan
    corpus = replace(examples.histories, spend_B=spend_B)
    with pytest.raises(TrainingError, match=r"pretrain, step \d+ of \d+: .*Column 'spend' has nan"):
        fit_ranker("transformer", examples, labels, corpus=corpus, **QUICK["transformer"])


def test_an_absent_gpu_is_a_device_error() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    examples, labels = random_examples()
    with pytest.raises(DeviceError, match="GPU"):
        fit_ranker("transformer", examples, labels, context=FitContext(device="cuda"))


def test_the_logistic_ranker_is_loaded_without_torch_sklearn_or_pandas() -> None:
    code = (
        "import sys; from recommender.registry import bundle;"
        "from recommender.models.campaign import ranker_class; ranker_class('logistic');"
        "print([name for name in ('torch', 'sklearn', 'pandas', 'duckdb', 'ibis') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
