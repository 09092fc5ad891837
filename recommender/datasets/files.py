"""Reads a user's own CSV and Parquet files as canonical tables, by a mapping TOML (`mapping`, drafted by `draft`).

Events, campaigns, campaign_items, and targets or participations are required. What else is absent is derived, and every
derivation is recorded as a sentence in the manifest:

- users, items: the identifiers in the other tables, without attributes.
- `event_id`: the number of the file and of the row in it. `targeted_at`: the campaign's start.
- targets: every user with an event before a campaign's start counts as targeted by it.
- participations: the first purchase that names the campaign (`events.campaign_id`). If events have no such column, the
  first purchase of one of its items in its window.
"""

from pathlib import Path

import duckdb

from recommender.datasets.mapping import Mapping, read_mapping
from recommender.datasets.parsing import ParsedFile, parse_file
from recommender.datasets.tables import CONTRACT, Tables
from recommender.datasets.write import write_tables
from recommender.errors import ContractError


def source_files(mapping_file: Path) -> list[Path]:
    """List every file that the mapping names, in its order."""
    mapping = read_mapping(mapping_file)
    return [mapping_file.parent / file.name for files in mapping.tables.values() for file in files]


def ingest(mapping_file: Path, output: Path) -> Tables:
    """Read the files of a mapping into canonical tables.

    Raises:
        SourceError: the mapping or a file is missing or unreadable; names it.
        ContractError: a required table or column is missing, or a column cannot be read; names table, file, column and
            row.
    """
    mapping = read_mapping(mapping_file)
    _require_tables(mapping, mapping_file)
    # Two threads leave room for what else runs on a small machine; the files of a shop are read in seconds.
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        present: dict[str, list[str]] = {}
        rejected: dict[str, str] = {}
        decisions: list[str] = []
        for table, files in mapping.tables.items():
            parsed = [
                parse_file(
                    connection,
                    mapping_file.parent / file.name,
                    file,
                    table,
                    time_zone=mapping.source.time_zone,
                    number=number,
                )
                for number, file in enumerate(files)
            ]
            present[table] = _union_files(connection, table, parsed, decisions)
            rejected[table] = " UNION ALL BY NAME ".join(f"SELECT * FROM {part.rejected}" for part in parsed)
        _require_columns(present)
        _derive_entities(connection, present, decisions)
        _derive_targets(connection, present, decisions)
        _derive_participations(connection, present, decisions)
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


def _require_tables(mapping: Mapping, path: Path) -> None:
    for table in ("events", "campaigns", "campaign_items"):
        if table not in mapping.tables:
            raise ContractError(
                table, f"{path} maps no file to this table, which is required; add [tables.{table}] with its `file`"
            )
    if "targets" not in mapping.tables and "participations" not in mapping.tables:
        raise ContractError(
            "targets",
            f"{path} maps no file to targets or participations; add [tables.targets] or [tables.participations]",
        )


def _union_files(
    connection: duckdb.DuckDBPyConnection, table: str, files: list[ParsedFile], decisions: list[str]
) -> list[str]:
    """Create one view over all files of a table and return its columns."""
    columns = [column for column in CONTRACT[table].columns if any(column in file.columns for file in files)]
    makes_event_id = table == "events" and not all("event_id" in file.columns for file in files)
    parts = []
    for number, file in enumerate(files):
        own = [column for column in file.columns if not (makes_event_id and column == "event_id")]
        if makes_event_id:
            own = [f"'{number}-' || _row AS event_id", *own]
        parts.append(f"SELECT {', '.join(own)} FROM {file.rows}")
    connection.execute(f"CREATE VIEW {table} AS {' UNION ALL BY NAME '.join(parts)}")
    if makes_event_id:
        decisions.append("events.event_id is the number of the file and of the row in it.")
        columns = ["event_id", *(column for column in columns if column != "event_id")]
    if table == "participations":
        _drop_repeats(connection, decisions)
    return columns


def _drop_repeats(connection: duckdb.DuckDBPyConnection, decisions: list[str]) -> None:
    """Keep one of several equal participations, such as two redemptions on a day without an hour.

    The key of the table is all of its columns, so the contract allows a row only once.
    """
    connection.execute("ALTER VIEW participations RENAME TO participations_with_repeats")
    connection.execute("CREATE VIEW participations AS SELECT DISTINCT * FROM participations_with_repeats")
    query = "SELECT (SELECT count(*) FROM participations_with_repeats) - (SELECT count(*) FROM participations)"
    (repeats,) = connection.execute(query).fetchone() or (0,)
    if repeats:
        decisions.append(f"participations: {repeats:,} rows that repeat another exactly are dropped.")


def _require_columns(present: dict[str, list[str]]) -> None:
    for table, columns in present.items():
        for column, wanted in CONTRACT[table].columns.items():
            if wanted.required and column not in columns and (table, column) != ("targets", "targeted_at"):
                problem = f"no file has this column ({wanted.meaning}); name it in `columns` or set it in `constants`"
                raise ContractError(table, problem, column=column)


def _derive_entities(
    connection: duckdb.DuckDBPyConnection, present: dict[str, list[str]], decisions: list[str]
) -> None:
    """Create users and items from the identifiers in the other tables, where no file holds them."""
    for table, key in (("users", "user_id"), ("items", "item_id")):
        if table not in present:
            origins = [name for name, columns in present.items() if key in columns]
            query = " UNION ".join(f"SELECT {key} FROM {name} WHERE {key} IS NOT NULL" for name in origins)
            connection.execute(f"CREATE TABLE {table} AS {query}")
            present[table] = [key]
            decisions.append(f"{table}: no file; the identifiers in {', '.join(origins)}, without attributes.")


def _derive_targets(connection: duckdb.DuckDBPyConnection, present: dict[str, list[str]], decisions: list[str]) -> None:
    """Create targets, or their `targeted_at`, where no file holds them."""
    if "targets" not in present:
        connection.execute(
            "CREATE TABLE targets AS "
            "SELECT campaign_id, user_id, starts_at AS targeted_at FROM campaigns, users WHERE EXISTS "
            "(SELECT 1 FROM events WHERE events.user_id = users.user_id AND event_time < starts_at) UNION "
            "SELECT campaign_id, user_id, starts_at FROM participations JOIN campaigns USING (campaign_id)"
        )
        present["targets"] = ["campaign_id", "user_id", "targeted_at"]
        decisions.append(
            "targets: no file; every user with an event before a campaign's start, and every participant, "
            "counts as targeted."
        )
    elif "targeted_at" not in present["targets"]:
        connection.execute("ALTER VIEW targets RENAME TO targets_without_time")
        connection.execute(
            "CREATE TABLE targets AS SELECT t.*, starts_at AS targeted_at "
            "FROM targets_without_time t LEFT JOIN campaigns USING (campaign_id)"
        )
        present["targets"] = [*present["targets"], "targeted_at"]
        decisions.append("targets: no targeted_at; it is the campaign's start.")


def _derive_participations(
    connection: duckdb.DuckDBPyConnection, present: dict[str, list[str]], decisions: list[str]
) -> None:
    """Create participations from purchases, where no file holds them."""
    if "participations" in present:
        return
    by_campaign = "campaign_id" in present["events"]
    if not by_campaign and "item_id" not in present["events"]:
        problem = (
            "no file has this column, which is needed to derive participations; "
            "map it, or events.campaign_id, or a file of participations"
        )
        raise ContractError("events", problem, column="item_id")
    of_an_item = "AND (c.campaign_id, item_id) IN (SELECT (campaign_id, item_id) FROM campaign_items) "
    connection.execute(
        "CREATE TABLE participations AS SELECT c.campaign_id, user_id, min(event_time) AS participated_at "
        "FROM targets t JOIN campaigns c USING (campaign_id) "
        f"JOIN events e USING (user_id{', campaign_id' if by_campaign else ''}) WHERE e.kind = 'purchase' "
        f"AND event_time >= targeted_at AND event_time < ends_at {'' if by_campaign else of_an_item}GROUP BY 1, 2"
    )
    present["participations"] = ["campaign_id", "user_id", "participated_at"]
    purchase = "that names the campaign" if by_campaign else "of one of its items"
    decisions.append(
        f"participations: no file; a targeted user's first purchase {purchase}, from the decision to the window's end."
    )
