"""Pure singular value decomposition: a user's profile projected on the leading right singular vectors of all profiles (Cremonesi,
Koren & Turrin, RecSys 2010). A new user needs no training.

Shapes: U users · V items, rows 1 … V · D width.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Range, Space
from recommender.models.next_item.linear import MatrixRanker, popularity, profiles
from recommender.sequences import Sequences

DEFAULTS: dict[str, Any] = {"width": 128, "power": 0.2, "half_life": 2.0}
"""width: singular vectors kept · power: profiles are divided by an item's users to this power · half_life: of a user's events, in events."""
SEARCHED: Space = {"width": Range(16, 512, log=True), "power": Range(0.0, 1.0), "half_life": Range(0.2, 20.0, log=True)}


class SVD(MatrixRanker):
    """Projection on what profiles have in common."""

    name: ClassVar[str] = "svd"

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
        from scipy.sparse.linalg import svds

        had_UV = profiles(sequences)
        users_V = np.maximum(np.asarray(had_UV.sum(axis=0)).ravel(), 1.0)
        weight_V = (users_V ** -float(hyper["power"])).astype(np.float32)
        weighted_UV = had_UV.multiply(weight_V).tocsr()
        width, least = int(hyper["width"]), min(weighted_UV.shape)
        if least < 2 or not weighted_UV.nnz:  # nothing to decompose: every user gets what is popular
            right_DV = np.zeros((1, weighted_UV.shape[1]), dtype=np.float32)
        else:
            start = np.random.default_rng(context.seed).normal(size=least).astype(np.float32)
            _, _, right_DV = svds(weighted_UV, k=min(width, least - 1), v0=start)
        factors_VD = np.ascontiguousarray(right_DV.T, dtype=np.float32)
        nobodys_V = np.diff(had_UV.tocsc().indptr) == 0
        factors_VD[nobodys_V] = 0.0  # the solver's rounding would give them an order
        return cls({"factors_VD": factors_VD, "weight_V": weight_V, "popularity_V": popularity(sequences)}, hyper)

    def _warm(self, sequences: Sequences) -> NDArray[np.float32]:
        scores_UV: NDArray[np.float32] = self.user_vectors(sequences) @ self.item_vectors().T
        scores_UV += np.float32(1e-6) * self.arrays["popularity_V"]
        return scores_UV

    def item_vectors(self) -> NDArray[np.float32]:
        return self.arrays["factors_VD"]

    def user_vectors(self, sequences: Sequences) -> NDArray[np.float32]:
        asked_UV = profiles(sequences, half_life=float(self._hyper["half_life"])).multiply(self.arrays["weight_V"])
        return np.asarray(asked_UV.dot(self.arrays["factors_VD"]), dtype=np.float32)
