"""What one look counts at a moment: the same rules for a build of the features and for events that just came.

A look is an event by which a shopper shows interest in an item, or in a value of the taxonomy, without buying. It
counts the weight of its kind, times its strength, halved after each half-life of its kind. The strength is 1 but for:

    view, click   log2(1 + seconds / `dwell_s`), where the seconds are known, and at most `MOST_DWELT`
    review        how far its rating lies above the shop's mean, in standard deviations: below zero for a bad one
    search        the share of it that falls to the value
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

KINDS = ("view", "click", "cart", "like", "favourite", "search", "review")
"""Append only: packed looks refer to these by place."""
ITEM_KINDS = KINDS[:5]
"""Kinds that are about an item and count whatever else is known of them."""
WEIGHTS = {"view": 1.0, "click": 1.0, "cart": 3.0, "like": 2.0, "favourite": 3.0, "search": 2.0, "review": 2.0}
"""Kind of event -> what one counts, where too little was bought to learn it. Chosen by hand: the nearer to a purchase,
the more."""
# fmt: off
HALF_LIFE_DAYS = {
    "view": 14.0, "click": 14.0, "cart": 30.0, "like": 90.0, "favourite": 90.0, "search": 14.0, "review": 90.0,
}
# fmt: on
"""Kind of event -> days after which one counts half, by hand: a glance is forgotten sooner than a choice."""
DWELT = ("view", "click")
"""Kinds whose seconds count."""
DWELL_S, MOST_DWELT = 30.0, 3.0
"""Seconds of a view that counts 1, and the most that one counts, however long a page stayed open. By hand."""
MOST_RATED = 2.0
"""Standard deviations beyond which a rating counts no more. By hand: most ratings are 5 of 5, so that one of 1 would
weigh against all else."""
FARTHEST_HALVES = 8.0
"""Looks older than so many half-lives count nothing: under 1/256 of a fresh one."""
LEFT_OUT_DAYS = 1.0
"""Looks so shortly before a purchase teach nothing about it. Those of the same visit would say that only the last hour
counts, but a campaign runs for days."""
LOOK_UNIT = 4096
"""Weights are whole multiples of 1/4096, as those of campaigns' values are."""
STRENGTH_UNIT = 4096
"""Strengths are whole multiples of 1/4096, so that sums of them do not depend on their order."""


@dataclass(frozen=True)
class LookRules:
    """What looks of each kind count."""

    weight: Mapping[str, float]
    half_life_days: Mapping[str, float]
    dwell_s: float = DWELL_S
    rating_mean: float | None = None
    """Of the shop's reviews before `before`. None: a review is no look."""
    rating_spread: float = 1.0
    """Their standard deviation, above 0."""
    encoder: bool = False
    """Whether the text encoder matches searches whose words are not all in names."""
    before: str | None = None
    """What is not set was learnt from what happened before this moment (ISO 8601). None: nothing was learnt."""

    @classmethod
    def by_hand(cls) -> "LookRules":
        """The values for a shop of which nothing is known."""
        return cls(WEIGHTS, HALF_LIFE_DAYS)

    def dwelt(self, seconds: float) -> int:
        """Strength of a view of so many seconds, in `STRENGTH_UNIT`."""
        return in_units(min(float(np.log(1.0 + seconds / self.dwell_s)) / float(np.log(2.0)), MOST_DWELT))

    def rated(self, rating: float) -> int:
        """Strength of a review, in `STRENGTH_UNIT`. 0 where ratings do not count."""
        if self.rating_mean is None:
            return 0
        return in_units(min(max((rating - self.rating_mean) / self.rating_spread, -MOST_RATED), MOST_RATED))


def in_units(strength: float) -> int:
    """A strength in whole units. Halves are rounded away from zero, as DuckDB rounds them."""
    return int(np.copysign(np.floor(abs(strength) * STRENGTH_UNIT + 0.5), strength))
