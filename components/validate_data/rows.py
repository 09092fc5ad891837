"""Row-level rules: set rows that break the contract aside with number and reason, and keep the others."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recommender.datasets.contract import row_problems
from recommender.datasets.tables import CONTRACT, Tables
from recommender.storage.manifest import MANIFEST, link_or_copy

PARENTS_FIRST = ("users", "items", "campaigns", "campaign_items", "targets", "events", "participations")


def set_aside(connection: duckdb.DuckDBPyConnection, tables: Tables) -> dict[str, pa.Table]:
    """Narrow each view of `connection` (`contract.open_views`) to its sound rows, and return the others by table.

    A returned table has the table's own columns, `_row` (int64, from 0), `_column` and `_reason`. Parents are cleaned
    first, so that a row that refers to a row set aside is set aside too. Duplicate keys stay, because it is unknown
    which of them is right. The expectations find them and stop the run.
    """
    bad: dict[str, pa.Table] = {}
    for name in PARENTS_FIRST:
        if not tables.has(name):
            continue
        problems = row_problems(connection, tables, name).filter("_reason <> 'duplicate key'").to_arrow_table()
        connection.register("problems", problems)
        connection.execute(
            f"CREATE TABLE bad_{name} AS SELECT _row, string_agg(_column, ', ' ORDER BY _column) AS _column, "
            "string_agg(_column || ': ' || _reason, '; ' ORDER BY _column) AS _reason FROM problems GROUP BY _row"
        )
        connection.unregister("problems")
        rows = connection.sql(
            f"SELECT t.*, b._column, b._reason FROM {name} t JOIN bad_{name} b USING (_row) ORDER BY _row"
        ).to_arrow_table()
        bad[name] = rows
        if rows.num_rows:
            glob = tables.glob(name).replace("'", "''")
            connection.execute(
                f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM (SELECT row_number() OVER () - 1 AS _row, * FROM "
                f"read_parquet('{glob}', hive_partitioning = false)) WHERE _row NOT IN (SELECT _row FROM bad_{name})"
            )
    return bad


def write_clean(tables: Tables, bad: dict[str, pa.Table], folder: Path) -> dict[str, int]:
    """Write the sound rows of every table below `folder`, the others to `quarantine/`, and return the counts kept.

    Files without a bad row are linked and not rewritten, so that unchanged tables keep their bytes and their data hash.
    """
    for source in sorted(tables.folder.rglob("*")):
        relative = source.relative_to(tables.folder)
        if source.is_file() and relative.parts[0] not in CONTRACT and source.name != MANIFEST:
            _link(source, folder / relative)
    kept: dict[str, int] = {}
    for name in CONTRACT:
        rejected = bad[name]["_row"] if name in bad else pa.chunked_array([], pa.int64())
        offset = kept[name] = 0
        for source in sorted((tables.folder / name).rglob("*.parquet")):
            target = folder / source.relative_to(tables.folder)
            count = pq.read_metadata(source).num_rows
            numbers = pc.subtract(rejected, offset)
            here = numbers.filter(pc.and_(pc.greater_equal(numbers, 0), pc.less(numbers, count)))
            if len(here):
                rows = pq.ParquetFile(source).read()
                sound = pc.invert(pc.is_in(pa.array(range(count), pa.int64()), value_set=here.combine_chunks()))
                target.parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(rows.filter(sound), target, compression="zstd", write_page_checksum=True)
            else:
                _link(source, target)
            kept[name] += count - len(here)
            offset += count
    for name, rows in bad.items():
        if rows.num_rows:
            _quarantine(rows.drop_columns(["_column"]), folder / "quarantine" / f"{name}.parquet")
    return kept


def _quarantine(rows: pa.Table, path: Path) -> None:
    """Add `rows` to what ingestion set aside already."""
    if path.exists():
        earlier = pq.ParquetFile(path).read()
        path.unlink()  # a link to the source's file, which stays as it is
        rows = pa.concat_tables([earlier, rows], promote_options="permissive")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, compression="zstd", write_page_checksum=True)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    link_or_copy(source, target)
