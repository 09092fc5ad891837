"""Estimate what a policy would have earned from decisions that another policy took with known propensities.

IPS (Horvitz & Thompson, JASA 1952), SNIPS (Swaminathan & Joachims, NeurIPS 2015) and doubly robust (Dudík, Langford &
Li, ICML 2011). Each is an average, or a ratio of averages, of one influence value a row. The interval is value ± t ·
standard error. The error comes from the sums of each user's influence values: the sandwich of Liang & Zeger (Biometrika
1986) on U clusters, with the correction U / (U - 1) and a t of U - 1 degrees of freedom. Without users every row is its
own cluster.

Shapes: N logged decisions · A actions · U users.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.errors import ContractError, PropensityError

Floats = NDArray[np.float64]
FLOOR = 0.001
"""A propensity below this is refused, since that one row could decide the whole estimate. Chosen by hand."""
TOLERANCE = 1e-6
"""A judged policy's probability may exceed 1 by rounding: sums of float32 are right to about 1e-7 for each action."""


@dataclass(frozen=True, kw_only=True)
class PolicyValue:
    """Estimated mean reward of a decision, with its interval at `confidence`."""

    method: str
    value: float
    low: float
    high: float
    confidence: float
    effective_sample_size: float
    """(Σ w)² / Σ w² of the importance weights (Kish, Survey Sampling, 1965): unweighted rows with as much
    information."""
    num_rows: int
    num_clusters: int


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


def ips(
    rewards_N: NDArray[Any],
    target_N: NDArray[Any],
    propensities_N: NDArray[Any],
    *,
    users_N: NDArray[Any] | None = None,
    confidence: float = 0.95,
    floor: float = FLOOR,
) -> PolicyValue:
    """Inverse propensity score: mean of w·r with w = `target_N` / `propensities_N`. Unbiased, with the widest interval.

    Args:
        rewards_N: What each decision earned.
        target_N: The judged policy's probability of the action that was shown.
        propensities_N: The logging policy's.
        users_N: User of each decision, the clusters of the interval.
        confidence: Of the interval; 0.95 is the usual level.
        floor: Smallest propensity that is accepted.

    Raises:
        PropensityError: As `require_propensities`.
        ContractError: As `require_rows`, or a target is not a probability.
    """
    weights_N, rewards_N = _weights(rewards_N, target_N, propensities_N, floor)
    worth_N = weights_N * rewards_N
    return _estimate("ips", float(worth_N.mean()), worth_N - worth_N.mean(), weights_N, users_N, confidence)


def snips(
    rewards_N: NDArray[Any],
    target_N: NDArray[Any],
    propensities_N: NDArray[Any],
    *,
    users_N: NDArray[Any] | None = None,
    confidence: float = 0.95,
    floor: float = FLOOR,
) -> PolicyValue:
    """Self-normalised IPS: Σ w·r / Σ w. Its bias is O(1/N). A constant added to all rewards is added to the value.

    The interval is the delta method's: the influence of a row is w (r - value) / mean(w). Arguments as in `ips`.

    Raises:
        PropensityError: As `require_propensities`, or no row was shown what the policy would show.
        ContractError: As `require_rows`, or a target is not a probability.
    """
    weights_N, rewards_N = _weights(rewards_N, target_N, propensities_N, floor)
    if weights_N.sum() <= 0:
        raise PropensityError(
            f"the judged policy has probability 0 for every action that was shown in {len(weights_N):,} rows, so this "
            "log cannot judge it. Use a log of a policy that shows the actions that it chooses."
        )
    value = float(weights_N @ rewards_N / weights_N.sum())
    influence_N = weights_N * (rewards_N - value) / weights_N.mean()
    return _estimate("snips", value, influence_N, weights_N, users_N, confidence)


def doubly_robust(
    rewards_N: NDArray[Any],
    actions_N: NDArray[Any],
    target_NA: NDArray[Any],
    propensities_N: NDArray[Any],
    predicted_NA: NDArray[Any],
    *,
    users_N: NDArray[Any] | None = None,
    confidence: float = 0.95,
    floor: float = FLOOR,
) -> PolicyValue:
    """Mean of Σ_a π(a) q̂(a) + w (r - q̂(shown)): right where the propensities are, precise where `predicted_NA` is.

    Args:
        rewards_N: What each decision earned.
        actions_N: Action that was shown, 0 … A - 1.
        target_NA: π, the judged policy's probability of every action.
        propensities_N: The logging policy's probability of the action that was shown.
        predicted_NA: q̂, expected rewards by a model that was fitted on other rows.
        users_N: User of each decision, the clusters of the interval.
        confidence: Of the interval.
        floor: Smallest propensity that is accepted.

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
    weights_N, rewards_N = _weights(rewards_N, np.asarray(target_NA)[shown], propensities_N, floor)
    predicted_NA = np.asarray(predicted_NA, dtype=np.float64)
    direct_N = (np.asarray(target_NA, dtype=np.float64) * predicted_NA).sum(axis=1)
    worth_N = direct_N + weights_N * (rewards_N - predicted_NA[shown])
    return _estimate("doubly robust", float(worth_N.mean()), worth_N - worth_N.mean(), weights_N, users_N, confidence)


def effective_sample_size(weights_N: NDArray[Any]) -> float:
    """Kish's (Σ w)² / Σ w². 0 where every weight is 0."""
    squares = float(np.square(weights_N, dtype=np.float64).sum())
    return float(np.sum(weights_N, dtype=np.float64)) ** 2 / squares if squares > 0 else 0.0


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
    method: str, value: float, influence_N: Floats, weights_N: Floats, users_N: NDArray[Any] | None, confidence: float
) -> PolicyValue:
    from scipy.stats import t

    num_rows = len(influence_N)
    if users_N is None:
        sums_U = influence_N
    else:
        rows_N = np.unique(users_N, return_inverse=True)[1]
        sums_U = np.asarray(np.bincount(rows_N.ravel(), weights=influence_N), dtype=np.float64)
    clusters = len(sums_U)
    if clusters < 2:
        half = float("inf")
    else:
        error = np.sqrt(clusters / (clusters - 1) * np.square(sums_U).sum()) / num_rows
        half = float(t.ppf(0.5 + confidence / 2, clusters - 1) * error)
    return PolicyValue(
        method=method,
        value=value,
        low=value - half,
        high=value + half,
        confidence=confidence,
        effective_sample_size=effective_sample_size(weights_N),
        num_rows=num_rows,
        num_clusters=clusters,
    )
