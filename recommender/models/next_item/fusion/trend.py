"""The trend: current popularity, counted up to the user's last event with weights that halve with age.

Nothing later than that last event is read. Of a few half-lives, each a share of the log's length, the fit takes the one
under which the items that came next were likeliest.

Shapes: U users · V items, rows 1 … V · T events, in the order of their times.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recommender.errors import BundleError
from recommender.models.next_item.linear import popularity
from recommender.sequences import Sequences

SHARES = tuple(4.0**-power for power in range(1, 7))
"""Half-lives that are tried, as shares of the log's length: a quarter to 1/4096. Of a year that is 91 days to two
hours. Chosen by hand."""
ASKED = 2000
"""Most events, drawn at random, whose likelihood decides on the half-life. Enough to tell factors of four apart, and
fast."""
OVER = 60
"""Half-lives after which an event is left out of the count: its weight is below 1e-18."""
NOTHING = 2.0**-30
"""A sum of weights below this is treated as no event at all: the latest event lies more than 30 half-lives back."""


@dataclass(eq=False)
class Trend:
    """A log of events in the order of their times, and its half-life."""

    items_T: NDArray[np.int32]
    times_T: NDArray[np.int64]
    """Microseconds, ascending."""
    half_life: float
    """Microseconds."""

    @classmethod
    def fit(cls, sequences: Sequences, *, spread: float, seed: int) -> Self:
        """Choose the half-life by the events themselves, which must have times.

        Args:
            sequences: the users' events.
            spread: share of the probability that goes to popularity over all time.
            seed: draws the events whose likelihood decides.
        """
        assert sequences.times_T is not None
        order_T = np.argsort(sequences.times_T, kind="stable")
        log = sequences.items_T[order_T], sequences.times_T[order_T]
        span = max(int(log[1][-1] - log[1][0]), 1)
        later = np.flatnonzero(sequences.places_T())
        # Where an event has the time of the one before it, the count up to then would include the answer.
        later = later[sequences.times_T[later] > sequences.times_T[later - 1]]
        drawn = np.random.default_rng(seed).permutation(later)[:ASKED]
        now, wanted = sequences.times_T[drawn - 1], sequences.items_T[drawn]
        popularity_V = popularity(sequences)

        def likelihood(trend: Self) -> float:
            share = np.empty(len(drawn))
            for users, shares_V in trend._moments(now, len(popularity_V)):
                share[users] = shares_V[wanted[users]]
            return float(np.log((1 - spread) * share + spread * popularity_V[wanted]).sum())

        return max((cls(*log, share * span) for share in SHARES), key=likelihood)

    def score(self, sequences: Sequences) -> NDArray[np.float32]:
        """Each item's weighted share of all events up to the user's last event: float32 [U, V + 1].

        If the log ends earlier, or the user has no event, all events up to the log's end count. All 0 where
        nothing was taken lately.

        Raises:
            BundleError: the events have no times.
        """
        now_U = np.full(sequences.num_users, self.times_T[-1])
        some_U = sequences.lengths_U > 0
        if some_U.any():
            if sequences.times_T is None:
                raise BundleError(
                    "the ranker was fitted on events with times, and these events have none. "
                    "Give a timestamp, or fit with trend=false."
                )
            now_U[some_U] = np.minimum(sequences.times_T[sequences.offsets[1:][some_U] - 1], self.times_T[-1])
        shares_UV = np.empty((len(now_U), sequences.items.num + 1), dtype=np.float32)
        for user, shares_V in self._moments(now_U, shares_UV.shape[1]):
            shares_UV[user] = shares_V
        return shares_UV

    def _moments(self, now_U: NDArray[np.int64], columns: int) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Users, the earliest moment first, and the items' shares [V + 1] at each one's moment."""
        counts_V, first, then = np.zeros(columns), 0, int(self.times_T[0])
        for user in np.argsort(now_U, kind="stable"):
            now = int(now_U[user])
            end = int(np.searchsorted(self.times_T, now, side="right"))
            oldest = max(now - int(OVER * self.half_life), int(self.times_T[0]))
            first = max(first, int(np.searchsorted(self.times_T, oldest)))
            if now > then:
                counts_V *= np.exp2((then - now) / self.half_life)
                then = now
            if end > first:
                weight_T = np.exp2((self.times_T[first:end] - now) / self.half_life)
                np.add.at(counts_V, self.items_T[first:end], weight_T)
                first = end
            total = float(counts_V.sum())
            yield int(user), counts_V / total if total > NOTHING else np.zeros(columns)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """As `ItemRanker.tensors`."""
        return {"items_T": self.items_T, "times_T": self.times_T}

    def config(self) -> dict[str, Any]:
        """As `ItemRanker.config`."""
        return {"half_life": self.half_life}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        """As `ItemRanker.restore`."""
        return cls(np.asarray(tensors["items_T"]), np.asarray(tensors["times_T"]), float(config["half_life"]))
