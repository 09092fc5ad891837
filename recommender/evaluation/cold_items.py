"""Items that nobody in training ever touched: hold some out, and ask a ranker for them by their content alone.

Schein et al., "Methods and metrics for cold-start recommendations", 2002 (whole items are held out, not events).

Shapes: U users · V items, rows 1 … V · T events.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.errors import PeriodError
from recommender.evaluation.leave_one_out import Ranks, scored
from recommender.models.next_item.ranker import ItemRanker
from recommender.sequences import LeaveOneOut, Sequences
from recommender.sequences.ranks import full_ranks

FEWEST = 20
"""Cold items that are judged: among ten and fewer everyone's recall@10 is 1, whoever has no opinion on them too."""


@dataclass(frozen=True, eq=False)
class ColdSplit:
    """Training without the cold items, and the users who took one of them up in the end."""

    train: Sequences
    """What each user did before their last two events (all events of users with fewer than three), without any cold item."""
    validation_U: NDArray[np.int32]
    """Each user's last warm item before the target, after `train`; 0: none. Never a cold item: they stay unseen."""
    histories: Sequences
    """What each user did before the target, without any cold item."""
    target_U: NDArray[np.int32]
    """The last item of users for whom it is a cold one, else 0."""
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


def cold_split(sequences: Sequences, share: float = 0.05, seed: int = 17) -> ColdSplit:
    """Hold a share of all items that were ever taken out of every history; the same seed holds out the same items.

    Items are drawn evenly, whatever their popularity. Users are those of `sequences`, in their order; who is left without a
    history is still asked about, by the cold path.

    Raises:
        PeriodError: `share` leaves fewer than `FEWEST` cold items or no warm one, or nobody's last item is cold.
    """
    taken = np.unique(sequences.items_T)
    number = round(share * len(taken))
    if not 0 < number < len(taken):
        raise PeriodError(
            f"a share of {share} of {len(taken)} items holds out {number}; it must leave some on both sides"
        )
    if number < FEWEST:
        raise PeriodError(
            f"a share of {share} of {len(taken)} items holds out {number}, among which nearly every item is one of the ten best; "
            f"cold items are judged from {FEWEST} on. It takes a set with more items"
        )
    cold = np.random.default_rng([seed, 0xC01D]).choice(taken, size=number, replace=False)
    cold_V = np.zeros(sequences.items.num + 1, dtype=np.bool_)
    cold_V[cold] = True
    split = LeaveOneOut.of(sequences)
    target_U = np.where(cold_V[split.test_U], split.test_U, 0).astype(np.int32)
    if not target_U.any():
        raise PeriodError(f"nobody's last item is among the {number} held out; it takes a set with more users")
    validation_U = np.where(cold_V[split.validation_U], 0, split.validation_U).astype(np.int32)
    return ColdSplit(
        train=without(split.train, cold_V),
        validation_U=validation_U,
        histories=without(split.train_and_validation, cold_V),
        target_U=target_U,
        cold_V=cold_V,
    )


def without(sequences: Sequences, gone_V: NDArray[np.bool_]) -> Sequences:
    """The same users without the events of some items. The items stay in the catalogue: their content is known."""
    kept_T = ~gone_V[sequences.items_T]
    lengths_U = np.bincount(sequences.rows_T()[kept_T], minlength=sequences.num_users)
    return replace(
        sequences,
        offsets=np.concatenate([[0], np.cumsum(lengths_U)]).astype(np.int64),
        items_T=sequences.items_T[kept_T],
        times_T=None if sequences.times_T is None else sequences.times_T[kept_T],
    )


def judge_cold(ranker: ItemRanker[Any], split: ColdSplit) -> ColdRanks:
    """Rank every cold target; ties count against the ranker, and an item scored -inf is never found.

    A ranker that has no opinion on unseen items gives them all the same score, and so earns nothing.

    Raises:
        TrainingError: a score is NaN; names the ranker.
    """
    users = np.flatnonzero(split.target_U > 0)
    all_ranks, cold_ranks = (np.zeros(len(users), dtype=np.int64) for _ in range(2))
    never = split.cold_V.size
    for some, batch, scores_UV in scored(ranker, split.histories, users):
        targets = split.target_U[users[some]]
        unsaid = scores_UV[np.arange(len(targets)), targets] == -np.inf
        all_ranks[some] = np.where(unsaid, never, full_ranks(scores_UV, batch, targets))
        only_cold_UV = np.where(split.cold_V, scores_UV, -np.inf)
        cold_ranks[some] = np.where(unsaid, never, full_ranks(only_cold_UV, batch, targets))
    return ColdRanks(Ranks(users, all_ranks), Ranks(users, cold_ranks), int(split.cold_V.sum()))
