"""Cold items: hold some items out of training altogether, and ask a ranker for them by their content alone.

Schein et al., "Methods and metrics for cold-start recommendations", 2002 (whole items are held out, not events).

Shapes: U users · V items, rows 1 … V · T events.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.allocation.next_item_scores import scored_in_batches
from recommender.errors import PeriodError
from recommender.evaluation.leave_one_out import Ranks
from recommender.models.next_item.ranker import ItemRanker
from recommender.sequences import LeaveOneOut, Sequences
from recommender.sequences.ranks import full_ranks

FEWEST_COLD_ITEMS = 20
"""Twice ten, by hand: among ten items or fewer every ranker's recall@10 is 1, so figures of few say nothing."""
COLD_SHARE = 0.05
"""Share of items held out: enough to judge by, and few enough to leave training as it is. Chosen by hand."""
SALT = 0xC01D
"""Keeps the draw of cold items apart from whatever else is drawn from the same seed."""


@dataclass(frozen=True, eq=False)
class ColdSplit:
    """Training data without the cold items, and the users whose last item is one of them."""

    train: Sequences
    """What each user did before the last two events, without cold items. Of users with fewer than three events: all."""
    validation_U: NDArray[np.int32]
    """Each user's last item before the target and after `train`; 0: none, or it is a cold one, which stays unseen."""
    histories: Sequences
    """What each user did before the target, without cold items."""
    target_U: NDArray[np.int32]
    """Each user's last item where it is a cold one, else 0."""
    cold_V: NDArray[np.bool_]
    """[V + 1]: which rows are cold; row 0 is not."""


@dataclass(frozen=True, eq=False)
class ColdRanks:
    """Ranks of the cold targets among all unseen items, and among the cold ones only."""

    among_all: Ranks
    among_cold: Ranks
    num_cold: int

    def summary(self) -> dict[str, Any]:
        """ndcg@10, recall@10, mrr@10 of both, and how many users and cold items there were."""
        return {
            "among_all": self.among_all.summary(),
            "among_cold": self.among_cold.summary(),
            "cold_items": self.num_cold,
            "users": len(self.among_all.ranks),
        }


def cold_split(sequences: Sequences, share: float = COLD_SHARE, seed: int = 17) -> ColdSplit:
    """Hold a share of all items with events out of every history; the same seed holds out the same items.

    Items are drawn with equal probability, whatever their popularity. Users keep their order; one who is left without
    a history is still asked about.

    Raises:
        PeriodError: `share` leaves fewer than `FEWEST_COLD_ITEMS` cold items or no other one, or nobody's last item is
            cold.
    """
    taken = np.unique(sequences.items_T)
    number = round(share * len(taken))
    held_out = f"a share of {share} of {len(taken)} items holds out {number}"
    if not 0 < number < len(taken):
        raise PeriodError(f"{held_out}, which must leave some on both sides; bring events of more items")
    if number < FEWEST_COLD_ITEMS:
        raise PeriodError(
            f"{held_out}, but cold items are judged from {FEWEST_COLD_ITEMS} on, because of few items nearly each is "
            "among the ten best; bring events of more items"
        )
    cold = np.random.default_rng([seed, SALT]).choice(taken, size=number, replace=False)
    cold_V = np.zeros(sequences.items.num + 1, dtype=np.bool_)
    cold_V[cold] = True
    split = LeaveOneOut.of(sequences)
    target_U = np.where(cold_V[split.test_U], split.test_U, 0).astype(np.int32)
    if not target_U.any():
        raise PeriodError(f"no user's last item is among the {number} held-out items; bring events of more users")
    validation_U = np.where(cold_V[split.validation_U], 0, split.validation_U).astype(np.int32)
    return ColdSplit(
        train=without(split.train, cold_V),
        validation_U=validation_U,
        histories=without(split.train_and_validation, cold_V),
        target_U=target_U,
        cold_V=cold_V,
    )


def without(sequences: Sequences, gone_V: NDArray[np.bool_]) -> Sequences:
    """The same users without the events of some items; the items stay in the catalogue with their content."""
    kept_T = ~gone_V[sequences.items_T]
    lengths_U = np.bincount(sequences.rows_T()[kept_T], minlength=sequences.num_users)
    return replace(
        sequences,
        offsets=np.concatenate([[0], np.cumsum(lengths_U)]).astype(np.int64),
        items_T=sequences.items_T[kept_T],
        times_T=None if sequences.times_T is None else sequences.times_T[kept_T],
    )


def judge_cold(ranker: ItemRanker[Any], split: ColdSplit) -> ColdRanks:
    """Rank every cold target; ties count against the ranker, and an item scored -inf ranks behind all others.

    A ranker without an opinion on unseen items scores them all alike, and so earns nothing.

    Raises:
        TrainingError: A score is NaN; names the ranker.
    """
    users = np.flatnonzero(split.target_U > 0)
    all_ranks, cold_ranks = (np.zeros(len(users), dtype=np.int64) for _ in range(2))
    last = split.cold_V.size
    for part, batch, scores_UV in scored_in_batches(ranker, split.histories, users):
        targets = split.target_U[users[part]]
        unscored = scores_UV[np.arange(len(targets)), targets] == -np.inf
        all_ranks[part] = np.where(unscored, last, full_ranks(scores_UV, batch, targets))
        only_cold_UV = np.where(split.cold_V, scores_UV, -np.inf)
        cold_ranks[part] = np.where(unscored, last, full_ranks(only_cold_UV, batch, targets))
    return ColdRanks(Ranks(users, all_ranks), Ranks(users, cold_ranks), int(split.cold_V.sum()))
