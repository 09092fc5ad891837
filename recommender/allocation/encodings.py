"""What a ranker's sequence encoder makes of one user: a vector, the users most alike, and what it expects next.

Computed when it is asked for, from a version's bundle and the histories of the last materialisation. Nothing of it is
stored, so there is nothing to keep fresh or to forget, and no ranker reads it.

Shapes: U users · D width of a vector · V values of an axis.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from recommender.datasets.periods import microseconds
from recommender.datasets.time_units import DAY_S
from recommender.errors import BundleError, CorruptFileError
from recommender.features.histories import take_users
from recommender.matching.catalogue import Catalogue
from recommender.matching.packed_history import Histories, unpack_histories
from recommender.matching.packed_user import ServingSchema, unpack
from recommender.models.campaign import ranker_class
from recommender.models.campaign.ranker import Ranker
from recommender.registry import Registry, bundle
from recommender.registry.candidates import boundaries
from recommender.storage.home import Home

MOST_USERS = 5000
"""Users who are compared, every so many-th of the store. By hand: all of a small shop, some ten seconds of one core."""
USERS_AT_ONCE = 512
NUM_ALIKE, NUM_NEXT = 5, 5
"""How many users and values are named."""
NUM_USUAL = 256
"""Users whose expected next lines say what is usual. By hand: enough for the shares of the values that are named."""
LEAST_SHARE = 0.002
"""A value that is expected more rarely is not named as one that is unusually likely. By hand."""
NO_ENCODER = (
    "No version in the registry has an encoder of purchases in their order. The rankers transformer, sasrec, student "
    "and fusion have one: name one as training.challenger, and start recommender run"
)
NO_PURCHASE = "This shopper has not bought anything, so there is no order of purchases to read."


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Alike(_Part):
    """A user whose vector points into nearly the same direction."""

    user_id: str
    similarity: float
    """Cosine of the two vectors, each less the mean of all users'."""


class Next(_Part):
    """A value that is expected in the next basket."""

    value: str
    """Name of the item, or value of the axis."""
    share: float
    """Share of the next basket's lines that is expected to have it."""
    times_usual: float
    """This share over the mean one of other users."""


class Encoding(_Part):
    """What an encoder says of one user."""

    version: str
    """The version whose encoder it is. Vectors of two versions cannot be compared."""
    ranker: str
    serves: bool
    """Whether the version is the champion."""
    trained_until: datetime
    """Up to when the version has seen purchases."""
    age_days: float
    """From then to the moment of the features."""
    vector: tuple[float, ...]
    """[D], no unit."""
    compared_with: int
    """Users among whom `alike` was looked for."""
    alike: tuple[Alike, ...]
    """The nearest first."""
    axis: str
    """What `likeliest` and `unusual` are values of: product, product_type, category …"""
    likeliest: tuple[Next, ...]
    unusual: tuple[Next, ...]
    """Values that are expected much more often than of other users, the most unusual first."""


@dataclass(frozen=True, eq=False)
class _Users:
    user_ids: tuple[str, ...]
    histories: Histories
    """The asked user's is the first."""


def encode_user(root: Path, user_id: str) -> tuple[Encoding | None, str]:
    """Encode one user of the last materialisation.

    Args:
        root: the home folder.
        user_id: the user.

    Returns:
        The encoding, or None and the reason in one sentence.

    Raises:
        FeatureStoreError: nothing was materialised yet, or a user's features are damaged.
    """
    version = encoder_version(Registry(root))
    if version is None:
        return None, f"{NO_ENCODER}."
    home = Home(root)
    schema = ServingSchema.load(home.feature_store.root)
    as_of = datetime.fromisoformat(schema.as_of)
    catalogue = Catalogue.load(home.catalogue)
    users = _users(home.feature_store.packed_users, schema, catalogue, user_id, microseconds(as_of))
    if users is None:
        return None, NO_PURCHASE
    registry = Registry(root)
    try:
        ranker = bundle.load(registry.bundle(version)).inside
    except (BundleError, CorruptFileError) as error:
        return None, f"The encoder of {version} cannot be loaded: {error}."
    vectors_UD = ranker.encoded(users.histories, catalogue)
    if vectors_UD is None:
        return None, f"{NO_ENCODER}."
    trained_until = boundaries(registry.path(version))["live"]
    axis, likeliest, unusual = _next(ranker, users.histories, catalogue)
    found = Encoding(
        version=version,
        ranker=ranker.name,
        serves=version == registry.champion(),
        trained_until=trained_until,
        age_days=(as_of - trained_until).total_seconds() / DAY_S,
        vector=tuple(vectors_UD[0].tolist()),
        compared_with=len(users.user_ids) - 1,
        alike=_alike(users.user_ids, vectors_UD),
        axis=axis,
        likeliest=likeliest,
        unusual=unusual,
    )
    return found, ""


def encoder_version(registry: Registry) -> str | None:
    """The champion if it has a sequence encoder, or else the newest version that has one. None: none has."""
    champion = registry.champion()
    newest = sorted(
        registry.versions(),
        key=lambda version: (version == champion, boundaries(registry.path(version)).get("live", _LONG_AGO)),
        reverse=True,
    )
    return next((version for version in newest if _encodes(registry, version)), None)


_LONG_AGO = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _encodes(registry: Registry, version: str) -> bool:
    try:
        return ranker_class(str(registry.lineage(version)["ranker"])).encodes_order
    except (BundleError, ImportError):  # of another release, or its package is not installed
        return False


def _users(file: Path, schema: ServingSchema, catalogue: Catalogue, user_id: str, moment_us: int) -> _Users | None:
    """The user and others to compare with, of those who have bought. None: this one has not."""
    stored, layouts = pq.ParquetFile(file), schema.by_layout()
    every = max(1, -(-stored.metadata.num_rows // MOST_USERS))
    own = pq.read_table(file, columns=["user_id", schema.field], filters=[("user_id", "=", user_id)])
    rows = list(zip(own["user_id"].to_pylist(), own[schema.field].to_pylist(), strict=True))
    for batch in stored.iter_batches(USERS_AT_ONCE * every, columns=["user_id", schema.field]):
        some = batch.take(np.arange(0, batch.num_rows, every))
        rows += zip(some["user_id"].to_pylist(), some[schema.field].to_pylist(), strict=True)
    packed = dict(rows)
    ids = [user_id, *(one for one in packed if one != user_id)] if user_id in packed else []
    histories = [unpack(one, packed[one], layouts).history for one in ids]
    read = unpack_histories(histories, np.full(len(ids), moment_us), catalogue.numbering, catalogue.look_rules)
    bought_U = np.diff(read.basket_offsets) > 0
    if not len(ids) or not bought_U[0]:
        return None
    kept = np.flatnonzero(bought_U)
    return _Users(tuple(ids[place] for place in kept.tolist()), take_users(read, kept))


def _alike(user_ids: tuple[str, ...], vectors_UD: NDArray[np.float32]) -> tuple[Alike, ...]:
    centred_UD = vectors_UD.astype(np.float64) - vectors_UD.mean(axis=0, dtype=np.float64)
    lengths_U = np.linalg.norm(centred_UD, axis=1)
    cosine_U = centred_UD @ centred_UD[0] / np.maximum(lengths_U * lengths_U[0], np.finfo(np.float64).tiny)
    nearest = np.argsort(-cosine_U[1:], kind="stable")[:NUM_ALIKE] + 1
    return tuple(Alike(user_id=user_ids[row], similarity=float(cosine_U[row])) for row in nearest.tolist())


def _next(
    ranker: Ranker[Any], histories: Histories, catalogue: Catalogue
) -> tuple[str, tuple[Next, ...], tuple[Next, ...]]:
    """The axis, the likeliest values of the first user's next basket, and those that are unusually likely."""
    some = np.arange(min(NUM_USUAL + 1, len(histories.basket_offsets) - 1))
    lines = ranker.next_lines(take_users(histories, some), catalogue)
    if lines is None:
        return "", (), ()
    own_V = lines.p_UV[0].astype(np.float64)
    usual_V = lines.p_UV[1:].mean(axis=0, dtype=np.float64) if len(lines.p_UV) > 1 else own_V
    times_V = own_V / np.maximum(usual_V, np.finfo(np.float64).tiny)
    rows = catalogue.item_rows
    names = [
        catalogue.item_names[rows[value]] if lines.axis == "product" and value in rows else value
        for value in lines.values
    ]

    def named(places: NDArray[np.int64]) -> tuple[Next, ...]:
        return tuple(
            Next(value=names[place], share=float(own_V[place]), times_usual=float(times_V[place]))
            for place in places.tolist()
        )

    often = np.flatnonzero(own_V >= LEAST_SHARE)
    unusual = often[np.argsort(-times_V[often], kind="stable")]
    return (
        lines.axis,
        named(np.argsort(-own_V, kind="stable")[:NUM_NEXT]),
        named(unusual[times_V[unusual] >= 1.5][:NUM_NEXT]),
    )
