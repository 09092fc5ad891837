"""Scores in bulk: all users of the last materialisation and some campaigns, with the functions that answer a request.

Shapes: U users of a batch · C campaigns · N = U x C pairs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recommender.datasets.periods import from_microseconds, microseconds
from recommender.errors import RegistryError, ServingError, SourceError
from recommender.event_tables.segments import campaigns_out
from recommender.events.tail import Out
from recommender.matching.affinity import unpack_user
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Shopper, build
from recommender.matching.packed_history import num_lines
from recommender.matching.packed_user import ServingSchema, unpack
from recommender.matching.rerank import BY_SCORE, Rerank, Shares
from recommender.models.campaign.horizon_ranker import HorizonRanker
from recommender.registry import Registry, bundle
from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.manifest import read_manifest

USERS_A_BATCH = 512
"""Users read and scored at once where there are few campaigns. By hand."""
PAIRS_A_BATCH = 10_240
"""Pairs scored at once, so that many campaigns take no more memory: 12 MB of 300 features. By hand."""
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
    allow_repeats: bool = False
    """Whether a user is scored for a campaign that the user has taken up."""
    rerank: Rerank = BY_SCORE
    """How each user's campaigns are re-ranked, as the endpoint does."""
    out: Mapping[str, Mapping[str, Out]] = field(default_factory=dict)
    """Of each user the campaigns for which events since keep the user from being scored, and why."""

    @classmethod
    def open(cls, home: Path, *, allow_repeats: bool = False, rerank: Rerank = BY_SCORE) -> "BulkScorer":
        """Open the champion of the registry below `home` and the features of the last materialisation.

        Args:
            home: the home folder.
            allow_repeats: as the setting `serving.allow_repeats`.
            rerank: as the settings `serving.rerank` and `serving.rerank_trade_off`.

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
        catalogue = Catalogue.load(Home(home).catalogue)
        out = campaigns_out(Home(home).events, repeats=allow_repeats)
        return cls(version, ranker, catalogue, store.packed_users, schema, allow_repeats, rerank, out)

    @classmethod
    def of(cls, settings: Settings) -> "BulkScorer":
        """Open the champion of a home with the serving settings that the endpoint follows. Raises as `open`."""
        serving = settings.serving
        return cls.open(settings.home, allow_repeats=serving.allow_repeats, rerank=Rerank.of(serving))

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
            SourceError: a campaign is unknown or has ended, so that nobody can take it up; names it and those that are
                live.
        """
        rows, unknown = self.catalogue.rows(campaign_ids)
        live = ", ".join(self.catalogue.campaign_ids[row] for row in self.live_campaigns()) or "none"
        if unknown:
            raise SourceError(f"unknown campaign {unknown[0]!r}; live campaigns are {live}")
        ended = rows[self.catalogue.campaign_ends_C[rows] <= microseconds(self.as_of)]
        if len(ended):
            row = int(ended[0])
            at = from_microseconds(int(self.catalogue.campaign_ends_C[row])).isoformat()
            raise SourceError(
                f"campaign {self.catalogue.campaign_ids[row]!r} ended at {at}, before {self.as_of.isoformat()}, the "
                f"moment of the features; live campaigns are {live}"
            )
        return rows

    def score(
        self, campaigns_C: NDArray[np.int32], *, progress: Callable[[int], None] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Score every user for those of `campaigns_C` that the user has not taken up yet.

        Args:
            campaigns_C: rows of campaigns in the catalogue.
            progress: called with the number of users of each batch, when it is scored and taken.

        Yields:
            Batches of `SCHEMA`, users in the order of the store, each user's best campaign first.

        Raises:
            ServingError: the ranker returned NaN or Inf; names user and campaign.
            FeatureStoreError: a user's features are damaged or refer to another taxonomy than the catalogue's.
        """
        size = max(1, min(USERS_A_BATCH, PAIRS_A_BATCH // max(len(campaigns_C), 1)))
        for shoppers in self._shoppers(size):
            yield self._batch(shoppers, campaigns_C)
            if progress is not None:
                progress(len(shoppers))

    @property
    def num_users(self) -> int:
        """How many users there are to score."""
        return int(pq.ParquetFile(self.users).metadata.num_rows)

    def shoppers(self) -> Iterator[Shopper]:
        """All users, in the order of the store."""
        for batch in self._shoppers(USERS_A_BATCH):
            yield from batch

    def shopper(self, user_id: str) -> Shopper | None:
        """One user of the last materialisation. None: the user is unknown.

        Raises:
            FeatureStoreError: the user's features are damaged.
        """
        field = self.schema.field
        found = pq.read_table(self.users, columns=["user_id", field], filters=[("user_id", "=", user_id)])
        return unpack(user_id, found[field][0].as_py(), self.schema.by_layout()) if found.num_rows else None

    def heaviest_and_lightest(self) -> tuple[str, str]:
        """Return the users with the most and the fewest purchase lines in their history, ties by name.

        Users without purchases do not count, unless all are.
        """
        sizes = sorted(
            (num_lines(shopper.history), shopper.user_id)
            for batch in self._shoppers(USERS_A_BATCH)
            for shopper in batch
        )
        buyers = [user_id for size, user_id in sizes if size] or [user_id for _, user_id in sizes]
        return buyers[-1], buyers[0]

    def _shoppers(self, size: int) -> Iterator[list[Shopper]]:
        """Read the users in batches of `size`."""
        layouts = self.schema.by_layout()
        for batch in pq.ParquetFile(self.users).iter_batches(size, columns=["user_id", self.schema.field]):
            packed = zip(batch["user_id"].to_pylist(), batch[self.schema.field].to_pylist(), strict=True)
            yield [unpack(user_id, value, layouts) for user_id, value in packed]

    def _batch(self, shoppers: list[Shopper], campaigns_C: NDArray[np.int32]) -> pa.RecordBatch:
        num_users, num_campaigns = len(shoppers), len(campaigns_C)
        users_N = np.repeat(np.arange(num_users, dtype=np.int32), num_campaigns)
        campaigns_N = np.tile(campaigns_C, num_users)
        decided_us_N = np.full(len(users_N), microseconds(self.as_of), dtype=np.int64)
        examples = build(shoppers, users_N, campaigns_N, self.catalogue, decided_us_N)
        score_UC = self.ranker.score(examples).redeem_N.reshape(num_users, num_campaigns)
        self._require_finite(score_UC, shoppers, campaigns_C)
        wanted_UC = self._wanted(shoppers, campaigns_C)
        best_UC = self._order(shoppers, campaigns_C, score_UC, wanted_UC)
        kept_UC = np.take_along_axis(wanted_UC, best_UC, axis=1)
        kept_N = kept_UC.ravel()
        columns = (
            [shoppers[user].user_id for user in users_N[kept_N]],
            [self.catalogue.campaign_ids[row] for row in campaigns_C[best_UC].ravel()[kept_N]],
            np.take_along_axis(score_UC, best_UC, axis=1).ravel()[kept_N].astype(np.float32),
            kept_UC.cumsum(axis=1, dtype=np.int32).ravel()[kept_N],
            [self.version] * int(kept_N.sum()),
            [self.as_of] * int(kept_N.sum()),
        )
        arrays = [pa.array(values, kind.type) for values, kind in zip(columns, SCHEMA, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)

    def _order(
        self,
        shoppers: list[Shopper],
        campaigns_C: NDArray[np.int32],
        score_UC: NDArray[np.float32],
        wanted_UC: NDArray[np.bool_],
    ) -> NDArray[np.int64]:
        """Order each user's campaigns, best first, int [U, C]. Only candidates take part in a re-ranking."""
        best_UC = np.argsort(-score_UC, axis=1, kind="stable")
        for row, shopper in enumerate(shoppers if self.rerank.is_on else ()):
            shares = Shares.of(unpack_user(shopper.affinity, self.catalogue.numbering))
            wanted = np.flatnonzero(wanted_UC[row])
            order = self.rerank.order(score_UC[row, wanted], campaigns_C[wanted], self.catalogue, shares)
            best_UC[row] = np.concatenate([wanted[order], np.flatnonzero(~wanted_UC[row])])
        return best_UC

    def _wanted(self, shoppers: list[Shopper], campaigns_C: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Mark the pairs that are candidates, bool [U, C]: not what the user has taken up or hidden."""
        wanted_UC = np.ones((len(shoppers), len(campaigns_C)), dtype=bool)
        codes_C = self.catalogue.campaign_codes_C[campaigns_C]
        for row, shopper in enumerate(shoppers if not self.allow_repeats else ()):
            user = unpack_user(shopper.affinity, self.catalogue.numbering)
            wanted_UC[row] = ~user.taken_up(codes_C)
        for row, shopper in enumerate(shoppers if self.out else ()):
            if out := self.out.get(shopper.user_id):
                wanted_UC[row] &= [self.catalogue.campaign_ids[campaign] not in out for campaign in campaigns_C]
        return wanted_UC

    def _require_finite(
        self, score_UC: NDArray[np.float32], shoppers: list[Shopper], campaigns_C: NDArray[np.int32]
    ) -> None:
        broken = np.argwhere(~np.isfinite(score_UC))
        if len(broken):
            user, column = broken[0].tolist()
            raise ServingError(
                f"{self.version} returned NaN or Inf for user {shoppers[user].user_id} and campaign "
                f"{self.catalogue.campaign_ids[campaigns_C[column]]}; check its bundle"
            )
