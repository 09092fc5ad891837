"""The taxonomy: every item that was ever seen, and its place on every axis, by append-only ids."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.matching.affinity import AXES
from recommender.storage.ids import Ids


@dataclass(frozen=True, eq=False)
class Taxonomy:
    """All items that were ever seen, and their index on every axis, by append-only ids. Index 0 stands for no value.

    Shapes: V items, the unknown one first · A axes.
    """

    item_ids: tuple[str, ...]
    names: tuple[str, ...]
    """Names to show: the source's, else the product type, else the identifier."""
    axis_values: tuple[tuple[str, ...], ...]
    """For each axis its values in the order in which they were first seen, after an empty one."""
    axes_VA: NDArray[np.int32]
    present_V: NDArray[np.bool_]
    """Whether the source still has the item. One that vanished keeps its row, with no value on the other axes."""
    id_versions: tuple[str, ...]
    """Names of the state of the ids and of all before it (`Ids.versions`)."""

    @classmethod
    def of(cls, items: pa.Table, ids: Ids) -> "Taxonomy":
        """Build it from the canonical table `items`. An axis that the source never had has only index 0.

        Args:
            items: the table.
            ids: have a number for each of the table's values (`values_of`).
        """
        item_ids = ids.of(AXES[0])
        rows = ids.numbers(AXES[0])
        rows_N = np.array([rows[item_id] for item_id in items["item_id"].to_pylist()], dtype=np.int64)
        present_V = np.zeros(len(item_ids), dtype=np.bool_)
        present_V[rows_N] = True
        axes_VA = np.zeros((len(item_ids), len(AXES)), dtype=np.int32)
        axes_VA[1:, 0] = np.arange(1, len(item_ids))
        for axis, name in enumerate(AXES[1:], start=1):
            if name in items.column_names:
                numbers = ids.numbers(name)
                axes_VA[rows_N, axis] = [numbers.get(value, 0) for value in items[name].to_pylist()]
        given_V = (
            dict(zip(rows_N.tolist(), items["name"].to_pylist(), strict=True)) if "name" in items.column_names else {}
        )
        types = ids.of(AXES[1])
        kinds_V = [types[index] for index in axes_VA[:, 1]]
        names = [given_V.get(row) or kinds_V[row] or item_id for row, item_id in enumerate(item_ids)]
        return cls(item_ids, ("", *names[1:]), tuple(ids.of(name) for name in AXES), axes_VA, present_V, ids.versions)

    def table(self) -> pa.Table:
        """Return item_id, item_row and the index on each axis, for joining with events."""
        columns: dict[str, Any] = {"item_id": pa.array(self.item_ids[1:]), "item_row": self.axes_VA[1:, 0]}
        columns |= {name: self.axes_VA[1:, axis] for axis, name in enumerate(AXES) if axis}
        return pa.table(columns)

    def present(self) -> pa.Table:
        """Return item_id and item_row of the items that the source still has."""
        return self.table().select(["item_id", "item_row"]).filter(pa.array(self.present_V[1:]))


def values_of(items: pa.Table) -> dict[str, list[str]]:
    """The items and the values on each axis that the canonical table `items` has, for `Ids.adding`."""
    found = {AXES[0]: items["item_id"].to_pylist()}
    for name in AXES[1:]:
        if name in items.column_names:
            found[name] = [value for value in items[name].unique().to_pylist() if value]
    return found
