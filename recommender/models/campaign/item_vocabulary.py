"""A campaign ranker's own vocabulary of items, by identifier, so that it stays valid for later catalogues.

Shapes: V items of the vocabulary, rows 1 … V (row 0 is no item) · R rows of a catalogue · P pairs of item and attribute
· T events, which are purchase lines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_US
from recommender.errors import BundleError
from recommender.matching.affinity import AXES
from recommender.matching.catalogue import Catalogue
from recommender.matching.packed_history import Histories
from recommender.sequences import Items, Sequences

ATTRIBUTES = tuple(axis for axis, name in enumerate(AXES) if name != "product")
"""Columns of the axes whose values are attributes of an item. Its product is the item itself."""
STAND_INS = ("product_type", "category", "department")
"""Axes by which known items stand in for a campaign's unknown ones, the finest first."""
DECISION_US = 30 * 365 * DAY_US
"""Histories hold ages, not times. All decisions are placed at this one moment, 30 years after the epoch (1999), because
`Sequences` takes times from 1990 to 2100 for real timestamps."""


@dataclass(frozen=True, eq=False)
class ItemVocabulary:
    """The items that were bought often enough to be ranked, with their attributes."""

    items: Items

    @classmethod
    def of(cls, catalogue: Catalogue, bought_T: NDArray[np.int32], *, min_lines: int) -> Self:
        """Keep the items with enough purchase lines or, if there are none, all items that were ever bought.

        Args:
            catalogue: The items and their taxonomy.
            bought_T: Row in the catalogue of each purchase line's item.
            min_lines: Fewest lines of a kept item. 0: all items are kept, also those without purchases.
        """
        lines_R = np.bincount(bought_T, minlength=len(catalogue.item_ids))
        lines_R[0] = 0
        kept = 1 + np.flatnonzero(lines_R[1:] >= min_lines)
        if not len(kept):
            kept = np.flatnonzero(lines_R)
        axes = catalogue.item_axes_VA[kept][:, ATTRIBUTES]
        shift = np.concatenate([[0], np.cumsum([len(catalogue.axis_values[axis]) for axis in ATTRIBUTES])])
        named = axes > 0
        counts = named.sum(axis=1)
        items = Items(
            ids=tuple(catalogue.item_ids[row] for row in kept.tolist()),
            attribute_offsets=np.concatenate([[0, 0], np.cumsum(counts)]).astype(np.int64),
            attributes_P=(axes + shift[:-1])[named].astype(np.int32),
            num_attributes=int(shift[-1]),
            texts=tuple(catalogue.item_names[row] for row in kept.tolist()),
        )
        return cls(items)

    def rows_R(self, catalogue: Catalogue) -> NDArray[np.int32]:
        """Map each row of a catalogue to its row in the vocabulary, 0 where it is unknown: int32 [R]."""
        own = {item_id: row + 1 for row, item_id in enumerate(self.items.ids)}
        rows_R = np.array([own.get(item_id, 0) for item_id in catalogue.item_ids], dtype=np.int32)
        rows_R[0] = 0
        return rows_R

    def sequences(self, histories: Histories, rows_R: NDArray[np.int32], *, most_events: int) -> Sequences:
        """Turn histories into sequences of each user's last `most_events` lines of known items.

        Baskets come in order of time, the lines of one basket in the order of the history.
        """
        lines_B = np.diff(histories.line_offsets)
        baskets_U = np.diff(histories.basket_offsets)
        users_T = np.repeat(np.repeat(np.arange(len(baskets_U)), baskets_U), lines_B)
        times_T = np.repeat(DECISION_US - (histories.age_days_B.astype(np.float64) * DAY_US).astype(np.int64), lines_B)
        items_T = rows_R[histories.items_T]
        known_T = items_T > 0
        users_T, times_T, items_T = users_T[known_T], times_T[known_T], items_T[known_T]
        lengths_U = np.bincount(users_T, minlength=len(baskets_U))
        left_T = np.repeat(np.cumsum(lengths_U), lengths_U) - np.arange(len(items_T))
        recent_T = left_T <= most_events
        return Sequences(
            items=self.items,
            offsets=np.concatenate([[0], np.cumsum(np.minimum(lengths_U, most_events))]).astype(np.int64),
            items_T=items_T[recent_T],
            times_T=times_T[recent_T],
        )

    def campaign(self, catalogue: Catalogue, row: int, rows_R: NDArray[np.int32]) -> NDArray[np.int64]:
        """Find the rows of a campaign's items, ascending: int64 [items].

        Where none of them is known, the known items that share their product type, category or department stand in.
        There may be none of these either.
        """
        promoted = catalogue.items_of(row)
        known = np.unique(rows_R[promoted])
        if known.any():
            return known[known > 0].astype(np.int64)
        for name in STAND_INS:
            axis = AXES.index(name)
            values = np.unique(catalogue.item_axes_VA[promoted, axis])
            alike = np.isin(catalogue.item_axes_VA[:, axis], values[values > 0]) & (rows_R > 0)
            if alike.any():
                return np.unique(rows_R[alike]).astype(np.int64)
        return np.zeros(0, dtype=np.int64)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The items' attributes. The identifiers are JSON and lie elsewhere in a bundle."""
        offsets, attributes_P = self.items.attribute_offsets, self.items.attributes_P
        return {
            "vocabulary.attribute_offsets": np.zeros(0, dtype=np.int64) if offsets is None else offsets,
            "vocabulary.attributes_P": np.zeros(0, dtype=np.int32) if attributes_P is None else attributes_P,
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], ids: Sequence[str], num_attributes: int) -> Self:
        """Rebuild the vocabulary of a bundle, without the items' texts, which only a fit reads.

        Raises:
            BundleError: Attributes and identifiers are of different numbers of items.
        """
        offsets = tensors["vocabulary.attribute_offsets"]
        if len(offsets) != len(ids) + 2:
            raise BundleError(
                f"vocabulary: {len(ids)} items, but the weights have {len(offsets) - 2}. "
                "They come from different fits. Train again."
            )
        return cls(Items(tuple(ids), offsets, tensors["vocabulary.attributes_P"], num_attributes))
