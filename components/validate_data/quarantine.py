"""Lists what was set aside: by ingestion (rows that cannot be read, rules of the mapping) and by validation."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb

from components.validate_data.rows import PARTICULARS
from recommender.datasets.tables import CONTRACT
from recommender.errors import RegistryError
from recommender.storage.manifest import read_manifest, write_text

LIST = "quarantine.json"
EXAMPLES = 3
"""Rows of each reason that are shown. Chosen by hand."""


@dataclass(frozen=True)
class SetAside:
    """Rows of one table that were set aside, or not yet counted, for one reason."""

    table: str
    reason: str
    rows: int
    examples: tuple[str, ...] = ()
    """Key or row number of the first ones, and what was wrong with them."""
    file: Path | None = None
    """The Parquet file with all of these rows. None where only their number is known."""


def quarantined(tables: Path) -> list[SetAside]:
    """What was set aside of a folder of tables, as ingestion or validation wrote it.

    Raises:
        CorruptFileError: the folder is no folder of tables.
    """
    manifest = read_manifest(tables, verify=False)
    found: list[SetAside] = []
    with duckdb.connect() as connection:
        for path in sorted((tables / "quarantine").glob("*.parquet")):
            found += _of_file(connection, path)
    for table, rules in manifest.get("left_out", {}).items():
        found += [SetAside(table, f"left out by the mapping: {rule}", rows) for rule, rows in rules.items()]
    for table, rows in manifest.get("not_yet_known", {}).items():
        found.append(SetAside(table, "later than as_of: kept as labels of a back-test, seen by no feature", rows))
    return found


def keep(found: Sequence[SetAside], folder: Path) -> None:
    """Keep the list of a run's tables in the source's record, for `recommender quarantine`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / LIST, json.dumps([asdict(one) for one in found], indent=1, default=str))


def kept(folder: Path) -> list[SetAside]:
    """The list that the last run kept.

    Raises:
        RegistryError: no run has validated this source.
    """
    if not (folder / LIST).is_file():
        raise RegistryError(f"{folder / LIST}: nothing has validated this source yet; start with: recommender validate")
    found = json.loads((folder / LIST).read_text(encoding="utf-8"))
    return [
        SetAside(
            **{**one, "examples": tuple(one["examples"]), "file": None if one["file"] is None else Path(one["file"])}
        )
        for one in found
    ]


def _of_file(connection: duckdb.DuckDBPyConnection, path: Path) -> Sequence[SetAside]:
    name, literal = path.stem, str(path).replace("'", "''")
    columns = connection.sql(f"SELECT * FROM read_parquet('{literal}') LIMIT 0").columns
    key = [column for column in (*CONTRACT[name].key, "_file", "_row") if column in columns]
    shown = " || ', ' || ".join(f"'{column} ' || coalesce({column}::VARCHAR, '')" for column in key) or "''"
    rows = connection.sql(
        f"SELECT regexp_replace(_reason, '{PARTICULARS}', '\\1 …', 'g') AS kind, count(*) AS rows, "
        f"list({shown} || ': ' || _reason)[:{EXAMPLES}] AS examples FROM read_parquet('{literal}') "
        "GROUP BY 1 ORDER BY 2 DESC, 1"
    ).fetchall()
    return [SetAside(name, kind, count, tuple(examples), path) for kind, count, examples in rows]
