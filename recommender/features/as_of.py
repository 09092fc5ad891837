"""Point-in-time reads: what running sums were strictly before a moment, alone and over a window of days before it.

Features of purchases, demand, counted events and past campaigns are such reads. Looks are joined with the decisions of
their user (`looks`).

A change becomes known at a microsecond (`known_us`) and belongs to an event (`event_us`): a purchase is known when it
happens, and its return is a change of the opposite sign that becomes known later. Sums are of whole numbers, so their
bits depend neither on the order of adding nor on where a run began.

A read costs a binary search. So all reads cost events + decisions, not events × decisions.

Shapes: n changes · Q reads · K summed columns.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_US, SECOND_US

Ints = NDArray[np.int64]


class Running:
    """Running sums of changes by group (a user, or a user and an item), read at any moment."""

    def __init__(
        self, group_n: Ints, known_us_n: Ints, values: Mapping[str, NDArray[Any]], *, event_us_n: Ints | None = None
    ) -> None:
        """Take the changes, in any order.

        Args:
            group_n: whole numbers from 0 on.
            known_us_n: when each change is known, microseconds since 1970, UTC.
            values: name -> whole numbers to sum, [n] each.
            event_us_n: when the event happened that a change belongs to, by which it leaves a window. None: the change
                is the event.
        """
        self._group_n, self._known_n, self._values = group_n, known_us_n, values
        same = event_us_n is None or np.array_equal(event_us_n, known_us_n)
        self._event_n = None if same else event_us_n
        self.entered = _Sums(group_n, known_us_n, values)
        self._left: dict[float, _Sums] = {}

    def at(self, group_Q: Ints, moment_us_D: Ints, decision_Q: Ints | None = None) -> "Reading":
        """Read groups at moments.

        Args:
            group_Q: the groups.
            moment_us_D: moments, microseconds since 1970, UTC.
            decision_Q: which moment each read has. None: each its own.
        """
        return Reading(self, group_Q, moment_us_D, decision_Q, self.entered.places(group_Q, moment_us_D, decision_Q))

    def leaving(self, days: float) -> "_Sums":
        """The changes by when they leave a window, shifted by its length. Without returns that is the same order."""
        if self._event_n is None:
            return self.entered
        if days not in self._left:
            # A change that becomes known after its event has left the window never counts.
            shifted_n = np.maximum(self._event_n, self._known_n - round(days * DAY_US))
            self._left[days] = _Sums(self._group_n, shifted_n, self._values)
        return self._left[days]


@dataclass(frozen=True, eq=False)
class Reading:
    """Reads of running sums, each of a group strictly before a moment."""

    running: Running
    group_Q: Ints
    moment_us_D: Ints
    decision_Q: Ints | None
    at_Q: Ints
    """How many changes come before each read, all groups before its own included."""

    def take(self, kept_Q: NDArray[np.bool_]) -> "Reading":
        """Some of the reads."""
        decision_Q = np.flatnonzero(kept_Q) if self.decision_Q is None else self.decision_Q[kept_Q]
        return Reading(self.running, self.group_Q[kept_Q], self.moment_us_D, decision_Q, self.at_Q[kept_Q])

    def before(self, names: Iterable[str]) -> dict[str, Ints]:
        """Sum each group's changes known strictly before its moment: name -> int64 [Q]."""
        entered = self.running.entered
        start_Q = entered.starts[np.minimum(self.group_Q, len(entered.starts) - 1)]
        return {name: entered.read(name, self.at_Q) - entered.read(name, start_Q) for name in names}

    def within(self, days: float, names: Iterable[str]) -> dict[str, Ints]:
        """Sum the same changes, of events that are at most `days` old in whole seconds: name -> int64 [Q]."""
        entered, leaving = self.running.entered, self.running.leaving(days)
        # A window counts seconds, as ages do: what lies `days` before the moment's own second is still inside.
        first_us_D = self.moment_us_D // SECOND_US * SECOND_US - round(days * DAY_US)
        left_Q = leaving.places(self.group_Q, first_us_D, self.decision_Q)
        return {name: entered.read(name, self.at_Q) - leaving.read(name, left_Q) for name in names}


class _Sums:
    """Cumulative sums in the order of group and time."""

    def __init__(self, group_n: Ints, time_us_n: Ints, values: Mapping[str, NDArray[Any]]) -> None:
        # One key for group and time. Times become ranks, because a group and microseconds exceed 64 bits.
        self._times, rank_n = np.unique(time_us_n, return_inverse=True)
        self._step = len(self._times) + 1
        keys_n = group_n * self._step + rank_n
        self._order: NDArray[np.int64] | None = None
        if np.any(keys_n[1:] < keys_n[:-1]):
            self._order = np.argsort(keys_n, kind="stable")
            keys_n = keys_n[self._order]
        self._keys_n, self._values = keys_n, values
        self._sums: dict[str, Ints] = {}
        num_groups = int(group_n.max(initial=-1)) + 2
        self.starts = np.searchsorted(keys_n, np.arange(num_groups) * self._step)
        """How many changes the groups before each have. The last one stands for all groups without a change."""

    def places(self, group_Q: Ints, moment_us_D: Ints, decision_Q: Ints | None) -> Ints:
        """How many changes come before each read, all groups before its own included."""
        rank_D = np.searchsorted(self._times, moment_us_D)
        rank_Q = rank_D if decision_Q is None else rank_D[decision_Q]
        return np.searchsorted(self._keys_n, group_Q * self._step + rank_Q)

    def read(self, name: str, at_Q: Ints) -> Ints:
        """The sum of a column over the first `at_Q` changes."""
        if name not in self._sums:
            values_n = self._values[name] if self._order is None else self._values[name][self._order]
            sums = np.zeros(len(values_n) + 1, dtype=np.int64)
            np.cumsum(values_n, out=sums[1:])
            self._sums[name] = sums
        return np.asarray(self._sums[name][at_Q])


def last_before(group_n: Ints, time_us_n: Ints, group_Q: Ints, moment_us_Q: Ints) -> Ints:
    """The place of each group's last row strictly before a moment, -1 if it has none: int64 [Q].

    Args:
        group_n: groups of the rows, ascending.
        time_us_n: times of the rows, ascending in each group.
        group_Q: groups that are read.
        moment_us_Q: moments of the reads.
    """
    sums = _Sums(group_n, time_us_n, {})
    place_Q = sums.places(group_Q, moment_us_Q, None) - 1
    first_Q = sums.starts[np.minimum(group_Q, len(sums.starts) - 1)]
    return np.where(place_Q >= first_Q, place_Q, -1)


def ranges(starts_Q: Ints, ends_Q: Ints) -> tuple[Ints, Ints]:
    """Return starts[q] to ends[q] (excluded) of each q, one range after the other, and the bounds [Q + 1] of them."""
    lengths_Q = ends_Q - starts_Q
    bounds = np.zeros(len(lengths_Q) + 1, dtype=np.int64)
    np.cumsum(lengths_Q, out=bounds[1:])
    return np.arange(bounds[-1]) + np.repeat(starts_Q - bounds[:-1], lengths_Q), bounds


def reduced(operation: np.ufunc, values: NDArray[Any], bounds: Ints, missing: Any) -> NDArray[Any]:
    """Reduce the rows bounds[q] to bounds[q + 1] of each q. `missing`: the value of a q without rows."""
    out = np.full(len(bounds) - 1, missing, dtype=values.dtype)
    filled = np.flatnonzero(np.diff(bounds))
    if len(filled):
        out[filled] = operation.reduceat(values, bounds[filled])
    return out
