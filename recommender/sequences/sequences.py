"""Sequences of items: what next-item rankers learn from and score.

Shapes: U users · T events in all · V items (rows 1 … V; row 0 stands for no item) · K attribute values · P pairs of
item and attribute.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

FROM_1990, TO_2100 = 631e12, 4103e12
"""About the years 1990 and 2100 in microseconds since 1970. Real timestamps lie between them."""


@dataclass(frozen=True, eq=False)
class Items:
    """Items with their names, and their content where it is known. Row 0 stands for no item."""

    ids: tuple[str, ...]
    """[V]: ids[i - 1] is the name of row i."""
    attribute_offsets: NDArray[np.int64] | None = None
    """[V + 2]: row i has the attributes attribute_offsets[i] to attribute_offsets[i + 1]. None if none are known."""
    attributes_P: NDArray[np.int32] | None = None
    """Attribute values, 0 … K - 1."""
    num_attributes: int = 0
    texts: tuple[str, ...] | None = None
    """[V]: name or description. Empty if there is none."""

    @property
    def num(self) -> int:
        """Number of items V."""
        return len(self.ids)

    def attribute_rows(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return the items' rows and their attributes, [P] each, empty if no attributes are known."""
        if self.attribute_offsets is None or self.attributes_P is None:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32)
        rows_P = np.repeat(np.arange(self.num + 1), np.diff(self.attribute_offsets))
        return rows_P.astype(np.int64), self.attributes_P


@dataclass(frozen=True, eq=False)
class Sequences:
    """Events of users as a ragged array, each user's oldest first."""

    items: Items
    offsets: NDArray[np.int64]
    """[U + 1]: user u has the events offsets[u] to offsets[u + 1], which may be none."""
    items_T: NDArray[np.int32]
    """Row of the item, 1 … V."""
    times_T: NDArray[np.int64] | None = None
    """Microseconds since 1970, UTC. None if the source has no times."""
    users_U: NDArray[np.int64] | None = None
    """Row of each user in the sequences that a ranker was fitted on, -1 for a new user. None if all are new."""

    @property
    def num_users(self) -> int:
        """Number of users U."""
        return len(self.offsets) - 1

    @property
    def lengths_U(self) -> NDArray[np.int64]:
        """Number of events of each user, int64 [U]."""
        return np.diff(self.offsets)

    @property
    def has_clock(self) -> bool:
        """Whether the times come from a clock: some lie between 1990 and 2100.

        Other numbers, such as years and counters, order events too, but the gaps between them mean nothing.
        """
        return self.times_T is not None and bool(((self.times_T > FROM_1990) & (self.times_T < TO_2100)).any())

    def rows_T(self) -> NDArray[np.int64]:
        """Return the row of each event's user, int64 [T]."""
        return np.repeat(np.arange(self.num_users), self.lengths_U)

    def places_T(self) -> NDArray[np.int64]:
        """Return each event's place in its user's history, counted from 0, int64 [T]."""
        return np.arange(len(self.items_T)) - np.repeat(self.offsets[:-1], self.lengths_U)

    def without_last(self, events: int = 1) -> "Sequences":
        """Drop every user's last `events` events, or all where there are fewer."""
        return self.first(np.maximum(self.lengths_U - events, 0))

    def first(self, keep_U: NDArray[np.int64]) -> "Sequences":
        """Keep every user's first `keep_U` events. No user may have fewer."""
        kept_T = self.places_T() < np.repeat(keep_U, self.lengths_U)
        return replace(
            self,
            offsets=np.concatenate([[0], np.cumsum(keep_U)]).astype(np.int64),
            items_T=self.items_T[kept_T],
            times_T=None if self.times_T is None else self.times_T[kept_T],
        )

    def last_U(self) -> NDArray[np.int32]:
        """Return every user's last item, int32 [U], 0 for a user without events."""
        out_U = np.zeros(self.num_users, dtype=np.int32)
        has_events_U = self.lengths_U > 0
        out_U[has_events_U] = self.items_T[self.offsets[1:][has_events_U] - 1]
        return out_U

    def take(self, users: NDArray[np.int64]) -> "Sequences":
        """Select users by row, in the order given."""
        lengths = self.lengths_U[users]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.arange(int(offsets[-1])) + np.repeat(self.offsets[:-1][users] - offsets[:-1], lengths)
        return replace(
            self,
            offsets=offsets,
            items_T=self.items_T[places],
            times_T=None if self.times_T is None else self.times_T[places],
            users_U=None if self.users_U is None else self.users_U[users],
        )

    def last_LU(self, length: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return each user's last `length` items, padded on the right with 0, [U, length], and their number, [U]."""
        num_U = np.minimum(self.lengths_U, length)
        out = np.zeros((self.num_users, length), dtype=np.int32)
        rows = np.repeat(np.arange(self.num_users), num_U)
        within = np.arange(int(num_U.sum())) - np.repeat(np.cumsum(num_U) - num_U, num_U)
        out[rows, within] = self.items_T[np.repeat(self.offsets[1:] - num_U, num_U) + within]
        return out, num_U


@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """Leave-one-out split: each user's last item is the test, the one before it validation.

    Users with fewer than three events are only trained on.
    """

    train: Sequences
    """Without validation and test."""
    train_and_validation: Sequences
    """Without test."""
    validation_U: NDArray[np.int32]
    """Row of the held-out item, 0 for a user that is not evaluated."""
    test_U: NDArray[np.int32]
    """Row of the held-out item, 0 for a user that is not evaluated."""

    @classmethod
    def of(cls, sequences: Sequences) -> "LeaveOneOut":
        """Split sequences."""
        sequences = replace(sequences, users_U=np.arange(sequences.num_users))
        long_U = sequences.lengths_U >= 3  # one item to learn from, one to validate and one to test
        train, train_and_validation = (sequences.first(sequences.lengths_U - events * long_U) for events in (2, 1))
        return cls(
            train=train,
            train_and_validation=train_and_validation,
            validation_U=np.where(long_U, train_and_validation.last_U(), 0).astype(np.int32),
            test_U=np.where(long_U, sequences.last_U(), 0).astype(np.int32),
        )
