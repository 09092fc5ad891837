"""A whole shop read by its mapping from a real PostgreSQL and a real S3 server, by the verbs of a user."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import servers
from small_shop import EVENTS, SmallShop, ask

from recommender.datasets import preview_mapping
from recommender.datasets.reading import content_of
from recommender.errors import SourceError

RECOMMENDER = Path(sys.executable).parent / "recommender"
TABLES = """
CREATE TABLE orders (order_id BIGINT, customer BIGINT, placed_at TIMESTAMPTZ, state TEXT);
CREATE TABLE lines (order_id BIGINT, sku TEXT, qty INT, paid NUMERIC(18, 2));
CREATE TABLE promotions (code TEXT, first_day DATE, last_day DATE);
CREATE TABLE mailings (code TEXT, customer BIGINT, sent_at TIMESTAMP);
INSERT INTO orders VALUES
    (1, 17, '2024-03-02 10:00+01', 'paid'), (2, 18, '2024-03-03 11:00+01', 'paid'),
    (3, 17, '2024-03-12 12:00+01', 'paid'), (4, NULL, '2024-03-12 12:00+01', 'paid'),
    (5, 18, '2024-03-13 12:00+01', 'cancelled');
INSERT INTO lines VALUES (1, 'café', 1, 9.50), (2, 'tin', 1, 9.50), (3, 'tin', 2, 25000000.05), (4, 'tin', 1, 9.50),
    (5, 'tin', 1, 9.50);
INSERT INTO promotions VALUES ('spring', '2024-03-10', '2024-03-20');
INSERT INTO mailings VALUES ('spring', 17, '2024-03-10 08:00'), ('spring', 18, '2024-03-10 08:00');
"""
ORDERS = "SELECT order_id, customer, placed_at FROM orders WHERE state = 'paid'"
QUERIES = {"orders": ORDERS, "lines": "SELECT * FROM lines", "promotions": "SELECT * FROM promotions"}
EVENTS_QUERY = (
    "SELECT order_id || '-' || sku AS event_id, customer AS user_id, placed_at AS event_time, order_id AS basket_id, "
    "sku AS item_id, qty AS quantity, paid AS amount FROM orders JOIN lines USING (order_id)"
)
PARTS = {
    "events": f"query = \"{EVENTS_QUERY}\"\nwhere = 'user_id IS NOT NULL'\nconstants = {{ kind = 'purchase' }}\n",
    "campaigns": 'query = "SELECT code AS campaign_id, first_day AS starts_at, last_day AS ends_at FROM promotions"\n'
    "constants = { kind = 'promotion' }\n",
    "targets": 'query = "SELECT code AS campaign_id, customer AS user_id, sent_at AS targeted_at FROM mailings"\n',
}


def recommender(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([RECOMMENDER, *words], cwd=folder, capture_output=True, text=True, timeout=120)


def inputs(address: str, **other: str) -> str:
    queries = {**QUERIES, "mailings": "SELECT * FROM mailings", **other}
    return "\n".join(f'[inputs.{name}]\ndatabase = "{address}"\nquery = "{sql}"' for name, sql in queries.items())


@pytest.fixture
def address(database_url: str) -> str:
    address = database_url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(address) as connection:
        connection.execute(TABLES)
    return address


@pytest.fixture
def shop(address: str, tmp_path: Path) -> SmallShop:
    """A mapping whose tables are all queries over a database."""
    return SmallShop(tmp_path, parts=dict(PARTS), head=inputs(address))


def test_a_shop_in_a_database_is_previewed_and_ingested(shop: SmallShop) -> None:
    shop.mapping()
    seen = recommender(shop.folder, "ingest", "--data", "mapping.toml", "--preview")
    assert seen.returncode == 0, seen.stderr
    for fact in ("café", "purchase 3", "left out: 1 rows (25.0%)", "2024-03-02 09:00:00+00:00"):
        assert fact in seen.stdout
    written = recommender(shop.folder, "ingest", "--data", "mapping.toml", "--output", "tables")
    assert written.returncode == 0, written.stderr


def test_the_rows_of_a_database_are_those_of_the_same_shop_in_files(shop: SmallShop) -> None:
    tables = shop.read()
    events = ask(
        tables, "SELECT event_id, user_id, item_id, epoch(event_time), quantity, amount FROM events ORDER BY 1"
    )
    assert events == [
        ("1-café", "17", "café", 1709370000.0, 1.0, 9.5),
        ("2-tin", "18", "tin", 1709460000.0, 1.0, 9.5),
        ("3-tin", "17", "tin", 1710241200.0, 2.0, 25_000_000.05),
    ]
    # A date and a time without a zone are local to the shop's zone; the last day of a window is part of it.
    window = ask(tables, "SELECT starts_at::VARCHAR, ends_at::VARCHAR FROM campaigns")
    assert window == [("2024-03-09 23:00:00+00", "2024-03-20 23:00:00+00")]
    assert ask(tables, "SELECT DISTINCT targeted_at::VARCHAR FROM targets") == [("2024-03-10 07:00:00+00",)]
    assert ask(tables, "SELECT user_id FROM participations") == [("17",)]


def test_files_and_a_database_make_one_table(shop: SmallShop) -> None:
    shop.write("mailings.csv", "code,customer,sent_at\nspring,17,2024-03-10 08:00\nspring,18,2024-03-10 08:00\n")
    shop.head = shop.head.split("[inputs.mailings]")[0] + '[inputs.mailings]\nfile = "mailings.csv"\n'
    assert ask(shop.read(), "SELECT count(*) FROM targets") == [(2,)]


def test_a_query_is_asked_again_so_no_step_reuses_old_rows(shop: SmallShop) -> None:
    mapping = shop.mapping()
    assert content_of(mapping) != content_of(mapping)


@pytest.mark.parametrize(
    ("sql", "fact"),
    [
        ("SELECT * FROM order_lines", "order_lines"),
        ("SELECT order_id, article AS sku, qty, paid FROM lines", "article"),
        ("SELECT order_id, sku, qty, paid::money AS paid FROM lines", "paid::numeric"),
    ],
)
def test_a_wrong_query_stops_preview_and_ingestion_in_the_servers_words(
    address: str, tmp_path: Path, sql: str, fact: str
) -> None:
    shop = SmallShop(tmp_path, parts=dict(PARTS), head=inputs(address, lines=sql))
    shop.mapping()
    for words in (("--preview",), ("--output", "tables")):
        stopped = recommender(shop.folder, "ingest", "--data", "mapping.toml", *words)
        assert stopped.returncode == 1
        assert stopped.stderr.startswith("SourceError: postgresql://")
        assert fact in stopped.stderr
        assert "Traceback" not in stopped.stderr
    assert not (tmp_path / "tables").exists()


def test_an_input_that_no_query_names_is_not_asked(shop: SmallShop) -> None:
    shop.head += '\n[inputs.away]\ndatabase = "postgresql://me@127.0.0.1:9/shop"\nquery = "SELECT 1 AS a"\n'
    assert not preview_mapping(shop.mapping()).stops


def test_a_column_that_the_query_of_a_table_lacks_is_named(shop: SmallShop) -> None:
    shop.parts["events"] = shop.parts["events"].replace("customer AS user_id", "client AS user_id")
    with pytest.raises(SourceError, match=r"tables\.events\.query.*client"):
        preview_mapping(shop.mapping())


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The address of a PostgreSQL that asks for a password. The shared one trusts everybody."""
    with servers.postgres() as folder:
        with psycopg.connect(host=str(folder), user="postgres", autocommit=True) as connection:
            connection.execute(TABLES)
            connection.execute("CREATE ROLE reader LOGIN PASSWORD 'right-words'")
            connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
            (folder / "data" / "pg_hba.conf").write_text("local all postgres trust\nlocal all all scram-sha-256\n")
            connection.execute("SELECT pg_reload_conf()")
        for variable in ("PGPASSWORD", "RECOMMENDER_SOURCE_PASSWORD", "RECOMMENDER_SECRETS"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
        yield f"postgresql://reader@/postgres?host={folder}"


def test_the_password_of_a_mappings_database_is_a_secret(
    guarded: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shop = SmallShop(tmp_path, parts=dict(PARTS), head=inputs(guarded))
    shop.mapping()
    for password in (None, "wrong-words"):
        if password is not None:
            monkeypatch.setenv("RECOMMENDER_SOURCE_PASSWORD", password)
        stopped = recommender(shop.folder, "ingest", "--data", "mapping.toml", "--preview")
        assert stopped.returncode == 1
        assert "SourceError" in stopped.stderr
        assert "source_password" in stopped.stderr
        assert "wrong-words" not in stopped.stdout + stopped.stderr
    monkeypatch.setenv("RECOMMENDER_SOURCE_PASSWORD", "right-words")
    written = recommender(shop.folder, "ingest", "--data", "mapping.toml", "--output", "tables")
    assert written.returncode == 0, written.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"right-words" in path.read_bytes()]


def test_a_table_that_the_reader_may_not_see_is_named(guarded: str, tmp_path: Path) -> None:
    folder = guarded.partition("host=")[2]
    with psycopg.connect(host=folder, user="postgres", autocommit=True) as connection:
        connection.execute("REVOKE SELECT ON promotions FROM reader")
    shop = SmallShop(tmp_path, parts=dict(PARTS), head=inputs(guarded))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RECOMMENDER_SOURCE_PASSWORD", "right-words")
        with pytest.raises(SourceError, match="permission denied for table promotions"):
            preview_mapping(shop.mapping())


def test_a_server_that_is_down_is_said_to_be(tmp_path: Path) -> None:
    (port,) = servers.free_ports(1)
    shop = SmallShop(tmp_path, parts=dict(PARTS), head=inputs(f"postgresql://me@127.0.0.1:{port}/shop"))
    shop.mapping()
    stopped = recommender(shop.folder, "ingest", "--data", "mapping.toml", "--preview")
    assert stopped.returncode == 1
    assert f"127.0.0.1:{port}/shop: the database cannot be reached" in stopped.stderr


def test_an_unknown_database_is_named(address: str, tmp_path: Path) -> None:
    gone = address.replace("/test_", "/gone_")
    shop = SmallShop(tmp_path, parts=dict(PARTS), head=inputs(gone))
    with pytest.raises(SourceError, match=r"gone_.*does not exist"):
        preview_mapping(shop.mapping())


def test_a_shop_in_an_object_store_is_previewed_and_ingested(
    bucket: str, object_store: servers.ObjectStore, tmp_path: Path
) -> None:
    shop = SmallShop(tmp_path)
    head, *lines = EVENTS.splitlines(keepends=True)
    files = {f"orders/{number}.csv": head + line for number, line in enumerate(lines)}
    files |= {name: (tmp_path / name).read_text() for name in ("campaigns.csv", "campaign_items.csv", "targets.csv")}
    for key, text in files.items():
        with object_store.files.open_output_stream(f"{bucket}/{key}") as out:
            out.write(text.encode())
    for name, part in shop.parts.items():
        shop.parts[name] = part.replace('file = "', f'file = "s3://{bucket}/')
        (tmp_path / f"{name}.csv").unlink()
    shop.parts["events"] = shop.parts["events"].replace("events.csv", "orders/*.csv")
    shop.mapping()
    seen = recommender(shop.folder, "ingest", "--data", "mapping.toml", "--preview")
    assert seen.returncode == 0, seen.stderr
    assert "purchase 3" in seen.stdout
    tables = shop.read()
    assert ask(tables, "SELECT event_id, user_id FROM events ORDER BY 1") == [
        ("0-0-2", "17"),
        ("0-1-2", "18"),
        ("0-2-2", "17"),
    ]
    shop.parts["targets"] = shop.parts["targets"].replace("targets.csv", "gone.csv")
    shop.mapping()
    stopped = recommender(shop.folder, "ingest", "--data", "mapping.toml", "--preview")
    assert stopped.returncode == 1
    assert f"s3://{bucket}/gone.csv: no such object" in stopped.stderr
