"""One's own CSV and Parquet files as canonical tables, by a mapping TOML (`mapping`), drafted from their headers (`draft`).

The least that works is events, campaigns, campaign_items, and targets or participations. What is absent is derived, and every
derivation is a sentence in the manifest:

- users, items: the identifiers that the other tables name, without attributes.
- `event_id`: the file's number and the row's. `targeted_at`: the campaign's start.
- targets: every user with an event before a campaign's start is taken as put before it.
- participations: purchases that name the campaign (`events.campaign_id`), or, if events name none, the first purchase of one
  of its items in its window.
"""

from pathlib import Path

import duckdb

from recommender.datasets.mapping import Mapping, read_mapping
from recommender.datasets.parsing import ParsedFile, parse_file
from recommender.datasets.tables import CONTRACT, Tables
from recommender.datasets.write import write_tables
from recommender.errors import ContractError


def source_files(mapping_file: Path) -> list[Path]:
    """Every file that the mapping names, in its order."""
    mapping = read_mapping(mapping_file)
    return [mapping_file.parent / part.file for parts in mapping.tables.values() for part in parts]


def ingest(mapping_file: Path, output: Path) -> Tables:
    """Read the files of a mapping into canonical tables.

    Raises:
        SourceError: the mapping or a file is missing or unreadable; names it.
        ContractError: a needed table or column is missing, or a column cannot be read; names table, file, column and row.
    """
    mapping = read_mapping(mapping_file)
    _refuse_too_little(mapping, mapping_file)
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        present: dict[str, list[str]] = {}
        rejected: dict[str, str] = {}
        decisions: list[str] = []
        for table, parts in mapping.tables.items():
            parsed = [
                parse_file(
                    connection,
                    mapping_file.parent / part.file,
                    part,
                    table,
                    time_zone=mapping.source.time_zone,
                    number=number,
                )
                for number, part in enumerate(parts)
            ]
            present[table] = _combine(connection, table, parsed, decisions)
            rejected[table] = " UNION ALL BY NAME ".join(f"SELECT * FROM {file.rejected}" for file in parsed)
        _require_columns(present)
        _derive(connection, present, decisions)
        return write_tables(
            {
                table: connection.sql(f"SELECT {', '.join(present[table])} FROM {table}")
                for table in CONTRACT
                if table in present
            },
            output,
            source=mapping.source.name,
            time_zone=mapping.source.time_zone,
            decisions=decisions,
            quarantined={table: connection.sql(f"{query} ORDER BY _file, _row") for table, query in rejected.items()},
        )


def _refuse_too_little(mapping: Mapping, path: Path) -> None:
    for table in ("events", "campaigns", "campaign_items"):
        if table not in mapping.tables:
            raise ContractError(
                table, f"{path} maps no file to this table; events, campaigns and campaign_items are needed"
            )
    if "targets" not in mapping.tables and "participations" not in mapping.tables:
        raise ContractError(
            "targets", f"{path} maps a file neither to targets nor to participations; one of them is needed"
        )


def _combine(
    connection: duckdb.DuckDBPyConnection, table: str, files: list[ParsedFile], decisions: list[str]
) -> list[str]:
    """One view over all files of a table; returns its columns."""
    columns = [column for column in CONTRACT[table].columns if any(column in file.columns for file in files)]
    lacking = table == "events" and not all("event_id" in file.columns for file in files)
    parts = []
    for number, file in enumerate(files):
        own = [column for column in file.columns if not (lacking and column == "event_id")]
        if lacking:
            own = [f"'{number}-' || _row AS event_id", *own]
        parts.append(f"SELECT {', '.join(own)} FROM {file.rows}")
    connection.execute(f"CREATE VIEW {table} AS {' UNION ALL BY NAME '.join(parts)}")
    if lacking:
        decisions.append("events.event_id is the number of the file and of the row in it.")
        columns = ["event_id", *(column for column in columns if column != "event_id")]
    if table == "participations":
        _drop_repeats(connection, decisions)
    return columns


def _drop_repeats(connection: duckdb.DuckDBPyConnection, decisions: list[str]) -> None:
    """Two redemptions on a day without an hour are one row of the contract, whose key is all of the table's columns."""
    connection.execute("ALTER VIEW participations RENAME TO participations_with_repeats")
    connection.execute("CREATE VIEW participations AS SELECT DISTINCT * FROM participations_with_repeats")
    query = "SELECT (SELECT count(*) FROM participations_with_repeats) - (SELECT count(*) FROM participations)"
    (repeats,) = connection.execute(query).fetchone() or (0,)
    if repeats:
        decisions.append(f"participations: {repeats:,} rows that repeat another exactly are dropped.")


def _derive(connection: duckdb.DuckDBPyConnection, present: dict[str, list[str]], decisions: list[str]) -> None:
    """Views for the tables and columns that no file gives."""

    def derive(table: str, columns: list[str], query: str, decision: str) -> None:
        connection.execute(f"CREATE TABLE {table} AS {query}")
        present[table] = columns
        decisions.append(f"{table}: {decision}")

    for table, key in (("users", "user_id"), ("items", "item_id")):
        if table not in present:
            naming = [name for name, columns in present.items() if key in columns]
            query = " UNION ".join(f"SELECT {key} FROM {name} WHERE {key} IS NOT NULL" for name in naming)
            derive(table, [key], query, f"no file; the identifiers that {', '.join(naming)} name, without attributes.")
    if "targets" not in present:
        derive(
            "targets",
            ["campaign_id", "user_id", "targeted_at"],
            "SELECT campaign_id, user_id, starts_at AS targeted_at FROM campaigns, users WHERE EXISTS "
            "(SELECT 1 FROM events WHERE events.user_id = users.user_id AND event_time < starts_at) UNION "
            "SELECT campaign_id, user_id, starts_at FROM participations JOIN campaigns USING (campaign_id)",
            "no file; every user with an event before a campaign's start, and every participant, counts as put before it.",
        )
    elif "targeted_at" not in present["targets"]:
        connection.execute("ALTER VIEW targets RENAME TO targets_without_time")
        derive(
            "targets",
            [*present["targets"], "targeted_at"],
            "SELECT t.*, starts_at AS targeted_at FROM targets_without_time t LEFT JOIN campaigns USING (campaign_id)",
            "no targeted_at; it is the campaign's start.",
        )
    if "participations" not in present:
        named = "campaign_id" in present["events"]
        if not named and "item_id" not in present["events"]:
            problem = "no file gives this column, from which participations would be derived; map it, events.campaign_id or a participations file"
            raise ContractError("events", problem, column="item_id")
        derive(
            "participations",
            ["campaign_id", "user_id", "participated_at"],
            "SELECT c.campaign_id, user_id, min(event_time) AS participated_at FROM targets t JOIN campaigns c USING (campaign_id) "
            f"JOIN events e USING (user_id{', campaign_id' if named else ''}) WHERE e.kind = 'purchase' "
            "AND event_time >= targeted_at AND event_time < ends_at "
            + ("" if named else "AND (c.campaign_id, item_id) IN (SELECT (campaign_id, item_id) FROM campaign_items) ")
            + "GROUP BY 1, 2",
            "no file; a targeted user's first purchase "
            + ("that names the campaign" if named else "of one of its items")
            + ", from the decision to the window's end.",
        )


def _require_columns(present: dict[str, list[str]]) -> None:
    for table, columns in present.items():
        for column, wanted in CONTRACT[table].columns.items():
            if wanted.required and column not in columns and (table, column) != ("targets", "targeted_at"):
                problem = (
                    f"no file gives this column ({wanted.meaning}); name it in `columns` or give it in `constants`"
                )
                raise ContractError(table, problem, column=column)
