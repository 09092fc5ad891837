"""Answers of a fitted next-item ranker for many users: their best items, and vectors for retrieval elsewhere.

Shapes: U users · V items, rows 1 … V (row 0 is no item) · N best items · D width of a vector.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from recommender.allocation.next_item_scores import best_items
from recommender.datasets.event_columns import EventColumns
from recommender.datasets.interactions import EVERYTHING, event_files, read_histories
from recommender.errors import ContractError, SettingsError
from recommender.models.next_item.ranker import ItemRanker
from recommender.registry.bundle import load_items
from recommender.sequences import Items, Sequences
from recommender.storage.manifest import require_apart, require_writable, write_bytes

PARQUET, CSV = (".parquet", ".pq"), (".csv",)


@dataclass(frozen=True, kw_only=True)
class AnswerRequest:
    """A request for answers: the users, the bundle, and the output.

    Attributes:
        bundle: The folder of a next-item ranker, as `next-items fit --save` writes it.
        interactions: The users' events so far: a file with user, item, and pos or a timestamp, or a mapping TOML.
        output: The Parquet or CSV file for user, rank, item, score.
        top: How many items a user gets: by default ten, the length at which rankers are judged (NDCG@10).
        seen: Whether items that the user had before may be among them.
        skip_unknown: Whether events with items that the ranker was not fitted on are left out instead of refused.
        vectors: A folder for items.parquet and users.parquet with a float32 `vector` each. Their inner product ranks
            as the ranker does, except for what an item's bias adds.
        columns: Which columns and kinds of events are read.
    """

    bundle: Path
    interactions: Path
    output: Path
    top: int = 10
    seen: bool = False
    skip_unknown: bool = False
    vectors: Path | None = None
    columns: EventColumns = EVERYTHING

    def check(self) -> None:
        """Check that everything can be written.

        Raises:
            SettingsError: The output's suffix is neither Parquet nor CSV, or a path is not writable.
        """
        if self.output.suffix.lower() not in PARQUET + CSV:
            raise SettingsError(f"{self.output}: neither Parquet nor CSV; end the name in .parquet or .csv")
        require_writable(self.output)
        vector_files = () if self.vectors is None else (self.vectors / "items.parquet", self.vectors / "users.parquet")
        require_apart((*event_files(self.interactions), self.bundle), (self.output, *vector_files))
        if self.vectors is not None and self.vectors.exists() and not self.vectors.is_dir():
            raise SettingsError(f"{self.vectors}: vectors need a folder, but this is a file; name a folder")


@dataclass(frozen=True)
class AnswerReport:
    """Counts of the answers.

    Attributes:
        ranker: The ranker's name.
        users: Users of the file.
        rows: Rows of the output.
        events_left_out: Events with items that the ranker was not fitted on.
        users_without_events: Users who have no other events; they get the popular items.
        users_without_answer: Users who have had every item.
        vector_width: Numbers of a vector; 0 where no vectors were written.
        items: Items of the ranker.
    """

    ranker: str
    users: int
    rows: int
    events_left_out: int
    users_without_events: int
    users_without_answer: int
    vector_width: int
    items: int


def answer(request: AnswerRequest) -> AnswerReport:
    """Write each user's best items, best first: user, rank, item, score.

    Raises:
        SettingsError: A path is not writable, or vectors are wanted of a ranker that has none.
        SourceError, ContractError: The file of events cannot be used; names column and row. A ranker that reads the
            time between events refuses counters and years.
        CorruptFileError, BundleError: The bundle is damaged or does not fit this code.
    """
    request.check()
    ranker, items = load_items(request.bundle)
    vectors_VD = ranker.item_vectors()
    if request.vectors is not None and vectors_VD is None:
        raise SettingsError(
            f"{request.vectors}: {ranker.name} has no vectors; leave them out, or fit a ranker that has some "
            "(docs/models.md lists them)"
        )
    users, histories, left_out = read_histories(
        request.interactions, items, skip_unknown=request.skip_unknown, columns=request.columns
    )
    _require_clock(ranker, histories, request.interactions)
    rows_UN, scores_UN = best_items(ranker, histories, request.top, seen=request.seen)
    table = _as_table(users, items, rows_UN, scores_UN)
    _write(table, request.output)
    width = 0
    if request.vectors is not None and vectors_VD is not None:
        user_vectors_UD = ranker.user_vectors(histories)
        assert user_vectors_UD is not None
        width = vectors_VD.shape[1]
        _write(_vector_table("item", list(items.ids), vectors_VD[1:]), request.vectors / "items.parquet")
        _write(_vector_table("user", users, user_vectors_UD), request.vectors / "users.parquet")
    return AnswerReport(
        ranker=ranker.name,
        users=len(users),
        rows=table.num_rows,
        events_left_out=left_out,
        users_without_events=int((histories.lengths_U == 0).sum()) if left_out else 0,
        users_without_answer=int((~(rows_UN > 0).any(axis=1)).sum()),
        vector_width=width,
        items=len(items.ids),
    )


def _require_clock(ranker: ItemRanker[Any], histories: Sequences, path: Path) -> None:
    """Refuse times that are no real timestamps if the ranker was fitted on real timestamps."""
    reads_times = any(getattr(ranker.hyperparameters, name, False) for name in ("timed", "trend"))
    if reads_times and histories.times_T is not None and not histories.has_clock:
        problem = (
            "none of these times lies between 1990 and 2100, but the ranker was fitted on real timestamps. "
            "Give timestamps, or fit with timed=false and trend=false"
        )
        raise ContractError(path.name, problem)


def _as_table(
    users: NDArray[np.str_], items: Items, rows_UN: NDArray[np.int32], scores_UN: NDArray[np.float32]
) -> pa.Table:
    found_UN = rows_UN > 0
    users_R, ranks_R = found_UN.nonzero()
    return pa.table(
        {
            "user": users[users_R],
            "rank": (ranks_R + 1).astype("int32"),
            "item": [items.ids[row - 1] for row in rows_UN[found_UN].tolist()],
            "score": scores_UN[found_UN],
        }
    )


def _vector_table(name: str, ids: object, vectors_ND: NDArray[np.float32]) -> pa.Table:
    flat = pa.array(np.ascontiguousarray(vectors_ND, dtype=np.float32).ravel())
    return pa.table({name: ids, "vector": pa.FixedSizeListArray.from_arrays(flat, vectors_ND.shape[1])})


def _write(table: pa.Table, path: Path) -> None:
    sink = pa.BufferOutputStream()
    write = pyarrow.csv.write_csv if path.suffix.lower() in CSV else pyarrow.parquet.write_table
    write(table, sink)
    write_bytes(path, sink.getvalue().to_pybytes())
