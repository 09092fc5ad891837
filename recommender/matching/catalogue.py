"""What serving knows of items and campaigns, in memory: names, taxonomy, windows, item vectors, features.

Written by the materialise step as one verified folder; read by the training set, the handler and the gateway.

Shapes: V items (row 0 is the unknown item) · C campaigns · A axes · G campaign features.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.errors import CorruptFileError
from recommender.matching.affinity import AXES, WEIGHT_UNIT, Incidence, type_code
from recommender.storage.manifest import read_manifest, whole_folder, write_manifest

FORMAT = 1
ARRAYS, NAMES = "arrays.safetensors", "names.json"
KEPT_COLUMNS = 256
"""How many campaigns are kept laid out, over all sets asked for: requests ask for the same live ones over and over."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """All items and campaigns of one data state. `version` is the identity of its content."""

    version: str
    item_ids: tuple[str, ...]
    item_names: tuple[str, ...]
    item_axes_VA: NDArray[np.int32]
    """Index of each item's value on each axis of `affinity.AXES`; 0: none."""
    axis_values: tuple[tuple[str, ...], ...]
    """A tuples: the values that the indices of an axis stand for; index 0 is ''."""
    item_popularity_V: NDArray[np.float32]
    """Purchases per 30 days over the last 90 days."""
    campaign_ids: tuple[str, ...]
    campaign_names: tuple[str, ...]
    campaign_kinds: tuple[str, ...]
    campaign_types: tuple[str, ...]
    campaign_starts_C: NDArray[np.int64]
    """Microseconds since 1970, UTC."""
    campaign_ends_C: NDArray[np.int64]
    """Exclusive."""
    campaign_item_offsets: NDArray[np.int64]
    """[C + 1] into `campaign_items`."""
    campaign_items: NDArray[np.int32]
    """Rows of each campaign's distinct items, ascending."""
    campaign_features_CG: NDArray[np.float32]
    campaign_feature_names: tuple[str, ...]
    campaign_popularity_C: NDArray[np.float32]
    """Participation rate expected of an unknown user, shrunk: the popular list is sorted by it."""

    @classmethod
    def versioned(cls, **content: Any) -> "Catalogue":
        """The catalogue of this content, with the version that its content has."""
        hasher = hashlib.sha256()
        for field in fields(cls)[1:]:
            value = content[field.name]
            hasher.update(value.tobytes() if isinstance(value, np.ndarray) else json.dumps(value).encode())
            hasher.update(b"\0")
        return cls(version=hasher.hexdigest()[:16], **content)

    @cached_property
    def taxonomy_version(self) -> str:
        """Identity of items and axes alone, 16 hex digits: what the indices in users' vectors and histories refer to.

        A new campaign leaves it as it is.
        """
        hasher = hashlib.sha256("\0".join(self.item_ids).encode())
        for values in self.axis_values:
            hasher.update("\1".join(values).encode() + b"\0")
        hasher.update(np.ascontiguousarray(self.item_axes_VA, dtype="<i4").tobytes())
        return hasher.hexdigest()[:16]

    @cached_property
    def axis_sizes(self) -> tuple[NDArray[np.int64], ...]:
        """A arrays: how many items have each value of the axis."""
        return tuple(
            np.bincount(self.item_axes_VA[1:, axis], minlength=len(values))
            for axis, values in enumerate(self.axis_values)
        )

    @cached_property
    def item_rows(self) -> dict[str, int]:
        """Row of each item by its identifier, without the unknown item."""
        return {item_id: row for row, item_id in enumerate(self.item_ids) if row}

    @cached_property
    def campaign_rows(self) -> dict[str, int]:
        """Row of each campaign by its identifier."""
        return {campaign_id: row for row, campaign_id in enumerate(self.campaign_ids)}

    @cached_property
    def _incidences(self) -> dict[bytes, Incidence]:
        return {}

    def incidence(self, rows: Sequence[int] | NDArray[np.int32]) -> Incidence:
        """The campaigns at `rows` laid out for `affinity.join`; the last few sets asked for are kept."""
        key = np.asarray(rows, dtype=np.int32).tobytes()
        kept = self._incidences.get(key)
        if kept is None:
            kept = self._incidences[key] = self._laid_out(rows)
            columns = sum(len(one.types) for one in list(self._incidences.values()))
            for oldest in list(self._incidences)[:-1]:
                if columns <= KEPT_COLUMNS:
                    break
                dropped = self._incidences.pop(oldest, None)
                columns -= 0 if dropped is None else len(dropped.types)
        return kept

    def _laid_out(self, rows: Sequence[int] | NDArray[np.int32]) -> Incidence:
        present, weights, num_values = [], [], []
        for axis in range(len(AXES)):
            size = len(self.axis_values[axis])
            held = np.zeros((size, len(rows)), dtype=np.int64)
            for column, row in enumerate(rows):
                held[:, column] = np.bincount(self.item_axes_VA[self.items_of(int(row)), axis], minlength=size)
            held[0] = 0
            present.append((held > 0).astype(np.uint8))
            num_values.append((held > 0).sum(axis=0))
            if axis:
                whole = np.maximum(self.axis_sizes[axis], 1)
                weights.append(np.ceil(held * WEIGHT_UNIT / whole[:, None]).astype(np.uint16))
        types = [type_code(self.campaign_types[int(row)]) for row in rows]
        return Incidence(
            tuple(present), tuple(weights), np.array(num_values, dtype=np.float64), np.array(types, dtype=np.uint32)
        )

    def items_of(self, row: int) -> NDArray[np.int32]:
        """Rows of the items of one campaign, ascending."""
        return self.campaign_items[self.campaign_item_offsets[row] : self.campaign_item_offsets[row + 1]]

    def live(self, moment_us: int) -> NDArray[np.int32]:
        """Rows of the campaigns whose window holds the moment (µs since 1970, UTC)."""
        is_live_C = (self.campaign_starts_C <= moment_us) & (moment_us < self.campaign_ends_C)
        return np.flatnonzero(is_live_C).astype(np.int32)

    def rows(self, campaign_ids: Sequence[str]) -> tuple[NDArray[np.int32], list[str]]:
        """Rows of the named campaigns, each once, in the order of their first mention, and the names that are unknown."""
        found = {name: self.campaign_rows.get(name) for name in campaign_ids}
        known = np.array([row for row in found.values() if row is not None], dtype=np.int32)
        return known, [name for name, row in found.items() if row is None]

    def popular(self, rows: Sequence[int] | NDArray[np.int32], count: int | None = None) -> NDArray[np.int32]:
        """`rows` by the participation rate of an unknown user, highest first; ties keep the order of the catalogue."""
        chosen = np.sort(np.asarray(rows, dtype=np.int32))
        return chosen[np.argsort(-self.campaign_popularity_C[chosen], kind="stable")][:count]

    def save(self, folder: Path) -> None:
        """Write the catalogue as one folder, whole or not at all, with its manifest."""
        from safetensors.numpy import save_file

        values = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {name: np.ascontiguousarray(value) for name, value in values.items() if isinstance(value, np.ndarray)}
        names = {name: value for name, value in values.items() if name not in arrays}
        with whole_folder(folder) as temporary:
            save_file(arrays, temporary / ARRAYS)
            (temporary / NAMES).write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8")
            write_manifest(
                temporary, kind="catalogue", format=FORMAT, version=self.version, taxonomy=self.taxonomy_version
            )

    @classmethod
    def load(cls, folder: Path) -> "Catalogue":
        """Read a catalogue after verifying its files.

        Raises:
            CorruptFileError: a file is missing, truncated or altered, or the folder holds something else.
        """
        from safetensors.numpy import load_file

        manifest = read_manifest(folder)
        if manifest.get("kind") != "catalogue" or manifest.get("format") != FORMAT:
            raise CorruptFileError(f"{folder}: not a catalogue of format {FORMAT}; build the features again")
        names: dict[str, Any] = json.loads((folder / NAMES).read_text(encoding="utf-8"))
        names["axis_values"] = tuple(tuple(values) for values in names["axis_values"])
        names = {name: tuple(value) if isinstance(value, list) else value for name, value in names.items()}
        names.update(load_file(folder / ARRAYS))
        return cls(**names)
