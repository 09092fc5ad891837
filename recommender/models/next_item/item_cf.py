"""Item-based collaborative filtering: the items most like those that a user had (Sarwar et al., WWW 2001), similarity the cosine of
who had them, shrunk where few did.

Shapes: U users · V items, rows 1 … V.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Range, Space
from recommender.models.next_item.linear import (
    MatrixRanker,
    largest_of_each_row,
    packed,
    popularity,
    profiles,
    unpacked,
)
from recommender.sequences import Sequences

DEFAULTS: dict[str, Any] = {"neighbours": 100, "shrink": 5.0, "half_life": 1.0}
"""neighbours: similar items kept of each item · shrink: similarity is multiplied by together / (together + shrink) · half_life: of a
user's events, in events."""
SEARCHED: Space = {
    "neighbours": Range(10, 1000, log=True),
    "shrink": Range(0.1, 100.0, log=True),
    "half_life": Range(0.2, 20.0, log=True),
}


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
        length_V = np.sqrt(np.maximum(together_VV.diagonal(), 1e-12))
        together_VV.setdiag(0)
        together_VV.eliminate_zeros()
        alike_VV = together_VV.tocoo()
        shrunk = alike_VV.data**2 / (alike_VV.data + float(hyper["shrink"]))
        alike_VV.data = (shrunk / (length_V[alike_VV.row] * length_V[alike_VV.col])).astype(np.float32)
        nearest_VV = largest_of_each_row(alike_VV.tocsr(), int(hyper["neighbours"]))
        return cls({**packed("nearest", nearest_VV), "popularity_V": popularity(sequences)}, hyper)

    def _warm(self, sequences: Sequences) -> NDArray[np.float32]:
        asked_UV = profiles(sequences, half_life=float(self._hyper["half_life"]))
        scores_UV: NDArray[np.float32] = np.asarray(
            asked_UV.dot(unpacked("nearest", self.arrays)).todense(), dtype=np.float32
        )
        scores_UV += np.float32(1e-4) * self.arrays["popularity_V"]
        return scores_UV
