"""The scanner finds an id in every format, and stops finding it once it is gone."""

import gzip
import io
import json
import sqlite3
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from recommender.privacy.scanner import LEAST_CHARACTERS, LEAST_DIGITS, Scanner

USER = "QWERTZUIOPASDFGHJKLY"


def parquet(path: Path, **columns: object) -> None:
    pq.write_table(pa.table(columns), path, compression="zstd", write_statistics=False)


def packed(content: bytes, kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "gzip":
        return gzip.compress(content)
    if kind == "zstd":
        return _zstd(content)
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inner", content)
    else:
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            entry = tarfile.TarInfo("inner")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def write(kind: str, path: Path) -> None:
    """A file of this kind that holds the id, where it can hardly be seen."""
    others = [f"{letter}-other-user" for letter in "abcdef"] * 50
    if kind == "parquet":
        parquet(path, user_id=[*others, USER])
    elif kind == "dictionary":
        parquet(path, user_id=pa.array([*others, USER]).dictionary_encode())
    elif kind == "statistics":
        pq.write_table(pa.table({"user_id": ["a", USER]}), path, compression="zstd")
    elif kind == "nested":
        parquet(path, seen=[[{"who": other, "text": "x"}] for other in others] + [[{"who": USER, "text": "x"}]])
    elif kind == "binary":
        parquet(path, packed=[b"\0\1" + USER.encode() * 3 + b"\xff"] * 9)
    elif kind == "json":
        path.write_text(json.dumps({"deep": {USER: 1}}))
    elif kind == "safetensors":
        save_file({"ids": np.frombuffer(USER.encode(), np.uint8)}, path)
    elif kind == "numpy":
        np.save(path.with_suffix(".npy"), np.array([USER, "b"]))
    elif kind == "sqlite":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE t (who TEXT)")
            connection.executemany("INSERT INTO t VALUES (?)", [(other,) for other in [*others, USER]])
            connection.commit()
    else:
        path.write_bytes(packed(b"x" * 100 + USER.encode() + b"y" * 100, kind))


@pytest.mark.parametrize(
    "kind",
    [
        *("parquet", "dictionary", "statistics", "nested", "binary", "json"),
        *("safetensors", "numpy", "sqlite", "gzip", "zstd", "zip", "tar"),
    ],
)
def test_an_id_is_found_in(kind: str, tmp_path: Path) -> None:
    write(kind, tmp_path / "file")
    (seen,) = Scanner([USER, "another user of none"]).scan(tmp_path)
    assert seen.ids == {USER}
    assert list(Scanner(["another user of none"]).scan(tmp_path)) == []


def test_an_id_that_json_escapes_is_found(tmp_path: Path) -> None:
    user = "用户的很长的名字在这里"
    (tmp_path / "escaped.json").write_text(json.dumps({"user_id": user}))
    (seen,) = Scanner([user]).scan(tmp_path)
    assert seen.ids == {user}


def test_a_deleted_row_is_found_in_the_free_pages_until_the_file_is_vacuumed(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    write("sqlite", path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("DELETE FROM t")
        assert [seen.path for seen in Scanner([USER]).scan(tmp_path)] == [path]
        connection.execute("VACUUM")
    assert list(Scanner([USER]).scan(tmp_path)) == []


def test_an_id_across_two_blocks_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recommender.privacy.scanner.BLOCK", 64)
    for before in range(40, 90, 7):
        (tmp_path / "file").write_bytes(b"x" * before + USER.encode() + b"x" * 50)
        assert Scanner([USER]).in_file(tmp_path / "file") == {USER}


def test_what_the_id_of_another_user_holds_is_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recommender.privacy.scanner.BLOCK", 64)
    file, scanner = tmp_path / "file", Scanner(["customer-1"], ["customer-1", "customer-10", "old-customer-1"])
    for before in range(80):
        file.write_bytes(b" " * before + b"customer-10 old-customer-1" + json.dumps("customer-10").encode("utf-16-le"))
        assert scanner.in_file(file) == set()
        file.write_bytes(b" " * before + b"customer-10 customer-1\0serving" + b" " * 70)
        assert scanner.in_file(file) == {"customer-1"}
    parquet(file, user_id=["customer-10", "old-customer-1"])
    assert scanner.in_file(file) == set()
    parquet(file, user_id=["customer-10", "customer-1"])
    assert scanner.in_file(file) == {"customer-1"}


def test_of_two_ids_that_begin_alike_each_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("customer-10")
    assert Scanner(["customer-1", "customer-10"]).in_file(tmp_path / "file") == {"customer-10"}


def test_a_parquet_file_that_a_kill_cut_off_is_looked_at_as_bytes(tmp_path: Path) -> None:
    path = tmp_path / ".users.parquet.00000000"
    pq.write_table(pa.table({"user_id": [USER]}), path, compression="none")
    path.write_bytes(path.read_bytes()[:-20])
    assert Scanner([USER]).in_file(path) == {USER}
    assert Scanner(["another user of none"]).in_file(path) == set()


def test_short_ids_are_not_looked_for_and_other_folders_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "file").write_text(USER)
    (tmp_path / "file").write_text("17 " * 9)
    assert len("17") < LEAST_CHARACTERS
    assert Scanner(["17", "1" * (LEAST_DIGITS - 1)]).ids == ()
    assert Scanner(["1" * LEAST_DIGITS]).ids == ("1" * LEAST_DIGITS,)
    assert list(Scanner(["17", USER]).scan(tmp_path, leave_out=[tmp_path / "own"])) == []
