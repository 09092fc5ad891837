"""Full ranking of one held-out item for each user: every item that the user has not seen competes.

Ties count against the ranker.

Shapes: U users · V items, rows 1 … V · N best items.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.errors import TrainingError
from recommender.models.next_item.ranker import ItemRanker
from recommender.sequences import Sequences
from recommender.sequences.ranks import full_ranks, ndcg, users_at_once


@dataclass(frozen=True, eq=False)
class Ranks:
    """Rank of each evaluated user's held-out item. 1 is the best."""

    users: NDArray[np.int64]
    """Rows of the evaluated users."""
    ranks: NDArray[np.int64]

    def ndcg_U(self, at: int = 10) -> NDArray[np.float64]:
        """Return NDCG@`at` of each evaluated user."""
        return ndcg(self.ranks, at)

    def recall_U(self, at: int = 10) -> NDArray[np.float64]:
        """Return whether each evaluated user's item is among the first `at`, as 0 or 1."""
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
    for rows, batch, scores_UV in scored(ranker, histories, users):
        ranks[rows] = full_ranks(scores_UV, batch, target_U[users[rows]])
    return Ranks(users, ranks)


def best_items(
    ranker: ItemRanker[Any], histories: Sequences, top: int, *, seen: bool = False
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find each user's `top` items, the best first.

    Args:
        ranker: what scores.
        histories: the users' events.
        top: number of items N.
        seen: whether items of the user's own history may be among them.

    Returns:
        Rows of the items, int32 [U, N], 0 where there are no more, and their scores, float32 [U, N].

    Raises:
        TrainingError: a score is NaN; names the ranker.
    """
    top = min(top, histories.items.num)
    rows_UN = np.zeros((histories.num_users, top), dtype=np.int32)
    scores_UN = np.full((histories.num_users, top), -np.inf, dtype=np.float32)
    for rows, batch, scores_UV in scored(ranker, histories, np.arange(histories.num_users)):
        if not seen:
            scores_UV[batch.rows_T(), batch.items_T] = -np.inf
        order_UN = np.argsort(-scores_UV, axis=1, kind="stable")[:, :top].astype(np.int32)
        scores_UN[rows] = np.take_along_axis(scores_UV, order_UN, axis=1)
        rows_UN[rows] = np.where(np.isfinite(scores_UN[rows]), order_UN, 0)
    return rows_UN, scores_UN


def scored(
    ranker: ItemRanker[Any], histories: Sequences, users: NDArray[np.int64]
) -> Iterator[tuple[slice, Sequences, NDArray[np.float32]]]:
    """Score all items for `users`, in batches whose scores fit into memory.

    Yields:
        Where the batch lies in `users`, its histories, and its scores, float32 [users of the batch, V + 1].

    Raises:
        TrainingError: a score is NaN; names the ranker.
    """
    size = users_at_once(histories.items.num)
    for first in range(0, len(users), size):
        batch = histories.take(users[first : first + size])
        scores_UV = ranker.score(batch)
        if np.isnan(scores_UV).any():
            user, item = np.argwhere(np.isnan(scores_UV))[0].tolist()
            raise TrainingError(
                f"ranker {ranker.name!r} returned NaN for user row {users[first + user]}, item row {item}; "
                "its fit is not usable, so train it again with a lower rate"
            )
        yield slice(first, first + batch.num_users), batch, scores_UV
