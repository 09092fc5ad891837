"""`recommender clean` on the home of real runs: what it takes and leaves, and that the next run and command work."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recommender.evaluation.document import Evaluation
from recommender.registry import Registry
from recommender.storage.home import Home

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "own-data"
COMMAND = Path(sys.executable).with_name("recommender")
BAD_LINE = "user-00001,no time at all,999999,item-00001,1,1.00,0.0,0.0\n"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of own data with one unreadable line, run twice: 40 days ago and now."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(EXAMPLE, folder / "shop")
    with (folder / "shop" / "orders.csv").open("a") as orders:
        orders.write(BAD_LINE)
    (folder / "settings.toml").write_text(
        '[training]\nchallenger = "logistic"\nbaselines = ["popularity"]\nthreads = 1\n[retention]\nruns = 30\n'
    )
    (folder / "judgement.toml").write_text("[gate]\nbootstrap_samples = 100\nmin_positives = 5\n")
    recommender(folder, "run", "--no-ask")
    age(home_of(folder).root)
    recommender(folder, "run", "--no-ask")
    recommender(folder, "score", "--output", "before.parquet")
    return folder


def recommender(folder: Path, *arguments: str, code: int = 0) -> str:
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    command = [str(COMMAND), *arguments, "--settings", "settings.toml", "--data", "shop/mapping.toml"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def home_of(folder: Path) -> Home:
    (home,) = (folder / "var" / "own").iterdir()
    return Home(home)


def age(path: Path, days: int = 40) -> None:
    moment = time.time() - days * 86_400
    for one in [*path.rglob("*"), path]:
        os.utime(one, (moment, moment), follow_symlinks=False)


def tree(home: Home) -> set[str]:
    return {str(path.relative_to(home.root)) for path in home.root.rglob("*")}


def runs(home: Home) -> list[str]:
    return sorted(path.name for path in home.runs.iterdir())


def test_what_would_go_is_said_and_nothing_goes_without_a_yes(folder: Path) -> None:
    home = home_of(folder)
    before, (first, second) = tree(home), runs(home)
    said = recommender(folder, "clean", "--older-than", "30d", "--dry-run")
    assert first in said
    assert second not in said
    assert "checkpoints" in said
    assert "MiB" in said
    asked = recommender(folder, "clean", "--older-than", "30d", code=2)
    assert "--yes" in asked
    assert tree(home) == before


@pytest.mark.parametrize("wrong", ["30", "0d", "-3d", "3 months", ""])
def test_an_age_that_is_none_is_refused(folder: Path, wrong: str) -> None:
    assert "30d" in recommender(folder, "clean", f"--older-than={wrong}", "--yes", code=2)


def test_quarantine_goes_with_the_tables_that_name_it_and_a_run_makes_them_again(folder: Path) -> None:
    home = home_of(folder)
    first, _ = runs(home)
    (aside,) = home.run_artifacts(first).rglob("ingest/tables/quarantine")
    assert pq.read_table(aside / "events.parquet").num_rows == 1
    settings = (folder / "settings.toml").read_text()
    (folder / "settings.toml").write_text(settings.replace("runs = 30", "quarantine = 30"))
    said = recommender(folder, "clean", "--yes")
    (folder / "settings.toml").write_text(settings)
    assert "quarantine" in said
    assert not aside.parent.exists()
    assert home.run(first).root.is_dir()


def test_the_old_run_goes_and_what_serves_is_published_or_newest_stays(folder: Path) -> None:
    home = home_of(folder)
    registry = Registry(home.root)
    status, (first, second) = registry.status(), runs(home)
    said = recommender(folder, "clean", "--older-than", "30d", "--yes")
    assert "deleted" in said
    assert runs(home) == [second]
    assert not home.run_artifacts(first).exists()
    assert home.run_artifacts(second).is_dir()
    assert not [entry for entry in home.pipeline_cache.glob("*.json") if first in entry.read_text()]
    assert list(home.checkpoints.iterdir()) == []
    assert registry.status() == status
    assert Evaluation.read(home.published.evaluation).gate.num_pairs > 0
    assert not [name for name in tree(home) if ".removed-" in name]
    assert "nothing to delete" in recommender(folder, "clean", "--older-than", "30d", "--yes")


def test_the_settings_times_hold_where_no_age_is_given(folder: Path) -> None:
    assert "nothing to delete" in recommender(folder, "clean", "--yes")


def test_scores_are_the_same_and_the_next_run_makes_the_same_versions(folder: Path) -> None:
    recommender(folder, "score", "--output", "after.parquet")
    assert pq.read_table(folder / "after.parquet").equals(pq.read_table(folder / "before.parquet"))
    home = home_of(folder)
    versions = Registry(home.root).versions()
    recommender(folder, "run", "--no-ask")
    assert Registry(home.root).versions() == versions
    assert len(runs(home)) == 2
