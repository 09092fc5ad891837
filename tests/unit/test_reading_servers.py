"""Objects of a real S3 server and queries to a real PostgreSQL, and what is said where they cannot be read."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import psycopg
import pytest
import servers

from recommender.datasets.mapping import FileFormat
from recommender.datasets.reading import content_of, open_file, open_query
from recommender.errors import SourceError

TEXT = "user_id,sku\n17,tin\n18,café\n"

Put = Callable[[str, bytes], str]
Rows = list[tuple[object, ...]]


@pytest.fixture
def put(bucket: str, object_store: servers.ObjectStore) -> Put:
    """Writes an object and returns its address."""

    def put_(key: str, content: bytes) -> str:
        with object_store.files.open_output_stream(f"{bucket}/{key}") as out:
            out.write(content)
        return f"s3://{bucket}/{key}"

    return put_


def read(location: str, scratch: Path) -> Rows:
    with duckdb.connect() as connection:
        open_file(connection, location, FileFormat(), name="orders", scratch=scratch)
        return connection.execute("SELECT * FROM orders ORDER BY _file, _row").fetchall()


def test_an_object_is_read_as_a_file_is(put: Put, tmp_path: Path) -> None:
    import gzip

    address = put("shop/orders.csv.gz", gzip.compress(TEXT.encode("utf-16")))
    assert read(address, tmp_path) == [(address, 2, "17", "tin"), (address, 3, "18", "café")]


def test_a_pattern_or_a_folder_names_several_objects(put: Put, bucket: str, tmp_path: Path) -> None:
    for day in ("01", "02"):
        put(f"orders/2024-03-{day}.csv", f"user_id,sku\n{day},tin\n".encode())
    put("orders/old/2023.csv", b"other\nx\n")
    for pattern in ("orders/*.csv", "orders/", "o*/2024-0?-*.csv"):
        found = read(f"s3://{bucket}/{pattern}", tmp_path)
        assert [row[2] for row in found] == ["01", "02"]
    with pytest.raises(SourceError, match=r"orders/\*\.tsv"):
        read(f"s3://{bucket}/orders/*.tsv", tmp_path)


def test_an_object_identifies_its_content(put: Put, bucket: str, tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(f'[source]\ntime_zone = "UTC"\n[tables.events]\nfile = "s3://{bucket}/orders*.csv"\n')
    address = put("orders.csv", TEXT.encode())
    before = content_of(mapping)
    put("other.csv", b"a\n1\n")
    assert content_of(mapping) == before
    put(address.rsplit("/", 1)[1], TEXT.replace("17", "71").encode())
    assert content_of(mapping) != before


@pytest.mark.parametrize(("location", "fact"), [("orders.csv", "no such object"), ("/orders.csv", "no bucket")])
def test_a_missing_object_or_bucket_is_named(bucket: str, tmp_path: Path, location: str, fact: str) -> None:
    where = f"{bucket}/{location}" if fact == "no such object" else f"{bucket}-gone{location}"
    with pytest.raises(SourceError, match=f"s3://{where}.*{fact}"):
        read(f"s3://{where}", tmp_path)


def test_a_wrong_key_is_refused_without_showing_it(put: Put, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    address = put("orders.csv", TEXT.encode())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-words")
    for location in (address, address.replace("orders.csv", "*.csv")):
        with pytest.raises(SourceError, match=r"refuses the key.*AWS_SECRET_ACCESS_KEY") as caught:
            read(location, tmp_path)
        assert "very-secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_store_that_is_away_is_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (port,) = servers.free_ports(1)
    for name, value in servers.ObjectStore(f"http://127.0.0.1:{port}", "a", "b").environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SourceError, match=r"s3://shop/orders\.csv: the store cannot be reached"):
        read("s3://shop/orders.csv", tmp_path)


@pytest.mark.parametrize(
    ("location", "hidden"),
    [
        ("s3://me:word@shop/orders.csv", "word"),
        ("https://shop.example/orders.csv", "\n"),
        ("ftp://me:word@host/a.csv", "word"),
        ("s3://shop", "\n"),
    ],
)
def test_other_addresses_are_refused(location: str, hidden: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"shop|host") as caught:
        read(location, tmp_path)
    assert hidden not in str(caught.value)


@pytest.fixture
def shop(database_url: str) -> str:
    """The address of a database with a table of orders."""
    address = database_url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(address) as connection:
        connection.execute(
            "CREATE TABLE orders (user_id BIGINT, at TIMESTAMPTZ, day DATE, sku TEXT, paid NUMERIC(10, 2), more JSONB)"
        )
        connection.execute(
            "INSERT INTO orders VALUES (17, '2024-03-01 10:00+02', '2024-03-01', 'café', 9.50, '{\"a\": 1}'), "
            "(18, NULL, NULL, NULL, NULL, NULL)"
        )
    return address


def query(database: str, sql: str, scratch: Path) -> tuple[dict[str, str], Rows]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        raw = open_query(connection, database, sql, name="orders", scratch=scratch)
        return raw.types, connection.execute("SELECT * FROM orders ORDER BY _row").fetchall()


def test_the_result_of_a_query_keeps_its_types(shop: str, tmp_path: Path) -> None:
    types, rows = query(shop, "SELECT * FROM orders ORDER BY user_id", tmp_path)
    assert types["user_id"] == "BIGINT"
    assert types["at"] == "TIMESTAMP WITH TIME ZONE"
    assert types["day"] == "DATE"
    assert types["sku"] == "VARCHAR"
    first = rows[0]
    assert first[1:3] == (1, 17)
    assert first[3].astimezone(UTC) == datetime(2024, 3, 1, 8, tzinfo=UTC)  # type: ignore[attr-defined]
    assert first[5] == "café"
    assert float(first[6]) == 9.5  # type: ignore[arg-type]
    assert rows[1][1:] == (2, 18, None, None, None, None, None)


@pytest.mark.parametrize(
    "sql", ["SELECT 1 AS a;", "SELECT 1 AS a -- one", "WITH x AS (SELECT 1 AS a) TABLE x", "VALUES (1)"]
)
def test_a_query_may_end_as_people_end_it(shop: str, sql: str, tmp_path: Path) -> None:
    assert query(shop, sql, tmp_path)[1][0][1:] == (1, 1)


def test_an_empty_result_has_its_columns(shop: str, tmp_path: Path) -> None:
    types, rows = query(shop, "SELECT user_id, sku FROM orders WHERE false", tmp_path)
    assert types == {"user_id": "BIGINT", "sku": "VARCHAR"}
    assert rows == []


def test_many_rows_stream(shop: str, tmp_path: Path) -> None:
    sql = "SELECT n, 'tin' || n AS sku FROM generate_series(1, 300000) n ORDER BY n"
    _, rows = query(shop, sql, tmp_path)
    assert len(rows) == 300_000
    assert rows[-1][1:] == (300_000, 300_000, "tin300000")


@pytest.mark.parametrize(
    ("sql", "fact"),
    [
        ("SELECT * FROM gone", "gone"),
        ("SELEC 1", "SELEC"),
        ("SELECT 1 AS a, 2 AS A", "'a'"),
        ('SELECT 1 AS a, 2 AS "A"', "'A'"),
        ("SELECT 1 AS _row", "'_row'"),
        ("SELECT 9.99::money AS paid", "paid::numeric"),
        ("SELECT '10.0.0.1'::inet AS host", "host::text"),
        ("CREATE TABLE theirs (a INT)", "read-only"),
        ("DELETE FROM orders", "read-only"),
    ],
)
def test_a_wrong_query_is_refused_in_the_servers_words(shop: str, sql: str, fact: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="test_") as caught:
        query(shop, sql, tmp_path)
    assert fact in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_password_comes_from_the_secret_and_a_wrong_one_is_not_shown(
    shared_postgres: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The shared server trusts everybody, so this test runs one that asks for passwords."""
    with servers.postgres() as folder:
        with psycopg.connect(host=str(folder), user="postgres", autocommit=True) as connection:
            connection.execute("CREATE ROLE reader LOGIN PASSWORD 'a b@c/d'")
        rules = folder / "data" / "pg_hba.conf"
        rules.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
        with psycopg.connect(host=str(folder), user="postgres", autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")
        address = f"postgresql://reader@/postgres?host={folder}"
        for variable in ("PGPASSWORD", "RECOMMENDER_SOURCE_PASSWORD", "RECOMMENDER_SECRETS"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
        with pytest.raises(SourceError, match=r"source_password"):
            query(address, "SELECT 1 AS a", tmp_path)
        monkeypatch.setenv("RECOMMENDER_SOURCE_PASSWORD", "wrong-words")
        with pytest.raises(SourceError, match=r"refuses the password.*source_password") as caught:
            query(address, "SELECT 1 AS a", tmp_path)
        assert "wrong-words" not in str(caught.value)
        monkeypatch.setenv("RECOMMENDER_SOURCE_PASSWORD", "a b@c/d")
        assert query(address, "SELECT 1 AS a", tmp_path)[1][0][1:] == (1, 1)
        monkeypatch.delenv("RECOMMENDER_SOURCE_PASSWORD")
        monkeypatch.setenv("PGPASSWORD", "a b@c/d")
        assert query(address, "SELECT 1 AS a", tmp_path)[1][0][1:] == (1, 1)
    assert "PGPASSWORD" in os.environ


def test_a_database_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    (port,) = servers.free_ports(1)
    with pytest.raises(SourceError, match=rf"postgresql://me@127\.0\.0\.1:{port}/shop: the database cannot be reached"):
        query(f"postgresql://me@127.0.0.1:{port}/shop", "SELECT 1", tmp_path)


@pytest.mark.parametrize(
    "address",
    ["postgresql://me:word@host/shop", "postgresql://host/shop?user=me&password=word", "mysql://me:word@host/shop"],
)
def test_a_password_in_the_mapping_is_refused_without_repeating_it(address: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        query(address, "SELECT 1", tmp_path)
    assert "word" not in str(caught.value).replace("password", "")
