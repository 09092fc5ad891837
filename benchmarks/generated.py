"""Two generated, reproducible sets of events with patterns that MovieLens and Beauty lack.

- `fashions`: a shop whose items are launched, sell for a day and are forgotten. What everybody takes at the moment
  predicts more than what sold best over time.
- `reseller`: half of all steps go from an item to its successor, but nearly all events are those of one account, and
  the
  other users' few events are shuffled. What stands near in a history predicts more than what comes next.

All sizes are chosen by hand: small enough to fit the flagship in minutes, large enough that intervals over users show
the effect.

Shapes: V items.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from recommender.datasets.time_units import DAY_US
from recommender.engine.context import DEFAULT_SEED

USERS, ITEMS, KINDS, DAYS = 2000, 1500, 20, 60
"""Of `fashions`: users, items, kinds of items, and days over which items are launched. Chosen by hand."""
LIFE_DAYS = 1.0
"""Days after which an item of `fashions` sells a factor e less than at its launch: "sells for a day", see above."""
GAP_DAYS = 0.15
"""Mean days between two events of a user of `fashions`: a history is short beside an item's life. By hand."""
TASTES, INDIFFERENCE = 3, 0.2
"""Kinds that a user of `fashions` likes, and the weight of the kinds that the user does not like. By hand."""
FIRST_US = 1_700_000_000_000_000
"""Microseconds since 1970 of the first day, in November 2023: a clock's time."""

PRODUCTS, SHOPPERS, BOUGHT = 800, 500, 20_000
"""Of `reseller`: products, ordinary users, and events of the reseller, which outnumber all others by seven to one. By
hand."""
FOLLOWS = 0.5
"""Share of steps of `reseller` from an item to its successor: half, see above."""


def fashions(folder: Path) -> tuple[Path, None]:
    """Write the events (user, item, timestamp) of 2,000 users into `folder`, 3 to 7 each. There are no attributes."""
    rng = np.random.default_rng(DEFAULT_SEED)
    launch_V, kind_V, quality_V = (
        np.sort(rng.uniform(0, DAYS, ITEMS)),
        rng.integers(0, KINDS, ITEMS),
        rng.lognormal(size=ITEMS),
    )
    rows = []
    for user in range(USERS):
        day, tastes = rng.uniform(3, DAYS), rng.permutation(KINDS)[:TASTES]  # from day 3 there are items to choose from
        liked_V = np.where(np.isin(kind_V, tastes), 1.0, INDIFFERENCE) * quality_V
        had_V = np.zeros(ITEMS, dtype=np.bool_)
        # 3 to 7 events: two to learn from at least, after one is held out; short, as in a shop of fashions.
        for _ in range(rng.integers(3, 8)):
            there_V = (launch_V <= day) & ~had_V
            wanted_V = np.where(there_V, liked_V * np.exp((launch_V - day) / LIFE_DAYS), 0.0)
            item = int(rng.choice(ITEMS, p=wanted_V / wanted_V.sum()))
            had_V[item] = True
            rows.append((user, item, FIRST_US + int(day * DAY_US)))
            day += rng.exponential(GAP_DAYS)
    events = folder / "fashions.parquet"
    pd.DataFrame(rows, columns=["user", "item", "timestamp"]).to_parquet(events, index=False)
    return events, None


def reseller(folder: Path) -> tuple[Path, None]:
    """Write the events (user, item, pos) into `folder`: 20,000 of the reseller, 3 to 8 of each of 500 users."""
    rng = np.random.default_rng(DEFAULT_SEED)
    successor_V, rows = rng.permutation(PRODUCTS), []
    for user, length in enumerate([BOUGHT, *rng.integers(3, 9, SHOPPERS)]):
        walk = [int(rng.integers(PRODUCTS))]
        while len(walk) < length:
            walk.append(int(successor_V[walk[-1]] if rng.random() < FOLLOWS else rng.integers(PRODUCTS)))
        if user:
            rng.shuffle(walk)
        rows += [(user, item, pos) for pos, item in enumerate(walk)]
    events = folder / "reseller.parquet"
    pd.DataFrame(rows, columns=["user", "item", "pos"]).to_parquet(events, index=False)
    return events, None
