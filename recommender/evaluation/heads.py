"""Quality of the heads that predict amounts: spend, and its excess over the user's own usual spend.

Shapes: N pairs.
"""

import numpy as np
from numpy.typing import NDArray

from recommender.evaluation.document import Head


def head_quality(actual_N: NDArray[np.floating], predicted_N: NDArray[np.floating] | None) -> Head | None:
    """Compute mean absolute error and rank correlation over the pairs whose amount is known.

    Returns None for a ranker without such a head, and for fewer than two pairs, which have no correlation. The rank
    correlation is Spearman's; ties share their mean rank (Kendall & Gibbons, Rank Correlation Methods, 1990).
    """
    if predicted_N is None:
        return None
    mask = np.isfinite(actual_N) & np.isfinite(predicted_N)
    if int(mask.sum()) < 2:
        return None
    actual, predicted = actual_N[mask].astype(np.float64), predicted_N[mask].astype(np.float64)
    ranks = _ranks(actual), _ranks(predicted)
    varies = ranks[0].std() > 0 and ranks[1].std() > 0
    return Head(
        num_pairs=len(actual),
        mae=float(np.abs(actual - predicted).mean()),
        mae_of_mean=float(np.abs(actual - actual.mean()).mean()),
        rank_correlation=float(np.corrcoef(*ranks)[0, 1]) if varies else None,
    )


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    mean_rank: NDArray[np.float64] = (last - (count - 1) / 2)[group]
    return mean_rank
