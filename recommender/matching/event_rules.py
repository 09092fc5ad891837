"""What a gateway must know of the tables, so that it takes an event as the next run does.

The features step writes it into the catalogue. Amounts are in the tables' currency, days are UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from recommender.datasets.currencies import decimals
from recommender.datasets.time_units import SECOND_US

MONEY = ("amount", "discount", "coupon_discount")
"""Fields of money. They share one largest value: a shop may have discounts on few lines."""


@dataclass(frozen=True)
class EventRules:
    """Currency, open days and largest values of the tables."""

    currency: str | None = None
    """ISO 4217 code of all amounts. None: the source does not say."""
    open_from: str | None = None
    """First day (ISO) of which new events still count, see `recommender.days`. None: all days are open."""
    largest: Mapping[str, float] = field(default_factory=dict)
    """Field of an event -> the largest value that the tables have. A field without values is left out."""

    @property
    def minor_units(self) -> int:
        """Whole minor units in one unit of the currency: 100 cents, 1 yen, 1000 fils."""
        return int(10 ** decimals(self.currency))

    def is_late(self, time_us: int) -> bool:
        """Whether the next run holds back an event of this time (microseconds since 1970, UTC)."""
        return self.open_from is not None and time_us < _begin_us(self.open_from)


@lru_cache(maxsize=16)  # Of more days than catalogues in memory.
def _begin_us(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * SECOND_US
