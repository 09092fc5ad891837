"""User-based collaborative filtering: recommends items of the most similar users (Resnick et al., CSCW 1994).

Similarity is the cosine of profiles in which rare items weigh more (Breese et al., UAI 1998). A new user is compared
like all others.

Shapes: U users · W users of the fit · V items, rows 1 … V.
"""

from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Hyperparameters, Range
from recommender.models.next_item.fields import HalfLife
from recommender.models.next_item.linear import (
    UNRELATED_WEIGHT,
    MatrixRanker,
    largest_of_each_row,
    packed,
    popularity,
    profiles,
    rows_of_unit_length,
    unpacked,
)
from recommender.sequences import Sequences


class UserCFConfig(Hyperparameters):
    """Hyperparameters of user-based filtering.

    The defaults were chosen by validation items of Amazon Beauty and ML-1M at once. Search ranges are chosen by hand.
    """

    neighbours: Annotated[int, Range(10, 500, log=True)] = Field(
        50, ge=1, description="Most similar users whose items are counted."
    )
    half_life: HalfLife = 1.5
    power: Annotated[float, Range(0.0, 2.0)] = Field(
        1.0, ge=0, description="Power of the similarity by which a neighbour's items are weighted."
    )


class UserCF(MatrixRanker[UserCFConfig]):
    """Weighted counts of the most similar users' items."""

    name: ClassVar[str] = "user_cf"
    Config: ClassVar[type[UserCFConfig]] = UserCFConfig

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: UserCFConfig,
        context: FitContext,
    ) -> Self:
        """As `ItemRanker.fit`."""
        had_WV = profiles(sequences)
        users_V = np.maximum(np.asarray((had_WV > 0).sum(axis=0)).ravel(), 1)
        arrays = {"rarity_V": np.log1p(sequences.num_users / users_V).astype(np.float32)}
        return cls({**packed("had", had_WV), **arrays, "popularity_V": popularity(sequences)}, config)

    def _warm(self, sequences: Sequences) -> NDArray[np.float32]:
        config = self.hyperparameters
        had_WV, rarity_V = unpacked("had", self.arrays), self.arrays["rarity_V"]
        known_WV = rows_of_unit_length(had_WV.multiply(rarity_V).tocsr())
        asked_UV = profiles(sequences, half_life=config.half_life).multiply(rarity_V).tocsr()
        alike_UW = rows_of_unit_length(asked_UV).dot(known_WV.T).tocsr()
        if sequences.users_U is not None:
            # A user of the fit is not a neighbour of itself.
            own_UW = np.repeat(sequences.users_U, np.diff(alike_UW.indptr))
            alike_UW.data[alike_UW.indices == own_UW] = 0.0
            alike_UW.eliminate_zeros()
        nearest_UW = largest_of_each_row(alike_UW, config.neighbours)
        nearest_UW.data **= config.power
        votes_UV: NDArray[np.float32] = np.asarray(nearest_UW.dot(had_WV).todense(), dtype=np.float32)
        votes_UV += UNRELATED_WEIGHT * self.arrays["popularity_V"]
        return votes_UV
