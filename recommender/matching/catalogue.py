"""The catalogue: all data about items and campaigns that serving holds in memory.

The materialise step writes it as one verified folder. The training set, the model server's worker and the gateway read
it.

Shapes: V items (row 0 is the unknown item) · C campaigns · A axes of the taxonomy · G campaign features ·
J edges of a window's bins.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.errors import CorruptFileError
from recommender.matching.affinity import AXES, WEIGHT_UNIT, Incidence, type_code
from recommender.matching.event_rules import EventRules
from recommender.matching.horizon import elapsed_share
from recommender.matching.look_rules import LookRules
from recommender.matching.numbering import Numbering
from recommender.matching.open_campaigns import campaign_code
from recommender.matching.search_words import WordIndex
from recommender.matching.timing import BINS, behind_at, still_coming
from recommender.storage.manifest import read_manifest, whole_folder, write_manifest

FORMAT = 2
"""Version of the folder's layout, in its manifest. Raise it when a reader of the old layout would misread the new
one."""
READ_FORMATS = (1, FORMAT)
"""Format 1 has no `id_versions`."""
ARRAYS, NAMES = "arrays.safetensors", "names.json"
VERSION_DIGITS = 16
"""Hex digits of a version: 64 bits, the 8 bytes that users' packed vectors have for it."""
KEPT_INTERVALS = 16
"""Intervals between edges of windows whose live campaigns are kept. Requests are decided now, and a few by a moment of
their own. Chosen by hand."""
KEPT_COLUMNS = 256
"""Campaigns kept prepared for the join, over all sets asked for. Requests ask for the same live ones again and again.
Chosen by hand: several sets of a shop's live campaigns; a campaign takes a byte or two for each value of each axis."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """All items and campaigns of one state of the data. `version` is a hash of its content."""

    version: str
    item_ids: tuple[str, ...]
    item_names: tuple[str, ...]
    item_axes_VA: NDArray[np.int32]
    """Index of each item's value on each axis of `affinity.AXES`, 0 for none."""
    axis_values: tuple[tuple[str, ...], ...]
    """For each axis the values that its indices stand for. Index 0 is ''."""
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
    """Shrunk participation rate of users who were targeted with campaigns of the type. The order of equal scores."""
    campaign_newcomer_C: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    """Participation rate of an average known user over the whole window, see `features.newcomers`.

    Empty in catalogues from before it was learnt. `campaign_popularity_C` then stands in.
    """
    campaign_behind_CJ: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, BINS + 1)))
    """Share of the participations that lies behind at the edges of a window's bins, see `timing`.

    Empty in such catalogues: participations are then taken as spread evenly.
    """

    id_versions: tuple[str, ...] = ()
    """Names of the state of the ids that numbers items and axis values, and of all before it (`storage.ids`).

    Empty in catalogues from before ids were append-only: their content then names the one state.
    """

    look_rules: LookRules | None = None
    """What users' looks count. None: the source has no looks."""

    event_rules: EventRules | None = None
    """How events are taken. None in catalogues from before it was known: nothing of the tables is known then."""

    @classmethod
    def versioned(cls, **content: Any) -> "Catalogue":
        """Create a catalogue and compute its version from its content."""
        made = cls(version="", **content)
        hasher = hashlib.sha256()
        for column in fields(cls)[1:]:
            value = getattr(made, column.name)
            if value is None:
                continue
            value = asdict(value) if isinstance(value, LookRules | EventRules) else value
            hasher.update(value.tobytes() if isinstance(value, np.ndarray) else json.dumps(value).encode())
            hasher.update(b"\0")
        return replace(made, version=hasher.hexdigest()[:VERSION_DIGITS])

    @cached_property
    def numbering(self) -> Numbering:
        """The ids that it knows: what users' packed values may refer to. A new campaign does not change them."""
        versions = self.id_versions or (self._content_version(),)
        return Numbering(versions, tuple(map(len, self.axis_values)), len(self.item_ids))

    @property
    def taxonomy_version(self) -> str:
        """The name of its ids in what is packed with them, hex."""
        return self.numbering.name

    def _content_version(self) -> str:
        """Hash of items and axes, 16 hex digits."""
        hasher = hashlib.sha256("\0".join(self.item_ids).encode())
        for values in self.axis_values:
            hasher.update("\1".join(values).encode() + b"\0")
        hasher.update(np.ascontiguousarray(self.item_axes_VA, dtype="<i4").tobytes())
        return hasher.hexdigest()[:VERSION_DIGITS]

    @cached_property
    def axis_sizes(self) -> tuple[NDArray[np.int64], ...]:
        """For each axis, how many items have each of its values."""
        return tuple(
            np.bincount(self.item_axes_VA[1:, axis], minlength=len(values))
            for axis, values in enumerate(self.axis_values)
        )

    @cached_property
    def minor_units(self) -> int:
        """Whole minor units in one unit of the shop's currency. 100 where the catalogue names none."""
        return (self.event_rules or EventRules()).minor_units

    @cached_property
    def campaign_rows(self) -> dict[str, int]:
        """Row of each campaign by its identifier."""
        return {campaign_id: row for row, campaign_id in enumerate(self.campaign_ids)}

    @cached_property
    def item_rows(self) -> dict[str, int]:
        """Row of each item by its identifier."""
        return {item_id: row for row, item_id in enumerate(self.item_ids) if row}

    @cached_property
    def words(self) -> WordIndex:
        """The words of items' names and axis values, to look searches up."""
        return WordIndex(self.item_names, self.axis_values)

    @cached_property
    def campaign_codes_C(self) -> NDArray[np.uint32]:
        """Code of each campaign in users' vectors, see `open_campaigns.campaign_code`."""
        return np.array([campaign_code(campaign_id) for campaign_id in self.campaign_ids], dtype=np.uint32)

    @cached_property
    def _incidences(self) -> dict[bytes, Incidence]:
        return {}

    def incidence(self, rows: Sequence[int] | NDArray[np.int32]) -> Incidence:
        """Prepare the campaigns at `rows` for `affinity.match`. The last few sets asked for are cached."""
        key = np.asarray(rows, dtype=np.int32).tobytes()
        cached = self._incidences.get(key)
        if cached is None:
            cached = self._incidences[key] = self._build_incidence(rows)
            # Copies and defaults: another thread may add or remove sets at the same time.
            columns = sum(len(incidence.types) for incidence in list(self._incidences.values()))
            for oldest in list(self._incidences)[:-1]:
                if columns <= KEPT_COLUMNS:
                    break
                dropped = self._incidences.pop(oldest, None)
                columns -= 0 if dropped is None else len(dropped.types)
        return cached

    def _build_incidence(self, rows: Sequence[int] | NDArray[np.int32]) -> Incidence:
        present, weights, num_values = [], [], []
        for axis in range(len(AXES)):
            size = len(self.axis_values[axis])
            counts = np.zeros((size, len(rows)), dtype=np.int64)
            for column, row in enumerate(rows):
                counts[:, column] = np.bincount(self.item_axes_VA[self.items_of(int(row)), axis], minlength=size)
            counts[0] = 0
            present.append((counts > 0).astype(np.uint8))
            num_values.append((counts > 0).sum(axis=0))
            if axis:
                in_all = np.maximum(self.axis_sizes[axis], 1)
                weights.append(np.ceil(counts * WEIGHT_UNIT / in_all[:, None]).astype(np.uint16))
        types = [type_code(self.campaign_types[int(row)]) for row in rows]
        return Incidence(
            present_VC=np.concatenate(present),
            weights_VC=np.concatenate(weights),
            starts=np.cumsum([0, *map(len, present)]).astype(np.int32),
            num_values=np.array(num_values, dtype=np.float64),
            types=np.array(types, dtype=np.uint32),
            codes=self.campaign_codes_C[np.asarray(rows, dtype=np.int64)],
        )

    def items_of(self, row: int) -> NDArray[np.int32]:
        """Return the rows of the items of one campaign, ascending."""
        return self.campaign_items[self.campaign_item_offsets[row] : self.campaign_item_offsets[row + 1]]

    def live(self, moment_us: int) -> NDArray[np.int32]:
        """Return the rows of the campaigns whose window contains a time (microseconds since 1970, UTC)."""
        return np.sort(self.live_popular(moment_us))

    def live_popular(self, moment_us: int) -> NDArray[np.int32]:
        """Return the same rows as `popular` sorts them. The array is shared, and cannot be written to."""
        # Between two edges of windows the same campaigns are live.
        place = bisect_right(self._edges_us, moment_us)
        cached = self._live.get(place)
        if cached is None:
            is_live_C = (self.campaign_starts_C <= moment_us) & (moment_us < self.campaign_ends_C)
            cached = self.popular(np.flatnonzero(is_live_C).astype(np.int32))
            cached.setflags(write=False)
            for oldest in list(self._live)[: max(0, len(self._live) + 1 - KEPT_INTERVALS)]:
                self._live.pop(oldest, None)  # another thread may have removed it
            self._live[place] = cached
        return cached

    @cached_property
    def _edges_us(self) -> list[int]:
        """Starts and ends of all windows, ascending."""
        return sorted({*self.campaign_starts_C.tolist(), *self.campaign_ends_C.tolist()})

    @cached_property
    def _live(self) -> dict[int, NDArray[np.int32]]:
        return {}

    def rows(self, campaign_ids: Sequence[str]) -> tuple[NDArray[np.int32], list[str]]:
        """Look up campaigns by identifier.

        Returns:
            The rows of the known ones, each once, in the order of their first mention, and the unknown identifiers.
        """
        found = {name: self.campaign_rows.get(name) for name in campaign_ids}
        rows = np.array([row for row in found.values() if row is not None], dtype=np.int32)
        return rows, [name for name, row in found.items() if row is None]

    def popular(self, rows: Sequence[int] | NDArray[np.int32], count: int | None = None) -> NDArray[np.int32]:
        """Sort `rows` by the participation rate of targeted users, highest first. Ties keep the catalogue's order."""
        chosen = np.sort(np.asarray(rows, dtype=np.int32))
        return chosen[np.argsort(-self.campaign_popularity_C[chosen], kind="stable")][:count]

    def newcomer_scores(self, rows: NDArray[np.int32], moment_us: int) -> NDArray[np.float32]:
        """Probability that an average known user takes campaigns up from a moment to their ends, float32 [len(rows)].

        It is what a ranker's scores mean for one user, so both can be compared.
        """
        rate_C = self.campaign_newcomer_C if len(self.campaign_newcomer_C) else self.campaign_popularity_C
        edges_CJ = self.campaign_behind_CJ
        if not len(edges_CJ):
            edges_CJ = np.tile(np.linspace(0, 1, BINS + 1), (len(self.campaign_ids), 1))
        starts, ends = self.campaign_starts_C[rows], self.campaign_ends_C[rows]
        elapsed = elapsed_share(starts, ends, np.full(len(rows), moment_us, dtype=np.int64))
        behind = behind_at(edges_CJ, rows, elapsed)
        return still_coming(rate_C[rows].astype(np.float64), behind, np.ones(len(rows))).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write the catalogue as one folder with a manifest, completely or not at all."""
        from safetensors.numpy import save_file

        values = {column.name: getattr(self, column.name) for column in fields(self)}
        arrays = {name: np.ascontiguousarray(value) for name, value in values.items() if isinstance(value, np.ndarray)}
        names = {name: value for name, value in values.items() if name not in arrays and value is not None}
        if self.look_rules is not None:
            names["look_rules"] = asdict(self.look_rules)
        if self.event_rules is not None:
            names["event_rules"] = asdict(self.event_rules)
        with whole_folder(folder) as temporary:
            save_file(arrays, temporary / ARRAYS)
            (temporary / NAMES).write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8")
            write_manifest(
                temporary, kind="catalogue", format=FORMAT, version=self.version, taxonomy=self.numbering.versions[-1]
            )

    @classmethod
    def load(cls, folder: Path) -> "Catalogue":
        """Read a catalogue after verifying its files.

        Raises:
            CorruptFileError: a file is missing, truncated or altered, or the folder holds something else.
        """
        from safetensors.numpy import load_file

        manifest = read_manifest(folder)
        if manifest.get("kind") != "catalogue" or manifest.get("format") not in READ_FORMATS:
            raise CorruptFileError(
                f"{folder}: must be a catalogue of format {FORMAT} (got {manifest.get('kind')} of format "
                f"{manifest.get('format')}); build the features again"
            )
        names: dict[str, Any] = json.loads((folder / NAMES).read_text(encoding="utf-8"))
        names["axis_values"] = tuple(tuple(values) for values in names["axis_values"])
        if "look_rules" in names:
            names["look_rules"] = LookRules(**names["look_rules"])
        if "event_rules" in names:
            names["event_rules"] = EventRules(**names["event_rules"])
        names = {name: tuple(value) if isinstance(value, list) else value for name, value in names.items()}
        names.update(load_file(folder / ARRAYS))
        return cls(**names)
