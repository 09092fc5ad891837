"""Neural next-item rankers: each learns a planted order, repeats itself bit for bit, refuses unknown items."""

import json
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recommender.engine.context import FitContext
from recommender.engine.loop import Schedule, Sum
from recommender.engine.precision import cpu_has_units
from recommender.errors import BundleError, DeviceError, TrainingError
from recommender.evaluation.leave_one_out import judge
from recommender.models.next_item import ItemRanker, epochs, item_ranker_class
from recommender.models.next_item.bert4rec import from_end, masks
from recommender.models.next_item.causal import CausalEncoder
from recommender.models.next_item.histories import before, targets, users_of
from recommender.models.next_item.sasrec import SASRec, SASRecConfig
from recommender.models.next_item.student import Student, StudentConfig
from recommender.models.next_item.two_tower import TwoTower, TwoTowerConfig
from recommender.sequences import Items, LeaveOneOut, Sequences

pytestmark = pytest.mark.usefixtures("quick_gate")

V, U = 30, 160
NAMES = ("neural_cf", "two_tower", "caser", "gru4rec", "bert4rec")
ORDERED = ("two_tower", "caser", "gru4rec", "bert4rec")
SMALL: dict[str, dict[str, Any]] = {
    "neural_cf": {"factors": 16, "hidden": [16, 8], "batch": 256, "epochs": 60, "rate": 0.02},
    "two_tower": {"width": 16, "hidden": 32, "length": 5, "batch": 128, "epochs": 15, "rate": 0.01, "dropout": 0.1},
    "caser": {
        "width": 16,
        "length": 3,
        "horizontal": 4,
        "user_width": 4,
        "batch": 128,
        "epochs": 25,
        "dropout": 0.1,
        "rate": 0.01,
    },
    "gru4rec": {"width": 16, "hidden": 24, "length": 10, "tokens": 128, "epochs": 20, "rate": 0.02, "dropout": 0.1},
    "bert4rec": {"width": 16, "length": 6, "tokens": 128, "epochs": 40, "rate": 0.005, "dropout": 0.1},
}


@cache
def walks(*, tail: int = 0) -> Sequences:
    """Item i is followed by i + 1, in a circle. Users walk 4 to 9 steps. `tail` more items have no event."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(4, 10, U)
    starts = rng.integers(0, V, U)
    items_T = np.concatenate([(start + np.arange(num)) % V + 1 for start, num in zip(starts, lengths, strict=True)])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    names = tuple(f"i{row}" for row in range(1, V + tail + 1))
    rows = np.arange(V + tail) % V
    return Sequences(
        items=Items(names, np.concatenate([[0], np.arange(V + tail + 1)]), (rows // 3).astype(np.int32), V // 3),
        offsets=offsets,
        items_T=items_T.astype(np.int32),
    )


@cache
def clubs() -> Sequences:
    """Users of three clubs, each with ten separate items, in any order, which collaborative filtering can learn."""
    rng = np.random.default_rng(5)
    items_T = np.concatenate([rng.permutation(10)[:7] + 10 * (user % 3) + 1 for user in range(120)])
    return Sequences(Items(tuple(map(str, range(V)))), np.arange(121) * 7, items_T.astype(np.int32))


def fit(name: str, sequences: Sequences, context: FitContext | None = None, **given: Any) -> ItemRanker[Any]:
    """Fit the ranker `name` with those of the hyperparameters `given` that it has."""
    held_out_U = given.pop("held_out_U", None)
    ranker = item_ranker_class(name)
    given = {key: value for key, value in given.items() if key in ranker.Config.model_fields}
    config = ranker.Config.parse({**SMALL.get(name, {}), **given}, owner=name)
    return ranker.fit(sequences, held_out_U=held_out_U, config=config, context=context or FitContext())


@cache
def fitted(name: str) -> ItemRanker[Any]:
    return fit(name, LeaveOneOut.of(clubs() if name == "neural_cf" else walks()).train)


def histories(name: str) -> Sequences:
    return LeaveOneOut.of(clubs() if name == "neural_cf" else walks()).train_and_validation


@pytest.mark.parametrize("name", ORDERED)
def test_a_planted_order_is_learned(name: str) -> None:
    split = LeaveOneOut.of(walks())
    assert judge(fitted(name), split.train_and_validation, split.test_U).summary()["ndcg@10"] > 0.85  # chance: 0.15


def test_an_lstm_learns_the_order_too() -> None:
    split = LeaveOneOut.of(walks())
    ranker = fit("gru4rec", split.train, cell="lstm", epochs=25)
    assert judge(ranker, split.train_and_validation, split.test_U).summary()["ndcg@10"] > 0.85


def test_a_softmax_within_the_batch_learns_the_order_too() -> None:
    split = LeaveOneOut.of(walks())
    ranker = fit("two_tower", split.train, softmax="in-batch")
    assert judge(ranker, split.train_and_validation, split.test_U).summary()["ndcg@10"] > 0.85


@pytest.mark.parametrize("new", [False, True])
def test_neural_cf_ranks_a_clubs_items_first_for_known_and_new_users(new: bool) -> None:
    known = histories("neural_cf")
    asked = replace(known, users_U=None) if new else known
    scores_UV = fitted("neural_cf").score(asked)
    club_U = np.arange(asked.num_users) % 3
    best_UN = np.argsort(-scores_UV[:, 1:], axis=1)[:, :10] // 10
    assert (best_UN == club_U[:, None]).mean() > 0.9  # chance: a third


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(name: str) -> None:
    sequences = histories(name)
    one, two, other = (
        fit(name, sequences, FitContext(seed=seed), epochs=2).score(sequences.take(np.arange(9))) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_that_was_cut_goes_on_to_the_same_weights(name: str, tmp_path: Path) -> None:
    sequences = histories(name)

    def cut(facts: dict[str, Any]) -> None:
        if facts["step"] == 10:
            raise KeyboardInterrupt

    config = {"epochs": 2, "batch": 64, "tokens": 64}
    context = FitContext(checkpoints=tmp_path, checkpoint_every_s=0.0)
    with pytest.raises(KeyboardInterrupt):
        fit(name, sequences, replace(context, progress=cut), **config)
    resumed = fit(name, sequences, context, **config)
    whole = fit(name, sequences, **config)
    for key, value in whole.tensors().items():
        np.testing.assert_array_equal(value, resumed.tensors()[key], err_msg=key)


def curve(folder: Path) -> list[dict[str, Any]]:
    """Losses and judgements, log by log."""
    lines = [line for path in sorted(folder.rglob("progress.jsonl")) for line in path.read_text().splitlines()]
    return [{key: value for key, value in json.loads(line).items() if key != "steps_a_second"} for line in lines]


@pytest.mark.parametrize(("name", "behind"), [("sasrec", False), ("sasrec", True), ("fusion", True)])
def test_a_fit_cut_before_or_behind_its_best_judgement_goes_on_with_its_best_weights(
    name: str, behind: bool, tmp_path: Path
) -> None:
    split, members = LeaveOneOut.of(clubs()), 2 if name == "fusion" else 1
    small = {"width": 16, "heads": 1, "blocks": 1, "length": 6, "tokens": 64, "rate": 0.01, "dropout": 0.0}
    given = {**small, "epochs": 30, "judge_every": 1, "patience": 3, "precision": "fp32", "members": members}

    def fitted_in(folder: Path, **more: Any) -> ItemRanker[Any]:
        context = FitContext(checkpoints=folder, checkpoint_every_s=0.0, **more)
        return fit(name, split.train, context, held_out_U=split.validation_U, **given)

    whole = fitted_in(tmp_path / "whole")
    last = curve(tmp_path / "whole" / (f"member-{members - 1}" if name == "fusion" else ""))
    judged = {line["step"]: line["judged"] for line in last if "judged" in line}
    best = max(judged, key=lambda step: judged[step])
    cut_at = best // 10 * 10 + 10 * behind
    assert min(judged) < cut_at < max(judged)
    told: list[int] = []

    def cut(facts: dict[str, Any]) -> None:
        told.append(facts["step"])
        if told[-1] == cut_at and sum(after < before for before, after in pairwise(told)) == members - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted_in(tmp_path / "cut", progress=cut)
    resumed = fitted_in(tmp_path / "cut")
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    assert resumed.chosen() == whole.chosen()
    for key, value in whole.tensors().items():
        np.testing.assert_array_equal(resumed.tensors()[key], value, err_msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_a_restored_ranker_gives_the_same_scores(name: str) -> None:
    ranker, asked = fitted(name), histories(name)
    again = item_ranker_class(name).restore(ranker.tensors(), ranker.config())
    np.testing.assert_array_equal(again.score(asked), ranker.score(asked))
    assert again.chosen() == ranker.chosen()


@pytest.mark.parametrize("name", NAMES)
def test_scores_do_not_depend_on_the_other_users_asked_about(name: str) -> None:
    ranker, asked = fitted(name), histories(name)
    alone = np.concatenate([ranker.score(asked.take(np.array([user]))) for user in range(5)])
    np.testing.assert_allclose(ranker.score(asked)[:5], alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_user_without_events_gets_the_most_popular_items(name: str) -> None:
    ranker, trained = fitted(name), LeaveOneOut.of(clubs() if name == "neural_cf" else walks()).train
    one = trained.take(np.array([0]))
    nobody = replace(one, offsets=np.array([0, 0, len(one.items_T)]), users_U=None)
    scores_UV = ranker.score(nobody)
    assert scores_UV.shape == (2, V + 1)
    assert scores_UV.dtype == np.float32
    assert np.isneginf(scores_UV[:, 0]).all()
    assert np.isfinite(scores_UV[:, 1:]).all()
    count_V = np.bincount(trained.items_T, minlength=V + 1)
    assert count_V[1:][np.argmax(scores_UV[0, 1:])] == count_V.max()


@pytest.mark.parametrize("name", NAMES)
def test_an_item_that_the_ranker_does_not_have_is_refused_by_row(name: str) -> None:
    asked = histories(name)
    strange = replace(asked, items_T=np.where(np.arange(len(asked.items_T)) == 4, V + 1, asked.items_T))
    with pytest.raises(BundleError, match=rf"event 4 .*\b{V + 1}\b"):
        fitted(name).score(strange)


@pytest.mark.parametrize("name", NAMES)
def test_another_vocabulary_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match=r"\b31 items.*\b30\b"):
        fitted(name).score(replace(histories(name), items=Items(tuple(map(str, range(31))))))


def test_a_user_row_that_the_fit_did_not_have_is_refused() -> None:
    asked = histories("caser")
    with pytest.raises(BundleError, match=r"user row 160\b.*\b160\b"):
        fitted("caser").score(replace(asked, users_U=np.arange(1, U + 1)))


@pytest.mark.parametrize("name", NAMES)
def test_the_held_out_items_choose_when_to_stop_and_a_refit_takes_as_long(name: str) -> None:
    split = LeaveOneOut.of(clubs() if name == "neural_cf" else walks())
    config = {"epochs": 6, "judge_every": 2}
    chosen = fit(name, split.train, held_out_U=split.validation_U, **config).chosen()
    assert chosen["stop_at"] in (1 / 3, 2 / 3, 1.0)
    told: list[dict[str, Any]] = []
    refit = fit(name, split.train_and_validation, FitContext(progress=told.append), **config, **chosen)
    assert told[-1]["step"] == round(chosen["stop_at"] * told[-1]["of"])
    assert refit.chosen() == chosen


def test_what_is_held_out_chooses_the_best_weights_but_teaches_nothing() -> None:
    split = LeaveOneOut.of(walks())
    config = {"epochs": 3, "patience": 9}
    stopped = fit("caser", split.train, held_out_U=split.validation_U, **config)
    free = fit("caser", split.train, **config, **stopped.chosen())
    for key, value in free.tensors().items():
        np.testing.assert_array_equal(value, stopped.tensors()[key], err_msg=key)


@pytest.mark.parametrize(
    ("config", "steps", "every"), [({}, 1900, 64), ({"epochs": 3}, 3, 1), ({"epochs": 3, "min_steps": 6}, 6, 2)]
)
def test_few_events_are_gone_through_more_often_unless_the_epochs_are_given(
    config: dict[str, Any], steps: int, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them are one batch."""
    taken = []

    def seen(phase: str, model: object, loss: object, schedule: Schedule, context: object, **given: Any) -> list[float]:
        taken.append((schedule.steps, given["every"]))
        return []

    monkeypatch.setattr(epochs, "run_phase", seen)
    split = LeaveOneOut.of(walks())
    parsed = TwoTowerConfig.parse({"batch": 10_000, **config}, owner="two_tower")
    TwoTower.fit(split.train, held_out_U=split.validation_U, config=parsed, context=FitContext())
    assert taken == [(steps, every)]


def test_a_judgement_scores_fewer_users_at_once_where_there_are_many_items(monkeypatch: pytest.MonkeyPatch) -> None:
    split, scores, asked = LeaveOneOut.of(walks()), CausalEncoder.scores, []

    def noted(model: CausalEncoder, sequences: Sequences) -> torch.Tensor:
        asked.append(sequences.num_users)
        return scores(model, sequences)

    monkeypatch.setattr(CausalEncoder, "scores", noted)
    config = SASRecConfig(width=8, heads=1, blocks=1, epochs=1, tokens=512, judge_every=1)
    for cells, users in ((2**25, [U]), (50 * (V + 1), [50, 50, 50, 10]), (V, [16] * 10)):
        monkeypatch.setattr("recommender.sequences.ranks.CELLS_A_BATCH", cells)
        SASRec.fit(split.train, held_out_U=split.validation_U, config=config, context=FitContext())
        assert asked == users
        asked.clear()


def test_a_two_tower_knows_an_item_without_events_by_its_attributes() -> None:
    ranker = fit("two_tower", walks(tail=3))
    vectors_VD = ranker.item_vectors()
    assert vectors_VD is not None
    cold = vectors_VD[V + 1]
    likeness_V = vectors_VD[1 : V + 1] @ cold / np.linalg.norm(vectors_VD[1 : V + 1], axis=1) / np.linalg.norm(cold)
    assert set(np.argsort(-likeness_V)[:3].tolist()) == {0, 1, 2}  # the rows with the same attribute


def test_the_product_of_two_towers_is_the_score() -> None:
    ranker, asked = fitted("two_tower"), histories("two_tower")
    users_UD, items_VD = ranker.user_vectors(asked), ranker.item_vectors()
    assert users_UD is not None
    assert items_VD is not None
    np.testing.assert_allclose((users_UD @ items_VD.T)[:, 1:], ranker.score(asked)[:, 1:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ORDERED)
def test_a_softmax_rankers_scores_are_the_log_odds_of_the_next_item(name: str) -> None:
    split = LeaveOneOut.of(walks())
    scores = torch.from_numpy(fitted(name).score(split.train_and_validation)[:, 1:])
    loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(split.test_U.astype(np.int64) - 1))
    assert loss < 1.5  # chance: log 30 = 3.4


@pytest.mark.parametrize("name", ORDERED)
def test_a_fit_on_users_of_one_event_is_refused(name: str) -> None:
    alone = Sequences(Items(("a", "b")), np.array([0, 1, 2]), np.array([1, 2], dtype=np.int32))
    cls = item_ranker_class(name)
    with pytest.raises(TrainingError, match=rf"{name}.*\btwo events"):
        cls.fit(alone, held_out_U=None, config=cls.Config(), context=FitContext())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_that_is_not_there_is_an_error(name: str) -> None:
    with pytest.raises(DeviceError, match="'cuda'"):
        fit(name, histories(name), FitContext(device="cuda"))


def test_what_came_before_an_event_is_its_own_users_alone() -> None:
    sequences = Sequences(
        Items(tuple("abcde")), np.array([0, 3, 3, 5]), np.array([1, 2, 3, 4, 5], dtype=np.int32)
    )  # the second user has none
    events_M = targets(sequences)
    assert events_M.tolist() == [1, 2, 4]
    users_M = users_of(sequences, events_M)
    assert users_M.tolist() == [0, 0, 2]
    assert before(sequences, events_M, users_M, 2).tolist() == [[0, 1], [1, 2], [0, 4]]


def test_every_window_has_a_mask_and_an_unmasked_item() -> None:
    places_T = np.concatenate([np.arange(num) for num in (2, 3, 7) for _ in range(200)])
    masked_T = masks(places_T, np.random.default_rng(0), mask=0.5, last=0.2)
    starts = np.flatnonzero(places_T == 0)
    lengths = np.diff(np.append(starts, len(places_T)))
    num = np.add.reduceat(masked_T.astype(int), starts)
    assert (num >= 1).all()
    assert (num < lengths).all()
    assert from_end(np.array([0, 1, 2, 0, 1])).tolist() == [2, 1, 0, 1, 0]


@pytest.mark.parametrize("name", ["two_tower", "caser", "gru4rec", "bert4rec", "sasrec", "factorization_machine"])
def test_softmax_products_of_half_the_bits_learn_nearly_the_same(name: str) -> None:
    small = {} if name in SMALL else {"width": 16, "tokens": 128} if name == "sasrec" else {"batch": 128}
    scores = {
        numbers: fit(name, walks(), **small, epochs=2, precision=numbers).score(walks())[:, 1:]
        for numbers in ("fp32", "bf16", "auto")
    }
    assert 0 < np.abs(scores["bf16"] - scores["fp32"]).mean() < 0.2 * scores["fp32"].std()
    np.testing.assert_array_equal(scores["auto"], scores["bf16" if cpu_has_units() else "fp32"])


def sizes_of_batches(network: type[Any], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows the network's loss is given, call by call."""
    rows: list[int] = []
    whole = network.loss

    def loss(model: Any, sequences: Sequences, batch: np.ndarray, rng: np.random.Generator) -> Sum:
        rows.append(len(batch))
        return whole(model, sequences, batch, rng)

    monkeypatch.setattr(network, "loss", loss)
    return rows


@pytest.mark.parametrize("name", ["two_tower", "caser", "gru4rec", "sasrec", "factorization_machine"])
def test_a_batch_taken_in_parts_has_the_losses_of_the_whole_in_as_many_steps(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {} if name in SMALL else {"width": 16, "tokens": 128} if name == "sasrec" else {"batch": 128}
    nothing_drawn = {"dropout": 0.0, "item_dropout": 0.0, "new_users": 0.0}
    rows = sizes_of_batches(item_ranker_class(name).network, monkeypatch)  # type: ignore[attr-defined]
    told: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    calls: dict[int, list[int]] = {}
    for accumulate, facts in told.items():
        given = {**small, **nothing_drawn, "precision": "fp32", "epochs": 4, "accumulate": accumulate}
        fit(name, walks(), FitContext(progress=facts.append), **given)
        calls[accumulate], rows[:] = list(rows), []
    whole, parts = ([(one["step"], one["rate"]) for one in facts] for facts in told.values())
    assert whole == parts
    assert [one["loss"] for one in told[2]] == pytest.approx([one["loss"] for one in told[1]], rel=1e-3)
    assert len(calls[2]) == 2 * len(calls[1])
    assert max(calls[2]) == -(-max(calls[1]) // 2)


def test_the_flagship_and_a_students_teacher_take_batches_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sizes_of_batches(CausalEncoder, monkeypatch)
    quick = {"width": 8, "blocks": 1, "heads": 1, "epochs": 1, "tokens": 128}
    largest = []
    for accumulate in (1, 2):
        given = {"width": 8, "epochs": 1, "lists": 10, "teacher": {**quick, "members": 1}, "accumulate": accumulate}
        config = StudentConfig.parse(given, owner="student")
        Student.fit(walks(), held_out_U=None, config=config, context=FitContext())
        largest.append(max(rows))
        rows.clear()
    assert largest[1] == -(-largest[0] // 2)
