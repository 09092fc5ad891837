"""The packed history of a user, and the histories of many as ragged arrays.

A packed history holds the last baskets that a user bought. Behind it a row for serving has rings (`rings`), and a row
of a user who looked has baskets of looks (`look_baskets`).

Shapes: U users · B baskets in all · T basket lines in all.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_US
from recommender.errors import FeatureStoreError
from recommender.matching.look_baskets import LookBaskets, LookHistories
from recommender.matching.look_rules import LookRules
from recommender.matching.numbering import NAME_BYTES, OWN_BYTES, Numbering
from recommender.matching.ragged import offsets_of
from recommender.matching.rings import Rings

MAX_BASKETS = 64
"""A user's row holds at most this many baskets, the last ones. Chosen by hand: over a year of a weekly shopper."""
_MAGIC = b"HIS2"
_HEADER = struct.Struct(f"<4s{NAME_BYTES}sII")
"""Magic number, name of the ids (`Numbering.name`), number of baskets, number of lines."""
_OLD_MAGIC = b"HIS1"
"""Of values from before ids were append-only, which name one state of them and are still read."""
_OLD_HEADER = struct.Struct(f"<4s{OWN_BYTES}sII")


@dataclass(frozen=True, eq=False)
class Histories:
    """The last baskets of users as ragged arrays, each user's oldest first. Lines of one basket have no order."""

    basket_offsets: NDArray[np.int64]
    """[U + 1]: user u has the baskets basket_offsets[u] to basket_offsets[u + 1], excluded."""
    line_offsets: NDArray[np.int64]
    """[B + 1]: basket b has the lines line_offsets[b] to line_offsets[b + 1], excluded."""
    items_T: NDArray[np.int32]
    """Row of the item in the catalogue, 0 for an unknown item."""
    age_days_B: NDArray[np.float32]
    """Days from the basket to the decision, > 0."""
    spend_B: NDArray[np.float32]
    """Money paid for the basket, currency units."""
    looks: LookHistories | None = None
    """What the same users looked at. None: the shop has no looks."""


def pack_history(
    times_us_B: NDArray[np.int64],
    spend_B: NDArray[np.float32],
    lines_B: NDArray[np.int32],
    items_T: NDArray[np.int32],
    taxonomy_version: str,
) -> bytes:
    """Pack the `history` value of a user: the last `MAX_BASKETS` baskets, oldest first, with `lines_B` lines each.

    `taxonomy_version`: `Numbering.name` of the ids of `items_T`.
    """
    if len(times_us_B) > MAX_BASKETS:
        items_T = items_T[int(lines_B[:-MAX_BASKETS].sum()) :]
        times_us_B, spend_B, lines_B = times_us_B[-MAX_BASKETS:], spend_B[-MAX_BASKETS:], lines_B[-MAX_BASKETS:]
    header = _HEADER.pack(_MAGIC, bytes.fromhex(taxonomy_version), len(times_us_B), len(items_T))
    arrays = ((times_us_B, "<i8"), (spend_B, "<f4"), (lines_B, "<i4"), (items_T, "<i4"))
    return header + b"".join(np.asarray(array).astype(dtype).tobytes() for array, dtype in arrays)


class PackedBaskets(NamedTuple):
    """What `pack_history` packs, of one user."""

    times_us_B: NDArray[np.int64]
    spend_B: NDArray[np.float32]
    lines_B: NDArray[np.int32]
    items_T: NDArray[np.int32]


def unpack_history(packed: bytes, numbering: Numbering) -> PackedBaskets:
    """Unpack what `pack_history` packed, without copying. An item that `numbering` does not know yet is 0.

    Raises:
        FeatureStoreError: the value is damaged or was packed with other ids.
    """
    header = _OLD_HEADER if packed[:4] == _OLD_MAGIC else _HEADER
    if len(packed) < header.size or packed[:4] not in (_MAGIC, _OLD_MAGIC):
        raise FeatureStoreError(
            f"history: a value must start with {_MAGIC!r} (got {packed[:4]!r}); "
            "build and materialise the features again"
        )
    _, name, baskets, num_lines = header.unpack_from(packed)
    lacks_some = numbering.lacks_some(name, "history")
    # Each basket takes an int64 time, float32 spend and int32 number of lines; each line an int32 item.
    expected = header.size + 16 * baskets + 4 * num_lines
    if len(packed) != _looks_at(packed, expected) + LookBaskets.packed_size(packed, _looks_at(packed, expected)):
        raise FeatureStoreError(
            f"history: the value must have {expected} bytes by its header (got {len(packed)}); "
            "build and materialise the features again"
        )
    offset = header.size
    rows = np.frombuffer(packed, "<i4", num_lines, offset + 16 * baskets)
    return PackedBaskets(
        np.frombuffer(packed, "<i8", baskets, offset),
        np.frombuffer(packed, "<f4", baskets, offset + 8 * baskets),
        np.frombuffer(packed, "<i4", baskets, offset + 12 * baskets),
        np.where(rows < numbering.num_items, rows, 0) if lacks_some else rows,
    )


def num_lines(packed: bytes) -> int:
    """How many purchase lines a packed history holds, by its head. What lies behind it does not count."""
    header = _OLD_HEADER if packed[:4] == _OLD_MAGIC else _HEADER
    return int(header.unpack_from(packed)[-1])


def unpack_rings(packed: bytes, history: PackedBaskets) -> Rings | None:
    """The rings behind a packed history, which is unpacked already. None: a row from before there were rings.

    Raises:
        FeatureStoreError: they are damaged.
    """
    return Rings.unpack(packed, _size(packed, history), len(history.times_us_B))


def unpack_looks(packed: bytes, history: PackedBaskets) -> LookBaskets:
    """The baskets of looks behind a packed history, which is unpacked already, and its rings.

    Raises:
        FeatureStoreError: they are damaged.
    """
    return LookBaskets.unpack(packed, _looks_at(packed, _size(packed, history)))


def without_looks(packed: bytes, history: PackedBaskets) -> bytes:
    """A packed history, which is unpacked already, with its rings and without its baskets of looks."""
    return packed[: _looks_at(packed, _size(packed, history))]


def _looks_at(packed: bytes, end: int) -> int:
    """Where looks begin behind a history that ends at a place: behind its rings, if it has some."""
    return end + Rings.packed_size(packed, end)


def _size(packed: bytes, history: PackedBaskets) -> int:
    header = _OLD_HEADER if packed[:4] == _OLD_MAGIC else _HEADER
    return header.size + 16 * len(history.times_us_B) + 4 * len(history.items_T)


def unpack_histories(
    packed_U: Sequence[bytes],
    decided_us_U: NDArray[np.int64],
    numbering: Numbering,
    look_rules: LookRules | None = None,
) -> Histories:
    """Unpack the baskets of users, with ages at the users' decisions (microseconds since 1970, UTC).

    An item that `numbering` does not know yet is the unknown one. Looks are read if `look_rules` say what they count.

    Raises:
        FeatureStoreError: a value is damaged or was packed with other ids.
    """
    num_baskets, times, spend, lines, items = [], [], [], [], []
    looks_U: list[LookBaskets] = []
    for packed in packed_U:
        times_us_B, spend_B, lines_B, items_T = history = unpack_history(packed, numbering)
        if look_rules is not None:
            looks_U.append(unpack_looks(packed, history))
        num_baskets.append(len(times_us_B))
        times.append(times_us_B)
        spend.append(spend_B)
        lines.append(lines_B)
        items.append(items_T)
    baskets_U = np.array(num_baskets, dtype=np.int64)
    age_us_B = np.repeat(decided_us_U, baskets_U) - _concatenate(times, np.int64)
    return Histories(
        basket_offsets=offsets_of(baskets_U),
        line_offsets=offsets_of(_concatenate(lines, np.int64)),
        items_T=_concatenate(items, np.int32),
        age_days_B=(age_us_B / DAY_US).astype(np.float32),
        spend_B=_concatenate(spend, np.float32),
        looks=None if look_rules is None else LookHistories.of(looks_U, decided_us_U, numbering, look_rules),
    )


def _concatenate(arrays: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
    if len(arrays) == 1:
        return arrays[0].astype(dtype, copy=False)
    return np.concatenate(arrays).astype(dtype, copy=False) if arrays else np.zeros(0, dtype=dtype)
