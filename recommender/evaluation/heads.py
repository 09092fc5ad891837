"""The heads for amounts: expected spend, and its excess over the user's own usual rate.

Shapes: N pairs.
"""

import numpy as np
from numpy.typing import NDArray

from recommender.evaluation.document import Head


def head_quality(known_N: NDArray[np.floating], said_N: NDArray[np.floating] | None) -> Head | None:
    """Mean absolute error and rank correlation over the pairs whose amount is known; None where there are too few or no head.

    Rank correlation is Spearman's, ties sharing their mean rank (Kendall & Gibbons, 1990).
    """
    if said_N is None:
        return None
    mask = np.isfinite(known_N) & np.isfinite(said_N)
    if int(mask.sum()) < 2:
        return None
    known, said = known_N[mask].astype(np.float64), said_N[mask].astype(np.float64)
    ranks = _ranks(known), _ranks(said)
    varies = ranks[0].std() > 0 and ranks[1].std() > 0
    return Head(
        num_pairs=len(known),
        mae=float(np.abs(known - said).mean()),
        mae_of_mean=float(np.abs(known - known.mean()).mean()),
        rank_correlation=float(np.corrcoef(*ranks)[0, 1]) if varies else None,
    )


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    mean_rank: NDArray[np.float64] = (last - (count - 1) / 2)[group]
    return mean_rank
