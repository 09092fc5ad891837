"""Content-based filtering: items whose attributes are like those of what the user had (Pazzani & Billsus, 2007), attributes weighted by
their rarity. Items that nobody had yet are scored like all others.

Shapes: U users · V items, rows 1 … V · K attribute values · P pairs of item and attribute.
"""

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Range, Space
from recommender.models.next_item.linear import (
    MatrixRanker,
    packed,
    popularity,
    profiles,
    rows_of_unit_length,
    unpacked,
)
from recommender.sequences import Items, Sequences

DEFAULTS: dict[str, Any] = {"half_life": 1.0, "popularity": 0.1}
"""half_life: of a user's events, in events · popularity: weight of an item's popularity (relative to the most popular one) beside the cosine."""
SEARCHED: Space = {"half_life": Range(0.2, 20.0, log=True), "popularity": Range(0.001, 1.0, log=True)}


class Content(MatrixRanker):
    """Cosine of attribute profiles."""

    name: ClassVar[str] = "content"

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
        if not len(sequences.items.attribute_rows()[0]):
            warnings.warn("content: no item has an attribute, so it ranks by popularity alone", stacklevel=2)
        vectors_VK = content_vectors(sequences.items)
        return cls({**packed("vectors", vectors_VK), "popularity_V": popularity(sequences)}, hyper)

    def _warm(self, sequences: Sequences) -> NDArray[np.float32]:
        vectors_VK, popular_V = unpacked("vectors", self.arrays), self.arrays["popularity_V"]
        asked_UK = profiles(sequences, half_life=float(self._hyper["half_life"])).dot(vectors_VK)
        scores_UV = np.asarray(rows_of_unit_length(asked_UK.tocsr()).dot(vectors_VK.T).todense(), dtype=np.float32)
        return scores_UV + np.float32(self._hyper["popularity"]) * popular_V / max(float(popular_V.max()), 1e-9)


def content_vectors(items: Items) -> sparse.csr_matrix:
    """Attributes of each item weighted by log(items / items that have it), rows of unit length: [V + 1, K]; K at least 1."""
    rows_P, attributes_P = items.attribute_rows()
    shape = (items.num + 1, max(items.num_attributes, 1))
    have_VK = sparse.csr_matrix((np.ones(len(rows_P), dtype=np.float32), (rows_P, attributes_P)), shape=shape)
    rarity_K = np.log1p(items.num / np.maximum(np.asarray(have_VK.sum(axis=0)).ravel(), 1))
    return rows_of_unit_length(have_VK.multiply(rarity_K).tocsr())
