"""Canonical tables as Ibis expressions, with the taxonomy indices, whole cents and local hours that features need.

Money becomes whole minor units of its currency (`cents`, a hundred to a unit where none is stated), and sums run over
whole numbers. Parallel engines add in any order, and the bits of the features must not depend on it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from recommender.datasets.currencies import decimals
from recommender.datasets.tables import CONTRACT, Tables
from recommender.datasets.time_units import DAY_S
from recommender.errors import ContractError
from recommender.features.known import Known
from recommender.features.taxonomy import Taxonomy, values_of
from recommender.matching.affinity import AXES
from recommender.settings.sizes import bytes_of
from recommender.storage.ids import Ids, IdsFile

MONEY = ("cents", "discount_cents", "coupon_cents")
"""Columns of events and lines that hold whole minor units of the currency."""
TIME_TYPE = "timestamp('UTC', 6)"
"""Ibis' type of all moments: microseconds, UTC."""
MEMORY_LIMIT = "2GB"
"""Memory for DuckDB's data where the settings name none, chosen by hand: enough for a year of a grocer."""


@dataclass(frozen=True, eq=False)
class Shop:
    """What a source says of items and campaigns: small, and the same for all users."""

    taxonomy: Taxonomy
    campaigns: pa.Table
    campaign_items: pa.Table


@dataclass(frozen=True, eq=False)
class Source:
    """One state of the tables, read through one Ibis backend, for decisions up to `as_of`."""

    tables: Tables
    backend: Any
    as_of: datetime
    kept_ids: IdsFile | None = None
    """Where the ids are kept. None: they begin with these tables, in alphabetical order."""
    rows: Mapping[str, ir.Table] = field(default_factory=dict)
    """Tables that stand for those on disk: the rows of some users (`features.buckets`)."""
    shop: Shop | None = None
    """What is known of items and campaigns already. None: it is read from the tables."""
    last: Callable[["Source"], Known | None] | None = None
    """Says what the last build knew. None: there was none."""

    def table(self, name: str) -> ir.Table:
        """Return a canonical table as it is on disk, or the rows that stand for it.

        Raises:
            ContractError: the source has no such table.
        """
        if name in self.rows:
            return self.rows[name]
        if not self.tables.has(name):
            raise ContractError(name, _MISSING_TABLE)
        return self.backend.read_parquet(self.tables.glob(name))

    @property
    def targets(self) -> ir.Table:
        """Who was targeted, of the users that the source has. Others are in no bucket, so they count in none."""
        return self.table("targets").semi_join(self.table("users").select("user_id"), "user_id")

    @property
    def minor_units(self) -> int:
        """Whole minor units in one unit of the currency: 100 cents, 1 yen, 1000 fils."""
        return int(10 ** decimals(self.tables.currency))

    @cached_property
    def ids(self) -> Ids:
        """The ids of all items and axis values. What the tables add is kept before anything refers to it."""
        found = values_of(self.table("items").to_pyarrow())
        return Ids().adding(found) if self.kept_ids is None else self.kept_ids.add(found)

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """Items and their index on every axis."""
        if self.shop is not None:
            return self.shop.taxonomy
        return Taxonomy.of(self.table("items").to_pyarrow(), self.ids)

    @cached_property
    def campaigns(self) -> pa.Table:
        """All campaigns in order of their identifiers. `campaign_type` is the kind where the source has no types."""
        if self.shop is not None:
            return self.shop.campaigns
        table = self.table("campaigns").to_pyarrow().sort_by("campaign_id")
        kinds = table["kind"].to_pylist()
        given = table["campaign_type"].to_pylist() if "campaign_type" in table.column_names else [None] * len(kinds)
        types = pa.array([given_type or kind for given_type, kind in zip(given, kinds, strict=True)], pa.string())
        if "campaign_type" in table.column_names:
            table = table.drop_columns(["campaign_type"])
        return table.append_column("campaign_type", types)

    @cached_property
    def events(self) -> ir.Table:
        """All events with whole cents and local hour and weekday. A column that the source lacks is 0 or null."""
        events = self.table("events")
        present = set(events.columns)
        time_s = whole_seconds(events.event_time)
        local_s = time_s + self.offset_s(events.event_time)

        def cents(name: str) -> Any:
            if name not in present:
                return ibis.literal(0).cast("int64")
            return (events[name].fill_null(0.0).clip(lower=0.0) * self.minor_units).round().cast("int64")

        basket = events.basket_id if "basket_id" in present else ibis.null().cast("string")
        hour = ((local_s // 3600) % 24).cast("int32")
        if "event_time_has_hours" in self.tables.manifest:
            # A day without an hour is known at its last microsecond, which is no habit of the night.
            last_second = local_s % DAY_S == DAY_S - 1
            day_only = last_second & (events.event_time.microsecond() == 999_999)
            hour = ibis.ifelse(day_only, ibis.null().cast("int32"), hour)
        returned = (
            {"returned_s": whole_seconds(events.returned_at), "returned_share": events.returned_share.fill_null(1.0)}
            if "returned_at" in present
            else {}
        )
        return events.select(
            "user_id",
            "kind",
            "event_time",
            item_id=events.item_id if "item_id" in present else ibis.null().cast("string"),
            basket=ibis.coalesce(basket, events.event_time.epoch_seconds().cast("string")),
            time_s=time_s,
            hour=hour,
            weekday=((local_s // DAY_S + 3) % 7).cast("int32"),  # 0 is Monday; 1970-01-01 was a Thursday.
            cents=cents("amount"),
            discount_cents=cents("discount"),
            coupon_cents=cents("coupon_discount"),
            rating_cents=(events.rating * 100).round().cast("int64")
            if "rating" in present
            else ibis.null().cast("int64"),
            store_id=events.store_id if "store_id" in present else ibis.null().cast("string"),
            **returned,
        )

    @cached_property
    def lines(self) -> ir.Table:
        """Purchase lines with the item's row (0 if unknown) and its index on every axis, kept in the backend."""
        if self.known is not None:
            rows = self.known.lines
            axes_TA = self.taxonomy.axes_VA[rows["item_row"].to_numpy()]
            for axis, name in enumerate(AXES[1:], start=1):
                rows = rows.append_column(name, pa.array(axes_TA[:, axis]))
            return ibis.memtable(rows)
        axes = ibis.memtable(self.taxonomy.table())
        bought = self.events.filter(self.events.kind == "purchase").drop("kind", "rating_cents")
        joined = bought.left_join(axes, "item_id").drop("item_id_right", "item_id")
        filled = {name: joined[name].fill_null(0) for name in ("item_row", *AXES[1:])}
        return joined.mutate(**filled).cache()

    @cached_property
    def known(self) -> Known | None:
        """What the last build knew that still holds. None: all is computed from the tables."""
        return None if self.last is None else self.last(self)

    @cached_property
    def campaign_items(self) -> ir.Table:
        """Distinct pairs of campaign_id and item_row, kept in the backend."""
        if self.shop is not None:
            return ibis.memtable(self.shop.campaign_items)
        axes = ibis.memtable(self.taxonomy.present())
        pairs = self.table("campaign_items").select("campaign_id", "item_id").distinct()
        return pairs.inner_join(axes, "item_id").select("campaign_id", "item_row").cache()

    @cached_property
    def participations(self) -> ir.Table:
        """Columns campaign_id, user_id and participated_at."""
        return self.table("participations").select("campaign_id", "user_id", "participated_at")

    def offset_s(self, time: Any) -> Any:
        """Build an expression for the seconds that the shops' clocks are ahead of UTC.

        It lists the changes of the zone's offset between the first event and the log's end, so that every backend
        computes the same without its own time zone data.
        """
        zone = ZoneInfo(self.tables.time_zone)
        first = self.table("events").event_time.min().to_pyarrow().as_py() or self.tables.log_end
        moment = first.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        offset_s = _utc_offset_s(moment, zone)
        expression: Any = ibis.literal(offset_s).cast("int64")
        # Offsets change on the hour, and in no zone twice within a day.
        while moment <= self.tables.log_end:
            later = moment + timedelta(days=1)
            if later <= self.tables.log_end and _utc_offset_s(later, zone) == offset_s:
                moment = later
                continue
            moment += timedelta(hours=1)
            if _utc_offset_s(moment, zone) != offset_s:
                offset_s = _utc_offset_s(moment, zone)
                expression = ibis.ifelse(time.epoch_seconds() >= int(moment.timestamp()), offset_s, expression)
        return expression


def _utc_offset_s(moment: datetime, zone: ZoneInfo) -> int:
    return int((moment.astimezone(zone).utcoffset() or timedelta()).total_seconds())


def known_at(lines: ir.Table, moment_s: Any) -> ir.Table:
    """What was known of purchase lines at a moment: returned ones are gone, and the money of the others is net.

    A return in or after that second changes nothing. Where the source has no returns, the lines stay as they are.

    Args:
        lines: of `Source.lines`, joined with anything.
        moment_s: seconds since 1970, a number or a column.
    """
    if "returned_s" not in lines.columns:
        return lines
    back = (lines.returned_s < moment_s).fill_null(False)
    lines = lines.mutate(kept_share=ibis.ifelse(back, 1.0 - lines.returned_share, 1.0))
    lines = lines.filter(lines.kept_share > 0)
    net = {name: (lines[name] * lines.kept_share).round().cast("int64") for name in MONEY if name in lines.columns}
    return lines.mutate(**net).drop("kept_share", "returned_s", "returned_share")


def whole_seconds(time: Any) -> Any:
    """Seconds since 1970 without parts, int64. DuckDB's own function counts parts of seconds, Spark's does not."""
    return time.epoch_seconds().floor().cast("int64")


def if_else(condition: Any, then: Any, otherwise: Any) -> Any:
    """Call `ibis.ifelse`, whose declared return type supports no arithmetic."""
    return ibis.ifelse(condition, then, otherwise)


_MISSING_TABLE = "the source has no such table, which features need; add it to the source's mapping"


def duckdb_backend(*, threads: int, spill: Path, memory_limit: str | None) -> Any:
    """A DuckDB of its own, its session in UTC. The arguments are those of `open_source`."""
    limit = MEMORY_LIMIT if memory_limit is None else f"{bytes_of(memory_limit) // 2**20}MiB"
    backend = ibis.duckdb.connect(
        threads=threads, memory_limit=limit, preserve_insertion_order=True, temp_directory=str(spill)
    )
    backend.raw_sql("SET TimeZone = 'UTC'")
    return backend


def open_source(
    tables: Tables,
    as_of: datetime,
    *,
    threads: int,
    spill: Path,
    kept_ids: IdsFile | None = None,
    memory_limit: str | None = None,
    last: Callable[[Source], Known | None] | None = None,
) -> Source:
    """Open `tables` with DuckDB, its session in UTC.

    Args:
        tables: what to read.
        as_of: the last decision's time.
        threads: how many DuckDB uses.
        spill: folder for what exceeds memory. No other run may use it, since DuckDB gives its temporary files the same
            names in every process.
        kept_ids: where the ids of items and axis values are kept. None: they begin with these tables.
        memory_limit: memory for DuckDB's data, such as "4GB". What does not fit goes to disk, which is slower, not
            wrong. None: `MEMORY_LIMIT`.
        last: says what the last build knew. None: there was none.

    Raises:
        ContractError: a required table is missing, or there is no purchase before `as_of`.
    """
    backend = duckdb_backend(threads=threads, spill=spill, memory_limit=memory_limit)
    return checked(Source(tables, backend, as_of, kept_ids, last=last))


def checked(source: Source) -> Source:
    """The source itself.

    Raises:
        ContractError: a required table is missing, or there is no purchase before its `as_of`.
    """
    for name in CONTRACT:
        if not source.tables.has(name):
            raise ContractError(name, _MISSING_TABLE)
    events, as_of = source.events, source.as_of
    if not events.filter(events.kind == "purchase", events.event_time < as_of).count().to_pyarrow().as_py():
        raise ContractError(
            "events",
            f"no purchase before {as_of.isoformat()}, which counts as now; set a later one with `time.as_of` in the "
            "settings file or with --as-of, or remove the key so that now is the newest event",
            column="kind",
        )
    return source
