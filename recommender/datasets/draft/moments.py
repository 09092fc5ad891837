"""Drafts when an event happened: a time, a day and an hour, a number of days, or days since the order before."""

import re
from collections.abc import Sequence

from recommender.datasets.draft.evidence import ColumnEvidence, FileEvidence
from recommender.datasets.draft.roles import has_hours, is_day_number, month_and_day, time_column
from recommender.datasets.draft.rows import Rows, sql_name
from recommender.datasets.draft.sections import Section
from recommender.datasets.reading.raw import literal

FIRST_DAY = "2024-01-01"
"""Day 1 of a data set that does not say it. Any day will do for ranking; weekdays are then made up."""

DAY_AND_MONTH = re.compile(r"%[dm][-/.]%[dm]")
"""A format of numbers whose order a person may mistake."""
EXCEL_DAYS = (32_874, 73_051)
"""Excel's numbers of 1990-01-01 and 2100-01-01."""
PER_SECOND = {"unix_s": 1, "unix_ms": 1_000, "unix_us": 1_000_000}
TIMES = frozenset({"event_time", "starts_at", "ends_at", "targeted_at", "participated_at", "joined_at"})


def moment_of(rows: Rows, columns: dict[str, ColumnEvidence], section: Section, user: ColumnEvidence | None) -> None:
    """Add `event_time` to the columns of some rows, or an expression for it."""
    for file in rows.files:
        column = time_column(file)
        if column is not None:
            clock = None if has_hours(column) else _clock(rows, column)
            if clock is None:
                columns["event_time"] = column
                add_format(section, "event_time", column)
            else:
                columns["event_time"] = column
                rows.expressions["event_time"] = f"{rows.name(column)} || ' ' || {rows.name(clock)}"
            return
    for file in rows.files:
        serial = next((one for one in file.candidates("event_time") if _is_excel(one)), None)
        if serial is not None:
            columns["event_time"] = serial
            section.formats["event_time"] = "excel"
            section.comments.append(f"CHECK: {serial.name} holds days as Excel counts them")
            return
        day = file.first("day_number")
        if day is not None and is_day_number(day):
            _day_number(rows, columns, section, day)
            return
        if month_and_day(file.first("event_time")):
            column = file.first("event_time")
            assert column is not None
            columns["event_time"] = column
            section.formats["event_time"] = "%m%d"
            section.first_day = FIRST_DAY
            section.comments.append(f"DECIDE: {column.name} has no year: first_day is the first day of the file")
            return
        if file.has("sequence", "days_since") and user is not None:
            _days_since(rows, section, user)
            return
        hours = file.first("hours_since_start")
        if hours is not None and is_day_number(hours):
            start = f"TIMESTAMP '{FIRST_DAY}'"
            rows.expressions["event_time"] = f"{start} + to_hours(CAST({rows.name(hours)} AS INTEGER))"
            hours.file.used.add(hours.name)
            section.comments.append(f"DECIDE: {hours.name} counts hours from the start, taken as {FIRST_DAY}")
            return


def add_format(section: Section, canonical: str, column: ColumnEvidence) -> None:
    """Write the format of a time that is not ISO 8601, or the question about it."""
    possible = column.possible_formats
    if possible:
        known = column.file.day_first
        fitting = [one for one in possible if known is not None and one.startswith("%d") == known]
        section.formats[canonical] = (fitting or possible)[0]
        why = "as in the other columns" if fitting else f"or is it {' or '.join(possible[1:])}? No value shows it"
        section.comments.append(f"DECIDE: {canonical}: {section.formats[canonical]}, {why}")
        return
    written = column.seen.times.found.get("format", "")
    if written and " | " not in written and not written.startswith("%Y-%m-%d"):
        section.formats[canonical] = written
        if DAY_AND_MONTH.match(written):
            first = "day" if written.startswith("%d") else "month"
            section.comments.append(f"CHECK: the {first} comes first in {column.name}, as its numbers over 12 show")


def timestamp_sql(sql: str, written: str | None) -> str:
    """SQL of a TIMESTAMP from a time in a format that the mapping would name."""
    if written in PER_SECOND:
        return f"make_timestamp(CAST(CAST({sql} AS DOUBLE) * {1_000_000 // PER_SECOND[written]} AS BIGINT))"
    if written == "unix_ns":
        return f"make_timestamp(CAST({sql} AS BIGINT) // 1000)"
    if written and written.startswith("%"):
        return f"strptime({sql}, {literal(written)})"
    return f"CAST({sql} AS TIMESTAMP)"


def day_first(files: Sequence[FileEvidence]) -> bool | None:
    """Whether the columns of days that decide it write the day first. None: none decides, or they differ."""
    orders = {
        written.startswith("%d")
        for file in files
        for column in file.columns.values()
        if column.meanings.keys() & TIMES and DAY_AND_MONTH.match(written := column.seen.times.found.get("format", ""))
    }
    return orders.pop() if len(orders) == 1 else None


def _is_excel(column: ColumnEvidence) -> bool:
    """Whether a column called a date holds numbers such as Excel's days of 1990 to 2100."""
    if not column.is_number:
        return False
    smallest, largest, _, _ = column.numbers
    return EXCEL_DAYS[0] <= smallest and largest <= EXCEL_DAYS[1]


def _clock(rows: Rows, day: ColumnEvidence) -> ColumnEvidence | None:
    """The column of the time of day beside a column of days: 13:45 or 13:45:10."""
    for column in day.file.candidates("clock"):
        texts = [text for text in column.seen.commonest if text]
        if column is not day and texts and all(":" in text and len(text) <= 12 for text in texts):
            return column
    return None


def _day_number(rows: Rows, columns: dict[str, ColumnEvidence], section: Section, day: ColumnEvidence) -> None:
    """Days from the first, with the minute where a column such as 1631 holds it."""
    section.comments.append(f"DECIDE: {day.name} counts days; first_day is the date of day 1, taken as {FIRST_DAY}")
    clock = next((one for one in day.file.candidates("clock") if _is_hour_and_minute(one)), None)
    if clock is None:
        columns["event_time"] = day
        section.formats["event_time"] = "day"
        section.first_day = FIRST_DAY
        return
    text = f"lpad({rows.name(clock)}::VARCHAR, 4, '0')"
    rows.expressions["event_time"] = (
        f"TIMESTAMP '{FIRST_DAY}' + to_days(CAST({rows.name(day)} AS INTEGER) - 1)\n"
        f"        + to_hours({text}[:2]::INTEGER) + to_minutes({text}[3:]::INTEGER)"
    )
    for column in (day, clock):
        column.file.used.add(column.name)


def _is_hour_and_minute(column: ColumnEvidence) -> bool:
    if not column.is_number:
        return False
    smallest, largest, whole, _ = column.numbers
    minutes = all(int(float(text)) % 100 < 60 for text in column.seen.commonest)
    return whole == 1 and smallest >= 0 and 100 < largest <= 2359 and minutes


def _days_since(rows: Rows, section: Section, user: ColumnEvidence) -> None:
    """Days since the user's order before, added up in the order of the orders."""
    file = user.file
    days, number = file.first("days_since"), file.first("sequence")
    assert days is not None
    assert number is not None
    hour = next((one for one in file.candidates("clock") if one.is_number and one.numbers[1] <= 23), None)
    gap = f"sum(coalesce(TRY_CAST({_raw(days)} AS DOUBLE), 0)) OVER (PARTITION BY {_raw(user)} ORDER BY "
    gap += f"TRY_CAST({_raw(number)} AS INTEGER))"
    hours = f" + to_hours(TRY_CAST({_raw(hour)} AS INTEGER))" if hour is not None else ""
    inner = f"SELECT *, TIMESTAMP '{FIRST_DAY}' + to_days(CAST({gap} AS INTEGER)){hours} AS moment FROM {file.name}"
    # A window function counts each order once, so it stands before the join with the lines.
    file.derived = inner
    rows.expressions["event_time"] = "moment"
    for column in (days, number, *([hour] if hour else [])):
        column.file.used.add(column.name)
    section.comments.append(
        f"CHECK: {days.name} are added up for each user from {FIRST_DAY}: only the distances between orders are known"
    )


def _raw(column: ColumnEvidence) -> str:
    return sql_name(column.name)
