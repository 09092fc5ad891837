"""Chooses the items of a campaign to show a user: those that the user buys, then popular ones of familiar types.

Shapes: n products that the user bought · v values of the product axis · L the campaign's most popular items.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from recommender.matching.affinity import AXES, MEASURES, UserAffinity
from recommender.matching.catalogue import Catalogue

MAX_POPULAR_ITEMS = 200
"""Only this many of a campaign's most popular items compete for a user who bought none of them. Chosen by hand: a
campaign may have 35,000 items, and every request would rank them all."""
RECENT_WEIGHT = 2
"""A line of the last 90 days counts three times as much as an older one. Chosen by hand."""
MIN_POPULARITY = 1e-3
"""Popularity of an item without purchases, in lines a month, so that the user's product types still order these."""
_PRODUCT, _PRODUCT_TYPE = AXES.index("product"), AXES.index("product_type")
_LINES, _RECENT = MEASURES.index("lines"), MEASURES.index("lines_90")


@dataclass(frozen=True, eq=False)
class _Index:
    """Arrays that are computed once per catalogue."""

    popular: list[NDArray[np.int32]]
    """For each campaign the rows of its most popular items, the most popular first."""
    row_of_product: NDArray[np.int32]
    """Row of the item for each value of the product axis."""

    @classmethod
    def of(cls, catalogue: Catalogue) -> "_Index":
        popular = []
        for campaign in range(len(catalogue.campaign_ids)):
            items = catalogue.items_of(campaign)
            order = np.argsort(-catalogue.item_popularity_V[items], kind="stable")
            popular.append(items[order[:MAX_POPULAR_ITEMS]])
        row_of_product = np.zeros(len(catalogue.axis_values[_PRODUCT]), dtype=np.int32)
        row_of_product[catalogue.item_axes_VA[:, _PRODUCT]] = np.arange(len(catalogue.item_ids))
        return cls(popular, row_of_product)


@lru_cache(maxsize=2)  # The current catalogue, and the new one while both are in use.
def _index(catalogue: Catalogue) -> _Index:
    return _Index.of(catalogue)


def popular_items(catalogue: Catalogue, campaign: int) -> NDArray[np.int32]:
    """Return the rows of a campaign's most popular items, at most `MAX_POPULAR_ITEMS`, ties by row."""
    return _index(catalogue).popular[campaign]


def rank_items(
    user: UserAffinity, catalogue: Catalogue, campaign: int, num_items: int, *, present_v: NDArray[np.uint8]
) -> list[tuple[int, str | None]]:
    """Choose the items of a campaign to show a user.

    Args:
        user: what the user bought.
        catalogue: items and campaigns.
        campaign: the campaign's row.
        num_items: how many to choose.
        present_v: the campaign's column of the product axis of its `Incidence`.

    Returns:
        The item's row, and a reason if there is one.
    """
    if num_items <= 0:
        return []
    bought = np.flatnonzero(present_v[user.values[_PRODUCT]])
    lines = user.counts[_PRODUCT][_LINES, bought].astype(np.int64)
    strength = lines + RECENT_WEIGHT * user.counts[_PRODUCT][_RECENT, bought].astype(np.int64)
    order = np.argsort(-strength, kind="stable")[:num_items]
    rows = _index(catalogue).row_of_product[user.values[_PRODUCT][bought[order]]]
    chosen: list[tuple[int, str | None]] = [
        (row, _bought_reason(times)) for row, times in zip(rows.tolist(), lines[order].tolist(), strict=True)
    ]
    if len(chosen) < num_items:
        chosen += _popular_choice(user, catalogue, campaign, {row for row, _ in chosen}, num_items - len(chosen))
    return chosen


def _popular_choice(
    user: UserAffinity, catalogue: Catalogue, campaign: int, excluded: set[int], num_items: int
) -> list[tuple[int, str | None]]:
    """Choose popular items of the campaign, preferring product types that the user buys."""
    items_L = popular_items(catalogue, campaign)
    lines_by_type = np.zeros(len(catalogue.axis_values[_PRODUCT_TYPE]))
    lines_by_type[user.values[_PRODUCT_TYPE]] = user.counts[_PRODUCT_TYPE][_LINES]
    lines_L = lines_by_type[catalogue.item_axes_VA[items_L, _PRODUCT_TYPE]]
    # The logarithm damps a type that is bought very often: popularity still decides among familiar types.
    score_L = (catalogue.item_popularity_V[items_L] + MIN_POPULARITY) * (1.0 + np.log1p(lines_L))
    chosen: list[tuple[int, str | None]] = []
    for position in np.argsort(-score_L, kind="stable").tolist():
        row = int(items_L[position])
        if row not in excluded:
            chosen.append((row, "You buy this product type" if lines_L[position] else None))
            if len(chosen) == num_items:
                break
    return chosen


def _bought_reason(number: int) -> str:
    return {1: "You bought it once", 2: "You bought it twice"}.get(number, f"You bought it {number} times")
