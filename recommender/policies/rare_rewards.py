"""How far the value of a policy may lie from its estimate where hardly any, or hardly no, decision earned a reward.

Resampling the rewards of a log cannot show a reward that the log lacks. With three rewards the bootstrap is too narrow,
and with none its interval has no width. This module has the interval of Clopper & Pearson (Biometrika 1934) for
weighted decisions of users, after Korn & Graubard (Survey Methodology 24, 1998): a beta distribution with the variance
that the users' sums show.

Each end adds one user, of a mean user's weight, who earns the largest (or the smallest) reward. For decisions of equal
weight and one per user this is Clopper & Pearson's interval to one part in the number of decisions.

Shapes: N decisions · U users.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEAST_PRECISION = 1.0
"""Of the beta distribution: a variance beyond that of a single decision does not come from rare rewards."""


@dataclass(frozen=True, kw_only=True)
class RewardEvidence:
    """What the log says about the rewards of the judged policy, in units of the reward."""

    value: float
    """The estimate that `variance` belongs to."""
    variance: float
    effective_users: float
    """Effective number of users or of rows, whichever is smaller."""

    @classmethod
    def of(
        cls,
        value: float,
        deviation_U: Floats,
        total: float,
        weights_N: Floats,
        residuals_N: Floats,
        effective: float,
        confidence: float,
    ) -> "RewardEvidence":
        """Variance of a ratio of sums: of users' sums, and at least that of equally many unweighted rows.

        Args:
            value: The estimate.
            deviation_U: Numerator minus `value` times the denominator, by user.
            total: Sum of the denominator.
            weights_N: Importance weights.
            residuals_N: Rewards, or what a model left unexplained of them.
            effective: See `effective_users`.
            confidence: Of the interval.
        """
        from scipy.stats import norm, t

        users = len(deviation_U)
        by_user = users / (users - 1) * float(deviation_U @ deviation_U) / total**2
        # A few rewards by chance on light rows would else claim more precision than the log has.
        share_N = weights_N / weights_N.sum()
        spread_N = residuals_N - share_N @ residuals_N
        by_row = float(share_N @ spread_N**2) * float(share_N @ share_N)
        # As usual for few users; Korn & Graubard, equation 2.
        level = (1 + confidence) / 2
        widened = (float(t.ppf(level, users - 1)) / float(norm.ppf(level))) ** 2
        return cls(value=value, variance=max(by_user, by_row) * widened, effective_users=effective)


def distances(evidence: RewardEvidence, reward_range: tuple[float, float], confidence: float) -> tuple[float, float]:
    """Return how far the interval of the mean reward reaches below and above its estimate.

    Both are 0 where the smallest and the largest reward are the same.
    """
    least, most = reward_range
    if most <= least:
        return 0.0, 0.0
    share = min(1.0, max(0.0, (evidence.value - least) / (most - least)))
    variance, weight = evidence.variance / (most - least) ** 2, 1 / evidence.effective_users
    tail = (1 - confidence) / 2
    below = share - (1 - _upper(1 - share, variance, weight, tail))
    above = _upper(share, variance, weight, tail) - share
    return max(0.0, below) * (most - least), max(0.0, above) * (most - least)


def _upper(share: float, variance: float, weight: float, tail: float) -> float:
    """Upper end of a mean of values from 0 to 1, when one more user of this relative weight earns 1."""
    from scipy.stats import beta

    mean = (share + weight) / (1 + weight)
    if mean >= 1:
        return 1.0
    variance += (weight * (1 - share)) ** 2
    precision = max(mean * (1 - mean) / variance - 1, LEAST_PRECISION)
    return float(beta.ppf(1 - tail, mean * precision, (1 - mean) * precision))
