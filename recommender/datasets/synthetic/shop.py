"""The shop of a synthetic world: users, items, baskets, and the events around them.

Shapes: U users · I items · K categories · T baskets a user at most · B baskets · E purchase lines.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.synthetic.world import World
from recommender.datasets.tables import TIME

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
