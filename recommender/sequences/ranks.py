"""Ranks among all items, and NDCG of them.

Shapes: U users · V items, rows 1 … V.
"""

import numpy as np
from numpy.typing import NDArray

from recommender.sequences.sequences import Sequences

USERS_A_BATCH, CELLS_A_BATCH = 512, 2**25


def users_at_once(num_items: int) -> int:
    """So many users that their scores of all items fit into memory."""
    return int(np.clip(CELLS_A_BATCH // (num_items + 1), 16, USERS_A_BATCH))


def full_ranks(scores_UV: NDArray[np.float32], seen: Sequences, target_U: NDArray[np.int32]) -> NDArray[np.int64]:
    """Rank of `target_U` among the items that are not in `seen`, 1 is best; an item with an equal score stands before it.

    `scores_UV`: float32 [U, V + 1]. A target that was seen before is ranked among the unseen ones all the same.
    """
    rows = np.arange(len(target_U))
    better_UV = scores_UV >= scores_UV[rows, target_U][:, None]
    better_UV[:, 0] = False
    better_UV[seen.rows_T(), seen.items_T] = False
    better_UV[rows, target_U] = False
    return np.asarray(np.count_nonzero(better_UV, axis=1) + 1, dtype=np.int64)


def ndcg(ranks_U: NDArray[np.int64], at: int = 10) -> NDArray[np.float64]:
    """1 / log2(1 + rank) within the first `at`, else 0 (one relevant item a user): one value a user."""
    return np.where(ranks_U <= at, 1 / np.log2(1.0 + ranks_U), 0.0)
