"""A ranker's own vocabulary of the taxonomy, by value: it outlives the catalogue whose indices it was made from.

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
TARGETS = ("product_type", "category", "department", "product")
"""Axes whose next values may be predicted, the best first."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Values of each axis that were bought often enough to have an embedding of their own; 0 stands for all others."""

    values: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, catalogue: Catalogue, bought_T: NDArray[np.int32], *, min_lines: int, min_product_lines: int) -> Self:
        """Count the values of what was bought."""
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
        """Rows of each axis' embedding, the one for unknown values included."""
        return tuple(len(self.values[name]) + 1 for name in AXES)

    @property
    def target(self) -> int:
        """The axis whose next values are predicted: the finest of manageable size."""
        for name in TARGETS:
            if 2 <= len(self.values[name]) <= LARGEST_TARGET:
                return AXES.index(name)
        return max(range(len(AXES)), key=lambda axis: min(len(self.values[AXES[axis]]), LARGEST_TARGET))

    def rows(self, catalogue: Catalogue) -> NDArray[np.int64]:
        """Rows of a catalogue's items in the embeddings: int64 [V, A]."""
        columns = []
        for axis, name in enumerate(AXES):
            own = {value: row + 1 for row, value in enumerate(self.values[name])}
            of_index = np.array([own.get(value, 0) for value in catalogue.axis_values[axis]], dtype=np.int64)
            columns.append(of_index[catalogue.item_axes_VA[:, axis]])
        return np.stack(columns, axis=1)

    def as_json(self) -> dict[str, Any]:
        return {name: list(values) for name, values in self.values.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Sequence[str]]) -> Self:
        return cls({name: tuple(content[name]) for name in AXES})
