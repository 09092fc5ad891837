"""ALS: factors of implicit feedback by alternating least squares (Hu, Koren & Volinsky, ICDM 2008).

The library `implicit` fits them. A user's vector is solved from the events at hand, so new users and new events need no
training.

Shapes: U users · V items, rows 1 … V · D width · I items that a user had.
"""

from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Hyperparameters, Range
from recommender.models.next_item.fields import HalfLife, Width
from recommender.models.next_item.linear import TIE_WEIGHT, MatrixRanker, diverging, popularity, profiles
from recommender.sequences import Sequences


class ALSConfig(Hyperparameters):
    """Hyperparameters of ALS.

    The defaults were chosen by validation items of Amazon Beauty and ML-1M at once; `sweeps` is the default of
    `implicit`. Search ranges are chosen by hand.
    """

    width: Annotated[Width, Range(16, 512, log=True)] = 256
    regularization: Annotated[float, Range(1e-3, 1.0, log=True)] = Field(
        0.05, ge=0, description="Weight of the squared length of factors in the loss."
    )
    confidence: Annotated[float, Range(1.0, 100.0, log=True)] = Field(
        10.0, ge=0, description="Weight of an item that a user had, relative to one that the user did not have."
    )
    sweeps: int = Field(15, ge=1, description="Rounds of solving all users and then all items.")
    half_life: HalfLife = 2.0


class ALS(MatrixRanker[ALSConfig]):
    """Products of user and item factors by alternating least squares."""

    name: ClassVar[str] = "als"
    Config: ClassVar[type[ALSConfig]] = ALSConfig

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: ALSConfig,
        context: FitContext,
    ) -> Self:
        """As `ItemRanker.fit`."""
        from implicit.cpu.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, "blas"), diverging("als", "confidence"):
            model = AlternatingLeastSquares(
                factors=config.width,
                regularization=config.regularization,
                alpha=config.confidence,
                iterations=config.sweeps,
                num_threads=1,
                random_state=context.seed % 2**32,
            )
            model.fit(profiles(sequences), show_progress=False)
        factors_VD = np.ascontiguousarray(model.item_factors, dtype=np.float32)
        return cls({"factors_VD": factors_VD, "popularity_V": popularity(sequences)}, config)

    def _warm(self, sequences: Sequences) -> NDArray[np.float32]:
        scores_UV: NDArray[np.float32] = self.user_vectors(sequences) @ self.item_vectors().T
        scores_UV += TIE_WEIGHT * self.arrays["popularity_V"]
        return scores_UV

    def item_vectors(self) -> NDArray[np.float32]:
        """The items' factors, float32 [V + 1, D]."""
        return self.arrays["factors_VD"]

    def user_vectors(self, sequences: Sequences) -> NDArray[np.float32]:
        """Each user's least squares given the items' factors, as `implicit` solves them. Old events weigh less."""
        factors_VD = self.arrays["factors_VD"].astype(np.float64)
        config = self.hyperparameters
        asked_UV = profiles(sequences, half_life=config.half_life)
        alone_DD = factors_VD.T @ factors_VD + config.regularization * np.eye(factors_VD.shape[1])
        out_UD, confidence = np.zeros((sequences.num_users, factors_VD.shape[1])), config.confidence
        for user in range(sequences.num_users):
            own = slice(asked_UV.indptr[user], asked_UV.indptr[user + 1])
            had_ID = factors_VD[asked_UV.indices[own]]
            weight_I = asked_UV.data[own]
            left_DD = alone_DD + (confidence - 1.0) * (had_ID * weight_I[:, None]).T @ had_ID
            out_UD[user] = np.linalg.solve(left_DD, confidence * had_ID.T @ weight_I)
        return out_UD.astype(np.float32)
