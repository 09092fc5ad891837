"""Files of every kind, compression and encoding give the same rows, and a file that cannot be read says why."""

import gzip
import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recommender.datasets.mapping import FileFormat
from recommender.datasets.reading import RawTable, open_file
from recommender.errors import SourceError

TEXT = "user_id,sku\n17,tin\n18,café\n"
ROWS = [("17", "tin"), ("18", "café")]


@dataclass(frozen=True)
class Opened:
    """An opened file and its rows, without `_file` and `_row` and with them."""

    raw: RawTable
    rows: list[tuple[Any, ...]]
    places: list[tuple[str, int]]


Open = Callable[..., Opened]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Write `content` to the file `name` and open it, or open what `location` names."""
    with TemporaryDirectory() as scratch, duckdb.connect() as connection:

        def open_(
            content: str | bytes | None = None, name: str = "orders.csv", *, location: str = "", **form: Any
        ) -> Opened:
            if content is not None:
                path = tmp_path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            connection.execute("DROP VIEW IF EXISTS orders")
            where = tmp_path / (location or name)
            raw = open_file(connection, where, FileFormat(**form), name="orders", scratch=Path(scratch))
            rows = connection.execute("SELECT * FROM orders ORDER BY _file, _row").fetchall()
            return Opened(raw, [row[2:] for row in rows], [row[:2] for row in rows])

        yield open_


def refused(opened: Open, *arguments: Any, **form: Any) -> str:
    with pytest.raises(SourceError) as caught:
        opened(*arguments, **form)
    return str(caught.value)


def zipped(**files: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "."), text)
    return target.getvalue()


def zstd(text: str) -> bytes:
    target = pa.BufferOutputStream()
    with pa.CompressedOutputStream(target, "zstd") as out:
        out.write(text.encode())
    return bytes(target.getvalue())


def parquet(table: pa.Table) -> bytes:
    target = pa.BufferOutputStream()
    pq.write_table(table, target)
    return bytes(target.getvalue())


PARQUET = parquet(pa.table({"user_id": ["17", "18"], "sku": ["tin", "café"]}))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("orders.csv", TEXT.encode()),
        ("ORDERS.CSV", TEXT.encode()),
        ("orders", TEXT.encode()),
        ("orders.txt", TEXT.replace(",", "\t").encode()),
        ("orders.csv", TEXT.replace(",", ";").encode()),
        ("orders.dat", TEXT.replace(",", "|").encode()),
        ("orders.csv", TEXT.replace("\n", "\r\n").encode()),
        ("orders.csv", TEXT.replace("\n", "\r").encode()),
        ("orders.csv", TEXT.replace("17,tin\n", "17,tin\r\n").encode()),
        ("orders.csv", ("sep=;\n" + TEXT.replace(",", ";")).encode()),
        ("orders.csv", ("\n \n" + TEXT + "\n\n").encode()),
        ("orders.csv", (TEXT + "\x1a").encode()),
        ("orders.csv", TEXT.rstrip("\n").encode()),
        ("orders.csv", b"\xef\xbb\xbf" + TEXT.encode()),
        ("orders.csv", TEXT.encode("utf-16")),
        ("orders.csv", b"\xfe\xff" + TEXT.encode("utf-16-be")),
        ("orders.csv", TEXT.encode("utf-16-le")),
        ("orders.csv", TEXT.encode("utf-16-be")),
        ("orders.csv", TEXT.encode("utf-32")),
        ("orders.csv.gz", gzip.compress(TEXT.encode(), mtime=0)),
        ("orders.GZ", gzip.compress(TEXT.encode(), mtime=0)),
        ("orders.csv", gzip.compress(TEXT.encode(), mtime=0)),
        ("orders.csv.gz", gzip.compress(TEXT.encode("utf-16"), mtime=0)),
        ("orders.csv.zst", zstd(TEXT)),
        ("orders.zip", zipped(orders__csv=TEXT)),
        ("orders.zip", zipped(a__csv="user_id,sku\n17,tin\n", b__csv="sku,user_id\ncafé,18\n")),
        ("orders.parquet", PARQUET),
        ("ORDERS.PQ", PARQUET),
        ("orders", PARQUET),
        ("orders.parquet.gz", gzip.compress(PARQUET, mtime=0)),
        ("orders.jsonl", b'{"user_id":"17","sku":"tin"}\n{"user_id":"18","sku":"caf\xc3\xa9"}\n'),
        ("orders.csv", b'{"user_id":"17","sku":"tin"}\n{"sku":"caf\xc3\xa9","user_id":"18"}'),
        ("orders.txt", b'[{"user_id":"17","sku":"tin"},\n {"user_id":"18","sku":"caf\xc3\xa9"}]'),
        ("orders.jsonl", b'\xef\xbb\xbf{"user_id":"17","sku":"tin"}\n{"user_id":"18","sku":"caf\xc3\xa9"}\n'),
        ("orders", b'[\n  {\n    "user_id": "17",\n    "sku": "tin"\n  },\n{"user_id":"18","sku":"caf\xc3\xa9"}\n]\n'),
        ("orders.csv", '"user_id";"sku"\r\n"17";"tin"\r\n"18";"café"\r\n'.encode("utf-16")),
        (
            "orders.json.gz",
            gzip.compress('{"user_id":"17","sku":"tin"}\n{"user_id":"18","sku":"café"}\n'.encode(), mtime=0),
        ),
    ],
)  # fmt: skip
def test_the_same_rows_in_any_kind_of_file(opened: Open, name: str, content: bytes) -> None:
    found = opened(content, name)
    assert found.raw.columns == ("user_id", "sku")
    assert found.rows == ROWS
    assert found.raw.types == {"user_id": "VARCHAR", "sku": "VARCHAR"}


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "gbk", "big5", "cp1251", "shift_jis", "utf-16-le"])
def test_a_named_encoding_is_read(opened: Open, encoding: str) -> None:
    word = {"gbk": "茶叶", "big5": "茶葉", "cp1251": "чай", "shift_jis": "お茶"}.get(encoding, "café")
    found = opened(f"user_id,sku\n17,{word}\n".encode(encoding), encoding=encoding)
    assert found.rows == [("17", word)]


def test_gbk_means_also_the_characters_that_only_gb18030_has(opened: Open) -> None:
    assert opened("user_id,sku\n17,㐀€\n".encode("gb18030"), encoding="gbk").rows == [("17", "㐀€")]


@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("cp1252", "17,café au lait,naïve"),
        ("gbk", "17,绿茶叶,上海市浦东新区"),
        ("big5", "17,綠茶葉,台北市大安區"),
        ("cp1251", "17,чёрный чай,Москва"),
    ],
)
def test_an_unknown_encoding_is_refused_with_line_byte_and_the_probable_one(
    opened: Open, encoding: str, line: str
) -> None:
    message = refused(opened, f"user_id,sku,city\n{line}\n".encode(encoding))
    for fact in ("orders.csv", "line 2", f'encoding = "{encoding}"', line.split(",")[1]):
        assert fact in message


def test_the_first_odd_byte_may_stand_on_line_one_million(opened: Open) -> None:
    message = refused(opened, b"user_id,sku\n" + b"17,tin\n" * 999_998 + b"17,caf\xe9\n")
    for fact in ("line 1,000,000", "0xe9", "cp1252", f"byte {12 + 7 * 999_998 + 7:,}"):
        assert fact in message


def test_a_wrong_encoding_in_the_mapping_names_line_and_byte(opened: Open) -> None:
    message = refused(opened, b"user_id,sku\n17,tin\n18,\x81\n", encoding="cp1252")
    assert "line 3" in message
    assert "0x81" in message
    assert "`encoding`" in message


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (b"", ("empty",)),
        (b"\n\n \n", ("empty",)),
        (b"\xef\xbb\xbf", ("empty",)),
        (b"<!DOCTYPE html>\n<html><body>Sign in, please</body></html>", ("HTML",)),
        (b"\n <HTML lang=en>", ("HTML",)),
        (b"<html><body><table><tr><td>user_id</td></tr></table>", ("HTML", "spreadsheet")),
        (b"%PDF-1.7\n%\xe2\xe3", ("PDF", "CSV")),
        (b'<?xml version="1.0"?><orders/>', ("XML",)),
        (b"SQLite format 3\x00" + bytes(100), ("SQLite",)),
        (b"BZh91AY&SY\x00\x00", ("bzip2", "gzip")),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", ("git lfs pull",)),
        (gzip.compress(TEXT.encode(), mtime=0)[:-12], ("damaged",)),
        (zipped(), ("empty",)),
        (zipped(orders__csv=TEXT, README__txt="name,of\n1,2\n"), ("README.txt", "orders.csv", "'sku'")),
        (PARQUET[:-20], ("Parquet",)),
        (b'{"user_id":"17"}\n{"user_id":"1', ("line 2", "cut off")),
        (b'{"user_id":"17"}\n\n{"user_id":17\n{"user_id":"1"}\n', ("line 3",)),
        (b'{"user_id":"17"}\n[1,2]\n', ("line 2", "[1,2]")),
        (b"[1, 2]\n", ("record",)),
        (b'{\n "orders": [\n  {"user_id": 1}\n ]\n}\n', ("'orders'",)),
        (b'{"id":1,"ID":2}\n', ("'ID'",)),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_by_its_kind(opened: Open, content: bytes, facts: tuple[str, ...]) -> None:
    name = "orders.jsonl" if content.startswith((b"[", b"{")) else "orders.csv"
    message = refused(opened, content, name)
    for fact in (name, *facts):
        assert fact in message


def test_values_of_json_lines_keep_their_types_and_times_stay_texts(opened: Open) -> None:
    found = opened(
        '{"id":17,"at":"2024-03-01T10:00:00+02:00","day":"2024-03-01","value":{"offer id":"x"},"lines":[{"sku":"a"}]}\n'
        '{"id":18,"paid":9.5,"value":{"amount":2}}\n',
        "orders.jsonl",
    )
    assert found.raw.types == {
        "id": "BIGINT",
        "at": "VARCHAR",
        "day": "VARCHAR",
        "value": 'STRUCT("offer id" VARCHAR, amount BIGINT)',
        "lines": "STRUCT(sku VARCHAR)[]",
        "paid": "DOUBLE",
    }
    assert found.rows[0][1] == "2024-03-01T10:00:00+02:00"


def test_one_long_record_is_a_table_of_one_row(opened: Open) -> None:
    assert opened('{"id":1,"text":"' + "x" * 100_000 + '"}', "orders.jsonl").rows == [(1, "x" * 100_000)]


def test_a_late_change_of_type_in_json_lines_is_seen(opened: Open) -> None:
    found = opened('{"id":1}\n' * 30_000 + '{"id":"a1"}\n', "orders.jsonl")
    assert found.rows[-1] == ("a1",)
    assert found.places[-1] == ("orders.jsonl", 30_001)


def test_parquet_keeps_its_types_and_counts_its_rows(opened: Open) -> None:
    table = pa.table({"user_id": [17.0, None], "at": pa.array([0, 1], pa.timestamp("us", "UTC"))})
    found = opened(parquet(table), "orders.parquet")
    assert found.raw.types == {"user_id": "DOUBLE", "at": "TIMESTAMP WITH TIME ZONE"}
    assert found.places == [("orders.parquet", 1), ("orders.parquet", 2)]


def test_a_parquet_column_named_twice_is_named(opened: Open) -> None:
    assert "'ID'" in refused(opened, parquet(pa.table({"id": [1], "ID": [2]})), "orders.parquet")


def test_texts_that_a_parquet_writer_did_not_mark_are_texts(opened: Open) -> None:
    assert opened(parquet(pa.table({"sku": [b"tin"]})), "orders.parquet").rows == [("tin",)]


def test_several_files_of_one_shape_are_one(opened: Open) -> None:
    opened("user_id,sku\n17,tin\n", "2024/a.csv")
    opened("sku,user_id\ncafé,18\n", "2024/b.csv")
    for location in ("2024/*.csv", "2024", "2*/?.csv", "**/*.csv"):
        found = opened(location=location)
        assert found.rows == ROWS
        assert found.places == [("a.csv", 2), ("b.csv", 2)]


def test_files_of_one_pattern_with_other_columns_are_refused_by_name(opened: Open) -> None:
    opened("user_id,sku\n17,tin\n", "a.csv")
    opened("user_id,item\n18,tin\n", "b.csv")
    message = refused(opened, location="*.csv")
    for fact in ("b.csv", "'sku'", "'item'", "a.csv"):
        assert fact in message


def test_times_with_and_without_a_zone_are_not_mixed(opened: Open) -> None:
    opened(parquet(pa.table({"at": pa.array([0], pa.timestamp("us", "UTC"))})), "a.parquet")
    opened(parquet(pa.table({"at": pa.array([0], pa.timestamp("us"))})), "b.parquet")
    message = refused(opened, location="*.parquet")
    assert "b.parquet" in message
    assert "'at'" in message


def test_one_member_of_an_archive_can_be_named(opened: Open) -> None:
    archive = zipped(orders__csv=TEXT, README__md="notes")
    opened(zipped(orders__csv=TEXT), "all.zip")
    assert opened(archive, "all.zip", location="all.zip/orders.csv").rows == ROWS
    assert "README.md" in refused(opened, location="all.zip/sales.csv")


def test_a_folder_of_spark_is_read_without_its_marks(opened: Open) -> None:
    opened(PARQUET, "orders.parquet/part-0.parquet")
    for hidden in ("_SUCCESS", ".part-0.parquet.crc"):
        with pytest.raises(SourceError):
            opened(b"", f"orders.parquet/{hidden}")
    assert opened(location="orders.parquet").rows == ROWS


@pytest.mark.parametrize("name", ["orders [1].csv", "o'brien*.csv", "订单.csv", "orders?.parquet"])
def test_any_file_name_is_read(opened: Open, name: str) -> None:
    assert opened(PARQUET if name.endswith("parquet") else TEXT, name).rows == ROWS


def test_a_missing_file_is_named_with_its_neighbour(opened: Open) -> None:
    opened(TEXT, "orders.csv")
    message = refused(opened, location="order.csv")
    assert "order.csv" in message
    assert "'orders.csv'" in message
    assert "o*.tsv" in refused(opened, location="o*.tsv")


@pytest.mark.parametrize("name", ["_row", "_FILE"])
def test_a_column_may_not_have_the_name_of_a_rows_origin(opened: Open, name: str) -> None:
    assert repr(name) in refused(opened, f"user_id,{name}\n17,1\n")
    assert repr(name) in refused(opened, f'{{"{name}":1}}\n', "orders.jsonl")
    assert repr(name) in refused(opened, parquet(pa.table({name: [1]})), "orders.parquet")


def test_gbk_is_named_where_its_characters_stand_between_digits(tmp_path: Path) -> None:
    text = "user,time\n" + "".join(f"u{n},2024年01月{n:02d}日 10:00\n" for n in range(10, 28))
    (tmp_path / "log.csv").write_bytes(text.encode("gbk"))
    with duckdb.connect() as connection, pytest.raises(SourceError, match=r'encoding = "gbk"'):
        open_file(connection, tmp_path / "log.csv", FileFormat(), name="log", scratch=tmp_path)
