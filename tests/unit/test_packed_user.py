"""A packed user: the same bits come out, and damage is found."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.errors import FeatureStoreError
from recommender.matching.examples import Shopper
from recommender.matching.packed_user import PackedUser, layout_of, pack, unpack


@given(st.lists(st.floats(width=32), max_size=40), st.binary(), st.binary(), st.integers(-(2**63), 2**63 - 1))
def test_a_packed_user_unpacks_to_the_same_bits(floats: list[float], affinity: bytes, history: bytes, at: int) -> None:
    names = tuple(f"base__f{index}" for index in range(len(floats)))
    shopper = Shopper("u", np.array(floats, dtype=np.float32), names, affinity, history, at)
    again = unpack("u", pack(shopper), {layout_of(names): names})
    assert (again.portrait_names, again.affinity, again.history, again.feature_time_us) == (
        names,
        affinity,
        history,
        at,
    )
    number = ~np.isnan(shopper.portrait_P)
    np.testing.assert_array_equal(again.portrait_P.view("u4")[number], shopper.portrait_P.view("u4")[number])
    assert np.isnan(again.portrait_P[~number]).all()


def test_every_flipped_bit_and_every_truncation_of_a_packed_user_is_found() -> None:
    names = ("base__a", "base__b")
    value = pack(Shopper("u", np.array([1, 2], dtype=np.float32), names, b"affinity", b"history", 17))
    for bit in range(8 * len(value)):
        broken = bytearray(value)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FeatureStoreError):
            unpack("u", bytes(broken), {layout_of(names): names})
    for length in range(len(value)):
        with pytest.raises(FeatureStoreError):
            unpack("u", value[:length], {layout_of(names): names})


def test_a_check_reads_the_header_and_keeps_every_byte() -> None:
    names = ("base__a", "base__b", "base__c")
    value = pack(Shopper("u", np.zeros(3, dtype=np.float32), names, b"affinity", b"history", -17))
    assert PackedUser.check(value) == PackedUser(content=value, layout=layout_of(names), feature_time_us=-17)


def test_a_value_whose_lengths_do_not_add_up_is_an_error_though_its_checksum_is_right() -> None:
    value = pack(Shopper("u", np.zeros(1, dtype=np.float32), ("base__a",), b"affinity", b"history", 17))
    longer = value[8:] + b"x"
    with pytest.raises(FeatureStoreError, match=rf"{len(value) + 1}.*{len(value)}"):
        PackedUser.check(value[:4] + struct.pack("<I", zlib.crc32(longer)) + longer)


def test_a_layout_that_is_not_known_is_named() -> None:
    value = pack(Shopper("u", np.zeros(1, dtype=np.float32), ("base__a",), b"affinity", b"history", 17))
    with pytest.raises(FeatureStoreError, match=layout_of(("base__a",)).hex()):
        unpack("u", value, {layout_of(("base__b",)): ("base__b",)})
