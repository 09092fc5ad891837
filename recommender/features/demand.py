"""Demand for the items of campaigns: what all users bought of them in the days before each campaign's reference time.

On one machine the purchase lines come in parts of some items each. Where the backend has many machines, each computes
what some users bought, and only sums by campaign come to the driver.

Shapes: C campaigns · R pairs of a campaign and an item · T purchase lines · U users.
"""

import itertools
import pickle
from dataclasses import dataclass, field
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_US, SECOND_US
from recommender.features.as_of import Ints, Running, ranges
from recommender.features.bought import NEVER, Part, Returns, changes_of, microseconds_of, money_columns, parts
from recommender.features.known import name_of
from recommender.features.source import Source

POPULARITY_DAYS = 90
"""Days of purchases that count for demand and popularity: a season. Chosen by hand."""
SUMMED = ("lines", "cents", "discounted", "coupon")
DEMANDED = (*SUMMED, "items", "buyers")
MOMENT = "moment_us"
"""Key of the reference time beside the numbers that are kept for the next build."""


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Which items are read for which campaign, sorted by item. It is pickled."""

    campaign_R: Ints
    item_R: Ints
    moment_us_C: Ints
    """Reference times in whole seconds, as microseconds since 1970, UTC."""


@dataclass(eq=False)
class _Sold:
    """What was bought for the pairs."""

    sums: dict[str, Ints]
    """`SUMMED`: int64 [C] each."""
    sold_R: NDArray[np.bool_]
    bits: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    """Campaign -> who bought, a bit for each user."""

    @classmethod
    def none_of(cls, pairs: _Pairs) -> "_Sold":
        num_campaigns = len(pairs.moment_us_C)
        sums = {name: np.zeros(num_campaigns, dtype=np.int64) for name in SUMMED}
        return cls(sums, np.zeros(len(pairs.item_R), dtype=bool))

    def buyers_C(self) -> Ints:
        buyers_C = np.zeros(len(self.sums["lines"]), dtype=np.int64)
        for campaign, bits in self.bits.items():
            buyers_C[campaign] = np.unpackbits(bits).sum()
        return buyers_C


def demand(source: Source, offsets: Ints, items: NDArray[np.int32], reference_us_C: Ints) -> dict[str, Ints]:
    """Count what was bought of each campaign's items in whole seconds before its reference time.

    Args:
        source: the tables.
        offsets: campaign c has the items `items[offsets[c] : offsets[c + 1]]`, [C + 1].
        items: rows of items in the taxonomy.
        reference_us_C: microseconds since 1970, UTC.

    Returns:
        `lines`, `cents`, `discounted` and `coupon` (lines with a discount, with a coupon), `buyers` and `items` (that
        were sold), int64 [C] each.
    """
    known = source.known
    if known is None:
        return _counted(source, offsets, items, reference_us_C)
    ids, bounds = source.taxonomy.item_ids, list(itertools.pairwise(offsets.tolist()))
    names = [
        name_of([str(moment_us), *(ids[item] for item in items[first:end].tolist())])
        for (first, end), moment_us in zip(bounds, reference_us_C.tolist(), strict=True)
    ]
    new_C = np.array([name not in known.demand for name in names], dtype=bool)
    found = {name: known.demand[name] for name in names if name in known.demand}
    if new_C.any():
        sizes = np.diff(offsets)
        own = np.concatenate([[0], np.cumsum(sizes[new_C])])
        counted = _counted(source, own, items[np.repeat(new_C, sizes)], reference_us_C[new_C])
        for row, campaign in enumerate(np.flatnonzero(new_C).tolist()):
            found[names[campaign]] = {name: int(values[row]) for name, values in counted.items()}
            found[names[campaign]][MOMENT] = int(reference_us_C[campaign])
    known.new_demand = found
    return {name: np.array([found[one][name] for one in names], dtype=np.int64) for name in DEMANDED}


def changes_demand(days_us: Ints, moment_us: int) -> bool:
    """Whether what happened on some UTC days, given by their begins, can count in the demand at a moment."""
    return bool(((days_us < moment_us) & (days_us + DAY_US > moment_us - (POPULARITY_DAYS + 1) * DAY_US)).any())


def _counted(source: Source, offsets: Ints, items: NDArray[np.int32], reference_us_C: Ints) -> dict[str, Ints]:
    """Count the demand from purchase lines."""
    order = np.argsort(items, kind="stable")
    campaign_R = np.repeat(np.arange(len(reference_us_C)), np.diff(offsets))[order]
    pairs = _Pairs(campaign_R, items[order].astype(np.int64), reference_us_C // SECOND_US * SECOND_US)
    sold = _Sold.none_of(pairs)
    buyers_C = sold.buyers_C()
    if len(items):
        promoted = ibis.memtable(pa.table({"item_row": np.unique(pairs.item_R)}))
        lines = source.lines.semi_join(promoted, "item_row")
        if hasattr(source.backend, "by_users"):
            buyers_C = _add_by_users(source.backend.by_users, lines, pairs, sold)
        else:
            _add_by_items(lines, source, pairs, sold)
            buyers_C = sold.buyers_C()
    sold_items_C = np.bincount(campaign_R[sold.sold_R], minlength=len(reference_us_C)).astype(np.int64)
    return {**sold.sums, "items": sold_items_C, "buyers": buyers_C}


def _add_by_items(lines: Any, source: Source, pairs: _Pairs, sold: _Sold) -> None:
    """Read the lines sorted by item, some items at a time."""
    # Users as numbers. Those whom the users' table lacks count too.
    users = source.lines.select("user_id").distinct().order_by("user_id").to_pyarrow()["user_id"]
    numbered = ibis.memtable(pa.table({"user_id": users, "user": np.arange(len(users), dtype=np.int32)}))
    rows = lines.inner_join(numbered, "user_id")
    rows = rows.select("item_row", "event_time", "user", **money_columns(rows)).order_by("item_row", "event_time")
    for part in parts(rows, len(source.taxonomy.item_ids), by="item_row"):
        own = slice(*np.searchsorted(pairs.item_R, [part.first_user, part.end_user]).tolist())
        _add(part, own, pairs, len(users), sold)


def _add_by_users(by_users: Any, lines: Any, pairs: _Pairs, sold: _Sold) -> Ints:
    """Let other machines read the lines, some users each. Returns how many users bought, int64 [C]."""
    rows = lines.select("user_id", "item_row", "event_time", **money_columns(lines))

    def compute(own: pa.Table) -> bytes:
        users = own["user_id"].combine_chunks().dictionary_encode()
        own = own.append_column("user", users.indices).sort_by([("item_row", "ascending"), ("event_time", "ascending")])
        found = _Sold.none_of(pairs)
        _add(Part(0, 0, own.combine_chunks()), slice(None), pairs, len(users.dictionary), found)
        return pickle.dumps((found.sums, np.packbits(found.sold_R), found.buyers_C()))

    buyers_C = sold.buyers_C()
    for answer in by_users(rows, compute):
        sums, bits, buyers = pickle.loads(answer)
        for name in SUMMED:
            sold.sums[name] += sums[name]
        # A return is of the user who bought. So what one user bought is never less than nothing.
        sold.sold_R |= np.unpackbits(bits, count=len(sold.sold_R)).astype(bool)
        buyers_C += buyers
    return buyers_C


def _add(part: Part, own_R: slice, pairs: _Pairs, num_users: int, sold: _Sold) -> None:
    """Add what was bought of a part's items. `own_R`: the pairs of these items."""
    campaign_R, item_R, moment_us_C = pairs.campaign_R[own_R], pairs.item_R[own_R] - part.first_user, pairs.moment_us_C
    rows = part.rows
    item_T, event_us_T = rows["item_row"].to_numpy().astype(np.int64), microseconds_of(rows["event_time"])
    money = Returns.of(rows, event_us_T)
    changes = changes_of(money, event_us_T, np.arange(len(item_T)))
    sums = Running(item_T[changes.line_n], changes.known_us_n, changes.values, event_us_n=changes.event_us_n)
    found: dict[str, Any] = sums.at(item_R, moment_us_C, campaign_R).within(POPULARITY_DAYS, SUMMED)
    for name in SUMMED:
        np.add.at(sold.sums[name], campaign_R, found[name])
    sold.sold_R[own_R] |= found["lines"] > 0
    plain = Running(item_T, event_us_T, {})
    ends_R = plain.entered.places(item_R, moment_us_C, campaign_R)
    first_us_C = moment_us_C - POPULARITY_DAYS * DAY_US
    starts_R = plain.entered.places(item_R, first_us_C, campaign_R)
    user_T = rows["user"].to_numpy()
    order = np.argsort(campaign_R, kind="stable")
    cuts = np.searchsorted(campaign_R[order], np.arange(len(moment_us_C) + 1))
    for campaign in np.flatnonzero(np.diff(cuts)).tolist():
        own = order[cuts[campaign] : cuts[campaign + 1]]
        line_L, _ = ranges(starts_R[own], ends_R[own])
        if (money.returned_us_T[line_L] != NEVER).any():
            line_L = line_L[money.kept_T[line_L] | (money.returned_us_T[line_L] >= moment_us_C[campaign])]
        marks_U = np.zeros(num_users, dtype=bool)
        marks_U[user_T[line_L]] = True
        bits = np.packbits(marks_U)
        sold.bits[campaign] = sold.bits[campaign] | bits if campaign in sold.bits else bits
