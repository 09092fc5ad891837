"""Names the columns of a file without a header, by their values."""

import re

import duckdb

from recommender.datasets.draft.kinds import kind_of
from recommender.datasets.reading import RawTable
from recommender.datasets.reading.raw import quoted
from recommender.datasets.values import Column, survey

LOOKED_AT = 20_000
"""Rows of the file's beginning that are looked at. Chosen by hand."""


def header_of(connection: duckdb.DuckDBPyConnection, raw: RawTable) -> tuple[tuple[str, ...], str]:
    """Names for the columns of a file without a header, and a comment for a person.

    The column of times, the column of words for kinds, and of the others: the one whose equal values stand together is
    the user, the one with the most values among the rest the item, and one that an item decides is its category.
    """
    connection.execute(f"CREATE OR REPLACE TABLE looked_at AS FROM {raw.relation} LIMIT {LOOKED_AT}")
    names = {column: _by_values(connection, raw, column) for column in raw.columns}
    keys = [column for column, name in names.items() if name is None]
    runs = {column: _runs(connection, column) for column in keys}
    distinct = {column: _count(connection, f"count(DISTINCT {quoted(column)})") for column in keys}
    # A log is sorted by user or by time. Few runs of equal values for the number of values mean that it is sorted.
    repeated = [column for column in keys if distinct[column] < 0.9 * _count(connection, f"count({quoted(column)})")]
    if repeated:
        user = min(repeated, key=lambda column: (round(runs[column] / distinct[column], 1), keys.index(column)))
        names[user] = "user_id"
        rest = [column for column in keys if column != user]
        if rest:
            item = max(rest, key=lambda column: distinct[column])
            names[item] = "item_id"
            for column in rest:
                if column != item and _decides(connection, item, column):
                    names[column] = "category"
    header = tuple(name or f"column_{place + 1}" for place, name in enumerate(names.values()))
    header = tuple(name if name not in header[:place] else f"{name}_{place + 1}" for place, name in enumerate(header))
    return header, "CHECK: the file has no header; the names are guessed from its values"


def _by_values(connection: duckdb.DuckDBPyConnection, raw: RawTable, column: str) -> str | None:
    """The name of a column whose values say what it is. None for one that may be a key."""
    rows = connection.execute(
        f"SELECT {quoted(column)}::VARCHAR, count(*) FROM looked_at GROUP BY 1 ORDER BY 2 DESC LIMIT 100"
    ).fetchall()
    words = [word for word, _ in rows if word]
    if 1 < len(words) < 30 and all(kind_of(word) is not None for word in words):
        return "kind"
    seen = survey(Column(connection, "looked_at", column, raw.types[column], "draft", column, raw.path))
    if seen.times.share > 0.9 and not all(re.fullmatch(r"\d{1,8}", word) for word in words):
        return "event_time"
    smallest = min((float(word) for word in words if re.fullmatch(r"-?\d+(\.\d+)?", word)), default=None)
    if seen.numbers.share > 0.9 and any("." in word for word in words):
        return "amount"
    if smallest is not None and seen.numbers.share > 0.9 and 0 < smallest <= 1 and seen.distinct <= 5:
        return "rating" if seen.distinct > 3 else None
    return None


def _runs(connection: duckdb.DuckDBPyConnection, column: str) -> int:
    """How often a column's value differs from that of the row before."""
    changed = f"{quoted(column)} IS DISTINCT FROM lag({quoted(column)}) OVER (ORDER BY _row)"
    query = f"SELECT count(*) FILTER (changed) FROM (SELECT {changed} AS changed FROM looked_at)"
    (runs,) = connection.execute(query).fetchone() or (0,)
    return int(runs or 0)


def _count(connection: duckdb.DuckDBPyConnection, aggregate: str) -> int:
    (count,) = connection.execute(f"SELECT {aggregate} FROM looked_at").fetchone() or (0,)
    return max(1, int(count))


def _decides(connection: duckdb.DuckDBPyConnection, item: str, column: str) -> bool:
    """Whether every value of a column has one value of another."""
    (most,) = connection.execute(
        f"SELECT max(n) FROM (SELECT count(DISTINCT {quoted(column)}) AS n FROM looked_at GROUP BY {quoted(item)})"
    ).fetchone() or (0,)
    return bool(most == 1)
