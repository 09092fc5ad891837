"""Validation stops the run on a critical failure and shows the rows, and it sets bad rows aside and counts them.

It runs with the real engine, Great Expectations.
"""

import json
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from small_shop import SmallShop

from components.validate_data.suites import load_suite
from components.validate_data.validation import Verdict, counts_forgotten, validate, write_memory
from recommender.datasets.checks.alone import alone
from recommender.datasets.checks.newest import newest
from recommender.datasets.contract import open_views
from recommender.datasets.statistics import measure
from recommender.datasets.synthetic import World, generate
from recommender.datasets.tables import CONTRACT, Tables, open_tables
from recommender.errors import ValidationFailed
from recommender.event_tables.forgotten_rows import without_forgotten
from recommender.settings import DEFAULT_RESOURCES
from recommender.storage.forgotten import forget
from recommender.storage.home import Home
from recommender.storage.manifest import read_manifest, write_manifest

Change = Callable[[pa.Table], pa.Table]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    small = World.small(num_users=60, num_items=40, num_campaigns=8)
    return generate(small, tmp_path_factory.mktemp("world") / "tables")


class Bench:
    """A copy of the world to break, and its validation."""

    def __init__(self, world: Tables, folder: Path) -> None:
        self.raw, self.clean, self.html = folder / "raw", folder / "clean", folder / "validation.html"
        shutil.copytree(world.folder, self.raw)
        self.as_of = world.log_end

    def change(self, table: str, change: Change) -> None:
        path = sorted((self.raw / table).rglob("*.parquet"))[0]
        rows = change(pq.ParquetFile(path).read())
        pq.write_table(rows, path)
        facts = {k: v for k, v in read_manifest(self.raw, verify=False).items() if k not in ("files", "content_hash")}
        columns = [name for name in rows.column_names if name in CONTRACT[table].columns]
        facts["columns"] = facts["columns"] | {table: columns}
        write_manifest(self.raw, **facts)

    def validate(self, **options: object) -> Verdict:
        return validate(self.raw, self.clean, self.html, **{"as_of": self.as_of, **options})

    def refused(self, **options: object) -> str:
        with pytest.raises(ValidationFailed) as caught:
            self.validate(**options)
        assert not self.clean.exists()
        assert "FAILED" in self.html.read_text()
        return str(caught.value)


@pytest.fixture
def bench(world: Tables, tmp_path: Path) -> Bench:
    return Bench(world, tmp_path)


def replaced(column: str, values: Callable[[list], list]) -> Change:
    def change(rows: pa.Table) -> pa.Table:
        place, field = rows.column_names.index(column), rows.schema.field(column)
        return rows.set_column(place, field, pa.array(values(rows[column].to_pylist()), field.type))

    return change


def test_the_suites_hold_at_least_thirty_expectations_each_with_a_severity_and_a_sentence() -> None:
    expectations = [one for table in CONTRACT for one in load_suite(table)["expectations"]]
    assert len(expectations) >= 30
    assert all(one["severity"] in ("critical", "warning") and one["meta"]["sentence"] for one in expectations)
    assert json.loads(json.dumps(expectations)) == expectations


def test_sound_tables_pass_and_keep_their_data_hash(bench: Bench) -> None:
    verdict = bench.validate()
    assert verdict.critical == []
    assert verdict.data_hash == Tables(bench.raw).data_hash == open_tables(bench.clean).data_hash
    assert verdict.metrics["quarantined"] == 0


def test_the_page_loads_nothing_from_anywhere(bench: Bench) -> None:
    bench.validate()
    html = bench.html.read_text()
    assert not re.search(r"(src|href)\s*=\s*[\"']?\s*(https?:)?//|<script|@import|url\(", html)
    assert len(html) < 500_000


def test_a_duplicate_key_stops_the_run_and_is_shown(bench: Bench) -> None:
    bench.change("users", lambda rows: pa.concat_tables([rows, rows.slice(0, 1)]))
    twice = pq.ParquetFile(bench.raw / "users" / "part.parquet").read()["user_id"][0].as_py()
    message = bench.refused()
    assert "users.user_id" in message
    assert "users.duplicate_keys" in message
    assert twice in message


def test_a_duplicate_compound_key_stops_the_run(bench: Bench) -> None:
    bench.change("targets", lambda rows: pa.concat_tables([rows, rows.slice(0, 1)]))
    assert "targets.campaign_id, user_id" in bench.refused()


def test_orphans_beyond_the_tolerance_stop_the_run_with_their_rows(bench: Bench) -> None:
    bench.change("targets", replaced("user_id", lambda ids: [f"ghost{k}" if k < 20 else v for k, v in enumerate(ids)]))
    message = bench.refused()
    assert "targets.orphan_share_user_id" in message
    assert "ghost0" in message


def test_a_missing_column_stops_the_run_and_is_named(bench: Bench) -> None:
    bench.change("events", lambda rows: rows.drop_columns(["kind"]))
    for path in sorted((bench.raw / "events").rglob("*.parquet"))[1:]:
        path.unlink()
    bench.change("events", lambda rows: rows)
    message = bench.refused()
    assert "events: " in message
    assert "no column kind" in message


def test_a_wrong_dtype_stops_the_run_and_names_found_and_wanted(bench: Bench) -> None:
    bench.change(
        "campaigns", lambda rows: rows.set_column(0, "campaign_id", pa.array(range(rows.num_rows), pa.int64()))
    )
    message = bench.refused()
    assert "campaigns: " in message
    assert "campaign_id" in message
    assert "int64" in message
    assert "string" in message


def test_a_log_that_ends_long_before_as_of_stops_the_run(bench: Bench) -> None:
    message = bench.refused(as_of=bench.as_of + timedelta(days=8))
    assert "events.event_time" in message
    assert "events.days_since_last_event" in message


def test_a_volume_that_collapsed_since_the_previous_run_stops_the_run(bench: Bench, tmp_path: Path) -> None:
    write_memory(bench.validate(), tmp_path / "memory")
    shutil.rmtree(bench.clean)
    bench.change("users", lambda rows: rows.slice(0, rows.num_rows // 2))
    message = bench.refused(previous=tmp_path / "memory")
    assert "users.rows" in message


def test_the_same_volume_as_in_the_previous_run_passes(bench: Bench, tmp_path: Path) -> None:
    write_memory(bench.validate(), tmp_path / "memory")
    verdict = bench.validate(previous=tmp_path / "memory")
    assert verdict.critical == []
    assert not any("previous" in one.observed or "earlier run" in one.observed for one in verdict.outcomes)


def test_a_bad_row_goes_to_quarantine_with_its_reason_and_nothing_is_lost(bench: Bench) -> None:
    bench.change("events", replaced("kind", lambda kinds: ["telepathy", *kinds[1:]]))
    rows_in = Tables(bench.raw).manifest["rows"]["events"]
    verdict = bench.validate()
    manifest = open_tables(bench.clean).manifest
    aside = pq.ParquetFile(bench.clean / "quarantine" / "events.parquet").read()
    assert manifest["rows"]["events"] + aside.num_rows == rows_in
    assert manifest["quarantined"]["events"] == verdict.metrics["quarantined"] == 1
    assert aside["_reason"][0].as_py().startswith("kind: unknown value telepathy")
    assert aside["_row"][0].as_py() == 0
    kept = [pq.ParquetFile(path).read(["kind"])["kind"] for path in (bench.clean / "events").rglob("*.parquet")]
    assert sum(len(kinds) for kinds in kept) == manifest["rows"]["events"]
    assert not any(pc.any(pc.equal(kinds, "telepathy")).as_py() for kinds in kept)
    assert "unknown value telepathy" in bench.html.read_text()


def test_a_row_that_names_a_quarantined_row_is_set_aside_too(bench: Bench) -> None:
    row = pq.ParquetFile(bench.raw / "campaigns" / "part.parquet").read().slice(0, 1).to_pylist()[0]
    bench.change("campaigns", replaced("ends_at", lambda ends: [row["starts_at"], *ends[1:]]))
    message = bench.refused()
    assert f"campaigns has no {row['campaign_id']}" in message


def test_the_page_counts_months_by_the_shops_own_calendar(tmp_path: Path) -> None:
    shop = SmallShop(tmp_path, source='time_zone = "Asia/Shanghai"\n')
    shop.write("events.csv", "user_id,event_time,item_id\n17,2024-03-01 03:00:00,tin\n18,2024-03-12 09:00:00,tin\n")
    shop.write("campaigns.csv", "campaign_id,starts_at,ends_at\nspring,2024-04-01,2024-04-20\n")
    tables, page = shop.read(), tmp_path / "page.html"
    validate(tables.folder, tmp_path / "clean", page, as_of=tables.log_end)
    html = page.read_text()
    assert "2024-04" in html
    assert not re.search(r"2024-02(?!-)", html), "in Shanghai no event is of February"


@pytest.mark.parametrize(
    ("reviews_a_day", "days_without_stars", "lost"),
    [
        (1, (20, 21), False),
        (1, range(20, 32), True),
        (2, (20, 21), False),
        (2, (20, 22), False),
        (4, (20, 22), True),
        (6, (20,), True),
    ],
)
def test_stars_that_few_reviews_of_some_days_lack_are_no_lost_column(
    tmp_path: Path, reviews_a_day: int, days_without_stars: tuple[int, ...], lost: bool
) -> None:
    first, lines = datetime(2024, 1, 1, 9, tzinfo=UTC), ["user_id,kind,event_time,item_id,amount,rating"]
    for day in range(60):
        moments = [(first + timedelta(days=day, minutes=k)).isoformat() for k in range(12)]
        lines += [f"{k},purchase,{moment},tin,9.5," for k, moment in enumerate(moments)]
        stars = "" if day in days_without_stars else "4"
        lines += [f"{k},review,{moment},tin,,{stars}" for k, moment in enumerate(moments[:reviews_a_day])]
    shop = SmallShop(tmp_path, parts={**SmallShop(tmp_path).parts, "events": 'file = "events.csv"\n'})
    shop.write("events.csv", "\n".join(lines))
    with open_views(shop.read(), DEFAULT_RESOURCES) as connection:
        found = measure(connection, open_tables(tmp_path / "tables"), datetime(2024, 4, 1, tzinfo=UTC))
    (check,) = (one for one in alone(found) if one.name == "events.rating.empty")
    assert check.holds != lost, check


def test_shoppers_who_were_forgotten_since_the_last_good_run_are_no_lost_files(tmp_path: Path) -> None:
    tables, home, memory = SmallShop(tmp_path).read(), Home(tmp_path / "home"), tmp_path / "memory"
    home.root.mkdir()
    forget(home, ["18"], datetime.now(UTC) - timedelta(minutes=1))
    write_memory(Verdict(outcomes=(), figures={}), memory)
    without = without_forgotten(tables, home)
    assert counts_forgotten(memory, without) == "", "its figures never counted that shopper"
    forget(home, ["17"], datetime.now(UTC) + timedelta(minutes=1))
    tables = without_forgotten(without, home)
    outdated, source_end = counts_forgotten(memory, tables), datetime(2024, 3, 14, tzinfo=UTC)
    assert "forget them again" in outdated
    assert counts_forgotten(tmp_path / "no memory", tables) == ""
    whole = SmallShop(tmp_path / "whole").read()
    verdict = validate(whole.folder, tmp_path / "sound", tmp_path / "page.html", as_of=source_end, outdated=outdated)
    assert [one.severity for one in verdict.outcomes if outdated in one.in_short()] == ["warning"]


@pytest.mark.parametrize(
    ("views_a_day", "silent_days", "told"), [(6, 0, False), (6, 6, False), (6, 8, True), (3, 8, False)]
)
def test_a_week_without_a_kind_of_event_is_told_also_where_a_day_has_few(
    tmp_path: Path, views_a_day: int, silent_days: int, told: bool
) -> None:
    first, lines = datetime(2024, 1, 1, 9, tzinfo=UTC), ["user_id,kind,event_time,item_id,amount"]
    for day in range(84):
        moments = [(first + timedelta(days=day, minutes=k)).isoformat() for k in range(40)]
        lines += [f"{k},purchase,{moment},tin,9.5" for k, moment in enumerate(moments)]
        views = moments[: views_a_day if day < 84 - silent_days else 0]
        lines += [f"{k},view,{moment},tin," for k, moment in enumerate(views)]
    shop = SmallShop(tmp_path, parts={**SmallShop(tmp_path).parts, "events": 'file = "events.csv"\n'})
    shop.write("events.csv", "\n".join(lines))
    with open_views(shop.read(), DEFAULT_RESOURCES) as connection:
        found = measure(connection, open_tables(tmp_path / "tables"), datetime(2024, 4, 1, tzinfo=UTC))
    failed = [one for one in newest(found) if one.name == "events.kind.view.silent" and not one.holds]
    assert bool(failed) == told, failed
