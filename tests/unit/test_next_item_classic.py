"""Classic next-item rankers, rules, SASRec and the flagship: each learns what was planted, keeps its bits, and has a cold path."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from recommender.engine.context import FitContext
from recommender.errors import BundleError, TrainingError
from recommender.evaluation.leave_one_out import judge
from recommender.models.next_item import ITEM_RANKERS, ItemRanker, item_defaults_of, item_ranker_class
from recommender.sequences import Items, LeaveOneOut, Sequences

CLUBS, SIZE, USERS = 4, 10, 200
SMALL: dict[str, dict[str, Any]] = {
    "svd": {"width": 6},
    "als": {"width": 8, "sweeps": 8},
    "bpr": {"width": 8, "epochs": 150},
    "factorization_machine": {"width": 16, "epochs": 25, "batch": 128, "rate": 0.02, "dropout": 0.0},
    "sasrec": {"width": 16, "epochs": 20, "tokens": 256, "dropout": 0.1, "length": 10, "rate": 0.01},
    "fusion": {"width": 16, "epochs": 12, "tokens": 256, "dropout": 0.1, "length": 10, "rate": 0.01, "members": 2},
}
OF_CLUBS = ("user_cf", "item_cf", "content", "svd", "als", "bpr", "factorization_machine", "rules", "sasrec", "fusion")


@cache
def clubs() -> Sequences:
    """Users of four clubs with ten items each, in any order; an item's attribute is its club, the last item is never met."""
    rng = np.random.default_rng(4)
    items_T = np.concatenate([club * SIZE + 1 + rng.permutation(SIZE)[:7] for club in np.arange(USERS) % CLUBS])
    num = CLUBS * SIZE + 1
    return Sequences(
        items=Items(
            tuple(f"i{row:03}" for row in range(1, num + 1)),
            np.concatenate([[0], np.arange(num + 1)]),
            np.append(np.repeat(np.arange(CLUBS), SIZE), 0).astype(np.int32),
            CLUBS,
        ),
        offsets=np.arange(USERS + 1) * 7,
        items_T=items_T.astype(np.int32),
    )


@cache
def fitted(name: str) -> ItemRanker:
    split = LeaveOneOut.of(clubs())
    ranker = item_ranker_class(name)
    return ranker.fit(split.train, held_out_U=split.validation_U, config=SMALL.get(name, {}), context=FitContext())


@pytest.mark.parametrize("name", OF_CLUBS)
def test_a_club_s_items_are_found_far_better_than_by_popularity(name: str) -> None:
    split = LeaveOneOut.of(clubs())
    popular = judge(fitted("item_popularity"), split.train_and_validation, split.test_U).summary()["ndcg@10"]
    found = judge(fitted(name), split.train_and_validation, split.test_U).summary()["ndcg@10"]
    assert popular < 0.25
    assert found > 0.4


@pytest.mark.parametrize("name", [*OF_CLUBS, "item_popularity"])
def test_a_restored_ranker_scores_the_same_bits(name: str) -> None:
    histories, ranker = LeaveOneOut.of(clubs()).train, fitted(name)
    again = item_ranker_class(name).restore(ranker.tensors(), ranker.config())
    scores = ranker.score(histories)
    assert scores.shape == (USERS, histories.items.num + 1)
    assert np.isneginf(scores[:, 0]).all()
    assert np.array_equal(again.score(histories), scores)


@pytest.mark.parametrize("name", ["user_cf", "svd", "als", "bpr", "factorization_machine", "fusion"])
def test_the_same_seed_fits_the_same_bits(name: str) -> None:
    split = LeaveOneOut.of(clubs())
    again = item_ranker_class(name).fit(
        split.train, held_out_U=split.validation_U, config=SMALL.get(name, {}), context=FitContext()
    )
    assert np.array_equal(again.score(split.train), fitted(name).score(split.train))


@pytest.mark.parametrize("name", [*OF_CLUBS, "item_popularity"])
def test_a_user_without_events_gets_a_ranking_and_no_error(name: str) -> None:
    nobody = Sequences(clubs().items, np.zeros(2, dtype=np.int64), np.zeros(0, dtype=np.int32))
    scores = fitted(name).score(nobody)
    assert np.isfinite(scores[0, 1:]).all()
    assert scores[0, 1:].std() > 0


@pytest.mark.parametrize("name", ["als", "bpr", "svd", "item_cf", "fusion"])
def test_a_user_of_items_that_nobody_took_gets_an_order(name: str) -> None:
    items = clubs().items
    stranger = Sequences(items, np.array([0, 1]), np.array([items.num], dtype=np.int32))
    assert fitted(name).score(stranger)[0, 1:].std() > 0


@pytest.mark.parametrize(
    ("name", "dials", "lower"),
    [("bpr", {"rate": 1e9, "epochs": 2}, "a lower rate"), ("als", {"confidence": 1e38}, "a lower confidence")],
)
def test_factors_that_diverge_are_a_training_error(name: str, dials: dict[str, float], lower: str) -> None:
    with pytest.raises(TrainingError, match=f"{name}: .*{lower}"):
        item_ranker_class(name).fit(LeaveOneOut.of(clubs()).train, held_out_U=None, config=dials, context=FitContext())


@pytest.mark.parametrize("name", [*OF_CLUBS, "item_popularity"])
def test_events_of_another_vocabulary_are_refused(name: str) -> None:
    others = Sequences(Items(tuple("abc")), np.array([0, 1]), np.array([2], dtype=np.int32))
    with pytest.raises(BundleError, match=r"the vocabulary has 3 items, the weights rank 41"):
        fitted(name).score(others)


def test_an_als_user_is_solved_as_implicit_solves_it() -> None:
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    from recommender.models.next_item.linear import profiles

    train = LeaveOneOut.of(clubs()).train
    dials = {**item_defaults_of("als"), "width": 8, "half_life": 0.0}
    ours = item_ranker_class("als").fit(train, held_out_U=None, config=dials, context=FitContext())
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=8, regularization=dials["regularization"], alpha=dials["confidence"], num_threads=1
        )
        model.item_factors = ours.item_vectors()
        theirs = model.recalculate_user(np.arange(USERS), profiles(train))
    assert ours.user_vectors(train) == pytest.approx(theirs, abs=1e-3)


def test_svd_of_almost_nothing_is_popularity() -> None:
    alone = clubs().take(np.array([0]))
    scores = item_ranker_class("svd").fit(alone, held_out_U=None, config={}, context=FitContext()).score(alone)
    assert np.isfinite(scores[0, 1:]).all()


@pytest.mark.parametrize("name", ["svd", "als", "bpr"])
def test_factors_give_no_order_among_items_that_nobody_took(name: str) -> None:
    known = clubs()
    items = Items(known.items.ids + tuple(f"new {number}" for number in range(30)))
    histories = Sequences(items, known.offsets, known.items_T)
    ranker = item_ranker_class(name).fit(histories, held_out_U=None, config=SMALL[name], context=FitContext())
    scores = ranker.score(histories)
    assert (scores[:, -30:] == scores[:, -1:]).all()


def test_content_finds_an_item_that_nobody_ever_had() -> None:
    split = LeaveOneOut.of(clubs())
    scores = fitted("content").score(split.train.take(np.arange(CLUBS)))
    cold = scores[:, CLUBS * SIZE + 1]
    assert cold[0] > 0.5
    assert (cold[1:] == 0).all()


def test_content_without_attributes_says_so() -> None:
    walk = Sequences(Items(("a", "b")), np.array([0, 2]), np.array([1, 2], dtype=np.int32))
    with pytest.warns(UserWarning, match="content: no item has an attribute, so it ranks by popularity alone"):
        item_ranker_class("content").fit(walk, held_out_U=None, config={}, context=FitContext())


def test_a_refit_with_what_was_chosen_needs_no_held_out_item() -> None:
    split, ranker = LeaveOneOut.of(clubs()), fitted("fusion")
    chosen = ranker.chosen()
    again = item_ranker_class("fusion").fit(
        split.train_and_validation, held_out_U=None, config={**SMALL["fusion"], **chosen}, context=FitContext()
    )
    assert again.config()["gate"] == ranker.config()["gate"]
    assert judge(again, split.train_and_validation, split.test_U).summary()["ndcg@10"] > 0.4


def test_every_ranker_of_the_table_has_its_dials() -> None:
    for name in ITEM_RANKERS:
        assert item_ranker_class(name).name == name
        assert isinstance(item_defaults_of(name), dict)
    with pytest.raises(BundleError, match="no next-item ranker is called 'magic'; there are item_popularity"):
        item_ranker_class("magic")
