"""`recommender forget` on a home as runs leave it: nothing is left, a kill harms nothing, and nobody comes back."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal

from benchmarks.features.forgotten_home import PIPELINE, RUN, fill, lettered
from cli.forget import ids_of
from feature_repo import materialise
from recommender.datasets.checks import all_checks
from recommender.datasets.contract import open_views
from recommender.datasets.statistics import Statistics, measure, read_statistics
from recommender.datasets.tables import Tables
from recommender.days import DayStore
from recommender.decision_tables import records_of
from recommender.decisions.erasing import erasing
from recommender.decisions.shipping import ship
from recommender.errors import HomeInUse, SettingsError
from recommender.event_tables.forgotten_rows import without_forgotten
from recommender.event_tables.segments import lines_of_segments, parsed, segments_of
from recommender.events.log import folders_of
from recommender.privacy.files import OFFLINE_VARIABLE
from recommender.privacy.forgetting import forget, look_for
from recommender.privacy.places import users_of
from recommender.privacy.removal import delete_folder
from recommender.privacy.scanner import Scanner
from recommender.settings import ServingSettings, Settings
from recommender.storage.forgotten import Forgotten, ForgottenFollower
from recommender.storage.forgotten import forget as keep_out
from recommender.storage.home import Home, source_name
from recommender.storage.ids import IdsFile
from recommender.storage.in_use import in_use
from recommender.storage.manifest import read_manifest, whole_folder, write_manifest, write_text
from recommender.storage.scratch import scratch_folder
from serving.event_tails.append import Append
from serving.event_tails.tails import open_tails
from serving.online_store.client import OnlineStoreClient
from serving.online_store.erasure import erasure_of

COMMAND = Path(sys.executable).with_name("recommender")
PATIENT = ServingSettings(store_deadline_ms=60_000)
# Ends its process, as a kill does, at the n-th file that is renamed.
KILLED = """
import os, sys
from pathlib import Path
from recommender.privacy.forgetting import forget
from recommender.settings import Settings
from serving.online_store.erasure import erasure_of

renamed = 0

def count(event, arguments):
    global renamed
    if event == "os.rename":
        renamed += 1
        if renamed == int(sys.argv[2]):
            os._exit(9)

settings = Settings(home=Path(sys.argv[1]))
sys.addaudithook(count)
forget(settings, sys.argv[3:], erasure_of(settings))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("made")
    return folder, fill(Settings(home=folder / "home", serving=PATIENT), folder, num_users=40)


@pytest.fixture
def settings(made: tuple[Path, list[str]], tmp_path: Path) -> Settings:
    """Of a home of the test's own, with the shop's users."""
    shutil.copytree(made[0] / "home", tmp_path / "home", symlinks=True)
    return Settings(home=tmp_path / "home", serving=PATIENT)


@pytest.fixture(autouse=True)
def no_gateway_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No gateway runs here, so nobody has to notice the list."""
    monkeypatch.setattr("recommender.privacy.forgetting.FOLLOWED_S", 0.05)


@pytest.fixture
def users(made: tuple[Path, list[str]]) -> list[str]:
    return made[1]


def forgotten(settings: Settings, users: Sequence[str]) -> int:
    return forget(settings, users, erasure_of(settings)).left


def left(settings: Settings, users: Sequence[str]) -> list[str]:
    return [str(seen.path) for seen in Scanner(users).scan(settings.home)]


def test_every_place_is_found_first_and_empty_afterwards(settings: Settings, users: list[str]) -> None:
    gone = users[:3]
    seen = {line.place: line.found for line in look_for(settings, gone, erasure_of(settings)).lines}
    assert all(seen.values()), seen
    assert left(settings, gone)
    report = forget(settings, gone, erasure_of(settings))
    assert {line.place for line in report.lines if line.found} == set(seen)
    assert report.left == 0
    assert left(settings, gone) == []
    assert all(user in Forgotten.of(Home.of(settings)) for user in gone)
    again = forget(settings, gone, erasure_of(settings))
    assert (again.left, [line for line in again.lines if line.found]) == (0, [])


def test_the_others_stay_as_they_were(settings: Settings, users: list[str]) -> None:
    home, stays, events_before = Home.of(settings), users[3], len(segments_of(Home.of(settings).events))
    offline = pq.read_table(home.feature_store.users)
    row = pq.read_table(home.feature_store.packed_users, filters=[("user_id", "=", stays)])
    decided = len(records_of(settings, stays))
    assert decided == 2
    assert forgotten(settings, users[:3]) == 0
    manifest = read_manifest(home.feature_store.offline, verify=True)
    assert manifest["features_hash"]
    others = offline.filter([user not in users[:3] for user in offline["user_id"].to_pylist()])
    assert_frame_equal(pq.read_table(home.feature_store.users).to_pandas(), others.to_pandas())
    assert pq.read_table(home.feature_store.packed_users, filters=[("user_id", "=", stays)]).equals(row)
    assert len(records_of(settings, stays)) == decided
    assert records_of(settings, users[0]) == []
    segments = segments_of(home.events)
    assert len(segments) == events_before
    taken = [event for _, line in lines_of_segments(segments) if (event := parsed(line))]
    assert {event["user_id"] for event in taken} == set(users[3:])
    store = OnlineStoreClient.open(settings)
    assert store.read(users[0]) is None
    found = store.read(stays)
    assert found is not None
    assert found.tail
    store.close()


def test_tables_training_sets_and_remembered_steps_of_runs_go(settings: Settings, users: list[str]) -> None:
    home = Home.of(settings)
    run = home.run_artifacts(RUN) / PIPELINE
    assert (run / "build-training-set" / "training_set").is_dir()
    assert forgotten(settings, users[:1]) == 0
    assert not list(run.rglob("*.parquet"))
    assert not list(run.rglob("*.safetensors"))
    assert not home.published.training_set.exists()
    assert not list(home.checkpoints.glob("groundwork-*"))
    assert not home.published.origin(home.published.training_set).exists()
    assert list(home.pipeline_cache.glob("*.json")) == []
    page = home.published.validation_page.read_text()
    assert users[0] not in page
    assert users[1] in page


def test_the_partitions_of_days_are_whole_and_know_the_others(settings: Settings, users: list[str]) -> None:
    store = DayStore.of(settings)
    before = store.read()
    assert before.days
    assert forgotten(settings, users[:1]) == 0
    after = store.read()
    assert (after.version, list(after.days)) == (before.version, list(before.days))
    assert all(store.sound(one) for one in after.days.values())
    assert {user for one in after.days.values() for user in users_of(store.path(one))} == set(users[1:])


def test_words_that_the_last_build_kept_go_with_its_rows(settings: Settings, users: list[str]) -> None:
    theirs, others = (Home.of(settings).last_features(number * 16) for number in "01")
    for folder, user in ((theirs, users[0]), (others, users[1])):
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"user_id": [user]}), folder / "users.parquet")
        pq.write_table(pa.table({"text": [f"words of {user}"]}), folder / "texts.parquet")
    shoppers = Home.of(settings).last_features("2" * 16)  # a user who is known of purchases alone
    (shoppers / "lines").mkdir(parents=True)
    lines = pa.table({"user_id": pa.array([users[0]]).dictionary_encode(), "cents": [100]})
    pq.write_table(lines, shoppers / "lines" / "0.parquet", compression="lz4")
    assert forgotten(settings, users[:1]) == 0
    assert not theirs.exists()
    assert not shoppers.exists()
    assert (others / "texts.parquet").is_file()


def test_the_ids_of_events_that_nobody_has_shipped_yet_are_remembered_no_more(
    settings: Settings, users: list[str]
) -> None:
    own, _ = folders_of(settings)
    event = {"event_id": f"late {users[0]}", "user_id": users[0], "kind": "follow"}
    segment = own / "20260105-0123456789ab-0.jsonl"
    segment.write_bytes(orjson.dumps(event) + b"\n")
    os.utime(segment, (1, 1))

    async def append() -> list[bool]:
        tails = open_tails(settings)
        try:
            return await tails.append([Append(users[0], event["event_id"], b"{}\n", orjson.dumps(event))], 20.0)
        finally:
            tails.close()

    assert asyncio.run(append()) == [True]
    home = Home.of(settings)
    with in_use(home), pytest.raises(HomeInUse):
        forget(settings, users[:1], erasure_of(settings))
    # A gateway ships meanwhile, without the user's lines, so the log knows the id no more.
    ship(own, home.events, lambda _: None, erasing(ForgottenFollower(home)))
    assert not segment.exists()
    assert forgotten(settings, users[:1]) == 0
    assert left(settings, users[:1]) == []
    assert not home.forgetting.exists()


def test_a_user_whom_nobody_knows_is_named_and_costs_nobody_a_training_set(settings: Settings) -> None:
    unknown = lettered(10**6)
    report = forget(settings, [unknown], erasure_of(settings), now=datetime(2026, 1, 5, tzinfo=UTC))
    assert (report.left, report.nowhere) == (0, {unknown: None})
    assert Home.of(settings).published.training_set.is_dir()
    again = look_for(settings, [unknown], erasure_of(settings))
    assert again.nowhere == {unknown: "2026-01-05T00:00:00+00:00"}


def test_a_short_id_goes_from_files_that_say_whose_it_is(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    record = home.validation_record("0123456789abcdef")
    write_text(record / "verdicts" / "last.json", '{"rows": [{"user_id": "17", "kind": "view"}, {"user_id": "170"}]}')
    write_text(record / "quarantine.json", '["event_id 17, user_id 17: no time", "user_id 170, _row 17: no time"]')
    write_text(home.runs / "gateway.log", '{"event": "x", "user_id": "17", "items": 17}\n')
    report = forget(Settings(home=home.root), ["17"], erasure_of(Settings(home=home.root)))
    assert (report.left, dict(report.nowhere)) == (0, {})
    last = json.loads((record / "verdicts" / "last.json").read_text())
    assert last["rows"] == [{"user_id": "xx", "kind": "view"}, {"user_id": "170"}]
    kept = ["event_id 17, user_id xx: no time", "user_id 170, _row 17: no time"]
    assert json.loads((record / "quarantine.json").read_text()) == kept
    assert json.loads((home.runs / "gateway.log").read_text()) == {"event": "x", "user_id": "xx", "items": 17}


def test_what_killed_writers_left_goes_and_what_a_living_one_writes_stays(
    settings: Settings, users: list[str], tmp_path: Path
) -> None:
    settings = settings.updated(resources={"scratch": str(tmp_path)})
    home, rows = Home.of(settings), pa.table({"user_id": users[:2]})
    store = home.feature_store.root / ".offline.fedc3210"
    build = home.last_builds / ".0123456789abcdef.0123abcd"
    dead = tmp_path / "recommender.features.abcd1234"
    for folder in (store, build, dead):
        folder.mkdir(parents=True)
        pq.write_table(rows, folder / "users.parquet")
    (store / "cut.parquet").write_bytes((store / "users.parquet").read_bytes()[:-8])
    segment = home.events / ".20260105-0123456789ab-0.jsonl.0123abcd"
    segment.write_bytes(orjson.dumps({"event_id": "x", "user_id": users[0], "kind": "follow"}) + b"\n")
    for path in (store, build, dead, segment):
        os.utime(path, (1, 1))
    with scratch_folder("features", tmp_path) as living, in_use_by_a_writer(home.days("x")) as writing:
        os.utime(living, (1, 1))
        report = forget(settings, users[:1], erasure_of(settings))
        assert report.left == 0
        (found,) = (line.found for line in report.lines if line.place == "half-written files")
        assert {trace.where for trace in found} >= {
            str(path.relative_to(home.root)) for path in (store, build, segment)
        }
        assert living.is_dir()
        assert writing.is_dir()
    assert [path for path in (store, build, dead, segment) if path.exists()] == []


@contextmanager
def in_use_by_a_writer(target: Path) -> Iterator[Path]:
    """A folder that a living process is writing for over a second."""
    with whole_folder(target) as draft:
        (draft / "rows.txt").write_text("nobody's")
        os.utime(draft, (1, 1))
        yield draft


def counted_without(settings: Settings, users: Sequence[str], folder: Path) -> Statistics:
    """The statistics of the run's tables, as the next run reads them once these users are gone."""
    shutil.copytree(Home.of(settings).run_artifacts(RUN) / PIPELINE / "ingest" / "tables", folder / "tables")
    keep_out(Home(folder), users, datetime.now(UTC))
    made = without_forgotten(Tables(folder / "tables"), Home(folder))
    with open_views(made) as connection:
        return measure(connection, made, made.log_end)


def most_events(settings: Settings, users: list[str]) -> list[str]:
    """The users, those with the most events first."""
    days = DayStore.of(settings)
    rows = pa.concat_tables([pq.read_table(days.path(one), columns=["user_id"]) for one in days.read().days.values()])
    return sorted(users, key=rows["user_id"].to_pylist().count, reverse=True)


def test_what_was_forgotten_is_no_accident_for_the_next_run_and_other_losses_are(
    settings: Settings, users: list[str], tmp_path: Path
) -> None:
    folder, (heavy, other, *_) = Home.of(settings).validated(source_name(settings)), most_events(settings, users)
    now = counted_without(settings, [heavy], tmp_path / "one")
    fewer = counted_without(settings, [heavy, other], tmp_path / "two")

    def days_lost(now: Statistics) -> float:
        checks = {check.name: check for check in all_checks(now, read_statistics(folder))}
        return checks["events.events.past_days"].value

    assert days_lost(now) > 1
    assert forgotten(settings, [heavy]) == 0
    assert days_lost(now) == 0
    assert days_lost(fewer) > 1
    assert read_manifest(folder, verify=True)["figures"]["events"]["rows"] == now.rows["events"]


def test_where_the_tables_are_elsewhere_a_visible_loss_ends_the_comparison_and_a_small_one_does_not(
    settings: Settings, users: list[str]
) -> None:
    home = Home.of(settings)
    shutil.rmtree(home.run_artifacts(RUN))
    folder, (heavy, *_) = home.validated(source_name(settings)), most_events(settings, users)
    nothing = lettered(10**6)
    assert forgotten(settings, [nothing]) == 0
    assert folder.is_dir()
    report = forget(settings, [heavy], erasure_of(settings))
    assert report.left == 0
    assert not folder.exists()
    assert any("compares with none" in note for note in report.notes)


def test_a_forget_waits_for_the_end_of_what_uses_the_home(settings: Settings, users: list[str]) -> None:
    home, began = Home.of(settings), threading.Event()

    def run() -> None:
        with in_use(home):
            began.set()
            time.sleep(0.5)

    running = threading.Thread(target=run)
    running.start()
    assert began.wait(20)
    assert forget(settings, users[:1], erasure_of(settings), wait_s=60).left == 0
    running.join()
    assert left(settings, users[:1]) == []


def test_a_clean_and_a_forget_may_delete_one_folder_at_once(tmp_path: Path) -> None:
    for place in range(20):
        for number in range(20):
            (tmp_path / "gone" / str(place) / str(number)).mkdir(parents=True)
            (tmp_path / "gone" / str(place) / str(number) / "file").touch()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(delete_folder, [tmp_path / "gone"] * 4))
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("point", [2, 9])
def test_a_killed_forget_is_completed_by_the_next(settings: Settings, users: list[str], point: int) -> None:
    gone = users[:2]
    command = [sys.executable, "-c", KILLED, str(settings.home), str(point), *gone]
    killed = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert killed.returncode == 9, killed.stderr
    assert left(settings, gone)
    assert forgotten(settings, gone) == 0
    assert left(settings, gone) == []
    read_manifest(Home.of(settings).feature_store.offline, verify=True)
    assert len(records_of(settings, users[2])) == 2


def test_a_user_whose_id_another_one_holds_goes_and_the_other_stays(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    home = Home.of(settings)
    home.feature_store.offline.mkdir(parents=True)
    pq.write_table(pa.table({"user_id": ["customer-1", "customer-10"]}), home.feature_store.packed_users)
    write_manifest(home.feature_store.offline)
    write_text(home.published.validation_page, "<p>customer-10, customer-1, customer-10</p>")
    assert forgotten(settings, ["customer-1"]) == 0
    assert users_of(home.feature_store.packed_users) == {"customer-10"}
    assert home.published.validation_page.read_text() == "<p>customer-10, xxxxxxxxxx, customer-10</p>"


def test_the_numbers_of_items_stay_whole_where_an_item_is_called_like_the_user(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    kept = IdsFile.of(settings)
    before = kept.add({"item": ["QWERTZUIOP", "tin"]})
    report = forget(settings, ["QWERTZUIOP"], erasure_of(settings))
    assert report.left
    assert any(kept.path.name in note for note in report.notes)
    assert kept.read().versions == before.versions


def test_while_a_run_uses_the_home_nothing_goes_but_the_user_is_kept_out(settings: Settings, users: list[str]) -> None:
    home = Home.of(settings)
    with in_use(home), pytest.raises(HomeInUse, match="again"):
        forget(settings, users[:1], erasure_of(settings))
    assert users[0] in Forgotten.of(home)
    assert left(settings, users[:1])


def test_features_that_were_built_before_bring_nobody_back(
    settings: Settings, users: list[str], made: tuple[Path, list[str]]
) -> None:
    features = made[0] / "home" / "kfp" / RUN / PIPELINE / "build-features" / "features"
    assert forgotten(settings, users[:1]) == 0
    materialise(features, settings)
    assert left(settings, users[:1]) == []
    assert left(settings, users[1:2])


def test_the_copy_of_the_offline_store_loses_them_too(
    settings: Settings, users: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(Home.of(settings).feature_store.offline, copy)
    monkeypatch.setenv(OFFLINE_VARIABLE, copy.as_uri())
    assert forgotten(settings, users[:1]) == 0
    assert list(Scanner(users[:1]).scan(copy)) == []
    assert len(set(pq.read_table(copy / "users.parquet")["user_id"].to_pylist())) == len(users) - 1


def recommender(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RECOMMENDER__HOME": str(settings.home), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [str(COMMAND), "forget", *arguments],
        env=environment,
        cwd=settings.home.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_command_shows_what_is_held_and_what_is_left(settings: Settings, users: list[str]) -> None:
    (settings.home.parent / "gone.txt").write_text(f"{users[0]}\n{users[1]}\n")
    dry = recommender(settings, "--file", "gone.txt", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "decisions/days" in dry.stdout
    unknown = recommender(settings, lettered(10**6), "--dry-run")
    assert f"{lettered(10**6)}: nothing was found" in unknown.stdout
    assert left(settings, users[:1])
    held = settings.home / "registry" / "versions" / "v1" / "vocabulary.json"
    held.parent.mkdir(parents=True)
    held.write_text(f'{{"users": ["{users[0]}"]}}')
    done = recommender(settings, "--file", "gone.txt", "--yes")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "registry/versions/v1/vocabulary.json" in done.stdout
    assert left(settings, users[:2]) == [str(held)]
    assert recommender(settings, users[0], "--allow").returncode == 0
    assert users[0] not in Forgotten.of(Home.of(settings))
    assert users[1] in Forgotten.of(Home.of(settings))


def test_an_id_that_is_none_and_no_id_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="user_id"):
        ids_of([], None)
    with pytest.raises(SettingsError, match="zero byte"):
        ids_of(["a\0b"], None)
    with pytest.raises(SettingsError, match="missing"):
        ids_of([], tmp_path / "missing.txt")
    (tmp_path / "ids.txt").write_text("\ufeffb\r\n\na b\nb\u2028c\nb\n")
    assert ids_of(["a b"], tmp_path / "ids.txt") == ["a b", "b", "b\u2028c"]
