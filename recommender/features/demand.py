"""Demand for the items of campaigns: what all users bought of them in the days before each campaign's reference time.

Shapes: C campaigns · R pairs of a campaign and an item · T purchase lines.
"""

from typing import Any

import ibis
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_US, SECOND_US
from recommender.features.as_of import Ints, Running, ranges
from recommender.features.bought import NEVER, Part, Returns, changes_of, microseconds_of, money_columns, parts
from recommender.features.source import Source

POPULARITY_DAYS = 90
"""Days of purchases that count for demand and popularity: a season. Chosen by hand."""
SUMMED = ("lines", "cents", "discounted", "coupon")


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
    num_campaigns = len(reference_us_C)
    campaign_R = np.repeat(np.arange(num_campaigns), np.diff(offsets))
    order = np.argsort(items, kind="stable")
    campaign_R, item_R = campaign_R[order], items[order].astype(np.int64)
    found = {name: np.zeros(num_campaigns, dtype=np.int64) for name in (*SUMMED, "items", "buyers")}
    lines = source.lines
    if not len(item_R):
        return found
    # Users as numbers. Those whom the users' table lacks count too.
    users = lines.select("user_id").distinct().order_by("user_id").to_pyarrow()["user_id"]
    numbered = ibis.memtable(pa.table({"user_id": users, "user": np.arange(len(users), dtype=np.int32)}))
    promoted = ibis.memtable(pa.table({"item_row": np.unique(item_R)}))
    rows = lines.semi_join(promoted, "item_row").inner_join(numbered, "user_id")
    rows = rows.select("item_row", "event_time", "user", **money_columns(rows)).order_by("item_row", "event_time")
    moment_us_C = reference_us_C // SECOND_US * SECOND_US
    bought_by: dict[int, NDArray[np.uint8]] = {}
    for part in parts(rows, len(source.taxonomy.item_ids), by="item_row"):
        own = slice(*np.searchsorted(item_R, [part.first_user, part.end_user]).tolist())
        _add(part, campaign_R[own], item_R[own] - part.first_user, moment_us_C, len(users), found, bought_by)
    for campaign, bits in bought_by.items():
        found["buyers"][campaign] = np.unpackbits(bits).sum()
    return found


def _add(
    part: Part,
    campaign_R: Ints,
    item_R: Ints,
    moment_us_C: Ints,
    num_users: int,
    found: dict[str, Ints],
    bought_by: dict[int, NDArray[np.uint8]],
) -> None:
    """Add what was bought of a part's items."""
    rows = part.rows
    item_T, event_us_T = rows["item_row"].to_numpy(), microseconds_of(rows["event_time"])
    money = Returns.of(rows, event_us_T)
    changes = changes_of(money, event_us_T, np.arange(len(item_T)))
    sums = Running(item_T[changes.line_n], changes.known_us_n, changes.values, event_us_n=changes.event_us_n)
    sold: dict[str, Any] = sums.at(item_R, moment_us_C, campaign_R).within(POPULARITY_DAYS, SUMMED)
    for name in SUMMED:
        np.add.at(found[name], campaign_R, sold[name])
    np.add.at(found["items"], campaign_R, sold["lines"] > 0)
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
        bought_by[campaign] = bought_by[campaign] | bits if campaign in bought_by else bits
