"""Draws the shop of a synthetic world: users, items and baskets.

Numbers without a stated reason are chosen by hand so that the shop looks plausible; changing one changes the bytes of
every generated world.

Shapes: U users · I items · K categories · T baskets of one user at most · B baskets · E purchase lines.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.synthetic.world import World
from recommender.datasets.tables import TIME
from recommender.datasets.time_units import DAY_US

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
"""Kind of event, its probability for each purchase line, and hours from the purchase (negative: before it).

Chosen by hand: more views than clicks than carts, all before the purchase, and reviews and shares days after it."""


@dataclass(frozen=True, eq=False)
class Shop:
    """Users, items, baskets and purchase lines. They refer to each other by row number."""

    user_ids: tuple[str, ...]
    attributes: dict[str, NDArray[np.object_]]
    joined_us_U: NDArray[np.int64]
    item_ids: tuple[str, ...]
    category_I: NDArray[np.int64]
    price_I: NDArray[np.float64]
    """Currency units."""
    successor_K: NDArray[np.int64]
    """`sequence`: the category that usually follows each category."""
    taste_UK: NDArray[np.float64]
    """`affinity`: share of a user's lines in each category, summing to 1."""
    basket_user_B: NDArray[np.int64]
    basket_time_B: NDArray[np.int64]
    """Microseconds since 1970, UTC. Sorted by user, then by time."""
    basket_category_B: NDArray[np.int64]
    """Category of the basket (`sequence`), or of its first line (`affinity`)."""
    line_basket_E: NDArray[np.int64]
    line_item_E: NDArray[np.int64]


def draw_shop(world: World, rng: np.random.Generator) -> Shop:
    """Draw users with tastes and attributes, items with prices, and every basket of the log."""
    U, I, K = world.num_users, world.num_items, world.num_categories  # noqa: E741
    category_I = np.arange(I) * K // I
    # A Dirichlet parameter below 1 gives each user a few favourite categories. 0.7 is chosen by hand.
    taste_UK = rng.dirichlet(np.full(K, 0.7), size=U)
    # Gaps of shape 2 are more regular than random arrivals. Twice the expected number of baskets and ten more are
    # enough for nearly every user to reach the log's end.
    gaps_UT = rng.gamma(
        2.0, world.days_between_baskets / 2, size=(U, int(world.days / world.days_between_baskets * 2) + 10)
    )
    days_UT = np.cumsum(gaps_UT, axis=1) - rng.uniform(0, world.days_between_baskets, size=(U, 1))
    successor_K = _draw_successors(K, rng)
    category_UT = _walk(world, successor_K, days_UT.shape, rng)
    kept_UT = (days_UT >= 0) & (days_UT < world.days)
    user_B, turn_B = np.nonzero(kept_UT)
    time_B = world.day_us(0) + (days_UT[kept_UT] * DAY_US).astype(np.int64)
    lines_B = 1 + rng.poisson(max(world.lines_a_basket - 1, 0), size=len(user_B))
    basket_E = np.repeat(np.arange(len(user_B)), lines_B)
    if world.preference == "sequence":
        category_E = category_UT[user_B, turn_B][basket_E]
    else:
        category_E = _draw_categories(taste_UK, user_B[basket_E], rng)
    first_E = np.searchsorted(category_I, np.arange(K))
    size_K = np.bincount(category_I, minlength=K)
    # The power 1.5, chosen by hand, makes the first items of a category more popular than the last ones.
    item_E = first_E[category_E] + (size_K[category_E] * rng.random(len(category_E)) ** 1.5).astype(np.int64)
    distinct = np.unique(basket_E * I + item_E)  # An item is at most one line of a basket.
    basket_E, item_E = distinct // I, distinct % I
    starts_B = np.searchsorted(basket_E, np.arange(len(user_B)))
    # By hand: members for a month to four years, and prices around 3 (the median of this lognormal), most from 1 to 9.
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


def _draw_successors(K: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a permutation of two cycles of length two and one of the rest.

    With cycles of several lengths, the successor is in general neither the category bought most recently nor the one
    not bought for longest, so that no simple rule on recency predicts it.
    """
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
    """Draw the category of each basket: the successor of the last one, or any with probability `walk_noise`, [U, T]."""
    category_UT = rng.integers(0, len(successor_K), size=shape)
    follows_UT = rng.random(shape) >= world.walk_noise
    for turn in range(1, shape[1]):
        successor_U = successor_K[category_UT[:, turn - 1]]
        category_UT[:, turn] = np.where(follows_UT[:, turn], successor_U, category_UT[:, turn])
    return category_UT


def _draw_categories(
    taste_UK: NDArray[np.float64], user_E: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw a category for each line from its user's tastes, int64 [E]."""
    edges_UK = np.cumsum(taste_UK, axis=1)
    edges_UK[:, -1] = 1.0
    draws_E = rng.random(len(user_E))
    flat = (edges_UK + np.arange(len(edges_UK))[:, None]).ravel()
    return np.asarray(np.searchsorted(flat, user_E + draws_E, side="right") - user_E * taste_UK.shape[1])


def _attribute(values: tuple[str, ...], count: int, rng: np.random.Generator) -> NDArray[np.object_]:
    """Draw an attribute of each user, missing for a tenth of them."""
    choices: NDArray[np.object_] = np.array([*values, None], dtype=object)
    picked = rng.integers(0, len(values), size=count)
    return choices[np.where(rng.random(count) < 0.1, len(values), picked)]


def category_name(category: int) -> str:
    """Return a category's name. Beyond the last of `CATEGORY_WORDS` they repeat with a number."""
    lap, word = divmod(category, len(CATEGORY_WORDS))
    return CATEGORY_WORDS[word] + (f" {lap + 1}" if lap else "")


def user_frame(shop: Shop) -> pa.Table:
    """Build the table of users."""
    columns = {name: pa.array(values, pa.string()) for name, values in shop.attributes.items()}
    return pa.table({"user_id": pa.array(shop.user_ids), "joined_at": pa.array(shop.joined_us_U, TIME), **columns})


def item_frame(shop: Shop) -> pa.Table:
    """Build the table of items with every level of the taxonomy. Brands and sizes repeat with the item's number."""
    rows = range(len(shop.item_ids))
    words = [category_name(int(category)) for category in shop.category_I]
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
