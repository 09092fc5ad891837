"""Sets the returns that gateways took over HTTP against purchases, of the source or of the log, as ingest does."""

import duckdb

from recommender.datasets.returns import RETURN_MARKS, settle_returns
from recommender.datasets.tables import Tables


def with_returns(connection: duckdb.DuckDBPyConnection, tables: Tables, query: str) -> tuple[str, list[str]]:
    """The events of `query` with the purchases marked that were taken back, and what was decided.

    Nothing changes where the log holds no return, or the source keeps its returns as they are.

    Args:
        connection: has the views `events`, of the source, and `known`, of the log.
        tables: those of the source.
        query: selects the events of both.
    """
    (returns,) = connection.execute("SELECT count(*) FROM known WHERE kind = 'return'").fetchall()[0]
    if not returns or tables.manifest.get("returns") == "keep":
        return query, []
    # A source may state itself what was returned, without returns. That stays.
    given = [name for name, *_ in connection.execute(f"DESCRIBE {query}").fetchall()]
    own = [name for name in RETURN_MARKS if name in given]
    renamed = f"RENAME ({', '.join(f'{name} AS own_{name}' for name in own)})" if own else ""
    connection.execute(f"CREATE TABLE keyed AS SELECT * {renamed}, row_number() OVER () AS _key FROM ({query})")
    connection.execute("ALTER VIEW events RENAME TO events_of_source")
    connection.execute("CREATE VIEW events AS SELECT * FROM keyed")
    columns = [name for name, *_ in connection.execute("DESCRIBE keyed").fetchall()]
    decisions: list[str] = []
    settle_returns(connection, columns, "net", decisions)
    marks = [f"coalesce({name}, own_{name}) AS {name}" if name in own else name for name in RETURN_MARKS]
    kept = [name for name in given if name not in RETURN_MARKS]
    return f"SELECT {', '.join([*kept, *marks])} FROM events", decisions
