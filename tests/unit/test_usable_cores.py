"""Cores that a process may use, and the workers that follow from them."""

from pathlib import Path

import pytest

from recommender.settings import ServingSettings, sections
from recommender.settings.cores import usable_cores


@pytest.mark.parametrize(("limit", "cores"), [("150000 100000", 1.5), ("50000 100000", 0.5)])
def test_a_limit_of_the_cgroup_counts(tmp_path: Path, limit: str, cores: float) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(limit + "\n")
    assert usable_cores(file) == min(cores, usable_cores(tmp_path / "missing"))


@pytest.mark.parametrize("content", ["max 100000", "nonsense"])
def test_without_a_limit_all_cores_of_the_process_count(tmp_path: Path, content: str) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(content)
    assert usable_cores(file) == usable_cores(tmp_path / "missing") >= 1


@pytest.mark.parametrize(("cores", "workers"), [(1.0, 1), (1.5, 1), (2.0, 2), (64.0, 2)])
def test_there_are_two_workers_where_there_are_two_cores(
    monkeypatch: pytest.MonkeyPatch, cores: float, workers: int
) -> None:
    monkeypatch.setattr(sections, "usable_cores", lambda: cores)
    assert ServingSettings().num_workers == workers
    assert ServingSettings(workers=3).num_workers == 3
