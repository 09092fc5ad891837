"""Habits: each earlier event of a user with an item counts, and counts less the longer ago it was.

The base-level activation of ACT-R (Anderson & Schooler, Psychological Science 1991): the sum of age ** -0.5 over an
item's events. An event's age is the number of later events plus one.

Shapes: U users · T events · V items, rows 1 … V.
"""

import numpy as np
from numpy.typing import NDArray

from recommender.sequences import Sequences

FADING = 0.5
"""Power of an event's age, the usual value in ACT-R."""
OFTEN = 0.05
"""Least share of events whose item the user had before. Below it users have no habits. Chosen by hand."""


def has_habits(sequences: Sequences) -> bool:
    """Whether users return to items that they had."""
    had = sequences.rows_T() * (sequences.items.num + 1) + sequences.items_T
    return 1 - len(np.unique(had)) / max(len(had), 1) >= OFTEN


def habits(sequences: Sequences) -> NDArray[np.float32]:
    """Each user's share of activation of each item: float32 [U, V + 1], 0 for what the user never had."""
    age_T = np.repeat(sequences.lengths_U, sequences.lengths_U) - sequences.places_T()
    active_UV = np.zeros((sequences.num_users, sequences.items.num + 1), dtype=np.float32)
    np.add.at(active_UV, (sequences.rows_T(), sequences.items_T), age_T**-FADING)
    active_UV /= np.maximum(active_UV.sum(axis=1, keepdims=True), 1.0)
    return active_UV
