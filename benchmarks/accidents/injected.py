"""Thirty-two accidents that exports of shops have, each as a change of the canonical tables.

Each names the checks that would name its cause, and whether a person who has only the broken files could see it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.accidents.shop import Frames
from recommender.datasets.tables import TIME

Change = Callable[[Frames], Frames]


@dataclass(frozen=True)
class Accident:
    """An accident: its words, what it does, the checks that name its cause, and whether the files alone show it."""

    name: str
    change: Change
    checks: tuple[str, ...]
    """Beginnings of check names."""
    seen_alone: bool


def _put(frames: Frames, table: str, column: str, values: pa.Array | pa.ChunkedArray) -> Frames:
    rows = frames[table]
    return {**frames, table: rows.set_column(rows.column_names.index(column), column, values)}


def _end(frames: Frames) -> datetime:
    last: datetime = pc.max(frames["events"]["event_time"]).as_py()
    return last


def _newest(frames: Frames, days: float) -> pa.ChunkedArray:
    since = datetime.combine(_end(frames).date(), datetime.min.time(), tzinfo=UTC) - timedelta(days=days - 1)
    return pc.greater_equal(frames["events"]["event_time"], pa.scalar(since, TIME))


def _scaled(column: str, factor: float, days: float | None = None) -> Change:
    def change(frames: Frames) -> Frames:
        values = frames["events"][column]
        scaled = pc.multiply(values, factor)
        where = scaled if days is None else pc.if_else(_newest(frames, days), scaled, values)
        return _put(frames, "events", column, where)

    return change


def _kept(keep: Callable[[Frames], pa.ChunkedArray | pa.Array], table: str = "events") -> Change:
    return lambda frames: {**frames, table: frames[table].filter(keep(frames))}


def _half_of_two_days(frames: Frames) -> pa.Array:
    newest = np.asarray(_newest(frames, 2))
    return pa.array(~newest | (np.random.default_rng(1).random(len(newest)) < 0.5))


def _six_days(frames: Frames) -> pa.ChunkedArray:
    end = _end(frames)
    times = frames["events"]["event_time"]
    inside = pc.and_(
        pc.greater(times, pa.scalar(end - timedelta(days=40), TIME)),
        pc.less(times, pa.scalar(end - timedelta(days=34), TIME)),
    )
    return pc.invert(inside)


def _quarter(frames: Frames) -> pa.Array:
    return pa.array([int(user[1:]) % 4 != 0 for user in frames["events"]["user_id"].to_pylist()])


def _quarter_of_a_week(frames: Frames) -> pa.Array:
    return pc.or_(_quarter(frames), pc.invert(_newest(frames, 7)))


def _recoded(column: str, form: str, *tables: str) -> Change:
    def change(frames: Frames) -> Frames:
        for table in tables:
            codes = [form.format(int(value[1:])) for value in frames[table][column].to_pylist()]
            frames = _put(frames, table, column, pa.array(codes))
        return frames

    return change


def _later(hours: int, days: float | None = None) -> Change:
    def change(frames: Frames) -> Frames:
        times = frames["events"]["event_time"]
        moved = pc.add(times, pa.scalar(timedelta(hours=hours), pa.duration("us")))
        return _put(
            frames, "events", "event_time", moved if days is None else pc.if_else(_newest(frames, days), moved, times)
        )

    return change


def _twice(days: float | None = None) -> Change:
    def change(frames: Frames) -> Frames:
        events = frames["events"]
        copied = events if days is None else events.filter(_newest(frames, days))
        ids = pa.array([f"copy-{row}" for row in range(copied.num_rows)])
        copied = copied.set_column(0, "event_id", ids)
        return {**frames, "events": pa.concat_tables([events, copied])}

    return change


def _null(table: str, column: str, days: float | None = None) -> Change:
    def change(frames: Frames) -> Frames:
        values = frames[table][column]
        empty = pa.nulls(len(values), values.type)
        return _put(frames, table, column, empty if days is None else pc.if_else(_newest(frames, days), empty, values))

    return change


def _renamed_categories(frames: Frames) -> Frames:
    names = [f"CAT-{value.split()[1]}" for value in frames["items"]["category"].to_pylist()]
    return _put(frames, "items", "category", pa.array(names))


def _one_department(frames: Frames) -> Frames:
    return _put(frames, "items", "department", pa.array(["Other"] * frames["items"].num_rows))


def _cut_day(frames: Frames) -> pa.Array:
    """The file of the newest day, in the order of time, ends after 40 % of its rows."""
    newest = np.flatnonzero(np.asarray(_newest(frames, 1)))
    keep = np.ones(frames["events"].num_rows, dtype=bool)
    keep[newest[int(0.4 * len(newest)) :]] = False
    return pa.array(keep)


def _cut_log(frames: Frames) -> pa.Array:
    rows = frames["events"].num_rows
    return pa.array(np.arange(rows) < 0.7 * rows)


def _lone(moment: datetime) -> Change:
    def change(frames: Frames) -> Frames:
        events = frames["events"]
        row = events.slice(events.num_rows // 2, 1)
        row = row.set_column(0, "event_id", pa.array(["lone"]))
        row = row.set_column(events.column_names.index("event_time"), "event_time", pa.array([moment], TIME))
        return {**frames, "events": pa.concat_tables([events, row])}

    return change


def _swapped(frames: Frames) -> Frames:
    times = [
        one.replace(month=one.day, day=one.month) if one.day <= 12 else one
        for one in frames["events"]["event_time"].to_pylist()
    ]
    return _put(frames, "events", "event_time", pa.array(times, TIME))


def _kind(old: str, new: str) -> Change:
    def change(frames: Frames) -> Frames:
        kinds = frames["events"]["kind"]
        return _put(frames, "events", "kind", pc.if_else(pc.equal(kinds, old), new, kinds))

    return change


def _half_catalogue(frames: Frames) -> Frames:
    return {**frames, "items": frames["items"].slice(0, frames["items"].num_rows // 2)}


def _price_in_cents(frames: Frames) -> Frames:
    return _put(frames, "items", "price", pc.multiply(frames["items"]["price"], 100.0))


def _dropped(table: str, column: str) -> Change:
    return lambda frames: {**frames, table: frames[table].drop_columns([column])}


ALL = ("users", "events", "targets", "participations")
LEVELS = ("events.amount.", "events.paid.", "events.quantity.")
ROWS = ("events.events.past_days", "events.rows.newest", "events.users.")
ACCIDENTS: tuple[Accident, ...] = (
    Accident("units times 1000 in all rows", _scaled("quantity", 1000), (*LEVELS,), True),
    Accident("amounts in cents in all rows", _scaled("amount", 100), LEVELS, True),
    Accident("amounts in cents for the last 60 days", _scaled("amount", 100, 60), LEVELS, True),
    Accident("amounts in cents for the last 2 days", _scaled("amount", 100, 2), LEVELS, True),
    Accident("amounts in another currency (times 7) in all rows", _scaled("amount", 7), LEVELS, False),
    Accident("half of the newest two days missing", _kept(_half_of_two_days), ROWS, True),
    Accident("six days missing", _kept(_six_days), ("events.missing_days", *ROWS), True),
    Accident("a quarter of the users silent in the whole log", _kept(_quarter), (*ROWS, "keys.users"), False),
    Accident("a quarter of the users silent for the last week", _kept(_quarter_of_a_week), ROWS, True),
    Accident("user ids re-encoded everywhere", _recoded("user_id", "{:x}", *ALL), ("keys.users",), False),
    Accident(
        "user ids re-encoded in the events only",
        _recoded("user_id", "{}.0", "events"),
        ("events.orphan_share_user_id", "keys.users", "facts."),
        True,
    ),
    Accident(
        "user ids re-encoded in the targets only",
        _recoded("user_id", "{}.0", "targets"),
        ("targets.orphan_share_user_id", "facts."),
        True,
    ),
    Accident(
        "item ids re-encoded in the events only",
        _recoded("item_id", "SKU{}", "events"),
        ("events.orphan_share_item_id", "keys.items", "facts."),
        True,
    ),
    Accident(
        "item ids re-encoded everywhere",
        _recoded("item_id", "SKU{}", "events", "items", "campaign_items"),
        ("keys.items",),
        False,
    ),
    Accident("times 8 hours later in all rows", _later(8), ("events.event_time.",), True),
    Accident("times 8 hours later for the last 14 days", _later(8, 14), ("events.event_time.",), True),
    Accident("the last month twice", _twice(30), ("events.repeated_days", "events.events.past_days"), True),
    Accident("the whole log twice", _twice(), ("events.repeated_days", "events.events.past_days"), True),
    Accident("the price wholly empty", _null("items", "price"), ("items.price.",), True),
    Accident("the amount empty for the last 60 days", _null("events", "amount", 60), ("events.amount.",), True),
    Accident("categories renamed", _renamed_categories, ("items.category.",), False),
    Accident("one department for all items", _one_department, ("items.department.",), True),
    Accident("all amounts negative", _scaled("amount", -1), ("events.amount.", "events.below_zero"), True),
    Accident("the newest day's file cut at a row", _kept(_cut_day), ("events.last_hour", *ROWS), False),
    Accident(
        "the whole log cut at a row", _kept(_cut_log), ("events.log_end", "facts.participations_after_the_log"), True
    ),
    Accident("the column department dropped", _dropped("items", "department"), ("schema.items.department",), False),
    Accident(
        "a lone event in 2099",
        _lone(datetime(2099, 12, 31, tzinfo=UTC)),
        ("events.quarantined",),
        True,
    ),
    Accident("a lone event in the year 1", _lone(datetime(1, 1, 1, tzinfo=UTC)), ("events.quarantined",), True),
    Accident(
        "day and month swapped where both are 12 or less",
        _swapped,
        ("events.event_time.day_and_month", "events.event_time.past_day_and_month"),
        True,
    ),
    Accident(
        "purchases exported as views", _kind("purchase", "view"), ("facts.purchases", "events.kinds_vanished"), True
    ),
    Accident(
        "the kind cart no longer exported",
        _kept(lambda f: pc.not_equal(f["events"]["kind"], "cart")),
        ("events.kinds_vanished", "events.cart.past_kind"),
        False,
    ),
    Accident("half of the catalogue missing", _half_catalogue, ("keys.items", "events.orphan_share_item_id"), True),
    Accident("catalogue prices in cents", _price_in_cents, ("events.amount.against_price", "items.price."), True),
)
