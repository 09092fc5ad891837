"""Compares the rows of closed days with those that count: what is new or changed is held back, what is gone is gone.

Rows are compared by all columns but `event_id`, which is only the row's number where a source has no identifiers. A row
is a changed one if a row with its `event_id` and its user counted and is no longer there with the same content.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

DAY = "make_timestamp(epoch_us(event_time))::DATE"
"""SQL of an event's UTC day. To convert a time with a zone takes DuckDB ten times as long."""


@dataclass(frozen=True, eq=False)
class Late:
    """What was held back of some days. The table `counting` of the connection has the rows that count."""

    held: Mapping[str, int]
    """Day -> rows that were held back."""
    rows: Mapping[str, int]
    """Day -> rows that count."""
    late: pa.Table
    """The rows that were held back, with `_changed`: whether a row that counted was changed."""

    def quarantine(self, late_days: int) -> pa.Table:
        """The rows that were held back, with the reason of each in `_reason`."""
        came = f"late: came more than {late_days} days after its day"
        changed = f"late: changed more than {late_days} days after its day; the row as it was goes on counting"
        reasons = [changed if one else came for one in self.late["_changed"].to_pylist()]
        return self.late.drop_columns(["_changed"]).append_column("_reason", pa.array(reasons, pa.string()))


def split(connection: duckdb.DuckDBPyConnection, fresh: Mapping[str, str], known: Mapping[str, Path]) -> Late:
    """Decide which rows of closed days count.

    Args:
        connection: where the tables are made.
        fresh: day (ISO) -> the SQL of a table that has the source's rows of this day, beside those of others.
        known: day -> the file with the rows that counted so far.
    """
    days = ", ".join(f"DATE '{day}'" for day in fresh)
    parts = [
        f"SELECT *, true AS _new FROM {rows} WHERE {DAY} IN ({days})" for rows in sorted(set(fresh.values()) - {""})
    ]
    if known:
        paths = ", ".join("'" + str(path).replace("'", "''") + "'" for path in known.values())
        parts.append(f"SELECT *, false AS _new FROM read_parquet([{paths}], union_by_name = true)")
    connection.execute(f"CREATE TABLE compared AS {' UNION ALL BY NAME '.join(parts)}")
    columns = [name for name in connection.table("compared").columns if name not in ("event_id", "_new")]
    content = ", ".join(columns)
    # The nth of several equal rows has its counterpart in the nth of the others.
    connection.execute(
        "CREATE TABLE matched AS SELECT *, "
        f"row_number() OVER (PARTITION BY _new, {content} ORDER BY event_id) AS _place, "
        f"count(*) FILTER (NOT _new) OVER (PARTITION BY {content}) AS _olds, "
        f"count(*) FILTER (_new) OVER (PARTITION BY {content}) AS _news FROM compared"
    )
    listed = f"event_id, {content}"
    connection.execute(
        f"CREATE TABLE gone AS SELECT {listed} FROM matched WHERE NOT _new AND _place > _news;"
        f"CREATE TABLE came AS SELECT {listed}, EXISTS (SELECT 1 FROM gone "
        "WHERE gone.event_id = matched.event_id AND gone.user_id = matched.user_id) AS _changed "
        "FROM matched WHERE _new AND _place > _olds;"
        f"CREATE TABLE counting AS SELECT {listed} FROM matched WHERE _new AND _place <= _olds UNION ALL "
        f"SELECT {listed} FROM gone SEMI JOIN came USING (event_id, user_id)"
    )

    def counts(table: str) -> dict[str, int]:
        found = connection.sql(f"SELECT {DAY} AS day, count(*) FROM {table} GROUP BY 1 ORDER BY 1").fetchall()
        return {moment.isoformat(): int(rows) for moment, rows in found}

    late = connection.sql(f"SELECT * FROM came ORDER BY event_time, {content}, event_id").to_arrow_table()
    return Late(held=counts("came"), rows=counts("counting"), late=late)
