"""Full ranking of one held-out item for each user: every item that the user has not seen competes.

Ties count against the ranker.

Shapes: U users · V items, rows 1 … V.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.allocation.next_item_scores import scored_in_batches
from recommender.models.next_item.ranker import ItemRanker
from recommender.sequences import Sequences
from recommender.sequences.ranks import full_ranks, ndcg


@dataclass(frozen=True, eq=False)
class Ranks:
    """Rank of each evaluated user's held-out item. 1 is the best."""

    users: NDArray[np.int64]
    """Rows of the evaluated users."""
    ranks: NDArray[np.int64]

    def ndcg_U(self, at: int = 10) -> NDArray[np.float64]:
        """Return NDCG@`at` of each evaluated user. Ten places is what papers on next items report."""
        return ndcg(self.ranks, at)

    def recall_U(self, at: int = 10) -> NDArray[np.float64]:
        """Return whether each evaluated user's item is among the first `at` (ten, as for NDCG), as 0 or 1."""
        return (self.ranks <= at).astype(np.float64)

    def summary(self) -> dict[str, Any]:
        """Return ndcg@10, recall@10, mrr@10 and the number of evaluated users."""
        if not len(self.ranks):
            return {"ndcg@10": None, "recall@10": None, "mrr@10": None, "users": 0}
        reciprocal = np.where(self.ranks <= 10, 1.0 / self.ranks, 0.0)
        return {
            "ndcg@10": float(self.ndcg_U().mean()),
            "recall@10": float(self.recall_U().mean()),
            "mrr@10": float(reciprocal.mean()),
            "users": len(self.ranks),
        }


def judge(ranker: ItemRanker[Any], histories: Sequences, target_U: NDArray[np.int32]) -> Ranks:
    """Rank every user's held-out item, given the history before it. A target of 0 leaves the user out.

    Raises:
        TrainingError: a score is NaN; names the ranker.
    """
    users = np.flatnonzero(target_U > 0)
    ranks = np.zeros(len(users), dtype=np.int64)
    for rows, batch, scores_UV in scored_in_batches(ranker, histories, users):
        ranks[rows] = full_ranks(scores_UV, batch, target_U[users[rows]])
    return Ranks(users, ranks)
