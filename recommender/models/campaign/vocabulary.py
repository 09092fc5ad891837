"""The transformer's vocabulary of the taxonomy, by value, so that it stays valid for later catalogues.

Shapes: V items · A axes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recommender.matching.affinity import AXES
from recommender.matching.catalogue import Catalogue

LARGEST_TARGET = 5_000
"""Most values of the predicted axis: the softmax over it must stay cheap on a CPU. Chosen by hand."""
TARGETS = ("product_type", "category", "department", "product")
"""Axes whose next values may be predicted, in order of preference: the first with 2 … `LARGEST_TARGET` values is
taken."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Values of each axis that were bought often enough to have their own embedding. Row 0 stands for all others."""

    values: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, catalogue: Catalogue, bought_T: NDArray[np.int32], *, min_lines: int, min_product_lines: int) -> Self:
        """Keep the values that were bought often enough.

        Args:
            catalogue: Names the taxonomy values of each item.
            bought_T: Row of the item of each purchase line.
            min_lines: Lines that a value needs.
            min_product_lines: Lines that a product needs.
        """
        lines_V = np.bincount(bought_T, minlength=len(catalogue.item_ids))
        kept = {}
        for axis, name in enumerate(AXES):
            counts = np.bincount(
                catalogue.item_axes_VA[:, axis], weights=lines_V, minlength=len(catalogue.axis_values[axis])
            )
            counts[0] = 0
            least = min_product_lines if name == "product" else min_lines
            kept[name] = tuple(catalogue.axis_values[axis][index] for index in np.flatnonzero(counts >= least))
        return cls(kept)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of each axis' embedding, including the one for unknown values."""
        return tuple(len(self.values[name]) + 1 for name in AXES)

    @property
    def target(self) -> int:
        """Column of the axis whose next values are predicted. Without a suitable one, the axis with the most values."""
        for name in TARGETS:
            if 2 <= len(self.values[name]) <= LARGEST_TARGET:
                return AXES.index(name)
        return max(range(len(AXES)), key=lambda axis: min(len(self.values[AXES[axis]]), LARGEST_TARGET))

    def rows(self, catalogue: Catalogue) -> NDArray[np.int64]:
        """Look up the embedding rows of a catalogue's items: int64 [V, A]."""
        of_index_A = self.value_rows(catalogue)
        return np.stack([of_index_A[axis][catalogue.item_axes_VA[:, axis]] for axis in range(len(AXES))], axis=1)

    def value_rows(self, catalogue: Catalogue) -> tuple[NDArray[np.int64], ...]:
        """Look up the embedding row of each value of a catalogue's axes."""
        found = []
        for axis, name in enumerate(AXES):
            own = {value: row + 1 for row, value in enumerate(self.values[name])}
            found.append(np.array([own.get(value, 0) for value in catalogue.axis_values[axis]], dtype=np.int64))
        return tuple(found)

    def as_json(self) -> dict[str, Any]:
        """Values by axis, as a bundle stores them."""
        return {name: list(values) for name, values in self.values.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Sequence[str]]) -> Self:
        """Rebuild the vocabulary from `as_json()`."""
        return cls({name: tuple(content[name]) for name in AXES})
