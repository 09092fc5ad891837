"""The recipes of `docs/recipes.md` read files of the public shapes that they are for, here the first half of them."""

import warnings
from pathlib import Path
from types import ModuleType

import pytest
from shapes import dunnhumby, hm, instacart, magento, olist, retailrocket, shopify, uci_online_retail, woocommerce

from recommender.datasets.contract import open_views
from recommender.datasets.files import ingest, read_tables
from recommender.datasets.interactions import read_interactions

WITH_CAMPAIGNS = (dunnhumby,)
LOGS = (olist, uci_online_retail, shopify, magento, woocommerce, retailrocket, hm, instacart)
SHAPES = (*WITH_CAMPAIGNS, *LOGS)


PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"


def name_of(shape: ModuleType) -> str:
    return shape.__name__.rpartition(".")[2]


def written(shape: ModuleType, folder: Path) -> Path:
    """The mapping, beside the shape's files."""
    shape.write(folder)
    (folder / "mapping.toml").write_text(shape.RECIPE, encoding="utf-8")
    return folder / "mapping.toml"


@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_a_recipe_reads_the_facts_that_are_in_the_files(shape: ModuleType, tmp_path: Path) -> None:
    with read_tables(written(shape, tmp_path), complete=False) as read:
        for query, expected in shape.CHECKS:
            assert (query, read.connection.execute(query).fetchall()) == (query, expected)
        assert bool(read.missing) == (shape not in WITH_CAMPAIGNS)
        rejected = {table: read.connection.sql(f"FROM ({query})").fetchall() for table, query in read.rejected.items()}
    assert {table: rows for table, rows in rejected.items() if rows} == {}


@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_a_recipe_has_the_columns_by_which_a_draft_is_judged(shape: ModuleType, tmp_path: Path) -> None:
    with read_tables(written(shape, tmp_path), complete=False) as read:
        lacking = {
            table: sorted(set(columns) - set(read.present.get(table, ()))) for table, columns in shape.JUDGED.items()
        }
    assert {table: columns for table, columns in lacking.items() if columns} == {}


@pytest.mark.parametrize("shape", WITH_CAMPAIGNS, ids=name_of)
def test_a_recipe_with_campaigns_is_ingested_whole(shape: ModuleType, tmp_path: Path) -> None:
    tables = ingest(written(shape, tmp_path), tmp_path / "tables")
    assert set(tables.manifest["quarantined"].values()) <= {0}
    with open_views(tables) as connection:
        for table, column in (("targets", "user_id"), ("events", "user_id"), ("participations", "user_id")):
            orphans = f"SELECT count(*) FROM {table} WHERE {column} NOT IN (SELECT user_id FROM users)"
            assert connection.execute(orphans).fetchall() == [(0,)]
        assert connection.execute("SELECT count(*) > 3 FROM participations").fetchall() == [(True,)]


@pytest.mark.parametrize("shape", LOGS, ids=name_of)
def test_a_recipe_without_campaigns_is_a_log_for_next_items(shape: ModuleType, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        # Searches, guests and copies are warned of. Here only the sequences count.
        warnings.simplefilter("ignore")
        read = read_interactions(written(shape, tmp_path))
    assert read.num_users >= 8
    assert len(read.items.ids) >= 5


@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_the_page_of_recipes_shows_the_mapping_that_is_tested(shape: ModuleType) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert f"```toml\n{shape.RECIPE.strip()}\n```" in page
    assert f"(#{name_of(shape)})" in page
