"""Home alone says where things lie, and what a run publishes is whole and names its run."""

import re
from pathlib import Path

import pytest
import yaml

from feature_repo.environment import ENVIRONMENTS, store_config
from recommender.errors import CorruptFileError, RegistryError
from recommender.report.last_run import LastRun
from recommender.settings import ServingSettings, Settings
from recommender.storage.home import Home, ServingState
from recommender.storage.manifest import write_manifest
from recommender.storage.published import origin_of, publish, published_training_set

ROOT = Path(__file__).parents[2]
SPELLED = re.compile(r"""\b(?:home(?:\.root)?|serving_state|store_home\(\w*\))\)? / f?["']""")


def test_no_other_module_spells_a_path_below_home() -> None:
    packages = ("benchmarks", "cli", "components", "feature_repo", "pipelines", "recommender", "serving")
    spelling = [
        f"{path.relative_to(ROOT)}:{number}"
        for package in packages
        for path in sorted((ROOT / package).rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if SPELLED.search(line) and path != ROOT / "recommender" / "storage" / "home.py"
    ]
    assert spelling == []


def test_serving_keeps_its_state_below_home_unless_told_otherwise() -> None:
    assert ServingState.of(Settings(home=Path("shop"))).root == Path("shop/serving")
    elsewhere = Settings(home=Path("shop"), serving=ServingSettings(state=Path("/run/state")))
    assert ServingState.of(elsewhere).root == Path("/run/state")


def test_feast_s_local_environment_names_the_places_that_home_names(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    folder, config = Home.of(settings).feature_store, store_config(settings)
    assert (config["registry"]["path"], config["online_store"]["path"]) == (
        str(folder.feast_registry),
        str(folder.online_database),
    )
    # `feast apply` reads the file without us, so its block of the online store must name the same store.
    written = yaml.safe_load((ENVIRONMENTS / "local" / "feature_store.yaml").read_text(encoding="utf-8"))[
        "online_store"
    ]
    path = written["path"].replace("${FEATURE_STORE_HOME}", str(folder.root))
    assert {**written, "path": path} == config["online_store"]


def training_set(folder: Path, content: str) -> Path:
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "pairs.parquet").write_text(content)
    write_manifest(folder, data_hash=content)
    return folder


def test_the_last_run_s_training_set_and_page_lie_under_their_names_with_their_origin(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    names = home.published
    for run in ("one", "two"):
        made = training_set(tmp_path / run, run)
        page = tmp_path / f"{run}.html"
        page.write_text(run)
        publish(home, run=run, data_hash=f"data-{run}", training_set=made, validation_page=page)
        assert (published_training_set(home) / "inner" / "pairs.parquet").read_text() == run
        assert names.validation_page.read_text() == run
        for name in (names.training_set, names.validation_page):
            origin = origin_of(names, name)
            assert origin is not None
            assert (origin.run, origin.data_hash) == (run, f"data-{run}")


def test_publishing_what_is_published_already_names_the_new_run(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    names = home.published
    made = training_set(tmp_path / "made", "same")
    publish(home, run="one", data_hash="data", training_set=made)
    before = names.training_set.stat().st_ino
    publish(home, run="two", data_hash="data", training_set=made)
    origin = origin_of(names, names.training_set)
    assert origin is not None
    assert origin.run == "two"
    assert names.training_set.stat().st_ino == before


def test_a_damaged_source_is_not_published_and_what_was_there_stays(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    names = home.published
    publish(home, run="one", data_hash="data", training_set=training_set(tmp_path / "good", "good"))
    bad = training_set(tmp_path / "bad", "bad")
    (bad / "inner" / "pairs.parquet").write_text("dab")
    with pytest.raises(CorruptFileError, match=r"pairs\.parquet"):
        publish(home, run="two", data_hash="data", training_set=bad)
    assert (names.training_set / "inner" / "pairs.parquet").read_text() == "good"
    origin = origin_of(names, names.training_set)
    assert origin is not None
    assert origin.run == "one"


def test_an_origin_that_is_about_other_content_is_not_believed(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    names = home.published
    page = tmp_path / "page.html"
    page.write_text("one")
    publish(home, run="one", data_hash="data", validation_page=page)
    names.validation_page.write_text("another")
    assert origin_of(names, names.validation_page) is None


def test_results_of_two_runs_are_not_taken_for_one(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    (tmp_path / "verdict.json").write_text("{}")
    evaluation = training_set(tmp_path / "evaluation", "any")
    publish(home, run="one", data_hash="data", evaluation=evaluation, verdict=tmp_path / "verdict.json")
    origin = LastRun(home).origin()
    assert origin is not None
    assert origin.run == "one"
    publish(home, run="two", data_hash="data", evaluation=evaluation)
    assert LastRun(home).origin() is None


def test_a_missing_result_is_an_error_that_names_it(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    (tmp_path / "verdict.json").write_text("{}")
    publish(home, run="one", data_hash="data", verdict=tmp_path / "verdict.json")
    home.published.verdict.unlink()
    with pytest.raises(CorruptFileError, match=r"verdict\.json"):
        origin_of(home.published, home.published.verdict)


def test_without_a_published_training_set_the_error_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"training-set.*recommender run"):
        published_training_set(Home(tmp_path))
