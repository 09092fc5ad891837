"""Canonical tables as Ibis expressions, with what every feature needs beside them: taxonomy indices, whole cents, local hours.

Money becomes whole cents and sums run over whole numbers: parallel engines add in any order, and the features' bits must not
depend on it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.tables import Tables
from recommender.errors import ContractError
from recommender.matching.affinity import AXES

DAY_S = 86_400
NEEDED = ("users", "items", "campaigns", "campaign_items", "targets", "events")


@dataclass(frozen=True, eq=False)
class Taxonomy:
    """All items in order of their identifiers, and their index on every axis; index 0 is none.

    Shapes: V items, the unknown one first · A axes.
    """

    item_ids: tuple[str, ...]
    names: tuple[str, ...]
    axis_values: tuple[tuple[str, ...], ...]
    axes_VA: NDArray[np.int32]

    @classmethod
    def of(cls, items: pa.Table) -> "Taxonomy":
        """From the table `items`; an axis that the source lacks has no value but index 0."""
        items = items.sort_by("item_id")
        item_ids = ("", *items["item_id"].to_pylist())
        axes_VA = np.zeros((len(item_ids), len(AXES)), dtype=np.int32)
        axes_VA[1:, 0] = np.arange(1, len(item_ids))
        values: list[tuple[str, ...]] = [item_ids]
        for axis, name in enumerate(AXES[1:], start=1):
            known = items[name].to_pylist() if name in items.column_names else []
            distinct = sorted({value for value in known if value})
            place = {value: index for index, value in enumerate(distinct, start=1)}
            if known:
                axes_VA[1:, axis] = [place.get(value, 0) for value in known]
            values.append(("", *distinct))
        shown = items["name"].to_pylist() if "name" in items.column_names else [None] * len(items)
        types = [values[1][index] for index in axes_VA[1:, 1]]
        names = [name or kind or item_id for name, kind, item_id in zip(shown, types, item_ids[1:], strict=True)]
        return cls(item_ids, ("", *names), tuple(values), axes_VA)

    def table(self) -> pa.Table:
        """item_id, item_row and one index column an axis: what events are joined with."""
        columns: dict[str, Any] = {"item_id": pa.array(self.item_ids[1:]), "item_row": self.axes_VA[1:, 0]}
        columns |= {name: self.axes_VA[1:, axis] for axis, name in enumerate(AXES) if axis}
        return pa.table(columns)


@dataclass(frozen=True, eq=False)
class Source:
    """The tables of one data state, read through one Ibis backend, as known at `as_of`."""

    tables: Tables
    backend: Any
    as_of: datetime

    def table(self, name: str) -> ir.Table:
        """A canonical table as it is on disk.

        Raises:
            ContractError: the source has no such table.
        """
        if not self.tables.has(name):
            raise ContractError(name, "the table is missing; features need it. Check the source's mapping.")
        return self.backend.read_parquet(self.tables.glob(name))

    @cached_property
    def taxonomy(self) -> Taxonomy:
        return Taxonomy.of(self.table("items").to_pyarrow())

    @cached_property
    def campaigns(self) -> pa.Table:
        """All campaigns in order of their identifiers; `campaign_type` is the kind where a source has no types."""
        table = self.table("campaigns").to_pyarrow().sort_by("campaign_id")
        kinds = table["kind"].to_pylist()
        known = table["campaign_type"].to_pylist() if "campaign_type" in table.column_names else [None] * len(kinds)
        types = pa.array([kind_of or kind for kind_of, kind in zip(known, kinds, strict=True)], pa.string())
        if "campaign_type" in table.column_names:
            table = table.drop_columns(["campaign_type"])
        return table.append_column("campaign_type", types)

    @cached_property
    def events(self) -> ir.Table:
        """Every event up to the log's end with whole cents and local hour and weekday; absent columns are neutral here."""
        events = self.table("events")
        present = set(events.columns)
        local_s = events.event_time.epoch_seconds() + self._offset_s(events.event_time)

        def cents(name: str) -> Any:
            if name not in present:
                return ibis.literal(0).cast("int64")
            return (events[name].fill_null(0.0).clip(lower=0.0) * 100).round().cast("int64")

        basket = events.basket_id if "basket_id" in present else ibis.null().cast("string")
        return events.select(
            "user_id",
            "kind",
            "event_time",
            item_id=events.item_id if "item_id" in present else ibis.null().cast("string"),
            basket=ibis.coalesce(basket, events.event_time.epoch_seconds().cast("string")),
            time_s=events.event_time.epoch_seconds().cast("int64"),
            hour=((local_s // 3600) % 24).cast("int32"),
            weekday=((local_s // DAY_S + 3) % 7).cast("int32"),
            cents=cents("amount"),
            discount_cents=cents("discount"),
            coupon_cents=cents("coupon_discount"),
            rating_cents=(events.rating * 100).round().cast("int64")
            if "rating" in present
            else ibis.null().cast("int64"),
            store_id=events.store_id if "store_id" in present else ibis.null().cast("string"),
        )

    @cached_property
    def lines(self) -> ir.Table:
        """Purchase lines with the item's row (0: unknown item) and axis indices, kept in the backend."""
        axes = ibis.memtable(self.taxonomy.table())
        bought = self.events.filter(self.events.kind == "purchase").drop("kind", "rating_cents")
        joined = bought.left_join(axes, "item_id").drop("item_id_right", "item_id")
        filled = {name: joined[name].fill_null(0) for name in ("item_row", *AXES[1:])}
        return joined.mutate(**filled).cache()

    @cached_property
    def campaign_items(self) -> ir.Table:
        """Distinct (campaign_id, item_row), kept in the backend."""
        axes = ibis.memtable(self.taxonomy.table().select(["item_id", "item_row"]))
        pairs = self.table("campaign_items").select("campaign_id", "item_id").distinct()
        return pairs.inner_join(axes, "item_id").select("campaign_id", "item_row").cache()

    @cached_property
    def participations(self) -> ir.Table:
        """(campaign_id, user_id, participated_at); empty where the source has none."""
        if not self.tables.has("participations"):
            schema = {"campaign_id": "string", "user_id": "string", "participated_at": "timestamp('UTC', 6)"}
            return ibis.memtable([], schema=schema)
        return self.table("participations").select("campaign_id", "user_id", "participated_at")

    def _offset_s(self, time: Any) -> Any:
        """Seconds that the shops' clocks are ahead of UTC, by a list of the zone's changes: the same on every backend."""
        zone = ZoneInfo(self.tables.time_zone)
        first = self.table("events").event_time.min().to_pyarrow().as_py() or self.tables.log_end
        moment = first.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        offset_s = _ahead_s(moment, zone)
        expression: Any = ibis.literal(offset_s).cast("int64")
        while moment <= self.tables.log_end:
            moment += timedelta(hours=1)
            if _ahead_s(moment, zone) != offset_s:
                offset_s = _ahead_s(moment, zone)
                expression = ibis.ifelse(time.epoch_seconds() >= int(moment.timestamp()), offset_s, expression)
        return expression


def _ahead_s(moment: datetime, zone: ZoneInfo) -> int:
    return int((moment.astimezone(zone).utcoffset() or timedelta()).total_seconds())


def either(condition: Any, then: Any, otherwise: Any) -> Any:
    """`ibis.ifelse`, whose declared type has no arithmetic."""
    return ibis.ifelse(condition, then, otherwise)


def open_source(tables: Tables, as_of: datetime, *, threads: int, spill: Path) -> Source:
    """Read `tables` with DuckDB on `threads` threads, its session in UTC; what exceeds memory goes to the folder `spill`.

    `spill` must be this run's own: DuckDB numbers its temporary files alike in every process.

    Raises:
        ContractError: a table that features need is missing, or there is no purchase before `as_of`.
    """
    for name in NEEDED:
        if not tables.has(name):
            raise ContractError(name, "the table is missing; features need it. Check the source's mapping.")
    backend = ibis.duckdb.connect(
        threads=threads, memory_limit="2GB", preserve_insertion_order=True, temp_directory=str(spill)
    )
    backend.raw_sql("SET TimeZone = 'UTC'")
    source = Source(tables, backend, as_of)
    events = source.events
    if not events.filter(events.kind == "purchase", events.event_time < as_of).count().to_pyarrow().as_py():
        raise ContractError("events", f"no purchase before {as_of.isoformat()}; move `as_of` later", column="kind")
    return source
