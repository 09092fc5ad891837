"""One user's features as one value: what the online store holds, and what serving reads with a single look-up.

A portrait of 150 numbers is 150 rows in SQLite and 150 hash fields in Redis; most of a read would go into taking them apart.
So the materialise step writes, from the same rows, one packed value a user beside them:

    magic · CRC-32 of all that follows · feature time (µs) · layout · P · bytes of affinity · bytes of history
    P float32, little-endian, in the layout's order · affinity · history

The layout is the identity of the portrait's names; `ServingSchema` says which names it stands for.

Shapes: P portrait features.
"""

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from recommender.errors import FeatureStoreError
from recommender.matching.examples import Shopper
from recommender.storage.manifest import digest, write_text

PORTRAIT_KINDS = ("base", "behaviour", "interest", "social", "consumption")
SCHEMA_FILE = "serving_schema.json"
SCHEMA_FORMAT = 1
_MAGIC = b"USR1"
_CHECKED = struct.Struct("<4sI")
_HEADER = struct.Struct("<q8sIII")


def layout_of(names: tuple[str, ...]) -> bytes:
    """Eight bytes that stand for these portrait names in this order."""
    return bytes.fromhex(digest(names)[:16])


def pack(shopper: Shopper) -> bytes:
    """The online value of one user. A missing number is the one canonical NaN, so equal portraits are equal bytes."""
    portrait_P = np.asarray(shopper.portrait_P, dtype="<f4")
    if portrait_P.shape != (len(shopper.portrait_names),):
        raise FeatureStoreError(
            f"user {shopper.user_id}: {portrait_P.shape} numbers for {len(shopper.portrait_names)} portrait names"
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
    return _CHECKED.pack(_MAGIC, zlib.crc32(body)) + body


def layout_in(value: bytes) -> bytes:
    """The layout that a packed value names.

    Raises:
        FeatureStoreError: it is no packed value, is truncated, or a bit of it has flipped.
    """
    if len(value) < _CHECKED.size + _HEADER.size or value[:4] != _MAGIC:
        raise FeatureStoreError("the online store's value is not a packed user; materialise the features again")
    if zlib.crc32(memoryview(value)[_CHECKED.size :]) != _CHECKED.unpack_from(value)[1]:
        raise FeatureStoreError("the online store's value is corrupt (CRC-32); materialise the features again")
    return bytes(_HEADER.unpack_from(value, _CHECKED.size)[1])


def unpack(user_id: str, value: bytes, layouts: Mapping[bytes, tuple[str, ...]]) -> Shopper:
    """The user that `pack` packed; `layouts` says which names a layout stands for.

    Raises:
        FeatureStoreError: the value is corrupt, or its layout is not among `layouts`.
    """
    names = layouts.get(layout_in(value))
    if names is None:
        raise FeatureStoreError(
            "the online store holds a portrait of another layout than its schema; materialise the features again"
        )
    feature_time_us, _, num_features, affinity_bytes, history_bytes = _HEADER.unpack_from(value, _CHECKED.size)
    start = _CHECKED.size + _HEADER.size
    affinity_at = start + 4 * num_features
    history_at = affinity_at + affinity_bytes
    if num_features != len(names) or history_at + history_bytes != len(value):
        raise FeatureStoreError("the online store's value contradicts its own lengths; materialise the features again")
    return Shopper(
        user_id=user_id,
        portrait_P=np.frombuffer(value, dtype="<f4", count=num_features, offset=start),
        portrait_names=names,
        affinity=value[affinity_at:history_at],
        history=value[history_at:],
        feature_time_us=feature_time_us,
    )


@dataclass(frozen=True, kw_only=True)
class ServingSchema:
    """What serving must know of the online store: where a user's value lies, and what its numbers mean."""

    project: str
    view: str
    field: str
    join_key: str
    entity_key_serialization_version: int
    layouts: tuple[tuple[str, ...], ...]
    """Portrait names by layout, the newest first: while a run replaces the values, both are in the store."""
    features_hash: str
    """Content hash of the feature set that was materialised last."""
    catalogue_hash: str
    as_of: str

    def by_layout(self) -> dict[bytes, tuple[str, ...]]:
        return {layout_of(names): names for names in self.layouts}

    def save(self, folder: Path) -> None:
        write_text(folder / SCHEMA_FILE, json.dumps({"format": SCHEMA_FORMAT, **asdict(self)}, indent=1))

    @classmethod
    def load(cls, folder: Path) -> "ServingSchema":
        """Read the schema that the materialise step left in `folder`.

        Raises:
            FeatureStoreError: it is missing, no JSON, or of another format; names the file.
        """
        path = folder / SCHEMA_FILE
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields.pop("format") != SCHEMA_FORMAT:
                raise FeatureStoreError(f"{path}: a format that this version does not know; materialise again")
            fields["layouts"] = tuple(tuple(names) for names in fields["layouts"])
            return cls(**fields)
        except FileNotFoundError:
            raise FeatureStoreError(f"{path}: missing; nothing was materialised yet") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise FeatureStoreError(f"{path}: not a serving schema ({error}); materialise the features again") from None
