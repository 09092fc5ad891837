"""Generated sets that show what the others here do not. `fashions`: a shop whose items are launched, sell for a day and are forgotten, so
that what everybody takes at the moment says more than what sold best. `walks`: users walk along a ring of items, and the order of their
steps is lost, so that what stands near says more than what comes next. Always the same events."""

from pathlib import Path

import numpy as np
import pandas as pd

USERS, ITEMS, KINDS, DAYS = 2000, 1500, 20, 60
LIFE, GAP = 1.0, 0.15
"""Days after which an item sells a third of what it sold; mean days from one event of a user to the next."""
DAY_US, FIRST_US = 86_400_000_000, 1_700_000_000_000_000
WALKERS, RING = 1500, 600


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


def walks(folder: Path) -> tuple[Path, None]:
    """Write the interactions (user, item, pos) of 1,500 users into `folder`, each of 4 to 9 events."""
    rng = np.random.default_rng(17)
    rows = []
    for user in range(WALKERS):
        steps = rng.integers(RING) + np.arange(rng.integers(4, 10))
        rows += [(user, int(item), pos) for pos, item in enumerate(rng.permutation(steps % RING))]
    events = folder / "walks.parquet"
    pd.DataFrame(rows, columns=["user", "item", "pos"]).to_parquet(events, index=False)
    return events, None
