"""Reads one sheet of an Excel or OpenDocument workbook (.xlsx, .xlsm, .xlsb, .xls, .ods) as columns of text.

A number without a fraction is written without one, a date as 2024-03-01, a time as 2024-03-01 10:00:00. `_row` is the
sheet's own row number. Rows and columns without any value are left out.
"""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recommender.datasets.mapping import FileFormat
from recommender.datasets.reading.header import checked_names, is_header, require_header
from recommender.datasets.reading.raw import Part, Scan, literal, quoted, shortened
from recommender.datasets.reading.unpacking import new_file
from recommender.errors import SourceError, suggestion

BATCH_ROWS = 10_000
SAMPLE_ROWS = 500
Row = tuple[int, list[str]]


def scan_workbook(part: Part, form: FileFormat, scratch: Path) -> Scan:
    """A query for a sheet, whose rows are copied to a Parquet file in `scratch`.

    Raises:
        SourceError: the workbook is damaged or locked, the sheet is missing or empty, or its header is wrong.
    """
    sheet, rows = _rows(part, form.sheet)
    first = next(rows, None)
    if first is None:
        raise SourceError(f"{part.label}: the sheet {sheet!r} is empty; name another as `sheet` in the mapping")
    sample = [row for row, _ in zip(rows, range(SAMPLE_ROWS), strict=False)]
    texts = [cells for _, cells in sample]
    where = f"sheet {sheet!r}, row {first[0]}"
    # Cells to the right of the header belong to no column, unless they are empty in all rows.
    heading = _trimmed(first[1])
    if form.header is None:
        require_header(part.label, heading, texts, where=where)
        names, data = checked_names(part.label, heading, texts, where=where), sample
    else:
        names = checked_names(part.label, form.header, texts, where="`header` in the mapping")
        data = sample if is_header(heading, names) else [first, *sample]
    target = new_file(scratch, ".parquet")
    _write(part, sheet, names, data, rows, target)
    query = f"SELECT _row, {', '.join(map(quoted, names))} FROM read_parquet({literal(str(target))})"
    return Scan(query, tuple(names), dict.fromkeys(names, "VARCHAR"), "row")


def _rows(part: Part, sheet: str | None) -> tuple[str, Iterator[Row]]:
    """The sheet's name, and its rows with a value: their number and cells."""
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        with part.path.open("rb") as file:
            workbook = CalamineWorkbook.from_filelike(file)
            names = workbook.sheet_names
            if sheet is not None and sheet not in names:
                raise SourceError(f"{part.label}: no sheet {sheet!r}; {suggestion(sheet, names)}")
            chosen = names[0] if sheet is None else sheet
            cells = workbook.get_sheet_by_name(chosen).to_python(skip_empty_area=False)
    except (CalamineError, OSError, ValueError, IndexError) as error:
        raise SourceError(
            f"{part.label}: the workbook cannot be read ({error}); save it anew without a password"
        ) from None
    texts = ((number, [_text(cell) for cell in row]) for number, row in enumerate(cells, start=1))
    return chosen, ((number, row) for number, row in texts if any(row))


def _text(cell: object) -> str:
    """A cell as text."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else repr(cell)
    if isinstance(cell, datetime):
        return cell.isoformat(sep=" ") if cell.time() != time() else cell.date().isoformat()
    if isinstance(cell, (date, time, timedelta)):
        return str(cell)
    return str(cell).strip("\x00")


def _trimmed(cells: list[str]) -> list[str]:
    """Cells up to the last with a value."""
    filled = [number for number, cell in enumerate(cells, start=1) if cell.strip()]
    return cells[: filled[-1]]


def _write(part: Part, sheet: str, names: list[str], sample: list[Row], rest: Iterator[Row], target: Path) -> None:
    schema = pa.schema([("_row", pa.int64()), *((name, pa.string()) for name in names)])
    with pq.ParquetWriter(target, schema) as writer:
        batch = sample
        while batch:
            for number, cells in batch:
                surplus = [cell for cell in cells[len(names) :] if cell.strip()]
                if surplus:
                    raise SourceError(
                        f"{part.label}: sheet {sheet!r}, row {number:,} has a value beyond the {len(names)} columns "
                        f"of the header: {shortened(surplus[0])}; give its column a name"
                    )
            columns = [
                pa.array([(cells[column] if column < len(cells) else "") or None for _, cells in batch], pa.string())
                for column in range(len(names))
            ]
            numbers = pa.array([number for number, _ in batch], pa.int64())
            writer.write_batch(pa.record_batch([numbers, *columns], schema=schema))
            batch = [row for row, _ in zip(rest, range(BATCH_ROWS), strict=False)]
