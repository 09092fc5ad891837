"""Full ranking of one held-out item a user: every item the user has not seen competes, ties count against the ranker.

Shapes: U users · V items, rows 1 … V.
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
    """Rank of each judged user's held-out item, 1 is best."""

    users: NDArray[np.int64]
    """Rows of the judged users."""
    ranks: NDArray[np.int64]

    def ndcg_U(self, at: int = 10) -> NDArray[np.float64]:
        """1 / log2(1 + rank) within the first `at`, else 0: one value a judged user."""
        return ndcg(self.ranks, at)

    def recall_U(self, at: int = 10) -> NDArray[np.float64]:
        return (self.ranks <= at).astype(np.float64)

    def summary(self) -> dict[str, Any]:
        """ndcg@10, recall@10, mrr@10 and how many users were judged."""
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
    """Rank every user's held-out item (0: user not judged) given what came before it.

    Raises:
        TrainingError: a score is NaN; names the ranker.
    """
    users = np.flatnonzero(target_U > 0)
    ranks = np.zeros(len(users), dtype=np.int64)
    for some, batch, scores_UV in scored(ranker, histories, users):
        ranks[some] = full_ranks(scores_UV, batch, target_U[users[some]])
    return Ranks(users, ranks)


def best_items(
    ranker: ItemRanker[Any], histories: Sequences, top: int, *, seen: bool = False
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Rows and scores of the `top` items that each user has not had (with `seen`: of all), best first: [U, N] each; row 0 where
    there are no more.

    Raises:
        TrainingError: as `judge`.
    """
    top = min(top, histories.items.num)
    rows_UN = np.zeros((histories.num_users, top), dtype=np.int32)
    scores_UN = np.full((histories.num_users, top), -np.inf, dtype=np.float32)
    for some, batch, scores_UV in scored(ranker, histories, np.arange(histories.num_users)):
        if not seen:
            scores_UV[batch.rows_T(), batch.items_T] = -np.inf
        order_UN = np.argsort(-scores_UV, axis=1, kind="stable")[:, :top].astype(np.int32)
        scores_UN[some] = np.take_along_axis(scores_UV, order_UN, axis=1)
        rows_UN[some] = np.where(np.isfinite(scores_UN[some]), order_UN, 0)
    return rows_UN, scores_UN


def scored(
    ranker: ItemRanker[Any], histories: Sequences, users: NDArray[np.int64]
) -> Iterator[tuple[slice, Sequences, NDArray[np.float32]]]:
    """Some of `users` at a time, so many that their scores fit into memory: which, their histories, and their scores of all items.

    Raises:
        TrainingError: a score is NaN; names the ranker.
    """
    size = users_at_once(histories.items.num)
    for first in range(0, len(users), size):
        batch = histories.take(users[first : first + size])
        scores_UV = ranker.score(batch)
        if np.isnan(scores_UV).any():
            raise TrainingError(f"{ranker.name}: a score is NaN; the fit is broken and cannot be judged.")
        yield slice(first, first + batch.num_users), batch, scores_UV
