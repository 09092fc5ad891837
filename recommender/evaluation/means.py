"""Means over users with 95 % intervals, and the paired difference of two rankers on the same users.

Shapes: U users.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.96
"""97.5 % quantile of the normal distribution, for a two-sided 95 % interval."""


def mean_interval95(values_U: NDArray[np.float64]) -> list[float]:
    """Low and high end of the 95 % interval of the mean over users, by the normal approximation.

    One user gives no information about the spread: the interval is then [-inf, inf].
    """
    mean = float(values_U.mean())
    half = Z_95 * float(values_U.std(ddof=1) / np.sqrt(len(values_U))) if len(values_U) > 1 else math.inf
    return [mean - half, mean + half]


def paired_difference(ours_U: NDArray[np.float64], theirs_U: NDArray[np.float64]) -> dict[str, Any]:
    """`mean` of ours minus theirs over the same users, and its `interval95`."""
    gain_U = ours_U - theirs_U
    return {"mean": float(gain_U.mean()), "interval95": mean_interval95(gain_U)}
