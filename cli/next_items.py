"""`next-items`: what each user of a file is likely to want next, by a next-item ranker that `benchmark sequences --save` wrote."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from recommender.bundle import load_items
from recommender.datasets.interactions import read_histories
from recommender.errors import SettingsError
from recommender.evaluation.leave_one_out import best_unseen
from recommender.manifest import require_writable, write_bytes


def write_next_items(bundle: Path, interactions: Path, output: Path, *, top: int, skip_unknown: bool = False) -> None:
    """Write the `top` items that each user has not had, best first: user, rank, item, score (Parquet or CSV, by the file's ending).

    Raises:
        SettingsError: the file's ending is of neither, or it cannot be written.
    """
    if output.suffix.lower() not in (".parquet", ".pq", ".csv"):
        raise SettingsError(f"--output {output}: neither Parquet nor CSV; end the name in .parquet or .csv")
    require_writable(output)
    ranker, items = load_items(bundle)
    users, histories = read_histories(interactions, items, skip_unknown=skip_unknown)
    rows_UN, scores_UN = best_unseen(ranker, histories, top)
    held_UN = rows_UN > 0
    places_R, ranks_R = held_UN.nonzero()
    table = pa.table(
        {
            "user": users[places_R],
            "rank": (ranks_R + 1).astype("int32"),
            "item": [items.ids[row - 1] for row in rows_UN[held_UN].tolist()],
            "score": scores_UN[held_UN],
        }
    )
    sink = pa.BufferOutputStream()
    write = pyarrow.csv.write_csv if output.suffix.lower() == ".csv" else pyarrow.parquet.write_table
    write(table, sink)
    write_bytes(output, sink.getvalue().to_pybytes())
    print(f"{output}: {table.num_rows:,} rows, {len(users):,} users, by {ranker.name}")
