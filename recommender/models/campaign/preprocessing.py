"""Raw features -> what a linear model can use; fitted once, stored in the bundle, applied by training and serving alike.

A missing value becomes the feature's median plus an indicator; heavy tails are folded by the signed logarithm; every input is
standardised and clipped to a few standard deviations, so that one odd household cannot carry a score.

Shapes: N pairs · F features · M features that were missing at least once · E = F + M inputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

MIN_SCALE = 1e-6
MIN_MISSING = 5
"""An indicator that was set for fewer pairs is not worth an input."""


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """The transform of F features to E inputs, numpy only. A feature that never varies becomes 0."""

    median_F: NDArray[np.float32]
    mean_F: NDArray[np.float32]
    inverse_scale_F: NDArray[np.float32]
    missing_M: NDArray[np.int32]
    """The features that have an indicator."""
    missing_mean_M: NDArray[np.float32]
    missing_inverse_scale_M: NDArray[np.float32]
    clip: float

    @classmethod
    def fit(cls, features_NF: NDArray[np.float32], *, clip: float = 4.0) -> Self:
        is_missing_NF = ~np.isfinite(features_NF)
        some_F = ~is_missing_NF.all(axis=0)
        median_F = np.zeros(features_NF.shape[1], dtype=np.float32)
        median_F[some_F] = np.nanmedian(np.where(is_missing_NF, np.nan, features_NF)[:, some_F], axis=0)
        folded_NF = _fold(np.where(is_missing_NF, median_F, features_NF).astype(np.float32)).astype(np.float64)
        mean_F, scale_F = folded_NF.mean(axis=0), folded_NF.std(axis=0)
        rare = is_missing_NF.sum(axis=0)
        missing_M = np.flatnonzero((rare >= MIN_MISSING) & (len(features_NF) - rare >= MIN_MISSING)).astype(np.int32)
        share_M = is_missing_NF[:, missing_M].mean(axis=0)
        return cls(
            median_F=median_F,
            mean_F=mean_F.astype(np.float32),
            inverse_scale_F=_inverse(scale_F),
            missing_M=missing_M,
            missing_mean_M=share_M.astype(np.float32),
            missing_inverse_scale_M=_inverse(np.sqrt(share_M * (1 - share_M))),
            clip=clip,
        )

    @property
    def feature_of_E(self) -> NDArray[np.int32]:
        """The feature that each input comes from."""
        return np.concatenate([np.arange(len(self.median_F), dtype=np.int32), self.missing_M])

    def __call__(self, features_NF: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw features, NaN where the source does not say -> standardised inputs, float32 [N, E]."""
        is_missing_NF = ~np.isfinite(features_NF)
        z_NF = _fold(np.where(is_missing_NF, self.median_F, features_NF).astype(np.float32, copy=False))
        z_NF -= self.mean_F
        z_NF *= self.inverse_scale_F
        np.clip(z_NF, -self.clip, self.clip, out=z_NF)
        z_NM = (is_missing_NF[:, self.missing_M] - self.missing_mean_M) * self.missing_inverse_scale_M
        return np.concatenate([z_NF, z_NM.astype(np.float32, copy=False)], axis=1)

    def tensors(self) -> dict[str, NDArray[Any]]:
        names = ("median_F", "mean_F", "inverse_scale_F", "missing_M", "missing_mean_M", "missing_inverse_scale_M")
        return {f"preprocessing.{name}": getattr(self, name) for name in names}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], *, clip: float) -> Self:
        prefix = "preprocessing."
        found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        return cls(**found, clip=clip)


def _fold(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.copysign(np.log1p(np.abs(x)), x)


def _inverse(scale: NDArray[Any]) -> NDArray[np.float32]:
    return np.where(scale > MIN_SCALE, 1 / np.maximum(scale, MIN_SCALE), 0.0).astype(np.float32)
