"""Chooses the items of a campaign to show a user: those that the user buys, then likely ones, all of different names.

At most `MAX_TYPE_SHARE` of the items are of one product type, as long as the campaign has others. Sizes and packagings
of one thing often share a name; a user sees each name once.

Shapes: V items · n products that the user bought · v values of the product axis · L the campaign's most popular items.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from recommender.matching.affinity import AXES, MEASURES, UserAffinity
from recommender.matching.catalogue import Catalogue

MAX_POPULAR_ITEMS = 200
"""Only this many of a campaign's most popular items compete for a user who bought none of them. Chosen by hand: a
campaign may have 35,000 items, and every request would rank them all."""
MAX_TYPE_SHARE = 1 / 3
"""Share of the shown items that one product type may take. Chosen by hand: of five items at most two are cheese."""
RECENT_WEIGHT = 2
"""A line of the last 90 days counts three times as much as an older one. Chosen by hand."""
MIN_POPULARITY = 1e-3
"""Popularity of an item without purchases, in lines a month, so that the user's product types still order these."""
_PRODUCT, _PRODUCT_TYPE = AXES.index("product"), AXES.index("product_type")
_LINES, _RECENT = MEASURES.index("lines"), MEASURES.index("lines_90")

Choice = tuple[int, str | None]
"""The row of an item, and the reason to show it if there is one."""


@dataclass(frozen=True, eq=False)
class _Index:
    """Arrays that are computed once per catalogue."""

    popular: list[NDArray[np.int32]]
    """For each campaign the rows of its most popular items, the most popular first, each name once."""
    row_of_product: NDArray[np.int32]
    """Row of the item for each value of the product axis."""
    names: list[int]
    """Number of each item's name. Items that look the same to a reader share it. A list: it is read one by one."""
    types: list[int]
    """Each item's value on the axis of product types, 0 for none."""
    popular_types: list[NDArray[np.int32]]
    """The product types of `popular`."""
    popular_weights: list[NDArray[np.float32]]
    """Popularity of `popular`, at least `MIN_POPULARITY`."""

    @classmethod
    def of(cls, catalogue: Catalogue) -> "_Index":
        name_V = _name_numbers(catalogue)
        popular = []
        for campaign in range(len(catalogue.campaign_ids)):
            items = catalogue.items_of(campaign)
            items = items[np.argsort(-catalogue.item_popularity_V[items], kind="stable")]
            _, first = np.unique(name_V[items], return_index=True)
            popular.append(items[np.sort(first)[:MAX_POPULAR_ITEMS]])
        row_of_product = np.zeros(len(catalogue.axis_values[_PRODUCT]), dtype=np.int32)
        row_of_product[catalogue.item_axes_VA[:, _PRODUCT]] = np.arange(len(catalogue.item_ids))
        types_V = catalogue.item_axes_VA[:, _PRODUCT_TYPE]
        return cls(
            popular,
            row_of_product,
            name_V.tolist(),
            types_V.tolist(),
            [types_V[items] for items in popular],
            [catalogue.item_popularity_V[items] + MIN_POPULARITY for items in popular],
        )


def _name_numbers(catalogue: Catalogue) -> NDArray[np.int32]:
    """Number the names of all items, without regard to case and spaces. An item without a name has its identifier."""
    numbers: dict[str, int] = {}
    shown = (name or item_id for name, item_id in zip(catalogue.item_names, catalogue.item_ids, strict=True))
    keys = (" ".join(name.casefold().split()) for name in shown)
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int32)


@lru_cache(maxsize=2)  # The current catalogue, and the new one while both are in use.
def _index(catalogue: Catalogue) -> _Index:
    return _Index.of(catalogue)


def prepare(catalogue: Catalogue) -> None:
    """Compute now what the first choice of items would wait for."""
    _index(catalogue)


def popular_items(catalogue: Catalogue, campaign: int, num_items: int) -> NDArray[np.int32]:
    """Return rows of a campaign's most popular items, at most `num_items`, varied as `ItemChooser` varies them."""
    index = _index(catalogue)
    chosen = _Varied(index, num_items)
    chosen.take((row, None) for row in index.popular[campaign].tolist())
    return np.array([row for row, _ in chosen.result()], dtype=np.int32)


class ItemChooser:
    """Chooses the items of campaigns to show one user: first those that the user buys, the most often bought first."""

    def __init__(self, user: UserAffinity, catalogue: Catalogue) -> None:
        self._user, self._index = user, _index(catalogue)
        self._num_types = len(catalogue.axis_values[_PRODUCT_TYPE])

    @cached_property
    def _lines_by_type(self) -> NDArray[np.float64]:
        user = self._user
        lines_by_type = np.zeros(self._num_types)
        lines_by_type[user.values[_PRODUCT_TYPE]] = user.counts[_PRODUCT_TYPE][_LINES]
        return lines_by_type

    def choose(self, campaign: int, num_items: int, *, present_v: NDArray[np.uint8]) -> list[Choice]:
        """Choose the items of one campaign.

        Args:
            campaign: the campaign's row.
            num_items: how many to choose. Fewer come back only if the campaign has fewer names.
            present_v: the campaign's column of the product axis of its `Incidence`.

        Returns:
            The item's row, and a reason if there is one.
        """
        chosen = _Varied(self._index, num_items)
        chosen.take(self._bought(present_v))
        if not chosen.is_full:
            chosen.take(self._likely(campaign))
        return chosen.result()

    def _bought(self, present_v: NDArray[np.uint8]) -> Iterator[Choice]:
        """List the campaign's items that the user has bought, those bought often and recently first."""
        user = self._user
        bought = present_v[user.values[_PRODUCT]].nonzero()[0]
        if not len(bought):
            return
        lines = user.counts[_PRODUCT][_LINES, bought].astype(np.int64)
        strength = lines + RECENT_WEIGHT * user.counts[_PRODUCT][_RECENT, bought].astype(np.int64)
        order = (-strength).argsort(kind="stable")
        rows = self._index.row_of_product[user.values[_PRODUCT][bought[order]]]
        for row, times in zip(rows.tolist(), lines[order].tolist(), strict=True):
            yield row, _bought_reason(times)

    def _likely(self, campaign: int) -> Iterator[Choice]:
        """List popular items of the campaign, preferring product types that the user buys."""
        lines_L = self._lines_by_type[self._index.popular_types[campaign]]
        # The logarithm damps a type that is bought very often: popularity still decides among familiar types.
        score_L = self._index.popular_weights[campaign] * (1.0 + np.log1p(lines_L))
        order = (-score_L).argsort(kind="stable")
        rows, lines = self._index.popular[campaign][order].tolist(), lines_L[order].tolist()
        for row, num_lines in zip(rows, lines, strict=True):
            yield row, "You buy this product type" if num_lines else None


class _Varied:
    """Items chosen so far, each name once and each product type within its share.

    Items beyond their type's share are put aside, and fill what stays empty: a campaign of one type shows that type.
    """

    def __init__(self, index: _Index, num_items: int) -> None:
        self._index, self._num_items = index, num_items
        self._most = math.ceil(num_items * MAX_TYPE_SHARE)
        self._taken: list[tuple[int, Choice]] = []
        self._aside: list[tuple[int, Choice]] = []
        self._names: set[int] = set()
        self._types: dict[int, int] = {}

    @property
    def is_full(self) -> bool:
        return len(self._taken) >= self._num_items

    def take(self, candidates: Iterable[Choice]) -> None:
        """Take the candidates, best first, until enough are chosen."""
        if self.is_full:
            return
        name_of, type_of, names, types = self._index.names, self._index.types, self._names, self._types
        for choice in candidates:
            name, product_type = name_of[choice[0]], type_of[choice[0]]
            if name in names:
                continue
            names.add(name)
            number = types.get(product_type, 0)
            if product_type and number >= self._most:
                self._aside.append((len(names), choice))
                continue
            types[product_type] = number + 1
            self._taken.append((len(names), choice))
            if len(self._taken) >= self._num_items:
                break

    def result(self) -> list[Choice]:
        """Return what was chosen, in the order in which it was offered."""
        missing = self._num_items - len(self._taken)
        if not missing or not self._aside:
            return [choice for _, choice in self._taken]
        return [choice for _, choice in sorted(self._taken + self._aside[:missing], key=lambda one: one[0])]


def _bought_reason(number: int) -> str:
    return {1: "You bought it once", 2: "You bought it twice"}.get(number, f"You bought it {number} times")
