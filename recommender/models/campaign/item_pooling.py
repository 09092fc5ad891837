"""Scores of single items -> a campaign's pooled scores.

Shapes: U users · V items, rows 1 … V (row 0 is no item) · n pairs · c items of one campaign.
"""

import numpy as np
from numpy.typing import NDArray

STRONGEST = 10
"""Items whose strengths are averaged beside the strongest one. Chosen by hand."""
SMALLEST = 1e-9
"""Added to a weight or mass before its logarithm: far below 1 / V of any vocabulary that fits into memory."""
MIN_DEVIATION = 1e-12
"""A standard deviation up to this is rounding in float64: all items are equally strong."""


def weights_and_strengths(
    scores_UV: NDArray[np.float32], log_odds: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Turn a next-item ranker's scores into values by which campaigns are compared.

    Weights are the softmax of log-odds; of other scores, the shares above each user's lowest score. Strengths are the
    logarithms of the weights; of other scores, standard scores compressed by the signed logarithm. They keep the order
    of the scores without their tails.

    Args:
        scores_UV: Scores of all items for each user. Not finite: no opinion, weight 0. Row 0 is ignored.
        log_odds: Whether the scores are log-odds.

    Returns:
        Weights, which sum to 1 over the items, and strengths, float32 [U, V + 1] each.
    """
    scored_UV = np.isfinite(scores_UV)
    scored_UV[:, 0] = False
    counts_U1 = np.maximum(scored_UV.sum(axis=1, keepdims=True), 1)
    if log_odds:
        high_U1 = np.where(scored_UV, scores_UV, -np.inf).max(axis=1, keepdims=True)
        high_U1 = np.where(np.isfinite(high_U1), high_U1, 0)
        raw_UV = np.where(scored_UV, np.exp(np.where(scored_UV, scores_UV - high_U1, 0)), 0)
    else:
        low_U1 = np.where(scored_UV, scores_UV, np.inf).min(axis=1, keepdims=True)
        raw_UV = np.where(scored_UV, scores_UV - np.where(np.isfinite(low_U1), low_U1, 0), 0)
    sums_U1 = raw_UV.sum(axis=1, keepdims=True, dtype=np.float64)
    weights_UV = np.where(sums_U1 > 0, raw_UV / np.where(sums_U1 > 0, sums_U1, 1), scored_UV / counts_U1)
    if log_odds:
        strengths_UV = np.log(weights_UV + SMALLEST)
    else:
        # The weights sum to 1, so their mean is 1 / count and the standard score (weight - 1 / count) / deviation.
        off_UV = np.where(scored_UV, weights_UV - 1 / counts_U1, 0)
        deviation_U1 = np.sqrt((off_UV**2).sum(axis=1, keepdims=True) / counts_U1)
        z_UV = off_UV / np.where(deviation_U1 > MIN_DEVIATION, deviation_U1, 1)
        strengths_UV = np.sign(z_UV) * np.log1p(np.abs(z_UV))
    return weights_UV.astype(np.float32), strengths_UV.astype(np.float32)


def pool(weights_nc: NDArray[np.float32], strengths_nc: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pool the weights and strengths of n pairs over the c items of one campaign.

    Returns:
        Logarithm of the summed weights, strength of the strongest item, mean strength of the ten strongest: float32
        [n, 3].
    """
    mass_n = np.log(weights_nc.sum(axis=1, dtype=np.float64) + SMALLEST)
    most = min(STRONGEST, strengths_nc.shape[1])
    strongest = np.sort(np.partition(strengths_nc, -most, axis=1)[:, -most:], axis=1)
    return np.stack([mass_n, strongest[:, -1], strongest.mean(axis=1)], axis=1).astype(np.float32)
