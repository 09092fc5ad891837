"""What monitoring keeps and compares of campaigns: their own features, and the cross features of users' candidates.

A campaign's features count once for each campaign. Cross features are computed by the function that serving and
training call, for users at one moment and the campaigns that are candidates for them then. They are counted for each
campaign apart, because the pairs of one campaign are alike (`recommender.monitoring.deals`).

Shapes: C campaigns · U users · N pairs · B bins, of which the last holds missing values.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from recommender.datasets.periods import microseconds
from recommender.features.shoppers import shoppers_of
from recommender.matching.affinity import CROSS_NAMES, LOOK_NAMES, unpack_user
from recommender.matching.candidates import candidates
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Examples, Shopper, build
from recommender.monitoring.distributions import Distribution

MOST_STARTED = 64
"""Campaigns whose own features are kept, the last that started. By hand: a year of a usual shop or more, some 25 kB."""
MOST_LIVE = 32
"""Live campaigns that users are joined with. By hand: more than most shops have; of more a random choice is taken."""
MOST_USERS = 1000
"""Users who are joined with them, chosen at random. By hand: a share is then known to 5 percent points in the worst
case, and 32 campaigns take two seconds."""
USERS_AT_ONCE = 250
"""Users whose pairs are in memory at once: some 10 MB with 32 campaigns."""
NUM_QUANTILES = 12
"""Edges of a cross feature's bins. Fewer than for users, because they are counted for each campaign. By hand."""
SEED = 23
CROSS = frozenset((*CROSS_NAMES, *LOOK_NAMES))


class CampaignFeatures(BaseModel):
    """The features of some campaigns, each as known when the campaign began to be shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_campaigns: int
    features: dict[str, tuple[float | None, ...]]
    """Name -> a value for each campaign. None: missing."""

    @classmethod
    def started(cls, catalogue: Catalogue, as_of: datetime) -> "CampaignFeatures":
        """Of the last `MOST_STARTED` campaigns that started before `as_of`."""
        order = np.argsort(-catalogue.campaign_starts_C, kind="stable")
        started = order[catalogue.campaign_starts_C[order] < microseconds(as_of)][:MOST_STARTED]
        return cls._of(catalogue, started)

    @classmethod
    def live(cls, catalogue: Catalogue, as_of: datetime) -> "CampaignFeatures":
        """Of the campaigns that are live at `as_of`, `MOST_STARTED` at most."""
        return cls._of(catalogue, _chosen(catalogue.live(microseconds(as_of)), MOST_STARTED))

    @classmethod
    def _of(cls, catalogue: Catalogue, rows: NDArray[np.integer]) -> "CampaignFeatures":
        values_CG = catalogue.campaign_features_CG[rows]
        return cls(
            num_campaigns=len(rows),
            features={
                # The shortest text of a float32, from which the same float32 is read again.
                name: tuple(None if np.isnan(value) else float(str(value)) for value in values_CG[:, place])
                for place, name in enumerate(catalogue.campaign_feature_names)
            },
        )

    def values(self, name: str) -> NDArray[np.float32]:
        """A feature's values, float32 [C], NaN where missing."""
        return np.array([np.nan if value is None else value for value in self.features[name]], dtype=np.float32)


class PairCounts(BaseModel):
    """One cross feature: of each campaign's pairs, how many lie in each bin."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    edges: tuple[float, ...]
    counts: tuple[tuple[int, ...], ...]
    """[C, B]: bins as those of `Distribution`, and the missing ones at the end."""

    @classmethod
    def of(cls, values_N: NDArray[np.float32], place_N: NDArray[np.int64], edges: tuple[float, ...]) -> "PairCounts":
        """Count the values of pairs whose campaigns have these places: 0, 1, … without a gap."""
        missing_N = np.isnan(values_N)
        bins_N = np.searchsorted(np.array(edges, dtype=np.float32), values_N, side="left")
        bins_N[missing_N] = len(edges) + 1
        num_bins = len(edges) + 2
        num_campaigns = int(place_N.max(initial=-1)) + 1
        flat = np.bincount(place_N * num_bins + bins_N, minlength=num_campaigns * num_bins)
        return cls(edges=edges, counts=tuple(map(tuple, flat.reshape(num_campaigns, num_bins).tolist())))

    @property
    def all_pairs(self) -> Distribution:
        """Of all campaigns together."""
        summed = np.array(self.counts, dtype=np.int64).sum(axis=0).tolist()
        return Distribution(edges=self.edges, counts=tuple(summed[:-1]), missing=summed[-1])

    @property
    def shares_CB(self) -> NDArray[np.float64]:
        """Of each campaign's pairs the share in each bin."""
        counts_CB = np.array(self.counts, dtype=np.float64)
        return np.asarray(counts_CB / counts_CB.sum(axis=1, keepdims=True))


class CandidateFeatures(BaseModel):
    """The cross features of users and their candidates at one moment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_users: int
    """Users with a candidate."""
    num_campaigns: int
    """Campaigns that are a candidate for any of them."""
    features: dict[str, PairCounts]

    @classmethod
    def of(
        cls,
        users: pa.Table,
        catalogue: Catalogue,
        as_of: datetime,
        *,
        bins: Mapping[str, tuple[float, ...]] | None = None,
    ) -> "CandidateFeatures":
        """Join some users with the campaigns that are candidates for them.

        Args:
            users: rows of a feature set's users.parquet at `as_of`.
            catalogue: of the same feature set.
            as_of: the moment.
            bins: edges of the bins of each feature that is counted. None: all features, in bins of their own.
        """
        parts = list(_pairs(users, catalogue, microseconds(as_of)))
        if not parts:
            return cls(num_users=0, num_campaigns=0, features={})
        names = parts[0].feature_names
        campaigns, place_N = np.unique(np.concatenate([part.campaigns_N for part in parts]), return_inverse=True)
        features = {}
        for place, name in enumerate(names):
            if name not in CROSS or (bins is not None and name not in bins):
                continue
            values_N = np.concatenate([part.features_NF[:, place] for part in parts])
            own = Distribution.of(values_N, num_quantiles=NUM_QUANTILES).edges if bins is None else bins[name]
            features[name] = PairCounts.of(values_N, place_N, own)
        return cls(
            num_users=sum(len(np.unique(part.users_N)) for part in parts),
            num_campaigns=len(campaigns),
            features=features,
        )


def _pairs(users: pa.Table, catalogue: Catalogue, moment_us: int) -> Iterator[Examples]:
    """The pairs of some users and their candidates, `USERS_AT_ONCE` users at a time."""
    live = _chosen(catalogue.live(moment_us), MOST_LIVE)
    rows = _chosen(np.arange(users.num_rows), MOST_USERS)
    if not len(live) or not len(rows):
        return
    shoppers = shoppers_of(users.take(rows))
    for first in range(0, len(shoppers), USERS_AT_ONCE):
        some = shoppers[first : first + USERS_AT_ONCE]
        rows_U = [_candidates(shopper, live, catalogue, moment_us) for shopper in some]
        users_N = np.repeat(np.arange(len(some), dtype=np.int32), [len(own) for own in rows_U])
        if len(users_N):
            moments_N = np.full(len(users_N), moment_us, dtype=np.int64)
            yield build(some, users_N, np.concatenate(rows_U), catalogue, moments_N)


def _candidates(shopper: Shopper, live: NDArray[np.integer], catalogue: Catalogue, moment_us: int) -> NDArray[np.int32]:
    """Those of the live campaigns that the user has neither taken up nor hidden."""
    user = unpack_user(shopper.affinity, catalogue.numbering)
    named = [catalogue.campaign_ids[row] for row in live.tolist()]
    return candidates(catalogue, moment_us, named=named, user=user).rows_N


def _chosen(rows: NDArray[np.integer], most: int) -> NDArray[np.integer]:
    """All, or so many of them, chosen at random but always alike."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(SEED).choice(rows, most, replace=False))
