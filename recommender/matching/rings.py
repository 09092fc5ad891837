"""What a user's row knows beside the history, so that counts within a window of days can be read at a later moment.

Packed behind the history of rows that are materialised. A row from before there were rings has none and stays readable.

    RNG1, bytes in all, sizes, totals
    bits of the history's lines: with a coupon, with a discount
    places in the history of baskets with cents off by coupons, and these cents
    codes of the last baskets' identifiers
    baskets before the history's: second, cents, cents off by coupons, lines, of these with a coupon and a discount
    items of those of the last 90 days, with bits: with a coupon
    for each kind of event: its number, sizes, seconds, counts

Shapes: B baskets of the history · T their lines · O baskets before them · L lines of some of these · n times of a kind.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from recommender.errors import FeatureStoreError

KINDS = ("view", "click", "cart", "search", "favourite", "share", "review", "like", "comment", "follow")
"""Kinds of events whose times are kept. The place of a kind is its number in packed rings: add others at the end."""
RING_DAYS, OLDER_DAYS, ITEM_DAYS = 90, 365, 90
"""The longest windows of counted events, of baskets, and of items."""
MOST_EXACT, MOST_OLDER, KEPT_CODES = 256, 512, 4
"""Seconds of a kind that are kept one by one, baskets before the history's, and codes of baskets. By hand: rows stay
below some 20 KB for the busiest shopper."""
MOST_ITEM_LINES = 2_048
"""Lines of baskets before the history's that are kept, 8 KB. By hand: two dozen lines for each of 90 days."""
_MAGIC, _MAGIC_WIDE = b"RNG1", b"RNG2"
"""Money in 32 bits, or in 64 where a user's does not fit."""
_HEAD = struct.Struct("<4sIIIIBBB")
"""Magic, bytes in all, T, O, L, number of baskets with cents off by coupons, of codes and of kinds."""
_MOST = np.iinfo(np.uint16).max
"""Counts above it are cut."""
_TOTALS = struct.Struct("<IIqqqIIIqIIq")
_KIND = struct.Struct("<BHH")
"""Number of the kind, of its times, and of those times that stand for a whole day."""


class Totals(NamedTuple):
    """Sums over all that a user bought, in whole minor units, and over all ratings."""

    first_s: int = 0
    """Second of the oldest basket, since 1970, UTC."""
    baskets: int = 0
    cents: int = 0
    discount_cents: int = 0
    coupon_cents: int = 0
    lines: int = 0
    discounted: int = 0
    coupon_lines: int = 0
    largest_cents: int = 0
    with_coupon: int = 0
    """Baskets with a coupon."""
    rated: int = 0
    rating_cents: int = 0
    """Sum of the ratings, in hundredths."""


class Older(NamedTuple):
    """Baskets before those of the history, oldest first."""

    time_s_O: NDArray[np.int64]
    cents_O: NDArray[np.int64]
    coupon_cents_O: NDArray[np.int64]
    lines_O: NDArray[np.int64]
    coupon_lines_O: NDArray[np.int64]
    discounted_O: NDArray[np.int64]


class Times(NamedTuple):
    """When events of one kind happened, oldest first."""

    time_s_n: NDArray[np.int64]
    count_n: NDArray[np.int64]
    num_days: int = 0
    """So many of the oldest times stand for all events of a day, and are those of its last event."""


_NO_TIMES = Times(np.zeros(0, np.int64), np.zeros(0, np.int64))


def _no_older() -> Older:
    return Older(*(np.zeros(0, np.int64) for _ in Older._fields))


@dataclass(frozen=True, eq=False)
class Rings:
    """The rings of one user."""

    totals: Totals = field(default_factory=Totals)
    coupon_T: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    discounted_T: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    coupon_cents_B: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    codes: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    """Of the last baskets of the history, in its order (`basket_code`)."""
    older: Older = field(default_factory=_no_older)
    older_items_L: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    """Lines of the last of the older baskets: those of 90 days, but the newest `MOST_ITEM_LINES` only."""
    older_coupon_L: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    kinds: Mapping[str, Times] = field(default_factory=dict)

    def times(self, kind: str) -> Times:
        """The times of a kind, none where the user did nothing of it."""
        return self.kinds.get(kind, _NO_TIMES)

    def pack(self) -> bytes:
        """Pack the rings."""
        older, paid_b = self.older, np.flatnonzero(self.coupon_cents_B)
        money_b = self.coupon_cents_B[paid_b]
        most = max((int(of.max(initial=0)) for of in (money_b, older.cents_O, older.coupon_cents_O)), default=0)
        magic, money = (_MAGIC, "<u4") if most <= np.iinfo(np.uint32).max else (_MAGIC_WIDE, "<i8")
        body = [_TOTALS.pack(*self.totals), _bits(self.coupon_T), _bits(self.discounted_T)]
        body += [paid_b.astype("u1").tobytes(), money_b.astype(money).tobytes(), self.codes.astype("<u4").tobytes()]
        body += [
            (np.minimum(column, _MOST) if dtype == "<u2" else column).astype(dtype).tobytes()
            for column, dtype in zip(older, _older_types(money), strict=True)
        ]
        body += [self.older_items_L.astype("<i4").tobytes(), _bits(self.older_coupon_L)]
        for kind, times in self.kinds.items():
            body.append(_KIND.pack(KINDS.index(kind), len(times.time_s_n), times.num_days))
            body += [times.time_s_n.astype("<u4").tobytes(), np.minimum(times.count_n, _MOST).astype("<u2").tobytes()]
        num_bytes = _HEAD.size + sum(len(part) for part in body)
        sizes = (len(self.coupon_T), len(older.time_s_O), len(self.older_items_L))
        head = _HEAD.pack(magic, num_bytes, *sizes, len(paid_b), len(self.codes), len(self.kinds))
        return b"".join([head, *body])

    @staticmethod
    def packed_size(packed: bytes, start: int) -> int:
        """Bytes that packed rings take from place `start` on, by their head. 0 where there are none."""
        if packed[start : start + 4] not in (_MAGIC, _MAGIC_WIDE) or len(packed) < start + _HEAD.size:
            return 0
        return int(_HEAD.unpack_from(packed, start)[1])

    @classmethod
    def unpack(cls, packed: bytes, start: int, num_baskets: int) -> Self | None:
        """Unpack what `pack` wrote from place `start` on, behind a history of so many baskets. None: there is nothing.

        Raises:
            FeatureStoreError: they are damaged.
        """
        if not cls.packed_size(packed, start):
            return None
        try:
            return cls._unpacked(packed, start, num_baskets)
        except (struct.error, ValueError, IndexError) as error:
            raise FeatureStoreError(
                f"history: the rings behind it are damaged ({error}); build and materialise the features again"
            ) from None

    @classmethod
    def _unpacked(cls, packed: bytes, start: int, num_baskets: int) -> Self:
        magic, num_bytes, num_lines, num_older, num_items, num_paid, num_codes, num_kinds = _HEAD.unpack_from(
            packed, start
        )
        money = "<u4" if magic == _MAGIC else "<i8"
        read = _Reader(packed[start : start + num_bytes], _HEAD.size)
        totals = Totals(*read.struct(_TOTALS))
        coupon_T, discounted_T = read.bits(num_lines), read.bits(num_lines)
        coupon_cents_B = np.zeros(num_baskets, dtype=np.int64)
        paid_b = read.numbers("u1", num_paid)
        coupon_cents_B[paid_b] = read.numbers(money, num_paid)
        codes = read.numbers("<u4", num_codes).astype(np.uint32)
        older = Older(*(read.numbers(dtype, num_older) for dtype in _older_types(money)))
        older_items_L, older_coupon_L = read.numbers("<i4", num_items).astype(np.int32), read.bits(num_items)
        kinds = {}
        for _ in range(num_kinds):
            number, num_times, num_days = read.struct(_KIND)
            kinds[KINDS[number]] = Times(read.numbers("<u4", num_times), read.numbers("<u2", num_times), num_days)
        if read.at != num_bytes:
            raise ValueError(f"{num_bytes} bytes by their head, {read.at} by their sizes")
        return cls(totals, coupon_T, discounted_T, coupon_cents_B, codes, older, older_items_L, older_coupon_L, kinds)


class _Reader:
    """Reads packed rings from front to back."""

    def __init__(self, packed: bytes, at: int) -> None:
        self.packed, self.at = packed, at

    def struct(self, layout: struct.Struct) -> tuple[Any, ...]:
        self.at += layout.size
        return layout.unpack_from(self.packed, self.at - layout.size)

    def numbers(self, dtype: str, number: int) -> NDArray[np.int64]:
        found = np.frombuffer(self.packed, dtype, number, self.at)
        self.at += found.nbytes
        return found.astype(np.int64)

    def bits(self, number: int) -> NDArray[np.bool_]:
        found = np.frombuffer(self.packed, "u1", (number + 7) // 8, self.at)
        self.at += found.nbytes
        return np.unpackbits(found, count=number).astype(np.bool_)


def basket_code(basket: str) -> int:
    """The CRC-32 that stands for a basket's identifier. Rings keep a few of a user, so few can clash."""
    return zlib.crc32(basket.encode())


def _bits(flags: NDArray[np.bool_]) -> bytes:
    return np.packbits(flags).tobytes()


def _older_types(money: str) -> tuple[str, ...]:
    return ("<u4", money, money, "<u2", "<u2", "<u2")
