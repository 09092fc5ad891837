"""What every row of the training benchmark trains on: the same users of MovieLens-1M, the same targets, one small request a row.

Shapes: U users · T events.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.reference import Shape
from recommender.datasets.interactions import read_interactions
from recommender.sequences import Items, LeaveOneOut, Sequences

SETS = {"ml-1m": "ml-1m/sequences.parquet"}
EVERY = 4
"""One user of this many, the users ordered by how many events they have: the lengths are those of the whole set."""


@dataclass(frozen=True)
class Request:
    """One timing of one row, as JSON the argument of the process that does it."""

    row: str
    events: str
    """A CSV of `user`, `item` (1 … V) and `pos`: what is trained on, nothing held out of it."""
    shape: Shape
    batch_size: int
    precision: str = "fp32"
    option: str = ""
    """A way of the row of its own, e.g. length buckets."""
    targets: int = 60_000
    """The clock stops after the first step that reaches so many, or when the epoch ends."""
    warm_up: int = 2
    """Steps before the clock starts."""
    seed: int = 0

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, fields: dict[str, Any]) -> "Request":
        return cls(**{**fields, "shape": Shape(**fields["shape"])})


def measured_users(folder: Path, *, every: int = EVERY) -> Sequences:
    """Training events (test and validation item left out) of one user in `every`.

    Raises:
        SourceError: `folder` lacks the set.
    """
    train = LeaveOneOut.of(read_interactions(folder / SETS["ml-1m"])).train
    by_length = np.argsort(train.lengths_U, kind="stable")
    return train.take(np.sort(by_length[every // 2 :: every]))


def num_targets(sequences: Sequences, *, length: int) -> int:
    """Targets of one epoch: each user's last `length`, the first event of a user being none."""
    return int(np.minimum(np.maximum(sequences.lengths_U - 1, 0), length).sum())


def write_events(sequences: Sequences, path: Path, *, length: int) -> None:
    """Each user's last `length` + 1 events as the CSV of a `Request`: `length` targets and the history of each."""
    items_UL, num_U = sequences.last_LU(length + 1)
    users, places = np.nonzero(items_UL)
    frame = pd.DataFrame({"user": users, "item": items_UL[users, places].astype(np.int64), "pos": places})
    frame[num_U[users] > 1].to_csv(path, index=False)


def read_events(path: str) -> list[NDArray[np.int64]]:
    """Each user's items, oldest first."""
    frame = pd.read_csv(path).sort_values(["user", "pos"], kind="stable")
    items_T = frame["item"].to_numpy(dtype=np.int64)
    return np.split(items_T, np.flatnonzero(np.diff(frame["user"].to_numpy())) + 1)


def as_sequences(events: list[NDArray[np.int64]], num_items: int) -> Sequences:
    """The same events as `Sequences` over `num_items` items."""
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in events])]).astype(np.int64)
    ids = tuple(str(row) for row in range(1, num_items + 1))
    return Sequences(Items(ids), offsets, np.concatenate(events).astype(np.int32))


def timed(steps: Iterator[int], *, warm_up: int, targets: int) -> dict[str, Any]:
    """Run steps that say how many targets they trained; CPU seconds of this process (all threads) after `warm_up` of them."""
    for _ in range(warm_up):
        next(steps)
    done, count, began = 0, 0, process_time()
    for trained in steps:
        done, count = done + trained, count + 1
        if done >= targets:
            break
    return {"targets": done, "cpu_seconds": process_time() - began, "steps": count}
