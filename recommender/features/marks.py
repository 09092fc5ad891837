"""What the rows of each user depend on, as hashes by user and moment, so that two states of the tables can be compared.

A user's row at a decision depends on the user's events, targets and participations before it, and on the user's
attributes. A mark is the hash of all such rows of a user that become known at one moment: of events by UTC day. The
marks of events lie in a file for each month, named by the hash of that month's events.

Columns of marks: user_id, `at_us` (microseconds since 1970, UTC, from which on it is known), `rows`, and `hash`, the
sum of the rows' hashes.
"""

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from recommender.datasets.tables import CONTRACT, Tables

ALWAYS_US = -(2**62)
"""The moment of what every decision knows."""
_DAY = "CAST(epoch_us(event_time) // 86400000000 * 86400000000 AS BIGINT)"


def of_events(connection: duckdb.DuckDBPyConnection, path: Path) -> pa.Table:
    """Marks of the events in a file, by user and UTC day. Their identifiers do not count: no feature reads them."""
    rows = f"(SELECT * EXCLUDE (event_id) FROM {_file(path)} WHERE event_time IS NOT NULL)"
    return _marks(connection, rows, _DAY)


def of_the_rest(connection: duckdb.DuckDBPyConnection, tables: Tables) -> pa.Table:
    """Marks of users' attributes, and of targets and participations together with what their campaigns are."""
    found = [_marks(connection, _table(tables, "users"), str(ALWAYS_US))]
    wanted = [name for name in ("kind", "campaign_type", "starts_at", "ends_at") if tables.has("campaigns", name)]
    campaigns = f"(SELECT campaign_id, {', '.join(wanted)} FROM {_table(tables, 'campaigns')})"
    for name, moment in (("targets", "targeted_at"), ("participations", "participated_at")):
        if tables.has(name):
            rows = f"(SELECT '{name}' AS of_table, * FROM {_table(tables, name)} JOIN {campaigns} USING (campaign_id))"
            found.append(_marks(connection, rows, f"epoch_us({moment})"))
    return pa.concat_tables(found)


def of_events_with(
    connection: duckdb.DuckDBPyConnection, tables: Tables, column: str, values: Sequence[str], *, hashed: bool = False
) -> pa.Table:
    """user_id and at_us of the first event of each user that has one of these values in a column, or their hashes."""
    if not values or not tables.has("events", column):
        return pa.table({"user_id": pa.array([], pa.string()), "at_us": pa.array([], pa.int64())})
    connection.register("wanted", pa.table({"wanted": pa.array(values, pa.string())}))
    return connection.sql(
        f"SELECT user_id, min({_DAY}) AS at_us FROM {_table(tables, 'events')} SEMI JOIN wanted "
        f"ON {f'sha256({column})' if hashed else column} = wanted.wanted WHERE event_time IS NOT NULL GROUP BY user_id"
    ).to_arrow_table()


def hashed(connection: duckdb.DuckDBPyConnection, meanings: pa.Table) -> pa.Table:
    """The table with SHA-256 in place of the words in its first column: what shoppers wrote is not kept."""
    connection.register("meanings", meanings)
    words = meanings.column_names[0]
    return connection.sql(f"SELECT * REPLACE (sha256({words}) AS {words}) FROM meanings").to_arrow_table()


def differing(
    connection: duckdb.DuckDBPyConnection, before: pa.Table, after: pa.Table, columns: str = "user_id, at_us"
) -> pa.Table:
    """Some columns of the rows that only one of two tables has."""
    connection.register("marks_before", before)
    connection.register("marks_after", after)
    return connection.sql(
        f"SELECT {columns} FROM ((FROM marks_before EXCEPT ALL FROM marks_after) UNION ALL "
        "(FROM marks_after EXCEPT ALL FROM marks_before))"
    ).to_arrow_table()


def _marks(connection: duckdb.DuckDBPyConnection, rows: str, moment: str) -> pa.Table:
    # The hash of a row is that of its struct. Sums wrap: their order cannot matter.
    return connection.sql(
        f"SELECT user_id, ({moment})::BIGINT AS at_us, count(*) AS rows, "
        f"(sum(hash(one)::HUGEINT) % {2**64})::UBIGINT AS hash FROM {rows} AS one GROUP BY 1, 2 ORDER BY 1, 2"
    ).to_arrow_table()


def _table(tables: Tables, name: str) -> str:
    assert name in CONTRACT
    glob = tables.glob(name).replace("'", "''")
    return f"read_parquet('{glob}', hive_partitioning = false, union_by_name = true)"


def _file(path: Path) -> str:
    literal = str(path).replace("'", "''")
    return f"read_parquet('{literal}', hive_partitioning = false)"
