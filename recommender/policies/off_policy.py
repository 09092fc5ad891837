"""Estimate what a policy would have earned from decisions that another policy took with known propensities.

IPS (Horvitz & Thompson, JASA 1952), SNIPS (Swaminathan & Joachims, NeurIPS 2015) and doubly robust (Dudík, Langford &
Li, ICML 2011). Each is a ratio of sums over users. Without users every row is its own cluster. `value_intervals` has
the intervals, and `rare_rewards` those for few rewards. Where the log has too little of what the judged policy would
show, or no reward at all of an unknown range, the answer is `TooLittleOverlap` or `TooFewRewards` and no number.

Shapes: N logged decisions · A actions · U users.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.errors import ContractError, PropensityError
from recommender.policies.policy_value import Answer, PolicyValue, TooFewRewards, TooLittleOverlap
from recommender.policies.rare_rewards import RewardEvidence, distances
from recommender.policies.value_intervals import RESAMPLES, Range, UserSums, interval

Floats = NDArray[np.float64]
FLOOR = 0.001
"""A propensity below this is refused, since that one row could decide the whole estimate. Chosen by hand."""
TOLERANCE = 1e-6
"""A judged policy's probability may exceed 1 by rounding: sums of float32 are right to about 1e-7 for each action."""


MIN_EFFECTIVE = 20.0
"""Below this effective sample size, of rows or of users, there is no answer. Chosen by `make bench-decision`: from here
on both tails of the 95 % interval stay within 4 %."""


def require_propensities(
    propensities_N: Sequence[float | None] | NDArray[Any], *, floor: float = FLOOR, rows_N: Sequence[Any] | None = None
) -> Floats:
    """Check the propensities of N shown actions, and return them as float64 [N].

    Args:
        propensities_N: The propensities; None or NaN: missing.
        floor: Smallest one that is accepted.
        rows_N: Names of the rows for messages. None: their numbers.

    Raises:
        PropensityError: One is missing, zero, below `floor` or above 1. Names the first such row.
    """
    known_N = np.array([np.nan if p is None else p for p in propensities_N], dtype=np.float64)
    for bad_N, problem in (
        (~np.isfinite(known_N), "is missing"),
        (known_N <= 0, "is not above zero"),
        (known_N < floor, f"is below the floor of {floor:g}"),
        (known_N > 1, "is above 1"),
    ):
        if bad_N.any():
            row = int(np.argmax(bad_N))
            name = row if rows_N is None else rows_N[row]
            raise PropensityError(
                f"row {name}: its propensity {'' if np.isnan(known_N[row]) else f'{known_N[row]:g} '}{problem} "
                f"({int(bad_N.sum()):,} of {len(known_N):,} rows). A log cannot judge what was hardly ever shown. Log "
                "propensities (`exploration` in [serving]), or leave these rows out and report that."
            )
    return known_N


def require_rows(num_rows: int, **columns_N: NDArray[Any]) -> tuple[Floats, ...]:
    """Check columns of N logged decisions, and return them as float64 [N].

    Raises:
        ContractError: There is no row, a column has another length, or a value is not finite. Names column and row.
    """
    if not num_rows:
        raise ContractError("decisions", "there are no decisions")
    out = []
    for name, values in columns_N.items():
        values_N = np.asarray(values, dtype=np.float64)
        if values_N.shape != (num_rows,):
            raise ContractError("decisions", f"shape must be ({num_rows},) (got {values_N.shape})", column=name)
        if not np.isfinite(values_N).all():
            row = int(np.argmin(np.isfinite(values_N)))
            raise ContractError("decisions", f"must be finite (got {values_N[row]})", column=name, row=f"row {row}")
        out.append(values_N)
    return tuple(out)


@dataclass(frozen=True, kw_only=True)
class Judging:
    """How an estimate is judged."""

    confidence: float = 0.95
    """Of the interval, the usual level. Each tail has half of the rest."""
    floor: float = FLOOR
    """Smallest propensity that is accepted."""
    reward_range: tuple[float, float] | None = None
    """Smallest and largest reward that a decision can earn. None: those of the log, and 0. Where the log
    has no other reward than 0, there is no answer then."""
    min_effective: float = MIN_EFFECTIVE
    """Smallest effective sample size at which there is an answer."""
    resamples: int = RESAMPLES

    def range_of(self, rewards_N: Floats) -> tuple[float, float]:
        """Return the smallest and the largest reward."""
        if self.reward_range is not None:
            return self.reward_range
        return min(0.0, float(rewards_N.min())), max(0.0, float(rewards_N.max()))


DEFAULT = Judging()


def ips(
    rewards_N: NDArray[Any],
    target_N: NDArray[Any],
    propensities_N: NDArray[Any],
    *,
    users_N: NDArray[Any] | None = None,
    judging: Judging = DEFAULT,
) -> Answer:
    """Inverse propensity score: mean of w·r with w = `target_N` / `propensities_N`. Unbiased, with the widest interval.

    Args:
        rewards_N: What each decision earned.
        target_N: The judged policy's probability of the action that was shown.
        propensities_N: The logging policy's.
        users_N: User of each decision, the clusters of the interval.
        judging: Level of the interval, and limits.

    Raises:
        PropensityError: As `require_propensities`.
        ContractError: As `require_rows`, or a target is not a probability.
    """
    weights_N, rewards_N = _weights(rewards_N, target_N, propensities_N, judging.floor)
    unseen = Range(most_weight=_most_weight(propensities_N), residual=judging.range_of(rewards_N))
    sums = UserSums.of(weights_N, weights_N * rewards_N, users_N)
    return _estimate("ips", sums, sums.rows_U, unseen, weights_N, rewards_N, judging)


def snips(
    rewards_N: NDArray[Any],
    target_N: NDArray[Any],
    propensities_N: NDArray[Any],
    *,
    users_N: NDArray[Any] | None = None,
    judging: Judging = DEFAULT,
) -> Answer:
    """Self-normalised IPS: Σ w·r / Σ w. Its bias is O(1/N). A constant added to all rewards is added to the value.

    Arguments as in `ips`.

    Raises:
        PropensityError: As `require_propensities`, or no row was shown what the policy would show.
        ContractError: As `require_rows`, or a target is not a probability.
    """
    weights_N, rewards_N = _weights(rewards_N, target_N, propensities_N, judging.floor)
    if weights_N.sum() <= 0:
        raise PropensityError(
            f"the judged policy has probability 0 for every action that was shown in {len(weights_N):,} rows, so this "
            "log cannot judge it. Use a log of a policy that shows the actions that it chooses."
        )
    unseen = Range(most_weight=_most_weight(propensities_N), residual=judging.range_of(rewards_N))
    sums = UserSums.of(weights_N, weights_N * rewards_N, users_N)
    return _estimate("snips", sums, sums.weights_U, unseen, weights_N, rewards_N, judging)


def doubly_robust(
    rewards_N: NDArray[Any],
    actions_N: NDArray[Any],
    target_NA: NDArray[Any],
    propensities_N: NDArray[Any],
    predicted_NA: NDArray[Any],
    *,
    users_N: NDArray[Any] | None = None,
    judging: Judging = DEFAULT,
) -> Answer:
    """Mean of Σ_a π(a) q̂(a) + w (r - q̂(shown)): right where the propensities are, precise where `predicted_NA` is.

    Args:
        rewards_N: What each decision earned.
        actions_N: Action that was shown, 0 … A - 1.
        target_NA: π, the judged policy's probability of every action.
        propensities_N: The logging policy's probability of the action that was shown.
        predicted_NA: q̂, expected rewards by a model that was fitted on other rows.
        users_N: User of each decision, the clusters of the interval.
        judging: Level of the interval, and limits.

    Raises:
        PropensityError: As `require_propensities`.
        ContractError: As `require_rows`, a target is not a probability, or an action is outside 0 … A - 1.
    """
    (actions_N,) = require_rows(len(np.asarray(rewards_N)), action=actions_N)
    wrong_N = (actions_N < 0) | (actions_N >= np.shape(target_NA)[1]) | (actions_N != np.floor(actions_N))
    if wrong_N.any():
        row = int(np.argmax(wrong_N))
        message = f"must be a whole number from 0 to {np.shape(target_NA)[1] - 1} (got {actions_N[row]:g})"
        raise ContractError("decisions", message, column="action", row=f"row {row}")
    shown = np.arange(len(actions_N)), actions_N.astype(np.int64)
    weights_N, rewards_N = _weights(rewards_N, np.asarray(target_NA)[shown], propensities_N, judging.floor)
    predicted_NA = np.asarray(predicted_NA, dtype=np.float64)
    direct_N = (np.asarray(target_NA, dtype=np.float64) * predicted_NA).sum(axis=1)
    worth_N = direct_N + weights_N * (rewards_N - predicted_NA[shown])
    # Unseen decisions are predicted like the policy's on average, and may earn the least or the most.
    (least, most), mean = judging.range_of(rewards_N), float(direct_N.mean())
    unseen = Range(
        most_weight=_most_weight(propensities_N),
        residual=(least - mean, most - mean),
        direct=mean,
    )
    sums = UserSums.of(weights_N, worth_N, users_N)
    residuals_N = rewards_N - predicted_NA[shown]
    return _estimate("doubly robust", sums, sums.rows_U, unseen, weights_N, residuals_N, judging)


def effective_sample_size(weights_N: NDArray[Any]) -> float:
    """Kish's (Σ w)² / Σ w². 0 where every weight is 0."""
    squares = float(np.square(weights_N, dtype=np.float64).sum())
    return float(np.sum(weights_N, dtype=np.float64)) ** 2 / squares if squares > 0 else 0.0


def _most_weight(propensities_N: NDArray[Any]) -> float:
    """Largest weight of an unseen decision: that of a sure choice with the smallest propensity of the log."""
    return 1 / float(np.min(np.asarray(propensities_N, dtype=np.float64)))


def _weights(
    rewards_N: NDArray[Any], target_N: NDArray[Any], propensities_N: NDArray[Any], floor: float
) -> tuple[Floats, Floats]:
    known_N = require_propensities(propensities_N, floor=floor)
    target_N, rewards_N = require_rows(len(known_N), target=target_N, reward=rewards_N)
    wrong_N = (target_N < 0) | (target_N > 1 + TOLERANCE)
    if wrong_N.any():
        row = int(np.argmax(wrong_N))
        problem = f"must be a probability (got {target_N[row]:g})"
        raise ContractError("decisions", problem, column="target", row=f"row {row}")
    return target_N / known_N, rewards_N


def _estimate(
    method: str,
    sums: UserSums,
    denominator_U: Floats,
    unseen: Range,
    weights_N: Floats,
    residuals_N: Floats,
    judging: Judging,
) -> Answer:
    num_rows, num_clusters = len(weights_N), len(sums.rows_U)
    effective = effective_sample_size(weights_N)
    # Few users with many rows each are few observations, however many rows there are.
    least = min(effective, effective_sample_size(sums.weights_U))
    if least < judging.min_effective:
        return TooLittleOverlap(
            method=method,
            effective_sample_size=least,
            needed=judging.min_effective,
            num_rows=num_rows,
            num_clusters=num_clusters,
        )
    reward_range = unseen.residual[0] + unseen.direct, unseen.residual[1] + unseen.direct
    if judging.reward_range is None and reward_range[0] == reward_range[1]:
        return TooFewRewards(method=method, num_rows=num_rows, num_clusters=num_clusters)
    value = float(sums.worth_U.sum() / denominator_U.sum())
    low, high = interval(sums, value, denominator_U, unseen, judging.confidence, resamples=judging.resamples)
    if num_clusters > 1:
        # The error of the weights' sum, which IPS has, is in the other intervals. Here the rewards' alone is asked.
        by_weight = method == "ips"
        below_U = sums.weights_U if by_weight else denominator_U
        centre = float(sums.worth_U.sum() / below_U.sum()) if by_weight else value
        deviation_U, total = sums.worth_U - centre * below_U, float(below_U.sum())
        evidence = RewardEvidence.of(centre, deviation_U, total, weights_N, residuals_N, least, judging.confidence)
        below, above = distances(evidence, reward_range, judging.confidence)
        low, high = min(low, value - below), max(high, value + above)
    return PolicyValue(
        method=method,
        value=value,
        low=low,
        high=high,
        confidence=judging.confidence,
        effective_sample_size=effective,
        num_rows=num_rows,
        num_clusters=num_clusters,
    )
