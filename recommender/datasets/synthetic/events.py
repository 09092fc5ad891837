"""Draws the events of a synthetic world: purchases, and views, clicks, carts, searches, reviews and shares around them.

Prices, discounts and shares are chosen by hand so that the log looks like a plausible shop's.

Shapes: B baskets · E purchase lines.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.synthetic.campaigns import Outcomes
from recommender.datasets.synthetic.shop import SIDE_EVENTS, TYPE_WORDS, Shop, category_name
from recommender.datasets.synthetic.world import World
from recommender.datasets.tables import TIME
from recommender.datasets.time_units import HOUR_US


def event_frame(world: World, shop: Shop, outcomes: Outcomes, rng: np.random.Generator) -> pa.Table:
    """Build the table of events, without order.

    It has purchases (including the coupon lines of participations), the events around them, and views of campaigns by
    targeted users.
    """
    log_end = world.day_us(world.days)
    basket_E = np.concatenate([shop.line_basket_E, outcomes.coupon_basket_R])
    item_E = np.concatenate([shop.line_item_E, outcomes.coupon_item_R])
    campaign_E = np.concatenate([np.full(len(shop.line_basket_E), -1), outcomes.coupon_campaign_R])
    with_coupon_E = campaign_E >= 0
    # By hand: mostly single units, 10 % off for a seventh of the lines, and a coupon that takes a quarter off.
    units_E = 1 + rng.poisson(0.3, size=len(basket_E))
    full_E = shop.price_I[item_E] * units_E
    discount_E = np.where(rng.random(len(full_E)) < 0.15, full_E * 0.1, 0.0)
    coupon_E = np.where(with_coupon_E, full_E * 0.25, 0.0)
    lines = {
        "user": shop.basket_user_B[basket_E],
        "time": shop.basket_time_B[basket_E],
        "basket": basket_E,
        "item": item_E,
        "campaign": campaign_E,
    }
    purchases = _events(shop, outcomes, "purchase", lines).append_column("quantity", pa.array(units_E, pa.float64()))
    for name, values in (
        ("amount", full_E - discount_E - coupon_E),
        ("discount", discount_E),
        ("coupon_discount", coupon_E),
    ):
        purchases = purchases.append_column(name, pa.array(np.round(values, 2)))
    # Seven stores, by hand; each user goes to one.
    store_E = np.array([f"store-{row % 7}" for row in range(world.num_users)], dtype=object)[lines["user"]]
    frames = [purchases.append_column("store_id", pa.array(store_E, pa.string()))]
    if world.views:
        for kind, probability, hours in SIDE_EVENTS:
            drawn = np.flatnonzero(~with_coupon_E & (rng.random(len(basket_E)) < probability))
            rows = {name: values[drawn] for name, values in lines.items()}
            # Up to the kind's hours away, and no nearer than a third of them.
            rows["time"] = rows["time"] + (hours * HOUR_US * rng.uniform(0.3, 1.0, size=len(drawn))).astype(np.int64)
            inside = np.flatnonzero((rows["time"] < log_end) & (rows["time"] >= world.day_us(0)))
            frames.append(_side_events(shop, outcomes, kind, {n: v[inside] for n, v in rows.items()}, rng))
        frames.append(_events(shop, outcomes, "view", outcomes.campaign_views(log_end, rng)))
    events = pa.concat_tables(frames, promote_options="default")
    return events.append_column("event_id", pa.array([f"event-{row:08d}" for row in range(events.num_rows)]))


def _side_events(
    shop: Shop, outcomes: Outcomes, kind: str, rows: dict[str, NDArray[np.int64]], rng: np.random.Generator
) -> pa.Table:
    """Build the events of one kind around purchases: reviews get a rating, searches get words instead of an item."""
    events = _events(shop, outcomes, kind, rows)
    if kind == "review":
        # Users rate the categories that they like higher, on a scale of 1 to 5. Weights and noise are chosen by hand.
        taste = shop.taste_UK[rows["user"], shop.category_I[rows["item"]]]
        rating = np.clip(np.round(2.5 + 3 * np.sqrt(taste) + rng.normal(0, 0.8, size=len(taste))), 1, 5)
        return events.append_column("rating", pa.array(rating))
    if kind == "search":
        words = [
            f"{TYPE_WORDS[item % 3]} {category_name(int(shop.category_I[item])).lower()}"
            for item in rows["item"].tolist()
        ]
        position = events.column_names.index("item_id")
        return events.remove_column(position).append_column("query", pa.array(words, pa.string()))
    return events


def _events(shop: Shop, outcomes: Outcomes, kind: str, rows: dict[str, NDArray[np.int64]]) -> pa.Table:
    """Build the columns that every event has. A negative row number becomes null."""
    return pa.table(
        {
            "user_id": _take(shop.user_ids, rows["user"]),
            "kind": pa.repeat(pa.scalar(kind), len(rows["user"])),
            "event_time": pa.array(rows["time"], TIME),
            "item_id": _take(shop.item_ids, rows["item"]),
            "campaign_id": _take(outcomes.campaign_ids, rows["campaign"]),
            "basket_id": pa.array(
                [None if row < 0 else f"basket-{row:07d}" for row in rows["basket"].tolist()], pa.string()
            ),
        }
    )


def _take(names: tuple[str, ...], rows: NDArray[np.int64]) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(rows, mask=rows < 0))
