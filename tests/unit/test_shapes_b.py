"""The recipes for public shapes of exports read what a careful person would have mapped."""

import math
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from recommender.datasets import ingest
from recommender.datasets.contract import check
from recommender.datasets.files import read_tables
from recommender.datasets.interactions import read_interactions
from recommender.errors import ContractError
from recommender.settings import SourceSettings

SHAPES = ("amexpert", "ta_feng", "taobao", "tmall", "ga4", "klaviyo", "mailchimp", "starbucks", "valued_shoppers")
PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
WITH_CAMPAIGNS = ("amexpert", "tmall", "klaviyo", "mailchimp", "starbucks", "valued_shoppers")


def mapping_of(shape: ModuleType, folder: Path) -> Path:
    shape.write(folder)
    mapping = folder / "mapping.toml"
    mapping.write_text(shape.RECIPE, encoding="utf-8")
    return mapping


@pytest.mark.parametrize("name", SHAPES)
def test_the_page_has_the_recipe_that_is_tested(name: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert f"```toml\n{import_module(f'shapes.{name}').RECIPE}```" in page
    assert f"(#{name})" in page


@pytest.mark.parametrize("name", SHAPES)
def test_a_recipe_reads_the_facts_that_the_files_hold(name: str, tmp_path: Path) -> None:
    shape = import_module(f"shapes.{name}")
    with read_tables(mapping_of(shape, tmp_path), complete=False) as read:
        assert bool(read.missing) == (name not in WITH_CAMPAIGNS)
        for query, expected in shape.CHECKS:
            assert read.connection.execute(query).fetchall() == expected, query
        for table, columns in shape.JUDGED.items():
            assert set(columns) <= set(read.present[table]), table


@pytest.mark.parametrize("name", WITH_CAMPAIGNS)
def test_a_recipe_with_campaigns_makes_tables_that_keep_the_contract(name: str, tmp_path: Path) -> None:
    mapping = mapping_of(import_module(f"shapes.{name}"), tmp_path)
    tables = ingest(SourceSettings(dataset="files", mapping=str(mapping)), tmp_path / "tables")
    check(tables)
    assert tables.manifest["rows"]["participations"] > 0
    assert not any(tables.manifest["quarantined"].values())


@pytest.mark.parametrize("name", [name for name in SHAPES if name not in WITH_CAMPAIGNS])
def test_a_recipe_for_a_log_is_read_as_sequences(name: str, tmp_path: Path) -> None:
    shape = import_module(f"shapes.{name}")
    mapping = mapping_of(shape, tmp_path)
    with read_tables(mapping, complete=False) as read:
        query = (
            "SELECT count(*), count(DISTINCT user_id), count(DISTINCT item_id) FROM events WHERE item_id IS NOT NULL"
        )
        rows, users, items = read.connection.execute(query).fetchone() or (0, 0, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sequences = read_interactions(mapping)
    assert (len(sequences.items_T), sequences.num_users, len(sequences.items.ids)) == (rows, users, items)


def test_the_first_publishers_files_of_ta_feng_hold_the_same_lines(tmp_path: Path) -> None:
    shape = import_module("shapes.ta_feng")
    shape.write_original(tmp_path)
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(shape.RECIPE_ORIGINAL, encoding="utf-8")
    with read_tables(mapping, complete=False) as read:
        for query, expected in shape.CHECKS[:3]:
            assert read.connection.execute(query).fetchall() == expected, query


def test_a_month_without_a_leading_zero_is_read_in_tmalls_log(tmp_path: Path) -> None:
    # Copies of the log that went through pandas have 511 where the publisher wrote 0511.
    shape = import_module("shapes.tmall")
    mapping = mapping_of(shape, tmp_path)
    log = tmp_path / "user_log_format1.csv"
    log.write_text(log.read_text().replace(",0", ","))
    log.write_text(log.read_text().replace(",\n", ",0\n"))
    with read_tables(mapping) as read:
        for query, expected in shape.CHECKS:
            assert read.connection.execute(query).fetchall() == expected, query


NUMBERS_AS_WORDS = """\
[source]
time_zone = "UTC"
[tables.events]
file = "events.jsonl"
columns = { kind = "action", device = "screen", event_time = "at", user_id = "user", item_id = "item" }
"""


def write_actions(folder: Path, values: str) -> Path:
    rows = ("1", "2024-03-02 10:00:00"), ("1", "2024-03-03 10:00:00"), ("7", "2024-03-04 10:00:00")
    lines = [f'{{"user": 1, "item": 5, "action": {action}, "screen": 1080, "at": "{at}"}}' for action, at in rows]
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "mapping.toml").write_text(NUMBERS_AS_WORDS + values, encoding="utf-8")
    return folder / "mapping.toml"


def test_numbers_of_json_are_read_as_the_texts_that_the_contract_wants(tmp_path: Path) -> None:
    mapping = write_actions(tmp_path, 'values = { kind = { 1 = "view", 7 = "purchase" } }\n')
    with read_tables(mapping, complete=False) as read:
        rows = read.connection.execute("SELECT kind, device FROM events ORDER BY event_time").fetchall()
    assert rows == [("view", "1080"), ("view", "1080"), ("purchase", "1080")]


def test_numbers_of_json_that_name_no_kind_are_listed_with_their_counts(tmp_path: Path) -> None:
    mapping = write_actions(tmp_path, "")
    with pytest.raises(ContractError, match=r"'1' \(2 rows\), '7' \(1 rows\)"), read_tables(mapping, complete=False):
        pass


def test_a_discount_of_zero_whose_sign_is_turned_is_not_a_negative_zero(tmp_path: Path) -> None:
    with read_tables(mapping_of(import_module("shapes.amexpert"), tmp_path)) as read:
        found = read.connection.execute("SELECT discount FROM events WHERE discount = 0").fetchall()
    assert len(found) == 180
    assert {math.copysign(1, discount) for (discount,) in found} == {1.0}
