"""The flagship's gate learns each expert's weight for each user, and cold items borrow scores from similar ones."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.errors import SettingsError, TrainingError
from recommender.evaluation.leave_one_out import judge
from recommender.models.next_item.fusion import Fusion, FusionConfig, fusion
from recommender.models.next_item.fusion.gate import Gate, GateState
from recommender.models.next_item.fusion.gate_fit import fit_gate
from recommender.models.next_item.fusion.habit import habits, has_habits
from recommender.models.next_item.rules import Rules, RulesConfig
from recommender.sequences import Items, LeaveOneOut, Sequences
from recommender.sequences.ranks import full_ranks, ndcg

V, U = 40, 600
SMALL: dict[str, Any] = {
    "members": 1,
    "width": 16,
    "blocks": 1,
    "heads": 1,
    "epochs": 6,
    "tokens": 128,
    "rate": 0.01,
    "length": 10,
}
ITEMS = Items(tuple(f"i{row}" for row in range(1, V + 1)))
Logs = NDArray[np.float32]


def fit(split: LeaveOneOut, given: dict[str, Any], *, seed: int = 3) -> Fusion:
    """The flagship with these hyperparameters, its gate fitted on the validation items."""
    config = FusionConfig.parse(given, owner="fusion")
    return Fusion.fit(split.train, held_out_U=split.validation_U, config=config, context=FitContext(seed=seed))


def users(number: int) -> Sequences:
    """Users who had item 1 and nothing else. `users_U` tells the experts below which users are scored."""
    offsets = np.arange(number + 1, dtype=np.int64)
    return Sequences(ITEMS, offsets, np.ones(number, dtype=np.int32), users_U=np.arange(number))


@cache
def rated(kind: str) -> tuple[Logs, Logs, NDArray[np.int32]]:
    """Log-probabilities of two experts, facts, and next items, which depend on the experts as `kind` says."""
    rng = np.random.default_rng(8)
    logs_KUV = rng.normal(size=(2, U, V + 1)).astype(np.float32)
    facts_UX = rng.normal(size=(U, 2)).astype(np.float32)
    first, second = logs_KUV
    if kind == "both agree":  # no weights of the two can express it
        liking_UV = -6 * np.abs(first - second)
    elif kind == "by user":
        liking_UV = 6 * np.where(facts_UX[:, :1] > 0, first, second)
    else:
        liking_UV = 3 * first
    liking_UV = liking_UV + rng.gumbel(size=liking_UV.shape)
    liking_UV[:, :2] = -np.inf
    return logs_KUV, facts_UX, liking_UV.argmax(axis=1).astype(np.int32)


def fitted(kind: str, number: int = 400) -> Gate:
    logs_KUV, facts_UX, target_U = rated(kind)
    start = Gate.even(np.array([0.5, 0.5], dtype=np.float32), facts=2)

    def experts(histories: Sequences) -> tuple[Logs, Logs]:
        assert histories.users_U is not None
        return logs_KUV[:, histories.users_U], facts_UX[histories.users_U]

    return fit_gate(experts, start, users(number), target_U[:number], seed=1)


def quality(gate: Gate, kind: str) -> float:
    """NDCG@10 of the users that no gate was fitted on."""
    logs_KUV, facts_UX, target_U = rated(kind)
    asked = users(U).take(np.arange(400, U))
    scores_UV = gate(logs_KUV[:, 400:].copy(), facts_UX[400:], asked)
    return float(ndcg(full_ranks(scores_UV, asked, target_U[400:])).mean())


def test_a_hidden_layer_learns_what_no_weights_can_express() -> None:
    gate = fitted("both agree")
    assert gate.deep is not None
    assert quality(gate, "both agree") > quality(replace(gate, deep=None), "both agree") + 0.1


def test_weights_depend_on_the_user() -> None:
    gate = fitted("by user")
    even = Gate.even(np.array([0.5, 0.5], dtype=np.float32), facts=2)
    assert quality(replace(gate, deep=None), "by user") > quality(even, "by user") + 0.1


def test_beyond_the_facts_that_a_fit_saw_nothing_changes() -> None:
    logs_KUV, facts_UX, target_U = rated("both agree")
    alike_UX = facts_UX.copy()
    alike_UX[:, 1] = np.log(8)

    def experts(histories: Sequences) -> tuple[Logs, Logs]:
        return logs_KUV[:, histories.users_U], alike_UX[histories.users_U]

    start = Gate.even(np.array([0.5, 0.5], dtype=np.float32), facts=2)
    gate = fit_gate(experts, start, users(U), target_U, seed=1)
    longer_UX = alike_UX + np.log([1, 9 / 8], dtype=np.float32)
    assert gate.deep is not None
    assert np.array_equal(gate(logs_KUV, alike_UX, users(U)), gate(logs_KUV, longer_UX, users(U)))
    assert not np.array_equal(gate(logs_KUV, alike_UX, users(U)), gate(logs_KUV, -alike_UX, users(U)))


def test_too_few_users_leave_the_weights_even() -> None:
    assert fitted("one", number=15).bias_K.tolist() == [0.5, 0.5]
    first, second = fitted("one", number=400).bias_K
    assert first > 0.9
    assert abs(second) < 0.1


def asked_about(logs_KUV: Logs, target_U: NDArray[np.int32]) -> Gate:
    """A gate that begins with the first of these experts alone."""
    number, items = logs_KUV.shape[1], logs_KUV.shape[2] - 1
    facts_UX = np.zeros((number, 1), dtype=np.float32)

    def experts(histories: Sequences) -> tuple[Logs, Logs]:
        assert histories.users_U is not None
        return logs_KUV[:, histories.users_U], facts_UX[histories.users_U]

    known = Items(tuple(f"i{row}" for row in range(1, items + 1)))
    asked = Sequences(known, np.arange(number + 1), np.ones(number, dtype=np.int32), users_U=np.arange(number))
    return fit_gate(experts, Gate.even(np.array([1, 0], np.float32), facts=1), asked, target_U, seed=1)


def best(gate: Gate, logs_KUV: Logs, number: int) -> NDArray[np.int64]:
    """Items of each user by the linear form, [U, number]."""
    scores_UV = gate.bias_K[0] * logs_KUV[0] + gate.bias_K[1] * logs_KUV[1]
    return np.argsort(-scores_UV[:, 2:], axis=1)[:, :number] + 2


def test_an_expert_whose_first_weight_is_0_can_gain_weight() -> None:
    rng = np.random.default_rng(4)
    target_U = rng.integers(2, 2000, 200).astype(np.int32)
    logs_KUV = (rng.normal(size=(2, 200, 2001)) * [[[1.0]], [[0.01]]]).astype(np.float32)
    logs_KUV[1][np.arange(200), target_U] = 6.0
    assert np.mean(best(asked_about(logs_KUV, target_U), logs_KUV, 1)[:, 0] == target_U) > 0.95


def test_items_that_no_user_takes_are_not_lifted_by_an_expert_of_negative_weight() -> None:
    rng = np.random.default_rng(4)
    logs_KUV = rng.normal(size=(2, 300, 2001)).astype(np.float32)
    liking_UV = 3 * logs_KUV[0] - 1.5 * logs_KUV[1] + rng.gumbel(size=logs_KUV.shape[1:])
    logs_KUV[:, :, -20:] = np.array([-3, -30], dtype=np.float32)[:, None, None]  # unlikely to both, and never taken
    liking_UV[:, :2] = liking_UV[:, -20:] = -np.inf
    target_U = liking_UV.argmax(axis=1).astype(np.int32)
    gate = asked_about(logs_KUV, target_U)
    assert np.mean(best(gate, logs_KUV, 10) > 1980) < 0.05


def test_a_nan_score_ends_the_fit_with_the_expert_s_name() -> None:
    def broken(histories: Sequences) -> tuple[Logs, Logs]:
        logs_KUV = np.zeros((2, histories.num_users, V + 1), dtype=np.float32)
        logs_KUV[0, 0, 5] = np.nan
        return logs_KUV, np.zeros((histories.num_users, 1), dtype=np.float32)

    start = Gate.even(np.array([0.5, 0.5], dtype=np.float32), facts=1)
    with pytest.raises(TrainingError, match=r"gate.*'rules'"):
        fit_gate(broken, start, users(100), np.full(100, 2, dtype=np.int32), seed=1, names=("rules", "latent"))


def test_habits_fade_and_give_0_to_what_a_user_never_had() -> None:
    offsets = np.array([0, 4, 5, 5], dtype=np.int64)
    sequences = Sequences(ITEMS, offsets, np.array([3, 2, 3, 2, 7], dtype=np.int32))
    active_UV = habits(sequences)
    assert active_UV[0, 2] > active_UV[0, 3] > 0
    np.testing.assert_allclose(active_UV.sum(axis=1), [1, 1, 0], rtol=1e-6)
    assert active_UV[0, [2, 3]].sum() == pytest.approx(1)
    assert has_habits(sequences)
    assert not has_habits(Sequences(ITEMS, offsets, np.array([3, 2, 4, 5, 7], dtype=np.int32)))


def test_where_users_come_back_to_items_the_flagship_recommends_them_again() -> None:
    rng = np.random.default_rng(6)
    own_UF = rng.permuted(np.tile(np.arange(1, V + 1), (200, 1)), axis=1)[:, :4]
    rows = [np.where(rng.random(12) < 0.8, rng.choice(own, 12), rng.integers(1, V + 1, 12)) for own in own_UF]
    sequences = Sequences(ITEMS, np.arange(201) * 12, np.concatenate(rows).astype(np.int32))
    split = LeaveOneOut.of(sequences)
    ranker = fit(split, SMALL)
    assert ranker.experts.habit
    assert ranker.chosen()["habit"]
    scores_UV = ranker.score(split.train_and_validation)
    own_U = own_UF[np.arange(200), :, None] == np.argsort(-scores_UV, axis=1)[:, None, :4]
    assert own_U.any(axis=1).mean() > 0.7
    again = Fusion.restore(ranker.tensors(), ranker.config())
    np.testing.assert_array_equal(again.score(split.train), ranker.score(split.train))


def test_one_expert_alone_counts_where_a_mixture_ranks_worse() -> None:
    """Users take eight items of two bags in any order: factors learn the bags, rules of order add noise."""
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(500):
        bags = rng.choice(330, 2, replace=False)
        rows.append(rng.permutation(np.concatenate([1 + 6 * bag + rng.choice(6, 4, replace=False) for bag in bags])))
    items = Items(tuple(f"i{row}" for row in range(1, 330 * 6 + 1)))
    split = LeaveOneOut.of(Sequences(items, np.arange(501) * 8, np.concatenate(rows).astype(np.int32)))
    ranker = fit(split, {"members": 0}, seed=17)
    assert not ranker.experts.transformers
    both = (judge(one, split.train_and_validation, split.test_U) for one in (ranker, ranker.experts.others["latent"]))
    whole, alone = (judged.ndcg_U().mean() for judged in both)
    assert alone > 0.2
    assert whole > alone - 0.005


def test_ties_of_one_expert_alone_are_broken_by_all_experts() -> None:
    """The only good expert knows just the item's group of four, by small differences. The other expert is noise."""
    rng = np.random.default_rng(4)
    target_U = rng.integers(2, V + 1, U).astype(np.int32)
    group_V = np.arange(V + 1) // 4
    knows_UV = (group_V == group_V[target_U][:, None]).astype(np.float32)
    logs_KUV = np.stack([rng.normal(size=knows_UV.shape).astype(np.float32), 0.5 * knows_UV])
    facts_UX = np.zeros((U, 1), dtype=np.float32)
    start = Gate.even(np.array([1.0, 0.0], dtype=np.float32), facts=1)

    def experts(histories: Sequences) -> tuple[Logs, Logs]:
        assert histories.users_U is not None
        return logs_KUV[:, histories.users_U], facts_UX[histories.users_U]

    gate = fit_gate(experts, start, users(U), target_U, seed=1, hidden=False)
    assert gate.deep is None
    scores_UV = gate(logs_KUV.copy(), facts_UX, users(U))
    assert len(np.unique(scores_UV[0, 2:])) == V - 1
    assert ndcg(full_ranks(scores_UV, users(U), target_U)).mean() > 0.6
    assert gate.bias_K[1] > 1.5  # so that the held-out items are likely, and not only in the right order


def test_broad_rules_count_where_the_order_is_noise() -> None:
    """Users walk along a chain of items, and which step came when is lost."""
    rng = np.random.default_rng(3)
    number = 240
    walks = np.stack([rng.permutation((rng.integers(number) + np.arange(7)) % number) + 1 for _ in range(400)])
    items = Items(tuple(f"i{row}" for row in range(1, number + 1)))
    split = LeaveOneOut.of(Sequences(items, np.arange(401) * 7, walks.ravel().astype(np.int32)))
    given = {"members": 0, "latent": False}
    whole, without = (fit(split, given | more, seed=17) for more in ({}, {"broad": False}))
    ranked = [whole, without, Rules.fit(split.train, held_out_U=None, config=RulesConfig(), context=FitContext())]
    gains = [judge(one, split.train_and_validation, split.test_U).ndcg_U().mean() for one in ranked]
    assert gains[0] > gains[1] + 0.02
    assert gains[0] > gains[2] - 0.01


def test_a_flagship_without_any_expert_is_refused() -> None:
    nothing = FusionConfig(members=0, rules=False, broad=False, latent=False, popularity=False)
    with pytest.raises(SettingsError, match=r"fusion.*expert.*members.*popularity"):
        Fusion.fit(users(9), held_out_U=None, config=nothing, context=FitContext())


def test_a_gate_survives_json_bit_for_bit() -> None:
    gate = fitted("both agree")
    again = Gate.restore(GateState.model_validate_json(gate.state().model_dump_json()))
    logs_KUV, facts_UX, _ = rated("both agree")
    scores = [one(logs_KUV.copy(), facts_UX, users(U)) for one in (gate, again)]
    np.testing.assert_array_equal(*scores)


def test_the_hidden_layer_reorders_the_candidates_and_keeps_their_total_probability() -> None:
    gate = fitted("both agree")
    logs_KUV, facts_UX, _ = rated("both agree")
    deep_UV = gate(logs_KUV.copy(), facts_UX, users(U))
    linear_UV = replace(gate, deep=None)(logs_KUV.copy(), facts_UX, users(U))
    np.testing.assert_array_equal(deep_UV[:, :2], linear_UV[:, :2])  # no item, and the one that each had
    assert (deep_UV[:, 2:] != linear_UV[:, 2:]).mean() > 0.9
    np.testing.assert_allclose(np.exp(deep_UV[:, 2:]).sum(axis=1), np.exp(linear_UV[:, 2:]).sum(axis=1), rtol=1e-4)


def pairs_of_items() -> Sequences:
    """Items come in pairs of one attribute. Users walk over the odd ones, and nobody takes the even ones."""
    rng = np.random.default_rng(2)
    lengths = rng.integers(4, 8, 200)
    walks = [(rng.integers(V // 2) + np.arange(num)) % (V // 2) * 2 + 1 for num in lengths]
    items = replace(
        ITEMS,
        attribute_offsets=np.arange(V + 2).clip(1) - 1,
        attributes_P=np.arange(V, dtype=np.int32) // 2,
        num_attributes=V // 2,
    )
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(items, offsets, np.concatenate(walks).astype(np.int32))


def test_an_item_without_events_ranks_beside_the_most_similar_item() -> None:
    split = LeaveOneOut.of(pairs_of_items())
    ranker = fit(split, SMALL)
    scores_UV = ranker.score(split.train_and_validation)
    next_U = split.test_U
    odd_UV, even_UV = scores_UV[:, 1::2], scores_UV[:, 2::2]
    assert np.mean(odd_UV.argmax(axis=1) == (next_U - 1) // 2) > 0.9
    assert np.mean(even_UV.argmax(axis=1) == (next_U - 1) // 2) > 0.9


def test_the_gate_is_fitted_with_one_thread_as_the_members_are(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def noted(*given: Any, **more: Any) -> Gate:
        threads.append(torch.get_num_threads())
        return fit_gate(*given, **more)

    monkeypatch.setattr(fusion, "fit_gate", noted)
    split, before = LeaveOneOut.of(pairs_of_items()), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        fit(split, {**SMALL, "epochs": 1})
        threads.append(torch.get_num_threads())
    finally:
        torch.set_num_threads(before)
    assert threads == [1, 2]


@pytest.mark.parametrize("without", ["rules", "broad", "latent", "content"])
def test_an_expert_can_be_left_out_and_the_bundle_remembers_it(without: str) -> None:
    split = LeaveOneOut.of(pairs_of_items())
    ranker = fit(split, {**SMALL, "epochs": 2, without: False})
    assert without not in ranker.experts.names()
    again = Fusion.restore(ranker.tensors(), ranker.config())
    np.testing.assert_array_equal(again.score(split.train), ranker.score(split.train))
    assert judge(again, split.train_and_validation, split.test_U).summary()["users"] == 200


def test_without_a_single_event_the_hyperparameters_are_those_of_few() -> None:
    nothing = Sequences(ITEMS, np.zeros(3, dtype=np.int64), np.zeros(0, dtype=np.int32))
    assert Fusion.resolved(FusionConfig(), nothing).dropout == 0.5


def test_a_budget_that_pays_for_few_epochs_is_named() -> None:
    walks = Sequences(ITEMS, np.arange(21) * 4, np.tile(np.arange(1, 5, dtype=np.int32), 20))
    config = FusionConfig.parse({**SMALL, "budget_tflop": 1e-7}, owner="fusion")
    with pytest.warns(UserWarning, match=r"budget_tflop=1e-07 .*\b1 of 6 epochs.*\b80 events.*\b40 items"):
        Fusion.fit(walks, held_out_U=None, config=config, context=FitContext())
