"""Content-based filtering: items with attributes similar to those of the user's items (Pazzani & Billsus, 2007).

Attributes are weighted by their rarity. Items without an event are scored like all others.

Shapes: U users · V items, rows 1 … V · K attribute values · P pairs of item and attribute.
"""

import warnings
from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Hyperparameters, Range
from recommender.models.next_item.fields import HalfLife
from recommender.models.next_item.linear import (
    MatrixRanker,
    packed,
    popularity,
    profiles,
    rows_of_unit_length,
    unpacked,
)
from recommender.sequences import Items, Sequences

LEAST_POPULARITY = 1e-9
"""Least divisor by the popularity of the most popular item, for a fit without events."""


class ContentConfig(Hyperparameters):
    """Hyperparameters of content-based filtering.

    The defaults were chosen by validation items of Amazon Beauty and ML-1M at once. Search ranges are chosen by hand.
    """

    half_life: HalfLife = 1.0
    popularity: Annotated[float, Range(0.001, 1.0, log=True)] = Field(
        0.1,
        ge=0,
        description="Weight of an item's popularity (relative to the most popular item), added to the cosine.",
    )


class Content(MatrixRanker[ContentConfig]):
    """Cosine of attribute profiles."""

    name: ClassVar[str] = "content"
    Config: ClassVar[type[ContentConfig]] = ContentConfig

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: ContentConfig,
        context: FitContext,
    ) -> Self:
        """As `ItemRanker.fit`. Warns where no item has an attribute."""
        if not len(sequences.items.attribute_rows()[0]):
            warnings.warn("content: no item has an attribute, so it ranks by popularity alone", stacklevel=2)
        vectors_VK = content_vectors(sequences.items)
        return cls({**packed("vectors", vectors_VK), "popularity_V": popularity(sequences)}, config)

    def _warm(self, sequences: Sequences) -> NDArray[np.float32]:
        config = self.hyperparameters
        vectors_VK, popular_V = unpacked("vectors", self.arrays), self.arrays["popularity_V"]
        asked_UK = profiles(sequences, half_life=config.half_life).dot(vectors_VK)
        scores_UV = np.asarray(rows_of_unit_length(asked_UK.tocsr()).dot(vectors_VK.T).todense(), dtype=np.float32)
        return scores_UV + np.float32(config.popularity) * popular_V / max(float(popular_V.max()), LEAST_POPULARITY)


def content_vectors(items: Items) -> sparse.csr_matrix:
    """Attributes of each item, weighted by their rarity, rows of unit length: [V + 1, K], K at least 1.

    The weight of an attribute is log(1 + items / items that have it).
    """
    rows_P, attributes_P = items.attribute_rows()
    shape = (items.num + 1, max(items.num_attributes, 1))
    have_VK = sparse.csr_matrix((np.ones(len(rows_P), dtype=np.float32), (rows_P, attributes_P)), shape=shape)
    rarity_K = np.log1p(items.num / np.maximum(np.asarray(have_VK.sum(axis=0)).ravel(), 1))
    return rows_of_unit_length(have_VK.multiply(rarity_K).tocsr())
