"""Scores in bulk: all users of the last materialisation and some campaigns, with the functions that answer a request.

Shapes: U users of a batch · C campaigns · N = U x C pairs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recommender.datasets.periods import microseconds
from recommender.errors import RegistryError, SourceError
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Shopper, build
from recommender.matching.packed_user import ServingSchema, unpack
from recommender.models.campaign.horizon_ranker import HorizonRanker
from recommender.registry import Registry, bundle
from recommender.storage.home import Home
from recommender.storage.manifest import read_manifest

USERS_A_BATCH = 512
"""Users read and scored at once. Chosen by hand: with twenty campaigns a batch has some 10,000 pairs of 300
features."""
SCHEMA = pa.schema(
    {
        "user_id": pa.string(),
        "campaign_id": pa.string(),
        "score": pa.float32(),
        "rank": pa.int32(),
        "model_version": pa.string(),
        "as_of": pa.timestamp("us", tz="UTC"),
    }
)
"""`score` is the probability of participation. `rank` 1 is the user's best campaign among those scored."""


@dataclass(frozen=True, eq=False)
class BulkScorer:
    """The champion, with the features and the catalogue that it scores."""

    version: str
    ranker: HorizonRanker
    catalogue: Catalogue
    users: Path
    schema: ServingSchema

    @classmethod
    def open(cls, home: Path) -> "BulkScorer":
        """Open the champion of the registry below `home` and the features of the last materialisation.

        Raises:
            RegistryError: there is no champion yet.
            FeatureStoreError: nothing was materialised yet.
            CorruptFileError: the bundle, the catalogue or the features are damaged.
        """
        registry = Registry(home)
        version = registry.champion()
        if version is None:
            raise RegistryError(
                f"{registry.folder} has no champion yet; start with: recommender run, or give the --data of that run"
            )
        store = Home(home).feature_store
        schema = ServingSchema.load(store.root)
        read_manifest(store.offline)
        ranker = bundle.load(registry.bundle(version))
        return cls(version, ranker, Catalogue.load(Home(home).catalogue), store.packed_users, schema)

    @property
    def as_of(self) -> datetime:
        """Time for which the features were built."""
        return datetime.fromisoformat(self.schema.as_of)

    def live_campaigns(self) -> NDArray[np.int32]:
        """Return the rows of the campaigns that are live at `as_of`, the most popular first.

        Campaigns with equal scores keep that order.
        """
        return self.catalogue.popular(self.catalogue.live(microseconds(self.as_of)))

    def campaigns(self, campaign_ids: Sequence[str]) -> NDArray[np.int32]:
        """Return the rows of campaigns.

        Raises:
            SourceError: a campaign is unknown; names it and those that are live.
        """
        rows, unknown = self.catalogue.rows(campaign_ids)
        if unknown:
            live = ", ".join(self.catalogue.campaign_ids[row] for row in self.live_campaigns())
            raise SourceError(f"unknown campaign {unknown[0]!r}; live campaigns are {live or 'none'}")
        return rows

    def score(self, campaigns_C: NDArray[np.int32]) -> Iterator[pa.RecordBatch]:
        """Score every user for `campaigns_C`.

        Yields:
            Batches of `SCHEMA`, users in the order of the store, each user's best campaign first.
        """
        for shoppers in self._shoppers():
            yield self._batch(shoppers, campaigns_C)

    def heaviest_and_lightest(self) -> tuple[str, str]:
        """Return the users with the longest and the shortest purchase history, ties by name.

        Users without purchases do not count, unless all are.
        """
        sizes = sorted((len(shopper.history), shopper.user_id) for batch in self._shoppers() for shopper in batch)
        # Packed histories of users without purchases have the smallest size, that of the header.
        buyers = [user_id for size, user_id in sizes if size > sizes[0][0]] or [user_id for _, user_id in sizes]
        return buyers[-1], buyers[0]

    def _shoppers(self) -> Iterator[list[Shopper]]:
        """Read the users in batches."""
        layouts = self.schema.by_layout()
        for batch in pq.ParquetFile(self.users).iter_batches(USERS_A_BATCH, columns=["user_id", self.schema.field]):
            packed = zip(batch["user_id"].to_pylist(), batch[self.schema.field].to_pylist(), strict=True)
            yield [unpack(user_id, value, layouts) for user_id, value in packed]

    def _batch(self, shoppers: list[Shopper], campaigns_C: NDArray[np.int32]) -> pa.RecordBatch:
        num_users, num_campaigns = len(shoppers), len(campaigns_C)
        users_N = np.repeat(np.arange(num_users, dtype=np.int32), num_campaigns)
        campaigns_N = np.tile(campaigns_C, num_users)
        decided_us_N = np.full(len(users_N), microseconds(self.as_of), dtype=np.int64)
        examples = build(shoppers, users_N, campaigns_N, self.catalogue, decided_us_N)
        score_UC = self.ranker.score(examples).redeem_N.reshape(num_users, num_campaigns)
        best_UC = np.argsort(-score_UC, axis=1, kind="stable")
        columns = (
            [shoppers[user].user_id for user in users_N],
            [self.catalogue.campaign_ids[row] for row in campaigns_C[best_UC].ravel()],
            np.take_along_axis(score_UC, best_UC, axis=1).ravel().astype(np.float32),
            np.tile(np.arange(1, num_campaigns + 1, dtype=np.int32), num_users),
            [self.version] * len(users_N),
            [self.as_of] * len(users_N),
        )
        arrays = [pa.array(values, kind.type) for values, kind in zip(columns, SCHEMA, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
