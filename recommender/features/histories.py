"""Purchase histories of all users as ragged arrays: the corpus of a training set, and selections from it.

Shapes: U users · B baskets · T basket lines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from recommender.datasets.periods import microseconds
from recommender.datasets.tables import Tables
from recommender.datasets.time_units import DAY_US, SECOND_US
from recommender.features.look_corpus import PREFIX, arrays_of, corpus_looks, corpus_looks_before, looks_of
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Shopper
from recommender.matching.packed_history import Histories
from recommender.matching.ragged import offsets_of, places_of

_PURCHASES = tuple(field.name for field in fields(Histories) if field.name != "looks")
NEVER_S = np.iinfo(np.int64).max
"""Stands for a purchase that was not returned."""


def corpus_arrays(
    tables: Tables, catalogue: Catalogue, as_of: datetime, shoppers: Sequence[Shopper] = ()
) -> dict[str, NDArray[Any]]:
    """Read all purchases before `as_of` as ragged arrays, with the looks of `shoppers` (`look_corpus.corpus_looks`).

    The arrays are those of `Histories`, with the baskets' absolute times `times_us_B` instead of their ages. Users are
    in order of their identifiers, baskets in order of time.

    Where purchases were returned before `as_of`, each line also has `returned_s_T` (second of the return, int64; the
    largest number if there was none), `returned_share_T` and `amount_T` (float64), because a boundary before the return
    still sees the purchase.
    """
    wanted = ["user_id", "kind", "event_time", "item_id", "basket_id", "amount", "returned_at", "returned_share"]
    wanted = [name for name in wanted if tables.has("events", name)]
    data = ds.dataset(tables.folder / "events", format="parquet", partitioning=None)
    moment = pa.scalar(as_of, pa.timestamp("us", tz="UTC"))
    bought = data.to_table(columns=wanted, filter=(ds.field("kind") == "purchase") & (ds.field("event_time") < moment))
    time = bought["event_time"].cast(pa.int64())
    # Without a basket identifier, what was bought at the same time is one basket.
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
    returned = _returned(bought, microseconds(as_of))
    looks = corpus_looks(shoppers, sorted(pc.unique(bought["user_id"]).to_pylist()), catalogue) if shoppers else {}
    del bought  # The largest table here; what follows needs the memory.
    order = np.lexsort((item_T, basket_T, user_T))
    user_T, basket_T, time_T, item_T = user_T[order], basket_T[order], time_T[order], item_T[order]
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(user_T) != 0) | (np.diff(basket_T) != 0)]))
    times_us_B = np.maximum.reduceat(time_T, starts)
    spend_B = np.add.reduceat(amount_T[order], starts)
    users_B, lines_B = user_T[starts], np.diff(np.append(starts, len(time_T)))
    by_time = np.lexsort((times_us_B, users_B))
    line_order = places_of(np.append(starts, len(time_T)).astype(np.int64), by_time.astype(np.int64))
    _, baskets_U = np.unique(users_B, return_counts=True)
    by_line = {name: values_T[order][line_order] for name, values_T in returned.items()}
    if by_line:
        by_line["amount_T"] = amount_T[order][line_order]
    return {
        **by_line,
        **looks,
        "basket_offsets": offsets_of(baskets_U),
        "line_offsets": offsets_of(lines_B[by_time]),
        "items_T": np.ascontiguousarray(item_T[line_order]),
        "times_us_B": np.ascontiguousarray(times_us_B[by_time]),
        "spend_B": spend_B[by_time].astype(np.float32),
    }


def histories_before(arrays: Mapping[str, NDArray[Any]], boundary: datetime) -> Histories:
    """Cut `corpus_arrays` at a boundary. Ages are days up to it. Users without a purchase before it are left out.

    A purchase that was wholly returned before the boundary is left out, and the spend of others is net, as
    `source.known_at` has it for features.
    """
    if "returned_s_T" in arrays:
        arrays = _known_at(arrays, microseconds(boundary) // SECOND_US)
    boundary_us, times_us_B = microseconds(boundary), arrays["times_us_B"]
    known_B = times_us_B < boundary_us
    lines_B = np.diff(arrays["line_offsets"])
    users_B = np.repeat(np.arange(len(arrays["basket_offsets"]) - 1), np.diff(arrays["basket_offsets"]))[known_B]
    users, baskets_U = np.unique(users_B, return_counts=True)
    return Histories(
        basket_offsets=offsets_of(baskets_U),
        line_offsets=offsets_of(lines_B[known_B]),
        items_T=arrays["items_T"][np.repeat(known_B, lines_B)],
        age_days_B=((boundary_us - times_us_B[known_B]) / DAY_US).astype(np.float32),
        spend_B=arrays["spend_B"][known_B],
        looks=corpus_looks_before(arrays, boundary, users),
    )


def _returned(bought: pa.Table, as_of_us: int) -> dict[str, NDArray[Any]]:
    """Second and share of the returns before `as_of_us` by line. Empty where nothing was returned."""
    if "returned_at" not in bought.column_names:
        return {}
    returned_us_T = pc.fill_null(bought["returned_at"].cast(pa.int64()), NEVER_S).to_numpy()
    known_T = returned_us_T // SECOND_US < as_of_us // SECOND_US
    if not known_T.any():
        return {}
    share_T = np.ones(len(known_T))
    if "returned_share" in bought.column_names:
        share_T = pc.fill_null(bought["returned_share"], 1.0).to_numpy()
    return {
        "returned_s_T": np.where(known_T, returned_us_T // SECOND_US, NEVER_S),
        "returned_share_T": np.where(known_T, share_T, 0.0),
    }


def _known_at(arrays: Mapping[str, NDArray[Any]], moment_s: int) -> dict[str, NDArray[Any]]:
    """`corpus_arrays` without the lines that were wholly returned before a moment, and with net spend."""
    kept_share_T = np.where(arrays["returned_s_T"] < moment_s, 1.0 - arrays["returned_share_T"], 1.0)
    kept_T = kept_share_T > 0
    starts, lines_B = arrays["line_offsets"][:-1], np.diff(arrays["line_offsets"])
    # A basket without a return keeps the bits of its spend.
    touched_B = np.logical_or.reduceat(kept_share_T < 1, starts)
    net_B = np.add.reduceat(arrays["amount_T"] * kept_share_T, starts).astype(np.float32)
    left_B = np.add.reduceat(kept_T, starts, dtype=np.int64)
    users_B = np.repeat(np.arange(len(arrays["basket_offsets"]) - 1), np.diff(arrays["basket_offsets"]))
    basket_B = left_B > 0
    return {
        **{name: array for name, array in arrays.items() if name.startswith(PREFIX)},
        "basket_offsets": offsets_of(np.bincount(users_B[basket_B], minlength=len(arrays["basket_offsets"]) - 1)),
        "line_offsets": offsets_of(left_B[basket_B]),
        "items_T": arrays["items_T"][kept_T & np.repeat(basket_B, lines_B)],
        "times_us_B": arrays["times_us_B"][basket_B],
        "spend_B": np.where(touched_B, net_B, arrays["spend_B"])[basket_B],
    }


def take_users(histories: Histories, users: Sequence[int] | NDArray[Any]) -> Histories:
    """Select the histories of some users (rows), in the order asked for."""
    users = np.asarray(users, dtype=np.int64)
    baskets = places_of(histories.basket_offsets, users)
    lines = places_of(histories.line_offsets, baskets)
    return Histories(
        basket_offsets=offsets_of(np.diff(histories.basket_offsets)[users]),
        line_offsets=offsets_of(np.diff(histories.line_offsets)[baskets]),
        items_T=histories.items_T[lines],
        age_days_B=histories.age_days_B[baskets],
        spend_B=histories.spend_B[baskets],
        looks=None if histories.looks is None else histories.looks.take(users),
    )


def arrays_of_histories(histories: Histories) -> dict[str, NDArray[Any]]:
    """The arrays of histories under their names in a file."""
    own = {name: np.ascontiguousarray(getattr(histories, name)) for name in _PURCHASES}
    return {**own, **arrays_of(histories.looks)}


def histories_of_arrays(arrays: Mapping[str, NDArray[Any]]) -> Histories:
    """Read what `arrays_of_histories` returned."""
    return Histories(**{name: arrays[name] for name in _PURCHASES}, looks=looks_of(arrays))


def _codes(values: Any) -> NDArray[np.int64]:
    """Return the rank of each text among the distinct ones, in alphabetical order."""
    encoded = values.combine_chunks().dictionary_encode()
    distinct = np.array(encoded.dictionary.to_pylist(), dtype=object)
    rank = np.empty(len(distinct), dtype=np.int64)
    rank[np.argsort(distinct, kind="stable")] = np.arange(len(distinct))
    return np.asarray(rank[encoded.indices.to_numpy()], dtype=np.int64)
