"""Item-based collaborative filtering: the items most like those that a user had (Sarwar et al., WWW 2001).

Similarity is the cosine of the items' users, shrunk where two items share few users.

Shapes: U users · V items, rows 1 … V.
"""

from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Hyperparameters, Range
from recommender.models.next_item.fields import HalfLife
from recommender.models.next_item.linear import (
    TINY,
    UNRELATED_WEIGHT,
    MatrixRanker,
    largest_of_each_row,
    packed,
    popularity,
    profiles,
    unpacked,
)
from recommender.sequences import Sequences


class ItemCFConfig(Hyperparameters):
    """Hyperparameters of item-based filtering.

    The defaults were chosen by validation items of Amazon Beauty and ML-1M at once. Search ranges are chosen by hand.
    """

    neighbours: Annotated[int, Range(10, 1000, log=True)] = Field(
        100, ge=1, description="Most similar items kept for each item."
    )
    shrink: Annotated[float, Range(0.1, 100.0, log=True)] = Field(
        5.0, ge=0, description="Similarity is multiplied by shared users / (shared users + shrink)."
    )
    half_life: HalfLife = 1.0


class ItemCF(MatrixRanker[ItemCFConfig]):
    """Similarity to the items in a user's history."""

    name: ClassVar[str] = "item_cf"
    Config: ClassVar[type[ItemCFConfig]] = ItemCFConfig

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: ItemCFConfig,
        context: FitContext,
    ) -> Self:
        """As `ItemRanker.fit`."""
        had_UV = profiles(sequences)
        together_VV = had_UV.T.dot(had_UV).tocsr()
        length_V = np.sqrt(np.maximum(together_VV.diagonal(), TINY))
        together_VV.setdiag(0)
        together_VV.eliminate_zeros()
        alike_VV = together_VV.tocoo()
        shrunk = alike_VV.data**2 / (alike_VV.data + config.shrink)
        alike_VV.data = (shrunk / (length_V[alike_VV.row] * length_V[alike_VV.col])).astype(np.float32)
        nearest_VV = largest_of_each_row(alike_VV.tocsr(), config.neighbours)
        return cls({**packed("nearest", nearest_VV), "popularity_V": popularity(sequences)}, config)

    def _warm(self, sequences: Sequences) -> NDArray[np.float32]:
        asked_UV = profiles(sequences, half_life=self.hyperparameters.half_life)
        scores_UV: NDArray[np.float32] = np.asarray(
            asked_UV.dot(unpacked("nearest", self.arrays)).todense(), dtype=np.float32
        )
        scores_UV += UNRELATED_WEIGHT * self.arrays["popularity_V"]
        return scores_UV
