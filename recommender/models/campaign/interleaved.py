"""Purchases and looks of users as one sequence of baskets in the order of time, as the transformer reads them.

Items and looked-at values share one table of rows: first the items of the catalogue, then the values of each axis but
the product. So a search is a line as a look at an item is, and both are told from purchases by their kind.

Shapes: U users · B baskets · T lines · R rows of the shared table · A axes.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recommender.matching.affinity import AXES
from recommender.matching.catalogue import Catalogue
from recommender.matching.look_baskets import LookHistories
from recommender.matching.packed_history import Histories
from recommender.matching.ragged import offsets_of, places_of
from recommender.matching.single_looks import ITEM

BOUGHT = 0
"""The kind of purchases. A look has the place of its kind in `look_rules.KINDS` and one more."""


@dataclass(frozen=True, eq=False)
class Interleaved(Histories):
    """Histories whose baskets are purchases and looks. Items are rows of the shared table, and looks cost nothing."""

    kinds_T: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """`BOUGHT`, or the kind of the look."""
    shares_T: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    """Weight of the line in its basket. Those of a basket sum to 1."""
    is_look_B: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))


class _Stream(NamedTuple):
    """Baskets of one sort, those of a user one after the other, oldest first."""

    user_B: NDArray[np.int64]
    age_days_B: NDArray[np.float32]
    spend_B: NDArray[np.float32]
    lines_B: NDArray[np.int64]
    items_T: NDArray[np.int64]
    kinds_T: NDArray[np.int64]
    weights_T: NDArray[np.float64]


def interleaved(
    histories: Histories, catalogue: Catalogue, *, kinds: int, baskets: int | None = None, looks: int | None = None
) -> Interleaved:
    """Put purchases and looks together in the order of time. At one age a look comes first.

    Args:
        histories: of U users.
        catalogue: the one to whose rows the histories refer.
        kinds: how many kinds of looks are told apart. What was looked at in a later kind is an unknown item.
        baskets: latest purchases of each user that are taken. None: all.
        looks: latest baskets of looks, likewise.
    """
    streams = [_purchases(histories, baskets)]
    if histories.looks is not None:
        streams.append(_looks(histories.looks, catalogue, kinds, looks))
    both = _Stream(*(np.concatenate(columns) for columns in zip(*streams, strict=True)))
    is_look_B = np.arange(len(both.user_B)) >= len(streams[0].user_B)
    order_B = np.lexsort((~is_look_B, -both.age_days_B, both.user_B))
    place_T = places_of(offsets_of(both.lines_B), order_B)
    line_offsets = offsets_of(both.lines_B[order_B])
    weights_T, basket_T = both.weights_T[place_T], np.repeat(np.arange(len(order_B)), np.diff(line_offsets))
    sums_T = np.bincount(basket_T, weights=weights_T, minlength=len(order_B))[basket_T]
    lines_T = np.diff(line_offsets)[basket_T]
    return Interleaved(
        basket_offsets=offsets_of(np.bincount(both.user_B, minlength=len(histories.basket_offsets) - 1)),
        line_offsets=line_offsets,
        items_T=both.items_T[place_T].astype(np.int32),
        age_days_B=both.age_days_B[order_B],
        spend_B=both.spend_B[order_B],
        kinds_T=both.kinds_T[place_T],
        # Looks count nothing if the shop has set the weight of their kinds to 0 since they were packed.
        shares_T=np.where(sums_T > 0, weights_T / np.where(sums_T > 0, sums_T, 1.0), 1.0 / lines_T).astype(np.float32),
        is_look_B=is_look_B[order_B],
    )


def shared_rows(rows_VA: NDArray[np.int64], of_index_A: tuple[NDArray[np.int64], ...]) -> NDArray[np.int64]:
    """The shared table: embedding rows of the items, and behind them of single values, int64 [R, A].

    Args:
        rows_VA: embedding rows of the items' values.
        of_index_A: for each axis the embedding row of each value of the catalogue.
    """
    values = []
    for axis, of_index in enumerate(of_index_A[1:], start=1):
        own = np.zeros((len(of_index), len(of_index_A)), dtype=np.int64)
        own[:, axis] = of_index
        values.append(own)
    return np.concatenate([rows_VA, *values])


def _purchases(histories: Histories, most: int | None) -> _Stream:
    user_B, place_B = _last(histories.basket_offsets, most)
    lines_B = np.diff(histories.line_offsets)[place_B]
    items_T = histories.items_T[places_of(histories.line_offsets, place_B)].astype(np.int64)
    return _Stream(
        user_B,
        histories.age_days_B[place_B],
        histories.spend_B[place_B],
        lines_B,
        items_T,
        np.full(len(items_T), BOUGHT),
        np.ones(len(items_T)),
    )


def _looks(looks: LookHistories, catalogue: Catalogue, kinds: int, most: int | None) -> _Stream:
    user_B, place_B = _last(looks.basket_offsets, most)
    place_T = places_of(looks.line_offsets, place_B)
    kind_T = looks.kind_T[place_T].astype(np.int64) + 1
    starts = np.zeros(ITEM + 1, dtype=np.int64)
    sizes = [len(values) for values in catalogue.axis_values[1:]]
    starts[1 : len(AXES)] = len(catalogue.item_ids) + offsets_of(np.array(sizes))[:-1]
    is_known_T = (kind_T <= kinds) & (looks.value_T[place_T] > 0)
    return _Stream(
        user_B,
        looks.age_days_B[place_B],
        np.zeros(len(place_B), dtype=np.float32),
        np.diff(looks.line_offsets)[place_B],
        np.where(is_known_T, starts[looks.axis_T[place_T]] + looks.value_T[place_T], 0),
        np.where(kind_T <= kinds, kind_T, BOUGHT),
        looks.weight_T[place_T].astype(np.float64),
    )


def _last(offsets: NDArray[np.int64], most: int | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """User and place of each of the last `most` baskets of users."""
    counts_U = np.diff(offsets)
    kept_U = counts_U if most is None else np.minimum(counts_U, most)
    user_B = np.repeat(np.arange(len(kept_U)), kept_U)
    first_U = offsets[1:] - kept_U
    return user_B, np.arange(len(user_B)) + np.repeat(first_U - offsets_of(kept_U)[:-1], kept_U)
