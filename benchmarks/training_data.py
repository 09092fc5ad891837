"""Training data of every row of the training benchmark: the same users of MovieLens-1M and the same targets.

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
"""One user of so many, by number of events: the lengths are those of the whole set, and a row takes minutes."""


@dataclass(frozen=True)
class Request:
    """One timing of one row. As JSON it is the argument of the process that does it."""

    row: str
    events: str
    """A CSV of `user`, `item` (1 … V) and `pos`. All of it is trained on."""
    shape: Shape
    batch_size: int
    precision: str = "fp32"
    option: str = ""
    """A variant of the row itself, such as "buckets"."""
    targets: int = 60_000
    """The clock stops after the step that reaches so many targets, or when the epoch ends. Rows give their own."""
    warm_up: int = 2
    """Steps before the clock starts: memory is allocated in the first one. Chosen by hand."""
    seed: int = 0

    def json(self) -> dict[str, Any]:
        """The request as JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, fields: dict[str, Any]) -> "Request":
        """The request that `json` came from."""
        return cls(**{**fields, "shape": Shape(**fields["shape"])})


def measured_users(folder: Path, *, every: int = EVERY) -> Sequences:
    """Training events of one user in `every`, without the test and the validation item.

    Raises:
        SourceError: `folder` has no MovieLens-1M.
    """
    train = LeaveOneOut.of(read_interactions(folder / SETS["ml-1m"])).train
    by_length = np.argsort(train.lengths_U, kind="stable")
    return train.take(np.sort(by_length[every // 2 :: every]))


def num_targets(sequences: Sequences, *, length: int) -> int:
    """Targets of one epoch: each user's last `length` events, except that the first event of a user is never one."""
    return int(np.minimum(np.maximum(sequences.lengths_U - 1, 0), length).sum())


def write_events(sequences: Sequences, path: Path, *, length: int) -> None:
    """Write each user's last `length` + 1 events, `length` targets and their histories, as the CSV of a `Request`."""
    items_UL, num_U = sequences.last_LU(length + 1)
    users, places = np.nonzero(items_UL)
    frame = pd.DataFrame({"user": users, "item": items_UL[users, places].astype(np.int64), "pos": places})
    frame[num_U[users] > 1].to_csv(path, index=False)


def read_events(path: str) -> list[NDArray[np.int64]]:
    """Each user's items, oldest first, from the CSV of a `Request`."""
    frame = pd.read_csv(path).sort_values(["user", "pos"], kind="stable")
    items_T = frame["item"].to_numpy(dtype=np.int64)
    return np.split(items_T, np.flatnonzero(np.diff(frame["user"].to_numpy())) + 1)


def as_sequences(events: list[NDArray[np.int64]], num_items: int) -> Sequences:
    """The same events as `Sequences` over `num_items` items."""
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in events])]).astype(np.int64)
    ids = tuple(str(row) for row in range(1, num_items + 1))
    return Sequences(Items(ids), offsets, np.concatenate(events).astype(np.int32))


def timed(steps: Iterator[int], *, warm_up: int, targets: int) -> dict[str, Any]:
    """Time steps that yield how many targets they trained: targets, CPU-seconds and steps after the warm-up.

    CPU-seconds are those of this process, all threads included.
    """
    for _ in range(warm_up):
        next(steps)
    done, count, began = 0, 0, process_time()
    for trained in steps:
        done, count = done + trained, count + 1
        if done >= targets:
            break
    return {"targets": done, "cpu_seconds": process_time() - began, "steps": count}
