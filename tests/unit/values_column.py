"""One column of values in DuckDB, read by a rule, for the tests of `recommender.datasets.values`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb

from recommender.datasets.values import Column, Readings, Rule, read_columns


@contextmanager
def column_of(
    values: Sequence[Any], *, type: str = "VARCHAR", canonical: str = "value", **more: Any
) -> Iterator[Column]:
    """A column of a file `f.csv`, whose first value is on line 2."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE TABLE rows (_file VARCHAR, _row BIGINT, own {type})")
        rows = [("f.csv", number, value) for number, value in enumerate(values, start=2)]
        connection.executemany("INSERT INTO rows VALUES (?, ?, ?)", rows)
        yield Column(connection, "rows", "own", type, "events", canonical, "f.csv", row_means="line", **more)


def read(rule: Callable[[Column], Rule], values: Sequence[Any], **more: Any) -> tuple[list[Any], list[str], Readings]:
    """The values that a rule reads, the problem of each row, and the readings."""
    with column_of(values, **more) as column:
        readings = read_columns({column.canonical: rule(column)})
        query = f"SELECT {column.canonical}, _reason FROM ({readings.query('_row')}) ORDER BY _row"
        rows = column.connection.execute(query).fetchall()
        reading = readings.of[column.canonical]
        inline = f"SELECT {reading.value}, coalesce({reading.problem}, '') FROM {readings.relation} ORDER BY _row"
        assert repr(column.connection.execute(inline).fetchall()) == repr(rows), "both ways of writing SQL agree"
        return [value for value, _ in rows], [reason for _, reason in rows], readings
