"""Next-item rankers serve as campaign rankers by pooling the scores of a campaign's items.

They do so after saving and loading, and for unknown users and items.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_examples import fit_ranker, random_catalogue, random_examples, random_histories, subset

from recommender.errors import BundleError, LabelError
from recommender.matching.affinity import AXES
from recommender.matching.examples import Examples, Labels
from recommender.matching.packed_history import Histories
from recommender.models.campaign import RANKERS, ranker_class
from recommender.models.campaign.item_pooling import pool, weights_and_strengths
from recommender.models.campaign.item_vocabulary import ItemVocabulary
from recommender.models.campaign.next_item_adapter import NextItemAdapter
from recommender.models.campaign.ranker import Ranker
from recommender.models.next_item import ITEM_RANKERS
from recommender.registry import bundle
from recommender.storage.manifest import write_manifest


def quick(name: str) -> dict[str, object]:
    """Hyperparameters that make a ranker small: one epoch, every item that was bought."""
    fields = ranker_class(name).Config.model_fields
    return {"campaign_min_lines": 1, **dict.fromkeys(fields.keys() & {"epochs", "iterations"}, 1)}


def fitted(name: str, examples: Examples, labels: Labels, **hyperparameters: object) -> NextItemAdapter:
    ranker = fit_ranker(name, examples, labels, **{**quick(name), **hyperparameters})
    assert isinstance(ranker, NextItemAdapter)
    return ranker


def two_tastes(seed: int = 0) -> tuple[Examples, Labels]:
    """Users buy one half of the items, and take up campaigns of that half with some noise."""
    rng = np.random.default_rng(seed)
    examples, labels = random_examples(seed, num_pairs=400, num_users=80)
    catalogue, histories = examples.catalogue, random_histories(rng, num_users=80)
    taste_U = rng.integers(0, 2, 80)
    users_T = np.repeat(np.repeat(np.arange(80), np.diff(histories.basket_offsets)), np.diff(histories.line_offsets))
    items_T = (rng.integers(1, 61, len(users_T)) + 60 * taste_U[users_T]).astype(np.int32)
    promoted = [rng.choice(60, 10, replace=False) + 1 + 60 * (row % 2) for row in range(len(catalogue.campaign_ids))]
    catalogue = replace(catalogue, campaign_items=np.concatenate([np.sort(rows) for rows in promoted]).astype(np.int32))
    mine_N = taste_U[examples.users_N] == examples.campaigns_N % 2
    redeemed_N = (rng.random(400) < np.where(mine_N, 0.7, 0.1)).astype(np.float32)
    histories = replace(histories, items_T=items_T)
    return replace(examples, catalogue=catalogue, histories=histories), replace(labels, redeemed_N=redeemed_N)


@pytest.fixture(scope="module")
def rules() -> NextItemAdapter:
    return fitted("rules", *two_tastes())


@pytest.mark.parametrize("name", list(ITEM_RANKERS))
def test_every_next_item_ranker_scores_campaigns_and_its_bundle_to_the_same_bits(name: str, tmp_path: Path) -> None:
    examples, labels = random_examples(num_pairs=120, num_users=25)
    ranker = fitted(name, examples, labels)
    p_N = ranker.score(examples).redeem_N
    assert ((p_N > 0) & (p_N < 1)).all()
    loaded = bundle.load(bundle.save(ranker, tmp_path / "bundle", lineage={}))
    assert loaded.name == name
    assert np.array_equal(loaded.score(examples).redeem_N, p_N)
    vectors_UD, lines = (ask(examples.histories, examples.catalogue) for ask in (ranker.encoded, ranker.next_lines))
    if not ranker.encodes_order:
        assert (vectors_UD, lines) == (None, None)
        return
    assert vectors_UD is not None
    assert lines is not None
    assert np.array_equal(loaded.inside.encoded(examples.histories, examples.catalogue), vectors_UD)
    assert len(vectors_UD) == len(lines.p_UV) == 25
    assert lines.p_UV.shape[1] == len(lines.values)
    assert lines.p_UV.sum(axis=1) == pytest.approx(np.ones(25), abs=1e-4)


def test_each_has_a_class_of_its_name_with_its_own_hyperparameters_and_the_adapters() -> None:
    assert set(ITEM_RANKERS) <= set(RANKERS)
    assert ranker_class("rules").name == "rules"
    assert ranker_class("rules") is ranker_class("rules")
    assert {"window", "campaign_min_lines"} <= set(ranker_class("rules").Config.model_fields)


def test_who_buys_a_campaigns_items_is_likelier_to_take_it_up(rules: NextItemAdapter) -> None:
    examples, labels = two_tastes(1)
    p_N, redeemed_N = rules.score(examples).redeem_N, labels.redeemed_N > 0
    auc = (p_N[redeemed_N][:, None] > p_N[~redeemed_N]).mean()
    assert auc > 0.7


def test_a_pair_scores_alike_alone_and_in_company(rules: NextItemAdapter) -> None:
    examples, _ = two_tastes(1)
    whole, alone = rules.score(examples).redeem_N, rules.score(subset(examples, slice(7, 8))).redeem_N
    np.testing.assert_allclose(alone, whole[7:8], rtol=2e-5)


@pytest.mark.parametrize("outcome", [0.0, 1.0, np.nan])
def test_labels_of_one_class_are_refused(outcome: float) -> None:
    examples, labels = random_examples(num_pairs=50)
    with pytest.raises(LabelError, match="redeemed"):
        fitted("rules", examples, replace(labels, redeemed_N=np.full_like(labels.redeemed_N, outcome)))


def test_the_item_ranker_may_choose_by_each_users_last_line() -> None:
    examples, labels = random_examples(num_pairs=120, num_users=25)
    ranker = fitted("rules", examples, labels, campaign_choose=True)
    assert np.isfinite(ranker.score(examples).redeem_N).all()


def test_a_catalogue_whose_rows_moved_changes_no_score(rules: NextItemAdapter) -> None:
    examples, _ = two_tastes(1)
    catalogue, histories = examples.catalogue, examples.histories
    size = len(catalogue.item_ids)
    new_of_old = np.concatenate([[0], np.arange(size - 1, 0, -1)])
    old_of_new = np.argsort(new_of_old)
    moved_items = [np.sort(new_of_old[catalogue.items_of(row)]) for row in range(len(catalogue.campaign_ids))]
    moved = replace(
        catalogue,
        version="moved",
        item_ids=tuple(catalogue.item_ids[row] for row in old_of_new),
        item_names=tuple(catalogue.item_names[row] for row in old_of_new),
        item_axes_VA=catalogue.item_axes_VA[old_of_new],
        campaign_items=np.concatenate(moved_items).astype(np.int32),
    )
    there = replace(histories, items_T=new_of_old[histories.items_T].astype(np.int32))
    before = rules.score(examples).redeem_N
    after = rules.score(replace(examples, catalogue=moved, histories=there)).redeem_N
    np.testing.assert_allclose(after, before, rtol=1e-5)


def test_a_shopper_without_history_and_a_campaign_of_unknown_items_are_scored(rules: NextItemAdapter) -> None:
    examples, _ = two_tastes(1)
    none = np.zeros(0, dtype=np.float32)
    nobody = Histories(np.array([0, 0]), np.array([0]), none.astype(np.int32), none, none)
    strange = random_catalogue(np.random.default_rng(5), num_items=40, num_campaigns=3)
    strange = replace(
        strange,
        version="strange",
        item_ids=("", *(f"new-{row}" for row in range(40))),
        axis_values=tuple(("", *(f"new-{value}" for value in axis[1:])) for axis in strange.axis_values),
    )
    asked = replace(
        subset(examples, slice(0, 3)),
        catalogue=strange,
        campaigns_N=np.array([0, 1, 2], dtype=np.int32),
        users_N=np.zeros(3, dtype=np.int32),
        histories=nobody,
    )
    p_N = rules.score(asked).redeem_N
    assert ((p_N > 0) & (p_N < 1)).all()


def test_known_items_of_the_same_product_type_stand_in_for_a_campaign_of_unknown_ones() -> None:
    catalogue = random_catalogue(np.random.default_rng(0))
    axis = AXES.index("product_type")
    promoted = catalogue.items_of(0)
    bought = np.setdiff1d(np.arange(1, len(catalogue.item_ids)), promoted).astype(np.int32)
    vocabulary = ItemVocabulary.of(catalogue, bought, min_lines=1)
    rows_R = vocabulary.rows_R(catalogue)
    found = vocabulary.campaign(catalogue, 0, rows_R)
    of_row = {int(rows_R[row]): catalogue.item_axes_VA[row, axis] for row in bought.tolist()}
    assert len(found)
    assert {of_row[row] for row in found.tolist()} <= set(catalogue.item_axes_VA[promoted, axis].tolist())


def test_sequences_hold_the_last_known_lines_in_the_order_of_baskets() -> None:
    catalogue = random_catalogue(np.random.default_rng(0))
    histories = Histories(
        basket_offsets=np.array([0, 2, 2, 3]),
        line_offsets=np.array([0, 2, 4, 5]),
        items_T=np.array([5, 7, 0, 9, 5], dtype=np.int32),
        age_days_B=np.array([3, 2, 1], dtype=np.float32),
        spend_B=np.ones(3, dtype=np.float32),
    )
    vocabulary = ItemVocabulary.of(catalogue, histories.items_T, min_lines=1)
    sequences = vocabulary.sequences(histories, vocabulary.rows_R(catalogue), most_events=2)
    assert [vocabulary.items.ids[row - 1] for row in sequences.items_T] == ["item-7", "item-9", "item-5"]
    assert sequences.offsets.tolist() == [0, 2, 2, 3]
    assert sequences.times_T is not None
    assert (np.diff(sequences.times_T[:2]) > 0).all()


@pytest.mark.parametrize("log_odds", [False, True])
def test_weights_sum_to_one_and_strengths_keep_the_order_of_scores(log_odds: bool) -> None:
    scores_UV = np.random.default_rng(1).normal(size=(6, 40)).astype(np.float32)
    scores_UV[:, 0] = -np.inf
    scores_UV[2, 5] = -np.inf
    scores_UV[5, 1:] = 0.25
    weights_UV, strengths_UV = weights_and_strengths(scores_UV, log_odds)
    np.testing.assert_allclose(weights_UV.sum(axis=1), 1, rtol=1e-5)
    assert np.array_equal(np.argsort(strengths_UV[0, 1:]), np.argsort(scores_UV[0, 1:]))
    assert weights_UV[2, 5] == 0
    assert np.isfinite(pool(weights_UV[:, 3:7], strengths_UV[:, 3:7])).all()


def test_a_vocabulary_of_another_fit_is_refused_on_load(rules: NextItemAdapter, tmp_path: Path) -> None:
    folder = bundle.save(rules, tmp_path / "bundle", lineage={})
    path = folder / "vocabulary.json"
    words = json.loads(path.read_text())
    path.write_text(json.dumps({**words, "item": words["item"][:-1]}))
    write_manifest(folder, kind="bundle")
    with pytest.raises(BundleError, match="vocabulary"):
        bundle.load(folder)


def test_an_item_ranker_of_another_fit_is_refused_on_load(rules: NextItemAdapter) -> None:
    examples, labels = two_tastes()
    other = fitted("rules", examples, labels, campaign_min_lines=8)
    mixed = {**rules.tensors(), **{name: v for name, v in other.tensors().items() if name.startswith("items.")}}
    with pytest.raises(BundleError, match=r"rules: .*vocabulary"):
        type(rules).restore(mixed, rules.config())


def test_a_bundle_whose_library_is_missing_says_what_to_install(
    rules: NextItemAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> type[Ranker[Any]]:
        raise ModuleNotFoundError("No module named 'scipy'", name="scipy")

    folder = bundle.save(rules, tmp_path / "bundle", lineage={})
    monkeypatch.setattr(bundle, "ranker_class", missing)
    with pytest.raises(BundleError, match="pip install scipy"):
        bundle.load(folder)
