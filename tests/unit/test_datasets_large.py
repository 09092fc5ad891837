"""Large logs: the same rows give the same bytes in whatever way they come, in the memory that the settings allow."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.ingest.shop import write_shop
from components.validate_data.validation import validate
from recommender.datasets import ingest
from recommender.datasets.contract import check, open_views
from recommender.datasets.engine import configuration, memory_limit, open_engine, single_thread
from recommender.datasets.reading.lines import Form, Structure, plain
from recommender.datasets.tables import TIME, Tables
from recommender.datasets.write import ROW_GROUP, Frame, write_tables
from recommender.errors import ContractError, SettingsError
from recommender.settings import ResourceSettings, Settings, SourceSettings

LEAST = ResourceSettings(memory_limit="256MiB", threads=2)


def events(number: int) -> pa.Table:
    """Events of three months, with equal times, missing values and a time that is missing."""
    numbers = np.arange(number)
    started = datetime(2024, 1, 15, tzinfo=UTC)
    times = [started + timedelta(seconds=int(second)) for second in numbers * 7919 % (60 * 86_400)]
    return pa.table(
        {
            "event_id": pa.array([f"e{one}" for one in numbers]),
            "user_id": pa.array([f"u{one % 97}" for one in numbers]),
            "kind": pa.array(["purchase"] * number),
            "event_time": pa.array([None, *times[1:]], TIME),
            "item_id": pa.array([None if one % 5 == 0 else f"i{one % 31}" for one in numbers]),
            "amount": pa.array([None if one % 3 == 0 else float(one % 101) / 4 for one in numbers]),
        }
    )


OTHERS = {
    "users": pa.table({"user_id": ["u1"]}),
    "items": pa.table({"item_id": ["i1"]}),
    "campaigns": pa.table(
        {
            "campaign_id": ["c1"],
            "kind": ["coupon"],
            "starts_at": pa.array([datetime(2024, 2, 1, tzinfo=UTC)], TIME),
            "ends_at": pa.array([datetime(2024, 2, 9, tzinfo=UTC)], TIME),
        }
    ),
    "campaign_items": pa.table({"campaign_id": ["c1"], "item_id": ["i1"]}),
    "targets": pa.table(
        {
            "campaign_id": ["c1"],
            "user_id": ["u1"],
            "targeted_at": pa.array([datetime(2024, 2, 1, tzinfo=UTC)], TIME),
        }
    ),
    "participations": pa.table(
        {
            "campaign_id": pa.array([], pa.string()),
            "user_id": pa.array([], pa.string()),
            "participated_at": pa.array([], TIME),
        }
    ),
}


def written(frame: Frame, folder: Path) -> dict[str, bytes]:
    write_tables({**OTHERS, "events": frame}, folder, source="test", time_zone="UTC", decisions=())
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*.parquet"))}


def test_tables_of_arrow_and_of_duckdb_in_any_order_give_the_same_bytes(tmp_path: Path) -> None:
    table = events(2 * ROW_GROUP + 50_000)
    shuffled = table.take(np.random.default_rng(1).permutation(table.num_rows))
    files = written(table, tmp_path / "arrow")
    assert {str(Path(file).parent) for file in files} >= {"events/2024-01", "events/2024-03", "events/unknown"}
    assert pq.read_metadata(tmp_path / "arrow" / "events" / "2024-02" / "part.parquet").num_row_groups == 2
    assert written(shuffled, tmp_path / "shuffled") == files
    with open_engine(LEAST, "test") as (connection, _):
        connection.register("rows", shuffled)
        assert written(connection.sql("FROM rows"), tmp_path / "duckdb") == files


def test_a_time_without_a_zone_is_refused_before_anything_is_sorted(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        connection.register("rows", events(10))
        frame = connection.sql("SELECT * REPLACE (event_time::TIMESTAMP AS event_time) FROM rows")
        with pytest.raises(ContractError, match="event_time"):
            written(frame, tmp_path / "tables")
    assert not (tmp_path / "tables").exists()


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_little_memory_and_one_thread_change_no_byte(form: str, tmp_path: Path) -> None:
    mapping = write_shop(300_000, form, tmp_path)
    source = SourceSettings(dataset="files", mapping=str(mapping))
    tables = ingest(source, tmp_path / "usual")
    check(tables)
    assert tables.manifest["rows"]["events"] == 300_000
    assert tables.manifest["rows"]["participations"] > 0
    small = LEAST.model_copy(update={"threads": 1, "scratch": tmp_path})
    assert ingest(source, tmp_path / "small", resources=small).data_hash == tables.data_hash
    verdict = validate(
        tmp_path / "usual", tmp_path / "clean", tmp_path / "page.html", as_of=tables.log_end, resources=small
    )
    assert verdict.data_hash == tables.data_hash
    assert verdict.statistics is not None
    assert verdict.statistics.days["rows"].sum() == 300_000
    assert not list(tmp_path.glob("recommender*")), "temporary files are taken away"


def test_rows_are_numbered_through_all_files_of_a_table(tmp_path: Path) -> None:
    write_tables({**OTHERS, "events": events(1_000)}, tmp_path / "t", source="test", time_zone="UTC", decisions=())
    tables = Tables(tmp_path / "t")
    files = sorted((tables.folder / "events").rglob("*.parquet"))
    in_order = [one for file in files for one in pq.read_table(file, partitioning=None)["event_id"].to_pylist()]
    with open_views(tables) as connection:
        found = connection.execute("SELECT _row, event_id FROM events ORDER BY _row").fetchall()
    assert found == list(enumerate(in_order))


def test_the_limit_is_the_setting_or_half_of_the_machine() -> None:
    assert memory_limit(ResourceSettings(memory_limit="1.5 GiB")) == 3 * 2**29
    assert memory_limit(ResourceSettings(memory_limit="700MB")) == 700_000_000
    (line,) = (one for one in Path("/proc/meminfo").read_text().splitlines() if one.startswith("MemTotal"))
    assert 2**28 <= memory_limit(ResourceSettings()) <= int(line.split()[1]) * 1024 / 2
    with duckdb.connect(config=configuration(ResourceSettings(memory_limit="512MiB", threads=3))) as connection:
        with single_thread(connection):
            assert connection.execute("SELECT current_setting('threads')").fetchone() == (1,)
        found = connection.execute("SELECT current_setting('threads'), current_setting('memory_limit')").fetchone()
    assert found == (3, "512.0 MiB")


@pytest.mark.parametrize("size", ["2", "lots", "100MB", "-2GiB"])
def test_a_size_that_is_none_or_too_small_is_refused(size: str) -> None:
    with pytest.raises(SettingsError, match=r"resources\.memory_limit"):
        Settings().updated(resources={"memory_limit": size})


@pytest.mark.parametrize(
    ("lines", "trimmed"),
    [
        (["a,b", "1,2", "3,4"], True),
        (["a,b", ",", "3,"], True),
        (["a,b", "1, 2"], False),
        (["a,b", "1 ,2"], False),
        (["a,b", " 1,2"], False),
        (["a,b", "1,2 "], False),
        (["a,b", "1,2\t"], False),
        (["a,b", "1,\u00a02"], False),
        (["a,b", "1,2\u3000"], False),
        (["a,b", "1,x y"], True),
        (["a,b", '1," 2"'], False),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_fields_with_blanks_around_them_are_noticed(lines: list[str], trimmed: bool, end: str, tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_bytes((end.join(lines) + end).encode())
    assert plain(file, Form(",", 2, 0, True)) == Structure(True, trimmed)
    file.write_bytes(end.join(lines).encode())
    assert plain(file, Form(",", 2, 0, True)) == Structure(True, trimmed)


def test_a_tab_between_fields_is_no_blank_around_them(tmp_path: Path) -> None:
    (tmp_path / "f.tsv").write_bytes(b"a\tb\n1\t\n\t2\n")
    assert plain(tmp_path / "f.tsv", Form("\t", 2, 0, True)) == Structure(True, True)
