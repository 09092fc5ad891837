"""One user's features as a single binary value, which serving reads from the online store with one look-up.

A portrait of 150 numbers is 150 rows in SQLite and 150 hash fields in Redis, and taking them apart would be most of a
read. The materialise step therefore also writes one packed value per user, made from the same rows:

    magic, CRC-32 of all that follows, feature time (µs), layout, P, bytes of affinity, bytes of history,
    P float32 (little-endian, in the order of the layout), affinity, history

A layout is an 8-byte identity of the portrait's feature names in their order; `ServingSchema` maps a layout to its
names. The gateway only checks the header (`PackedUser.check`) and sends the bytes on as they are; the worker unpacks
them (`unpack`).

Shapes: P portrait features.
"""

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from recommender.errors import FeatureStoreError
from recommender.matching.examples import Shopper
from recommender.storage.manifest import digest, write_text

PORTRAIT_KINDS = ("base", "behaviour", "interest", "social", "consumption")
SCHEMA_FILE = "serving_schema.json"
SCHEMA_FORMAT = 1
"""Version of the schema file. Raise it when a reader of the old one would misread the new one."""
_MAGIC = b"USR1"
_CHECKSUM = struct.Struct("<4sI")
"""Magic, CRC-32 of all that follows."""
_HEADER = struct.Struct("<q8sIII")
"""Feature time (µs), layout, number of portrait features, bytes of affinity, bytes of history."""
_PORTRAIT_AT = _CHECKSUM.size + _HEADER.size
_FLOAT32_BYTES = 4
"""Size of a portrait feature in the value, which is IEEE 754 single precision."""
_REPAIR = "materialise the features again"


@lru_cache(maxsize=16)  # Of more than the layouts of one shop. The gateway packs a user for each request.
def layout_of(names: tuple[str, ...]) -> bytes:
    """Eight bytes that identify these portrait names in this order."""
    return bytes.fromhex(digest(names)[:16])  # two hex digits a byte: the 8 bytes that `_HEADER` has for it


def pack(shopper: Shopper) -> bytes:
    """Pack one user.

    Every missing number becomes the one canonical NaN, so that equal portraits are equal bytes.

    Raises:
        FeatureStoreError: The user does not have one number per portrait name.
    """
    portrait_P = np.asarray(shopper.portrait_P, dtype="<f4")
    if portrait_P.shape != (len(shopper.portrait_names),):
        raise FeatureStoreError(
            f"user {shopper.user_id}: the portrait has shape {portrait_P.shape} for {len(shopper.portrait_names)} names"
        )
    portrait_P = np.where(np.isnan(portrait_P), np.float32(np.nan), portrait_P).astype("<f4")
    body = b"".join(
        (
            _HEADER.pack(
                shopper.feature_time_us,
                layout_of(shopper.portrait_names),
                len(portrait_P),
                len(shopper.affinity),
                len(shopper.history),
            ),
            portrait_P.tobytes(),
            shopper.affinity,
            shopper.history,
        )
    )
    return _CHECKSUM.pack(_MAGIC, zlib.crc32(body)) + body


@dataclass(frozen=True)
class PackedUser:
    """A packed value whose header, checksum and lengths were checked."""

    content: bytes
    """Exactly the bytes that were packed."""
    layout: bytes
    feature_time_us: int
    """The moment up to which the features know the user, µs since 1970, UTC."""
    tail: bytes = b""
    """Events since then, as the store keeps them beside the value. They are not folded into it."""

    @classmethod
    def check(cls, content: bytes) -> "PackedUser":
        """Read the header of a packed value without unpacking the features.

        Raises:
            FeatureStoreError: The bytes are not a packed user, are truncated, or a bit of them has flipped.
        """
        if len(content) < _PORTRAIT_AT or content[: len(_MAGIC)] != _MAGIC:
            raise FeatureStoreError(f"the online store's value is not a packed user; {_REPAIR}")
        if zlib.crc32(memoryview(content)[_CHECKSUM.size :]) != _CHECKSUM.unpack_from(content)[1]:
            raise FeatureStoreError(f"the online store's value is corrupt (CRC-32); {_REPAIR}")
        feature_time_us, layout, *lengths = _HEADER.unpack_from(content, _CHECKSUM.size)
        num_features, affinity_bytes, history_bytes = lengths
        expected = _PORTRAIT_AT + _FLOAT32_BYTES * num_features + affinity_bytes + history_bytes
        if len(content) != expected:
            raise FeatureStoreError(
                f"the online store's value has {len(content)} bytes, but its header adds up to {expected}; {_REPAIR}"
            )
        return cls(content, layout, feature_time_us)

    @property
    def affinity(self) -> bytes:
        """The user's packed affinity (`affinity.unpack_user`)."""
        _, _, num_features, affinity_bytes, _ = _HEADER.unpack_from(self.content, _CHECKSUM.size)
        start = _PORTRAIT_AT + _FLOAT32_BYTES * int(num_features)
        return self.content[start : start + int(affinity_bytes)]


@dataclass(frozen=True)
class Newcomer:
    """A user of whom the store has no value yet, but events of campaigns that the user hid, showed again or took up."""

    tail: bytes


def unpack(user_id: str, content: bytes, layouts: Mapping[bytes, tuple[str, ...]]) -> Shopper:
    """Unpack what `pack` packed. `layouts` maps a layout to its portrait names (`ServingSchema.by_layout`).

    Raises:
        FeatureStoreError: The value is corrupt, or its layout is not among `layouts`.
    """
    packed = PackedUser.check(content)
    names = layouts.get(packed.layout)
    if names is None:
        raise FeatureStoreError(
            f"the online store's value has layout {packed.layout.hex()}, which its schema does not list; {_REPAIR}"
        )
    _, _, num_features, affinity_bytes, _ = _HEADER.unpack_from(content, _CHECKSUM.size)
    if num_features != len(names):
        raise FeatureStoreError(
            f"the online store's value has {num_features} portrait numbers for {len(names)} names; {_REPAIR}"
        )
    affinity_at = _PORTRAIT_AT + _FLOAT32_BYTES * num_features
    history_at = affinity_at + affinity_bytes
    return Shopper(
        user_id=user_id,
        portrait_P=np.frombuffer(content, dtype="<f4", count=num_features, offset=_PORTRAIT_AT),
        portrait_names=names,
        affinity=content[affinity_at:history_at],
        history=content[history_at:],
        feature_time_us=packed.feature_time_us,
    )


@dataclass(frozen=True, kw_only=True)
class ServingSchema:
    """The schema of the online store for serving: the key of a user's value, and the meaning of its numbers."""

    project: str
    view: str
    field: str
    join_key: str
    entity_key_serialization_version: int
    layouts: tuple[tuple[str, ...], ...]
    """Portrait names of each layout, newest first: while a run replaces the values, the store holds two layouts."""
    features_hash: str
    """Content hash of the feature set that was materialised last."""
    catalogue_hash: str
    as_of: str

    def by_layout(self) -> dict[bytes, tuple[str, ...]]:
        """Portrait names by the layout that identifies them."""
        return {layout_of(names): names for names in self.layouts}

    def save(self, folder: Path) -> None:
        """Write the schema into `folder`, whole or not at all."""
        write_text(folder / SCHEMA_FILE, json.dumps({"format": SCHEMA_FORMAT, **asdict(self)}, indent=1))

    @classmethod
    def load(cls, folder: Path) -> "ServingSchema":
        """Read the schema that the materialise step left in `folder`.

        Raises:
            FeatureStoreError: The file is missing, is not JSON, or has another format; names the file.
        """
        path = folder / SCHEMA_FILE
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if (found := fields.pop("format")) != SCHEMA_FORMAT:
                raise FeatureStoreError(
                    f"{path}: format {found!r}, but this version reads format {SCHEMA_FORMAT}; {_REPAIR}"
                )
            fields["layouts"] = tuple(tuple(names) for names in fields["layouts"])
            return cls(**fields)
        except FileNotFoundError:
            raise FeatureStoreError(f"{path}: missing; nothing was materialised yet") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise FeatureStoreError(f"{path}: not a serving schema ({error}); {_REPAIR}") from None
