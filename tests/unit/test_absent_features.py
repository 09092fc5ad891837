"""A run says which features its source cannot have: what it says is what really vanishes."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from small_shop import SmallShop

from benchmarks.features.needs import CompleteShop, names_of
from cli.absent import show_absent
from recommender.features import build
from recommender.features.absent import told_parts
from recommender.settings import Settings
from recommender.storage.home import FEATURES_SCHEMA_FILE, Home

AGAIN = "find it out again: .venv/bin/python -m benchmarks.features.needs"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> CompleteShop:
    return CompleteShop.made(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def complete(shop: CompleteShop, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("complete")
    names = names_of(shop.without([], folder / "tables"), folder / "features", shop.as_of)
    assert "absent" not in json.loads((folder / "features" / FEATURES_SCHEMA_FILE).read_text(encoding="utf-8"))
    return names


@pytest.mark.parametrize("which", [slice(0, None, 2), slice(1, None, 2), slice(None)])
def test_what_is_said_to_be_absent_is_what_vanishes(
    shop: CompleteShop, complete: list[str], tmp_path: Path, which: slice
) -> None:
    single = [part for part in told_parts() if not part.smaller()]
    missing = single[which]
    left = names_of(shop.without(missing, tmp_path / "tables"), tmp_path / "features", shop.as_of)
    absent = json.loads((tmp_path / "features" / FEATURES_SCHEMA_FILE).read_text(encoding="utf-8"))["absent"]
    assert set(absent) <= {part.name for part in told_parts() if part in missing or part.smaller()}
    said = {name for own in absent.values() for name in own}
    assert sorted(said) == sorted(set(complete) - set(left)), AGAIN


def test_a_shop_without_files_of_users_and_items_is_told_what_that_costs(tmp_path: Path) -> None:
    made = SmallShop(tmp_path / "shop")
    assert not {"users", "items"} & set(made.parts)
    tables = made.read()
    build(tables, tmp_path / "features", as_of=tables.log_end)
    schema = json.loads((tmp_path / "features" / FEATURES_SCHEMA_FILE).read_text(encoding="utf-8"))
    told = schema["absent"]
    assert {"attributes of users", "users.age_band", "items.product_type", "items.brand"} <= set(told)
    assert told["items.brand"]
    assert not set(told["items.brand"]) & {*schema["portrait"], *schema["campaign"], *schema["cross"]}
    no_file = [one.partition(":")[0] for one in tables.manifest["decisions"] if "no file" in one]
    assert {"users", "items"} <= set(no_file)


def test_what_is_absent_is_shown_with_numbers_and_names(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    schema = Home.of(settings).feature_store.schema
    shown = io.StringIO()
    show_absent(Console(file=shown, width=200), settings)
    assert shown.getvalue() == ""
    schema.parent.mkdir(parents=True)
    lost = ["social__likes_7d", "social__likes_30d", "interest__looked"]
    schema.write_text(json.dumps({"absent": {"events of the kind like": lost}}))
    show_absent(Console(file=shown, width=200), settings)
    (row,) = (line for line in shown.getvalue().splitlines() if "events of the kind like" in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells[:3] == ["events of the kind like", "3", "social 2, interest 1"]
    assert "social__likes_7d" in cells[3]
