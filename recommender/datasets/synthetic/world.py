"""Seeded worlds of any scale whose truth is known: who is chosen with which propensity, who participates with which probability.

Two kinds of preference, so that tests know which ranker must win:

- `affinity`: a user's log-odds are linear in what plain features see: the logarithm of past lines a month in the campaign's category
  and the past participation rate, shifted so that each campaign type has its own mean. A logistic baseline is near the truth.
- `sequence`: a user walks through the categories, basket by basket: after category c comes `successor[c]`, a fixed hidden permutation,
  or, with probability `walk_noise`, any category. A user participates with `high_probability` when the campaign's category is the
  successor of their last basket's category before the decision, else with `low_probability`. All users visit all
  categories alike, so counts say little and a model of the next basket wins.

Beside the tables lies `truth/pairs.parquet`: for every user and campaign `propensity`, `participation` (probability if targeted)
and `targeted`. Targets are drawn by these propensities, independently: they are in `targets.propensity` too.

Shapes: U users · I items · C campaigns · K categories · T baskets a user at most · E purchase lines.
"""

import math
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from recommender.errors import SettingsError

DAY_US = 86_400_000_000
COUNTS = (
    "num_users",
    "num_items",
    "num_campaigns",
    "num_categories",
    "days",
    "items_a_campaign",
    "window_days",
    "first_campaign_day",
)
SHARES = ("mean_propensity", "participation_rate", "high_probability", "low_probability", "walk_noise")


@dataclass(frozen=True, kw_only=True)
class World:
    """The dials of a synthetic shop. The same dials give the same bytes."""

    seed: int = 0
    preference: Literal["affinity", "sequence"] = "affinity"
    num_users: int = 2_000
    num_items: int = 600
    num_campaigns: int = 30
    num_categories: int = 10
    days: int = 360
    first_day: date = date(2024, 1, 1)
    time_zone: str = "America/Chicago"
    days_between_baskets: float = 8.0
    lines_a_basket: float = 2.5
    items_a_campaign: int = 12
    window_days: int = 14
    first_campaign_day: int = 60
    mean_propensity: float = 0.5
    """Share of users that a campaign targets; each user's propensity lies in (0.05, 0.95)."""
    participation_rate: float = 0.12
    """`affinity`: mean probability over all users, before the campaign type's factor."""
    strength: float = 1.5
    """`affinity`: weight of the standardised affinity in the log-odds."""
    high_probability: float = 0.7
    low_probability: float = 0.03
    walk_noise: float = 0.35
    views: bool = True
    """Whether views, clicks, carts, reviews, searches and shares are emitted beside purchases."""

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_dial(field.name, getattr(self, field.name), field.type)
        if self.preference not in ("affinity", "sequence"):
            raise SettingsError(
                f"source.synthetic.preference: {self.preference!r} is neither 'affinity' nor 'sequence'"
            )
        if self.num_items < self.num_categories:
            raise SettingsError("source.synthetic.num_items: every category needs an item")
        if not self.first_campaign_day < self.days:
            raise SettingsError("source.synthetic.first_campaign_day: no campaign would start before `days`")

    @classmethod
    def small(cls, *, preference: Literal["affinity", "sequence"] = "affinity", seed: int = 0, **dials: Any) -> Self:
        """A shop for tests: 1,000 users, a year, 24 campaigns, some 12,000 pairs of which over 1,000 are positive."""
        size: dict[str, Any] = {"num_users": 1_000, "num_items": 240, "num_campaigns": 24, "num_categories": 8}
        return cls(**{"preference": preference, "seed": seed, **size, **dials})

    def day_us(self, day: int) -> int:
        """Local midnight that begins a day of this world: microseconds since 1970, UTC."""
        local = datetime.combine(self.first_day + timedelta(days=day), time(), tzinfo=ZoneInfo(self.time_zone))
        return round((local.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


def _check_dial(name: str, value: object, wanted: object) -> None:
    """Refuse a dial of another type or out of its range."""
    place = f"source.synthetic.{name}: {value!r}"
    if wanted in (int, float):
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or (wanted is int and isinstance(value, float))
        ):
            raise SettingsError(f"{place} is no {'whole number' if wanted is int else 'number'}")
        if not math.isfinite(value):
            raise SettingsError(f"{place} is not finite")
        if name in COUNTS and value < 1:
            raise SettingsError(f"{place} is below 1")
        if name in SHARES and not 0 <= value <= 1:
            raise SettingsError(f"{place} is not between 0 and 1")
        if name in ("days_between_baskets", "lines_a_basket") and value <= 0:
            raise SettingsError(f"{place} is not above 0")
        if name == "seed" and value < 0:
            raise SettingsError(f"{place} is below 0")
    elif isinstance(wanted, type) and not isinstance(value, wanted):
        raise SettingsError(f"{place} is no {'day such as 2024-01-01' if wanted is date else wanted.__name__}")
    elif name == "time_zone":
        try:
            ZoneInfo(str(value))
        except (ZoneInfoNotFoundError, ValueError):
            raise SettingsError(f"{place} is no IANA time zone, such as Europe/Berlin") from None


def from_settings(dials: dict[str, Any]) -> World:
    """A world from `[source.synthetic]`.

    Raises:
        SettingsError: an unknown dial, or one out of its range; names it.
    """
    known = [field.name for field in fields(World)]
    for name in dials:
        if name not in known:
            raise SettingsError(f"source.synthetic.{name}: no such dial; there are {', '.join(known)}")
    day = dials.get("first_day")
    try:
        first = {"first_day": date.fromisoformat(day)} if isinstance(day, str) else {}
    except ValueError:
        raise SettingsError(f"source.synthetic.first_day: {day!r} is no day such as 2024-01-01") from None
    return World(**{**dials, **first})
