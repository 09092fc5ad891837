"""Raw features -> inputs of a linear model. Fitted once, stored in the bundle, applied alike in training and serving.

A missing value becomes the feature's median plus an indicator. Heavy tails are compressed by the signed logarithm.
Every input is standardised and clipped to a few standard deviations, so that one unusual user cannot dominate a score.

Shapes: N pairs · F features · M features with an indicator for missing values · E = F + M inputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

MIN_SCALE = 1e-6
"""A standard deviation up to this is rounding of float32 features, not variation: the input becomes 0. Chosen
by hand."""
MIN_MISSING = 5
"""A feature gets an indicator only if at least this many values are missing and as many are present. Chosen by hand."""


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """The transform of F features to E inputs. A feature that never varies becomes 0."""

    median_F: NDArray[np.float32]
    mean_F: NDArray[np.float32]
    inverse_scale_F: NDArray[np.float32]
    missing_M: NDArray[np.int32]
    """Columns of the features that have an indicator."""
    missing_mean_M: NDArray[np.float32]
    missing_inverse_scale_M: NDArray[np.float32]
    clip: float
    """Standard deviations at which a feature is clipped."""

    @classmethod
    def fit(cls, features_NF: NDArray[np.float32], *, clip: float) -> Self:
        """Learn medians, means and scales from N pairs. NaN and infinities count as missing."""
        is_missing_NF = ~np.isfinite(features_NF)
        some_F = ~is_missing_NF.all(axis=0)
        median_F = np.zeros(features_NF.shape[1], dtype=np.float32)
        median_F[some_F] = np.nanmedian(np.where(is_missing_NF, np.nan, features_NF)[:, some_F], axis=0)
        folded_NF = _fold(np.where(is_missing_NF, median_F, features_NF).astype(np.float32)).astype(np.float64)
        mean_F, scale_F = folded_NF.mean(axis=0), folded_NF.std(axis=0)
        num_missing_F = is_missing_NF.sum(axis=0)
        varies_F = (num_missing_F >= MIN_MISSING) & (len(features_NF) - num_missing_F >= MIN_MISSING)
        missing_M = np.flatnonzero(varies_F).astype(np.int32)
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
    def num_inputs(self) -> int:
        """E: one input a feature, and one a missing-value indicator."""
        return len(self.median_F) + len(self.missing_M)

    def __call__(self, features_NF: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw features, NaN where a value is missing -> standardised inputs, float32 [N, E]."""
        is_missing_NF = ~np.isfinite(features_NF)
        z_NE = np.empty((len(features_NF), self.num_inputs), dtype=np.float32)
        z_NF, z_NM = z_NE[:, : len(self.median_F)], z_NE[:, len(self.median_F) :]
        z_NF[...] = _fold(np.where(is_missing_NF, self.median_F, features_NF).astype(np.float32, copy=False))
        z_NF -= self.mean_F
        z_NF *= self.inverse_scale_F
        np.maximum(z_NF, -self.clip, out=z_NF)
        np.minimum(z_NF, self.clip, out=z_NF)
        np.subtract(is_missing_NF[:, self.missing_M], self.missing_mean_M, out=z_NM)
        z_NM *= self.missing_inverse_scale_M
        return z_NE

    def by_feature(self, added_NE: NDArray[np.float32]) -> NDArray[np.float32]:
        """Contributions of E inputs -> of F features, float32 [N, F]: an indicator's is added to its feature's."""
        num_features = len(self.median_F)
        added_NF = np.ascontiguousarray(added_NE[:, :num_features])
        added_NF[:, self.missing_M] += added_NE[:, num_features:]
        return added_NF

    def tensors(self) -> dict[str, NDArray[Any]]:
        """All arrays that `restore` needs, by the names they have in a bundle."""
        names = ("median_F", "mean_F", "inverse_scale_F", "missing_M", "missing_mean_M", "missing_inverse_scale_M")
        return {f"preprocessing.{name}": getattr(self, name) for name in names}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], *, clip: float) -> Self:
        """Rebuild the transform from a ranker's tensors."""
        prefix = "preprocessing."
        found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        return cls(**found, clip=clip)


def _fold(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Signed logarithm: sign(x) · log(1 + |x|)."""
    return np.copysign(np.log1p(np.abs(x)), x)


def _inverse(scale: NDArray[Any]) -> NDArray[np.float32]:
    return np.where(scale > MIN_SCALE, 1 / np.maximum(scale, MIN_SCALE), 0.0).astype(np.float32)
