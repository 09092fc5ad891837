"""Rows of past decisions that a build takes over from the last one."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recommender.features.bought import microseconds_of
from recommender.features.shared import Shared
from recommender.features.source import Source
from recommender.matching.numbering import NAME_BYTES

NAMED_FROM = 4
"""Byte of a packed value at which the name of its ids begins: behind the magic number."""


def kept_rows(file: pq.ParquetFile, source: Source, shared: Shared, invalid: pa.Table, scratch: Path) -> pa.Table:
    """Rows of the last build at decisions before `as_of` that are still there and know nothing that changed.

    Args:
        file: the last build's `users.parquet`.
        source: all users.
        shared: what they have in common.
        invalid: user_id and at_us of what changed.
        scratch: folder for the rows, if they are many.
    """
    keys = file.read(["user_id", "event_timestamp"])
    keys = keys.append_column("place", pa.array(np.arange(keys.num_rows)))
    connection = source.backend.con
    connection.register("last_keys", keys.set_column(1, "at_us", pa.array(microseconds_of(keys["event_timestamp"]))))
    connection.register("invalid", invalid)
    connection.register("decided", _decided(source))
    places = (
        connection.sql(
            "SELECT place FROM last_keys SEMI JOIN decided USING (user_id, at_us) "
            "LEFT JOIN (SELECT user_id, min(at_us) AS from_us FROM invalid GROUP BY user_id) USING (user_id) "
            "WHERE from_us IS NULL OR at_us <= from_us ORDER BY place"
        )
        .to_arrow_table()["place"]
        .to_numpy()
    )
    kept = np.zeros(keys.num_rows, dtype=bool)
    kept[places] = True
    if file.num_row_groups == 1:
        return _renamed(file.read().filter(pa.array(kept)), shared.taxonomy_version)
    path = scratch / "taken.arrow"
    with pa.ipc.new_file(path, file.schema_arrow) as writer:
        first = 0
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group)
            of_group = kept[first : first + rows.num_rows]
            writer.write_table(_renamed(rows.filter(pa.array(of_group)), shared.taxonomy_version))
            first += len(of_group)
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _decided(source: Source) -> pa.Table:
    """user_id and at_us of the decisions before `as_of`."""
    targets = source.targets
    targets = targets.filter(targets.targeted_at < source.as_of)
    listed = targets.select("user_id", "targeted_at").distinct().to_pyarrow()
    return pa.table({"user_id": listed["user_id"], "at_us": pa.array(microseconds_of(listed["targeted_at"]))})


def _renamed(rows: pa.Table, taxonomy_version: str) -> pa.Table:
    """Rows whose packed values name the newest state of the ids. The numbers in them are the same in each."""
    name = bytes.fromhex(taxonomy_version)
    if not rows.num_rows or rows["affinity"][0].as_py()[NAMED_FROM : NAMED_FROM + NAME_BYTES] == name:
        return rows
    for column in ("affinity", "history"):
        values = [value[:NAMED_FROM] + name + value[NAMED_FROM + NAME_BYTES :] for value in rows[column].to_pylist()]
        rows = rows.set_column(rows.column_names.index(column), column, pa.array(values, pa.binary()))
    return rows
