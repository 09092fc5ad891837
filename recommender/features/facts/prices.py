"""Price and discount sensitivity: what a shopper buys, at which price, compared with other shoppers.

    price level    shelf price of a line over the usual one of its product type (geometric mean): below 1 is cheaper
    discounts      lines bought on discount over those expected, if everyone bought these items as others do
    elasticity     how the units of a line change with the price of the same item: -1 means 10 % cheaper, 10 % more

Each is drawn to that of everyone, as far as the user's own lines are few (`shrinkage`). Logarithms are counted in
1/1024, so that all sums are whole numbers.

Shapes: U users.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa

from recommender.features.facts.moments import before
from recommender.features.facts.shrinkage import Credibility, Floats
from recommender.features.source import Source, if_else, known_at

LOG_UNIT = 1024
"""Logarithms are whole multiples of 1/1024: a tenth of a per cent."""
SHRUNK_LINES = 10.0
"""Lines at everyone's price or discount that a level counts beside a user's own. Chosen by hand."""
ITEM_LINES = 5.0
"""Lines at the shop's share of discounts that an item's share counts beside its own. Chosen by hand."""
MAX_STEEPNESS = 10.0
"""Elasticities are cut here. A few lines can give any slope."""


@dataclass(frozen=True, eq=False)
class Prices:
    """Of users with a purchase line, in order of identifiers. NaN where the source lacks what a column needs."""

    user_ids: pa.Array
    price_level_U: Floats
    discounted_share_U: Floats
    discount_index_U: Floats
    coupon_share_U: Floats
    elasticity_U: Floats


def prices_at(source: Source, moment: datetime) -> Prices:
    """Compare each user's purchase lines of known items before a moment with everyone's."""
    lines = _priced(source, moment).cache()
    table = _against_others(lines).order_by("user_id").to_pyarrow()
    columns = {name: table[name].to_numpy().astype(np.float64) for name in table.column_names if name != "user_id"}
    count_U = columns["lines"]
    nothing_U = np.full(len(count_U), np.nan)
    usual: dict[str, float] = {}
    shares = {"discount": nothing_U, "coupon": nothing_U}
    for name in shares:
        column = "coupon_discount" if name == "coupon" else name
        if source.tables.has("events", column):
            own_U = columns[f"{name}_lines"] / count_U
            drawn = Credibility.fit(own_U, count_U)
            usual[name], shares[name] = drawn.mean, drawn.drawn(own_U, count_U)
    level_U = index_U = elasticity_U = nothing_U
    if source.tables.has("events", "amount"):
        level_U = np.exp(columns["log_above"] / LOG_UNIT / (columns["paid_lines"] + SHRUNK_LINES))
    if "discount" in usual:
        added = SHRUNK_LINES * usual["discount"]
        index_U = (columns["discount_lines"] + added) / np.maximum(columns["expected_discounts"] + added, 1e-9)
    if source.tables.has("events", "amount") and source.tables.has("events", "quantity"):
        elasticity_U = _elasticity(lines, table["user_id"].to_pylist())
    return Prices(
        user_ids=table["user_id"].combine_chunks(),
        price_level_U=level_U,
        discounted_share_U=shares["discount"],
        discount_index_U=index_U,
        coupon_share_U=shares["coupon"],
        elasticity_U=elasticity_U,
    )


def _priced(source: Source, moment: datetime) -> ir.Table:
    """Purchase lines before a moment of items that the taxonomy knows, with units in thousandths and product type."""
    tables = source.tables
    events = before(source.table("events"), moment)
    events = events.filter(events.kind == "purchase")

    def cents(name: str) -> Any:
        if not tables.has("events", name):
            return ibis.literal(0).cast("int64")
        return (events[name].fill_null(0.0) * source.minor_units).round().cast("int64")

    returned: dict[str, Any] = {}
    if tables.has("events", "returned_at"):
        share = events.returned_share.fill_null(1.0) if tables.has("events", "returned_share") else ibis.literal(1.0)
        returned = {"returned_s": events.returned_at.epoch_seconds(), "returned_share": share}
    units: Any = events.quantity.fill_null(1.0) if tables.has("events", "quantity") else ibis.literal(1.0)
    lines = events.select(
        "user_id",
        "day",
        item_id=events.item_id if tables.has("events", "item_id") else ibis.null().cast("string"),
        milli=ibis.greatest((units * 1000).round().cast("int64"), 1),
        cents=cents("amount"),
        discount_cents=cents("discount"),
        coupon_cents=cents("coupon_discount"),
        **returned,
    )
    lines = known_at(lines, int(moment.timestamp()))
    axes = ibis.memtable(source.taxonomy.table())
    return lines.inner_join(axes.select("item_id", "item_row", "product_type"), "item_id").drop("item_id")


def _against_others(lines: ir.Table) -> ir.Table:
    """Sum each user's lines, and what they would come to at everyone's prices and shares of discounts."""
    gross: Any = lines.cents + lines.discount_cents + lines.coupon_cents
    paid = gross > 0
    log_price = _log(if_else(paid, gross, 1) * 1000.0 / lines.milli)
    lines = lines.mutate(
        paid=paid.cast("int64"),
        log_price=ibis.ifelse(paid, log_price, 0),
        discounted=(lines.discount_cents > 0).cast("int64"),
        with_coupon=(lines.coupon_cents > 0).cast("int64"),
    )
    usual_log = (lines.log_price.sum() / ibis.greatest(lines.paid.sum(), 1)).round().cast("int64")
    of_type = lines.group_by("product_type").agg(usual_log=usual_log)
    shop = lines.agg(shop_lines=lines.count(), shop_discounted=lines.discounted.sum())
    of_item = lines.group_by("item_row").agg(item_lines=lines.count(), item_discounted=lines.discounted.sum())
    of_item = of_item.cross_join(shop)
    usual = of_item.shop_discounted / of_item.shop_lines * ITEM_LINES
    # Whole millionths, so that their sum does not depend on its order.
    of_item = of_item.select(
        "item_row",
        expected=((of_item.item_discounted + usual) / (of_item.item_lines + ITEM_LINES) * 1_000_000)
        .round()
        .cast("int64"),
    )
    grouped = lines.inner_join(of_type, "product_type").inner_join(of_item, "item_row")
    return grouped.group_by("user_id").agg(
        lines=grouped.count(),
        paid_lines=grouped.paid.sum(),
        log_above=(grouped.paid * (grouped.log_price - grouped.usual_log)).sum(),
        discount_lines=grouped.discounted.sum(),
        coupon_lines=grouped.with_coupon.sum(),
        expected_discounts=grouped.expected.sum() / 1_000_000,
    )


def _elasticity(lines: ir.Table, user_ids: list[str]) -> Floats:
    """Slope of log units on log price within a user's lines of one item, drawn to everyone's, float64 [U]."""
    paid = lines.filter(lines.cents > 0)
    price, units = paid.cents.cast("float64") * 1000.0 / paid.milli, paid.milli.cast("float64") / 1000.0
    paid = paid.mutate(x=_log(price), y=_log(units))
    sums = paid.group_by("user_id", "item_row").agg(
        n=paid.count(),
        x=paid.x.sum(),
        y=paid.y.sum(),
        xx=(paid.x * paid.x).sum(),
        xy=(paid.x * paid.y).sum(),
        yy=(paid.y * paid.y).sum(),
    )
    sums = sums.filter(sums.n >= 2)

    def inside(product: Any, first: Any, second: Any) -> Any:
        return ((sums.n * product - first * second) / sums.n).round().cast("int64")

    sums = sums.mutate(
        in_x=inside(sums.xx, sums.x, sums.x),
        in_xy=inside(sums.xy, sums.x, sums.y),
        in_y=inside(sums.yy, sums.y, sums.y),
    )
    table = sums.group_by("user_id").agg(
        xx=sums.in_x.sum(), xy=sums.in_xy.sum(), yy=sums.in_y.sum(), free=(sums.n - 1).sum()
    )
    found = {row["user_id"]: row for row in table.to_pyarrow().to_pylist()}
    scale = float(LOG_UNIT**2)
    xx_U, xy_U, yy_U, free_U = (
        np.array([float(found.get(user, {}).get(name, 0)) for user in user_ids]) for name in ("xx", "xy", "yy", "free")
    )
    xx_U, xy_U, yy_U = xx_U / scale, xy_U / scale, yy_U / scale
    if xx_U.sum() <= 0:
        return np.full(len(user_ids), np.nan)
    slope = xy_U.sum() / xx_U.sum()
    noise = max(float(yy_U.sum() - slope * xy_U.sum()) / max(free_U.sum(), 1), 1e-9)
    own_U = np.where(xx_U > 0, xy_U / np.maximum(xx_U, 1e-12), np.nan)
    drawn = Credibility.fit(own_U, xx_U, noise=noise)
    return np.clip(drawn.drawn(own_U, xx_U), -MAX_STEEPNESS, MAX_STEEPNESS)


def _log(value: Any) -> Any:
    return (value.ln() * LOG_UNIT).round().cast("int64")
