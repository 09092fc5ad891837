"""Baskets of looks: what a user looked at on one day, for rankers that read a history in its order.

A basket holds each item once, by its strongest look. A search is in it as the values of the taxonomy that it means.
What a look is, and how strong, is said in `look_rules`. A look without strength, such as a bad review, is in none.

One function (`strongest`) makes the baskets of a build, which read all looks before a decision, and those of a fold,
which knows the basket so far and one more look. Both come to the same bytes: a look that was weaker than all that are
kept stays weaker when others come.

A day is one in UTC, so that nothing else must be known of a shop to fold an event.

Shapes: R looks · U users · B baskets · T lines of baskets · K kinds.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_S, DAY_US, SECOND_US
from recommender.errors import FeatureStoreError
from recommender.matching.look_rules import KINDS, STRENGTH_UNIT, LookRules
from recommender.matching.numbering import Numbering
from recommender.matching.ragged import offsets_of, places_of
from recommender.matching.single_looks import ITEM

MAX_LOOK_BASKETS, MOST_LINES = 32, 16
"""Baskets of a row, the last ones, and lines of a basket, the strongest ones. By hand: a month of daily visits and a
page of results, at most 5.3 KB beside some 20 KB of the rest of a row."""
LINE = np.dtype([("kind", "u1"), ("axis", "u1"), ("value", "<i4"), ("strength", "<u2"), ("step", "<u2")])
"""One line: its kind as a place in `KINDS`, its axis or `ITEM`, its value there, its strength in `STRENGTH_UNIT`, and
its time in `STEP_S` of the day."""
STEP_S = 2
"""Seconds of a step, so that those of a day fit into 16 bits."""
_PRODUCT = 0
"""The axis whose values are the items: a search that means an item is a look at it."""
_MAGIC = b"LKB1"
_HEAD = struct.Struct("<4sII")
"""Magic, number of baskets, number of lines."""

Ints = NDArray[np.int64]


class LookBaskets(NamedTuple):
    """The last baskets of looks of one user, oldest first."""

    time_s_B: Ints
    """Second of the last look of the day, since 1970."""
    lines_B: Ints
    """Number of lines."""
    lines_T: NDArray[np.void]
    """Of the structure `LINE`, the strongest of a basket first."""

    @classmethod
    def none(cls) -> "LookBaskets":
        """No looks at all."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=LINE))

    def pack(self) -> bytes:
        """Pack the baskets. None at all are no bytes, so that a value of a source without looks stays as it is."""
        if not len(self.time_s_B):
            return b""
        head = _HEAD.pack(_MAGIC, len(self.time_s_B), len(self.lines_T))
        return (
            head + self.time_s_B.astype("<u4").tobytes() + self.lines_B.astype("u1").tobytes() + self.lines_T.tobytes()
        )

    @staticmethod
    def packed_size(packed: bytes, start: int) -> int:
        """Bytes that packed baskets take from `start` on, by their head. 0 where there are none."""
        if packed[start : start + len(_MAGIC)] != _MAGIC or len(packed) < start + _HEAD.size:
            return 0
        _, baskets, lines = _HEAD.unpack_from(packed, start)
        return _HEAD.size + 5 * int(baskets) + LINE.itemsize * int(lines)

    @classmethod
    def unpack(cls, packed: bytes, start: int) -> "LookBaskets":
        """Unpack what `pack` packed.

        Raises:
            FeatureStoreError: the baskets are damaged.
        """
        if not cls.packed_size(packed, start):
            return cls.none()
        _, baskets, lines = _HEAD.unpack_from(packed, start)
        at = start + _HEAD.size
        try:
            time_s_B = np.frombuffer(packed, "<u4", baskets, at).astype(np.int64)
            lines_B = np.frombuffer(packed, "u1", baskets, at + 4 * baskets).astype(np.int64)
            found = cls(time_s_B, lines_B, np.frombuffer(packed, LINE, lines, at + 5 * baskets))
        except ValueError:
            found = None
        if found is None or found.lines_B.sum() != lines or (found.lines_T["kind"] >= len(KINDS)).any():
            raise FeatureStoreError(
                "history: the looks behind it are damaged; build and materialise the features again"
            )
        return found

    def with_looks(self, single_R: NDArray[np.void], rules: LookRules) -> "LookBaskets":
        """The baskets with further looks, in whatever order they came.

        Args:
            single_R: of the structure `single_looks.SINGLE`.
            rules: say which look is stronger.
        """
        lines_R, places = counted(single_R, rules)
        if not len(lines_R):
            return self
        lines_T = np.concatenate([self.lines_T, lines_R])
        time_s_T = np.concatenate([np.repeat(self.time_s_B, self.lines_B), single_R["time_s"][places].astype(np.int64)])
        days, basket_T = np.unique(time_s_T // DAY_S, return_inverse=True)
        kept_T = strongest(basket_T, lines_T, rules)
        time_s_B = np.zeros(len(days), dtype=np.int64)
        np.maximum.at(time_s_B, basket_T, time_s_T)
        kept_T = kept_T[basket_T[kept_T] >= len(days) - MAX_LOOK_BASKETS]
        lines_B = np.bincount(basket_T[kept_T], minlength=len(days))
        return LookBaskets(time_s_B[-MAX_LOOK_BASKETS:], lines_B[-MAX_LOOK_BASKETS:], lines_T[kept_T])


def counted(single_R: NDArray[np.void], rules: LookRules) -> tuple[NDArray[np.void], Ints]:
    """The looks that belong in a basket, as lines, and their places among all.

    Args:
        single_R: of the structure `single_looks.SINGLE`.
        rules: say which kinds count.
    """
    lines_R = np.zeros(len(single_R), dtype=LINE)
    lines_R["kind"], lines_R["value"] = single_R["kind"], single_R["value"]
    lines_R["axis"] = np.where(single_R["axis"] == _PRODUCT, ITEM, single_R["axis"])
    lines_R["step"] = single_R["time_s"] % DAY_S // STEP_S
    lines_R["strength"] = np.clip(single_R["strength"], 0, np.iinfo(np.uint16).max)
    places = np.flatnonzero((weights_of(lines_R, rules) > 0) & (lines_R["value"] > 0))
    return lines_R[places], places


def weights_of(lines_T: NDArray[np.void], rules: LookRules) -> NDArray[np.float64]:
    """What each line counted when it was fresh, float64 [T]: the weight of its kind times its strength."""
    weight_K = np.array([rules.weight.get(kind, 0.0) for kind in KINDS], dtype=np.float64)
    return np.asarray(weight_K[lines_T["kind"]] * (lines_T["strength"].astype(np.int64) / STRENGTH_UNIT))


def strongest(basket_R: Ints, lines_R: NDArray[np.void], rules: LookRules) -> Ints:
    """The places of the looks that baskets keep, by basket and then the strongest first.

    Each item or value is kept once, by its strongest look, and so are `MOST_LINES` of a basket. Of equally strong looks
    the later one is taken as the stronger. The order in which they come means nothing.

    Args:
        basket_R: number of each look's basket.
        lines_R: the looks.
        rules: say how strong they are.
    """
    axis_R, value_R, kind_R, step_R = (lines_R[name].astype(np.int64) for name in ("axis", "value", "kind", "step"))
    weakness_R = -weights_of(lines_R, rules)
    order = np.lexsort((-kind_R, -step_R, weakness_R, value_R, axis_R, basket_R))
    keys = np.stack([basket_R[order], axis_R[order], value_R[order]])
    first = order[np.append(True, (np.diff(keys, axis=1) != 0).any(axis=0))[: len(order)]]
    keys_from_last = (value_R, axis_R, -kind_R, -step_R, weakness_R, basket_R)
    kept = first[np.lexsort([key_R[first] for key_R in keys_from_last])]
    starts = np.flatnonzero(np.diff(basket_R[kept], prepend=-1))
    rank = np.arange(len(kept)) - np.repeat(starts, np.diff(np.append(starts, len(kept))))
    return np.asarray(kept[rank < MOST_LINES], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class LookHistories:
    """The baskets of looks of users as ragged arrays, each user's oldest first."""

    basket_offsets: NDArray[np.int64]
    """[U + 1]: user u has the baskets basket_offsets[u] to basket_offsets[u + 1], excluded."""
    line_offsets: NDArray[np.int64]
    """[B + 1]: basket b has the lines line_offsets[b] to line_offsets[b + 1], excluded."""
    kind_T: NDArray[np.uint8]
    """Place in `KINDS`."""
    axis_T: NDArray[np.uint8]
    """Axis of the taxonomy, or `ITEM`."""
    value_T: NDArray[np.int32]
    """Row of the item in the catalogue, or index of the value on its axis. 0 if the catalogue does not know it yet."""
    weight_T: NDArray[np.float32]
    """What the look counted when it was fresh, > 0."""
    age_days_B: NDArray[np.float32]
    """Days from the last look of the basket to the decision."""

    @classmethod
    def of(
        cls, baskets_U: Sequence[LookBaskets], decided_us_U: NDArray[np.int64], numbering: Numbering, rules: LookRules
    ) -> Self:
        """Put the baskets of users together.

        Args:
            baskets_U: of each user.
            decided_us_U: when each user was decided on, microseconds since 1970, UTC.
            numbering: the ids that the catalogue knows.
            rules: say what looks count.
        """
        num_U = np.array([len(one.time_s_B) for one in baskets_U], dtype=np.int64)
        none = LookBaskets.none()
        time_s_B = np.concatenate([none.time_s_B, *(one.time_s_B for one in baskets_U)])
        lines_T = np.concatenate([none.lines_T, *(one.lines_T for one in baskets_U)])
        known_A = np.full(ITEM + 1, numbering.num_items, dtype=np.int64)
        known_A[: len(numbering.num_values)] = numbering.num_values
        age_us_B = np.repeat(decided_us_U, num_U) - time_s_B * SECOND_US
        return cls(
            basket_offsets=offsets_of(num_U),
            line_offsets=offsets_of(np.concatenate([none.lines_B, *(one.lines_B for one in baskets_U)])),
            kind_T=np.ascontiguousarray(lines_T["kind"]),
            axis_T=np.ascontiguousarray(lines_T["axis"]),
            value_T=np.where(lines_T["value"] < known_A[lines_T["axis"]], lines_T["value"], 0).astype(np.int32),
            weight_T=weights_of(lines_T, rules).astype(np.float32),
            age_days_B=(age_us_B / DAY_US).astype(np.float32),
        )

    def take(self, users: NDArray[np.int64]) -> Self:
        """Select the baskets of some users (rows), in the order asked for."""
        return self._taken(np.diff(self.basket_offsets)[users], places_of(self.basket_offsets, users))

    def known(self, known_B: NDArray[np.bool_]) -> Self:
        """Select the baskets of a mask, of the same users."""
        users_B = np.repeat(np.arange(len(self.basket_offsets) - 1), np.diff(self.basket_offsets))
        left_U = np.bincount(users_B[known_B], minlength=len(self.basket_offsets) - 1)
        return self._taken(left_U, np.flatnonzero(known_B))

    def _taken(self, baskets_U: NDArray[np.int64], baskets: NDArray[np.int64]) -> Self:
        lines = places_of(self.line_offsets, baskets)
        return type(self)(
            basket_offsets=offsets_of(baskets_U),
            line_offsets=offsets_of(np.diff(self.line_offsets)[baskets]),
            kind_T=self.kind_T[lines],
            axis_T=self.axis_T[lines],
            value_T=self.value_T[lines],
            weight_T=self.weight_T[lines],
            age_days_B=self.age_days_B[baskets],
        )
