"""The training set: pairs as rankers see them, what came of them, and everybody's purchases, in one verified folder.

    pairs.parquet         who was put before which campaign, labels, segments
    examples.safetensors  features and histories of the pairs, made by the function that serving calls
    corpus.safetensors    every user's purchases with their absolute times, for pretraining
    shoppers.parquet      the users who were decided on last, as the feature store holds them: for measuring a request
    catalogue/            items and campaigns

Shapes: N pairs · F features · U users · B baskets · T basket lines · P portrait features · C campaigns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.tables import Tables
from recommender.errors import ContractError, CorruptFileError, PeriodError
from recommender.matching import examples
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import DAY_US, Examples, Histories, Labels, Shopper
from recommender.storage.manifest import read_manifest, whole_folder, write_manifest

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
KEPT_SHOPPERS = 64
_KEYS = ("user_id", "event_timestamp", "affinity", "history")


def write_training_set(
    users: "pa.Table",
    pairs: "pa.Table",
    catalogue: Catalogue,
    tables: Tables,
    output: Path,
    *,
    as_of: datetime | None = None,
) -> Path:
    """Write the training set of `pairs` into the folder `output`, whole or not at all.

    `users` holds each pair's user at its decision, as read point-in-time from the feature store: user_id, event_timestamp (the
    decision), the portrait's float32 columns, `affinity`, `history`; rows that repeat a user and moment are read once. Purchases
    up to `as_of` (None: the log's end) make the corpus.

    Raises:
        ContractError: a pair's user has no row at the decision, or a pair's campaign is not in the catalogue.
        FeatureStoreError: vectors speak of another taxonomy than the catalogue's.
        PeriodError: there are no pairs.
    """
    import pyarrow.parquet as pq
    from safetensors.numpy import save_file

    if not pairs.num_rows:
        raise PeriodError("pairs: there are none; nothing can be learned. Check `targets` and `as_of`.")
    shoppers = shoppers_of(users)
    row_of = {(one.user_id, one.feature_time_us): row for row, one in enumerate(shoppers)}
    decided_us_N = _microseconds(pairs, "decided_at")
    keys = list(zip(pairs["user_id"].to_pylist(), decided_us_N.tolist(), strict=True))
    campaigns = pairs["campaign_id"].to_pylist()
    for number, (key, campaign) in enumerate(zip(keys, campaigns, strict=True)):
        if key not in row_of:
            raise ContractError(
                "users", f"user {key[0]} has no features at the decision", column="user_id", row=f"pair {number}"
            )
        if campaign not in catalogue.campaign_rows:
            raise ContractError(
                "pairs", f"campaign {campaign} is not in the catalogue", column="campaign_id", row=number
            )
    users_N = np.array([row_of[key] for key in keys], dtype=np.int32)
    campaigns_N = np.array([catalogue.campaign_rows[one] for one in campaigns], dtype=np.int32)
    as_of = as_of or tables.log_end + timedelta(microseconds=1)
    made = examples.build(shoppers, users_N, campaigns_N, catalogue, decided_us_N)
    facts = {
        "kind": "training_set",
        "format": FORMAT,
        "data_hash": tables.data_hash,
        "time_zone": tables.time_zone,
        "log_end": tables.log_end.isoformat(),
        "as_of": as_of.isoformat(),
        "feature_names": list(made.feature_names),
        "segments": [name for name in pairs.column_names if name not in _PAIR_COLUMNS],
    }
    with whole_folder(output) as folder:
        pq.write_table(pairs, folder / "pairs.parquet", compression="zstd", write_page_checksum=True)
        arrays = {"campaigns_N": made.campaigns_N, "users_N": made.users_N, "features_NF": made.features_NF}
        save_file({**arrays, **_arrays(made.histories)}, folder / "examples.safetensors")
        save_file(_corpus(tables, catalogue, as_of), folder / "corpus.safetensors")
        last = np.argsort([-one.feature_time_us for one in shoppers], kind="stable")[:KEPT_SHOPPERS]
        pq.write_table(_distinct(users).take(last), folder / "shoppers.parquet")
        catalogue.save(folder / "catalogue")
        write_manifest(folder, **facts)
    return output


_PAIR_COLUMNS = (
    *("user_id", "campaign_id", "decided_at", "starts_at", "ends_at", "campaign_type", "propensity"),
    *("redeemed_at", "spend", "excess", "observed_until", "outlasts_log"),
)


def shoppers_of(users: "pa.Table") -> list[Shopper]:
    """The rows of `users` as shoppers, each user and moment once."""
    table = _distinct(users)
    names = tuple(name for name in table.column_names if name not in _KEYS and "__" in name)
    portrait_UP = np.stack([table[name].to_numpy(zero_copy_only=False).astype(np.float32) for name in names], axis=1)
    return [
        Shopper(user_id, portrait_P, names, affinity, history, moment_us)
        for user_id, portrait_P, affinity, history, moment_us in zip(
            table["user_id"].to_pylist(),
            portrait_UP,
            table["affinity"].to_pylist(),
            table["history"].to_pylist(),
            _microseconds(table, "event_timestamp").tolist(),
            strict=True,
        )
    ]


def _distinct(users: "pa.Table") -> "pa.Table":
    keys = zip(users["user_id"].to_pylist(), _microseconds(users, "event_timestamp").tolist(), strict=True)
    first: dict[tuple[str, int], int] = {}
    for row, key in enumerate(keys):
        first.setdefault(key, row)
    return users if len(first) == users.num_rows else users.take(list(first.values()))


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """A training set that was opened: everything rankers are trained on and judged by."""

    folder: Path
    manifest: dict[str, Any]
    pairs: "pa.Table"
    """user_id, campaign_id, decided_at, starts_at, ends_at, redeemed_at, labels, segments: one row a pair."""
    catalogue: Catalogue
    all: Examples
    """All N pairs."""

    @classmethod
    def open(cls, folder: Path) -> "TrainingSet":
        """Open a folder that `write_training_set` wrote, after verifying its files.

        Raises:
            CorruptFileError: a file is missing, truncated or altered, or the folder holds something else.
        """
        import pyarrow.parquet as pq
        from safetensors.numpy import load_file

        manifest = read_manifest(folder)
        if manifest.get("kind") != "training_set" or manifest.get("format") != FORMAT:
            raise CorruptFileError(f"{folder}: not a training set of format {FORMAT}; build it again")
        catalogue = Catalogue.load(folder / "catalogue")
        arrays = load_file(folder / "examples.safetensors")
        made = Examples(
            catalogue=catalogue,
            campaigns_N=arrays["campaigns_N"],
            users_N=arrays["users_N"],
            features_NF=arrays["features_NF"],
            feature_names=tuple(manifest["feature_names"]),
            histories=Histories(**{field.name: arrays[field.name] for field in fields(Histories)}),
        )
        return cls(folder, manifest, pq.ParquetFile(folder / "pairs.parquet").read(), catalogue, made)

    @property
    def data_hash(self) -> str:
        """Identity of the tables that the set was made from."""
        return str(self.manifest["data_hash"])

    @property
    def time_zone(self) -> str:
        return str(self.manifest["time_zone"])

    @property
    def log_end(self) -> datetime:
        """Outcomes after it are unknown."""
        return datetime.fromisoformat(self.manifest["log_end"])

    @property
    def as_of(self) -> datetime:
        return datetime.fromisoformat(self.manifest["as_of"])

    @property
    def segments(self) -> tuple[str, ...]:
        """Columns of `pairs` that hold portrait segments, as text."""
        return tuple(self.manifest["segments"])

    def decided_in(self, start: datetime | None, end: datetime | None) -> NDArray[np.bool_]:
        """Which pairs were decided in [start, end); None is no limit."""
        mask = np.ones(self.pairs.num_rows, dtype=bool)
        if start is not None:
            mask &= self._decided_us_N >= _us(start)
        if end is not None:
            mask &= self._decided_us_N < _us(end)
        return mask

    def examples(self, mask: NDArray[np.bool_]) -> Examples:
        """The pairs that `mask` [N] picks, with the histories of their users only."""
        users_N, campaigns_N = self.all.users_N[mask], self.all.campaigns_N[mask]
        kept, renumbered_N = np.unique(users_N, return_inverse=True)
        return Examples(
            catalogue=self.catalogue,
            campaigns_N=campaigns_N,
            users_N=renumbered_N.astype(np.int32),
            features_NF=self.all.features_NF[mask],
            feature_names=self.all.feature_names,
            histories=take_users(self.all.histories, kept),
        )

    def labels_at(self, boundary: datetime, mask: NDArray[np.bool_]) -> Labels:
        """What was known at `boundary` of the pairs that `mask` picks.

        A participation counts when it was known before the boundary; without one the pair is 0, also while its window is open.
        Spend and excess are NaN until the window has closed, and for ever where it outlasts the log. A pair decided at or after
        the boundary is NaN throughout.
        """
        boundary_us, log_end_us = _us(boundary), _us(self.log_end)
        redeemed_us_N = self._redeemed_us_N[mask]
        undecided_N = self._decided_us_N[mask] >= boundary_us
        redeemed_N = (redeemed_us_N < boundary_us).astype(np.float32)
        open_N = _microseconds(self.pairs, "ends_at")[mask] > min(boundary_us, log_end_us)
        return Labels(
            redeemed_N=np.where(undecided_N, np.nan, redeemed_N).astype(np.float32),
            spend_N=np.where(open_N | undecided_N, np.nan, self._numbers("spend")[mask]).astype(np.float32),
            excess_N=np.where(open_N | undecided_N, np.nan, self._numbers("excess")[mask]).astype(np.float32),
        )

    def corpus(self, boundary: datetime) -> Histories:
        """Every user's purchases before `boundary`, whole; ages are days up to the boundary. Users without any are left out."""
        from safetensors.numpy import load_file

        arrays = load_file(self.folder / "corpus.safetensors")
        times_us_B = arrays["times_us_B"]
        known_B = times_us_B < _us(boundary)
        lines_B = np.diff(arrays["line_offsets"])
        users_B = np.repeat(np.arange(len(arrays["basket_offsets"]) - 1), np.diff(arrays["basket_offsets"]))[known_B]
        _, baskets_U = np.unique(users_B, return_counts=True)
        return Histories(
            basket_offsets=np.concatenate([[0], np.cumsum(baskets_U)]).astype(np.int64),
            line_offsets=np.concatenate([[0], np.cumsum(lines_B[known_B])]).astype(np.int64),
            items_T=arrays["items_T"][np.repeat(known_B, lines_B)],
            age_days_B=((_us(boundary) - times_us_B[known_B]) / DAY_US).astype(np.float32),
            spend_B=arrays["spend_B"][known_B],
        )

    def requests(self, moment: datetime, count: int) -> tuple[list[Callable[[], Examples]], int]:
        """What a server does for `count` users at `moment`: functions that build one user's examples with all live campaigns.

        Returned beside them is how many campaigns are live; when none is, the last ones that started stand in.
        """
        import pyarrow.parquet as pq

        shoppers = shoppers_of(pq.ParquetFile(self.folder / "shoppers.parquet").read())[:count]
        moment_us = _us(moment)
        rows = self.catalogue.live(moment_us)
        if not len(rows):
            rows = np.argsort(-self.catalogue.campaign_starts_C, kind="stable")[:5].astype(np.int32)
        decided_us_N = np.full(len(rows), max(moment_us, *(one.feature_time_us for one in shoppers)))
        nobody_N = np.zeros(len(rows), dtype=np.int32)

        def request(shopper: Shopper) -> Callable[[], Examples]:
            return lambda: examples.build([shopper], nobody_N, rows, self.catalogue, decided_us_N)

        return [request(shopper) for shopper in shoppers], len(rows)

    @cached_property
    def _decided_us_N(self) -> NDArray[np.int64]:
        return _microseconds(self.pairs, "decided_at")

    @cached_property
    def _redeemed_us_N(self) -> NDArray[np.int64]:
        return _microseconds(self.pairs, "redeemed_at")

    def times_us(self, name: str) -> NDArray[np.int64]:
        """A column of times of `pairs`, µs since 1970, UTC; what never happened is later than everything."""
        return _microseconds(self.pairs, name)

    def _numbers(self, name: str) -> NDArray[np.float64]:
        return np.asarray(self.pairs[name].to_numpy(zero_copy_only=False), dtype=np.float64)


def take_users(histories: Histories, users: Sequence[int] | NDArray[Any]) -> Histories:
    """The histories of some users, in the order asked for."""
    users = np.asarray(users, dtype=np.int64)
    baskets = _ranges(histories.basket_offsets, users)
    lines = _ranges(histories.line_offsets, baskets)
    baskets_U = np.diff(histories.basket_offsets)[users]
    return Histories(
        basket_offsets=np.concatenate([[0], np.cumsum(baskets_U)]).astype(np.int64),
        line_offsets=np.concatenate([[0], np.cumsum(np.diff(histories.line_offsets)[baskets])]).astype(np.int64),
        items_T=histories.items_T[lines],
        age_days_B=histories.age_days_B[baskets],
        spend_B=histories.spend_B[baskets],
    )


def _ranges(offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """offsets[r] … offsets[r + 1] for each row, one after the other."""
    lengths = np.diff(offsets)[rows]
    starts = offsets[rows] - np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(rows) else offsets[:0]
    return np.asarray(np.arange(int(lengths.sum())) + np.repeat(starts, lengths), dtype=np.int64)


def _arrays(histories: Histories) -> dict[str, NDArray[Any]]:
    return {field.name: np.ascontiguousarray(getattr(histories, field.name)) for field in fields(Histories)}


def _corpus(tables: Tables, catalogue: Catalogue, as_of: datetime) -> dict[str, NDArray[Any]]:
    """All purchases before `as_of` as ragged arrays: users in order of their identifiers, baskets in order of time."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    wanted = ["user_id", "kind", "event_time", "item_id", "basket_id", "amount"]
    wanted = [name for name in wanted if tables.has("events", name)]
    data = ds.dataset(tables.folder / "events", format="parquet", partitioning=None)
    moment = pa.scalar(as_of, pa.timestamp("us", tz="UTC"))
    bought = data.to_table(columns=wanted, filter=(ds.field("kind") == "purchase") & (ds.field("event_time") < moment))
    time = bought["event_time"].cast(pa.int64())
    basket = pc.cast(time, pa.string())
    if "basket_id" in wanted:
        basket = pc.coalesce(bought["basket_id"], basket)
    user_T, basket_T = _codes(bought["user_id"]), _codes(basket)
    time_T = time.to_numpy()
    item_T = np.zeros(len(time_T), dtype=np.int32)
    if "item_id" in wanted:
        position = pc.index_in(bought["item_id"], value_set=pa.array(catalogue.item_ids[1:], pa.string()))
        item_T = (pc.fill_null(position, -1).to_numpy() + 1).astype(np.int32)
    amount_T = pc.fill_null(bought["amount"], 0.0).to_numpy() if "amount" in wanted else np.zeros(len(time_T))
    del bought
    order = np.lexsort((item_T, basket_T, user_T))
    user_T, basket_T, time_T, item_T = user_T[order], basket_T[order], time_T[order], item_T[order]
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(user_T) != 0) | (np.diff(basket_T) != 0)]))
    times_us_B = np.maximum.reduceat(time_T, starts)
    spend_B = np.add.reduceat(amount_T[order], starts)
    users_B, lines_B = user_T[starts], np.diff(np.append(starts, len(time_T)))
    by_time = np.lexsort((times_us_B, users_B))
    line_order = _ranges(np.append(starts, len(time_T)).astype(np.int64), by_time.astype(np.int64))
    _, baskets_U = np.unique(users_B, return_counts=True)
    return {
        "basket_offsets": np.concatenate([[0], np.cumsum(baskets_U)]).astype(np.int64),
        "line_offsets": np.concatenate([[0], np.cumsum(lines_B[by_time])]).astype(np.int64),
        "items_T": np.ascontiguousarray(item_T[line_order]),
        "times_us_B": np.ascontiguousarray(times_us_B[by_time]),
        "spend_B": spend_B[by_time].astype(np.float32),
    }


def _codes(values: Any) -> NDArray[np.int64]:
    """Rank of each text among the distinct ones, in alphabetical order."""
    encoded = values.combine_chunks().dictionary_encode()
    distinct = np.array(encoded.dictionary.to_pylist(), dtype=object)
    rank = np.empty(len(distinct), dtype=np.int64)
    rank[np.argsort(distinct, kind="stable")] = np.arange(len(distinct))
    return np.asarray(rank[encoded.indices.to_numpy()], dtype=np.int64)


def _microseconds(table: Any, name: str) -> NDArray[np.int64]:
    """µs since 1970 of a column of times; a missing one is later than everything."""
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = pc.cast(table[name], pa.timestamp("us", tz="UTC")).cast(pa.int64())
    return np.asarray(pc.fill_null(whole, np.iinfo(np.int64).max).to_numpy(), dtype=np.int64)


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
