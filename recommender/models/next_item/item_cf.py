"""Item-based collaborative filtering: the items most like those that a user had (Sarwar et al., WWW 2001), similarity the cosine of
who had them, shrunk where few did.

Shapes: U users · V items, rows 1 … V.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recommender.models.next_item.linear import (
    MatrixRanker,
    largest_of_each_row,
    packed,
    popularity,
    profiles,
    rows_of_unit_length,
    unpacked,
)
from recommender.models.ranker import FitContext
from recommender.sequences import Sequences

DEFAULTS: dict[str, Any] = {"neighbours": 200, "shrink": 5.0, "half_life": 3.0}
"""neighbours: similar items kept of each item · shrink: similarity is multiplied by together / (together + shrink) · half_life: of a
user's events, in events."""


class ItemCF(MatrixRanker):
    """Cosine neighbours of a user's items."""

    name: ClassVar[str] = "item_cf"

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
        had_UV = profiles(sequences)
        together_VV = had_UV.T.dot(had_UV).tocsr()
        unit_UV = rows_of_unit_length(had_UV.T.tocsr())
        alike_VV = unit_UV.dot(unit_UV.T).tocsr()
        shrunk = together_VV.copy()
        shrunk.data = shrunk.data / (shrunk.data + float(hyper["shrink"]))
        alike_VV = alike_VV.multiply(shrunk).tocsr()
        alike_VV = alike_VV - sparse.diags(alike_VV.diagonal())
        nearest_VV = largest_of_each_row(alike_VV.tocsr(), int(hyper["neighbours"]))
        return cls({**packed("nearest", nearest_VV), "popularity_V": popularity(sequences)}, hyper)

    def _warm(self, sequences: Sequences) -> NDArray[np.float32]:
        asked_UV = profiles(sequences, half_life=float(self._hyper["half_life"]))
        scores_UV: NDArray[np.float32] = np.asarray(
            asked_UV.dot(unpacked("nearest", self.arrays)).todense(), dtype=np.float32
        )
        scores_UV += np.float32(1e-4) * self.arrays["popularity_V"]
        return scores_UV
