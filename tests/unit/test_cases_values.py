"""Exports that shops really have: their values are read as their owner means them, or refused with the remedy."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from recommender.datasets.mapping import SourceMapping, TableMapping
from recommender.datasets.reading import open_file
from recommender.datasets.values import Identifiers, Readings, collisions, column_of, read_columns, rule_of
from recommender.errors import ContractError


def read_table(
    connection: duckdb.DuckDBPyConnection, path: Path, table: str, columns: list[str], **more: Any
) -> Readings:
    """Columns of a file as the table `table`, in the way in which ingestion reads them."""
    part, source = TableMapping(file=str(path), **more), SourceMapping(time_zone="Europe/Berlin")
    connection.execute("SET TimeZone = 'UTC'")
    raw = open_file(connection, path, part, name=f"raw_{table}", scratch=path.parent)
    rules = {
        name: rule_of(
            column_of(connection, raw.relation, name=part.columns.get(name, name),
                      type=raw.types[part.columns.get(name, name)], table=table, canonical=name, part=part,
                      row_means=raw.row_means),
            part,
            source,
        )
        for name in columns
    }  # fmt: skip
    readings = read_columns(rules)
    connection.execute(f"CREATE TABLE {table} AS {readings.query('_file', '_row')}")
    return readings


@pytest.fixture
def connection() -> Any:
    with duckdb.connect() as one:
        yield one


@pytest.mark.parametrize("users", [[17.0, None, 18.0, 17.0], ["17.0", "", "18.0", "17.0"]])
def test_shoppers_of_a_column_with_a_gap_are_those_of_the_other_files(
    users: list[Any], tmp_path: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    pd.DataFrame({"user_id": users, "item_id": "tin"}).to_parquet(tmp_path / "events.parquet")
    (tmp_path / "targets.csv").write_text("campaign_id,user_id\nspring,17\nspring,18\n")
    read_table(connection, tmp_path / "events.parquet", "events", ["user_id"])
    read_table(connection, tmp_path / "targets.csv", "targets", ["user_id"])
    both = "SELECT DISTINCT user_id FROM {} WHERE user_id IS NOT NULL ORDER BY ALL"
    assert connection.execute(both.format("events")).fetchall() == connection.execute(both.format("targets")).fetchall()
    collisions(connection, [Identifiers("users", name, "user_id", name) for name in ("events", "targets")])


def test_shoppers_with_leading_zeros_in_one_file_only_are_refused(
    tmp_path: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id\n0017,tin\n0018,tin\n")
    (tmp_path / "targets.csv").write_text("campaign_id,user_id\nspring,17\nspring,18\n")
    for table in ("events", "targets"):
        read_table(connection, tmp_path / f"{table}.csv", table, ["user_id"])
    with pytest.raises(ContractError, match=r"'0017'.*events\.csv.*'17'.*targets\.csv"):
        collisions(connection, [Identifiers("users", name, "user_id", name) for name in ("events", "targets")])


@pytest.mark.parametrize(
    ("times", "written", "fits"),
    [(("1709370000", "1709460000"), "unix_ms", "unix_s"), (("1709370000123", "1709460000456"), "unix_us", "unix_ms")],
)
def test_an_epoch_in_another_unit_than_the_mappings_is_refused_with_the_one_that_fits(
    times: tuple[str, str], written: str, fits: str, tmp_path: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    (tmp_path / "events.csv").write_text("user_id,event_time\n" + "".join(f"17,{time}\n" for time in times))
    with pytest.raises(
        ContractError, match=rf"events\.event_time: .*events\.csv.*{written}.*{fits}.*{times[0]}.*line 2"
    ):
        read_table(connection, tmp_path / "events.csv", "events", ["event_time"], formats={"event_time": written})


@pytest.mark.parametrize("separator", [".", "-", "/"])
@pytest.mark.parametrize("year", ["24", "2024"])
def test_days_in_front_are_found_with_any_mark_and_length_of_year(
    separator: str, year: str, tmp_path: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    rows = [("spring", "10 03", "20 03"), ("summer", "21 06", "30 06")]
    text = "campaign_id,starts_at,ends_at\n" + "".join(
        f"{name},{f'{start} {year}'.replace(' ', separator)},{f'{end} {year}'.replace(' ', separator)}\n"
        for name, start, end in rows
    )
    (tmp_path / "promotions.csv").write_text(text)
    readings = read_table(connection, tmp_path / "promotions.csv", "campaigns", ["starts_at", "ends_at"])
    wanted = separator.join(("%d", "%m", "%y" if len(year) == 2 else "%Y"))
    assert [reading.found["format"] for reading in readings.of.values()] == [wanted] * 2
    first = connection.execute("SELECT starts_at, ends_at FROM campaigns ORDER BY ALL").fetchall()[0]
    assert first == (datetime(2024, 3, 9, 23, tzinfo=UTC), datetime(2024, 3, 20, 23, tzinfo=UTC))


def test_two_digits_of_a_year_in_a_format_of_four_are_refused(
    tmp_path: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    (tmp_path / "promotions.csv").write_text("campaign_id,starts_at\nspring,10.03.24\nsummer,21.06.24\n")
    with pytest.raises(ContractError, match=r"%d\.%m\.%Y.*%d\.%m\.%y"):
        read_table(
            connection, tmp_path / "promotions.csv", "campaigns", ["starts_at"], formats={"starts_at": "%d.%m.%Y"}
        )


@pytest.mark.parametrize("amounts", [("9,50", "19"), ("1.009,50", "9,50"), ("9,50 €", "1 000,00 €")])
def test_a_decimal_comma_is_found(
    amounts: tuple[str, str], tmp_path: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    (tmp_path / "events.csv").write_text("user_id;amount\n" + "".join(f"17;{amount}\n" for amount in amounts))
    readings = read_table(connection, tmp_path / "events.csv", "events", ["amount"])
    assert readings.of["amount"].found["decimal"] == ","
    (least,) = connection.execute("SELECT min(amount) FROM events").fetchone() or (None,)
    assert least == 9.5


def test_an_amount_that_cannot_be_read_speaks_of_the_decimal_mark(
    tmp_path: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    (tmp_path / "events.csv").write_text("user_id;amount\n17;1.234\n18;2.345\n")
    with pytest.raises(ContractError, match=r"events\.amount: .*events\.csv.*decimal.*'1\.234'.*line 2"):
        read_table(connection, tmp_path / "events.csv", "events", ["amount"])


@pytest.mark.parametrize("offset", [" +0400", " +04:00", "+0400", " +04"])
def test_an_offset_after_a_blank_is_read(offset: str, tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    (tmp_path / "events.csv").write_text(
        f"user_id,event_time\n17,2024-03-02 10:00:00{offset}\n17,2024-03-02 10:00:00\n"
    )
    read_table(connection, tmp_path / "events.csv", "events", ["event_time"])
    rows = connection.execute("SELECT event_time, _reason FROM events ORDER BY _row").fetchall()
    assert rows == [(datetime(2024, 3, 2, 6, tzinfo=UTC), ""), (datetime(2024, 3, 2, 9, tzinfo=UTC), "")]
