"""A user's purchase history as a sequence of baskets, and its bytes in the online store.

Shapes: U users · B baskets in all · T basket lines in all.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recommender.errors import CorruptFileError

MAX_BASKETS = 64
"""A history holds a user's last baskets, at most this many."""

_MAGIC = b"HIS1"
_HEADER = struct.Struct("<4sI8sII")
_US_A_DAY = 86_400_000_000


@dataclass(frozen=True, eq=False)
class Histories:
    """U users' last baskets, ragged, each user's oldest first. Lines of one basket have no order."""

    basket_offsets: NDArray[np.int64]
    """[U + 1]: user u has the baskets basket_offsets[u] … basket_offsets[u + 1]."""
    line_offsets: NDArray[np.int64]
    """[B + 1]: basket b has the lines line_offsets[b] … line_offsets[b + 1]."""
    items_T: NDArray[np.int32]
    """Row of the item in the catalogue; 0 is an unknown item."""
    age_days_B: NDArray[np.float32]
    """Days from the basket to the decision, > 0."""
    spend_B: NDArray[np.float32]
    """Money paid for the basket, currency units."""


@dataclass(frozen=True, eq=False)
class Baskets:
    """One user's baskets with absolute times."""

    times_B: NDArray[np.int64]
    """Microseconds since 1970, UTC, ascending."""
    spend_B: NDArray[np.float32]
    lines_B: NDArray[np.int32]
    """Lines in each basket."""
    items_T: NDArray[np.int32]


def pack_history(baskets: Baskets, taxonomy: str) -> bytes:
    """One user's baskets as bytes; `taxonomy` is the `Catalogue.taxonomy_version` that the item rows refer to."""
    body = b"".join(
        (
            np.ascontiguousarray(baskets.times_B, "<i8").tobytes(),
            np.ascontiguousarray(baskets.spend_B, "<f4").tobytes(),
            np.ascontiguousarray(baskets.lines_B, "<i4").tobytes(),
            np.ascontiguousarray(baskets.items_T, "<i4").tobytes(),
        )
    )
    counts = (len(baskets.times_B), len(baskets.items_T))
    return _HEADER.pack(_MAGIC, zlib.crc32(body), bytes.fromhex(taxonomy[:16]), *counts) + body


def unpack_history(blob: bytes, taxonomy: str) -> Baskets:
    """The baskets that `pack_history` wrote.

    Raises:
        CorruptFileError: the bytes are damaged, or refer to another taxonomy than `taxonomy`.
    """
    try:
        magic, checksum, version, num_baskets, num_lines = _HEADER.unpack_from(blob)
    except struct.error:
        raise CorruptFileError(f"history: {len(blob)} bytes are no history; materialise the features again") from None
    body = memoryview(blob)[_HEADER.size :]
    if magic != _MAGIC or len(body) != 16 * num_baskets + 4 * num_lines or zlib.crc32(body) != checksum:
        raise CorruptFileError("history: the bytes are damaged; materialise the features again")
    if version != bytes.fromhex(taxonomy[:16]):
        raise CorruptFileError(
            f"history: written for taxonomy {version.hex()}, read with {taxonomy[:16]}; materialise the features again"
        )
    return Baskets(
        times_B=np.frombuffer(body, "<i8", num_baskets),
        spend_B=np.frombuffer(body, "<f4", num_baskets, offset=8 * num_baskets),
        lines_B=np.frombuffer(body, "<i4", num_baskets, offset=12 * num_baskets),
        items_T=np.frombuffer(body, "<i4", num_lines, offset=16 * num_baskets),
    )


def stack(users: Sequence[Baskets], decided_us_U: NDArray[np.int64]) -> Histories:
    """U users' baskets as one ragged batch; a basket's age is counted from the user's decision."""
    counts_U = np.array([len(user.times_B) for user in users], dtype=np.int64)
    lines_B = np.concatenate([user.lines_B for user in users] or [np.empty(0, np.int32)])
    times_B = np.concatenate([user.times_B for user in users] or [np.empty(0, np.int64)])
    age_us_B = np.repeat(decided_us_U, counts_U) - times_B
    return Histories(
        basket_offsets=np.concatenate(([0], np.cumsum(counts_U))).astype(np.int64),
        line_offsets=np.concatenate(([0], np.cumsum(lines_B, dtype=np.int64))).astype(np.int64),
        items_T=np.concatenate([user.items_T for user in users] or [np.empty(0, np.int32)]),
        age_days_B=(age_us_B / _US_A_DAY).astype(np.float32),
        spend_B=np.concatenate([user.spend_B for user in users] or [np.empty(0, np.float32)]),
    )
