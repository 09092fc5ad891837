from dataclasses import replace

import numpy as np
import pytest
from test_cold_items import shop

from recommender.engine.context import FitContext
from recommender.errors import SettingsError
from recommender.evaluation.cold_items import cold_split, judge_cold
from recommender.models.next_item import item_ranker_class
from recommender.models.next_item.content_rules import ContentRules
from recommender.models.next_item.rules import Rules

TASTES = ("green tea", "motor oil", "dog food", "chocolate bar", "shampoo", "light bulb")


def by_text(sequences):
    """The same shop, its tastes told by words instead of attributes."""
    items = sequences.items
    texts = tuple(f"{TASTES[row % 6]} no. {row}" for row in range(items.num))
    items = replace(items, attribute_offsets=None, attributes_P=None, num_attributes=0, texts=texts)
    return replace(sequences, items=items)


def fit(sequences, ranker=ContentRules, **given):
    config = ranker.Config.parse(given, owner=ranker.name)
    return ranker.fit(sequences, held_out_U=None, config=config, context=FitContext(seed=1))


def test_attributes_alone_find_cold_items_that_plain_rules_never_find():
    split = cold_split(shop(items=84), 0.25, seed=1)
    assert judge_cold(fit(split.train, Rules), split).among_all.recall_U(10).mean() == 0
    found = judge_cold(fit(split.train), split)
    assert found.among_cold.recall_U(5).mean() > 0.8
    assert found.among_all.recall_U(10).mean() > 0.2


def test_texts_alone_find_cold_items(tmp_path):
    split = cold_split(by_text(shop(items=84)), 0.25, seed=1)
    found = judge_cold(fit(split.train, text_cache=str(tmp_path)), split)
    assert found.among_cold.recall_U(5).mean() > 0.7
    blind = judge_cold(fit(split.train, text=False), split)
    assert blind.among_all.recall_U(10).mean() == 0


def test_warm_items_are_scored_as_by_the_rules():
    split = cold_split(shop(items=84), 0.25, seed=1)
    plain, borrowed = fit(split.train, Rules).score(split.train), fit(split.train).score(split.train)
    warm = np.flatnonzero(np.bincount(split.train.items_T, minlength=len(split.cold_V)))
    np.testing.assert_allclose(borrowed[:, warm], plain[:, warm], rtol=1e-5)


def test_a_restored_ranker_scores_cold_items_without_an_encoder(tmp_path, monkeypatch):
    from recommender.sequences import text

    split = cold_split(by_text(shop(items=84)), 0.25, seed=1)
    ranker = fit(split.train)
    monkeypatch.setattr(text, "_load", None)
    again = item_ranker_class("content_rules").restore(ranker.tensors(), ranker.config())
    np.testing.assert_array_equal(again.score(split.histories), ranker.score(split.histories))


def test_items_without_content_and_shops_without_cold_items_are_ranked_by_the_rules():
    sequences = shop()
    bare = replace(
        sequences, items=replace(sequences.items, attribute_offsets=None, attributes_P=None, num_attributes=0)
    )
    np.testing.assert_array_equal(fit(bare).score(bare), fit(bare, Rules).score(bare))
    np.testing.assert_array_equal(fit(sequences).score(sequences), fit(sequences, Rules).score(sequences))


@pytest.mark.parametrize("described", [True, False])
def test_an_encoder_that_is_not_there_is_named_whether_it_is_needed_or_not(described):
    sequences = by_text(shop(items=84)) if described else shop(items=84)
    with pytest.raises(SettingsError, match="/nowhere/encoder"):
        fit(cold_split(sequences, 0.25, seed=1).train if described else sequences, text="/nowhere/encoder")
