"""Columns, types, currency and time zone that changed stop the next run, unless they are new or accepted."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.main import app
from components.validate_data.validation import validate_step
from recommender.datasets.checks import Shape, changes
from recommender.datasets.synthetic import World, generate
from recommender.days import DayStore
from recommender.days.index import DayIndex
from recommender.days.proposal import Proposal
from recommender.errors import ValidationFailed
from recommender.settings import Settings
from recommender.storage.manifest import read_manifest, write_manifest

Change = Callable[[pa.Table], pa.Table]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small shop, with its currency."""
    folder = tmp_path_factory.mktemp("world") / "tables"
    generate(World.small(num_users=60, num_items=40, num_campaigns=8), folder)
    return rewritten(folder, {}, currency="EUR")


def rewritten(folder: Path, changed: dict[str, Change], **facts: Any) -> Path:
    """The folder with changed tables and facts."""
    for table, change in changed.items():
        for path in (folder / table).rglob("*.parquet"):
            pq.write_table(change(pq.ParquetFile(path).read()), path)
    known = {k: v for k, v in read_manifest(folder, verify=False).items() if k not in ("files", "content_hash")}
    columns = {
        table: pq.ParquetFile(next((folder / table).rglob("*.parquet"))).schema_arrow.names
        for table in known["columns"]
    }
    write_manifest(folder, **{**known, "columns": columns, **facts})
    return folder


def after(world: Path, folder: Path, changed: dict[str, Change], **facts: Any) -> Path:
    shutil.copytree(world, folder)
    return rewritten(folder, changed, **facts)


def ran(tables: Path, home: Path) -> None:
    """A run's step."""
    output = home.parent / f"clean {len(list(home.parent.iterdir()))}"
    validate_step(tables, output, html=home.parent / "page.html", settings=Settings(home=home))


def typed(home: Path, tables: Path, *more: str) -> Result:
    file = home.parent / "recommender.toml"
    file.write_text(f'home = "{home}"\n')
    page = str(home.parent / "page.html")
    command = ["validate", "--settings", str(file), "--data", str(tables), "--page", page, *more]
    return CliRunner().invoke(app, command, env={"COLUMNS": "250"})


def test_what_vanished_or_means_something_else_stops_until_it_is_accepted_and_is_remembered(
    world: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    ran(world, home)
    gone = {"users": lambda table: table.drop_columns(["age_band"])}
    tables = after(world, tmp_path / "later", gone, currency="USD", time_zone="Asia/Tokyo")
    with pytest.raises(ValidationFailed) as stopped:
        ran(tables, home)
    table = str(stopped.value).partition("Changed since the last good run:\n")[2].splitlines()
    assert "recommender validate --accept schema --reason" in str(stopped.value)
    before = read_manifest(world, verify=False)["time_zone"]
    rows = {line.split()[0]: line.split()[1:3] for line in table[1:4]}
    assert rows == {"currency": ["EUR", "USD"], "time_zone": [before, "Asia/Tokyo"], "users.age_band": ["string", "–"]}
    refused = typed(home, tables)
    assert refused.exit_code == 1
    assert "schema.users.age_band" in refused.output
    accepted = typed(home, tables, "--accept", "schema", "--reason", "we sell in dollars, from Tokyo, without ages")
    assert accepted.exit_code == 0, accepted.output
    assert "schema.currency.EUR-USD" in accepted.output
    ran(tables, home)
    # From then on it is what the next run is compared with: the same data again change nothing.
    assert "Changed since" not in typed(home, tables).output
    back = after(tables, tmp_path / "back", {}, currency="EUR")
    with pytest.raises(ValidationFailed, match=r"schema\.currency\.USD-EUR"):
        ran(back, home)


def test_an_export_that_is_refused_puts_no_daily_partitions_into_force(world: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    refused = after(world, tmp_path / "refused", {"campaigns": lambda table: table.drop_columns(["ends_at"])})
    Proposal(DayIndex().state, DayIndex(lineage="refused")).save(refused)
    with pytest.raises(ValidationFailed):
        ran(refused, home)
    assert DayStore.of(Settings(home=home)).read() == DayIndex()


def test_a_column_that_is_new_is_announced_and_stops_nothing(world: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    ran(world, home)
    new = {
        "users": lambda table: table.append_column(
            "marital_status", pa.array(["single", "married"] * (len(table) // 2))
        )
    }
    tables = after(world, tmp_path / "later", new)
    found = typed(home, tables)
    assert found.exit_code == 0, found.output
    (line,) = (line for line in found.output.splitlines() if line.startswith("users.marital_status"))
    assert line.split()[1:3] == ["–", "string"]
    ran(tables, home)
    with pytest.raises(ValidationFailed, match=r"schema\.users\.marital_status"):
        ran(world, home)


def test_a_home_of_a_release_that_kept_no_types_runs_on_and_still_misses_what_is_gone(
    world: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    ran(world, home)
    (memory,) = (path.parent for path in (home / "validated").glob("*/manifest.json"))
    known = {k: v for k, v in read_manifest(memory).items() if k not in ("files", "content_hash", "shape")}
    write_manifest(memory, **known)
    gone = after(world, tmp_path / "later", {"users": lambda table: table.drop_columns(["age_band"])})
    with pytest.raises(ValidationFailed, match=r"schema\.users\.age_band"):
        ran(gone, home)
    ran(world, home)
    assert read_manifest(memory)["shape"]["facts"]["currency"] == "EUR"


def test_which_changes_stop_a_run() -> None:
    before = Shape({"events.amount": "double", "events.page": "null", "items.price": "double"}, {"hours": "no"})
    now = Shape(
        {
            "events.amount": "string",
            "events.page": "string",
            "items.price": "double",
            "participations.user_id": "string",
        },
        {"hours": "yes"},
    )
    found = {one.name: (one.before, one.after, one.stops) for one in changes(now, before)}
    assert found == {
        "hours": ("no", "yes", False),
        "participations": ("–", "a table", False),
        "events.amount": ("double", "string", True),
    }
    back = {one.name: one.stops for one in changes(before, now)}
    assert back == {"hours": True, "participations": True, "events.amount": True}
    assert changes(now, None) == []


@pytest.mark.parametrize(("currency", "stops"), [("EUR", False), ("JPY", True)])
def test_a_currency_that_is_stated_at_last_stops_only_where_it_moves_the_minor_unit(currency: str, stops: bool) -> None:
    (change,) = changes(Shape({}, {"currency": currency}), Shape({}, {"currency": "not stated"}))
    assert change.stops == stops
