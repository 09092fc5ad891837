"""The transformer reads looks between purchases: what they were about, of which kind, and in their order."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from feature_shop import AS_OF, Shop
from random_examples import fit_ranker, random_examples, random_looks, subset

from recommender.engine.context import FitContext
from recommender.features import build
from recommender.features.shoppers import shoppers_of
from recommender.features.training_set import TrainingSet, write_training_set
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Examples, Labels
from recommender.matching.examples import build as examples_of
from recommender.matching.look_baskets import LookBaskets
from recommender.matching.look_rules import KINDS, LEFT_OUT_DAYS, STRENGTH_UNIT
from recommender.matching.packed_history import pack_history
from recommender.matching.single_looks import ITEM, SINGLE
from recommender.models.campaign import Ranker
from recommender.models.campaign.encoder import batch_of
from recommender.models.campaign.interleaved import BOUGHT, Interleaved, interleaved
from recommender.models.campaign.transformer import TransformerRanker
from recommender.training.train import fit_at

QUICK: dict[str, Any] = {
    "pretrain_epochs": 2,
    "pretrain_min_steps": 1,
    "tune_epochs": 1,
    "width": 16,
    "hidden": 8,
    "min_lines": 0,
    "min_product_lines": 0,
}


def looking_examples() -> tuple[Examples, Labels]:
    examples, labels = random_examples()
    rng = np.random.default_rng(5)
    looks = random_looks(rng, examples.catalogue, num_users=len(examples.histories.basket_offsets) - 1)
    return replace(examples, histories=replace(examples.histories, looks=looks)), labels


@pytest.fixture(scope="module")
def ranker() -> TransformerRanker:
    fitted = fit_ranker("transformer", *looking_examples(), **QUICK)
    assert isinstance(fitted, TransformerRanker)
    return fitted


def test_purchases_and_looks_are_read_in_the_order_of_time() -> None:
    examples, _ = looking_examples()
    histories, catalogue = examples.histories, examples.catalogue
    read = interleaved(histories, catalogue, kinds=len(KINDS), baskets=4, looks=3)
    assert histories.looks is not None
    for user in range(len(histories.basket_offsets) - 1):
        own = slice(read.basket_offsets[user], read.basket_offsets[user + 1])
        bought = histories.age_days_B[slice(*histories.basket_offsets[user : user + 2])][-4:]
        looked = histories.looks.age_days_B[slice(*histories.looks.basket_offsets[user : user + 2])][-3:]
        assert read.age_days_B[own].tolist() == sorted([*bought, *looked], reverse=True)
        assert sorted(read.age_days_B[own][read.is_look_B[own]], reverse=True) == looked.tolist()
    sums_B = np.add.reduceat(read.shares_T, read.line_offsets[:-1])
    np.testing.assert_allclose(sums_B, 1, rtol=1e-6)
    of_look_T = np.repeat(read.is_look_B, np.diff(read.line_offsets))
    assert ((read.kinds_T != BOUGHT) == of_look_T).all()
    assert read.items_T.max() < len(catalogue.item_ids) + sum(len(values) for values in catalogue.axis_values[1:])


@pytest.mark.parametrize("changed", ["value_T", "kind_T", "axis_T"])
def test_a_score_depends_on_what_was_looked_at_and_how(ranker: TransformerRanker, changed: str) -> None:
    examples, _ = looking_examples()
    looks = examples.histories.looks
    assert looks is not None
    others = {"value_T": looks.value_T % 5 + 1, "kind_T": (looks.kind_T + 1) % 7, "axis_T": looks.axis_T * 0 + 1}
    bound = {"axis_T": {"value_T": looks.value_T % 12}}.get(changed, {})
    base = replace(examples, histories=replace(examples.histories, looks=replace(looks, **bound)))
    other = replace(looks, **bound, **{changed: others[changed].astype(getattr(looks, changed).dtype)})
    after = ranker.score(replace(examples, histories=replace(examples.histories, looks=other))).redeem_N
    has_looks_N = np.diff(looks.basket_offsets)[examples.users_N] > 0
    before = ranker.score(base).redeem_N
    assert (before != after)[has_looks_N].mean() > 0.9
    np.testing.assert_array_equal(before[~has_looks_N], after[~has_looks_N])


def test_a_ranker_that_reads_looks_comes_back_from_its_bundle_and_scores_pairs_alone(ranker: TransformerRanker) -> None:
    examples, _ = looking_examples()
    again = TransformerRanker.restore(ranker.tensors(), ranker.config())
    scored = ranker.score(examples).redeem_N
    np.testing.assert_array_equal(again.score(examples).redeem_N, scored)
    np.testing.assert_array_equal(again.score(subset(examples, slice(7, 8))).redeem_N, scored[7:8])
    # Users of a shop that has lost its looks, and a bundle of one that had none.
    without = replace(examples, histories=replace(examples.histories, looks=None))
    assert np.isfinite(ranker.score(without).redeem_N).all()
    plain = fit_ranker("transformer", *random_examples(), **QUICK)
    assert "look_kinds" not in plain.config()
    expected = plain.score(without).redeem_N
    np.testing.assert_array_equal(plain.score(examples).redeem_N, expected)
    config = plain.config()
    older = {**config, "hyper": {name: value for name, value in config["hyper"].items() if name != "look_baskets"}}
    np.testing.assert_array_equal(TransformerRanker.restore(plain.tensors(), older).score(examples).redeem_N, expected)


def test_without_days_to_read_the_weights_are_those_of_a_shop_without_looks() -> None:
    blind = fit_ranker("transformer", *looking_examples(), **QUICK, look_baskets=0)
    plain = fit_ranker("transformer", *random_examples(), **QUICK)
    assert {name: value.tobytes() for name, value in blind.tensors().items()} == {
        name: value.tobytes() for name, value in plain.tensors().items()
    }


def test_a_purchase_is_predicted_from_neither_itself_nor_looks_of_its_last_day(ranker: TransformerRanker) -> None:
    import torch

    examples, _ = looking_examples()
    ranker.score(examples)
    read = ranker.network.read(examples.histories, examples.catalogue, whole=True)
    assert isinstance(read, Interleaved)
    user = int(np.argmax(np.diff(read.basket_offsets)))
    first, end = read.basket_offsets[user : user + 1], read.basket_offsets[user + 1 : user + 2]
    # The last three are a look long before, a look shortly before, and the purchase.
    ages_B, is_look_B = read.age_days_B.copy(), read.is_look_B.copy()
    last = end[0] - 1
    is_look_B[last - 2 : last + 1] = [True, True, False]
    ages_B[last - 2 : last + 1] = [LEFT_OUT_DAYS + 0.1, LEFT_OUT_DAYS - 0.1, 0.0]
    staged = replace(read, age_days_B=ages_B, is_look_B=is_look_B)
    encoder = ranker.network.double().encoder

    def predicting(basket: int) -> Any:
        """The state that predicts the last basket, where another basket has other items."""
        items_T = staged.items_T.copy()
        lines = slice(int(staged.line_offsets[basket]), int(staged.line_offsets[basket + 1]))
        items_T[lines] = items_T[lines] % 90 + 3
        batch = batch_of(replace(staged, items_T=items_T), first, end, whole=True)
        assert batch.looks is not None
        with torch.no_grad():
            states_BLD = encoder(encoder.pooled(ranker._vectors_VD, batch), batch.facts_BLX)
        return states_BLD.reshape(-1, states_BLD.shape[-1])[batch.looks.asked[-1]]

    torch.testing.assert_close(predicting(last), predicting(last - 1))
    assert not torch.equal(predicting(last), predicting(last - 2))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingSet, TrainingSet]:
    """The training set of a shop, and of the same shop whose views do not say what was viewed."""
    folder = tmp_path_factory.mktemp("looks")
    shop = Shop.generate(folder / "world")
    events = shop.frames["events"]
    blank = pc.if_else(pc.equal(events["kind"], "view"), pa.scalar(None, pa.string()), events["item_id"])
    blanked = events.set_column(events.column_names.index("item_id"), "item_id", blank)

    def made(name: str, shop: Shop) -> TrainingSet:
        tables = shop.write(folder / name / "tables")
        features = build(tables, folder / name / "features", as_of=AS_OF, facts=False)
        users, pairs = (pq.read_table(features / f"{table}.parquet") for table in ("users", "pairs"))
        catalogue = Catalogue.load(features / "catalogue")
        return TrainingSet.open(write_training_set(users, pairs, catalogue, tables, folder / name / "set", as_of=AS_OF))

    return made("whole", shop), made("blanked", Shop({**shop.frames, "events": blanked}))


@pytest.fixture(scope="module")
def fitted(sets: tuple[TrainingSet, TrainingSet]) -> Ranker[Any]:
    config = TransformerRanker.Config.parse(QUICK, owner="transformer")
    return fit_at(TransformerRanker, sets[0], AS_OF, config, FitContext())


def test_blanking_the_items_of_views_changes_what_the_transformer_says_of_a_campaign(
    sets: tuple[TrainingSet, TrainingSet], fitted: Ranker[Any]
) -> None:
    whole, blanked = sets
    mask = whole.decided_in(datetime(2024, 5, 1, tzinfo=UTC), None)
    pairs = whole.examples(mask)
    # The same features of affinity: only the history differs.
    unseen = replace(pairs, histories=blanked.examples(mask).histories)
    before, after = fitted.score(pairs).redeem_N, fitted.score(unseen).redeem_N
    assert (before != after).mean() > 0.5


def test_a_view_a_minute_ago_changes_the_scores_of_a_shopper_who_never_bought(
    sets: tuple[TrainingSet, TrainingSet], fitted: Ranker[Any]
) -> None:
    catalogue = sets[0].catalogue
    rules = catalogue.look_rules
    assert rules is not None
    shopper = shoppers_of(pq.read_table(sets[0].folder / "shoppers.parquet"))[0]
    view = (
        KINDS.index("view"),
        ITEM,
        int(catalogue.items_of(0)[0]),
        STRENGTH_UNIT,
        shopper.feature_time_us // 10**6 - 60,
    )
    viewed = LookBaskets.none().with_looks(np.array([view], dtype=SINGLE), rules)
    none = np.zeros(0)
    nothing = pack_history(none, none, none, none, catalogue.taxonomy_version)
    # For a campaign that is over nothing can come any more, whatever was viewed.
    campaigns = np.flatnonzero(catalogue.campaign_ends_C > shopper.feature_time_us)
    assert len(campaigns) > 2

    def scores(history: bytes) -> Any:
        moments_us = np.full(len(campaigns), shopper.feature_time_us)
        asked = examples_of([replace(shopper, history=history)], campaigns * 0, campaigns, catalogue, moments_us)
        return fitted.score(asked).redeem_N

    assert (scores(nothing) != scores(nothing + viewed.pack())).all()


def test_a_corpus_knows_the_looks_of_its_users_strictly_before_the_boundary(
    sets: tuple[TrainingSet, TrainingSet],
) -> None:
    early, late = (sets[0].corpus(moment) for moment in (datetime(2024, 4, 1, tzinfo=UTC), AS_OF))
    assert early.looks is not None
    assert late.looks is not None
    assert 0 < len(early.looks.age_days_B) < len(late.looks.age_days_B)
    for corpus in (early, late):
        assert corpus.looks is not None
        assert len(corpus.looks.basket_offsets) == len(corpus.basket_offsets)
        assert (corpus.looks.age_days_B > 0).all()
