"""The shop of a synthetic world: users, items, baskets, and the events around them.

Shapes: U users · I items · K categories · T baskets a user at most · B baskets · E purchase lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.tables import TIME

if TYPE_CHECKING:
    from recommender.datasets.synthetic import World
    from recommender.datasets.synthetic_campaigns import Outcomes

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
CATEGORY_WORDS = (
    *("Coffee", "Tea", "Bread", "Cheese", "Yogurt", "Cereal", "Pasta", "Soup", "Juice", "Fruit", "Salad", "Fish"),
    *("Chocolate", "Biscuits", "Ice cream", "Pet food", "Shampoo", "Detergent", "Nappies", "Candles"),
)
TYPE_WORDS = ("classic", "organic", "family")
DEPARTMENT_WORDS = ("Pantry", "Fresh", "Sweets", "Home")
BRANDS = ("Arbor", "Brightway", "Corner", "Dawn", "Everly")
SIZES = ("100 g", "250 g", "500 g", "1 kg")
ATTRIBUTES = {
    "age_band": ("18-29", "30-44", "45-59", "60+"),
    "gender": ("female", "male"),
    "income_band": ("low", "middle", "high"),
    "household_size": ("1", "2", "3", "4+"),
    "num_children": ("0", "1", "2+"),
    "region": ("north", "south", "west"),
}
SIDE_EVENTS = (
    ("view", 0.6, -0.6),
    ("click", 0.35, -0.5),
    ("cart", 0.3, -0.25),
    ("search", 0.1, -0.7),
    ("review", 0.05, 72.0),
    ("share", 0.02, 30.0),
)
"""Kind, probability a purchase line, hours from the purchase."""


@dataclass(frozen=True, eq=False)
class Shop:
    user_ids: tuple[str, ...]
    attributes: dict[str, NDArray[np.object_]]
    joined_us_U: NDArray[np.int64]
    item_ids: tuple[str, ...]
    category_I: NDArray[np.int64]
    price_I: NDArray[np.float64]
    successor_K: NDArray[np.int64]
    taste_UK: NDArray[np.float64]
    basket_user_B: NDArray[np.int64]
    basket_time_B: NDArray[np.int64]
    """Ascending within a user; users ascending. Microseconds since 1970, UTC."""
    basket_category_B: NDArray[np.int64]
    """The walk's category (`sequence`), or that of the first line (`affinity`)."""
    line_basket_E: NDArray[np.int64]
    line_item_E: NDArray[np.int64]


def draw_shop(world: World, rng: np.random.Generator) -> Shop:
    """Users with tastes and attributes, items with prices, and every basket of the log."""
    U, I, K = world.num_users, world.num_items, world.num_categories  # noqa: E741
    category_I = np.arange(I) * K // I
    taste_UK = rng.dirichlet(np.full(K, 0.7), size=U)
    gaps_UT = rng.gamma(
        2.0, world.days_between_baskets / 2, size=(U, int(world.days / world.days_between_baskets * 2) + 10)
    )
    days_UT = np.cumsum(gaps_UT, axis=1) - rng.uniform(0, world.days_between_baskets, size=(U, 1))
    successor_K = _permutation(K, rng)
    state_UT = _walk(world, successor_K, days_UT.shape, rng)
    kept_UT = (days_UT >= 0) & (days_UT < world.days)
    user_B, turn_B = np.nonzero(kept_UT)
    time_B = world.day_us(0) + (days_UT[kept_UT] * DAY_US).astype(np.int64)
    lines_B = 1 + rng.poisson(max(world.lines_a_basket - 1, 0), size=len(user_B))
    basket_E = np.repeat(np.arange(len(user_B)), lines_B)
    if world.preference == "sequence":
        category_E = state_UT[user_B, turn_B][basket_E]
    else:
        category_E = _draw_categories(taste_UK, user_B[basket_E], rng)
    first_E = np.searchsorted(category_I, np.arange(K))
    size_K = np.bincount(category_I, minlength=K)
    item_E = first_E[category_E] + (size_K[category_E] * rng.random(len(category_E)) ** 1.5).astype(np.int64)
    once = np.unique(basket_E * I + item_E)  # an item is one line of a basket
    basket_E, item_E = once // I, once % I
    starts_B = np.searchsorted(basket_E, np.arange(len(user_B)))
    return Shop(
        user_ids=tuple(f"user-{row:05d}" for row in range(U)),
        attributes={name: _attribute(values, U, rng) for name, values in ATTRIBUTES.items()},
        joined_us_U=world.day_us(0) - rng.integers(30, 1_500, size=U) * DAY_US,
        item_ids=tuple(f"item-{row:05d}" for row in range(I)),
        category_I=category_I,
        price_I=np.round(rng.lognormal(1.2, 0.5, size=I), 2),
        successor_K=successor_K,
        taste_UK=taste_UK,
        basket_user_B=user_B,
        basket_time_B=time_B,
        basket_category_B=category_I[item_E[starts_B]],
        line_basket_E=basket_E,
        line_item_E=item_E,
    )


def _permutation(K: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Cycles of two and longer ones in turn, so that the successor is neither the latest nor the longest-missed category."""
    order_K = rng.permutation(K)
    successor_K = np.empty(K, dtype=np.int64)
    start, lengths = 0, [2, 2, max(K - 4, 1)] if K >= 6 else [K]
    for length in lengths:
        cycle = order_K[start : start + length]
        successor_K[cycle] = np.roll(cycle, -1)
        start += length
    return successor_K


def _walk(
    world: World, successor_K: NDArray[np.int64], shape: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.int64]:
    state_UT = rng.integers(0, len(successor_K), size=shape)
    follows_UT = rng.random(shape) >= world.walk_noise
    for turn in range(1, shape[1]):
        state_UT[:, turn] = np.where(follows_UT[:, turn], successor_K[state_UT[:, turn - 1]], state_UT[:, turn])
    return state_UT


def _draw_categories(
    taste_UK: NDArray[np.float64], user_E: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    edges_UK = np.cumsum(taste_UK, axis=1)
    edges_UK[:, -1] = 1.0
    draws_E = rng.random(len(user_E))
    flat = (edges_UK + np.arange(len(edges_UK))[:, None]).ravel()
    return np.asarray(np.searchsorted(flat, user_E + draws_E, side="right") - user_E * taste_UK.shape[1])


def _attribute(values: tuple[str, ...], count: int, rng: np.random.Generator) -> NDArray[np.object_]:
    """A tenth of the users do not say."""
    known: NDArray[np.object_] = np.array([*values, None], dtype=object)
    picked = rng.integers(0, len(values), size=count)
    return known[np.where(rng.random(count) < 0.1, len(values), picked)]


def _word(category: int) -> str:
    lap, word = divmod(category, len(CATEGORY_WORDS))
    return CATEGORY_WORDS[word] + (f" {lap + 1}" if lap else "")


def user_frame(world: World, shop: Shop) -> pa.Table:
    columns = {name: pa.array(values, pa.string()) for name, values in shop.attributes.items()}
    return pa.table({"user_id": pa.array(shop.user_ids), "joined_at": pa.array(shop.joined_us_U, TIME), **columns})


def item_frame(shop: Shop) -> pa.Table:
    """Items with a place on every axis of the taxonomy; brand and size go round with the item's number."""
    rows = range(len(shop.item_ids))
    words = [_word(int(category)) for category in shop.category_I]
    types = [f"{words[row]}, {TYPE_WORDS[row % len(TYPE_WORDS)]}" for row in rows]
    return pa.table(
        {
            "item_id": pa.array(shop.item_ids),
            "name": [
                f"{BRANDS[row % len(BRANDS)]} {types[row].lower()}, {SIZES[row // 3 % len(SIZES)]}" for row in rows
            ],
            "product_type": types,
            "category": words,
            "department": [DEPARTMENT_WORDS[int(category) % len(DEPARTMENT_WORDS)] for category in shop.category_I],
            "brand": [BRANDS[row % len(BRANDS)] for row in rows],
            "manufacturer": [f"Maker {row % 20}" for row in rows],
            "package_size": [SIZES[row // 3 % len(SIZES)] for row in rows],
            "price": shop.price_I,
        }
    )


def event_frame(world: World, shop: Shop, outcomes: Outcomes, rng: np.random.Generator) -> pa.Table:
    """Purchases (with the coupon lines of participations), the events around them, and views of campaigns by the targeted."""
    log_end = world.day_us(world.days)
    basket_E = np.concatenate([shop.line_basket_E, outcomes.coupon_basket_R])
    item_E = np.concatenate([shop.line_item_E, outcomes.coupon_item_R])
    campaign_E = np.concatenate([np.full(len(shop.line_basket_E), -1), outcomes.coupon_campaign_R])
    with_coupon_E = campaign_E >= 0
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
    store_E = np.array([f"store-{row % 7}" for row in range(world.num_users)], dtype=object)[lines["user"]]
    frames = [purchases.append_column("store_id", pa.array(store_E, pa.string()))]
    if world.views:
        for kind, probability, hours in SIDE_EVENTS:
            at = np.flatnonzero(~with_coupon_E & (rng.random(len(basket_E)) < probability))
            some = {name: values[at] for name, values in lines.items()}
            some["time"] = some["time"] + (hours * HOUR_US * rng.uniform(0.3, 1.0, size=len(at))).astype(np.int64)
            inside = np.flatnonzero((some["time"] < log_end) & (some["time"] >= world.day_us(0)))
            frames.append(_side_events(shop, outcomes, kind, {n: v[inside] for n, v in some.items()}, rng))
        frames.append(_events(shop, outcomes, "view", outcomes.campaign_views(shop, log_end, rng)))
    events = pa.concat_tables(frames, promote_options="default")
    return events.append_column("event_id", pa.array([f"event-{row:08d}" for row in range(events.num_rows)]))


def _side_events(
    shop: Shop, outcomes: Outcomes, kind: str, some: dict[str, NDArray[np.int64]], rng: np.random.Generator
) -> pa.Table:
    events = _events(shop, outcomes, kind, some)
    if kind == "review":
        liked = shop.taste_UK[some["user"], shop.category_I[some["item"]]]
        rating = np.clip(np.round(2.5 + 3 * np.sqrt(liked) + rng.normal(0, 0.8, size=len(liked))), 1, 5)
        return events.append_column("rating", pa.array(rating))
    if kind == "search":
        words = [
            f"{TYPE_WORDS[item % 3]} {_word(int(shop.category_I[item])).lower()}" for item in some["item"].tolist()
        ]
        position = events.column_names.index("item_id")
        return events.remove_column(position).append_column("query", pa.array(words, pa.string()))
    return events


def _events(shop: Shop, outcomes: Outcomes, kind: str, rows: dict[str, NDArray[np.int64]]) -> pa.Table:
    """Columns that every event has. A negative number stands for none."""
    return pa.table(
        {
            "user_id": _named(shop.user_ids, rows["user"]),
            "kind": pa.repeat(pa.scalar(kind), len(rows["user"])),
            "event_time": pa.array(rows["time"], TIME),
            "item_id": _named(shop.item_ids, rows["item"]),
            "campaign_id": _named(outcomes.campaign_ids, rows["campaign"]),
            "basket_id": pa.array(
                [None if row < 0 else f"basket-{row:07d}" for row in rows["basket"].tolist()], pa.string()
            ),
        }
    )


def _named(names: tuple[str, ...], rows: NDArray[np.int64]) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(rows, mask=rows < 0))
