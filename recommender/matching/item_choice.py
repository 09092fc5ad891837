"""Which items of a campaign to show a user: what the user buys first, then what is popular in the product types the user buys.

Shapes: n items the user bought · L the campaign's most popular items.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from recommender.matching.affinity import AXES, MEASURES, UserAffinity
from recommender.matching.catalogue import Catalogue

LONGEST = 200
"""Only this many of a campaign's most popular items compete for a user who bought none of them."""
_PRODUCT, _PRODUCT_TYPE = AXES.index("product"), AXES.index("product_type")
_LINES, _RECENT = MEASURES.index("lines"), MEASURES.index("lines_90")


@dataclass(frozen=True, eq=False)
class _Layout:
    """What is computed once of a catalogue."""

    popular: list[NDArray[np.int32]]
    row_of_product: NDArray[np.int32]

    @classmethod
    def of(cls, catalogue: Catalogue) -> "_Layout":
        popular = []
        for campaign in range(len(catalogue.campaign_ids)):
            items = catalogue.items_of(campaign)
            order = np.argsort(-catalogue.item_popularity_V[items], kind="stable")
            popular.append(items[order[:LONGEST]])
        row_of_product = np.zeros(len(catalogue.axis_values[_PRODUCT]), dtype=np.int32)
        row_of_product[catalogue.item_axes_VA[:, _PRODUCT]] = np.arange(len(catalogue.item_ids))
        return cls(popular, row_of_product)


@lru_cache(maxsize=2)
def _layout(catalogue: Catalogue) -> _Layout:
    return _Layout.of(catalogue)


def popular_items(catalogue: Catalogue, campaign: int) -> NDArray[np.int32]:
    """Rows of the campaign's most popular items, at most `LONGEST`, ties by row."""
    return _layout(catalogue).popular[campaign]


def rank_items(
    user: UserAffinity, catalogue: Catalogue, campaign: int, num_items: int, *, present_v: NDArray[np.uint8]
) -> list[tuple[int, str | None]]:
    """The `num_items` rows of the campaign's items to show this user, each with a reason where there is one.

    `present_v`: the campaign's column of the product axis of its `Incidence`.
    """
    if num_items <= 0:
        return []
    own_n = np.flatnonzero(present_v[user.values[_PRODUCT]])
    lines_n = user.counts[_PRODUCT][_LINES, own_n].astype(np.int64)
    strength_n = lines_n + 2 * user.counts[_PRODUCT][_RECENT, own_n].astype(np.int64)
    order = np.argsort(-strength_n, kind="stable")[:num_items]
    products = _layout(catalogue).row_of_product[user.values[_PRODUCT][own_n[order]]]
    shown: list[tuple[int, str | None]] = [
        (row, _times(lines)) for row, lines in zip(products.tolist(), lines_n[order].tolist(), strict=True)
    ]
    if len(shown) < num_items:
        shown += _fill(user, catalogue, campaign, {row for row, _ in shown}, num_items - len(shown))
    return shown


def _fill(
    user: UserAffinity, catalogue: Catalogue, campaign: int, shown: set[int], num_items: int
) -> list[tuple[int, str | None]]:
    items_L = popular_items(catalogue, campaign)
    lines_by_type = np.zeros(len(catalogue.axis_values[_PRODUCT_TYPE]))
    lines_by_type[user.values[_PRODUCT_TYPE]] = user.counts[_PRODUCT_TYPE][_LINES]
    lines_L = lines_by_type[catalogue.item_axes_VA[items_L, _PRODUCT_TYPE]]
    # A type bought e times as often adds to an item's chance against a popular one, it does not multiply it.
    score_L = (catalogue.item_popularity_V[items_L] + 1e-3) * (1.0 + np.log1p(lines_L))
    found: list[tuple[int, str | None]] = []
    for position in np.argsort(-score_L, kind="stable").tolist():
        row = int(items_L[position])
        if row not in shown:
            found.append((row, "You buy this product type" if lines_L[position] else None))
            if len(found) == num_items:
                break
    return found


def _times(number: int) -> str:
    return {1: "You bought it once", 2: "You bought it twice"}.get(number, f"You bought it {number} times")
