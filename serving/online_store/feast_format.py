"""The part of Feast's storage format that a read needs: entity key, field of a Redis hash, and serialised value.

Tests compare each function with Feast's own.
"""

import struct

from recommender.errors import FeatureStoreError

KEY_VERSION = 3
"""Feast's `entity_key_serialization_version` that `entity_key` writes, as feature_store.yaml sets it."""
_STRING = 2
"""`feast.ValueType.STRING`."""
_BYTES_VAL_TAG = 0x0A
"""Protobuf tag of field 1 (`bytes_val`) of Feast's `Value` message, length-delimited."""
_UINT32 = 0xFFFFFFFF
"""Keeps 32 bits of a product: Python's integers do not overflow as C's."""


def entity_key(join_key: str, value: str) -> bytes:
    """Feast's serialised key of one entity with a string identifier (serialisation version 3)."""
    name, identifier = join_key.encode(), value.encode()
    return b"".join(
        (struct.pack("<III", 1, _STRING, len(name)), name, struct.pack("<II", _STRING, len(identifier)), identifier)
    )


def hash_field(view: str, field: str) -> bytes:
    """The field of a Redis hash in which Feast keeps one feature: MurmurHash3 (32 bits, seed 0) of `view:field`."""
    return struct.pack("<I", _murmur3_32(f"{view}:{field}".encode()))


def bytes_value(message: bytes) -> bytes | None:
    """The bytes inside Feast's serialised `Value`, or None when the message holds no value.

    Raises:
        FeatureStoreError: The message holds another type, or is cut short.
    """
    if not message:
        return None
    # The length is a protobuf varint: seven bits per byte, lowest first. The eighth bit is set if more bytes follow.
    length, shift, at, ended = 0, 0, 1, False
    while at < len(message) and not ended:
        byte = message[at]
        length |= (byte & 0x7F) << shift
        at, shift, ended = at + 1, shift + 7, not byte & 0x80
    if message[0] != _BYTES_VAL_TAG or not ended or at + length != len(message):
        raise FeatureStoreError(
            "the online store's value is not bytes as Feast writes them; materialise the features again"
        )
    return message[at:]


def _murmur3_32(key: bytes) -> int:
    """MurmurHash3_x86_32 with seed 0 (Appleby 2011).

    Its constants are those of the reference implementation.
    """

    def mix(block: int) -> int:
        block = block * 0xCC9E2D51 & _UINT32
        return ((block << 15 | block >> 17) & _UINT32) * 0x1B873593 & _UINT32

    state, whole = 0, len(key) & ~3
    for (block,) in struct.iter_unpack("<I", key[:whole]):
        state ^= mix(block)
        state = ((state << 13 | state >> 19) & _UINT32) * 5 + 0xE6546B64 & _UINT32
    if key[whole:]:
        state ^= mix(int.from_bytes(key[whole:], "little"))
    state ^= len(key)
    state = (state ^ state >> 16) * 0x85EBCA6B & _UINT32
    state = (state ^ state >> 13) * 0xC2B2AE35 & _UINT32
    return state ^ state >> 16
