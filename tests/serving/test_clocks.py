"""Clocks that differ or step while requests run."""

from pathlib import Path

import pytest
from conftest import Endpoint
from gateways import beside

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
