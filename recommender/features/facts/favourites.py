"""Favourites: what a shopper bought and looked at most, by category, brand and product, in the shop's own words."""

from datetime import datetime
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc

from recommender.features.facts.moments import before, lines_at
from recommender.features.source import Source
from recommender.matching.affinity import AXES
from recommender.matching.look_rules import ITEM_KINDS

SHOWN = 5
"""Favourites of each axis. Chosen by hand: a page shows no more."""
AXES_SHOWN = ("department", "category", "product_type", "brand", "product")
"""Axes of the taxonomy that people know their shop by."""
SEARCHES = "search"
"""In place of an axis: words of searches, which no taxonomy has."""
LOOKS = ITEM_KINDS
"""Kinds of events by which a shopper looks at an item without buying it."""
LOOKED_DAYS = 90
"""Looks older than a season say little. Chosen by hand."""

FAVOURITES = pa.list_(
    pa.struct(
        [
            pa.field("axis", pa.string()),
            pa.field("value", pa.string()),
            pa.field("count", pa.int64()),
            pa.field("share", pa.float64()),
            pa.field("spend", pa.float64()),
        ]
    )
)
"""`share`: of all the user's lines or looks with a value on this axis. `spend`: currency units, 0 for looks."""


def bought_at(source: Source, moment: datetime) -> pa.Table:
    """The values with the most purchase lines of each user before a moment: user_id and those of `FAVOURITES`."""
    lines = lines_at(source, moment)
    return _favourites(source, lines.filter(lines.item_row > 0), spend=True)


def looked_at(source: Source, moment: datetime) -> pa.Table:
    """The same from views, clicks, carts, favourites and likes in the season before a moment, and words of searches."""
    events = before(source.events.filter(source.events.kind.isin(LOOKS)), moment)
    axes = ibis.memtable(source.taxonomy.table())
    looked = _favourites(source, events.filter(events.day < LOOKED_DAYS).inner_join(axes, "item_id"), spend=False)
    return pa.concat_tables([looked, _searches(source, moment, looked.schema)])


def looks_at(source: Source, moment: datetime) -> pa.Table:
    """Count each user's views, clicks, carts, searches and favourites: `looks__events_90d`, `looks__recency_days`."""
    events = before(source.events.filter(source.events.kind.isin([*LOOKS, "search"])), moment)
    recent = (events.day < LOOKED_DAYS).cast("int64").sum()
    counted = events.group_by("user_id").agg(looks__events_90d=recent, looks__recency_days=events.day.min())
    return counted.order_by("user_id").to_pyarrow()


def _searches(source: Source, moment: datetime, schema: pa.Schema) -> pa.Table:
    """The searches that each user made most in the same season, in the user's words."""
    if "query" not in source.table("events").columns:
        return schema.empty_table()
    events = source.table("events")
    asked = before(events.filter(events.kind == "search", events["query"].notnull()), moment)
    asked = asked.filter(asked.day < LOOKED_DAYS)
    counted = asked.group_by("user_id", value=asked["query"]).agg(count=asked.count())
    ranked = counted.mutate(
        place=ibis.row_number().over(group_by=counted.user_id, order_by=[counted["count"].desc(), counted.value]),
        total=counted["count"].sum().over(group_by=counted.user_id),
    )
    top = ranked.filter(ranked.place < SHOWN).order_by("user_id", "place").to_pyarrow()
    columns = {
        "user_id": top["user_id"],
        "axis": pa.repeat(pa.scalar(SEARCHES), len(top)),
        "value": top["value"],
        "count": top["count"],
        "share": pc.divide(pc.cast(top["count"], pa.float64()), pc.cast(top["total"], pa.float64())),
        "spend": pa.repeat(pa.scalar(0.0), len(top)),
    }
    return pa.table(columns).cast(schema)


def _favourites(source: Source, rows: Any, *, spend: bool) -> pa.Table:
    by_item = rows.group_by("user_id", "item_row").agg(lines=rows.count(), cents=rows.cents.sum()).cache()
    axes = ibis.memtable(source.taxonomy.table().drop_columns(["item_id"]))
    joined = by_item.inner_join(axes, "item_row")
    fields = [FAVOURITES.value_type.field(k) for k in range(FAVOURITES.value_type.num_fields)]
    schema = pa.schema([pa.field("user_id", pa.string()), *fields])
    parts = [schema.empty_table()]
    for axis in AXES_SHOWN:
        texts = source.taxonomy.names if axis == "product" else source.taxonomy.axis_values[AXES.index(axis)]
        if len(texts) < 2:
            continue
        valued = joined.mutate(value=joined.item_row if axis == "product" else joined[axis])
        valued = valued.filter(valued.value > 0)
        summed = valued.group_by("user_id", "value").agg(lines=valued.lines.sum(), cents=valued.cents.sum())
        most = [summed.lines.desc(), summed.cents.desc(), summed.value]
        ranked = summed.mutate(
            place=ibis.row_number().over(group_by=summed.user_id, order_by=most),
            total=summed.lines.sum().over(group_by=summed.user_id),
        )
        top = ranked.filter(ranked.place < SHOWN).order_by("user_id", "place").to_pyarrow()
        paid = pc.divide(pc.cast(top["cents"], pa.float64()), float(source.minor_units))
        columns = {
            "user_id": top["user_id"],
            "axis": pa.repeat(pa.scalar(axis), len(top)),
            "value": pa.array(texts, pa.string()).take(top["value"].combine_chunks().cast(pa.int64())),
            "count": top["lines"],
            "share": pc.divide(pc.cast(top["lines"], pa.float64()), pc.cast(top["total"], pa.float64())),
            "spend": paid if spend else pa.repeat(pa.scalar(0.0), len(top)),
        }
        parts.append(pa.table(columns).cast(schema))
    return pa.concat_tables(parts)
