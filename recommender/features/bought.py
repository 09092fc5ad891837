"""Reads purchase lines in the order of users, a part of the users at a time, as arrays of whole numbers.

Features of purchases are computed part by part, so memory does not grow with the log.

Shapes: T lines of a part · D decisions.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recommender.datasets.time_units import SECOND_US
from recommender.features.source import MONEY, Source, if_else

Ints = NDArray[np.int64]
NEVER = int(np.iinfo(np.int64).max)
"""Stands for what has not become known."""
PART_ROWS = 400_000
"""Rows of a part, if no user has more. By hand: some 100 MB with everything that is computed from them."""
BATCH_ROWS = 100_000
"""Rows that DuckDB hands over at once. By hand."""


@dataclass(frozen=True, eq=False)
class Decisions:
    """All decisions, those of a user one after the other."""

    user_D: Ints
    """Number of each decision's user, in the order of `user_ids`."""
    moment_us_D: Ints
    """Microseconds since 1970, UTC."""
    user_ids: pa.Array
    """Users in the order of their decisions."""

    @classmethod
    def of(cls, decided: pa.Table) -> "Decisions":
        """Number the users of `decisions.decisions`."""
        users = decided["user_id"].combine_chunks()
        new_D = np.ones(len(users), dtype=bool)
        if len(users) > 1:
            new_D[1:] = pc.not_equal(users[1:], users[:-1]).to_numpy(zero_copy_only=False)
        return cls(np.cumsum(new_D) - 1, microseconds_of(decided["decided_at"]), users.filter(pa.array(new_D)))

    def of_users(self, first: int, end: int) -> slice:
        """The decisions of the users first to end, excluded."""
        return slice(*np.searchsorted(self.user_D, [first, end]).tolist())

    def numbered(self) -> ir.Table:
        """Columns user_id and user, for joining with events."""
        return ibis.memtable(pa.table({"user_id": self.user_ids, "user": np.arange(len(self.user_ids))}))


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of the users first_user to end_user, excluded, sorted by user."""

    first_user: int
    end_user: int
    rows: pa.Table
    """Column `user` counts from 0 within the part."""


def parts(rows: ir.Table | pa.Table, num_users: int, by: str = "user") -> Iterator[Part]:
    """Cut rows that are sorted by user between users. Together the parts have all users, also those without a row.

    Args:
        rows: sorted by the column `by`.
        num_users: how many users there are.
        by: the column with the number of the user, or of whatever else the rows are sorted by.
    """
    if isinstance(rows, pa.Table):
        yield from _cut(rows, num_users, by)
        return
    held: list[pa.Table] = []
    count = first = 0
    for batch in _batches(rows):
        held.append(pa.Table.from_batches([batch]))
        count += batch.num_rows
        if count >= PART_ROWS:
            table = pa.concat_tables(held).combine_chunks()
            users = table[by].to_numpy()
            cut = int(np.searchsorted(users, users[-1]))  # the last user may have more rows in the next batch
            if cut:
                yield _part(first, int(users[-1]), table.slice(0, cut), by)
                first, held = int(users[-1]), [table.slice(cut)]
                count = table.num_rows - cut
    table = pa.concat_tables(held).combine_chunks() if held else rows.limit(0).to_pyarrow()
    yield _part(first, num_users, table, by)


def _cut(table: pa.Table, num_users: int, by: str) -> Iterator[Part]:
    """The parts of a table that is in memory."""
    users = table[by].to_numpy()
    first = start = 0
    while len(users) - start > PART_ROWS:
        cut = int(np.searchsorted(users, users[start + PART_ROWS]))
        if cut <= start:  # one user has more
            cut = int(np.searchsorted(users, users[start], side="right"))
        if cut == len(users):
            break
        yield _part(first, int(users[cut]), table.slice(start, cut - start), by)
        first, start = int(users[cut]), cut
    yield _part(first, num_users, table.slice(start), by)


def _batches(rows: ir.Table) -> Iterator[pa.RecordBatch]:
    reader = rows.to_pyarrow_batches(chunk_size=BATCH_ROWS)
    with warnings.catch_warnings():
        # Ibis 12 calls DuckDB's function by its old name, once, at the first batch.
        warnings.simplefilter("ignore", DeprecationWarning)
        first = next(iter(reader), None)
    if first is not None:
        yield first
        yield from reader


def _part(first: int, end: int, table: pa.Table, by: str) -> Part:
    place = table.column_names.index(by)
    return Part(first, end, table.set_column(place, by, pa.array(table[by].to_numpy().astype(np.int64) - first)))


@dataclass(frozen=True, eq=False)
class Returns:
    """The money of purchase lines before and after what was returned of them."""

    money_3T: Ints
    """Minor units: `MONEY`."""
    returned_us_T: Ints
    """From strictly after this time on a return is known. `NEVER`: there is none."""
    kept_T: NDArray[np.bool_]
    """Whether something is left of the line after its return."""
    net_3T: Ints
    """`money_3T` after the return."""

    @classmethod
    def of(cls, rows: pa.Table, event_us_T: Ints) -> "Returns":
        """Read the columns of `money_columns`."""
        money_3T = np.stack([_whole(rows, name) for name in MONEY])
        if "returned_s" not in rows.column_names:
            nothing_T = np.full(len(event_us_T), NEVER)
            return cls(money_3T, nothing_T, np.ones(len(event_us_T), dtype=bool), money_3T)
        known_T = pc.is_valid(rows["returned_s"]).to_numpy()
        # A return of a second is known to decisions of later seconds.
        after_us_T = np.maximum((_whole(rows, "returned_s") + 1) * SECOND_US - 1, event_us_T)
        kept_T = pc.fill_null(rows["kept"], True).to_numpy()
        net_3T = np.stack([_whole(rows, f"net_{name}") for name in MONEY])
        net_3T = np.where(known_T, np.where(kept_T, net_3T, 0), money_3T)
        return cls(money_3T, np.where(known_T, after_us_T, NEVER), kept_T, net_3T)


MONEY_COLUMNS = (*MONEY, "returned_s", "kept", *(f"net_{name}" for name in MONEY))
"""Names of `money_columns`, in their order. Those of returns are missing where the source has none."""


def money_columns(lines: ir.Table) -> dict[str, Any]:
    """The columns of `Source.lines` that `Returns` reads."""
    columns: dict[str, Any] = {name: lines[name] for name in MONEY}
    if "returned_s" in lines.columns:
        share = 1.0 - lines.returned_share
        columns |= {"returned_s": lines.returned_s, "kept": if_else(lines.returned_s.isnull(), True, share > 0)}
        columns |= {f"net_{name}": (lines[name] * share).round().cast("int64") for name in MONEY}
    return columns


@dataclass(frozen=True, eq=False)
class Bought:
    """Purchase lines of a part, sorted by user, basket (by its identifier) and item."""

    user_T: Ints
    basket_T: Ints
    """Number of the basket in the part. Baskets are numbered by user and identifier."""
    item_T: Ints
    """Row of the item in the taxonomy, 0 if unknown."""
    event_us_T: Ints
    hour_T: Ints
    """Local hour, -1 if unknown."""
    weekday_T: Ints
    store_T: Ints
    """Number of the store by the order of its identifier, -1 if unknown."""
    money: Returns
    names: pa.Array
    """Identifiers of the baskets, in the order of their numbers."""


@dataclass(frozen=True, eq=False)
class Changes:
    """What lines and their returns change in counts and money, for `as_of.Running`."""

    line_n: Ints
    """Place of the line of each change."""
    known_us_n: Ints
    event_us_n: Ints
    values: dict[str, Ints]
    """Columns `lines`, `discounted`, `coupon` (lines with a discount, with a coupon) and `cents`."""


def changes_of(returns: Returns, event_us_T: Ints, rows_T: Ints) -> Changes:
    """The changes by the lines `rows_T`, each known when it is bought, and by their returns."""
    money_3, event_us = returns.money_3T[:, rows_T], event_us_T[rows_T]
    values = {
        "lines": np.ones(len(rows_T), dtype=np.int64),
        "discounted": (money_3[1] > 0).astype(np.int64),
        "coupon": (money_3[2] > 0).astype(np.int64),
        "cents": money_3[0],
    }
    back = np.flatnonzero(returns.returned_us_T[rows_T] != NEVER)
    if not len(back):
        return Changes(np.arange(len(rows_T)), event_us, event_us, values)
    # A return takes the line back, and puts what is left of it in its place.
    net_3, kept = returns.net_3T[:, rows_T[back]], returns.kept_T[rows_T[back]].astype(np.int64)
    left = {"lines": kept, "discounted": kept * (net_3[1] > 0), "coupon": kept * (net_3[2] > 0), "cents": net_3[0]}
    return Changes(
        line_n=np.concatenate([np.arange(len(rows_T)), back]),
        known_us_n=np.concatenate([event_us, returns.returned_us_T[rows_T[back]]]),
        event_us_n=np.concatenate([event_us, event_us[back]]),
        values={name: np.concatenate([value, left[name] - value[back]]) for name, value in values.items()},
    )


def lines_of(source: Source, decisions: Decisions) -> ir.Table | pa.Table:
    """All purchase lines of the decisions' users before the last decision, sorted as `Bought` says.

    Lines that are alike so far are sorted by their money, because some of them may have had a coupon and others not.
    """
    last = int(decisions.moment_us_D.max())
    if source.known is not None:
        return _of_users(source.known.lines, decisions.user_ids, last)
    users = decisions.numbered()
    lines = source.lines.inner_join(users, "user_id")
    lines = lines.filter(lines.time_s <= last // SECOND_US)
    columns: dict[str, Any] = {name: lines[name] for name in ("user", "basket", "item_row", "event_time")}
    columns |= {name: lines[name] for name in ("hour", "weekday", "store_id")}
    money = money_columns(lines)
    return lines.select(**columns, **money).order_by("user", "basket", "item_row", "event_time", *money)


def _of_users(lines: pa.Table, user_ids: pa.Array, last: int) -> pa.Table:
    """Of lines that are in memory: those of some users, as `lines_of` returns them."""
    users = lines["user_id"].combine_chunks()
    number = pc.fill_null(pc.index_in(users.dictionary, value_set=user_ids), -1).to_numpy()
    user_T = number[users.indices.to_numpy()]
    kept_T = (user_T >= 0) & (lines["time_s"].to_numpy() <= last // SECOND_US)
    lines = lines.drop_columns(["user_id"]).add_column(0, "user", pa.array(user_T))
    return lines if kept_T.all() else lines.filter(pa.array(kept_T))


def bought(part: Part) -> Bought:
    """The arrays of a part of `lines_of`."""
    rows = part.rows
    user_T, basket = rows["user"].to_numpy().astype(np.int64), rows["basket"].combine_chunks()
    new_T = np.ones(len(user_T), dtype=bool)
    if len(user_T) > 1:
        names = basket.indices if isinstance(basket, pa.DictionaryArray) else basket
        new_T[1:] = pc.not_equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False)
        new_T[1:] |= user_T[1:] != user_T[:-1]
    event_us_T = microseconds_of(rows["event_time"])
    return Bought(
        user_T=user_T,
        basket_T=np.cumsum(new_T) - 1,
        item_T=_whole(rows, "item_row"),
        event_us_T=event_us_T,
        hour_T=_whole(rows, "hour", missing=-1),
        weekday_T=_whole(rows, "weekday", missing=-1),
        store_T=_ranks(rows["store_id"]),
        money=Returns.of(rows, event_us_T),
        names=basket.filter(pa.array(new_T)),
    )


def microseconds_of(times: pa.ChunkedArray) -> Ints:
    """Times as microseconds since 1970, UTC."""
    return np.asarray(times.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy(), dtype=np.int64)


def _whole(rows: pa.Table, name: str, *, missing: int = 0) -> Ints:
    return np.asarray(pc.fill_null(rows[name], missing).to_numpy(), dtype=np.int64)


def _ranks(texts: pa.ChunkedArray) -> Ints:
    """The rank of each text among the distinct ones, -1 for none."""
    encoded = texts.combine_chunks().dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order) + 1, dtype=np.int64)
    rank[order], rank[-1] = np.arange(len(order)), -1
    return np.asarray(rank[pc.fill_null(encoded.indices, -1).to_numpy()])
