"""Reading a million rows of users and moments from a million rows of features, beside DuckDB's ASOF join."""

import time
from collections.abc import Callable
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.decision.rows import Row
from recommender.features.as_of import last_before

ASKED, KNOWN, USERS, FEATURES, DAY_US = 1_000_000, 1_000_000, 100_000, 10, 86_400_000_000
LIMIT, ROUNDS = 1.2, 3


def rows(say: Callable[[str], None]) -> list[Row]:
    """CPU-seconds of both, the better of three rounds each, and the rows in which they differ."""
    known, asked = _tables()
    theirs, ours = [], []
    for _ in range(ROUNDS):
        theirs.append(_timed(lambda: _by_duckdb(known, asked)))
        ours.append(_timed(lambda: by_running_order(known, asked)))
    expected, found = theirs[-1][1].sort_by("row"), ours[-1][1]
    differing = sum(
        int(pc.sum(pc.invert(pc.equal(pc.fill_null(expected[name], -1), pc.fill_null(found[name], -1)))).as_py() or 0)
        for name in expected.column_names
    )
    duckdb_s, our_s = (min(seconds for seconds, _ in one) for one in (theirs, ours))
    say(f"DuckDB ASOF: {duckdb_s:.2f} CPU-s; ours: {our_s:.2f} CPU-s")
    name = f"{ASKED:,} users and moments out of {KNOWN:,} rows"
    return [
        Row.at_most(f"{name}: times DuckDB's ASOF join", our_s / duckdb_s, LIMIT, cpu_s=our_s, duckdb_cpu_s=duckdb_s),
        Row.at_most(f"{name}: differing values", differing, 0),
    ]


def by_running_order(known: pa.Table, asked: pa.Table) -> pa.Table:
    """The last row strictly before each moment, by `as_of.last_before`."""
    users = known["user_id"].combine_chunks().dictionary_encode()
    codes = pc.fill_null(
        pc.index_in(asked["user_id"].combine_chunks(), value_set=users.dictionary), len(users.dictionary)
    )
    group_n, time_n = users.indices.to_numpy().astype(np.int64), known["time"].cast(pa.int64()).to_numpy()
    order = np.lexsort((time_n, group_n))
    moment_Q = asked["time"].cast(pa.int64()).to_numpy()
    place_Q = last_before(group_n[order], time_n[order], codes.to_numpy().astype(np.int64), moment_Q)
    row_Q = pa.array(order[place_Q], mask=place_Q < 0)
    columns = {"row": asked["row"], **{name: known[name].take(row_Q) for name in known.column_names[2:]}}
    return pa.table(columns)


def _by_duckdb(known: pa.Table, asked: pa.Table) -> pa.Table:
    columns = ", ".join(known.column_names[2:])
    with duckdb.connect(config={"threads": 2}) as connection:
        # DuckDB 1.5.6 takes minutes to join Arrow tables in place, and seconds to join its own.
        for name, table in {"known": known, "asked": asked}.items():
            connection.register(f"arrow_{name}", table)
            connection.execute(f"CREATE TABLE {name} AS FROM arrow_{name}")
        matched = "asked.user_id = known.user_id AND asked.time > known.time"
        return connection.sql(f"SELECT row, {columns} FROM asked ASOF LEFT JOIN known ON {matched}").to_arrow_table()


def _timed(work: Callable[[], pa.Table]) -> tuple[float, pa.Table]:
    began = time.process_time()
    made = work()
    return time.process_time() - began, made


def _tables() -> tuple[pa.Table, pa.Table]:
    rng = np.random.default_rng(17)
    names = pa.array([f"user-{number}" for number in range(USERS)])

    def table(count: int) -> dict[str, Any]:
        times = pa.array(rng.integers(0, 360 * DAY_US, count)).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
        return {"user_id": names.take(pa.array(rng.integers(0, USERS, count))), "time": times}

    known = table(KNOWN) | {f"f{number}": rng.random(KNOWN).astype(np.float32) for number in range(FEATURES)}
    return pa.table(known), pa.table(table(ASKED) | {"row": np.arange(ASKED)})
