"""Exploration: sometimes puts a campaign other than the ranker's best first, with an exactly known probability.

- `epsilon` (Sutton & Barto, 2018, section 2.4): with probability `rate` a campaign drawn uniformly from all candidates
  comes first and the rest keep their order. So each campaign has propensity rate / n for the first place, and the
  ranker's best has 1 - rate more. The list has the propensity of its first place.
- `thompson`: each campaign's log-odds are drawn around the ranker's, and the draws are ranked (Thompson, Biometrika
  1933; Chapelle & Li, NeurIPS 2011). A ranker has no posterior, so its uncertainty is modelled as a Gumbel of scale
  `spread`. The order of Gumbel draws is Plackett-Luce (Yellott, 1977), so every list has an exact propensity. With
  probability `rate` the first place is drawn uniformly instead, so that no campaign falls below rate / n.

All draws come from the decision's seed: the same scores, user and seed give the same order in every process.

Shapes: N candidates.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal, assert_never

import numpy as np
from numpy.typing import NDArray

Kind = Literal["epsilon", "thompson"]
Floats = NDArray[np.float64]
FARTHEST = 30.0
"""Log-odds are clipped here, because scores may be 0 or 1."""
SMALLEST = 1e-12
"""Scores are clipped this far from 0 and 1 before their log-odds, which are then at most 28."""


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """Kind and strength of the exploration."""

    kind: Kind
    rate: float
    """Probability with which the first place is drawn uniformly, in (0, 1]."""
    spread: float = 0.3
    """`thompson`: scale of the Gumbel on the log-odds. 0.3 is a standard deviation of 0.38 (scale · π / √6). Chosen by
    hand."""
    seed: str
    """A text that only this decision has: the end of its request id."""


@dataclass(frozen=True, eq=False)
class Explored:
    """An order of the candidates, and its probability."""

    order_N: NDArray[np.int64]
    """Rows of the scores in the order to show them."""
    first_propensities_N: Floats
    """Probability of each candidate to come first, in the order of the scores."""
    step_propensities_N: Floats
    """Probability of each place's candidate given those before it, in the order of `order_N`."""

    @property
    def first_propensity(self) -> float:
        """Probability of the candidate that came first."""
        return float(self.first_propensities_N[self.order_N[0]])

    def list_propensity(self, length: int) -> float:
        """Probability of the first `length` places, in this order."""
        return float(np.exp(np.log(self.step_propensities_N[:length]).sum()))

    def record(self, length: int) -> dict[str, Any]:
        """Fields of the decision record for a list of the first `length` places."""
        return {
            "first_propensity": self.first_propensity,
            "list_propensity": self.list_propensity(length),
            "num_candidates": len(self.order_N),
        }


def explore(scores_N: NDArray[np.float32], user_id: str, exploration: Exploration) -> Explored:
    """Order N >= 1 candidates by their scores (probabilities) and by chance. Equal scores keep their order.

    Raises:
        ValueError: There are no candidates, `rate` is outside (0, 1], or `spread` is not above 0.
    """
    if len(scores_N) == 0 or not 0 < exploration.rate <= 1 or exploration.spread <= 0:
        raise ValueError(
            "exploration needs a candidate, a rate in (0, 1] and a spread above 0 "
            f"(got {len(scores_N)} candidates, {exploration})"
        )
    random = _random(user_id, exploration.seed)
    best_N = np.argsort(-scores_N, kind="stable")
    match exploration.kind:
        case "epsilon":
            return _epsilon(best_N, exploration.rate, random)
        case "thompson":
            return _thompson(scores_N, exploration.rate, exploration.spread, random)
        case other:
            assert_never(other)


def _epsilon(best_N: NDArray[np.int64], rate: float, random: np.random.Generator) -> Explored:
    num = len(best_N)
    first_N = np.full(num, rate / num)
    first_N[best_N[0]] += 1 - rate
    explores, place = random.random() < rate, int(random.integers(num))
    order_N = np.concatenate([best_N[place : place + 1], np.delete(best_N, place)]) if explores else best_N
    steps_N = np.ones(num)
    steps_N[0] = first_N[order_N[0]]
    return Explored(order_N, first_N, steps_N)


def _thompson(scores_N: NDArray[np.float32], rate: float, spread: float, random: np.random.Generator) -> Explored:
    num = len(scores_N)
    p_N = np.clip(scores_N.astype(np.float64), SMALLEST, 1 - SMALLEST)
    strength_N = np.clip(np.log(p_N) - np.log1p(-p_N), -FARTHEST, FARTHEST) / spread
    share_N = np.exp(strength_N - strength_N.max())
    first_N = rate / num + (1 - rate) * share_N / share_N.sum()
    explores, drawn = random.random() < rate, int(random.integers(num))
    order_N = np.argsort(-(strength_N + random.gumbel(size=num)), kind="stable")
    if explores:
        # The other draws do not depend on the one put first, so without it they stay Plackett-Luce among themselves.
        order_N = np.concatenate([[drawn], order_N[order_N != drawn]])
    along_N = strength_N[order_N]
    # log Σ exp over this place and those after it
    left_N = np.logaddexp.accumulate(along_N[::-1])[::-1]
    steps_N = np.exp(along_N - left_N)
    steps_N[0] = first_N[order_N[0]]
    return Explored(order_N, first_N, steps_N)


def _random(user_id: str, seed: str) -> np.random.Generator:
    # A seed of any length becomes a key of 32 bytes (blake2b takes at most 64). The draws have 128 bits of entropy, as
    # NumPy recommends for a seed.
    value = blake2b(user_id.encode(), digest_size=16, key=blake2b(seed.encode(), digest_size=32).digest()).digest()
    return np.random.default_rng(int.from_bytes(value, "big"))
