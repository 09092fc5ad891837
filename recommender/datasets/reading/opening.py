"""Opens one file, object or pattern as a DuckDB view of its rows."""

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from recommender.datasets.mapping import FileFormat
from recommender.datasets.reading.delimited import scan_delimited
from recommender.datasets.reading.encodings import to_utf8, without_mark
from recommender.datasets.reading.excel import scan_workbook
from recommender.datasets.reading.json_lines import scan_json
from recommender.datasets.reading.kinds import binary_kind, head, text_kind
from recommender.datasets.reading.objects import GLOB, download, is_object
from recommender.datasets.reading.raw import KEPT_NAMES, Part, RawTable, Scan, first_line, literal, quoted
from recommender.datasets.reading.unpacking import new_file, unpack
from recommender.errors import SourceError, suggestion


def open_file(
    connection: duckdb.DuckDBPyConnection, location: str | Path, form: FileFormat, *, name: str, scratch: Path
) -> RawTable:
    """Open a file as a view `name`: `_file`, `_row`, then its own columns.

    Args:
        connection: where the view is created.
        location: a path or an address such as s3://bucket/key. A pattern, a folder or a zip archive stands for several
            files of one shape, `archive.zip/name.csv` for one file in an archive.
        form: what the mapping says about it.
        name: of the view.
        scratch: a temporary folder that must outlive the view: what is unpacked, copied or recoded lies there.

    Raises:
        SourceError: it is missing, damaged, of a kind or an encoding that is not read, or its lines are broken; or
            several files differ in their columns. Names file, line and what to write in the mapping.
    """
    parts = _parts(str(location), scratch)
    scans = [_scan(connection, part, form, scratch) for part in parts]
    _require_one_shape(parts, scans)
    try:
        labels = _short_labels(parts)
        queries = [
            f"SELECT {literal(label)} AS _file, * FROM ({scan.query})"
            for label, scan in zip(labels, scans, strict=True)
        ]
        connection.execute(f"CREATE VIEW {quoted(name)} AS {' UNION ALL BY NAME '.join(queries)}")
        found = connection.execute(f"DESCRIBE {quoted(name)}").fetchall()
    except duckdb.Error as error:
        raise SourceError(f"{location}: cannot be read ({first_line(error)})") from None
    types = {str(column): str(kind) for column, kind, *_ in found if column not in KEPT_NAMES}
    meanings = {scan.row_means for scan in scans}
    row_means = meanings.pop() if len(meanings) == 1 else "record"
    return RawTable(
        name,
        tuple(types),
        types,
        str(location),
        row_means,
        trimmed=all(scan.trimmed for scan in scans),
        num_files=len(parts),
        sequential=any("row_number()" in scan.query for scan in scans),
    )


def resolve(file: str, mapping: Path) -> str:
    """A file of the mapping as a location: an address as it is, a path relative to the mapping's own folder."""
    return file if "://" in file else str(mapping.parent / file)


def local_files(location: str) -> list[Path]:
    """The files on this machine that a path, a pattern or a folder names, sorted.

    Raises:
        SourceError: there is none.
    """
    path = Path(location)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(path))]
        if not found:
            raise SourceError(f"{path}: the folder holds no file")
        return sorted(found)
    if GLOB.search(location):
        fixed = next(number for number, folder in enumerate(path.parts) if GLOB.search(folder))
        matching = Path(*path.parts[:fixed]).glob(str(Path(*path.parts[fixed:])))
        found = [file for file in matching if file.is_file()]
        if not found:
            raise SourceError(f"{path}: no file matches; correct `file` in the mapping")
        return sorted(found)
    archive = _archive(path)
    if archive is not None:
        return [archive]
    beside = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = suggestion(path.name, beside) if beside and len(beside) < 50 else "correct `file` in the mapping"
    raise SourceError(f"{path}: no such file; {hint}")


def _archive(path: Path) -> Path | None:
    """The zip archive of `archive.zip/member.csv`."""
    return next((parent for parent in path.parents if parent.suffix.lower() == ".zip" and parent.is_file()), None)


def _is_hidden(path: Path) -> bool:
    """Whether it is a file that Spark or a system adds, such as _SUCCESS and .part-0.crc."""
    return any(name.startswith(("_", ".")) for name in path.parts)


def _parts(location: str, scratch: Path) -> list[Part]:
    if is_object(location):
        found, members = download(location, scratch), None
    else:
        files = local_files(location)
        inside = Path(location).relative_to(files[0]) if files[0] in Path(location).parents else None
        found, members = [Part(str(file), file) for file in files], None if inside is None else str(inside)
    return [part for one in found for part in unpack(one, scratch, members=members)]


def _scan(connection: duckdb.DuckDBPyConnection, part: Part, form: FileFormat, scratch: Path) -> Scan:
    kind = binary_kind(part.label, head(part.path))
    if kind == "parquet":
        return _scan_parquet(connection, part, scratch)
    if kind in ("excel", "zip"):  # what is still a zip archive after unpacking is a workbook
        return scan_workbook(part, form, scratch)
    text = Part(part.label, _without_pattern(to_utf8(part, form.encoding, scratch), scratch))
    if text_kind(part.label, head(text.path)) == "json":
        return scan_json(connection, Part(part.label, without_mark(text.path, scratch)))
    return scan_delimited(text, form, scratch)


def _scan_parquet(connection: duckdb.DuckDBPyConnection, part: Part, scratch: Path) -> Scan:
    path = _without_pattern(part.path, scratch)
    # Old writers of Hive and Impala do not mark texts as texts.
    options = "hive_partitioning = false, file_row_number = true, binary_as_string = true"
    source = f"read_parquet({literal(str(path))}, {options})"
    try:
        found = connection.execute(f"DESCRIBE SELECT * EXCLUDE (file_row_number) FROM {source}").fetchall()
        names = pq.read_schema(path).names
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise SourceError(f"{part.label}: the Parquet file is damaged or cut off ({first_line(error)})") from None
    types = {str(column): str(kind) for column, kind, *_ in found}
    # DuckDB appends _1 to a name that another one equals but for letter case.
    twice = next((name for name in names if name not in types), None)
    if twice is not None:
        raise SourceError(f"{part.label}: column {twice!r} occurs twice (letter case does not count); rename one")
    kept = next((column for column in types if column.lower() in KEPT_NAMES), None)
    if kept is not None:
        raise SourceError(f"{part.label}: the name {kept!r} is kept for a row's origin; rename the column")
    query = f"SELECT file_row_number + 1 AS _row, {', '.join(map(quoted, types))} FROM {source}"
    return Scan(query, tuple(types), types, "record")


def _without_pattern(path: Path, scratch: Path) -> Path:
    """The same file by a name without `*`, `?` and `[`, which DuckDB would take for a pattern."""
    if not GLOB.search(str(path)):
        return path
    link = new_file(scratch, path.suffix)
    link.symlink_to(path.absolute())
    return link


def _require_one_shape(parts: Sequence[Part], scans: Sequence[Scan]) -> None:
    """Refuse files that have other columns than the first, or times with a zone where it has none."""
    first = scans[0]
    for part, scan in zip(parts, scans, strict=True):
        missing, surplus = set(first.columns) - set(scan.columns), set(scan.columns) - set(first.columns)
        if missing or surplus:
            differences = [f"lacks {', '.join(map(repr, sorted(missing)))}"] if missing else []
            differences += [f"has {', '.join(map(repr, sorted(surplus)))} besides"] if surplus else []
            raise SourceError(
                f"{part.label} {' and '.join(differences)}, compared with {parts[0].label}; files that are read as one "
                "must have the same columns: name each kind of file on its own"
            )
        for column, kind in scan.types.items():
            if kind != first.types[column] and ("TIME" in kind or "TIME" in first.types[column]):
                raise SourceError(
                    f"{part.label}: column {column!r} is {kind}, but {first.types[column]} in {parts[0].label}; "
                    "name the two on their own"
                )


def _short_labels(parts: Sequence[Part]) -> list[str]:
    """What `_file` holds: the file's name, or its whole path where two have the same name."""
    names = [part.label if "://" in part.label else Path(part.label).name for part in parts]
    return names if len(set(names)) == len(names) else [part.label for part in parts]
