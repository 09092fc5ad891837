"""Matrix factorisation of implicit feedback by alternating least squares (Hu, Koren & Volinsky, ICDM 2008), fitted by `implicit`. A user's
vector is solved from the events at hand, so that new users and new events need no training.

Shapes: U users · V items, rows 1 … V · D width · I items that a user had.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Range, Space
from recommender.models.next_item.linear import MatrixRanker, diverging, popularity, profiles
from recommender.sequences import Sequences

DEFAULTS: dict[str, Any] = {"width": 256, "regularization": 0.05, "confidence": 10.0, "sweeps": 15, "half_life": 2.0}
"""confidence: weight of what a user had, over what the user had not · half_life: of a user's events, in events, when a vector is solved."""
SEARCHED: Space = {
    "width": Range(16, 512, log=True),
    "regularization": Range(1e-3, 1.0, log=True),
    "confidence": Range(1.0, 100.0, log=True),
    "half_life": Range(0.2, 20.0, log=True),
}


class ALS(MatrixRanker):
    """Factors by alternating least squares."""

    name: ClassVar[str] = "als"

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
        from implicit.cpu.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, "blas"), diverging("als", "confidence"):
            model = AlternatingLeastSquares(
                factors=int(hyper["width"]),
                regularization=float(hyper["regularization"]),
                alpha=float(hyper["confidence"]),
                iterations=int(hyper["sweeps"]),
                num_threads=1,
                random_state=context.seed % 2**32,
            )
            model.fit(profiles(sequences), show_progress=False)
        factors_VD = np.ascontiguousarray(model.item_factors, dtype=np.float32)
        return cls({"factors_VD": factors_VD, "popularity_V": popularity(sequences)}, hyper)

    def _warm(self, sequences: Sequences) -> NDArray[np.float32]:
        scores_UV: NDArray[np.float32] = self.user_vectors(sequences) @ self.item_vectors().T
        scores_UV += np.float32(1e-6) * self.arrays["popularity_V"]
        return scores_UV

    def item_vectors(self) -> NDArray[np.float32]:
        return self.arrays["factors_VD"]

    def user_vectors(self, sequences: Sequences) -> NDArray[np.float32]:
        """Each user's least squares given the items' factors, as `implicit` states them; an old event counts in part."""
        factors_VD = self.arrays["factors_VD"].astype(np.float64)
        asked_UV = profiles(sequences, half_life=float(self._hyper["half_life"]))
        alone_DD = factors_VD.T @ factors_VD + float(self._hyper["regularization"]) * np.eye(factors_VD.shape[1])
        out_UD, confidence = np.zeros((sequences.num_users, factors_VD.shape[1])), float(self._hyper["confidence"])
        for user in range(sequences.num_users):
            some = slice(asked_UV.indptr[user], asked_UV.indptr[user + 1])
            had_ID = factors_VD[asked_UV.indices[some]]
            weight_I = asked_UV.data[some]
            left_DD = alone_DD + (confidence - 1.0) * (had_ID * weight_I[:, None]).T @ had_ID
            out_UD[user] = np.linalg.solve(left_DD, confidence * had_ID.T @ weight_I)
        return out_UD.astype(np.float32)
