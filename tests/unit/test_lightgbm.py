"""LightGBM as a ranker: the same trees from the same pairs, saved as text, explained by sums."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_examples import fit_ranker, random_examples

from recommender.engine.context import FitContext
from recommender.errors import BundleError
from recommender.models.campaign.ranker import Ranker
from recommender.registry import bundle


def fitted(seed: int = 17, **hyperparameters: object) -> Ranker[Any]:
    examples, labels = random_examples()
    return fit_ranker("lightgbm", examples, labels, context=FitContext(seed=seed), **hyperparameters)


def test_the_same_pairs_and_seed_give_the_same_trees() -> None:
    trees = [fitted(seed).tensors()["trees"] for seed in (17, 17, 18)]
    assert np.array_equal(trees[0], trees[1])
    assert not np.array_equal(trees[0], trees[2])


def test_a_loaded_bundle_scores_to_the_same_bits(tmp_path: Path) -> None:
    examples, _ = random_examples(1)
    ranker = fitted()
    loaded = bundle.load(bundle.save(ranker, tmp_path / "bundle", lineage={}), feature_names=examples.feature_names)
    assert np.array_equal(loaded.score(examples).redeem_N, ranker.score(examples).redeem_N)


def test_contributions_add_up_to_the_log_odds() -> None:
    examples, _ = random_examples(1)
    ranker = fitted()
    added_NF = ranker.contributions(examples)
    assert added_NF is not None
    assert added_NF.shape == examples.features_NF.shape
    p_N = ranker.score(examples).redeem_N.astype(np.float64)
    rest_N = np.log(p_N / (1 - p_N)) - added_NF.sum(axis=1)
    np.testing.assert_allclose(rest_N, rest_N[0], atol=1e-3)


def test_more_rounds_learn_more_of_the_training_pairs() -> None:
    examples, labels = random_examples()
    losses = []
    for rounds in (5, 200):
        p_N = fitted(rounds=rounds).score(examples).redeem_N
        losses.append(-np.log(np.where(labels.redeemed_N > 0, p_N, 1 - p_N)).mean())
    assert losses[1] < 0.8 * losses[0]


def test_other_features_than_those_of_the_training_are_refused() -> None:
    examples, _ = random_examples(1)
    with pytest.raises(BundleError, match="social__d"):
        fitted().score(
            replace(examples, feature_names=(*examples.feature_names[:3], "new", *examples.feature_names[4:]))
        )


def test_trees_of_another_schema_are_refused() -> None:
    ranker = fitted()
    config = {**ranker.config(), "feature_names": ["only", "two"]}
    with pytest.raises(BundleError, match=r"lightgbm: .*\b6\b.*\b2\b"):
        type(ranker).restore(ranker.tensors(), config)
