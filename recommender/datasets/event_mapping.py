"""Reads the events of a mapping TOML for next-item rankers, by the rules that `run --data` reads them by."""

import warnings
from dataclasses import replace
from pathlib import Path

import duckdb

from recommender.datasets.event_columns import ITEM, KIND, TIME, USER, EventColumns, names
from recommender.datasets.event_rows import TABLE, EventRows, check, identifiers_of, of_kinds
from recommender.datasets.mapping import SourceMapping, TableMapping, read_mapping
from recommender.datasets.reading import open_file, resolve
from recommender.datasets.values import Rule, collisions, column_of, read_columns, rule_of
from recommender.datasets.values.readings import literal
from recommender.errors import ContractError, SourceError

MAPPED = {USER: "user_id", ITEM: "item_id", TIME: "event_time", KIND: "kind"}
"""Meaning -> canonical column of a mapping's events."""


def read_mapped_events(
    connection: duckdb.DuckDBPyConnection, path: Path, asked: EventColumns, scratch: Path
) -> EventRows:
    """Read the events of a mapping TOML into the table `TABLE`.

    Args:
        connection: Where the table is created. Its time zone must be UTC.
        path: The mapping.
        asked: The kinds that count. The mapping names the columns.
        scratch: A temporary folder that outlives the reading.

    Raises:
        SourceError: A file is missing or unreadable, or the mapping has no events.
        ContractError: A column is missing, a kind is unknown, or a time cannot be read; names the row.
    """
    mapping = read_mapping(path)
    if TABLE not in mapping.tables:
        raise SourceError(f"{path}: no [tables.events], from which a log of events is read")
    if asked.columns:
        raise SourceError(f"{path}: the mapping names the columns; leave out --columns")
    queries, means = [], set()
    for number, part in enumerate(mapping.tables[TABLE]):
        query, row_means = _mapped_part(connection, path, part, mapping.source, number, asked, scratch)
        queries.append(query)
        means.add(row_means)
    row_means = means.pop() if len(means) == 1 else "record"
    connection.execute(
        f"CREATE TABLE {TABLE} AS SELECT row_number() OVER () AS n, * FROM ({' UNION ALL '.join(queries)})"
    )
    rows = EventRows(connection, path, dict(MAPPED), row_means, True, False)
    if connection.execute(f"SELECT 1 FROM {TABLE} LIMIT 1").fetchone() is None:
        raise SourceError(f"{path}: no event is left; see `where`, `values` and --kinds")
    _leave_out_nameless(connection, path)
    check(rows, {})
    collisions(connection, identifiers_of(rows), identifiers=mapping.source.identifiers)
    return rows


def _leave_out_nameless(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Leave out searches and visits, which name no item, and guests, who have no history. Say how many."""
    for column in ("item", "user"):
        (number,) = connection.execute(f"SELECT count(*) FROM {TABLE} WHERE {column} IS NULL").fetchone() or (0,)
        if number:
            warnings.warn(f"{path.name}: {number:,} events without {column} are left out", stacklevel=5)
            connection.execute(f"DELETE FROM {TABLE} WHERE {column} IS NULL")


def _mapped_part(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    part: TableMapping,
    source: SourceMapping,
    number: int,
    asked: EventColumns,
    scratch: Path,
) -> tuple[str, str]:
    """A query of the events of one part of the mapping, and what its rows count."""
    if part.file is None:
        raise SourceError(f"{path}: tables.events: a query is not read here; name a file")
    raw = open_file(connection, resolve(part.file, path), part, name=f"raw_{number}", scratch=scratch)
    relation = f"kept_{number}"
    constants = ", ".join(f'{literal(str(value))} AS "constant:{name}"' for name, value in part.constants.items())
    connection.execute(
        f"CREATE VIEW {relation} AS SELECT *{', ' + constants if constants else ''} FROM {raw.relation}"
        + (f" WHERE coalesce(({part.where}), false)" if part.where else "")
    )
    rules: dict[str, Rule] = {}
    for meaning, canonical in MAPPED.items():
        name = part.columns.get(canonical) or (canonical if canonical in raw.columns else None)
        if name is None and canonical in part.constants:
            name = f"constant:{canonical}"
        if name is None or (name not in raw.columns and not name.startswith("constant:")):
            problem = f"{raw.path} has no column {name or canonical!r}; there are {names(raw.columns)}"
            raise ContractError(TABLE, problem, column=canonical)
        column = column_of(connection, relation, name=name, type=raw.types.get(name, "VARCHAR"), table=TABLE,
                           canonical=canonical, part=part, row_means=raw.row_means)  # fmt: skip
        rules[meaning] = rule_of(column, part, source)
    readings = read_columns(rules)
    unknown = readings.of[KIND].found.get("unknown")
    if unknown:
        raise replace(rules[KIND].column, relation=readings.relation).refuse(
            f'unknown kinds: {unknown}; map each in values = {{ kind = {{ … }} }}, or to "ignore"',
            f"{readings.of[KIND].problem} IS NOT NULL",
        )
    kept = [f"NOT ({reading.ignored})" for reading in readings.of.values() if reading.ignored != "false"]
    if asked.kinds:
        kept.append(of_kinds(readings.of[KIND].value, asked.kinds))
    time = rules[TIME].column
    return (
        f"SELECT _file, _row, {readings.of[USER].value} AS user, {readings.of[ITEM].value} AS item, "
        f"epoch_us({readings.of[TIME].value}) AS time_us, {time.raw}::VARCHAR AS _time_text FROM {readings.relation}"
        + (f" WHERE {' AND '.join(kept)}" if kept else "")
    ), raw.row_means
