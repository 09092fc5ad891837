"""A clean takes what is old and not needed, says what it keeps and why, and a killed one can be run again."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from feature_shop import AS_OF, Shop
from test_registry import candidate

from components.check_settings.parameters import base_settings
from feature_repo.materialisation import install_catalogue
from recommender.decision_tables import compact, read_decisions, read_exposures
from recommender.decisions.log import DecisionLog
from recommender.errors import RegistryError, SettingsError
from recommender.features import build
from recommender.matching.catalogue import Catalogue
from recommender.privacy import KINDS, Kept, Leftover, find, limits_of, remove
from recommender.registry import Registry
from recommender.settings import RetentionSettings, Settings
from recommender.storage.home import Home, ServingState, source_name
from recommender.storage.in_use import in_use
from recommender.storage.manifest import MANIFEST, read_manifest

NOW = datetime.now(UTC)
LIMITS = dict.fromkeys(KINDS, timedelta(days=30))
OLD = timedelta(days=40)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def age(path: Path, by: timedelta = OLD) -> None:
    """Give a file, or a folder and all in it, the times of long ago."""
    moment = (NOW - by).timestamp()
    for one in [*path.rglob("*"), path]:
        os.utime(one, (moment, moment), follow_symlinks=False)


def found(settings: Settings, now: datetime = NOW) -> tuple[list[tuple[str, str]], dict[str, str]]:
    leftovers, kept = find(settings, LIMITS, now)
    return [(one.kind, one.name) for one in leftovers], {one.name: one.reason for one in kept}


def a_run(home: Home, name: str, *, by: timedelta) -> None:
    for folder in (home.run(name).root, home.run_artifacts(name) / "campaign-training" / "ingest"):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * 1000)
        age(folder.parent if folder.parent.name == "campaign-training" else folder, by)
    age(home.run_artifacts(name), by)


def a_fit(home: Home, name: str, *, by: timedelta = OLD) -> Path:
    folder = home.checkpoint(name)
    (folder / "bundle").mkdir(parents=True)
    (folder / "bundle" / "weights").write_bytes(b"x" * 1000)
    age(folder, by)
    return folder


def test_without_a_time_everything_is_kept_and_a_time_is_at_least_a_day() -> None:
    assert limits_of(RetentionSettings()) == {}
    assert limits_of(RetentionSettings(runs=30, decisions=400)) == {
        "runs": timedelta(days=30),
        "decisions": timedelta(days=400),
    }
    with pytest.raises(SettingsError, match=r"retention\.runs"):
        Settings().updated(retention={"runs": 0})


def test_another_retention_time_runs_no_step_again() -> None:
    changed = Settings().updated(retention={"runs": 30})
    assert base_settings(changed) == base_settings(Settings())


def test_old_runs_go_except_the_newest_and_those_that_published(settings: Settings) -> None:
    home = Home.of(settings)
    for place, name in enumerate(["a", "b", "c", "d"]):
        a_run(home, name, by=OLD - timedelta(days=place))
    origin = home.published.origin(home.published.verdict)
    origin.parent.mkdir(parents=True)
    origin.write_text(json.dumps({"run": "b", "data_hash": "", "content": ""}))
    leftovers, kept = find(settings, LIMITS, NOW)
    assert [one.name for one in leftovers] == ["a", "c"]
    assert {one.name for one in kept} == {"b", "d"}
    assert set(leftovers[0].paths) == {home.run("a").root, home.run_artifacts("a")}
    assert leftovers[0].num_bytes >= 2000
    assert abs(leftovers[0].changed - (NOW - OLD)) < timedelta(seconds=1)
    removed = remove(settings, leftovers, LIMITS, NOW)
    assert [one.name for one in removed.removed] == ["a", "c"]
    assert {path.name for path in home.runs.iterdir()} == {path.name for path in home.pipeline_artifacts.iterdir()}
    assert {path.name for path in home.runs.iterdir()} == {"b", "d"}


def test_one_new_file_keeps_a_whole_folder(settings: Settings) -> None:
    folder = a_fit(Home.of(settings), "transformer-1")
    assert found(settings)[0] == [("checkpoints", "transformer-1")]
    (folder / "bundle" / "progress").touch()
    assert found(settings)[0] == []


@pytest.fixture
def versions(settings: Settings, tmp_path: Path) -> list[str]:
    registry = Registry(settings.home)
    added = [registry.add(candidate(tmp_path / name, data_hash=name)) for name in "abcdefg"]
    age(registry.versions_folder)
    return added


def test_versions_that_serve_or_may_come_back_are_never_removed(settings: Settings, versions: list[str]) -> None:
    registry = Registry(settings.home)
    earliest, previous, champion, canary, answering, *rest = versions
    for version in (earliest, previous, champion):
        registry.promote(version)
    registry.start_canary(canary, 0.1)
    deployed = ServingState.of(settings).deployed
    deployed.parent.mkdir(parents=True)
    deployed.write_text(json.dumps({"champion": answering, "canary": None}))
    leftovers, kept = find(settings, LIMITS, NOW)
    assert {one.name for one in leftovers} == set(rest)
    assert {one.name for one in kept} == {earliest, previous, champion, canary, answering}
    remove(settings, leftovers, LIMITS, NOW)
    assert set(registry.versions()) == {earliest, previous, champion, canary, answering}
    assert {event["version"] for event in registry.history() if event["what"] == "removed"} == set(rest)
    assert {path.name for path in registry.versions_folder.iterdir()} == set(registry.versions())
    registry.rollback()
    registry.rollback()
    assert registry.champion() == previous
    with pytest.raises(RegistryError, match=previous):
        registry.remove(previous, settings.home / "elsewhere", unchanged_since=NOW)


def test_a_version_promoted_after_the_list_was_shown_stays(settings: Settings, versions: list[str]) -> None:
    leftovers, _ = find(settings, LIMITS, NOW)
    Registry(settings.home).promote(versions[0])
    removed = remove(settings, leftovers, LIMITS, NOW)
    assert Registry(settings.home).versions() == (versions[0],)
    assert [one.name for one in removed.kept] == [versions[0]]


def test_a_version_added_again_is_not_old(settings: Settings, versions: list[str], tmp_path: Path) -> None:
    Registry(settings.home).add(candidate(tmp_path / "again", data_hash="a"))
    assert versions[0] not in [name for _, name in found(settings)[0]]
    assert ("versions", versions[1]) in found(settings)[0]
    with pytest.raises(RegistryError, match=versions[0]):
        Registry(settings.home).remove(versions[0], settings.home / "elsewhere", unchanged_since=NOW - OLD)


@pytest.fixture(scope="module")
def catalogues(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two catalogues of one shop, the second a month later."""
    folder = tmp_path_factory.mktemp("shop")
    tables = Shop.generate(folder / "world").write(folder / "tables")
    moments = [AS_OF - timedelta(days=30), AS_OF]
    return [build(tables, folder / f"{place}", as_of=moment) / "catalogue" for place, moment in enumerate(moments)]


def installed(settings: Settings, catalogue: Path) -> str:
    content_hash = str(read_manifest(catalogue)["content_hash"])
    install_catalogue(catalogue, Home.of(settings), content_hash)
    return content_hash[:16]


def test_the_catalogue_in_use_stays_and_the_one_before_it_counts_from_its_replacement(
    settings: Settings, catalogues: list[Path]
) -> None:
    home = Home.of(settings)
    replaced, current = (installed(settings, catalogue) for catalogue in catalogues)
    age(home.catalogue_versions)
    assert found(settings) == ([], {})  # replaced a moment ago, so a reader may have it open
    age(home.catalogue)
    assert found(settings) == ([("catalogues", replaced)], {current: "in use"})
    remove(settings, find(settings, LIMITS, NOW)[0], LIMITS, NOW)
    assert [path.name for path in home.catalogue_versions.iterdir()] == [current]
    assert Catalogue.load(home.catalogue).version


def decisions(settings: Settings, *days_ago: int) -> list[str]:
    """Decisions of some days, each with an exposure. Returns their request ids."""
    folder, ids = Home.of(settings).decisions, []
    for days in days_ago:
        moment = NOW - timedelta(days=days)
        with DecisionLog(folder, clock=lambda moment=moment: moment) as log:  # type: ignore[misc]
            ids.append(log.record({"user_id": "顾客一", "campaigns": []}))
            log.expose(ids[-1])
        for path in folder.glob(f"*{moment:%Y%m%d}-*"):
            os.utime(path, (moment.timestamp(), moment.timestamp()))
    return ids


def logged(settings: Settings) -> set[str]:
    ids = {str(record["request_id"]) for record in read_decisions(settings)}
    assert {str(record["request_id"]) for record in read_exposures(settings)} == ids
    return ids


def test_decisions_go_by_their_day_together_with_their_exposures(settings: Settings) -> None:
    old, recent, today = decisions(settings, 45, 20, 0)
    remove(settings, find(settings, LIMITS, NOW)[0], LIMITS, NOW)
    assert logged(settings) == {recent, today}
    assert old not in logged(settings)


def test_compacted_decisions_go_by_their_day_however_late_they_were_compacted(settings: Settings) -> None:
    _, recent = decisions(settings, 45, 20)
    compact(settings, now=NOW)
    for path in Home.of(settings).decisions.glob("*.jsonl"):
        path.unlink()
    leftovers = find(settings, LIMITS, NOW)[0]
    assert [one.name for one in leftovers] == [f"{NOW - timedelta(days=45):%Y-%m-%d}"]
    remove(settings, leftovers, LIMITS, NOW)
    assert logged(settings) == {recent}


def test_decisions_since_a_canary_began_stay_until_it_ends(settings: Settings, tmp_path: Path) -> None:
    moment = NOW - timedelta(days=60)
    registry = Registry(settings.home, clock=lambda: moment)
    champion, canary = (registry.add(candidate(tmp_path / name, data_hash=name)) for name in "ab")
    registry.promote(champion)
    registry.start_canary(canary, 0.1)
    before, during = decisions(settings, 90, 45)
    remove(settings, find(settings, LIMITS, NOW)[0], LIMITS, NOW)
    assert logged(settings) == {during}
    registry.stop_canary()
    remove(settings, find(settings, LIMITS, NOW)[0], LIMITS, NOW)
    assert logged(settings) == set()
    assert before != during


def test_decisions_about_a_campaign_whose_window_is_open_stay(settings: Settings, catalogues: list[Path]) -> None:
    installed(settings, catalogues[1])
    catalogue = Catalogue.load(Home.of(settings).catalogue)
    moment = datetime.fromtimestamp(float(catalogue.campaign_starts_C.max()) / 1e6, UTC) + timedelta(days=1)
    live = catalogue.live(round(moment.timestamp() * 1e6))
    began = datetime.fromtimestamp(float(catalogue.campaign_starts_C[live].min()) / 1e6, UTC)
    folder, ids = Home.of(settings).decisions, []
    for made in (began - timedelta(days=3), began):
        with DecisionLog(folder, clock=lambda made=made: made) as log:  # type: ignore[misc]
            ids.append(log.record({"user_id": "1", "campaigns": []}))
            log.expose(ids[-1])
    for path in folder.iterdir():
        os.utime(path, (began.timestamp(), began.timestamp()))
    limits = {"decisions": timedelta(days=1)}
    leftovers, kept = find(settings, limits, moment)
    assert {one.name[:8] for one in leftovers} == {f"{began - timedelta(days=3):%Y%m%d}"}
    assert all(
        catalogue.campaign_ids[int(live[catalogue.campaign_starts_C[live].argmin()])] in one.reason for one in kept
    )
    remove(settings, leftovers, limits, moment)
    assert logged(settings) == {ids[1]}


def test_a_writer_goes_on_beside_a_clean(settings: Settings) -> None:
    decisions(settings, 45)
    with DecisionLog(Home.of(settings).decisions) as log:
        first = log.record({"user_id": "1", "campaigns": []})
        remove(settings, find(settings, LIMITS, NOW)[0], LIMITS, NOW)
        second = log.record({"user_id": "1", "campaigns": []})
    assert {r["request_id"] for r in read_decisions(settings)} == {first, second}


HOLDER = """
import sys, time
from pathlib import Path
from recommender.storage.home import Home
from recommender.storage.in_use import in_use
with in_use(Home(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the home, as a pipeline or a training does."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(settings.home)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_beside_a_running_pipeline_only_decisions_go_and_all_goes_after_it_was_killed(
    settings: Settings, holder: subprocess.Popen[str]
) -> None:
    a_fit(Home.of(settings), "logistic-1")
    decisions(settings, 45)
    removed = remove(settings, find(settings, LIMITS, NOW)[0], LIMITS, NOW)
    assert {one.kind for one in removed.removed} == {"decisions"}
    assert {(one.kind, one.name) for one in removed.kept} == {("checkpoints", "logistic-1")}
    holder.kill()
    holder.wait()
    remove(settings, find(settings, LIMITS, NOW)[0], LIMITS, NOW)
    assert list(Home.of(settings).checkpoints.iterdir()) == []


def test_two_may_use_a_home_at_once(settings: Settings, holder: subprocess.Popen[str]) -> None:
    with in_use(Home.of(settings)):
        assert holder.poll() is None, "nothing waited for the other one, which holds it for a minute"


KILLED = """
import os, shutil, signal, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from recommender.privacy import KINDS, find, remove
from recommender.settings import Settings

shutil.rmtree = lambda path, **how: os.kill(os.getpid(), signal.SIGKILL)
limits, now = dict.fromkeys(KINDS, timedelta(days=30)), datetime.now(UTC)
settings = Settings(home=Path(sys.argv[1]))
remove(settings, find(settings, limits, now)[0], limits, now)
"""


def test_a_clean_killed_before_it_deleted_leaves_nothing_half_there_and_can_be_run_again(
    settings: Settings, versions: list[str]
) -> None:
    home = Home.of(settings)
    for name in ("a", "b", "c"):
        a_run(home, name, by=OLD)
        a_fit(home, f"logistic-{name}")
    done = subprocess.run([sys.executable, "-c", KILLED, str(settings.home)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    hidden = list(home.root.rglob(".removed-*"))
    assert len(hidden) == 2 * 2 + 3 + len(versions)
    assert Registry(settings.home).versions() == ()
    assert found(settings)[0] == []
    remove(settings, [], LIMITS, NOW)
    assert list(home.root.rglob(".removed-*")) == []
    assert [path.name for path in home.runs.iterdir()] == ["c"]


def test_what_nobody_listed_is_never_removed(settings: Settings) -> None:
    a_fit(Home.of(settings), "logistic-1")
    other = Leftover("checkpoints", "logistic-2", (Home.of(settings).checkpoint("logistic-2"),), NOW - OLD, 0)
    removed = remove(settings, [other], LIMITS, NOW)
    assert removed.removed == ()
    assert removed.kept == (Kept("checkpoints", "logistic-2", "needed or used again meanwhile"),)
    assert Home.of(settings).checkpoint("logistic-1").is_dir()


def test_days_and_last_features_of_a_source_that_is_read_no_more_go_together(settings: Settings) -> None:
    home, own, other = Home.of(settings), source_name(settings), "0" * 16
    for source in (own, other):
        for folder in (home.days(source), home.last_features(source)):
            folder.mkdir(parents=True)
            (folder / MANIFEST).write_bytes(b"{}")
            age(folder)
    assert found(settings) == ([("sources", other)], {own: "the source in the settings"})
    remove(settings, find(settings, LIMITS, NOW)[0], LIMITS, NOW)
    assert [folder.name for folder in home.of_sources[0].iterdir()] == [own]
    assert [folder.name for folder in home.last_builds.iterdir()] == [own]


def test_published_results_and_validated_figures_have_no_age(settings: Settings) -> None:
    home = Home.of(settings)
    for folder in (
        home.validated("source"),
        home.published.training_set,
        home.feature_store.offline,
        home.own("x").root,
    ):
        folder.mkdir(parents=True)
        (folder / "file").touch()
        age(folder)
    assert found(settings) == ([], {})
