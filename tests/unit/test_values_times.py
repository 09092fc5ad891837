"""Times are read by what the whole column proves. What lies outside the plausible range is no time."""

from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import duckdb
import pytest
from values_column import read

from recommender.datasets.values import Column, Time, read_columns
from recommender.errors import ContractError

BERLIN = partial(Time, zone="Europe/Berlin")
IN_UTC = partial(Time, zone="UTC")


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-03-02T10:00", utc(2024, 3, 2, 9)),
        ("2024-03-02", utc(2024, 3, 1, 23)),
        ("2024/3/2 10:00:00", utc(2024, 3, 2, 9)),
        ("2024-03-02 10:00:00.25+02:00", utc(2024, 3, 2, 8, 0, 0, 250_000)),
        ("2024-03-02 10:00:00 +0400", utc(2024, 3, 2, 6)),
        ("2024-03-02 10:00 +04:00", utc(2024, 3, 2, 6)),
        ("2024-03-02 10:00:00 -05", utc(2024, 3, 2, 15)),
        ("2024-03-02 10:00:00Z", utc(2024, 3, 2, 10)),
        ("2024-03-02 10:00:00 UTC", utc(2024, 3, 2, 10)),
        ("2024-03-02 10:00:00 America/New_York", utc(2024, 3, 2, 15)),
        ("20240302T101500Z", utc(2024, 3, 2, 10, 15)),
        ("2024.03.02 10:00", utc(2024, 3, 2, 9)),
        ("2024年3月2日", utc(2024, 3, 1, 23)),
        ("2024年3月2日 10时20分", utc(2024, 3, 2, 9, 20)),
        ("2 Mar 2024", utc(2024, 3, 1, 23)),
        ("02-MAR-24", utc(2024, 3, 1, 23)),
        ("March 2, 2024", utc(2024, 3, 1, 23)),
        ("Mar 2, 2024 3:04 PM", utc(2024, 3, 2, 14, 4)),
        ("Sat, 02 Mar 2024 10:00:00 +0000", utc(2024, 3, 2, 10)),
        ("1709373600", utc(2024, 3, 2, 10)),
        ("1709373600.5", utc(2024, 3, 2, 10, 0, 0, 500_000)),
        ("1709373600000", utc(2024, 3, 2, 10)),
        ("1709373600000001", utc(2024, 3, 2, 10, 0, 0, 1)),
        ("1709373600000001999", utc(2024, 3, 2, 10, 0, 0, 1)),
        ("20240302", utc(2024, 3, 1, 23)),
        ("20240302101112", utc(2024, 3, 2, 9, 11, 12)),
    ],
)
def test_a_column_of_one_way_of_writing_is_read_without_a_format(text: str, moment: datetime) -> None:
    values, problems, _ = read(BERLIN, [text, text, None])
    assert values == [moment, moment, None]
    assert not any(problems)


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["10.03.24", "21.06.24"], "%d.%m.%y"),
        (["10-03-2024", "21-06-2024"], "%d-%m-%Y"),
        (["03/04/2024", "05/13/2024"], "%m/%d/%Y"),
        (["03/04/2024 3:04 PM", "03/14/2024 11:00 AM"], "%m/%d/%Y %I:%M %p"),
        (["5.3.2024 10:00", "15.3.2024 10:00"], "%d.%m.%Y %H:%M"),
    ],
)
def test_a_number_over_twelve_decides_where_the_day_is(texts: list[str], found: str) -> None:
    values, _, readings = read(BERLIN, texts)
    assert None not in values
    assert readings.of["value"].found["format"] == found


def test_the_row_that_decides_may_be_far_behind_the_first_ones() -> None:
    values, _, _ = read(IN_UTC, ["03/04/2024"] * 12_000 + ["25/12/2024"])
    assert (values[0], values[-1]) == (utc(2024, 4, 3), utc(2024, 12, 25))
    values, problems, _ = read(IN_UTC, ["2024-03-04"] * 12_000 + ["25.12.2024"])
    assert (values[-1], problems[-1]) == (utc(2024, 12, 25), "")


@pytest.mark.parametrize("mark", "./-")
def test_an_order_that_no_row_decides_is_a_question(mark: str) -> None:
    texts = [mark.join(("03", "04", "2024")), mark.join(("05", "06", "2024"))]
    with pytest.raises(ContractError, match=r"'own'.*%d.%m.%Y.*%m.%d.%Y.*03.04.2024.*line 2"):
        read(IN_UTC, texts)
    values, _, _ = read(partial(IN_UTC, format=f"%d{mark}%m{mark}%Y"), texts)
    assert values == [utc(2024, 4, 3), utc(2024, 6, 5)]


def test_a_year_of_two_digits_in_front_is_not_taken_for_a_day() -> None:
    with pytest.raises(ContractError, match="%y-%m-%d"):
        read(IN_UTC, ["24-03-05", "24-03-06", "24-04-07"])


def test_two_orders_in_one_column_are_refused_with_a_row_of_each() -> None:
    with pytest.raises(ContractError, match=r"'13/04/2024' in line 2.*'05/14/2024' in line 3"):
        read(IN_UTC, ["13/04/2024", "05/14/2024", "01/01/2024"])


@pytest.mark.parametrize(
    ("values", "type"),
    [
        (["1709370000", "1709370001000"], "VARCHAR"),
        ([1709370000, 1709370001000], "BIGINT"),
        (["20240302", "1709370000"], "VARCHAR"),
    ],
)
def test_two_units_in_one_column_are_refused_with_a_row_of_each(values: list[Any], type: str) -> None:
    with pytest.raises(ContractError, match=rf"{values[0]}.*line 2|line 3.*{values[0]}") as raised:
        read(IN_UTC, values, type=type)
    assert str(values[1]) in str(raised.value)


def test_a_number_among_texts_is_refused() -> None:
    with pytest.raises(ContractError, match=r"number.*'1709370000'.*line 4"):
        read(IN_UTC, ["2024-03-04", "2024-03-05", "1709370000"])


@pytest.mark.parametrize(
    ("texts", "written", "fits"),
    [
        (["1709370000", "1709460000"], "unix_ms", "unix_s"),
        (["1709370000000"], "unix_s", "unix_ms"),
        (["10.03.24", "21.06.24"], "%d.%m.%Y", "%d.%m.%y"),
        (["10-03-2024", "21-06-2024"], "%Y-%m-%d", "%d-%m-%Y"),
    ],
)
def test_a_wrong_format_is_refused_with_the_one_that_fits(texts: list[str], written: str, fits: str) -> None:
    with pytest.raises(ContractError, match=rf"{written}.*{fits}.*{texts[0]}.*line 2"):
        read(partial(IN_UTC, format=written), texts)


def test_a_time_outside_the_range_is_named_and_the_range_is_a_setting() -> None:
    values, problems, _ = read(IN_UTC, ["2024-03-04", "0024-03-04", "2999-01-01"])
    assert values == [utc(2024, 3, 4), None, None]
    assert [text in problem for text, problem in zip(("0024-03-04", "2999-01-01"), problems[1:], strict=True)] == [
        True
    ] * 2
    values, _, _ = read(partial(IN_UTC, latest=date(3000, 1, 1)), ["2024-03-04", "2999-01-01"])
    assert values[1] == utc(2999, 1, 1)


def test_a_day_means_what_its_column_says() -> None:
    written = {"2024-03-04": "VARCHAR", "20240304": "VARCHAR", "4 Mar 2024": "VARCHAR", date(2024, 3, 4): "DATE"}
    for canonical, moment in (
        ("event_time", utc(2024, 3, 4, 23, 59, 59, 999_999)),
        ("ends_at", utc(2024, 3, 5)),
        ("starts_at", utc(2024, 3, 4)),
    ):
        for value, type in written.items():
            assert read(IN_UTC, [value], type=type, canonical=canonical)[0] == [moment]
        german = partial(IN_UTC, format="%d.%m.%Y")
        assert read(german, ["04.03.2024"], canonical=canonical)[0] == [moment]


def test_hours_that_a_clock_skips_or_repeats_are_read_as_stated() -> None:
    values, _, _ = read(BERLIN, ["2024-03-31 02:30:00", "2024-10-27 02:30:00"])
    assert values == [utc(2024, 3, 31, 1, 30), utc(2024, 10, 27, 1, 30)]


def test_day_numbers_and_dates_without_a_year_need_the_first_day() -> None:
    day = partial(IN_UTC, format="day", first_day=date(2016, 1, 1))
    assert read(day, ["1", "366", "x"])[0] == [utc(2016, 1, 1), utc(2016, 12, 31), None]
    with pytest.raises(ContractError, match="first_day"):
        read(partial(IN_UTC, format="%m%d"), ["0829"])
    yearless = partial(IN_UTC, format="%m%d", first_day=date(2014, 5, 1))
    assert read(yearless, ["829", "0101"])[0] == [utc(2014, 8, 29), utc(2015, 1, 1)]


def test_numbers_of_a_workbook_may_be_days_of_excel() -> None:
    assert read(IN_UTC, ["45352", "45353.5"], workbook=True)[0] == [utc(2024, 3, 1), utc(2024, 3, 2, 12)]
    with pytest.raises(ContractError, match="excel"):
        read(IN_UTC, ["45352", "45353"])


def test_words_for_a_missing_value_are_counted() -> None:
    values, problems, readings = read(IN_UTC, ["2024-03-04", "NULL", "NaT", ""])
    assert (values[1:], any(problems), readings.of["value"].null_words) == ([None] * 3, False, 2)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-03-02 10:00:00-05:00", utc(2024, 3, 2, 15)),
        ("2024-3-2 10:00:00-05", utc(2024, 3, 2, 15)),
        ("2024-03-02 10:00:00+0200", utc(2024, 3, 2, 8)),
        ("2024-03-02 10:00:00Z", utc(2024, 3, 2, 10)),
        ("2024-03-02 10:00:00 UTC", utc(2024, 3, 2, 10)),
        ("2024-03-02", utc(2024, 3, 1, 23)),
        ("2024-03-02T10:00", utc(2024, 3, 2, 9)),
        ("Mar 2, 2024 3:04 PM", utc(2024, 3, 2, 14, 4)),
        ("0224-03-02 10:00:00", None),
        ("unknown", None),
        ("", None),
    ],
)
def test_a_late_row_of_another_kind_is_read_as_if_it_came_first(text: str, moment: datetime | None) -> None:
    """The first rows look alike, so the column is read by one cast, until a row after them needs more."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for last, name in ((True, "late"), (False, "early")):
            connection.execute(
                f"CREATE TABLE {name} AS SELECT 'f.csv' AS _file, n AS _row, CASE WHEN n = ? THEN ? ELSE "
                "'2024-03-01 10:00:00' END AS own FROM range(1, 10003) t(n)",
                [10_002 if last else 1, text],
            )
            column = Column(connection, name, "own", "VARCHAR", "events", "value", "f.csv")
            readings = read_columns({"value": BERLIN(column)})
            found = connection.execute(
                f"SELECT value, count(*) FROM ({readings.query('_row')}) GROUP BY 1 ORDER BY 2"
            ).fetchall()
            assert found == [(moment, 1), (utc(2024, 3, 1, 9), 10_001)]
