"""Compares feature sets that two engines built: every table, to the last row."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recommender.datasets.tables import TIME
from recommender.storage.manifest import read_manifest

FILES = ("users.parquet", "campaigns.parquet", "items.parquet", "pairs.parquet", "facts.parquet")


def assert_equal_sets(ours: Path, theirs: Path) -> None:
    """Same files, tables, ids and catalogue. Each file of `ours` is what its manifest says."""
    found, expected = read_manifest(ours, verify=True), read_manifest(theirs)
    assert found["files"].keys() == expected["files"].keys()
    for name in FILES:
        assert_equal_tables(pq.read_table(ours / name), pq.read_table(theirs / name), name)
    for name in ("schema.json", "ids.json"):
        assert json.loads((ours / name).read_text()) == json.loads((theirs / name).read_text()), name
    assert found["catalogue"] == expected["catalogue"]


def assert_equal_tables(ours: pa.Table, theirs: pa.Table, name: str) -> None:
    """Same schema and rows in the same order. Moments equal in microseconds; floats up to 1e-9, NaN like NaN."""
    assert ours.schema.equals(theirs.schema, check_metadata=True), name
    assert ours.num_rows == theirs.num_rows > 0, name
    for column in ours.column_names:
        one, other = ours[column].combine_chunks(), theirs[column].combine_chunks()
        if pa.types.is_floating(one.type):
            assert one.is_valid().equals(other.is_valid()), f"{name}: {column}"
            np.testing.assert_allclose(
                one.to_numpy(zero_copy_only=False),
                other.to_numpy(zero_copy_only=False),
                rtol=1e-9,
                atol=1e-9,
                err_msg=f"{name}: {column}",
            )
        else:
            assert one.equals(other), f"{name}: {column}"
            if pa.types.is_timestamp(one.type):
                assert one.type == TIME, f"{name}: {column}"
