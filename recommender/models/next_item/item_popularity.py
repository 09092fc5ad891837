"""What sells: events counted in a window, the older ones for less. The floor that every other ranker must beat.

Shapes: U users · V items, rows 1 … V · T events.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Range, Space
from recommender.models.next_item.linear import MatrixRanker, popularity
from recommender.sequences import Sequences

DEFAULTS: dict[str, Any] = {"half_life": 0.05, "window": 1.0}
"""half_life: share of the log in which an event's weight halves, 0 is no decay · window: share of the log, its end, that counts. The log is
measured in time where the events have times, else by each user's order."""
SEARCHED: Space = {"half_life": Range(0.005, 1.0, log=True), "window": Range(0.1, 1.0)}


class ItemPopularity(MatrixRanker):
    """Decayed counts."""

    name: ClassVar[str] = "item_popularity"

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: Mapping[str, Any],
        context: FitContext,
    ) -> Self:
        hyper = {**DEFAULTS, **config}
        age_T = ages(sequences)
        weight_T = np.exp2(-age_T / float(hyper["half_life"])) if hyper["half_life"] else np.ones_like(age_T)
        weight_T = np.where(age_T <= float(hyper["window"]), weight_T, 0.0)
        counts_V = np.bincount(sequences.items_T, weights=weight_T, minlength=sequences.items.num + 1)
        recent_V = (counts_V / max(float(counts_V.sum()), 1e-9)).astype(np.float32)
        return cls({"recent_V": recent_V, "popularity_V": popularity(sequences)}, hyper)

    def _warm(self, sequences: Sequences) -> NDArray[np.float32]:
        recent_V = self.arrays["recent_V"] + 1e-6 * self.arrays["popularity_V"]
        return np.broadcast_to(recent_V, (sequences.num_users, len(recent_V)))


def ages(sequences: Sequences) -> NDArray[np.float64]:
    """How long before the end each event was, as a share of the log: 0 … 1, [T]."""
    if sequences.times_T is not None and len(sequences.times_T):
        span = max(int(sequences.times_T.max() - sequences.times_T.min()), 1)
        return np.asarray((sequences.times_T.max() - sequences.times_T) / span, dtype=np.float64)
    length_T = np.repeat(sequences.lengths_U, sequences.lengths_U)
    return np.asarray((length_T - 1 - sequences.places_T()) / np.maximum(length_T, 1), dtype=np.float64)
