"""One's own files, from a mapping to an answer of the running endpoint: what a newcomer does with the example."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from servers import free_ports

from recommender.registry import Registry
from recommender.storage.home import Home

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "own-data"
COMMAND = Path(sys.executable).with_name("recommender")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's files and settings with free ports."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(EXAMPLE, folder / "shop")
    gateway, inference, management, metrics = free_ports(4)
    (folder / "settings.toml").write_text(
        f'[training]\nchallenger = "logistic"\nbaselines = ["popularity"]\nthreads = 1\n'
        f"[serving]\nport = {gateway}\ninference_port = {inference}\nmanagement_port = {management}\n"
        f"metrics_port = {metrics}\ndeadline_ms = 5000\nstore_deadline_ms = 1000\n"
    )
    (folder / "judgement.toml").write_text("[gate]\nbootstrap_samples = 200\nmin_positives = 5\n")
    return folder


def recommender(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "tmp").mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "COLUMNS": "160", "OMP_NUM_THREADS": "1"}
    options = ["--settings", "settings.toml", "--data", "shop/mapping.toml"]
    command = [str(COMMAND), arguments[0], *arguments[1:], *options]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def home_of(folder: Path) -> Path:
    (home,) = (folder / "var" / "own").glob("mapping-*")
    return home


@pytest.fixture(scope="module")
def ran(folder: Path) -> subprocess.CompletedProcess[str]:
    return recommender(folder, "run")


def test_the_example_runs_from_its_files_to_three_shoppers_answers(
    ran: subprocess.CompletedProcess[str], folder: Path
) -> None:
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for shopper in ("A heavy shopper", "A light shopper", "A shopper never seen"):
        assert shopper in ran.stdout
    assert "cold_start" in ran.stdout
    assert "HOLD" in ran.stdout or "PROMOTE" in ran.stdout
    assert re.search(r"^\W*total\W+[\d.]+ s\W+[\d,]+ MiB", ran.stdout, re.M)
    for page in ("validation.html", "evaluation.html"):
        assert (Home(home_of(folder)).published.root / page).is_file()
        assert page in ran.stdout


def test_nothing_is_left_running(ran: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert recommender(folder, "stop").stdout.strip() == "nothing was running"


def test_every_user_is_scored_against_every_live_campaign(ran: subprocess.CompletedProcess[str], folder: Path) -> None:
    import pyarrow.parquet as pq

    done = recommender(folder, "score", "--output", "scores.parquet")
    assert done.returncode == 0, done.stderr
    scores = pq.read_table(folder / "scores.parquet")
    users = {row["user_id"] for row in scores.select(["user_id"]).to_pylist()}
    campaigns = {row["campaign_id"] for row in scores.select(["campaign_id"]).to_pylist()}
    # Only what a user has taken up already is missing.
    assert 0.8 * len(users) * len(campaigns) < scores.num_rows <= len(users) * len(campaigns)
    assert scores["score"].null_count == 0
    chosen = recommender(folder, "audience", sorted(campaigns)[0], "--top", "5")
    assert chosen.returncode == 0, chosen.stderr
    assert "participations expected" in chosen.stdout


def test_status_and_report_say_what_serves_and_why(ran: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert "champion" in recommender(folder, "status").stdout
    assert "Final test" in recommender(folder, "report").stdout


def test_files_with_a_missing_column_stop_the_run_and_the_champion_stays(
    ran: subprocess.CompletedProcess[str], folder: Path
) -> None:
    home = home_of(folder)
    champion = Registry(home).champion()
    orders = folder / "shop" / "orders.csv"
    whole = orders.read_text()
    orders.write_text(whole.replace("ordered_at", "when", 1))
    try:
        failed = recommender(folder, "run")
    finally:
        orders.write_text(whole)
    assert failed.returncode == 2
    assert "ordered_at" in failed.stderr
    assert "orders.csv" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert champion is not None
    assert Registry(home).champion() == champion


def test_a_shop_whose_periods_cannot_be_judged_stops_before_anything_that_serves_is_touched(
    ran: subprocess.CompletedProcess[str], folder: Path
) -> None:
    home = home_of(folder)
    before = Home(home).catalogue.resolve()
    shutil.rmtree(Home(home).validated("any").parent)  # else so few redemptions are refused for their volume already
    redemptions = folder / "shop" / "redemptions.csv"
    whole = redemptions.read_text()
    redemptions.write_text("".join(whole.splitlines(keepends=True)[:2]))
    try:
        failed = recommender(folder, "run")
    finally:
        redemptions.write_text(whole)
    assert failed.returncode == 2, failed.stdout + failed.stderr
    assert "time.gate_from" in failed.stderr
    assert Home(home).catalogue.resolve() == before
    assert recommender(folder, "score", "--output", "again.parquet").returncode == 0
