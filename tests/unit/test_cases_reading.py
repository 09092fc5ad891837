"""Inputs that shops really have: JSON lines, another encoding, a short last line, a gap, folders, usual names."""

from pathlib import Path

import duckdb
import pandas as pd
import pytest

from recommender.datasets.identity import source_identity
from recommender.datasets.mapping import FileFormat, read_mapping
from recommender.datasets.reading import RawTable, open_file, resolve
from recommender.errors import SourceError
from recommender.settings import SourceSettings

ORDERS = (
    "user_id,event_time,item_id,quantity,amount\n17,2024-03-02 10:00:00,café,1,9.5\n18,2024-03-03 11:00:00,café,1,9.5\n"
)
MAPPING = """
[source]
time_zone = "Europe/Berlin"

[inputs.lines]
file = "lines.csv"

[tables.events]
file = "{file}"
"""


def read(
    path: Path, content: bytes | None = None, form: FileFormat | None = None
) -> tuple[RawTable, list[dict[str, object]]]:
    if content is not None:
        path.write_bytes(content)
    scratch = path.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    with duckdb.connect() as connection:
        raw = open_file(connection, path, form or FileFormat(), name="events", scratch=scratch)
        return raw, connection.execute("SELECT * FROM events ORDER BY _row").to_arrow_table().to_pylist()


@pytest.mark.parametrize("name", ["events.jsonl", "events.csv", "events"])
def test_json_lines_of_offers_are_read(tmp_path: Path, name: str) -> None:
    content = b'{"person":"17","event":"offer received","time":0}\n{"person":"17","event":"transaction","time":6}\n'
    raw, rows = read(tmp_path / name, content)
    assert raw.columns == ("person", "event", "time")
    assert rows[1] == {"_file": name, "_row": 2, "person": "17", "event": "transaction", "time": 6}


@pytest.mark.parametrize(("encoding", "probable"), [("cp1252", "cp1252"), ("latin-1", "cp1252")])
def test_a_windows_encoding_is_named_and_then_read(tmp_path: Path, encoding: str, probable: str) -> None:
    content = ORDERS.encode(encoding)
    with pytest.raises(SourceError, match=rf'events\.csv: line 2: byte 0xe9 .*encoding = "{probable}"'):
        read(tmp_path / "events.csv", content)
    _, rows = read(tmp_path / "events.csv", content, FileFormat(encoding=probable))
    assert rows[0]["item_id"] == "café"


def test_an_encoding_of_sixteen_bits_is_found(tmp_path: Path) -> None:
    for encoding in ("utf-16", "utf-16-le", "utf-8-sig"):
        assert read(tmp_path / "events.csv", ORDERS.encode(encoding))[1][1]["item_id"] == "café"


def test_a_damaged_character_in_utf_8_is_not_taken_for_another_encoding(tmp_path: Path) -> None:
    content = ORDERS.replace("18", "18é茶").encode() + b"19,2024-03-03,caf\xc3,1,1\n"
    with pytest.raises(SourceError, match=r"line 4: byte 0xc3 .*damaged") as caught:
        read(tmp_path / "events.csv", content)
    assert "encoding =" not in str(caught.value)


@pytest.mark.parametrize(
    ("last", "facts"),
    [
        (",\n", ("line 4", "2 fields", "5 are wanted", "','")),
        ("17,2024-03-12 12:", ("line 4", "2 fields", "5 are wanted", "cut off")),
        ("17,2024-03-12 12:00:00,tin,2,19.0,,\n", ("line 4", "7 fields", "5 are wanted")),
        ('17,2024-03-12 12:00:00,"tin,2,19.0\n', ("line 4", "never closes")),
    ],
)
def test_a_wrong_last_line_says_how_many_fields_it_has(tmp_path: Path, last: str, facts: tuple[str, ...]) -> None:
    with pytest.raises(SourceError, match=r"events\.csv") as caught:
        read(tmp_path / "events.csv", (ORDERS + last).encode())
    for fact in facts:
        assert fact in str(caught.value)


def test_an_integer_column_with_a_gap_says_that_it_is_no_text(tmp_path: Path) -> None:
    """The view tells the parser that pandas made the identifiers floats: 17.0 and 17 are one user."""
    pd.DataFrame({"user_id": [17, None, 18]}).to_parquet(tmp_path / "events.parquet")
    raw, rows = read(tmp_path / "events.parquet")
    assert raw.types == {"user_id": "DOUBLE"}
    assert [row["user_id"] for row in rows] == [17.0, None, 18.0]


def test_paths_are_relative_to_the_mapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "events.csv").write_text(ORDERS)
    mapping = folder / "mapping.toml"
    mapping.write_text(MAPPING.format(file="events.csv"))
    monkeypatch.chdir(tmp_path)
    for written in (mapping, Path("data/mapping.toml")):
        file = read_mapping(written).tables["events"][0].file
        assert file is not None
        assert len(read(Path(resolve(file, written)))[1]) == 2
    assert resolve(str(folder / "events.csv"), mapping) == str(folder / "events.csv")
    assert resolve("s3://shop/events.csv", mapping) == "s3://shop/events.csv"


def test_a_source_is_identified_by_all_files_that_it_names(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(MAPPING.format(file="2024/*.csv"))
    (tmp_path / "2024").mkdir()
    for name in ("2024/a.csv", "lines.csv"):
        (tmp_path / name).write_text(ORDERS)
    source = SourceSettings(dataset="files", mapping=str(mapping))
    seen = {source_identity(source), source_identity(source)}
    assert len(seen) == 1
    for name in ("2024/b.csv", "lines.csv"):
        (tmp_path / name).write_text(ORDERS.replace("17", "71"))
        seen.add(source_identity(source))
    assert len(seen) == 3
    (tmp_path / "lines.csv").unlink()
    with pytest.raises(SourceError, match=r"lines\.csv"):
        source_identity(source)


def test_a_query_to_a_database_is_never_taken_for_unchanged(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.toml"
    shop = 'database = "postgresql://reader@host/shop"\nquery = "SELECT 1"'
    mapping.write_text(MAPPING.format(file="a.csv").replace('file = "lines.csv"', shop))
    (tmp_path / "a.csv").write_text(ORDERS)
    source = SourceSettings(dataset="files", mapping=str(mapping))
    assert source_identity(source) != source_identity(source)


def test_usual_names_of_a_log_reach_the_reader_as_they_are(tmp_path: Path) -> None:
    raw, _ = read(tmp_path / "events.csv", b"user_id,item_id,event_time\n1,2,2024-03-01\n")
    assert raw.columns == ("user_id", "item_id", "event_time")
    raw, _ = read(tmp_path / "events.csv", "用户,商品,时间\n1,2,2024-03-01\n".encode("gbk"), FileFormat(encoding="gbk"))
    assert raw.columns == ("用户", "商品", "时间")
