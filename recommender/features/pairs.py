"""Pairs of user and campaign with their outcomes, which are the labels of three tasks.

    redeemed_at   the user's first recorded participation in the campaign, at or after the decision
    spend         money paid for the campaign's items from the decision to the window's end (or the log's)
    excess        that spend minus the user's own usual spend on these items in a period of the same length

Labels look ahead of the decision on purpose. `TrainingSet.labels_at` hides what a boundary could not know. Pairs
decided at or after `as_of` are left out.
"""

from collections.abc import Sequence
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recommender.datasets.time_units import DAY_S, DAY_US
from recommender.features.decisions import TIME
from recommender.features.known import SPENDS, Known, name_of
from recommender.features.source import Source, if_else, known_at

SEGMENTS = ("age_band", "income_band", "gender", "region", "household_size")
"""Columns of `users` that are segments where the source has them. `activity` is computed from the events."""
ORDER = ("decided_at", "campaign_id", "user_id")
"""Columns by which pairs are sorted."""
OF_PAIR, FOUND = ("user_id", "campaign_id"), ("window_cents", "before_cents", "known_days")
"""Columns that name a pair, and those of its spend."""
OF_LINES = ("user_id", "event_time", "time_s", "item_row", "cents", "returned_s", "returned_share")
"""Columns of purchase lines that are read. Those of returns are missing where the source has none."""
MIN_USUAL_DAYS = 30.0
"""A usual rate of spend is taken over at least this many days, so that a new user's first basket is not
extrapolated."""


def segments_of(users: pa.Table) -> tuple[str, ...]:
    """The columns of `users`, with a row for every user, that are segments: those with any value."""
    return tuple(name for name in SEGMENTS if name in users.column_names and users[name].null_count < len(users))


def pairs(source: Source, segments: Sequence[str]) -> pa.Table:
    """List the targets of known users before `as_of` with labels and segments, sorted by decision, campaign and user.

    `segments`: what `segments_of` returned for all users.
    """
    # Unknown users go at the end: before the joins, DuckDB estimates them wrongly and takes half as much memory again.
    targets = source.table("targets")
    targets = targets.filter(targets.targeted_at < source.as_of)
    propensity = targets.propensity if "propensity" in targets.columns else ibis.null().cast("float64")
    targets = targets.select("user_id", "campaign_id", decided_at=targets.targeted_at, propensity=propensity)
    campaigns = ibis.memtable(source.campaigns.select(["campaign_id", "campaign_type", "starts_at", "ends_at"]))
    table = targets.inner_join(campaigns, "campaign_id")
    firsts = _first_participation(source, targets)
    spends = _spend(source, source.lines, table) if source.known is None else _with_known(source, source.known, table)
    table = table.left_join(firsts, ["user_id", "campaign_id"])
    table = table.select(*_PAIR_COLUMNS)
    table = table.left_join(spends, ["user_id", "campaign_id"])
    table = table.select(*_PAIR_COLUMNS, "window_cents", "before_cents", "known_days")
    result = table.order_by(*ORDER).to_pyarrow()
    users = source.table("users").select("user_id").to_pyarrow()
    result = result.filter(pc.is_in(result["user_id"], value_set=users["user_id"].combine_chunks()))
    return _with_segments(source, _with_labels(source, result), segments)


_PAIR_COLUMNS = (
    "user_id",
    "campaign_id",
    "decided_at",
    "starts_at",
    "ends_at",
    "campaign_type",
    "propensity",
    "redeemed_at",
)


def _first_participation(source: Source, targets: Any) -> Any:
    joined = source.participations.inner_join(targets, ["user_id", "campaign_id"])
    joined = joined.filter(joined.participated_at >= joined.decided_at)
    return joined.group_by("user_id", "campaign_id").agg(redeemed_at=joined.participated_at.min())


def _with_known(source: Source, known: Known, pairs: Any) -> ir.Table:
    """What `_spend` returns, for most pairs as the last build found it."""
    keys = [name for name in SPENDS.names if name not in FOUND]
    listed = _listed(source, pairs).select(keys).cast(pa.schema([SPENDS.field(name) for name in keys]))
    old = known.spends.join(listed, keys, join_type="left semi")
    new = listed.join(old.select(keys), keys, join_type="left anti")
    users = known.lines["user_id"].combine_chunks()
    wanted = np.append(pc.is_in(users.dictionary, value_set=new["user_id"].combine_chunks()).to_numpy(False), False)
    names = [name for name in OF_LINES if name in known.lines.column_names]
    lines = known.lines.select(names).filter(pa.array(wanted[pc.fill_null(users.indices, -1).to_numpy()]))
    found = source.backend.to_pyarrow(_spend(source, ibis.memtable(lines), ibis.memtable(new.drop_columns(["items"]))))
    found = new.join(found, list(OF_PAIR), join_type="inner").select(SPENDS.names).cast(SPENDS)
    known.new_spends = pa.concat_tables([old, found])
    return ibis.memtable(known.new_spends.select([*OF_PAIR, *FOUND]))


def _listed(source: Source, pairs: ir.Table) -> pa.Table:
    """What the spend of pairs depends on beside purchases: the columns of `SPENDS` without those that are computed."""
    rows = source.backend.to_pyarrow(source.campaign_items.order_by("campaign_id", "item_row"))
    ids = source.taxonomy.item_ids
    items: dict[str, list[str]] = {}
    for campaign_id, row in zip(rows["campaign_id"].to_pylist(), rows["item_row"].to_pylist(), strict=True):
        items.setdefault(campaign_id, []).append(ids[row])
    names = {campaign_id: name_of(of_campaign) for campaign_id, of_campaign in items.items()}
    listed = source.backend.to_pyarrow(pairs.select(*OF_PAIR, "decided_at", "ends_at"))
    of_items = [names.get(campaign_id, "") for campaign_id in listed["campaign_id"].to_pylist()]
    return listed.append_column("items", pa.array(of_items, pa.string()))


def _spend(source: Source, lines: ir.Table, pairs: Any) -> Any:
    """Sum what a pair's user paid for the campaign's items inside the window and before the decision.

    Columns: `window_cents` (from the decision to the window's end), `before_cents`, and `known_days`, the days from the
    user's first purchase to the decision.
    """
    lines = lines.select(*(name for name in OF_LINES if name in lines.columns))
    first = lines.group_by("user_id").agg(first_s=lines.time_s.min())
    moments = pairs.select("user_id", "campaign_id", "decided_at", "ends_at")
    bought = moments.inner_join(lines, "user_id").inner_join(source.campaign_items, ["campaign_id", "item_row"])
    known_s = if_else(bought.event_time < bought.decided_at, bought.decided_at, bought.ends_at).epoch_seconds()
    bought = known_at(bought, known_s)
    inside = (bought.event_time >= bought.decided_at) & (bought.event_time < bought.ends_at)
    before = bought.event_time < bought.decided_at
    summed = bought.group_by("user_id", "campaign_id").agg(
        window_cents=if_else(inside, bought.cents, 0).sum(), before_cents=if_else(before, bought.cents, 0).sum()
    )
    known = moments.inner_join(first, "user_id")
    known = known.select(
        "user_id", "campaign_id", known_days=(known.decided_at.epoch_seconds() - known.first_s) / DAY_S
    )
    joined = known.left_join(summed, ["user_id", "campaign_id"])
    return joined.select("user_id", "campaign_id", "window_cents", "before_cents", "known_days")


def _with_labels(source: Source, table: pa.Table) -> pa.Table:
    def numbers(name: str) -> Any:
        return pc.fill_null(table[name].cast(pa.float64()), 0.0).to_numpy()

    log_end = pa.scalar(source.tables.log_end, TIME)
    ends_at = table["ends_at"].cast(TIME)
    until = pc.if_else(pc.greater(ends_at, log_end), log_end, ends_at)
    observed_us = until.cast(pa.int64()).to_numpy() - table["decided_at"].cast(TIME).cast(pa.int64()).to_numpy()
    spend = numbers("window_cents") / source.minor_units
    known_days = np.maximum(numbers("known_days"), MIN_USUAL_DAYS)
    usual = numbers("before_cents") / source.minor_units / known_days * np.maximum(observed_us, 0) / DAY_US
    columns = {name: table[name] for name in _PAIR_COLUMNS}
    for name in ("decided_at", "starts_at", "ends_at", "redeemed_at"):
        columns[name] = columns[name].cast(TIME)
    columns["spend"] = pa.array(spend)
    columns["excess"] = pa.array(spend - usual)
    columns["observed_until"] = until
    columns["outlasts_log"] = pc.greater(table["ends_at"].cast(TIME), log_end)
    return pa.table(columns)


def _with_segments(source: Source, table: pa.Table, segments: Sequence[str]) -> pa.Table:
    users = source.table("users").to_pyarrow()
    row_of = {user_id: row for row, user_id in enumerate(users["user_id"].to_pylist())}
    rows = pa.array([row_of.get(user_id) for user_id in table["user_id"].to_pylist()], pa.int64())
    for name in segments:
        table = table.append_column(name, pc.fill_null(users[name].take(rows), "unknown"))
    return table


def with_activity(table: pa.Table, baskets_per_month: Any) -> pa.Table:
    """Add the segment `activity`: terciles of baskets a month as known at the decision, or `new` where that is NaN."""
    rate = np.asarray(baskets_per_month, dtype=np.float64)
    known = np.isfinite(rate)
    cuts = np.quantile(rate[known], [1 / 3, 2 / 3]) if known.any() else np.zeros(2)
    names = np.array(["light", "medium", "heavy"])[np.searchsorted(cuts, np.nan_to_num(rate), side="right")]
    return table.append_column("activity", pa.array(np.where(known, names, "new").tolist(), pa.string()))


def segment_columns(table: pa.Table) -> list[str]:
    """List the segment columns of a table of pairs."""
    return [name for name in (*SEGMENTS, "activity") if name in table.column_names]
