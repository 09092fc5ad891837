"""Evaluates next-item rankers on cold items, which have no events in training, only content.

Whole items are held out, not events, as in Schein et al., "Methods and metrics for cold-start recommendations", SIGIR
2002.

Shapes: U users · V items, rows 1 … V · T events.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.allocation.next_item_scores import scored_in_batches
from recommender.engine.context import DEFAULT_SEED
from recommender.errors import PeriodError
from recommender.evaluation.leave_one_out import Ranks
from recommender.models.next_item.ranker import ItemRanker
from recommender.sequences import LeaveOneOut, Sequences
from recommender.sequences.ranks import full_ranks

MIN_COLD_ITEMS = 20
"""Among ten cold items or fewer recall@10 is 1 even for a constant score. Chosen by hand as twice that."""


@dataclass(frozen=True, eq=False)
class ColdSplit:
    """Training data without the cold items, and the users whose last item is one of them."""

    train: Sequences
    """Each user's events but the last two (all events of users with fewer than three), without cold items."""
    validation_U: NDArray[np.int32]
    """Each user's item after `train` and before the target, 0 for none. Never a cold item, since those stay unseen."""
    histories: Sequences
    """Each user's events before the target, without cold items."""
    target_U: NDArray[np.int32]
    """The last item of users for whom it is a cold one, else 0."""
    cold_V: NDArray[np.bool_]
    """[V + 1]: marks the rows of cold items. Row 0 is not one."""


@dataclass(frozen=True, eq=False)
class ColdRanks:
    """Ranks of the cold targets among all unseen items and among the cold items only."""

    among_all: Ranks
    among_cold: Ranks
    num_cold: int

    def summary(self) -> dict[str, Any]:
        """Return ndcg@10, recall@10 and mrr@10 of both, and the numbers of users and cold items."""
        return {
            "among_all": self.among_all.summary(),
            "among_cold": self.among_cold.summary(),
            "cold_items": self.num_cold,
            "users": len(self.among_all.ranks),
        }


def cold_split(sequences: Sequences, share: float = 0.05, seed: int = DEFAULT_SEED) -> ColdSplit:
    """Hold a share of the items out of every history. The same seed holds out the same items.

    Items are drawn uniformly from those that occur, whatever their popularity. Users are those of `sequences` in the
    same order. A user who is left without a history is evaluated too.

    Args:
        sequences: the histories.
        share: share of the items that is held out. Chosen by hand: few enough to leave the training data nearly whole.
        seed: of the random choice.

    Raises:
        PeriodError: `share` leaves fewer than `MIN_COLD_ITEMS` cold items or no warm one, or no user's last item is
            cold.
    """
    occurring = np.unique(sequences.items_T)
    number = round(share * len(occurring))
    if not 0 < number < len(occurring):
        raise PeriodError(
            f"a share of {share} of {len(occurring)} items holds out {number}, but some must be cold and some warm; "
            "choose a share between 0 and 1"
        )
    if number < MIN_COLD_ITEMS:
        raise PeriodError(
            f"a share of {share} of {len(occurring)} items holds out {number}, but at least {MIN_COLD_ITEMS} are "
            "needed, since among fewer nearly every item is one of the ten best; use data with more items"
        )
    # 0xC01D is arbitrary. It gives this choice a separate random stream.
    cold = np.random.default_rng([seed, 0xC01D]).choice(occurring, size=number, replace=False)
    cold_V = np.zeros(sequences.items.num + 1, dtype=np.bool_)
    cold_V[cold] = True
    split = LeaveOneOut.of(sequences)
    target_U = np.where(cold_V[split.test_U], split.test_U, 0).astype(np.int32)
    if not target_U.any():
        raise PeriodError(f"no user's last item is among the {number} held out; use data with more users")
    validation_U = np.where(cold_V[split.validation_U], 0, split.validation_U).astype(np.int32)
    return ColdSplit(
        train=_without_items(split.train, cold_V),
        validation_U=validation_U,
        histories=_without_items(split.train_and_validation, cold_V),
        target_U=target_U,
        cold_V=cold_V,
    )


def _without_items(sequences: Sequences, removed_V: NDArray[np.bool_]) -> Sequences:
    """Remove the events with some items. The items themselves stay, because their content is known."""
    kept_T = ~removed_V[sequences.items_T]
    lengths_U = np.bincount(sequences.rows_T()[kept_T], minlength=sequences.num_users)
    return replace(
        sequences,
        offsets=np.concatenate([[0], np.cumsum(lengths_U)]).astype(np.int64),
        items_T=sequences.items_T[kept_T],
        times_T=None if sequences.times_T is None else sequences.times_T[kept_T],
    )


def judge_cold(ranker: ItemRanker[Any], split: ColdSplit) -> ColdRanks:
    """Rank every cold target. Ties count against the ranker, and an item with score -inf gets the worst rank.

    A ranker that gives all unseen items the same score earns nothing.

    Raises:
        TrainingError: a score is NaN; names the ranker.
    """
    users = np.flatnonzero(split.target_U > 0)
    all_ranks, cold_ranks = (np.zeros(len(users), dtype=np.int64) for _ in range(2))
    worst_rank = split.cold_V.size
    for rows, batch, scores_UV in scored_in_batches(ranker, split.histories, users):
        targets = split.target_U[users[rows]]
        excluded = scores_UV[np.arange(len(targets)), targets] == -np.inf
        all_ranks[rows] = np.where(excluded, worst_rank, full_ranks(scores_UV, batch, targets))
        only_cold_UV = np.where(split.cold_V, scores_UV, -np.inf)
        cold_ranks[rows] = np.where(excluded, worst_rank, full_ranks(only_cold_UV, batch, targets))
    return ColdRanks(Ranks(users, all_ranks), Ranks(users, cold_ranks), int(split.cold_V.sum()))
