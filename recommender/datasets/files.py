"""Reads a user's own files as canonical tables, by a mapping TOML (`mapping`, drafted by `draft`).

Events, campaigns, and targets or participations are required. What else is absent is derived (`derive`), and every
derivation is recorded as a sentence in the manifest:

- users, items: the identifiers in the other tables, without attributes.
- `event_id`: the number of the file and of the row in it. `targeted_at`: the campaign's start.
- campaign_items: the items of the events that name the campaign, or else all items.
- targets: every user with an event before a campaign's start counts as targeted by it.
- participations: the first purchase that names the campaign (`events.campaign_id`). If events have no such column, the
  first purchase of one of its items in its window. A purchase that was returned is none (`returns`).

The manifest also has `left_out` ({table: {rule: rows}}), `currency`, `event_time_has_hours`, and the rule of `returns`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from recommender import logs
from recommender.datasets.derive import derive_missing
from recommender.datasets.engine import open_engine
from recommender.datasets.hours import has_hours
from recommender.datasets.labels import LABEL, split_labels
from recommender.datasets.mapping import LABEL_COLUMNS, InputMapping, Mapping, read_mapping
from recommender.datasets.money import settle_currency
from recommender.datasets.parts import Part, read_part
from recommender.datasets.queries import Open
from recommender.datasets.reading import local_files, open_file, open_query, resolve
from recommender.datasets.returns import settle_returns
from recommender.datasets.tables import CONTRACT, MADE_EVENT_IDS, Tables
from recommender.datasets.values import Identifiers, collisions
from recommender.datasets.write import write_tables
from recommender.errors import ContractError
from recommender.settings import DEFAULT_RESOURCES, ResourceSettings

log = logs.get(__name__)


@dataclass
class ReadTables:
    """What a mapping's files hold, as DuckDB views before anything is written.

    Attributes:
        connection: has a view or table of each canonical table's name.
        mapping: what was read.
        present: canonical table -> its columns.
        rejected: canonical table -> SQL of the rows that cannot be read, with `_reason`, `_file` and `_row`.
        left_out: canonical table -> rule -> rows that it leaves out.
        decisions: sentences about what was derived or decided.
        facts: further facts for the manifest.
        missing: sentences about what a run needs and the files lack. Nothing is derived while a file lacks something.
    """

    connection: duckdb.DuckDBPyConnection
    mapping: Mapping
    present: dict[str, list[str]] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    decisions: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def table(self, name: str) -> duckdb.DuckDBPyRelation:
        """Rows of one canonical table."""
        return self.connection.sql(f"SELECT {', '.join(self.present[name])} FROM {name}")


def source_files(mapping_file: Path) -> list[Path]:
    """List every file on this machine that the mapping names, in its order.

    Raises:
        SourceError: the mapping is wrong, or no file matches a pattern.
    """
    mapping = read_mapping(mapping_file)
    named = [part.file for parts in mapping.tables.values() for part in parts]
    named += [one.file for one in mapping.inputs.values()]
    places = dict.fromkeys(resolve(file, mapping_file) for file in named if file is not None and "://" not in file)
    return [file for place in places for file in local_files(place)]


def ingest(mapping_file: Path, output: Path, resources: ResourceSettings = DEFAULT_RESOURCES) -> Tables:
    """Read the files of a mapping into canonical tables.

    Raises:
        SourceError: the mapping or a file is missing or unreadable; names it.
        ContractError: a required table or column is missing, or a column cannot be read; names table, file, column and
            row.
    """
    with read_tables(mapping_file, resources=resources) as read:
        for table, rules in read.left_out.items():
            for rule, rows in rules.items():
                log.info("rows left out", table=table, rule=rule, rows=rows)
        return write_tables(
            {table: read.table(table) for table in CONTRACT if table in read.present},
            output,
            source=read.mapping.source.name,
            time_zone=read.mapping.source.time_zone,
            decisions=read.decisions,
            quarantined={
                table: read.connection.sql(f"{query} ORDER BY _file, _row") for table, query in read.rejected.items()
            },
            facts={"left_out": read.left_out, **read.facts},
        )


@contextmanager
def read_tables(
    mapping_file: Path, *, complete: bool = True, resources: ResourceSettings = DEFAULT_RESOURCES
) -> Iterator[ReadTables]:
    """Read the files of a mapping and derive what they lack, without writing anything.

    Args:
        mapping_file: the mapping TOML.
        complete: whether all that a run needs must be there. Without it, what is missing is only listed in `missing`,
            so that a log without campaigns can be looked at.
        resources: threads, the limit of memory, and where temporary files lie.

    Raises:
        SourceError, ContractError: as `ingest`.
    """
    mapping = read_mapping(mapping_file)
    missing = _missing_tables(mapping, mapping_file)
    if complete and missing:
        raise missing[0]
    with open_engine(resources, "ingest") as (connection, scratch):
        read = ReadTables(connection, mapping)
        identifiers: list[Identifiers] = []
        inputs = open_inputs(connection, mapping, mapping_file, scratch)
        for table, parts in mapping.tables.items():
            read_one = partial(
                read_part, mapping_file=mapping_file, source=mapping.source, inputs=inputs, scratch=scratch
            )
            parsed = [read_one(connection, part, table, number) for number, part in enumerate(parts)]
            read.present[table] = _union_parts(connection, table, parsed, read.decisions)
            read.rejected[table] = " UNION ALL BY NAME ".join(f"SELECT * FROM {part.rejected}" for part in parsed)
            _count_left_out(read, table, parsed)
            identifiers += _identifiers(table, parsed)
        said = "identifiers" in mapping.source.model_fields_set
        collisions(connection, identifiers, identifiers=mapping.source.identifiers if said else None)
        _split_targets(read)
        if "participations" in read.present:
            _drop_repeats(read)
        missing += _missing_columns(read.present)
        if complete and missing:
            raise missing[0]
        read.missing = [str(one) for one in missing]
        if not any(one.table == "events" for one in missing):
            currency = settle_currency(connection, read.present, mapping.source, read.decisions)
            settle_returns(connection, read.present["events"], mapping.source.returns, read.decisions)
            hours = has_hours(connection, mapping.source.time_zone)
            read.facts = {"currency": currency, "event_time_has_hours": hours, "returns": mapping.source.returns}
        if not missing:
            try:
                derive_missing(connection, read.present, read.decisions)
            except ContractError as error:  # what is derived so far can be looked at
                if complete:
                    raise
                read.missing = [str(error)]
        yield read


def _missing_tables(mapping: Mapping, path: Path) -> list[ContractError]:
    """What no file is mapped to, although a run needs it."""
    missing = [
        ContractError(
            table, f"{path} maps no file to this table, which is required; add [tables.{table}] with its `file`"
        )
        for table in ("events", "campaigns")
        if table not in mapping.tables
    ]
    if "targets" not in mapping.tables and "participations" not in mapping.tables:
        problem = f"{path} maps no file to targets or participations; add [tables.targets] or [tables.participations]"
        missing.append(ContractError("targets", problem))
    return missing


def open_inputs(
    connection: duckdb.DuckDBPyConnection, mapping: Mapping, mapping_file: Path, scratch: Path
) -> dict[str, Open]:
    """How to open each of the mapping's [inputs], by name."""

    def opener(name: str, one: InputMapping) -> Open:
        def open_input(_: str) -> duckdb.DuckDBPyRelation:
            view = f"input_{name}"
            if not connection.execute("SELECT 1 FROM duckdb_views() WHERE view_name = ?", [view]).fetchone():
                if one.file is not None:
                    open_file(connection, resolve(one.file, mapping_file), one, name=view, scratch=scratch)
                else:
                    open_query(connection, one.database or "", one.query or "", name=view, scratch=scratch)
            return connection.sql(f'SELECT * EXCLUDE (_file, _row) FROM "{view}"')

        return open_input

    return {name: opener(name, one) for name, one in mapping.inputs.items()}


def _identifiers(table: str, parts: list[Part]) -> list[Identifiers]:
    """The columns of a table's parts that identify users, items and campaigns."""
    keys = {CONTRACT[kind].key[0]: kind for kind in ("users", "items", "campaigns")}
    return [
        Identifiers(kind, table, column, part.rows, part.row_means)
        for part in parts
        for column, kind in keys.items()
        if column in part.columns
    ]


def _union_parts(
    connection: duckdb.DuckDBPyConnection, table: str, parts: list[Part], decisions: list[str]
) -> list[str]:
    """Create one view over all parts of a table, with `_key`, and return its other columns."""
    known = [*CONTRACT[table].columns, *((LABEL, *LABEL_COLUMNS) if table == "targets" else ())]
    columns = [column for column in known if any(column in part.columns for part in parts)]
    makes_event_id = table == "events" and not all("event_id" in part.columns for part in parts)
    selects = []
    for number, part in enumerate(parts):
        own = ["_key", *(column for column in part.columns if not (makes_event_id and column == "event_id"))]
        if makes_event_id:
            own = [f"{_number_of_file(number, part)} || _row AS event_id", *own]
        selects.append(f"SELECT {', '.join(own)} FROM {part.rows}")
    connection.execute(f"CREATE VIEW {table} AS {' UNION ALL BY NAME '.join(selects)}")
    if makes_event_id:
        decisions.append(MADE_EVENT_IDS)
        without = [", ".join(part.files) or "a query" for part in parts if "event_id" not in part.columns]
        if len(without) < len(parts):
            decisions.append(_unused_ids(without))
        columns = ["event_id", *(column for column in columns if column != "event_id")]
    return columns


def _unused_ids(without: list[str]) -> str:
    return (
        f"events: the event_id that other parts name is not used, because {', '.join(without)} name"
        f"{'s' if len(without) == 1 else ''} none; with an event_id in every part, an event that also comes over HTTP "
        "counts once."
    )


def _number_of_file(number: int, part: Part) -> str:
    """SQL of what an event's identifier begins with: the number of the part, and of the file if it has several."""
    if len(part.files) < 2:
        return f"'{number}-'"
    files = ", ".join("'" + file.replace("'", "''") + "'" for file in part.files)
    return f"'{number}-' || (list_position([{files}], _file) - 1) || '-'"


def _count_left_out(read: ReadTables, table: str, parts: list[Part]) -> None:
    """Add up what the rules of a table's parts left out."""
    counted: dict[str, int] = {}
    for part in parts:
        for rule, rows in part.left_out.items():
            counted[rule] = counted.get(rule, 0) + rows
            read.decisions.append(f"{table}: {rows:,} rows left out by {rule}.")
    if counted:
        read.left_out[table] = counted


def _split_targets(read: ReadTables) -> None:
    """Turn targets with a label into targets and participations."""
    columns = read.present.get("targets", [])
    left_out: dict[str, int] = {}
    has_file = "participations" in read.present
    labelled = split_labels(read.connection, columns, has_file, left_out, read.decisions)
    if labelled is None:
        return
    if left_out:
        read.left_out["targets"] = {**read.left_out.get("targets", {}), **left_out}
    union = f"SELECT {', '.join(labelled)} FROM labelled_participations"
    if has_file:
        read.connection.execute("ALTER VIEW participations RENAME TO participations_of_files")
        union += f" UNION ALL BY NAME SELECT {', '.join(read.present['participations'])} FROM participations_of_files"
    read.connection.execute(f"CREATE VIEW participations AS {union}")
    both = {*labelled, *read.present.get("participations", ())}
    read.present["participations"] = [column for column in CONTRACT["participations"].columns if column in both]


def _drop_repeats(read: ReadTables) -> None:
    """Keep one of several equal participations, such as two redemptions on a day without an hour.

    The key of the table is all of its columns, so the contract allows a row only once.
    """
    columns = ", ".join(read.present["participations"])
    read.connection.execute("ALTER VIEW participations RENAME TO participations_with_repeats")
    read.connection.execute(f"CREATE VIEW participations AS SELECT DISTINCT {columns} FROM participations_with_repeats")
    query = "SELECT (SELECT count(*) FROM participations_with_repeats) - (SELECT count(*) FROM participations)"
    (repeats,) = read.connection.execute(query).fetchone() or (0,)
    if repeats:
        read.left_out.setdefault("participations", {})["repeats another row exactly"] = repeats
        read.decisions.append(f"participations: {repeats:,} rows that repeat another exactly are dropped.")


def _missing_columns(present: dict[str, list[str]]) -> list[ContractError]:
    """Required columns that no file of a table has."""
    return [
        ContractError(
            table,
            f"no file has this column ({wanted.meaning}); name it in `columns` or set it in `constants`",
            column=column,
        )
        for table, columns in present.items()
        for column, wanted in CONTRACT[table].columns.items()
        if wanted.required and column not in columns and (table, column) != ("targets", "targeted_at")
    ]
