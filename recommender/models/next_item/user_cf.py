"""User-based collaborative filtering: what the most similar users had (Resnick et al., CSCW 1994), similarity the cosine of profiles
in which rare items weigh more (Breese et al., UAI 1998). A new user is compared like all others.

Shapes: U users · W users fitted on · V items, rows 1 … V.
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
    rows_of_unit_length,
    unpacked,
)
from recommender.sequences import Sequences

DEFAULTS: dict[str, Any] = {"neighbours": 50, "half_life": 1.5, "power": 1.0}
"""neighbours: how many users speak · half_life: in events, 0 is no decay · power: of the similarity when votes are added."""
SEARCHED: Space = {
    "neighbours": Range(10, 500, log=True),
    "half_life": Range(0.2, 20.0, log=True),
    "power": Range(0.0, 2.0),
}


class UserCF(MatrixRanker):
    """The votes of a user's neighbours."""

    name: ClassVar[str] = "user_cf"

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
        had_WV = profiles(sequences)
        users_V = np.maximum(np.asarray((had_WV > 0).sum(axis=0)).ravel(), 1)
        arrays = {"rarity_V": np.log1p(sequences.num_users / users_V).astype(np.float32)}
        return cls({**packed("had", had_WV), **arrays, "popularity_V": popularity(sequences)}, hyper)

    def _warm(self, sequences: Sequences) -> NDArray[np.float32]:
        had_WV, rarity_V = unpacked("had", self.arrays), self.arrays["rarity_V"]
        known_WV = rows_of_unit_length(had_WV.multiply(rarity_V).tocsr())
        asked_UV = profiles(sequences, half_life=float(self._hyper["half_life"])).multiply(rarity_V).tocsr()
        alike_UW = rows_of_unit_length(asked_UV).dot(known_WV.T).tocsr()
        if sequences.users_U is not None:
            own_UW = np.repeat(sequences.users_U, np.diff(alike_UW.indptr))
            alike_UW.data[alike_UW.indices == own_UW] = 0.0
            alike_UW.eliminate_zeros()
        nearest_UW = largest_of_each_row(alike_UW, int(self._hyper["neighbours"]))
        nearest_UW.data **= float(self._hyper["power"])
        votes_UV: NDArray[np.float32] = np.asarray(nearest_UW.dot(had_WV).todense(), dtype=np.float32)
        votes_UV += np.float32(1e-4) * self.arrays["popularity_V"]
        return votes_UV
