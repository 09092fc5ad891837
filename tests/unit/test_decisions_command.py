"""`recommender decisions`, as its users run it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recommender.decision_tables import read_decisions
from recommender.decisions.log import DecisionLog, folders_of
from recommender.settings import Settings
from recommender.storage.home import Home

COMMAND = Path(sys.executable).with_name("recommender")
RECORD = {"variant": "champion", "propensity": 1.0, "campaigns": [{"campaign_id": "a", "score": 0.5}]}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home with decisions about three shoppers, one of them shown."""
    settings = Settings(home=tmp_path / "home")
    own, shared = folders_of(settings)
    log = DecisionLog(own, shared=shared)
    log.start()
    with log:
        known = [log.record({**RECORD, "user_id": user}) for user in ("顾客", "2", "3")]
        log.expose(known[0])
    return settings


def run(settings: Settings, *command: str, code: int = 0) -> str:
    environment = {**os.environ, "RECOMMENDER__HOME": str(settings.home), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=settings.home, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_log_is_compacted_exported_and_rid_of_a_shopper(settings: Settings, tmp_path: Path) -> None:
    assert run(settings, str(COMMAND), "decisions", "compact").startswith("1 segments with 3 decisions and 1 events")
    assert run(settings, str(COMMAND), "decisions", "compact").startswith("0 segments")
    run(settings, str(COMMAND), "decisions", "export", "顾客", "-o", str(tmp_path / "user.json"))
    (record,) = json.loads((tmp_path / "user.json").read_text(encoding="utf-8"))
    assert (record["user_id"], record["variant"], record["shown"]) == ("顾客", "champion", ["a"])
    assert json.loads(run(settings, str(COMMAND), "decisions", "export", "4")) == []
    assert "SettingsError" in run(settings, str(COMMAND), "decisions", "forget", "顾客", code=2)
    assert run(settings, str(COMMAND), "decisions", "forget", "顾客", "2", "--yes") == "2 decisions removed\n"
    assert [decision["user_id"] for decision in read_decisions(settings)] == ["3"]


def test_a_damaged_segment_is_named_with_exit_code_1(settings: Settings) -> None:
    (segment,) = Home.of(settings).decisions.glob("*.jsonl")
    sealed = segment.read_bytes()
    segment.write_bytes(sealed.replace(b"champion", b"Champion", 1))
    assert str(segment) in run(settings, str(COMMAND), "decisions", "compact", code=1)
    segment.write_bytes(sealed)
    run(settings, str(COMMAND), "decisions", "compact")
    (day,) = {str(decision["day"]) for decision in read_decisions(settings)}
    assert [folder.name for folder in Home.of(settings).decision_days.iterdir()] == [day]
