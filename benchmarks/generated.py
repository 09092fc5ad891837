"""Generated sets that show what the others here do not. `fashions`: a shop whose items are launched, sell for a day and are forgotten, so
that what everybody takes at the moment says more than what sold best. `reseller`: half of all steps go from an item to its successor, but
nearly all events are one account's, and of the others the order of their few is lost: what stands near says more than what comes next.
Always the same events."""

from pathlib import Path

import numpy as np
import pandas as pd

USERS, ITEMS, KINDS, DAYS = 2000, 1500, 20, 60
LIFE, GAP = 1.0, 0.15
"""Days after which an item sells a third of what it sold; mean days from one event of a user to the next."""
DAY_US, FIRST_US = 86_400_000_000, 1_700_000_000_000_000
PRODUCTS, SHOPPERS, BOUGHT = 800, 500, 20_000


def fashions(folder: Path) -> tuple[Path, None]:
    """Write the interactions (user, item, timestamp) of 2,000 users into `folder`, each of 3 to 7 events."""
    rng = np.random.default_rng(17)
    launch_V, kind_V, quality_V = (
        np.sort(rng.uniform(0, DAYS, ITEMS)),
        rng.integers(0, KINDS, ITEMS),
        rng.lognormal(size=ITEMS),
    )
    rows = []
    for user in range(USERS):
        day, tastes = rng.uniform(3, DAYS), rng.permutation(KINDS)[:3]
        liked_V, had = np.where(np.isin(kind_V, tastes), 1.0, 0.2) * quality_V, np.zeros(ITEMS, dtype=np.bool_)
        for _ in range(rng.integers(3, 8)):
            wanted_V = np.where((launch_V <= day) & ~had, liked_V * np.exp((launch_V - day) / LIFE), 0.0)
            item = int(rng.choice(ITEMS, p=wanted_V / wanted_V.sum()))
            had[item] = True
            rows.append((user, item, FIRST_US + int(day * DAY_US)))
            day += rng.exponential(GAP)
    events = folder / "fashions.parquet"
    pd.DataFrame(rows, columns=["user", "item", "timestamp"]).to_parquet(events, index=False)
    return events, None


def reseller(folder: Path) -> tuple[Path, None]:
    """Write the interactions (user, item, pos) into `folder`: 20,000 events of the reseller, 3 to 8 of each of 500 users."""
    rng = np.random.default_rng(17)
    successor_V, rows = rng.permutation(PRODUCTS), []
    for user, length in enumerate([BOUGHT, *rng.integers(3, 9, SHOPPERS)]):
        walk = [int(rng.integers(PRODUCTS))]
        while len(walk) < length:
            walk.append(int(successor_V[walk[-1]] if rng.random() < 0.5 else rng.integers(PRODUCTS)))
        if user:
            rng.shuffle(walk)
        rows += [(user, item, pos) for pos, item in enumerate(walk)]
    events = folder / "reseller.parquet"
    pd.DataFrame(rows, columns=["user", "item", "pos"]).to_parquet(events, index=False)
    return events, None
