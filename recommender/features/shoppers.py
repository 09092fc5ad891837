"""Turns rows of the feature store into shoppers, the form in which the core takes users.

Shapes: U users · P portrait features.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recommender.datasets.periods import NEVER
from recommender.matching.examples import Shopper

_KEYS = ("user_id", "event_timestamp", "affinity", "history")


def shoppers_of(users: pa.Table) -> list[Shopper]:
    """Turn the rows of `users` into shoppers, each user and time once."""
    table = distinct_users(users)
    names = tuple(name for name in table.column_names if name not in _KEYS and "__" in name)
    portrait_UP = np.stack([table[name].to_numpy(zero_copy_only=False).astype(np.float32) for name in names], axis=1)
    return [
        Shopper(user_id, portrait_P, names, affinity, history, moment_us)
        for user_id, portrait_P, affinity, history, moment_us in zip(
            table["user_id"].to_pylist(),
            portrait_UP,
            table["affinity"].to_pylist(),
            table["history"].to_pylist(),
            microsecond_column(table, "event_timestamp").tolist(),
            strict=True,
        )
    ]


def distinct_users(users: pa.Table) -> pa.Table:
    """Keep the first row of each user and time."""
    keys = zip(users["user_id"].to_pylist(), microsecond_column(users, "event_timestamp").tolist(), strict=True)
    first: dict[tuple[str, int], int] = {}
    for row, key in enumerate(keys):
        first.setdefault(key, row)
    return users if len(first) == users.num_rows else users.take(list(first.values()))


def microsecond_column(table: pa.Table, name: str) -> NDArray[np.int64]:
    """Return a column of times in microseconds since 1970, UTC, NEVER where it is missing."""
    whole = pc.cast(table[name], pa.timestamp("us", tz="UTC")).cast(pa.int64())
    return np.asarray(pc.fill_null(whole, NEVER).to_numpy(), dtype=np.int64)
