"""Packs the vectors of users at decisions: affinities, open campaigns and the last baskets.

Shapes: D decisions · O open campaigns of all decisions · H features about campaigns · n values of an axis.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.features import looks, rings
from recommender.features.as_of import Ints, ranges
from recommender.features.baskets import Versions
from recommender.features.bought import Bought, microseconds_of
from recommender.features.campaign_habits import Habits
from recommender.features.look_days import LookDays
from recommender.features.purchases import Known
from recommender.features.vectors import bounds_of
from recommender.matching.affinity import MEASURES, UserAffinity, pack_user, type_code
from recommender.matching.open_campaigns import OpenCampaigns, campaign_code
from recommender.matching.packed_history import MAX_BASKETS, pack_history

SCHEMA = pa.schema({"affinity": pa.binary(), "history": pa.binary()})


class Packer:
    """Packs decisions, a slice at a time, into a file of a temporary folder.

    The packed values are most of a feature set. So they are on the disk until the set is written.
    """

    def __init__(
        self,
        *,
        taxonomy_version: str,
        minor_units: int,
        file: Path,
    ) -> None:
        """Open the file.

        Args:
            taxonomy_version: version of the taxonomy whose indices the vectors hold.
            minor_units: whole minor units in one unit of the currency.
            file: Arrow's IPC file to write.
        """
        self._taxonomy_version, self._minor_units, self._file = taxonomy_version, minor_units, file
        self._writer = pa.ipc.new_file(file, SCHEMA)
        self._habits: Habits | None = None
        self._columns_H = np.zeros(0, dtype=np.uint16)
        self._looked: list[pa.Table] | None = None
        self._activity: rings.Activity | None = None
        self._look_days: LookDays | None = None

    def begin(
        self,
        habits: Habits,
        columns_H: NDArray[np.uint16],
        looked_by_axis: list[pa.Table] | None,
        activity: rings.Activity | None = None,
        look_days: LookDays | None = None,
    ) -> None:
        """Take what is known of all decisions.

        Args:
            habits: what `campaign_habits.habits` returned.
            columns_H: places of the features about campaigns in the portrait.
            looked_by_axis: what `looks.looks_by_axis` returned.
            activity: of the users whose rows get rings.
            look_days: baskets of what the users looked at. None: the source has no looks.
        """
        self._habits, self._columns_H = habits, columns_H
        self._looked, self._activity, self._look_days = looked_by_axis, activity, look_days

    def __call__(
        self,
        own: slice,
        by_axis: list[pa.Table],
        months_D: NDArray[np.float64],
        lines: Bought,
        versions: Versions,
        seen: Known,
        moment_us_D: Ints,
    ) -> None:
        """Pack some decisions. The calls are in the order of decisions.

        Args:
            own: these decisions among all.
            by_axis: what `vectors.purchases_by_axis` returned for them.
            months_D: length of each user's known history in months of 30 days.
            lines: what the users of the part bought.
            versions: their baskets.
            seen: the baskets that each decision knows.
            moment_us_D: when the decisions were taken.
        """
        habits = self._habits
        assert habits is not None, "`begin` was not called"
        types, campaigns = _of_decisions(habits.by_type, own), _of_decisions(habits.own, own)
        first = int(np.searchsorted(habits.own["decision"].to_numpy(), own.start))
        affinities = pack_affinities(
            by_axis,
            types,
            months_D,
            self._taxonomy_version,
            own=campaigns,
            columns_H=self._columns_H,
            habits_OH=habits.without_own_OH[first : first + campaigns.num_rows],
        )
        if self._looked is not None:
            affinities = looks.behind(affinities, [_of_decisions(table, own) for table in self._looked])
        histories = pack_histories(lines, versions, seen, moment_us_D, self._minor_units, self._taxonomy_version)
        if self._activity is not None:
            histories = rings.behind(histories, self._activity, own.start, lines, versions, seen, moment_us_D)
        if self._look_days is not None:
            histories = self._look_days.behind(histories, own.start)
        arrays = [pa.array(affinities, pa.binary()), pa.array(histories, pa.binary())]
        self._writer.write_batch(pa.record_batch(arrays, schema=SCHEMA))

    def table(self) -> pa.Table:
        """All packed decisions, mapped into memory. No more can be packed."""
        self._writer.close()
        return pa.ipc.open_file(pa.memory_map(str(self._file))).read_all()


def _of_decisions(table: pa.Table, own: slice) -> pa.Table:
    """The rows of some decisions, which count from 0."""
    first, end = np.searchsorted(table["decision"].to_numpy(), [own.start, own.stop]).tolist()
    rows = table.slice(first, end - first)
    place = rows.column_names.index("decision")
    return rows.set_column(place, "decision", pa.array(rows["decision"].to_numpy() - own.start))


def pack_affinities(
    tables: list[pa.Table],
    types: pa.Table,
    months_D: NDArray[np.float64],
    taxonomy_version: str,
    *,
    own: pa.Table,
    columns_H: NDArray[np.uint16],
    habits_OH: NDArray[np.float32],
) -> list[bytes]:
    """Pack the `affinity` value of each decision.

    Args:
        tables: what `purchases_by_axis` returned.
        types: `Habits.by_type` of these decisions.
        months_D: length of each user's known history in months of 30 days.
        taxonomy_version: version of the taxonomy whose indices the tables hold.
        own: `Habits.own` of these decisions.
        columns_H: places in the portrait of the features about campaigns.
        habits_OH: their values without the campaign of each row of `own`.
    """
    num_decisions = len(months_D)
    own_bounds = bounds_of(own, num_decisions)
    own_codes = np.array([campaign_code(name) for name in own["campaign_id"].to_pylist()], dtype=np.uint32)
    own_times = microseconds_of(own["targeted_at"])
    counted, own_redeemed = _uint16_column(own, "counted"), _uint16_column(own, "redeemed")
    axes = [(bounds_of(table, num_decisions), *_arrays(table)) for table in tables]
    type_bounds = bounds_of(types, num_decisions)
    codes = np.array([type_code(name) for name in types["campaign_type"].to_pylist()], dtype=np.uint32)
    targeted, redeemed = _uint16_column(types, "targeted"), _uint16_column(types, "redeemed")
    packed = []
    for d in range(num_decisions):
        cuts = [slice(bounds[d], bounds[d + 1]) for bounds, *_ in axes]
        type_cut = slice(type_bounds[d], type_bounds[d + 1])
        own_cut = slice(int(own_bounds[d]), int(own_bounds[d + 1]))
        user = UserAffinity(
            months=float(months_D[d]),
            values=tuple(values[cut] for cut, (_, values, _, _) in zip(cuts, axes, strict=True)),
            counts=tuple(counts[:, cut] for cut, (_, _, counts, _) in zip(cuts, axes, strict=True)),
            cents=tuple(cents[cut] for cut, (_, _, _, cents) in zip(cuts, axes, strict=True)),
            types=codes[type_cut],
            targeted=targeted[type_cut],
            redeemed=redeemed[type_cut],
            open=OpenCampaigns(
                codes_O=own_codes[own_cut],
                targeted_us_O=own_times[own_cut],
                counted_O=counted[own_cut],
                redeemed_O=own_redeemed[own_cut],
                columns_H=columns_H,
                habits_OH=habits_OH[own_cut],
            ),
        )
        packed.append(pack_user(user, taxonomy_version))
    return packed


def pack_histories(
    lines: Bought, versions: Versions, seen: Known, moment_us_D: Ints, minor_units: int, taxonomy_version: str
) -> list[bytes]:
    """Pack the `history` value of each decision: its user's last baskets, with the lines bought before the decision.

    Args:
        lines: what the part's users bought.
        versions: their baskets.
        seen: the baskets that each decision knows.
        moment_us_D: when they were decided.
        minor_units: whole minor units in one unit of the currency.
        taxonomy_version: version of the taxonomy whose item rows the value holds.
    """
    last = np.maximum(seen.bounds[1:] - MAX_BASKETS, seen.bounds[:-1])
    place_P, basket_bounds = ranges(last, seen.bounds[1:])
    version_P = seen.version_P[place_P]
    starts = np.flatnonzero(np.diff(lines.basket_T, prepend=-1))
    ends = np.append(starts[1:], len(lines.basket_T))
    basket_P = versions.basket_v[version_P]
    line_L, line_bounds = ranges(starts[basket_P], ends[basket_P])
    lines_P = np.diff(line_bounds)
    if versions.change:
        known_L = np.repeat(versions.from_us_v[version_P], lines_P)
        alive_L = (lines.event_us_T[line_L] <= known_L) & (
            lines.money.kept_T[line_L] | (lines.money.returned_us_T[line_L] > known_L)
        )
        counts = np.concatenate([[0], np.cumsum(alive_L)])
        line_L, line_bounds = line_L[alive_L], counts[line_bounds]
        lines_P = np.diff(line_bounds)
    items_L = lines.item_T[line_L].astype(np.int32)
    times, lines_P = versions.time_us_v[version_P], lines_P.astype(np.int32)
    spend = (versions.cents_v[version_P] / minor_units).astype(np.float32)
    packed = []
    for d in range(len(moment_us_D)):
        first, end = int(basket_bounds[d]), int(basket_bounds[d + 1])
        user_items = items_L[line_bounds[first] : line_bounds[end]]
        packed.append(
            pack_history(times[first:end], spend[first:end], lines_P[first:end], user_items, taxonomy_version)
        )
    return packed


def _arrays(table: pa.Table) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return values [n], counts [M, n] and cents [n] of one axis, in the dtypes of `UserAffinity`."""
    counts = np.stack([_uint16_column(table, name) for name in MEASURES])
    return table["value"].to_numpy().astype(np.int32), counts, table["cents"].to_numpy().astype(np.int64)


def _uint16_column(table: pa.Table, name: str) -> NDArray[np.uint16]:
    """Return a column of counts. Counts above 65,535 are cut to 65,535."""
    return np.asarray(np.minimum(table[name].to_numpy(), np.iinfo(np.uint16).max), dtype=np.uint16)
