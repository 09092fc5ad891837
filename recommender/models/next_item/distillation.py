"""Knowledge distillation from ranked lists: a teacher's best items, and the loss with which a student learns them.

Hinton et al., 2015; Tang & Wang, KDD 2018 (ranked lists).

    cross entropy to a soft list p = cross entropy to the item t + (score of t - sum of p_k x score of k)

So the softmax over all items stays that of `recommender.engine.softmax`, in its memory.

Shapes: U users · T events · V items, rows 1 … V · M targets · D width · P events with a list · K items of a list.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from recommender.engine.loop import Sum, seed_of
from recommender.engine.softmax import linear_cross_entropy
from recommender.models.next_item.causal import CausalEncoder
from recommender.models.next_item.fusion.gate import CELLS_AT_ONCE, EXCLUDED, excluded
from recommender.models.next_item.fusion.habit import has_habits
from recommender.models.next_item.histories import targets, users_of
from recommender.models.next_item.ranker import ItemRanker
from recommender.sequences import Sequences
from recommender.sequences.ranks import MIN_USERS_A_BATCH


@dataclass(frozen=True, eq=False)
class TeacherLists:
    """Probabilities of the teacher's best next items, before some of the training events."""

    place_T: NDArray[np.int64]
    """The list of each training event, [T]. -1 where the teacher was not asked."""
    items_PK: NDArray[np.int32]
    shares_PK: NDArray[np.float32]
    """Probabilities of the items. Each list sums to 1."""


def teacher_lists(
    teacher: ItemRanker[Any], sequences: Sequences, *, lists: int, listed: int, temperature: float, seed: int
) -> TeacherLists:
    """The teacher's lists before some of the events that have a history.

    A list contains items that the user already had only if users return to items.

    Args:
        teacher: the ranker that is asked.
        sequences: the training events.
        lists: most events before which it is asked; they are drawn at random.
        listed: items of a list.
        temperature: divisor of the teacher's log-odds.
        seed: draws the events.
    """
    events = targets(sequences)
    if len(events) > lists:
        rng = np.random.default_rng(seed_of(seed, "lists", 0))
        events = np.sort(rng.choice(events, lists, replace=False))
    listed, repeats = min(listed, sequences.items.num), has_habits(sequences)
    place_T = np.full(len(sequences.items_T), -1, dtype=np.int64)
    place_T[events] = np.arange(len(events))
    items_PK = np.empty((len(events), listed), dtype=np.int32)
    shares_PK = np.empty((len(events), listed), dtype=np.float32)
    users = max(CELLS_AT_ONCE // (sequences.items.num + 1), MIN_USERS_A_BATCH)
    for first in range(0, len(events), users):
        batch = slice(first, min(first + users, len(events)))
        before = histories_before(sequences, events[batch])
        scores_UV = teacher.score(before)
        scores_UV[excluded(before, repeats=repeats)] = EXCLUDED
        best_UK, items_UK = torch.from_numpy(scores_UV).topk(listed, dim=1)
        items_PK[batch], shares_PK[batch] = items_UK.numpy(), (best_UK / temperature).softmax(dim=1).numpy()
    return TeacherLists(place_T, items_PK, shares_PK)


def histories_before(sequences: Sequences, events_P: NDArray[np.int64]) -> Sequences:
    """The history before each event, as the histories of P users who are new to the ranker."""
    starts_P = sequences.offsets[users_of(sequences, events_P)]
    offsets = np.concatenate([[0], np.cumsum(events_P - starts_P)]).astype(np.int64)
    places = np.arange(int(offsets[-1])) + np.repeat(starts_P - offsets[:-1], events_P - starts_P)
    times_T = None if sequences.times_T is None else sequences.times_T[places]
    return Sequences(sequences.items, offsets, sequences.items_T[places], times_T)


def distillation_loss(
    model: CausalEncoder[Any],
    sequences: Sequences,
    batch: NDArray[np.int64],
    lists: TeacherLists,
    *,
    softness: float,
) -> Sum:
    """Cross entropy to `softness` x the teacher's list + the rest x the item that came, summed over the targets.

    Without a list, the whole target is the item that came next.
    """
    states_MD, table_VD, events_M = model.states(sequences, batch)
    targets_M = torch.from_numpy(sequences.items_T[events_M].astype(np.int64)).to(model.device)
    loss = linear_cross_entropy(states_MD, table_VD, targets_M, first=1, bfloat16=model.bf16)
    place_M = lists.place_T[events_M]
    with_list = np.flatnonzero(place_M >= 0)
    if len(with_list):
        items_MK = torch.from_numpy(lists.items_PK[place_M[with_list]].astype(np.int64)).to(model.device)
        shares_MK = torch.from_numpy(lists.shares_PK[place_M[with_list]]).to(model.device)
        where = torch.from_numpy(with_list).to(model.device)
        wanted_MD = functional.embedding(items_MK, table_VD).mul(shares_MK[:, :, None]).sum(dim=1)
        difference_M = states_MD[where] * (functional.embedding(targets_M[where], table_VD) - wanted_MD)
        loss = loss + softness * difference_M.sum()
    return Sum(loss, float(len(targets_M)))
