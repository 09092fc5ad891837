"""Pure SVD: a user's profile projected on the leading right singular vectors of all profiles.

Cremonesi, Koren & Turrin, RecSys 2010. A new user needs no training.

Shapes: U users · V items, rows 1 … V · D width.
"""

from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Hyperparameters, Range
from recommender.models.next_item.fields import HalfLife
from recommender.models.next_item.linear import TIE_WEIGHT, MatrixRanker, popularity, profiles
from recommender.sequences import Sequences


class SVDConfig(Hyperparameters):
    """Hyperparameters of SVD.

    The defaults were chosen by validation items of Amazon Beauty and ML-1M at once. Search ranges are chosen by hand.
    """

    width: Annotated[int, Range(16, 512, log=True)] = Field(128, ge=1, description="Number of singular vectors kept.")
    power: Annotated[float, Range(0.0, 1.0)] = Field(
        0.2, ge=0, description="Profiles are divided by the number of an item's users to this power."
    )
    half_life: HalfLife = 2.0


class SVD(MatrixRanker[SVDConfig]):
    """Projection of a profile on the directions that profiles have in common."""

    name: ClassVar[str] = "svd"
    Config: ClassVar[type[SVDConfig]] = SVDConfig

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: SVDConfig,
        context: FitContext,
    ) -> Self:
        """As `ItemRanker.fit`."""
        from scipy.sparse.linalg import svds

        had_UV = profiles(sequences)
        users_V = np.maximum(np.asarray(had_UV.sum(axis=0)).ravel(), 1.0)
        weight_V = (users_V**-config.power).astype(np.float32)
        weighted_UV = had_UV.multiply(weight_V).tocsr()
        least = min(weighted_UV.shape)
        if least < 2 or not weighted_UV.nnz:  # nothing to decompose: every user gets the popular items
            right_DV = np.zeros((1, weighted_UV.shape[1]), dtype=np.float32)
        else:
            start = np.random.default_rng(context.seed).normal(size=least).astype(np.float32)
            # svds finds fewer vectors than the smaller side of the matrix.
            _, _, right_DV = svds(weighted_UV, k=min(config.width, least - 1), v0=start)
        factors_VD = np.ascontiguousarray(right_DV.T, dtype=np.float32)
        without_users_V = np.diff(had_UV.tocsc().indptr) == 0
        factors_VD[without_users_V] = 0.0  # the solver's rounding errors would give these items an order
        return cls({"factors_VD": factors_VD, "weight_V": weight_V, "popularity_V": popularity(sequences)}, config)

    def _warm(self, sequences: Sequences) -> NDArray[np.float32]:
        scores_UV: NDArray[np.float32] = self.user_vectors(sequences) @ self.item_vectors().T
        scores_UV += TIE_WEIGHT * self.arrays["popularity_V"]
        return scores_UV

    def item_vectors(self) -> NDArray[np.float32]:
        """The right singular vectors, float32 [V + 1, D]."""
        return self.arrays["factors_VD"]

    def user_vectors(self, sequences: Sequences) -> NDArray[np.float32]:
        """The users' profiles in the space of the singular vectors, float32 [U, D]."""
        asked_UV = profiles(sequences, half_life=self.hyperparameters.half_life).multiply(self.arrays["weight_V"])
        return np.asarray(asked_UV.dot(self.arrays["factors_VD"]), dtype=np.float32)
