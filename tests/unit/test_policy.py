"""The policy head in worlds whose truth is known, and the honesty of off-policy estimates."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.policy import best_only, coverage, difference, estimates, learned, supervised
from recommender.datasets.synthetic.policy import BanditWorld
from recommender.engine.context import FitContext
from recommender.errors import ContractError, PropensityError, SettingsError
from recommender.policies.head import PolicyHead, corrected_loss, top_k_multiplier
from recommender.policies.logged_fit import Head
from recommender.policies.off_policy import (
    Judging,
    doubly_robust,
    effective_sample_size,
    ips,
    require_propensities,
    snips,
)
from recommender.policies.policy_value import Answer, PolicyValue
from recommender.policies.reward_model import RewardModel

ANY_OVERLAP = Judging(min_effective=0)
REPLICATIONS = 240
SEEDS = (21, 22, 23, 24)


def test_the_intervals_hold_the_true_value_at_their_stated_rate() -> None:
    error = math.sqrt(0.95 * 0.05 / REPLICATIONS)
    found = coverage(BanditWorld(seed=5), replications=REPLICATIONS)
    for name in ("ips", "snips", "doubly robust"):
        assert found[name]["coverage"] > 0.95 - 3 * error, (name, found[name])
        # An interval that holds because it says nothing would be as wide as the rewards' range, 1.
        assert found[name]["mean_width"] < 0.2, (name, found[name])
    assert found["doubly robust"]["mean_width"] < found["ips"]["mean_width"]


def answer(found: Answer) -> PolicyValue:
    """The value, which must not have been refused."""
    assert isinstance(found, PolicyValue), str(found)
    return found


def test_the_learned_policy_is_truly_better_than_the_logging_policy_and_the_supervised_ranker() -> None:
    values: dict[str, list[float]] = {"logging": [], "clicks": [], "worth": [], "policy": []}
    for seed in SEEDS:
        world = BanditWorld(seed=seed)
        decisions, (contexts_NX, _) = world.log(20_000, seed=seed), world.contexts(20_000, seed=seed + 100)
        taken_NA = supervised(world, decisions, seed).take_up(contexts_NX)
        pi_NA = learned(world, decisions, seed).probabilities(contexts_NX)
        values["logging"].append(world.value(world.logging(contexts_NX), contexts_NX))
        values["clicks"].append(world.value(best_only(taken_NA), contexts_NX))
        values["worth"].append(world.value(best_only(taken_NA * world.values_A), contexts_NX))
        values["policy"].append(world.value(best_only(pi_NA), contexts_NX))
    for other in ("logging", "clicks", "worth"):
        assert difference(values["policy"], values[other])["low"] > 0, (other, values)


def test_every_action_of_the_logging_policy_has_at_least_a_hundredth() -> None:
    world = BanditWorld(seed=3, logging_strength=20.0)
    contexts_NX, _ = world.contexts(2_000, seed=1)
    share_NA = world.logging(contexts_NX)
    assert world.num_actions >= 8
    assert share_NA.min() >= 0.01
    assert share_NA.sum(axis=1) == pytest.approx(np.ones(2_000))
    decisions = world.log(20_000, seed=1)
    assert 20_000 / np.sum(1 / decisions.propensities_N) == pytest.approx(1 / world.num_actions, rel=0.2)


def test_the_loss_is_the_textbook_s_on_a_case_done_by_hand() -> None:
    pi_B, beta_B = torch.tensor([0.5, 0.2, 0.9]), torch.tensor([0.25, 0.4, 0.01])
    rewards_B = torch.tensor([1.0, 2.0, 3.0])
    # Weights 2, 0.5 and 90 capped to 10; K (1 - π)^(K - 1) for K = 3: 0.75, 1.92, 0.03.
    by_hand = -(2 * 0.75 * 1 * math.log(0.5) + 0.5 * 1.92 * 2 * math.log(0.2) + 10 * 0.03 * 3 * math.log(0.9)) / 3
    assert float(corrected_loss(pi_B.log(), beta_B, rewards_B, cap=10, top_k=3)) == pytest.approx(by_hand, rel=1e-5)


def test_neither_the_weight_nor_the_multiplier_is_differentiated() -> None:
    log_pi_B = torch.tensor([0.5, 0.2]).log().requires_grad_()
    corrected_loss(
        log_pi_B, torch.tensor([0.25, 0.4]), torch.tensor([1.0, 2.0]), cap=1.5, top_k=2, baseline=0.5
    ).backward()
    # -w · λ · (r - b) / 2, with w = 1.5 (capped) and 0.5, λ = 2 · (1 - π) = 1 and 1.6
    assert log_pi_B.grad is not None
    assert log_pi_B.grad.tolist() == pytest.approx([-1.5 * 1 * 0.5 / 2, -0.5 * 1.6 * 1.5 / 2])


def test_for_one_action_the_multiplier_is_one_and_otherwise_it_is_the_slope_of_being_among_k_draws() -> None:
    pi_B = torch.tensor([0.0, 0.3, 0.999], dtype=torch.float64)
    assert top_k_multiplier(pi_B, 1).tolist() == [1.0, 1.0, 1.0]
    step = 1e-6
    slope_B = ((1 - (1 - pi_B - step) ** 4) - (1 - (1 - pi_B + step) ** 4)) / (2 * step)
    assert top_k_multiplier(pi_B, 4).numpy() == pytest.approx(slope_B.numpy(), rel=1e-4, abs=1e-8)


def test_without_a_cap_the_mean_gradient_is_the_true_policy_gradient() -> None:
    logits_A = torch.tensor([0.3, -0.2, 0.5], requires_grad=True)
    beta_A, reward_A = torch.tensor([0.2, 0.5, 0.3]), torch.tensor([1.0, 0.4, 0.1])
    log_pi_A = logits_A.log_softmax(dim=0)
    (-(log_pi_A.exp() * reward_A).sum()).backward()
    assert logits_A.grad is not None
    truth_A, logits_A.grad = logits_A.grad.clone(), None
    log_pi_A = logits_A.log_softmax(dim=0)
    shown = torch.tensor([0] * 2 + [1] * 5 + [2] * 3)  # as often as the logging policy shows them
    corrected_loss(log_pi_A[shown], beta_A[shown], reward_A[shown], cap=1e9, baseline=0.37).backward()
    assert logits_A.grad.tolist() == pytest.approx(truth_A.tolist(), abs=1e-6)


def test_the_estimates_are_the_textbook_s_on_a_case_done_by_hand() -> None:
    rewards_N, target_N, propensities_N = (
        np.array([1.0, 0.0, 2.0]),
        np.array([0.5, 0.1, 0.4]),
        np.array([0.25, 0.5, 0.8]),
    )
    columns = (rewards_N, target_N, propensities_N)
    assert answer(ips(*columns, judging=ANY_OVERLAP)).value == pytest.approx((2 * 1 + 0.5 * 2) / 3)
    assert answer(snips(*columns, judging=ANY_OVERLAP)).value == pytest.approx((2 * 1 + 0.5 * 2) / 2.7)
    assert effective_sample_size(np.array([2, 0.2, 0.5])) == pytest.approx(2.7**2 / (4 + 0.04 + 0.25))
    target_NA = np.array([[0.5, 0.5], [0.9, 0.1], [0.4, 0.6]])
    predicted_NA = np.array([[0.8, 0.2], [0.5, 0.1], [1.0, 0.0]])
    direct = [0.5, 0.46, 0.4]
    by_hand = np.mean([direct[0] + 2 * 0.2, direct[1] - 0.2 * 0.1, direct[2] + 0.5 * 1.0])
    judged = doubly_robust(rewards_N, np.array([0, 1, 0]), target_NA, propensities_N, predicted_NA, judging=ANY_OVERLAP)
    assert answer(judged).value == pytest.approx(by_hand)


@pytest.mark.parametrize("action", [2, -1, 0.5])
def test_a_logged_action_that_does_not_exist_is_named(action: float) -> None:
    both_NA = np.full((3, 2), 0.5)
    with pytest.raises(ContractError, match=rf"0 to 1 .*{action:g}\W.* row 1") as raised:
        doubly_robust(np.ones(3), np.array([0, action, 1]), both_NA, np.full(3, 0.5), both_NA)
    assert raised.value.column == "action"


def test_rows_of_one_user_written_twice_do_not_narrow_the_interval() -> None:
    world = BanditWorld(seed=2)
    decisions = world.log(400, seed=1)
    target_N = np.full(400, 1 / world.num_actions)
    once = answer(snips(decisions.rewards_N, target_N, decisions.propensities_N, users_N=np.arange(400)))
    twice = answer(
        snips(
            *(np.tile(values_N, 2) for values_N in (decisions.rewards_N, target_N, decisions.propensities_N)),
            users_N=np.tile(np.arange(400), 2),
        )
    )
    assert (twice.low, twice.high, twice.num_clusters) == (pytest.approx(once.low), pytest.approx(once.high), 400)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (None, r"row 2: .*missing .*1 of 4 rows"),
        (0.0, r"row 2: .*\b0\b"),
        (0.0005, r"row 2: .*0\.0005 .*0\.001"),
        (1.2, r"row 2: .*1\.2 .*\b1\b"),
    ],
)
def test_a_row_whose_propensity_cannot_be_used_is_named(bad: float | None, words: str) -> None:
    with pytest.raises(PropensityError, match=words):
        require_propensities([0.5, 0.2, bad, 0.3])
    with pytest.raises(PropensityError, match="row the-request"):
        require_propensities([0.5, bad], rows_N=["fine", "the-request"])


def test_learning_refuses_a_log_without_propensities() -> None:
    decisions = BanditWorld(seed=1).log(100, seed=1)
    propensities_N = decisions.propensities_N.copy()
    propensities_N[7] = np.nan
    with pytest.raises(PropensityError, match="row 7"):
        learned(BanditWorld(seed=1), replace(decisions, propensities_N=propensities_N), 1)


def test_a_misspelt_hyperparameter_is_refused_with_the_nearest_right_one() -> None:
    with pytest.raises(SettingsError, match=r"'topk' .*policy.*'top_k'"):
        learned(BanditWorld(seed=1), BanditWorld(seed=1).log(50, seed=1), 1, topk=3)


def test_a_policy_that_shows_nothing_that_was_shown_cannot_be_judged() -> None:
    with pytest.raises(PropensityError, match="3 rows"):
        snips(np.ones(3), np.zeros(3), np.full(3, 0.5))


def test_a_policy_comes_back_from_its_tensors_and_learns_the_same_bits_again(tmp_path: Path) -> None:
    world = BanditWorld(seed=1)
    decisions = world.log(2_000, seed=1)
    contexts_NX = decisions.contexts_NX[:50]

    def fit(context: FitContext) -> PolicyHead:
        arrays = (decisions.contexts_NX, decisions.actions_N, decisions.propensities_N, decisions.rewards_N)
        return PolicyHead.fit(
            *arrays, num_actions=world.num_actions, config=PolicyHead.Config(steps=30, hidden=8), context=context
        )

    one, other = fit(FitContext(seed=4)), fit(FitContext(seed=4, checkpoints=tmp_path))
    assert np.array_equal(one.probabilities(contexts_NX), other.probabilities(contexts_NX))
    assert one.probabilities(contexts_NX).sum(axis=1) == pytest.approx(np.ones(50))


def test_a_better_policy_is_found_better_by_the_estimates_too() -> None:
    world = BanditWorld(seed=2)
    decisions, fresh = world.log(20_000, seed=2), world.log(10_000, seed=3)
    predicted_NA = supervised(world, decisions, 2).take_up(fresh.contexts_NX) * world.values_A
    ours = estimates(fresh, learned(world, decisions, 2, steps=200).probabilities(fresh.contexts_NX), predicted_NA)
    theirs = estimates(fresh, world.logging(fresh.contexts_NX), predicted_NA)
    assert ours["doubly robust"].low > theirs["doubly robust"].high
    assert theirs["ips"].value == pytest.approx(fresh.rewards_N.mean())


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("rewards_N", math.nan, r"decisions\.reward: .*\bnan\b.* row 3"),
        ("contexts_NX", math.inf, r"decisions\.context 1: .*\binf\b.* row 3"),
        ("actions_N", 9, r"decisions\.action: .*0 to 3 .*\b9\b.* row 3"),
    ],
)
def test_learning_names_the_column_and_the_row_of_a_value_that_cannot_be(column: str, value: float, words: str) -> None:
    log = {
        "contexts_NX": np.ones((6, 2), dtype=np.float32),
        "actions_N": np.zeros(6),
        "propensities_N": np.full(6, 0.5),
        "rewards_N": np.ones(6),
    }
    log[column][(3, 1) if column == "contexts_NX" else 3] = value
    with pytest.raises(ContractError, match=words):
        PolicyHead.fit(**log, num_actions=4, config=PolicyHead.Config(steps=1), context=FitContext())
    arrays = (log["contexts_NX"], log["actions_N"], log["rewards_N"])
    with pytest.raises(ContractError, match=words.replace("reward", "taken")):
        RewardModel.fit(*arrays, num_actions=4, config=RewardModel.Config(steps=1), context=FitContext())


def test_a_batch_too_large_for_memory_is_halved_and_teaches_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    world = BanditWorld(seed=1)
    log = world.log(100, seed=1)
    most, forward = 100, Head.forward

    def in_little_room(head: Head, x_BX: torch.Tensor) -> torch.Tensor:
        if head.training and len(x_BX) > most:
            raise torch.OutOfMemoryError(f"room for {most} rows")
        return forward(head, x_BX)

    def answers() -> list[np.ndarray]:
        common, few = {"num_actions": world.num_actions, "context": FitContext()}, {"steps": 20, "batch": 99}
        arrays = (log.contexts_NX, log.actions_N, log.propensities_N, log.rewards_N)
        policy = PolicyHead.fit(*arrays, config=PolicyHead.Config(**few), **common)
        taken = RewardModel.fit(
            log.contexts_NX, log.actions_N, log.rewards_N > 0, config=RewardModel.Config(**few), **common
        )
        return [policy.probabilities(log.contexts_NX), taken.take_up(log.contexts_NX)]

    monkeypatch.setattr(Head, "forward", in_little_room)
    whole, most = answers(), 50
    with pytest.warns(UserWarning, match="batches are halved") as warned:
        halved = answers()
    assert len(warned) == 2
    for one, other in zip(whole, halved, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3)


@pytest.mark.parametrize("estimate", [ips, snips])
def test_an_estimate_refuses_what_it_cannot_average(estimate: Callable[..., PolicyValue]) -> None:
    half = np.full(4, 0.5)
    for rewards, target, words in (
        (np.array([1, 1, np.nan, 1]), half, r"reward: .*\bnan\b.* row 2"),
        (np.ones(4), np.array([0.5, 7, 0.5, 0.5]), r"target: .*\b7\b.* row 1"),
        (np.ones(4), np.ones(1), r"target: .*\(4,\).*\(1,\)"),
    ):
        with pytest.raises(ContractError, match=words):
            estimate(rewards, target, half)
    with pytest.raises(ContractError, match="decisions"):
        estimate(np.ones(0), np.ones(0), np.ones(0))
