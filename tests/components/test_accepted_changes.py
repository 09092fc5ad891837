"""A change that a person accepted passes from then on and stays in the record, and what was set aside can be listed."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.validate_data.alone import validate_alone
from components.validate_data.quarantine import kept, quarantined
from components.validate_data.validation import record_of, validate
from recommender.datasets.synthetic import World, generate
from recommender.datasets.tables import TIME, Tables, open_tables
from recommender.errors import SettingsError, ValidationFailed
from recommender.settings import Settings
from recommender.storage.manifest import read_manifest, write_manifest

CHECK = "events.amount.against_price"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    small = World.small(num_users=60, num_items=40, num_campaigns=8)
    return generate(small, tmp_path_factory.mktemp("world") / "tables")


def changed(world: Tables, folder: Path, column: str, change: object, **facts: object) -> Path:
    """A copy of the world with one column of its events changed."""
    shutil.copytree(world.folder, folder)
    for path in (folder / "events").rglob("*.parquet"):
        rows = pq.ParquetFile(path).read()
        place, field = rows.column_names.index(column), rows.schema.field(column)
        assert callable(change)
        pq.write_table(rows.set_column(place, field, change(rows[column])), path)
    known = {k: v for k, v in read_manifest(folder, verify=False).items() if k not in ("files", "content_hash")}
    write_manifest(folder, **{**known, **facts})
    return folder


def test_an_accepted_change_passes_and_a_larger_one_fails_again(world: Tables, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    page = tmp_path / "page.html"
    cents = changed(world, tmp_path / "cents", "amount", lambda values: pc.multiply(values, 100.0))
    with pytest.raises(ValidationFailed) as refused:
        validate_alone(settings, page, tables=cents)
    assert f"recommender validate --accept {CHECK} --reason" in str(refused.value)
    assert "--accept schema" not in str(refused.value)
    record = record_of(settings)
    with pytest.raises(SettingsError, match="no such check"):
        record.accept("events.amount.against_prices", "a misspelt name")
    with pytest.raises(SettingsError, match="reason"):
        record.accept(CHECK, " ")
    record.accept(CHECK, "prices are in yen now")
    verdict = validate_alone(settings, page, tables=cents)
    (outcome,) = (one for one in verdict.outcomes if one.check == CHECK)
    assert outcome.status == "accepted"
    assert "prices are in yen now" in page.read_text()
    (entry,) = record.accepted()
    assert entry.data_hash == Tables(cents).data_hash
    assert datetime.fromisoformat(entry.when).tzinfo is not None
    more = changed(world, tmp_path / "more", "amount", lambda values: pc.multiply(values, 10_000.0))
    with pytest.raises(ValidationFailed, match=CHECK):
        validate_alone(settings, page, tables=more)


def test_rows_later_than_the_moment_of_reading_are_set_aside_and_listed(world: Tables, tmp_path: Path) -> None:
    read_at = world.log_end - timedelta(hours=6)
    raw = changed(world, tmp_path / "raw", "event_time", lambda values: values, ingested_at=read_at.isoformat())
    verdict = validate(raw, tmp_path / "clean", tmp_path / "page.html", as_of=read_at)
    clean = open_tables(tmp_path / "clean")
    assert clean.log_end <= read_at
    rows = verdict.figures["events"]["quarantined"]
    assert rows is not None
    assert rows > 0
    (events,) = (one for one in quarantined(clean.folder) if one.table == "events")
    assert events.rows == rows
    assert events.file is not None
    assert pq.ParquetFile(events.file).metadata.num_rows == rows
    assert read_at.astimezone(UTC).strftime("%Y-%m-%d") in events.examples[0]


def test_rows_later_than_a_stated_moment_stay_as_labels_and_are_counted(world: Tables, tmp_path: Path) -> None:
    as_of = world.log_end - timedelta(days=20)
    verdict = validate(world.folder, tmp_path / "clean", tmp_path / "page.html", as_of=as_of)
    clean = open_tables(tmp_path / "clean")
    assert clean.data_hash == world.data_hash
    assert clean.log_end == world.log_end
    later = verdict.figures["events"]["not_yet_known"]
    assert later == clean.manifest["not_yet_known"]["events"] > 0
    assert verdict.statistics is not None
    assert verdict.statistics.last_day <= as_of.date()
    assert {one.table for one in quarantined(clean.folder)} >= {"events"}


def test_users_of_two_spellings_are_a_critical_fact(world: Tables, tmp_path: Path) -> None:
    """Both populations are in the table of users, as derived ones are, so no key is without its row."""
    shutil.copytree(world.folder, tmp_path / "raw")
    events = sorted((tmp_path / "raw" / "events").rglob("*.parquet"))
    ids: set[str] = set()
    for path in events:
        rows = pq.ParquetFile(path).read()
        other = pc.binary_join_element_wise(rows["user_id"], ".0", "")
        ids |= set(other.to_pylist())
        pq.write_table(rows.set_column(rows.column_names.index("user_id"), "user_id", other), path)
    users = pq.ParquetFile(tmp_path / "raw" / "users" / "part.parquet").read()
    more = pa.table({"user_id": sorted(ids), "joined_at": pa.nulls(len(ids), TIME)})
    both = pa.concat_tables([users, more], promote_options="default")
    pq.write_table(both, tmp_path / "raw" / "users" / "part.parquet")
    known = read_manifest(tmp_path / "raw", verify=False)
    write_manifest(tmp_path / "raw", **{k: v for k, v in known.items() if k not in ("files", "content_hash")})
    with pytest.raises(ValidationFailed, match=r"facts\.targeted_users_known"):
        validate(tmp_path / "raw", tmp_path / "clean", tmp_path / "page.html", as_of=world.log_end)


def test_validate_alone_keeps_the_list_of_what_was_set_aside(world: Tables, tmp_path: Path) -> None:
    read_at = world.log_end - timedelta(hours=6)
    raw = changed(world, tmp_path / "raw", "event_time", lambda values: values, ingested_at=read_at.isoformat())
    settings = Settings(home=str(tmp_path / "home"))
    validate_alone(settings, tmp_path / "page.html", tables=raw)
    (events,) = (one for one in kept(record_of(settings).folder) if one.table == "events")
    assert events.rows > 0
    assert events.examples
    assert events.file is None
