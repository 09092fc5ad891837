"""Classic next-item rankers, rules, SASRec and the flagship: each learns a planted pattern and scores new users too."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.errors import BundleError, TrainingError
from recommender.evaluation.leave_one_out import judge
from recommender.models.next_item import ITEM_RANKERS, ItemRanker, item_ranker_class
from recommender.models.next_item.als import ALS, ALSConfig
from recommender.models.next_item.content import Content, ContentConfig
from recommender.models.next_item.svd import SVD, SVDConfig
from recommender.sequences import Items, LeaveOneOut, Sequences

pytestmark = pytest.mark.usefixtures("quick_gate")

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
    """Users of four clubs of ten items, in any order. An item's attribute is its club. The last item has no event."""
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


def fit(
    name: str, sequences: Sequences, given: dict[str, Any], held_out_U: NDArray[np.int32] | None = None
) -> ItemRanker[Any]:
    cls = item_ranker_class(name)
    config = cls.Config.parse(given, owner=name)
    return cls.fit(sequences, held_out_U=held_out_U, config=config, context=FitContext())


@cache
def fitted(name: str) -> ItemRanker[Any]:
    split = LeaveOneOut.of(clubs())
    return fit(name, split.train, SMALL.get(name, {}), split.validation_U)


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
    again = fit(name, split.train, SMALL.get(name, {}), split.validation_U)
    assert np.array_equal(again.score(split.train), fitted(name).score(split.train))


@pytest.mark.parametrize("name", [*OF_CLUBS, "item_popularity"])
def test_a_user_without_events_gets_a_ranking_and_no_error(name: str) -> None:
    nobody = Sequences(clubs().items, np.zeros(2, dtype=np.int64), np.zeros(0, dtype=np.int32))
    scores = fitted(name).score(nobody)
    assert np.isfinite(scores[0, 1:]).all()
    assert scores[0, 1:].std() > 0


@pytest.mark.parametrize("name", ["als", "bpr", "svd", "item_cf", "fusion"])
def test_a_user_of_items_without_other_events_gets_a_ranking(name: str) -> None:
    items = clubs().items
    stranger = Sequences(items, np.array([0, 1]), np.array([items.num], dtype=np.int32))
    assert fitted(name).score(stranger)[0, 1:].std() > 0


@pytest.mark.parametrize(
    ("name", "given", "lower"),
    [("bpr", {"rate": 1e9, "epochs": 2}, "rate"), ("als", {"confidence": 1e38}, "confidence")],
)
def test_factors_that_diverge_are_a_training_error_that_names_what_to_lower(
    name: str, given: dict[str, float], lower: str
) -> None:
    with pytest.raises(TrainingError, match=rf"{name}: .*\b{lower}\b"):
        fit(name, LeaveOneOut.of(clubs()).train, given)


@pytest.mark.parametrize("name", [*OF_CLUBS, "item_popularity"])
def test_events_of_another_vocabulary_are_refused(name: str) -> None:
    others = Sequences(Items(tuple("abc")), np.array([0, 1]), np.array([2], dtype=np.int32))
    with pytest.raises(BundleError, match=r"\b3 items.*\b41\b"):
        fitted(name).score(others)


def test_an_als_user_is_solved_as_implicit_solves_it() -> None:
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    from recommender.models.next_item.linear import profiles

    train = LeaveOneOut.of(clubs()).train
    config = ALSConfig(width=8, half_life=0.0)
    ours = ALS.fit(train, held_out_U=None, config=config, context=FitContext())
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=8, regularization=config.regularization, alpha=config.confidence, num_threads=1
        )
        model.item_factors = ours.item_vectors()
        theirs = model.recalculate_user(np.arange(USERS), profiles(train))
    assert ours.user_vectors(train) == pytest.approx(theirs, abs=1e-3)


def test_svd_of_almost_nothing_is_popularity() -> None:
    alone = clubs().take(np.array([0]))
    scores = SVD.fit(alone, held_out_U=None, config=SVDConfig(), context=FitContext()).score(alone)
    assert np.isfinite(scores[0, 1:]).all()


@pytest.mark.parametrize("name", ["svd", "als", "bpr"])
def test_factors_give_no_order_among_items_without_events(name: str) -> None:
    known = clubs()
    items = Items(known.items.ids + tuple(f"new {number}" for number in range(30)))
    histories = Sequences(items, known.offsets, known.items_T)
    scores = fit(name, histories, SMALL[name]).score(histories)
    assert (scores[:, -30:] == scores[:, -1:]).all()


def test_content_finds_an_item_without_events() -> None:
    split = LeaveOneOut.of(clubs())
    scores = fitted("content").score(split.train.take(np.arange(CLUBS)))
    cold = scores[:, CLUBS * SIZE + 1]
    assert cold[0] > 0.5
    assert (cold[1:] == 0).all()


def test_content_without_attributes_warns() -> None:
    walk = Sequences(Items(("a", "b")), np.array([0, 2]), np.array([1, 2], dtype=np.int32))
    with pytest.warns(UserWarning, match=r"content: .*attribute.*popularity"):
        Content.fit(walk, held_out_U=None, config=ContentConfig(), context=FitContext())


def test_a_refit_with_what_was_chosen_needs_no_held_out_item() -> None:
    split, ranker = LeaveOneOut.of(clubs()), fitted("fusion")
    chosen = ranker.chosen()
    again = fit("fusion", split.train_and_validation, {**SMALL["fusion"], **chosen})
    assert again.config()["gate"] == ranker.config()["gate"]
    assert judge(again, split.train_and_validation, split.test_U).summary()["ndcg@10"] > 0.4


@pytest.mark.parametrize("name", ITEM_RANKERS)
def test_every_ranker_of_the_table_has_the_name_by_which_it_is_asked_for(name: str) -> None:
    assert item_ranker_class(name).name == name


@pytest.mark.parametrize(
    ("unknown", "named"), [("magic", set(ITEM_RANKERS)), ("sasrek", {"sasrec"}), ("gru4", {"gru4rec"})]
)
def test_an_unknown_ranker_is_refused_with_the_nearest_or_all_names(unknown: str, named: set[str]) -> None:
    with pytest.raises(BundleError) as refused:
        item_ranker_class(unknown)
    assert all(name in str(refused.value) for name in (repr(unknown), *named))
