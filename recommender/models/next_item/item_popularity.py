"""Popularity: events counted in a window, the older ones for less. The floor that every other ranker must beat.

Shapes: U users · V items, rows 1 … V · T events.
"""

from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Hyperparameters, Range
from recommender.models.next_item.linear import MatrixRanker, popularity
from recommender.sequences import Sequences

ALL_TIME_WEIGHT = 1e-6
"""Weight of the popularity over all time, which ranks items without an event in the window: too small to
reorder the others."""
LEAST_COUNT = 1e-9
"""Least divisor by the sum of all counts, for a fit without events."""


class ItemPopularityConfig(Hyperparameters):
    """Hyperparameters of popularity.

    The defaults were chosen by validation items of Amazon Beauty and ML-1M at once. Search ranges are chosen by hand.

    The log's length is measured in time where the events have times, else by each user's own order of events.
    """

    half_life: Annotated[float, Range(0.005, 1.0, log=True)] = Field(
        0.05, ge=0, description="Share of the log's length after which an event's weight halves. 0: no decay."
    )
    window: Annotated[float, Range(0.1, 1.0)] = Field(
        1.0, ge=0, description="Share of the log's length, up to its end, in which events count."
    )


class ItemPopularity(MatrixRanker[ItemPopularityConfig]):
    """Decayed counts of events, the same for all users."""

    name: ClassVar[str] = "item_popularity"
    Config: ClassVar[type[ItemPopularityConfig]] = ItemPopularityConfig

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: ItemPopularityConfig,
        context: FitContext,
    ) -> Self:
        """As `ItemRanker.fit`."""
        age_T = ages(sequences)
        weight_T = np.exp2(-age_T / config.half_life) if config.half_life else np.ones_like(age_T)
        weight_T = np.where(age_T <= config.window, weight_T, 0.0)
        counts_V = np.bincount(sequences.items_T, weights=weight_T, minlength=sequences.items.num + 1)
        recent_V = (counts_V / max(float(counts_V.sum()), LEAST_COUNT)).astype(np.float32)
        return cls({"recent_V": recent_V, "popularity_V": popularity(sequences)}, config)

    def _warm(self, sequences: Sequences) -> NDArray[np.float32]:
        recent_V = self.arrays["recent_V"] + ALL_TIME_WEIGHT * self.arrays["popularity_V"]
        return np.broadcast_to(recent_V, (sequences.num_users, len(recent_V)))


def ages(sequences: Sequences) -> NDArray[np.float64]:
    """Age of each event at the log's end, as a share of the log's length: 0 … 1, float64 [T]."""
    if sequences.times_T is not None and len(sequences.times_T):
        span = max(int(sequences.times_T.max() - sequences.times_T.min()), 1)
        return np.asarray((sequences.times_T.max() - sequences.times_T) / span, dtype=np.float64)
    length_T = np.repeat(sequences.lengths_U, sequences.lengths_U)
    return np.asarray((length_T - 1 - sequences.places_T()) / np.maximum(length_T, 1), dtype=np.float64)
