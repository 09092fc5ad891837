"""Parameters of a synthetic world: a seeded shop of any size with known propensities and probabilities.

There are two kinds of preference, so that tests know which ranker must win:

- `affinity`: a user's log-odds of participating are linear in what plain features see: the logarithm of past lines a
  month in the campaign's category, and the past participation rate. A shift gives each campaign type its own mean. A
  logistic ranker is near the truth.
- `sequence`: a user walks through the categories, basket by basket. After category c comes `successor[c]`, a fixed
  hidden permutation, or any category with probability `walk_noise`. A user participates with `high_probability` if the
  campaign's category is the successor of their last basket's category before the decision, else with `low_probability`.
  All users visit all categories equally often, so counts carry little information and a model of the next basket wins.

`truth/pairs.parquet` beside the tables holds `propensity`, `participation` (probability if targeted) and `targeted` for
every user and campaign. Targets are drawn independently with these propensities, which are in `targets.propensity` too.
"""

import math
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal, Self, get_args, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from recommender.errors import SettingsError, suggestion

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
"""Parameters that must be at least 1."""
SHARES = ("mean_propensity", "participation_rate", "high_probability", "low_probability", "walk_noise")
"""Parameters that must lie between 0 and 1."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Parameters of a synthetic shop. The same parameters give the same bytes.

    The defaults are chosen by hand: a shop that trains in seconds and has enough participations to tell rankers apart.

    Raises:
        SettingsError: a parameter has another type or is out of range; names it and its value.
    """

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
    """Share of users that a campaign targets. Each user's propensity is between 0.05 and 0.95."""
    participation_rate: float = 0.12
    """`affinity`: mean probability over all users, before the campaign type's factor. Complete Journey's is 0.12."""
    strength: float = 1.5
    """`affinity`: weight of the standardised affinity in the log-odds."""
    # Of `sequence` worlds, see above. Chosen by hand.
    high_probability: float = 0.7
    low_probability: float = 0.03
    walk_noise: float = 0.35
    views: bool = True
    """Whether views, clicks, carts, reviews, searches and shares are generated beside purchases."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            problem = _type_problem(field.type, value) or _range_problem(field.name, value)
            if problem is not None:
                raise SettingsError(f"source.synthetic.{field.name}: must be {problem} (got {value!r})")
        if self.num_items < self.num_categories:
            raise SettingsError(
                f"source.synthetic.num_items: must be at least num_categories, {self.num_categories} "
                f"(got {self.num_items}), since every category needs an item"
            )
        if not self.first_campaign_day < self.days:
            raise SettingsError(
                f"source.synthetic.first_campaign_day: must be below days, {self.days} "
                f"(got {self.first_campaign_day}), since no campaign would start otherwise"
            )

    @classmethod
    def small(
        cls, *, preference: Literal["affinity", "sequence"] = "affinity", seed: int = 0, **parameters: Any
    ) -> Self:
        """Return a small shop for tests: 1,000 users, 24 campaigns, about 12,000 pairs, over 1,000 of them positive.

        The sizes are chosen by hand, so that rankers train in seconds.
        """
        size: dict[str, Any] = {"num_users": 1_000, "num_items": 240, "num_campaigns": 24, "num_categories": 8}
        return cls(**{"preference": preference, "seed": seed, **size, **parameters})

    def day_us(self, day: int) -> int:
        """Return the local midnight that begins a day of this world, in microseconds since 1970, UTC."""
        local = datetime.combine(self.first_day + timedelta(days=day), time(), tzinfo=ZoneInfo(self.time_zone))
        return round((local.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


def from_settings(parameters: dict[str, Any]) -> World:
    """Create a world from `[source.synthetic]` of the settings.

    Raises:
        SettingsError: a parameter is unknown, has another type or is out of range; names it.
    """
    names = [field.name for field in fields(World)]
    for name in parameters:
        if name not in names:
            raise SettingsError(f"source.synthetic.{name}: no such parameter; {suggestion(name, names)}")
    day = parameters.get("first_day")
    try:
        first_day = {"first_day": date.fromisoformat(day)} if isinstance(day, str) else {}
    except ValueError:
        raise SettingsError(f"source.synthetic.first_day: must be a day such as 2024-01-01 (got {day!r})") from None
    return World(**{**parameters, **first_day})


def _type_problem(wanted: object, value: object) -> str | None:
    """Say what a parameter of the annotation `wanted` must be. None if `value` is that."""
    if wanted in (int, float):
        allowed = int if wanted is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, allowed):
            return "a whole number" if wanted is int else "a number"
        return None if math.isfinite(value) else "finite"
    if get_origin(wanted) is Literal:
        choices = get_args(wanted)
        return None if value in choices else f"one of {', '.join(map(repr, choices))}"
    if isinstance(wanted, type) and not isinstance(value, wanted):
        return "a day such as 2024-01-01" if wanted is date else f"of type {wanted.__name__}"
    return None


def _range_problem(name: str, value: Any) -> str | None:
    """Say what range the parameter `name` must lie in. None if `value` does."""
    if name in COUNTS:
        return None if value >= 1 else "at least 1"
    if name in SHARES:
        return None if 0 <= value <= 1 else "between 0 and 1"
    if name in ("days_between_baskets", "lines_a_basket"):
        return None if value > 0 else "above 0"
    if name == "seed":
        return None if value >= 0 else "at least 0"
    if name == "time_zone":
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            return "an IANA time zone such as Europe/Berlin"
    return None
