"""Matrix factorisation by Bayesian personalised ranking (Rendle et al., UAI 2009), fitted by `implicit`. A user that the fit knew keeps the
vector of it; a new one gets the mean of the vectors of users who had the same items.

Shapes: U users · W users fitted on · V items, rows 1 … V · D width (the last one is the item's bias).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Range, Space
from recommender.models.next_item.linear import MatrixRanker, diverging, popularity, profiles
from recommender.sequences import Sequences

DEFAULTS: dict[str, Any] = {"width": 64, "rate": 0.05, "regularization": 0.01, "epochs": 100}
"""As `implicit` names them: rate of the stochastic gradient, regularization of both factors, epochs over all events."""
SEARCHED: Space = {
    "width": Range(16, 256, log=True),
    "rate": Range(0.005, 0.2, log=True),
    "regularization": Range(1e-4, 0.1, log=True),
    "epochs": Range(20, 300, log=True),
}


class BPR(MatrixRanker):
    """Factors that rank what a user had before what not."""

    name: ClassVar[str] = "bpr"

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
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        had_WV = profiles(sequences)
        model = BayesianPersonalizedRanking(
            factors=int(hyper["width"]),
            learning_rate=float(hyper["rate"]),
            regularization=float(hyper["regularization"]),
            iterations=int(hyper["epochs"]),
            num_threads=1,
            random_state=context.seed % 2**31,
        )
        with diverging("bpr", "rate"):
            model.fit(had_WV, show_progress=False)
        factors_VD = np.ascontiguousarray(model.item_factors, dtype=np.float32)
        users_WD = np.ascontiguousarray(model.user_factors, dtype=np.float32)
        had_VW = had_WV.T.tocsr()
        owners_V1 = np.maximum(np.asarray(had_VW.sum(axis=1)), 1.0)
        typical_VD = np.asarray(had_VW.dot(users_WD) / owners_V1, dtype=np.float32)
        typical_VD[:, -1] = 1.0  # of the bias: who has only items that nobody took gets the popular ones
        arrays = {"factors_VD": factors_VD, "users_WD": users_WD, "typical_VD": typical_VD}
        return cls({**arrays, "popularity_V": popularity(sequences)}, hyper)

    def _warm(self, sequences: Sequences) -> NDArray[np.float32]:
        return self.user_vectors(sequences) @ self.item_vectors().T

    def item_vectors(self) -> NDArray[np.float32]:
        return self.arrays["factors_VD"]

    def user_vectors(self, sequences: Sequences) -> NDArray[np.float32]:
        asked_UV = profiles(sequences)
        num_U1 = np.maximum(sequences.lengths_U, 1)[:, None]
        out_UD = np.asarray(asked_UV.dot(self.arrays["typical_VD"]) / num_U1, dtype=np.float32)
        if sequences.users_U is not None:
            known = np.flatnonzero((sequences.users_U >= 0) & (sequences.users_U < len(self.arrays["users_WD"])))
            out_UD[known] = self.arrays["users_WD"][sequences.users_U[known]]
        return out_UD
