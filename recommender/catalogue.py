"""What serving knows of items and campaigns, in memory: names, taxonomy, windows, item vectors, features.

Written by the materialise step as one verified folder; read by the training set, the handler and the gateway.

Shapes: V items (row 0 is the unknown item) · C campaigns · A axes · v values of one axis · G campaign features.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from recommender.errors import CorruptFileError
from recommender.manifest import digest, read_manifest, whole_folder, write_manifest, write_text

_ARRAYS = (
    "item_axes_VA",
    "item_popularity_V",
    "campaign_starts_C",
    "campaign_ends_C",
    "campaign_item_offsets",
    "campaign_items",
    "campaign_features_CG",
    "campaign_popularity_C",
)
_TEXTS = (
    "version",
    "item_ids",
    "item_names",
    "axis_values",
    "campaign_ids",
    "campaign_names",
    "campaign_kinds",
    "campaign_types",
    "campaign_feature_names",
    "type_values",
)


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
    type_values: tuple[str, ...] = ("",)
    """The campaign types that a user's row counts by; index 0 is a type that was not there when it was written."""

    @cached_property
    def taxonomy_version(self) -> str:
        """Identity of what user rows refer to: items, axes and types. A new campaign does not change it."""
        axes = digest(self.axis_values, self.item_axes_VA.tobytes().hex())
        return digest(self.item_ids, axes, self.type_values)

    @cached_property
    def members(self) -> tuple[NDArray[np.bool_], ...]:
        """For each axis, bool [C, v]: whether a campaign has an item with this value; index 0 never counts."""
        counts_C = np.diff(self.campaign_item_offsets)
        campaign_of_item = np.repeat(np.arange(len(self.campaign_ids)), counts_C)
        members = []
        for axis, values in enumerate(self.axis_values):
            member_Cv = np.zeros((len(self.campaign_ids), len(values)), dtype=np.bool_)
            member_Cv[campaign_of_item, self.item_axes_VA[self.campaign_items, axis]] = True
            member_Cv[:, 0] = False
            members.append(member_Cv)
        return tuple(members)

    @cached_property
    def member_counts(self) -> tuple[NDArray[np.int64], ...]:
        """For each axis, [C]: how many of its values a campaign has."""
        return tuple(member_Cv.sum(axis=1) for member_Cv in self.members)

    @cached_property
    def campaign_type_C(self) -> NDArray[np.int64]:
        """Index of each campaign's type in `type_values`; 0: not among them."""
        index = {value: row for row, value in enumerate(self.type_values)}
        return np.array([index.get(value, 0) for value in self.campaign_types], dtype=np.int64)

    @cached_property
    def _campaign_row(self) -> dict[str, int]:
        return {campaign: row for row, campaign in enumerate(self.campaign_ids)}

    @cached_property
    def item_row(self) -> dict[str, int]:
        """Row of each item by its identifier."""
        return {item: row for row, item in enumerate(self.item_ids)}

    def items_of(self, campaign: int) -> NDArray[np.int32]:
        """Rows of one campaign's items."""
        return self.campaign_items[self.campaign_item_offsets[campaign] : self.campaign_item_offsets[campaign + 1]]

    def rows(self, campaign_ids: Sequence[str]) -> tuple[NDArray[np.int32], list[str]]:
        """Rows of the campaigns that exist, in the given order without repeats, and the identifiers that do not."""
        distinct = list(dict.fromkeys(campaign_ids))
        known = [self._campaign_row[campaign] for campaign in distinct if campaign in self._campaign_row]
        return np.array(known, dtype=np.int32), [name for name in distinct if name not in self._campaign_row]

    def live(self, as_of_us: int) -> NDArray[np.int32]:
        """Rows of the campaigns whose window holds the moment `as_of_us` (µs since 1970, UTC), most popular first."""
        live = np.flatnonzero((self.campaign_starts_C <= as_of_us) & (as_of_us < self.campaign_ends_C))
        return self.popular(live.astype(np.int32))

    def popular(self, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        """The same rows, most popular first; ties by row."""
        order = np.argsort(-self.campaign_popularity_C[rows], kind="stable")
        return rows[order]

    def save(self, folder: Path) -> None:
        """Write the catalogue as one verified folder, whole or not at all."""
        with whole_folder(folder) as draft:
            save_file(
                {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}, draft / "arrays.safetensors"
            )
            write_text(draft / "texts.json", json.dumps({name: getattr(self, name) for name in _TEXTS}))
            write_manifest(draft, kind="catalogue", version=self.version, taxonomy_version=self.taxonomy_version)

    @classmethod
    def load(cls, folder: Path) -> "Catalogue":
        """Read a catalogue after verifying it.

        Raises:
            CorruptFileError: a file is missing, truncated or altered; names it.
        """
        manifest = read_manifest(folder)
        if manifest.get("kind") != "catalogue":
            raise CorruptFileError(f"{folder}: not a catalogue")
        arrays = load_file(folder / "arrays.safetensors")
        texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
        plain = {name: texts[name] if name == "version" else tuple(texts[name]) for name in _TEXTS}
        plain["axis_values"] = tuple(tuple(values) for values in texts["axis_values"])
        return cls(**plain, **{name: arrays[name] for name in _ARRAYS})
