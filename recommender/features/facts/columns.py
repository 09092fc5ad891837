"""Puts what was found of some users beside a list of all users: numbers, and lists of entries.

Shapes: U users · n entries.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recommender.features.facts.shrinkage import Floats


def aligned(found: pa.Table, name: str, user_ids: pa.Array, *, missing: float = np.nan) -> Floats:
    """A column of `found` for all users, float64 [U], with `missing` for users without a row."""
    return spread(found["user_id"], found[name].cast(pa.float64()).to_numpy(zero_copy_only=False), user_ids, missing)


def spread(of: pa.Array | pa.ChunkedArray, values: Floats, user_ids: pa.Array, missing: float = np.nan) -> Floats:
    """Values of the users `of` for all users, float64 [U]."""
    rows = _rows(of, user_ids)
    out_U = np.full(len(user_ids), missing)
    out_U[rows[rows >= 0]] = values[rows >= 0]
    return out_U


def lists(found: pa.Table, user_ids: pa.Array, dtype: pa.ListType) -> pa.Array:
    """The rows of `found` as a list of structs for each user, in their order. It must have the struct's columns."""
    rows = _rows(found["user_id"], user_ids)
    order = np.argsort(rows, kind="stable")
    order = order[np.count_nonzero(rows < 0) :]
    entries = found.take(pa.array(order))
    fields = [dtype.value_type.field(k) for k in range(dtype.value_type.num_fields)]
    structs = pa.StructArray.from_arrays(
        [entries[field.name].combine_chunks().cast(field.type) for field in fields], fields=fields
    )
    sizes_U = np.bincount(rows[order], minlength=len(user_ids))
    offsets = np.concatenate([[0], np.cumsum(sizes_U)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), structs, type=dtype)


def _rows(of: pa.Array | pa.ChunkedArray, user_ids: pa.Array) -> NDArray[np.int64]:
    """Row in `user_ids` of each user, -1 for an unknown one."""
    found = pc.fill_null(pc.index_in(of, value_set=user_ids), -1)
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)
