"""Daily partitions: late rows count while their day is open, and later only after a backfill; killed runs converge."""

import io
import os
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from small_shop import EVENTS, SmallShop, ask

from cli.backfill import backfill_and_refresh
from cli.days import show_late
from cli.options import as_of_from, settings_of
from recommender.datasets.tables import CONTRACT, Tables
from recommender.datasets.write import write_tables
from recommender.days import DayStore, days_identity, ingest_in_days, promote
from recommender.days.fold import fold_in
from recommender.days.index import DayIndex
from recommender.errors import CorruptFileError, SettingsError
from recommender.settings import Settings, SourceSettings
from recommender.storage.commands import command
from recommender.storage.home import Home
from recommender.storage.manifest import MANIFEST

FIRST = date(2024, 3, 2)
Rows = dict[str, tuple[str, int, float]]
"""Event -> user, day after the first one, and amount."""


def shop(folder: Path, rows: Rows) -> Tables:
    """Write a shop with these purchases."""
    times = [datetime.combine(FIRST + timedelta(days=day), time(9), UTC) for _, day, _ in rows.values()]
    events = pa.table(
        {
            "event_id": list(rows),
            "user_id": [user for user, _, _ in rows.values()],
            "kind": ["purchase"] * len(rows),
            "event_time": pa.array(times, pa.timestamp("us", tz="UTC")),
            "item_id": ["tin"] * len(rows),
            "amount": [amount for _, _, amount in rows.values()],
        }
    )
    frames = {**_other_tables(), "events": events}
    return write_tables(frames, folder / "tables", source="test", time_zone="UTC", decisions=[])


@cache
def _other_tables() -> dict[str, pa.Table]:
    with TemporaryDirectory() as folder:
        tables = SmallShop(Path(folder)).read()
        names = [name for name in CONTRACT if name != "events" and tables.has(name)]
        return {name: pq.read_table(tables.folder / name / "part.parquet") for name in names}


def proposed(folder: Path, rows: Rows, *, late_days: int = 3, lineage: str = "one") -> Tables:
    """Fold a day's state of the shop, and stop before anyone has judged it."""
    return fold_in(shop(folder, rows), DayStore(folder / "days"), lineage=lineage, late_days=late_days)


def folded(folder: Path, rows: Rows, *, late_days: int = 3, lineage: str = "one") -> Tables:
    """Fold a day's state of the shop, which is valid, into the partitions of `folder`."""
    made = proposed(folder, rows, late_days=late_days, lineage=lineage)
    promote(made, DayStore(folder / "days"), log_end=made.log_end)
    return made


def counting(tables: Tables) -> dict[object, object]:
    return dict(ask(tables, "SELECT event_id, amount FROM events ORDER BY event_id"))  # type: ignore[arg-type]


def in_partitions(store: DayStore) -> dict[object, object]:
    paths = [str(store.path(one)) for one in store.read().days.values()]
    with duckdb.connect() as connection:
        return dict(connection.sql(f"SELECT event_id, amount FROM read_parquet({paths!r}) ORDER BY 1").fetchall())


LAST = datetime(2024, 3, 14, 9, tzinfo=UTC)
"""Time of the last purchase of `BASE`."""
BASE: Rows = {"a": ("17", 0, 1.0), "b": ("18", 1, 2.0), "c": ("17", 12, 3.0)}


def test_each_day_is_a_partition_with_its_hash_and_the_watermark_of_its_last_change(tmp_path: Path) -> None:
    folded(tmp_path, BASE)
    first = DayStore(tmp_path / "days").read()
    assert list(first.days) == ["2024-03-02", "2024-03-03", "2024-03-14"]
    folded(tmp_path, BASE | {"d": ("18", 13, 4.0)})
    second = DayStore(tmp_path / "days").read()
    assert {day: second.days[day] for day in first.days} == first.days
    assert second.days["2024-03-15"].watermark == second.watermark == "2024-03-15T09:00:00+00:00"
    assert first.watermark == "2024-03-14T09:00:00+00:00"
    rows = pq.read_table(DayStore(tmp_path / "days").path(second.days["2024-03-15"]))
    assert rows["event_id"].to_pylist() == ["d"]


def test_a_late_row_of_an_open_day_counts_and_one_of_a_closed_day_waits_for_a_backfill(tmp_path: Path) -> None:
    folded(tmp_path, BASE)
    later = BASE | {"open": ("18", 9, 5.0), "closed": ("18", 8, 6.0), "d": ("17", 13, 4.0)}
    made = folded(tmp_path, later)
    assert counting(made) == {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "open": 5.0}
    store = DayStore(tmp_path / "days")
    assert store.read().held == {"2024-03-10": 1}
    aside = pq.read_table(made.folder / "quarantine" / "events.parquet").to_pylist()
    assert [(row["event_id"], row["_reason"]) for row in aside] == [
        ("closed", "late: came more than 3 days after its day")
    ]
    assert made.manifest["quarantined"]["events"] == 1
    assert counting(folded(tmp_path, later)) == counting(made), "the same source again changes nothing"
    store.backfill(date(2024, 3, 10), date(2024, 3, 10))
    assert counting(folded(tmp_path, later))["closed"] == 6.0
    assert store.read().held == {}
    again = later | {"too": ("18", 8, 7.0)}
    assert "too" not in counting(folded(tmp_path, again)), "a backfill accepts what is there, not what is still to come"


def test_a_late_correction_waits_while_the_row_as_it_was_counts_and_a_removed_row_is_gone(tmp_path: Path) -> None:
    rows = BASE | {"e": ("18", 1, 8.0)}
    folded(tmp_path, rows)
    changed = {"a": ("17", 0, 1.0), "e": ("18", 1, 80.0), "c": ("17", 12, 30.0)}
    made = folded(tmp_path, changed)
    assert counting(made) == {"a": 1.0, "c": 30.0, "e": 8.0}
    aside = pq.read_table(made.folder / "quarantine" / "events.parquet").to_pylist()
    assert [(row["event_id"], row["amount"]) for row in aside] == [("e", "80")]
    assert "changed" in aside[0]["_reason"]
    moved = changed | {"a": ("17", 2, 1.0)}
    assert counting(folded(tmp_path, moved))["a"] == 1.0, "a row that moves from one closed day to another stays"


def test_an_export_that_breaks_off_twice_does_not_make_the_past_late(tmp_path: Path) -> None:
    rows = BASE | {"e": ("18", 1, 8.0), "d": ("18", 13, 4.0)}
    folded(tmp_path, rows)
    assert list(counting(folded(tmp_path, {name: rows[name] for name in ("b", "c", "d")}))) == ["b", "c", "d"]
    assert list(counting(folded(tmp_path, {name: rows[name] for name in ("c", "d")}))) == ["c", "d"]
    whole = rows | {"new": ("17", 14, 5.0)}
    assert counting(folded(tmp_path, whole)) == {name: rows[2] for name, rows in sorted(whole.items())}
    made = folded(tmp_path, whole | {"late": ("17", 0, 6.0)})
    assert list(counting(made)) == sorted(whole), "a day that has more than it ever had waits with what is new"
    assert DayStore(tmp_path / "days").read().held == {"2024-03-02": 1}


def test_a_source_that_is_read_in_another_way_counts_as_it_is(tmp_path: Path) -> None:
    folded(tmp_path, BASE)
    made = folded(tmp_path, BASE | {"closed": ("18", 2, 6.0)}, lineage="two")
    assert counting(made)["closed"] == 6.0


def test_an_export_with_another_date_in_its_name_goes_on_with_the_days_of_the_last_one(tmp_path: Path) -> None:
    made = SmallShop(tmp_path / "shop")
    lineages = []
    for name in ("sales-2024-03-14.csv", "sales-2024-03-15.csv", "purchases.csv"):
        made.write(name, EVENTS)
        made.parts["events"] = f'# exported daily\nfile = "{name}"\nconstants = {{ kind = "purchase" }}\n'
        settings = Settings(home=tmp_path / "home", source=SourceSettings(dataset="files", mapping=str(made.mapping())))
        tables = ingest_in_days(settings, tmp_path / "tables", ingested_at=LAST)
        promote(tables, DayStore.of(settings), log_end=tables.log_end)
        lineages.append(DayStore.of(settings).read().lineage)
    assert lineages[0] == lineages[1] != lineages[2]


def test_over_random_days_the_partitions_hold_what_counts_and_other_tables_keep_their_bytes(tmp_path: Path) -> None:
    rng, rows, expected = np.random.default_rng(5), dict(BASE), {}
    last = 12
    for step in range(6):
        before, last = last, last + 1
        arrived: Rows = {f"r{step}-{n}": ("17", int(rng.integers(0, last + 1)), float(n)) for n in range(4)}
        rows |= arrived | {f"new{step}": ("18", last, 1.0)}
        made = folded(tmp_path, rows)
        open_from = before - 3
        expected |= {name: row[2] for name, row in rows.items() if step == 0 and name in BASE}
        expected |= {name: amount for name, (_, day, amount) in arrived.items() if day >= open_from or step == 0}
        expected[f"new{step}"] = 1.0
        assert counting(made) == dict(sorted(expected.items()))
        assert in_partitions(DayStore(tmp_path / "days")) == counting(made)
    whole = shop(tmp_path, rows).manifest["files"]
    again = folded(tmp_path, rows).manifest["files"]
    assert {name: one for name, one in whole.items() if not name.startswith(("events/", "quarantine/"))} == {
        name: one for name, one in again.items() if not name.startswith(("events/", "quarantine/"))
    }


def test_an_export_that_nobody_accepted_leaves_the_partitions_as_they_were(tmp_path: Path) -> None:
    folded(tmp_path, BASE)
    store = DayStore(tmp_path / "days")
    before, files = store.read(), sorted((store.folder / "parts").iterdir())
    # A wrong clock: all days but the newest would be closed.
    proposed(tmp_path, {"c": ("17", 12, 300.0), "wrong": ("18", 60, 1.0)})
    assert (store.read(), sorted((store.folder / "parts").iterdir())) == (before, files)
    later = BASE | {"open": ("18", 11, 5.0), "d": ("17", 13, 4.0)}
    assert counting(folded(tmp_path, later)) == {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "open": 5.0}


def test_rows_that_validation_set_aside_do_not_close_any_day(tmp_path: Path) -> None:
    made = proposed(tmp_path, BASE | {"wrong": ("18", 60, 1.0)})
    promote(made, DayStore(tmp_path / "days"), log_end=datetime(2024, 3, 14, 9, tzinfo=UTC))
    assert DayStore(tmp_path / "days").read().watermark == "2024-03-14T09:00:00+00:00"
    assert "open" in counting(folded(tmp_path, BASE | {"open": ("18", 11, 5.0)}))


def test_a_promotion_may_be_repeated_and_one_of_a_state_that_another_run_changed_does_nothing(tmp_path: Path) -> None:
    folded(tmp_path, BASE)
    store, later = DayStore(tmp_path / "days"), BASE | {"d": ("17", 13, 4.0)}
    slow = proposed(tmp_path, BASE | {"slow": ("18", 12, 9.0)})
    shutil.copytree(slow.folder, tmp_path / "slow")
    made = folded(tmp_path, later)
    after = store.read()
    for tables in (made, Tables(tmp_path / "slow")):
        promote(tables, store, log_end=tables.log_end)
        assert store.read() == after
    assert in_partitions(store) == counting(made)


def test_days_that_are_backfilled_while_a_run_is_under_way_wait_for_the_next_one(tmp_path: Path) -> None:
    folded(tmp_path, BASE)
    store, closed = DayStore(tmp_path / "days"), BASE | {"closed": ("18", 2, 6.0), "d": ("17", 13, 4.0)}
    made = proposed(tmp_path, closed)
    store.backfill(date(2024, 3, 4), date(2024, 3, 4))
    promote(made, store, log_end=made.log_end)
    assert [one.done for one in store.read().backfills] == [False]
    assert counting(folded(tmp_path, closed))["closed"] == 6.0
    assert [one.done for one in store.read().backfills] == [True]


def test_a_user_who_is_forgotten_between_ingestion_and_verdict_is_in_no_partition(tmp_path: Path) -> None:
    store, made = DayStore(tmp_path / "days"), proposed(tmp_path, BASE)
    promote(made, store, log_end=LAST, forgotten={"17"})
    assert in_partitions(store) == {"b": 2.0}


def test_a_day_of_which_a_row_waits_keeps_its_partition_from_run_to_run(tmp_path: Path) -> None:
    folded(tmp_path, BASE | {"gone": ("17", 0, 9.0)})
    changed = BASE | {"late": ("17", 0, 7.0)}
    made = folded(tmp_path, changed)
    found = DayStore(tmp_path / "days").read()
    assert counting(made) == in_partitions(DayStore(tmp_path / "days")) == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert counting(folded(tmp_path, changed)) == counting(made)
    assert DayStore(tmp_path / "days").read().days == found.days


LATER = BASE | {"open": ("18", 10, 5.0), "closed": ("18", 2, 6.0), "d": ("17", 13, 4.0)}
POINTS = (0, 1, 2, 4, 6, 99)
"""How many writes below `days` a promotion makes before it is killed. The last one lives on."""
KILLED = """
import os, sys
from pathlib import Path
from test_days import LATER, POINTS, folded, shop
root = Path(sys.argv[1])
for point in POINTS:
    if os.fork():
        print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
        continue
    left = point
    def hook(event, arguments):
        global left
        writing = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writing or event in ("os.rename", "os.remove")) and "/days/" in str(arguments[0]):
            left -= 1
            if left < 0:
                os._exit(9)
    sys.addaudithook(hook)
    folded(root / str(point), LATER)
    os._exit(0)
"""


def test_a_run_that_is_killed_at_any_write_is_completed_by_the_next_one(tmp_path: Path) -> None:
    folded(tmp_path / "whole", BASE)
    for point in POINTS:
        shutil.copytree(tmp_path / "whole", tmp_path / str(point))
    wanted = folded(tmp_path / "whole", LATER).data_hash
    index = DayStore(tmp_path / "whole" / "days").read()
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)])
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        timeout=300,
        check=True,
        capture_output=True,
        text=True,
    )
    assert ended.stdout.split() == ["9"] * (len(POINTS) - 1) + ["0"]
    for point in POINTS:
        after, store = folded(tmp_path / str(point), LATER), DayStore(tmp_path / str(point) / "days")
        assert after.data_hash == wanted
        assert (store.read().days, store.read().held) == (index.days, index.held)
        assert {path.name for path in (store.folder / "parts").iterdir()} == {one.file for one in index.days.values()}


def test_a_second_run_says_that_it_waits_and_goes_on_when_the_first_one_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = proposed(tmp_path, BASE)
    store = DayStore(tmp_path / "days")
    second = Thread(target=promote, args=(made, store), kwargs={"log_end": made.log_end})
    with store.turn():
        second.start()
        second.join(timeout=0.3)
        assert second.is_alive()
        assert store.read() == DayIndex()
    second.join(timeout=30)
    assert len(store.read().days) == len(BASE)
    assert "this one waits for its end" in caplog.text


def test_a_run_that_meets_a_changed_index_where_locks_do_not_work_refuses(tmp_path: Path) -> None:
    folded(tmp_path, BASE)
    store = DayStore(tmp_path / "days")
    with store.turn() as before:
        DayIndex(lineage="another run").save(store.folder)
        with pytest.raises(SettingsError, match="another run"):
            store.commit(before, before)


def test_a_damaged_partition_is_made_again_and_a_damaged_index_is_an_error_that_names_it(tmp_path: Path) -> None:
    folded(tmp_path, BASE)
    store = DayStore(tmp_path / "days")
    store.path(store.read().days["2024-03-02"]).write_bytes(b"damaged")
    assert counting(folded(tmp_path, BASE | {"closed": ("18", 1, 6.0)})) == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert in_partitions(store) == {"a": 1.0, "b": 2.0, "c": 3.0}
    index = store.folder / MANIFEST
    index.write_text(index.read_text().replace('"2024-03-03"', '"2024-03-04"'))
    with pytest.raises(CorruptFileError, match=str(index)):
        store.read()


def test_the_verb_names_the_option_of_a_day_that_is_none(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with pytest.raises(SettingsError, match="--from 2017-5"):
        backfill_and_refresh(settings, first="2017-5", last="2017-05-02")
    with pytest.raises(SettingsError, match="2017-05-03"):
        backfill_and_refresh(settings, first="2017-05-03", last="2017-05-02")


def test_a_backfill_makes_the_next_run_read_the_source_again_and_late_days_are_shown(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    store = DayStore.of(settings)
    assert days_identity(settings, "source") == "source"
    for rows in (BASE, BASE | {"closed": ("18", 2, 6.0)}):
        promote(fold_in(shop(tmp_path, rows), store, lineage="one", late_days=3), store, log_end=LAST)
    shown = io.StringIO()
    show_late(Console(file=shown), settings)
    assert "1 event of 2024-03-04 " in shown.getvalue()
    assert "recommender backfill --from 2024-03-04 --to 2024-03-04" in shown.getvalue()
    store.backfill(date(2024, 3, 4), date(2024, 3, 4))
    asked = days_identity(settings, "source")
    assert asked != "source"
    made = fold_in(shop(tmp_path, BASE | {"closed": ("18", 2, 6.0)}), store, lineage="one", late_days=3)
    promote(made, store, log_end=LAST)
    assert days_identity(settings, "source") == asked, "a step that was cached before the backfill must not come back"
    assert counting(Tables(tmp_path / "tables"))["closed"] == 6.0


def test_the_command_that_accepts_late_days_names_the_data_of_its_home(tmp_path: Path) -> None:
    mapping = SmallShop(tmp_path / "a shop").mapping()
    settings = settings_of(None, mapping)
    settings = settings.updated(home=tmp_path / "own" / Home.of(settings).root.name)
    assert command(settings, "backfill") == f"recommender backfill --data '{mapping}'"
    elsewhere = settings.updated(home=tmp_path / "home")
    assert command(elsewhere, "backfill") == "recommender backfill", "the settings file names the mapping"


def test_a_moment_says_which_file_option_or_variable_set_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "shop.toml"
    file.write_text("[time]\nas_of = 2017-12-30\n", encoding="utf-8")
    assert as_of_from(settings_of(file), file, None) == f"time.as_of of {file}"
    assert as_of_from(settings_of(file, as_of="2018-01-01"), file, "2018-01-01") == "--as-of"
    assert as_of_from(Settings(home=tmp_path), None, None).startswith("the newest event")
    monkeypatch.setenv("RECOMMENDER__TIME__AS_OF", "2017-12-29")
    assert as_of_from(settings_of(file), file, None).endswith("RECOMMENDER__TIME__AS_OF")


def test_where_everything_counts_no_day_is_kept_and_none_is_shown_as_late(tmp_path: Path) -> None:
    source = SourceSettings(dataset="files", mapping=str(SmallShop(tmp_path / "shop").mapping()))
    settings = Settings(home=tmp_path / "home", source=source)
    store, zero = DayStore.of(settings), settings.updated(features={"late_days": 0})
    for rows in (BASE, BASE | {"closed": ("18", 2, 6.0)}):
        promote(fold_in(shop(tmp_path, rows), store, lineage="one", late_days=3), store, log_end=LAST)
    shown = io.StringIO()
    show_late(Console(file=shown), zero)
    assert shown.getvalue() == ""
    store.backfill(date(2024, 3, 9), date(2024, 3, 9))
    asked = days_identity(settings, "source")
    made = ingest_in_days(zero, tmp_path / "counting", ingested_at=datetime(2024, 4, 1, tzinfo=UTC))
    assert made.manifest["rows"]["events"] == 3
    assert store.read().days, "a run that nobody has judged clears nothing"
    promote(made, store, log_end=made.log_end)
    assert (store.read().days, store.read().held, list((store.folder / "parts").iterdir())) == ({}, {}, [])
    assert days_identity(settings, "source") == asked
