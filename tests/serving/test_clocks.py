"""Clocks that differ or step while requests run."""

from pathlib import Path

import pytest
from conftest import Endpoint
from gateways import beside, gateway

from recommender.decision_tables import read_decisions
from recommender.settings import Settings

STEPPING = """
import datetime, os, time

now, instant = time.time_ns, datetime.datetime

def offset_s():
    with open(os.environ["CLOCK_OFFSET"]) as file:
        return int(file.read() or 0)

class Stepping(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return instant.now(tz) + datetime.timedelta(seconds=offset_s())

time.time_ns = lambda: now() + offset_s() * 10**9
datetime.datetime = Stepping
"""
A_DAY_S = 86_400
AN_HOUR_BEHIND = """
import time

now = time.time_ns
time.time_ns = lambda: now() - 3_600 * 10**9
"""


def test_a_worker_whose_clock_is_ahead_is_late_and_not_broken(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python imports `sitecustomize` before anything else, so it stands for another machine's clock.
    (tmp_path / "sitecustomize.py").write_text(AN_HOUR_BEHIND, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with beside(endpoint, tmp_path / "state") as gateway:
        answer = gateway.ask(endpoint.shop.users[0]).json()
    assert answer["degraded_reasons"] == ["model_late"]


def test_a_clock_that_steps_by_days_costs_no_answer_and_no_record(
    home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(STEPPING, encoding="utf-8")
    offset = tmp_path / "offset"
    offset.write_text("0")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("CLOCK_OFFSET", str(offset))
    answers = []
    with gateway(home) as running:
        for step_s in (0, A_DAY_S, -A_DAY_S, 3 * A_DAY_S, 0):
            offset.write_text(str(step_s))
            answers += [running.ask(f"user {number}").json() for number in range(10)]
    assert [answer["degraded_reasons"] for answer in answers] == [[]] * 50  # strangers get the popular list
    records = [decision["request_id"] for decision in read_decisions(home)]
    assert sorted(records) == sorted(answer["request_id"] for answer in answers)
    assert len({request_id.partition("-")[0] for request_id in records}) >= 4, "the steps reached the gateway's clock"
    assert "Traceback" not in running.log()
