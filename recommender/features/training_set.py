"""The training set: pairs as rankers see them, their outcomes, and all purchases, in one verified folder.

    pairs.parquet         which users were targeted by which campaign, labels, segments
    examples.safetensors  features and histories of the pairs, made by the function that serving calls
    corpus.safetensors    every user's purchases, and looks of pairs' users, with absolute times, for pretraining
    shoppers.parquet      the users decided on last, as the feature store holds them, for measuring latency
    lists.safetensors     the candidates of each user's last decision in each period, for judging lists
    catalogue/            items and campaigns
    reference.json        how the features of users, campaigns and both together were distributed, for monitoring

Shapes: N pairs · F features · U users · B baskets · T basket lines · P portrait features · C campaigns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from recommender.datasets.periods import microseconds
from recommender.datasets.tables import Tables
from recommender.errors import ContractError, CorruptFileError, PeriodError
from recommender.features.decision_lists import FILE as LISTS
from recommender.features.decision_lists import DecisionLists, read_lists, write_lists
from recommender.features.histories import (
    arrays_of_histories,
    corpus_arrays,
    histories_before,
    histories_of_arrays,
    take_users,
)
from recommender.features.shoppers import distinct_users, microsecond_column, shoppers_of
from recommender.matching import examples
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Examples, Labels, Shopper
from recommender.matching.horizon import Horizon, Outcomes
from recommender.matching.packed_history import Histories
from recommender.storage.home import REFERENCE_FILE
from recommender.storage.manifest import read_manifest, whole_folder, write_manifest, write_text

FORMAT = 1
"""Version of the folder's layout, in its manifest. Raise it when a reader of the old layout would misread the new
one."""
KEPT_SHOPPERS = 64
"""Users kept for measuring latency, chosen by hand. `evaluation.evaluate` measures with fewer."""
NUM_FALLBACK_CAMPAIGNS = 5
"""Campaigns of a measured request when none is live, the last ones that started. Chosen by hand: about
as many as a shop has live."""


def write_training_set(
    users: pa.Table,
    pairs: pa.Table,
    catalogue: Catalogue,
    tables: Tables,
    output: Path,
    *,
    as_of: datetime | None = None,
    feature_service: str = "",
    list_bounds: Sequence[datetime] = (),
    reference: str | None = None,
) -> Path:
    """Write a training set into the folder `output`, completely or not at all.

    Args:
        users: each pair's user at its decision, as read point-in-time from the feature store: user_id, event_timestamp
            (the decision), the portrait's float32 columns, `affinity`, `history`. Rows that repeat a user and time are
            read once.
        pairs: the pairs with labels and segments, as `features.build` writes them.
        catalogue: items and campaigns.
        tables: where the corpus of purchases is read from.
        output: the folder to write.
        as_of: purchases before it make the corpus; by default all of them.
        feature_service: name of the feature service that `users` was read by. Models keep it in their lineage.
        list_bounds: starts and end of the periods for which users' lists are kept (`decision_lists.write_lists`).
        reference: distributions of the features at `as_of`, which monitoring compares later ones with.

    Raises:
        ContractError: a pair's user has no row at the decision, or a pair's campaign is not in the catalogue.
        FeatureStoreError: the users' vectors belong to another taxonomy than the catalogue's.
        PeriodError: there are no pairs.
    """
    if not pairs.num_rows:
        raise PeriodError("pairs: there are no pairs to learn from; check `targets` and `as_of`")
    shoppers = shoppers_of(users)
    row_of = {(shopper.user_id, shopper.feature_time_us): row for row, shopper in enumerate(shoppers)}
    decided_us_N = microsecond_column(pairs, "decided_at")
    keys = list(zip(pairs["user_id"].to_pylist(), decided_us_N.tolist(), strict=True))
    campaigns = pairs["campaign_id"].to_pylist()
    for number, ((user_id, _), campaign_id) in enumerate(zip(keys, campaigns, strict=True)):
        if keys[number] not in row_of:
            problem = f"user {user_id!r} has no features at the decision; materialise the features of these tables"
            raise ContractError("users", problem, column="user_id", row=f"pair {number}")
        if campaign_id not in catalogue.campaign_rows:
            problem = f"campaign {campaign_id!r} is not in the catalogue; build both from the same tables"
            raise ContractError("pairs", problem, column="campaign_id", row=f"pair {number}")
    users_N = np.array([row_of[key] for key in keys], dtype=np.int32)
    campaigns_N = np.array([catalogue.campaign_rows[campaign_id] for campaign_id in campaigns], dtype=np.int32)
    as_of = as_of or tables.log_end + timedelta(microseconds=1)
    built = examples.build(shoppers, users_N, campaigns_N, catalogue, decided_us_N)
    facts = {
        "kind": "training_set",
        "format": FORMAT,
        "data_hash": tables.data_hash,
        "time_zone": tables.time_zone,
        "log_end": tables.log_end.isoformat(),
        "as_of": as_of.isoformat(),
        "feature_service": feature_service,
        "feature_names": list(built.feature_names),
        "segments": [name for name in pairs.column_names if name not in _PAIR_COLUMNS],
    }
    with whole_folder(output) as folder:
        pq.write_table(pairs, folder / "pairs.parquet", compression="zstd", write_page_checksum=True)
        arrays = {"campaigns_N": built.campaigns_N, "users_N": built.users_N, "features_NF": built.features_NF}
        save_file({**arrays, **arrays_of_histories(built.histories)}, folder / "examples.safetensors")
        write_lists(shoppers, users_N.tolist(), catalogue, list_bounds, folder / LISTS)
        save_file(corpus_arrays(tables, catalogue, as_of, shoppers), folder / "corpus.safetensors")
        last = np.argsort([-shopper.feature_time_us for shopper in shoppers], kind="stable")[:KEPT_SHOPPERS]
        pq.write_table(distinct_users(users).take(last), folder / "shoppers.parquet")
        catalogue.save(folder / "catalogue")
        if reference is not None:
            write_text(folder / REFERENCE_FILE, reference)
        write_manifest(folder, **facts)
    return output


_PAIR_COLUMNS = (
    *("user_id", "campaign_id", "decided_at", "starts_at", "ends_at", "campaign_type", "propensity"),
    *("redeemed_at", "spend", "excess", "observed_until", "outlasts_log"),
)


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """An opened training set: everything that rankers are trained and evaluated on."""

    folder: Path
    manifest: dict[str, Any]
    pairs: pa.Table
    """[N]: user_id, campaign_id, decided_at, starts_at, ends_at, redeemed_at, labels, segments."""
    catalogue: Catalogue
    all: Examples
    """All pairs as rankers see them."""

    @classmethod
    def open(cls, folder: Path) -> "TrainingSet":
        """Open a folder that `write_training_set` wrote, after verifying its files.

        Raises:
            CorruptFileError: a file is missing, truncated or altered, or the folder holds something else.
        """
        manifest = read_manifest(folder)
        if manifest.get("kind") != "training_set" or manifest.get("format") != FORMAT:
            raise CorruptFileError(
                f"{folder}: must be a training set of format {FORMAT} (got {manifest.get('kind')} of format "
                f"{manifest.get('format')}); build it again"
            )
        catalogue = Catalogue.load(folder / "catalogue")
        arrays = load_file(folder / "examples.safetensors")
        all_examples = Examples(
            catalogue=catalogue,
            campaigns_N=arrays["campaigns_N"],
            users_N=arrays["users_N"],
            features_NF=arrays["features_NF"],
            feature_names=tuple(manifest["feature_names"]),
            histories=histories_of_arrays(arrays),
        )
        return cls(folder, manifest, pq.ParquetFile(folder / "pairs.parquet").read(), catalogue, all_examples)

    @property
    def data_hash(self) -> str:
        """Hash of the contents of the tables that the set was built from."""
        return str(self.manifest["data_hash"])

    @property
    def time_zone(self) -> str:
        """IANA zone of the shops."""
        return str(self.manifest["time_zone"])

    @property
    def log_end(self) -> datetime:
        """Time of the last event. Outcomes after it are unknown."""
        return datetime.fromisoformat(self.manifest["log_end"])

    @property
    def as_of(self) -> datetime:
        """Time up to which decisions and purchases are in the set."""
        return datetime.fromisoformat(self.manifest["as_of"])

    @property
    def segments(self) -> tuple[str, ...]:
        """Columns of `pairs` that hold portrait segments, as text."""
        return tuple(self.manifest["segments"])

    def decided_in(self, start: datetime | None, end: datetime | None) -> NDArray[np.bool_]:
        """Mark the pairs decided at or after `start` and before `end`, bool [N]. None is no limit."""
        mask = np.ones(self.pairs.num_rows, dtype=bool)
        if start is not None:
            mask &= self._decided_us_N >= microseconds(start)
        if end is not None:
            mask &= self._decided_us_N < microseconds(end)
        return mask

    def examples(self, mask: NDArray[np.bool_]) -> Examples:
        """Select the pairs of a mask, bool [N], with the histories of their users only."""
        users_N, campaigns_N = self.all.users_N[mask], self.all.campaigns_N[mask]
        kept, renumbered_N = np.unique(users_N, return_inverse=True)
        return Examples(
            catalogue=self.catalogue,
            campaigns_N=campaigns_N,
            users_N=renumbered_N.astype(np.int32),
            features_NF=self.all.features_NF[mask],
            feature_names=self.all.feature_names,
            histories=take_users(self.all.histories, kept),
            horizon=Horizon.whole(self._decided_us_N, self._decided_us_N, self.times_us("ends_at")).take(mask),
        )

    def labels_at(self, boundary: datetime, mask: NDArray[np.bool_]) -> Labels:
        """Return the labels of the pairs of a mask, bool [N], as known at `boundary`.

        A participation counts if it was known before the boundary. Without one the pair is 0, even while its window is
        open: `outcomes_at` says which ones are. Spend and excess are NaN until the window has closed, and always where
        it ends after the log. A pair decided at or after the boundary has only NaN.
        """
        boundary_us, log_end_us = microseconds(boundary), microseconds(self.log_end)
        redeemed_us_N = self._redeemed_us_N[mask]
        undecided_N = self._decided_us_N[mask] >= boundary_us
        redeemed_N = (redeemed_us_N < boundary_us).astype(np.float32)
        open_N = microsecond_column(self.pairs, "ends_at")[mask] > min(boundary_us, log_end_us)
        return Labels(
            redeemed_N=np.where(undecided_N, np.nan, redeemed_N).astype(np.float32),
            spend_N=np.where(open_N | undecided_N, np.nan, self._float_column("spend")[mask]).astype(np.float32),
            excess_N=np.where(open_N | undecided_N, np.nan, self._float_column("excess")[mask]).astype(np.float32),
        )

    def outcomes_at(self, boundary: datetime, mask: NDArray[np.bool_]) -> Outcomes:
        """Return what was known at `boundary` about the participations of the pairs of a mask, bool [N], and when."""
        return Outcomes.known_before(
            microseconds(boundary),
            log_end_us=microseconds(self.log_end),
            targeted_us_N=self._decided_us_N[mask],
            ends_us_N=self.times_us("ends_at")[mask],
            redeemed_us_N=self._redeemed_us_N[mask],
        )

    def corpus(self, boundary: datetime) -> Histories:
        """Return the whole histories of all users before `boundary`, as `histories_before` cuts them."""
        return histories_before(load_file(self.folder / "corpus.safetensors"), boundary)

    def requests(self, moment: datetime, count: int) -> tuple[list[Callable[[], Examples]], int]:
        """Build the requests of `count` users at `moment`, as a server would see them, for measuring latency.

        Returns:
            Functions that build one user's examples with all live campaigns, and the number of these campaigns. If none
            is live, the last ones that started are taken.
        """
        shoppers = shoppers_of(pq.ParquetFile(self.folder / "shoppers.parquet").read())[:count]
        moment_us = microseconds(moment)
        rows = self.catalogue.live(moment_us)
        if not len(rows):
            by_start = np.argsort(-self.catalogue.campaign_starts_C, kind="stable")
            rows = by_start[:NUM_FALLBACK_CAMPAIGNS].astype(np.int32)
        decided_us_N = np.full(len(rows), max(moment_us, *(shopper.feature_time_us for shopper in shoppers)))
        users_N = np.zeros(len(rows), dtype=np.int32)

        def request(shopper: Shopper) -> Callable[[], Examples]:
            return lambda: examples.build([shopper], users_N, rows, self.catalogue, decided_us_N)

        return [request(shopper) for shopper in shoppers], len(rows)

    @cached_property
    def lists(self) -> DecisionLists:
        """The lists that serving could have given at past decisions."""
        if not (self.folder / LISTS).is_file():
            raise CorruptFileError(f"{self.folder / LISTS}: a training set of an earlier release; build it again")
        return read_lists(self.folder / LISTS, self.catalogue, self.all.feature_names, self.all.histories)

    @cached_property
    def _decided_us_N(self) -> NDArray[np.int64]:
        return microsecond_column(self.pairs, "decided_at")

    @cached_property
    def _redeemed_us_N(self) -> NDArray[np.int64]:
        return microsecond_column(self.pairs, "redeemed_at")

    def times_us(self, name: str) -> NDArray[np.int64]:
        """Return a column of times of `pairs` in microseconds since 1970, UTC, NEVER where it is missing, int64 [N]."""
        return microsecond_column(self.pairs, name)

    def _float_column(self, name: str) -> NDArray[np.float64]:
        return np.asarray(self.pairs[name].to_numpy(zero_copy_only=False), dtype=np.float64)
