"""Reads one sheet of an Excel or OpenDocument workbook (.xlsx, .xlsm, .xlsb, .xls, .ods) as columns of text.

A number without a fraction is written without one, a date as 2024-03-01, a time as 2024-03-01 10:00:00. `_row` is the
sheet's own row number. Rows and columns without any value are left out.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from pathlib import Path

from recommender.datasets.mapping import FileFormat
from recommender.datasets.reading.header import checked_names, is_header, require_header
from recommender.datasets.reading.raw import Part, Scan, first_line, shortened
from recommender.datasets.reading.text_rows import copy_rows, scan_rows
from recommender.datasets.reading.unpacking import new_file
from recommender.errors import SourceError, suggestion

SAMPLE_ROWS = 500
"""Rows that decide whether the first one is a header. Chosen by hand."""
Row = tuple[int, list[str]]


def sheet_names(path: Path) -> list[str]:
    """The sheets of a workbook. None where the file is no workbook, or none that can be read."""
    from python_calamine import CalamineWorkbook

    try:
        with _damage_named(Part(str(path), path)), path.open("rb") as file:
            return list(CalamineWorkbook.from_filelike(file).sheet_names)
    except SourceError:
        return []


def scan_workbook(part: Part, form: FileFormat, scratch: Path) -> Scan:
    """A query for a sheet, whose rows are copied to a Parquet file in `scratch`.

    Raises:
        SourceError: the workbook is damaged or locked, the sheet is missing or empty, or its header is wrong.
    """
    sheet, rows = _rows(part, form.sheet)
    first = next(rows, None)
    if first is None:
        raise SourceError(f"{part.label}: the sheet {sheet!r} is empty; name another as `sheet` in the mapping")
    sample = list(itertools.islice(rows, SAMPLE_ROWS))
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
    copy_rows(target, names, _filled(part, sheet, len(names), itertools.chain(data, rows)))
    return scan_rows(target, names, "row")


def _rows(part: Part, sheet: str | None) -> tuple[str, Iterator[Row]]:
    """The sheet's name, and its rows with a value: their number and cells, from the first column with a value."""
    from python_calamine import CalamineWorkbook

    with _damage_named(part), part.path.open("rb") as file:
        workbook = CalamineWorkbook.from_filelike(file)
        names = workbook.sheet_names
        chosen = names[0] if sheet is None else sheet
        cells = workbook.get_sheet_by_name(chosen).iter_rows() if chosen in names else None
    if cells is None:
        raise SourceError(f"{part.label}: no sheet {chosen!r}; {suggestion(chosen, names)}")
    texts = ((number, [_text(cell) for cell in row]) for number, row in enumerate(cells, start=1))
    return chosen, ((number, row) for number, row in texts if any(row))


@contextmanager
def _damage_named(part: Part) -> Iterator[None]:
    """Turn whatever the library raises over a damaged or locked workbook into an error that names the file."""
    from python_calamine import CalamineError

    try:
        yield
    except BaseException as error:
        # A panic of the Rust library is no `Exception`, and its class has no public name.
        if (
            not isinstance(error, (CalamineError, OSError, ValueError, IndexError))
            and "Panic" not in type(error).__name__
        ):
            raise
        problem = first_line(error)
        raise SourceError(f"{part.label}: the workbook cannot be read ({problem}); save it anew, unlocked") from None


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


def _filled(part: Part, sheet: str, width: int, rows: Iterator[Row]) -> Iterator[Row]:
    """The rows with as many cells as there are columns."""
    for number, cells in rows:
        surplus = [cell for cell in cells[width:] if cell.strip()]
        if surplus:
            raise SourceError(
                f"{part.label}: sheet {sheet!r}, row {number:,} has a value beyond the {width} columns of the header: "
                f"{shortened(surplus[0])}; give its column a name"
            )
        yield number, [*cells[:width], *[""] * (width - len(cells))]
