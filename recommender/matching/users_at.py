"""Users at one moment (cutoff): what was known of them, and what they did in the days after.

Shapes: N users · F features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Counts:
    """How often and how long ago users did something, in days. Enough for the models of purchase counts."""

    num_N: Floats
    """Days with it, without the day of the user's first event of any kind."""
    last_N: Floats
    """From the user's first event to the last of these days. 0 where there is none."""
    known_N: Floats
    """From the user's first event to the cutoff."""


@dataclass(frozen=True, eq=False)
class UsersAt:
    """Everyone with an event before the cutoff."""

    cutoff: datetime
    user_ids: tuple[str, ...]
    names: tuple[str, ...]
    """Names of the features."""
    features_NF: NDArray[np.float32]
    counts: Mapping[str, Counts]
    """Outcome -> how often and how long ago before the cutoff."""
    outcomes: Mapping[tuple[str, int], Floats]
    """Outcome and days -> 1 for a user who did it in so many days from the cutoff on, else 0 [N]. Only windows that are
    known whole."""


@dataclass(frozen=True, eq=False)
class Learnt:
    """What a forecast of one outcome over one number of days may learn from: users at earlier cutoffs."""

    names: tuple[str, ...]
    features_NF: NDArray[np.float32]
    counts: Counts
    happened_N: Floats
    days: int

    @classmethod
    def of(cls, parts: Sequence[UsersAt], outcome: str, days: int) -> "Learnt":
        """Put the users of several cutoffs together. All must have the same features."""
        counts = [part.counts[outcome] for part in parts]
        return cls(
            names=parts[0].names,
            features_NF=np.concatenate([part.features_NF for part in parts]),
            counts=Counts(
                *(np.concatenate([getattr(one, name) for one in counts]) for name in ("num_N", "last_N", "known_N"))
            ),
            happened_N=np.concatenate([part.outcomes[outcome, days] for part in parts]),
            days=days,
        )
