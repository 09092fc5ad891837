"""A query of the mapping joins and reshapes named files, and reads nothing else."""

from pathlib import Path

import duckdb
import pytest
from small_shop import SmallShop, ask

from recommender.datasets.files import source_files
from recommender.errors import SourceError


@pytest.fixture
def shop(tmp_path: Path) -> SmallShop:
    """Orders (who, when) and their lines (what) in two files, and customers whose id is new in every order."""
    shop = SmallShop(tmp_path)
    shop.write(
        "orders.csv",
        "order_id,customer_id,order_status,bought_at\no1,c1,delivered,2024-03-02 10:00:00\n"
        "o2,c2,canceled,2024-03-12 12:00:00\no3,c3,delivered,2024-03-13 12:00:00\n",
    )
    shop.write("lines.csv", "order_id,line,product_id,cents\no1,1,tin,950\no2,1,tin,950\no3,1,tin,950\no3,2,jar,1999\n")
    shop.write("customers.csv", "customer_id,person\nc1,17\nc2,17\nc3,18\n")
    shop.head = "".join(f'[inputs.{name}]\nfile = "{name}.csv"\n' for name in ("orders", "lines", "customers"))
    shop.parts["events"] = QUERY
    return shop


QUERY = '''query = """
SELECT order_id || '-' || line AS event_id, person AS user_id, bought_at AS event_time, order_id AS basket_id,
    product_id AS item_id, cents::DOUBLE / 100 AS amount
FROM orders JOIN lines USING (order_id) JOIN customers USING (customer_id)
WHERE order_status <> 'canceled'
"""
constants = { kind = "purchase" }
'''


def test_orders_and_their_lines_become_events_of_the_person(shop: SmallShop) -> None:
    tables = shop.read()
    assert ask(tables, "SELECT event_id, user_id, item_id, amount FROM events ORDER BY 1") == [
        ("o1-1", "17", "tin", 9.5),
        ("o3-1", "18", "tin", 9.5),
        ("o3-2", "18", "jar", 19.99),
    ]
    assert ask(tables, "SELECT user_id FROM participations") == [("18",)]


def test_the_inputs_of_a_query_belong_to_the_sources_identity(shop: SmallShop) -> None:
    names = {path.name for path in source_files(shop.mapping())}
    assert {"orders.csv", "lines.csv", "customers.csv", "campaigns.csv"} <= names


def test_rows_of_a_query_are_numbered_alike_in_every_run(shop: SmallShop) -> None:
    lines = "".join(f"o{n % 3 + 1},{n},tin,{n}\n" for n in range(5000))
    shop.write("lines.csv", "order_id,line,product_id,cents\n" + lines)
    shop.parts["events"] = QUERY.replace("order_id || '-' || line AS event_id, ", "")
    first = shop.read().data_hash
    (shop.folder / "tables").rename(shop.folder / "earlier")
    assert shop.read().data_hash == first


def test_a_parquet_file_is_joined_with_a_csv(shop: SmallShop) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"COPY (FROM '{shop.folder}/lines.csv') TO '{shop.folder}/lines.parquet'")
    shop.head = shop.head.replace("lines.csv", "lines.parquet")
    assert shop.read().manifest["rows"]["events"] == 3


def test_tables_of_one_mapping_may_query_the_same_input(shop: SmallShop) -> None:
    shop.parts["users"] = 'query = "SELECT DISTINCT person AS user_id FROM customers"\n'
    assert ask(shop.read(), "SELECT user_id FROM users ORDER BY 1") == [("17",), ("18",)]


@pytest.mark.parametrize(
    ("query", "fact"),
    [
        ("SELECT * FROM read_csv('{folder}/orders.csv')", "file system"),
        ("SELECT * FROM '{folder}/orders.csv'", "file system"),
        ("SELECT content FROM read_text('/etc/hostname')", "file system"),
        ("SELECT * FROM ordres", "orders, lines, customers"),
        ("SELECT * FROM orders JOIN lines", "tables.events.query"),
        ("COPY orders TO '{folder}/stolen.csv'", "SELECT"),
        ("SELECT 1; DROP TABLE orders", "SELECT"),
        ("ATTACH '{folder}/x.db'", "SELECT"),
        ("SELECT * FROM connection", "inputs are"),
    ],
)
def test_a_query_reads_its_inputs_only(shop: SmallShop, query: str, fact: str) -> None:
    shop.parts["events"] = f'query = """{query.format(folder=shop.folder)}"""\n'
    with pytest.raises(SourceError, match=r"mapping\.toml: tables\.events\.query") as caught:
        shop.read()
    assert fact in str(caught.value)
    assert not list(shop.folder.glob("stolen*"))


def test_a_missing_input_is_named(shop: SmallShop) -> None:
    (shop.folder / "lines.csv").unlink()
    with pytest.raises(SourceError, match=r"lines\.csv"):
        shop.read()
