"""BPR: matrix factorisation by Bayesian personalised ranking (Rendle et al., UAI 2009), fitted by `implicit`.

A user that was in the fit keeps its vector. A new user gets the mean, over the items in the history, of the mean vector
of each item's users.

Shapes: U users · W users of the fit · V items, rows 1 … V · D width (the last one is the item's bias).
"""

from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Hyperparameters, Range
from recommender.models.next_item.fields import Width
from recommender.models.next_item.linear import MatrixRanker, diverging, popularity, profiles
from recommender.sequences import Sequences


class BPRConfig(Hyperparameters):
    """Hyperparameters of BPR.

    The defaults are chosen by hand, not tuned; `regularization` and `epochs` are those of `implicit`. Search ranges
    are chosen by hand.
    """

    width: Annotated[Width, Range(16, 256, log=True)] = 64
    rate: Annotated[float, Range(0.005, 0.2, log=True)] = Field(
        0.05, gt=0, description="Learning rate of the stochastic gradient descent."
    )
    regularization: Annotated[float, Range(1e-4, 0.1, log=True)] = Field(
        0.01, ge=0, description="Weight of the squared length of both kinds of factors in the loss."
    )
    epochs: Annotated[int, Range(20, 300, log=True)] = Field(100, ge=1, description="Passes over the training events.")


class BPR(MatrixRanker[BPRConfig]):
    """Factors that rank the user's items above all other items."""

    name: ClassVar[str] = "bpr"
    Config: ClassVar[type[BPRConfig]] = BPRConfig

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: BPRConfig,
        context: FitContext,
    ) -> Self:
        """As `ItemRanker.fit`."""
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        had_WV = profiles(sequences)
        model = BayesianPersonalizedRanking(
            factors=config.width,
            learning_rate=config.rate,
            regularization=config.regularization,
            iterations=config.epochs,
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
        # The bias counts in full even for an item without users, so a user of such items alone gets the popular items.
        typical_VD[:, -1] = 1.0
        arrays = {"factors_VD": factors_VD, "users_WD": users_WD, "typical_VD": typical_VD}
        return cls({**arrays, "popularity_V": popularity(sequences)}, config)

    def _warm(self, sequences: Sequences) -> NDArray[np.float32]:
        return self.user_vectors(sequences) @ self.item_vectors().T

    def item_vectors(self) -> NDArray[np.float32]:
        """The items' factors and bias, float32 [V + 1, D]."""
        return self.arrays["factors_VD"]

    def user_vectors(self, sequences: Sequences) -> NDArray[np.float32]:
        """The users' factors, float32 [U, D]. The last one is 1, as the factor of the items' bias."""
        asked_UV = profiles(sequences)
        num_U1 = np.maximum(sequences.lengths_U, 1)[:, None]
        out_UD = np.asarray(asked_UV.dot(self.arrays["typical_VD"]) / num_U1, dtype=np.float32)
        if sequences.users_U is not None:
            known = np.flatnonzero((sequences.users_U >= 0) & (sequences.users_U < len(self.arrays["users_WD"])))
            out_UD[known] = self.arrays["users_WD"][sequences.users_U[known]]
        return out_UD
