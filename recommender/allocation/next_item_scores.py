"""Scores of all items for many users, as many users at a time as memory takes, and the best items of each.

Shapes: U users · V items, rows 1 … V (row 0 is no item) · N best items.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.errors import TrainingError
from recommender.models.next_item.ranker import ItemRanker
from recommender.sequences import Sequences
from recommender.sequences.ranks import users_at_once


def best_items(
    ranker: ItemRanker[Any], histories: Sequences, top: int, *, seen: bool = False
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Rows and scores of the `top` items that each user has not had, best first: [U, N] each.

    Args:
        ranker: The fitted ranker.
        histories: The users' events so far.
        top: How many items a user gets; row 0 stands where there are no more.
        seen: Whether items that the user had before may be among them.

    Raises:
        TrainingError: A score is NaN; names the ranker.
    """
    top = min(top, histories.items.num)
    rows_UN = np.zeros((histories.num_users, top), dtype=np.int32)
    scores_UN = np.full((histories.num_users, top), -np.inf, dtype=np.float32)
    for part, batch, scores_UV in scored_in_batches(ranker, histories, np.arange(histories.num_users)):
        if not seen:
            scores_UV[batch.rows_T(), batch.items_T] = -np.inf
        order_UN = np.argsort(-scores_UV, axis=1, kind="stable")[:, :top].astype(np.int32)
        scores_UN[part] = np.take_along_axis(scores_UV, order_UN, axis=1)
        rows_UN[part] = np.where(np.isfinite(scores_UN[part]), order_UN, 0)
    return rows_UN, scores_UN


def scored_in_batches(
    ranker: ItemRanker[Any], histories: Sequences, users: NDArray[np.int64]
) -> Iterator[tuple[slice, Sequences, NDArray[np.float32]]]:
    """Score all items for some of `users` at a time, so many that their scores fit into memory.

    Yields:
        Which of `users` they are, their histories, and their scores [U, V + 1].

    Raises:
        TrainingError: A score is NaN; names the ranker.
    """
    size = users_at_once(histories.items.num)
    for first in range(0, len(users), size):
        batch = histories.take(users[first : first + size])
        scores_UV = ranker.score(batch)
        if np.isnan(scores_UV).any():
            raise TrainingError(f"{ranker.name}: a score is NaN, so the fit is broken and cannot be used; fit again")
        yield slice(first, first + batch.num_users), batch, scores_UV
