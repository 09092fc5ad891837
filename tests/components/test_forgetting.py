"""`recommender forget` on a home as runs leave it: nothing is left, a kill harms nothing, and nobody comes back."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal

from benchmarks.features.forgotten_home import PIPELINE, RUN, fill, lettered
from cli.forget import ids_of
from feature_repo import materialise
from recommender.days import DayStore
from recommender.decision_tables import records_of
from recommender.errors import HomeInUse, SettingsError
from recommender.event_tables.segments import lines_of_segments, parsed, segments_of
from recommender.events.log import folders_of
from recommender.privacy.files import OFFLINE_VARIABLE
from recommender.privacy.forgetting import forget, look_for
from recommender.privacy.places import users_of
from recommender.privacy.scanner import Scanner
from recommender.settings import ServingSettings, Settings
from recommender.storage.forgotten import Forgotten
from recommender.storage.home import Home
from recommender.storage.ids import IdsFile
from recommender.storage.in_use import in_use
from recommender.storage.manifest import read_manifest, write_manifest, write_text
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
    assert forgotten(settings, users[:1]) == 0
    assert left(settings, users[:1]) == []


def test_a_user_whom_nobody_knows_costs_nobody_a_training_set(settings: Settings) -> None:
    assert forgotten(settings, [lettered(10**6)]) == 0
    assert Home.of(settings).published.training_set.is_dir()


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
