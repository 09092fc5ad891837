"""The campaigns with an open window that a user was targeted by or took up, as a part of the user's packed affinity.

Shapes: O open campaigns · H features about campaigns.
"""

import struct
import zlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

SIZES = struct.Struct("<II")
"""Number of open campaigns and of features about campaigns, before the arrays."""
_ARRAYS = (("codes_O", "<u4"), ("targeted_us_O", "<i8"), ("counted_O", "<u2"), ("redeemed_O", "<u2"))
"""Fields with a value for each campaign in their packed order, with their types."""

TAKEN_UP, HIDDEN = 1, 2
"""Bits of `OpenCampaigns.redeemed_O`."""


@dataclass(frozen=True, eq=False)
class OpenCampaigns:
    """A user's open campaigns as known at one moment.

    A campaign is no evidence about itself, so `habits_OH` holds the features about campaigns without each of them.
    """

    codes_O: NDArray[np.uint32]
    """Codes of the campaigns' identifiers, see `campaign_code`."""
    targeted_us_O: NDArray[np.int64]
    """When the user was targeted, microseconds since 1970, UTC. The window's start if the user was not."""
    counted_O: NDArray[np.uint16]
    """1 if the user was targeted, so that the campaign counts in the user's past with its type."""
    redeemed_O: NDArray[np.uint16]
    """`TAKEN_UP` if the user took the campaign up, and `HIDDEN` if it is not to be shown to the user."""
    columns_H: NDArray[np.uint16]
    """Places of the features about campaigns in the portrait."""
    habits_OH: NDArray[np.float32]
    """Values of these features without the campaign."""

    @classmethod
    def none(cls) -> "OpenCampaigns":
        """No open campaign."""
        return _none()

    def place(self, code: int) -> int | None:
        """Place of a campaign among the open ones by its code. None if it is not among them."""
        found = np.flatnonzero(self.codes_O == code)
        return int(found[0]) if len(found) else None

    def pack(self) -> bytes:
        """Pack all fields. A user without open campaigns takes eight bytes."""
        kept_H = slice(None) if len(self.codes_O) else slice(0)
        habits = self.columns_H[kept_H].astype("<u2").tobytes() + self.habits_OH.astype("<f4").tobytes()
        arrays = b"".join(getattr(self, name).astype(kind).tobytes() for name, kind in _ARRAYS)
        return SIZES.pack(len(self.codes_O), len(self.columns_H[kept_H])) + arrays + habits

    @staticmethod
    def packed_size(packed: bytes, start: int) -> int:
        """Bytes that `pack` wrote from place `start` on, by its sizes, of which the bytes may be cut off."""
        if len(packed) < start + SIZES.size:
            return SIZES.size
        num_open, num_habits = SIZES.unpack_from(packed, start)
        each = sum(np.dtype(kind).itemsize for _, kind in _ARRAYS) + 4 * num_habits
        size: int = SIZES.size + num_open * each + 2 * num_habits
        return size

    @classmethod
    def unpack(cls, packed: bytes, start: int) -> "OpenCampaigns":
        """Unpack what `pack` wrote from place `start` on, without copying."""
        num_open, num_habits = SIZES.unpack_from(packed, start)
        if not num_open:
            return _none()
        at, arrays = start + SIZES.size, {}
        for name, kind in _ARRAYS:
            arrays[name] = np.frombuffer(packed, kind, num_open, at)
            at += arrays[name].nbytes
        columns_H = np.frombuffer(packed, "<u2", num_habits, at)
        habits = np.frombuffer(packed, "<f4", num_open * num_habits, at + columns_H.nbytes)
        return cls(**arrays, columns_H=columns_H, habits_OH=habits.reshape(num_open, num_habits))


@cache
def _none() -> OpenCampaigns:
    """One object for most users of most requests. Nothing writes to its arrays."""
    codes, counts = np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=np.uint16)
    times, habits = np.zeros(0, dtype=np.int64), np.zeros((0, 0), dtype=np.float32)
    return OpenCampaigns(codes, times, counts, counts, counts, habits)


def campaign_code(campaign_id: str) -> int:
    """Return the CRC-32 that stands for a campaign in a user's vector. A user has a few open ones, so few can clash."""
    return zlib.crc32(campaign_id.encode())
