"""Ranks among all items, and their NDCG.

Shapes: U users · V items, rows 1 … V.
"""

import numpy as np
from numpy.typing import NDArray

from recommender.sequences.sequences import Sequences

USERS_A_BATCH, CELLS_A_BATCH = 512, 2**25
"""At most so many users, and scores of user and item, at once. Chosen by hand: 2**25 float32 scores take 128 MiB."""
MIN_USERS_A_BATCH = 16
"""With fewer users at once the work would be mostly overhead. A million items then take 64 MiB."""


def users_at_once(num_items: int) -> int:
    """Return how many users to score at once so that their scores of all items fit into memory."""
    return int(np.clip(CELLS_A_BATCH // (num_items + 1), MIN_USERS_A_BATCH, USERS_A_BATCH))


def full_ranks(scores_UV: NDArray[np.float32], seen: Sequences, target_U: NDArray[np.int32]) -> NDArray[np.int64]:
    """Rank each user's target among the items that the user has not seen, int64 [U], 1 is the best.

    An item with the same score as the target counts as better, so that constant scores earn nothing. A target that was
    seen is ranked among the unseen items too.

    Args:
        scores_UV: float32 [U, V + 1].
        seen: the users' histories.
        target_U: row of each user's target.
    """
    rows = np.arange(len(target_U))
    better_UV = scores_UV >= scores_UV[rows, target_U][:, None]
    better_UV[:, 0] = False
    better_UV[seen.rows_T(), seen.items_T] = False
    better_UV[rows, target_U] = False
    return np.asarray(np.count_nonzero(better_UV, axis=1) + 1, dtype=np.int64)


def ndcg(ranks_U: NDArray[np.int64], at: int = 10) -> NDArray[np.float64]:
    """Compute NDCG@`at` of each user with one relevant item: 1 / log2(1 + rank) within the first `at`, else 0.

    Ten places is what papers on next items report.
    """
    return np.where(ranks_U <= at, 1 / np.log2(1.0 + ranks_U), 0.0)
