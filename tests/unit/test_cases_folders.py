"""The mapping, its files and the working folder may be anywhere, and a mapping is tried in seconds."""

import subprocess
import sys
from pathlib import Path

import pytest
from small_shop import SmallShop

from pipelines.preflight import check_before_run
from recommender.datasets import draft_mapping, ingest, preview_mapping
from recommender.errors import SettingsError
from recommender.evaluation.judgement import read_judgement
from recommender.settings import Settings, SourceSettings

ROOT = Path(__file__).parents[2]
RECOMMENDER = Path(sys.executable).parent / "recommender"


def recommender(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([RECOMMENDER, *words], cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture
def shop(tmp_path: Path) -> SmallShop:
    return SmallShop(tmp_path)


@pytest.mark.parametrize("place", ["data/mapping.toml", "mapping.toml", "settings/of/mapping.toml"])
def test_a_draft_finds_its_files_wherever_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    SmallShop(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    mapping = Path(place)
    mapping.parent.mkdir(parents=True, exist_ok=True)
    files = sorted(Path("data").glob("*.csv"))
    mapping.write_text(draft_mapping(files, folder=mapping.parent))
    assert "file = " in mapping.read_text()
    tables = ingest(SourceSettings(dataset="files", mapping=place), tmp_path / "tables")
    assert tables.manifest["rows"]["events"] == 3


def test_absolute_paths_of_a_draft_stay(tmp_path: Path) -> None:
    shop = SmallShop(tmp_path / "data")
    assert str(shop.folder / "events.csv") in draft_mapping([shop.folder / "events.csv"], folder=tmp_path / "else")


def test_the_packaged_rules_are_those_of_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    packaged = read_judgement()
    assert packaged == read_judgement(ROOT / "judgement.toml")
    Path("judgement.toml").write_text("[gate]\nmin_positives = 5\n")
    assert read_judgement().gate.min_positives == 5


def test_a_run_needs_no_file_of_rules_but_one_that_is_named_must_exist(
    shop: SmallShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop.folder)
    settings = Settings(source={"dataset": "files", "mapping": str(shop.mapping())})
    check_before_run(settings)
    with pytest.raises(SettingsError, match=r"rules\.toml"):
        check_before_run(settings.updated(judgement=Path("rules.toml")))


def test_a_preview_shows_rows_kinds_times_keys_and_what_is_left_out(shop: SmallShop) -> None:
    shop.write("targets.csv", "campaign_id,user_id\nspring,17.5\nspring,17\n")
    shop.parts["events"] += "where = \"user_id <> '18'\"\n"
    found = preview_mapping(shop.mapping())
    events = next(table for table in found.tables if table.name == "events")
    assert (events.rows, events.kinds) == (2, {"purchase": 2})
    assert events.left_out == {"where: user_id <> '18'": 1}
    assert str(events.times["event_time"][0]) == "2024-03-02 09:00:00+00:00"
    assert events.first[0]["item_id"] == "tin"
    known = next(fact for fact in found.facts if fact.name == "facts.targeted_users_known")
    assert (known.value, known.holds) == (0.5, True)
    assert "'17.5'" in known.cause


def test_the_verb_ingest_previews_and_writes(shop: SmallShop) -> None:
    shop.mapping()
    seen = recommender(shop.folder, "ingest", "--data", "mapping.toml", "--preview")
    assert seen.returncode == 0, seen.stderr
    for fact in ("events", "purchase 3", "2024-03-12 11:00:00", "targets.user_id", "100.0%"):
        assert fact in seen.stdout
    assert not (shop.folder / "tables").exists()
    written = recommender(shop.folder, "ingest", "--data", "mapping.toml", "--output", "tables")
    assert written.returncode == 0, written.stderr
    assert (shop.folder / "tables" / "manifest.json").is_file()


@pytest.mark.parametrize("words", [("--preview",), ("--output", "tables")])
def test_the_verb_ingest_ends_with_1_and_the_runs_sentence_where_a_run_would_stop(
    shop: SmallShop, words: tuple[str, ...]
) -> None:
    shop.write("events.csv", "user_id,event_time,item_id,kind\n17,2024-03-02 10:00:00,tin,fav\n")
    shop.parts["events"] = 'file = "events.csv"\n'
    shop.mapping()
    stopped = recommender(shop.folder, "ingest", "--data", "mapping.toml", *words)
    assert stopped.returncode == 1
    assert "'fav' (1 rows)" in stopped.stderr
    assert not (shop.folder / "tables").exists()


def test_the_verb_ingest_asks_where_to_write(shop: SmallShop) -> None:
    shop.mapping()
    assert recommender(shop.folder, "ingest", "--data", "mapping.toml").returncode == 2


def test_the_verb_validate_judges_a_mapping_and_a_folder_of_tables(shop: SmallShop) -> None:
    lines = "".join(f"{user},2024-03-{day} 10:00:00,tin,9.5,-0.6\n" for day in ("02", "12") for user in (17, 18))
    shop.write("events.csv", f"user_id,event_time,item_id,amount,discount\n{lines}")
    shop.mapping()
    stopped = recommender(shop.folder, "validate", "--data", "mapping.toml")
    assert stopped.returncode == 1
    assert "discount" in stopped.stderr
    shop.parts["events"] += "scale = { discount = -1 }\n"
    shop.read()
    passed = recommender(shop.folder, "validate", "--data", "tables", "--page", "page.html")
    assert passed.returncode == 0, passed.stderr
    assert (shop.folder / "page.html").is_file()
